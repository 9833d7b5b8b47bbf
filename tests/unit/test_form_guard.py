"""The forms that are refused on all routes: those of other sites, long ones, and those in parts."""

import asyncio
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from services.crypto import RootKeys, new_key
from services.web.attempts import Attempts
from services.web.form_guard import LONGEST_FORM, FormGuard
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_routes import SignInRoutes

_PIECE = 4_096
_URLENCODED = "application/x-www-form-urlencoded"


def send(path, content_type, body, announced=None, **headers):
    """Send *body* in pieces; return the status, the headers of the answer, and the number of pieces that were read."""
    attempts = Attempts(RootKeys({1: new_key()}, current=1), sign_ups_an_hour=20)
    origin = Origin(None, 0)
    start = SessionStart(pytest.fail, attempts, origin, 60, Notices(attempts, origin, None))
    guard = Middleware(FormGuard, origin=origin)
    app = Starlette(routes=SignInRoutes(start).routes(), middleware=[guard])
    headers = {"host": "localhost", "content-type": content_type} | headers
    if announced is not None:
        headers["content-length"] = str(announced)
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    pieces = [body[start : start + _PIECE] for start in range(0, len(body), _PIECE)]
    read, sent = [], []

    async def receive():
        read.append(pieces[len(read)])
        return {
            "type": "http.request",
            "body": read[-1],
            "more_body": len(read) < len(pieces),
        }

    async def keep(message):
        sent.append(message)

    asyncio.run(app(scope, receive, keep))
    return sent[0]["status"], dict(sent[0]["headers"]), len(read)


def body_of(size):
    return urlencode({"email": "no address", "password": "x" * size}).encode()


@pytest.mark.parametrize("path", ["/session", "/account", "/account/password", "/account/end"])
def test_long_form_without_a_length_is_read_up_to_the_bound(path):
    status, headers, pieces = send(path, _URLENCODED, body_of(200_000))

    assert (status, headers[b"connection"]) == (413, b"close")
    assert pieces == LONGEST_FORM // _PIECE + 1


@pytest.mark.parametrize(
    "path", ["/session", "/account", "/account/password", "/account/end", "/session/end"]
)
@pytest.mark.parametrize("announced", [LONGEST_FORM + 1, 10**30])
def test_announced_long_form_is_not_read(path, announced):
    status, _, pieces = send(path, _URLENCODED, body_of(20_000), announced)

    assert (status, pieces) == (413, 0)


def test_form_within_the_bound_reaches_its_route():
    body = body_of(LONGEST_FORM - 400)

    status, headers, _ = send("/session", _URLENCODED, body, len(body))

    assert (status, headers[b"location"]) == (303, b"/?reason=address")


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=b",
        "Multipart/Form-Data; boundary=b; charset=undefined",
        "multipart/form-data; boundary=b; charset=utf-7",
    ],
)
def test_form_in_parts_is_not_read(content_type):
    part = b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\n+2AA-\r\n--b--\r\n'

    status, headers, pieces = send("/session", content_type, part)

    assert (status, headers[b"connection"], pieces) == (415, b"close", 0)


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_form_of_another_site_or_host_is_not_read(headers):
    status, answer, pieces = send("/session", _URLENCODED, body_of(100), **headers)

    assert (status, pieces) == (403, 0)
    assert b"set-cookie" not in answer
