"""Search over other conversations with a slow or unavailable database, and the stored recalls of earlier prompts."""

import threading
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat import search
from services.chat.search import Search, StoredRecalls
from services.domain import ConversationId, MessageId, Role, TurnId
from services.domain.context import ReceiptEntry
from services.errors import StoreUnavailable
from services.store.sealed import messages
from tests.store.conformance.talk import delete, stored_space
from tests.unit.test_memory import said
from tests.unit.test_receipt import RECEIPT

KUMQUAT = "My kumquat tree is called Zebedee."
HERE, FAR = MessageId(uuid4()), MessageId(uuid4())
ELSEWHERE = ConversationId(uuid4())


@pytest.fixture
def there(database):
    return database.hold("There", KUMQUAT, "I see.")


@pytest.fixture
def here(there, database):
    return database.thread(database.hold("Here", "My kumquat is ripe.", "Good."))


@pytest.fixture
def searched(database):
    return Search(database.store().corpus)


@pytest.fixture
def may_read(database):
    """An event that bulk reads of messages wait for."""
    may_read = threading.Event()
    database.rows.before["messages_between"] = lambda: may_read.wait(20)
    yield may_read
    may_read.set()


def ranked(searched, here, prompt):
    return searched.ranked(here, here.messages, prompt, is_elsewhere=True)


def found(searched, here):
    return [each.message.body for each in ranked(searched, here, "kumquat")]


def test_prompt_does_not_wait_for_a_slow_index(searched, here, may_read, monkeypatch):
    monkeypatch.setattr(search, "_PATIENCE", 0.05)

    assert found(searched, here) == ["My kumquat is ripe.", "Good."]
    may_read.set()
    monkeypatch.setattr(search, "_PATIENCE", 20.0)

    assert KUMQUAT in found(searched, here)


def test_failed_reading_is_repeated_before_the_next_prompt(database, searched, here):
    with database.no_answers("messages_between"):
        assert found(searched, here) == ["My kumquat is ripe.", "Good."]
    assert KUMQUAT in found(searched, here)


def test_stopped_search_reads_no_further_messages(database, searched, here, monkeypatch):
    monkeypatch.setattr(messages, "_MESSAGES", 1)  # messages per read
    monkeypatch.setattr(search, "_PATIENCE", 20.0)
    acts, further = database.rows.before, []

    def stopped_meanwhile():
        searched.stop()
        acts["messages_between"] = lambda: further.append("a read")

    acts["messages_between"] = stopped_meanwhile

    assert found(searched, here) == ["My kumquat is ripe.", "Good."]
    assert further == []


def test_ten_messages_of_other_conversations_are_recalled(database, searched, here):
    for n in range(20):
        database.hold(f"There {n}", f"My kumquat number {n} has fruit.", "I see.")
    assert len(found(searched, here)) == 2 + 10


def test_conversation_moved_during_a_reading_is_read_again(
    database, searched, there, here, monkeypatch
):
    monkeypatch.setattr(messages, "_MESSAGES", 1)  # messages per read
    before = database.thread(there)  # the thread as a page still has it
    a_space(database, there, here.conversation.id)

    def asked_in_between():
        monkeypatch.setattr(search, "_PATIENCE", 0.05)
        asking = threading.Thread(target=lambda: found(searched, before))
        asking.start()
        asking.join(20)

    acts = {"messages_between": asked_in_between}
    database.rows.after["messages_between"] = lambda: database.rows.before.update(acts)
    monkeypatch.setattr(search, "_PATIENCE", 20.0)
    found(searched, database.thread(here.conversation.id))

    assert KUMQUAT in found(searched, database.thread(here.conversation.id))


def test_conversation_moved_away_is_not_recalled(
    database, searched, there, here, request, monkeypatch
):
    assert KUMQUAT in found(searched, here)
    request.getfixturevalue("may_read")
    monkeypatch.setattr(search, "_PATIENCE", 0.05)
    database.hold("New", "Hello.", "Hello.")
    assert KUMQUAT in found(searched, here)  # the new conversation is still being read

    a_space(database, there)

    assert KUMQUAT not in found(searched, here)


def test_replies_in_a_circle_are_searched(here):
    parents = {3: 4, 4: 3, 5: 3}
    circle = tuple(
        said(seq, KUMQUAT, role=Role.ASSISTANT, parent_id=said(parent).id)
        for seq, parent in parents.items()
    )
    thread = replace(here, messages=circle)

    assert len(Search().ranked(thread, circle, "kumquat")) == 3


def is_in_memory(database, searched, place, here):
    """Return True if the message at *place* is found without the database."""
    with database.no_answers("messages_by_id"):
        try:
            searched.opened(place, here)
        except StoreUnavailable:
            return False
    return True


def test_discarded_conversation_leaves_the_index(database, searched, there, here):
    [told] = [each for each in ranked(searched, here, "Zebedee") if each.matched]

    searched.forget(there)

    place = {told.message.id: there}
    assert not is_in_memory(database, searched, place, here)
    assert searched.opened(place, here) == {}
    assert KUMQUAT in found(searched, here)  # indexed again


def test_message_opened_for_a_receipt_is_forgotten(database, searched, there, here):
    [told, _] = database.thread(there).messages
    searched.opened({told.id: there}, here)
    assert is_in_memory(database, searched, {told.id: there}, here)
    database.conversations.discard(there, 60)

    searched.forget(there)

    assert not is_in_memory(database, searched, {told.id: there}, here)


@pytest.mark.parametrize("is_whole", [False, True])
def test_text_deleted_on_another_device_is_forgotten(database, searched, there, here, is_whole):
    [told, _] = database.thread(there).messages
    assert KUMQUAT in found(searched, here)
    assert told.id in searched.opened({told.id: there}, here)

    other = database.store()
    if is_whole:
        other.conversations.discard(there, 60)
    else:
        delete(other, other.conversations.thread(there), 0)

    assert KUMQUAT not in found(searched, here)
    assert not is_in_memory(database, searched, {told.id: there}, here)
    assert searched.opened({told.id: there}, here) == {}


def a_space(database, *conversations):
    """Put conversations into a new space."""
    space = stored_space(database.store())
    for its in conversations:
        database.conversations.move(its, space.id)


def test_missing_message_is_asked_for_once_a_prompt(database, there, here, monkeypatch):
    [told, _] = database.thread(there).messages
    everything, asked = database.store().corpus, []
    searched, some = Search(everything), everything.some
    monkeypatch.setattr(everything, "some", lambda ids: asked.extend(ids) or some(ids))
    database.conversations.discard(there, 60)

    for _ in range(3):
        assert searched.opened({told.id: there}, here) == {}
    assert asked == [told.id]

    database.conversations.restore(there)
    assert KUMQUAT in found(searched, here)


LENGTHS = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.integers(1, 20), st.integers(400, 1700))), max_size=12
)


@pytest.mark.slow
@given(LENGTHS)
def test_each_message_is_asked_for_once(lengths):
    wanted = {
        ConversationId(UUID(int=n)): range(1 + 7 * known, 1 + 7 * known + new)
        for n, (known, new) in enumerate(lengths)
    }

    asked, batches = set(), []
    rows = SimpleNamespace(messages_between=lambda *batch: batches.append(batch) or ())
    list(messages.SealedCorpus(rows, SimpleNamespace(all_seals=lambda ids: {})).messages(wanted))
    for ids, seqs in batches:
        sent = {(its, seq) for its in ids for seq in seqs if seq < wanted[its].stop}
        assert len(sent) <= 2000
        assert len(ids) <= 100
        assert not sent & asked
        asked |= sent

    assert asked == {(its, seq) for its, seqs in wanted.items() for seq in seqs}


def receipt(policy):
    here = ReceiptEntry(message_id=HERE, tokens=5, extract=(3, 9))
    prompt_id = MessageId(uuid4())
    far = ReceiptEntry(message_id=FAR, tokens=5, recalled_for=prompt_id, conversation_id=ELSEWHERE)
    return replace(RECEIPT, policy=policy, recalls=(here, far), prefix_seq=7).to_json()


def test_each_receipt_is_asked_for_and_read_once():
    recalled, windowed, unknown = (said(seq, turn_id=TurnId(uuid4())) for seq in (2, 4, 6))
    texts = {recalled.turn_id: receipt("retrieval"), windowed.turn_id: receipt("window")}
    asked = []

    def receipts(messages):
        asked.append(messages)
        return {one.turn_id: texts[one.turn_id] for one in messages if one.turn_id in texts}

    searched, past = Search(), [recalled, windowed, unknown, said(8)]
    found = [searched.recalls(past, receipts) for _ in range(2)]

    assert found == 2 * [
        {recalled.parent_id: StoredRecalls(7, ((HERE, (3, 9)),), {FAR: ELSEWHERE})}
    ]
    # read again, because its receipt may be stored later
    assert asked == [[recalled, windowed, unknown], [unknown]]
