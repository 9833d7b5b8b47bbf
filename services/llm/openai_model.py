"""Any endpoint that speaks OpenAI's chat completions.

All streams run on one event loop in one thread: ending a request from another thread is then
cancelling a task, which works in every state, also before the endpoint has answered.
"""

import asyncio
import copy
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from math import inf
from queue import SimpleQueue

import httpx2
import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from services.domain import Usage
from services.errors import ModelFailure, ModelUnavailable
from services.llm.model import LimitReached, Piece, Thought
from services.llm.stated import Refusal, read_refusal, value_at
from services.memory.context import ContextMessage

_CONNECT_SECONDS = 5
_LIST_SECONDS = 10
_THINKING_SECONDS = 300.0  # in which a model that reasons may be silent
_REFUSED = {400, 413, 422}
_MOST_TOKENS = 1 << 24  # more than any window holds
_PAUSES = (0.5, 1.5)  # before the second and the third attempt
_LONGEST_PAUSE = 20  # an endpoint that asks for more has failed
_PASSING = {
    ModelFailure.UNREACHABLE,
    ModelFailure.BUSY,
    ModelFailure.BROKEN,
    ModelFailure.DROPPED,
}
# where endpoints say how much of a prompt was cached: OpenAI; DeepSeek; Moonshot; Anthropic, through a gateway
_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
)
# where endpoints stream thoughts: DeepSeek, LiteLLM, llama.cpp; OpenRouter, Ollama. vLLM has sent one, both and the other.
_THOUGHTS = ("delta.reasoning_content", "delta.reasoning")
# how endpoints say that a reply ended at its limit: OpenAI; Anthropic and Gemini, through a gateway; Mistral
_LIMITED = {"length", "max_tokens", "model_length"}
# how endpoints say that a prompt and its reply are more than their context
_TOO_LONG = re.compile(
    r"context.?(?:length|window|size)|(?:prompt|input)\b.{0,60}\b(?:too long|exceeds)",
    re.IGNORECASE,
)


def connect(base_url: str, api_key: str) -> openai.AsyncOpenAI:
    """A client for the endpoint at *base_url*."""
    http = httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),  # silence is timed per stream
        limits=httpx2.Limits(max_connections=None, keepalive_expiry=30),
        trust_env=not _is_here(base_url),  # a company's proxy does not know our loopback
    )
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        http_client=http,
        timeout=http.timeout,
        max_retries=0,  # its pauses cannot be bounded
    )


class OpenAIModel:
    """One model at one endpoint. It owns *client*: both end with `close`."""

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        name: str,
        *,
        first_token_seconds: float = 60,
        between_tokens_seconds: float = 30,
        on_refusal: Callable[[str, Refusal], None] | None = None,
    ) -> None:
        """*on_refusal* hears of the limits that the endpoint names where it refuses a request of a model."""
        self._on_refusal = on_refusal
        self._client = client
        self._name = name
        self._first_token_seconds = first_token_seconds
        self._between_tokens_seconds = between_tokens_seconds
        self._dialect = _Dialect()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="model-streams", daemon=True)
        self._thread.start()

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> "_Stream":
        return _Stream(self._loop, lambda say: self._reply(messages, max_tokens, say))

    def named(self, name: str, *, is_reasoning: bool = False) -> "OpenAIModel":
        """Another model at the same endpoint, over the same sockets: they end together."""
        other = copy.copy(self)
        if is_reasoning:
            other._first_token_seconds = max(_THINKING_SECONDS, self._first_token_seconds)
        other._name, other._dialect = name, _Dialect()
        return other

    def list_models(self) -> object:
        """Return the endpoint's list of models, decoded JSON; None where there is none, or not in time."""
        return asyncio.run_coroutine_threadsafe(self._list_models(), self._loop).result()

    def close(self) -> None:
        """End all streams and connections."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await self._client.close()

    async def _list_models(self) -> object:
        with suppress(*_EXPECTED):
            async with asyncio.timeout(_LIST_SECONDS):
                return await self._client.get("/models", cast_to=object)
        return None

    async def _reply(
        self, messages: Sequence[ContextMessage], max_tokens: int, say: Callable[[Piece], None]
    ) -> ModelFailure | None:
        """Say the reply piece by piece. Return how it failed; no vendor's error leaves here."""
        deadline = self._loop.time() + self._first_token_seconds
        dialect = self._dialect
        pauses = iter(_PAUSES)
        is_shortened = False
        while True:
            receipt = _Receipt(say)
            asked = 0.0
            try:
                async with asyncio.timeout_at(deadline) as silence:
                    await self._receive(messages, dialect.parameters(max_tokens), receipt, silence)
                failure = receipt.finish()
            except openai.APIStatusError as error:
                shorter = self._after_refusal(error, max_tokens)
                if not is_shortened and shorter < max_tokens:
                    is_shortened, max_tokens = True, shorter
                    continue
                if (learnt := dialect.after(error)) != dialect:
                    self._dialect = dialect = learnt
                    continue
                failure, asked = _failure_of(error, receipt), _retry_after(error)
            except _EXPECTED as error:
                failure = _failure_of(error, receipt)
            if failure not in _PASSING or receipt.has_begun:
                return failure
            pause = max(next(pauses, inf), asked)
            if pause > _LONGEST_PAUSE or self._loop.time() + pause >= deadline:
                return failure
            await asyncio.sleep(pause)

    def _after_refusal(self, error: openai.APIStatusError, max_tokens: int) -> int:
        """The longest reply that the endpoint takes, if *error* names a limit; else *max_tokens*."""
        refusal = read_refusal(error.message) if error.status_code in _REFUSED else Refusal()
        if self._on_refusal and (refusal.context_tokens or refusal.reply_tokens):
            self._on_refusal(self._name, refusal)
        shorter = refusal.reply_within(max_tokens)
        return shorter if shorter > 0 else max_tokens  # the prompt alone is too long

    async def _receive(
        self,
        messages: Sequence[ContextMessage],
        parameters: dict[str, object],
        receipt: "_Receipt",
        silence: asyncio.Timeout,
    ) -> None:
        said = [{"role": message.role.value, "content": message.body} for message in messages]
        # not by `chat.completions`, whose objects for each token cost more than all else done with it
        async with await self._client.post(
            "/chat/completions",
            body={"model": self._name, "messages": said, "stream": True} | parameters,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        ) as chunks:
            async for chunk in chunks:
                receipt.take(chunk)
                patience = (
                    self._between_tokens_seconds if receipt.has_words else self._first_token_seconds
                )
                silence.reschedule(self._loop.time() + patience)


class _Stream:
    """One reply: made on the loop, read by whoever iterates."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reply: Callable[[Callable[[Piece], None]], Coroutine[None, None, ModelFailure | None]],
    ) -> None:
        self._loop = loop
        self._reply = reply
        self._request: Future[ModelFailure | None] | None = None
        self._is_cancelled = False

    def __iter__(self) -> Iterator[Piece]:
        if self._is_cancelled:
            return
        pieces = SimpleQueue[Piece | None]()
        request = asyncio.run_coroutine_threadsafe(self._reply(pieces.put), self._loop)
        request.add_done_callback(lambda _: pieces.put(None))
        self._request = request
        if self._is_cancelled:  # since
            request.cancel()
        try:
            while (piece := pieces.get()) is not None:
                yield piece
        finally:
            request.cancel()  # whoever stops listening ends the request
        if self._is_cancelled or request.cancelled():
            return
        if failure := request.result():
            raise ModelUnavailable(failure)

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._request:
            self._request.cancel()


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What an endpoint calls the limit of a reply, and whether it can be asked for usage."""

    limit: str = "max_tokens"
    is_asked_for_usage: bool = True

    def parameters(self, max_tokens: int) -> dict[str, object]:
        said: dict[str, object] = {self.limit: max_tokens}
        if self.is_asked_for_usage:
            said["stream_options"] = {"include_usage": True}
        return said

    def after(self, error: openai.APIStatusError) -> "_Dialect":
        """What to say instead, if *error* complains about one of the parameters."""
        if error.status_code not in {400, 422}:
            return self
        if "max_completion_tokens" in error.message:
            return replace(self, limit="max_completion_tokens")
        if "stream_options" in error.message:
            return replace(self, is_asked_for_usage=False)
        return self


class _Chunk(BaseModel):
    """A chunk of a reply. The SDK checks nothing of what endpoints send; counts are read by `_count`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    choices: list[dict[str, object]] | None = None
    usage: object = None
    x_groq: object = None
    timings: object = None  # llama.cpp says these with or without usage


class _Receipt:
    """What has come of a reply."""

    def __init__(self, say: Callable[[Piece], None]) -> None:
        self.has_begun = False  # with thoughts or words: asking again would say them twice
        self.has_words = False
        self._say = say
        self._is_empty = True
        self._ending = ""  # the finish reason; empty until it is said
        self._counts = Counter[str]()

    def take(self, chunk: object) -> None:
        self._is_empty = False
        said = _Chunk.model_validate(chunk)
        self._counts |= _counts(said)
        for choice in said.choices or ():
            if thought := next(filter(None, (_text(choice, path) for path in _THOUGHTS)), ""):
                self.has_begun = True
                self._say(Thought(thought))
            if content := _text(choice, "delta.content"):
                self.has_begun = self.has_words = True
                self._say(content)
            if reason := choice.get("finish_reason"):
                self._ending = str(reason).casefold()

    def finish(self) -> ModelFailure | None:
        """The stream has ended without an error; return what was wrong with it all the same."""
        if self._is_empty:  # a web page, say
            return ModelFailure.GARBLED
        if not self._ending:
            return ModelFailure.DROPPED
        if self._ending in _LIMITED:
            self._say(LimitReached())
        if used := _tokens(self._counts, was_heard=self.has_begun):
            self._say(used)
        return None


def _text(node: object, path: str) -> str:
    """The text at *path*; empty where there is none."""
    value = value_at(node, path)
    return value if isinstance(value, str) else ""


def _counts(chunk: _Chunk) -> Counter[str]:
    """What *chunk* says was used so far. Of all chunks the union holds: the highest of each number.

    Most endpoints say it once, in a last chunk without choices; vLLM (its issue 7262) and others count
    on in every chunk, and some say zeros last (llmio 71). Moonshot says it in a choice (go-moonshot 17),
    Groq has said it in a place of its own (vercel/ai 1651). llama.cpp's timings come with or without it;
    what is built on llama.cpp has left the cached part out of the prompt (ollama 5370, 16428).
    """
    counts = Counter[str]()
    choices = chunk.choices or ()
    for usage in (
        chunk.usage,
        value_at(chunk.x_groq, "usage"),
        *(value_at(each, "usage") for each in choices),
    ):
        if usage:
            counts |= Counter(
                prompt=_count(usage, "prompt_tokens") or 0,
                reply=_count(usage, "completion_tokens") or 0,
                total=_count(usage, "total_tokens") or 0,
                thoughts=_count(usage, "completion_tokens_details.reasoning_tokens") or 0,
                cached=max(_count(usage, path) or 0 for path in _CACHED),
                written=_count(usage, "cache_creation_input_tokens") or 0,
            )
    read, cached = _count(chunk.timings, "prompt_n"), _count(chunk.timings, "cache_n")
    if read is not None and cached is not None:  # what was cached is not in *read*
        reply = _count(chunk.timings, "predicted_n") or 0
        counts |= Counter(prompt=read + cached, reply=reply, cached=cached)
    return counts


def _count(node: object, path: str) -> int | None:
    """The count at *path*; None where there is none, or one that cannot be: a reply is not lost for it."""
    value = value_at(node, path)
    if isinstance(value, int | float) and 0 <= value <= _MOST_TOKENS:
        return int(value)
    return None


def _tokens(counts: Counter[str], *, was_heard: bool) -> Usage | None:
    """What was used, with everything in it once; None where that was not said, or cannot be."""
    prompt, reply, total = counts["prompt"], counts["reply"], counts["total"]
    cached, thoughts = counts["cached"], counts["thoughts"]
    if not prompt:
        return None
    # OpenAI, DeepSeek, Moonshot and LiteLLM count what was cached with the prompt; Anthropic, and
    # gateways that hand its numbers on, beside it (openinference 1429, context-lens 51)
    beside = cached + counts["written"]
    if beside > prompt or total - prompt - reply == beside != thoughts:
        prompt += beside
    # thoughts are part of the reply; xAI and Gemini count them beside it, and in the total
    # (vercel/ai 12425, crewAI 5699)
    reply = max(reply, total - prompt)
    if thoughts > reply:
        reply += thoughts
    if was_heard and not reply:
        return None
    return Usage(prompt=prompt, reply=reply, cached=cached, thoughts=thoughts)


_EXPECTED = (
    TimeoutError,
    openai.OpenAIError,
    json.JSONDecodeError,
    UnicodeDecodeError,
    ValidationError,
)


def _failure_of(error: Exception, receipt: _Receipt) -> ModelFailure:
    match error:
        case TimeoutError():
            return ModelFailure.SILENT
        case openai.RateLimitError():
            return ModelFailure.BUSY
        case openai.APIStatusError() if _is_too_long(error):
            return ModelFailure.TOO_LONG
        case openai.APIStatusError(status_code=status):
            return ModelFailure.BROKEN if status >= 500 else ModelFailure.REJECTED
        case openai.APIConnectionError(__cause__=httpx2.DecodingError()):
            return ModelFailure.GARBLED
        case openai.APIConnectionError(__cause__=httpx2.ReadError() | httpx2.RemoteProtocolError()):
            return ModelFailure.DROPPED
        case openai.APIConnectionError():
            return ModelFailure.DROPPED if receipt.has_begun else ModelFailure.UNREACHABLE
        case openai.APIError():  # an error as an event of the stream
            return ModelFailure.BROKEN
        case _:
            return ModelFailure.GARBLED


def _is_too_long(error: openai.APIStatusError) -> bool:
    said = error.message
    names_context = _TOO_LONG.search(said) or read_refusal(said).context_tokens
    return error.status_code in _REFUSED and bool(names_context)


def _retry_after(error: openai.APIStatusError) -> float:
    """The seconds that the endpoint asks to wait: a number or a date."""
    asked = error.response.headers.get("retry-after", "0")
    with suppress(ValueError):
        return float(asked)
    with suppress(ValueError, TypeError):  # rubbish, or a date without a zone
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    return 0


def _is_here(base_url: str) -> bool:
    host = httpx2.URL(base_url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
