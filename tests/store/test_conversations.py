"""Conversations: sealed at rest, checked when read, and nobody else's."""

import base64
import re
import time
from datetime import datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from services.crypto import LARGEST_TEXT
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    Full,
    MessageId,
    Outcome,
    Role,
    RunningSummary,
    Thoughts,
    TurnCost,
    Usage,
    Window,
)
from services.errors import (
    BadInput,
    Busy,
    Cap,
    NotFound,
    OverBudget,
    Stale,
    StoreUnavailable,
    TooLate,
)
from services.store import deletions, turns
from services.store.conversations import Conversations
from services.store.memories import Memories
from services.store.rows import TurnState
from services.store.supabase.api import PersonCalls
from services.store.threads import Threads
from services.store.turns import ClientTurnId, Ending, NewTurn

CANARY = "kumquat-7781"


def new_turn(thread, prompt, **changes):
    fields = {
        "client_turn_id": ClientTurnId(uuid4()),
        "thread": thread,
        "prompt_id": MessageId(uuid4()),
        "prompt": prompt,
        "start_seq": thread.conversation.start_seq,
        "model": "test-model",
        "prompt_micro": 100,
        "reply_micro": 1000,
        "least_reply_micro": 50,
        "lease_seconds": 30,
    }
    return NewTurn(**(fields | changes))


def ending(turn, begun, reply, **changes):
    fields = {
        "turn_id": begun.turn_id,
        "conversation_id": turn.thread.conversation.id,
        "prompt_id": turn.prompt_id,
        "reply_id": MessageId(uuid4()),
        "reply": reply,
        "outcome": Outcome.COMPLETE,
        "tokens": Usage(10, 20),
        "cost_micro": 300,
    }
    return Ending(**(fields | changes))


def say(conversations, thread, prompt, reply):
    turn = new_turn(thread, prompt)
    conversations.finish_turn(ending(turn, conversations.begin_turn(turn), reply))
    return conversations.thread(thread.conversation.id)


def said(messages):
    return [(message.role, message.body) for message in messages]


@pytest.fixture
def garden(conversations):
    thread = conversations.create("Garden", Window())
    thread = say(conversations, thread, "When do I sow peas?", "In March.")
    return say(conversations, thread, "And beans?", "In May.")


def test_a_turn_is_there_again_for_a_reader_who_knows_nothing(garden, maya):
    thread = Conversations(maya).thread(garden.conversation.id)

    assert thread.is_whole
    assert thread.conversation.title == "Garden"
    assert said(thread.branch()) == [
        (Role.USER, "When do I sow peas?"),
        (Role.ASSISTANT, "In March."),
        (Role.USER, "And beans?"),
        (Role.ASSISTANT, "In May."),
    ]


def test_nothing_that_was_written_is_readable_in_the_database(conversations, stack):
    thread = conversations.create(f"{CANARY} title", Window())
    turn = new_turn(thread, f"{CANARY} prompt", receipt=f"{CANARY} receipt")
    begun = conversations.begin_turn(turn)
    thoughts = Thoughts(text=f"{CANARY} thoughts")
    conversations.checkpoint_turn(
        begun.turn_id, thread.conversation.id, f"{CANARY} partial", 30, thoughts
    )
    with stack.connect() as database:
        held = _everything(database)
    conversations.finish_turn(ending(turn, begun, f"{CANARY} reply", thoughts=thoughts))
    with stack.connect() as database:
        held += _everything(database)

    encoded = base64.b64encode(CANARY.encode()).decode()[:12]
    assert str(thread.conversation.id) in held
    assert CANARY not in held
    assert encoded not in held


def _everything(database):
    tables = database.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables"
        " where schemaname in ('public', 'private', 'auth')"
    ).fetchall()
    return "".join(
        str(database.execute(f"select t::text from {t} t").fetchall()) for (t,) in tables
    )


def test_a_reply_is_unread_until_its_person_has_seen_it(garden, maya):
    conversations = Conversations(maya)
    (unread,) = conversations.recent()
    assert unread.is_unread
    assert garden.conversation.is_unread

    conversations.mark_read(garden)

    (read,) = conversations.recent()
    assert not read.is_unread
    assert not Conversations(maya).thread(read.id).conversation.is_unread


def test_somebody_elses_conversation_is_like_none(garden, omar):
    stranger = Conversations(omar)
    garden_id = garden.conversation.id

    for attempt in (
        lambda: stranger.thread(garden_id),
        lambda: stranger.rename(garden_id, "Mine"),
        lambda: stranger.delete(garden_id),
        lambda: stranger.discard(garden_id, 20),
        lambda: stranger.restore(garden_id),
        lambda: stranger.pin(garden_id),
        lambda: stranger.archive(garden_id),
        lambda: stranger.set_policy(garden_id, Full()),
        lambda: stranger.start_anew(garden),
        lambda: stranger.mark_read(garden),
        lambda: stranger.thread(ConversationId(uuid4())),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert stranger.recent() == []
    assert stranger.open_turn(garden_id) is None


def test_a_write_from_an_old_revision_is_stale(conversations, garden, maya):
    other_tab = Conversations(maya)
    old = other_tab.thread(garden.conversation.id)
    say(conversations, garden, "From here", "Yes.")

    with pytest.raises(Stale):
        other_tab.begin_turn(new_turn(old, "From there"))

    fresh = other_tab.thread(garden.conversation.id)
    assert say(other_tab, fresh, "From there", "Yes too.").is_whole


def test_asking_twice_begins_one_turn(conversations, garden):
    turn = new_turn(garden, "Once")

    first = conversations.begin_turn(turn)
    assert conversations.open_turn(garden.conversation.id).state is TurnState.RESERVED
    with pytest.raises(Busy):
        conversations.begin_turn(new_turn(garden, "Twice"))
    done = ending(turn, first, "One.")
    conversations.finish_turn(done)
    conversations.finish_turn(done)

    thread = conversations.thread(garden.conversation.id)
    assert said(thread.branch())[-2:] == [(Role.USER, "Once"), (Role.ASSISTANT, "One.")]
    assert len(thread.messages) == len(garden.messages) + 2


def test_edited_reply_is_there_for_every_reader_and_has_no_receipt(conversations, garden, maya):
    reply = garden.messages[1]

    conversations.edit_reply(garden, reply, "In April.")

    for reader in (conversations, Conversations(maya)):
        thread = reader.thread(garden.conversation.id)
        edited = thread.tip
        assert thread.is_whole
        assert said(thread.branch())[1:] == [(Role.ASSISTANT, "In April.")]
        assert edited.outcome is Outcome.EDITED
        assert not reader.costs([edited])
        assert not reader.receipts([edited], garden.conversation.id)
    with pytest.raises(Stale):
        conversations.edit_reply(garden, reply, "In June.")
    assert say(conversations, thread, "And leeks?", "Yes.").is_whole


def test_what_settled_turns_cost_is_asked_for_once(conversations, garden, omar, monkeypatch):
    turn = new_turn(garden, "Still coming")
    coming = conversations.begin_turn(turn).turn_id
    messages = conversations.thread(garden.conversation.id).messages

    costs = conversations.costs(messages)

    settled = {message.turn_id for message in garden.messages}
    assert costs == dict.fromkeys(settled, TurnCost("test-model", Usage(10, 20), 300))
    assert Conversations(omar).costs(messages) == {}
    assert coming not in costs
    monkeypatch.setattr(httpx.Client, "send", lambda *_, **__: pytest.fail("asked again"))
    assert conversations.costs(garden.messages) == costs


def test_a_cap_refuses_and_clips(conversations, garden, stack, maya):
    with stack.connect() as database:
        database.execute(
            "update private.budgets set daily_cap_micro = day_spent + 500 where user_id = %s",
            [maya.user_id],
        )
    turn = new_turn(garden, "Short of money")

    begun = conversations.begin_turn(turn)
    assert begun.reserved_micro == 500
    conversations.finish_turn(ending(turn, begun, "Dear.", cost_micro=480))

    thread = conversations.thread(garden.conversation.id)
    with pytest.raises(OverBudget) as refused:
        conversations.begin_turn(new_turn(thread, "Again"))
    assert refused.value.cap is Cap.DAILY
    assert (refused.value.needed_micro, refused.value.left_micro) == (150, 20)
    assert conversations.thread(garden.conversation.id).messages == thread.messages


def test_a_second_reply_is_a_sibling_and_the_one_that_is_read(conversations, garden):
    prompt = garden.branch()[-2]
    again = new_turn(garden, None, prompt_id=prompt.id)

    conversations.finish_turn(ending(again, conversations.begin_turn(again), "In June."))

    thread = conversations.thread(garden.conversation.id)
    assert thread.is_whole
    assert said(thread.branch())[-2:] == [(Role.USER, "And beans?"), (Role.ASSISTANT, "In June.")]
    assert len(thread.messages) == 5


@pytest.mark.parametrize(
    ("change", "is_readable"),
    [
        ("delete from public.messages where conversation_id = %s and seq = 2", True),
        ("update public.messages set seq = 9 where conversation_id = %s and seq = 2", False),
        (
            "update public.messages set role = 'system' where conversation_id = %s and seq = 2",
            False,
        ),
        (
            "update public.messages m set body = o.body from public.messages o where"
            " m.conversation_id = %s and m.seq = 2 and o.conversation_id = m.conversation_id"
            " and o.seq = 4",
            False,
        ),
        ("update public.conversations set rev = rev + 1 where id = %s", True),
        (
            "update public.conversations set head = 'h1.' || repeat('A', 118) where id = %s",
            True,
        ),
    ],
)
def test_what_a_database_owner_changes_is_noticed_and_the_rest_stays_readable(
    garden, maya, stack, change, is_readable
):
    with stack.connect() as database:
        assert database.execute(change, [garden.conversation.id]).rowcount == 1

    thread = Conversations(maya).thread(garden.conversation.id)

    assert not thread.is_whole
    unverified = [message for message in thread.messages if not message.is_verified]
    assert bool(unverified) is not is_readable
    assert all(message.body == "" for message in unverified)
    assert "When do I sow peas?" in [message.body for message in thread.messages]


def test_a_conversation_set_back_under_a_reader_is_noticed(conversations, garden, stack):
    garden_id = garden.conversation.id
    with stack.connect() as database:
        head = database.execute(
            "select head from public.conversations where id = %s", [garden_id]
        ).fetchone()[0]
        say(conversations, garden, "More", "More.")
        database.execute(
            "delete from public.messages where conversation_id = %s and seq > 4", [garden_id]
        )
        database.execute(
            "update public.conversations set rev = 4, last_seq = 4, message_count = 4, head = %s"
            " where id = %s",
            [head, garden_id],
        )

    assert not conversations.thread(garden_id).is_whole
    assert not conversations.thread(garden_id).is_whole  # nor when it is looked at again
    back = conversations.thread(garden_id)
    assert not say(conversations, say(conversations, back, "On", "On."), "On", "On.").is_whole


def test_a_conversation_that_grows_while_it_is_read_is_whole(
    conversations, garden, maya, monkeypatch
):
    reader, row = Threads(maya), Threads.row
    moves = [lambda: say(conversations, garden, "More", "More.")]

    def moves_on(threads, conversation_id):
        read = row(threads, conversation_id)
        if threads is reader and moves:
            moves.pop()()
        return read

    monkeypatch.setattr(Threads, "row", moves_on)

    thread = reader.read(garden.conversation.id).thread

    assert thread.is_whole
    assert len(thread.messages) == 6


def test_what_was_read_last_is_not_taken_for_set_back_by_who_asked_earlier(
    conversations, garden, maya, monkeypatch
):
    reader, row = Threads(maya), Threads.row
    old = row(reader, garden.conversation.id)
    say(conversations, garden, "More", "More.")
    reader.read(garden.conversation.id)
    late = [old]
    monkeypatch.setattr(
        Threads, "row", lambda threads, id_: late.pop() if late else row(threads, id_)
    )

    known = reader.read(garden.conversation.id)

    assert known.thread.is_whole
    assert len(known.thread.messages) == 6


def test_a_turn_that_nobody_finishes_is_found_with_what_was_said(conversations, garden, stack):
    turn = new_turn(garden, "Will this end?")
    begun = conversations.begin_turn(turn)
    conversations.checkpoint_turn(begun.turn_id, garden.conversation.id, "Half a", 30)

    left = conversations.open_turn(garden.conversation.id)

    assert (left.id, left.state, left.said) == (begun.turn_id, TurnState.STREAMING, "Half a")


def test_a_lost_answer_leaves_no_conversation_that_nobody_knows(
    conversations, sessions, monkeypatch
):
    transport = sessions.gateway.http._transport
    handle = type(transport).handle_request
    lost_once = []

    def lose(self, request):
        answer = handle(self, request)
        if not lost_once and request.url.path.endswith("rpc/create_conversation"):
            lost_once.append(request)
            answer.read()
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    monkeypatch.setattr(type(transport), "handle_request", lose)

    with pytest.raises(StoreUnavailable):
        conversations.create("Once", Window())
    assert lost_once
    assert conversations.recent() == []


def test_rename_policy_and_reset(conversations, garden):
    garden_id = garden.conversation.id
    conversations.rename(garden_id, "  The   garden ")
    conversations.set_policy(garden_id, Window(8))
    conversations.start_anew(garden)

    conversation = conversations.thread(garden_id).conversation
    assert conversation.title == "The garden"
    assert conversation.policy == Window(8)
    assert (conversation.reset_seq, conversation.start_seq) == (4, 4)

    conversations.take_back_reset(garden)
    assert conversations.thread(garden_id).conversation.reset_seq == 0


@pytest.mark.parametrize("title", ["   ", "\x00", "x" * 121, "half \ud800"])
def test_what_is_no_title_is_refused(conversations, garden, title):
    with pytest.raises(BadInput):
        conversations.rename(garden.conversation.id, title)


def titles(found):
    return [conversation.title for conversation in found]


def test_what_is_pinned_comes_first_and_what_is_archived_apart(conversations):
    ids = {
        name: conversations.create(name, Window()).conversation.id
        for name in ("One", "Two", "Three", "Four")
    }
    assert titles(conversations.recent()) == ["Four", "Three", "Two", "One"]

    conversations.pin(ids["Two"])
    conversations.pin(ids["One"])
    conversations.archive(ids["Three"])
    assert titles(conversations.recent()) == ["One", "Two", "Four"]
    assert titles(conversations.recent(2)) == ["One", "Two"]
    assert titles(conversations.recent(is_archived=True)) == ["Three"]
    assert conversations.thread(ids["Three"]).conversation.is_archived

    conversations.archive(ids["One"])  # which so is no longer pinned
    conversations.archive(ids["One"], is_archived=False)
    conversations.pin(ids["Two"], is_pinned=False)
    assert titles(conversations.recent()) == ["Four", "Two", "One"]


def test_a_deleted_conversation_is_gone_with_its_key(conversations, garden, stack):
    conversations.delete(garden.conversation.id)

    with pytest.raises(NotFound):
        conversations.thread(garden.conversation.id)
    with stack.connect() as database:
        assert re.search(str(garden.conversation.id), _everything(database)) is None


def test_titles_are_found_among_all(conversations, maya, monkeypatch):
    monkeypatch.setattr("services.store.supabase.paging.PAGE", 2)
    ids = {
        name: conversations.create(name, Window()).conversation.id
        for name in ("Peas in March", "Beans", "March hares", "A march in May")
    }
    conversations.archive(ids["Peas in March"])
    conversations.discard(ids["A march in May"], 20)

    assert titles(conversations.titled("mARCH")) == ["March hares", "Peas in March"]
    assert titles(conversations.titled("march", 1)) == ["March hares"]
    assert titles(conversations.titled("in march")) == ["Peas in March"]
    conversations.rename(ids["Beans"], "Beans in May")
    conversations.restore(ids["A march in May"])
    assert titles(conversations.titled("may")) == ["A march in May", "Beans in May"]


def test_what_changed_elsewhere_is_found_after_a_moment(conversations, garden, maya, monkeypatch):
    assert titles(conversations.titled("garden")) == ["Garden"]
    Conversations(maya).rename(garden.conversation.id, "Orchard")
    later = time.monotonic() + 11

    monkeypatch.setattr("services.store.cached_read.time.monotonic", lambda: later)

    assert titles(conversations.titled("orchard")) == ["Orchard"]


def test_a_discarded_conversation_is_like_none_until_it_is_brought_back(
    conversations, garden, maya
):
    garden_id, elsewhere = garden.conversation.id, Conversations(maya)
    elsewhere.thread(garden_id)

    conversations.discard(garden_id, 20)
    for reader in (conversations, elsewhere):
        assert reader.recent() == reader.recent(is_archived=True) == []
        with pytest.raises(NotFound):
            reader.thread(garden_id)
        assert reader.cached(garden_id) is None

    conversations.restore(garden_id)
    assert titles(elsewhere.recent()) == ["Garden"]
    again = elsewhere.thread(garden_id)
    assert again.is_whole
    assert again.messages == garden.messages
    with pytest.raises(NotFound):
        conversations.restore(garden_id)


def test_nothing_is_asked_in_a_conversation_discarded_elsewhere(conversations, garden, maya):
    elsewhere = Conversations(maya)
    thread = elsewhere.thread(garden.conversation.id)
    conversations.discard(garden.conversation.id, 20)

    with pytest.raises(NotFound):
        elsewhere.begin_turn(new_turn(thread, "Are you there?"))


def test_a_reply_that_comes_while_its_conversation_is_discarded_is_there_when_it_is_back(
    conversations, garden, maya
):
    turn = new_turn(garden, "Last words?")
    begun = conversations.begin_turn(turn)
    Conversations(maya).discard(garden.conversation.id, 20)

    conversations.finish_turn(ending(turn, begun, "Not these."))
    conversations.restore(garden.conversation.id)

    thread = conversations.thread(garden.conversation.id)
    assert thread.is_whole
    assert said(thread.branch())[-1] == (Role.ASSISTANT, "Not these.")


def test_a_reply_to_a_conversation_deleted_meanwhile_is_settled(conversations, garden, stack):
    turn = new_turn(garden, "Last words?")
    begun = conversations.begin_turn(turn)
    conversations.delete(garden.conversation.id)

    conversations.finish_turn(ending(turn, begun, "Too late."))

    with stack.connect() as database:
        state = database.execute(
            "select state, charged_micro from public.turns where id = %s", [begun.turn_id]
        ).fetchone()
    assert state == ("complete", 300)


def test_of_many_conversations_the_last_stay_opened_and_all_stay_right(maya, monkeypatch):
    monkeypatch.setattr("services.store.threads._MOST", 2)
    conversations = Conversations(maya)
    first = conversations.create("First", Window())
    first_id, turn = first.conversation.id, new_turn(first, "Will you remember?")
    begun = conversations.begin_turn(turn)
    for n in range(3):
        say(conversations, conversations.create(f"Other {n}", Window()), "One", "Two")
    assert conversations.cached(first_id) is None

    conversations.checkpoint_turn(begun.turn_id, first_id, "I", 30)
    conversations.finish_turn(ending(turn, begun, "I will."))

    thread = say(conversations, conversations.thread(first_id), "Still?", "Still.")
    assert thread.is_whole
    assert thread.conversation.title == "First"
    assert [body for _, body in said(thread.branch())] == [
        "Will you remember?",
        "I will.",
        "Still?",
        "Still.",
    ]


def test_a_thousand_messages_and_more_are_all_read(conversations, maya, monkeypatch):
    monkeypatch.setattr("services.store.supabase.paging.PAGE", 3)  # the bound is 1,000 rows
    thread = conversations.create("Long", Window())
    for n in range(4):
        thread = say(conversations, thread, f"p{n}", f"r{n}")

    whole = Conversations(maya).thread(thread.conversation.id)

    assert whole.is_whole
    assert [m.seq for m in whole.messages] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_all_receipts_that_are_asked_for_are_there_however_few_are_kept(
    conversations, garden, monkeypatch
):
    thread = garden
    for n in range(3):
        turn = new_turn(thread, "And then?", receipt=f"receipt {n}")
        conversations.finish_turn(ending(turn, conversations.begin_turn(turn), "Wait."))
        thread = conversations.thread(thread.conversation.id)
    monkeypatch.setattr(turns, "_MOST_RECEIPTS", 2)
    other = Conversations(conversations._session)

    for _ in range(2):
        found = other.receipts(thread.messages, thread.conversation.id)
        assert sorted(found.values()) == ["receipt 0", "receipt 1", "receipt 2"]


def test_a_receipt_that_is_too_long_to_be_kept_prevents_no_turn(conversations, garden):
    turn = new_turn(garden, "And then?", receipt="é" * (LARGEST_TEXT // 2 + 1))
    conversations.finish_turn(ending(turn, conversations.begin_turn(turn), "Wait."))

    thread = conversations.thread(garden.conversation.id)
    assert thread.messages[-1].body == "Wait."
    assert conversations.receipts(thread.messages, thread.conversation.id) == {}


# --- messages that are deleted ----------------------------------------------------------------------


def test_deleted_messages_are_gone_for_every_reader_and_come_back_whole(
    conversations, garden, maya
):
    garden_id, other = garden.conversation.id, Conversations(maya)
    other.thread(garden_id)  # another process had them

    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)

    for reader in (conversations, other, Conversations(maya)):
        thread = reader.thread(garden_id)
        assert thread.is_whole
        assert said(thread.messages) == said(garden.messages[:2])
    other.restore_messages(garden_id)

    for reader in (conversations, other, Conversations(maya)):
        thread = reader.thread(garden_id)
        assert thread.is_whole
        assert thread.messages == garden.messages
    with pytest.raises(TooLate):
        conversations.restore_messages(garden_id)


@pytest.mark.parametrize("fast_seconds", [3600, -3600])
def test_time_for_undo_is_the_databases(conversations, garden, stack, monkeypatch, fast_seconds):
    class AppClock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=fast_seconds)

    monkeypatch.setattr(deletions, "datetime", AppClock, raising=False)
    garden_id = garden.conversation.id
    conversations.discard_messages(garden, garden.messages[3:], (), 20, drops_summary=False)
    with stack.connect() as database:
        database.execute(
            "update public.messages set destroy_at = now() where conversation_id = %s and destroy_at is not null",
            [garden_id],
        )
    assert not conversations.can_restore_messages(garden_id)
    known = conversations.thread(garden_id)
    conversations.discard_messages(known, known.messages[2:], (), 20, drops_summary=False)

    assert conversations.can_restore_messages(garden_id)
    conversations.restore_messages(garden_id)

    assert said(conversations.thread(garden_id).messages) == said(garden.messages[:3])


def test_conversation_goes_on_whole_after_messages_were_deleted(conversations, garden, maya):
    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)
    thread = say(conversations, conversations.thread(garden.conversation.id), "Leeks?", "Yes.")
    assert thread.is_whole
    assert [message.seq for message in thread.messages] == [1, 2, 5, 6]

    conversations.mark_read(thread)
    conversations.restore_messages(garden.conversation.id)

    thread = Conversations(maya).thread(garden.conversation.id)
    assert thread.is_whole
    assert not thread.conversation.is_unread
    assert [message.seq for message in thread.messages] == [1, 2, 3, 4, 5, 6]


def test_stale_delete_and_stale_prompt_are_refused(conversations, garden, maya):
    other = Conversations(maya)
    old = other.thread(garden.conversation.id)
    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)

    with pytest.raises(Stale):
        other.discard_messages(old, old.messages, (), 20, drops_summary=False)
    with pytest.raises(Stale):
        other.begin_turn(new_turn(old, "To what is gone"))


@pytest.mark.parametrize(
    "change",
    [
        "delete from public.messages where conversation_id = %s and seq = 2",
        "update public.messages set destroy_at = null where conversation_id = %s and seq = 4",
        "update public.messages set destroy_at = now() where conversation_id = %s and seq = 2",
        "update public.conversations set last_seq = last_seq + 1 where id = %s",
    ],
)
def test_what_else_is_removed_or_put_back_after_a_delete_is_noticed(
    conversations, garden, maya, stack, change
):
    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)
    with stack.connect() as database:
        assert database.execute(change, [garden.conversation.id]).rowcount == 1

    assert not Conversations(maya).thread(garden.conversation.id).is_whole


def test_messages_of_somebody_else_are_neither_deleted_nor_restored(conversations, garden, omar):
    stranger = Conversations(omar)
    with pytest.raises(Stale):  # nobody but its owner has read it
        stranger.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)
    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)

    with pytest.raises(NotFound):
        stranger.restore_messages(garden.conversation.id)
    assert len(conversations.thread(garden.conversation.id).messages) == 2


def test_nothing_made_of_messages_around_their_deletion_outlives_it(conversations, garden, maya):
    other, memories = Conversations(maya), Memories(maya, Threads(maya))
    seen = other.thread(garden.conversation.id)
    summary = RunningSummary(
        text="Peas.", from_seq=1, up_to_seq=4, made_at=seen.messages[0].created_at
    )
    fact = Fact(
        id=FactId(uuid4()),
        text="Has a dog",
        since=summary.made_at,
        source_conversation_id=garden.conversation.id,
    )
    other.set_summary(seen, summary)

    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)

    assert conversations.thread(garden.conversation.id).summary is None
    with pytest.raises(Stale):
        other.set_summary(seen, summary)
    with pytest.raises(NotFound):
        memories.keep(fact, cuts=seen.conversation.cuts)
    memories.keep(fact)


@pytest.fixture
def lose_answer(monkeypatch):
    """Has the first answer to a verb lost, once it is done."""

    def lose(lost):
        call, waiting = PersonCalls.call, [lost]

        def call_once(calls, verb, /, **arguments):
            answer = call(calls, verb, **arguments)
            if verb in waiting:
                waiting.remove(verb)
                raise StoreUnavailable
            return answer

        monkeypatch.setattr(PersonCalls, "call", call_once)

    return lose


def test_delete_whose_answer_was_lost_is_done_once(conversations, garden, maya, lose_answer):
    lose_answer("discard_messages")

    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)

    assert len(Conversations(maya).thread(garden.conversation.id).messages) == 2


def test_undo_whose_answer_was_lost_is_done_once(conversations, garden, maya, lose_answer):
    conversations.discard_messages(garden, garden.messages[2:], (), 20, drops_summary=False)
    lose_answer("restore_messages")

    conversations.restore_messages(garden.conversation.id)

    thread = Conversations(maya).thread(garden.conversation.id)
    assert thread.is_whole
    assert thread.messages == garden.messages
