"""Turns: begun, kept alive, stopped and finished; refused; recovered after a crash."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.crypto import LARGEST_TEXT
from services.domain import (
    MessageId,
    MissingReply,
    NewConversation,
    Outcome,
    Purpose,
    SpaceId,
    Thoughts,
    TurnCost,
    Usage,
    Window,
)
from services.domain.turns import Lease, TurnState
from services.errors import Busy, OverBudget, SpaceGone, Stale
from tests.store.conformance.talk import (
    LEASE_SECONDS,
    THOUGHTS,
    UNDO_SECONDS,
    answer,
    bodies,
    crash,
    delete,
    ending,
    first_turn,
    left_micro,
    new_turn,
    recovery,
    say,
    stored_space,
    titles,
    whole,
)


@pytest.fixture
def turn(garden):
    return new_turn(garden, "And leeks?")


@pytest.fixture
def begun(maya, turn):
    return maya.turns.begin(turn)


@pytest.fixture
def checkpoint(maya, begun, garden_id):
    """Store the partial reply of the turn."""

    def checkpoint(said, thoughts=None, seconds=LEASE_SECONDS):
        return maya.turns.checkpoint(begun.turn_id, garden_id, said, seconds, thoughts)

    return checkpoint


# --- begin, checkpoint, stop, finish


def test_prompt_is_stored_when_its_turn_begins(maya, turn, begun, garden_id):
    thread = maya.elsewhere().conversations.thread(garden_id)

    assert (whole(thread).tip.id, thread.tip.body) == (turn.prompt_id, "And leeks?")
    assert begun.reserved_micro == 1100


def test_lease_outlives_four_missed_heartbeats(maya):
    pace = maya.turns.pace

    assert pace.lease_seconds >= 5 * pace.beat_seconds


def test_conversation_is_stored_with_its_first_prompt(maya):
    space = stored_space(maya)
    new = NewConversation(model="large", instructions="Be brief.", space_id=space.id)
    turn = first_turn("When do I sow peas?", new)

    answer(maya, turn, "In March.")

    thread = maya.elsewhere().conversations.thread(turn.thread.conversation.id)
    assert bodies(whole(thread).messages) == ["When do I sow peas?", "In March."]
    conversation = thread.conversation
    assert (conversation.title, conversation.policy) == ("Garden", Window())
    assert (conversation.model, conversation.space_id) == ("large", space.id)
    assert thread.instructions == "Be brief."
    assert titles(maya.conversations.recent()) == titles(maya.conversations.titled("garden"))


def test_first_turn_whose_answer_was_lost_begins_one_conversation(backend, maya):
    turn = first_turn("When?")
    with backend.lose_answer(maya, "begin_turn"):
        begun = maya.turns.begin(turn)
    maya.turns.finish(ending(turn, begun, "In March."))

    assert titles(maya.elsewhere().conversations.recent()) == ["Garden"]
    thread = maya.conversations.thread(turn.thread.conversation.id)
    assert bodies(thread.messages) == ["When?", "In March."]


def test_refused_first_prompt_leaves_no_conversation(backend, maya):
    backend.set_caps(maya, daily_micro=0)
    with pytest.raises(OverBudget):
        maya.turns.begin(first_turn("When?"))

    backend.set_caps(maya, daily_micro=10_000)
    with pytest.raises(SpaceGone):
        maya.turns.begin(first_turn("When?", NewConversation(space_id=SpaceId(uuid4()))))

    assert maya.elsewhere().conversations.recent() == []
    assert left_micro(maya) == 10_000


def test_open_turn_is_found_by_its_state(maya, turn, begun, checkpoint, garden_id):
    reader = maya.elsewhere().turns
    assert reader.read(garden_id)[1].state is TurnState.RESERVED
    checkpoint("In A")
    assert reader.read(garden_id)[1].state is TurnState.STREAMING

    maya.turns.finish(ending(turn, begun, "In April."))

    assert reader.read(garden_id)[1] is None


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.STOPPED, Outcome.FAILED])
def test_turn_that_stored_no_reply_tells_its_end(maya, turn, begun, garden_id, outcome):
    maya.turns.finish(ending(turn, begun, "", outcome=outcome))

    for user in (maya, maya.elsewhere()):
        thread, _ = user.turns.read(garden_id)
        assert thread.missing_reply == MissingReply(turn.prompt_id, outcome)


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.STOPPED])
def test_turn_that_stored_a_reply_misses_none(maya, turn, begun, garden_id, outcome):
    maya.turns.finish(ending(turn, begun, "In April.", outcome=outcome))

    assert maya.elsewhere().turns.read(garden_id)[0].missing_reply is None


def test_checkpoint_stores_the_partial_reply(maya, turn, begun, checkpoint, garden_id):
    assert checkpoint("In A", THOUGHTS) is Lease.HELD

    left = maya.elsewhere().turns.read(garden_id)[1]

    assert (left.id, left.prompt_id) == (begun.turn_id, turn.prompt_id)
    assert (left.partial, left.thoughts) == ("In A", THOUGHTS)


def test_checkpoint_keeps_earlier_partial_text_and_thoughts(maya, checkpoint, garden_id):
    checkpoint("", Thoughts(text="Hm."))
    checkpoint("", THOUGHTS)
    checkpoint("In A")
    checkpoint("")

    left = maya.elsewhere().turns.read(garden_id)[1]

    assert (left.partial, left.thoughts) == ("In A", THOUGHTS)


def test_stop_requested_elsewhere_is_told_at_the_checkpoint(maya, garden_id, begun, checkpoint):
    assert checkpoint("In A") is Lease.HELD

    maya.elsewhere().turns.stop(garden_id, begun.turn_id)

    assert checkpoint("In Ap") is Lease.STOP_REQUESTED


@pytest.mark.parametrize("purpose", [Purpose.REPLY, Purpose.FACTS])
def test_turn_of_a_chat_deleted_elsewhere_is_asked_to_stop(maya, garden, garden_id, purpose):
    begun = maya.turns.begin(new_turn(garden, "And leeks?", purpose=purpose))

    maya.elsewhere().conversations.discard(garden_id, UNDO_SECONDS)

    lease = maya.turns.checkpoint(begun.turn_id, garden_id, "", LEASE_SECONDS, None)
    assert lease is Lease.STOP_REQUESTED


@pytest.mark.parametrize(
    "outcome", [Outcome.STOPPED, Outcome.INTERRUPTED, Outcome.CUT, Outcome.FAILED]
)
def test_reply_is_stored_with_its_outcome(maya, garden, garden_id, outcome):
    say(maya, garden, "And leeks?", "In A", outcome=outcome)

    reply = maya.elsewhere().conversations.thread(garden_id).tip
    assert (reply.body, reply.outcome) == ("In A", outcome)


def test_reply_without_a_word_is_no_message(maya, garden):
    before = left_micro(maya)

    thread = say(maya, garden, "And leeks?", "", outcome=Outcome.FAILED)

    assert bodies(whole(thread).messages)[4:] == ["And leeks?"]
    assert left_micro(maya) == before - 300


def test_newest_turn_is_the_last_begun_though_a_clock_ran_ahead(backend, maya, garden, garden_id):
    asked = say(maya, garden, "And leeks?", "", outcome=Outcome.FAILED, cost_micro=0)
    backend.let_pass(-30)
    again = new_turn(asked, None, prompt_id=asked.messages[-1].id)
    begun = maya.turns.begin(again)

    assert maya.elsewhere().turns.read(garden_id)[1].id == begun.turn_id

    maya.turns.finish(ending(again, begun, "In April."))
    assert maya.elsewhere().turns.read(garden_id)[0].missing_reply is None


def test_finishing_twice_stores_one_reply(maya, turn, begun, garden_id):
    end = ending(turn, begun, "In April.")
    before = left_micro(maya)

    for _ in range(2):
        maya.turns.finish(end)

    assert bodies(maya.conversations.thread(garden_id).messages)[4:] == ["And leeks?", "In April."]
    assert left_micro(maya) == before + begun.reserved_micro - end.settlement.cost_micro


@pytest.mark.parametrize("verb", ["begin_turn", "finish_turn"])
def test_turn_whose_answer_was_lost_is_stored_once(backend, maya, garden, garden_id, verb):
    before = left_micro(maya)

    with backend.lose_answer(maya, verb):
        say(maya, garden, "And leeks?", "In April.")

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert bodies(whole(thread).messages)[4:] == ["And leeks?", "In April."]
    assert left_micro(maya) == before - 300


def test_reply_is_stored_though_messages_are_deleted_meanwhile(backend, maya, garden, garden_id):
    turn = new_turn(garden, None, prompt_id=garden.messages[0].id)
    end = ending(turn, maya.turns.begin(turn), "In April.")
    other = maya.elsewhere()
    seen = other.conversations.thread(garden_id)

    with backend.after(maya, "read_conversation", lambda: delete(other, seen, 2)):
        maya.turns.finish(end)

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert bodies(whole(thread).messages) == ["When do I sow peas?", "In March.", "In April."]


def test_turn_ends_in_a_conversation_no_longer_cached(maya, garden, garden_id):
    other = maya.elsewhere()
    turn = new_turn(other.conversations.thread(garden_id), "And leeks?")
    begun = other.turns.begin(turn)

    maya.turns.finish(ending(turn, begun, "In April."))

    thread = other.conversations.thread(garden_id)
    assert (thread.is_whole, thread.tip.body) == (True, "In April.")


# --- where the view begins


def test_planned_start_is_stored(maya, garden, garden_id):
    thread = answer(maya, new_turn(garden, "And leeks?", start_seq=4), "In April.")
    assert thread.conversation.start_seq == 4

    thread = answer(maya, new_turn(thread, "And kale?", start_seq=2), "In June.")
    assert thread.conversation.start_seq == 2

    again = new_turn(thread, None, prompt_id=thread.messages[0].id, start_seq=6)
    thread = answer(maya, again, "In April.")
    assert thread.conversation.start_seq == 6


def test_plan_from_before_a_cleared_context_is_stale(maya, garden, garden_id):
    turn = new_turn(garden, "And leeks?")
    maya.elsewhere().conversations.start_anew(garden)

    with pytest.raises(Stale):
        maya.turns.begin(turn)


# --- receipts and costs


def test_receipt_is_stored_with_its_turn(maya, garden, garden_id):
    thread = answer(maya, new_turn(garden, "And leeks?", receipt="Leeks!"), "In April.")

    for reader in (maya, maya.elsewhere()):
        found = reader.turns.receipts(thread.messages, garden_id)
        assert found == {thread.tip.turn_id: "Leeks!"}


def test_receipt_that_is_too_long_prevents_no_turn(maya, garden, garden_id):
    receipt = "é" * (LARGEST_TEXT // 2 + 1)

    thread = answer(maya, new_turn(garden, "And leeks?", receipt=receipt), "In April.")

    assert thread.tip.body == "In April."
    assert maya.turns.receipts(thread.messages, garden_id) == {}


def test_costs_are_those_of_settled_turns(maya, garden, begun, garden_id):
    messages = maya.conversations.thread(garden_id).messages

    costs = maya.elsewhere().turns.costs(messages, garden_id)

    settled = {message.turn_id for message in garden.messages}
    assert costs == dict.fromkeys(settled, TurnCost("test-model", Usage(10, 20), 300))
    assert begun.turn_id not in costs


# --- refusals


def test_prompt_from_an_old_revision_is_stale(maya, garden, garden_id):
    other = maya.elsewhere()
    old = other.conversations.thread(garden_id)
    say(maya, garden, "From here", "Yes.")

    with pytest.raises(Stale):
        other.turns.begin(new_turn(old, "From there"))

    assert say(other, other.conversations.thread(garden_id), "From there", "Too.").is_whole


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_second_reply_is_refused_while_one_is_coming(maya, garden_id, is_elsewhere):
    user = maya.elsewhere() if is_elsewhere else maya
    thread = user.conversations.thread(garden_id)

    with pytest.raises(Busy):
        user.turns.begin(new_turn(thread, "And kale?"))

    assert user.conversations.thread(garden_id) == thread


def test_turn_id_of_another_request_is_stale(maya, garden):
    turn = new_turn(garden, None, purpose=Purpose.TITLE)
    begun = maya.turns.begin(turn)
    assert maya.turns.begin(turn) == begun

    with pytest.raises(Stale):
        maya.turns.begin(replace(turn, reservation=replace(turn.reservation, reply_micro=2000)))


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("purpose", [Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS])
def test_background_turn_is_charged_beside_a_coming_reply(maya, garden_id, purpose):
    thread, before = maya.conversations.thread(garden_id), left_micro(maya)

    turn = new_turn(thread, None, purpose=purpose)
    maya.turns.finish(ending(turn, maya.turns.begin(turn), "Peas"))

    assert maya.conversations.thread(garden_id) == thread
    assert left_micro(maya) == before - 300


@pytest.mark.parametrize("purpose", [Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS])
def test_background_turn_is_no_open_reply(maya, garden, begun, garden_id, purpose):
    maya.turns.begin(new_turn(garden, None, purpose=purpose))

    assert maya.elsewhere().turns.read(garden_id)[1].id == begun.turn_id


# --- discarded and deleted meanwhile


def test_reply_of_a_discarded_conversation_is_restored_with_it(maya, turn, begun, garden_id):
    maya.elsewhere().conversations.discard(garden_id, UNDO_SECONDS)

    maya.turns.finish(ending(turn, begun, "In April."))
    maya.conversations.restore(garden_id)

    thread = maya.conversations.thread(garden_id)
    assert (thread.is_whole, thread.tip.body) == (True, "In April.")


def test_reply_of_a_deleted_conversation_is_charged(backend, maya, turn, begun, garden_id):
    before = left_micro(maya)
    maya.conversations.discard(garden_id, UNDO_SECONDS)
    backend.let_pass(LEASE_SECONDS + 1)
    backend.sweep()

    maya.turns.finish(ending(turn, begun, "In April."))

    assert left_micro(maya) == before + begun.reserved_micro - 300
    assert str(garden_id) not in backend.stored_text()


# --- recovery of a crashed turn


@pytest.mark.parametrize(
    ("said", "thoughts"), [("Half a", THOUGHTS), ("Half a", None), ("", THOUGHTS)]
)
def test_crashed_turn_is_found_as_stored_last(backend, maya, garden, garden_id, said, thoughts):
    _, begun = crash(backend, maya, garden, said, thoughts)

    backend.sweep()

    left = maya.elsewhere().turns.read(garden_id)[1]
    assert (left.id, left.state) == (begun.turn_id, TurnState.LAPSED)
    assert (left.partial, left.thoughts) == (said, thoughts)


@pytest.mark.parametrize(("said", "charged"), [("", 0), ("Half a", 1100)])
def test_crashed_turn_is_charged_if_it_called_the_model(backend, maya, garden, said, charged):
    before = left_micro(maya)
    crash(backend, maya, garden, said)

    backend.sweep()

    assert left_micro(maya) == before - charged


def test_partial_reply_becomes_one_interrupted_message(backend, maya, garden, garden_id):
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()

    for user in (maya, maya.elsewhere()):
        user.turns.finish(recovery(turn, begun, "Half a"))

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert bodies(whole(thread).messages)[4:] == ["Will this end?", "Half a"]
    assert thread.tip.outcome is Outcome.INTERRUPTED
    assert maya.turns.read(garden_id)[1] is None
    cost = maya.turns.costs([thread.tip], garden_id)[begun.turn_id]
    assert cost.cost_micro == begun.reserved_micro


def test_late_reply_is_a_version_beside_its_partial_text(backend, maya, garden, garden_id):
    before, other = left_micro(maya), maya.elsewhere()
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()
    partial = recovery(turn, begun, "Half a")
    other.turns.finish(partial)
    other.turns.costs([other.conversations.thread(garden_id).tip], garden_id)

    late = replace(partial, reply="Half a reply.", reply_id=MessageId(uuid4()))
    late = replace(late, settlement=ending(turn, begun, "").settlement)
    for each in (late, late, partial):  # the process is alive after all
        maya.turns.finish(each)

    thread = whole(other.conversations.thread(garden_id))
    _, half, reply = thread.messages[4:]
    assert bodies([half, reply]) == ["Half a", "Half a reply."]
    assert (half.outcome, reply.outcome) == (Outcome.INTERRUPTED, Outcome.COMPLETE)
    assert half.parent_id == reply.parent_id == turn.prompt_id
    assert left_micro(maya) == before - 300
    assert other.turns.costs([half], garden_id)[begun.turn_id].cost_micro == 300


def test_open_turn_is_not_recovered(maya, turn, begun, checkpoint):
    checkpoint("Half a")

    with pytest.raises(Busy):
        maya.turns.finish(recovery(turn, begun, "Half a"))


def test_interrupted_turn_is_final_at_its_real_cost(maya, turn, begun, garden_id, checkpoint):
    checkpoint("Half a")
    before = left_micro(maya)
    end = ending(turn, begun, "Half a", outcome=Outcome.INTERRUPTED)

    whole_reply = ending(turn, begun, "Half a reply.")
    for later in (end, end, whole_reply, recovery(turn, begun, "Half a")):
        maya.turns.finish(later)

    thread, left = maya.elsewhere().turns.read(garden_id)
    assert left is None
    assert bodies(thread.messages)[4:] == ["And leeks?", "Half a"]
    assert left_micro(maya) == before + begun.reserved_micro - 300
    assert maya.turns.costs([thread.tip], garden_id)[begun.turn_id].cost_micro == 300


def test_interrupted_turn_without_a_word_leaves_its_prompt(maya, turn, begun, garden_id):
    maya.turns.finish(ending(turn, begun, "", outcome=Outcome.INTERRUPTED, cost_micro=0))

    thread, left = maya.elsewhere().turns.read(garden_id)
    assert left is None
    assert thread.missing_reply == MissingReply(turn.prompt_id, Outcome.INTERRUPTED)


def test_late_interrupted_turn_corrects_the_charge_once(backend, maya, garden, garden_id):
    before = left_micro(maya)
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()
    maya.turns.finish(recovery(turn, begun, "Half a"))

    late = ending(turn, begun, "Half a rep", outcome=Outcome.INTERRUPTED)
    for end in (late, late, ending(turn, begun, "Half a reply.")):  # the process is alive after all
        maya.turns.finish(end)

    thread = whole(maya.elsewhere().conversations.thread(garden_id))
    assert bodies(thread.messages)[5:] == ["Half a", "Half a rep"]
    assert left_micro(maya) == before - 300


def test_crashed_turn_without_a_word_leaves_its_prompt(backend, maya, garden, garden_id):
    turn, _ = crash(backend, maya, garden)

    backend.sweep()

    thread, left = maya.turns.read(garden_id)
    assert left is None
    assert thread.missing_reply == MissingReply(turn.prompt_id, Outcome.INTERRUPTED)
    assert bodies(maya.conversations.thread(garden_id).messages)[4:] == ["Will this end?"]


def test_crashed_continuation_without_a_word_is_not_recovered(backend, maya, turn, begun):
    maya.turns.finish(ending(turn, begun, "Half a", outcome=Outcome.STOPPED))
    garden_id = turn.thread.conversation.id
    thread = maya.conversations.thread(garden_id)
    begun = maya.turns.begin(new_turn(thread, None, prompt_id=thread.tip.id))
    maya.turns.checkpoint(begun.turn_id, garden_id, "", LEASE_SECONDS, THOUGHTS)
    backend.let_pass(LEASE_SECONDS + 1)

    backend.sweep()

    read, left = maya.turns.read(garden_id)
    assert left is None
    assert read.tip == thread.tip


def test_turn_begins_after_a_crashed_one_before_the_sweep(backend, maya, garden, garden_id):
    crash(backend, maya, garden)

    thread = say(maya, maya.conversations.thread(garden_id), "Are you there?", "Yes.")

    assert bodies(thread.messages)[4:] == ["Will this end?", "Are you there?", "Yes."]


def test_checkpoints_keep_a_turn_alive(backend, checkpoint):
    checkpoint("In A", seconds=3 * LEASE_SECONDS)
    backend.let_pass(2 * LEASE_SECONDS)

    backend.sweep()

    assert checkpoint("In Ap") is Lease.HELD


@pytest.mark.usefixtures("begun")
def test_checkpoint_of_a_lapsed_turn_is_refused(backend, checkpoint):
    backend.let_pass(LEASE_SECONDS + 1)
    backend.sweep()

    assert checkpoint("In A") is Lease.LAPSED


def test_late_reply_is_stored_at_its_real_cost(backend, maya, garden, garden_id):
    before = left_micro(maya)
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()

    maya.turns.finish(ending(turn, begun, "Half a reply."))

    assert maya.conversations.thread(garden_id).tip.body == "Half a reply."
    assert left_micro(maya) == before - 300


def test_late_reply_to_a_deleted_prompt_is_only_charged(backend, maya, garden, garden_id):
    before = left_micro(maya)
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()
    delete(maya, maya.conversations.thread(garden_id), 4)
    assert maya.elsewhere().turns.read(garden_id)[1] is None  # the partial reply is gone as well

    maya.turns.finish(ending(turn, begun, "Half a reply."))

    thread = maya.conversations.thread(garden_id)
    assert (thread.is_whole, thread.messages) == (True, garden.messages)
    assert left_micro(maya) == before - 300
