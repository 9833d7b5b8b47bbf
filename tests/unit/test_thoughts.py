"""Thoughts that an endpoint streams: stored with their reply, and sent to no model."""

import pytest

from services.chat.paid_calls import PaidCalls
from services.domain import Outcome, Purpose, Retrieval, Thoughts, Usage
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import NotFound
from services.llm import LimitReached, Thought
from tests.chats import ask, done
from tests.fakes import INFO, FakePerson, ScriptedModel, choose
from tests.stack.apps import until

CANARY = "kumquat"
HM = Thought(f"Hm, {CANARY}. ")


@pytest.fixture
def model():
    return ScriptedModel((HM, HM, "In ", "March."))


def thoughts_of(maya, thread):
    last = thread.messages[-1]
    return maya.store.turns.thoughts([last], thread.conversation.id).get(last.id)


def seen(model):
    """Return all messages that the model was ever sent."""
    return "\n".join(message.body for request in model.seen for message in request)


def test_thoughts_are_kept_beside_the_text_of_their_reply(maya):
    _, thread = ask(maya.chat)

    assert thread.messages[-1].body == "In March."
    thoughts = thoughts_of(maya, thread)
    assert thoughts.text == 2 * f"Hm, {CANARY}. "
    assert thoughts.seconds >= 1
    assert CANARY not in repr(thoughts)


def test_thoughts_reach_no_later_request_of_any_kind(database, model):
    every = Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS
    maya = FakePerson(database, model, purposes=every)
    choose(maya.store.profile, keeps_facts=True, recalls_elsewhere=True, policy=Retrieval())
    _, thread = ask(maya.chat)
    until(lambda: not any(maya.chat.coming(purpose) for purpose in every))

    ask(maya.chat, f"What of the {CANARY}?", thread.conversation.id)
    ask(maya.chat, f"Any {CANARY}?")
    until(lambda: not any(maya.chat.coming(purpose) for purpose in every))

    assert len(model.seen) > 3, "titles and facts were asked for, too"
    assert f"Hm, {CANARY}" not in seen(model)


@pytest.mark.parametrize(
    "pieces",
    [
        [Thought("é" * 60_000)],
        [Thought("é" * 30_000)] * 40,
        [Thought("x"), Thought("\x01" * 40_000), Thought("é" * 60_000)],
    ],
)
def test_only_the_first_100_kb_of_thoughts_are_kept(maya, model, pieces):
    model.pieces = (*pieces, "In March.")

    _, thread = ask(maya.chat)

    thoughts = thoughts_of(maya, thread)
    assert thoughts.is_shortened
    assert 99_990 < len(thoughts.text.encode()) <= 100_000
    assert "\x01" not in thoughts.text, "JSON would spell it in six bytes"


def test_thoughts_cost_what_the_endpoint_counted_and_no_more(maya, model):
    model.pieces = (HM, "In March.", Usage(100, 50, thoughts=40))
    _, thread = ask(maya.chat)
    with_thoughts = maya.account.spent_today_micro
    model.pieces = ("In March.", Usage(100, 50, thoughts=40))
    ask(maya.chat)

    assert thoughts_of(maya, thread)
    assert maya.account.spent_today_micro == 2 * with_thoughts


def test_thoughts_that_no_endpoint_counted_are_charged(maya, model):
    model.pieces = (HM, LimitReached())

    ask(maya.chat)

    thoughts = INFO.cost_micro(Usage(0, len(HM.text.split())))
    assert maya.account.spent_today_micro > thoughts  # the prompt was charged as well


def test_thoughts_beyond_the_stored_ones_are_charged(maya, model, monkeypatch):
    def charged():
        turn, _ = ask(maya.chat)
        return maya.database.tables.turns[turn.id].tokens_out

    model.pieces = (*[HM] * 40, LimitReached())
    whole = charged()
    monkeypatch.setattr("services.chat.live_turn._LONGEST_THOUGHTS", 100)

    assert whole <= charged() <= whole * 1.1


# --- replies that ended with thoughts alone ----------------------------------------------------------


@pytest.fixture
def unanswered(maya, model):
    model.pieces = (HM, LimitReached())
    return ask(maya.chat)


def test_thoughts_without_an_answer_are_kept(maya, unanswered):
    turn, thread = unanswered

    assert turn.failure.failure is ModelFailure.NO_ANSWER
    reply = thread.messages[-1]
    assert (reply.body, reply.outcome, reply.is_thoughts_only) == ("", Outcome.FAILED, True)
    assert thoughts_of(maya, thread).text == HM.text


def test_prompt_with_thoughts_alone_counts_as_not_answered(maya, model, unanswered):
    _, thread = unanswered
    model.pieces = ("In March.",)

    ask(maya.chat, "And now?", thread.conversation.id)

    assert [message.body for message in model.seen[-1][1:]] == ["And now?"]


def test_retry_after_thoughts_alone_makes_another_version(maya, model, unanswered):
    _, thread = unanswered
    model.pieces = (HM, "In March.")

    done(maya.chat.retry(thread.conversation.id, thread.messages[-1].id))

    thread = maya.chat.open(thread.conversation.id)
    versions = thread.versions(thread.messages[-1])
    assert [version.body for version in versions] == ["", "In March."]
    assert all(version.has_thoughts for version in versions)


def test_thoughts_that_were_stopped_cannot_go_on(maya, model):
    model.pieces = (HM, HM, "In ", "March.")
    model.gate.clear()
    turn = maya.chat.begin(None, "When?")
    until(turn.thoughts)
    turn.stop()
    thread = maya.chat.open(done(turn).conversation_id)

    reply = thread.messages[-1]
    assert (reply.outcome, reply.is_thoughts_only) == (Outcome.STOPPED, True)
    with pytest.raises(NotFound):
        maya.chat.continue_reply(thread.conversation.id, reply.id)


def test_continuation_with_only_thoughts_leaves_the_reply_unchanged(maya, model):
    model.pieces = ("In Ma", LimitReached())
    _, thread = ask(maya.chat)
    model.pieces = (HM, LimitReached())

    done(maya.chat.continue_reply(thread.conversation.id, thread.tip.id))

    (_, reply) = maya.chat.open(thread.conversation.id).branch()
    assert (reply.body, reply.outcome, len(reply.stored)) == ("In Ma", Outcome.CUT, 1)


def test_each_part_of_a_continued_reply_has_thoughts(maya, model):
    model.pieces = (HM, "In Ma", LimitReached())
    _, thread = ask(maya.chat)
    model.pieces = (Thought("So: "), "rch.")

    done(maya.chat.continue_reply(thread.conversation.id, thread.tip.id))

    (_, reply) = maya.chat.open(thread.conversation.id).branch()
    known = maya.store.turns.thoughts(reply.stored, thread.conversation.id)
    assert [known[part.id].text for part in reply.stored] == [HM.text, "So: "]


# --- while they stream --------------------------------------------------------------------------------


def test_checkpoint_carries_thoughts_once_they_have_grown(maya, model, monkeypatch):
    carried = []
    checkpoint = maya.store.turns.checkpoint

    def note(turn_id, conversation_id, partial, lease_seconds, thoughts):
        carried.append(thoughts and thoughts.text)
        return checkpoint(turn_id, conversation_id, partial, lease_seconds, thoughts)

    turn, _ = ask(maya.chat)
    turn.kept_thoughts = None
    monkeypatch.setattr(maya.store.turns, "checkpoint", note)

    calls = PaidCalls(maya.store.turns, maya.choices.counter)
    calls.checkpoint(turn, "In")
    calls.checkpoint(turn, "In March.")

    assert carried == [2 * HM.text, None]


def test_thoughts_of_a_process_that_died_become_a_message(maya):
    thoughts = Thoughts(text="Hm.", seconds=7)
    garden = maya.database.hold("Garden", "When?")
    maya.database.crash(garden, "", thoughts)

    thread = maya.chat.open(garden)

    assert thread.messages[-1].outcome is Outcome.INTERRUPTED
    assert thoughts_of(maya, thread) == thoughts


def test_connection_that_breaks_in_the_thoughts_keeps_them(maya, model):
    model.pieces, model.failure = (HM,), ModelUnavailable(ModelFailure.DROPPED)

    turn, thread = ask(maya.chat)

    assert turn.failure.failure is ModelFailure.DROPPED
    assert thoughts_of(maya, thread).text == HM.text
