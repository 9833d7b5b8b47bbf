"""Two users, a stranger and a stolen token: the tests compare rows, not status codes.

All tests run on Postgres with the grants of hosted Supabase, and on the embedded API, which grants all rights on the tables of
`public` to every role, so that only policies and functions protect them.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
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
    a_document,
    beginning,
    created,
    finish,
    refusal,
    sealed,
    sealed_octets,
)

SECRET = "the-cat-is-grey"


@dataclass(frozen=True, slots=True)
class Owned:
    """A user with a row in every table."""

    owner: Caller
    conversation: UUID
    discarded: UUID
    prompt: UUID
    turn: str
    fact: UUID
    space: UUID
    notice: UUID


def own_everything(world):
    owner = world.person()
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
    piece = {"conversation": conversation, "message": uuid4(), "attachment": uuid4()}
    assert owner.call("put_piece", **piece)["ok"]
    assert owner.call("put_search_text", conversation=conversation, cuts=0)["ok"]
    notice = {"person": owner.id, "new_id": uuid4(), "new_kind": "operator", "throttles": "[]"}
    assert world.anon.call("add_notice", **notice)["ok"]
    discarded = owner.create_conversation()
    owner.call("discard_conversation", conversation=discarded, for_seconds=3600)
    return Owned(
        owner, conversation, discarded, prompt, begun["turn"], fact, space, notice["new_id"]
    )


def calls(own):
    """Return a call of every function that would change rows of *own* if it were allowed."""
    given = (
        beginning(own.conversation, 1, parent=own.prompt)
        | finish(own.turn, 1, 7)
        | {
            "after": uuid4(),
            "after_seq": 0,
            "at_most": 10,
            "changes": json.dumps({"title": sealed("other"), "read_seq": 2, "policy": "full"}),
            "cookie": own.owner.cookie,
            "message": own.prompt,
            "message_ids": str(own.prompt),
            "attachment": uuid4(),
            "kept_summary": sealed("summary"),
            "new_role": "admin",
            "new_cookie_hash": new_key().hex(),
            "new_lookup": new_key().hex(),
            "new_wrapped": sealed("wrapped anew"),
            "replaces": sealed("user key"),
            "nonce": uuid4(),
            "fact_ids": str(own.fact),
            "notices": json.dumps([str(own.notice)]),
            "original": own.prompt,
            "person": own.owner.id,
            "returned": json.dumps([new_key().hex()]),
            "new_partial": sealed("more"),
            "seen_generation": 0,
            "suspended": True,
            "new_thoughts": sealed("hm"),
        }
    )
    particular = {
        "set_settings": {"changes": '{"sign_ups": "closed"}'},
        "invite": {"new_code_hash": new_key().hex()},
        "my_ledger": {"after": 0},
        "put_document": documents(own)[0] | {"source": own.conversation, "cuts": 0},
        "put_search_text": {"cuts": 0, "replaced": "1", "body": sealed("other words")},
        "restore_conversation": {"conversation": own.discarded},
        "set_caps": {"changes": '{"max_open": 5}'},
        "set_deployment_cap": {"new_monthly_cap_micro": 5},
        "set_model": {"changes": '{"is_offered": true}'},
    }
    particular["delete_document"] = particular["put_document"]
    contract = own.owner.contract
    return {
        function: {
            name: (given | particular.get(function, {})).get(name, value)
            for name, value in contract.arguments(function, {}).items()
        }
        for function in contract.parameters
    }


def person_calls(own):
    """Return the calls that users make."""
    contract = own.owner.contract
    return {f: a for f, a in calls(own).items() if not contract.is_for_the_server(f)}


def server_calls(own):
    """Return the calls that the app makes as a server."""
    return {f: a for f, a in calls(own).items() if own.owner.contract.is_for_the_server(f)}


def documents(own):
    """Return a change of every document of *own*."""
    change = {"seen_rev": 1, "new_rev": 2}
    of_conversation = {"document": own.conversation, "conversation": own.conversation}
    return (
        a_document(document=own.fact, conversation=own.conversation, **change),
        a_document("space", document=own.space, **change),
        a_document("preferences", document=own.owner.id, **change),
        a_document("instructions", **of_conversation),
        a_document("summary", **of_conversation, cuts=0),
    )


# these functions return only the caller's data
WITHOUT_PROOF = {
    "my_account",
    "my_audit",
    "my_data",
    "my_ledger",
    "my_sessions",
    "my_usage",
    "poll",
    "read_conversation",
}
FOR_ADMINS = {
    *("set_caps", "set_settings", "set_deployment_cap", "set_role", "suspend"),
    *("sign_out_everywhere", "deployment_settings", "usage_report", "require_factor"),
    *("preview_retention", "database_state"),
    *("list_audit", "list_users", "list_credentials", "read_sign_in", "set_model"),
    *("invite", "revoke_invitation", "list_invitations"),
}


@pytest.fixture
def own(either_world):
    return own_everything(either_world)


@pytest.fixture
def mallory(either_world):
    return either_world.person()


@pytest.fixture
def unchanged(either_world):
    """Return a function that fails unless all rows are as at the start of the test."""
    before = either_world.contents()

    def check():
        assert either_world.contents() == before

    return check


@pytest.fixture
def proven(either_world, own):
    """Yield the caller, function and arguments of every call that needs a proof."""
    contract, anon = either_world.contract, either_world.anon
    return [
        (anon if contract.is_for_the_server(function) else own.owner, function, arguments)
        for function, arguments in calls(own).items()
        if contract.is_proven(function)
    ]


def tables(world):
    query = "select tablename from pg_tables where schemaname = 'public' order by 1"
    found = world.admin.execute(query)
    return [row[0] for row in found]


def test_only_reads_of_ones_own_want_no_proof(either_world):
    contract = either_world.contract

    assert {f for f in contract.parameters if not contract.is_proven(f)} == WITHOUT_PROOF


def test_users_read_only_their_own_rows(either_world, own, mallory):
    anon = either_world.anon
    own_everything(either_world)

    for table in tables(either_world):
        mine = own.owner.rows(table)
        assert mine, table
        assert {row["user_id"] for row in mine} == {str(own.owner.id)}, table
        assert {row["user_id"] for row in mallory.rows(table)} <= {str(mallory.id)}, table
        refused = refusal(partial(anon.rows, table))
        assert refused == NOT_ALLOWED or anon.rows(table) == [], table


def test_no_caller_writes_a_table_directly(either_world, own, mallory, unchanged):
    mine = {"user_id": own.owner.id}
    new_conversation = {"id": uuid4(), "wrapped_key": sealed("k"), "head": HEAD}

    writes = [
        ("conversations", "insert", new_conversation | mine, {}),
        ("conversations", "update", {"rev": 99}, mine),
        ("turns", "update", {"reserved_micro": 0}, mine),
    ]
    for table in tables(either_world):
        writes.append((table, "insert", mine, {}))
        writes.append((table, "update", {"user_id": mallory.id}, mine))
        writes.append((table, "delete", {}, mine))

    for caller in (own.owner, mallory, either_world.anon):
        for write in writes:
            refusal(partial(caller.way.write, *write))

    unchanged()


def test_function_changes_no_row_of_another_user(either_world, own, mallory):
    # an open turn of Mallory's own, whose reservation could be settled
    mallory.begin(mallory.create_conversation())
    before = rows_of(either_world, own.owner)

    for function, arguments in person_calls(own).items():
        mallory.refusal(function, **arguments)
    for arguments in documents(own):
        mallory.refusal("put_document", **arguments)
        mallory.refusal("put_document", **arguments | {"seen_rev": 0})
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


def test_id_of_another_user_is_answered_as_unknown(own, mallory):
    missing = Owned(
        own.owner, uuid4(), uuid4(), uuid4(), str(uuid4()), *(uuid4() for _ in range(3))
    )
    # the arguments of these functions have no random id
    without_ids = {"check_end", "delete_account", "delete_facts", "put_user_key"}
    without_ids |= {"change_credentials", "delete_search_texts"}
    without_ids |= {"stop_turns", "revoke_sessions", "start_session"} | WITHOUT_PROOF | FOR_ADMINS

    for function in set(person_calls(own)) - without_ids:
        theirs = mallory.call(function, **person_calls(own)[function])
        nobodys = mallory.call(function, **person_calls(missing)[function])
        assert theirs == nobodys, function
        assert theirs["ok"] is False, function
    for mine, missing_one in zip(documents(own), documents(missing), strict=True):
        if mine["new_kind"] != "preferences":  # preferences have no id but the user's
            theirs = mallory.call("put_document", **mine)
            assert theirs == mallory.call("put_document", **missing_one)
            assert theirs["ok"] is False, mine
    for scope in (
        {"conversation": own.conversation},
        {"space": own.space},
        {"source": own.conversation, "cuts": 0},
    ):
        answer = mallory.call("put_document", **a_document(**scope))
        assert answer == {"ok": False, "reason": "not_found"}, scope
    begun_there = mallory.begin(uuid4(), created=created(space_id=own.space))
    assert begun_there["reason"] == "no_space"
    moved = mallory.change(mallory.create_conversation(), space_id=str(own.space))
    assert moved == {"ok": False, "reason": "no_space"}


def test_access_token_without_a_proof_changes_nothing(proven, unchanged):
    for caller, function, arguments in proven:
        for proof in (None, "", "0" * 64):
            assert caller.refusal(function, **arguments, proof=proof) == NOT_ALLOWED, function

    unchanged()


def test_proof_is_valid_for_exactly_its_arguments(either_world, own, proven):
    either_world.make_admin(own.owner)
    before = either_world.contents()

    for caller, function, arguments in proven:
        for name, value in arguments.items():
            kind = either_world.contract.parameters[function][name]
            changed = caller.proven(function, arguments) | {name: another(value, kind)}
            assert caller.refusal(function, **changed) == NOT_ALLOWED, (function, name)

    assert either_world.contents() == before


def test_proof_is_valid_for_its_user_only(own, mallory):
    for function, arguments in person_calls(own).items():
        if function not in WITHOUT_PROOF | FOR_ADMINS:
            stolen = own.owner.proven(function, arguments)
            assert mallory.refusal(function, **stolen) == NOT_ALLOWED, function


def test_server_proof_is_valid_for_a_minute(either_world, own):
    for function, arguments in server_calls(own).items():
        for made_at in (int(time.time()) - 62, int(time.time()) + 62):
            refused = either_world.anon.refusal(function, **arguments, made_at=made_at)
            assert refused == NOT_ALLOWED, function


def test_functions_are_called_by_their_role_only(either_world, own, unchanged):
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
def test_ended_access_token_is_refused_from_next_statement(either_world, own, how):
    if how == "signed out":
        either_world.sign_out(own.owner)
    elif how == "suspended":
        either_world.suspend(own.owner)
    else:  # a token without an app session, as after a recovery at Supabase Auth
        ending = "delete from private.app_sessions where user_id = %s"
        either_world.admin.execute(ending, [own.owner.id])
    before = either_world.contents()

    for table in tables(either_world):
        assert own.owner.rows(table) == [], table
    for function, arguments in person_calls(own).items():
        if function != "start_session":  # may be called once per token: see test_sessions.py
            assert own.owner.refusal(function, **arguments) == SIGNED_OUT, function
    assert either_world.anon.call("open_session", cookie=own.owner.cookie)["ok"] is False
    assert either_world.contents() == before


def test_readable_text_is_refused_and_not_repeated(either_world, own, unchanged):
    for function, arguments in person_calls(own).items():
        for name in arguments:
            if "sealed" in either_world.contract.parameters[function][name]:
                with pytest.raises(Refused) as refused:
                    own.owner.call(function, **arguments | {name: SECRET})
                assert SECRET not in str(refused.value), (function, name)

    unchanged()


@pytest.mark.parametrize("schema", ["private", "auth", "supabase_migrations"])
def test_api_reaches_no_other_schema(api_world, schema):
    way = api_world.person().way

    with pytest.raises(APIError) as refused:
        way.client.schema(schema).table("budgets").select("*").execute()

    assert refused.value.code == "PGRST106"


def rows_of(world, person):
    """Return the rows that name one user, by table."""
    return {
        table: [row for row in (rows or "").splitlines() if str(person.id) in row]
        for table, rows in world.contents().items()
    }


def another(value, kind):
    """Return a value of the SQL type *kind* that differs from *value*."""
    match kind.removeprefix("public."):
        case "uuid":
            return str(uuid4())
        case "sealed":
            return sealed("another")
        case "sealed_octets":
            return sealed_octets("another")
        case "sealed_head":
            return HEAD[:-1] + "B"
        case "boolean":
            return not value
        case "integer" | "bigint":
            return (value or 0) + 1
        case "date":
            return "2026-02-03"
        case _:  # text
            return "{}"
