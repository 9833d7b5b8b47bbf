"""Stores of users for tests; rows and budgets in memory, with faults and tampering."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.crypto import RootKeys, ServerProof, new_key, password_hash
from services.domain import Outcome, Purpose, Usage
from services.domain.accounts import Limits
from services.domain.rows import DocumentKind
from services.errors import StoreUnavailable
from services.rules import part_of
from services.rules.accounts import StoredSession
from services.rules.budget import Budget, Deployment
from services.store.accounts import Accounts
from services.store.administration import UserAccess
from services.store.backend import NOT_COUNTED as NOT_COUNTED
from services.store.device_names import NewDevice
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.seals import Seals
from services.store.supabase.backend import SupabaseBackend
from services.store.supabase.lite_transport import LiteTransport
from services.store.tables import schema
from services.store.tables.access import Caller
from services.store.tables.backend import TablesBackend, TablesUser
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    CONVERSATIONS,
    COUNTS,
    DAYS,
    DEPLOYMENT,
    DOCUMENTS,
    MESSAGES,
    RECEIPTS,
    SESSIONS,
    THOUGHTS,
    TURNS,
    AccountRow,
    Counts,
    ModelUsage,
    StoredConversation,
    UsageDay,
)
from services.store.tables.usage import TablesUsage
from tests.store.conformance.talk import LEASE_SECONDS, ending, new_turn, unsaid

USAGE = Usage(1200, 34, 800)  # the usage of each turn of another process, whose cost is COST_MICRO
COST_MICRO = 700


def store_of(session):
    """Return the store of the user of an app session, with nothing cached."""
    return sealed_store(session.backend.rows(), session.user_keys)


def backend_at(url, key, root_keys, transport=None):
    """Return the backend of a process in Supabase, whose calls never fail fast."""
    proof = ServerProof(root_keys.proof_key())
    transport = transport or LiteTransport()
    return SupabaseBackend(url, SecretStr(key), proof, is_hosted=False, transport=transport)


def sweep(backend):
    """Call the sweep until nothing is due; one call may only delete an account of another test."""
    while backend.sweep():
        pass


BUDGET_NAMES = {
    "daily_micro": "daily_cap_micro",
    "monthly_micro": "monthly_cap_micro",
    "open_turns": "max_open",
    "daily_tokens": "daily_cap_tokens",
    "turns_a_minute": "max_per_minute",
    "tokens_today": "day_tokens",
    "spent_today": "day_spent",
    "spent_this_month": "month_spent",
    "reserved": "reserved",
}
LIMITS = Limits(
    daily_cap_micro=1_000_000,
    monthly_cap_micro=10_000_000,
    daily_cap_tokens=None,
    max_open=4,
    max_per_minute=20,
)


class UsageOfTables:
    """The `UserFigures` of one user, with the page size and changes of a test."""

    def __init__(self, user_id, tables):
        self._user_id, self._tables = user_id, tables
        self.changes = []  # changes of the account
        self.page = 500  # entries of the ledger in one read

    def __getattr__(self, name):
        return getattr(TablesUsage(self._user_id, self._tables, self.page), name)

    def account_changes(self):
        return self.changes


class LedgerOfTables:
    """The budget of one user, with short names."""

    def __init__(self, rows, usage):
        vars(self).update(rows=rows, usage=usage, user_id=rows.user_id)

    def __getattr__(self, name):
        return getattr(self.rows.tables.run(self.rows.budget), BUDGET_NAMES[name])

    def __setattr__(self, name, value):
        if name == "deployment_share":
            month, cap = self.rows.now().date().replace(day=1), 10**9 if value else 0
            used = Deployment(monthly_cap_micro=cap, month=month, spent=round(value * cap))
            self.rows.tables.run(lambda block: block.put(DEPLOYMENT, used))
        elif name in BUDGET_NAMES:
            self._change(lambda budget: replace(budget, **{BUDGET_NAMES[name]: value}))
        else:
            vars(self)[name] = value

    def begin_days_later(self, days):
        """Make the spending that many days, or a month of 31 days, older."""
        month = {"month_spent": 0} if days > 30 else {}
        self._change(
            lambda budget: replace(budget, day_spent=0, day_tokens=0, minute_turns=0, **month)
        )

    def _change(self, change):
        self.rows.tables.run(lambda block: block.put(BUDGETS, change(self.rows.budget(block))))


class OpenStore:
    """The tables of a deployment, with control of time and faults."""

    def __init__(self, tables):
        self._tables, self.is_away = tables, False
        self.loses_answer = False  # true: the answer of the next block gets lost

    def of(self, user_id):
        if self.is_away:
            raise StoreUnavailable
        opened = OpenTables(self._tables.of(user_id))
        if self.loses_answer:
            self.loses_answer = False
            opened.run = _without_answer(opened.run)
        return opened

    def owners(self, *arguments, **options):
        if self.is_away:
            raise StoreUnavailable
        return self._tables.owners(*arguments, **options)

    def close(self):
        self._tables.close()

    def change(self, table, key, user_id=None, /, **columns):
        """Change columns of a stored row."""

        def change(block):
            block.put(table, replace(block.get(table, key), **columns))

        self.of(user_id).run(change)

    def rows(self):
        """Return all rows of all users, and the shared ones, each with its table and owner."""
        users = [None, *self.of(None).run(lambda block: [one.id for one in block.select(ACCOUNTS)])]
        return [
            (self.of(user_id), table, row)
            for user_id in users
            for table in schema.TABLES.values()
            if table.is_shared == (user_id is None)
            for row in self.of(user_id).run(lambda block, table=table: block.select(table))
        ]

    def let_pass(self, seconds):
        """Make all stored times *seconds* older."""
        earlier = timedelta(seconds=seconds)
        for tables, table, row in self.rows():
            times = {
                each.name: value - earlier
                for each in fields(row)
                if isinstance(value := getattr(row, each.name), datetime)
            }
            new = replace(row, **times)
            tables.run(lambda block, new=new, table=table: block.put(table, new))


def memory():
    """Return a folder in memory; None if the machine has none, or less than 1 GB of free space in it."""
    shared = Path("/dev/shm")  # noqa: S108 (nothing outlives the test)
    is_usable = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 10**9
    return shared if is_usable else None


@contextmanager
def folder_in_memory():
    """Yield a temporary folder, in memory if there is space."""
    with tempfile.TemporaryDirectory(dir=memory()) as folder:
        yield Path(folder)


def made_in(folder, kind):
    """Return a function that makes a store of a *kind* of place, a new one in *folder* at each call."""

    def make():
        return kind(Path(tempfile.mkdtemp(dir=folder)) / "store.db").open()

    return make


def _without_answer(run):
    def unanswered(*arguments, **options):
        run(*arguments, **options)
        raise StoreUnavailable

    return unanswered


class WholeAccounts(Accounts):
    """`Accounts` with one call for the two steps of each verb and the hash between them."""

    __slots__ = ()

    def sign_up_with(self, email, password, *, throttles=NOT_COUNTED, invitation="", browser=None):
        found = self.find_for_sign_up(email, throttles, invitation)
        return self.sign_up(found, found.hashed(password), invitation, browser)

    def sign_in_with(self, email, password, *, throttles=NOT_COUNTED, invitation="", browser=None):
        return self.sign_in(self.find(email, throttles).checked(password), invitation, browser)

    def change_with(self, session, password, new):
        checked = self.find(session.email, NOT_COUNTED).checked(password)
        self.change_password(session, checked, checked.hashed(new))

    def prove_with(self, session, cookie, password, *, throttles=NOT_COUNTED):
        return self.prove(session, cookie, self.find(session.email, throttles).checked(password))

    def delete_with(self, session, cookie, password, stop_turns=lambda _: None):
        self.prove_with(session, cookie, password)
        UserAccess(session.backend.administration, stop_turns).delete(session.user_id)


class _Cut:
    """A backend and its `SignIn` in a process that ends before or after a *step*."""

    def __init__(self, port, step, *, is_done):
        self._port, self._step, self._is_done = port, step, is_done

    def __getattr__(self, name):
        found = getattr(self._port, name)
        if name == "sign_in" and not callable(found):
            return _Cut(found, self._step, is_done=self._is_done)
        return self._call(found) if name == self._step else found

    def _call(self, verb):
        def call(*arguments):
            if self._is_done:
                verb(*arguments)
            raise StoreUnavailable

        return call


def cut_at(accounts, step, *, is_done):
    """Return *accounts* in a process that ends before or after a *step* of a sign-up."""
    return replace(accounts, backend=_Cut(accounts.backend, step, is_done=is_done))


@contextmanager
def cheap_hashes():
    """Hash passwords at the least cost of Argon2id; the hashes are valid in this block alone."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(password_hash, "_MEMORY_KIB", 8)
        changed.setattr(password_hash, "_PASSES", 1)
        yield


def accounts_in_memory(store, root_keys=None, **settings):
    """Return the accounts of a process over the tables of *store*."""
    settings = {"idle_seconds": 3600, "lifetime_seconds": 86400} | settings
    return WholeAccounts(TablesBackend(store), root_keys or RootKeys({1: new_key()}, 1), **settings)


class OpenTables:
    """The tables of one user, whose rows a test can read."""

    def __init__(self, tables):
        self.run = tables.run

    @property
    def turns(self):
        return self.all(TURNS)

    @property
    def documents(self):
        return self.all(DOCUMENTS)

    def all(self, table):
        return {table.key(row): row for row in self.run(lambda block: block.select(table))}

    def store(self, table, *rows):
        for row in rows:
            self.run(lambda block, row=row: block.put(table, row))


PLACES = {  # the table of each kind of text
    "conversation": CONVERSATIONS,
    "message": MESSAGES,
    "turn": TURNS,
    "receipt": RECEIPTS,
    **dict.fromkeys(DocumentKind, DOCUMENTS),
}


class Faulty:
    """A port with faults by verb, which records its calls."""

    def __init__(self, port):
        self._port = port
        self.calls = []  # the verb, then the arguments of each call
        self.failure = None  # an error that every call raises
        self.failures = {}  # errors by verb
        self.lost = set()  # verbs whose calls are executed but not answered
        self.before, self.after = {}, {}  # acts by verb, each for the next call only

    def __getattr__(self, name):
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments, **options):
            self.calls.append((name, *arguments))
            if failure := self.failure or self.failures.get(name):
                raise failure
            if act := self.before.pop(name, None):
                act()
            answer = found(*arguments, **options)
            if act := self.after.pop(name, None):
                act()
            if name in self.lost:
                raise StoreUnavailable
            return answer

        return call


class FaultyRows(Faulty):
    """Sealed rows with faults, and figures that a test may change."""

    def __init__(self, rows, usage):
        super().__init__(rows)
        self.usage = usage


def _day(day, turns, used):
    """Return the sums of a day on which only replies were used."""
    named = {"model": "scripted", "purpose": Purpose.REPLY, "turns": turns}
    rest = {"tokens_cached": 0, "failed": 0, "interrupted": 0, "first_tokens": {}}
    return UsageDay(day=day, sums=(ModelUsage(**named, **used, **rest),))


class InMemoryDatabase:
    """The rows of one user over tables, and the changes to them from outside of the app."""

    def __init__(
        self, user_id, now=lambda: datetime.now(UTC), make_store=InMemoryStore, keys=throwaway_keys
    ):
        self.user_id, self.elapsed, self._now = user_id, timedelta(), now
        self.deployment = OpenStore(make_store())
        self.tables = self.deployment.of(user_id)
        self.backend = TablesBackend(self.deployment, self.now)
        self.bounded_rows = TablesRows(user_id, self.tables, self.now, limits=LIMITS)
        usage = UsageOfTables(user_id, self.tables)
        self.ledger = LedgerOfTables(self.bounded_rows, usage)
        self.rows = FaultyRows(self.bounded_rows, usage)
        self._keys = keys(user_id)
        self._store = self.store()

    def now(self):
        return self._now() + self.elapsed

    def store(self):
        """Return the store of a process, with nothing cached."""
        return sealed_store(self.rows, self._keys)

    def sign_in(self, email, role, device=None):
        """Return the backend of the user on one more device, with a `NewDevice`."""
        device, now = device or NewDevice.unnamed(), self.now()
        end = now + timedelta(days=999)
        account = AccountRow(id=self.user_id, email=email, role=role)
        session = StoredSession(
            cookie_hash=device.session_id.hex,
            id=device.session_id,
            device=device.sealed,
            created_at=now,
            seen_at=now,
            proved_at=now,
            user_id=self.user_id,
            sealed="",
            idle_seconds=999 * 86400,
            expires_at=end,
            ends_at=end,
        )
        self.tables.store(ACCOUNTS, account)
        self.tables.store(SESSIONS, session)
        if not self.tables.all(BUDGETS):
            self.tables.store(BUDGETS, Budget(**asdict(LIMITS)))
        return TablesUser(self.backend.noted, Caller(device.session_id, self.user_id, self.now))

    def put_user(self, row):
        """Store another user with the figures of a `UserUsage`; the month began before today."""
        tables, now, today = self.deployment.of(row.user_id), self.now(), self.now().date()
        month = today.replace(day=1)
        suspended_at = now if row.is_suspended else None
        account = {"id": row.user_id, "email": row.email, "role": row.role}
        tables.store(ACCOUNTS, AccountRow(**account, suspended_at=suspended_at))
        windows = {"day": today, "day_tokens": row.tokens_today, "month": month}
        budget = part_of(Budget, row, bytes=0, **windows)
        tables.store(BUDGETS, budget)
        tables.store(COUNTS, Counts(conversations=row.conversations, bytes=row.bytes))
        used = {
            "tokens_in": row.tokens_in_this_month,
            "tokens_out": row.tokens_out_this_month,
            "cost_micro": row.cost_this_month_micro - row.cost_today_micro,
        }
        turns = row.replies_this_month - row.replies_today
        cost = {"tokens_in": 0, "tokens_out": 0, "cost_micro": row.cost_today_micro}
        tables.store(DAYS, _day(month, turns, used), _day(today, row.replies_today, cost))

    @contextmanager
    def no_answers(self, verb, *, is_done=True):
        """Lose the answers to a verb of the rows."""
        if is_done:
            self.rows.lost.add(verb)
        else:
            self.rows.failures[verb] = StoreUnavailable()
        yield
        self.rows.lost.discard(verb)
        self.rows.failures.pop(verb, None)

    def turn_states(self):
        """Return the states of all turns, the oldest first."""
        return [turn.state for turn in self.tables.turns.values()]

    def costs(self):
        """Return purpose and cost of each turn, the oldest first. Fail if the ledger has other costs."""
        found = [(turn.purpose, turn.charged_micro) for turn in self.tables.turns.values()]
        assert self.ledger.spent_this_month == sum(cost for _, cost in found)
        assert self.ledger.reserved == 0
        return found

    @property
    def conversations(self):
        """The conversations as another process reads and changes them."""
        return self._store.conversations

    def thread(self, conversation_id):
        return self.conversations.thread(conversation_id)

    def threads(self):
        """Return all threads, the newest first."""
        return [self.thread(each.id) for each in self.conversations.recent()]

    def hold(self, title, *bodies, policy=None, **last):
        """Store a conversation of last month with alternating prompts and replies; *last*: fields of the last turn."""
        created, _ = Seals(self.user_id, self._keys).new_conversation(unsaid(title, policy))
        conversation_id, now = created.id, self.now()
        row = StoredConversation(**asdict(created), created_at=now, updated_at=now)
        self.tables.store(CONVERSATIONS, row)
        turns = list(zip_longest(bodies[::2], bodies[1::2], fillvalue=""))
        for number, (prompt, reply) in enumerate(turns, start=1):
            self.go_on(conversation_id, prompt, reply, **(last if number == len(turns) else {}))
        if turns:
            self.conversations.mark_read(self.thread(conversation_id))
        return conversation_id

    def go_on(self, conversation_id, prompt, reply="", *, model="scripted", start_seq=0, **end):
        """Store a turn of last month, by another process. *end*: fields of its `Ending`."""
        thread = self.thread(conversation_id)
        turn = new_turn(thread, prompt, model=model, start_seq=start_seq, is_first=False)
        dearest = max(turn.reservation.reply_micro, end.get("cost_micro", COST_MICRO))
        turn = replace(turn, reservation=replace(turn.reservation, reply_micro=dearest))
        begun = self._store.turns.begin(turn)
        outcome = Outcome.COMPLETE if reply else Outcome.FAILED
        defaults = {"outcome": outcome, "usage": USAGE, "cost_micro": COST_MICRO}
        self._store.turns.finish(ending(turn, begun, reply, **(defaults | end)))
        self.ledger.begin_days_later(31)

    def crash(self, conversation_id, partial, thoughts=None, prompt_id=None):
        """Leave a turn, of a prompt or the last message, whose process died after it stored *partial*."""
        thread = self.thread(conversation_id)
        turn = new_turn(thread, None, prompt_id=prompt_id or thread.messages[-1].id)
        begun = self._store.turns.begin(turn)
        self._store.turns.checkpoint(
            begun.turn_id, conversation_id, partial, LEASE_SECONDS, thoughts
        )
        self.let_pass(LEASE_SECONDS + 1)
        self.sweep()

    def let_pass(self, seconds):
        self.elapsed += timedelta(seconds=seconds)

    def sweep(self):
        """Settle every turn whose lease ran out, and destroy all due rows."""
        self.rows.sweep()

    def spoil(self, kind, key, field="body"):
        """Make a stored text fail its verification. Kinds and fields: of `Text` in the conformance suite."""
        self.put(kind, key, field, "spoilt")

    def get(self, kind, key, field="body"):
        """Return a stored text, sealed."""
        return getattr(self._row(kind, key, field), field)

    def has(self, kind, key, field="body"):
        return self._row(kind, key, field) is not None

    def put(self, kind, key, field, text):
        """Replace a stored text."""
        row = self._row(kind, key, field)
        self.tables.store(self._table(kind, field), replace(row, **{field: text}))

    def _row(self, kind, key, field):
        return self.tables.run(lambda block: block.get(self._table(kind, field), key))

    def _table(self, kind, field):
        return THOUGHTS if (kind, field) == ("message", "thoughts") else PLACES[kind]
