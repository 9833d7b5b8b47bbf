"""Refusals of endpoints: a parser, the table of failures, and the next request. No I/O."""

import json
import re
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cached_property
from typing import cast

from services.domain.model_failures import LONGEST_WAIT_SECONDS, ModelFailure
from services.llm.model_spec import (
    LIMIT_NAME,
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
_QUOTE = 5  # words in a row of the request that make a quote of it
_WORD = re.compile(r"\w+")
# fields whose lists contain errors, and the fields of such an error that do not quote the request (FastAPI, Mistral, Cloudflare, Gemini)
_LISTS = ("detail", "details", "errors", "message")
_LISTED = ("type", "loc", "msg", "message", "code", "retryDelay")
# names of the fields with an error's message, in lower case and without underscores
_MESSAGES = {
    *("message", "msg", "detail", "errors", "error", "err", "errormessage", "errormsg", "fault"),
    "exception",
}
_ERRORS = ("error", "failed", "exception")  # the ends of the kinds of errors

NEWER_LIMIT = "max_completion_tokens"
STREAM_OPTIONS = "stream_options"


@dataclass(frozen=True, kw_only=True)
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
    # the request's `normalized` texts, and true if the error's words that stand there, too, count for nothing
    sent: str = field(default="", repr=False)
    is_strict: bool = False

    @cached_property
    def strict(self) -> "Refusal":
        """The same refusal without words and numbers that the request contains, too: what may be remembered."""
        return replace(self, is_strict=True)

    @cached_property
    def failure(self) -> ModelFailure:
        """The first failure in `RULES` whose rule matches."""
        return next((rule.failure for rule in RULES if rule.matches(self)), ModelFailure.REJECTED)

    @cached_property
    def limits(self) -> LimitRefusal:
        """The limits that the request exceeded, as far as the error states them. A rate or a credit is none."""
        is_of_request = self.status in _OF_REQUEST or self.is_event
        if not is_of_request or self.status == 402 or self.affordable_tokens:
            return LimitRefusal()
        limits = read_limits(self.text, self.sent if self.is_strict else "")
        return LimitRefusal(excess_tokens=limits.excess_tokens) if self.status == 429 else limits

    @property
    def names_parameter_or_limit(self) -> bool:
        """True if the error is about a parameter of the request, or the reply limit."""
        is_of_limit = bool(self.limits.reply_tokens) or self.says(_REPLY_TOO_LONG)
        return re.split(r"[.\[]", self.parameter)[0] in _PARAMETERS or is_of_limit

    @property
    def affordable_tokens(self) -> int:
        """The longest reply that the account's credit allows, in tokens; 0 if the error states none."""
        found = _AFFORDABLE.search(self.text)
        return int(found[1]) if found else 0

    @property
    def wait_seconds(self) -> float:
        """The seconds that an endpoint with too many requests asks to wait, at most an hour; 0 if it states none."""
        found = _WAIT.search(self.text) if self.failure is ModelFailure.BUSY else None
        parts = _DURATION.findall(found[0]) if found else []
        seconds = sum(
            float(number) * _UNITS[unit if unit == "ms" else unit[:1]] for number, unit in parts
        )
        return min(seconds, LONGEST_WAIT_SECONDS)

    def says(self, pattern: re.Pattern[str]) -> bool:
        """Return True if *pattern* occurs in the text."""
        return first_unquoted(pattern, self.text, self.sent if self.is_strict else "") is not None


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
            # vLLM says that a reply is too long for the window
            return self.failure is not ModelFailure.REPLY_LIMIT or not refusal.limits.context_tokens
        limits = refusal.limits
        if self.failure is ModelFailure.REPLY_LIMIT:
            return bool(limits.reply_tokens) and not limits.is_total_exceeded
        return is_too_long and limits.is_total_exceeded


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# words about a parameter that is unknown, before its name
_UNKNOWN = (
    r"(?:unknown|unrecogni[sz]ed|unsupported|unexpected|extra|additional) (?:request |body |keyword )?"
    r"(?:parameter|argument|field|property|name)s?(?: supplied)?\W{1,4}"
)
_NEVER = (
    r"(?:not (?:be |yet )?(?:support|allow|permit|accept|implemented|recogni[sz]ed|valid)"
    r"|unsupported|n't (?:support|allow|accept)|unrecogni[sz]ed)"
)
# also words that an endpoint says of an outage
_REFUSED = rf"(?:{_NEVER}|(?:not |n't )(?:be |yet )?(?:available|enabled)|disabled|unavailable)"
# a refused reply limit, with or without the number that would be allowed
_REPLY_TOO_LONG = _words(
    rf"{LIMIT_NAME}.{{0,80}}(?:too (?:large|high|big|many|long)|exceed|(?<!must be )(?<!should be )(?:great|larg|high)er than|above"
    r"|out of range|invalid(?!_)|not valid|非法|不合法|超)",
    rf"invalid .?{LIMIT_NAME}.? value|maxOutputTokens.{{0,60}}supported range",
)

# In the order in which they are tried: endpoints use one status for many reasons. Sources: the error pages and the issues of
# OpenAI, Azure, Anthropic, Gemini, OpenRouter, LiteLLM, DeepSeek, DashScope, Moonshot, Zhipu, Volcano, Mistral, xAI, Groq,
# Cohere, Hugging Face, Bedrock, one-api, vLLM, SGLang, TGI, llama.cpp, LM Studio, Ollama
RULES = (
    _Rule(
        ModelFailure.BUDGET,
        {"budget_exceeded", "budget_exceeded_error", "exceededbudget", "setlimitexceeded"},
        _words(
            r"(?<!thinking )(?<!reasoning )(?<!token )(?<!context )(?<!retry )(?<!error )\bbudget(?!_).{0,40}\b(?:exceeded|exhausted|depleted|used up|reached|spent|run out|been hit)\b",
            r"\b(?:exceed\w{0,9}|exhausted|crossed|reached|used up|over|out of|no)\b ?(?:(?!thinking|reasoning|token|context|retry|error).){0,20}budget(?!_)",
            r"spend(?:ing)? (?:limit|cap)\b.{0,30}\b(?:reached|exceeded|hit)\b",
            r"(?:reached|exceeded|hit) (?:your|the|this) .{0,20}\bspend(?:ing)? (?:limit|cap)",
            r"key limit exceeded|specified API usage limits|reached the set inference limit",
        ),
    ),
    _Rule(ModelFailure.NO_CREDIT, statuses={402}, is_for_all=True),
    _Rule(
        ModelFailure.UNAUTHORIZED,
        words=_words(
            r"\baccount\b.{0,60}\b(?:suspended|disabled|deactivated|terminated|banned)\b.{0,40}\bviolat"
        ),
        statuses={400, 401, 403},
    ),
    # before credit: OpenRouter says of a flagged prompt that no credits were charged
    _Rule(
        ModelFailure.PROMPT_FILTERED,
        {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "safety"}
        | {"data_inspection_failed", "moderation_blocked", "prohibited_content", "1301"}
        | {"datainspectionfailed"},
        _words(
            r"content (?:management|moderation|usage|safety) (?:polic|system)",
            r"content[ _-]?filter|content exists risk|content ?policy ?violation|considered high risk",
            r"(?:input|prompt|message|content)s? (?:was|were|is|has been|have been) (?:flagged|blocked)",
            r"request (?:was|has been) flagged",
            r"(?:blocked|flagged|rejected|refused).{0,60}\b(?:safety|moderation|guardrail|(?:usage|content) polic)",
            r"violat\w{1,5}\b.{0,60}\b(?:polic(?:y|ies)|guidelines|terms of)",
            r"content blocked|unsafe content|content[ _]moderation|(?:inappropriate|prohibited)[ _](?:content|words)|safety (?:system|polic|filter|setting|reason)|moderation polic",
            r"sensitive ?(?:content|information|words?)\b|sensitivecontentdetected|new_sensitive|block_?reason",
            r"不安全|敏感(?:内容|信息|词)",
        ),
        {0, 400, 403, 422, 451},
    ),
    _Rule(
        ModelFailure.NO_CREDIT,
        {"insufficient_quota", "insufficient_credits", "insufficient_balance", "arrearage"}
        | {"billing_not_active", "billing_hard_limit_reached", "payment_required"}
        | {"exceeded_current_quota_error", "1113", "insufficient_user_quota"}
        | {"accountoverdueerror", "allocationquota.freetieronly"},
        _words(
            r"insufficient (?:credit|balance|funds)|余额不足|欠费|额度不足",
            r"credit balance is too low|used all available credits|billing hard limit",
            r"(?:out of|no|not enough|requires? more|have any) credits?\b(?! (?:was|were|has|have) )",
            r"account is (?:in arrears|overdue|not active)|account has an overdue|account\b.{0,60}\bsuspended",
            r"free tier\b.{0,40}\bexhausted",
            # Gemini says the second half of a rate
            r"OpenAIException - You exceeded your current quota",
        ),
    ),
    *(
        _Rule(
            ModelFailure.NO_SYSTEM,
            words=_words(
                rf"\b(?:system|developer) (?:role|message|prompt|instruction)s?\b.{{0,60}}{refused}",
                rf"\brole\b.{{0,40}}\bsystem\b.{{0,40}}(?:{refused}|invalid)",
                r"(?:not (?:support|accept)|unsupported|n't (?:support|accept)|not allow)\w*.{0,60}\b(?:system|developer) (?:role|message|prompt|instruction)",
                r"\brole\b.{0,40}(?:does not|doesn't) support .?system|role not supported(?: yet)?\W{1,3}system",
                r"(?:invalid|unsupported|unknown|unexpected|bad|illegal) (?:message )?(?:role|value)\W{1,4}system\b",
                r"(?:no|without) system (?:role|message|prompt)s? (?:is |are )?(?:supported|allowed)",
                r"input should be 'user' or 'assistant'|valid role: user, model|messages[.\[]0\]?\.role\b",
                r"\brole\b.{0,20}(?:must|should|can only) be .{0,12}\buser\b(?!.{0,40}system)|first message must .{0,20}\buser",
                r"\bsystem\W{1,3}is not (?:a valid role|one of)|\brole\b.{0,60}got .?system",
                r"only \W?user.{0,40}roles are (?:supported|allowed)|roles must alternate",
            ),
            statuses=statuses,
        )
        # llama.cpp refuses roles with the status 500
        for refused, statuses in ((_REFUSED, (400, 422)), (_NEVER, (0, 500)))
    ),
    *(
        _Rule(
            ModelFailure.NO_STREAM,
            words=_words(
                # `stream_options` is another parameter
                rf"\bstream(?:ing)?\b.{{0,60}}{refused}",
                r"(?:not support|unsupported|n't support|not allow|not implemented|disabled)\w*.{0,40}\bstream(?:ing)?\b",
                r"\bstream\W{0,3}(?: (?:to|as|must be|should be|has to be|parameter to))? ?\W{0,3}false\b",
                r"\bstream\b.{0,20} be (?:set to )?\W?false|cannot stream|streaming is turned off",
                r"(?:remove|omit|without) (?:the )?\W?stream\b|only.{0,30}\bnon-?stream",
                rf"{_UNKNOWN}stream\b|\b(?:param|loc): (?:body\.)?stream(?=\n|$)",
            ),
            statuses=statuses,
        )
        for refused, statuses in ((_REFUSED, (400, 404, 405, 422)), (_NEVER, (0, 500, 501)))
    ),
    _Rule(ModelFailure.TOO_LONG, statuses={413}, is_for_all=True),
    _Rule(
        ModelFailure.BUSY,
        {"rate_limit_exceeded", "rate_limit_error"},
        _words(r"rate[ _-]limit|too many requests"),
        {0},
    ),
    _Rule(ModelFailure.REPLY_LIMIT, words=_REPLY_TOO_LONG, statuses={0, 400, 404, 422}),
    _Rule(
        ModelFailure.TOO_LONG,
        {"context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded"}
        | {"1261"},
        _words(
            r"context.?(?:length|window|size)",
            r"(?:prompt|input)\b.{0,60}\b(?:too (?:long|large)|exceed)",
            r"(?:prompt|input|request|messages?|conversation) (?:is |are )?too (?:long|large)",
            r"(?:longer|larger) than the (?:maximum|limit|model|context)|too many (?:\w+ )?tokens\b(?!, please wait)",
            r"token limit exceeded|\btokens exceeds? the (?:model|limit|max)|\btoo long, please",
            r"requested \d+ tokens,? but|only supports \d+ tokens",
            r"prompt cannot exceed|range of input length|reduce the length of|prompt ?超长|(?:输入|上下文).{0,12}(?:过长|超)",
        ),
        {0, 400, 422},
    ),
    _Rule(
        ModelFailure.PARAMETER,
        {"unsupported_parameter", "unknown_parameter", "extra_forbidden"},
        _words(
            _UNKNOWN,
            r"extra inputs are not permitted|not support parameters",
            r"max_completion_tokens|stream_options|include_usage",
        ),
        {0, 400, 404, 422},
    ),
    _Rule(ModelFailure.TOO_LONG, statuses={429}),  # more tokens than are allowed per minute
    _Rule(ModelFailure.BUSY, statuses={429}, is_for_all=True),
    _Rule(
        ModelFailure.NO_MODEL,
        {"not_found_error", "resource_not_found_error"},
        statuses={404},
    ),
    _Rule(
        ModelFailure.NO_MODEL,
        {"model_not_found", "modelnotfound", "deploymentnotfound", "invalid_model", "1211"}
        | {"model_decommissioned", "model_not_supported", "model_not_available"}
        | {"unavailable_model", "unknown_model", "modelnotopen"},
        _words(
            r"\bmodels?\b.{0,80}(?:not (?:be )?found|does ?n.?t exist|not exist|unknown|is not available)",
            r"(?:no such|unknown|invalid|not a valid|not found the) model|no endpoints found|no allowed providers",
            r"(?:unsupported|unable to find|could not find|cannot find|not found:) (?:the )?model\b",
            r"\bmodel\b\W{1,3}[^\s]{1,80} (?:is|was|has been) (?:not supported|not loaded|deprecated|retired)",
            r"model identifier is invalid|no models? (?:is |are )?loaded|not activated the model|模型不存在",
        ),
        {0, 400, 403, 404, 422},
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
    # the page of a proxy, or of another server
    _Rule(ModelFailure.GARBLED, words=_words(r"<!doctype html|<html")),
)

# matches the reply that an account can pay for: OpenRouter
_AFFORDABLE = re.compile(r"can only afford (\d{1,8})\b", re.IGNORECASE)
# refused parameters: the limit's other name, and what asks for the usage
_NO_MAX_TOKENS = _words(
    NEWER_LIMIT, rf"{_UNKNOWN}max_tokens\b", rf"\bmax_tokens\b\W{{1,3}}.{{0,10}}{_REFUSED}"
)
_NO_STREAM_OPTIONS = _words(STREAM_OPTIONS, "include_usage")
# matches the wait that Gemini, OpenAI, Azure, Moonshot and LiteLLM state: "retryDelay: 7s", "try again in 2m30.5s"
_DURATION = re.compile(
    r"(\d{1,7}(?:\.\d{1,9})?) ?(ms|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|(?=\n|$))(?![a-z])"
)
_WAIT = re.compile(
    rf"(?:try again|retry|wait|available again|resets|retry[ _-]?(?:delay|after)(?:[ _-]seconds)?)(?: in| after| for| about| at least){{0,3}}\W{{0,3}}(?:{_DURATION.pattern},? ?(?:and )?){{1,4}}"
)
_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """The form in which a model takes requests, as far as its refusals have shown."""

    is_streamed: bool = True
    has_system: bool = True
    # NEWER_LIMIT if the endpoint asks for this name of the reply limit, STREAM_OPTIONS if it refuses this parameter
    refused: frozenset[str] = field(default=frozenset(), repr=False)

    def after(self, refusal: Refusal) -> "RequestForm":
        """Return the form to which *refusal* leads; this form if the refusal has another reason."""
        match refusal.failure:
            case ModelFailure.NO_SYSTEM:
                return replace(self, has_system=False)
            case ModelFailure.NO_STREAM:
                return replace(self, is_streamed=False)
            case ModelFailure.PARAMETER:
                return replace(self, refused=self.refused | set(_refused_names(refusal)))
            case _:
                return self


def _refused_names(refusal: Refusal) -> Iterator[str]:
    if refusal.says(_NO_MAX_TOKENS) or refusal.parameter == "max_tokens":
        yield NEWER_LIMIT
    if refusal.says(_NO_STREAM_OPTIONS):
        yield STREAM_OPTIONS


class Shortening(Enum):
    """The reasons of a shorter reply limit, each of which counts once a turn."""

    CREDIT = auto()
    TOTAL = auto()  # the window, or the tokens per minute
    REPLY = auto()
    # the error states no number: a quarter of the limit, then 1,024 tokens
    QUARTER = auto()
    LEAST = auto()


def shorter_reply(
    refusal: Refusal, max_tokens: int, before: Set[Shortening] = frozenset()
) -> tuple[int, Set[Shortening]]:
    """Return the reply limit, in tokens, of the next request, and the reasons; none if *refusal* has another one.

    *before*: the reasons for which the limit was lowered in this turn.
    """
    limits, affordable = refusal.limits, refusal.affordable_tokens
    if affordable:
        shorter, reasons = affordable, {Shortening.CREDIT}
    elif limits.reply_tokens or limits.is_total_exceeded:
        shorter = limits.reply_within(max_tokens)
        named = {
            Shortening.TOTAL: limits.is_total_exceeded,
            Shortening.REPLY: bool(limits.reply_tokens),
        }
        reasons = {reason for reason, is_named in named.items() if is_named}
    elif refusal.failure is not ModelFailure.REPLY_LIMIT:
        return max_tokens, set()
    elif Shortening.QUARTER in before:
        shorter, reasons = _SHORTENED_TOKENS, {Shortening.LEAST}
    else:
        shorter, reasons = max(max_tokens // 4, 1), {Shortening.QUARTER}
    is_new = 0 < shorter < max_tokens and not reasons <= before
    return (shorter, reasons) if is_new else (max_tokens, set())


def read_refusal(status: int | None, body: object, sent: str) -> Refusal:
    """Return what the decoded *body* of an answer says; *status*: its HTTP status, None of an event; *sent*: the request's texts."""
    fields = list(_fields(body))
    values = [str(value)[:LONGEST_ERROR] for _, value in fields]
    sent = normalized(sent)
    quotes = _shared_phrases("\n".join(values)[:LONGEST_ERROR], sent)
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
        parameter=_first(fields, "param") or _first(fields, "loc").removeprefix("body."),
        kind=_first(fields, "type"),
        code=_first(fields, "code", "error_code"),
        # not the text of a body that is no JSON: a proxy's page names its own version and host
        sentence=_first(fields[::-1], "message", "msg", "detail", "error")[:LONGEST_ERROR],
        text="\n".join(
            f"{name.casefold()}: {_without_quotes(normalized(value), quotes)}"
            for (name, _), value in zip(fields, values, strict=True)
        )[:LONGEST_ERROR],
        sent=sent,
    )


def _shared_phrases(text: str, sent: str) -> Set[tuple[str, ...]]:
    """Return the runs of `_QUOTE` words of *text* that *sent* contains, too. Both are `normalized`."""
    words, others = _WORD.findall(normalized(text)), _WORD.findall(sent)
    phrases = set(zip(*(words[at:] for at in range(_QUOTE)), strict=False))
    return phrases.intersection(zip(*(others[at:] for at in range(_QUOTE)), strict=False))


def _without_quotes(text: str, quotes: Set[tuple[str, ...]]) -> str:
    """Return *text*, a field of an error, without what it quotes from the request.

    *quotes*: the phrases that both contain. A quote follows a punctuation mark. Where the error's own sentence has words of
    the request, it begins the field, follows a word, or goes on with another number.
    """
    words = list(_WORD.finditer(text)) if quotes else []
    shared = [False] * len(words)
    for at in range(len(words) - _QUOTE + 1):
        if tuple(word[0] for word in words[at : at + _QUOTE]) in quotes:
            shared[at : at + _QUOTE] = [True] * _QUOTE
    parts, end, at = list[str](), 0, 0
    while at < len(words):
        last = next((i for i in range(at, len(words)) if not shared[i]), len(words))
        if last == at:
            at += 1
            continue
        begin, stop = words[at].start(), words[last - 1].end()
        follows_mark = bool(text[words[at - 1].end() if at else 0 : begin].strip())
        after = text[stop : words[last].end()] if last < len(words) else ""
        if follows_mark and not re.fullmatch(r"\s+\d+", after):
            parts, end = [*parts, text[end:begin], "\n"], stop
        at = last
    return "".join([*parts, text[end:]])


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
    # a gateway may name all fields of a chunk, and Ollama's own protocol has replies under `message`
    is_chunk = bool(found.keys() & {"object", "usage"})
    is_message = any(text and value_at(text, "role") is None for text in messages)
    is_error = is_message or found.get("error") in ({}, [], "")
    stated = {str(found.get(name)) for name in ("status", "statuscode", "code")}
    return (is_error and not is_chunk) or bool(stated & _STATUSES) or found.get("success") is False


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
    if not isinstance(path, list):
        return fields
    loc = ".".join(map(str, cast(list[object], path)))
    return fields | {"loc": loc, "msg": f"{loc}: {fields.get('msg', '')}"}


def _decoded(text: str) -> object:
    """Return the JSON object in *text*; *text* itself if it contains none."""
    if text.lstrip().startswith("{") and len(text) <= LONGEST_ERROR:
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return text
