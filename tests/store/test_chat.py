"""Turns from prompt to settled reply: a real database, a real API, a scripted model server."""

import threading
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from uuid import uuid4

import httpx
import pytest

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.paid_calls import PaidCalls
from services.domain import (
    ConversationId,
    Full,
    MessageId,
    Outcome,
    Role,
    TurnId,
    Usage,
    UserId,
    Window,
)
from services.errors import (
    BadInput,
    Busy,
    Cap,
    ModelFailure,
    ModelUnavailable,
    NotFound,
    OverBudget,
    PromptTooLong,
    SignedOut,
    Stale,
    StoreUnavailable,
    Tampered,
)
from tests.fakes import INFO
from tests.stack.apps import SECONDS, until
from tests.store.conftest import done
from tests.stores import store_of


@pytest.fixture
def chat(maya, make_chat):
    return make_chat(maya)


def ask(chat, prompt, conversation_id=None):
    turn = done(chat.begin(conversation_id, prompt))
    return chat.open(turn.conversation_id)


def said(thread):
    return [(message.role, message.body) for message in thread.branch()]


def money(stack, session):
    """What is spent this month, reserved, and the sum of the ledger."""
    with stack.connect() as database:
        spent, reserved = database.execute(
            "select month_spent, reserved from private.budgets where user_id = %s",
            [session.user_id],
        ).fetchone()
        booked = database.execute(
            "select coalesce(sum(micro), 0) from private.ledger where user_id = %s",
            [session.user_id],
        ).fetchone()[0]
    return spent, reserved, int(booked)


@contextmanager
def a_slow_reply(server, words="tokens=400 rate=20"):
    """A prompt whose reply is long in coming, and no request that outlives the test."""
    yield f"Slowly [[{words}]]"
    server.wait_until(lambda s: s.live == 0)


def test_a_turn_is_stored_settled_and_titled(chat, maya, stack, server):
    server.script(reply="In March.", cached=5)

    thread = ask(chat, "When do I sow peas, and how deep do they have to go into heavy wet soil?")

    assert said(thread)[1] == (Role.ASSISTANT, "In March.")
    assert thread.messages[1].outcome is Outcome.COMPLETE
    assert thread.conversation.title == "When do I sow peas, and how deep do they have to go into…"
    spent, reserved, booked = money(stack, maya)
    assert spent == booked > 0
    assert reserved == 0
    assert [m["role"] for m in server.requests[-1].body["messages"]] == ["system", "user"]


def test_the_next_turn_sees_what_was_said(chat, server):
    thread = ask(chat, "First")
    thread = ask(chat, "Second", thread.conversation.id)

    sent = server.requests[-1].body["messages"]
    assert [(m["role"], m["content"]) for m in sent] == [
        ("system", "Be kind."),
        ("user", "First"),
        ("assistant", "You said: First"),
        ("user", "Second"),
    ]
    assert len(thread.messages) == 4


def test_the_prompt_is_stored_before_the_model_is_called(chat, maya, server):
    with a_slow_reply(server, "fault=hang-headers") as prompt:
        turn = chat.begin(None, prompt)
        server.wait_until(lambda s: s.live == 1)

        thread = store_of(maya).conversations.thread(turn.conversation_id)
        assert said(thread) == [(Role.USER, prompt)]
        turn.stop()
        done(turn)


def test_who_saw_the_reply_coming_may_go_on_before_it_is_drawn(chat):
    turn = done(chat.begin(None, "One"))
    conversation_id = turn.conversation_id

    # as the page stood that began: the prompt
    done(chat.begin(conversation_id, "Two", seen_rev=1, tip_id=turn.prompt_id))

    thread = chat.open(conversation_id)
    assert [text for _, text in said(thread)] == ["One", "You said: One", "Two", "You said: Two"]
    done(chat.retry(conversation_id))  # another reply beside the one that was seen
    with pytest.raises(Stale):
        chat.begin(conversation_id, "Three", seen_rev=thread.conversation.rev)


def test_followers_see_it_grow_and_hear_done_after_it_is_stored(chat, maya, server):
    turn = chat.begin(None, "Grow [[tokens=30 rate=60]]")

    texts = list(turn.follow())

    assert len(set(texts)) > 3
    assert all(b.startswith(a) for a, b in pairwise(texts))
    stored = store_of(maya).conversations.thread(turn.conversation_id)
    assert said(stored)[-1] == (Role.ASSISTANT, texts[-1])


def test_a_stop_ends_the_request_and_keeps_what_was_said(chat, maya, stack, server):
    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        next(text for text in turn.follow() if len(text) > 10)
        turn.stop()
        done(turn)
        server.wait_until(lambda s: s.requests[-1].end == "left")  # not whole

    thread = chat.open(turn.conversation_id)
    assert thread.messages[-1].outcome is Outcome.STOPPED
    assert thread.messages[-1].body
    assert turn.failure is None
    spent, reserved, booked = money(stack, maya)
    assert (reserved, spent) == (0, booked)
    assert spent > 0


def test_a_reply_that_ends_while_its_thread_is_read_is_read_with_it(chat, server, monkeypatch):
    read = chat.store.turns.read

    def slowly(conversation_id):
        found = read(conversation_id)
        turn.stop()
        done(turn)
        return found

    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        next(text for text in turn.follow() if len(text) > 10)
        monkeypatch.setattr(chat.store.turns, "read", slowly)
        thread, coming = chat.read(turn.conversation_id)

    assert coming is None
    assert thread.messages[-1].outcome is Outcome.STOPPED


def test_a_stop_before_the_first_word_leaves_the_prompt(chat, server):
    with a_slow_reply(server, "fault=hang") as prompt:
        turn = chat.begin(None, prompt)
        server.wait_until(lambda s: s.live == 1)
        turn.stop()
        done(turn)

    assert said(chat.open(turn.conversation_id)) == [(Role.USER, prompt)]


@pytest.mark.parametrize(
    ("words", "failure", "reply"),
    [
        ("status=500", ModelFailure.BROKEN, ""),
        ("status=429 retry_after=60", ModelFailure.BUSY, ""),
        ("status=401", ModelFailure.REJECTED, ""),
        ("fault=html", ModelFailure.GARBLED, ""),
        ("tokens=9 fault=malformed after=3", ModelFailure.GARBLED, "kept"),
        ("tokens=9 fault=drop after=3", ModelFailure.DROPPED, "kept"),
        ("tokens=9 fault=unended after=3", ModelFailure.DROPPED, "kept"),
    ],
)
def test_a_failing_model_ends_in_a_sentence_and_a_retry_that_works(
    chat, maya, stack, server, words, failure, reply
):
    server.script(**dict(_read(word) for word in words.split()))
    turn = done(chat.begin(None, "Tell me"))

    assert isinstance(turn.failure, ModelUnavailable)
    assert turn.failure.failure is failure
    assert chat.failure(turn.conversation_id) is turn.failure
    thread = chat.open(turn.conversation_id)
    assert said(thread)[0] == (Role.USER, "Tell me")
    assert [bool(m.body) for m in thread.messages[1:]] == ([True] if reply else [])
    spent, reserved, booked = money(stack, maya)
    assert (spent, reserved) == (booked, 0)
    assert bool(spent) is bool(reply)

    server.script(reply="Here it is.")
    done(chat.retry(turn.conversation_id))

    thread = chat.open(turn.conversation_id)
    assert said(thread) == [(Role.USER, "Tell me"), (Role.ASSISTANT, "Here it is.")]
    assert thread.is_whole
    assert chat.failure(turn.conversation_id) is None


def _read(word):
    name, value = word.split("=")
    return name, int(value) if value.isdigit() and name != "retry_after" else value


def test_one_reply_at_a_time(chat, server):
    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        with pytest.raises(Busy):
            chat.begin(turn.conversation_id, "And another")
        assert chat.read(turn.conversation_id)[1] is turn
        turn.stop()
        done(turn)

    assert chat.read(turn.conversation_id)[1] is None


def test_a_tab_that_has_not_seen_the_last_message_is_told(chat):
    thread = ask(chat, "One")
    old = thread.conversation.rev
    ask(chat, "Two", thread.conversation.id)

    with pytest.raises(Stale):
        chat.begin(thread.conversation.id, "Three", seen_rev=old)


def test_another_device_is_told_as_well(chat, maya, make_chat):
    thread = ask(chat, "One")
    elsewhere = make_chat(maya)
    elsewhere.open(thread.conversation.id)
    ask(chat, "Two", thread.conversation.id)

    with pytest.raises(Stale):
        elsewhere.begin(thread.conversation.id, "Three")

    after = ask(elsewhere, "Three", elsewhere.open(thread.conversation.id).conversation.id)
    assert [body for role, body in said(after) if role is Role.USER] == ["One", "Two", "Three"]


def test_stopped_reply_goes_on_and_is_followed_from_another_process(chat, maya, make_chat, server):
    with a_slow_reply(server, "tokens=400 rate=20") as prompt:
        stopped = chat.begin(None, prompt)
        next(filter(None, stopped.follow()))
        stopped.stop()
        done(stopped)
    conversation_id = stopped.conversation_id
    server.script(tokens=60, rate=20)

    turn = chat.continue_reply(conversation_id, chat.open(conversation_id).tip.id)
    _, remote = make_chat(maya).read(conversation_id)
    texts = list(remote.follow())

    assert any(texts)
    thread = store_of(maya).conversations.thread(conversation_id)
    assert thread.is_whole
    assert said(thread) == [
        (Role.USER, prompt),
        (Role.ASSISTANT, stopped.said() + done(turn).said()),
    ]


def test_a_turn_of_another_process_is_followed_and_its_reply_found(chat, maya, make_chat, server):
    turn = chat.begin(None, "Far away [[tokens=60 rate=20]]")
    elsewhere = make_chat(maya)
    elsewhere.open(turn.conversation_id)

    remote = elsewhere.read(turn.conversation_id)[1]
    texts = list(remote.follow())

    assert any(texts)
    assert done(turn).failure is None
    assert said(elsewhere.open(turn.conversation_id))[-1] == (Role.ASSISTANT, turn.said())


def test_reply_of_another_process_is_stopped_by_its_next_heartbeat(chat, maya, make_chat, server):
    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        next(filter(None, turn.follow()))
        elsewhere = make_chat(maya)
        elsewhere.open(turn.conversation_id)

        elsewhere.read(turn.conversation_id)[1].stop()

        assert turn.wait(5)
    reply = elsewhere.open(turn.conversation_id).messages[-1]
    assert (reply.outcome, reply.body) == (Outcome.STOPPED, turn.said())


def test_what_a_killed_process_had_been_told_becomes_a_message(
    maya, make_chat, stack, server, monkeypatch
):
    """A killed process neither finishes nor beats: both are taken from it here."""
    monkeypatch.setattr("services.chat.paid_calls.LEASE_SECONDS", 2)
    dying = make_chat(maya)
    with a_slow_reply(server, "tokens=400 rate=20 times=1") as prompt:
        turn = dying.begin(None, prompt)
        _wait_for_checkpoint(stack, turn)
        monkeypatch.setattr(dying.store.turns, "checkpoint", lambda *_: False)
        monkeypatch.setattr(PaidCalls, "_finish", lambda *_: None)
        turn.stop()
        done(turn)
    monkeypatch.undo()

    survivor = make_chat(maya)
    survivor.open(turn.conversation_id)
    remote = survivor.read(turn.conversation_id)[1]
    assert remote is not None
    texts = list(remote.follow())  # until the lease runs out and the turn is settled
    thread = survivor.open(turn.conversation_id)

    assert thread.messages[-1].outcome is Outcome.INTERRUPTED
    assert thread.messages[-1].body == texts[-1] != ""
    assert thread.is_whole
    spent, reserved, booked = money(stack, maya)
    assert (spent, reserved) == (booked, 0)
    done(survivor.retry(turn.conversation_id))
    assert survivor.open(turn.conversation_id).messages[-1].outcome is Outcome.COMPLETE


def _wait_for_checkpoint(stack, turn):
    query = "select partial is not null from public.turns where id = %s"
    with stack.connect() as database:
        until(lambda: database.execute(query, [turn.id]).fetchone() == (True,))


def test_a_reply_waits_for_a_database_that_is_away(chat, maya, server, monkeypatch):
    finish = chat.store.turns.finish
    away = [StoreUnavailable("away")] * 3

    def unreachable(ending):
        if away:
            raise away.pop()
        finish(ending)

    monkeypatch.setattr(chat.store.turns, "finish", unreachable)
    turn = done(chat.begin(None, "Wait for it [[tokens=5]]"))

    assert turn.failure is None
    assert away == []
    assert said(chat.open(turn.conversation_id))[-1][1] == turn.said()


@contextmanager
def nothing_is_heard_of(verb, sessions):
    """The database does what *verb* asks for, and no answer comes; nor to what is asked next."""
    transport = type(sessions.gateway.http._transport)
    handle, lost = transport.handle_request, list[str]()

    def lose(self, request):
        if lost:
            raise httpx.ConnectError("away", request=request)
        answer = handle(self, request)
        if request.url.path.endswith(verb):
            lost.append(verb)
            answer.read()
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "handle_request", lose)
        yield
    assert lost


def _edit(chat, thread):
    return chat.edit_prompt(thread.conversation.id, thread.messages[0].id, "Second")


REQUESTS = {
    "first": lambda chat, _: chat.begin(None, "Second"),
    "next": lambda chat, thread: chat.begin(thread.conversation.id, "Second"),
    "retry": lambda chat, thread: chat.retry(thread.conversation.id, thread.messages[1].id),
    "edit": _edit,
}


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("kind", REQUESTS)
def test_request_whose_answer_was_lost_begins_one_turn(chat, maya, stack, sessions, kind, is_read):
    thread = ask(chat, "First")
    send = REQUESTS[kind]
    with nothing_is_heard_of("rpc/begin_turn", sessions), pytest.raises(StoreUnavailable):
        send(chat, thread)
    if is_read:
        stored = chat.open(thread.conversation.id)
        if kind != "retry":  # of a prompt that is stored, another process may be at it
            assert chat.read(stored.conversation.id)[1] is None

    turn = done(send(chat, thread))

    stored = chat.open(turn.conversation_id)
    assert stored.is_whole
    assert [body for _, body in said(stored)].count("Second") == (kind != "retry")
    assert len(stored.messages) == {"first": 2, "retry": 3}.get(kind, 4)
    assert len(chat.store.conversations.recent()) == 1 + (kind == "first")
    spent, reserved, booked = money(stack, maya)
    assert (spent, reserved) == (booked, 0)


def test_stored_prompt_is_retried_after_its_answer_was_lost(chat, maya, stack, sessions):
    garden = ask(chat, "First").conversation
    with nothing_is_heard_of("rpc/begin_turn", sessions), pytest.raises(StoreUnavailable):
        chat.begin(garden.id, "Second")
    chat.open(garden.id)

    done(chat.retry(garden.id))

    bodies = [body for _, body in said(chat.open(garden.id))]
    assert bodies == ["First", "You said: First", "Second", "You said: Second"]
    assert money(stack, maya)[1] == 0


def test_prompt_whose_answer_was_lost_costs_nothing_without_reply(chat, maya, stack, sessions):
    garden = ask(chat, "First").conversation
    spent = money(stack, maya)[0]
    with nothing_is_heard_of("rpc/begin_turn", sessions), pytest.raises(StoreUnavailable):
        chat.begin(garden.id, "Second")
    thread = chat.open(garden.id)
    with pytest.raises(Busy):  # its lease goes on
        chat.begin(garden.id, "Another")
    end_leases(stack, maya)
    chat.sweep()

    assert money(stack, maya)[:2] == (spent, 0)
    done(chat.begin(garden.id, "Another", seen_rev=thread.conversation.rev))
    bodies = [body for _, body in said(chat.open(garden.id))][2:]
    assert bodies == ["Second", "Another", "You said: Another"]


def end_leases(stack, session):
    """Let the leases of a user's turns run out."""
    with stack.connect() as database:
        database.execute(
            "update public.turns set lease_until = now() - interval '1 hour'"
            " where user_id = %s and finished_at is null",
            [session.user_id],
        )


def test_what_was_read_stays_while_the_database_is_away(chat, sessions, monkeypatch):
    thread = ask(chat, "First")
    conversations = chat.store.conversations.recent()

    def refuse(self, request):
        raise httpx.ConnectError("away", request=request)

    monkeypatch.setattr(type(sessions.gateway.http._transport), "handle_request", refuse)

    assert chat.open(thread.conversation.id) == thread
    assert chat.store.conversations.recent() == conversations
    with pytest.raises(StoreUnavailable):
        chat.store.conversations.recent(is_archived=True)


def test_a_refused_first_prompt_leaves_no_empty_conversation(chat, maya, stack):
    with stack.connect() as database:
        database.execute(
            "update private.budgets set daily_cap_micro = 0 where user_id = %s", [maya.user_id]
        )

    with pytest.raises(OverBudget) as refused:
        chat.begin(None, "No money")

    assert refused.value.cap is Cap.DAILY
    assert store_of(maya).conversations.recent() == []


@pytest.mark.parametrize(("tokens", "is_asked"), [(255, False), (256, True), (399, True)])
def test_a_clipped_budget_clips_the_reply_down_to_256_tokens(
    chat, maya, stack, server, tokens, is_asked
):
    turn = done(chat.begin(None, "Hi"))
    before = len(server.requests)
    with stack.connect() as database:
        (reserved,) = database.execute(
            "select reserved_micro from public.turns where id = %s", [turn.id]
        ).fetchone()
        missing = INFO.cost_micro(Usage(0, INFO.reply_tokens - tokens))
        database.execute(
            "update private.budgets set daily_cap_micro = %s where user_id = %s",
            [money(stack, maya)[0] + reserved - missing, maya.user_id],
        )

    with nullcontext() if is_asked else pytest.raises(OverBudget):
        done(chat.begin(None, "Hi"))

    asked = [request.body["max_tokens"] for request in server.requests[before:]]
    assert asked == [tokens] * is_asked


@pytest.mark.parametrize("prompt", ["", "  \n", "語" * 100_000, "half a \ud83d pair"])
def test_what_cannot_be_sent_is_refused_before_anything_is_stored(chat, maya, prompt):
    with pytest.raises(BadInput):
        chat.begin(None, prompt)
    assert store_of(maya).conversations.recent() == []


def test_halves_of_characters_come_together_and_a_lone_half_is_marked(chat):
    turn = LiveTurn(UserId(uuid4()), ConversationId(uuid4()), TurnId(uuid4()), MessageId(uuid4()))
    for piece in ("a \ud83d", "\ude00 b \ud83d"):
        turn.push(piece)

    assert turn.said() == "a \U0001f600 b \ufffd"


def test_a_reply_without_an_end_is_cut_and_kept(chat, server):
    server.script(reply="語" * 60_000)

    turn = done(chat.begin(None, "Go on for ever"))

    assert turn.failure is None
    assert chat.open(turn.conversation_id).messages[-1].outcome is Outcome.CUT


def test_reply_that_reached_its_limit_is_stored_as_cut(chat, maya, stack, server):
    server.script(tokens=10_000)

    thread = ask(chat, "Go on")

    assert thread.messages[-1].outcome is Outcome.CUT
    spent, reserved, booked = money(stack, maya)
    assert (spent, reserved) == (booked, 0)
    assert spent > 0


def test_full_memory_refuses_before_it_overflows_and_loses_nothing(maya, make_chat):
    chat = make_chat(maya)
    thread = ask(chat, "long " * 700)
    chat.store.conversations.set_policy(thread.conversation.id, Full())
    chat.open(thread.conversation.id)

    with pytest.raises(PromptTooLong):
        for _ in range(5):
            ask(chat, "more " * 700, thread.conversation.id)

    chat.store.conversations.set_policy(thread.conversation.id, Window())
    chat.open(thread.conversation.id)
    assert ask(chat, "Go on", thread.conversation.id).messages[-1].role is Role.ASSISTANT


def test_the_view_begins_where_the_window_does(chat):
    thread = ask(chat, "prompt 0")
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    for n in range(1, 12):
        thread = ask(chat, f"prompt {n}", thread.conversation.id)
        view = chat.planning.view(thread, chat.setup(thread))
        assert len(view.omitted_ids) == max(0, len(thread.messages) - 20)

    first_seen = next(m for m in thread.branch() if m.seq > view.start_seq)
    assert first_seen.body == "prompt 2"


def test_a_context_started_anew_hides_what_was_before(chat, server):
    thread = ask(chat, "Forget me")
    chat.store.conversations.start_anew(thread)
    thread = ask(chat, "New", chat.open(thread.conversation.id).conversation.id)

    assert "Forget me" not in str(server.requests[-1].body)
    assert len(thread.messages) == 4


def test_an_earlier_reply_is_written_again_beside_the_first(chat, server):
    server.script(reply="Ferns.")
    ask(chat, "Shade?", None)
    conversation_id = chat.store.conversations.recent()[0].id
    ask(chat, "Sun?", conversation_id)
    first = chat.open(conversation_id).branch()[1]
    server.script(reply="Hostas.")

    done(chat.retry(conversation_id, first.id))

    assert "Sun?" not in str(server.requests[-1].body)
    thread = chat.open(conversation_id)
    assert said(thread) == [(Role.USER, "Shade?"), (Role.ASSISTANT, "Hostas.")]
    assert [one.body for one in thread.versions(first)] == ["Ferns.", "Hostas."]
    assert len(said(thread.through(first.id))) == 4  # what was said after the first is still there


def test_a_reply_that_is_not_there_is_not_written_again(chat):
    conversation_id = done(chat.begin(None, "One")).conversation_id

    with pytest.raises(NotFound):
        chat.retry(conversation_id, MessageId(uuid4()))

    assert len(chat.open(conversation_id).messages) == 2


def test_a_conversation_goes_on_from_the_version_that_is_read(chat, maya, server):
    server.script(reply="Ferns.")
    thread = ask(chat, "Shade?")
    first = thread.branch()[-1]
    conversation_id = thread.conversation.id
    server.script(reply="Hostas.")
    done(chat.retry(conversation_id))
    seen = chat.open(conversation_id).through(first.id)

    done(chat.begin(conversation_id, "Why?", seen_rev=seen.conversation.rev, tip_id=first.id))

    sent = str(server.requests[-1].body)
    assert "Ferns." in sent
    assert "Hostas." not in sent
    assert [body for _, body in said(chat.open(conversation_id))] == [
        "Shade?",
        "Ferns.",
        "Why?",
        "Hostas.",
    ]
    assert store_of(maya).conversations.thread(conversation_id).is_whole


def test_the_stored_beginning_of_a_view_is_its_own_branchs(chat, server):
    thread = ask(chat, "prompt 0")
    conversation_id = thread.conversation.id
    chat.store.conversations.set_policy(conversation_id, Window(4))
    for n in range(1, 5):
        thread = ask(chat, f"prompt {n}", conversation_id)
    assert thread.conversation.start_seq == 4

    done(chat.retry(conversation_id, thread.branch()[3].id))

    sent = str(server.requests[-1].body)
    assert "prompt 0" in sent
    assert "prompt 1" in sent
    assert "prompt 2" not in sent


def test_a_conversation_deleted_under_a_reply(chat, maya, server):
    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        next(text for text in turn.follow() if text)
        chat.deletions.discard(turn.conversation_id, 20)

    assert turn.is_done
    assert store_of(maya).conversations.recent() == []


def test_who_leaves_stops_their_turns_and_no_others(chat, maya, make_chat, server):
    with a_slow_reply(server) as prompt:
        turns = [chat.begin(None, prompt) for _ in range(2)]
        for turn in turns:
            next(text for text in turn.follow() if text)
        other = make_chat(maya, chat.live_turns)
        other.leave()  # another device, whose turns these are not
        assert not any(turn.is_done for turn in turns)
        chat.leave(within=SECONDS)

    assert all(turn.is_done for turn in turns)
    for turn in turns:
        assert _last(chat.open(turn.conversation_id)).outcome is Outcome.STOPPED


def _last(thread):
    return thread.messages[-1]


def test_a_reply_in_one_piece_that_no_message_can_hold_is_cut_kept_and_paid_for(
    chat, maya, stack, server
):
    server.script(reply="x" * 400_000)

    turn = done(chat.begin(None, "Everything at once"))

    thread = chat.open(turn.conversation_id)
    assert turn.failure is None
    assert thread.messages[-1].outcome is Outcome.CUT
    assert len(thread.messages[-1].body) >= 200_000
    spent, reserved, booked = money(stack, maya)
    assert (spent, reserved) == (booked, 0)


def test_a_bug_at_one_turn_leaves_the_others_their_heartbeat(monkeypatch):
    monkeypatch.setattr("services.chat.live_turn._HEARTBEAT_SECONDS", 0.02)
    live_turns, may_end, heard = LiveTurns(), threading.Event(), threading.Semaphore(0)

    def beat_badly(_):
        raise ValueError("a bug")

    def produce(turn):
        may_end.wait(SECONDS)
        turn.close(None)

    bad, good = a_turn(), a_turn()
    live_turns.run(bad, beat_badly, produce)
    live_turns.run(good, lambda _: heard.release(), produce)

    assert all(heard.acquire(timeout=SECONDS) for _ in range(3))
    may_end.set()
    assert done(bad).is_done
    assert done(good).is_done


def test_what_nobody_comes_back_for_leaves_the_memory():
    live_turns = LiveTurns()
    for _ in range(3):
        turn = a_turn()
        live_turns.run(turn, lambda _: None, lambda turn: turn.close(None))
        done(turn)

    until(lambda: not live_turns._turns)


def test_a_turn_that_no_thread_can_be_had_for_is_not_kept_alive(monkeypatch):
    live_turns, turn = LiveTurns(), a_turn()

    def none_left(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError):
            live_turns.run(turn, lambda _: None, lambda turn: turn.close(None))

    assert live_turns.find(turn.user_id, turn.conversation_id) is None
    live_turns.run(turn, lambda _: None, lambda turn: turn.close(None))
    assert done(turn).failure is None


def a_turn():
    return LiveTurn(UserId(uuid4()), ConversationId(uuid4()), TurnId(uuid4()), MessageId(uuid4()))


def test_a_reply_whose_use_nobody_reports_costs_no_more_than_was_reserved(
    chat, maya, stack, server
):
    with stack.connect() as database:
        database.execute(
            "update private.budgets set daily_cap_micro = 1500 where user_id = %s", [maya.user_id]
        )
    server.script(reply="wonderful " * 500, usage="none")

    thread = ask(chat, "Hi")

    assert thread.messages[-1].outcome is Outcome.CUT
    spent, _, booked = money(stack, maya)
    assert 0 < spent == booked <= 1500


def test_who_is_signed_out_elsewhere_is_told_nothing_more(chat, maya, sessions, server):
    with a_slow_reply(server) as prompt:
        turn = chat.begin(None, prompt)
        next(text for text in turn.follow() if text)
        sessions.server.call("end_session", cookie=maya.cookie_hash)
        server.wait_until(lambda s: s.requests[-1].end == "left")

    assert isinstance(done(turn).failure, SignedOut)


def leave_a_killed_turn(chat, stack, server, monkeypatch):
    """A turn with something said whose process died; its lease is over, and it is settled."""
    with monkeypatch.context() as killed, a_slow_reply(server, "tokens=400 rate=20 times=1") as it:
        turn = chat.begin(None, it)
        _wait_for_checkpoint(stack, turn)
        killed.setattr(chat.store.turns, "checkpoint", lambda *_: False)
        killed.setattr(PaidCalls, "_finish", lambda *_: None)
        turn.stop()
        done(turn)
    with stack.connect() as database:
        database.execute("update public.turns set lease_until = now() where id = %s", [turn.id])
    chat.sweep()
    return turn


@pytest.mark.parametrize(
    "damage",
    [
        "update public.turns set partial = overlay(partial placing 'AAAA' from 90 for 4) "
        "where conversation_id = %s",
        "update public.conversations set head = overlay(head placing 'AAAA' from 90 for 4) "
        "where id = %s",
    ],
    ids=["what had been said", "head"],
)
def test_a_killed_turn_that_cannot_be_verified_leaves_the_rest_readable(
    chat, maya, make_chat, stack, server, monkeypatch, damage
):
    turn = leave_a_killed_turn(chat, stack, server, monkeypatch)
    with stack.connect() as database:
        assert database.execute(damage, [turn.conversation_id]).rowcount == 1

    survivor = make_chat(maya)

    for _ in range(2):
        thread = survivor.open(turn.conversation_id)
        assert [message.role for message in thread.messages] == [Role.USER]
        assert survivor.read(turn.conversation_id)[1] is None


def test_a_second_reply_is_adopted_though_its_conversation_was_opened_before_it_lapsed(
    chat, maya, make_chat, stack, server, monkeypatch
):
    server.script(tokens=400, fault="drop", after=5)
    thread = ask(chat, "Slowly")
    server.script(tokens=400, rate=20)
    with monkeypatch.context() as killed:
        turn = chat.retry(thread.conversation.id)
        _wait_for_checkpoint(stack, turn)
        survivor = make_chat(maya)
        survivor.open(turn.conversation_id)
        killed.setattr(chat.store.turns, "checkpoint", lambda *_: False)
        killed.setattr(PaidCalls, "_finish", lambda *_: None)
        turn.stop()
        done(turn)
    with stack.connect() as database:
        database.execute("update public.turns set lease_until = now() where id = %s", [turn.id])
    survivor.sweep()

    assert survivor.open(turn.conversation_id).messages[-1].outcome is Outcome.INTERRUPTED


def test_a_prompt_that_does_not_verify_is_not_asked_again(chat, stack, server):
    server.script(status=500)
    turn = done(chat.begin(None, "Tell me"))
    asked = len(server.requests)
    with stack.connect() as database:
        database.execute(
            "update public.messages set body = overlay(body placing 'AAAA' from 90 for 4) "
            "where id = %s",
            [turn.prompt_id],
        )
    chat.store.conversations.forget(turn.conversation_id)

    with pytest.raises(Tampered):
        chat.retry(turn.conversation_id)
    assert len(server.requests) == asked
