"""Middleware that refuses request bodies that no form of the app sends: bodies of more than 16 kB, and multipart bodies."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_FORM = 16_384  # maximum bytes of a form
_TOO_LONG = "This form is too long."
_IN_PARTS = "This form is not URL-encoded."
# close the connection: otherwise the server would read the rest of the body to find the next request
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class FormLimit:
    """Pure ASGI middleware: responds 413 to a body over LONGEST_FORM, as soon as its Content-Length or the read bytes show it.

    Responds 415 to a multipart form: its sender chooses the charset, which may be unknown to Python, or yield
    surrogates.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
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
