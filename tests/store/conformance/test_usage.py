"""Usage: totals by day, purpose and conversation, and the single entries."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from services.domain import Fact, FactId, Outcome, Purpose, Space, SpaceId
from tests.store.conformance.talk import (
    NOON,
    THOUGHTS,
    UNDO_SECONDS,
    answer,
    crash,
    delete,
    destroy,
    ending,
    first_turn,
    new_turn,
    say,
)


@pytest.fixture
def days():
    """Yesterday and tomorrow, because a test may run at midnight."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=1), today + timedelta(days=1)


def by_conversation(report):
    return [(one.conversation_id, one.replies, one.cost_micro) for one in report.conversations]


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
    assert maya.usage.ledger(entries[0].day, days[1], entries[0].id) == entries[1:]


def test_usage_of_other_days_and_users_is_left_out(backend, maya, days):
    answer(maya, first_turn("When?"), "In March.")
    long_ago = days[0] - timedelta(days=40)

    assert maya.usage.ledger(long_ago, long_ago) == []
    assert not maya.usage.report(long_ago, long_ago).days
    assert not backend.user().usage.report(*days).days


def test_usage_since_the_first_day_of_the_calendar_is_read(maya):
    answer(maya, first_turn("When?"), "In March.", cost_micro=300)
    always = date.min, date.max

    assert [one.cost_micro for one in maya.usage.report(*always).days] == [300]
    assert [one.cost_micro for one in maya.usage.ledger(*always)] == [300]


def test_figures_count_what_is_stored(backend, maya, garden):
    before = maya.usage.stored()
    other = answer(maya, first_turn("Why?"), "So.", cost_micro=5)
    maya.conversations.archive(other.conversation.id)
    maya.spaces.keep(Space(id=SpaceId(uuid4()), name="Allotment", created_at=NOON))
    maya.facts.keep(Fact(id=FactId(uuid4()), text="Grows leeks.", since=NOON))

    stored = maya.usage.stored()

    assert (stored.conversations, stored.archived) == (before.conversations + 1, 1)
    assert stored.messages == before.messages + 2 == len(garden.messages) + 2
    assert (stored.spaces, stored.facts) == (1, 1)
    assert stored.sealed_bytes > before.sealed_bytes > 0
    assert stored.ledger_entries == before.ledger_entries + 1
    assert stored.ledger_since


def test_deleted_conversation_is_counted_until_it_is_destroyed(backend, maya):
    thread = answer(maya, first_turn("Why?"), "So.")
    delete(maya, answer(maya, first_turn("When?"), "Soon."), 1)
    maya.conversations.discard(thread.conversation.id, UNDO_SECONDS)

    stored = maya.usage.stored()

    assert (stored.conversations, stored.messages, stored.deleted) == (1, 1, 1)
    assert stored.destroyed_at
    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()
    assert maya.usage.stored().deleted == 0


def test_figures_follow_what_is_deleted_restored_destroyed_and_corrected(backend, maya):
    thread = answer(maya, first_turn("Why?"), "So.", thoughts=THOUGHTS)
    thread = say(maya, thread, "When?", "In March.")
    here = thread.conversation.id

    def figures():
        stored = maya.usage.stored()
        return stored.messages, stored.ledger_entries

    assert figures() == (4, 2)
    delete(maya, thread, 2)
    assert figures() == (2, 2)
    maya.messages.restore(here)
    assert figures() == (4, 2)
    delete(maya, maya.conversations.thread(here), 2)
    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()
    assert figures() == (2, 2)
    turn, begun = crash(backend, maya, maya.conversations.thread(here))
    backend.sweep()
    assert figures() == (3, 3)
    maya.turns.finish(ending(turn, begun, "It did."))
    assert figures() == (4, 4)  # the correction of a lapsed turn is an entry


def test_text_held_by_a_process_is_counted_until_forgotten(maya, garden, garden_id):
    held = maya.conversations.cached_data()

    assert (held.conversations, held.messages) == (1, len(garden.messages))
    assert held.text_bytes >= sum(len(message.body) for message in garden.messages)
    maya.conversations.forget(garden_id)
    assert maya.conversations.cached_data().messages == 0
