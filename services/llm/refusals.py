"""What an endpoint answers in place of a reply: it is read once, and names the failure and how to ask once more. No I/O."""

import json
import re
from collections.abc import Collection, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

from services.domain.model_failures import ModelFailure
from services.llm.model_spec import LimitRefusal, first_unquoted, read_limits

_LONGEST_TEXT = 10_000  # characters; a longer error message probably quotes the request
_DEEPEST = 6  # levels of JSON, for example of an error within the metadata of a gateway's error
_STATUSES = {str(status) for status in range(400, 600)}  # HTTP statuses of errors
# HTTP statuses of requests that are refused for what they ask; 0: an event that names no status; 429 may mean that a request
# has more tokens than are allowed per minute
_OF_REQUEST = {0, 400, 404, 413, 422, 429}
_SHORTENED_TOKENS = (
    1_024  # the reply limit of the second request after a refused limit without a number
)

NEWER_LIMIT = "max_completion_tokens"
STREAM_OPTIONS = "stream_options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error that an endpoint sent: its HTTP status (0: none), and the code, type and parameter that it names.

    *text*: its fields as `name: value` lines, without fields that contain lists, because they may quote the request.
    """

    status: int = 0
    code: str = field(default="", repr=False)
    type: str = field(default="", repr=False)
    parameter: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    # the texts of the request: words that the error merely quotes say nothing about the endpoint
    sent: str = field(default="", repr=False)

    @property
    def failure(self) -> ModelFailure:
        """The first failure in `RULES` whose rule matches."""
        names = {self.code.casefold(), self.type.casefold()}
        for rule in RULES:
            if rule.statuses and self.status not in rule.statuses:
                continue
            if rule.is_for_all or names & rule.codes or (rule.words and self.says(rule.words)):
                return rule.failure
            if rule.failure is ModelFailure.TOO_LONG and self._is_too_long:
                return rule.failure
        return ModelFailure.REJECTED

    @property
    def limits(self) -> LimitRefusal:
        """The limits that the request exceeded, as far as the error states them."""
        if self.status not in _OF_REQUEST:
            return LimitRefusal()
        return read_limits(self.text, self.sent)

    @property
    def affordable_tokens(self) -> int:
        """The longest reply that the account's credit allows, in tokens; 0 if the error states none."""
        found = _AFFORDABLE.search(self.text) if self.status == 402 else None
        return int(found[1]) if found else 0

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Return True if *pattern* occurs in the text outside of what it quotes from the request."""
        return first_unquoted(pattern, self.text, self.sent) is not None

    @property
    def _is_too_long(self) -> bool:
        return bool(self.limits.context_tokens or self.limits.excess_tokens)


@dataclass(frozen=True, slots=True, repr=False)
class _Rule:
    """A *failure*, and the statuses, codes, types and words by which it is known; no statuses: any."""

    failure: ModelFailure
    codes: Set[str] = frozenset()
    words: re.Pattern[str] | None = None
    statuses: Collection[int] = ()
    is_for_all: bool = False  # the statuses are enough


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# In the order in which they are tried: endpoints use one status for many reasons. Sources: the error pages of OpenAI, Azure,
# Anthropic, Gemini, OpenRouter, LiteLLM, DeepSeek, DashScope, Mistral, Groq, vLLM, llama.cpp, LM Studio, Ollama
RULES = (
    _Rule(
        ModelFailure.BUDGET,
        {"budget_exceeded", "budget_exceeded_error", "exceededbudget"},
        _words(r"budget (?:has been |was )?exceeded", r"exceeded.{0,20} budget", r"over budget"),
    ),
    _Rule(ModelFailure.NO_CREDIT, statuses={402}, is_for_all=True),
    _Rule(
        ModelFailure.NO_CREDIT,
        {"insufficient_quota", "insufficient_credits", "insufficient_balance", "arrearage"}
        | {"billing_not_active", "billing_hard_limit_reached", "payment_required"},
        _words(
            r"insufficient (?:credit|balance|funds)",
            r"credit balance is too low",
            r"(?:out of|no|not enough|requires? more) credits?\b",
            r"account is (?:in arrears|overdue|not active)",
        ),
    ),
    _Rule(
        ModelFailure.PROMPT_FILTERED,
        {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
        | {"data_inspection_failed", "moderation_blocked", "prohibited_content"},
        _words(
            r"content (?:management|moderation|usage|safety) (?:polic|system)",
            r"content[ _-]?filter",
            r"(?:input|prompt|request|message)s? (?:was|were|is|has been) (?:flagged|blocked)",
            r"inappropriate content|prohibited content|safety (?:system|polic)",
        ),
        {0, 400, 403, 422, 451},
    ),
    _Rule(
        ModelFailure.TOO_LONG,
        {"context_length_exceeded"},
        _words(
            r"context.?(?:length|window|size)",
            r"(?:prompt|input)\b.{0,60}\b(?:too long|exceeds)",
            r"(?:prompt|input|request|messages?) (?:is |are )?too long",
        ),
        _OF_REQUEST - {404, 429},
    ),
    _Rule(ModelFailure.TOO_LONG, statuses={429}),  # more tokens than are allowed per minute
    _Rule(ModelFailure.BUSY, {"rate_limit_exceeded", "rate_limit_error"}, statuses={0}),
    _Rule(ModelFailure.BUSY, statuses={429}, is_for_all=True),
    _Rule(
        ModelFailure.NO_MODEL,
        {"model_not_found", "modelnotfound", "deploymentnotfound", "invalid_model"},
        _words(
            r"\bmodel\b.{0,80}(?:not found|does ?n.?t exist|not exist|unknown|is not available)",
            r"(?:no such|unknown|invalid|not a valid) model|no endpoints found",
        ),
        {0, 400, 404, 422},
    ),
    _Rule(ModelFailure.UNAUTHORIZED, statuses={401, 403}, is_for_all=True),
    _Rule(
        ModelFailure.UNAUTHORIZED,
        {"invalid_api_key", "authentication_error", "permission_denied"},
        _words(
            r"(?:invalid|incorrect|wrong|missing|bad).{0,10}api.?key|api.?key (?:is )?(?:not |in)valid"
        ),
        {0, 400},
    ),
    _Rule(ModelFailure.BROKEN, statuses={0, *range(500, 600)}, is_for_all=True),
)

# matches the reply that an account can pay for: OpenRouter
_AFFORDABLE = re.compile(r"can only afford (\d{1,8})\b", re.IGNORECASE)
# a refused reply limit without a number that would be allowed
_REPLY_TOO_LONG = _words(
    r"max(?:imum)?_?(?:new_|completion_|output_)?tokens\b.{0,80}"
    r"(?:too (?:large|high|big|many|long)|exceed|greater than|above|out of range|invalid)"
)
# OpenAI's reasoning models, Mistral, gateways without streaming; `stream_options` is another parameter
_NO_STREAM = _words(
    r"\bstream(?:ing)?\b.{0,60}(?:not (?:be )?(?:support|allow|available|enabled)|unsupported|disabled|n't support|must be false)",
    r"(?:not support|unsupported|n't support|not allow|disabled)\w*.{0,40}\bstream(?:ing)?\b",
)
# templates of Gemma and Mistral in vLLM and llama.cpp; Gemma behind Gemini's API
_NO_SYSTEM = _words(
    r"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b.{0,60}(?:not (?:be )?(?:support|allow|enabled|available)|n't support|unsupported)",
    r"(?:not support|unsupported|n't support|not allow)\w*.{0,60}\b(?:system|developer) (?:role|message|prompt|instruction)",
    r"\brole\b.{0,40}\bsystem\b.{0,40}(?:not (?:support|allow)|unsupported|invalid)",
    r"roles must alternate",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """The form in which a model takes requests, as far as its refusals have shown."""

    is_streamed: bool = True
    has_system: bool = True
    # NEWER_LIMIT if the endpoint asks for this name of the reply limit, STREAM_OPTIONS if it refuses this parameter
    refused: frozenset[str] = field(default=frozenset(), repr=False)

    def after(self, refusal: Refusal) -> "RequestForm":
        """Return the form to which *refusal* leads; this form if the refusal has another reason."""
        if refusal.status not in _OF_REQUEST - {413, 429}:
            return self
        named = {name for name in (NEWER_LIMIT, STREAM_OPTIONS) if refusal.says(re.compile(name))}
        if more := named - self.refused:
            return replace(self, refused=self.refused | more)
        if self.is_streamed and (refusal.parameter == "stream" or refusal.says(_NO_STREAM)):
            return replace(self, is_streamed=False)
        if self.has_system and refusal.says(_NO_SYSTEM):
            return replace(self, has_system=False)
        return self


def shorter_reply(refusal: Refusal, max_tokens: int, *, is_second: bool = False) -> int:
    """Return the reply limit, in tokens, of the next request; *max_tokens* if *refusal* has another reason.

    *is_second*: a quarter of the limit was refused, too. An error that states no number leads to a quarter of the limit,
    then to 1,024 tokens.
    """
    if 0 < refusal.affordable_tokens < max_tokens:
        return refusal.affordable_tokens
    limits = refusal.limits
    if 0 < (within := limits.reply_within(max_tokens)) < max_tokens:
        return within
    has_number = limits.reply_tokens or limits.context_tokens or limits.excess_tokens
    if has_number or refusal.status not in _OF_REQUEST or not refusal.says(_REPLY_TOO_LONG):
        return max_tokens
    return min(max_tokens, _SHORTENED_TOKENS) if is_second else max(max_tokens // 4, 1)


def read_refusal(status: int, body: object, sent: str) -> Refusal:
    """Return what the decoded *body* of an answer with the HTTP *status* says (200: of an event); *sent*: the request's texts."""
    fields = list(_fields(body))
    named = {name: str(value) for name, value in reversed(fields)}
    code = named.get("code") or named.get("error_code") or ""
    if status == 200:  # an event may name a status as its code
        stated = next(filter(str.isdecimal, (named.get("status", ""), code)), "0")
        status = int(stated) if stated in _STATUSES else 0
    text = "\n".join(f"{name}: {value}" for name, value in fields)
    return Refusal(
        status=status,
        code=code,
        type=named.get("type", ""),
        parameter=named.get("param", ""),
        text=text if len(text) <= _LONGEST_TEXT else "",
        sent=sent,
    )


def is_refusal(event: object) -> bool:
    """Return True if the decoded *event* of a stream is an error: under `error`, or as the event itself."""
    if not isinstance(event, dict):
        return False
    found = cast(dict[str, object], event)
    return (
        bool(found.get("error")) or found.get("object") == "error" or found.get("type") == "error"
    )


def _fields(node: object, depth: int = 0) -> Iterator[tuple[str, str | int]]:
    """Yield the names and values of an error's texts and numbers, those of errors within it last.

    Lists are left out, except a list of errors around the first one (Gemini).
    """
    if depth == 0 and isinstance(node, list):
        node = next(iter(cast(list[object], node)), None)
    if isinstance(node, str):
        yield "", node
    if not isinstance(node, dict) or depth > _DEEPEST:
        return
    within: list[object] = []
    for name, value in cast(dict[str, object], node).items():
        # the answer of a provider may be a text within that of a gateway: OpenRouter's `metadata.raw`
        inner = _decoded(value) if isinstance(value, str) else value
        if isinstance(inner, dict):
            within.append(cast(object, inner))
        elif isinstance(value, str | int):
            yield name, value
    for inner in within:
        yield from _fields(inner, depth + 1)


def _decoded(text: str) -> object:
    """Return the JSON object in *text*; *text* itself if it contains none."""
    if text.lstrip().startswith("{") and len(text) <= _LONGEST_TEXT:
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text
