"""Recall of earlier messages of a conversation, and of a user's other conversations."""

import pytest

from services.domain import NewConversation, Preferences, Retrieval, Window
from services.errors import StoreUnavailable
from tests.chats import LONG, SMALL, done, receipt_of, settled, view
from tests.store.conformance.talk import stored_space

KUMQUAT = "My kumquat tree is called Zebedee."
QUESTION = "What is my kumquat tree called?"
THANKS = "Thanks."


def searching(chat, **changes):
    """Return *chat* with a user's choice to recall from all conversations."""
    chosen = Preferences(**{"policy": Retrieval(), "recalls_elsewhere": True} | changes)
    chat.store.profile.change(lambda _: chosen)
    return chat


@pytest.fixture
def chat(make_chat, server):
    server.script(reply="I see.")
    return searching(make_chat())


def ask(chat, prompt, thread=None, space_id=None):
    its = thread and thread.conversation.id
    turn = chat.begin(its, prompt, new=NewConversation(space_id=space_id))
    thread = settled(chat, turn)
    assert turn.failure is None
    return thread


def messages(server):
    return server.requests[-1].body["messages"]


def is_sent(server, text=KUMQUAT):
    return text in str(messages(server))


def recall_of(chat, thread, message):
    """Return the receipt's entry of a recalled message."""
    [entry] = [one for one in receipt_of(chat, thread).recalls if one.message_id == message.id]
    return entry


@pytest.fixture
def there(chat):
    return ask(chat, KUMQUAT)


@pytest.fixture
def here(chat, there, server):
    """A conversation in which a message of the other one was recalled."""
    thread = ask(chat, QUESTION)
    assert is_sent(server)
    return thread


def test_receipt_names_the_recalled_message(chat, there, here):
    asked, _ = there.messages

    assert recall_of(chat, here, asked).conversation_id == there.conversation.id
    shown = chat.view(here.conversation.id).recalled(receipt_of(chat, here))
    its, message = shown[asked.id]
    assert (its, message.body) == (there.conversation.id, KUMQUAT)


def test_recalled_message_of_another_conversation_keeps_its_place(chat, make_chat, here, server):
    before = messages(server)

    ask(searching(make_chat()), THANKS, here)

    after = messages(server)
    assert after[: len(before)] == before
    assert str(after).count(KUMQUAT) == 1


def test_no_turn_begins_without_its_earlier_recalls(make_chat, database, here):
    other = searching(make_chat())
    database.rows.failures["messages_by_id"] = StoreUnavailable()

    assert view(other, here).messages
    with pytest.raises(StoreUnavailable):
        other.begin(here.conversation.id, THANKS)


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("changes", [{"recalls_elsewhere": False}, {"policy": Window()}])
def test_recall_elsewhere_is_off_by_preference_or_policy(make_chat, server, changes):
    ask(searching(make_chat(), **changes), QUESTION)

    assert not is_sent(server)


def test_recall_switched_off_sends_no_earlier_recalls(make_chat, here, server):
    ask(searching(make_chat(), recalls_elsewhere=False), THANKS, here)

    assert not is_sent(server)


def test_recall_stays_within_a_space(chat, server):
    kennel, garden = (stored_space(chat.store, name).id for name in ("Kennel", "Garden"))
    there = ask(chat, KUMQUAT, space_id=garden).conversation.id

    ask(chat, QUESTION, space_id=kennel)
    assert not is_sent(server)
    here = ask(chat, QUESTION)
    assert not is_sent(server)
    ask(chat, QUESTION, space_id=garden)
    assert is_sent(server)

    chat.store.conversations.move(there, None)
    here = ask(chat, f"Once more: {QUESTION}", here)
    assert is_sent(server)
    chat.store.conversations.move(there, kennel)
    ask(chat, THANKS, here)
    assert not is_sent(server)


def test_discarded_conversation_leaves_memory_at_once(chat, there, here):
    chat.deletions.discard(there.conversation.id, 60)

    assert chat.view(here.conversation.id).recalled(receipt_of(chat, here)) == {}


def test_regenerated_reply_is_not_recalled_elsewhere(chat, server):
    server.script(reply="Zanzibar, of course.")
    there = ask(chat, "Where does my parrot come from?")
    server.script(reply="I cannot know.")
    done(chat.retry(there.conversation.id))

    ask(chat, "Does my parrot come from Zanzibar?")

    assert is_sent(server, "I cannot know")
    assert not is_sent(server, "of course")


def test_only_new_messages_are_read_again(make_chat, there, monkeypatch):
    chat = make_chat()
    asked, read = [], chat.store.corpus.messages
    monkeypatch.setattr(
        chat.store.corpus, "messages", lambda wanted: asked.append(dict(wanted)) or read(wanted)
    )

    here = ask(chat, QUESTION)
    ask(chat, "More of that.", there)
    ask(chat, QUESTION, here)

    its = there.conversation.id
    assert [wanted[its] for wanted in asked if its in wanted] == [range(1, 3), range(3, 5)]


# --- earlier messages of the same conversation -----------------------------------------------------


@pytest.fixture
def small_chat(make_chat, server):
    server.script(reply=f"I see. {LONG}")
    return make_chat(info=SMALL)


def recalling(chat, thread):
    """Return the thread once its first turn is no longer sent verbatim, but recalled."""
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    for _ in range(9):
        thread = ask(chat, LONG, thread)
    chat.store.conversations.set_policy(thread.conversation.id, Retrieval())
    return chat.open(thread.conversation.id)


@pytest.fixture
def long_thread(small_chat):
    return recalling(small_chat, ask(small_chat, KUMQUAT))


def test_earlier_messages_of_a_conversation_are_recalled(small_chat, long_thread, server):
    thread = ask(small_chat, QUESTION, long_thread)

    asked = messages(server)[-1]["content"]
    assert KUMQUAT in asked
    assert asked.endswith(f"\n\n{QUESTION}")
    assert "kumquat" in recall_of(small_chat, thread, thread.messages[0]).matched


def test_extract_of_a_recalled_message_keeps_its_place(small_chat, make_chat, server):
    server.script(reply=f"{LONG}. Zebedee likes rain. {LONG}")
    thread = ask(small_chat, KUMQUAT)
    server.script(reply=f"I see. {LONG}")
    thread = recalling(small_chat, thread)
    thread = ask(small_chat, "What does Zebedee like?", thread)
    before = messages(server)
    prompt, reply = thread.messages[:2]
    recalled = recall_of(small_chat, thread, reply)

    # a new process, as after a restart, plans from rows alone
    ask(make_chat(info=SMALL), THANKS, thread)

    after = messages(server)
    assert after[: len(before)] == before
    assert str(after).count(prompt.body) == 1
    extract = reply.body[slice(*recalled.extract)]
    assert "Zebedee likes rain." in extract
    assert f"assistant, extract of message 2> {extract}\n" in before[-1]["content"]


def test_message_of_another_branch_is_not_recalled(small_chat, server):
    server.script(reply=f"Zanzibar. {LONG}")
    thread = ask(small_chat, "Where to?")
    server.script(reply=f"I see. {LONG}")
    thread = settled(small_chat, small_chat.retry(thread.conversation.id))

    ask(small_chat, "Was it Zanzibar?", recalling(small_chat, thread))

    assert not is_sent(server, "Zanzibar. peas")
