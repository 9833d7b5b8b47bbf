"""Turns from prompt to settled reply."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services import errors
from services.domain import Full, MessageId, NewConversation, Outcome, Usage, Window
from services.domain.model_failures import ModelFailure
from services.domain.turns import Pace, StopCause, TurnState
from tests.chats import done, said
from tests.fakes import INFO, MAYA
from tests.stack.apps import SECONDS
from tests.store.conformance.talk import ending, new_turn


def ask(chat, prompt, conversation_id=None, **seen):
    turn = done(chat.begin(conversation_id, prompt, **seen))
    return chat.open(turn.conversation_id)


def begin_slowly(chat):
    """Return a turn whose reply has begun and takes long."""
    turn = chat.begin(None, "Slowly [[tokens=400 rate=20]]")
    next(filter(None, turn.follow()))
    return turn


def sent(server):
    return [message["content"] for message in server.requests[-1].body["messages"]]


@pytest.fixture
def thread(chat):
    return ask(chat, "First")


@pytest.fixture
def garden(thread):
    return thread.conversation.id


def test_prompt_is_stored_before_the_model_is_called(chat, database, server):
    server.script(fault="hang-headers")
    turn = chat.begin(None, "Hello")
    server.wait_until(lambda s: s.live == 1)

    assert said(database.thread(turn.conversation_id)) == ["Hello"]


def test_prompt_sent_while_the_reply_comes_is_accepted(chat):
    turn = done(chat.begin(None, "One"))
    garden = turn.conversation_id

    thread = ask(chat, "Two", garden, seen_rev=1, tip_id=turn.prompt_id)

    assert said(thread) == ["One", "You said: One", "Two", "You said: Two"]
    done(chat.retry(garden))  # another reply, which the page does not show
    with pytest.raises(errors.Stale):
        chat.begin(garden, "Three", seen_rev=thread.conversation.rev)


def test_followers_see_a_growing_reply_until_it_is_stored(chat, database):
    turn = chat.begin(None, "Grow [[tokens=30 rate=60]]")

    texts = list(turn.follow())

    assert len(set(texts)) > 3
    assert all(b.startswith(a) for a, b in pairwise(texts))
    assert said(database.thread(turn.conversation_id))[-1] == texts[-1]


def test_reply_goes_on_after_its_last_reader_leaves(chat, database):
    turn = chat.begin(None, "Go on [[tokens=30 rate=30]]")
    page = turn.follow()
    next(filter(None, page))

    page.close()  # as when the tab is closed

    assert chat.view(turn.conversation_id).turn is turn  # another tab finds it
    reply = database.thread(done(turn).conversation_id).messages[-1]
    assert (reply.outcome, len(reply.body.split())) == (Outcome.COMPLETE, 30)


def test_model_is_not_told_who_asks(chat, server):
    ask(chat, "Who am I?")

    [asked] = server.requests
    assert asked.body.keys() <= {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert not [user for user in (str(MAYA), MAYA.hex) if user in str(asked.body)]


def test_stopped_reply_is_stored_and_charged(chat, database, server):
    turn = begin_slowly(chat)

    turn.stop()

    done(turn)
    server.wait_until(lambda s: s.requests[-1].end == "left")
    reply = chat.open(turn.conversation_id).tip
    assert (reply.outcome, reply.body, turn.failure) == (Outcome.STOPPED, turn.said(), None)
    [(_, cost)] = database.costs()
    assert cost > 0


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (StopCause.USER, Outcome.STOPPED),
        (StopCause.SERVER, Outcome.INTERRUPTED),
        (StopCause.ADMIN, Outcome.INTERRUPTED),
    ],
)
def test_cause_of_a_stop_gives_the_outcome(chat, database, cause, outcome):
    turn = begin_slowly(chat)

    chat.live_turns.stop(cause, within=SECONDS)

    reply = chat.open(turn.conversation_id).tip
    assert (reply.outcome, reply.body, turn.failure) == (outcome, turn.said(), None)
    [(_, cost)] = database.costs()
    assert cost > 0
    assert database.turn_states() == [TurnState(outcome.value)]


def test_first_cause_of_a_stop_counts(chat):
    turn = begin_slowly(chat)

    for cause in (StopCause.ADMIN, StopCause.USER):
        turn.stop(cause)

    done(turn)
    assert chat.open(turn.conversation_id).tip.outcome is Outcome.INTERRUPTED


def test_settled_turn_is_told_before_the_reply_is_over(make_chat, database):
    settled = []
    chat = make_chat(on_settled=lambda: settled.append(len(database.costs())))

    done(chat.begin(None, "Hello"))

    assert settled[0] == 1


def test_reply_that_ends_during_a_read_is_read(chat, database):
    turn = begin_slowly(chat)
    database.rows.after["read_conversation"] = lambda: turn.stop() or done(turn)

    view = chat.view(turn.conversation_id)

    assert view.turn is None
    assert view.thread.tip.outcome is Outcome.STOPPED


def test_stop_before_the_first_word_leaves_the_prompt(chat, server):
    server.script(fault="hang")
    turn = chat.begin(None, "Hello")
    server.wait_until(lambda s: s.live == 1)

    turn.stop()

    done(turn)
    assert said(chat.open(turn.conversation_id)) == ["Hello"]


def test_stop_in_the_pause_after_a_refusal_costs_nothing(chat, database, server, pause_begins):
    server.script(status=429, retry_after="9")
    turn = chat.begin(None, "Hello")
    assert pause_begins.wait(20)

    turn.stop()

    done(turn)
    assert turn.failure is None
    assert [cost for _, cost in database.costs()] == [0]


@pytest.mark.parametrize(
    ("script", "failure", "reply"),
    [
        ({"status": 401}, ModelFailure.UNAUTHORIZED, []),
        ({"fault": "malformed", "tokens": 9, "after": 2}, ModelFailure.BROKEN, ["word1 word2 "]),
        ({"fault": "drop", "tokens": 9, "after": 2}, ModelFailure.DROPPED, ["word1 word2 "]),
    ],
)
def test_failed_reply_is_charged_and_retried(chat, database, server, script, failure, reply):
    server.script(**script)
    turn = done(chat.begin(None, "Tell me"))
    garden = turn.conversation_id

    assert chat.failure(garden) is turn.failure
    assert turn.failure.failure is failure
    assert said(chat.open(garden)) == ["Tell me", *reply]
    [(_, cost)] = database.costs()
    assert bool(cost) is bool(reply)

    server.script(reply="Here it is.")
    done(chat.retry(garden))

    assert said(chat.open(garden)) == ["Tell me", "Here it is."]
    assert chat.failure(garden) is None


def test_second_prompt_is_refused_while_a_reply_comes(chat):
    turn = begin_slowly(chat)

    with pytest.raises(errors.Busy):
        chat.begin(turn.conversation_id, "And another")
    assert chat.view(turn.conversation_id).turn is turn

    turn.stop()
    done(turn)
    assert chat.view(turn.conversation_id).turn is None


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_prompt_of_a_stale_tab_is_refused(chat, make_chat, thread, garden, is_elsewhere):
    tab = make_chat() if is_elsewhere else chat
    tab.open(garden)
    ask(chat, "Second", garden)

    with pytest.raises(errors.Stale):
        tab.begin(garden, "Third", seen_rev=thread.conversation.rev)

    tab.open(garden)
    assert said(ask(tab, "Third", garden))[::2] == ["First", "Second", "Third"]


@pytest.mark.parametrize("is_continued", [False, True])
def test_reply_of_another_process_is_followed(chat, make_chat, server, is_continued):
    so_far = ""
    server.script(tokens=40, rate=20)
    if is_continued:
        turn = begin_slowly(chat)
        turn.stop()
        so_far = done(turn).said()
        turn = chat.continue_reply(turn.conversation_id, chat.open(turn.conversation_id).tip.id)
    else:
        turn = chat.begin(None, "Far away")
    other = make_chat()

    remote = other.view(turn.conversation_id).turn
    texts = list(remote.follow())

    assert any(texts)
    assert said(other.open(turn.conversation_id))[-1] == so_far + done(turn).said()


@pytest.fixture
def passes(monkeypatch, database):
    """A list of functions, one for each pause of a follower, whose clock is a minute ahead of the database's."""
    waiting, now = [], [0.0]

    def sleep(seconds):
        now[0] += seconds
        database.let_pass(seconds)
        if waiting:
            waiting.pop(0)()

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: now[0])
    monkeypatch.setattr("services.chat.remote_turn.time", clock)
    database.let_pass(-60)
    return waiting


@pytest.fixture
def remote_reply(database):
    """A turn of another process, as functions that store a partial reply and the whole one."""
    garden, store = database.hold("Garden", "Shade?", "Ferns."), database.store()
    turn = new_turn(store.conversations.thread(garden), "Sun?")
    begun = store.turns.begin(turn)
    store.turns.checkpoint(begun.turn_id, garden, "Sa", Pace().lease_seconds)
    return SimpleNamespace(
        garden=garden,
        store=lambda text: store.turns.checkpoint(
            begun.turn_id, garden, text, Pace().lease_seconds
        ),
        finish=lambda: store.turns.finish(ending(turn, begun, "Sage.")),
    )


def test_followed_reply_outlives_an_outage(chat, database, passes, remote_reply):
    remote = chat.view(remote_reply.garden).turn
    passes += [lambda: database.rows.failures.update(read_conversation=errors.StoreUnavailable())]
    passes += [lambda: None] * 2 * (Pace().lease_seconds + 2)
    passes += [database.rows.failures.clear, lambda: None, lambda: remote_reply.store("Sage")]
    passes += [remote_reply.finish]

    texts = list(remote.follow())

    assert texts[-1] == "Sage"
    assert said(chat.open(remote_reply.garden))[-1] == "Sage."
    assert TurnState.LAPSED not in database.turn_states()


def test_followed_reply_ends_when_the_next_turn_has_begun(chat, database, passes, remote_reply):
    def go_on():
        remote_reply.finish()
        turn = new_turn(database.thread(remote_reply.garden), "Shrubs?")
        begun = database.store().turns.begin(turn)
        database.store().turns.checkpoint(
            begun.turn_id, remote_reply.garden, "Box", Pace().lease_seconds
        )

    remote = chat.view(remote_reply.garden).turn
    passes += [go_on, lambda: database.let_pass(Pace().lease_seconds + 1)]

    assert list(remote.follow()) == ["Sa"]

    assert remote.is_done


def test_followed_reply_is_read_although_every_sweep_fails(
    make_chat, database, monkeypatch, passes, remote_reply
):
    def fail():
        swept.append(True)
        raise errors.StoreUnavailable

    swept = []
    monkeypatch.setattr(database, "sweep", fail)
    chat = make_chat()
    remote = chat.view(remote_reply.garden).turn
    passes += [lambda text=text: remote_reply.store(text) for text in ("Sag", "Sage")]
    passes += [lambda: None] * 12 + [remote_reply.finish]

    texts = list(remote.follow())

    assert texts[:3] == ["Sa", "Sag", "Sage"]
    assert len(swept) == 1
    assert said(chat.open(remote_reply.garden))[-1] == "Sage."


def test_reply_waits_for_an_unavailable_store(chat, database):
    def fail():
        away.append(True)
        if len(away) < 3:
            database.rows.before["finish_turn"] = fail
        raise errors.StoreUnavailable

    away = []
    database.rows.before["finish_turn"] = fail

    turn = done(chat.begin(None, "Wait for me"))

    assert (turn.failure, len(away)) == (None, 3)
    assert said(chat.open(turn.conversation_id)) == ["Wait for me", turn.said()]


# --- requests whose answer was lost ----------------------------------------------------------------


REQUESTS = {
    "first": lambda chat, _: chat.begin(None, "Second"),
    "next": lambda chat, thread: chat.begin(thread.conversation.id, "Second"),
    "retry": lambda chat, thread: chat.retry(thread.conversation.id, thread.messages[1].id),
    "edit": lambda chat, thread: chat.edit_prompt(
        thread.conversation.id, thread.messages[0].id, "Second"
    ),
}


def lose_answer(database, send, *arguments):
    with database.no_answers("begin_turn"), pytest.raises(errors.StoreUnavailable):
        send(*arguments)


def test_lost_prompt_is_no_live_turn_while_sent_again(chat, database):
    garden = database.hold("Garden", "Shade?", "Ferns.")
    lose_answer(database, chat.begin, garden, "Sun?")
    live = []
    database.rows.before["begin_turn"] = lambda: live.append(chat.view(garden).turn)

    done(chat.begin(garden, "Sun?"))

    assert live == [None]


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("kind", REQUESTS)
def test_request_whose_answer_was_lost_begins_one_turn(chat, database, thread, kind, is_read):
    send = REQUESTS[kind]
    lose_answer(database, send, chat, thread)
    if is_read:
        live = chat.view(thread.conversation.id).turn
        assert (live is not None) is (
            kind == "retry"
        )  # a stored prompt is shown as live, because another process may be answering it

    turn = done(send(chat, thread))

    stored = chat.open(turn.conversation_id)
    assert said(stored).count("Second") == (kind != "retry")
    assert len(stored.messages) == {"first": 2, "retry": 3}.get(kind, 4)
    assert len(database.threads()) == 1 + (kind == "first")
    assert len(database.costs()) == 2


def test_request_resent_by_two_tabs_calls_the_model_once(chat, database, server):
    lose_answer(database, chat.begin, None, "Second [[tokens=400 rate=20]]")
    turns = []

    def send():
        turns.append(chat.begin(None, "Second [[tokens=400 rate=20]]"))

    database.rows.after["begin_turn"] = send
    with pytest.raises(errors.Busy):
        send()

    [turn] = turns
    next(filter(None, turn.follow()))
    turn.stop()
    done(turn)
    assert len(server.requests) == 1


def test_request_with_other_choices_is_another_request(chat, database):
    lose_answer(database, chat.begin, None, "Second")

    done(chat.begin(None, "Second", new=NewConversation(policy=Full())))

    assert len(database.threads()) == 2


def test_four_lost_requests_are_remembered(chat, database):
    database.ledger.open_turns = 10
    for n in range(5):
        lose_answer(database, chat.begin, None, f"Prompt {n}")
    assert len(database.threads()) == 5

    done(chat.begin(None, "Prompt 1"))
    assert len(database.threads()) == 5
    done(chat.begin(None, "Prompt 0"))
    assert len(database.threads()) == 6


def test_prompt_whose_answer_was_lost_is_retried(chat, database, garden):
    lose_answer(database, chat.begin, garden, "Second")
    chat.open(garden)

    done(chat.retry(garden))

    assert said(chat.open(garden))[2:] == ["Second", "You said: Second"]
    assert len(database.costs()) == 2


def test_unanswered_prompt_whose_answer_was_lost_costs_nothing(chat, database, garden):
    lose_answer(database, chat.begin, garden, "Second")
    thread = chat.open(garden)
    with pytest.raises(errors.Busy):  # the lease of the lost call has not run out
        chat.begin(garden, "Another")

    database.let_pass(60)
    database.sweep()

    assert database.costs()[1:] == [("reply", 0)]
    thread = ask(chat, "Another", garden, seen_rev=thread.conversation.rev)
    assert said(thread)[2:] == ["Second", "Another", "You said: Another"]


def test_open_conversation_is_shown_during_an_outage(chat, database, thread):
    database.rows.failure = errors.StoreUnavailable()

    assert chat.open(thread.conversation.id) == thread


def test_chat_of_a_crash_is_shown_on_a_full_disk(chat, database):
    garden = database.hold("Garden", "Shade?")
    database.crash(garden, "Ferns")
    database.rows.failures["finish_turn"] = errors.StoreBlocked("The disk is full.")

    assert said(chat.open(garden)) == ["Shade?"]

    database.rows.failures.clear()
    assert said(chat.open(garden)) == ["Shade?", "Ferns"]


# --- limits and budgets ----------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "is_asked"), [(255, False), (256, True), (399, True)])
def test_reply_is_clipped_to_256_tokens_at_least(chat, database, server, tokens, is_asked):
    turn = done(chat.begin(None, "Hi"))
    reserved = database.tables.turns[turn.id].reserved_micro
    missing = INFO.cost_micro(Usage(0, INFO.reply_tokens - tokens))
    database.ledger.daily_micro = database.ledger.spent_today + reserved - missing

    with nullcontext() if is_asked else pytest.raises(errors.OverBudget):
        done(chat.begin(None, "Hi"))

    assert [asked.body["max_tokens"] for asked in server.requests[1:]] == [tokens] * is_asked


@pytest.mark.parametrize("prompt", ["", "  \n", "語" * 100_000, "half a \ud83d pair"])
def test_prompt_that_cannot_be_sent_is_not_stored(chat, database, prompt):
    with pytest.raises(errors.BadInput):
        chat.begin(None, prompt)
    assert database.threads() == []


def test_prompt_that_is_too_long_is_told_its_length(chat):
    sentence = r"This message is too long \(200,002 of 200,000 bytes\)\. Send it in parts\."

    with pytest.raises(errors.BadInput, match=sentence):
        chat.begin(None, "é" * 100_001)


@pytest.mark.parametrize(
    "script",
    [
        {"reply": "語" * 80_000},
        {"tokens": 10_000},
        {"reply": "x" * 400_000},
        {"reply": "\U0001f331" * 80_000},
    ],
    ids=["many words", "many tokens", "one piece", "four bytes a character"],
)
def test_reply_without_an_end_is_cut_and_charged(chat, database, server, script):
    server.script(**script)

    turn = done(chat.begin(None, "Go on for ever"))

    assert turn.failure is None
    reply = chat.open(turn.conversation_id).tip
    assert reply.outcome is Outcome.CUT
    assert len(reply.body) >= (200_000 if len(script.get("reply", "")) > 200_000 else 1)
    [(_, cost)] = database.costs()
    assert cost > 0


@pytest.mark.parametrize(
    "script", [{"reply": "wonderful " * 4000}, {"thoughts": 4000, "thought": "Wonderful._"}]
)
def test_endpoint_that_ignores_the_limit_is_cut_off(chat, database, server, script):
    server.script(endless=1, **script)

    turn = done(chat.begin(None, "Go on for ever"))

    thoughts = turn.thoughts().text if turn.thoughts() else ""
    assert len(f"{thoughts} {turn.said()}".split()) < 3 * INFO.reply_tokens
    [(_, cost)] = database.costs()
    assert 0 < cost <= database.tables.turns[turn.id].reserved_micro


def test_endless_thoughts_of_one_character_are_cut_off(chat, server):
    server.script(reply="word " * 2000, thoughts=2000, thought="." * 500, endless=1)

    turn = done(chat.begin(None, "Go on for ever"))

    assert turn.failure.failure is ModelFailure.NO_ANSWER


@pytest.mark.parametrize("counts", [INFO.context_tokens + 1, 10**7, -1])
def test_impossible_usage_is_charged_by_our_own_count(chat, database, server, counts):
    server.script(reply="Two words", counts=counts)

    ask(chat, "Hi")

    [(_, cost)] = database.costs()
    prompt, reply = 60, 10  # upper bounds of the tokens
    assert 0 < cost < INFO.cost_micro(Usage(prompt, reply))


def test_usage_above_the_limit_is_charged_at_the_limit(chat, database, server):
    server.script(reply="Two words", counts=INFO.reply_tokens + 100)

    ask(chat, "Hi")

    [turn] = database.tables.turns.values()
    assert turn.tokens_out == INFO.reply_tokens
    assert turn.charged_micro <= turn.reserved_micro


def test_unreported_usage_costs_at_most_the_reservation(chat, database, server):
    database.ledger.daily_micro = 1500
    server.script(reply="wonderful " * 500, usage="none")

    thread = ask(chat, "Hi")

    assert thread.tip.outcome is Outcome.CUT
    [(_, cost)] = database.costs()
    assert 0 < cost <= 1500


# --- views and versions ----------------------------------------------------------------------------


def test_earlier_reply_is_regenerated_beside_the_first(chat, thread, garden, server):
    first = thread.tip
    ask(chat, "Sun?", garden)
    server.script(reply="Hostas.")

    done(chat.retry(garden, first.id))

    assert "Sun?" not in sent(server)
    thread = chat.open(garden)
    assert said(thread) == ["First", "Hostas."]
    assert [one.body for one in thread.versions(first)] == ["You said: First", "Hostas."]
    assert len(said(thread.through(first.id))) == 4


def test_missing_reply_is_not_regenerated(chat, garden):
    with pytest.raises(errors.NotFound):
        chat.retry(garden, MessageId(uuid4()))

    assert len(chat.open(garden).messages) == 2


def test_conversation_goes_on_from_the_shown_version(chat, database, thread, garden, server):
    first = thread.tip
    server.script(reply="Hostas.")
    done(chat.retry(garden))
    rev = chat.open(garden).conversation.rev

    ask(chat, "Why?", garden, seen_rev=rev, tip_id=first.id)

    assert sent(server) == ["Be kind.", "First", "You said: First", "Why?"]
    thread = database.thread(garden)
    assert said(thread) == ["First", "You said: First", "Why?", "Hostas."]
    assert thread.is_whole


def test_regenerated_branch_has_a_view_of_its_own(chat, garden, server):
    chat.store.conversations.set_policy(garden, Window(4))
    for n in range(1, 5):
        thread = ask(chat, f"prompt {n}", garden)
    assert thread.conversation.start_seq == 4

    done(chat.retry(garden, thread.branch()[3].id))

    assert sent(server)[1::2] == ["First", "prompt 1"]


# --- ends of conversations, sessions and processes -------------------------------------------------


def test_deleted_conversation_stops_its_reply(chat, database):
    turn = begin_slowly(chat)

    chat.deletions.discard(turn.conversation_id, 20)

    assert turn.is_done
    assert database.threads() == []


def test_leaving_stops_the_turns_of_its_device_alone(chat, database):
    turns = [begin_slowly(chat) for _ in range(2)]
    with chat.live_turns.leaving("another device", StopCause.USER):
        assert not any(turn.is_done for turn in turns)
    with chat.live_turns.leaving(chat.owner, StopCause.USER, within=SECONDS):
        pass

    assert all(turn.is_done for turn in turns)
    outcomes = {chat.open(turn.conversation_id).tip.outcome for turn in turns}
    assert outcomes == {Outcome.STOPPED}


def test_crashed_reply_is_left_out_under_a_forged_head(make_chat, database):
    garden = database.hold("Garden", "First")
    database.crash(garden, "Half a")
    database.spoil("conversation", garden, "head")
    survivor = make_chat()

    for _ in range(2):
        view = survivor.view(garden)
        assert (said(view.thread), view.turn) == (["First"], None)


def test_second_reply_of_a_crashed_process_is_recovered(make_chat, database, thread, garden):
    survivor = make_chat()
    database.rows.after["checkpoint_turn"] = lambda: survivor.open(garden)
    database.crash(garden, "Half a", prompt_id=thread.messages[0].id)

    assert survivor.open(garden).tip.outcome is Outcome.INTERRUPTED


def test_unverified_prompt_is_not_answered_again(chat, database, thread, garden, server):
    database.spoil("message", thread.messages[0].id)
    chat.store.conversations.forget(garden)

    with pytest.raises(errors.Tampered):
        chat.retry(garden)
    assert len(server.requests) == 1
