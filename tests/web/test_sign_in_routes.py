"""The routes that set and clear the cookie, over the embedded stack."""

import asyncio
import time
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain import Window
from services.errors import StoreUnavailable
from services.store.conversations import Conversations
from services.store.supabase.auth import WeakPassword
from services.store.supabase.sessions import Cookie, Sessions
from services.web.attempts import AttemptLimits, Attempts
from services.web.origin import Origin
from services.web.session_cache import SessionCache
from services.web.sign_in_routes import SignInRoutes
from tests.store.conftest import PASSWORD, make_sessions, new_email

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15"
)
OURS = {"origin": "http://localhost", "sec-fetch-site": "same-origin", "user-agent": FIREFOX}


@pytest.fixture(scope="module")
def sessions(stack):
    made = make_sessions(stack)
    yield made
    made.gateway.http.close()


@pytest.fixture
def session_cache(sessions):
    return SessionCache(sessions, on_leave=lambda _: None, on_forget=lambda _: None)


def browser(session_cache, origin=None, address="", **limits):
    sessions = session_cache.sessions
    made = SignInRoutes(
        session_cache=lambda: session_cache,
        attempts=Attempts(
            server=lambda: sessions.server,
            root_keys=sessions.root_keys,
            limits=AttemptLimits(**({"sign_ups_an_hour": 100} | limits)),
        ),
        origin=origin or Origin(None, 0),
        lifetime_seconds=3600,
    )
    client = (address or f"host-{uuid4()}", 50000)
    return TestClient(
        Starlette(routes=made.routes()),
        base_url="http://localhost",
        client=client,
        headers=OURS,
        follow_redirects=False,
    )


def form(email, password=PASSWORD, goal="/?c=1"):
    return {"email": email, "password": password, "next": goal}


def cookie_in(client, header):
    client.cookies.clear()  # over http the test's client would send no Secure cookie back
    return Cookie.parse(header.split(";")[0].split("=", 1)[1])


def test_signing_up_sets_the_cookie_and_goes_on(session_cache):
    client = browser(session_cache)

    answer = client.post("/account", data=form(new_email()))

    assert (answer.status_code, answer.headers["location"]) == (303, "/?c=1")
    header = answer.headers["set-cookie"]
    assert header.startswith("__Host-sid=")
    for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=3600"):
        assert flag in header
    assert "Domain" not in header
    session = session_cache.find(cookie_in(client, header))
    assert session is not None


def test_signing_in_out_and_in_again(session_cache):
    client, email = browser(session_cache), new_email()
    client.post("/account", data=form(email))
    header = client.post("/session", data=form(email)).headers["set-cookie"]
    cookie = cookie_in(client, header)
    assert session_cache.find(cookie) is not None

    answer = client.post("/session/end", headers={"cookie": f"__Host-sid={cookie}"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert session_cache.find(cookie) is None


def test_signing_in_ends_the_session_that_the_browser_had(session_cache):
    client, email = browser(session_cache), new_email()
    first = cookie_in(client, client.post("/account", data=form(email)).headers["set-cookie"])

    client.post("/session", data=form(email), headers={"cookie": f"__Host-sid={first}"})

    assert session_cache.find(first) is None


@pytest.mark.parametrize(
    ("path", "email", "password", "reason"),
    [
        ("/session", "nobody@daybook.test", PASSWORD, "wrong"),
        ("/session", "", "", "wrong"),
        ("/account", "new@daybook.test", "short", "weak"),
        ("/account", "no address", PASSWORD, "address"),
    ],
)
def test_a_refusal_comes_back_with_its_reason_and_nothing_that_was_entered(
    session_cache, path, email, password, reason
):
    answer = browser(session_cache).post(path, data=form(email, password, "/usage?reason=old&x=1"))

    assert answer.headers["location"] == f"/usage?x=1&reason={reason}"
    assert "set-cookie" not in answer.headers


def test_a_taken_address_is_told(session_cache):
    client, email = browser(session_cache), new_email()
    client.post("/account", data=form(email))

    assert client.post("/account", data=form(email)).headers["location"].endswith("reason=taken")


def test_weak_password_comes_back_with_its_reasons(session_cache, monkeypatch):
    def refuse(*_):
        raise WeakPassword(["length", "pwned"])

    monkeypatch.setattr("services.store.supabase.auth.sign_up", refuse)

    answer = browser(session_cache).post("/account", data=form(new_email(), goal="/?why=old"))

    assert answer.headers["location"] == "/?reason=weak&why=length%2Cpwned"


def test_wrong_passwords_for_one_address_are_checked_one_after_another(session_cache):
    known = new_email()
    browser(session_cache).post("/account", data=form(known))

    async def try_three_times(email):
        began, app = time.monotonic(), browser(session_cache).app
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def guess():
                data = form(email, PASSWORD + "!")
                answer = await client.post("/session", data=data, headers=OURS)
                assert answer.headers["location"].endswith("wrong")
                return time.monotonic() - began

            return sorted(await asyncio.gather(*(guess() for _ in range(3))))

    for email in (known, new_email()):
        for number, seconds in enumerate(asyncio.run(try_three_times(email)), 1):
            assert seconds >= 0.4 * number


def test_signing_in_often_locks_nobody_out(session_cache):
    email = new_email()
    browser(session_cache).post("/account", data=form(email))

    goals = [
        browser(session_cache, tries_of_an_account=2, tries_of_an_address=2, address="192.0.2.5")
        .post("/session", data=form(email))
        .headers["location"]
        for _ in range(3)
    ]

    assert goals == ["/?c=1"] * 3


def test_strangers_who_guess_lock_no_known_device_out(session_cache):
    email, limits = new_email(), {"tries_of_an_account": 2, "tries_of_an_address": 2}
    known = browser(session_cache, address="192.0.2.6", **limits)
    cookies = known.post("/account", data=form(email)).headers.get_list("set-cookie")
    headers = {"cookie": cookies[1].split(";")[0]}
    assert "HttpOnly" in cookies[1]
    assert headers["cookie"].startswith("__Host-device=")

    def enter(client, password, headers=None):
        client.cookies.clear()
        answer = client.post("/session", data=form(email, password), headers=headers)
        return answer.headers["location"].removeprefix("/?c=1&reason=")

    stranger = browser(session_cache, address="192.0.2.6", **limits)
    guesses = [enter(stranger, "x" * 12) for _ in range(3)]
    assert ["slow" in reason for reason in guesses] == [False, False, True]

    assert enter(known, PASSWORD, headers) == "/?c=1"
    guesses = [enter(known, "x" * 12, headers) for _ in range(3)]  # it may not guess on, either
    assert ["slow" in reason for reason in guesses] == [False, False, True]


def test_an_account_closes_after_ten_tries_from_wherever_they_come(session_cache):
    email = new_email()
    browser(session_cache).post("/account", data=form(email))

    reasons = [
        browser(session_cache)
        .post("/session", data=form(email.upper(), "x" * 12))
        .headers["location"]
        for _ in range(11)
    ]

    assert [reason.split("reason=")[1][:5] for reason in reasons] == ["wrong"] * 10 + ["slow&"]
    assert "wait=" in reasons[-1]
    assert (
        browser(session_cache)
        .post("/session", data=form(email))
        .headers["location"]
        .startswith("/?c=1&reason=slow")
    )


def test_an_address_closes_after_its_tries_whoever_is_asked_for(session_cache):
    client = browser(session_cache, tries_of_an_address=3, sign_ups_an_hour=2)

    tries = [client.post("/session", data=form(new_email())).headers["location"] for _ in range(4)]
    made = [client.post("/account", data=form(new_email())).headers["location"] for _ in range(3)]

    assert ["slow" in goal for goal in tries] == [False] * 3 + [True]
    assert ["slow" in goal for goal in made] == [False, False, True]


@pytest.mark.parametrize("path", ["/account", "/session", "/session/end"])
def test_a_form_of_another_site_is_refused(session_cache, path):
    headers = {"origin": "http://["}

    answer = browser(session_cache).post(path, data=form(new_email()), headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_behind_a_proxy_the_configured_address_decides(session_cache):
    client = browser(session_cache, Origin("https://daybook.example", 1))

    ours = client.post(
        "/account", data=form(new_email()), headers={"origin": "https://daybook.example"}
    )
    other = client.post("/account", data=form(new_email()), headers={"origin": "http://localhost"})

    assert ours.status_code == 303
    assert ours.headers["set-cookie"].startswith("__Host-sid=")
    assert other.status_code == 403


@pytest.mark.parametrize(
    "goal", ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", "", "/\n"]
)
def test_the_way_on_stays_on_this_site(session_cache, goal):
    answer = browser(session_cache).post("/account", data=form(new_email(), goal=goal))

    assert answer.headers["location"] == "/"


def test_safari_on_plain_http_gets_a_cookie_that_it_accepts(session_cache):
    here = browser(session_cache).post(
        "/account", data=form(new_email()), headers={"user-agent": SAFARI}
    )
    there = browser(session_cache, Origin("https://daybook.example", 0)).post(
        "/account",
        data=form(new_email()),
        headers={"user-agent": SAFARI, "origin": "https://daybook.example"},
    )

    assert here.headers["set-cookie"].startswith("sid=")
    assert "Secure" not in here.headers["set-cookie"]
    assert there.headers["set-cookie"].startswith("__Host-sid=")


def test_forwarded_addresses_count_only_from_trusted_proxies(session_cache):
    def try_twice(proxies):
        client = browser(session_cache, Origin(None, proxies), tries_of_an_address=1)
        answers = [
            client.post(
                "/session", data=form(new_email()), headers={"x-forwarded-for": f"evil, 10.0.0.{n}"}
            )
            for n in (uuid4(), uuid4())
        ]
        return ["slow" in answer.headers["location"] for answer in answers]

    assert try_twice(proxies=0) == [False, True]  # one address: the socket's
    assert try_twice(proxies=1) == [False, False]  # two: as the proxy saw them


def test_a_database_that_is_away_is_said(session_cache, sessions, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(type(sessions.server), "call", away)

    assert (
        "reason=unavailable"
        in browser(session_cache).post("/session", data=form(new_email())).headers["location"]
    )


def test_a_suspended_person_is_told_and_gets_no_cookie(session_cache, stack):
    client, email = browser(session_cache), new_email()
    client.post("/account", data=form(email))
    with stack.connect() as database:
        database.execute(
            "update private.roles set suspended_at = now() where user_id ="
            " (select id from auth.users where email = %s)",
            [email],
        )

    answer = client.post("/session", data=form(email))

    assert answer.headers["location"] == "/?c=1&reason=suspended"
    assert "set-cookie" not in answer.headers


def test_who_cannot_be_signed_out_just_now_keeps_the_cookie_and_is_told(
    session_cache, sessions, monkeypatch
):
    client = browser(session_cache)
    header = client.post("/account", data=form(new_email())).headers["set-cookie"]
    cookie = cookie_in(client, header)

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(Sessions, "end", away)
    answer = client.post("/session/end", headers={"cookie": f"__Host-sid={cookie}"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/?reason=unavailable")
    assert "set-cookie" not in answer.headers


def test_where_somebody_was_leads_nobody_else(session_cache):
    """Somebody's session ended in mid-conversation; whoever signs in next at that browser may be another."""
    client, maya, omar = browser(session_cache), new_email(), new_email()
    client.post("/account", data=form(omar))
    first = cookie_in(client, client.post("/account", data=form(maya)).headers["set-cookie"])
    garden = Conversations(session_cache.find(first)).create("Garden", Window()).conversation.id
    place, before = f"/?c={garden}", {"cookie": f"__Host-sid={Cookie.new()}"}

    def led(email, goal, headers=None):
        client.cookies.clear()
        answer = client.post("/session", data=form(email, goal=goal), headers=headers)
        return answer.headers["location"]

    assert led(maya, place, before) == place
    assert led(omar, place, before) == "/"
    assert led(omar, "/admin", before) == "/admin"
    assert led(omar, place) == place  # a link that was sent: the page says that there is none


def test_an_old_session_that_cannot_be_ended_does_not_keep_anybody_out(session_cache, monkeypatch):
    client, email = browser(session_cache), new_email()
    first = cookie_in(client, client.post("/account", data=form(email)).headers["set-cookie"])

    def away(*_, **__):
        raise StoreUnavailable("away")

    monkeypatch.setattr(Sessions, "end", away)
    answer = client.post("/session", data=form(email), headers={"cookie": f"__Host-sid={first}"})

    assert answer.headers["location"] == "/?c=1"
    assert session_cache.find(cookie_in(client, answer.headers["set-cookie"])) is not None


def test_a_key_that_does_not_open_is_a_refusal_and_no_traceback(session_cache, stack):
    client, email = browser(session_cache), new_email()
    client.post("/account", data=form(email))
    with stack.connect() as database:
        database.execute(
            "update public.user_keys set wrapped = overlay(wrapped placing 'AAAA' from 90 for 4)"
            " where user_id = (select id from auth.users where email = %s)",
            [email],
        )

    answer = client.post("/session", data=form(email))

    assert answer.headers["location"] == "/?c=1&reason=unavailable"
    assert "set-cookie" not in answer.headers


def test_an_account_has_one_brake_however_its_address_is_spelt(session_cache):
    spellings = ["iris", "IRIS", "\u0130ris", "ir\u0130s", "\uff49ris", "i\u0307ris"]
    tries = [f"{name}-one-brake@daybook.test" for name in spellings * 2]

    goals = [
        browser(session_cache).post("/session", data=form(email, "x" * 12)).headers["location"]
        for email in tries
    ]

    assert ["slow" in goal for goal in goals] == [False] * 10 + [True] * 2


def test_a_line_of_its_own_from_the_proxy_counts_more_than_what_the_client_sent(session_cache):
    client = browser(session_cache, Origin(None, 1), tries_of_an_address=1)
    answers = [
        client.post(
            "/session",
            data=form(new_email()),
            headers=[("x-forwarded-for", f"made-up-{n}"), ("x-forwarded-for", "192.0.2.77")],
        )
        for n in range(2)
    ]

    assert ["slow" in answer.headers["location"] for answer in answers] == [False, True]
