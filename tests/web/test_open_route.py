"""The address that opens a deployment without sign-in."""

from types import SimpleNamespace
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.web.open_route import OpenRoute
from services.web.origin import Origin

SECRET = "s" * 43
FIREFOX = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Sessions:
    """The sessions of a process, by cookie."""

    def __init__(self):
        self.by_cookie, self.error = {}, None

    def find(self, cookie):
        return self.by_cookie.get(str(cookie))

    def add(self, cookie, session):
        assert str(cookie) == session.cookie
        self.by_cookie[session.cookie] = session

    def enter(self):
        if self.error:
            raise self.error
        cookie = Cookie.new()
        return cookie, SimpleNamespace(user_id=uuid4(), id=uuid4(), cookie=str(cookie))


@pytest.fixture
def sessions():
    return Sessions()


def browser(sessions, url="http://localhost"):
    shared = SimpleNamespace(session_cache=sessions)
    origin = Origin(None, 0, is_alone=True)
    where = "the address in the file open-8501.txt"
    route = OpenRoute(SECRET, where, lambda: shared, sessions.enter, origin, 3600)
    return TestClient(
        Starlette(routes=route.routes()), base_url=url, headers=FIREFOX, follow_redirects=False
    )


def test_address_begins_a_session_and_leads_to_a_clean_one(sessions):
    answer = browser(sessions).get(f"/open/{SECRET}")

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-sid=")
    assert {"HttpOnly", "Secure", "SameSite=lax"} <= set(cookie.split("; "))
    assert len(sessions.by_cookie) == 1


def test_browser_with_a_session_gets_no_other(sessions):
    client = browser(sessions)
    first = client.get(f"/open/{SECRET}").headers["set-cookie"].split(";")[0]

    again = client.get(f"/open/{SECRET}", headers={"cookie": first})

    assert (again.status_code, "set-cookie" in again.headers) == (303, False)
    assert len(sessions.by_cookie) == 1


@pytest.mark.parametrize("secret", ["t" * 43, SECRET[:-1], "é", "%ff"])
def test_other_address_opens_nothing(sessions, secret):
    answer = browser(sessions).get(f"/open/{secret}")

    assert (answer.status_code, "in the file open-8501.txt" in answer.text) == (403, True)
    assert not sessions.by_cookie


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://localhost:8501", 303),
        ("http://chat.localhost:8501", 303),
        ("http://127.0.0.2:8501", 303),
        ("http://[::1]:8501", 303),
        ("http://192.168.0.7:8501", 403),
        ("http://daybook.example:8501", 403),
    ],
)
def test_this_machine_alone_is_answered(sessions, url, status):
    assert browser(sessions, url).get(f"/open/{SECRET}").status_code == status


def test_page_of_another_site_opens_nothing(sessions):
    answer = browser(sessions).get(f"/open/{SECRET}", headers={"sec-fetch-site": "cross-site"})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SignedOut(), "This account was deleted. Restart Daybook to begin a new one."),
        (StoreUnavailable(), StoreUnavailable.public),
    ],
)
def test_refusal_is_told(sessions, error, sentence):
    sessions.error = error

    answer = browser(sessions).get(f"/open/{SECRET}")

    assert (answer.status_code, answer.text) == (503, sentence)
