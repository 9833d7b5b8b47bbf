"""Sentences of errors for pages, and their figures for logs."""

import errno
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from services import errors
from services.domain import model_failures, single_sign_on
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.domain.single_sign_on import (
    AnswerFault,
    AnswerRefused,
    ProviderFault,
    ProviderUnavailable,
)
from services.embedded.folders import says_disk_full
from services.errors import (
    AppError,
    BadInput,
    Cap,
    ChangedElsewhere,
    ChatFull,
    Misconfigured,
    OverBudget,
    PasskeyFlaw,
    PasskeyRefused,
    PromptTooLong,
    RowsCut,
    StoreBlocked,
    Tampered,
    TooManyAttempts,
    WeakPassword,
)

DRAWN = [one.__name__ for one in (errors, model_failures, single_sign_on)]


def below(kind, depth=1):
    drawn = [child for child in kind.__subclasses__() if child.__module__ in DRAWN]
    for child in sorted(drawn, key=lambda one: DRAWN.index(one.__module__)):  # not as imported
        yield child.__name__, depth
        yield from below(child, depth + 1)


def test_tree_in_the_docstring_is_complete():
    drawn = re.findall(r"^( *)[x-] (\w+)", errors.__doc__ or "", re.MULTILINE)

    assert [(name, len(indent) // 2) for indent, name in drawn] == list(below(AppError))


def every_error():
    bare = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, AppError)
        and kind.__init__ in (AppError.__init__, BadInput.__init__, Tampered.__init__)
    ]
    return [
        *(kind() for kind in bare),
        *map(OverBudget, Cap),
        *map(PasskeyRefused, PasskeyFlaw),
        *map(ModelUnavailable, ModelFailure),
        *map(AnswerRefused, AnswerFault),
        *map(ProviderUnavailable, ProviderFault),
        *map(TooManyAttempts, (0, 1, 59, 60, 61, 3600)),
        *(WeakPassword(), WeakPassword("common"), ChangedElsewhere("now")),
        *(PromptTooLong(9000, 8000), ChatFull(9000, 8000), RowsCut(50, 100)),
        *(Misconfigured("Set DAYBOOK_MODEL."), StoreBlocked("Free some space.")),
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: f"{type(error).__name__}{error}")
def test_every_error_has_a_sentence_for_the_page(error):
    assert re.fullmatch(r"[A-Z][^{}<>]*\.", error.public)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "a minute"), (60, "a minute"), (61, "2 minutes"), (900, "15 minutes")),
        *((7140, "119 minutes"), (7141, "2 hours"), (7201, "3 hours"), (86_400, "24 hours")),
    ],
)
def test_throttle_states_its_wait(seconds, said):
    assert f"again in {said}." in TooManyAttempts(seconds).public


@pytest.mark.parametrize("cap", [Cap.DAILY, Cap.MONTHLY, Cap.DEPLOYMENT])
def test_budget_resets_with_its_window_in_utc(cap):
    new_year_in_tokyo = datetime(2027, 1, 1, 8, 59, 58, 7, tzinfo=timezone(timedelta(hours=9)))

    assert cap.resets_at(new_year_in_tokyo) == datetime(2027, 1, 1, tzinfo=UTC)
    assert Cap.TURNS_A_MINUTE.resets_at(new_year_in_tokyo) is None


@pytest.mark.parametrize(("limit", "said"), [(20, "20 messages"), (1, "1 message")])
def test_rate_limit_states_its_wait(limit, said):
    refused = OverBudget(Cap.TURNS_A_MINUTE, per_minute=limit, wait_seconds=40)

    assert refused.public == f"Limit of {said} a minute reached. Try again in 40 s."


def test_errors_hold_their_figures():
    over, long, cut = OverBudget(Cap.DAILY, 7, 5), PromptTooLong(9000, 8000), RowsCut(50, 100)

    assert (over.cap, over.needed, over.left) == (Cap.DAILY, 7, 5)
    assert (long.tokens, long.limit) == (9000, 8000)
    assert [str(error) for error in (over, long, cut)] == [
        *("daily_cap", "needs 9000 tokens, 8000 are left", "rows")
    ]
    assert "at most 50 rows at once, and Daybook needs 100" in cut.public
    assert ModelUnavailable(ModelFailure.BUSY).failure is ModelFailure.BUSY
    assert (WeakPassword("short").reason, WeakPassword("odd").reason) == ("short", "")
    assert ChangedElsewhere("now").now == "now"


@pytest.mark.parametrize(
    ("failure", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        ("npm warn tar TAR_ENTRY_ERROR ENOSPC: no space left on device, write", True),
        ("could not write to file: No space left on device", True),
        ("connection refused", False),
    ],
)
def test_full_disk_is_recognised(failure, is_full):
    assert says_disk_full(failure) is is_full
