"""Users of the database: by psycopg with the role and the claims that the API would set, or by supabase-py.

A call is written with the names of its SQL arguments; the proof is made as the app makes it.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

import httpx
import psycopg
from postgrest.exceptions import APIError
from supabase import Client, ClientOptions, create_client

from services.crypto import ServerProof, new_key, sha

HEAD = "h1." + "A" * 118
NOT_ALLOWED = "42501"
SIGNED_OUT = "PT401"
MISUSE = "PT400"


def sealed(seed):
    """Return a text in the form of a sealed one, which no test here opens."""
    return "p1.1." + hashlib.sha512(str(seed).encode()).hexdigest()


def sealed_octets(seed):
    """Return a token in the form of sealed octets, which no test here opens."""
    return "o" + sealed(seed)[1:]


class Refused(Exception):
    """An error of the database; *code* is its SQLSTATE or the API's code."""

    def __init__(self, code, said):
        super().__init__(f"{code}: {said}")
        self.code = code


def refusal(act):
    """Return the code of the error that *act* raises; None if it raises none."""
    try:
        act()
    except Refused as refused:
        return refused.code
    return None


@dataclass(frozen=True, slots=True)
class Sql:
    """Calls by psycopg: each in a transaction with the role and claims set, as the API does."""

    connection: psycopg.Connection
    role: str
    claims: str

    def call(self, function, arguments):
        names = ", ".join(f"{name} => %s" for name in arguments)
        with _refusals(), self.connection.transaction(), self.connection.pipeline():
            self._become()
            cursor = self.connection.execute(
                f"select * from public.{function}({names})", list(arguments.values())
            )
            rows = cursor.fetchall()
        columns = [column.name for column in cursor.description or ()]
        if columns == [function]:
            return rows[0][0]
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def rows(self, table):
        return [row for (row,) in self.read(f"select to_jsonb(t) from public.{table} t")]

    def read(self, query, *arguments):
        with _refusals(), self.connection.transaction():
            self._become()
            return self.connection.execute(query, arguments).fetchall()

    def write(self, table, verb, values, where):
        changes = ", ".join(f"{column} = %s" for column in values)
        test = " and ".join(f"{column} = %s" for column in where)
        marks = ", ".join(["%s"] * len(values))
        statement, arguments = {
            "insert": (
                f"insert into public.{table} ({', '.join(values)}) values ({marks})",
                values,
            ),
            "update": (f"update public.{table} set {changes} where {test}", values | where),
            "delete": (f"delete from public.{table} where {test}", where),
        }[verb]
        with _refusals(), self.connection.transaction():
            self._become()
            self.connection.execute(statement, list(arguments.values()))

    def _become(self):
        self.connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [self.role, self.claims],
        )


@dataclass(frozen=True, slots=True)
class Rest:
    """Calls by supabase-py, with the token of its client."""

    client: Client

    def call(self, function, arguments):
        with _refusals():
            return self.client.rpc(function, _plain(arguments)).execute().data

    def rows(self, table):
        with _refusals():
            return self.client.table(table).select("*").execute().data

    def write(self, table, verb, values, where):
        to = self.client.table(table)
        with _refusals():
            if verb == "insert":
                to.insert(_plain(values)).execute()
                return
            query = to.update(_plain(values)) if verb == "update" else to.delete()
            query.match(_plain(where)).execute()


class Contract:
    """The functions that the API exposes, read from the catalogue, and which of their arguments a proof covers."""

    def __init__(self, connection):
        self.parameters = {}  # for each function: the names and types of its parameters
        for name, names, types in connection.execute(
            "select proname, proargnames, proargtypes::regtype[]::text[] from pg_proc"
            " where pronamespace = 'public'::regnamespace order by proname"
        ):
            self.parameters[name] = dict(zip(names or (), types, strict=False))

    def is_proven(self, function):
        return "proof" in self.parameters[function]

    def is_for_the_server(self, function):
        return "made_at" in self.parameters[function]

    def arguments(self, function, given):
        """All arguments of a call but its proof: those *given*, else those of DEFAULTS, else null."""
        defaults = DEFAULTS | {"nonce": uuid4(), "new_id": uuid4()}
        unset = {name: defaults.get(name) for name in self.parameters[function]}
        return {n: v for n, v in (unset | given).items() if n not in ("made_at", "proof")}

    def fields(self, function, arguments):
        """Return the fields of the proof of this call, in order."""
        return [
            _field(kind, arguments[name])
            for name, kind in self.parameters[function].items()
            if name not in ("made_at", "proof")
        ]


def _field(kind, value):
    return (
        sha(value)
        if kind.endswith(("sealed", "sealed_octets", "sealed_head", "free_text"))
        else value
    )


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller of functions, with proofs from an app that trusts them: anon, or a user."""

    way: "Sql | Rest"
    contract: Contract
    proof: ServerProof
    id: UUID | None = None
    cookie: str = ""  # the hash of the cookie of the caller's app session

    def call(self, function, **arguments):
        return self.way.call(function, self.proven(function, arguments))

    def refusal(self, function, **arguments):
        """Return the code of the error that the call raises; None if it succeeds."""
        return refusal(lambda: self.call(function, **arguments))

    def proven(self, function, given):
        """Return all arguments with their proof: those *given*, else those of DEFAULTS."""
        arguments = self.contract.arguments(function, given)
        if not self.contract.is_proven(function):
            return arguments
        fields = self.contract.fields(function, arguments)
        if self.contract.is_for_the_server(function):
            made_at = given.get("made_at", int(time.time()))
            proof = self.proof.of_server(function, made_at, *fields)
            return arguments | {"made_at": made_at, "proof": proof} | given
        proof = self.proof.of_person(function, self.id or UUID(int=0), *fields)
        return arguments | {"proof": proof} | given

    def by(self, connection):
        """Return the same caller on another connection, because threads must not share one."""
        return replace(self, way=replace(self.way, connection=connection))

    def rows(self, table):
        return self.way.rows(table)

    def with_session(self, **given):
        """Return the same caller with an app session, without which a token reads nothing."""
        started = replace(self, cookie=new_key().hex())
        assert started.call("start_session", new_cookie_hash=started.cookie, **given)["ok"]
        return started

    def create_conversation(self):
        """Store an empty conversation by a turn that costs nothing and leaves no message."""
        conversation, free = uuid4(), {"prompt_micro": 0, "reply_micro": 0, "least_reply_micro": 0}
        begun = self.call(
            "begin_turn", **side_call(**free, conversation=conversation, created=created())
        )
        assert self.finish(begun["turn"], 0, outcome="failed", reply_body=None)["ok"]
        return conversation

    def change(self, conversation, **changes):
        return self.call(
            "change_conversation", conversation=conversation, changes=json.dumps(changes)
        )

    def begin(self, conversation, rev=0, **changes):
        return self.call("begin_turn", **beginning(conversation, rev, **changes))

    def checkpoint(self, turn, said=None, lease_seconds=30, thoughts=None):
        given = {"new_partial": said, "new_thoughts": thoughts, "lease_seconds": lease_seconds}
        return self.call("checkpoint_turn", turn=turn, **given)

    def finish(self, turn, rev, cost_micro=0, **changes):
        return self.call("finish_turn", **finish(turn, rev, cost_micro, **changes))


# the arguments of a call that a test does not give; all others are null
DEFAULTS = {
    "action": "password.set",
    "body": sealed("words"),
    "ends_others": True,
    "cost_micro": 0,
    "expected_rev": 0,
    "first_day": "2000-01-01",
    "for_seconds": 20,
    "has_factor": False,
    "idle": 3600,
    "kind": "text",
    "last_day": "2999-12-31",
    "last_seq": 2,
    "lease_seconds": 30,
    "least_reply_micro": 50,
    "least_reply_tokens": 50,
    "lifetime": 86400,
    "lookups": "[]",
    "model": "test-model",
    "model_name": "test-model",
    "new_device": sealed("device"),
    "new_generation": 2,
    "new_head": HEAD,
    "purpose": "reply",
    "new_rev": 1,
    "new_scope": "full",
    "new_sealed": sealed("credentials"),
    "new_tokens": sealed("refresh"),
    "new_uses": 0,
    "new_version": 1,
    "new_wants_factor": False,
    "new_wrapped": sealed("user key"),
    "fact_ids": "",
    "number": 1,
    "outcome": "complete",
    "piece_body": sealed_octets("piece"),
    "prompt_body": sealed("prompt"),
    "prompt_micro": 100,
    "prompt_tokens": 100,
    "replaced": "",
    "reply_body": sealed("reply"),
    "reply_micro": 1000,
    "reply_tokens": 1000,
    "seen_generation": 1,
    "seen_rev": 0,
    "used_cached": 5,
    "used_prompt": 10,
    "used_reply": 20,
}


def a_document(kind="fact", **changes):
    return {"new_kind": kind, "document": uuid4(), "new_body": sealed(kind)} | changes


def created(**changes):
    """Return a new conversation as the JSON that `store_conversation` reads."""
    sealed_texts = {"title": sealed("title"), "wrapped_key": sealed("key"), "head": HEAD}
    conversation = {"key_version": 1, "user_key_version": 1, "policy": "window", "policy_size": 20}
    return json.dumps(conversation | sealed_texts | changes, default=str)


def sign_up(lookup=None, **changes):
    """Return the arguments of a new pending sign-up, of an address with this *lookup*."""
    lookup = lookup or new_key().hex()
    row = {"row_id": uuid4(), "lookups": json.dumps([lookup]), "new_lookup": lookup}
    return row | {"seen_generation": None} | changes


def beginning(conversation, rev=0, **changes):
    own = {"client_turn": uuid4(), "prompt": uuid4()}
    return {"conversation": conversation, "expected_rev": rev} | own | changes


def side_call(conversation=None, **changes):
    """Return the arguments that begin a turn without a conversation, of which only ledger entries remain."""
    empty = dict.fromkeys(("prompt", "prompt_body", "new_head"))
    return beginning(conversation, None, **empty, purpose="title", **changes)


def finish(turn, rev, cost_micro=0, **changes):
    return {"turn": turn, "expected_rev": rev, "reply": uuid4(), "cost_micro": cost_micro} | changes


@dataclass(slots=True)
class World:
    """A database with our migrations, and ways for users to call it."""

    admin: psycopg.Connection  # a connection of a superuser, whom no policy restricts
    proof: ServerProof
    make_person: Callable[["World"], Caller]
    make_anon: Callable[["World"], Caller]
    sign_out: Callable[[Caller], None]
    contract: Contract = field(init=False)
    people: list[UUID | None] = field(init=False, default_factory=list)

    def __post_init__(self):
        self.contract = Contract(self.admin)

    def person(self):
        """Return a new signed-in user."""
        made = self.make_person(self).with_session(**self.sign_up())
        self.people.append(made.id)
        return made

    def sign_up(self, **changes):
        """Store a pending sign-up; return the arguments with which `start_session` begins its account."""
        row = sign_up(**changes)
        assert self.anon.call("put_sign_up", **row)["ok"]
        return {"pending": row["row_id"], "new_lookup": row["new_lookup"]}

    @property
    def anon(self):
        return self.make_anon(self)

    def make_admin(self, person):
        promotion = "update private.roles set role = 'admin' where user_id = %s"
        self.admin.execute(promotion, [person.id])
        return person

    def suspend(self, person):
        """Suspend a user without ending sessions and tokens."""
        suspension = "update private.roles set suspended_at = now() where user_id = %s"
        self.admin.execute(suspension, [person.id])

    def fill(self, conversation, first, last, *, is_due=False):
        """Store messages, each the parent of the next. *is_due*: they are deleted and due to be destroyed."""
        self.admin.execute(
            f"""
            insert into public.messages (id, conversation_id, user_id, seq, parent_id, role, body, destroy_at)
            select md5(n::text)::uuid, id, user_id, n, case when n > {first} then md5((n - 1)::text)::uuid end,
              'user', %s, case when {is_due} then now() - interval '1s' end
            from public.conversations, generate_series({first}, {last}) n where id = %s
            """,
            [sealed("message"), conversation],
        )

    def sweep(self):
        """Sweep until nothing is due, as the app does."""
        while self.anon.call("sweep_turns", at_most=10)["more"]:
            pass

    def one(self, query, *arguments):
        """Return the only value that *query* finds."""
        row = self.admin.execute(query, arguments).fetchone()
        return row[0] if len(row) == 1 else row

    def work(self, table, act):
        """Return how many rows of *table* `act` reads without an index, reads by an index, and updates.

        The counts of the current transaction may include earlier ones, which are not reported yet.
        """
        query = (
            "select seq_tup_read, idx_tup_fetch, n_tup_upd from pg_stat_xact_user_tables"
            " where schemaname || '.' || relname = %s"
        )
        with self.admin.transaction():
            before = self.one(query, table)
            act()
            return [
                after - first for after, first in zip(self.one(query, table), before, strict=True)
            ]

    def contents(self):
        """Return all rows by table, without the values that change with time alone."""
        tables = self.admin.execute(
            "select oid::regclass::text from pg_class where relkind = 'r'"
            " and relnamespace in ('public'::regnamespace, 'private'::regnamespace)"
        ).fetchall()
        return {
            table: self.one(
                f"select string_agg((to_jsonb(t) - 'seen_at')::text, E'\n' order by t::text) from {table} t"
            )
            for (table,) in tables
            if table not in ("private.seen_nonces", "private.throttles")
        }


def psycopg_world(admin, proof):
    """Return a world of users who were inserted by SQL and call the database as the API would let them."""

    def make_person(world):
        user = uuid4()
        insertion = "insert into auth.users (id, email) values (%s, %s)"
        admin.execute(insertion, [user, f"{user}@daybook.test"])
        return with_token(world, user)

    def make_anon(world):
        return Caller(Sql(admin, "anon", '{"role": "anon"}'), world.contract, proof)

    def sign_out(person):
        admin.execute("delete from auth.sessions where user_id = %s", [person.id])

    return World(admin, proof, make_person, make_anon, sign_out)


def with_token(world, user):
    """Return a caller with an access token of a new session of Supabase Auth."""
    session = world.one("insert into auth.sessions (user_id) values (%s) returning id", user)
    claims = {"sub": str(user), "session_id": str(session), "role": "authenticated"}
    way = Sql(world.admin, "authenticated", json.dumps(claims))
    return Caller(way, world.contract, world.proof, user)


def client_to(url, publishable_key, transport):
    """Return a client that is not signed in."""
    options = ClientOptions(
        auto_refresh_token=False,
        persist_session=False,
        httpx_client=httpx.Client(transport=transport, timeout=30),
    )
    return create_client(url, publishable_key, options)


def rest_world(admin, proof, make_client):
    """Return a world of users who sign up through the API and have real tokens."""

    def make_person(world):
        client = make_client()
        reply = client.auth.sign_up(
            {"email": f"{uuid4()}@daybook.test", "password": "correct horse battery"}
        )
        return Caller(Rest(client), world.contract, proof, UUID(reply.user.id))

    def make_anon(world):
        return Caller(Rest(make_client()), world.contract, proof)

    def sign_out(person):
        """Sign out at the server; the client keeps its token."""
        held = person.way.client.auth.get_session()
        person.way.client.auth.admin.sign_out(held.access_token, "local")

    return World(admin, proof, make_person, make_anon, sign_out)


def _plain(arguments):
    return {
        name: str(value) if isinstance(value, UUID) else value for name, value in arguments.items()
    }


@contextlib.contextmanager
def _refusals():
    try:
        yield
    except psycopg.Error as error:
        raise Refused(error.sqlstate, str(error)) from error
    except (APIError, httpx.HTTPError) as error:
        raise Refused(getattr(error, "code", None), str(error)) from error
