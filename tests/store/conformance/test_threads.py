"""A store of one process that several threads use at once.

Each run prints its seed, which is 0 but in the long run; `THREAD_SEED` in the environment repeats its choices, but not the order
of its threads. For more runs: `THREAD_RUNS=100 pytest -n0 tests/store/conformance/test_threads.py -k in-memory`.
"""

import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from math import inf
from threading import Barrier, BrokenBarrierError, Lock
from uuid import uuid4

import pytest

from services.domain import Outcome, Role
from services.errors import Busy, NotFound, Stale, TooLate
from tests.runs import IS_WHOLE
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    ending,
    left_micro,
    new_turn,
    unsaid,
    whole,
)

CONVERSATIONS = 4
MOST_MESSAGES = 12  # of a conversation that is not shortened
STEPS = 400  # at most, but in the long run and on the store on which the promise is kept
RUNS = int(os.environ.get("THREAD_RUNS", "1"))
CAPS = {"daily_micro": 10**9, "monthly_micro": 10**9, "open_turns": 1000, "turns_a_minute": 10**6}


@dataclass(slots=True, eq=False)
class Span:
    """The time of a change of a conversation, or of a live turn in it."""

    conversation_id: object
    thread: int
    began: int
    ended: float = inf

    def overlaps(self, refusal):
        is_here = self.conversation_id == refusal.conversation_id
        return is_here and self.began < refusal.ended and self.ended > refusal.began


class Run:
    """A run of several threads on one store: their changes, and the refusals."""

    def __init__(self, backend, user, seed, steps):
        self.backend, self.user, self.seed, self.steps = backend, user, seed, steps
        self._clock, self._lock = count(1), Lock()
        self._local = {}  # by thread: its random numbers, and the time at which its step began
        self.conversations = []
        self.live = {}  # by conversation: its turn, the begun turn of the store, and its span
        self.changes, self.turns, self.refused = [], [], []
        # sets of texts, texts and conversations
        self.stored, self.deleted, self.discarded = set(), set(), set()
        self.settled = 0
        self.at_once = Barrier(backend.threads)

    # --- the steps of one thread

    def work(self, thread):
        """Do the steps of one thread; each step begins when all threads have finished the one before."""
        chance = random.Random(f"{self.seed}-{thread}")
        rounds = self.steps // self.backend.threads
        try:
            for number in range(rounds):
                self.at_once.wait()
                hot = random.Random(f"{self.seed}-{number}").random()
                place = hot if chance.random() < 0.8 else chance.random()
                its = self.conversations[int(place * len(self.conversations))]
                self._step(thread, chance, its)
        except BaseException as error:
            self.at_once.abort()
            if not isinstance(error, BrokenBarrierError):  # another thread has failed
                raise

    def _step(self, thread, chance, its):
        acts = (
            *(self.send, self.finish) * 4,
            *(self.list, self.open, self.title, self.edit, self.answer_again, self.forget) * 2,
            *(self.delete, self.restore, self.discard, self.clear, self.sign_out),
        )
        act, began = chance.choice(acts), next(self._clock)
        try:
            act(thread, chance, its)
        except (Stale, Busy, NotFound) as refusal:
            with self._lock:
                span = Span(its, thread, began, next(self._clock))
                self.refused.append((refusal, act.__name__, span))
        except TooLate:  # no message can be restored
            assert act == self.restore

    @contextmanager
    def _changing(self, its, thread, spans=None):
        """Record a change, or a live turn, that is not refused."""
        spans = self.changes if spans is None else spans
        span = Span(its, thread, next(self._clock))
        with self._lock:
            spans.append(span)
        try:
            yield span
        except BaseException:
            with self._lock:
                spans.remove(span)
            raise
        if spans is self.changes:
            span.ended = next(self._clock)

    def _text(self, what):
        return f"{what} {uuid4()}"

    def list(self, thread, chance, its):
        conversations = self.user.conversations
        found = chance.choice([conversations.recent, lambda: conversations.recent(500)])()
        assert all(one.is_verified for one in found)

    def open(self, thread, chance, its):
        return whole(self.user.conversations.thread(its))

    def title(self, thread, chance, its):
        self.user.conversations.rename(its, self._text("Title"))

    def send(self, thread, chance, its):
        opened = self.open(thread, chance, its)
        if len(opened.messages) < MOST_MESSAGES:
            self._begin(thread, new_turn(opened, self._text("Prompt")))

    def answer_again(self, thread, chance, its):
        opened = self.open(thread, chance, its)
        prompts = [one for one in opened.messages if one.role is Role.USER]
        if prompts and len(opened.messages) < MOST_MESSAGES:
            asked = chance.choice(prompts)
            self._begin(thread, new_turn(opened, None, prompt_id=asked.id))

    def _begin(self, thread, turn):
        its = turn.thread.conversation.id
        with self._changing(its, thread, self.turns) as span, self._changing(its, thread):
            begun = self.user.turns.begin(turn)
            if turn.prompt:
                self.stored.add((its, turn.prompt))
            with self._lock:
                self.live.setdefault(its, []).append((turn, begun, span))

    def finish(self, thread, chance, its):
        with self._lock:
            ended, self.live[its] = self.live.get(its, []), []
        for turn, begun, span in ended:
            reply = self._text("Reply")
            outcome = chance.choice([Outcome.COMPLETE, Outcome.STOPPED, Outcome.CUT])
            with self._changing(its, thread):
                end = ending(turn, begun, reply, outcome=outcome)
                self.user.turns.finish(end)
                self.stored.add((its, reply))
                with self._lock:
                    self.settled += end.settlement.cost_micro
            span.ended = next(self._clock)

    def edit(self, thread, chance, its):
        opened, text = self.open(thread, chance, its), self._text("Edit")
        replies = [one for one in opened.messages if one.role is Role.ASSISTANT]
        if replies and len(opened.messages) < MOST_MESSAGES:
            with self._changing(its, thread):
                self.user.messages.edit_reply(opened, chance.choice(replies), text)
                self.stored.add((its, text))

    def delete(self, thread, chance, its):
        opened = self.open(thread, chance, its)
        prompts = [one for one in opened.messages if one.role is Role.USER][1:]
        if prompts:
            doomed = opened.from_on(chance.choice(prompts).id)
            with self._changing(its, thread):
                self.user.messages.discard(opened, doomed, (), UNDO_SECONDS, drops_summary=False)
                self.deleted |= {one.body for one in doomed}

    def restore(self, thread, chance, its):
        if its in self.discarded:
            self.user.conversations.restore(its)
        else:
            with self._changing(its, thread):
                self.user.messages.restore(its)

    def discard(self, thread, chance, its):
        """Delete a conversation, and begin another one."""
        self.discarded.add(its)
        self.user.conversations.discard(its, UNDO_SECONDS)
        self.begin_new(thread)

    def forget(self, thread, chance, its):
        self.user.conversations.forget(its)

    def clear(self, thread, chance, its):
        """Replace the store, as "Clear server memory" does; other threads continue with the old one."""
        self.user = self.user.elsewhere()

    def sign_out(self, thread, chance, its):
        """End all live turns, and continue in another session."""
        for each in list(self.live):
            self.finish(thread, chance, each)
        self.clear(thread, chance, its)

    def begin_new(self, thread=0):
        turn = new_turn(unsaid(self._text("New")), self._text("Prompt"))
        self._begin(thread, turn)
        with self._lock:
            self.conversations.append(turn.thread.conversation.id)
            del self.conversations[:-CONVERSATIONS]

    # --- after all

    def unexplained(self):
        """Yield the refusals without a reason: Stale without a change by another thread, and Busy without a live turn."""
        for refusal, act, span in self.refused:
            is_gone = isinstance(refusal, NotFound) and span.conversation_id in self.discarded
            reasons = self.turns if isinstance(refusal, Busy) else self.changes
            others = [one for one in reasons if one.overlaps(span)]
            if not isinstance(refusal, Busy):
                others = [one for one in others if one.thread != span.thread]
            if not (is_gone or others):
                yield refusal, act, span

    def lost(self):
        """Yield the stored texts that are neither read back nor deleted. Fail if a conversation is not whole."""
        reader = self.user.elsewhere()
        for its in {its for its, _ in self.stored} - self.discarded:
            read = [one.body for one in whole(reader.conversations.thread(its)).messages]
            here = {text for conversation_id, text in self.stored if conversation_id == its}
            assert len(read) == len(set(read))
            assert set(read) <= here
            yield from here - set(read) - self.deleted


@pytest.fixture
def eager():
    """Let the interpreter switch threads often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("number", range(RUNS))
def test_threads_of_one_store_lose_nothing_and_refuse_with_reason(backend, eager, number, request):
    seed = int(os.environ.get("THREAD_SEED", random.randrange(10**6) if IS_WHOLE else 0))
    is_long = IS_WHOLE or request.node.callspec.id.startswith("bytes")
    steps = backend.steps if is_long else min(backend.steps, STEPS)
    sys.stdout.write(f"seed {seed}\n")  # shown if the test fails
    user = backend.user()
    backend.set_caps(user, **CAPS)
    run, before = Run(backend, user, seed, steps), left_micro(user)
    for _ in range(CONVERSATIONS):
        run.begin_new()

    with ThreadPoolExecutor(backend.threads) as threads:
        list(threads.map(run.work, range(backend.threads)))
    run.sign_out(0, random.Random(seed), None)

    assert list(run.unexplained()) == []
    assert list(run.lost()) == []
    assert before - left_micro(run.user) == run.settled
