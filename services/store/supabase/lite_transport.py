"""An httpx transport that rewrites times in the embedded API's responses to the hosted API's format.

@supabase/lite prints times as `2026-11-20 06:50:10.726+00`, the hosted API as
`2026-11-20T06:50:10.726+00:00`; supabase-py and pydantic cannot parse the first.
"""

import re
import ssl

import httpx

_TIME = re.compile(rb'("\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d)"')
_OF_THE_BODY_AS_SENT = {b"content-length", b"content-encoding", b"transfer-encoding"}
# idle connections are closed after 2 seconds, because Node closes them after 5, perhaps just as a request arrives
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2.0)


class LiteTransport(httpx.HTTPTransport):
    """Rewrites the timestamps in JSON responses of the embedded API to ISO 8601. Only for plain http without proxies.

    A timestamp is recognised by the quotes around it; sealed text contains no quotes, so it is never changed.
    """

    def __init__(self, limits: httpx.Limits = _LIMITS) -> None:
        # CA certificates are not loaded, to save 35 ms; so the transport trusts no https server
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        super().__init__(verify=tls, trust_env=False, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
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
