"""The limit of a form's body, on all routes that accept one."""

import asyncio
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from services.crypto import RootKeys, new_key
from services.web.attempts import Attempts
from services.web.form_limit import LONGEST_FORM, FormLimit
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_routes import SignInRoutes

_PIECE = 4_096
_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data; boundary=b"


def send(path, content_type, body, announced=None):
    """Send *body* in pieces; return the status, the headers of the answer, and the number of pieces that were read."""
    attempts = Attempts(RootKeys({1: new_key()}, current=1), sign_ups_an_hour=20)
    origin = Origin(None, 0)
    start = SessionStart(pytest.fail, attempts, origin, 60, Notices(attempts, origin, None))
    app = Starlette(routes=SignInRoutes(start).routes(), middleware=[Middleware(FormLimit)])
    headers = [(b"host", b"localhost"), (b"content-type", content_type.encode())]
    if announced is not None:
        headers.append((b"content-length", str(announced).encode()))
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": headers,
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


def body_of(content_type, size):
    if content_type == _URLENCODED:
        return urlencode({"email": "no address", "password": "x" * size}).encode()
    fields = {"email": "no address", "address": "no address", "password": "x" * size}
    parts = (
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return ("".join(parts) + "--b--\r\n").encode()


@pytest.mark.parametrize("content_type", [_URLENCODED, _MULTIPART])
@pytest.mark.parametrize("path", ["/session", "/account", "/account/password", "/account/end"])
def test_long_form_without_a_length_is_read_up_to_the_bound(path, content_type):
    status, headers, pieces = send(path, content_type, body_of(content_type, 200_000))

    assert (status, headers[b"connection"]) == (413, b"close")
    assert pieces == LONGEST_FORM // _PIECE + 1


@pytest.mark.parametrize(
    "path", ["/session", "/account", "/account/password", "/account/end", "/session/end"]
)
@pytest.mark.parametrize("announced", [LONGEST_FORM + 1, 10**30])
def test_announced_long_form_is_not_read(path, announced):
    status, _, pieces = send(path, _URLENCODED, body_of(_URLENCODED, 20_000), announced)

    assert (status, pieces) == (413, 0)


@pytest.mark.parametrize("content_type", [_URLENCODED, _MULTIPART])
def test_form_within_the_bound_reaches_its_route(content_type):
    body = body_of(content_type, LONGEST_FORM - 400)

    status, headers, _ = send("/session", content_type, body, len(body))

    assert (status, headers[b"location"]) == (303, b"/?reason=address")
