"""Recall over other conversations: what is brought back from where, and what is not."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.chat.elsewhere import Elsewhere
from services.domain import NewConversation, Preferences, Retrieval, Space, SpaceId, Window
from services.errors import StoreUnavailable
from tests.store.conftest import done
from tests.stores import store_of

KUMQUAT = "My kumquat tree is called Zebedee."
QUESTION = "What is my kumquat tree called?"


@pytest.fixture
def make(make_chat):
    """Makes a person's chat as another process would, looking in all conversations."""

    def made(session, **preferences):
        wanted = {"policy": Retrieval(), "recalls_elsewhere": True} | preferences
        chosen = Preferences(**wanted)
        chat = make_chat(session)
        chat.store.profile.change(lambda _: chosen)
        return replace(chat, elsewhere=Elsewhere(chat.store.corpus))

    return made


@pytest.fixture
def chat(maya, make, server):
    server.script(reply="I see.")
    server.requests.clear()
    return make(maya)


def ask(chat, prompt, thread=None, space_id=None):
    """The thread after a prompt and its reply."""
    conversation_id = thread.conversation.id if thread else None
    turn = done(chat.begin(conversation_id, prompt, new=NewConversation(space_id=space_id)))
    assert turn.failure is None
    return chat.store.conversations.thread(turn.conversation_id)


def sent(server):
    return str(server.requests[-1].body["messages"])


def last_receipt(chat, thread):
    found = chat.planning.receipt(thread, thread.messages[-1])
    assert found
    return found


def a_space(maya, name):
    space = Space(id=SpaceId(uuid4()), name=name, created_at=datetime.now(UTC))
    store_of(maya).spaces.keep(space)
    return space.id


def test_what_was_said_in_another_conversation_is_brought_back(chat, server):
    there = ask(chat, KUMQUAT)

    here = ask(chat, QUESTION)

    assert (
        f"user, in another chat> {KUMQUAT}" in server.requests[-1].body["messages"][-1]["content"]
    )
    receipt = last_receipt(chat, here)
    asked, _ = there.messages
    [note] = [note for note in receipt.recalls if note.message_id == asked.id]
    assert note.conversation_id == there.conversation.id
    shown = chat.planning.recalled_messages(here, receipt)
    assert shown[asked.id][0] == there.conversation.id
    assert shown[asked.id][1].body == KUMQUAT


def test_what_was_brought_back_stays_where_it_was_on_any_process(chat, maya, make, server):
    ask(chat, KUMQUAT)
    here = ask(chat, QUESTION)
    before = server.requests[-1].body["messages"]

    ask(make(maya), "Thanks.", here)

    after = server.requests[-1].body["messages"]
    assert after[: len(before)] == before
    assert str(after).count(KUMQUAT) == 1


def test_no_turn_is_begun_without_what_was_brought_back(chat, make, maya, monkeypatch):
    ask(chat, KUMQUAT)
    here = ask(chat, QUESTION)
    other = make(maya)

    def fail(*_):
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(other.store.corpus, "some", fail)
        assert other.planning.view(here, other.setup(here)).messages
        with pytest.raises(StoreUnavailable):
            other.begin(here.conversation.id, "And now?")


@pytest.mark.parametrize("changes", [{"recalls_elsewhere": False}, {"policy": Window()}])
def test_whoever_does_not_want_it_has_nothing_of_elsewhere_sent(chat, maya, make, server, changes):
    ask(chat, KUMQUAT)

    ask(make(maya, **changes), QUESTION)

    assert KUMQUAT not in sent(server)


def test_once_it_is_switched_off_nothing_that_was_brought_back_stays(chat, maya, make, server):
    ask(chat, KUMQUAT)
    here = ask(chat, QUESTION)
    assert KUMQUAT in sent(server)

    ask(make(maya, recalls_elsewhere=False), "And now?", here)

    assert KUMQUAT not in sent(server)


def test_a_space_keeps_to_itself(chat, maya, server):
    kennel, garden = a_space(maya, "Kennel"), a_space(maya, "Garden")
    there = ask(chat, KUMQUAT, space_id=garden)

    ask(chat, QUESTION, space_id=kennel)
    assert KUMQUAT not in sent(server)
    here = ask(chat, QUESTION)
    assert KUMQUAT not in sent(server)
    ask(chat, QUESTION, space_id=garden)
    assert KUMQUAT in sent(server)

    chat.store.conversations.move(there.conversation.id, None)
    ask(chat, "Once more: what is my kumquat tree called?", here)
    assert KUMQUAT in sent(server)
    chat.store.conversations.move(there.conversation.id, kennel)
    ask(chat, "Thanks.", chat.store.conversations.thread(here.conversation.id))
    assert KUMQUAT not in sent(server)


def test_what_is_discarded_is_not_brought_back(chat, maya, server):
    there = ask(chat, KUMQUAT)
    here = ask(chat, QUESTION)
    assert KUMQUAT in sent(server)

    chat.deletions.discard(there.conversation.id, 60)
    ask(chat, QUESTION)
    assert KUMQUAT not in sent(server)
    ask(chat, "And now?", here)
    assert KUMQUAT not in sent(server)

    chat.store.conversations.restore(there.conversation.id)
    ask(chat, QUESTION)
    assert KUMQUAT in sent(server)


def test_what_is_discarded_leaves_the_memory_at_once(chat, server):
    there = ask(chat, KUMQUAT)
    here = ask(chat, QUESTION)
    assert KUMQUAT in sent(server)

    chat.deletions.discard(there.conversation.id, 60)

    assert chat.planning.recalled_messages(here, last_receipt(chat, here)) == {}


def test_a_reply_that_was_written_again_is_left_out(chat, server):
    server.script(reply="Zanzibar, of course.")
    there = ask(chat, "Where does my parrot come from?")
    server.script(reply="I cannot know.")
    done(chat.retry(there.conversation.id))

    ask(chat, "Does my parrot come from Zanzibar?")

    assert "I cannot know" in sent(server)
    assert "of course" not in sent(server)


def test_nothing_of_another_person_is_brought_back(chat, sign_up, make, server):
    ask(chat, KUMQUAT)

    ask(make(sign_up()[1]), QUESTION)

    assert KUMQUAT not in sent(server)


def test_a_message_that_does_not_verify_is_left_out(chat, maya, stack, make, server):
    there = ask(chat, KUMQUAT)
    other = ask(chat, "My plum tree is called Ermintrude.")
    with stack.connect() as database:
        database.execute(
            "update public.messages m set body = o.body from public.messages o where m.id = %s and o.id = %s",
            [there.messages[0].id, other.messages[0].id],
        )

    ask(make(maya), "What is my plum tree called, and my kumquat tree?")

    assert sent(server).count("Ermintrude") == 1
    assert KUMQUAT not in sent(server)


def test_only_what_is_new_is_read_again(chat, maya):
    there = ask(chat, KUMQUAT)
    asked, read = [], chat.store.corpus.messages

    def watched(wanted):
        asked.append(dict(wanted))
        return read(wanted)

    chat.store.corpus.messages = watched
    chat = replace(chat, elsewhere=Elsewhere(chat.store.corpus))
    here = ask(chat, QUESTION)
    ask(chat, "More of that.", there)
    ask(chat, QUESTION, here)

    its = there.conversation.id
    assert [wanted[its] for wanted in asked if its in wanted] == [range(1, 3), range(3, 5)]
