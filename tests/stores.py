"""Stores of users for tests; rows and budgets in memory, with faults and tampering."""

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from uuid import uuid4

from pydantic import SecretStr

from services.crypto import ServerProof
from services.domain import Outcome, Purpose, TurnId, Usage
from services.domain.data import StoredData
from services.domain.turns import Begun, Lease, TurnState
from services.domain.usage import (
    ConversationUsage,
    DayUsage,
    LedgerEntry,
    PurposeUsage,
    UsageReport,
)
from services.errors import Cap, OverBudget, StoreUnavailable
from services.store.in_memory.conversations import Tables
from services.store.in_memory.rows import InMemoryRows
from services.store.rows import ConversationRow, ConversationState, DocumentKind
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.seals import Seals
from services.store.supabase.backend import SupabaseBackend
from services.store.supabase.lite_transport import LiteTransport
from tests.store.conformance.talk import LEASE_SECONDS, ending, new_turn, unsaid

USAGE = Usage(1200, 34, 800)  # of each turn of another process, as its cost
COST_MICRO = 700


def store_of(session):
    """Return the store of the user of an app session, with nothing cached."""
    return sealed_store(session.backend.rows(), session.user_keys)


def backend_at(url, key, root_keys, transport=None):
    """Return the backend of a process in Supabase; its calls never fail fast."""
    proof = ServerProof(root_keys.proof_key())
    transport = transport or LiteTransport()
    return SupabaseBackend(url, SecretStr(key), proof, is_hosted=False, transport=transport)


def sweep(backend):
    """Call the sweep until nothing more is due: one call may have an account of another test to delete."""
    while backend.sweep():
        pass


class InMemoryUsage:
    """The `UserFigures` of one user, made of settled turns."""

    def __init__(self, tables):
        self._tables = tables
        self.changes = []  # of the account
        self.page = 500  # entries of the ledger that are read at once

    def ledger(self, first_day, last_day, after=""):
        entries = [
            LedgerEntry(
                id=f"{number:05}",
                at=turn.begun_at,
                day=turn.begun_at.date(),
                kind="lapsed" if turn.state is TurnState.LAPSED else "charge",
                outcome=turn.state.value,
                purpose=turn.reservation.purpose,
                model=turn.reservation.model,
                **_sums([turn]),
            )
            for number, turn in enumerate(self._settled(date.min, last_day), start=1)
        ]
        return [one for one in entries if (one.day, one.id) > (first_day, after)][: self.page]

    def account_changes(self):
        return self.changes

    def report(self, first_day, last_day):
        def grouped(key):
            groups = {}
            for turn in self._settled(first_day, last_day):
                groups.setdefault(key(turn), []).append(turn)
            return groups.items()

        def replies(turns):
            return sum(turn.reservation.purpose is Purpose.REPLY for turn in turns)

        def by_cost(rows):
            return tuple(sorted(rows, key=lambda row: -row.cost_micro))

        return UsageReport(
            days=tuple(
                DayUsage(day=day, model=model, replies=replies(turns), **_sums(turns))
                for (day, model), turns in grouped(
                    lambda turn: (turn.begun_at.date(), turn.reservation.model)
                )
            ),
            purposes=by_cost(
                PurposeUsage(purpose=purpose, turns=len(turns), **_sums(turns))
                for purpose, turns in grouped(lambda turn: turn.reservation.purpose)
            ),
            conversations=by_cost(
                ConversationUsage(conversation_id=its, replies=replies(turns), **_sums(turns))
                for its, turns in grouped(self._conversation)
            ),
            active_users=1,
            failed=0,
            interrupted=0,
            first_token_ms=None,
            first_token_p95_ms=None,
        )

    def stored(self):
        tables = self._tables
        doomed = {row.id for row in tables.conversations.values() if row.destroy_at}
        threads = [row for row in tables.conversations.values() if row.id not in doomed]
        kinds = [kind for kind, _ in tables.documents]
        said = [row for row in tables.messages.values() if not row.destroy_at]
        return StoredData(
            conversations=len(threads),
            archived=sum(row.state is ConversationState.ARCHIVED for row in threads),
            messages=sum(row.conversation_id not in doomed for row in said),
            spaces=kinds.count(DocumentKind.SPACE),
            facts=kinds.count(DocumentKind.FACT),
            sealed_bytes=tables.bytes,
            deleted=len(doomed),
            destroyed_at=max(
                (tables.conversations[its].destroy_at for its in doomed), default=None
            ),
            ledger_entries=len(self._settled(date.min, date.max)),
            ledger_since=min(
                (turn.begun_at.date() for turn in tables.turns.values()), default=None
            ),
        )

    def _settled(self, first_day, last_day):
        turns = self._tables.turns.values()
        settled = [turn for turn in turns if not turn.state.is_open]
        return [turn for turn in settled if first_day <= turn.begun_at.date() <= last_day]

    def _conversation(self, turn):
        known = turn.conversation_id in self._tables.conversations
        return turn.conversation_id if known else None


def _sums(turns):
    return {
        "tokens_in": sum(turn.usage.prompt for turn in turns),
        "tokens_cached": sum(turn.usage.cached for turn in turns),
        "tokens_out": sum(turn.usage.reply for turn in turns),
        "cost_micro": sum(turn.cost_micro for turn in turns),
    }


@dataclass
class InMemoryLedger:
    """The `Ledger` of one user. Its days, months and minutes end when a test says so."""

    user_id: object
    usage: object
    daily_micro: int = 1_000_000
    monthly_micro: int = 10_000_000
    open_turns: int = 4
    daily_tokens: int | None = None
    turns_a_minute: int = 20
    tokens_today: int = 0
    deployment_share: float | None = None
    spent_today: int = 0
    spent_this_month: int = 0
    turns: int = 0
    reserved: dict = field(default_factory=dict)  # by open turn: its reservation, and how much
    lapsed: dict = field(default_factory=dict)  # what was charged, by turn

    def begin_turn(self, turn):
        reservation = turn.reservation
        needed = reservation.least_micro
        held = sum(micro for _, micro, _ in self.reserved.values())
        held_tokens = sum(tokens for *_, tokens in self.reserved.values())
        room = {
            Cap.DAILY: self.daily_micro - self.spent_today - held,
            Cap.MONTHLY: self.monthly_micro - self.spent_this_month - held,
        }
        cap = min(room, key=room.__getitem__)
        left = max(0, room[cap])
        if reservation.purpose is Purpose.REPLY:
            replies = [one for one, *_ in self.reserved.values() if one.purpose is Purpose.REPLY]
            if len(replies) >= self.open_turns:
                raise OverBudget(Cap.OPEN_TURNS, needed, left)
            self._check_pace()
        tokens = reservation.prompt_tokens + reservation.reply_tokens
        if self.daily_tokens is not None:
            tokens = min(tokens, max(0, self.daily_tokens - self.tokens_today - held_tokens))
        if tokens < reservation.least_tokens:
            raise OverBudget(Cap.DAILY_TOKENS, reservation.least_tokens, tokens)
        if needed > left:
            raise OverBudget(cap, needed, left)
        turn_id = TurnId(uuid4())
        micro = min(reservation.prompt_micro + reservation.reply_micro, left)
        self.reserved[turn_id] = reservation, micro, tokens
        self.turns += reservation.purpose is Purpose.REPLY
        return Begun(turn_id, micro, tokens)

    def checkpoint_turn(self, turn):
        return Lease.HELD if turn.turn_id in self.reserved else Lease.LAPSED

    def finish_turn(self, turn):
        settlement = turn.settlement
        self.reserved.pop(settlement.turn_id, None)
        micro, tokens = self.lapsed.pop(settlement.turn_id, (0, 0))
        used = settlement.usage.prompt + settlement.usage.reply
        self._spend(settlement.cost_micro - micro, used - tokens)

    def count_edit(self):
        self._check_pace()
        self.turns += 1

    def _check_pace(self):
        if self.turns >= self.turns_a_minute:
            pace = {"per_minute": self.turns_a_minute, "wait_seconds": 60}
            raise OverBudget(Cap.TURNS_A_MINUTE, **pace)

    def lapse_turn(self, turn):
        """Settle an unfinished turn at its cost."""
        _, _, tokens = self.reserved.pop(turn.id, (None, 0, 0))
        self.lapsed[turn.id] = turn.cost_micro, tokens if turn.cost_micro else 0
        self._spend(*self.lapsed[turn.id])

    def begin_days_later(self, days):
        """Have the spending lie that many days, or a month of 31, back."""
        self.spent_today = self.tokens_today = self.turns = 0
        if days > 30:
            self.spent_this_month = 0

    def _spend(self, micro, tokens):
        self.tokens_today += tokens
        self.spent_today += micro
        self.spent_this_month += micro


class FaultyRows:
    """Sealed rows with faults by verb."""

    def __init__(self, rows):
        self._rows = rows
        self.failure = None  # of every call
        self.failures = {}  # by verb
        self.lost = set()  # verbs whose calls are done and not answered
        self.before, self.after = {}, {}  # acts by verb, each of the next call alone

    def __getattr__(self, name):
        found = getattr(self._rows, name)
        if not callable(found):
            return found

        def call(*arguments, **options):
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


class InMemoryDatabase:
    """The rows of one user in memory, and what happens to them outside of the app."""

    def __init__(self, user_id, now=lambda: datetime.now(UTC)):
        self.user_id, self.elapsed, self._now = user_id, timedelta(), now
        self.tables = Tables()
        self.ledger = InMemoryLedger(user_id, InMemoryUsage(self.tables))
        self.bounded_rows = InMemoryRows(self.ledger, self.tables, self.now)
        self.rows = FaultyRows(self.bounded_rows)
        self._keys = throwaway_keys(user_id)
        self._store = self.store()

    def now(self):
        return self._now() + self.elapsed

    def store(self):
        """Return the store of a process, with nothing cached."""
        return sealed_store(self.rows, self._keys)

    @contextmanager
    def no_answers(self, verb, *, is_done=True):
        """Have the app hear nothing of a verb of the rows."""
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
        found = [(turn.reservation.purpose, turn.cost_micro) for turn in self.tables.turns.values()]
        assert self.ledger.spent_this_month == sum(cost for _, cost in found)
        assert self.ledger.reserved == {}
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
        """Store a conversation of last month in which prompts and replies take turns; *last*: of the last turn."""
        created, _ = Seals(self.user_id, self._keys).new_conversation(unsaid(title, policy))
        conversation_id, now = created.id, self.now()
        row = ConversationRow(**asdict(created), created_at=now, updated_at=now)
        self.tables.conversations[conversation_id] = row
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
        begun = self._store.turns.begin(turn)
        if end.get("outcome") is Outcome.INTERRUPTED:
            self.let_pass(LEASE_SECONDS + 1)
            self.sweep()
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
        """Settle every turn whose lease ran out, and destroy what is due."""
        for turn in self.rows.lapse_turns():
            self.ledger.lapse_turn(turn)
        self.rows.destroy_due()

    def spoil(self, kind, key, field="body"):
        """Have a stored text no longer verify. Kinds and fields: of `Text` in the conformance suite."""
        self.put(kind, key, field, "spoilt")

    def get(self, kind, key, field="body"):
        """Return a stored text, sealed."""
        table, key, field = self._place(kind, key, field)
        return table[key] if isinstance(table[key], str) else getattr(table[key], field)

    def has(self, kind, key, field="body"):
        table, key, _ = self._place(kind, key, field)
        return key in table

    def put(self, kind, key, field, text):
        """Replace a stored text."""
        table, key, field = self._place(kind, key, field)
        is_text = isinstance(table[key], str)
        table[key] = text if is_text else replace(table[key], **{field: text})

    def _place(self, kind, key, field):
        """Return the table, key and field of a text."""
        if kind in set(DocumentKind):
            return self.tables.documents, (DocumentKind(kind), key), field
        if (kind, field) == ("message", "thoughts"):
            return self.tables.thoughts, key, field
        field = "thoughts" if field == "partial_thoughts" else field
        return getattr(self.tables, f"{kind}s"), key, field
