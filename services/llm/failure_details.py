"""What users and admins may see of an endpoint's error: without keys, addresses, and what it says about other users."""

import re
import unicodedata
from collections import deque
from datetime import UTC, datetime

from services.domain.health import FailedCall
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.llm.refusals import Refusal

_LONGEST_SENTENCE = 500  # characters
_SECRET = 6  # characters in a row of the key that must not be shown
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_MOST_FAILURES = 50
# failures whose reason is the user's own request; other sentences name keys, credit, and what others spent
_OF_REQUEST = {ModelFailure.TOO_LONG, ModelFailure.PROMPT_FILTERED, ModelFailure.FILTERED}


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
    """Return what *refusal*, an answer of the server *host* to a request with *key*, says; None if it says nothing."""
    is_own = failure in _OF_REQUEST or (failure is ModelFailure.REJECTED and refusal.is_of_request)
    # a limit of tokens per minute belongs to all users, and names the provider's account
    sentence = refusal.sentence if is_own and refusal.status != 429 else ""
    details = FailureDetails(
        status=refusal.status,
        kind=_code(refusal.kind, key),
        code=_code(refusal.code, key),
        sentence=_readable(sentence, key, host)[:_LONGEST_SENTENCE],
    )
    return details if details != FailureDetails() else None


def _code(text: str, key: str) -> str:
    """Return *text* if it has the form of a code and no part of *key*; "other" for other texts."""
    is_code = _CODE.fullmatch(text) and _without_key(text, key) == text
    return text if is_code or not text else "other"


def _readable(text: str, key: str, host: str) -> str:
    """Return *text* on one line, without control characters, *host* and parts of *key*."""
    line = " ".join(text.split())
    plain = "".join(sign for sign in line if not unicodedata.category(sign).startswith("C"))
    address = re.compile(rf"(?:https?://)?{re.escape(host)}[^\s\"'<>]*", re.IGNORECASE)
    return _without_key(address.sub("…", plain), key)


def _without_key(text: str, key: str) -> str:
    """Return *text* with "…" in place of each run of characters that *key* contains, of at least six characters."""
    parts = {key[at : at + _SECRET] for at in range(len(key) - _SECRET + 1)}
    hidden = [False] * len(text)
    for at in range(len(text) - _SECRET + 1):
        if text[at : at + _SECRET] in parts:
            hidden[at : at + _SECRET] = [True] * _SECRET
    shown = ["…" if is_hidden else sign for sign, is_hidden in zip(text, hidden, strict=True)]
    return re.sub("…{2,}", "…", "".join(shown))
