"""Replies of an endpoint that does everything wrong: none is stored as whole that was not, and no turn stays open."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from statistics import median

import psutil
import pytest

from services.domain import Outcome, Role
from services.domain.context import ContextMessage
from services.llm import openai_model
from tests.chats import chat_factory, done
from tests.endpoints.hostile import FAULTS, STEADY, STEADY_PIECES, answer, hostile_model
from tests.fakes import MAYA
from tests.stores import InMemoryDatabase

THREADS, ROUND = 4, 240  # prompts of a round; each round has a store of its own
MOST_GROWTH = 60_000_000  # bytes
TEN_MINUTES = 600


@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        (4, 0),
        pytest.param(None, TEN_MINUTES, marks=pytest.mark.long_run),
    ],
    ids=["fixed", "fresh"],
)
def test_no_reply_of_a_hostile_endpoint_is_stored_as_whole_unless_it_was(
    monkeypatch, seed, seconds
):
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01, 0.01))
    seed = random.randrange(10**6) if seed is None else seed
    process, played = psutil.Process(), Counter()
    sizes, beside, is_long, is_over = [], [], bool(seconds), threading.Event()

    with hostile_model(seed) as model, ThreadPoolExecutor(1) as other, ExitStack() as end:
        end.callback(is_over.set)
        alone = [gap for _ in range(5 * is_long) for gap in _gaps(model)]
        # one round says little of a median
        steady = other.submit(_measure, model, beside, is_over) if is_long else None
        number, until = 0, time.monotonic() + seconds
        while not number or time.monotonic() < until:
            numbers = range(number, number + ROUND)
            number += ROUND
            _play(model, seed, numbers, played)
            sizes.append(process.memory_info().rss)

    assert played.keys() == FAULTS.keys(), f"seed {seed}"
    if steady:
        steady.result()
        assert median(beside) < 2 * median(alone), f"seed {seed}"
    if len(sizes) > 4:  # before, caches fill
        assert sizes[-1] - sizes[len(sizes) // 4] < MOST_GROWTH, f"seed {seed}: {sizes}"


def _measure(model, gaps, is_over):
    """Add the gaps of steady replies, one after the other, to *gaps*."""
    while not is_over.is_set():
        gaps.extend(_gaps(model))


def _gaps(model):
    """Return the seconds between the pieces of a steady reply, none of which may be lost."""
    times, stream = [], model.start([ContextMessage(Role.USER, STEADY)], max_tokens=1000)
    times.extend(time.perf_counter() for piece in stream if isinstance(piece, str))
    assert len(times) == STEADY_PIECES
    return [later - earlier for earlier, later in pairwise(times)]


def _play(model, seed, numbers, played):
    """Ask *model* each of *numbers*, some at once, and check what is stored of the replies."""
    database = InMemoryDatabase(MAYA)
    database.ledger.turns_a_minute = 10 * ROUND
    database.ledger.daily_micro = database.ledger.monthly_micro = 10**9

    with chat_factory(model) as make, ThreadPoolExecutor(THREADS) as pool:
        chat = make(database.store(), database.sweep, purposes=())

        def ask(number):
            expected = answer(seed, number)
            turn = done(chat.begin(None, f"Question {number}"))
            thread = chat.open(turn.conversation_id)
            last = thread.branch()[-1]
            stored = last.body if last.is_answer else None
            is_whole = stored is not None and last.outcome is Outcome.COMPLETE
            open_turn = chat.store.turns.read(turn.conversation_id)[1]
            return expected, is_whole, stored, open_turn

        for number, (expected, is_whole, stored, open_turn) in zip(
            numbers, pool.map(ask, numbers), strict=True
        ):
            about = f"seed {seed}, number {number}: {expected.fault}"
            played[expected.fault] += 1
            assert open_turn is None or not open_turn.state.is_open, about
            assert is_whole is (expected.text is not None) or expected.may_fail, about
            if is_whole:
                assert stored == expected.text, about
            elif stored and expected.written:
                assert expected.written.startswith(stored.rstrip()), about
