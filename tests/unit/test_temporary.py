"""Temporary chats: their text leaves memory when they end."""

import gc
from types import FunctionType, ModuleType
from uuid import UUID, uuid4

import pytest

from services.chat import temporary
from services.chat.temporary import TEMPORARY_TITLE, TemporaryChats
from services.domain import (
    Fact,
    FactId,
    MessageId,
    Purpose,
    Retrieval,
    RunningSummary,
    SessionId,
    Summary,
    Usage,
    Window,
)
from services.errors import Stale, StoreUnavailable
from services.store.turns import TurnState
from tests.fakes import MAYA, NOON, ScriptedModel, choose
from tests.stack.apps import until
from tests.store.conformance.talk import bodies, ending, new_turn

CANARY = "kestrel"
SECONDS = 60.0


@pytest.fixture
def model():
    return ScriptedModel(("Prune ", f"the {CANARY}.", Usage(90, 5)))


@pytest.fixture
def chat(maya):
    return maya.begin_temporary()


def done(turn):
    assert turn.wait(SECONDS)
    return turn


def says(chat, prompt):
    """The thread after *prompt* was answered."""
    done(chat.chat.begin(chat.id if chat.is_begun else None, prompt))
    return chat.chat.open(chat.id)


def held_by(*things):
    """Every text that can be reached from *things*."""
    seen, waiting = set[int](), list(things)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            yield thing
        waiting += gc.get_referents(thing)


def test_title_of_a_temporary_chat_names_no_content(chat):
    thread = says(chat, f"A {CANARY}")

    assert thread.conversation.title == TEMPORARY_TITLE


def test_second_first_prompt_is_stale(chat):
    says(chat, "Hello")

    with pytest.raises(Stale):  # by a page that was drawn before the first was said
        chat.chat.begin(None, "Again")

    assert [said.body for said in chat.chat.open(chat.id).branch()][:1] == ["Hello"]


def test_reply_is_stored_once_it_is_settled(chat, maya):
    thread = chat.store.conversations.create("Garden", Window())
    turn = new_turn(thread, "Hello")
    end = ending(turn, chat.store.turns.begin(turn), "Prune.")
    with (
        maya.database.no_answers("finish_turn", is_done=False),
        pytest.raises(StoreUnavailable),
    ):
        chat.store.turns.finish(end)
    assert bodies(chat.store.conversations.thread(thread.conversation.id).messages) == ["Hello"]

    chat.store.turns.finish(end)

    assert bodies(chat.store.conversations.thread(thread.conversation.id).messages) == [
        "Hello",
        "Prune.",
    ]


def test_deleted_messages_leave_the_memory_by_themselves(chat):
    ids = {one.id for one in says(chat, "Hello").messages}
    assert len(chat.rows.messages_by_id(ids)) == 2

    chat.chat.deletions.delete_messages(chat.id, ids, 0)

    until(lambda: chat.rows.messages_by_id(ids) == [])


def test_refused_first_prompt_begins_no_chat(chat, maya):
    with (
        maya.database.no_answers("begin_turn", is_done=False),
        pytest.raises(StoreUnavailable),
    ):
        chat.chat.begin(None, "Hello")
    assert not chat.is_begun

    assert [said.body for said in says(chat, "Hello").messages][:1] == ["Hello"]


def test_temporary_chat_reads_facts_only_if_allowed(maya, model):
    choose(maya.store.profile, keeps_facts=True)
    maya.store.facts.keep(Fact(id=FactId(uuid4()), text="Lives in Bern.", since=NOON))

    for reads_facts in (False, True):
        chat = maya.begin_temporary(reads_facts=reads_facts)
        says(chat, "Where?")
        assert ("Lives in Bern." in str([said.body for said in model.seen[-1]])) is reads_facts
        assert not chat.chat.coming(Purpose.TITLE) | chat.chat.coming(Purpose.FACTS)
        for purpose in (Purpose.TITLE, Purpose.FACTS):
            assert not chat.chat.background.claim(purpose, MAYA, chat.id, MessageId(uuid4()))


@pytest.mark.parametrize("policy", [Summary(), Retrieval()])
def test_ended_chat_leaves_no_text_in_memory(chat, maya, model, policy):
    choose(maya.store.profile, policy=policy)
    says(chat, f"A {CANARY}")
    summary = RunningSummary(text=f"Of a {CANARY}.", from_seq=1, up_to_seq=2, made_at=NOON)
    chat.store.conversations.set_summary(chat.store.conversations.thread(chat.id), summary)
    says(chat, f"Another {CANARY}")
    model.failure = StoreUnavailable()  # what failed is remembered by others, to be told
    says(chat, f"And a third {CANARY}")
    model.seen.clear()
    model.pieces, model.failure = (), None
    doomed = chat.chat.open(chat.id).messages[-1:]
    chat.chat.deletions.delete_messages(chat.id, {one.id for one in doomed}, 20)
    kept = chat.chat
    assert any(CANARY in text for text in held_by(chat, kept))

    chat.end()
    gc.collect()

    assert [text for text in held_by(chat, kept) if CANARY in text] == []


def test_ending_a_chat_stops_and_settles_its_turn(chat, maya, model):
    model.gate.clear()
    turn = chat.chat.begin(None, "Hello")
    next(text for text in turn.follow() if text)

    chat.end()

    assert turn.is_done
    assert (maya.database.turn_states(), chat.is_begun) == ([TurnState.STOPPED], False)
    with pytest.raises(temporary.ChatIsOver):
        _ = chat.chat


def test_turn_that_begins_while_its_chat_ends_is_stopped(chat, model):
    says(chat, "Hello")
    begin = chat.rows.begin_turn

    def begin_and_end(*request):
        begun = begin(*request)
        chat.rows.close()
        return begun

    chat.rows.begin_turn = begin_and_end
    model.gate.clear()
    turn = chat.chat.begin(chat.id, "Late")
    assert turn.wait(20)

    assert turn.is_stopped


def test_chat_of_an_absent_page_is_ended(maya, monkeypatch):
    chats, is_there, now = TemporaryChats(), [True], [0.0]
    monkeypatch.setattr(temporary.time, "monotonic", lambda: now[0])
    chat = maya.begin_temporary(is_there=lambda: is_there[0])
    chats.add(chat)

    for seconds, there, is_over in (
        (100, True, False),
        (105, False, False),
        (106, True, False),
        (115, False, False),
        (117, False, True),
    ):
        now[0], is_there[0] = seconds, there
        chats.end_deserted()
        assert chat.is_over is is_over

    assert list(held_by(chats)) == []


def test_sign_out_ends_the_chats_of_its_device(maya, make_two):
    chats, here, elsewhere = make_two()

    chats.end_of(here.owner)

    assert (here.is_over, elsewhere.is_over) == (True, False)


def test_turns_of_temporary_chats_are_settled_at_shutdown(make_two, model, maya):
    chats, *both = make_two()
    model.gate.clear()
    turns = [chat.chat.begin(None, "Hello") for chat in both]

    chats.stop(SECONDS)

    assert all(turn.is_done for turn in turns)
    assert maya.database.turn_states() == [TurnState.STOPPED] * 2


@pytest.fixture
def make_two(maya):
    def make():
        chats = TemporaryChats()
        here = maya.begin_temporary()
        elsewhere = maya.begin_temporary(owner=SessionId(UUID(int=2)))
        chats.add(here)
        chats.add(elsewhere)
        return chats, here, elsewhere

    return make


def test_temporary_chat_is_found_by_its_device_only(make_two):
    chats, here, elsewhere = make_two()

    assert chats.find(here.owner, here.id) is here
    assert chats.find(here.owner, elsewhere.id) is None
    here.end()
    assert chats.find(here.owner, here.id) is None
