"""Replies that reach their length limit."""

import pytest

from services.domain import Outcome, Purpose
from services.errors import ModelFailure
from services.llm import LimitReached
from tests.fakes import FakePerson, MemoryConversations, ScriptedModel
from tests.stack.apps import until


@pytest.fixture
def model():
    return ScriptedModel(("Prune ", "in Ma", LimitReached()))


@pytest.fixture
def maya(model):
    return FakePerson(MemoryConversations(), model)


def done(turn):
    assert turn.wait(20)
    return turn


def ask(maya, prompt="When?"):
    turn = done(maya.chat.begin(None, prompt))
    return turn, maya.chat.open(turn.conversation_id)


def test_reply_that_reached_its_limit_is_stored_as_cut(maya):
    turn, thread = ask(maya)

    assert turn.failure is None
    assert [(said.body, said.outcome) for said in thread.messages[1:]] == [
        ("Prune in Ma", Outcome.CUT)
    ]


def test_reply_longer_than_a_message_is_cut_and_its_request_ended(maya, model):
    model.pieces = ("x" * 300_000, *["never read"] * 3)
    model.gate.clear()  # in the middle of the pieces

    turn, thread = ask(maya)

    assert turn.failure is None
    assert thread.messages[-1].outcome is Outcome.CUT
    assert 200_000 <= len(thread.messages[-1].body) < 300_000


@pytest.mark.parametrize("pieces", [(LimitReached(),), ("\n", LimitReached())])
def test_limit_spent_on_thinking_is_a_failure_of_its_own(maya, model, pieces):
    model.pieces = pieces

    turn, _ = ask(maya)

    assert turn.failure.failure is ModelFailure.NO_ANSWER


def test_answer_that_reached_its_limit_is_no_title(model):
    maya = FakePerson(MemoryConversations(), model, purposes=(Purpose.TITLE,))

    turn, _ = ask(maya)

    until(lambda: len(model.seen) == 2 and not maya.chat.coming(Purpose.TITLE))
    assert not maya.chat.open(turn.conversation_id).conversation.is_titled
