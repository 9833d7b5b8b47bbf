"""Branches of a thread: the branch that is read if a prompt has more than one reply."""

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.domain import Conversation, ConversationId, MessageId, Role, Thread, TurnId, Window
from tests.unit.test_memory import NOON, said

CONVERSATION = Conversation(
    id=ConversationId(UUID(int=0)), title="", policy=Window(), created_at=NOON, updated_at=NOON
)


def thread(*parents):
    """Return a thread in which message number n has the n-th of *parents* as its parent; 0: none."""
    roles = [Role.USER]
    for parent in parents[1:]:
        spoke = roles[parent - 1] if parent else Role.ASSISTANT
        roles.append(Role.USER if spoke is Role.ASSISTANT else Role.ASSISTANT)
    messages = tuple(
        said(seq, role=role, parent_id=message_id(parent) if parent else None)
        for seq, (parent, role) in enumerate(zip(parents, roles, strict=True), 1)
    )
    return Thread(conversation=CONVERSATION, messages=messages)


def message_id(seq):
    return MessageId(UUID(int=seq))


def seqs(read):
    return [message.seq for message in read.branch()]


# 1 prompt, 2 reply, 3 prompt, 4 reply, 5 another reply to 1, 6 prompt, 7 reply
GARDEN = thread(0, 1, 2, 3, 1, 5, 6)


def test_branch_ends_with_the_newest_message():
    assert seqs(GARDEN) == [1, 5, 6, 7]
    assert seqs(thread(0)) == [1]
    assert Thread(conversation=CONVERSATION, messages=()).branch() == ()


def test_older_version_is_read_to_its_newest_descendant():
    assert seqs(GARDEN.through(message_id(2))) == [1, 2, 3, 4]
    assert seqs(GARDEN.through(message_id(5))) == [1, 5, 6, 7]


def test_late_whole_reply_leads_to_no_other_branch():
    """It is stored after the partial reply of its turn, from which the user may have gone on."""
    *older, late = thread(0, 1, 2, 1).messages
    turn_id = TurnId(message_id(9))
    older[1], late = (replace(one, turn_id=turn_id) for one in (older[1], late))
    gone_on = replace(GARDEN, messages=(*older, late))
    waited = replace(GARDEN, messages=(*older[:2], late))

    assert seqs(gone_on) == seqs(gone_on.through(message_id(1))) == [1, 2, 3]
    assert seqs(gone_on.through(late.id)) == [1, 4]
    assert seqs(waited) == [1, 4]


def test_unknown_message_leaves_the_thread_unchanged():
    assert GARDEN.through(message_id(99)) == GARDEN.up_to(message_id(99)) == GARDEN


def test_messages_of_one_speaker_in_one_place_are_versions():
    first, second = GARDEN.messages[1], GARDEN.messages[4]
    edited = thread(0, 1, 0, 3).messages

    assert GARDEN.versions(first) == GARDEN.versions(second) == (first, second)
    assert GARDEN.versions(GARDEN.messages[3]) == (GARDEN.messages[3],)
    assert thread(0, 1, 0, 3).versions(edited[0]) == (edited[0], edited[2])


def test_thread_is_read_up_to_and_before_a_message():
    assert seqs(GARDEN.up_to(message_id(3))) == [1, 2, 3]
    assert seqs(GARDEN.before(GARDEN.messages[2])) == [1, 2]
    assert seqs(GARDEN.before(GARDEN.messages[0])) == []


def test_part_that_does_not_verify_stands_by_itself():
    prompt, first = thread(0, 1).messages
    second = replace(first, id=message_id(3), seq=3, parent_id=first.id, is_verified=False)
    third = replace(first, id=message_id(4), seq=4, parent_id=second.id)
    read = Thread(conversation=CONVERSATION, messages=(prompt, first, second, third))

    assert read.branch() == read.messages


@st.composite
def threads(draw):
    parents = [0]
    for seq in range(2, draw(st.integers(2, 24))):
        parents.append(draw(st.integers(1, seq - 1)))
    return thread(*parents)


@given(threads(), st.data())
def test_branch_follows_parents_from_root_to_leaf(read, data):
    message = data.draw(st.sampled_from(read.messages))
    branch = read.through(message.id).branch()

    parents = [one.parent_id for one in branch]
    assert parents == [None, *(one.id for one in branch[:-1])]
    assert message in branch
    assert branch[-1].id not in {one.parent_id for one in read.messages}
