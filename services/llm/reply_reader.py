"""Reader of a streamed reply: finds thoughts, text, finish reason and usage in the fields of each endpoint. No I/O."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import cast

from pydantic import BaseModel, ConfigDict

from services.domain import Usage
from services.domain.model_failures import ModelFailure
from services.llm.model import LimitReached, Piece, Thought
from services.llm.model_spec import value_at
from services.llm.reply_text import Part, ReplyText

_MOST_TOKENS = 1 << 24  # more than any context window
# fields with the number of a prompt's cached tokens: OpenAI; DeepSeek; Moonshot; Anthropic through a gateway
_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
)
# fields with the model's thoughts: DeepSeek, LiteLLM, llama.cpp; OpenRouter, Ollama. Versions of vLLM send either or both.
_THOUGHTS = ("delta.reasoning_content", "delta.reasoning")
# Parts of the finish reasons, in lower case and without punctuation, that say how a reply was cut; sought in this order, because
# vendors combine them. All other reasons are those of whole replies.
# by an error: vLLM, SGLang; Mistral, Cohere; DeepSeek; Zhipu; LM Studio; Gemini
_BROKEN = {
    *("error", "abort", "fail", "cancel", "timeout", "insufficient", "network", "unload"),
    *("malformed", "unexpected", "incomplete", "interrupt", "overload", "unavailable"),
    *("exhausted", "ratelimit", "exception", "disconnect", "killed", "expired", "preempt"),
    *("internal", "rejected", "denied", "other"),
}
# by a content filter: OpenAI; Gemini; Zhipu; Bedrock; Anthropic; Cohere
_FILTERED = {
    *("filter", "safety", "recitation", "prohibited", "block", "spii", "sensitive", "guardrail"),
    *("refusal", "moderat", "toxic", "policy", "violat", "risk", "language"),
}
# by the length limit: OpenAI, Mistral; Anthropic, Gemini, Cohere; LM Studio; the end of the context window
_LIMITED = {"length", "maxtokens", "outputtokens", "predictedtokens", "contextwindow", "limit"}
# names of no reason: DashScope; Gemini
_UNNAMED = {"", "null", "none", "finishreasonunspecified"}


class _Chunk(BaseModel):
    """A chunk of a streamed reply, validated here because the SDK does not validate it; `_count` validates its counts."""

    model_config = ConfigDict(hide_input_in_errors=True)

    choices: list[dict[str, object]] | None = None
    usage: object = None
    x_groq: object = None
    timings: object = None  # token counts from llama.cpp, which may come without `usage`


class ReplyReader:
    """Reads the chunks of one streamed reply, and passes its pieces to *emit*."""

    def __init__(self, emit: Callable[[Piece], None], max_tokens: int = 0) -> None:
        """*max_tokens*: the reply limit of the request; 0 if it has none."""
        self.has_response = False  # true once the response has begun
        # true once thoughts or text have arrived: the request is not repeated after that
        self.has_begun = False
        self.has_text = False
        # true once `[DONE]` has arrived, the protocol's end of a stream
        self.is_done = False
        self._emit = emit
        self._is_empty = True
        self._ending = ""  # the finish reason, once received
        # true once text has arrived after a finish reason, which some gateways send early (open-webui #23921)
        self._is_early = False
        # true if the finish reason came with the first text, and nothing has confirmed it yet
        self.is_doubtful = False
        # true once text has come in a delta: a `message` beside it repeats the reply so far (Perplexity)
        self._has_deltas = False
        self._text, self._max_tokens = ReplyText(), max_tokens
        self._counts = Counter[str]()

    def read(self, chunk: object) -> bool:
        """Read a decoded chunk; return False if it contains nothing new, as a keep-alive does.

        Raise pydantic's ValidationError if it is malformed.
        """
        self._is_empty = False
        parsed = _Chunk.model_validate(chunk)
        known, self._counts = self._counts, self._counts | _counts(parsed)
        is_new, is_first = self._counts != known, not self.has_text
        if is_new and not parsed.choices:
            self.is_doubtful = False
        for listed_choice in parsed.choices or ():
            self._has_deltas |= _has_parts(listed_choice)
            choice = listed_choice if self._has_deltas else _with_delta(listed_choice)
            is_new |= _has_parts(choice)
            content = value_at(choice, "delta.content")
            # Mistral's reasoning models send a list
            listed = (value_at(part, "thinking") for part in _parts(content))
            thoughts = (*(_text(choice, path) for path in _THOUGHTS), "".join(map(_joined, listed)))
            if thought := next(filter(None, thoughts), ""):
                self._emit_thought(thought)
            # OpenAI streams a model's refusal to reply in a field of its own
            self._emit_parts(self._text.read(_joined(content) + _text(choice, "delta.refusal")))
            if reason := _reason(choice):
                is_new |= not self._ending
                self._ending = reason
                self.is_doubtful |= is_first and self.has_text
        return is_new

    @property
    def has_ended(self) -> bool:
        """True if the text is complete; only the usage may still be missing."""
        return self.has_text and bool(self._ending) and not self._is_early

    def finish(self) -> ModelFailure | None:
        """Finish the reply, once its stream has ended or its text is complete; return the reply's failure, if any."""
        if self._is_empty:  # no chunk arrived: the body may be a web page, for example
            return ModelFailure.GARBLED
        self.emit_pending()
        # some gateways never name a finish reason (alfredapp/openai-workflow #52)
        if not self._ending and not (self.is_done and self.has_text):
            return ModelFailure.DROPPED
        is_broken, is_filtered, is_limited = (
            any(part in self._ending for part in parts) for parts in (_BROKEN, _FILTERED, _LIMITED)
        )
        usage = _usage(self._counts, has_begun=self.has_begun)
        # some servers name the limit that they reached `stop` (vLLM behind some gateways)
        reply_tokens = max(self._counts["reply"], usage.reply if usage else 0)
        # by one more with the end; an endpoint that states far more tokens counts others
        is_capped = self._max_tokens > 0 and reply_tokens - self._max_tokens in {0, 1}
        if (is_limited or is_capped) and not is_broken and not is_filtered:
            self._emit(LimitReached())
        if usage:
            self._emit(usage)
        if is_broken:
            return ModelFailure.BROKEN
        if is_filtered:
            return ModelFailure.FILTERED if self.has_begun else ModelFailure.PROMPT_FILTERED
        return None

    def emit_pending(self) -> None:
        """Emit the text that waits because it may be the beginning of a mark: nothing follows it."""
        self._emit_parts(self._text.finish())

    def _emit_parts(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if not part.is_thought:
                self._emit_text(part.text)
            # a model that does not think may send nothing but line breaks between the marks
            elif thought := part.text if self.has_begun else part.text.lstrip():
                self._emit_thought(thought)

    def _emit_thought(self, thought: str) -> None:
        self.has_begun = True
        self._emit(Thought(thought))

    def _emit_text(self, text: str) -> None:
        self.has_begun = self.has_text = True
        self._is_early |= bool(self._ending)
        self._emit(text)


def _with_delta(choice: dict[str, object]) -> dict[str, object]:
    """Return *choice* with the message of a whole reply, if it has one, as its delta."""
    return choice | {"delta": choice["message"]} if "message" in choice else choice


def _reason(choice: dict[str, object]) -> str:
    """Return the finish reason in *choice*, in lower case and without punctuation; "" if it names none."""
    stated = choice.get("finish_reason")
    kind = value_at(stated, "type")  # SGLang
    named = str((kind if isinstance(stated, dict) else stated) or "")
    reason = "".join(filter(str.isalnum, named.casefold()))
    return "" if reason in _UNNAMED else reason


def _has_parts(choice: object) -> bool:
    """Return True if the delta of *choice* contains anything besides its role, even a part that is not read: a tool call."""
    delta = value_at(choice, "delta")
    parts = cast(dict[str, object], delta) if isinstance(delta, dict) else {}
    return any(part for name, part in parts.items() if name != "role")


def _text(node: object, path: str) -> str:
    value = value_at(node, path)
    return value if isinstance(value, str) else ""


def _parts(content: object) -> list[object]:
    return cast(list[object], content) if isinstance(content, list) else [content]


def _joined(content: object) -> str:
    """Return the text of *content*: a text, a part with one, or a list of such."""
    texts = (
        part if isinstance(part, str) else _text(part, "text") or _text(part, "refusal")
        for part in _parts(content)
    )
    return "".join(texts)


def _counts(chunk: _Chunk) -> Counter[str]:
    """Return the counts in *chunk*; the union (`|`) of the counts of all chunks contains the maximum of each count.

    Most endpoints send counts once, in a last chunk without choices; vLLM (#7262) and others send running
    counts in every chunk, and some send zeros last (llmio #71). Moonshot sends counts in a choice (go-moonshot
    #17), and Groq has sent counts in a separate field (vercel/ai #1651). llama.cpp's timings come with or without counts;
    servers built on llama.cpp have left cached tokens out of the prompt's count (ollama #5370, #16428).
    """
    counts = Counter[str]()
    in_choices = (value_at(choice, "usage") for choice in chunk.choices or ())
    for usage in (chunk.usage, value_at(chunk.x_groq, "usage"), *in_choices):
        counts |= Counter(
            prompt=_count(usage, "prompt_tokens") or 0,
            reply=_count(usage, "completion_tokens") or 0,
            total=_count(usage, "total_tokens") or 0,
            thoughts=_count(usage, "completion_tokens_details.reasoning_tokens") or 0,
            cached=max(_count(usage, path) or 0 for path in _CACHED),
            written=_count(usage, "cache_creation_input_tokens") or 0,
        )
    read, cached = _count(chunk.timings, "prompt_n"), _count(chunk.timings, "cache_n")
    if read is not None and cached is not None:  # `prompt_n` excludes cached tokens
        reply = _count(chunk.timings, "predicted_n") or 0
        counts |= Counter(prompt=read + cached, reply=reply, cached=cached)
    return counts


def _count(node: object, path: str) -> int | None:
    """Return the count at *path*; None if the count is missing or impossible: a wrong count must not make a reply fail."""
    value = value_at(node, path)
    if isinstance(value, int | float) and 0 <= value <= _MOST_TOKENS:
        return int(value)
    return None


def _usage(counts: Counter[str], *, has_begun: bool) -> Usage | None:
    """Return the usage, with each token counted only once; None if the endpoint sent no usage, or an inconsistent one."""
    prompt, reply, total = counts["prompt"], counts["reply"], counts["total"]
    cached, thoughts = counts["cached"], counts["thoughts"]
    if not prompt:
        return None
    # OpenAI, DeepSeek, Moonshot and LiteLLM count cached tokens as part of the prompt; Anthropic, and
    # gateways that pass on its numbers, count them separately (openinference #1429, context-lens #51)
    beside = cached + counts["written"]
    if beside > prompt or total - prompt - reply == beside != thoughts:
        prompt += beside
    # thoughts count as part of the reply, but xAI and Gemini state them only in a separate count and in the total
    # (vercel/ai #12425, crewAI #5699)
    reply = max(reply, total - prompt)
    if thoughts > reply:
        reply += thoughts
    if has_begun and not reply:
        return None
    return Usage(prompt=prompt, reply=reply, cached=cached, thoughts=thoughts)
