"""Credentials in SQL: the counted look-up, pending sign-ups, the account that begins from one, and changes."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from services.crypto import new_key
from tests.database import servers
from tests.database.people import (
    MISUSE,
    NOT_ALLOWED,
    SIGNED_OUT,
    Refused,
    sealed,
    sign_up,
    with_token,
)

OK = {"ok": True}
STALE = {"ok": False, "reason": "stale"}
USED = {"ok": False, "reason": "factor_used"}
PASSWORDS = ("password.set", "password.reset")
TAKEN = {"ok": False, "reason": "address_taken"}


def credentials_of(world, person):
    """Return the row of a user's credentials as the API answers it."""
    query = "select private.credentials_of(credentials) from private.credentials where user_id = %s"
    return world.one(query, person.id)


def count(world, *lookups, strangers=(), device_user=None, device=(), at_most=3, **given):
    """Count an attempt; *strangers* and *device* are names of buckets."""

    def throttles(names):
        return json.dumps([{"bucket": one, "at_most": at_most, "seconds": 60} for one in names])

    return world.anon.call(
        "count_attempt",
        lookups=json.dumps(lookups),
        throttles=throttles(strangers),
        device_user=device_user,
        device_throttles=throttles(device),
        **given,
    )


def change(world, person, lookup=None, **given):
    """Change the credentials of *person* from the first generation to the second."""
    lookup = lookup or credentials_of(world, person)["lookup"]
    return person.call("change_credentials", new_lookup=lookup, **given)


RESEAL = {"action": "reseal", "new_generation": 1, "ends_others": False}


def start(person, **given):
    return person.call("start_session", new_cookie_hash=new_key().hex(), **given)


def put(world, row):
    return world.anon.call("put_sign_up", **row)


def rows(world):
    query = "select id, lookup, sealed, generation from private.credentials order by id"
    return world.admin.execute(query).fetchall()


# --- proofs


def server_calls():
    return {
        "count_attempt": {"throttles": "[]"},
        "put_sign_up": sign_up(),
        "end_stranger": {"address": "omar@daybook.test"},
        "count_throttles": {"throttles": "[]"},
        "open_invitation": {"throttles": "[]", "code": "any"},
        "begin_step": {"new_key": new_key().hex(), "new_kind_tag": new_key().hex()},
        "try_step": {"step_key": new_key().hex()},
        "note_failure": {"person": uuid4(), "failure": "proof.fail"},
        "add_notice": {"person": uuid4(), "new_kind": "operator", "throttles": "[]"},
    }


@pytest.mark.parametrize("function", server_calls())
def test_call_is_not_repeated(world, function):
    overheard = world.anon.proven(function, server_calls()[function])
    world.anon.call(function, **overheard)
    before = world.contents()

    assert world.anon.refusal(function, **overheard) == NOT_ALLOWED

    assert world.contents() == before


def test_notice_that_was_dismissed_is_not_brought_back(world):
    maya, notice = world.person(), uuid4()
    given = {"person": maya.id, "new_id": notice, "new_kind": "operator", "throttles": "[]"}
    overheard = world.anon.proven("add_notice", given)
    assert world.anon.call("add_notice", **overheard) == OK
    assert maya.call("dismiss_notices", notices=json.dumps([str(notice)])) == OK

    assert world.anon.refusal("add_notice", **overheard) == NOT_ALLOWED

    assert maya.call("my_account")["notices"] == []


def test_session_is_not_opened_by_a_repeated_call(world):
    maya = world.person()
    overheard = world.anon.proven("open_session", {"cookie": maya.cookie})
    assert world.anon.call("open_session", **overheard)["ok"]

    assert world.anon.refusal("open_session", **overheard) == NOT_ALLOWED


def test_change_of_credentials_is_not_repeated(world):
    """Credentials that are only sealed anew keep their generation, and then a repeated call is not refused by it."""
    maya = world.person()
    given = {"new_lookup": credentials_of(world, maya)["lookup"]} | RESEAL
    overheard = maya.proven("change_credentials", given)
    assert maya.call("change_credentials", **overheard) == OK
    assert maya.call("change_credentials", **given, new_sealed=sealed("later")) == OK
    before = world.contents()

    assert maya.refusal("change_credentials", **overheard) == NOT_ALLOWED

    assert world.contents() == before


@pytest.mark.parametrize("function", server_calls())
def test_call_without_a_new_proof_is_refused(world, function):
    given = server_calls()[function]

    assert world.anon.refusal(function, **given, proof="0" * 64) == NOT_ALLOWED
    assert world.anon.refusal(function, **given, made_at=int(time.time()) - 62) == NOT_ALLOWED
    assert world.one("select count(*) from private.seen_nonces") == 0


# --- the counted look-up


def test_attempt_returns_the_row_of_any_lookup(world):
    maya, omar = world.person(), world.person()
    lookup = credentials_of(world, maya)["lookup"]

    found = count(world, new_key().hex(), lookup)

    assert found["credentials"] == credentials_of(world, maya)
    assert found["credentials"]["user_id"] == str(maya.id)
    assert count(world, credentials_of(world, omar)["lookup"])["credentials"]["id"] == str(omar.id)
    assert count(world, new_key().hex())["credentials"] is None


def test_attempt_reads_no_other_credentials(world):
    """Attempts are made by strangers, and are throttled only after the look-up."""
    maya = world.person()
    lookup, row = credentials_of(world, maya)["lookup"], sign_up()
    put(world, row)
    world.admin.execute(
        "insert into private.credentials (id, lookup, sealed, generation)"
        " select gen_random_uuid(), private.sha(n::text), %s, 1 from generate_series(1, 20000) n",
        [sealed("pending")],
    )
    world.admin.execute("analyze private.credentials, private.lookups")

    def call():
        assert count(world, new_key().hex(), lookup)["credentials"]["id"] == str(maya.id)
        assert put(world, row | {"seen_generation": 1}) == OK

    assert world.work("private.credentials", call)[0] == 0


def test_attempt_returns_a_users_row_before_a_pending_one(world):
    """With two root keys, an address has two look-up values."""
    first, second = new_key().hex(), new_key().hex()
    pending = [world.sign_up(lookup=one)["pending"] for one in (first, second)]
    assert count(world, second, first)["credentials"]["id"] == str(pending[1])
    assert count(world, first, second)["credentials"]["id"] == str(pending[0])

    maya = world.make_person(world)
    assert start(maya, pending=pending[0], new_lookup=first)["ok"]

    assert count(world, second, first)["credentials"]["id"] == str(maya.id)


def test_device_counts_apart_for_its_own_user_alone(world):
    maya, omar = world.person(), world.person()
    stranger, device = new_key().hex(), new_key().hex()
    theirs = {"strangers": [stranger], "device": [device], "at_most": 1}
    lookup = credentials_of(world, maya)["lookup"]

    known = count(world, lookup, device_user=maya.id, **theirs)
    others = count(world, lookup, device_user=omar.id, **theirs)
    unknown = count(world, new_key().hex(), device_user=maya.id, **theirs)

    assert (known["ok"], known["is_known"]) == (True, True)
    assert (others["ok"], others["is_known"]) == (True, False)
    assert (unknown["ok"], unknown["is_known"]) == (False, False)
    assert not count(world, lookup, device_user=maya.id, **theirs)["ok"]
    attempts = "select attempts from private.throttles where bucket = %s"
    assert [world.one(attempts, bucket) for bucket in (stranger, device)] == [2, 2]


def test_pending_row_is_no_device_users(world):
    row = sign_up()
    put(world, row)

    assert not count(world, row["new_lookup"], device_user=row["row_id"])["is_known"]
    assert not count(world, row["new_lookup"])["is_known"]


def test_refused_attempt_returns_no_credentials(world):
    maya, bucket = world.person(), new_key().hex()
    lookup = credentials_of(world, maya)["lookup"]

    refused = count(world, lookup, device_user=maya.id, device=[bucket], at_most=0)

    assert refused.pop("retry_after") > 0
    assert refused == {"ok": False, "reason": "too_many_attempts", "is_known": True}


def test_attempt_brings_the_state_of_sign_ups(world):
    expected = {
        "ok": True,
        "credentials": None,
        "keys": [],
        "is_known": False,
        "is_suspended": False,
        "confirms_by_code": True,
        "requires_factor": False,
    }

    found = count(world)

    of_sign_ups = {"mode": "open", "is_invited": False, "is_first": False, "has_admin": False}
    assert found == expected | of_sign_ups
    world.admin.execute(
        "update private.settings set first_account_is_admin = true, sign_ups = 'closed'"
    )
    assert count(world)["is_first"] is world.anon.call("sign_ups")["is_first"] is True
    world.person()
    assert (count(world)["mode"], count(world)["is_first"]) == ("closed", False)


# --- pending sign-ups


def test_new_sign_up_is_pending(world):
    row = sign_up()

    assert put(world, row) == OK

    found = count(world, row["new_lookup"])["credentials"]
    assert (found["id"], found["user_id"]) == (str(row["row_id"]), None)
    assert (found["lookup"], found["generation"]) == (row["new_lookup"], 1)


def test_address_with_a_row_gets_no_second(world):
    maya, row = world.person(), sign_up()
    put(world, row)
    before = rows(world)

    for lookup in (credentials_of(world, maya)["lookup"], row["new_lookup"]):
        both = json.dumps([new_key().hex(), lookup])
        assert put(world, sign_up(lookup)) == STALE
        assert put(world, sign_up(lookups=both)) == STALE
        assert put(world, sign_up(lookups="[]", new_lookup=lookup)) == STALE
    assert put(world, sign_up(row_id=row["row_id"])) == STALE

    assert rows(world) == before


def test_parallel_sign_ups_of_one_address_store_one_row(world, migrated):
    lookup = new_key().hex()

    def sign_up_one(connection, _):
        return world.anon.by(connection).call("put_sign_up", **sign_up(lookup))["ok"]

    assert sorted(servers.at_once(migrated, 4, sign_up_one)) == [False, False, False, True]


def test_pending_sign_up_is_replaced_where_seen(world):
    row = sign_up()
    put(world, row)
    world.admin.execute("update private.credentials set signed_up_at = now() - interval '7 days'")
    lookups = [new_key().hex(), row["new_lookup"]]
    again = row | {"lookups": json.dumps(lookups), "new_lookup": lookups[0]}
    again |= {"new_sealed": sealed(2)}

    assert put(world, again | {"seen_generation": 2}) == STALE
    assert put(world, again | {"seen_generation": 1, "row_id": uuid4()}) == STALE
    assert put(world, again | {"seen_generation": 1}) == OK
    assert put(world, again | {"seen_generation": 1}) == STALE

    assert rows(world) == [(row["row_id"], again["new_lookup"], sealed(2), 2)]
    assert world.one("select signed_up_at > now() - interval '1 minute' from private.credentials")


def test_sign_up_never_replaces_a_users_row(world):
    maya = world.person()
    lookup = credentials_of(world, maya)["lookup"]
    before = rows(world)

    forged = sign_up(lookup, row_id=maya.id, seen_generation=1, new_sealed=sealed("forged"))
    assert put(world, forged) == STALE

    assert rows(world) == before


def test_sign_up_takes_no_lookup_of_another_row(world):
    maya, row = world.person(), sign_up()
    put(world, row)
    before = rows(world)

    lookup = credentials_of(world, maya)["lookup"]
    taken = {"seen_generation": 1, "new_lookup": lookup}
    assert put(world, row | taken | {"lookups": json.dumps([lookup, row["new_lookup"]])}) == STALE

    assert rows(world) == before


def test_pending_sign_up_is_swept_after_eight_days(world):
    maya, old, young = world.person(), sign_up(), sign_up()
    put(world, old)
    put(world, young)
    aged = "update private.credentials set signed_up_at = now() - interval '8 days' + %s * interval '1 minute' where id = %s"
    for row_id, minutes in ((maya.id, -1), (old["row_id"], -1), (young["row_id"], 1)):
        world.admin.execute(aged, [minutes, row_id])

    assert not world.anon.call("sweep_turns", at_most=1)["more"]  # one expired row is no full slice

    assert {row[0] for row in rows(world)} == {maya.id, young["row_id"]}
    assert not world.anon.call("sweep_turns", at_most=1)["more"]


# --- accounts begin


def test_account_begins_with_credentials_key_and_session(world):
    omar, begun = world.make_person(world), world.sign_up()
    lookup = new_key().hex()
    given = {"new_lookup": lookup, "new_sealed": sealed("set"), "new_wrapped": sealed("first key")}

    started = start(omar, pending=begun["pending"], **given)

    assert started["credentials"] == {
        "id": str(omar.id),
        "user_id": str(omar.id),
        "lookup": lookup,
        "sealed": sealed("set"),
        "generation": 1,
        "uses": 0,
        "wants_factor": False,
    }
    assert started["keys"] == [{"version": 1, "wrapped": sealed("first key")}]
    assert rows(world) == [(omar.id, lookup, sealed("set"), 1)]
    noted = world.admin.execute(
        "select action, actor, detail from private.audit where target = %s order by id", [omar.id]
    )
    assert noted.fetchall() == [
        ("account.begin", omar.id, {"role": "user"}),
        ("key.put", omar.id, {"version": 1, "mode": "server"}),
    ]


def test_account_keeps_the_generation_of_its_sign_up(world):
    row, omar = sign_up(), world.make_person(world)
    put(world, row)
    put(world, row | {"seen_generation": 1})
    begun = {"pending": row["row_id"], "new_lookup": row["new_lookup"]}
    assert start(omar, **begun, seen_generation=1) == STALE

    assert start(omar, **begun, seen_generation=2)["credentials"]["generation"] == 2


@pytest.mark.parametrize(
    "spoil", ["no sign-up", "unknown", "of a user", "generation", "lookup", "no invitation"]
)
def test_refused_account_leaves_nothing(world, spoil):
    omar, maya = world.make_person(world), world.person()
    begun, given, refused = world.sign_up(), {}, "stale"
    match spoil:
        case "no sign-up":
            given = {"pending": None}
        case "unknown":
            given = {"pending": uuid4(), "new_lookup": new_key().hex()}
        case "of a user":
            given = {"pending": maya.id, "new_lookup": new_key().hex()}
        case "generation":
            given = {"seen_generation": 2}
        case "lookup":
            given = {"new_lookup": credentials_of(world, maya)["lookup"]}
        case "no invitation":
            world.admin.execute("update private.settings set sign_ups = 'invited'")
            refused = "no_invitation"
    before = world.contents()

    assert start(omar, **begun | given) == {"ok": False, "reason": refused}

    assert world.contents() == before
    assert world.one("select count(*) from private.roles where user_id = %s", omar.id) == 0


@pytest.mark.parametrize("credentials", ["they have", "they lost"])
def test_pending_sign_up_is_never_bound_to_a_user_with_an_account(world, credentials):
    maya, begun = world.person(), world.sign_up()
    if credentials == "they lost":
        world.admin.execute("delete from private.credentials where user_id = %s", [maya.id])
    before = world.contents()

    assert start(with_token(world, maya.id), **begun) == STALE

    assert world.contents() == before


def test_sign_up_begins_one_account(world, migrated):
    crowd, begun = [world.make_person(world) for _ in range(4)], world.sign_up()

    def begin(connection, number):
        return start(crowd[number].by(connection), **begun)["ok"]

    assert sorted(servers.at_once(migrated, 4, begin)) == [False, False, False, True]
    assert world.one("select count(*) from private.credentials") == 1


# --- sign-in


def test_session_begins_with_the_generation_that_was_checked(world):
    maya = world.person()
    change(world, maya)
    before = world.contents()

    for generation in (None, 1, 3):
        assert start(with_token(world, maya.id), seen_generation=generation) == STALE
    assert world.contents() == before

    started = start(with_token(world, maya.id), seen_generation=2)
    assert started["credentials"] == credentials_of(world, maya)


def test_session_begins_with_no_credentials_of_another(world):
    maya, omar = world.person(), world.person()
    world.admin.execute("delete from private.credentials where user_id = %s", [maya.id])

    assert start(with_token(world, maya.id)) == STALE

    assert start(with_token(world, omar.id))["ok"]


def test_refused_session_gives_no_attempt_back(world):
    maya, bucket = world.person(), new_key().hex()
    count(world, strangers=[bucket])
    returned = {"returned": json.dumps([bucket])}

    assert start(with_token(world, maya.id), seen_generation=2, **returned) == STALE
    assert world.one("select attempts from private.throttles") == 1

    assert start(with_token(world, maya.id), **returned)["ok"]
    assert world.one("select attempts from private.throttles") == 0


def test_opened_session_brings_the_credentials(world):
    maya = world.person()
    world.person()

    opened = world.anon.call("open_session", cookie=maya.cookie)
    assert opened["credentials"] == credentials_of(world, maya)

    world.admin.execute("delete from private.credentials where user_id = %s", [maya.id])
    assert world.anon.call("open_session", cookie=maya.cookie)["credentials"] is None


# --- changes


def test_new_password_ends_all_other_sessions(world):
    maya, omar = world.person(), world.person()
    other = with_token(world, maya.id).with_session()
    world.one("insert into auth.sessions (user_id) values (%s) returning id", maya.id)

    assert change(world, maya, new_sealed=sealed("new")) == OK

    assert maya.refusal("my_account") is None
    assert other.refusal("my_account") == SIGNED_OUT
    assert omar.refusal("my_account") is None
    for table in ("private.app_sessions", "auth.sessions"):
        assert world.one(f"select count(*) from {table} where user_id = %s", maya.id) == 1
    found = credentials_of(world, maya)
    assert (found["sealed"], found["generation"]) == (sealed("new"), 2)
    noted = "select actor from private.audit where action = 'password.set' and target = %s"
    assert world.one(noted, maya.id) == maya.id


def test_credentials_sealed_anew_end_no_session(world):
    maya, lookup = world.person(), new_key().hex()
    other = with_token(world, maya.id).with_session()

    anew = RESEAL | {"new_sealed": sealed("anew")}
    assert change(world, maya, lookup, **anew) == OK

    for session in (maya, other):
        assert session.refusal("my_account") is None
    found = credentials_of(world, maya)
    assert (found["lookup"], found["sealed"]) == (lookup, sealed("anew"))
    assert world.one("select count(*) from private.audit where action = 'password.set'") == 0


def test_credentials_change_only_where_seen(world):
    maya, row = world.person(), sign_up()
    put(world, row)
    change(world, maya)
    before = world.contents()
    own = {"new_lookup": credentials_of(world, maya)["lookup"]}

    for given in (
        own,
        {"seen_generation": 3} | own,
        {"seen_generation": 2, "new_lookup": row["new_lookup"]},  # that of another address
    ):
        changed = RESEAL | {"new_generation": given.get("seen_generation", 1)} | given
        assert maya.call("change_credentials", **changed) == STALE

    assert world.contents() == before


@pytest.mark.parametrize(
    "action",
    [
        *("reseal", *PASSWORDS, "password.add", "address.confirm", "address.free"),
        *("factor.use", "recovery.use", "role.set", "address.set", "identity.move", None),
    ],
)
def test_change_has_generation_and_ends_of_its_action(world, action):
    maya = world.person()
    allowed = {
        "reseal": (1, False),
        "factor.use": (1, False),
        "recovery.use": (1, False),
        "password.set": (2, True),
        "password.reset": (2, True),
        "address.confirm": (2, False),
        "password.add": (2, False),
    }

    for generation, ends_others in product([0, 1, 2, 3, None], [True, False, None]):
        if allowed.get(action) != (generation, ends_others):
            given = {"action": action, "new_generation": generation, "ends_others": ends_others}
            refused = maya.refusal("change_credentials", **given, new_lookup=new_key().hex())
            assert refused == MISUSE, (generation, ends_others)


def wants_factor(world, person, *, uses=0):
    """Have the credentials of *person* want a second factor that was used some times, and was given in each session."""
    change = "update private.credentials set wants_factor = true, uses = %s where user_id = %s"
    world.admin.execute(change, [uses, person.id])
    given = "update private.app_sessions set has_factor = true where user_id = %s"
    world.admin.execute(given, [person.id])


FLAGS = {  # what a change may make of the flag: before, after
    "reseal": {(False, False), (True, True)},
    "address.confirm": {(False, False), (True, True)},
    "password.set": {(False, False), (True, True), (True, False)},
    "password.reset": {(False, False), (True, True), (True, False)},
    "password.add": {(False, False), (True, True)},
    "factor.use": {(True, True)},
    "recovery.use": {(True, True)},
    "factor.add": {(False, True), (True, True)},
    "factor.remove": {(True, False), (True, True)},
    "factor.replace": {(True, True)},
    "recovery.renew": {(True, True)},
    "identity.add": {(False, False), (True, True)},
    "identity.remove": {(False, False), (True, True)},
    "passkey.add": {(False, False), (True, True)},
    "passkey.remove": {(False, False), (True, True), (True, False)},
    "passkey.use": {(False, False), (False, True), (True, True)},
    "identity.use": {(False, False), (True, True)},
    "passkey_factor.add": {(False, True), (True, True)},
    "passkey_factor.remove": {(True, False), (True, True)},
}
USES = ("factor.use", "recovery.use", "passkey.use", "identity.use")
WAYS_IN = ("identity.add", "identity.remove", "passkey.add", "passkey.remove")
OF_PASSKEYS = ("passkey_factor.add", "passkey_factor.remove")


def answer_to(person, action, **given):
    """Return the answer to a change of the credentials of *person*, or the code of its error."""
    ways_in = "[]" if action in WAYS_IN else None
    try:
        return person.call("change_credentials", action=action, ways_in=ways_in, **given)
    except Refused as refused:
        return refused.code


@pytest.mark.parametrize("action", FLAGS)
def test_only_changes_of_the_factor_change_its_flag(world, action):
    for before, after in product([False, True], repeat=2):
        maya = world.person()
        if before:
            wants_factor(world, maya, uses=5)
        given = {
            "new_lookup": credentials_of(world, maya)["lookup"],
            "new_generation": 1 if action in ("reseal", *USES) else 2,
            "ends_others": action in PASSWORDS,
            "new_uses": 5 * before + (action in USES),
            "new_wants_factor": after,
        }
        is_allowed = (before, after) in FLAGS[action]

        answer = answer_to(maya, action, **given)

        assert answer == (OK if is_allowed else MISUSE), (before, after)
        expected = after if is_allowed else before
        assert credentials_of(world, maya)["wants_factor"] is expected, (before, after)


@pytest.mark.parametrize(
    "action",
    ["factor.add", "factor.remove", "factor.replace", "recovery.renew", *OF_PASSKEYS, *WAYS_IN],
)
def test_change_of_a_way_in_has_the_next_generation(world, action):
    for generation, ends_others in product([1, 2, 3, None], [None, True, False]):
        maya = world.person()
        if action != "factor.add":
            wants_factor(world, maya)
        given = {
            "new_lookup": credentials_of(world, maya)["lookup"],
            "new_generation": generation,
            "ends_others": ends_others,
            "new_wants_factor": action != "factor.remove",
        }
        is_allowed = generation == 2 and ends_others is not None

        answer = answer_to(maya, action, **given)

        assert answer == (OK if is_allowed else MISUSE), (generation, ends_others)


@pytest.mark.parametrize("ways_in", ["[]", None])
@pytest.mark.parametrize("action", FLAGS)
def test_changes_of_ways_in_come_with_their_look_ups(world, action, ways_in):
    maya = world.person()
    [(before, after), *_] = FLAGS[action]
    if before:
        wants_factor(world, maya)
    given = {
        "new_lookup": credentials_of(world, maya)["lookup"],
        "action": action,
        "new_generation": 1 if action in ("reseal", *USES) else 2,
        "ends_others": action in PASSWORDS,
        "ways_in": ways_in,
        "new_uses": int(action in USES),
        "new_wants_factor": after,
    }

    if action in PASSWORDS or (action in WAYS_IN) is (ways_in is not None):
        assert maya.call("change_credentials", **given) == OK
    else:
        assert maya.refusal("change_credentials", **given) == MISUSE


@pytest.mark.parametrize("uses", [4, 6, None])
def test_credentials_from_before_a_use_are_not_stored(world, uses):
    maya = world.person()
    wants_factor(world, maya, uses=5)
    given = {"new_uses": uses, "new_wants_factor": True}
    before = world.contents()

    assert change(world, maya, **given) == USED

    assert world.contents() == before
    assert change(world, maya, **given | {"new_uses": 5}) == OK


# --- the second factor


def use(**given):
    """The arguments of a session or a proof by a use of the factor after the fifth."""
    given = {"factor_action": "factor.use", "new_uses": 6, "has_factor": True} | given
    return {"new_generation": 1, "new_wants_factor": True, "new_sealed": sealed("used")} | given


def test_session_begins_by_a_use_of_the_factor_that_is_the_next(world):
    maya = world.person()
    wants_factor(world, maya, uses=5)
    lookup = {"new_lookup": credentials_of(world, maya)["lookup"]}
    devices = [with_token(world, maya.id) for _ in range(3)]

    assert start(devices[0], **lookup) == {"ok": False, "reason": "factor_needed"}
    assert start(devices[0], **lookup, **use(new_uses=5)) == USED
    started = start(devices[0], **lookup, **use())
    assert start(devices[1], **lookup, **use()) == USED

    assert (started["credentials"]["uses"], started["credentials"]["sealed"]) == (6, sealed("used"))
    assert credentials_of(world, maya) == started["credentials"]
    assert start(devices[1], **lookup, **use(new_uses=7))["ok"]
    noted = "select count(*) from private.audit where action = 'factor.use' and actor = %s"
    assert world.one(noted, maya.id) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"has_factor": False},
        {"has_factor": None},
        {"factor_action": "password.set", "new_generation": 2},
        {"factor_action": "factor.remove", "new_generation": 2, "new_wants_factor": False},
        # another one stands
        {"factor_action": "factor.add", "new_generation": 2, "new_uses": 5},
        {"factor_action": "passkey_factor.add", "new_generation": 2, "new_uses": 5},
        {"new_generation": 2},
        {"new_wants_factor": False},
    ],
)
def test_session_begins_by_nothing_but_a_use(world, wrong):
    maya = world.person()
    wants_factor(world, maya, uses=5)
    given = use(**wrong) | {"new_lookup": credentials_of(world, maya)["lookup"]}
    leased = world.anon.call("lease_refresh", cookie=maya.cookie, seen_generation=0)
    before = world.contents()

    assert with_token(world, maya.id).refusal(
        "start_session", new_cookie_hash=new_key().hex(), **given
    ) == (MISUSE)
    cookie = {"cookie": maya.cookie, "lease": leased["lease"], "new_tokens": sealed("anew")}
    assert maya.refusal("prove_session", returned="[]", **given, **cookie) == MISUSE

    assert world.contents() == before


def test_account_begins_with_a_factor_only_if_it_was_given(world):
    omar = world.make_person(world)
    given = world.sign_up() | {"new_wants_factor": True}

    refused = omar.refusal("start_session", new_cookie_hash=new_key().hex(), **given)
    assert refused == MISUSE

    assert start(omar, **given, has_factor=True)["credentials"]["wants_factor"]


def test_parallel_uses_of_one_code_begin_one_session(world, migrated):
    maya = world.person()
    wants_factor(world, maya, uses=5)
    lookup = credentials_of(world, maya)["lookup"]
    devices = [with_token(world, maya.id) for _ in range(4)]

    def start_one(connection, number):
        return start(devices[number].by(connection), new_lookup=lookup, **use())["ok"]

    assert sorted(servers.at_once(migrated, 4, start_one)) == [False, False, False, True]


def test_session_that_begins_while_a_factor_becomes_required_ends(world, migrated):
    ruth, maya = world.person(), world.person()
    world.make_admin(ruth)
    wants_factor(world, ruth)
    device, late, cookie = with_token(world, maya.id), with_token(world, maya.id), new_key().hex()

    def require(connection, _):
        return ruth.by(connection).call("require_factor", is_on=True)["ok"]

    with psycopg.connect(migrated, autocommit=True) as console:
        console.execute("begin")
        assert device.by(console).call("start_session", new_cookie_hash=cookie)["ok"]
        assert servers.at_once(migrated, 1, require) == [True]  # neither waits for the other
        console.execute("commit")

    assert not world.anon.call("open_session", cookie=cookie)["ok"]
    assert start(late) == {"ok": False, "reason": "factor_needed"}


def test_confirmed_address_ends_no_session_and_is_audited(world):
    maya = world.person()
    other = with_token(world, maya.id).with_session()

    assert change(world, maya, action="address.confirm", ends_others=False) == OK

    assert [one.refusal("my_account") for one in (maya, other)] == [None, None]
    assert credentials_of(world, maya)["generation"] == 2
    noted = "select actor from private.audit where action = 'address.confirm' and target = %s"
    assert world.one(noted, maya.id) == maya.id


def test_parallel_changes_of_a_password_store_one(world, migrated):
    maya = world.person()
    given = {"new_lookup": credentials_of(world, maya)["lookup"]}

    def change_one(connection, _):
        return maya.by(connection).call("change_credentials", **given)["ok"]

    assert sorted(servers.at_once(migrated, 4, change_one)) == [False, False, False, True]


def test_operator_changes_credentials_without_an_actor(world, migrated):
    maya = world.person()
    lookup = credentials_of(world, maya)["lookup"]
    with psycopg.connect(servers.as_owner(migrated), autocommit=True) as owner:
        found = "select private.credentials_of_lookups(%s)"
        assert owner.execute(found, [[lookup]]).fetchone() == (credentials_of(world, maya),)
        assert owner.execute(found, [[new_key().hex()]]).fetchone() == (None,)

        replacing = "select private.replace_credentials(null, %s, 1, 2, 0, false, 'password.set', %s, %s, true)"
        [answer] = owner.execute(replacing, [maya.id, lookup, sealed("new")]).fetchone()

    assert answer == OK
    assert maya.refusal("my_account") == SIGNED_OUT
    assert world.one("select actor from private.audit where action = 'password.set'") is None


def test_operator_removes_a_factor_that_is_required(world, migrated):
    maya = world.person()
    wants_factor(world, maya, uses=5)
    world.admin.execute("update private.settings set requires_factor = true")
    lookup = {"new_lookup": credentials_of(world, maya)["lookup"]}
    removal = {"action": "factor.remove", "new_uses": 5, "new_wants_factor": False} | lookup
    required = {"ok": False, "reason": "factor_required"}
    assert maya.call("change_credentials", **removal) == required
    unticked = removal | {"action": "password.set"}
    assert maya.call("change_credentials", **unticked) == required

    with psycopg.connect(servers.as_owner(migrated), autocommit=True) as owner:
        replacing = "select private.replace_credentials(null, %s, 1, 2, 5, false, 'factor.remove', %s, %s, true)"
        values = [maya.id, lookup["new_lookup"], sealed("new")]
        assert owner.execute(replacing, values).fetchone() == (OK,)

    assert not credentials_of(world, maya)["wants_factor"]


def test_session_that_begins_during_a_change_does_not_outlive_it(world, migrated):
    """A sign-in with the old password may run before the change or wait for it."""
    maya = world.person()
    given = {"new_lookup": credentials_of(world, maya)["lookup"]}
    device, late = with_token(world, maya.id), with_token(world, maya.id)
    cookie = new_key().hex()

    def change_one(connection, _):
        return maya.by(connection).call("change_credentials", **given)["ok"]

    with psycopg.connect(migrated, autocommit=True) as console:
        console.execute("begin")
        started = device.by(console).call("start_session", new_cookie_hash=cookie)
        assert started["ok"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(servers.at_once, migrated, 1, change_one)
            servers.wait_for_blocked(world.admin, 1)
            console.execute("commit")

    assert answer.result() == [True]
    assert not world.anon.call("open_session", cookie=cookie)["ok"]
    assert start(late) == STALE


# --- the end of an account, and strangers


def test_deleted_account_leaves_no_credentials(world):
    maya, omar = world.person(), world.person()

    assert maya.call("delete_account", person=maya.id) == OK

    assert [row[0] for row in rows(world)] == [omar.id]
    world.admin.execute("delete from auth.users where id = %s", [omar.id])
    assert rows(world) == []


def test_root_keys_of_users_credentials_are_needed(world):
    def token(version):
        return sealed("x").replace("p1.1.", f"p1.{version}.")

    given = {"new_sealed": token(7), "new_wrapped": token(2), "new_tokens": token(3)}
    assert start(world.make_person(world), **world.sign_up(new_sealed=token(9)), **given)["ok"]
    world.sign_up(new_sealed=token(9))

    assert sorted(world.anon.call("root_key_versions")["versions"]) == [2, 3, 7]


def test_user_of_a_cut_sign_up_is_removed(world):
    omar = world.make_person(world)
    ended = {"address": f"{omar.id}@daybook.test"}

    assert world.anon.call("end_stranger", **ended) == OK
    assert world.one("select count(*) from auth.users") == 0
    # this user of Supabase Auth is gone already
    assert world.anon.call("end_stranger", **ended) == OK


@pytest.mark.parametrize("who", ["with an account", "from before Daybook", "needed"])
def test_some_users_keep_their_address(world, who):
    if who == "with an account":
        omar = world.person()
        # the user can no longer sign in
        world.admin.execute("delete from private.credentials where user_id = %s", [omar.id])
    else:
        omar = world.make_person(world)
    if who == "from before Daybook":
        world.admin.execute("update private.settings set made_at = now()")
    elif who == "needed":
        world.admin.execute("create table of_the_operator (user_id uuid references auth.users)")
        world.admin.execute("insert into of_the_operator values (%s)", [omar.id])

    assert world.anon.call("end_stranger", address=f"{omar.id}@daybook.test") == TAKEN

    assert world.one("select count(*) from auth.users where id = %s", omar.id) == 1


def test_user_who_begins_an_account_meanwhile_is_not_removed(world, migrated):
    omar, begun = world.make_person(world), world.sign_up()
    ended = {"address": f"{omar.id}@daybook.test"}

    def end(connection, _):
        return world.anon.by(connection).call("end_stranger", **ended)

    with psycopg.connect(migrated, autocommit=True) as console:
        console.execute("begin")
        assert start(omar.by(console), **begun)["ok"]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(servers.at_once, migrated, 1, end)
            servers.wait_for_blocked(world.admin, 1)
            console.execute("commit")

    assert answer.result() == [TAKEN]


# --- Supabase Auth's tables


REPAIR = "select private.repair_sign_in(%s, %s, %s)"
AUTH_USER = "select email, encrypted_password from auth.users where id = %s"


@pytest.fixture
def owner(migrated):
    """A connection of the migrations' owner."""
    with psycopg.connect(servers.as_owner(migrated), autocommit=True) as connection:
        yield connection


def repoint(world, person):
    """Change the password and address of a user at Supabase Auth, as an attacker with write access to the database could."""
    world.admin.execute("insert into private.password_permits (user_id) values (%s)", [person.id])
    world.admin.execute(
        "update auth.users set email = 'mallory@daybook.test', encrypted_password = 'theirs' where id = %s",
        [person.id],
    )
    world.admin.execute(
        "insert into auth.identities (provider, provider_id, user_id, identity_data) values ('email', %s, %s, %s)",
        [str(person.id), person.id, Jsonb({"email": "mallory@daybook.test", "sub": "1"})],
    )


def test_repair_sets_address_and_password_at_supabase_auth(world, owner):
    maya, omar = world.person(), world.person()
    repoint(world, maya)

    assert owner.execute(REPAIR, [maya.id, "maya@daybook.test", "hash"]).fetchone() == (True,)

    assert world.one(AUTH_USER, maya.id) == ("maya@daybook.test", "hash")
    identity = "select identity_data, email from auth.identities where user_id = %s"
    data = {"email": "maya@daybook.test", "sub": "1"}
    assert world.one(identity, maya.id) == (data, "maya@daybook.test")
    assert maya.refusal("my_account") == SIGNED_OUT
    assert omar.refusal("my_account") is None
    noted = "select action, actor, target from private.audit order by id desc limit 1"
    assert world.one(noted) == ("sign_in.repair", None, maya.id)
    assert world.one("select count(*) from private.password_permits") == 0


@pytest.mark.parametrize(
    "change", ["drop table auth.identities", "revoke update on auth.identities from postgres"]
)
def test_repair_does_without_identities(world, owner, change):
    maya = world.person()
    world.admin.execute(change)

    assert owner.execute(REPAIR, [maya.id, "maya@daybook.test", "hash"]).fetchone() == (True,)

    assert world.one(AUTH_USER, maya.id) == ("maya@daybook.test", "hash")


def test_account_that_is_none_is_not_repaired(world, owner):
    maya, omar = world.person(), world.make_person(world)
    maya.call("delete_account", person=maya.id)
    before = world.one(AUTH_USER, maya.id)

    for user_id in (maya.id, omar.id, uuid4(), None):
        assert owner.execute(REPAIR, [user_id, "a@daybook.test", "hash"]).fetchone() == (False,)

    assert world.one(AUTH_USER, maya.id) == before


def test_user_data_that_fills_tokens_is_refused(world):
    maya = world.person()
    change = "update auth.users set raw_user_meta_data = %s where id = %s"

    world.admin.execute(change, [Jsonb({"name": "x" * 1900}), maya.id])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="UPDATE of users"):
        world.admin.execute(change, [Jsonb({"name": "x" * 2000}), maya.id])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="INSERT of users"):
        world.admin.execute(
            "insert into auth.users (raw_user_meta_data) values (%s)", [Jsonb({"name": "x" * 2000})]
        )


@pytest.mark.parametrize(
    ("call", "held"),
    [
        ("change_credentials", "private.app_sessions"),
        ("start_session", "private.roles"),
        ("start_session by a factor", "private.app_sessions"),
        ("repair_sign_in", "private.budgets"),
    ],
    ids=["change_credentials", "start_session", "start_session by a factor", "repair_sign_in"],
)
def test_deletion_during_a_change_causes_no_deadlock(world, migrated, call, held):
    """A deletion at Supabase Auth locks the user's row first, then the rows that refer to it; *held*: the row that it has locked."""
    maya = world.person()
    given = {"new_lookup": credentials_of(world, maya)["lookup"]}
    device = with_token(world, maya.id)

    def act(connection, _):
        match call:
            case "change_credentials":
                return maya.by(connection).call(call, **given)["ok"]
            case "start_session":
                return start(device.by(connection))["ok"]
            case "start_session by a factor":
                return start(device.by(connection), **given, **use(new_uses=1))["ok"]
            case _:
                repair = connection.execute(REPAIR, [maya.id, "maya@daybook.test", "hash"])
                return repair.fetchone()[0]

    with ThreadPoolExecutor(1) as pool, psycopg.connect(migrated) as console:
        console.execute("select from auth.users where id = %s for update", [maya.id])
        console.execute(f"select from {held} where user_id = %s for update", [maya.id])
        answer = pool.submit(servers.at_once, migrated, 1, act)
        servers.wait_for_blocked(world.admin, 1)
        console.execute("delete from auth.users where id = %s", [maya.id])

    assert answer.result() == [False]
