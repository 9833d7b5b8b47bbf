"""Usage: added up by day, purpose and conversation, and entry by entry."""

from datetime import UTC, datetime, timedelta

import pytest

from services.domain import Outcome, Purpose
from tests.store.conformance.talk import answer, destroy, first_turn, new_turn, say


@pytest.fixture
def days():
    """Yesterday and tomorrow: a test may run at midnight."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=1), today + timedelta(days=1)


def by_conversation(report):
    return [(one.conversation_id, one.turns, one.cost_micro) for one in report.conversations]


def test_report_adds_up_by_day_purpose_and_conversation(maya, garden, garden_id, days):
    before = maya.usage.report(*days)
    say(maya, garden, "And leeks?", "In April.", cost_micro=400)
    title = new_turn(garden, None, purpose=Purpose.TITLE, model="small")
    answer(maya, title, "", cost_micro=20)
    other = answer(maya, first_turn("Why?", model="small"), "So.", cost_micro=5)

    report = maya.usage.report(*days)

    cost = sum(one.cost_micro for one in before.days) + 425
    assert sum(one.cost_micro for one in report.days) == cost
    assert sum(one.cost_micro for one in report.purposes) == cost
    assert {one.model for one in report.days} == {"test-model", "small"}
    assert {one.purpose: one.turns for one in report.purposes}[Purpose.TITLE] == 1
    assert by_conversation(report) == [
        (garden_id, *by_conversation(before)[0][1:]),
        (other.conversation.id, 1, 5),
    ] or by_conversation(report)[-1] == (other.conversation.id, 1, 5)


def test_usage_of_a_deleted_conversation_stays(backend, maya, days):
    first = answer(maya, first_turn("When?"), "In March.", cost_micro=300)
    destroy(backend, maya, first.conversation.id)

    report = maya.usage.report(*days)

    assert by_conversation(report) == [(None, 1, 300)]


def test_ledger_has_an_entry_for_each_turn(maya, days):
    thread = answer(maya, first_turn("When?"), "In March.", cost_micro=300)
    say(maya, thread, "Why?", "", cost_micro=7, outcome=Outcome.FAILED)

    entries = maya.usage.ledger(*days)

    assert [(one.outcome, one.purpose, one.cost_micro) for one in entries] == [
        ("complete", Purpose.REPLY, 300),
        ("failed", Purpose.REPLY, 7),
    ]
    assert [one.tokens_in for one in entries] == [10, 10]


def test_usage_of_other_days_and_users_is_left_out(backend, maya, days):
    answer(maya, first_turn("When?"), "In March.")
    long_ago = days[0] - timedelta(days=40)

    assert maya.usage.ledger(long_ago, long_ago) == []
    assert not maya.usage.report(long_ago, long_ago).days
    assert not backend.user().usage.report(*days).days
