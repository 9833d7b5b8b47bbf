"""Temporary chats: their text leaves memory when they end."""

import gc
from dataclasses import replace
from types import FunctionType, ModuleType
from uuid import UUID

import pytest

from services.chat import temporary
from services.chat.temporary import TemporaryChats
from services.domain import Retrieval, SessionId, Summary, Usage
from services.domain.turns import StopCause
from services.errors import Stale, StoreUnavailable
from services.store.tables.schema import PIECES
from tests.chats import done, said
from tests.fakes import ScriptedModel, choose
from tests.stack.apps import until
from tests.store.conformance.talk import (
    SUMMARY,
    UNDO_SECONDS,
    answer,
    attached,
    ending,
    first_turn,
    new_turn,
)

CANARY = "kestrel"


@pytest.fixture
def model():
    return ScriptedModel(("Prune ", f"the {CANARY}.", Usage(90, 5)))


@pytest.fixture
def chat(maya):
    return maya.begin_temporary()


def says(chat, prompt):
    """Send *prompt*; return the thread after the reply."""
    done(chat.chat.begin(chat.id if chat.is_begun else None, prompt))
    return chat.chat.open(chat.id)


def held_by(*things):
    """Yield the texts that are reachable from *things*."""
    seen, waiting = set[int](), list(things)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType):
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            yield thing
        waiting += gc.get_referents(thing)


def test_second_first_prompt_is_stale(chat):
    says(chat, "Hello")

    with pytest.raises(Stale):  # sent by a page that was drawn before the first prompt
        chat.chat.begin(None, "Again")

    assert said(chat.chat.open(chat.id))[:1] == ["Hello"]


def test_reply_is_stored_once_it_is_settled(chat, maya):
    turn = first_turn("Hello")
    end = ending(turn, chat.store.turns.begin(turn), "Prune.")
    away = maya.database.no_answers("finish_turn", is_done=False)
    with away, pytest.raises(StoreUnavailable):
        chat.store.turns.finish(end)
    its = turn.thread.conversation.id
    assert said(chat.store.conversations.thread(its)) == ["Hello"]

    chat.store.turns.finish(end)

    assert said(chat.store.conversations.thread(its)) == ["Hello", "Prune."]


def test_attachments_of_a_temporary_chat_end_with_it(chat, maya):
    turn = attached(chat.store, new_turn(says(chat, "Hello"), "Look"), b"leaf", b"root")
    message = answer(chat.store, turn, "I see.").messages[-2]
    [file] = message.attachments
    assert [*chat.store.attachments.read(chat.id, message, file)] == [b"leaf", b"root"]
    numbers = range(1, 3)
    assert len(chat.rows.pieces(chat.id, message.id, file.id, numbers)) == 2
    assert maya.database.tables.all(PIECES) == {}

    chat.end()

    assert chat.rows.pieces(chat.id, message.id, file.id, numbers) == []


def test_deleted_messages_leave_the_memory_by_themselves(chat):
    ids = {one.id for one in says(chat, "Hello").messages}
    assert len(chat.rows.messages_by_id(dict.fromkeys(ids, chat.id))) == 2

    chat.chat.deletions.delete_messages(chat.id, ids, 0)

    until(lambda: chat.rows.messages_by_id(dict.fromkeys(ids, chat.id)) == [])


def test_messages_are_deleted_while_the_database_is_away(chat, maya):
    ids = {one.id for one in says(chat, "Hello").messages}

    with maya.database.no_answers("documents", is_done=False):
        chat.chat.deletions.delete_messages(chat.id, ids, UNDO_SECONDS)

    assert said(chat.chat.open(chat.id)) == []


def test_chat_goes_on_after_messages_are_deleted(chat):
    says(chat, "Hello")
    doomed = says(chat, "Again").messages[2:]

    chat.chat.deletions.delete_messages(chat.id, {one.id for one in doomed}, UNDO_SECONDS)

    assert chat.is_begun
    assert said(says(chat, "And now?"))[::2] == ["Hello", "And now?"]


def test_refused_first_prompt_begins_no_chat(chat, maya):
    away = maya.database.no_answers("begin_turn", is_done=False)
    with away, pytest.raises(StoreUnavailable):
        chat.chat.begin(None, "Hello")
    assert not chat.is_begun

    assert said(says(chat, "Hello"))[:1] == ["Hello"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Summary(), Retrieval()])
def test_ended_chat_leaves_no_text_in_memory(chat, maya, model, policy):
    choose(maya.store.profile, policy=policy)
    says(chat, f"A {CANARY}")
    summary = replace(SUMMARY, text=f"Of a {CANARY}.")
    chat.store.conversations.set_summary(chat.store.conversations.thread(chat.id), summary)
    says(chat, f"Another {CANARY}")
    model.failure = StoreUnavailable()  # the failure is remembered elsewhere, to be shown
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

    assert turn.stopped_by is StopCause.USER


def test_closed_chat_stops_its_turn_for_the_given_cause(chat, model):
    chats = TemporaryChats()
    chats.add(chat)
    model.gate.clear()
    turn = chat.chat.begin(None, "Hello")

    chats.close(StopCause.SERVER)

    assert turn.stopped_by is StopCause.SERVER
    done(turn)


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
        (117, False, False),
        (126, False, True),
    ):
        now[0], is_there[0] = seconds, there
        chats.end_deserted()
        assert chat.is_over is is_over

    assert list(held_by(chats)) == []


@pytest.mark.parametrize(
    ("seconds", "is_there", "is_over"), [(19, True, False), (21, True, True), (1, False, True)]
)
def test_left_chat_ends_after_undo_or_with_its_tab(maya, monkeypatch, seconds, is_there, is_over):
    chats, there, now = TemporaryChats(), [True], [100.0]
    monkeypatch.setattr(temporary.time, "monotonic", lambda: now[0])
    chat = maya.begin_temporary(is_there=lambda: there[0])
    chats.add(chat)
    chat.leave()

    now[0] += seconds
    there[0] = is_there
    chats.end_deserted()

    assert chat.is_over is is_over


def test_chat_that_was_come_back_to_goes_on(maya, monkeypatch):
    chats, now = TemporaryChats(), [100.0]
    monkeypatch.setattr(temporary.time, "monotonic", lambda: now[0])
    chat = maya.begin_temporary()
    chats.add(chat)
    chat.leave()
    chat.come_back()

    now[0] += 100
    chats.end_deserted()

    assert not chat.is_over


def test_chat_that_was_come_back_to_may_be_away_as_long_as_any(maya, monkeypatch):
    chats, now, there = TemporaryChats(), [100.0], [False]
    monkeypatch.setattr(temporary.time, "monotonic", lambda: now[0])
    chat = maya.begin_temporary(is_there=lambda: there[0])
    chats.add(chat)
    chats.end_deserted()
    there[0] = True
    chat.leave()
    now[0] += 15
    chat.come_back()
    there[0] = False

    now[0] += 5
    chats.end_deserted()

    assert not chat.is_over


def test_sign_out_ends_the_chats_of_its_device(two_chats):
    chats, here, elsewhere = two_chats

    chats.end_of(here.owner)

    assert (here.is_over, elsewhere.is_over) == (True, False)


@pytest.fixture
def two_chats(maya):
    """The temporary chats of a process, and two chats of different devices."""
    chats, here = TemporaryChats(), maya.begin_temporary()
    elsewhere = maya.begin_temporary(owner=SessionId(UUID(int=2)))
    chats.add(here)
    chats.add(elsewhere)
    return chats, here, elsewhere


def test_temporary_chat_is_found_by_its_device_only(two_chats):
    chats, here, elsewhere = two_chats

    assert chats.find(here.owner, here.id) is here
    assert chats.find(here.owner, elsewhere.id) is None
    here.end()
    assert chats.find(here.owner, here.id) is None
