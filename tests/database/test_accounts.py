"""The beginning and end of accounts, and their administration."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Json, Jsonb

from services.embedded.stack import choose_first_admin
from tests.database import servers
from tests.database.people import (
    MISUSE,
    SIGNED_OUT,
    Caller,
    created,
    refusal,
    sealed,
    side_call,
    with_token,
)
from tests.database.storm import Storm
from tests.stack.apps import until

UNPAID = "select sum(micro) - (select lent from private.deployment) from private.ledger"


def role(world, person):
    return world.one("select role from private.roles where user_id = %s", person.id)


def set_role(admin, person, new_role):
    return admin.call("set_role", person=person.id, new_role=new_role)


def suspend(admin, person, *, suspended=True):
    return admin.call("suspend", person=person.id, suspended=suspended)


@pytest.fixture
def admin(world):
    return world.make_admin(world.person())


def test_new_account_has_role_user_and_default_caps(world):
    world.admin.execute("update private.settings set daily_cap_micro = 7, monthly_cap_micro = 8")

    account = world.person().call("my_account")

    assert account["role"] == "user"
    assert (account["daily_cap_micro"], account["monthly_cap_micro"]) == (7, 8)
    assert account["spent_today_micro"] == 0
    assert account["spent_this_month_micro"] == 0


def test_first_account_is_admin_if_settings_say_so(world, migrated):
    world.admin.execute("update private.settings set first_account_is_admin = true")
    crowd = [(world.make_person(world), world.sign_up()) for _ in range(5)]

    def sign_up(connection, number):
        person, begun = crowd[number]
        assert person.by(connection).with_session(**begun)

    servers.at_once(migrated, 5, sign_up)

    assert world.one(
        "select count(*), count(*) filter (where role = 'admin') from private.roles"
    ) == (5, 1)


def test_first_account_is_admin_on_a_private_embedded_stack_alone(world):
    assert choose_first_admin(world.admin, is_public=False) is None
    notice = choose_first_admin(world.admin, is_public=True)
    assert "grant-admin" in notice.sentence

    omar = world.person()

    assert role(world, omar) == "user"
    world.make_admin(omar)
    assert choose_first_admin(world.admin, is_public=True) is None


def test_role_in_sign_up_metadata_is_ignored(api_world):
    way = api_world.anon.way
    data = {"role": "admin", "app_metadata": {"role": "admin"}}
    email = f"{uuid4()}@daybook.test"

    reply = way.client.auth.sign_up(
        {"email": email, "password": "correct horse battery", "options": {"data": data}}
    )

    api_world.people.append(reply.user.id)
    person = Caller(way, api_world.contract, api_world.proof, UUID(reply.user.id))
    person = person.with_session(**api_world.sign_up())
    assert role(api_world, person) == "user"


@pytest.mark.parametrize("column", ["encrypted_password", "email"])
def test_permit_allows_one_change_for_a_minute(world, column):
    maya, omar = world.person(), world.person()
    permit = "insert into private.password_permits (user_id, made_at) values (%s, now() - %s)"

    def is_changed():
        try:
            change = f"update auth.users set {column} = gen_random_uuid() where id = %s"
            world.admin.execute(change, [maya.id])
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    world.admin.execute(permit, [omar.id, timedelta()])
    world.admin.execute(permit, [maya.id, timedelta(seconds=61)])
    assert not is_changed()
    world.admin.execute("update private.password_permits set made_at = now() where true")
    assert is_changed()
    assert not is_changed()
    world.admin.execute("update auth.users set raw_user_meta_data = '{\"a\": 1}' where true")


def test_role_changes_are_noted(world, admin):
    omar = world.person()

    assert set_role(admin, omar, "admin") == {"ok": True}
    assert role(world, omar) == "admin"
    assert set_role(omar, admin, "user") == {"ok": True}
    assert role(world, admin) == "user"

    noted = world.admin.execute(
        "select actor, target, detail -> 'role' ->> 1 from private.audit where action = 'role.set' order by id"
    )
    assert list(noted) == [(admin.id, omar.id, "admin"), (omar.id, admin.id, "user")]


def test_unknown_role_is_not_given_and_may_do_nothing(world, admin):
    omar = world.person()
    assert admin.refusal("set_role", person=omar.id, new_role="auditor") == MISUSE
    assert world.anon.call("open_session", cookie=omar.cookie)["role"] == "user"

    world.admin.execute("update private.roles set role = 'auditor' where user_id = %s", [omar.id])

    assert omar.refusal("my_account") == SIGNED_OUT
    assert omar.refusal("begin_turn", **side_call()) == SIGNED_OUT
    assert omar.rows("conversations") == []
    assert not world.anon.call("open_session", cookie=omar.cookie)["ok"]


def test_suspension_is_noted_once_with_what_was_before(world, admin):
    omar = world.person()
    suspend(admin, omar)
    suspend(admin, omar)
    suspend(admin, omar, suspended=False)

    noted = world.admin.execute(
        "select detail from private.audit where action = 'account.suspend' order by id"
    )
    assert [detail for (detail,) in noted] == [
        {"suspended": [False, True]},
        {"suspended": [True, False]},
    ]


def test_admin_call_for_unknown_user_is_not_found_nor_noted(world, admin):
    nobody = {"person": uuid4()}
    missing = {"ok": False, "reason": "not_found"}
    before = world.contents()

    assert admin.call("set_role", **nobody, new_role="admin") == missing
    assert admin.call("suspend", **nobody, suspended=True) == missing
    assert admin.call("set_caps", **nobody, changes='{"max_open": 1}') == missing
    assert world.contents() == before


def test_last_admin_is_not_removed(world, admin):
    world.person()
    last = {"ok": False, "reason": "last_admin"}

    assert set_role(admin, admin, "user") == last
    assert suspend(admin, admin) == last
    assert admin.call("delete_account", person=admin.id) == last
    assert admin.call("check_end", person=admin.id, is_shut=True) == last

    second = world.make_admin(world.person())
    suspend(admin, second)
    assert admin.call("delete_account", person=admin.id) == last  # a suspended admin does not count
    suspend(admin, second, suspended=False)
    assert admin.call("check_end", person=admin.id, is_shut=True) == {"ok": True}
    assert admin.call("delete_account", person=admin.id) == {"ok": True}


def test_two_admins_removing_each_other_leave_one(world, migrated):
    pair = [world.person(), world.person()]

    def demote_other(connection, number):
        me, other = pair[number], pair[1 - number]
        me.by(connection).refusal("set_role", person=other.id, new_role="user")

    for _ in range(5):
        for person in pair:
            world.make_admin(person)

        servers.at_once(migrated, 2, demote_other)

        assert sorted(role(world, person) for person in pair) == ["admin", "user"]


def test_caps_are_set_one_by_one(world, admin):
    omar = world.person()

    for changes in ('{"monthly_cap_micro": 77}', "{}"):
        assert admin.call("set_caps", person=omar.id, changes=changes)["ok"]

    caps = "select daily_cap_micro, monthly_cap_micro, max_open from private.budgets where user_id = %s"
    assert world.one(caps, omar.id) == (1_000_000, 77, 4)
    noted = "select detail from private.audit where action = 'caps.set' and target = %s"
    assert world.one(noted, omar.id) == {"monthly_cap_micro": [10_000_000, 77]}


def listed(admin, words="", sorted_by="cost", skip=0, at_most=500):
    """Return a page of the users that *admin* sees, and the number of all users."""
    return admin.call("list_users", words=words, sorted_by=sorted_by, skip=skip, at_most=at_most)


def test_people_are_found_sorted_and_skipped(world, admin):
    people = [world.person() for _ in range(3)]
    for spent, person in enumerate(people):
        begun = person.call("begin_turn", **side_call())
        person.finish(begun["turn"], None, spent)
        renamed = "update auth.users set email = %s where id = %s"
        world.admin.execute("set session_replication_role = replica")
        world.admin.execute(renamed, [f"{'cab'[spent]}@Sorted.test", person.id])
        world.admin.execute("set session_replication_role = default")

    def found(**choices):
        return [row["email"][0] for row in listed(admin, "sorted.TEST", **choices)["users"]]

    assert found() == ["b", "a", "c"]
    assert found(sorted_by="email") == ["a", "b", "c"]
    assert found(sorted_by="active") == ["b", "a", "c"]
    assert found(skip=1) == ["a", "c"]
    assert found(at_most=1) == ["b"]
    assert listed(admin, "sorted", skip=3) == {"users": [], "total": 3}
    assert listed(admin, "%")["total"] == 0


def test_admin_sees_usage_and_no_content(world, admin):
    omar = world.person()
    omar.finish(omar.begin(uuid4(), created=created())["turn"], 1, 400)
    omar.finish(omar.call("begin_turn", **side_call())["turn"], None, 50)

    page = listed(admin)

    row = next(row for row in page["users"] if str(row["user_id"]) == str(omar.id))
    # a title does not count as a reply, but costs money
    assert (row["replies_today"], row["cost_today_micro"]) == (1, 450)
    assert row["tokens_today"] == row["tokens_in_this_month"] + row["tokens_out_this_month"] > 0
    sums = [row[f"{what}_this_month"] for what in ("replies", "tokens_in", "tokens_out")]
    assert (sums, row["cost_this_month_micro"]) == ([1, 20, 40], 450)
    assert (row["conversations"], page["total"]) == (1, len(page["users"]))
    assert row["last_active_at"] is not None
    assert "p1." not in str(page)
    assert admin.rows("messages") + admin.rows("conversations") == []


def test_user_key_is_replaced_only_where_seen(world):
    omar = world.person()

    def put(wrapped, replaces, **changes):
        key = {"new_wrapped": sealed(wrapped), "replaces": replaces and sealed(replaces)}
        return omar.call("put_user_key", **key | changes)

    stale = {"ok": False, "reason": "stale"}
    assert put(2, None) == put(2, 3) == put(2, "user key", new_version=2) == stale
    assert [row["wrapped"] for row in omar.rows("user_keys")] == [sealed("user key")]
    assert put(2, "user key") == {"ok": True}
    assert [row["wrapped"] for row in omar.rows("user_keys")] == [sealed(2)]


def test_missing_user_key_is_never_made_anew(world):
    omar = world.person()
    world.admin.execute("delete from public.user_keys where user_id = %s", [omar.id])

    again = with_token(world, omar.id).with_session()

    assert not again.call("put_user_key", replaces=sealed("user key"))["ok"]
    assert again.rows("user_keys") == []


def test_deleted_account_leaves_only_usage_and_audit(world, migrated):
    omar, maya = world.person(), world.person()
    garden = omar.create_conversation()
    open_turn = omar.begin(garden, receipt_body=sealed("receipt"))["turn"]
    omar.checkpoint(open_turn, sealed("so far"))
    omar.finish(omar.begin(omar.create_conversation())["turn"], 1, 400)
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 30)

    assert omar.call("delete_account", person=omar.id) == {"ok": True}
    world.admin.execute("update public.turns set lease_until = now() where user_id = %s", [omar.id])
    world.sweep()
    let_a_minute_pass(world)
    erase(world)

    left = {
        table: rows
        for table, rows in world.contents().items()
        if rows is not None and str(omar.id) in rows
    }
    assert set(left) == {"private.ledger", "private.usage_by_day", "private.audit"}
    assert world.one("select sum(micro) from private.ledger where user_id = %s", omar.id) == 1500
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    assert world.one(UNPAID) == 0


USER = "select email, encrypted_password, email_change, raw_user_meta_data from auth.users where id = %s"


def test_deleted_account_leaves_a_tombstone_for_its_address(world):
    omar = world.person()
    given = f"{omar.id}@daybook.test"
    world.admin.execute(
        "insert into auth.identities (provider, provider_id, user_id, identity_data) values ('email', %s, %s, %s)",
        [str(omar.id), omar.id, Jsonb({"email": given})],
    )
    world.admin.execute(
        "update auth.users set raw_user_meta_data = %s where id = %s",
        [Jsonb({"email": given}), omar.id],
    )

    assert omar.call("delete_account", person=omar.id) == {"ok": True}

    assert world.one(USER, omar.id) == (f"{omar.id}@deleted.invalid", None, "", {})
    identities = "select count(*) from auth.identities where user_id = %s"
    assert world.one(identities, omar.id) == 0


LOGGED = "select count(*) from auth.audit_log_entries where payload::text like %s"


def log(world, **payload):
    """Write a log entry as Supabase Auth does."""
    insertion = "insert into auth.audit_log_entries (id, payload) values (gen_random_uuid(), %s)"
    world.admin.execute(insertion, [Json(payload)])


def erase(world):
    """Erase the due entries from the log in slices; return the number of calls."""
    calls = 1
    while world.anon.call("erase_log_entries")["more"]:
        calls += 1
    return calls


def is_due(world):
    while (swept := world.anon.call("sweep_turns", at_most=1))["more"]:
        pass
    return swept["log_erasures"]


def let_a_minute_pass(world):
    world.admin.execute(
        "update private.log_erasures set since = since - interval '1 minute' where true"
    )


def test_deleted_account_leaves_the_log_of_supabase_auth(world):
    omar, maya = world.person(), world.person()
    for person in (omar, maya):
        email = f"{person.id}@daybook.test"
        log(world, actor_id=str(person.id), actor_username=email, action="login")
        log(
            world,
            actor_id="0",
            action="user_modified",
            traits={"user_id": str(person.id), "user_email": email},
        )
    log(world, action="without an actor", traits="none")
    omar.call("delete_account", person=omar.id)
    erase(world)
    assert not is_due(world)
    # for a minute, requests in progress at Supabase Auth may still write entries
    assert world.one(LOGGED, f"%{omar.id}%") == 2

    let_a_minute_pass(world)
    assert is_due(world)
    erase(world)

    assert (world.one(LOGGED, f"%{omar.id}%"), world.one(LOGGED, f"%{maya.id}%")) == (0, 2)
    assert world.one("select count(*) from auth.audit_log_entries") == 3
    assert not is_due(world)
    assert world.one("select count(*) from private.log_erasures") == 0


def test_log_is_erased_in_slices_that_another_deletion_may_join(world):
    omar, maya = world.person(), world.person()
    world.admin.execute(
        "insert into auth.audit_log_entries (id, payload)"
        " select gen_random_uuid(), json_build_object('actor_id', case when n %% 100 = 0 then %s::uuid else %s end)"
        " from generate_series(1, 30000) n",
        [omar.id, maya.id],
    )
    omar.call("delete_account", person=omar.id)
    let_a_minute_pass(world)
    assert world.anon.call("erase_log_entries")["more"]

    maya.call("delete_account", person=maya.id)
    let_a_minute_pass(world)
    erase(world)

    assert world.one("select count(*) from auth.audit_log_entries") == 0
    assert world.one("select count(*) from private.log_erasures") == 0


@pytest.mark.parametrize("right", ["select", "delete"])
def test_log_that_may_not_be_erased_stops_no_deletion(world, right):
    omar = world.person()
    log(world, actor_id=str(omar.id))
    world.admin.execute(f"revoke {right} on auth.audit_log_entries from postgres")

    assert omar.call("delete_account", person=omar.id) == {"ok": True}
    let_a_minute_pass(world)

    assert not is_due(world)
    assert erase(world) == 1
    assert world.one("select count(*) from private.log_erasures") == 1


def test_account_is_deleted_where_there_is_no_log(world):
    omar = world.person()
    world.admin.execute("drop table auth.audit_log_entries")

    assert omar.call("delete_account", person=omar.id) == {"ok": True}
    world.sweep()

    assert erase(world) == 1
    assert world.one("select count(*) from private.log_erasures") == 0


def test_account_is_deleted_where_there_are_no_identities(world):
    omar = world.person()
    world.admin.execute("drop table auth.identities")

    assert omar.call("delete_account", person=omar.id) == {"ok": True}

    assert world.one(USER, omar.id)[0] == f"{omar.id}@deleted.invalid"


def test_stranger_with_the_address_of_a_tombstone_stops_no_deletion(world):
    omar = world.person()
    insertion = "insert into auth.users (email) values (%s) returning id"
    squatter = world.one(insertion, f"{omar.id}@deleted.invalid")

    assert omar.call("delete_account", person=omar.id) == {"ok": True}

    assert world.one("select count(*) from auth.users where id = %s", squatter) == 0


@pytest.mark.parametrize("column", ["encrypted_password", "email"])
def test_deleted_account_gets_no_other_password_or_address(world, column):
    omar = world.person()
    omar.call("delete_account", person=omar.id)

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="without a permit"):
        world.admin.execute(f"update auth.users set {column} = 'x' where id = %s", [omar.id])


def test_live_account_gets_no_tombstone(world):
    omar, maya = world.person(), world.person()
    maya.call("delete_account", person=maya.id)
    bury = "update auth.users set email = %s, encrypted_password = null where id = %s"

    for buried in (omar.id, maya.id):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="without a permit"):
            world.admin.execute(bury, [f"{buried}@deleted.invalid", omar.id])

    assert world.one(USER, omar.id)[0] == f"{omar.id}@daybook.test"


def test_account_that_another_table_needs_stops_no_sweep(world):
    omar, maya = world.person(), world.person()
    world.admin.execute("create table of_the_operator (user_id uuid references auth.users)")
    world.admin.execute("insert into of_the_operator values (%s)", [omar.id])
    maya.checkpoint(maya.begin(maya.create_conversation())["turn"])
    omar.call("delete_account", person=omar.id)
    world.admin.execute("update public.turns set lease_until = now() where true")

    world.sweep()

    assert world.one("select count(*) from public.turns where finished_at is null") == 0
    assert world.one("select count(*) from auth.users where id = %s", omar.id) == 1


def test_deleted_account_is_closed_for_good(world, admin):
    omar = world.person()
    omar.create_conversation()

    assert omar.call("delete_account", person=omar.id) == {"ok": True}

    assert omar.refusal("my_account") == SIGNED_OUT
    assert suspend(admin, omar, suspended=False) == {"ok": False, "reason": "not_found"}
    assert [row["user_id"] for row in listed(admin)["users"]] == [str(admin.id)]
    for table in ("public.user_keys", "private.credentials", "auth.sessions"):
        assert world.one(f"select count(*) from {table} where user_id = %s", omar.id) == 0


@pytest.mark.parametrize("by_whom", ["by themselves", "by another"])
def test_admin_removed_during_account_deletion_causes_no_deadlock(world, admin, migrated, by_whom):
    other = world.make_admin(world.person())

    def leave():
        with psycopg.connect(migrated, autocommit=True) as connection:
            if by_whom == "by themselves":
                return admin.by(connection).refusal("delete_account", person=admin.id)
            return other.by(connection).refusal("suspend", person=admin.id, suspended=True)

    with ThreadPoolExecutor(1) as leaving, psycopg.connect(migrated) as console:
        console.execute("select from auth.users where id = %s for update", [admin.id])
        answer = leaving.submit(leave)
        servers.wait_for_blocked(world.admin, 1)
        console.execute("delete from auth.users where id = %s", [admin.id])

    assert answer.result() is None


LET_LAPSE = """
update public.turns set lease_until = now()
where id in (select id from public.turns where lease_until > now() for update skip locked)
"""


def test_accounts_are_deleted_under_load_without_a_deadlock(world, migrated):
    """Accounts are deleted by the user and the sweep, and by SQL from auth.users; conversations are deleted at the same time."""
    storm, codes, joining = Storm(migrated), set(), threading.Lock()

    def join():
        with joining:
            return world.person()

    crowd = [join() for _ in range(4)]

    def talk(number):
        def act(connection):
            person = crowd[number].by(connection)
            codes.add(refusal(lambda: talk_and_delete(person)))

        return act

    def leave(number):
        def act(connection):
            person = crowd[number]
            if number % 2:
                connection.execute("delete from auth.users where id = %s", [person.id])
            else:
                codes.add(person.by(connection).refusal("delete_account", person=person.id))
            crowd[number] = join()

        return act

    def sweep(connection):
        # `skip locked`, because this statement itself must not cause a deadlock with a deletion
        connection.execute(LET_LAPSE)
        codes.add(world.anon.by(connection).refusal("sweep_turns", at_most=10))

    acts = [*map(talk, range(4)), *map(talk, range(4)), *map(leave, range(4)), sweep, sweep]
    threads = [storm.start(act) for act in acts]
    enough = """select (select count(*) from private.ledger) > 20
      and (select count(*) > 50 from private.audit where action = 'account.end')"""
    try:
        with psycopg.connect(migrated, autocommit=True) as watching:
            until(lambda: watching.execute(enough).fetchone()[0])
    finally:
        storm.stop.set()
        for thread in threads:
            thread.join()

    # a deleted user is told so; the code of a deadlock would be 40P01
    assert codes <= {None, SIGNED_OUT, "23503"}
    assert storm.errors == {}
    # some turns were interrupted
    world.admin.execute("update public.turns set lease_until = now()")
    world.sweep()
    assert world.one("select count(*) from private.roles where deleted_at is not null") == 0
    world.admin.execute("delete from auth.users")
    assert world.one("select count(*) from public.turns") == 0
    assert world.one(UNPAID) == 0


def talk_and_delete(person):
    conversation = uuid4()
    begun = person.begin(conversation, created=created())
    if begun["ok"]:
        person.checkpoint(begun["turn"], sealed("so far"))
        person.finish(begun["turn"], 1, 100)
    person.call("discard_conversation", conversation=conversation, for_seconds=1)


@pytest.mark.parametrize("book", ["private.ledger", "private.audit"])
@pytest.mark.parametrize("verb", ["update {} set at = now()", "delete from {}", "truncate {}"])
def test_ledger_and_audit_are_append_only(world, book, verb):
    omar = world.person()
    omar.finish(omar.begin(omar.create_conversation())["turn"], 1, 400)

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not allowed"):
        world.admin.execute(verb.format(book))

    assert world.one(f"select count(*) > 0 from {book}")


COUNTS = '{"count": 2}'


@pytest.mark.parametrize(
    ("action", "hours", "change"),
    [
        ("proof.fail", 0, f"at = now(), detail = '{COUNTS}'"),
        ("proof.fail", 0, f"actor = target, detail = '{COUNTS}'"),
        ("proof.fail", 0, f"action = 'factor.fail', detail = '{COUNTS}'"),
        ("proof.fail", 0, f"target = null, detail = '{COUNTS}'"),
        ("proof.fail", 0, "detail = '{\"count\": 3}'"),
        ("proof.fail", 0, 'detail = \'{"count": 2, "more": 1}\''),
        ("proof.fail", 1, f"detail = '{COUNTS}'"),
        ("session.prove", 0, f"detail = '{COUNTS}'"),
    ],
)
def test_entry_of_the_audit_stays_but_for_the_count_of_a_failure(world, action, hours, change):
    insertion = """
        insert into private.audit (at, action, target, detail)
        values (date_trunc('hour', now(), 'utc') - make_interval(hours => %s), %s, %s, '{"count": 1}')
    """
    world.admin.execute(insertion, [hours, action, uuid4()])

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is not allowed"):
        world.admin.execute(f"update private.audit set {change} where action = %s", [action])


def test_failure_that_waits_over_the_hour_has_an_entry_of_its_own(world):
    maya = world.person()
    world.admin.execute(  # noted by a call that began later, and was faster
        """
        insert into private.audit (at, action, target, detail)
        values (now() + interval '1 hour', 'proof.fail', %s, '{"count": 1}')
        """,
        [maya.id],
    )

    assert world.anon.call("note_failure", person=maya.id, failure="proof.fail")["ok"]

    assert world.one("select count(*) from private.audit where action = 'proof.fail'") == 2


def test_failures_at_once_are_counted_in_one_entry(world, migrated):
    maya = world.person()

    def fail(connection, _):
        caller = world.anon.by(connection)
        return [
            caller.call("note_failure", person=maya.id, failure="proof.fail")["ok"]
            for _ in range(3)
        ]

    servers.at_once(migrated, 8, fail)

    counts = "select array_agg(detail) from private.audit where action = 'proof.fail'"
    assert world.one(counts) == [{"count": 24}]


@pytest.mark.parametrize("failure", ["session.prove", "key.fail", None])
def test_what_is_no_failure_is_not_noted(world, failure):
    maya = world.person()
    before = world.contents()

    assert world.anon.refusal("note_failure", person=maya.id, failure=failure) == MISUSE

    assert world.contents() == before


def test_notices_that_come_at_once_leave_three(world, migrated):
    maya = world.person()

    def tell(connection, _):
        caller = world.anon.by(connection)
        for _ in range(3):
            given = {"person": maya.id, "new_kind": "new_device", "throttles": "[]"}
            assert caller.call("add_notice", **given)["ok"]

    servers.at_once(migrated, 8, tell)

    assert world.one("select count(*) from private.notices") == 3


def test_tables_of_users_are_not_truncated(world):
    query = "select tablename from pg_tables where schemaname = 'public'"

    for (table,) in world.admin.execute(query).fetchall():
        said = f"TRUNCATE of {table} is not allowed"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=said):
            world.admin.execute(f"truncate public.{table} cascade")


def _in_form_of(domain, body):
    """Return *body* with the prefix of a sealed value of this type."""
    prefix = {
        "public.sealed": "p1.1.",
        "public.sealed_octets": "o1.1.",
        "public.sealed_head": "h1.",
    }
    return prefix[domain] + body


SEALED_TYPES = ["public.sealed", "public.sealed_octets", "public.sealed_head"]


@pytest.mark.parametrize("domain", SEALED_TYPES)
def test_sealed_types_refuse_readable_text(world, domain):
    """In a column of these types; test_catalogue.py finds the columns that must have one of them."""
    for text in ("the cat is grey", _in_form_of(domain, "the cat is grey " * 8)):
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            world.admin.execute(f"select '{text}'::{domain}")

        assert "cat" not in str(refused.value)


@pytest.mark.parametrize("domain", SEALED_TYPES)
def test_sealed_types_have_their_sizes(world, domain):
    sizes = {"public.sealed_head": (118, 255)}
    least, most = sizes.get(domain, (75, 400_000 - len(_in_form_of(domain, ""))))

    for size in (least, most):
        world.admin.execute(f"select '{_in_form_of(domain, 'A' * size)}'::{domain}")
    for size in (least - 1, most + 1):
        with pytest.raises(psycopg.errors.CheckViolation):
            world.admin.execute(f"select '{_in_form_of(domain, 'A' * size)}'::{domain}")
