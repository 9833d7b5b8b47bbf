"""Messages: branches, versions, continued and edited replies, thoughts; deleted and restored."""

from uuid import uuid4

import pytest

from services.domain import MessageId, Outcome, Role, Thoughts
from services.errors import Busy, NotFound, Stale, TooLate
from tests.store.conformance.talk import (
    THOUGHTS,
    UNDO_SECONDS,
    answer,
    answer_again,
    bodies,
    crash,
    delete,
    left_micro,
    new_turn,
    recovery,
    say,
    unsaid,
    whole,
)


@pytest.fixture(scope="module")
def maya(busy_user):
    return busy_user


# --- read


def test_stored_turns_are_read_in_another_process(maya, garden_id):
    thread = maya.elsewhere().conversations.thread(garden_id)

    assert [(message.role, message.body) for message in whole(thread).branch()] == [
        (Role.USER, "When do I sow peas?"),
        (Role.ASSISTANT, "In March."),
        (Role.USER, "And beans?"),
        (Role.ASSISTANT, "In May."),
    ]
    assert [message.seq for message in thread.messages] == [1, 2, 3, 4]
    assert (thread.conversation.rev, thread.conversation.last_seq) == (4, 4)


def test_cached_thread_is_read_with_messages_from_elsewhere(maya, garden, garden_id):
    other = maya.elsewhere()
    say(other, other.conversations.thread(garden_id), "And leeks?", "In April.")

    thread = maya.conversations.thread(garden_id)

    assert thread.is_whole
    assert thread == other.conversations.thread(garden_id)


@pytest.mark.parametrize("is_read_again", [False, True])
def test_conversation_that_grows_during_a_read_is_whole(
    backend, maya, garden, garden_id, is_read_again
):
    reader = maya.elsewhere().conversations

    def grow():
        say(maya, garden, "More", "More.")
        if is_read_again:
            reader.thread(garden_id)

    with backend.after(maya, "read_conversation", grow):
        thread = reader.thread(garden_id)

    assert len(whole(thread).messages) == (6 if is_read_again else 4)
    assert len(reader.thread(garden_id).messages) == 6


# --- branches


def test_second_reply_is_another_version_and_is_read(maya, garden):
    thread = answer_again(maya, garden, garden.messages[2], "In June.")

    assert bodies(whole(thread).branch())[2:] == ["And beans?", "In June."]
    assert bodies(thread.versions(thread.tip)) == ["In May.", "In June."]


def test_edited_prompt_is_another_version_and_is_answered(maya, garden):
    thread = say(maya, garden.before(garden.messages[2]), "And leeks?", "In April.")

    branch = bodies(whole(thread).branch())
    assert branch == ["When do I sow peas?", "In March.", "And leeks?", "In April."]
    assert bodies(thread.versions(thread.branch()[2])) == ["And beans?", "And leeks?"]


def test_edited_first_prompt_follows_nothing(maya, garden):
    thread = say(maya, garden.before(garden.messages[0]), "And leeks?", "In April.")

    assert bodies(thread.branch()) == ["And leeks?", "In April."]


def test_conversation_goes_on_from_an_older_branch(maya, garden):
    answer_again(maya, garden, garden.messages[2], "In June.")
    thread = maya.conversations.thread(garden.conversation.id)

    thread = say(maya, thread.up_to(garden.messages[3].id), "Thanks.", "Welcome.")

    assert bodies(thread.branch())[2:] == ["And beans?", "In May.", "Thanks.", "Welcome."]


@pytest.mark.parametrize("outcome", [Outcome.CUT, Outcome.STOPPED, Outcome.FAILED])
def test_reply_that_ended_early_is_continued(maya, garden, outcome):
    thread = say(maya, garden, "And leeks?", "In Ap", outcome=outcome)
    reply = thread.messages[-1]
    assert reply.outcome is outcome

    thread = answer_again(maya, thread, reply, "ril.")

    assert whole(thread).messages[-1].parent_id == reply.id
    assert bodies(thread.branch())[-2:] == ["And leeks?", "In April."]


def test_interrupted_reply_is_continued(backend, maya, garden, garden_id):
    turn, begun = crash(backend, maya, garden, "Half a")
    backend.sweep()
    maya.turns.finish(recovery(turn, begun, "Half a"))
    thread = maya.conversations.thread(garden_id)

    thread = answer_again(maya, thread, thread.tip, " reply.")

    assert bodies(thread.branch())[4:] == ["Will this end?", "Half a reply."]


def test_complete_reply_is_not_continued(maya, garden):
    thread = say(maya, garden, "And leeks?", "In April", outcome=Outcome.COMPLETE)

    with pytest.raises(NotFound):
        answer_again(maya, thread, thread.messages[-1], ".")


def test_prompt_of_another_conversation_is_not_answered_again(maya, garden):
    other = say(maya, unsaid(), "Hi", "Hi.")

    with pytest.raises(NotFound):
        maya.turns.begin(new_turn(garden, None, prompt_id=other.messages[0].id))
    with pytest.raises(NotFound):
        maya.turns.begin(new_turn(garden, None, prompt_id=MessageId(uuid4())))


# --- edited replies


def test_edited_reply_is_another_version_without_a_turn(maya, garden, garden_id, reader):
    before = left_micro(maya)

    maya.messages.edit_reply(garden, garden.messages[1], "In April.")

    thread = reader.conversations.thread(garden_id)
    edited = thread.tip
    assert bodies(whole(thread).branch()) == ["When do I sow peas?", "In April."]
    assert (edited.outcome, edited.turn_id) == (Outcome.EDITED, None)
    assert not thread.conversation.is_unread
    assert not reader.turns.costs([edited], garden_id)
    assert left_micro(maya) == before
    assert not reader.turns.receipts([edited], garden_id)


def test_conversation_goes_on_from_an_edited_reply(maya, garden, garden_id):
    maya.messages.edit_reply(garden, garden.messages[3], "In June.")

    thread = say(maya, maya.conversations.thread(garden_id), "And leeks?", "In April.")

    branch = bodies(whole(thread).branch())
    assert branch[2:] == ["And beans?", "In June.", "And leeks?", "In April."]


def test_stale_edit_of_a_reply_is_refused(maya, garden, garden_id):
    maya.messages.edit_reply(garden, garden.messages[1], "In April.")

    with pytest.raises(Stale):
        maya.messages.edit_reply(garden, garden.messages[1], "In June.")

    assert len(maya.conversations.thread(garden_id).messages) == 5


def test_reply_is_not_edited_while_another_is_coming(maya, garden, garden_id):
    maya.turns.begin(new_turn(garden, "And leeks?"))
    thread = maya.conversations.thread(garden_id)

    with pytest.raises(Busy):
        maya.messages.edit_reply(thread, thread.messages[1], "In April.")


def test_only_replies_of_the_conversation_are_edited(maya, garden):
    other = say(maya, unsaid(), "Hi", "Hi.")

    for message in (garden.messages[0], other.messages[1]):
        with pytest.raises(NotFound):
            maya.messages.edit_reply(garden, message, "When do I sow beans?")


# --- thoughts


def thoughts_elsewhere(user, conversation_id):
    """Return the thoughts of each reply that has some, read by another process."""
    reader = user.elsewhere()
    messages = reader.conversations.thread(conversation_id).messages
    known = reader.turns.thoughts(messages, conversation_id)
    return [known[message.id] for message in messages if message.has_thoughts]


def test_thoughts_are_stored_with_their_reply(maya, garden, garden_id):
    other = Thoughts(text="Or not?", seconds=1)
    thread = say(maya, garden, "And leeks?", "In April.", thoughts=THOUGHTS)
    say(maya, thread, "And kale?", "In June.", thoughts=other)

    assert thoughts_elsewhere(maya, garden_id) == [THOUGHTS, other]


def test_thoughts_alone_answer_a_prompt(maya, garden, garden_id):
    thread = say(maya, garden, "And leeks?", "", thoughts=THOUGHTS)

    assert (thread.tip.body, thread.tip.is_thoughts_only) == ("", True)
    assert thoughts_elsewhere(maya, garden_id) == [THOUGHTS]


def test_messages_without_thoughts_have_none(maya, garden, garden_id):
    thread = say(maya, garden, "And leeks?", "In April.", thoughts=THOUGHTS)

    assert maya.turns.thoughts(thread.messages[:-1], garden_id) == {}


# --- delete and restore


def test_deleted_messages_are_read_no_more(maya, garden, garden_id, reader):
    reader.conversations.thread(garden_id)

    delete(maya, garden, 2)

    thread = reader.conversations.thread(garden_id)
    assert whole(thread).messages == garden.messages[:2]
    assert thread.conversation.undo_until is not None
    for user in (reader, maya.elsewhere()):
        assert user.messages.can_restore(garden_id)


def test_restored_messages_are_read_again(backend, maya, garden, garden_id, reader):
    delete(maya, garden, 2)
    assert len(reader.conversations.thread(garden_id).messages) == 2
    backend.sweep()

    maya.elsewhere().messages.restore(garden_id)

    thread = reader.conversations.thread(garden_id)
    assert whole(thread).messages == garden.messages
    assert thread.conversation.undo_until is None
    with pytest.raises(TooLate):
        maya.messages.restore(garden_id)


@pytest.mark.parametrize("is_swept", [False, True])
def test_deleted_messages_are_not_restored_late(backend, maya, garden, garden_id, is_swept):
    delete(maya, garden, 2)
    backend.let_pass(UNDO_SECONDS + 1)
    if is_swept:
        backend.sweep()

    assert not maya.messages.can_restore(garden_id)
    with pytest.raises(TooLate):
        maya.messages.restore(garden_id)
    thread = maya.elsewhere().conversations.thread(garden_id)
    assert (thread.is_whole, thread.messages) == (True, garden.messages[:2])


def test_newer_deletion_is_undone_after_a_late_one(backend, maya, garden, garden_id):
    delete(maya, garden, 3)
    backend.let_pass(UNDO_SECONDS + 1)
    delete(maya, maya.conversations.thread(garden_id), 2)

    maya.messages.restore(garden_id)

    assert maya.conversations.thread(garden_id).messages == garden.messages[:3]


def test_destroyed_message_leaves_nothing_in_the_store(backend, maya, garden, garden_id):
    maya.messages.edit_reply(garden, garden.messages[3], "In June.")
    thread = maya.conversations.thread(garden_id)
    delete(maya, thread, 4)
    assert str(thread.tip.id) in backend.stored_text()
    backend.let_pass(UNDO_SECONDS + 1)

    backend.sweep()

    assert str(thread.tip.id) not in backend.stored_text()


def test_destroyed_messages_leave_costs_and_no_receipts(backend, maya, garden, garden_id):
    kept = answer(maya, new_turn(garden, "And peas?", receipt="Peas!"), "In May.")
    thread = answer(maya, new_turn(kept, "And leeks?", receipt="Leeks!"), "In April.")
    delete(maya, thread, 6)
    backend.let_pass(UNDO_SECONDS + 1)

    backend.sweep()

    reader = maya.elsewhere().turns
    assert reader.receipts(thread.messages, garden_id).keys() == {kept.tip.turn_id}
    assert reader.costs([thread.tip], garden_id)[thread.tip.turn_id].cost_micro == 300


def test_conversation_goes_on_after_deleted_messages(maya, garden, garden_id):
    delete(maya, garden, 2)

    thread = say(maya, maya.conversations.thread(garden_id), "And leeks?", "In April.")

    assert [message.seq for message in whole(thread).messages] == [1, 2, 5, 6]
    assert bodies(thread.branch())[2:] == ["And leeks?", "In April."]


def test_messages_are_restored_beside_newer_ones(maya, garden, garden_id):
    delete(maya, garden, 2)
    thread = say(maya, maya.conversations.thread(garden_id), "And leeks?", "In April.")
    maya.conversations.mark_read(thread)

    maya.messages.restore(garden_id)

    thread = maya.elsewhere().conversations.thread(garden_id)
    assert [message.seq for message in whole(thread).messages] == [1, 2, 3, 4, 5, 6]
    assert not thread.conversation.is_unread


def test_stale_delete_and_prompt_after_a_deletion_are_refused(maya, garden, garden_id):
    other = maya.elsewhere()
    old = other.conversations.thread(garden_id)
    delete(maya, garden, 2)

    with pytest.raises(Stale):
        delete(other, old, 0)
    with pytest.raises(Stale):
        other.turns.begin(new_turn(old, "To what is gone"))

    assert len(maya.conversations.thread(garden_id).messages) == 2


def test_messages_with_a_coming_reply_are_not_deleted(maya, garden, garden_id):
    maya.turns.begin(new_turn(garden, None, prompt_id=garden.messages[2].id))

    with pytest.raises(Busy):
        delete(maya, maya.conversations.thread(garden_id), 2)

    assert len(maya.conversations.thread(garden_id).messages) == 4
