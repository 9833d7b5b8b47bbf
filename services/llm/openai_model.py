"""Client of any endpoint that speaks OpenAI's chat completions protocol.

All streams run on one event loop in one thread, so that any other thread can end a request by cancelling its task.
Cancelling works in every state of the request, even before the endpoint has responded.
"""

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import cast

import httpx2
import openai
from pydantic import ValidationError

from services.bounded_body import bound_body
from services.domain import Role
from services.domain.context import ContextMessage
from services.domain.hosts import is_nearby, is_this_machine
from services.domain.model_failures import LONGEST_WAIT_SECONDS, ModelFailure, ModelUnavailable
from services.errors import ProxyUnusable
from services.llm.chunks import Chunks
from services.llm.endpoint import Endpoint
from services.llm.failure_details import details_of
from services.llm.model import Piece, SentAtOnce
from services.llm.model_spec import LimitRefusal
from services.llm.refusals import (
    NEWER_LIMIT,
    STREAM_OPTIONS,
    Refusal,
    RequestForm,
    Shortening,
    is_refusal,
    read_refusal,
    shorter_reply,
)
from services.llm.reply_reader import ReplyReader
from services.llm.reply_text import text_of

_CONNECT_SECONDS = 5
_LIST_SECONDS = 10
_ENDING_SECONDS = 5.0  # seconds to wait for the usage after the text is complete
_FIRST_TOKEN_SECONDS = 60.0
# maximum seconds to the first token of a reasoning model or a self-hosted server. Such a server may have to load the model
# first, and stops loading if the client disconnects. Also the maximum seconds during which all chunks may be empty: some
# gateways send empty chunks as keep-alives, or in the place of thoughts
_LONGER_SECONDS = 300.0
_MOST_REQUESTS = 5  # for one reply: repeated ones, and those that obey what a refusal has shown
_MOST_REFUSAL_BYTES, _MOST_LIST_BYTES = 1 << 16, 4 << 20
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


def connect(base_url: str, api_key: str) -> openai.AsyncOpenAI:
    """Return a client for the endpoint at *base_url*. Raise ProxyUnusable if the environment names a SOCKS proxy."""
    try:
        http = httpx2.AsyncClient(
            # no read timeout, because `_reply` limits how long the endpoint may be silent
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=30),
            # a packed body of 200 kB may unpack to 200 MB, on the one loop of all streams
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_bound]},
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


async def _bound(response: httpx2.Response) -> None:
    """Limit the body of a list of models, and cut that of an error off; `Chunks` limits replies."""
    is_refusal = response.status_code >= 400
    most_bytes = _MOST_LIST_BYTES if response.request.method == "GET" else None
    bound_body(response, _MOST_REFUSAL_BYTES if is_refusal else most_bytes, is_cut=is_refusal)


class _RefusedEvent(Exception):
    """An event of a reply is an error."""

    def __init__(self, event: object) -> None:
        super().__init__()  # without the event, whose text may quote the prompt
        self.event = event


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
        self._form = RequestForm()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run_loop, name="model-streams", daemon=True)
        self._thread.start()

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> "_Stream":
        reply = partial(self._reply, messages, max_tokens)
        return _Stream(self._loop, reply, self._endpoint)

    @property
    def merges_instructions(self) -> bool:
        """True once a reply has shown that the model takes no system role."""
        return not self._form.has_system

    def named(self, name: str, *, is_reasoning: bool = False) -> "OpenAIModel":
        """Return another model at the same endpoint. Both share their connections, and closing one closes both."""
        other = copy.copy(self)
        if is_reasoning:
            other._first_token_seconds = max(_LONGER_SECONDS, self._first_token_seconds)
        other._name, other._form = name, RequestForm()
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
            failure = _failure(error, _refusal(error), has_begun=False)
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
        first = attempt = _Attempt(self._form, max_tokens)
        pauses, left = iter(_PAUSES), _MOST_REQUESTS
        while True:
            left -= 1
            reader, retry_after = ReplyReader(emit, attempt.max_tokens), 0.0
            refusal = Refusal()
            if not attempt.form.is_streamed:
                emit(SentAtOnce())
            try:
                # a whole reply may take longer than its beginning
                until = (
                    deadline if attempt.form.is_streamed else self._loop.time() + _LONGER_SECONDS
                )
                try:
                    async with asyncio.timeout_at(until) as silence:
                        await self._receive(messages, attempt, reader, silence)
                finally:
                    # not before a reply: a refusal may name a parameter merely by quoting the prompt
                    if reader.has_begun:
                        reader.emit_pending()  # also of a reply that is stopped, or that an error ends
                        if attempt is not first and attempt.is_certain:
                            self._learn(attempt)
                failure = reader.finish()
            except _EXPECTED as error:
                refusal = _refusal(error, messages)
                failure = _failure(error, refusal, has_begun=reader.has_begun)
                retry_after = _retry_after(error) or refusal.wait_seconds
                if not reader.has_response:
                    self._note(failure)
                if left and not reader.has_begun and (again := attempt.after(refusal)):
                    attempt = again
                    continue
                if failure is ModelFailure.TOO_LONG:
                    # no request of this prompt can obey the window: the next prompt is made to fit
                    window = refusal.strict.limits.context_tokens
                    self._report(LimitRefusal(context_tokens=window))
                if reader.has_ended and failure in {ModelFailure.DROPPED, ModelFailure.SILENT}:
                    failure = reader.finish()
            if failure is None:
                return None
            unavailable = self._unavailable(failure, retry_after, refusal)
            if failure not in _TRANSIENT or reader.has_begun or not left:
                return unavailable
            pause = max(next(pauses, inf), retry_after)
            if pause > _LONGEST_PAUSE or self._loop.time() + pause >= deadline:
                return unavailable
            pause_after(unavailable)
            await asyncio.sleep(pause)
            pause_after(None)

    def _unavailable(
        self, failure: ModelFailure, retry_after: float, refusal: Refusal
    ) -> ModelUnavailable:
        outage = self._endpoint.outage if self._endpoint and _AWAY.get(failure) else ""
        details = details_of(refusal, failure, self._client.api_key, self._client.base_url.host)
        return ModelUnavailable(failure, outage, retry_after, details)

    def _learn(self, attempt: "_Attempt") -> None:
        """Remember what refusals have shown, once a request that obeys it has brought text."""
        self._form = attempt.form
        self._report(attempt.learnt)

    def _report(self, limits: LimitRefusal) -> None:
        if self._on_refusal and (limits.context_tokens or limits.reply_tokens):
            self._on_refusal(self._name, limits)

    async def _receive(
        self,
        messages: Sequence[ContextMessage],
        attempt: "_Attempt",
        reader: ReplyReader,
        silence: asyncio.Timeout,
    ) -> None:
        form = attempt.form
        limit = NEWER_LIMIT if NEWER_LIMIT in form.refused else "max_tokens"
        body: dict[str, object] = {
            "model": self._name,
            "messages": _sent(messages, has_system=form.has_system),
            "stream": form.is_streamed,
            limit: attempt.max_tokens,
        }
        if form.is_streamed and STREAM_OPTIONS not in form.refused:
            body[STREAM_OPTIONS] = {"include_usage": True}
        # `post` is used instead of `chat.completions`, which creates an object per token: that would take more CPU
        # time than all other work
        async with await self._client.post(
            "/chat/completions", body=body, cast_to=object, stream=True, stream_cls=Chunks
        ) as chunks:
            reader.has_response = True
            self._note(None)
            new_at = self._loop.time()
            async for chunk in chunks:
                if is_refusal(chunk):
                    raise _RefusedEvent(chunk)
                now = self._loop.time()
                if reader.read(chunk):
                    new_at = now
                allowed, longest = self._first_token_seconds, _LONGER_SECONDS
                if reader.has_ended and not reader.is_doubtful:
                    allowed = longest = _ENDING_SECONDS
                elif reader.has_text:
                    allowed = self._between_tokens_seconds
                silence.reschedule(min(now + allowed, new_at + longest))
            reader.is_done = chunks.is_done


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One request for a reply: its form and its reply limit, and what the refusals before it have shown."""

    form: RequestForm
    max_tokens: int
    learnt: LimitRefusal = field(default_factory=LimitRefusal)
    shortened: Set[Shortening] = frozenset()
    is_certain: bool = True  # false: a refusal may merely have quoted the request

    def after(self, refusal: Refusal) -> "_Attempt | None":
        """Return the request that obeys *refusal*; None if there is nothing to change, or nothing more."""
        again = self._obeying(refusal)
        is_certain = self.is_certain and self._obeying(refusal.strict) == again
        return None if again == self else replace(again, is_certain=is_certain)

    def _obeying(self, refusal: Refusal) -> "_Attempt":
        shorter, reasons = shorter_reply(refusal, self.max_tokens, self.shortened)
        if not reasons:
            return replace(self, form=self.form.after(refusal))
        # what is affordable, or allowed per minute, is so only now
        limits, is_guess = refusal.limits, reasons & {Shortening.QUARTER, Shortening.LEAST}
        return replace(
            self,
            max_tokens=shorter,
            shortened=self.shortened | reasons,
            learnt=LimitRefusal(
                context_tokens=limits.context_tokens or self.learnt.context_tokens,
                reply_tokens=(shorter if is_guess else limits.reply_tokens)
                or self.learnt.reply_tokens,
            ),
        )


def _sent(messages: Sequence[ContextMessage], *, has_system: bool) -> list[dict[str, str]]:
    """Return the messages of a request; without *has_system*, the instructions stand in front of the first other message."""
    sent = [{"role": message.role.value, "content": _content(message)} for message in messages]
    if has_system:
        return sent
    system = Role.SYSTEM.value
    instructions = [message["content"] for message in sent if message["role"] == system]
    first, *others = [message for message in sent if message["role"] != system]
    return [first | {"content": "\n\n".join([*instructions, first["content"]])}, *others]


def _content(message: ContextMessage) -> str:
    return text_of(message.body) if message.role is Role.ASSISTANT else message.body


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


_EXPECTED = (
    TimeoutError,
    openai.OpenAIError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    ValidationError,
    _RefusedEvent,
)


def _refusal(error: Exception, messages: Sequence[ContextMessage] = ()) -> Refusal:
    """Return what the endpoint says in *error*, by a status or an event; of other errors nothing."""
    match error:
        case openai.APIStatusError(status_code=code, response=response):
            status, body = code, cast(object, response.text)
            # the SDK keeps only what stands under `error`
            with suppress(ValueError, RecursionError):
                body = json.loads(response.text)
        case _RefusedEvent(event=event):
            status, body = None, event
        case _:
            return Refusal()
    return read_refusal(status, body, "\n".join(message.body for message in messages))


def _failure(error: Exception, refusal: Refusal, *, has_begun: bool) -> ModelFailure:
    # the SDK wraps the errors of requests, but not those of the bodies of replies
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    match cause:
        case TimeoutError():
            return ModelFailure.SILENT
        case openai.APIStatusError() | _RefusedEvent():
            return ModelFailure.BROKEN if has_begun else refusal.failure
        case httpx2.ReadError() | httpx2.RemoteProtocolError():
            return ModelFailure.DROPPED
        # the body ended inside a character, which HTTP does not detect if the response states no length
        case UnicodeDecodeError(reason="unexpected end of data") if has_begun:
            return ModelFailure.DROPPED
        case httpx2.HTTPError() | None if not isinstance(cause, httpx2.DecodingError):
            return ModelFailure.DROPPED if has_begun else ModelFailure.UNREACHABLE
        case _:  # a reply that had begun came from the right address
            return ModelFailure.BROKEN if has_begun else ModelFailure.GARBLED


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
