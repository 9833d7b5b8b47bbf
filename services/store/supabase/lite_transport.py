"""An httpx transport that makes sign-in replies of the embedded API readable for supabase-py.

@supabase/lite prints times as `2026-11-20 06:50:10.726+00`, the hosted API as
`2026-11-20T06:50:10.726+00:00`; supabase-py refuses the first.
"""

import re

import httpx

_TIME = re.compile(rb'("\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d)"')
_OF_THE_BODY_AS_SENT = {b"content-length", b"content-encoding", b"transfer-encoding"}


class LiteTransport(httpx.HTTPTransport):
    """Rewrite times in replies of `/auth/v1`; pass other replies unchanged."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if not request.url.path.startswith("/auth/v1"):
            return response
        headers = [
            (name, value)
            for name, value in response.headers.raw
            if name.lower() not in _OF_THE_BODY_AS_SENT
        ]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=_TIME.sub(rb'\1T\2:00"', response.read()),
            extensions=response.extensions,
        )
