"""What users and admins may see of an endpoint's error: without keys, addresses, and what it says about other users."""

import re
import unicodedata
from collections import deque
from datetime import UTC, datetime

from services.domain.health import FailedCall
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.llm.refusals import Refusal

_LONGEST_SENTENCE = 500  # characters
_KEY_PART = 6  # characters in a row of the key that must not be shown
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_ONE_LABEL = re.compile(r"[\w-]+")  # a host's name without a dot
_WORD = re.compile(r"[^\s\"'<>]+")  # an address is within one
_MOST_FAILURES = 50
# failures whose reason is the user's own request; other sentences name keys, credit, and what others spent
_REQUEST_FAILURES = {
    *(ModelFailure.TOO_LONG, ModelFailure.PROMPT_FILTERED, ModelFailure.REPLY_LIMIT),
    *(ModelFailure.NO_STREAM, ModelFailure.NO_SYSTEM, ModelFailure.PARAMETER),
}
# some of these name more than the request: the account's limits by the minute, and those of a team
_OTHERS = re.compile(
    r"per (?:minute|hour|day)|\b(?:TPM|RPM|TPD)\b|organi[sz]ation|\borg[-_]|account|billing|credit|balance|spen[dt]|budget"
    r"|\bkeys?\b|\bapi_key|\bteam|\bproject|\busers?[ =:]",
    re.IGNORECASE,
)


class FailureLog:
    """The last 50 failed model calls of this process. Any thread may call any method."""

    def __init__(self) -> None:
        self._calls: deque[FailedCall] = deque(maxlen=_MOST_FAILURES)

    def add(self, model: str, error: ModelUnavailable) -> None:
        """Note the failure of a call of *model*: to the minute, without the provider's sentence."""
        details = error.details or FailureDetails()
        at = datetime.now(UTC).replace(second=0, microsecond=0)
        self._calls.append(
            FailedCall(at, model, error.failure, status=details.status, code=details.code)
        )

    def latest(self) -> list[FailedCall]:
        """Return the calls, the latest first."""
        return list(self._calls)[::-1]


def details_of(
    refusal: Refusal, failure: ModelFailure, key: str, host: str
) -> FailureDetails | None:
    """Return the details of *refusal* that its user may see; None if there are none.

    *key* and *host* are those of the endpoint, which must not be shown.
    """
    is_rejected = failure is ModelFailure.REJECTED and refusal.names_parameter_or_limit
    is_own = failure in _REQUEST_FAILURES or is_rejected
    if not is_own or refusal.status == 429 or _OTHERS.search(refusal.sentence):
        sentence = ""
    else:
        sentence = refusal.sentence
    details = FailureDetails(
        status=refusal.status,
        kind=_code(refusal.kind, key, host),
        code=_code(refusal.code, key, host),
        sentence=_readable(sentence, key, host)[:_LONGEST_SENTENCE],
    )
    return details if details != FailureDetails() else None


def _code(text: str, key: str, host: str) -> str:
    """Return *text* if it has the form of a code, and neither *host* nor a part of *key*; "other" for other texts."""
    is_code = _CODE.fullmatch(text) and _readable(text, key, host) == text
    return text if is_code or not text else "other"


def _readable(text: str, key: str, host: str) -> str:
    """Return *text* on one line, without control characters, *host* and parts of *key*."""
    line = " ".join(text.split())
    plain = "".join(sign for sign in line if not unicodedata.category(sign).startswith("C"))
    if _ONE_LABEL.fullmatch(host):  # it may be a part of another word, as in "this model's limit"
        name = rf"(?:https?://)?(?<![\w.-]){re.escape(host)}(?![\w-]|'\w)[^\s\"'<>]*"
        told = re.sub(name, "…", plain, flags=re.IGNORECASE)
    else:
        told = _WORD.sub(lambda word: "…" if host in word[0].casefold() else word[0], plain)
    return _without_key(told, key)


def _without_key(text: str, key: str) -> str:
    """Return *text* with "…" in place of each run of six characters, or more, of *key*.

    A shorter key is hidden only as a word: servers on this machine take any, such as "x".
    """
    if len(key) < _KEY_PART:
        return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "…", text) if key else text
    parts = {key[at : at + _KEY_PART] for at in range(len(key) - _KEY_PART + 1)}
    hidden = [False] * len(text)
    for at in range(len(text) - _KEY_PART + 1):
        if text[at : at + _KEY_PART] in parts:
            hidden[at : at + _KEY_PART] = [True] * _KEY_PART
    shown = ["…" if is_hidden else sign for sign, is_hidden in zip(text, hidden, strict=True)]
    return re.sub("…{2,}", "…", "".join(shown))
