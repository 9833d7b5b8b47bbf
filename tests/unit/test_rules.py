"""The rules of money and turns at their bounds, and the errors of refusals. A property holds them to SQL."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.domain import Purpose
from services.domain.turns import ClientTurnId, Reservation
from services.errors import Cap, OverBudget, StoreUnavailable
from services.rules import Refusal
from services.rules.budget import NO_CAP, Budget, Deployment, room_for
from services.rules.turns import reserve
from services.store.refusals import error_of

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)
BEFORE = MIDNIGHT - timedelta(microseconds=1)
CAPS = {
    "daily_cap_micro": 1000,
    "monthly_cap_micro": 1500,
    "daily_cap_tokens": 500,
    "max_open": 1,
    "max_per_minute": 2,
}
WANTED = Reservation(
    client_turn_id=ClientTurnId(uuid4()),
    model="test-model",
    prompt_micro=100,
    reply_micro=400,
    least_reply_micro=50,
    prompt_tokens=100,
    reply_tokens=300,
    least_reply_tokens=50,
    lease_seconds=30,
)
FILES = (
    *("turns_and_money", "conversations", "documents"),
    *("accounts_and_sessions", "administration", "sign_ups"),
)
NO_REFUSALS = {
    *("lapsed", "taken"),  # an answer to a heartbeat; an id of 128 random bits
    *("moved", "held", "too_many_attempts"),  # answers about tokens, and a wait
}


def sql_reasons():
    """The reasons that SQL functions answer with."""
    folder = Path(__file__).parents[2] / "db" / "migrations"
    texts = [path.read_text() for path in folder.glob("*.sql") if path.stem[15:] in FILES]
    found = re.compile(r"answer\([^)]*'(\w+)'\)|return '(\w+)'|'reason', '(\w+)'")
    case = re.search(r"refusal := case(.*?)\n  end;", "".join(texts), re.DOTALL)[1]
    words = {word for groups in found.findall("".join(texts)) for word in groups if word}
    return words | set(re.findall(r"(?:then|else) '(\w+)'", case))


def test_every_reason_in_sql_has_an_error():
    reasons = sql_reasons() - NO_REFUSALS

    assert reasons >= {"last_admin", "no_invitation", "key_missing"}
    assert reasons >= {"busy", "stale", "daily_cap", "too_fast", "no_space", "still_open"}
    for reason in reasons:
        error = error_of("begin_turn", Refusal(reason=reason), WANTED)
        assert not isinstance(error, StoreUnavailable), reason


def test_refusal_by_a_cap_says_what_is_needed_and_left():
    error = error_of("begin_turn", Refusal(reason="daily_cap", room=149), WANTED)

    assert isinstance(error, OverBudget)
    assert (error.cap, error.needed, error.left) == (Cap.DAILY, 150, 149)


def test_windows_open_at_midnight():
    spent = {"day_spent": 5, "month_spent": 7, "day_tokens": 9, "minute_turns": 2}
    budget = replace(Budget(**CAPS).opened(BEFORE, 10), **spent, reserved=3)

    assert budget.opened(BEFORE, 99) == budget
    opened = budget.opened(MIDNIGHT, 99)
    assert (opened.day_spent, opened.month_spent, opened.day_tokens) == (0, 0, 0)
    assert (opened.minute_turns, opened.bytes, opened.reserved) == (0, 99, 3)


def test_refund_goes_to_the_windows_that_counted_the_charge():
    budget = replace(Budget(**CAPS).opened(MIDNIGHT, 0), day_spent=50, month_spent=60)
    gift = {"held": 0, "spent": -20, "held_tokens": 0, "tokens": 0}

    late = budget.booked(**gift, charged_at=BEFORE)
    assert (late.day_spent, late.month_spent) == (50, 60)
    same = budget.booked(**gift, charged_at=MIDNIGHT)
    assert (same.day_spent, same.month_spent) == (30, 40)


@pytest.mark.parametrize(
    ("spent", "cap", "granted", "refusal"),
    [
        ({}, None, 500, None),
        ({"day_spent": 850, "month_spent": 850}, None, 150, None),
        ({"day_spent": 851, "month_spent": 851}, None, 149, "daily_cap"),
        ({"month_spent": 1351}, None, 149, "monthly_cap"),
        ({}, 149, 149, "deployment_cap"),
        ({"day_tokens": 351}, None, 500, "daily_tokens"),
    ],
)
def test_turn_is_granted_what_its_caps_leave(spent, cap, granted, refusal):
    budget = replace(Budget(**CAPS).opened(MIDNIGHT, 0), **spent)

    room = room_for(budget, Deployment(monthly_cap_micro=cap), WANTED)

    assert (room.granted, room.reason) == (granted, refusal)


def test_deployments_figures_follow_a_budget():
    before = Budget(**CAPS).opened(BEFORE, 0)
    held, *_ = reserve(before, Deployment(), [], WANTED, BEFORE)
    deployment = Deployment(monthly_cap_micro=1000).opened(BEFORE).after(before, held)

    assert deployment.room == 500
    assert deployment.opened(MIDNIGHT).room == 500  # it will be paid in the new month


def test_figures_of_all_begin_with_those_of_each_budget():
    spent = replace(Budget(**CAPS).opened(BEFORE, 0), month_spent=60, reserved=7)
    off, on = Deployment(), Deployment(monthly_cap_micro=NO_CAP, counting=3).opened(BEFORE)
    assert off.counted(spent, spent) == (off, spent)

    counted, budget = on.counted(spent, spent)
    again, _ = counted.counted(budget, replace(budget, month_spent=61))

    assert (counted.spent, counted.reserved, budget.counting) == (60, 7, 3)
    assert (again.spent, again.reserved) == (61, 7)


@pytest.mark.parametrize(
    ("cap", "spent", "share"),
    [(None, 9, None), (0, 0, 1.0), (100, 89, None), (100, 90, 0.9), (100, 99, 0.95), (100, 120, 1)],
)
def test_share_of_the_cap_of_all_is_told_roughly(cap, spent, share):
    assert Deployment(monthly_cap_micro=cap, spent=spent).share == share


def test_minute_bounds_replies_alone():
    budget = replace(Budget(**CAPS).opened(BEFORE, 0), minute_turns=2)

    refused = reserve(budget, Deployment(), [], WANTED, BEFORE)
    assert (refused.reason, refused.per_minute, refused.wait_seconds) == ("too_fast", 2, 1)
    title = replace(WANTED, purpose=Purpose.TITLE)
    assert reserve(budget, Deployment(), [], title, BEFORE)[1] == 500
