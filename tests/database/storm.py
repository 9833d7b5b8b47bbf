"""A storm of turns, and what must be true after it.

Many threads talk as a few people, whose caps bind all the time: some people's by the day, some by the month,
and now and then everybody's by the deployment's. Calls are repeated as after a lost answer, turns are left to
die before and during their reply, finished after they lapsed, adopted by their owners; several sweepers settle
what lapses meanwhile. An observer looks for overspending all along.
"""

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from uuid import UUID, uuid4

import psycopg

from services.crypto import ServerProof
from tests.database.people import (
    Caller,
    Refused,
    Sql,
    beginning,
    finish,
    psycopg_world,
)

BODY = "p1.1." + "B" * 1500
NO_CAP = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad it gets."""

    seconds: float
    workers: int = 50
    people: int = 8
    sweepers: int = 4
    lease_seconds: int = 2
    chaos: float = 0.05  # of all turns, for each thing that can go wrong
    seed: int = 1


@dataclass(slots=True)
class Log:
    """What happened, and what people were told is saved. Each thread has its own."""

    events: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: list[tuple[str, str]] = field(default_factory=list)  # conversation, message

    def add(self, other):
        self.events += other.events
        self.errors += other.errors
        self.acknowledged += other.acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What happened, and the promises that were broken, with how often."""

    seconds: float
    events: Counter[str]
    broken: dict[str, int]


@dataclass(slots=True)
class Storm:
    """One storm over a migrated database."""

    address: str
    proof: ServerProof
    weather: Weather
    stop: threading.Event = field(default_factory=threading.Event)
    log: Log = field(default_factory=Log)
    _joining: threading.Lock = field(default_factory=threading.Lock)

    def run(self):
        with psycopg.connect(self.address, autocommit=True) as admin:
            world = psycopg_world(admin, self.proof)
            people = [world.person() for _ in range(self.weather.people)]
            tighten_caps(admin, people)
            each = max(2, self.weather.workers * 2 // len(people))
            threads = [(p, p.create_conversation()) for p in people for _ in range(each)]
            deadlocks = count_deadlocks(admin)

            begun = time.monotonic()
            running = self._start(world, threads)
            ids = [person.id for person in people]
            try:
                overspent = self._observe(admin, ids)
            finally:
                self.stop.set()
                for thread in running:
                    thread.join()
            seconds = time.monotonic() - begun

            settle(world, self.weather.lease_seconds)
            broken = {name: world.one(query) for name, query in MUST_BE_ZERO.items()} | {
                "overspent while it ran": overspent,
                "deadlocks": count_deadlocks(admin) - deadlocks,
                "lost or made up": count_lost(admin, ids, self.log.acknowledged),
                **self.log.errors,
            }
            for kind, count in admin.execute(
                "select kind, count(*) from private.ledger group by kind"
            ):
                self.log.events[f"ledger: {kind}"] = count
        return Aftermath(
            seconds=seconds,
            events=self.log.events,
            broken={name: count for name, count in broken.items() if count},
        )

    def _start(self, world, threads):
        """Workers, sweepers, and one who begins turns and never ends any."""

        def work(connection, number, log):
            Worker(self, connection, threads, Random(self.weather.seed * 1000 + number), log).run()

        def sweep(connection, number, log):
            while not self.stop.wait(0.15 + number * 0.03):
                anon = world.anon.by(connection)
                log.events["swept"] += anon.call("sweep_turns", at_most=20)["swept"]

        forgetful = world.person()

        def forget(connection, number, log):
            person = forgetful.by(connection)
            while not self.stop.wait(0.2):
                begun = person.begin(person.create_conversation(), lease_seconds=1)
                if begun["ok"]:
                    person.checkpoint(begun["turn"], BODY, 1)
                    log.events["forgotten"] += 1

        jobs = [(work, number) for number in range(self.weather.workers)]
        jobs += [(sweep, number) for number in range(self.weather.sweepers)] + [(forget, 0)]
        running = [threading.Thread(target=self._run, args=job) for job in jobs]
        for thread in running:
            thread.start()
        return running

    def _run(self, job, number):
        """Run *job* on a connection of its own, again after an error, until the storm is over."""
        log = Log()
        with psycopg.connect(self.address, autocommit=True) as connection:
            while not self.stop.is_set():
                with count_errors(log):
                    job(connection, number, log)
        with self._joining:
            self.log.add(log)

    def _observe(self, admin, ids):
        """Look for overspending, and raise the caps a little four times a second; how often there was some."""
        end, overspent, samples = time.monotonic() + self.weather.seconds, 0, 0
        while time.monotonic() < end:
            row = admin.execute(OVERSPENT).fetchone()
            overspent += row[0] if row else 0
            samples += 1
            if samples % 5 == 0:
                admin.execute(
                    "update private.deployment set monthly_cap_micro = monthly_cap_micro + %s",
                    [300_000 if samples % 40 == 0 else 60_000],
                )
                for cap in ("daily_cap_micro", "monthly_cap_micro"):
                    admin.execute(
                        f"update private.budgets set {cap} = {cap} + 6000 where {cap} < %s and user_id = any (%s)",
                        [NO_CAP, ids],
                    )
            time.sleep(0.05)
        return overspent


@dataclass(slots=True)
class Worker:
    """One thread that talks as whoever comes along."""

    storm: Storm
    connection: psycopg.Connection
    threads: list[tuple[Caller, UUID]]
    random: Random
    log: Log
    late: list[tuple[float, Caller, UUID, str, int]] = field(default_factory=list)

    def run(self):
        while not self.storm.stop.is_set():
            while self.late and self.late[0][0] < time.monotonic():
                self._finish_late(*self.late.pop(0)[1:])
            person, conversation = self.random.choice(self.threads)
            person = person.by(self.connection)
            if self._happens(self.storm.weather.chaos):
                self._adopt(person, conversation)
            self._talk(person, conversation)

    def _talk(self, person, conversation):
        chaos, lease = self.storm.weather.chaos, self.storm.weather.lease_seconds
        begun = self._begin(person, conversation)
        if not begun["ok"]:
            self.log.events[f"refused: {begun['reason']}"] += 1
            return
        turn, reserved = begun["turn"], begun["reserved"]
        if self._happens(chaos / 2):
            self.log.events["died before the model"] += 1
            return
        if not person.checkpoint(turn, None, lease)["ok"]:
            self.log.events["lapsed before the model"] += 1
            return
        person.checkpoint(turn, BODY, lease)
        if self._happens(chaos / 2):
            self.log.events["died in the reply"] += 1
            return
        if self._happens(chaos / 2):
            due = time.monotonic() + lease + self.random.random()
            self.late.append((due, person, conversation, turn, reserved))
            return
        outcome = self.random.choice(["complete", "cut", "stopped", "failed"])
        ended = self._finish(person, conversation, turn, self.random.randint(0, reserved), outcome)
        self.log.events["finished" if ended["ok"] else f"unfinished: {ended['reason']}"] += 1

    def _begin(self, person, conversation):
        """Begin a turn; where the conversation went on meanwhile, again from what it is now."""
        named = {"client_turn": uuid4(), "prompt": uuid4(), "prompt_body": BODY}
        costs = {
            "prompt_micro": self.random.randint(50, 400),
            # the longest reply that a model allows may cost more than any cap here: it is clipped
            "reply_micro": self.random.randint(200, self.random.choice((4_000, 40_000))),
        }
        costs |= {"least_reply_micro": 100, "lease_seconds": self.storm.weather.lease_seconds}
        answer = {}
        for _ in range(6):
            rev, last = newest(person, conversation)
            arguments = beginning(conversation, rev, parent=last, **named, **costs)
            answer = person.call("begin_turn", **arguments)
            if answer["ok"]:
                self.log.events["begun"] += 1
                self.log.acknowledged.append((str(conversation), str(named["prompt"])))
                if answer["reserved"] < costs["prompt_micro"] + costs["reply_micro"]:
                    self.log.events["cut down"] += 1
                if self._happens(self.storm.weather.chaos):
                    again = person.call("begin_turn", **arguments)
                    assert (again["replay"], again["turn"]) == (True, answer["turn"])
                    self.log.events["begun again"] += 1
            if answer.get("reason") != "stale":
                break
            self.log.events["begun stale"] += 1
        return answer

    def _finish(self, person, conversation, turn, cost, outcome):
        """Finish a turn, and again where the conversation went on meanwhile."""
        reply, answer = uuid4(), {}
        for _ in range(10):
            rev, _ = newest(person, conversation)
            arguments = finish(turn, rev, cost, outcome=outcome, reply=reply, reply_body=BODY)
            answer = person.call("finish_turn", **arguments)
            if answer["ok"]:
                if answer.get("saved"):
                    self.log.acknowledged.append((str(conversation), str(reply)))
                if self._happens(self.storm.weather.chaos):
                    assert person.call("finish_turn", **arguments)["replay"] is True
                    self.log.events["finished again"] += 1
            if answer.get("reason") != "stale":
                break
            self.log.events["finished stale"] += 1
        return answer

    def _finish_late(self, person, conversation, turn, reserved):
        ended = self._finish(
            person, conversation, turn, self.random.randint(0, reserved), "complete"
        )
        if ended["ok"]:
            self.log.events[
                "finished after its adoption" if ended["replay"] else "finished late"
            ] += 1

    def _adopt(self, person, conversation):
        """Make a message of what a dead turn had said, as when its owner opens the conversation."""
        for (turn,) in read(
            person,
            "select id from public.turns where conversation_id = %s and state = 'lapsed' and partial is not null",
            conversation,
        ):
            ended = self._finish(person, conversation, str(turn), None, "interrupted")
            if ended["ok"]:
                self.log.events["adopted too late" if ended["replay"] else "adopted"] += 1

    def _happens(self, probability):
        return self.random.random() < probability


def read(person, query, *arguments):
    assert isinstance(person.way, Sql)
    return person.way.read(query, *arguments)


def newest(person, conversation):
    """The revision of a conversation and its newest message."""
    return read(
        person,
        "select rev, (select id from public.messages where conversation_id = c.id order by seq desc limit 1)"
        " from public.conversations c where id = %s",
        conversation,
    )[0]


def tighten_caps(admin, people):
    """A third is held by the day, a third by the month, the rest by the deployment alone."""
    for number, person in enumerate(people):
        admin.execute(
            "update private.budgets set daily_cap_micro = %s, monthly_cap_micro = %s, max_open = 20,"
            " max_per_minute = 1000000 where user_id = %s",
            [
                20_000 if number % 3 == 0 else NO_CAP,
                20_000 if number % 3 == 1 else NO_CAP,
                person.id,
            ],
        )
    admin.execute("update private.deployment set monthly_cap_micro = 100000")


def settle(world, lease_seconds):
    """Let what is still open lapse, and call the loans back: now everything that is lent is spent."""
    time.sleep(lease_seconds + 0.2)
    world.sweep()
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")


def count_deadlocks(admin):
    row = admin.execute(
        "select pg_stat_clear_snapshot(), deadlocks from pg_stat_database where datname = current_database()"
    ).fetchone()
    return row[1] if row else 0


def count_lost(admin, ids, acknowledged):
    """Messages that somebody was told are saved and that are not there, or the other way round."""
    found = admin.execute(
        "select conversation_id::text, id::text from public.messages where user_id = any (%s)",
        [ids],
    )
    return len(set(found) ^ set(acknowledged))


@contextlib.contextmanager
def count_errors(log):
    try:
        yield
    except (Refused, psycopg.Error) as error:
        log.errors[f"error: {str(error).splitlines()[0][:100]}"] += 1


OVERSPENT = """
select
  (select count(*) from private.budgets
    where day_spent + reserved > daily_cap_micro or month_spent + reserved > monthly_cap_micro
      or month_spent + reserved > loan)
  + (select count(*) from private.deployment
    where lent > monthly_cap_micro
      or (select sum(month_spent + reserved) from private.budgets) > monthly_cap_micro)
"""

MUST_BE_ZERO = {
    "overspent by the ledger": """
      select count(*) from (select user_id, sum(micro) as spent from private.ledger group by user_id) used
      join private.budgets using (user_id) where spent > least(daily_cap_micro, monthly_cap_micro)""",
    "turns charged twice or never": """
      select count(*) from public.turns where 1 <> (
        select count(*) from private.ledger where turn_id = turns.id and kind in ('charge', 'lapsed'))""",
    "turns corrected twice": """
      select count(*) from (
        select turn_id from private.ledger where kind = 'adjust' group by turn_id having count(*) > 1) twice""",
    "messages doubled": """
      select count(*) from (
        select turn_id, role from public.messages group by turn_id, role having count(*) > 1) twice""",
    "turns whose charge is not the ledger's": """
      select count(*) from public.turns
      join (select turn_id, sum(micro) as spent from private.ledger group by turn_id) used on turn_id = turns.id
      where spent <> charged_micro""",
    "budgets that are not the ledger's": """
      select count(*) from private.budgets left join (
        select user_id, sum(micro) as spent from private.ledger group by user_id) used using (user_id)
      where coalesce(spent, 0) <> day_spent or coalesce(spent, 0) <> month_spent""",
    "deployment and ledger apart by": """
      select (select coalesce(sum(micro), 0) from private.ledger) - lent from private.deployment""",
    "deployment and loans apart by": """
      select (select sum(loan) from private.budgets) - lent from private.deployment""",
    "reserved by nobody": "select sum(reserved) from private.budgets",
    "turns left open": "select count(*) from public.turns where state in ('reserved', 'streaming')",
    "threads torn": """
      select count(*) from public.conversations c left join lateral (
        select count(*) as messages, coalesce(max(seq), 0) as last from public.messages
        where conversation_id = c.id) is_there on true
      where (messages, last, messages) is distinct from (message_count::bigint, last_seq, rev)""",
    "replies named and not there": """
      select count(*) from public.turns
      where reply_id is not null and not exists (select from public.messages where id = reply_id)""",
}
