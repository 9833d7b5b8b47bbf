"""Another reply to the same prompt, by another model or under another memory policy, for this turn only."""

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
    """Regenerate the last reply; return the thread and the receipt."""
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


@pytest.mark.parametrize(
    ("policy", "seen"), [(Full(), range(1, 9)), (Window(8), range(1, 9)), (Window(2), range(7, 9))]
)
def test_another_policy_holds_once_and_moves_no_view(maya, garden, policy, seen):
    maya.database.go_on(garden, "Q 4", "A 4", start_seq=4)

    thread, receipt = again(maya, garden, policy=policy)

    assert receipt.policy == policy.name
    assert [seq for seq, _ in receipt.verbatim] == list(seen)
    assert (thread.conversation.policy, thread.conversation.start_seq) == (Window(), 4)
