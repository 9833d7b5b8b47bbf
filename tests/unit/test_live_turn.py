"""Turns of this process: their heartbeats, and the pauses of followers."""

import threading
import weakref
from dataclasses import replace
from uuid import uuid4

import pytest

from services.chat import live_turn
from services.chat.live_turn import LiveTurn, LiveTurns
from services.domain import ConversationId, MessageId, TurnId, UserId
from services.domain.turns import Pace, StopCause
from services.errors import AppError, SignedOut
from tests.chats import done
from tests.stack.apps import SECONDS, until


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that followers would wait before each text."""
    waited = []
    monkeypatch.setattr(live_turn.time, "sleep", waited.append)
    monkeypatch.setattr(live_turn.time, "monotonic", lambda: 1000.0)
    return waited


def a_turn(*pieces):
    turn = LiveTurn(UserId(uuid4()), ConversationId(uuid4()), TurnId(uuid4()), MessageId(uuid4()))
    for piece in pieces:
        turn.push(piece)
    return turn


def second_step(turn):
    said = turn.follow()
    next(said)
    turn.push(".")
    next(said)
    return said


def test_text_has_as_many_bytes_as_it_is_stored_with():
    turn = a_turn()

    sizes = [turn.push(piece) for piece in ("Peas", "Горох", "豌豆", "\U0001f331")]

    assert sizes == [4, 14, 20, 24]


def test_first_words_are_shown_at_once(pauses):
    second_step(a_turn("Hello"))

    assert pauses[0] == 0
    assert 0 < pauses[1] <= 0.01


def test_long_reply_is_drawn_in_fewer_steps(pauses):
    second_step(a_turn("word " * 10_000))

    assert 0.05 < pauses[-1] < 0.2


def test_many_readers_share_what_the_server_can_draw(pauses):
    readers = [second_step(a_turn("Hello")) for _ in range(50)]
    with_others = pauses[-1]
    for reader in readers:
        reader.close()
    second_step(a_turn("Hello"))

    assert 0.1 <= with_others <= 0.2, "fifty people within 0.3 s, the way to them included"
    assert pauses[-1] <= 0.01, "a reader that left is no longer counted"


def test_halves_of_a_character_are_joined_or_marked():
    assert a_turn("a \ud83d", "\ude00 b \ud83d").said() == "a \U0001f600 b \ufffd"


def end(turn):
    turn.close(None)


def test_bug_in_a_heartbeat_stops_no_other():
    live_turns, may_end, beats = LiveTurns(), threading.Event(), threading.Semaphore(0)

    def beat_badly(_):
        raise ValueError("a bug")

    def produce(turn):
        may_end.wait(SECONDS)
        turn.close(None)

    bad, good = (replace(a_turn(), pace=Pace(beat_seconds=0.02)) for _ in range(2))
    live_turns.run(bad, beat_badly, produce)
    live_turns.run(good, lambda _: beats.release(), produce)

    assert all(beats.acquire(timeout=SECONDS) for _ in range(3))
    may_end.set()
    done(bad)
    done(good)


def test_finished_turns_leave_memory_by_themselves():
    live_turns = LiveTurns()

    def run():
        turn = a_turn()
        live_turns.run(turn, lambda _: None, end)
        return weakref.ref(done(turn))

    turns = [run() for _ in range(3)]

    until(lambda: not any(turn() for turn in turns))


def test_failed_turn_leaves_memory_when_looked_for_late(monkeypatch):
    live_turns, turn = LiveTurns(), a_turn("Ferns")
    live_turns.run(turn, lambda _: None, lambda turn: turn.close(AppError()))
    where, ended = (turn.user_id, turn.conversation_id), weakref.ref(turn)
    names = {f"{start}{turn.id}" for start in (live_turn.TURN_THREADS, live_turn.BEAT_THREADS)}
    until(lambda: not any(thread.name in names for thread in threading.enumerate()))
    monkeypatch.setattr(live_turn, "_FAILURE_SECONDS", 0.0)
    del turn

    assert live_turns.find(*where) is None

    until(lambda: ended() is None)


def test_turn_whose_session_has_ended_leaves_memory_by_itself():
    live_turns, turn = LiveTurns(), a_turn("Ferns")
    live_turns.run(turn, lambda _: None, lambda turn: turn.close(SignedOut()))
    ended = weakref.ref(turn)
    del turn

    until(lambda: ended() is None)


def test_turn_without_a_thread_is_not_kept(monkeypatch):
    live_turns, turn = LiveTurns(), a_turn()

    def none_left(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError):
            live_turns.run(turn, lambda _: None, end)

    assert live_turns.find(turn.user_id, turn.conversation_id) is None
    live_turns.run(turn, lambda _: None, end)
    assert done(turn).failure is None


def test_no_turn_begins_while_its_session_is_ended():
    live_turns, mine, other, later = LiveTurns(), a_turn(), a_turn(), a_turn()
    mine.owner = later.owner = "phone"

    with live_turns.leaving("phone", StopCause.USER):
        with pytest.raises(SignedOut):
            live_turns.run(mine, lambda _: None, lambda turn: turn.close(None))
        live_turns.run(other, lambda _: None, lambda turn: turn.close(None))
    live_turns.run(later, lambda _: None, lambda turn: turn.close(None))  # the session continues

    assert not mine.is_done
    done(other)
    done(later)
