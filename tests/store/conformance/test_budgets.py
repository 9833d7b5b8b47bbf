"""Budgets: the reservations of turns, and the caps that shorten or refuse turns."""

import pytest

from services.domain import Purpose, Usage
from services.errors import Cap, OverBudget
from tests.store.conformance.talk import crash, destroy, ending, first_turn, left_micro, new_turn


@pytest.fixture
def begin(maya):
    """Return a function that begins a turn in a conversation of its own."""

    def begin(**changes):
        turn = first_turn("How much?", **changes)
        return turn, maya.turns.begin(turn)

    return begin


def refusal(begin):
    with pytest.raises(OverBudget) as refused:
        begin()
    return refused.value


def left_tokens(backend, user):
    """Return the number of tokens that are left today, from the refusal of a larger turn."""
    refused = refusal(
        lambda: user.turns.begin(first_turn("?", least_reply_tokens=10**6, reply_tokens=10**6))
    )
    assert refused.cap is Cap.DAILY_TOKENS
    return refused.left


CAPS = [  # by setting: the cap, and the amount of a turn that it limits
    ("daily_micro", Cap.DAILY, "reserved_micro"),
    ("monthly_micro", Cap.MONTHLY, "reserved_micro"),
    ("daily_tokens", Cap.DAILY_TOKENS, "reserved_tokens"),
]


@pytest.mark.parametrize(("cap", "reason", "bounded"), CAPS)
def test_turn_is_clipped_to_its_cap_or_refused(backend, maya, begin, cap, reason, bounded):
    backend.set_caps(maya, **{cap: 149})
    refused = refusal(begin)
    assert (refused.cap, refused.needed, refused.left) == (reason, 150, 149)

    backend.set_caps(maya, **{cap: 500})

    _, begun = begin()
    assert getattr(begun, bounded) == 500


def test_refused_turn_stores_nothing(backend, maya, garden, garden_id):
    backend.set_caps(maya, daily_micro=0)

    with pytest.raises(OverBudget):
        maya.turns.begin(new_turn(garden, "And leeks?"))

    assert maya.elsewhere().conversations.thread(garden_id) == garden
    assert maya.turns.read(garden_id)[1] is None


def test_reserved_amount_counts_against_the_cap(backend, maya, begin):
    backend.set_caps(maya, daily_micro=1200)
    begin()

    assert refusal(begin).left == 100


def test_settled_and_crashed_turns_count_their_tokens(backend, maya, begin, garden):
    backend.set_caps(maya, daily_tokens=10_000)
    turn, begun = begin()
    maya.turns.finish(ending(turn, begun, "So.", usage=Usage(70, 30)))
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()
    used = 4 * 30 // 2 + 100  # the tokens of the garden's two turns, and of the first turn here
    assert left_tokens(backend, maya) == 10_000 - used - 1100

    maya.turns.finish(ending(turn, begun, "Half a word", usage=Usage(20, 30)))

    assert left_tokens(backend, maya) == 10_000 - used - 50


def test_settled_turn_counts_at_its_cost(backend, maya, begin):
    backend.set_caps(maya, daily_micro=2000)
    turn, begun = begin()

    maya.turns.finish(ending(turn, begun, "Dear.", cost_micro=1080))

    assert left_micro(maya) == 2000 - 1080


@pytest.mark.parametrize(
    ("cap", "days"), [("daily_micro", 1), ("monthly_micro", 31)], ids=["day", "month"]
)
def test_new_day_or_month_opens_its_cap(backend, maya, begin, cap, days):
    backend.set_caps(maya, **{cap: 1100})
    turn, begun = begin()
    maya.turns.finish(ending(turn, begun, "Dear.", cost_micro=1100))
    assert refusal(begin).left == 0

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
