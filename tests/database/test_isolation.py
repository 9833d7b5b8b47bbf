"""Two people side by side, a stranger, and somebody with a stolen token: rows are compared, not status.

Everything here holds for Postgres with hosted's grants and for the embedded API, which opens every table of
`public` to everybody and leaves the policies and functions to hold.
"""

import json
import time
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from postgrest.exceptions import APIError

from services.crypto import new_key
from tests.database.people import (
    HEAD,
    NOT_ALLOWED,
    SIGNED_OUT,
    Caller,
    Refused,
    Rest,
    a_document,
    beginning,
    created,
    creation,
    finish,
    refusal,
    sealed,
    session,
    user_key,
)

SECRET = "the-cat-is-grey"


@dataclass(frozen=True, slots=True)
class Owned:
    """One person with a row in every table."""

    owner: Caller
    conversation: UUID
    discarded: UUID
    prompt: UUID
    turn: str
    fact: UUID
    space: UUID


def own_everything(world):
    owner = world.person()
    assert owner.call("put_user_key", **user_key())["ok"]
    conversation, prompt, fact, space = owner.create_conversation(), uuid4(), uuid4(), uuid4()
    begun = owner.begin(
        conversation, prompt=prompt, receipt_body=sealed("receipt"), lease_seconds=600
    )
    owner.checkpoint(begun["turn"], sealed("so far"), 600)
    for document in (
        a_document(document=fact, conversation=conversation),
        a_document("space", document=space),
        a_document("preferences", document=owner.id),
    ):
        assert owner.call("put_document", **document)["ok"]
    discarded = owner.create_conversation()
    owner.call("discard_conversation", conversation=discarded, for_seconds=3600)
    return Owned(owner, conversation, discarded, prompt, begun["turn"], fact, space)


def person_calls(own):
    """A call of every function for people that would do something to *own*, if it were allowed."""
    return {
        "begin_turn": beginning(own.conversation, 1, parent=own.prompt),
        "change_conversation": {
            "conversation": own.conversation,
            "changes": json.dumps({"title": sealed("other"), "read_seq": 2, "policy": "full"}),
        },
        "checkpoint_turn": {
            "turn": own.turn,
            "said": sealed("more"),
            "thoughts": sealed("hm"),
            "lease_seconds": 5,
        },
        "create_conversation": creation() | {"conversation": own.conversation},
        "delete_account": {},
        "delete_conversation": {"conversation": own.conversation},
        "delete_document": {"document": own.fact},
        "delete_facts": {},
        "discard_conversation": {"conversation": own.conversation, "for_seconds": 20},
        "discard_messages": {
            "conversation": own.conversation,
            "expected_rev": 1,
            "doomed": str(own.prompt),
            "noted": str(own.fact),
            "kept_summary": sealed("summary"),
            "new_head": HEAD,
            "for_seconds": 20,
        },
        "edit_reply": {
            "conversation": own.conversation,
            "expected_rev": 1,
            "original": own.prompt,
            "reply": uuid4(),
            "reply_body": sealed("edited"),
            "body_key_version": 1,
            "new_head": HEAD,
        },
        "finish_turn": finish(own.turn, 1, 7),
        "my_account": {},
        "my_sessions": {},
        "put_document": a_document(
            document=own.fact,
            conversation=own.conversation,
            seen_rev=1,
            new_rev=2,
            new_body=sealed("other"),
            source=own.conversation,
            cuts=0,
        ),
        "put_user_key": user_key(new_version=2),
        "read_conversation": {"conversation": own.conversation, "after_seq": 0},
        "restore_conversation": {"conversation": own.discarded},
        "restore_messages": {
            "conversation": own.conversation,
            "expected_rev": 1,
            "restored": str(own.prompt),
            "new_head": HEAD,
        },
        "revoke_sessions": {"one_session": None},
        "set_caps": {
            "person": own.owner.id,
            "new_daily_cap_micro": 5,
            "new_monthly_cap_micro": 5,
            "new_max_open": 5,
            "new_max_per_minute": 5,
        },
        "set_deployment_cap": {"new_monthly_cap_micro": 5},
        "set_role": {"person": own.owner.id, "new_role": "admin"},
        "start_session": session(new_key().hex()) | {"returned": json.dumps([new_key().hex()])},
        "stop_turn": {"turn": own.turn},
        "suspend": {"person": own.owner.id, "suspended": True},
        "usage_by_person": {"after": uuid4()},
    }


def server_calls(own):
    """A call of every function for the app itself."""
    return {
        "end_session": {"cookie": own.owner.cookie},
        "lease_refresh": {"cookie": own.owner.cookie, "seen_generation": 0, "lease_seconds": 1},
        "open_session": {"cookie": own.owner.cookie},
        "root_key_versions": {},
        "row_bound": {},
        "store_tokens": {
            "cookie": own.owner.cookie,
            "seen_generation": 0,
            "new_tokens": sealed("another"),
        },
        "sweep_turns": {"at_most": 10},
        "throttle": {
            "buckets": json.dumps([{"bucket": new_key().hex(), "at_most": 5, "seconds": 60}]),
            "nonce": uuid4(),
        },
    }


def documents(own):
    """A change of every document of *own*."""
    change = {"seen_rev": 1, "new_rev": 2}
    of_conversation = {"document": own.conversation, "conversation": own.conversation}
    return (
        a_document(document=own.fact, conversation=own.conversation, **change),
        a_document("space", document=own.space, **change),
        a_document("preferences", document=own.owner.id, **change),
        a_document("instructions", **of_conversation),
        a_document("summary", **of_conversation, cuts=0),
    )


FOR_EVERYBODY = {
    "my_account",
    "my_sessions",
    "read_conversation",
}  # no proof: they show people only what is theirs
FOR_ADMINS = {"set_caps", "set_deployment_cap", "set_role", "suspend", "usage_by_person"}


@pytest.fixture
def own(either_world):
    return own_everything(either_world)


@pytest.fixture
def mallory(either_world):
    return either_world.person()


@pytest.fixture
def unchanged(either_world):
    """Call it to make sure that no row has changed since the test began."""
    before = either_world.contents()

    def check():
        assert either_world.contents() == before

    return check


def tables(world):
    found = world.admin.execute(
        "select tablename from pg_tables where schemaname = 'public' order by 1"
    )
    return [row[0] for row in found]


def test_the_calls_below_are_all_there_are(either_world, own):
    calls = person_calls(own) | server_calls(own)

    assert set(calls) == set(either_world.contract.parameters)
    assert {f for f in calls if not either_world.contract.is_proven(f)} == FOR_EVERYBODY
    assert {f for f in calls if either_world.contract.is_for_the_server(f)} == set(
        server_calls(own)
    )


def test_everybody_reads_their_own_rows_and_nobody_elses(either_world, own, mallory):
    anon = either_world.anon
    own_everything(either_world)

    for table in tables(either_world):
        mine = own.owner.rows(table)
        assert mine, table
        assert {row["user_id"] for row in mine} == {str(own.owner.id)}, table
        assert {row["user_id"] for row in mallory.rows(table)} <= {str(mallory.id)}, table
        assert (
            refusal(lambda table=table: anon.rows(table)) == NOT_ALLOWED or anon.rows(table) == []
        )


def test_nobody_writes_a_table_directly(either_world, own, mallory, unchanged):
    mine = {"user_id": own.owner.id}
    new_conversation = {"id": uuid4(), "wrapped_key": sealed("k"), "head": HEAD}

    for caller in (own.owner, mallory, either_world.anon):
        for table in tables(either_world):
            refusal(lambda c=caller, t=table: c.way.write(t, "insert", mine, {}))
            refusal(
                lambda c=caller, t=table: c.way.write(t, "update", {"user_id": mallory.id}, mine)
            )
            refusal(lambda c=caller, t=table: c.way.write(t, "delete", {}, mine))
        refusal(
            lambda c=caller: c.way.write("conversations", "insert", new_conversation | mine, {})
        )
        refusal(lambda c=caller: c.way.write("conversations", "update", {"rev": 99}, mine))
        refusal(lambda c=caller: c.way.write("turns", "update", {"reserved_micro": 0}, mine))

    unchanged()


def test_no_function_touches_another_persons_rows_even_with_a_proof(either_world, own, mallory):
    mallory.begin(mallory.create_conversation())  # money of their own to settle with
    before = rows_of(either_world, own.owner)

    for function, arguments in person_calls(own).items():
        if function != "delete_account":  # it takes no id, and would end this test
            refusal(lambda f=function, a=arguments: mallory.call(f, **a))
    for arguments in documents(own):
        refusal(lambda a=arguments: mallory.call("put_document", **a))
        refusal(lambda a=arguments: mallory.call("put_document", **a | {"seen_rev": 0}))
    mallory.call("delete_document", document=own.space)

    assert rows_of(either_world, own.owner) == before
    assert all(str(row["user_id"]) == str(mallory.id) for row in mallory.rows("conversations"))


def test_conversation_of_another_user_is_read_as_missing(own, mallory):
    reading = {"conversation": own.conversation, "after_seq": 0}

    mine = own.owner.call("read_conversation", **reading)

    assert mine["conversation"]["id"] == str(own.conversation)
    assert [message["id"] for message in mine["messages"]] == [str(own.prompt)]
    assert mine["newest_turn"]["state"] == "streaming"
    assert mallory.call("read_conversation", **reading) is None


def test_another_persons_id_is_answered_like_an_unknown_one(own, mallory):
    missing = Owned(own.owner, uuid4(), uuid4(), uuid4(), str(uuid4()), uuid4(), uuid4())
    taking_ids = (
        set(person_calls(own))
        - FOR_EVERYBODY
        - FOR_ADMINS
        - {
            "create_conversation",  # the id is the caller's own idea; the app makes them at random
            "delete_account",
            "delete_facts",
            "put_user_key",
            "revoke_sessions",
            "start_session",
        }
    )

    for function in taking_ids:
        theirs = mallory.call(function, **person_calls(own)[function])
        nobodys = mallory.call(function, **person_calls(missing)[function])
        assert theirs == nobodys, function
        assert theirs["ok"] is False, function
    for mine, missing_one in zip(documents(own), documents(missing), strict=True):
        if mine["new_kind"] != "preferences":  # which have no other id than their user's
            theirs = mallory.call("put_document", **mine)
            assert theirs == mallory.call("put_document", **missing_one)
            assert theirs["ok"] is False, mine
    for function, arguments in {
        "put_document": a_document(conversation=own.conversation),
        "put_document in a space": a_document(space=own.space),
        "put_document from messages": a_document(source=own.conversation, cuts=0),
    }.items():
        answer = mallory.call(function.split()[0], **arguments)
        assert answer == {"ok": False, "reason": "not_found"}, function
    created_there = mallory.call("create_conversation", **creation(space_id=own.space))
    begun_there = mallory.begin(uuid4(), created=created(space_id=own.space))
    assert created_there["reason"] == begun_there["reason"] == "no_space"
    moved = mallory.change(mallory.create_conversation(), space_id=str(own.space))
    assert moved == {"ok": False, "reason": "no_space"}


def test_without_a_proof_a_token_alone_changes_nothing(either_world, own, unchanged):
    for function, arguments in person_calls(own).items():
        if function in FOR_EVERYBODY:
            continue
        for proof in (None, "", "0" * 64):
            assert own.owner.refusal(function, **arguments, proof=proof) == NOT_ALLOWED, function
    for function, arguments in server_calls(own).items():
        for proof in (None, "", "0" * 64):
            arguments = arguments | {"made_at": int(time.time()), "proof": proof}
            assert either_world.anon.refusal(function, **arguments) == NOT_ALLOWED, function

    unchanged()


def test_a_proof_is_good_for_exactly_its_arguments(either_world, own, unchanged):
    """Another amount, another body, another anything: one argument at a time."""
    either_world.make_admin(own.owner)
    anon = either_world.anon
    calls = [(own.owner, f, a) for f, a in person_calls(own).items() if f not in FOR_EVERYBODY]
    calls += [(anon, f, a) for f, a in server_calls(own).items()]
    unchanged_since = either_world.contents()

    for caller, function, arguments in calls:
        for name, value in arguments.items():
            proven = caller.proven(function, arguments) | {name: another(value, name)}
            assert caller.refusal(function, **proven) == NOT_ALLOWED, (function, name)

    assert either_world.contents() == unchanged_since


def test_a_proof_is_good_for_its_person_only(own, mallory):
    for function, arguments in person_calls(own).items():
        if function not in FOR_EVERYBODY | FOR_ADMINS:
            stolen = own.owner.proven(function, arguments)
            assert mallory.refusal(function, **stolen) == NOT_ALLOWED, function


def test_a_proof_of_the_app_is_good_for_a_minute(either_world, own):
    for function, arguments in server_calls(own).items():
        for made_at in (int(time.time()) - 62, int(time.time()) + 62):
            assert (
                either_world.anon.refusal(function, **arguments, made_at=made_at) == NOT_ALLOWED
            ), function


def test_people_do_not_call_the_apps_functions_nor_anon_theirs(either_world, own, unchanged):
    for function, arguments in server_calls(own).items():
        assert own.owner.refusal(function, **arguments) == NOT_ALLOWED, function
    for function, arguments in person_calls(own).items():
        as_owner = own.owner.proven(function, arguments)
        assert either_world.anon.refusal(function, **as_owner) == NOT_ALLOWED, function

    unchanged()


def test_only_admins_administer(either_world, own, unchanged):
    for function in FOR_ADMINS:
        assert own.owner.refusal(function, **person_calls(own)[function]) == NOT_ALLOWED, function

    unchanged()


@pytest.mark.parametrize("how", ["signed out", "suspended", "without an app session"])
def test_a_token_is_worth_nothing_from_the_next_statement(either_world, own, how):
    if how == "signed out":
        either_world.sign_out(own.owner)
    elif how == "suspended":
        either_world.admin.execute(
            "update private.roles set suspended_at = now() where user_id = %s", [own.owner.id]
        )
    else:  # as after a recovery at Supabase Auth
        either_world.admin.execute(
            "delete from private.app_sessions where user_id = %s", [own.owner.id]
        )
    before = either_world.contents()

    for table in tables(either_world):
        assert own.owner.rows(table) == [], table
    for function, arguments in person_calls(own).items():
        if function != "start_session":  # one for each token: see test_sessions.py
            assert own.owner.refusal(function, **arguments) == SIGNED_OUT, function
    assert either_world.anon.call("open_session", cookie=own.owner.cookie)["ok"] is False
    assert either_world.contents() == before


def test_readable_text_is_refused_wherever_sealed_text_belongs_and_not_repeated(
    either_world, own, unchanged
):
    for function, arguments in person_calls(own).items():
        for name in arguments:
            if "sealed" in either_world.contract.parameters[function][name]:
                with pytest.raises(Refused) as refused:
                    own.owner.call(function, **arguments | {name: SECRET})
                assert SECRET not in str(refused.value), (function, name)

    unchanged()


@pytest.mark.parametrize("schema", ["private", "auth", "supabase_migrations"])
def test_the_api_reaches_no_other_schema(api_world, schema):
    way = api_world.person().way
    assert isinstance(way, Rest)

    with pytest.raises(APIError) as refused:
        way.client.schema(schema).table("budgets").select("*").execute()

    assert refused.value.code == "PGRST106"


def rows_of(world, person):
    """What the database holds of one person, by table."""
    found = world.admin.execute(
        "select attrelid::regclass::text from pg_attribute join pg_class on pg_class.oid = attrelid"
        " where attname = 'user_id' and relkind = 'r'"
        " and relnamespace in ('public'::regnamespace, 'private'::regnamespace)"
    ).fetchall()
    return {
        table: world.one(
            f"select string_agg(to_jsonb(t)::text, E'\n' order by t::text) from {table} t where user_id = %s",
            person.id,
        )
        for (table,) in found
    }


def another(value, name):
    """A value of the same kind that is not *value*."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case UUID():
            return uuid4()
        case str() if value.startswith(("p1.", "h1.")):
            return value[:-1] + ("B" if value[-1] == "A" else "A")
        case str() if len(value) in (36, 64):  # an id or a hash
            return ("1" if value[0] == "0" else "0") + value[1:]
        case str():
            return {"reply": "title", "complete": "failed"}.get(value, "user")
        case _:
            return _FILLED.get(name, 1)


_FILLED = {
    "parent": "6f1c7b1e-2c4b-4c9e-8f0a-3d1f5a7b9c11",
    "receipt_body": sealed("a receipt"),
    "reply_thoughts": sealed("thoughts"),
    "new_derivation": "{}",
    "replaces": sealed("another key"),
    "created": created(title=sealed("another title")),
    "new_instructions": sealed("instructions"),
    "space": "6f1c7b1e-2c4b-4c9e-8f0a-3d1f5a7b9c11",
    "one_session": "6f1c7b1e-2c4b-4c9e-8f0a-3d1f5a7b9c11",
}
