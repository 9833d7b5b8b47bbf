"""Parsers of the limits and prices that endpoints state, in a list of models and in error messages. No I/O."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import ceil
from typing import cast

from services.domain.context import ContextBudget

_LEAST_CONTEXT, _LEAST_REPLY = 512, 16  # minimum tokens; a smaller stated value is ignored
_MOST_TOKENS = 1 << 24
_MOST_DOLLARS = Decimal("0.01")  # the highest plausible price of a token
_MILLION = 1_000_000
LONGEST_ERROR = 10_000  # characters; a longer error message probably quotes the request

# Fields that state the context window in model lists of vLLM, LM Studio, llama.cpp, LiteLLM, Anthropic, OpenRouter,
# Groq and Mistral. The window of a loaded model takes precedence over the model's maximum.
_CONTEXT = (
    "loaded_context_length",
    "meta.n_ctx",
    "max_model_len",
    "max_input_tokens",
    "top_provider.context_length",
    "context_length",
    "context_window",
    "max_context_length",
    "meta.n_ctx_train",
)
_REPLY = ("max_output_tokens", "max_completion_tokens", "top_provider.max_completion_tokens")
# fields of a model list that state a price in dollars per token: LiteLLM's, then OpenRouter's
_INPUT_PRICE = ("input_cost_per_token", "pricing.prompt")
_OUTPUT_PRICE = ("output_cost_per_token", "pricing.completion")
_CACHED_PRICE = ("cache_read_input_token_cost", "pricing.input_cache_read")

# matches a number in digits that counts tokens, and no other unit
_NUMBER = (
    r"[`'\"(]{0,2}(\d+)(?!\d)(?=[ -](?:(?:input|output|completion|new|prompt|context) )?tokens?\b|[.,;:!?)\]}'\"`]|\s*$|\n| [\[(]"
    r"| (?:for|but|and|when|with|while|in|on|you|your|the|this|per|got|instead|max|maximum|limit|allowed|at|to|by|as|not)\b)"
)
# matches the name of the reply limit in any spelling ("max_tokens", "maxOutputTokens", "maximum completion tokens")
LIMIT_NAME = r"max(?:imum)?[ _]?(?:(?:new|completion|output|response|reply)[ _]?)?tokens(?![a-z_])"
# matches what is between a limit's name and a verb: not the name of the other limit
_OF_PROMPT = r"(?:(?!max[ _]?(?:imum)?[ _]?[a-z]*[ _]?tokens|completion|output).){0,60}?"
_OF_REPLY = r"(?:(?!context|prompt|input(?! should)|messages|[_-]tokens).){0,99}?"
_ABOVE = r"(?:exceed(?:s|ed|ing)?|(?:long|larg|great|high|bigg)er than|more than|over|above|>)"
_LIMIT_WORDS = (
    "the|a|an|your|this|our|model(?:'s)?|configured|supported|available|allowed|maximum|max|upper|tokens?|length|size|limit"
    "|count|number|value|of|is|only"
)
_CONTEXT_WORDS = rf"(?:,? (?:{_LIMIT_WORDS}|context|window|input|prompt)\b:?){{0,9}}"
_REPLY_WORDS = rf"(?:,? (?:{_LIMIT_WORDS}|output|completion)\b:?){{0,9}}"
# matches the size of the context window in an endpoint's error about a prompt that is too long. In the order of the
# pattern: OpenAI, vLLM, DeepSeek, OpenRouter and SGLang; Mistral; Anthropic; llama-cpp-python; llama.cpp; Kimi; LM Studio;
# SGLang (another wording); xAI; Cerebras; GitHub Models; TGI (two wordings); Gemini; gateways;
# newer vLLM; DashScope; vLLM; Cohere; all others
_NAMED_CONTEXT = re.compile(
    r"maximum context length (?:is|of) (\d+)|(?<!\d)(\d+) maximum context length|context limit: \d+ \+ \d+ > (\d+)"
    r"|prompt is too long: \d+ tokens > (\d+)|context window (?:of|limit) \(?(\d+)|n_ctx\W{1,3}(\d+)"
    r"|model token limit ?: ?(\d+)|context length of only (\d+)|model's context length \((\d+)"
    r"|maximum prompt length is (\d+)|while limit is (\d+)|Max size: (\d+) tokens"
    r"|\+ `max_new_tokens` must be <= (\d+)|`inputs` must have less than (\d+) tokens"
    r"|maximum number of tokens allowed \((\d+)\)|maximum (?:input|prompt) (?:length|tokens) (?:is|of) (\d+)"
    r"|context length is only (\d+)|range of input length should be \[\d+, ?(\d+)\]"
    r"|requested \d+ tokens,? (?:but )?(?:the )?limit is (\d+)|only supports (\d+) tokens|max_model_len \(?(\d+)"
    r"|maximum model length of (\d+)|prompt cannot exceed (\d+)"
    rf"|max(?:imum)? (?:context|prompt|input|sequence)(?: (?:window|length|size|limit|tokens))?(?: allowed)?(?: is| of|:) ?{_NUMBER}"
    rf"|\b(?:prompt|input|request|messages?|conversation|chat|context|(?<!max )(?<!maximum )(?<!output )tokens)\b"
    rf"{_OF_PROMPT}{_ABOVE}{_CONTEXT_WORDS} ?{_NUMBER}",
    re.IGNORECASE,
)
# matches the maximum length of a reply in an endpoint's error: OpenAI; Bedrock; OpenAI's, Anthropic's, Groq's, DeepSeek's,
# Volcengine's, TGI's, DashScope's, Zhipu's, Mistral's and FastAPI's words about the limit's name; Gemini. A named group is a
# limit that is not allowed itself
_NAMED_REPLY = re.compile(
    r"at most (\d+) (?:completion|output|new|generated) tokens"
    rf"|maximum (?:allowed )?(?:value (?:for|of) )?.?{LIMIT_NAME}.? is {_NUMBER}|output token limit (?:is|of) {_NUMBER}"
    rf"|(?<!\+ )(?<!\+ `)\b{LIMIT_NAME}.{{0,20}}?\d+ > (\d+)"
    rf"|(?<!\+ )(?<!\+ `)\b{LIMIT_NAME}{_OF_REPLY}(?:"
    r"(?:less|lower|smaller) than (?P<below>\d+)|to (?P<to>\d+) \(exclusive\)|to (\d+) \(inclusive\)"
    r"|(\d+) or (?:less|lower|fewer)|[\[(]\d+, ?(\d+)\]|[\[(]\d+, ?(?P<open>\d+)\)|between \d+ and "
    rf"{_NUMBER}|(?:(?:less|lower|smaller) than or equal to|at most|up to|<=|≤|no (?:more|greater|larger|higher) than"
    r"|(?:not|n't) (?:be )?(?:exceed|(?:great|larg|high)er than|more than|above)|limited to|only supports"
    rf"|(?<!context )limit(?: for (?:this|the) model)?(?: is| of|:)|range \d+ ?(?:-|to) ?|\(max(?:imum)?:?|max(?:imum)?(?: allowed)?(?: value)?(?: is| of|:)|{_ABOVE}){_REPLY_WORDS} ?{_NUMBER})",
    re.IGNORECASE,
)
# matches the exact number of prompt tokens in an endpoint's error: OpenAI, DeepSeek; old OpenAI; vLLM; OpenRouter;
# Anthropic; Mistral; SGLang (two wordings); xAI; TGI; llama.cpp. A newer vLLM states only a minimum ("at least"), which does
# not match
_NAMED_PROMPT = re.compile(
    r"\((\d+) in the messages|\((\d+) in your prompt|your request has (\d+) input tokens"
    r"|\((\d+) of text input|context limit: (\d+) \+|Prompt contains (\d+) tokens"
    r"|tokens: (\d+) tokens from the input|The input \((\d+) tokens|the request contains (\d+) tokens"
    r"|`inputs` must have less than \d+ tokens\. Given: (\d+)|Given: (\d+) `inputs` tokens"
    r"|You passed (\d+) input tokens|prompt is too long: (\d+) tokens|n_prompt_tokens\W{1,3}(\d+)"
    r"|messages resulted in (\d+) tokens|\brequest \((\d+) tokens\)|prompt \((?:length )?(\d+)",
    re.IGNORECASE,
)
# matches errors of Groq and OpenAI about a request whose prompt and longest reply together exceed the tokens per minute. A
# request that would fit later is refused with "Limit 12000, Used 9000, Requested 4000", which does not match
_TOKENS_PER_MINUTE = re.compile(r"\(TPM\): Limit (\d{1,9}), Requested (\d{1,9})\b", re.IGNORECASE)
# matches the words of a rate, whose numbers are no limits of the model
_RATE = re.compile(
    r"\bper[ -]?(?:second|min|minute|hour|day)\b|\b[rt]p[smd]\b|\brate[ _-]?limit", re.IGNORECASE
)
# matches digits in groups of three, but not the ends of a range ("[1,512]")
_GROUPED = re.compile(r"(?<![\d,.\[])\d{1,3}(?:,\d{3})+(?![\d\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Limits and prices that the settings or an endpoint state; None if not stated.

    Prices are in micro-dollars per million tokens.
    """

    context_tokens: int | None = None
    reply_tokens: int | None = None
    input_micro: int | None = None
    output_micro: int | None = None
    cached_input_micro: int | None = None
    is_reasoning: bool = False


def read_models(document: object, name: str) -> ModelSpec:
    """Return the limits and prices of the model *name* from a decoded list of models.

    If the list has only one entry, its values are returned whatever its name. The prices of input and output are ignored
    unless both are stated.
    """
    entries = listed_models(document)
    named = [entry for entry in entries if value_at(entry, "id") == name]
    # a single entry applies whatever its name, because a llama.cpp server accepts any model name
    if not named and len(entries) != 1:
        return ModelSpec()
    entry = (named or entries)[0]
    input_micro, output_micro, cached_micro = (
        _price(entry, paths) for paths in (_INPUT_PRICE, _OUTPUT_PRICE, _CACHED_PRICE)
    )
    is_priced = input_micro is not None and output_micro is not None
    supported = value_at(entry, "supported_parameters")
    return ModelSpec(
        context_tokens=_tokens(entry, _CONTEXT, _LEAST_CONTEXT),
        reply_tokens=_tokens(entry, _REPLY, _LEAST_REPLY),
        input_micro=input_micro if is_priced else None,
        output_micro=output_micro if is_priced else None,
        cached_input_micro=cached_micro if is_priced else None,
        is_reasoning=isinstance(supported, list) and "reasoning" in supported,
    )


def listed_models(document: object) -> list[object]:
    """Return the entries of a decoded list of models, with or without an object around it; none if it is malformed."""
    return list_of(value_at(document, "data") or document)


def list_of(value: object) -> list[object]:
    """Return *value*, a part of decoded JSON, if it is a list; else none."""
    return cast(list[object], value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRefusal:
    """The limits that a refused request exceeded, and the endpoint's counts of the prompt's tokens and of excess tokens."""

    context_tokens: int | None = None
    reply_tokens: int | None = None
    prompt_tokens: int | None = None
    # the request's tokens above the limit per minute; the limit itself depends on the account, and is not stored
    excess_tokens: int = 0

    @property
    def is_total_exceeded(self) -> bool:
        """True if the prompt and the reply together exceeded a limit."""
        return bool(self.context_tokens or self.excess_tokens)

    def reply_within(self, max_tokens: int) -> int:
        """Return the length, up to *max_tokens*, of the longest reply that the limits allow; below 1 if there is no room.

        If the endpoint did not state the prompt's tokens, assume that the prompt leaves only the minimum for the reply.
        """
        allowed = [max_tokens - self.excess_tokens, self.reply_tokens or max_tokens]
        if self.context_tokens and self.prompt_tokens:
            allowed.append(self.context_tokens - self.prompt_tokens)
        elif self.context_tokens:
            allowed.append(ContextBudget(self.context_tokens, max_tokens).min_reply_tokens)
        return min(allowed)


def read_limits(message: str, sent: str = "") -> LimitRefusal:
    """Return the limits that the error *message* names, without numbers that stand in *sent*, the request's `normalized` texts.

    None if the text is too long to be only an error message.
    """
    if len(message) > LONGEST_ERROR:
        return LimitRefusal()
    message, sent = _ungrouped(message), re.sub(r"(?<=\d),(?=\d)", "", sent)
    minute = _TOKENS_PER_MINUTE.search(message)
    excess = max(int(minute[2]) - int(minute[1]), 0) if minute else 0
    if _RATE.search(message):
        return LimitRefusal(excess_tokens=excess)
    return LimitRefusal(
        context_tokens=_named(message, _NAMED_CONTEXT, _LEAST_CONTEXT, sent),
        reply_tokens=_named(message, _NAMED_REPLY, _LEAST_REPLY, sent),
        prompt_tokens=_named(message, _NAMED_PROMPT, 1, ""),
        excess_tokens=excess,
    )


def first_unquoted(pattern: re.Pattern[str], message: str, sent: str) -> re.Match[str] | None:
    """Return the first match of *pattern* in *message* that does not also stand in *sent*, the request's `normalized` texts."""
    matches = pattern.finditer(message)
    return next((found for found in matches if normalized(found[0]) not in sent), None)


def normalized(text: str) -> str:
    """Return *text* in lower case, with one blank in place of all white space, and numbers without commas."""
    return _ungrouped(" ".join(text.casefold().split()))


def _ungrouped(text: str) -> str:
    return _GROUPED.sub(lambda found: found[0].replace(",", ""), text)


def _named(message: str, pattern: re.Pattern[str], least: int, sent: str) -> int | None:
    """Return the first plausible number of tokens that *pattern* finds, and that *sent* does not contain."""
    for found in pattern.finditer(message):
        digits = found[found.lastindex or 0]
        # `int` refuses thousands of digits
        tokens = int(digits) if len(digits) < 10 and digits not in sent else 0
        tokens -= found.lastgroup is not None  # a limit that is not allowed itself
        if least <= tokens <= _MOST_TOKENS:
            return tokens
    return None


def value_at(node: object, path: str) -> object:
    """Return the value at a dotted *path* in decoded JSON, or None."""
    for name in path.split("."):
        node = cast(Mapping[str, object], node).get(name) if isinstance(node, dict) else None
    return node


def _tokens(entry: object, paths: Sequence[str], least: int) -> int | None:
    """Return the first plausible token count at one of *paths*."""
    values = (value_at(entry, path) for path in paths)
    return next((v for v in values if type(v) is int and least <= v <= _MOST_TOKENS), None)


def _price(entry: object, paths: Sequence[str]) -> int | None:
    """Return the first plausible price at one of *paths* (dollars per token), as micro-dollars per million tokens."""
    for path in paths:
        with suppress(InvalidOperation):
            dollars = Decimal(str(value_at(entry, path)))
            if dollars.is_finite() and 0 <= dollars <= _MOST_DOLLARS:
                return ceil(dollars * _MILLION * _MILLION)
    return None
