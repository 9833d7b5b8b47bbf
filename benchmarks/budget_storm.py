"""A stress test of budgets: turns under binding caps, in processes that are killed, across the end of a day and a month.

python -m benchmarks.budget_storm [--people N] [--workers N] [--seconds N] [--seed N] [--json] [--dsn ADDRESS | --dsn wheel]

Each worker is a process that takes turns as any of the users; one turn in twenty is repeated, abandoned or finished late, and
one in twenty has an endpoint that reports no usage, so the whole reservation is charged. Workers and sweepers are killed by
SIGKILL and replaced. With --dsn, the test runs in a new database of the Postgres at ADDRESS (of a superuser) or of a Postgres
from the wheel; without it, by supabase-py through an embedded stack.

A quarter of the users is limited by money per day, a quarter by money per month, a quarter by tokens per day; the rest, and after
half of the time all users, by the deployment's money. The database's clock approaches midnight, then jumps to the last seconds of
the month and passes its end: all functions of money read the clock by `private.storm_now`. Caps grow in the first quarter of each
of the four windows; in the second half, an observer reads the spent and reserved part of each cap. The use of a cap is the median
of these readings, because a turn that settles frees the amount that the next turn takes.

The exit code is 1 unless overspends, lost turns, doubled turns, deadlocks and the ledger minus the budgets are all 0.
"""

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.turns import _database
from services.crypto import RootKeys, ServerProof, new_key
from services.embedded.folders import choose_folders
from services.store.supabase.lite_transport import LiteTransport
from tests.conftest import started_stack
from tests.database import servers
from tests.database.people import (
    Caller,
    Refused,
    Rest,
    World,
    client_to,
    psycopg_world,
    rest_world,
)
from tests.database.storm import (
    DEAD,
    DEADLOCKS,
    LEASE_SECONDS,
    MUST_BE_ZERO,
    NO_CAP,
    SAVED,
    SWEEPERS,
    Worker,
)

GROUPS = ("daily", "monthly", "tokens", "deployment")
ROOM = {"daily": 20_000, "monthly": 20_000, "tokens": 10_000, "deployment": 100_000}
GROWTH = {"daily": 2_000, "monthly": 2_000, "tokens": 500, "deployment": 10_000}
# for each group: the column of its cap, and the amounts that count against it
COLUMNS = {
    "daily": ("daily_cap_micro", "day_spent"),
    "monthly": ("monthly_cap_micro", "month_spent"),
    "tokens": ("daily_cap_tokens", "day_tokens"),
}
PLACES = {"daily": 0, "tokens": 1, "monthly": 2}  # the indexes of the pairs of _BUDGETS
OF_ONE_WINDOW = (  # checks of the storm in the tests, which runs within one window
    "overspent by the ledger",
    "budgets that are not",
    "deployment and ledger",
    "tokens that are not",
)
DOUBLED = ("turns charged twice or never", "turns corrected twice", "messages doubled")

_CLOCK = """
create table private.storm_clock (ahead interval not null);
insert into private.storm_clock values ('0');
grant select on private.storm_clock to public;
do $$
declare
  its oid;
begin
  for its in
    select oid from pg_proc where pronamespace = 'private'::regnamespace and prosrc like '%clock_timestamp()%'
      and proname not in ('require_server_proof', 'spend_password_permit')
  loop
    execute replace(pg_get_functiondef(its), 'clock_timestamp()', 'private.storm_now()');
  end loop;
end $$;
create function private.storm_now() returns timestamptz language plpgsql volatile as
  $$ begin return pg_catalog.clock_timestamp() + (select ahead from private.storm_clock); end $$;
"""
_BUDGETS = """
select user_id, day, day_spent + reserved, daily_cap_micro, day_tokens + reserved_tokens, daily_cap_tokens,
  month_spent + reserved, monthly_cap_micro
from private.budgets where user_id = any (%s)
"""
_NEW_DAY = """
update private.budgets set
  daily_cap_micro = case when daily_cap_micro < 1e9 then day_spent + reserved + %(daily)s else daily_cap_micro end,
  daily_cap_tokens = day_tokens + reserved_tokens + case when daily_cap_tokens is not null then %(tokens)s end
where user_id = %(user)s
"""
_DEPLOYMENT = """
select month, monthly_cap_micro,
  (select coalesce(sum(month_spent + reserved), 0) from private.budgets where budgets.month = deployment.month)
from private.deployment
"""
_OVERSPENT = """
select count(*) filter (where day_spent + reserved > daily_cap_micro) as daily,
  count(*) filter (where month_spent + reserved > monthly_cap_micro) as monthly,
  count(*) filter (where day_tokens + reserved_tokens > daily_cap_tokens) as tokens,
  count(*) filter (where month_spent + reserved > loan) as loans,
  (select count(*) from private.deployment where lent > monthly_cap_micro) as lent,
  (select count(*) from private.deployment where monthly_cap_micro < (
    select sum(month_spent + reserved) from private.budgets where budgets.month = deployment.month)) as deployment
from private.budgets
"""
_SPENT_BY_DAY = """
select user_id, ledger.day, sum(micro), daily_cap_micro from private.ledger join private.budgets using (user_id)
group by user_id, ledger.day, daily_cap_micro
"""
_OVERSPENT_BY_MONTH = """
select count(*) from (
  select user_id, date_trunc('month', day) as month, sum(micro) as spent from private.ledger group by 1, 2) used
join private.budgets using (user_id) where spent > monthly_cap_micro
"""
_LEDGER_MINUS_BUDGET = """
select coalesce(sum(abs(day_spent - coalesce(today, 0)) + abs(month_spent - coalesce(this_month, 0))), 0)
  + (select abs(lent - (select sum(micro) from private.ledger where day >= month)) from private.deployment)
from private.budgets left join lateral (
  select sum(micro) filter (where ledger.day = budgets.day) as today,
    sum(micro) filter (where ledger.day >= budgets.month) as this_month
  from private.ledger where ledger.user_id = budgets.user_id
) used on true
"""


@dataclass(frozen=True, slots=True)
class ReadingRest(Rest):
    """Calls by supabase-py, also for the reads of the test."""

    connection: None = None

    def read(self, query: str, conversation: UUID) -> list[Any]:
        def rows(table: str, columns: str) -> Any:
            return self.client.table(table).select(columns)

        if query == DEAD:
            dead = (
                rows("turns", "id").eq("conversation_id", str(conversation)).eq("state", "lapsed")
            )
            return [(row["id"],) for row in dead.not_.is_("partial", "null").execute().data]
        found = rows("conversations", "rev").eq("id", str(conversation)).execute().data
        last = rows("messages", "id").eq("conversation_id", str(conversation))
        newest = last.order("seq", desc=True).limit(1).execute().data
        return [(found[0]["rev"], newest[0]["id"] if newest else None)]


@dataclass(frozen=True, slots=True)
class Place:
    """A database under test, and the way in which a process connects to it as some users."""

    world: World
    connect: Callable[[list[Caller]], tuple[Any, list[Caller]]]


class Journal:
    """The reports of a process: one line each, appended to a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
        self.acknowledged = self

    def note(self, event: str, count: int = 1) -> None:
        self._write("event", event, count)

    def append(self, message: tuple[str, str]) -> None:
        """Record that a message is known to be stored; *message* has the ids of the conversation and the message."""
        self._write("stored", *message)

    def error(self, error: Exception) -> None:
        self._write("error", str(error).splitlines()[0][:100])

    def _write(self, *parts: object) -> None:
        os.write(self._file, (json.dumps(parts) + "\n").encode())


class StormWorker(Worker):
    """Settles within the reservation; now and then all of it, as for an endpoint that reports no usage."""

    def __init__(
        self, journal: Journal, conversations: list[tuple[Caller, UUID]], seed: str
    ) -> None:
        super().__init__(journal, conversations, seed)
        self.wanted = {"prompt_tokens": 40, "least_reply_tokens": 10}
        self.reserved: dict[str, tuple[int, int]] = {}
        self.tokens = 0

    def _begin(self, person: Caller, conversation: UUID) -> dict[str, Any]:
        begun = super()._begin(person, conversation)
        if begun["ok"]:
            self.reserved[begun["turn"]] = begun["reserved"], begun["reserved_tokens"]
        return begun

    def _finish(
        self, person: Caller, conversation: UUID, turn: str, cost: int | None, outcome: str
    ) -> dict[str, Any]:
        micro, tokens = self.reserved.pop(turn, (0, 0))
        self.tokens = self.random.randint(0, tokens)
        if micro and cost is not None and self._happens():
            cost, self.tokens = micro, tokens
            self.storm.note("no usage reported")
        return super()._finish(person, conversation, turn, cost, outcome)

    def _used(self, _turn: str) -> dict[str, int]:
        return {"used_prompt": min(self.tokens, 40), "used_reply": max(0, self.tokens - 40)}


@dataclass(slots=True)
class Crowd:
    """The worker processes, which fork from this process. It has no threads."""

    place: Place
    conversations: list[tuple[Caller, UUID]]
    journal: Path
    seed: int
    until: float  # a time of time.monotonic, which processes share
    running: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])
    births: int = 0

    def begin(self, kind: str, number: int) -> None:
        self.births += 1
        if child := os.fork():
            self.running[child] = kind, number
            return
        code = 1
        try:
            self._live(kind, f"{self.seed} {number} {self.births}")
            code = 0
        finally:
            os._exit(code)  # exits without closing inherited files and sockets

    def kill_one(self, random: Random) -> None:
        """Kill a process by SIGKILL, and start another in its place."""
        victim = random.choice(list(self.running))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        self.begin(*self.running.pop(victim))

    def wait(self) -> int:
        """Wait for all processes; return the number that failed."""
        return sum(os.waitpid(child, 0)[1] != 0 for child in self.running)

    def _live(self, kind: str, seed: str) -> None:
        journal = Journal(self.journal)
        callers = [person for person, _ in self.conversations]
        connection, callers = self.place.connect([*callers, self.place.world.anon])
        anon = callers.pop()
        ids = [conversation for _, conversation in self.conversations]
        worker = StormWorker(journal, list(zip(callers, ids, strict=True)), seed)
        while time.monotonic() < self.until:
            try:
                if kind == "worker":
                    worker.talk(connection)
                else:
                    time.sleep(0.2)
                    swept = anon.by(connection).call("sweep_turns", at_most=20)
                    journal.note("swept", swept["swept"])
            except (Refused, psycopg.Error) as error:
                journal.error(error)


def main() -> None:
    """Run the stress test, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget_storm")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dsn", help="a superuser's address, or: wheel")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()

    with _embedded() if chosen.dsn is None else _bare(chosen.dsn) as place:
        figures = storm(place, chosen.people, chosen.workers, chosen.seconds, chosen.seed)
    if chosen.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):<22} {value}")
    zeros = ("overspends", "lost", "doubled", "deadlocks", "ledger_minus_budget", "other")
    raise SystemExit(any(figures[name] for name in zeros))


def storm(place: Place, people: int, workers: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return the figures of a run."""
    world, random = place.world, Random(seed)
    deadlocks = world.one(DEADLOCKS)
    world.admin.execute(_CLOCK)
    observer = Observer(world.admin, seconds / 4)
    observer.put_clock_before_midnight(14)
    talkers = [world.person() for _ in range(people)]
    observer.take(talkers)
    each = max(2, workers * 4 // people)
    conversations = [(one, one.create_conversation()) for one in talkers for _ in range(each)]
    with tempfile.TemporaryDirectory(prefix="daybook-storm-") as folder:
        journal, began, kills = Path(folder) / "journal", time.monotonic(), 0
        crowd = Crowd(place, conversations, journal, seed, began + seconds)
        for number in range(workers + SWEEPERS):
            crowd.begin("worker" if number < workers else "sweeper", number)
        observer.put_clock_before_midnight(14)
        while (passed := time.monotonic() - began) < seconds:
            observer.look(passed)
            if random.random() < 0.2:
                crowd.kill_one(random)
                kills += 1
            time.sleep(0.05)
        failed = crowd.wait()
        told = [json.loads(line) for line in journal.read_text().splitlines()]
    _settle(world)
    observer.look_at_ledger()
    events = Counter[str]()
    for event, count in (rest for kind, *rest in told if kind == "event"):
        events[event] += count
    stored = {tuple(rest) for kind, *rest in told if kind == "stored"}
    saved = set(world.admin.execute(SAVED, [list(observer.groups)]))
    checks = {
        name: world.one(query)
        for name, query in MUST_BE_ZERO.items()
        if not name.startswith(OF_ONE_WINDOW)
    }
    others = {name: count for name, count in checks.items() if count and name not in DOUBLED}
    others |= {f"overspent: {name}": count for name, count in observer.overspends.items() if count}
    for error in (rest[0] for kind, *rest in told if kind == "error"):
        others[error] = others.get(error, 0) + 1
    [(days,)] = world.admin.execute("select count(distinct day) from private.ledger")
    finished = events["finished"]
    return {
        "seed": seed,
        "turns_per_second": round(finished / seconds, 1),
        "finished": finished,
        "refusals": {
            name.removeprefix("refused: "): count
            for name, count in sorted(events.items())
            if name.startswith("refused")
        },
        "events": {name: count for name, count in sorted(events.items()) if "refused" not in name},
        "kills": kills,
        "days": days,
        "use_percent": observer.use(),
        "overspends": sum(observer.overspends.values()),
        "lost": len(stored - saved),
        "doubled": sum(checks[name] for name in DOUBLED),
        "deadlocks": world.one(DEADLOCKS) - deadlocks,
        "ledger_minus_budget": int(world.one(_LEDGER_MINUS_BUDGET)),
        "other": others | ({"processes that failed": failed} if failed else {}),
    }


class Observer:
    """Moves the database's clock, raises caps, looks for overspending, and records the use of each cap."""

    def __init__(self, admin: psycopg.Connection, window_seconds: float) -> None:
        self._admin, self._window = admin, window_seconds
        self._clock_set = time.monotonic()
        self._has_jumped, self._month = False, None  # the state of the deployment's cap
        self._looks, self.overspends = 0, Counter[str]()
        self.groups: dict[UUID, str] = {}
        self._looked: dict[
            tuple[object, ...], list[tuple[int, int]]
        ] = {}  # for each cap: the used amount and the size, at each reading

    def put_clock_before_midnight(self, day: int) -> None:
        """Set the clock to one window's length before the end of that day of next month."""
        month = (datetime.now(UTC).replace(day=1) + timedelta(days=32)).replace(day=day)
        midnight = month.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        ahead = "update private.storm_clock set ahead = %s - clock_timestamp()"
        self._admin.execute(ahead, [midnight - timedelta(seconds=self._window)])
        self._clock_set = time.monotonic()

    def take(self, people: list[Caller]) -> None:
        """Give each of *people* the cap of its group."""
        for number, person in enumerate(people):
            assert person.id
            group = self.groups[person.id] = GROUPS[number % len(GROUPS)]
            self._admin.execute(
                "update private.budgets set daily_cap_micro = %s, monthly_cap_micro = %s, daily_cap_tokens = %s,"
                " max_open = 100, max_per_minute = 1000000 where user_id = %s",
                [
                    ROOM["daily"] if group == "daily" else NO_CAP,
                    ROOM["monthly"] if group == "monthly" else NO_CAP,
                    ROOM["tokens"] if group == "tokens" else None,
                    person.id,
                ],
            )

    def look(self, passed: float) -> None:
        """Read the caps once, *passed* seconds after the start."""
        if passed >= 2 * self._window and not self._has_jumped:
            self.bind_deployment()
            last = (datetime.now(UTC).replace(day=1) + timedelta(days=63)).replace(day=1)
            self.put_clock_before_midnight((last - timedelta(days=1)).day)
            self._has_jumped = True
        self._looks += 1
        # the elapsed part of the current window of the database
        part = (time.monotonic() - self._clock_set) / self._window % 1
        if part < 0.25 and self._looks % 3 == 0:
            self._grow()
        found = self._admin.execute(_OVERSPENT)
        names = [column.name for column in found.description or ()]
        self.overspends.update(dict(zip(names, found.fetchone() or (), strict=True)))
        self._note_use(is_binding=part >= 0.5)

    def use(self) -> dict[str, float]:
        """Return the used percentage of each kind of cap: the least of its windows, and the least of all kinds."""
        found: dict[str, float] = {}
        for group in GROUPS:
            every = [
                statistics.median(used / cap for used, cap in looks)
                for (kind, *_), looks in self._looked.items()
                if kind == group and looks
            ]
            found[group] = round(100 * min(every), 2)
        return found | {"caps": len(self._looked), "least": min(found.values())}

    def look_at_ledger(self) -> None:
        """Look for days and months in which a user's ledger exceeds the last cap."""
        for user, day, spent, cap in self._admin.execute(_SPENT_BY_DAY):
            looks = self._looked.get(("daily", user, day)) or [(0, cap)]
            self.overspends["daily, by the ledger"] += spent > looks[-1][1]
        [(months,)] = self._admin.execute(_OVERSPENT_BY_MONTH)
        self.overspends["monthly, by the ledger"] += months

    def bind_deployment(self) -> None:
        """Set the cap on all users so that it binds: what is lent and reserved, and a little more."""
        with self._admin.transaction():
            # budgets are locked first, because a budget in use would keep its loan and so raise the
            # cap; all before the first `lock_budget`, which at a month's end locks the deployment, after which no budget
            # may be waited for
            self._admin.execute("select from private.budgets order by user_id for no key update")
            self._admin.execute(
                "select private.lock_budget(user_id) from private.budgets order by user_id"
            )
            self._admin.execute("select private.lock_deployment(), private.recall_loans(null)")
            self._admin.execute(
                "update private.deployment set monthly_cap_micro = %s + lent + ("
                " select coalesce(sum(reserved), 0) from private.budgets where budgets.month < deployment.month)",
                [ROOM["deployment"]],
            )

    def _note_use(self, *, is_binding: bool) -> None:
        """Record the current use of each binding cap: the spent amount, and the amount reserved by open turns."""
        if self._has_jumped:
            [(month, cap, spent)] = self._admin.execute(_DEPLOYMENT)
            if self._month and month != self._month:  # in a new month, the cap must bind again
                self.bind_deployment()
            self._month = month
            if is_binding:
                self._looked.setdefault(("deployment", month), []).append((int(spent), cap))
            return
        for user, day, *amounts in self._admin.execute(_BUDGETS, [list(self.groups)]):
            group = self.groups[user]
            if group == "deployment":
                continue
            key = (group, user) if group == "monthly" else (group, user, day)
            if key not in self._looked:  # the first reading of a new day
                self._admin.execute(_NEW_DAY, {"user": user} | ROOM)
                self._looked[key] = []
            if is_binding:
                used, cap = amounts[2 * PLACES[group] :][:2]
                self._looked[key].append((used, cap))

    def _grow(self) -> None:
        """Raise the caps that are nearly used up."""
        for group, (column, spent) in COLUMNS.items():
            its = [user for user, known in self.groups.items() if known == group]
            self._admin.execute(
                f"update private.budgets set {column} = {column} + %s"
                f" where user_id = any (%s) and {column} - {spent} < %s",
                [GROWTH[group], its, GROWTH[group]],
            )
        if self._has_jumped:
            [(_, cap, spent)] = self._admin.execute(_DEPLOYMENT)
            if cap - spent < GROWTH["deployment"]:
                growth = "update private.deployment set monthly_cap_micro = monthly_cap_micro + %s"
                self._admin.execute(growth, [GROWTH["deployment"]])


def _settle(world: World) -> None:
    """Settle all open turns, and open today's windows of all budgets."""
    time.sleep(LEASE_SECONDS + 0.2)
    world.sweep()
    world.admin.execute("select private.lock_budget(user_id) from private.budgets order by user_id")
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")


@contextmanager
def _bare(dsn: str) -> Iterator[Place]:
    """Yield a new database of the Postgres at *dsn*, or of one from the wheel with durable commits."""
    with ExitStack() as opened:
        server = (
            opened.enter_context(servers.started(18, careless=False)) if dsn == "wheel" else dsn
        )
        key, name = new_key(), f"budget_storm_{os.getpid()}"
        address = _database(server, name, key)
        if dsn != "wheel":
            opened.callback(servers.drop_database, server, name)
        admin = opened.enter_context(psycopg.connect(address, autocommit=True))

        def connect(people: list[Caller]) -> tuple[psycopg.Connection, list[Caller]]:
            connection = psycopg.connect(address, autocommit=True)
            return connection, [person.by(connection) for person in people]

        yield Place(psycopg_world(admin, ServerProof(key)), connect)


@contextmanager
def _embedded() -> Iterator[Place]:
    """Yield an embedded stack, which is called by supabase-py."""
    cache = choose_folders(None, None).cache
    with (
        tempfile.TemporaryDirectory(prefix="daybook-storm-") as base,
        started_stack(Path(base), cache) as stack,
        stack.connect() as admin,
        LiteTransport() as transport,
    ):

        def client(its: LiteTransport) -> Any:
            return client_to(stack.url, stack.publishable_key, its)

        def connect(people: list[Caller]) -> tuple[None, list[Caller]]:
            its = LiteTransport()
            ways: dict[UUID | None, ReadingRest] = {}
            for person in people:
                if person.id not in ways:
                    ways[person.id] = ReadingRest(own := client(its))
                    if token := tokens.get(person.id):
                        own.postgrest.auth(token)
            return None, [replace(person, way=ways[person.id]) for person in people]

        proof = ServerProof(RootKeys.parse(stack.root_keys).proof_key())
        world = rest_world(admin, proof, lambda: client(transport))
        tokens: dict[UUID | None, str] = {}
        make_person = world.make_person

        def make(made: World) -> Caller:
            person = make_person(made)
            assert isinstance(person.way, Rest)
            tokens[person.id] = person.way.client.auth.get_session().access_token
            return person

        world.make_person = make
        yield Place(world, connect)


if __name__ == "__main__":
    main()
