"""Facts about models that the price list lacks: reply limit, reasoning, and some context windows. No I/O."""

import re
from dataclasses import dataclass

from services.llm.model_spec import ModelSpec


@dataclass(frozen=True, slots=True)
class _Model(ModelSpec):
    """The limits of all models whose name, after its last slash, matches the regular expression *name*."""

    name: str


def find_known(name: str) -> ModelSpec:
    """Return the limits in the first row of `_KNOWN` that matches *name*; an empty spec if none does."""
    short = name.rpartition("/")[2]
    rows = (row for row in _KNOWN if re.match(row.name, short, re.IGNORECASE))
    return next(rows, ModelSpec())


# The first row that matches a model's name applies. Unless a comment names another source, the rows down to Gemini 3,
# and the rows of Kimi, come from LiteLLM's list of 2026-07.
_KNOWN: tuple[_Model, ...] = (
    _Model(r"gpt-5[\d.]*-chat", reply_tokens=16_384),
    _Model(r"gpt-5", reply_tokens=128_000, is_reasoning=True),
    # source: Vercel's gateway pages, 2026-11
    _Model(r"gpt-6", reply_tokens=128_000, is_reasoning=True, context_tokens=1_050_000),
    _Model(r"gpt-4\.1", reply_tokens=32_768),
    _Model(r"gpt-4o-2024-05-13", reply_tokens=4_096),
    _Model(r"(gpt|chatgpt)-4o", reply_tokens=16_384),
    _Model(r"gpt-(4|3\.5)", reply_tokens=4_096),
    _Model(r"o[134](-mini|-pro)?(-20\d\d|$)", reply_tokens=100_000, is_reasoning=True),
    _Model(r"gpt-oss", is_reasoning=True),
    _Model(r"claude-3-(haiku|opus)", reply_tokens=4_096),
    _Model(r"claude-3[.-]5-", reply_tokens=8_192),  # Anthropic raised this limit in 2024-07
    _Model(r"claude-3[.-]7-", reply_tokens=64_000, is_reasoning=True),
    _Model(r"claude-(4-opus|opus-4(-20\d\d|[.-][01]|$))", reply_tokens=32_000, is_reasoning=True),
    _Model(
        r"claude-(4-sonnet|sonnet-4|haiku-4|opus-4[.-]5)", reply_tokens=64_000, is_reasoning=True
    ),
    _Model(r"claude-opus-4", reply_tokens=128_000, is_reasoning=True),
    # source: Anthropic's models page, 2026-11
    _Model(r"claude-[a-z]+-5", reply_tokens=128_000, is_reasoning=True, context_tokens=1_000_000),
    _Model(r"gemini-(1\.5|2\.0)", reply_tokens=8_192),
    _Model(r"gemini-(2\.5|3)", reply_tokens=65_535, is_reasoning=True, context_tokens=1_048_576),
    # source: Google's Gemini 4 page, 2026-11; the context window holds input and output
    _Model(r"gemini-4", is_reasoning=True, context_tokens=1_048_576),
    _Model(r"deepseek-chat", reply_tokens=8_192),
    _Model(r"deepseek-reasoner", reply_tokens=65_536, is_reasoning=True),
    _Model(r"deepseek-r1", is_reasoning=True),
    _Model(r"kimi-k2\.[56]", reply_tokens=131_072, is_reasoning=True),
    _Model(r"kimi-k(2-thinking|3)", is_reasoning=True),
    _Model(r"glm-(4\.[5-9]|5)", is_reasoning=True),  # source: Vercel's gateway pages, 2026-11
    _Model(r"grok-(3-mini|4)", is_reasoning=True),
    # source: Ollama's page about the model, 2025-05
    _Model(r"qwen3(?!.*(instruct|coder))", is_reasoning=True),
    _Model(r"(qwq|magistral)", is_reasoning=True),
)
