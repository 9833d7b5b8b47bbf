"""Signed-in devices, refreshing tokens under a lease, and throttles against guessing."""

import json
from uuid import uuid4

import pytest

from services.crypto import new_key
from tests.database import servers
from tests.database.people import MISUSE, NOT_ALLOWED, SIGNED_OUT, created, sealed, with_token

MISSING = {"ok": False, "reason": "not_found"}
PROVE_AGAIN = "PT403"


@pytest.fixture
def cookie(maya):
    """The hash of the cookie of Maya's device."""
    return maya.cookie


def lease(caller, cookie, generation):
    return caller.call("lease_refresh", cookie=cookie, seen_generation=generation, lease_seconds=30)


def is_leased(answer):
    return answer["ok"] and answer["lease"] > 0


def store(caller, cookie, generation, token):
    return caller.call("store_tokens", cookie=cookie, seen_generation=generation, new_tokens=token)


def age(world, cookie, column, seconds):
    world.admin.execute(
        f"update private.app_sessions set {column} = {column} - make_interval(secs => %s)"
        " where cookie_hash = %s",
        [seconds, cookie],
    )


def test_valid_token_starts_one_session(world, maya):
    suspended, signed_out = (with_token(world, world.person().id) for _ in range(2))
    world.suspend(suspended)
    world.sign_out(signed_out)

    assert maya.refusal("start_session", new_cookie_hash=new_key().hex()) == "23505"
    for person in (suspended, signed_out):
        assert person.refusal("start_session", new_cookie_hash=new_key().hex()) == SIGNED_OUT


@pytest.mark.parametrize(("column", "seconds"), [("seen_at", 3601), ("expires_at", 86401)])
def test_session_ends_when_idle_and_when_old(world, maya, cookie, column, seconds):
    age(world, cookie, column, seconds - 60)
    assert world.anon.call("open_session", cookie=cookie)["ok"]
    age(world, cookie, column, seconds)

    assert world.anon.call("open_session", cookie=cookie) == MISSING
    age(world, cookie, column, 60)
    assert maya.refusal("my_sessions") == SIGNED_OUT
    world.anon.call("sweep_turns", at_most=1)
    assert world.one("select count(*) from private.app_sessions") == 0
    assert world.one("select count(*) from auth.sessions where user_id = %s", maya.id) == 0


def test_opening_a_session_keeps_it_from_being_idle(world, cookie):
    age(world, cookie, "seen_at", 3000)
    world.anon.call("open_session", cookie=cookie)
    age(world, cookie, "seen_at", 3000)

    assert world.anon.call("open_session", cookie=cookie)["ok"]


def test_one_of_eight_processes_gets_the_lease(world, migrated, cookie):
    def refresh(connection, _):
        return lease(world.anon.by(connection), cookie, 0)

    answers = servers.at_once(migrated, 8, refresh)

    assert sorted(answer.get("reason", "") for answer in answers) == ["", *["held"] * 7]


def test_late_process_learns_that_the_tokens_moved(world, cookie):
    anon = world.anon
    assert is_leased(lease(anon, cookie, 0))
    assert store(anon, cookie, 0, sealed("next")) == {"ok": True}

    assert lease(anon, cookie, 0) == {"ok": False, "reason": "moved", "generation": 1}
    assert store(anon, cookie, 0, sealed("late")) == {"ok": False, "reason": "moved"}
    opened = anon.call("open_session", cookie=cookie)
    assert (opened["tokens"], opened["generation"]) == (sealed("next"), 1)
    assert is_leased(lease(anon, cookie, 1))


def test_unused_lease_runs_out(world, cookie):
    lease(world.anon, cookie, 0)
    lapsing = "update private.app_sessions set refreshing_until = now() - interval '1 second'"
    world.admin.execute(lapsing)

    assert is_leased(lease(world.anon, cookie, 0))


def test_sign_out_ends_the_token(world, maya, cookie):
    assert maya.refusal("my_account") is None

    assert world.anon.call("end_session", cookie=cookie) == {"ok": True}

    assert maya.refusal("my_account") == SIGNED_OUT
    assert world.one("select count(*) from auth.sessions where user_id = %s", maya.id) == 0
    assert world.anon.call("open_session", cookie=cookie) == MISSING
    assert world.anon.call("end_session", cookie=cookie) == {"ok": True}


def test_users_see_and_end_their_own_devices(world, maya, cookie):
    theirs = world.person().cookie
    lost = with_token(world, maya.id).with_session().cookie

    devices = maya.call("my_sessions")
    assert sorted(device["is_this_one"] for device in devices) == [False, True]
    assert maya.call("revoke_sessions", one_session=uuid4())["ended"] == 0
    assert maya.call("revoke_sessions", one_session=None) == {"ok": True, "ended": 1}

    assert world.anon.call("open_session", cookie=lost) == MISSING
    assert world.anon.call("open_session", cookie=cookie)["ok"]
    assert world.anon.call("open_session", cookie=theirs)["ok"]
    assert world.one("select count(*) from auth.sessions where user_id = %s", maya.id) == 1
    this_one = next(device for device in devices if device["is_this_one"])
    assert maya.call("revoke_sessions", one_session=this_one["session"])["ended"] == 1
    assert maya.refusal("my_account") == SIGNED_OUT


def test_replies_of_other_devices_are_asked_to_end(world, maya):
    other, third = (with_token(world, maya.id).with_session() for _ in range(2))
    omar = world.person()
    turns = [one.begin(uuid4(), created=created())["turn"] for one in (maya, other, third, omar)]
    [other_id] = [one["session"] for one in other.call("my_sessions") if one["is_this_one"]]
    [omars_id] = [one["session"] for one in omar.call("my_sessions")]

    def streaming(one_session):
        answer = maya.call("stop_turns", one_session=one_session)["streaming"]
        owners = zip((maya, other, third, omar), turns, strict=True)
        return answer, [owner.checkpoint(turn)["stop"] for owner, turn in owners]

    assert streaming(omars_id) == streaming(uuid4()) == (0, [False] * 4)
    assert streaming(other_id) == (1, [False, True, False, False])
    assert streaming(None) == (2, [False, True, True, False])
    lapsing = "update public.turns set lease_until = now() - interval '1 second' where id = %s"
    world.admin.execute(lapsing, [turns[2]])  # its process has died: nobody would wait for it
    assert maya.call("stop_turns", one_session=None)["streaming"] == 1
    assert other.finish(turns[1], 1, outcome="stopped", reply_body=None)["ok"]
    assert maya.call("stop_turns", one_session=None)["streaming"] == 0


def test_sign_out_waits_for_the_replies_of_its_session(world, maya):
    other, omar = with_token(world, maya.id).with_session(), world.person()
    owners = maya, other, omar
    turns = [owner.begin(uuid4(), created=created())["turn"] for owner in owners]

    def sign_out(waits=True):
        answer = world.anon.call("end_session", cookie=maya.cookie, waits=waits)
        return answer.get("streaming"), maya.refusal("my_account") == SIGNED_OUT

    assert sign_out() == (1, False)
    asked = [owner.checkpoint(turn)["stop"] for owner, turn in zip(owners, turns, strict=True)]
    assert asked == [True, False, False]
    assert sign_out() == (1, False)
    assert maya.finish(turns[0], 1, 40, outcome="stopped")["charged"] == 40
    assert sign_out() == (None, True)


@pytest.mark.parametrize(("lease", "waits"), [("1 second", True), ("-1 minute", False)])
def test_sign_out_waits_for_no_process_that_is_gone(world, maya, lease, waits):
    turn = maya.begin(uuid4(), created=created())["turn"]
    lapsing = "update public.turns set lease_until = now() - %s::interval where id = %s"
    world.admin.execute(lapsing, [lease, turn])

    assert world.anon.call("end_session", cookie=maya.cookie, waits=waits) == {"ok": True}

    assert maya.refusal("my_account") == SIGNED_OUT


def proof_of(world, person, **given):
    """The arguments of a proof of *person*, who gets a new cookie under a new lease."""
    taken = lease(world.anon, person.cookie, 0)
    return {
        "returned": "[]",
        "cookie": person.cookie,
        "lease": taken.get("lease"),
        "new_cookie_hash": new_key().hex(),
        "new_tokens": sealed("sealed anew"),
    } | given


def row_of(world, cookie):
    columns = "generation, tokens, refreshing_until is null"
    query = f"select ({columns})::text from private.app_sessions where cookie_hash = %s"
    return world.one(query, cookie)


@pytest.mark.parametrize("proved", ["10 minutes ago", "1 hour"])  # or the clock was ahead
def test_proof_is_that_of_one_session(world, maya, proved):
    other = with_token(world, maya.id).with_session()
    world.admin.execute(
        "update private.app_sessions set proved_at = now() + %s::interval", [proved]
    )

    stale = proof_of(world, maya, seen_generation=2)
    assert maya.call("prove_session", **stale) == {"ok": False, "reason": "stale"}
    assert maya.refusal("revoke_sessions", one_session=None) == PROVE_AGAIN
    assert maya.call("prove_session", **proof_of(world, maya)) == {"ok": True}

    assert other.refusal("revoke_sessions", one_session=None) == PROVE_AGAIN
    proven = {one["is_this_one"]: one["is_proven"] for one in maya.call("my_sessions")}
    assert proven == {True: True, False: False}
    assert maya.call("revoke_sessions", one_session=None)["ended"] == 1


@pytest.mark.parametrize("scope", ["none", "most", None])
def test_proof_has_a_scope(world, maya, scope):
    given = proof_of(world, maya, new_scope=scope)

    assert maya.refusal("prove_session", **given) == MISUSE

    assert maya.call("prove_session", **given | {"new_scope": "part"}) == {"ok": True}


def test_overheard_proof_is_not_repeated(world, maya):
    given = proof_of(world, maya, seen_generation=1, nonce=uuid4())
    overheard = maya.proven("prove_session", given)

    assert maya.call("prove_session", **overheard) == {"ok": True}
    assert maya.refusal("prove_session", **overheard) == NOT_ALLOWED


def test_proof_gives_the_session_another_cookie_and_ends_the_lease(world, maya, cookie):
    [mine] = [one["session"] for one in maya.call("my_sessions")]
    given = proof_of(world, maya)

    assert maya.call("prove_session", **given) == {"ok": True}

    assert world.anon.call("open_session", cookie=cookie) == MISSING
    opened = world.anon.call("open_session", cookie=given["new_cookie_hash"])
    found = opened["session"], opened["tokens"], opened["generation"]
    assert found == (mine, sealed("sealed anew"), 1)
    assert is_leased(lease(world.anon, given["new_cookie_hash"], 1))


def test_refused_proof_ends_the_lease_and_changes_nothing_else(world, maya, cookie):
    before = row_of(world, cookie)

    given = proof_of(world, maya, seen_generation=2)
    assert maya.call("prove_session", **given) == {"ok": False, "reason": "stale"}

    assert row_of(world, cookie) == before


@pytest.mark.parametrize(
    "wrong", ["no lease", "another lease", "another cookie", "another session"]
)
def test_proof_wants_the_lease_and_the_cookie(world, maya, wrong):
    other = with_token(world, maya.id).with_session()
    given = proof_of(world, maya)
    changed = {
        "no lease": {"lease": None},
        "another lease": {"lease": given["lease"] + 1},
        "another cookie": {"cookie": new_key().hex()},
        "another session": proof_of(world, other),
    }
    before = row_of(world, maya.cookie), row_of(world, other.cookie)

    if "lease" in wrong:
        assert maya.refusal("prove_session", **given | changed[wrong]) == SIGNED_OUT
    else:
        assert maya.call("prove_session", **given | changed[wrong]) == MISSING

    assert (row_of(world, maya.cookie), row_of(world, other.cookie)) == before
    assert maya.call("prove_session", **given) == {"ok": True}


def test_proof_under_a_lease_that_another_process_took_is_refused(world, maya, cookie):
    given = proof_of(world, maya)
    lapsing = "update private.app_sessions set refreshing_until = now() - interval '1 second'"
    world.admin.execute(lapsing)
    assert is_leased(lease(world.anon, cookie, 0))

    assert maya.refusal("prove_session", **given) == SIGNED_OUT

    assert store(world.anon, cookie, 0, sealed("next")) == {"ok": True}


def test_lapsed_lease_that_nobody_took_is_good_for_a_proof(world, maya, cookie):
    given = proof_of(world, maya)
    ends_at = "to_timestamp(%s::numeric / 1000000)"
    lapsing = f"update private.app_sessions set refreshing_until = {ends_at}"
    past = given["lease"] - 60_000_000
    world.admin.execute(lapsing, [past])

    assert maya.call("prove_session", **given | {"lease": past}) == {"ok": True}


def test_refresh_of_before_a_proof_stores_nothing(world, maya, cookie):
    given = proof_of(world, maya)
    assert maya.call("prove_session", **given) == {"ok": True}

    for one, generation in ((cookie, 0), (given["new_cookie_hash"], 0)):
        late = {"ok": False, "reason": "moved"}
        assert store(world.anon, one, generation, sealed("late")) == late


def attempt(world, *names, at_most=3):
    """Count an attempt in the throttles of these *names*."""
    return world.anon.call("count_attempt", throttles=throttles(*names, at_most=at_most))


def throttles(*names, at_most=3):
    return json.dumps([{"bucket": name, "at_most": at_most, "seconds": 60} for name in names])


def attempts(world, bucket):
    return world.one("select attempts from private.throttles where bucket = %s", bucket)


def test_throttle_closes_for_its_window_and_bucket(world):
    bucket, other = new_key().hex(), new_key().hex()

    answers = [attempt(world, bucket) for _ in range(5)]

    assert [answer["ok"] for answer in answers] == [True, True, True, False, False]
    assert all(1 <= answer["retry_after"] <= 60 for answer in answers[3:])
    assert attempt(world, other)["ok"]
    for ends in ["now()", "now() + interval '1 day'"]:  # over, or of a clock that was ahead
        world.admin.execute(f"update private.throttles set attempts = 9, window_ends = {ends}")
        assert attempt(world, bucket)["ok"]


def test_full_throttle_refuses_and_those_after_it_do_not_count(world):
    address, account = new_key().hex(), new_key().hex()

    answers = [attempt(world, address, account, at_most=2) for _ in range(4)]

    assert [answer["ok"] for answer in answers] == [True, True, False, False]
    assert (attempts(world, address), attempts(world, account)) == (4, 2)
    assert not attempt(world, new_key().hex(), account, at_most=2)["ok"]


def test_attempt_counts_once_for_each_proof(world):
    bucket = new_key().hex()
    overheard = world.anon.proven("count_attempt", {"throttles": throttles(bucket)})

    assert world.anon.call("count_attempt", **overheard)["ok"]
    assert world.anon.refusal("count_attempt", **overheard) == NOT_ALLOWED

    assert attempts(world, bucket) == 1


def test_started_session_returns_its_attempt_once(world, maya):
    address, account = new_key().hex(), new_key().hex()
    for _ in range(2):
        attempt(world, address, account)
    person = with_token(world, maya.id)
    started = {"new_cookie_hash": new_key().hex(), "returned": json.dumps([address, account])}

    assert person.call("start_session", **started)["ok"]
    assert person.refusal("start_session", **started) == "23505"

    assert (attempts(world, address), attempts(world, account)) == (1, 1)


def test_refused_session_returns_no_attempt(world):
    bucket, person = new_key().hex(), with_token(world, world.person().id)
    attempt(world, bucket)
    world.sign_out(person)

    started = {"new_cookie_hash": new_key().hex(), "returned": json.dumps([bucket])}
    assert person.refusal("start_session", **started) == SIGNED_OUT

    assert attempts(world, bucket) == 1


def test_parallel_attempts_are_counted_without_deadlock(world, migrated, maya):
    names = [new_key().hex() for _ in range(2)]
    tokens = [with_token(world, maya.id) for _ in range(8)]

    def sign_in(connection, number):
        for _ in range(5):
            counted = throttles(*names, at_most=99)
            world.anon.by(connection).call("count_attempt", throttles=counted)
        started = {"new_cookie_hash": new_key().hex(), "returned": json.dumps(names)}
        tokens[number].by(connection).call("start_session", **started)

    servers.at_once(migrated, 8, sign_in)

    assert [attempts(world, name) for name in names] == [32, 32]


def test_session_brings_the_wrapped_keys(world, maya, cookie):
    theirs = [{"version": 1, "wrapped": sealed("user key")}]

    started = with_token(world, maya.id).call("start_session", new_cookie_hash=new_key().hex())

    assert started["keys"] == theirs
    assert world.anon.call("open_session", cookie=cookie)["keys"] == theirs
    maya.call("put_user_key", new_wrapped=sealed(2), replaces=sealed("user key"))
    assert world.anon.call("open_session", cookie=world.person().cookie)["keys"] == theirs


def test_expired_throttles_and_proofs_are_swept(world):
    attempt(world, new_key().hex())
    world.admin.execute("update private.throttles set window_ends = now() - interval '1 second'")
    world.admin.execute("update private.seen_nonces set seen_at = now() - interval '4 minutes'")

    world.anon.call("sweep_turns", at_most=1)

    assert world.one("select count(*) from private.throttles") == 0
    assert world.one("select count(*) from private.seen_nonces") == 0


def ended(world, *devices):
    """Return the reasons why those sessions of *devices* have ended that have ended."""
    held = [{"session": str(its), "user": str(person.id)} for its, person in devices]
    return world.anon.call("ended_sessions", sessions=json.dumps(held))["ended"]


def session_of(world, person):
    return world.one("select id from private.app_sessions where cookie_hash = %s", person.cookie)


def test_process_learns_which_sessions_ended_and_why(world, maya):
    omar, zoe, noah = (world.person() for _ in range(3))
    maya, omar, zoe, noah = held = [
        (session_of(world, one), one) for one in (maya, omar, zoe, noah)
    ]
    assert ended(world, *held) == {}

    world.anon.call("end_session", cookie=maya[1].cookie)
    world.suspend(omar[1])
    zoe[1].call("delete_account", person=zoe[1].id)

    assert ended(world, *held) == {
        str(maya[0]): "ended",
        str(omar[0]): "suspended",
        str(zoe[0]): "deleted",
    }
    age(world, noah[1].cookie, "seen_at", 3601)
    assert ended(world, noah) == {str(noah[0]): "ended"}


def test_asking_for_ended_sessions_keeps_none_from_being_idle(world, maya, cookie):
    age(world, cookie, "seen_at", 3000)
    assert ended(world, (session_of(world, maya), maya)) == {}

    age(world, cookie, "seen_at", 601)

    assert world.anon.call("open_session", cookie=cookie) == MISSING
