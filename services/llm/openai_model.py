"""Client of any endpoint that speaks OpenAI's chat completions protocol.

All streams run on one event loop in one thread, so that any other thread can end a request by cancelling its task.
Cancelling works in every state of the request, even before the endpoint has responded.
"""

import asyncio
import copy
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import cast

import httpx2
import openai
from openai._streaming import ServerSentEvent
from pydantic import ValidationError

from services.domain.context import ContextMessage
from services.domain.hosts import is_nearby, is_this_machine
from services.domain.model_failures import LONGEST_WAIT_SECONDS, ModelFailure, ModelUnavailable
from services.errors import ProxyUnusable
from services.llm.endpoint import Endpoint
from services.llm.model import Piece
from services.llm.model_spec import LimitRefusal, read_refusal
from services.llm.reply_reader import ReplyReader

_CONNECT_SECONDS = 5
_LIST_SECONDS = 10
_ENDING_SECONDS = 5.0  # seconds to wait for the usage after the text is complete
_FIRST_TOKEN_SECONDS = 60.0
# maximum seconds to the first token of a reasoning model or a self-hosted server. Such a server may have to load the model
# first, and stops loading if the client disconnects. Also the maximum seconds during which all chunks may be empty: some
# gateways send empty chunks as keep-alives, or in the place of thoughts
_LONGER_SECONDS = 300.0
# HTTP statuses of refused requests; 429 may mean that a request has more tokens than are allowed per minute
_REFUSED = {400, 413, 422, 429}
# names of request parameters that some endpoints refuse
_NEWER_LIMIT, _USAGE = "max_completion_tokens", "stream_options"
_PAUSES = (0.5, 1.5)  # seconds before the second and the third attempt
_LONGEST_PAUSE = 20  # seconds; an endpoint that asks for a longer pause counts as failed
_TRANSIENT = {
    ModelFailure.UNREACHABLE,
    ModelFailure.BUSY,
    ModelFailure.BROKEN,
    ModelFailure.DROPPED,
}
# whether a request that ends in this way before any response shows that the endpoint is away; None: it shows neither
_AWAY = {ModelFailure.UNREACHABLE: True, ModelFailure.SILENT: True, ModelFailure.DROPPED: None}
# matches error messages about a prompt that, with its reply, overflows the context window
_TOO_LONG = re.compile(
    r"context.?(?:length|window|size)|(?:prompt|input)\b.{0,60}\b(?:too long|exceeds)",
    re.IGNORECASE,
)


def connect(base_url: str, api_key: str) -> openai.AsyncOpenAI:
    """Return a client for the endpoint at *base_url*. Raise ProxyUnusable if the environment names a SOCKS proxy."""
    try:
        http = httpx2.AsyncClient(
            # no read timeout, because `_reply` limits how long the endpoint may be silent
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=30),
            # for an endpoint on this machine, ignore the environment's proxy, which cannot reach this machine's loopback
            trust_env=not is_this_machine(httpx2.URL(base_url).host),
        )
    except ImportError:
        raise ProxyUnusable from None
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        http_client=http,
        timeout=http.timeout,
        max_retries=0,  # no retries by the SDK, because its pauses cannot be limited
    )


class OpenAIModel:
    """One model at one endpoint. It owns *client*: `close` also closes the client.

    Any thread may call any method: the event loop that reads all streams runs in a separate thread.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        name: str,
        *,
        first_token_seconds: float | None = None,
        between_tokens_seconds: float = 30,
        on_refusal: Callable[[str, LimitRefusal], None] | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        """*on_refusal* is called with the model's name and the limits that the endpoint states when it refuses a request.

        *endpoint* is told whether requests are answered; None for the local model, whose process is monitored instead.
        """
        self._client, self._name, self._on_refusal = client, name, on_refusal
        self._endpoint = endpoint
        is_self_hosted = is_nearby(client.base_url.host)
        usual = _LONGER_SECONDS if is_self_hosted else _FIRST_TOKEN_SECONDS
        self._first_token_seconds = first_token_seconds or usual
        self._between_tokens_seconds = between_tokens_seconds
        self._refused_parameters: Set[str] = frozenset()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run_loop, name="model-streams", daemon=True)
        self._thread.start()

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> "_Stream":
        reply = partial(self._reply, messages, max_tokens)
        return _Stream(self._loop, reply, self._endpoint)

    def named(self, name: str, *, is_reasoning: bool = False) -> "OpenAIModel":
        """Return another model at the same endpoint. Both share their connections, and closing one closes both."""
        other = copy.copy(self)
        if is_reasoning:
            other._first_token_seconds = max(_LONGER_SECONDS, self._first_token_seconds)
        other._name, other._refused_parameters = name, frozenset()
        return other

    def list_models(self) -> object:
        """Return the endpoint's list of models as decoded JSON. Raise ModelUnavailable if it does not arrive in time."""
        listing = asyncio.run_coroutine_threadsafe(self._list_models(), self._loop)
        try:
            return listing.result()
        finally:
            if self._endpoint:
                self._endpoint.report()

    def close(self) -> None:
        """End all streams and connections."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self._client.close()

    async def _list_models(self) -> object:
        try:
            async with asyncio.timeout(_LIST_SECONDS):
                document = await self._client.get("/models", cast_to=object)
        # the JSON parser also refuses integers of thousands of digits (ValueError), and deep nesting
        except (*_EXPECTED, ValueError, RecursionError) as error:
            failure = _failure(error, ReplyReader(lambda _: None))
            is_known = self._endpoint is not None and self._endpoint.is_known
            # a list that does not come in time is no outage of an endpoint that answers prompts
            if failure is not ModelFailure.SILENT or not is_known:
                self._note(failure)
            raise ModelUnavailable(failure) from None
        self._note(None)
        return document

    def _note(self, failure: ModelFailure | None) -> None:
        """Note that the endpoint answered a request (None), or that *failure* ended a request before any response."""
        is_away = _AWAY.get(failure, False) if failure else False
        if self._endpoint and is_away is not None:
            self._endpoint.note(is_away=is_away)

    async def _reply(
        self,
        messages: Sequence[ContextMessage],
        max_tokens: int,
        emit: Callable[[Piece], None],
        pause_after: Callable[[ModelUnavailable | None], None],
    ) -> ModelUnavailable | None:
        """Emit the reply piece by piece; return the failure, if any, instead of raising an error of the SDK.

        *pause_after* is called with the failure of an attempt before the pause that follows, and with None after the pause.
        """
        deadline = self._loop.time() + self._first_token_seconds
        refused = self._refused_parameters
        pauses = iter(_PAUSES)
        is_shortened = False
        while True:
            reader, retry_after = ReplyReader(emit), 0.0
            try:
                try:
                    async with asyncio.timeout_at(deadline) as silence:
                        await self._receive(messages, max_tokens, refused, reader, silence)
                finally:
                    # not before a reply: a refusal may name a parameter merely by quoting the prompt
                    if reader.has_begun:
                        self._refused_parameters |= refused
                failure = reader.finish()
            except _EXPECTED as error:
                failure, retry_after = _failure(error, reader), _retry_after(error)
                if not reader.has_response:
                    self._note(failure)
                refusal = read_refusal(_refusal_text(error, reader))
                shorter = self._allowed_reply(refusal, max_tokens)
                if not is_shortened and shorter < max_tokens:
                    is_shortened, max_tokens = True, shorter
                    continue
                if more := _refused_parameters(error) - refused:
                    refused = refused | more
                    continue
                if reader.has_ended and failure in {ModelFailure.DROPPED, ModelFailure.SILENT}:
                    failure = reader.finish()
            if failure is None:
                return None
            unavailable = self._unavailable(failure, retry_after)
            if failure not in _TRANSIENT or reader.has_begun:
                return unavailable
            pause = max(next(pauses, inf), retry_after)
            if pause > _LONGEST_PAUSE or self._loop.time() + pause >= deadline:
                return unavailable
            pause_after(unavailable)
            await asyncio.sleep(pause)
            pause_after(None)

    def _unavailable(self, failure: ModelFailure, retry_after: float) -> ModelUnavailable:
        outage = self._endpoint.outage if self._endpoint and _AWAY.get(failure) else ""
        return ModelUnavailable(failure, outage, retry_after)

    def _allowed_reply(self, refusal: LimitRefusal, max_tokens: int) -> int:
        """Report the limits in *refusal* to `_on_refusal`; return the longest reply that they allow, at most *max_tokens*."""
        if self._on_refusal and (refusal.context_tokens or refusal.reply_tokens):
            self._on_refusal(self._name, refusal)
        shorter = refusal.reply_within(max_tokens)
        # if no reply fits, the prompt alone is too long, and a shorter reply would not help
        return shorter if shorter > 0 else max_tokens

    async def _receive(
        self,
        messages: Sequence[ContextMessage],
        max_tokens: int,
        refused: Set[str],
        reader: ReplyReader,
        silence: asyncio.Timeout,
    ) -> None:
        body: dict[str, object] = {
            "model": self._name,
            "messages": [{"role": each.role.value, "content": each.body} for each in messages],
            "stream": True,
        }
        is_renamed = _NEWER_LIMIT in refused
        body[_NEWER_LIMIT if is_renamed else "max_tokens"] = max_tokens
        if _USAGE not in refused:
            body[_USAGE] = {"include_usage": True}
        # `post` is used instead of `chat.completions`, which creates an object per token: that would take more CPU
        # time than all other work
        async with await self._client.post(
            "/chat/completions",
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=_Chunks,
        ) as chunks:
            reader.has_response = True
            self._note(None)
            new_at = self._loop.time()
            async for chunk in chunks:
                now = self._loop.time()
                if reader.read(chunk):
                    new_at = now
                allowed, longest = self._first_token_seconds, _LONGER_SECONDS
                if reader.has_ended:
                    allowed = longest = _ENDING_SECONDS
                elif reader.has_text:
                    allowed = self._between_tokens_seconds
                silence.reschedule(min(now + allowed, new_at + longest))
            reader.is_done = chunks.is_done


class _Chunks(openai.AsyncStream[object]):
    """The chunks of a streamed reply, as decoded JSON. Events without data are skipped, as the SSE standard requires.

    For such events, the SDK raises JSONDecodeError (openai-python #2722): for example, for a keep-alive comment in a stream
    whose chunks have ids.
    """

    is_done = False  # true once `[DONE]` has arrived, which the SDK does not report

    async def _iter_events(self) -> AsyncIterator[ServerSentEvent]:
        async for event in super()._iter_events():
            self.is_done |= event.data.startswith("[DONE]")
            if event.data:
                yield event


class _Stream:
    """A streamed reply, which is received on the event loop and iterated by one other thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reply: Callable[
            [Callable[[Piece], None], Callable[[ModelUnavailable | None], None]],
            Coroutine[None, None, ModelUnavailable | None],
        ],
        endpoint: Endpoint | None,
    ) -> None:
        self._loop, self._reply, self._endpoint = loop, reply, endpoint
        self._paused_after: ModelUnavailable | None = None  # None: no pause between two attempts
        self._request: Future[ModelUnavailable | None] | None = None
        self._is_cancelled = False

    def __iter__(self) -> Iterator[Piece]:
        if self._is_cancelled:
            return
        pieces = SimpleQueue[Piece | None]()
        reply = self._reply(pieces.put, self._note_pause)
        request = asyncio.run_coroutine_threadsafe(reply, self._loop)
        request.add_done_callback(lambda _: pieces.put(None))
        self._request = request
        if self._is_cancelled:  # `cancel` was called before `_request` was set
            request.cancel()
        try:
            while (piece := pieces.get()) is not None:
                self._report()
                yield piece
        finally:
            request.cancel()  # end the request if the caller left the iteration early
            self._report()
        is_cancelled = self._is_cancelled or request.cancelled()
        if failure := self._paused_after if is_cancelled else request.result():
            raise failure

    def _report(self) -> None:
        # in the thread that reads the reply: a console that blocks must not stop the event loop of all streams
        if self._endpoint:
            self._endpoint.report()

    def _note_pause(self, failure: ModelUnavailable | None) -> None:
        self._paused_after = failure

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._request:
            self._request.cancel()


def _refused_parameters(error: Exception) -> Set[str]:
    """Return the request parameters that the endpoint refused, as stated in *error*: `_NEWER_LIMIT`, `_USAGE`, both or none."""
    is_refusal = isinstance(error, openai.APIStatusError) and error.status_code in {400, 422}
    return {name for name in (_NEWER_LIMIT, _USAGE) if is_refusal and name in str(error)}


_EXPECTED = (
    TimeoutError,
    openai.OpenAIError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    ValidationError,
)


def _failure(error: Exception, reader: ReplyReader) -> ModelFailure:
    text = _refusal_text(error, reader)
    refusal = read_refusal(text)
    is_too_long = _TOO_LONG.search(text) or refusal.context_tokens or refusal.excess_tokens
    match error:
        case TimeoutError():
            return ModelFailure.SILENT
        case openai.APIStatusError(status_code=402) | openai.APIError(code="insufficient_quota"):
            return ModelFailure.NO_CREDIT
        case openai.RateLimitError() if not refusal.excess_tokens:
            return ModelFailure.BUSY
        case openai.APIError() if is_too_long:
            return ModelFailure.TOO_LONG
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return ModelFailure.UNAUTHORIZED
        case openai.APIStatusError(status_code=status):
            return ModelFailure.BROKEN if status >= 500 else ModelFailure.REJECTED
        case openai.APIConnectionError(__cause__=httpx2.DecodingError()):
            return ModelFailure.GARBLED
        case openai.APIConnectionError(__cause__=httpx2.ReadError() | httpx2.RemoteProtocolError()):
            return ModelFailure.DROPPED
        case openai.APIConnectionError():
            return ModelFailure.DROPPED if reader.has_begun else ModelFailure.UNREACHABLE
        case openai.APIError():  # an error sent as an event of the stream
            return ModelFailure.BROKEN
        # the body ended inside a character, which HTTP does not detect if the response states no length
        case UnicodeDecodeError(reason="unexpected end of data") if reader.has_begun:
            return ModelFailure.DROPPED
        case _:  # a reply that had begun came from the right address
            return ModelFailure.BROKEN if reader.has_begun else ModelFailure.GARBLED


def _refusal_text(error: Exception, reader: ReplyReader) -> str:
    """Return the text of *error* if the endpoint refused the request, by a status or by an event before the reply; else "".

    Endpoints write the text and the numbers into different fields, so all fields are joined. Fields that contain lists are
    left out, because they may quote the request.
    """
    match error:
        case openai.APIStatusError(status_code=status) if status not in _REFUSED:
            return ""
        case openai.APIConnectionError():
            return ""
        case openai.APIError(body=body) if not reader.has_begun:
            fields = cast(dict[str, object], body) if isinstance(body, dict) else {"": body}
            return "\n".join(f"{k}: {v}" for k, v in fields.items() if isinstance(v, str | int))
        case _:
            return ""


def _retry_after(error: Exception) -> float:
    """Return the seconds that the endpoint asks to wait, stated as a number or a date, at most an hour; 0 if it states none."""
    if not isinstance(error, openai.APIStatusError):
        return 0
    value, seconds = error.response.headers.get("retry-after", "0"), 0.0
    try:
        seconds = float(value)
    except ValueError:
        # the value may be malformed, or a date without a time zone
        with suppress(ValueError, TypeError):
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)
