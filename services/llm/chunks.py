"""The events of a streamed reply, as decoded JSON, from whatever body an endpoint sends."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx2
import openai
from openai._streaming import ServerSentEvent
from openai._streaming_cleanup import drain_response_async

DONE = "[DONE]"  # the protocol's end of a stream
_MOST_BYTES = 4 << 20  # of an event, and of a reply that is one JSON document
_DECODER = json.JSONDecoder()
# matches what may stand around a document: white space, and field names and comments that a gateway has wrapped again
_BETWEEN = re.compile(r"(?:\s*(?:data:|:[^\n]*(?:\n|$)))*\s*")
_BLANK_LINE = re.compile(rb"\n\n|\r\r|\r\n\r\n")


class Chunks(openai.AsyncStream[object]):
    """The chunks of a reply, errors among them, which the SDK would raise or pass by.

    Events without data are skipped, as the SSE standard requires; for these, the SDK raises JSONDecodeError (openai-python
    #2722): for example, for a keep-alive comment in a stream whose chunks have ids. Iteration raises httpx2.HTTPError,
    UnicodeDecodeError and JSONDecodeError.
    """

    # true once `[DONE]` has arrived, which the SDK does not report, or once a reply has arrived as one JSON document
    is_done = False

    async def __stream__(self) -> AsyncIterator[object]:
        try:
            async for event in self._iter_events():
                for chunk in decoded(event.data):
                    if chunk == DONE:
                        self.is_done = True
                        await drain_response_async(self.response)
                        return
                    yield chunk
        finally:
            await self.response.aclose()

    async def _iter_events(self) -> AsyncIterator[ServerSentEvent]:
        body = self.response.aiter_bytes()
        begun = bytearray()
        async for part in body:
            begun += part
            begun = begun.lstrip()
            if begun:
                break
        if not begun.startswith((b"{", b"[")):
            async for event in self._decoder.aiter_bytes(_bounded(bytes(begun), body)):
                if event.data:
                    yield event
            return
        # a whole reply as JSON, or one JSON document a line, without the fields of events
        async for part in body:
            begun += part
            if len(begun) > _MOST_BYTES:
                raise httpx2.DecodingError("too many bytes")
        yield ServerSentEvent(data=begun.decode())
        self.is_done = True


async def _bounded(begun: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield *begun* and the parts of *body*. Raise DecodingError for an event of more than `_MOST_BYTES`."""
    # of the last event; its last bytes may belong to a blank line
    size, tail = len(begun), begun[-3:]
    yield begun
    async for part in body:
        read = tail + part
        *_, last = None, *_BLANK_LINE.finditer(read)
        size = len(read) - last.end() if last else size + len(part)
        tail = read[-3:]
        if size > _MOST_BYTES:
            raise httpx2.DecodingError("too many bytes")
        yield part


def decoded(data: str) -> Iterator[object]:
    """Yield the JSON documents in the *data* of an event, and DONE for the end mark: some gateways glue events on one line.

    Raise JSONDecodeError for a document that cannot be read, also for one that is nested too deeply or has an endless number.
    """
    at = _after_fields(data, 0)
    while at < len(data):
        if data.startswith(DONE, at):
            yield DONE
            return
        try:
            document, at = _DECODER.raw_decode(data, at)
        except (ValueError, RecursionError):  # not chained, because the error contains the text
            raise json.JSONDecodeError("not readable", "", 0) from None
        yield document
        at = _after_fields(data, at)


def _after_fields(data: str, at: int) -> int:
    return cast(re.Match[str], _BETWEEN.match(data, at)).end()  # matches everywhere
