"""Sentences of errors for pages, and their figures for logs."""

import errno
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from services import errors
from services.errors import (
    AppError,
    BadInput,
    Cap,
    ChatFull,
    Misconfigured,
    ModelFailure,
    ModelUnavailable,
    OverBudget,
    PromptTooLong,
    Tampered,
    TooManyAttempts,
    says_disk_full,
)


def below(kind, depth=1):
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
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
        *map(ModelUnavailable, ModelFailure),
        *map(TooManyAttempts, (0, 1, 59, 60, 61, 3600)),
        PromptTooLong(9000, 8000),
        ChatFull(9000, 8000),
        Misconfigured("Set DAYBOOK_MODEL."),
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: f"{type(error).__name__}{error}")
def test_every_error_has_a_sentence_for_the_page(error):
    assert re.fullmatch(r"[A-Z][^{}<>]*\.", error.public)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "a minute"), (60, "a minute"), (61, "2 minutes"), (900, "15 minutes")]
)
def test_throttle_states_its_wait(seconds, said):
    assert f"again in {said}." in TooManyAttempts(seconds).public


@pytest.mark.parametrize(
    ("cap", "at"),
    [
        (Cap.DAILY, datetime(2027, 1, 1, tzinfo=UTC)),
        (Cap.MONTHLY, datetime(2027, 1, 1, tzinfo=UTC)),
        (Cap.DEPLOYMENT, datetime(2027, 1, 1, tzinfo=UTC)),
        (Cap.TURNS_A_MINUTE, None),
    ],
)
def test_budget_resets_with_its_window_in_utc(cap, at):
    new_year_in_tokyo = datetime(2027, 1, 1, 8, 59, tzinfo=timezone(timedelta(hours=9)))

    assert OverBudget(cap).resets_at(new_year_in_tokyo) == at


def test_rate_limit_states_its_wait():
    refused = OverBudget(Cap.TURNS_A_MINUTE, per_minute=20, wait_seconds=40)

    assert refused.public == "Limit of 20 messages a minute reached. Try again in 40 s."


def test_prompt_too_long_holds_its_figures():
    assert str(PromptTooLong(9000, 8000)) == "needs 9000 tokens, 8000 are left"
    assert (PromptTooLong(9000, 8000).tokens, PromptTooLong(9000, 8000).limit) == (9000, 8000)


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
