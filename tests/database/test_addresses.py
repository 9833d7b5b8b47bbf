"""Another address in SQL: one transaction of credentials, Supabase Auth and look-ups of former addresses."""

import json
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.crypto import new_key
from tests.database import servers
from tests.database.people import MISUSE, NOT_ALLOWED, SIGNED_OUT, sealed, sign_up, with_token
from tests.database.test_credentials import (
    OK,
    STALE,
    TAKEN,
    count,
    credentials_of,
    put,
    start,
)

NEW = "new@daybook.test"

WAY_IN_TAKEN = {"ok": False, "reason": "way_in_taken"}


def arguments(person, *, address=NEW, lookup=None, claims=(), former=(), **given):
    """The arguments of a change of the address from the first generation of credentials on."""
    lookup = lookup or new_key().hex()
    return {
        "address": address,
        "new_lookup": lookup,
        "claims": json.dumps([lookup, *claims]),
        "former": json.dumps(former),
        "ways_in": "[]",
        "new_sealed": sealed("moved"),
        "restored": False,
    } | given


def move(person, **given):
    return person.call("change_address", **arguments(person, **given))


def address_of(world, person):
    return world.one("select email from auth.users where id = %s", person.id)


def former(world):
    query = "select lookup, user_id from private.lookups order by lookup"
    return world.admin.execute(query).fetchall()


def test_address_changes_in_credentials_and_at_supabase_auth(world):
    maya, omar = world.person(), world.person()
    other = with_token(world, maya.id).with_session()
    world.admin.execute(
        "insert into auth.identities (provider, provider_id, user_id, identity_data) values ('email', %s, %s, %s)",
        [str(maya.id), maya.id, Jsonb({"email": address_of(world, maya), "sub": "1"})],
    )
    lookup, old = new_key().hex(), new_key().hex()

    assert move(maya, lookup=lookup, former=[old]) == OK

    found = credentials_of(world, maya)
    stored = (found["lookup"], found["sealed"], found["generation"])
    assert stored == (lookup, sealed("moved"), 2)
    assert address_of(world, maya) == NEW
    identity = "select identity_data, email from auth.identities where user_id = %s"
    assert world.one(identity, maya.id) == ({"email": NEW, "sub": "1"}, NEW)
    assert former(world) == [(old, maya.id)]
    assert maya.refusal("my_account") is other.refusal("my_account") is None  # no session ends
    noted = "select actor from private.audit where action = 'address.change' and target = %s"
    assert world.one(noted, maya.id) == maya.id
    assert address_of(world, omar) == f"{omar.id}@daybook.test"


def test_permit_of_a_new_address_is_spent_in_its_transaction(world):
    maya, omar = world.person(), world.person()
    taken = credentials_of(world, omar)["lookup"]

    assert move(maya, claims=[taken]) == TAKEN
    assert move(maya) == OK
    assert move(maya, seen_generation=2) == OK  # the same address: no permit is made for it

    assert world.one("select count(*) from private.password_permits") == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="without a permit"):
        world.admin.execute("update auth.users set email = 'a@b.test' where id = %s", [maya.id])


def test_restored_address_ends_all_other_sessions(world):
    maya, old = world.person(), new_key().hex()
    other = with_token(world, maya.id).with_session()
    move(maya, former=[old])

    assert move(maya, address="old@daybook.test", restored=True, seen_generation=2) == OK

    assert other.refusal("my_account") == SIGNED_OUT
    assert maya.refusal("my_account") is None
    assert former(world) == []
    assert world.one("select count(*) from private.audit where action = 'address.restore'") == 1


def test_only_an_address_that_is_taken_back_changes_the_flag_of_a_factor(world):
    maya = world.person()

    assert maya.refusal("change_address", **arguments(maya, new_wants_factor=True)) == MISUSE
    assert maya.refusal("change_address", **arguments(maya, new_wants_factor=None)) == MISUSE

    assert move(maya, new_wants_factor=True, restored=True) == OK
    assert credentials_of(world, maya)["wants_factor"]


@pytest.mark.parametrize(
    "how", ["stale", "used", "taken", "former", "advance", "way in", "old user", "needed"]
)
def test_refused_address_changes_nothing(world, how):
    maya, omar = world.person(), world.person()
    lookup, given = new_key().hex(), {}
    match how:
        case "stale":
            expected, given = STALE, {"seen_generation": 2}
        case "used":  # a second factor, since the credentials were read
            expected, given = STALE, {"new_uses": 1}
        case "taken":
            expected, given = TAKEN, {"lookup": credentials_of(world, omar)["lookup"]}
        case "former":  # omar may take it back
            move(omar, address="omar@daybook.test", former=[lookup])
            expected, given = TAKEN, {"claims": [lookup]}
        case (
            "advance"
        ):  # the look-up of maya's address as a former one, made by a writer of the database
            insertion = "insert into private.lookups (lookup, user_id) values (%s, %s)"
            world.admin.execute(insertion, [lookup, omar.id])
            expected, given = STALE, {"former": [lookup]}
        case "way in":  # that comes back with the address, and is omar's now
            insertion = "insert into private.lookups (lookup, user_id) values (%s, %s)"
            world.admin.execute(insertion, [lookup, omar.id])
            expected = WAY_IN_TAKEN
            given = {"restored": True, "ways_in": json.dumps([lookup])}
        case "old user":  # of Supabase Auth, from before Daybook
            insertion = "insert into auth.users (email, created_at) values (%s, '1999-01-01')"
            world.admin.execute(insertion, [NEW])
            expected = TAKEN
        case "needed":
            stranger = world.one("insert into auth.users (email) values (%s) returning id", NEW)
            world.admin.execute("create table of_the_operator (id uuid references auth.users)")
            world.admin.execute("insert into of_the_operator values (%s)", [stranger])
            expected = TAKEN
    before = world.contents(), address_of(world, maya)

    assert move(maya, **given) == expected

    assert (world.contents(), address_of(world, maya)) == before


def test_other_sessions_user_and_repeated_call_change_nothing(world):
    maya, omar = world.person(), world.person()
    overheard = maya.proven("change_address", arguments(maya))
    assert omar.refusal("change_address", **overheard) == NOT_ALLOWED
    assert maya.call("change_address", **overheard) == OK
    before = world.contents()

    assert maya.refusal("change_address", **overheard) == NOT_ALLOWED

    assert world.contents() == before


def test_bad_address_is_refused(world):
    maya, before = world.person(), world.contents()

    for address in ("no address", "a@b.test,c@d.test", f"{uuid4()}@deleted.invalid"):
        assert move(maya, address=address) == {"ok": False, "reason": "bad_address"}

    assert world.contents() == before


def test_stranger_and_pending_sign_up_give_way_to_an_account(world):
    maya, stranger = world.person(), uuid4()
    pending = sign_up()
    put(world, pending)
    world.admin.execute("insert into auth.users (id, email) values (%s, %s)", [stranger, NEW])

    assert move(maya, lookup=pending["new_lookup"]) == OK

    assert world.one("select count(*) from auth.users where id = %s", stranger) == 0
    assert address_of(world, maya) == NEW
    assert world.one("select count(*) from private.credentials") == 1


def test_former_address_is_reserved_for_its_user_for_three_days(world):
    maya, old = world.person(), new_key().hex()
    move(maya, former=[old])

    assert count(world, old)["credentials"] == credentials_of(world, maya)
    row = sign_up(lookups=json.dumps([new_key().hex(), old]))
    assert put(world, row) == STALE

    world.admin.execute("update private.lookups set expires_at = expires_at - interval '72 hours'")
    assert count(world, old)["credentials"] is None
    assert put(world, row) == OK
    world.sweep()
    assert former(world) == []


def test_stored_look_up_of_a_former_address_is_never_overwritten(world):
    maya, first, second = world.person(), new_key().hex(), new_key().hex()
    move(maya, former=[first])
    world.admin.execute("update private.lookups set expires_at = now() + interval '1h'")

    assert move(maya, address="third@daybook.test", former=[first, second], seen_generation=2) == OK

    ends = "select expires_at < now() + interval '2h' from private.lookups where lookup = %s"
    assert [world.one(ends, one) for one in (first, second)] == [True, False]


def test_expired_look_up_of_another_is_replaced(world):
    maya, omar, old = world.person(), world.person(), new_key().hex()
    move(omar, address="omar@daybook.test", former=[old])
    world.admin.execute("update private.lookups set expires_at = now()")

    assert move(maya, former=[old]) == OK

    assert former(world) == [(old, maya.id)]


def test_deleted_account_leaves_no_look_up(world):
    maya = world.person()
    move(maya, former=[new_key().hex()])

    assert maya.call("delete_account", person=maya.id) == OK

    assert former(world) == []


def test_of_two_who_take_one_address_one_gets_it(world, migrated):
    people, lookup = [world.person(), world.person()], new_key().hex()

    def take(connection, number):
        person = people[number].by(connection)
        return person.call("change_address", **arguments(person, lookup=lookup))["ok"]

    assert sorted(servers.at_once(migrated, 2, take)) == [False, True]
    assert world.one("select count(*) from auth.users where email = %s", NEW) == 1


def test_sign_up_that_is_stored_meanwhile_undoes_all(world, migrated):
    """It has the look-up before the credentials can: nothing of the change stays."""
    maya, row = world.person(), sign_up()
    before = address_of(world, maya), credentials_of(world, maya)

    def take(connection, _):
        person = maya.by(connection)
        return person.refusal(
            "change_address", **arguments(person, lookup=row["new_lookup"], former=["a" * 64])
        )

    with psycopg.connect(migrated, autocommit=True) as console:
        console.execute("begin")
        world.anon.by(console).call("put_sign_up", **row)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(servers.at_once, migrated, 1, take)
            servers.wait_for_blocked(world.admin, 1)
            console.execute("commit")

    assert answer.result() == ["23505"]
    assert (address_of(world, maya), credentials_of(world, maya)) == before
    assert former(world) == []
    assert world.one("select count(*) from private.password_permits") == 0


def test_account_that_begins_meanwhile_keeps_its_address(world, migrated):
    maya, omar, begun = world.person(), world.make_person(world), world.sign_up()
    address = f"{omar.id}@daybook.test"

    def take(connection, _):
        person = maya.by(connection)
        given = arguments(person, address=address, lookup=begun["new_lookup"])
        return person.call("change_address", **given)

    with psycopg.connect(migrated, autocommit=True) as console:
        console.execute("begin")
        assert start(omar.by(console), **begun)["ok"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(servers.at_once, migrated, 1, take)
            servers.wait_for_blocked(world.admin, 1)
            console.execute("commit")

    assert answer.result() == [TAKEN]


def test_look_up_of_another_form_is_refused(world):
    maya = world.person()

    assert maya.refusal("change_address", **arguments(maya, former=["readable"])) == "23514"
