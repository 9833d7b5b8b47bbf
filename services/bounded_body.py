"""The body of an HTTP response that another server sends, up to a number of bytes."""

from collections.abc import AsyncIterator
from typing import cast

import httpx2


def bound_body(response: httpx2.Response, most_bytes: int | None, *, is_cut: bool = False) -> None:
    """Limit the body of *response*, unless *most_bytes* is None; *is_cut*: its end is left out.

    Raise DecodingError if the body is compressed: the app requests no compression, and 200 kB may unpack to 200 MB.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("compressed")
    if most_bytes is not None:
        body = cast(httpx2.AsyncByteStream, response.stream)
        response.stream = _BoundedBody(body, most_bytes, is_cut=is_cut)


class _BoundedBody(httpx2.AsyncByteStream):
    """At most *most_bytes* of *stream*; then raise DecodingError or, if *is_cut*, end as if there were no more."""

    def __init__(self, stream: httpx2.AsyncByteStream, most_bytes: int, *, is_cut: bool) -> None:
        self._stream, self._most_bytes, self._is_cut = stream, most_bytes, is_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most_bytes
        async for part in self._stream:
            left -= len(part)
            if left < 0 and self._is_cut:
                yield part[:left]
                return
            if left < 0:
                raise httpx2.DecodingError("too many bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
