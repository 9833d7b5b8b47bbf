"""A stress test of turns over the tables of a deployment, and the promises that must hold after it.

Many threads chat as a few users whose caps are nearly always reached: by day, by month and, now and then, for all users
together. Calls are repeated as after a lost answer; turns are abandoned before and during their reply, or finished late;
sweepers settle the lapsed turns meanwhile.
"""

import threading
import time
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

from services.domain import Outcome, Usage, UserId
from services.domain.turns import Lease
from services.errors import Busy, OverBudget, Refused, Stale, StoreUnavailable
from services.rules.budget import Budget, Deployment
from services.store.sealed import sealed_store, throwaway_keys
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    BUDGETS,
    CONVERSATIONS,
    DAYS,
    DEPLOYMENT,
    LEDGER,
    MESSAGES,
    TURNS,
)
from services.store.tables.upkeep import sweep
from tests.store.conformance.talk import begun_with, ending, new_turn
from tests.stores import LIMITS

WORKERS, USERS, CHATS, SWEEPERS = 16, 4, 8, 2
LEASE_SECONDS = 1
CHAOS = 0.08  # the share of turns for each kind of fault
NO_CAP = 10**9
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)  # far from the end of a day

LEAST_SECONDS = 2  # of a storm
HAPPENED = {
    *(
        "begun",
        "begin_turn again",
        "finish_turn again",
        "died",
        "finished",
        "finished again",
        "finished late",
        "swept",
    ),
    *("refused: Busy", "refused: OverBudget daily_cap", "refused: OverBudget monthly_cap"),
    *("refused: OverBudget deployment_cap", "ledger: charge", "ledger: lapsed", "ledger: adjust"),
}


class Storm:
    """The users, what happened, and the messages that users were told are saved."""

    def __init__(self, tables):
        self.tables, self._start, self._lock = tables, time.monotonic(), threading.Lock()
        self.events, self.errors = Counter(), []
        self.acknowledged = set()  # ids of messages that users were told are saved
        self.stop, self.passed = threading.Event(), timedelta()
        shared = Deployment(monthly_cap_micro=30_000)
        tables.of(None).run(lambda block: block.put(DEPLOYMENT, shared))
        self.users = [self._user(number) for number in range(USERS)]
        self.chats = [
            (user, begun_with(user).conversation.id) for user in self.users for _ in range(CHATS)
        ]
        self.first = {row.id for user in self.users for row in self.all(user, MESSAGES)}

    def now(self):
        return NOON + timedelta(seconds=time.monotonic() - self._start) + self.passed

    def note(self, event, *messages):
        with self._lock:
            self.events[event] += 1
            self.acknowledged.update(messages)

    def all(self, user, table):
        return self.tables.of(user.turns.user_id).run(lambda block: block.select(table))

    def has_all(self):
        """Return True if all has happened; entries of the ledger are counted after the storm."""
        with self._lock:
            return all(self.events[name] for name in HAPPENED if not name.startswith("ledger"))

    def start(self, act):
        def repeat():
            try:
                while not self.stop.is_set():
                    act()
            except Exception as error:  # noqa: BLE001 (told at the end)
                self.errors.append(repr(error))

        thread = threading.Thread(target=repeat)
        thread.start()
        return thread

    def raise_caps(self):
        """Raise the caps of all users a little."""

        def more(block):
            stored = block.get(DEPLOYMENT, "deployment")
            cap = stored.monthly_cap_micro + 3_000
            block.put(DEPLOYMENT, replace(stored, monthly_cap_micro=cap))

        self.tables.of(None).run(more)
        for user in self.users:

            def more_of_user(block):
                budget = block.get(BUDGETS, "budget")
                caps = ("daily_cap_micro", "monthly_cap_micro")
                now = {name: min(NO_CAP, getattr(budget, name) + 400) for name in caps}
                block.put(BUDGETS, replace(budget, **now))

            self.tables.of(user.turns.user_id).run(more_of_user)

    def overspent(self):
        """Return the number of caps that are exceeded now."""
        found = 0
        for user in self.users:
            [budget] = self.all(user, BUDGETS)
            used = budget.day_spent + budget.reserved
            found += used > min(budget.daily_cap_micro, budget.monthly_cap_micro)
        stored = self.tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment"))
        return found + (stored.spent + stored.reserved > stored.monthly_cap_micro)

    def _user(self, number):
        user_id = UserId(uuid4())
        caps = {
            "daily_cap_micro": 6_000 if number % 3 == 0 else NO_CAP,
            "monthly_cap_micro": 6_000 if number % 3 == 1 else NO_CAP,
        }
        limits = asdict(LIMITS) | caps | {"max_open": 20, "max_per_minute": 10**6}
        self.tables.of(user_id).run(lambda block: block.put(BUDGETS, Budget(**limits)))
        rows = TablesRows(user_id, self.tables.of(user_id), self.now, limits=LIMITS)
        return sealed_store(LossyRows(rows, self), throwaway_keys(user_id))


class LossyRows:
    """Rows whose answers to calls of turns are lost now and then, so that the calls are repeated."""

    def __init__(self, rows, storm):
        self._rows, self._storm = rows, storm
        self._random, self._lost = Random(0), set()  # writes whose answer was lost

    def __getattr__(self, name):
        found = getattr(self._rows, name)
        if name not in ("begin_turn", "finish_turn"):
            return found

        def call(write):
            answer = found(write)
            if id(write) in self._lost:
                self._lost.discard(id(write))
                self._storm.note(f"{name} again")
            elif self._random.random() < CHAOS:
                self._lost.add(id(write))
                raise StoreUnavailable
            return answer

        return call


class Worker:
    """One thread that chats as any of the users."""

    def __init__(self, storm, seed):
        self.storm, self.random, self.late = storm, Random(seed), []

    def talk(self):
        if self.late and self.late[0][0] < time.monotonic():
            _, user, turn, begun = self.late.pop(0)
            self._finish(user, turn, begun, "finished late")
        user, conversation_id = self.random.choice(self.storm.chats)
        thread = user.conversations.thread(conversation_id)
        turn = new_turn(
            thread,
            "Hello",
            reply_micro=self.random.randint(100, 3_000),
            lease_seconds=LEASE_SECONDS,
        )
        try:
            begun = user.turns.begin(turn)
        except (Stale, Busy, OverBudget) as error:
            cap = f" {error.cap}" if isinstance(error, OverBudget) else ""
            self.storm.note(f"refused: {type(error).__name__}{cap}")
            return
        self.storm.note("begun", turn.prompt_id)
        if self._happens():
            self.storm.note("died")
            return
        here = turn.thread.conversation.id
        if user.turns.checkpoint(begun.turn_id, here, "Go", LEASE_SECONDS) is Lease.LAPSED:
            self.storm.note("lapsed")
            return
        if self._happens():
            due = time.monotonic() + LEASE_SECONDS + self.random.random()
            self.late.append((due, user, turn, begun))
            return
        self._finish(user, turn, begun, "finished")

    def _finish(self, user, turn, begun, event):
        spent = self.random.randint(0, begun.reserved_micro)
        outcome = self.random.choice([Outcome.COMPLETE, Outcome.CUT, Outcome.STOPPED])
        end = ending(
            turn, begun, "Good day", cost_micro=spent, usage=Usage(10, 20), outcome=outcome
        )
        try:
            user.turns.finish(end)
        except Refused as error:
            self.storm.note(f"not {event}: {type(error).__name__}")
            return
        self.storm.note(event, end.reply_id)
        if self._happens():
            user.turns.finish(end)
            self.storm.note("finished again")

    def _happens(self):
        return self.random.random() < CHAOS


def run_storm(tables, seconds, workers=WORKERS, sweepers=SWEEPERS):
    """Return the broken promises with their counts, and what happened, after LEAST_SECONDS to *seconds*, once all has happened."""
    storm = Storm(tables)

    def sweep_once():
        storm.stop.wait(0.2)
        sweep(tables, storm.now)
        storm.note("swept")

    acts = [Worker(storm, seed).talk for seed in range(workers)] + [sweep_once] * sweepers
    threads = [storm.start(act) for act in acts]
    overspent, begun = 0, time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        if passed > LEAST_SECONDS and storm.has_all():
            break
        overspent += storm.overspent()
        storm.raise_caps()
        storm.stop.wait(0.1)
    storm.stop.set()
    for thread in threads:
        thread.join()
    storm.passed = timedelta(seconds=60)
    while sweep(tables, storm.now):
        pass
    broken = Counter({"overspent": overspent + storm.overspent()})
    broken.update(dict.fromkeys(storm.errors, 1))
    stored = set()
    for user in storm.users:
        broken.update(_broken(storm, user))
        stored |= {row.id for row in storm.all(user, MESSAGES)}
    broken["lost"] = len((storm.acknowledged | storm.first) - stored)
    broken["made up"] = len(stored - storm.acknowledged - storm.first)
    deployment = tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment"))
    spent = sum(entry.micro for user in storm.users for entry in storm.all(user, LEDGER))
    broken["deployment and ledger apart"] = abs(deployment.spent - spent)
    broken["reserved by nobody"] = deployment.reserved
    return {name: count for name, count in broken.items() if count}, storm.events


def _broken(storm, user):
    turns, ledger = storm.all(user, TURNS), storm.all(user, LEDGER)
    messages, [budget] = storm.all(user, MESSAGES), storm.all(user, BUDGETS)
    charges = Counter(entry.turn_id for entry in ledger if entry.kind != "adjust")
    halves = Counter((one.turn_id, one.role) for one in messages)
    sums = [one for day in storm.all(user, DAYS) for one in day.sums]
    places = Counter(one.conversation_id for one in messages)
    for entry in ledger:
        storm.note(f"ledger: {entry.kind}")
    return {
        "turns charged twice or never": sum(charges[turn.id] != 1 for turn in turns),
        "charges of no turn": len(charges.keys() - {turn.id for turn in turns}),
        "messages doubled": sum(count > 1 for count in halves.values()),
        "budget and ledger apart": abs(budget.day_spent - sum(one.micro for one in ledger)),
        "days and ledger apart": abs(sum(one.cost_micro for one in sums) - budget.day_spent),
        "reserved": budget.reserved + budget.reserved_tokens,
        "open turns": sum(turn.finished_at is None for turn in turns),
        "threads torn": sum(
            (row.rev, row.last_seq) != (places[row.id], places[row.id])
            for row in storm.all(user, CONVERSATIONS)
        ),
    }
