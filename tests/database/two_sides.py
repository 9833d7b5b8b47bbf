"""The rules twice: as the SQL of db/migrations and as services/rules over tables, by one clock.

Both sides are `Rows` of the same users. SQL's are those of the product over calls by psycopg, below the check of the proof: a
savepoint a verb, in one transaction that is rolled back.
"""

import re
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql
from pydantic_core import to_jsonable_python

from services.domain.accounts import Limits
from services.domain.rows import (
    ConversationRow,
    DocumentKind,
    DocumentRow,
    MessageRow,
    SearchTextRow,
)
from services.errors import AppError, StoreUnavailable
from services.rules import documents, messages
from services.rules.budget import Budget, Deployment
from services.rules.turns import Entry, Turn
from services.store import refusals
from services.store.supabase import migrations
from services.store.supabase.api import RpcResult, accepted
from services.store.supabase.arguments import Hidden
from services.store.supabase.rows import SupabaseRows
from services.store.supabase.schema import FOLDER
from services.store.tables import administration
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.rows import TablesRows
from services.store.tables.schema import BUDGETS, CONVERSATIONS, DEPLOYMENT, LEDGER, MESSAGES, TURNS
from tests.database import servers

_CLOCK = """
create schema test_clock;
grant usage on schema test_clock to public;
create function test_clock.now() returns timestamptz language sql stable
return current_setting('test_clock.now')::timestamptz;

-- Run a verb at a time; return its answer, or the code of its error, and the places of the user's conversations after it.
create function test_clock.call(at text, verb text, of_user uuid) returns jsonb language plpgsql as $$
declare
  answer jsonb;
begin
  perform set_config('test_clock.now', at, true);
  begin                                     -- a savepoint
    execute verb into answer;
  exception when others then
    answer := jsonb_build_object('code', sqlstate);
  end;
  return jsonb_build_object('answer', answer, 'places', (
    select coalesce(jsonb_object_agg(id, jsonb_build_array(rev, last_seq)), '{}')
    from public.conversations where user_id = of_user
  ));
end $$;
"""
_CALLS_OF_A_CLOCK = re.compile(r"\b(?:now|clock_timestamp)\(\)")
LIMITS = Limits(
    daily_cap_micro=1500,
    monthly_cap_micro=2500,
    daily_cap_tokens=3000,
    max_open=2,
    max_per_minute=3,
)
TICK = timedelta(microseconds=1)  # between verbs
MOST_CHATS, MOST_MESSAGES, MOST_FACTS, MOST_SPACES = 5, 8, 3, 2
MOST_INVITATIONS = 2
_SMALLER = {  # limits that a history reaches
    "user_id = person) >= 20000 then": f"user_id = person) >= {MOST_CHATS} then",
    "thread.last_seq >= 20000 then": f"thread.last_seq >= {MOST_MESSAGES} then",
    "= 'open') >= 500 then": f"= 'open') >= {MOST_INVITATIONS} then",
    "'fact' then 5000 else 500 end": f"'fact' then {MOST_FACTS} else {MOST_SPACES} end",
}
MOST_BYTES = (1200, None, None)  # that each user may store


@dataclass(slots=True)
class Clock:
    """The time of both sides."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self):
        return self.at


def make_template(server, name, folder):
    """Make a database like `make_database` with three accounts; return their ids."""
    address = make_database(server, name, folder)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("select set_config('test_clock.now', '2000-01-01', false)")
        columns = ", ".join(f"{name} = %({name})s" for name in asdict(LIMITS))
        admin.execute(f"update private.settings set {columns} where id", asdict(LIMITS))
        return address, [_account(admin, role) for role in ("user", "user", "admin")]


def make_database(server, name, folder):
    """Make a database whose functions and defaults read the test's clock; return its address.

    *folder* gets the migrations with every call of a clock replaced, and with limits that a history reaches.
    """
    changed = 0
    for path in FOLDER.glob("*.sql"):
        text = _CALLS_OF_A_CLOCK.sub("test_clock.now()", path.read_text())
        for limit, smaller in _SMALLER.items():
            changed += text.count(limit)
            text = text.replace(limit, smaller)
        (folder / path.name).write_text(text)
    assert changed == len(_SMALLER)
    address = servers.new_database(server, name)
    servers.lay_ground(address)
    with psycopg.connect(servers.as_owner(address), autocommit=True) as owner:
        owner.execute("select set_config('test_clock.now', '2000-01-01', false)")
        owner.execute(_CLOCK)
        migrations.apply(owner, folder)
    return address


def _account(admin, role):
    made = (
        "insert into auth.users (email) values (gen_random_uuid() || '@daybook.test') returning id"
    )
    [user_id] = admin.execute(made).fetchone()
    admin.execute("select private.make_account(%s, %s)", [user_id, role])
    return user_id


def make_limits_smaller(patch):
    """Let the rules have the limits of the template."""
    patch.setattr(administration, "MOST_INVITATIONS", MOST_INVITATIONS)
    patch.setattr(messages, "MOST_CONVERSATIONS", MOST_CHATS)
    patch.setattr(messages, "_MOST_MESSAGES", MOST_MESSAGES)
    patch.setattr(documents, "_MOST_FACTS", MOST_FACTS)
    patch.setattr(documents, "_MOST", MOST_SPACES)


def tell_refusals(patch):
    """Have the errors of both sides carry the refusal that they were made of."""
    error_of = refusals.error_of

    def telling(verb, refusal, wanted=None):
        error = error_of(verb, refusal, wanted)
        error.reason = refusal.reason
        return error

    for module in list(sys.modules.values()):
        if getattr(module, "error_of", None) is error_of:
            patch.setattr(module, "error_of", telling)


@dataclass(slots=True, eq=False)
class SqlCalls:
    """Calls of the functions of `private` as one user, in the place of `UserCalls`."""

    connection: psycopg.Connection
    user_id: UUID
    clock: Clock
    client: None = None
    places: dict | None = None  # rev and last seq of the user's conversations after the last call

    def call(self, verb, /, **arguments):
        given = given_as({"me": self.user_id} | arguments)
        answer = self.run(f"select private.{verb}({', '.join(given)})")
        if "code" in answer:
            raise StoreUnavailable(answer["code"])
        return RpcResult(**answer)

    def do(self, verb, /, **arguments):
        return accepted(verb, self.call(verb, **arguments))

    def run(self, query):
        values = [self.clock.at.isoformat(), query, self.user_id]
        found = self.connection.execute("select test_clock.call(%s, %s, %s)", values).fetchone()[0]
        self.places = found["places"]
        return found["answer"]


def given_as(arguments):
    """The arguments of a call as SQL."""
    plain = {n: a.text if isinstance(a, Hidden) else a for n, a in arguments.items()}
    return [f"{n} => {literal(value)}" for n, value in to_jsonable_python(plain).items()]


def literal(value):
    return "null" if value is None else sql.quote(str(value))


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal: the class of its error, its reason, and the figures that the error tells."""

    error: str
    reason: str = ""
    figures: tuple[object, ...] = ()


class BothSides:
    """Two users and an admin in an SQL database and in tables, in one transaction of *connection*."""

    def __init__(self, connection, user_ids, make_store=InMemoryStore):
        self._opened = ExitStack()
        self._opened.enter_context(connection.transaction(force_rollback=True))
        self._connection = connection
        self.user_ids = user_ids
        self.clock = Clock()
        users = list(zip(user_ids, MOST_BYTES, strict=True))
        self._calls = [SqlCalls(connection, one, self.clock) for one in user_ids]
        self._sql = [
            SupabaseRows(calls, most) for calls, most in zip(self._calls, MOST_BYTES, strict=True)
        ]
        store = self._opened.enter_context(closing(make_store()))
        self._rules = [
            TablesRows(one, store.of(one), self.clock.now, most, LIMITS) for one, most in users
        ]
        self._begun = {}  # client turn ids by turn id, of both sides
        self.turn_ids = {}  # of both sides, by client turn id
        self.message_ids = [[] for _ in users]
        self._differ = False

    def close(self):
        self._opened.close()

    def rows(self, user):
        """The rows of a user by the rules: for what a history knows."""
        return self._rules[user]

    def do(self, user, act):
        """Call *act* with the rows of *user* on each side; return the outcome, which is the same."""
        by_sql = _outcome(act, self._sql[user])
        by_rules = _outcome(act, self._rules[user])
        self._differ = True
        assert by_sql == by_rules, f"{by_sql} by SQL, {by_rules} by the rules"
        assert self._calls[user].places == self._places_by_rules(user)
        self._differ = False
        self.clock.at += TICK
        return by_sql

    def begin(self, user, write):
        """Begin a turn; asked again, it is the turn of before."""
        ids = []

        def begin(rows):
            begun = rows.begin_turn(write)
            ids.append(begun.turn_id)
            return begun.reserved_micro, begun.reserved_tokens

        self.do(user, begin)
        if ids:
            client_turn_id = write.reservation.client_turn_id
            assert self.turn_ids.setdefault(client_turn_id, ids) == ids
            self._begun |= dict.fromkeys(ids, client_turn_id)

    def with_turn(self, user, client_turn_id, act):
        """Call *act* with the rows of *user* and the id of a turn on each side."""
        by_sql, by_rules = self.turn_ids[client_turn_id]
        return self.do(user, lambda rows: act(rows, by_rules if rows in self._rules else by_sql))

    def set_caps(self, user, changes):
        """Change limits of a user, as the admin does."""
        person = self.user_ids[user]
        self._calls[-1].do("set_caps", person=person, changes=Hidden.json(changes))

        def change(block):
            budget = block.get(BUDGETS, "budget") or Budget(**asdict(LIMITS))
            block.put(BUDGETS, replace(budget, **changes))

        self._rules[user].tables.run(change)

    def set_shared_cap(self, room):
        """Set the cap of all users, as the admin does, so that it leaves *room*, which may be negative; None: no cap."""
        budgets = [self.budget(user) for user in range(len(self.user_ids))]
        spent, reserved = (
            sum(getattr(one, name) for one in budgets) for name in ("month_spent", "reserved")
        )
        cap = None if room is None else max(0, spent + reserved + room)
        self._calls[-1].do("set_deployment_cap", new_monthly_cap_micro=cap)
        row = Deployment(monthly_cap_micro=cap, spent=spent, reserved=reserved)
        row = replace(row, month=self.clock.at.date().replace(day=1))
        self._rules[-1].tables.run(lambda block: block.put(DEPLOYMENT, row))

    def budget(self, user):
        """The budget of a user by the rules, with the windows of now."""
        return self._rules[user].tables.run(self._rules[user].budget)

    def sweep(self):
        """Sweep all users until nothing is due."""
        while self._calls[-1].run("select private.sweep_turns(10)")["more"]:
            pass
        for rows in self._rules:
            rows.sweep()

    def compare(self):
        """Fail unless all rows are the same, or a verb has differed."""
        if self._differ:
            return
        for user, rows in enumerate(self._rules):
            by_rules = self._read_by_rules(user, rows)
            by_sql = self._read_by_sql(self.user_ids[user])
            by_sql["budget"] = [
                self._opened_budget(
                    user, Budget(**dict(zip(_OF_BUDGETS, by_sql["budget"][0], strict=True)))
                )
            ]
            for table, rows_by_rules in by_rules.items():
                differing = set(by_sql[table]) ^ set(rows_by_rules)
                assert sorted(by_sql[table], key=repr) == sorted(rows_by_rules, key=repr), (
                    table,
                    differing,
                )

    def _places_by_rules(self, user):
        rows = self._rules[user].tables.run(lambda block: block.select(CONVERSATIONS))
        return {str(row.id): [row.rev, row.last_seq] for row in rows}

    def _conversations_by_rules(self, user):
        rows = self._rules[user]
        found = rows.tables.run(lambda block: block.select(CONVERSATIONS))
        return {one.id: _values(rows.conversation(one.id), _OF_CONVERSATIONS) for one in found}

    def _read_by_sql(self, user_id):
        """All rows of a user, by table, with client turn ids for turn ids."""
        with self._connection.pipeline():
            found = {
                table: self._connection.execute(query, [user_id])
                for table, query in _QUERIES.items()
            }
        return {table: cursor.fetchall() for table, cursor in found.items()}

    def _opened_budget(self, user, budget):
        """The budget with the windows of now; bytes are of a minute that has begun, and of a user who has a limit."""
        budget = (budget or Budget(**asdict(LIMITS))).opened(self.clock.now(), 0)
        return budget if MOST_BYTES[user] else replace(budget, bytes=0)

    def _read_by_rules(self, user, rows):
        turns, entries, budget = rows.tables.run(
            lambda block: (block.select(TURNS), block.select(LEDGER), block.get(BUDGETS, "budget"))
        )
        conversations = self._conversations_by_rules(user)
        stored = rows.tables.run(lambda block: block.select(MESSAGES))
        messages = rows.messages_by_id({one.id: one.conversation_id for one in stored})
        thoughts = {
            one.id: one.thoughts
            for chat in conversations
            for one in rows.thoughts(chat, self.message_ids[user])
        }
        receipts = [
            one
            for id_ in conversations
            for one in rows.receipts(id_, (t.id for t in turns if t.conversation_id == id_))
        ]
        documents = [
            one
            for kind in ("preferences", "space", "fact")
            for one in rows.documents(DocumentKind(kind))
        ]
        return {
            "conversations": list(conversations.values()),
            "messages": [self._with_turn(one, _OF_MESSAGES) for one in messages],
            "thoughts": list(thoughts.items()),
            "documents": [_values(one, _OF_DOCUMENTS) for one in documents],
            "search_texts": [
                _values(text, _OF_SEARCH_TEXTS) for text in rows.search_texts(conversations)
            ],
            "turns": [_values(one, _OF_TURNS) for one in turns],
            "receipts": [(one.client_turn_id, one.body) for one in receipts],
            "budget": [self._opened_budget(user, budget)],
            "ledger": [self._with_turn(one, _OF_LEDGER) for one in entries],
        }

    def _with_turn(self, row, columns):
        return self._begun.get(row.turn_id), *_values(row, columns)


def _outcome(act, rows):
    try:
        return act(rows)
    except StoreUnavailable:  # a misuse: SQL raises, and has no reason
        return Refused("StoreUnavailable")
    except AppError as error:
        figures = vars(error) | {"reason": ""}
        return Refused(type(error).__name__, error.reason, tuple(figures.values()))


def _columns(of, without=()):
    return tuple(one.name for one in fields(of) if one.name not in without)


def _values(row, columns):
    return tuple(getattr(row, name) for name in columns)


_OF_CONVERSATIONS = _columns(ConversationRow)
_OF_MESSAGES = _columns(MessageRow, ("turn_id",))
_OF_DOCUMENTS = _columns(DocumentRow)
_OF_SEARCH_TEXTS = _columns(SearchTextRow)
_OF_TURNS = _columns(Turn, ("id", "request"))
_OF_BUDGETS = _columns(Budget, ("counting",))  # of tables alone: SQL counts by loans
_OF_LEDGER = _columns(Entry, ("turn_id",))
_QUERIES = {
    "conversations": f"select {', '.join(_OF_CONVERSATIONS)} from public.conversations where user_id = %s",
    "messages": f"""
        select client_turn_id, {", ".join(f"messages.{name}" for name in _OF_MESSAGES)}
        from public.messages left join public.turns on turns.id = turn_id where messages.user_id = %s
    """,
    "thoughts": "select id, thoughts from public.messages where user_id = %s and thoughts is not null",
    "documents": f"select {', '.join(_OF_DOCUMENTS)} from public.documents where user_id = %s",
    "search_texts": f"select {', '.join(_OF_SEARCH_TEXTS)} from public.search_texts where user_id = %s",
    "turns": f"select {', '.join(_OF_TURNS)} from public.turns where user_id = %s".replace(
        "is_stop_requested", "stop_requested"
    ),
    "receipts": """
        select client_turn_id, body from public.receipts join public.turns on turns.id = turn_id
        where receipts.user_id = %s
    """,
    "budget": f"select {', '.join(_OF_BUDGETS)} from private.budgets where user_id = %s",
    "ledger": f"""
        select client_turn_id, {", ".join(f"ledger.{name}" for name in _OF_LEDGER)}
        from private.ledger join public.turns on turns.id = turn_id where ledger.user_id = %s
    """,
}
