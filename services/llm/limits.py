"""The context window and the longest reply of a model, and who says so. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

from services.llm.stated import Stated

_GUESSED_CONTEXT_TOKENS = 32_768
_GUESSED_REPLY_TOKENS, _GUESSED_REASONING_TOKENS = 8_192, 32_768
# More than the text of one message can hold (200,000 bytes); a reservation of more blocks other chats.
_MOST_REPLY_TOKENS = 65_536


class LimitSource(StrEnum):
    """The source of a limit; the first in this order that states one holds."""

    SETTING = "setting"
    ENDPOINT = "endpoint"
    LISTED = "listed"  # genai-prices
    TABLE = "table"  # `_KNOWN`
    GUESS = "guess"


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of tokens, and where it comes from."""

    tokens: int
    source: LimitSource


@dataclass(frozen=True, slots=True)
class Limits:
    """The token limits of one call of a model."""

    context: Limit
    reply: Limit
    is_reasoning: bool  # it thinks before it answers, which counts as reply


@dataclass(frozen=True, slots=True)
class _Known:
    """A row of the table: the models whose names match, without the part before the last slash."""

    name: re.Pattern[str]
    reply_tokens: int | None
    is_reasoning: bool = False
    context_tokens: int | None = None  # only where genai-prices has none


def find_limits(
    name: str, setting: Stated, endpoint: Stated, listed_context_tokens: int | None
) -> Limits:
    """The limits of the model *name*.

    A reply of the settings, which may be meant for other models too, is passed over where it fills the window.
    """
    known = next((row for row in _KNOWN if row.name.match(name.rpartition("/")[2])), _UNKNOWN)
    window = _first(
        (setting.context_tokens, LimitSource.SETTING),
        (endpoint.context_tokens, LimitSource.ENDPOINT),
        (listed_context_tokens, LimitSource.LISTED),
        (known.context_tokens, LimitSource.TABLE),
        guess=_GUESSED_CONTEXT_TOKENS,
    )
    is_reasoning = known.is_reasoning or endpoint.is_reasoning
    if setting.reply_tokens and setting.reply_tokens < window.tokens:
        return Limits(window, Limit(setting.reply_tokens, LimitSource.SETTING), is_reasoning)
    reply = _first(
        (endpoint.reply_tokens, LimitSource.ENDPOINT),
        (known.reply_tokens, LimitSource.TABLE),
        guess=_GUESSED_REASONING_TOKENS if is_reasoning else _GUESSED_REPLY_TOKENS,
    )
    longest = min(reply.tokens, window.tokens, _MOST_REPLY_TOKENS)
    return Limits(window, Limit(longest, reply.source), is_reasoning)


def _first(*stated: tuple[int | None, LimitSource], guess: int) -> Limit:
    found = (Limit(tokens, source) for tokens, source in stated if tokens)
    return next(found, Limit(guess, LimitSource.GUESS))


def _known(
    name: str,
    reply_tokens: int | None,
    *,
    is_reasoning: bool = False,
    context_tokens: int | None = None,
) -> _Known:
    return _Known(re.compile(name, re.IGNORECASE), reply_tokens, is_reasoning, context_tokens)


_UNKNOWN = _known("", None)
# The first row that matches holds. OpenAI to Gemini 3, Kimi: LiteLLM's list of models, 2026-07.
_KNOWN = (
    _known(r"gpt-5[\d.]*-chat", 16_384),
    _known(r"gpt-5", 128_000, is_reasoning=True),
    # the gateway pages of Vercel, 2026-11
    _known(r"gpt-6", 128_000, is_reasoning=True, context_tokens=1_050_000),
    _known(r"gpt-4\.1", 32_768),
    _known(r"gpt-4o-2024-05-13", 4_096),
    _known(r"(gpt|chatgpt)-4o", 16_384),
    _known(r"gpt-(4|3\.5)", 4_096),
    _known(r"o[134](-mini|-pro)?(-20\d\d|$)", 100_000, is_reasoning=True),
    _known(r"gpt-oss", None, is_reasoning=True),
    _known(r"claude-3-(haiku|opus)", 4_096),
    _known(r"claude-3[.-]5-", 8_192),  # Anthropic raised it in 2024-07
    _known(r"claude-3[.-]7-", 64_000, is_reasoning=True),
    _known(r"claude-(4-opus|opus-4(-20\d\d|[.-][01]|$))", 32_000, is_reasoning=True),
    _known(r"claude-(4-sonnet|sonnet-4|haiku-4|opus-4[.-]5)", 64_000, is_reasoning=True),
    _known(r"claude-opus-4", 128_000, is_reasoning=True),
    # Anthropic's page of models, 2026-11
    _known(r"claude-[a-z]+-5", 128_000, is_reasoning=True, context_tokens=1_000_000),
    _known(r"gemini-(1\.5|2\.0)", 8_192),
    _known(r"gemini-(2\.5|3)", 65_535, is_reasoning=True, context_tokens=1_048_576),
    # Google's page of Gemini 4, 2026-11: the window is input and output
    _known(r"gemini-4", None, is_reasoning=True, context_tokens=1_048_576),
    _known(r"deepseek-chat", 8_192),
    _known(r"deepseek-reasoner", 65_536, is_reasoning=True),
    _known(r"deepseek-r1", None, is_reasoning=True),
    _known(r"kimi-k2\.[56]", 131_072, is_reasoning=True),
    _known(r"kimi-k(2-thinking|3)", None, is_reasoning=True),
    _known(r"glm-(4\.[5-9]|5)", None, is_reasoning=True),  # the gateway pages of Vercel, 2026-11
    _known(r"grok-(3-mini|4)", None, is_reasoning=True),
    _known(r"qwen3(?!.*(instruct|coder))", None, is_reasoning=True),  # its page at Ollama, 2025-05
    _known(r"(qwq|magistral)", None, is_reasoning=True),
)
