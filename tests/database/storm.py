"""A stress test of turns, and the promises that must hold after it.

Many threads chat as a few users whose caps are nearly always reached: by day, by month and, now and then, for all users
together. Calls are repeated as after a lost answer; turns are abandoned before and during their reply, finished after they
lapsed, and adopted by their owners; several sweepers settle the lapsed turns meanwhile. An observer looks for
overspending during the whole test.
"""

import threading
import time
from collections import Counter
from random import Random
from uuid import uuid4

import psycopg

from tests.database.people import Refused, a_document, beginning, finish, psycopg_world

WORKERS, PEOPLE, SWEEPERS = 50, 8, 4
LEASE_SECONDS = 2
CHAOS = 0.05  # the share of turns for each kind of fault
BODY = "p1.1." + "B" * 1500
NO_CAP = 10**9


class Storm:
    """State that the threads share: when to stop, what happened, and the messages that users were told are saved."""

    def __init__(self, address):
        self.address = address
        self.stop, self._lock = threading.Event(), threading.Lock()
        self.events, self.errors, self.acknowledged = Counter(), Counter(), []

    def note(self, event, count=1):
        with self._lock:
            self.events[event] += count

    def has_all(self, expected):
        """Return True if all *expected* events have happened; those of the ledger are counted after the storm."""
        with self._lock:
            return all(self.events[name] for name in expected if not name.startswith("ledger"))

    def start(self, act):
        """Repeat *act* on a connection of its own, in a thread, also after an error, until the storm is over."""

        def repeat():
            with psycopg.connect(self.address, autocommit=True) as connection:
                while not self.stop.is_set():
                    try:
                        act(connection)
                    except (Refused, psycopg.Error) as error:
                        with self._lock:
                            self.errors[str(error).splitlines()[0][:100]] += 1

        thread = threading.Thread(target=repeat)
        thread.start()
        return thread


class Worker:
    """One thread that chats as any of the users."""

    def __init__(self, storm, conversations, seed):
        self.storm, self.conversations, self.random = storm, conversations, Random(seed)
        self.late = []
        self.wanted = {}  # arguments of `begin_turn` in place of the default ones

    def talk(self, connection):
        if self.late and self.late[0][0] < time.monotonic():
            _, person, *turn = self.late.pop(0)
            if self._finish(person, *turn, "complete")["ok"]:
                self.storm.note("finished late")
        person, conversation = self.random.choice(self.conversations)
        person = person.by(connection)
        if self._happens():
            self._adopt(person, conversation)
        if self._happens():
            self._write(person, conversation)
        self._turn(person, conversation)

    def _turn(self, person, conversation):
        note = self.storm.note
        begun = self._begin(person, conversation)
        if not begun["ok"]:
            return note(f"refused: {begun['reason']}")
        turn, cost = begun["turn"], self.random.randint(0, begun["reserved"])
        if self._happens(CHAOS / 2):
            return note("died before the model")
        if not person.checkpoint(turn, None, LEASE_SECONDS)["ok"]:
            return note("lapsed before the model")
        person.checkpoint(turn, BODY, LEASE_SECONDS)
        if self._happens(CHAOS / 2):
            return note("died in the reply")
        if self._happens(CHAOS / 2):
            due = time.monotonic() + LEASE_SECONDS + self.random.random()
            return self.late.append((due, person, conversation, turn, cost))
        outcome = self.random.choice(["complete", "cut", "stopped", "failed"])
        ended = self._finish(person, conversation, turn, cost, outcome)
        return note("finished" if ended["ok"] else f"unfinished: {ended['reason']}")

    def _begin(self, person, conversation):
        prompt, wanted = uuid4(), self.random.randint(200, self.random.choice((4_000, 40_000)))
        arguments = beginning(
            conversation,
            prompt=prompt,
            prompt_body=BODY,
            prompt_micro=self.random.randint(50, 400),
            reply_micro=wanted,  # the longest may cost more than any cap here: it is cut down
            least_reply_micro=100,
            lease_seconds=LEASE_SECONDS,
            **self.wanted,
        )

        answer = self._call(person, "begin_turn", "begun", conversation, arguments)
        if answer["ok"]:
            self.storm.note("begun")
            self.storm.acknowledged.append((str(conversation), str(prompt)))
            if answer["reserved"] < arguments["prompt_micro"] + wanted:
                self.storm.note("cut down")
        return answer

    def _finish(self, person, conversation, turn, cost, outcome):
        reply = uuid4()
        used = self._used(turn)
        arguments = finish(turn, 0, cost, outcome=outcome, reply=reply, reply_body=BODY, **used)

        answer = self._call(person, "finish_turn", "finished", conversation, arguments)
        if answer["ok"] and answer.get("saved"):
            self.storm.acknowledged.append((str(conversation), str(reply)))
        return answer

    def _used(self, _turn):
        """Return the usage of a turn, in place of the default one."""
        return {}

    def _call(self, person, function, event, conversation, arguments):
        """Call *function*; repeat it if the conversation changed meanwhile, and now and then after success."""
        answer = {}
        for _ in range(10):
            [[rev, last]] = person.way.read(NEWEST, conversation)
            parent = {"parent": last} if function == "begin_turn" else {}
            now = arguments | parent | {"expected_rev": rev}
            answer = person.call(function, **now)
            if answer["ok"] and self._happens():
                assert person.call(function, **now)["replay"] is True
                self.storm.note(f"{event} again")
            if answer.get("reason") != "stale":
                break
            self.storm.note(f"{event} stale")
        return answer

    def _adopt(self, person, conversation):
        """Make a message of the partial reply of a dead turn, as when the owner opens the conversation."""
        for (turn,) in person.way.read(DEAD, conversation):
            ended = self._finish(person, conversation, str(turn), None, "interrupted")
            if ended["ok"]:
                self.storm.note("adopted too late" if ended["replay"] else "adopted")

    def _write(self, person, conversation):
        """Store a version of the newest message, if that is a reply, and a fact."""
        reply, [[rev, last]] = uuid4(), person.way.read(NEWEST, conversation)
        place = {"conversation": conversation, "expected_rev": rev, "most_bytes": NO_CAP}
        written = {"original": last, "reply": reply, "reply_body": BODY}
        if person.call("edit_reply", **place, **written)["ok"]:
            self.storm.note("edited")
            self.storm.acknowledged.append((str(conversation), str(reply)))
        fact = a_document(conversation=conversation, most_bytes=NO_CAP)
        if person.call("put_document", **fact)["ok"]:
            self.storm.note("noted")

    def _happens(self, probability=CHAOS):
        return self.random.random() < probability


def run_storm(admin, address, proof, seconds, expected):
    """Return the broken promises with their counts, and what happened, once all *expected* events have.

    *seconds*: how long it lasts at least and at most.
    """
    storm, world = Storm(address), psycopg_world(admin, proof)
    people = [world.person() for _ in range(PEOPLE)]
    ids = [person.id for person in people]
    tighten_caps(admin, people)
    each = WORKERS * 2 // PEOPLE
    conversations = [(p, p.create_conversation()) for p in people for _ in range(each)]
    forgetful = world.person()

    def sweep(connection):
        storm.stop.wait(0.2)
        storm.note("swept", world.anon.by(connection).call("sweep_turns", at_most=20)["swept"])

    def forget(connection):
        storm.stop.wait(0.2)
        person = forgetful.by(connection)
        begun = person.begin(person.create_conversation(), lease_seconds=1)
        if begun["ok"]:
            person.checkpoint(begun["turn"], BODY, 1)
            storm.note("forgotten")

    deadlocks = world.one(DEADLOCKS)
    workers = [Worker(storm, conversations, seed).talk for seed in range(WORKERS)]
    threads = [storm.start(act) for act in [*workers, *[sweep] * SWEEPERS, forget]]
    try:
        overspent = observe(admin, ids, seconds, lambda: storm.has_all(expected))
    finally:
        storm.stop.set()
        for thread in threads:
            thread.join()

    time.sleep(LEASE_SECONDS + 0.2)  # what is still open lapses
    world.sweep()
    admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    saved = set(admin.execute(SAVED, [ids]))
    broken = {name: world.one(query) for name, query in MUST_BE_ZERO.items()} | {
        "overspent while it ran": overspent,
        "deadlocks": world.one(DEADLOCKS) - deadlocks,
        "lost or made up": len(saved ^ set(storm.acknowledged)),
        **storm.errors,
    }
    for (kind,) in admin.execute("select kind from private.ledger"):
        storm.note(f"ledger: {kind}")
    return {name: count for name, count in broken.items() if count}, storm.events


def tighten_caps(admin, people):
    """Limit a third of the users by day, a third by month, the rest by the deployment; and every second one by tokens, too."""
    for number, person in enumerate(people):
        caps = [20_000 if number % 3 == third else NO_CAP for third in (0, 1)]
        admin.execute(
            "update private.budgets set daily_cap_micro = %s, monthly_cap_micro = %s, daily_cap_tokens = %s,"
            " max_open = 20, max_per_minute = 1000000 where user_id = %s",
            [*caps, None if number % 2 else 5_000, person.id],
        )
    admin.execute("update private.deployment set monthly_cap_micro = 100000")


def observe(admin, ids, seconds, is_complete):
    """Look for overspending, and raise the caps a little, four times a second; return the number of overspends."""
    (least, most), begun, overspent, samples = seconds, time.monotonic(), 0, 0
    while (passed := time.monotonic() - begun) < most:
        if passed > least and is_complete():
            break
        overspent += admin.execute(OVERSPENT).fetchone()[0]
        samples += 1
        if samples % 5 == 0:
            more = "update private.deployment set monthly_cap_micro = monthly_cap_micro + %s"
            admin.execute(more, [300_000 if samples % 40 == 0 else 60_000])
            for cap in ("daily_cap_micro", "monthly_cap_micro"):
                admin.execute(
                    f"update private.budgets set {cap} = {cap} + 6000 where {cap} < %s and user_id = any (%s)",
                    [NO_CAP, ids],
                )
            admin.execute(
                "update private.budgets set daily_cap_tokens = daily_cap_tokens + 2000 where user_id = any (%s)",
                [ids],
            )
        time.sleep(0.05)
    return overspent


NEWEST = """
select rev, (select id from public.messages where conversation_id = c.id order by seq desc limit 1)
from public.conversations c where id = %s
"""
DEAD = "select id from public.turns where conversation_id = %s and state = 'lapsed' and partial is not null"
SAVED = "select conversation_id::text, id::text from public.messages where user_id = any (%s)"
DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"
OVERSPENT = """
select
  (select count(*) from private.budgets
    where day_spent + reserved > daily_cap_micro or month_spent + reserved > monthly_cap_micro
      or month_spent + reserved > loan or day_tokens + reserved_tokens > daily_cap_tokens)
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
    "usage by day that is not the ledger's": """
      select count(*) from (select * from private.usage_by_day where user_id <> private.all_users()) kept full join (
        select user_id, day, model, purpose, sum(micro) as spent, sum(tokens_out) as said,
          sum(tokens_cached) as cached, count(*) filter (where kind <> 'adjust') as begun
        from private.ledger group by user_id, day, model, purpose) used using (user_id, day, model, purpose)
      where (cost_micro, tokens_out, tokens_cached, turns) is distinct from (spent, said, cached, begun)""",
    "days added up that are not the ledger's": """
      select count(*) from (
        select day, sum(cost_micro) as cost, sum(tokens_cached) as cached
        from private.usage_by_day where user_id = private.all_users() group by day) totals
      left join (select day, sum(micro) as spent, sum(tokens_cached) as used from private.ledger group by day) used using (day)
      where (cost, cached) is distinct from (spent, used.used)""",
    "turns corrected twice": """
      select count(*) from (
        select turn_id from private.ledger where kind = 'adjust' group by turn_id having count(*) > 1) twice""",
    "messages doubled": """
      select count(*) from (
        select turn_id, role from public.messages where turn_id is not null
        -- a whole reply that ends late is stored beside the partial one
        group by turn_id, role, outcome = 'interrupted' having count(*) > 1) twice""",
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
    "reserved by nobody": "select sum(reserved) + sum(reserved_tokens) from private.budgets",
    "tokens that are not the turns'": """
      select count(*) from private.budgets
      where day_tokens <> (select coalesce(sum(charged_tokens), 0) from public.turns where turns.user_id = budgets.user_id)""",
    "turns left open": "select count(*) from public.turns where state in ('reserved', 'streaming')",
    "threads torn": """
      select count(*) from public.conversations c left join lateral (
        select count(*) as messages, coalesce(max(seq), 0) as last from public.messages
        where conversation_id = c.id) is_there on true
      where (messages, messages, last) is distinct from (last_seq::bigint, rev, last_seq)""",
    "replies named and not there": """
      select count(*) from public.turns
      where reply_id is not null and not exists (select from public.messages where id = reply_id)""",
}
