"""People at the database: by psycopg in the role and with the claims that the API would set, or by supabase-py.

A call is written with the names of its SQL arguments; the proof is made as the app makes it.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

import httpx
import psycopg
from postgrest.exceptions import APIError
from psycopg import sql
from supabase import Client, ClientOptions, create_client

from services.crypto import ServerProof, new_key, sha

HEAD = "h1." + "A" * 118
NOT_ALLOWED = "42501"
SIGNED_OUT = "PT401"
MISUSE = "PT400"


def sealed(seed):
    """A token that looks like one: nobody here opens it."""
    return "p1.1." + hashlib.sha512(str(seed).encode()).hexdigest()


class Refused(Exception):
    """The database raised; *code* is its SQLSTATE or the API's."""

    def __init__(self, code, said):
        super().__init__(f"{code}: {said}")
        self.code = code


def refusal(act):
    """The code of the refusal that *act* ends in; None if there is none."""
    try:
        act()
    except Refused as refused:
        return refused.code
    return None


@dataclass(frozen=True, slots=True)
class Sql:
    """By psycopg: each call a transaction, with role and claims set in it, as the API does."""

    connection: psycopg.Connection
    role: str
    claims: str

    def call(self, function, arguments):
        names = ", ".join(f"{name} => %s" for name in arguments)
        with _psycopg_refusals(), self.connection.transaction(), self.connection.pipeline():
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
        with _psycopg_refusals(), self.connection.transaction():
            self._become()
            found = self.connection.execute(f"select to_jsonb(t) from public.{table} t")
            return [row[0] for row in found]

    def read(self, query, *arguments):
        with _psycopg_refusals(), self.connection.transaction():
            self._become()
            return self.connection.execute(query, arguments).fetchall()

    def write(self, table, verb, values, where):
        columns = sql.SQL(", ").join(map(sql.Identifier, values))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(values))
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(c)) for c in values)
        test = sql.SQL(" and ").join(sql.SQL("{} = %s").format(sql.Identifier(c)) for c in where)
        to = sql.Identifier("public", table)
        statement, arguments = {
            "insert": (
                sql.SQL("insert into {} ({}) values ({})").format(to, columns, places),
                values,
            ),
            "update": (
                sql.SQL("update {} set {} where {}").format(to, changes, test),
                values | where,
            ),
            "delete": (sql.SQL("delete from {} where {}").format(to, test), where),
        }[verb]
        with _psycopg_refusals(), self.connection.transaction():
            self._become()
            self.connection.execute(statement, list(arguments.values()))

    def _become(self):
        self.connection.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [self.role, self.claims],
        )


@dataclass(frozen=True, slots=True)
class Rest:
    """By supabase-py, with whatever token its client carries."""

    client: Client

    def call(self, function, arguments):
        with _rest_refusals():
            return self.client.rpc(function, _plain(arguments)).execute().data

    def rows(self, table):
        with _rest_refusals():
            return self.client.table(table).select("*").execute().data

    def write(self, table, verb, values, where):
        to = self.client.table(table)
        with _rest_refusals():
            if verb == "insert":
                to.insert(_plain(values)).execute()
                return
            query = to.update(_plain(values)) if verb == "update" else to.delete()
            query.match(_plain(where)).execute()


class Contract:
    """The functions that the API exposes, read from the catalogue, and what of them is proven."""

    def __init__(self, connection):
        self.parameters = {}  # of each function: names and types
        for name, names, types in connection.execute(
            "select proname, proargnames, proargtypes::regtype[]::text[] from pg_proc"
            " where pronamespace = 'public'::regnamespace order by proname"
        ):
            self.parameters[name] = dict(zip(names or (), types, strict=False))

    def is_proven(self, function):
        return "proof" in self.parameters[function]

    def is_for_the_server(self, function):
        return "made_at" in self.parameters[function]

    def fields(self, function, arguments):
        """What a proof of this call covers, in order."""
        return [
            _field(name, kind, arguments[name])
            for name, kind in self.parameters[function].items()
            if name not in ("made_at", "proof")
        ]


_FREE_TEXT = {
    "changes",
    "model_name",
    "created",
    "new_derivation",
    "doomed",
    "noted",
    "restored",
    "buckets",
    "returned",
}  # proven as their sha256, like what is sealed


def _field(name, kind, value):
    if kind.endswith(("sealed", "sealed_head")) or name in _FREE_TEXT:
        return sha(value)
    if value is not None and kind.startswith("timestamp"):
        return int(datetime.fromisoformat(value).timestamp())
    return value


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls functions, with proofs from an app that believes them: anon, or a person."""

    way: "Sql | Rest"
    contract: Contract
    proof: ServerProof
    id: UUID | None = None
    cookie: str = ""  # the hash of their app session's

    def call(self, function, **arguments):
        return self.way.call(function, self.proven(function, arguments))

    def refusal(self, function, **arguments):
        """The code of the error that the call ends in; None if it is answered."""
        return refusal(lambda: self.call(function, **arguments))

    def proven(self, function, arguments):
        """*arguments* with the proof that belongs to them, unless they bring their own."""
        if "proof" in arguments or not self.contract.is_proven(function):
            return arguments
        if self.contract.is_for_the_server(function):
            made_at = arguments.get("made_at", int(time.time()))
            fields = self.contract.fields(function, arguments)
            proof = self.proof.of_server(function, made_at, *fields)
            return arguments | {"made_at": made_at, "proof": proof}
        fields = self.contract.fields(function, arguments)
        return arguments | {
            "proof": self.proof.of_person(function, self.id or UUID(int=0), *fields)
        }

    def by(self, connection):
        """The same, by another connection: threads must not share one."""
        assert isinstance(self.way, Sql)
        return replace(self, way=replace(self.way, connection=connection))

    def rows(self, table):
        return self.way.rows(table)

    def with_session(self):
        """The same with an app session, without which a token reads nothing."""
        started = replace(self, cookie=new_key().hex())
        assert started.call("start_session", **session(started.cookie))["ok"]
        return started

    # the turns of a conversation, with everything that a test does not care about filled in

    def create_conversation(self, **changes):
        arguments = creation(**changes)
        assert self.call("create_conversation", **arguments) == {"ok": True}
        return arguments["conversation"]

    def change(self, conversation, **changes):
        return self.call(
            "change_conversation", conversation=conversation, changes=json.dumps(changes)
        )

    def begin(self, conversation, rev=0, **changes):
        return self.call("begin_turn", **beginning(conversation, rev, **changes))

    def checkpoint(self, turn, said=None, lease_seconds=30, thoughts=None):
        return self.call(
            "checkpoint_turn",
            turn=turn,
            said=said,
            thoughts=thoughts,
            lease_seconds=lease_seconds,
        )

    def finish(self, turn, rev, cost_micro=0, **changes):
        return self.call("finish_turn", **finish(turn, rev, cost_micro, **changes))


def session(cookie):
    return {
        "new_cookie_hash": cookie,
        "new_tokens": sealed("refresh"),
        "new_device": sealed("device"),
        "idle": 3600,
        "lifetime": 86400,
        "returned": None,
    }


def user_key(**changes):
    return {
        "new_version": 1,
        "new_mode": "server",
        "new_wrapped": sealed("user key"),
        "new_derivation": None,
        "replaces": None,
    } | changes


def a_document(kind="fact", **changes):
    return {
        "new_kind": kind,
        "document": uuid4(),
        "conversation": None,
        "space": None,
        "seen_rev": 0,
        "new_rev": 1,
        "new_body": sealed(kind),
        "source": None,
        "cuts": None,
    } | changes


def creation(**changes):
    return {"conversation": uuid4(), "created": created(**changes)}


def created(**changes):
    """A new conversation as `store_conversation` reads it."""
    conversation = {
        "title": sealed("title"),
        "wrapped_key": sealed("key"),
        "user_key_version": 1,
        "head": HEAD,
        "policy": "window",
        "policy_size": 20,
    }
    return json.dumps(conversation | changes, default=str)


def beginning(conversation, rev=0, **changes):
    return {
        "client_turn": uuid4(),
        "conversation": conversation,
        "expected_rev": rev,
        "prompt": uuid4(),
        "parent": None,
        "prompt_body": sealed("prompt"),
        "body_key_version": 1,
        "new_head": HEAD,
        "new_start_seq": None,
        "receipt_body": None,
        "new_purpose": "reply",
        "model_name": "test-model",
        "prompt_micro": 100,
        "reply_micro": 1000,
        "least_reply_micro": 50,
        "lease_seconds": 30,
        "created": None,
    } | changes


def side_call(**changes):
    """The beginning of a turn that leaves nothing but the ledger."""
    empty = {"prompt": None, "prompt_body": None, "new_head": None, "new_purpose": "title"}
    return beginning(None, None, **(empty | changes))


def finish(turn, rev, cost_micro=0, **changes):
    return {
        "turn": turn,
        "outcome": "complete",
        "expected_rev": rev,
        "reply": uuid4(),
        "reply_body": sealed("reply"),
        "reply_thoughts": None,
        "body_key_version": 1,
        "new_head": HEAD,
        "used_in": 10,
        "used_out": 20,
        "used_cached": 5,
        "cost_micro": cost_micro,
    } | changes


@dataclass(slots=True)
class World:
    """A database with our migrations, and ways for people to reach it."""

    admin: psycopg.Connection  # a superuser's: sees past every policy
    proof: ServerProof
    make_person: Callable[["World"], Caller]
    make_anon: Callable[["World"], Caller]
    sign_out: Callable[[Caller], None]
    contract: Contract = field(init=False)
    people: list[UUID | None] = field(init=False, default_factory=list)

    def __post_init__(self):
        self.contract = Contract(self.admin)

    def person(self):
        """Somebody new, signed in."""
        made = self.make_person(self).with_session()
        self.people.append(made.id)
        return made

    @property
    def anon(self):
        return self.make_anon(self)

    def make_admin(self, person):
        self.admin.execute(
            "update private.roles set role = 'admin' where user_id = %s", [person.id]
        )
        return person

    def sweep(self):
        """Sweep until nothing is due, as the app does."""
        while self.anon.call("sweep_turns", at_most=10)["more"]:
            pass

    def one(self, query, *arguments):
        """The only value that *query* finds."""
        row = self.admin.execute(query, arguments).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def contents(self):
        """All rows there are, by table; what time alone changes left out."""
        tables = self.admin.execute(
            "select oid::regclass::text from pg_class where relkind = 'r'"
            " and relnamespace in ('public'::regnamespace, 'private'::regnamespace)"
        ).fetchall()
        return {
            table: self.one(
                f"select string_agg((to_jsonb(t) - 'seen_at')::text, E'\n' order by t::text) from {table} t"
            )
            for (table,) in tables
            if table not in ("private.seen_proofs", "private.throttles")
        }


def psycopg_world(admin, proof):
    """People made by hand, who reach the database as the API would let them."""

    def make_person(world):
        user = uuid4()
        admin.execute(
            "insert into auth.users (id, email) values (%s, %s)", [user, f"{user}@daybook.test"]
        )
        return with_token(world, user)

    def make_anon(world):
        return Caller(Sql(admin, "anon", '{"role": "anon"}'), world.contract, proof)

    def sign_out(person):
        admin.execute("delete from auth.sessions where user_id = %s", [person.id])

    return World(admin, proof, make_person, make_anon, sign_out)


def with_token(world, user):
    """Somebody with an access token of a new session of Supabase's."""
    session = world.one("insert into auth.sessions (user_id) values (%s) returning id", user)
    claims = {"sub": str(user), "session_id": str(session), "role": "authenticated"}
    way = Sql(world.admin, "authenticated", json.dumps(claims))
    return Caller(way, world.contract, world.proof, user)


def client_to(url, publishable_key, transport):
    """A client of its own, signed in as nobody."""
    options = ClientOptions(
        auto_refresh_token=False,
        persist_session=False,
        httpx_client=httpx.Client(transport=transport, timeout=30),
    )
    return create_client(url, publishable_key, options)


def rest_world(admin, proof, make_client):
    """People who sign up through the API and hold real tokens."""

    def make_person(world):
        client = make_client()
        reply = client.auth.sign_up(
            {"email": f"{uuid4()}@daybook.test", "password": "correct horse battery"}
        )
        assert reply.user is not None
        return Caller(Rest(client), world.contract, proof, UUID(reply.user.id))

    def make_anon(world):
        return Caller(Rest(make_client()), world.contract, proof)

    def sign_out(person):
        """At the server; the client goes on with the token it has."""
        assert isinstance(person.way, Rest)
        held = person.way.client.auth.get_session()
        assert held is not None
        person.way.client.auth.admin.sign_out(held.access_token, "local")

    return World(admin, proof, make_person, make_anon, sign_out)


def _plain(arguments):
    return {
        name: str(value) if isinstance(value, UUID) else value for name, value in arguments.items()
    }


@contextlib.contextmanager
def _psycopg_refusals():
    try:
        yield
    except psycopg.Error as error:
        raise Refused(error.sqlstate, str(error)) from error


@contextlib.contextmanager
def _rest_refusals():
    try:
        yield
    except (APIError, httpx.HTTPError) as error:
        raise Refused(getattr(error, "code", None), str(error)) from error
