"""The events of a streamed reply, as decoded JSON, from whatever body an endpoint sends."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx2
import openai
from openai._streaming import ServerSentEvent, SSEDecoder
from openai._streaming_cleanup import drain_response_async

from services.llm.model_spec import list_of, value_at

DONE = "[DONE]"  # the protocol's end of a stream
_MOST_EVENT_BYTES, _MOST_REPLY_BYTES = 1 << 20, 4 << 20  # a reply: as one JSON document
_DECODER = json.JSONDecoder()
# matches what may stand around a document: white space, commas, and the fields and comments of events that a gateway has wrapped
# again, perhaps on one line with the next document
_BETWEEN = re.compile(r"(?:[\s,\x1e]|data:|(?:event|id|retry)?:[^\n{\[]*)*")
_BLANK_LINE = re.compile(rb"\n\n|\r\r|\r\n\r\n")
_BLANK = b"\xef\xbb\xbf \t\r\n"  # before a body: also a byte order mark


class Chunks(openai.AsyncStream[object]):
    """The chunks of a reply, errors among them, which the SDK would raise or pass by.

    Events without data are skipped, as the SSE standard requires; for these, the SDK raises JSONDecodeError (openai-python
    #2722): for example, for a keep-alive comment in a stream whose chunks have ids. Iteration raises httpx2.HTTPError,
    UnicodeDecodeError and JSONDecodeError.
    """

    # true once `[DONE]` has arrived, which the SDK does not report, or once a reply has arrived as one JSON document
    is_done = False
    _is_at_end = False  # true for the event that the end of the body ends, in place of a blank line

    async def __stream__(self) -> AsyncIterator[object]:
        try:
            async for event in self._iter_events():
                for document in decoded(event.data):
                    if document == DONE:
                        self.is_done = True
                        await drain_response_async(self.response)
                        return
                    for chunk in _chunks(document):
                        yield chunk
        except json.JSONDecodeError:
            if self._is_at_end:
                raise httpx2.RemoteProtocolError("cut off") from None
            raise
        finally:
            await self.response.aclose()

    async def _iter_events(self) -> AsyncIterator[ServerSentEvent]:
        body = self.response.aiter_bytes()
        begun = bytearray()
        async for part in body:
            begun += part
            begun = begun.lstrip(_BLANK)
            if begun:
                break
        if not begun.startswith((b"{", b"[")):
            async for event in _EventDecoder().aiter_bytes(self._bounded(bytes(begun), body)):
                if "error" in (event.event or "").casefold():
                    yield ServerSentEvent(data=json.dumps({"error": event.data or event.event}))
                elif event.data:
                    yield event
            return
        # a whole reply as JSON, or one JSON document a line, without the fields of events
        async for part in body:
            begun += part
            if len(begun) > _MOST_REPLY_BYTES:
                raise httpx2.DecodingError("too many bytes")
        yield ServerSentEvent(data=begun.decode())
        # pieces of a reply do not say whether they are all; in a text, the quotation marks would be escaped
        self.is_done = b'"delta"' not in begun

    async def _bounded(self, begun: bytes, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield *begun*, the parts of *body*, and a blank line. Raise DecodingError for an event of too many bytes."""
        # of the last event; its last bytes may belong to a blank line
        size, tail = len(begun), begun[-3:]
        yield begun
        async for part in body:
            read = tail + part
            *_, last = None, *_BLANK_LINE.finditer(read)
            size = len(read) - last.end() if last else size + len(part)
            tail = read[-3:]
            if size > _MOST_EVENT_BYTES:
                raise httpx2.DecodingError("too many bytes")
            yield part
        self._is_at_end = True
        yield b"\n\n"


class _EventDecoder(SSEDecoder):
    """The SDK's decoder, which also reads lines that are a document without a field, and llama.cpp's `error: {...}`."""

    def decode(self, line: str) -> ServerSentEvent | None:
        line = line.lstrip(" \t")
        if line.startswith(("{", DONE)):
            line = f"data:{line}"
        elif line.startswith("error:"):
            super().decode("event:error")
            line = line.replace("error", "data", 1)
        return super().decode(line)


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


def _chunks(document: object) -> Iterator[object]:
    """Yield the chunks of *document*, which may be a list of them, and behind a chunk the error beside its text or in a choice."""
    listed = list_of(document)
    for chunk in listed if any(value_at(part, "choices") for part in listed) else [document]:
        choices = value_at(chunk, "choices")
        found = [value_at(chunk, "error")] if choices else []
        for choice in list_of(choices):
            found += [value_at(choice, path) for path in ("error", "delta.error", "message.error")]
        if error := next(filter(None, found), None):
            yield cast(dict[str, object], chunk) | {"error": None}
            yield {"error": error}
        else:
            yield chunk
