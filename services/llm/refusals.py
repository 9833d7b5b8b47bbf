"""Refusals of endpoints: a parser, the table of failures, and the next request. No I/O."""

import json
import re
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import cast

from services.domain.model_failures import ModelFailure
from services.llm.model_spec import (
    LONGEST_ERROR,
    LimitRefusal,
    first_unquoted,
    normalized,
    read_limits,
    value_at,
)

_DEEPEST = 6  # levels of JSON, for example of an error within the metadata of a gateway's error
_STATUSES = {str(status) for status in range(400, 600)}  # HTTP statuses of errors
# HTTP statuses of requests that are refused for what they ask; 0: an event that names no status; 429 may mean that a request
# has more tokens than are allowed per minute
_OF_REQUEST = {0, 400, 404, 413, 422, 429}
_PARAMETERS = {
    *("model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens"),
    "max_completion_tokens",
}
# the reply limit of the second request after a refused limit without a number
_SHORTENED_TOKENS = 1_024
# fields whose lists contain errors, and the fields of such an error that do not quote the request (FastAPI, Mistral, Cloudflare)
_LISTS, _LISTED = ("detail", "errors", "message"), ("type", "loc", "msg", "message", "code")
# names of the fields with an error's message, in lower case and without underscores
_MESSAGES = {
    *("message", "msg", "detail", "errors", "error", "err", "errormessage", "errormsg", "fault"),
    "exception",
}
_ERRORS = ("error", "failed", "exception")  # the ends of the kinds of errors

NEWER_LIMIT = "max_completion_tokens"
STREAM_OPTIONS = "stream_options"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error that an endpoint sent: its HTTP status (0: none), and the codes, types and parameter that it names.

    *text*: its fields as `name: value` lines, without fields that contain lists, because they may quote the request.
    """

    status: int = 0
    is_event: bool = (
        False  # true: it came as an event of a stream, whose status is only what the event names
    )
    codes: frozenset[str] = field(default=frozenset(), repr=False)  # codes and types, in lower case
    parameter: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    # the first type, the first code, and the message of the innermost error
    kind: str = field(default="", repr=False)
    code: str = field(default="", repr=False)
    sentence: str = field(default="", repr=False)
    # the request's `normalized` texts: words that the error merely quotes say nothing about the endpoint
    sent: str = field(default="", repr=False)

    @property
    def failure(self) -> ModelFailure:
        """The first failure in `RULES` whose rule matches."""
        return next((rule.failure for rule in RULES if rule.matches(self)), ModelFailure.REJECTED)

    @property
    def limits(self) -> LimitRefusal:
        """The limits that the request exceeded, as far as the error states them."""
        if self.status not in _OF_REQUEST and not self.is_event:
            return LimitRefusal()
        return read_limits(self.text, self.sent)

    @property
    def names_parameter_or_limit(self) -> bool:
        """True if the error is about a parameter of the request, or the reply limit."""
        is_of_limit = bool(self.limits.reply_tokens) or self.says(_REPLY_TOO_LONG)
        return re.split(r"[.\[]", self.parameter)[0] in _PARAMETERS or is_of_limit

    @property
    def affordable_tokens(self) -> int:
        """The longest reply that the account's credit allows, in tokens; 0 if the error states none."""
        found = _AFFORDABLE.search(self.text) if self.status == 402 else None
        return int(found[1]) if found else 0

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Return True if *pattern* occurs in the text outside of what it quotes from the request."""
        return first_unquoted(pattern, self.text, self.sent) is not None


@dataclass(frozen=True, slots=True, repr=False)
class _Rule:
    """A *failure*, and the statuses, codes, types and words by which it is known; no statuses: any."""

    failure: ModelFailure
    codes: Set[str] = frozenset()
    words: re.Pattern[str] | None = None
    statuses: Collection[int] = ()
    is_for_all: bool = False  # the statuses are enough

    def matches(self, refusal: Refusal) -> bool:
        is_too_long = self.failure is ModelFailure.TOO_LONG
        # llama.cpp and others name any status in an event about a chat that is too long
        if self.statuses and refusal.status not in self.statuses:
            if not (is_too_long and refusal.is_event):
                return False
        elif self.is_for_all:
            return True
        if self.codes & refusal.codes or (self.words and refusal.says(self.words)):
            return True
        return is_too_long and refusal.limits.is_total_exceeded


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# In the order in which they are tried: endpoints use one status for many reasons. Sources: the error pages and the issues of
# OpenAI, Azure, Anthropic, Gemini, OpenRouter, LiteLLM, DeepSeek, DashScope, Moonshot, Zhipu, Mistral, xAI, Groq, Cohere, vLLM,
# llama.cpp, LM Studio, Ollama
RULES = (
    _Rule(
        ModelFailure.BUDGET,
        {"budget_exceeded", "budget_exceeded_error", "exceededbudget"},
        _words(
            r"budget (?:has been |was )?exceeded",
            r"exceeded\w{0,9} ?budget|exceeded.{0,20} budget|over budget",
            r"key limit exceeded|specified API usage limits",
        ),
    ),
    _Rule(ModelFailure.NO_CREDIT, statuses={402}, is_for_all=True),
    _Rule(
        ModelFailure.NO_CREDIT,
        {"insufficient_quota", "insufficient_credits", "insufficient_balance", "arrearage"}
        | {"billing_not_active", "billing_hard_limit_reached", "payment_required"}
        | {"exceeded_current_quota_error", "1113"},
        _words(
            r"insufficient (?:credit|balance|funds)",
            r"credit balance is too low|used all available credits",
            r"(?:out of|no|not enough|requires? more) credits?\b",
            r"account is (?:in arrears|overdue|not active)",
            # Gemini says the second half of a rate
            r"OpenAIException - You exceeded your current quota",
        ),
    ),
    _Rule(
        ModelFailure.PROMPT_FILTERED,
        {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
        | {"data_inspection_failed", "moderation_blocked", "prohibited_content", "1301"},
        _words(
            r"content (?:management|moderation|usage|safety) (?:polic|system)",
            r"content[ _-]?filter|content exists risk|violates usage guidelines|不安全或敏感",
            r"(?:input|prompt|message)s? (?:was|were|is|has been) (?:flagged|blocked)",
            r"request (?:was|has been) flagged",
            r"inappropriate content|prohibited content|safety (?:system|polic)",
        ),
        {0, 400, 403, 422, 451},
    ),
    _Rule(ModelFailure.TOO_LONG, statuses={413}, is_for_all=True),
    _Rule(
        ModelFailure.TOO_LONG,
        {"context_length_exceeded"},
        _words(
            r"context.?(?:length|window|size)",
            r"(?:prompt|input)\b.{0,60}\b(?:too long|exceeds)",
            r"(?:prompt|input|request|messages?) (?:is |are )?too long",
            r"longer than the maximum model length|prompt cannot exceed|range of input length",
        ),
        {0, 400, 422},
    ),
    _Rule(ModelFailure.TOO_LONG, statuses={429}),  # more tokens than are allowed per minute
    _Rule(ModelFailure.BUSY, {"rate_limit_exceeded", "rate_limit_error"}, statuses={0}),
    _Rule(ModelFailure.BUSY, statuses={429}, is_for_all=True),
    _Rule(ModelFailure.NO_MODEL, {"not_found_error"}, statuses={404}),
    _Rule(
        ModelFailure.NO_MODEL,
        {"model_not_found", "modelnotfound", "deploymentnotfound", "invalid_model"}
        | {"model_decommissioned", "model_not_supported", "model_not_available"}
        | {"unavailable_model"},
        _words(
            r"\bmodels?\b.{0,80}(?:not found|does ?n.?t exist|not exist|unknown|is not available)",
            r"(?:no such|unknown|invalid|not a valid) model|no endpoints found for",
            r"model identifier is invalid",
        ),
        {0, 400, 404, 422},
    ),
    _Rule(ModelFailure.UNAUTHORIZED, statuses={401, 403}, is_for_all=True),
    _Rule(
        ModelFailure.UNAUTHORIZED,
        {"invalid_api_key", "authentication_error", "permission_denied"},
        _words(
            r"(?:invalid|incorrect|wrong|missing|bad).{0,10}api.?key",
            r"api.?key (?:is )?(?:not |in)valid",
        ),
        {0, 400},
    ),
    _Rule(ModelFailure.BROKEN, statuses={0, 408, *range(500, 600)}, is_for_all=True),
)

# matches the reply that an account can pay for: OpenRouter
_AFFORDABLE = re.compile(r"can only afford (\d{1,8})\b", re.IGNORECASE)
# a refused reply limit without a number that would be allowed
_REPLY_TOO_LONG = _words(
    r"max(?:imum)?[ _]?(?:new_|completion_|output_)?tokens\b.{0,80}"
    r"(?:too (?:large|high|big|many|long)|exceed|greater than|above|out of range|invalid)",
    r"maxOutputTokens.{0,60}supported range",
)
# OpenAI's reasoning models, Mistral, gateways without streaming; `stream_options` is another parameter
_NO_STREAM = _words(
    r"\bstream(?:ing)?\b.{0,60}(?:not (?:be )?(?:support|allow|available|enabled)|unsupported|disabled|n't support|must be false)",
    r"(?:not support|unsupported|n't support|not allow|disabled)\w*.{0,40}\bstream(?:ing)?\b",
)
# templates of Gemma and Mistral in vLLM and llama.cpp; Gemma behind Gemini's API; OpenAI's first reasoning models
_NO_SYSTEM = _words(
    r"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b.{0,60}(?:not (?:be )?(?:support|allow|enabled|available)|n't support|unsupported)",
    r"(?:not support|unsupported|n't support|not allow)\w*.{0,60}\b(?:system|developer) (?:role|message|prompt|instruction)",
    r"\brole\b.{0,40}\bsystem\b.{0,40}(?:not (?:support|allow)|unsupported|invalid)",
    r"\brole\b.{0,40}(?:does not|doesn't) support .?system",
    r"only user.{0,40}roles are supported|unexpected role .?system|roles must alternate",
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
        # llama.cpp refuses roles with the status 500
        if self.has_system and refusal.status in {0, 400, 422, 500} and refusal.says(_NO_SYSTEM):
            return replace(self, has_system=False)
        if refusal.status not in _OF_REQUEST - {413, 429}:
            return self
        # also if the prompt contains the name: a wrong lesson costs one request, and is not remembered without a reply
        named = {name for name in (NEWER_LIMIT, STREAM_OPTIONS) if name in refusal.text}
        if more := named - self.refused:
            return replace(self, refused=self.refused | more)
        if self.is_streamed and (refusal.parameter == "stream" or refusal.says(_NO_STREAM)):
            return replace(self, is_streamed=False)
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
    has_number = limits.reply_tokens or limits.is_total_exceeded
    if has_number or refusal.status not in _OF_REQUEST or not refusal.says(_REPLY_TOO_LONG):
        return max_tokens
    return min(max_tokens, _SHORTENED_TOKENS) if is_second else max(max_tokens // 4, 1)


def read_refusal(status: int | None, body: object, sent: str) -> Refusal:
    """Return what the decoded *body* of an answer says; *status*: its HTTP status, None of an event; *sent*: the request's texts."""
    fields = list(_fields(body))
    codes = {
        str(value).casefold() for name, value in fields if name in ("code", "type", "error_code")
    }
    stated = {str(value) for name, value in fields if name in ("code", "status", "status_code")}
    if status is None:
        status, is_event = min(map(int, stated & _STATUSES), default=0), True
    else:
        is_event = False
    return Refusal(
        status=status,
        is_event=is_event,
        codes=frozenset(codes),
        parameter=_first(fields, "param"),
        kind=_first(fields, "type"),
        code=_first(fields, "code", "error_code"),
        # not the text of a body that is no JSON: a proxy's page names its own version and host
        sentence=_first(fields[::-1], "message", "msg", "detail", "error")[:LONGEST_ERROR],
        text="\n".join(f"{name}: {value}" for name, value in fields)[:LONGEST_ERROR],
        sent=normalized(sent),
    )


def _first(fields: Sequence[tuple[str, str | int]], *names: str) -> str:
    """Return the first value of a field with one of *names*; LiteLLM writes "None" for none."""
    return next((str(value) for name, value in fields if name in names and value != "None"), "")


def is_refusal(event: object) -> bool:
    """Return True if the decoded *event* of a stream is an error, in any of the forms in which endpoints send one."""
    if isinstance(event, list | str):
        return True
    if not isinstance(event, dict):
        return False
    chunk = cast(dict[str, object], event)
    kinds = (chunk.get(name) for name in ("object", "type", "event", "status"))
    # MiniMax states each reply's success in a field of its own
    if chunk.get("error") or value_at(chunk, "base_resp.status_code"):
        return True
    if any(kind and str(kind).casefold().endswith(_ERRORS) for kind in kinds):
        return True
    if chunk.get("choices") or str(chunk.get("code")).casefold() in {"0", "200", "ok", "success"}:
        return False
    found = {name.casefold().replace("_", ""): value for name, value in chunk.items()}
    messages = [*map(found.get, _MESSAGES), value_at(found, "data.error"), found.get("code")]
    # Ollama's own protocol has replies under `message`
    is_message = any(text and value_at(text, "role") is None for text in messages)
    # a gateway may name all fields of a chunk, of which most are empty
    is_empty_error = found.get("error") in ({}, [], "") and not found.keys() & {"object", "usage"}
    stated = {str(found.get(name)) for name in ("status", "statuscode")}
    return is_message or is_empty_error or bool(stated & _STATUSES) or found.get("success") is False


def _fields(node: object, depth: int = 0) -> Iterator[tuple[str, str | int]]:
    """Yield the names and values of an error's texts and numbers, those of errors within it last.

    Of lists, only lists of errors are read, and a list around the first one (Gemini).
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
        elif isinstance(inner, list) and name in _LISTS:
            within.extend(map(_listed, cast(list[object], inner)[:_DEEPEST]))
        elif isinstance(value, str | int):
            yield name, value
    for inner in within:
        yield from _fields(inner, depth + 1)


def _listed(error: object) -> object:
    """Return the fields of an *error* in a list that do not quote the request; a path in it as one text."""
    if not isinstance(error, dict):
        return None
    fields = {
        name: value for name, value in cast(dict[str, object], error).items() if name in _LISTED
    }
    path = fields.get("loc")
    return fields | (
        {"loc": ".".join(map(str, cast(list[object], path)))} if isinstance(path, list) else {}
    )


def _decoded(text: str) -> object:
    """Return the JSON object in *text*; *text* itself if it contains none."""
    if text.lstrip().startswith("{") and len(text) <= LONGEST_ERROR:
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text
