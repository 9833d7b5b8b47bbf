"""Temporary chats in memory: what they hold while they last, and that nothing of it is held afterwards."""

import gc
import threading
from dataclasses import replace
from functools import partial
from types import FunctionType, ModuleType
from uuid import UUID, uuid4

import pytest

from services.chat import TemporaryChats, temporary
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    MessageId,
    Outcome,
    Preferences,
    Purpose,
    Retrieval,
    Role,
    RunningSummary,
    SessionId,
    Summary,
    Usage,
    Window,
)
from services.errors import Busy, NotFound, Stale, StoreUnavailable
from services.store.temporary import TITLE, TemporaryConversation
from services.store.turns import ClientTurnId, Ending, NewTurn
from tests.fakes import (
    MAYA,
    NOON,
    FakePerson,
    MemoryBooks,
    MemoryConversations,
    ScriptedModel,
)

CANARY = "kestrel"
SECONDS = 60.0


@pytest.fixture
def model():
    return ScriptedModel(("Prune ", f"the {CANARY}.", Usage(90, 5)))


@pytest.fixture
def maya(model):
    return FakePerson(MemoryConversations(), model)


@pytest.fixture
def chat(maya):
    return maya.begin_temporary(reads_facts=False, is_there=lambda: True)


def done(turn):
    assert turn.wait(SECONDS)
    return turn


def says(chat, prompt):
    """The thread after *prompt* was answered."""
    done(chat.chat.begin(chat.id if chat.is_begun else None, prompt))
    return chat.chat.open(chat.id)


def store_with(prompt=""):
    books = MemoryBooks()
    store = TemporaryConversation(books)
    store.create("What it is about", Window())
    if prompt:
        store.begin_turn(a_turn(store, prompt))
    return store, books


def a_turn(store, prompt, **changes):
    turn = NewTurn(
        client_turn_id=ClientTurnId(uuid4()),
        thread=store.thread(store.id),
        prompt_id=MessageId(uuid4()),
        prompt=prompt,
        start_seq=0,
        model="scripted",
        prompt_micro=1,
        reply_micro=2,
        least_reply_micro=1,
        lease_seconds=10,
    )
    return replace(turn, **changes)


def ending(turn_id, turn):
    return Ending(
        turn_id=turn_id,
        conversation_id=turn.thread.conversation.id,
        prompt_id=turn.prompt_id,
        reply_id=MessageId(uuid4()),
        reply="Prune.",
        outcome=Outcome.COMPLETE,
        tokens=Usage(1, 1),
        cost_micro=1,
    )


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


def test_its_title_says_nothing_of_what_was_said(chat):
    thread = says(chat, f"A {CANARY}")

    assert (thread.conversation.title, thread.conversation.is_titled) == (TITLE, True)


def test_prompts_and_replies_follow_one_another(chat, model):
    says(chat, "Hello")
    thread = says(chat, "Again")

    assert [(said.role, said.seq) for said in thread.branch()] == [
        (Role.USER, 1),
        (Role.ASSISTANT, 2),
        (Role.USER, 3),
        (Role.ASSISTANT, 4),
    ]
    assert [said.body for said in model.seen[-1]][-3:] == [
        "Hello",
        f"Prune the {CANARY}.",
        "Again",
    ]


def test_a_first_prompt_that_is_sent_twice_takes_nothing_of_the_first_away(chat):
    says(chat, "Hello")

    with pytest.raises(Stale):  # by a page that was drawn before the first was said
        chat.chat.begin(None, "Again")

    assert [said.body for said in chat.chat.open(chat.id).branch()][:1] == ["Hello"]


def test_its_policy_and_view_are_changed_as_any_others(chat):
    thread = says(chat, "Hello")
    chat.conversations.set_policy(chat.id, Retrieval())
    chat.conversations.start_anew(thread)
    says(chat, f"Where is the {CANARY}?")
    chat.conversations.set_model(chat.id, "large")

    conversation = chat.chat.open(chat.id).conversation
    assert (conversation.policy, conversation.reset_seq, conversation.start_seq) == (
        Retrieval(),
        2,
        2,
    )
    assert conversation.model == "large"
    chat.conversations.take_back_reset(thread)
    assert chat.chat.open(chat.id).conversation.start_seq == 0


def test_a_summary_is_kept_in_memory_for_who_saw_the_last():
    store, _ = store_with()
    summary = RunningSummary(text="They talk.", from_seq=1, up_to_seq=2, made_at=NOON)
    before = store.thread(store.id)
    store.set_summary(before, summary)

    assert store.thread(store.id).summary == summary
    with pytest.raises(Stale):
        store.set_summary(before, None)


def test_summary_made_around_a_deletion_does_not_outlive_it():
    store, _ = store_with("Hello")
    before = store.thread(store.id)
    summary = RunningSummary(text="They talk.", from_seq=1, up_to_seq=1, made_at=NOON)
    store.set_summary(before, summary)

    store.discard_messages(before, before.messages, (), 20, drops_summary=False)

    assert store.thread(store.id).summary is None
    with pytest.raises(Stale):
        store.set_summary(before, summary)


def test_time_of_a_deletion_destroys_nothing_of_the_next(monkeypatch):
    store, _ = store_with("Hello")
    due = []

    class Timer:
        def __init__(self, _, act, args):
            due.append(partial(act, *args))

        def start(self):
            pass

    monkeypatch.setattr(temporary.threading, "Timer", Timer)
    for _ in range(2):
        thread = store.thread(store.id)
        store.discard_messages(thread, thread.messages, (), 20, drops_summary=False)
        if len(due) == 1:
            store.restore_messages(store.id)

    due[0]()
    store.restore_messages(store.id)

    assert store.thread(store.id).messages == thread.messages
    due[1]()
    assert store.thread(store.id).messages == thread.messages


def test_two_replies_do_not_come_at_once_nor_after_what_was_not_seen():
    store, _ = store_with()
    before = a_turn(store, "Hello")
    begun = store.begin_turn(before)

    with pytest.raises(Busy):
        store.begin_turn(a_turn(store, "Too early"))
    assert store.begin_turn(a_turn(store, None, purpose=Purpose.SUMMARY))
    store.finish_turn(ending(begun.turn_id, before))
    with pytest.raises(Stale):
        store.begin_turn(replace(before, client_turn_id=ClientTurnId(uuid4())))


def test_a_turn_that_was_never_settled_holds_nobody_up_for_long(monkeypatch):
    store, _ = store_with("Hello")
    later = temporary.time.monotonic() + 11

    monkeypatch.setattr(temporary.time, "monotonic", lambda: later)
    assert store.begin_turn(a_turn(store, None))


def test_a_reply_is_there_once_it_is_settled_and_only_once():
    store, books = store_with()
    turn = a_turn(store, "Hello")
    begun = store.begin_turn(turn)
    books.failure = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        store.finish_turn(ending(begun.turn_id, turn))
    assert len(store.thread(store.id).messages) == 1

    books.failure = None
    store.finish_turn(ending(begun.turn_id, turn))
    store.finish_turn(ending(begun.turn_id, turn))
    assert [said.body for said in store.thread(store.id).messages] == ["Hello", "Prune."]


def test_a_prompt_that_is_refused_is_not_remembered(chat, maya):
    maya.books.failure = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        chat.chat.begin(None, "Hello")
    assert not chat.is_begun

    maya.books.failure = None
    assert [said.body for said in says(chat, "Hello").messages][:1] == ["Hello"]


def test_what_is_not_its_own_is_not_there():
    store, _ = store_with("Hello")

    with pytest.raises(NotFound):
        store.thread(ConversationId(uuid4()))


def test_no_title_is_made_no_fact_noted_and_none_read_unless_allowed(maya, model):
    maya.profile.known = Preferences(keeps_facts=True)
    maya.memories.keep(Fact(id=FactId(uuid4()), text="Lives in Bern.", since=NOON))

    for reads_facts in (False, True):
        chat = maya.begin_temporary(reads_facts=reads_facts, is_there=lambda: True)
        says(chat, "Where?")
        assert ("Lives in Bern." in str([said.body for said in model.seen[-1]])) is reads_facts
        assert not chat.chat.coming(Purpose.TITLE) | chat.chat.coming(Purpose.FACTS)
        assert not chat.chat.background.claim_title(MAYA, chat.id)
        assert not chat.chat.background.claim_facts(MAYA, chat.id, MessageId(uuid4()))


@pytest.mark.parametrize("policy", [Summary(), Retrieval()])
def test_once_it_is_over_nothing_holds_what_was_said(chat, maya, model, policy):
    maya.profile.known = Preferences(policy=policy)
    says(chat, f"A {CANARY}")
    summary = RunningSummary(text=f"Of a {CANARY}.", from_seq=1, up_to_seq=2, made_at=NOON)
    chat.conversations.set_summary(chat.conversations.thread(chat.id), summary)
    says(chat, f"Another {CANARY}")
    model.failure = StoreUnavailable()  # what failed is remembered by others, to be told
    says(chat, f"And a third {CANARY}")
    model.seen.clear()
    model.pieces, model.failure = (), None
    doomed = chat.chat.open(chat.id).messages[-1:]
    chat.chat.delete_messages(chat.id, {one.id for one in doomed}, 20)
    kept = chat._chat
    maya.books.begun.clear()
    maya.books.settled.clear()
    assert any(CANARY in text for text in held_by(chat, kept))

    chat.end()
    gc.collect()

    assert [text for text in held_by(chat, kept) if CANARY in text] == []


def test_ending_stops_what_is_coming_and_settles_it(chat, maya, model):
    model.gate.clear()
    turn = chat.chat.begin(None, "Hello")
    next(text for text in turn.follow() if text)

    chat.end()

    assert turn.is_done
    [settled] = maya.books.settled
    assert (settled.outcome, chat.is_begun) == ("stopped", False)
    with pytest.raises(temporary.ChatIsOver):
        _ = chat.chat


def test_a_turn_that_begins_while_it_ends_calls_no_model(chat, model):
    says(chat, "Hello")
    model.seen.clear()
    thread = chat.chat.open(chat.id)
    ended, begin = threading.Event(), chat.conversations.begin_turn

    def begin_and_end(turn):
        begun = begin(turn)
        chat.conversations.end()
        ended.set()
        return begun

    chat.conversations.begin_turn = begin_and_end
    turn = done(chat.chat.begin(chat.id, "Late", seen_rev=thread.conversation.rev))

    assert ended.is_set()
    assert model.seen == []
    assert isinstance(turn.failure, StoreUnavailable)


def test_a_chat_is_ended_once_its_page_was_away_for_long(maya, monkeypatch):
    chats, is_there, now = TemporaryChats(), [True], [0.0]
    monkeypatch.setattr(temporary.time, "monotonic", lambda: now[0])
    chat = maya.begin_temporary(reads_facts=False, is_there=lambda: is_there[0])
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


def test_who_leaves_a_device_ends_those_of_that_device_alone(maya, make_two):
    chats, here, elsewhere = make_two()

    chats.end_of(here.owner)

    assert (here.is_over, elsewhere.is_over) == (True, False)


def test_all_are_stopped_and_settled_when_the_process_ends(make_two, model, maya):
    chats, *both = make_two()
    model.gate.clear()
    turns = [chat.chat.begin(None, "Hello") for chat in both]

    chats.stop(SECONDS)

    assert all(turn.is_done for turn in turns)
    assert len(maya.books.settled) == 2


@pytest.fixture
def make_two(maya):
    def make():
        chats = TemporaryChats()
        here, elsewhere = (
            maya.begin_temporary(reads_facts=False, is_there=lambda: True) for _ in range(2)
        )
        elsewhere.owner = SessionId(UUID(int=2))
        chats.add(here)
        chats.add(elsewhere)
        return chats, here, elsewhere

    return make


def test_only_the_device_that_holds_a_chat_finds_it(make_two):
    chats, here, elsewhere = make_two()

    assert chats.find(here.owner, here.id) is here
    assert chats.find(here.owner, elsewhere.id) is None
    here.end()
    assert chats.find(here.owner, here.id) is None
