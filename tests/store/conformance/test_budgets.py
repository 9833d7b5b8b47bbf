"""Budgets: what turns reserve, and the caps that clip or refuse them."""

import pytest

from services.domain import Purpose
from services.errors import Cap, OverBudget
from tests.store.conformance.talk import destroy, ending, first_turn, left_micro, new_turn


@pytest.fixture
def begin(maya):
    """Begin a turn in a conversation of its own."""

    def begin(**changes):
        turn = first_turn("How much?", **changes)
        return turn, maya.turns.begin(turn)

    return begin


def refusal(begin):
    with pytest.raises(OverBudget) as refused:
        begin()
    return refused.value


CAPS = [("daily_micro", Cap.DAILY), ("monthly_micro", Cap.MONTHLY)]


@pytest.mark.parametrize(("cap", "_"), CAPS)
def test_reply_is_clipped_to_the_remaining_cap(backend, maya, begin, cap, _):
    backend.set_caps(maya, **{cap: 500})

    _, begun = begin()

    assert begun.reserved_micro == 500


@pytest.mark.parametrize(("cap", "reason"), CAPS)
def test_turn_beyond_a_cap_is_refused(backend, maya, begin, cap, reason):
    backend.set_caps(maya, **{cap: 149})

    refused = refusal(begin)

    assert (refused.cap, refused.needed_micro, refused.left_micro) == (reason, 150, 149)
    backend.set_caps(maya, **{cap: 150})
    _, begun = begin()
    assert begun.reserved_micro == 150


def test_refused_turn_stores_nothing(backend, maya, garden, garden_id):
    backend.set_caps(maya, daily_micro=0)

    with pytest.raises(OverBudget):
        maya.turns.begin(new_turn(garden, "And leeks?"))

    assert maya.elsewhere().conversations.thread(garden_id) == garden
    assert maya.turns.read(garden_id)[1] is None


def test_reserved_amount_counts_against_the_cap(backend, maya, begin):
    backend.set_caps(maya, daily_micro=1200)
    begin()

    assert refusal(begin).left_micro == 100


@pytest.mark.parametrize("cost_micro", [1080, 1900], ids=["reserved", "owed"])
def test_settled_turn_counts_at_its_cost(backend, maya, begin, cost_micro):
    backend.set_caps(maya, daily_micro=2000)
    turn, begun = begin()

    maya.turns.finish(ending(turn, begun, "Dear.", cost_micro=cost_micro))

    assert left_micro(maya) == 2000 - cost_micro


@pytest.mark.parametrize(
    ("cap", "days"), [("daily_micro", 1), ("monthly_micro", 31)], ids=["day", "month"]
)
def test_new_day_or_month_opens_its_cap(backend, maya, begin, cap, days):
    backend.set_caps(maya, **{cap: 1200})
    turn, begun = begin()
    maya.turns.finish(ending(turn, begun, "Dear.", cost_micro=1200))
    assert refusal(begin).left_micro == 0

    backend.begin_days_later(maya, days)

    assert begin()[1].reserved_micro == 1100


def test_users_have_budgets_of_their_own(backend, maya, omar, begin):
    backend.set_caps(omar, daily_micro=1200)
    begin()

    assert left_micro(omar) == 1200


def test_too_many_open_turns_are_refused(backend, maya, begin):
    backend.set_caps(maya, open_turns=1)
    turn, begun = begin()

    assert refusal(begin).cap is Cap.OPEN_TURNS
    begin(purpose=Purpose.TITLE)
    maya.turns.finish(ending(turn, begun, "Yes."))
    begin()


def test_too_many_turns_a_minute_are_refused(backend, maya, begin):
    backend.set_caps(maya, turns_a_minute=0)

    refused = refusal(begin)

    assert refused.cap is Cap.TURNS_A_MINUTE
    assert "0 messages a minute" in refused.public
    begin(purpose=Purpose.TITLE)


def test_deleted_conversation_still_counts_against_the_cap(backend, maya, garden):
    before = left_micro(maya)

    destroy(backend, maya, garden.conversation.id)

    assert left_micro(maya) == before
