"""The body of an HTTP response that another server sends, up to a number of bytes."""

from collections.abc import AsyncIterator

import httpx2


class BoundedBody(httpx2.AsyncByteStream):
    """At most *most_bytes* of *stream*; then raise ReadError or, if *is_cut*, end as if there were no more."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, most_bytes: int, *, is_cut: bool = False
    ) -> None:
        self._stream, self._most_bytes, self._is_cut = stream, most_bytes, is_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most_bytes
        async for part in self._stream:
            left -= len(part)
            if left < 0 and self._is_cut:
                yield part[:left]
                return
            if left < 0:
                raise httpx2.ReadError("too many bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
