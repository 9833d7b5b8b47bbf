"""What a call of a model is charged: what its endpoint counted, as far as that is possible."""

from dataclasses import replace

import pytest

from services.domain import Usage
from tests.chats import ask
from tests.fakes import INFO


@pytest.fixture
def charged(maya):
    """Returns the turn that is settled after the endpoint reported *usage*."""

    def settle(usage):
        maya.model.pieces = ("Prune in March.", usage)
        turn, _ = ask(maya.chat)
        return maya.database.tables.turns[turn.id]

    return settle


@pytest.fixture
def bound(charged):
    """The upper bound of the tokens of the prompt."""
    return charged(Usage(1, 5)).reserved_tokens - INFO.reply_tokens


def test_prompt_is_charged_as_counted_up_to_its_bound(charged, bound):
    assert charged(Usage(bound, 5)).usage == Usage(bound, 5)


@pytest.mark.parametrize("beyond", [1, 270_000])
def test_prompt_counted_beyond_its_bound_is_not_believed(charged, bound, beyond):
    turn = charged(Usage(bound + beyond, 5))

    assert 0 < turn.usage.prompt < bound
    assert 0 < turn.cost_micro < turn.reserved_micro


def test_whole_reservation_is_the_most_that_is_charged(charged, bound):
    turn = charged(Usage(bound, INFO.context_tokens))

    assert turn.cost_micro == turn.reserved_micro


def test_cached_tokens_cost_no_more_than_others():
    dear = replace(INFO, cached_input_micro=9 * INFO.input_micro)

    assert dear.cost_micro(Usage(100, 0, cached=60)) == INFO.cost_micro(Usage(100, 0))
