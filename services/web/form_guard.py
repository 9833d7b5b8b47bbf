"""Middleware that refuses what no form of the app sends: forms of other sites, bodies of more than 16 kB, and multipart bodies."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.origin import Origin

LONGEST_FORM = 16_384  # maximum bytes of a form
_OTHER_SITE = "This form was sent from another site."
_TOO_LONG = "This form is too long."
_IN_PARTS = "This form is not URL-encoded."
# close the connection: otherwise the server would read the rest of the body to find the next request
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class FormGuard:
    """Pure ASGI middleware: responds 413 to a body over LONGEST_FORM, when its Content-Length or the bytes read
    exceed the limit.

    Responds 403 to any method but GET and HEAD if another site sent the request, so that no route has to check this.
    Responds 415 to a multipart form: its sender chooses the charset, which may be unknown to Python, or yield
    surrogates.
    """

    app: ASGIApp
    origin: Origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_form = scope["method"] not in ("GET", "HEAD")
        if is_form and not self.origin.is_same_origin(HTTPConnection(scope)):
            await PlainTextResponse(_OTHER_SITE, 403, _CLOSE)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "multipart" in headers.get("content-type", "").lower():
            await PlainTextResponse(_IN_PARTS, 415, _CLOSE)(scope, receive, send)
            return
        announced = headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 9 or int(announced) > LONGEST_FORM):
            await PlainTextResponse(_TOO_LONG, 413, _CLOSE)(scope, receive, send)
            return
        left = LONGEST_FORM

        async def receive_some() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _TOO_LONG, _CLOSE)
            return message

        await self.app(scope, receive_some, send)
