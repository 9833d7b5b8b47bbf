"""Another reply to the same prompt, by another model or under another memory policy, for once."""

import pytest

from services.domain import Full, Window
from services.llm import Offer
from services.memory.receipt import Receipt
from tests.fakes import LARGE, FakePerson, ScriptedModel


@pytest.fixture
def large():
    return ScriptedModel(("Ferns ", "and hostas."))


@pytest.fixture
def maya(database, model, large):
    return FakePerson(database, model, others=(Offer(LARGE, large),))


@pytest.fixture
def garden(maya):
    return maya.database.hold("Garden", *(f"{who} {n}" for n in range(4) for who in "QA"))


def again(maya, conversation_id, **choice):
    """The thread and the receipt of the reply that was made so."""
    assert maya.chat.retry(conversation_id, **choice).wait(20)
    thread = maya.chat.open(conversation_id)
    kept = maya.store.turns.receipts([thread.tip], conversation_id)
    return thread, Receipt.from_json(kept[thread.tip.turn_id])


def test_another_model_answers_once(maya, large, garden):
    thread, receipt = again(maya, garden, model="large")

    assert thread.tip.body == "Ferns and hostas."
    assert receipt.model == "large"
    assert thread.conversation.model is None
    assert maya.chat.begin(garden, "Why?").wait(20)
    assert len(large.seen) == 1


def test_another_policy_holds_once(maya, garden):
    thread, receipt = again(maya, garden, policy=Full())

    assert receipt.policy == "full"
    assert thread.conversation.policy == Window()


def test_retry_under_another_policy_keeps_the_start(maya, garden):
    thread, receipt = again(maya, garden, policy=Window(2))

    assert [seq for seq, _ in receipt.verbatim] == [5, 6]
    assert thread.conversation.start_seq == 0


def test_another_policy_sees_messages_outside_the_view(maya, garden):
    maya.database.go_on(garden, "Q 4", "A 4", start_seq=4)

    thread, receipt = again(maya, garden, policy=Full())

    assert [seq for seq, _ in receipt.verbatim] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert thread.conversation.start_seq == 4
