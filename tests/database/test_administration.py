"""The data that an admin reads and changes: usage of all users and of one, accounts, and the deployment's settings."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from services.crypto import new_key
from tests.database import servers
from tests.database.people import NOT_ALLOWED, SIGNED_OUT, sealed, side_call
from tests.database.test_turns import let_lapse


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def admin(world):
    return world.make_admin(world.person())


def report(admin, person=None, **days):
    return admin.call("usage_report", person=person and person.id, **days)


def test_report_adds_up_everybody_or_one(world, admin, maya):
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400)
    maya.finish(maya.call("begin_turn", **side_call(garden))["turn"], None, 50)
    omar = world.person()
    failed = {"outcome": "failed", "reply": None, "reply_body": None}
    omar.finish(omar.begin(omar.create_conversation())["turn"], 1, 30, **failed)
    dead = maya.begin(garden, 2)["turn"]
    maya.checkpoint(dead)
    let_lapse(world, dead)

    everybody, one = report(admin), report(admin, omar)

    assert [day["cost_micro"] for day in everybody["days"]] == [400 + 50 + 30 + 1100]
    assert [day["replies"] for day in everybody["days"]] == [3]
    assert {row["purpose"]: row["cost_micro"] for row in everybody["purposes"]} == {
        "reply": 1530,
        "title": 50,
    }
    assert [everybody[key] for key in ("active_users", "failed", "interrupted")] == [2, 1, 1]
    assert [day["cost_micro"] for day in one["days"]] == [30]
    assert [one[key] for key in ("active_users", "failed", "interrupted")] == [1, 1, 0]
    assert report(admin, last_day="2000-01-01")["active_users"] == 0


def charge(connection, user, kind, micro, ms=None):
    """Write an entry of ten days ago into the ledger."""
    connection.execute(
        "insert into private.ledger (user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_cached,"
        " first_token_ms, micro) values (%s, gen_random_uuid(), (now() at time zone 'utc')::date - 10, %s, 'complete',"
        " 'reply', 'm', 7, 3, %s, %s)",
        [user.id, kind, ms, micro],
    )


TOTAL = "select sum(cost_micro) from private.usage_by_day where user_id = private.all_users()"


def test_days_that_are_over_are_totalled_once(world, admin, maya):
    def found():
        first, last = world.one("select current_date - 30, current_date + 1")
        return report(admin, first_day=first, last_day=last), admin.call("deployment_settings")

    charge(world.admin, maya, "charge", 400, 700)
    charge(world.admin, maya, "lapsed", 90)
    before = found()
    world.sweep()

    assert world.one(TOTAL) == 490
    assert found() == before
    assert before[0]["first_token_ms"] == pytest.approx(700, rel=0.05)

    charge(world.admin, maya, "adjust", -60, 100)

    corrected = found()
    assert [day["cost_micro"] for day in corrected[0]["days"]] == [430]
    world.sweep()
    assert found() == corrected
    assert world.one(TOTAL) == 430


def test_entry_not_committed_yet_is_in_the_totals(world, maya, migrated):
    charge(world.admin, maya, "charge", 400)
    with psycopg.connect(migrated) as late:
        charge(late, maya, "charge", 30)
        world.sweep()

    world.sweep()
    assert world.one(TOTAL) == 430


def test_times_to_first_token_are_ranked(admin, maya):
    garden = maya.create_conversation()
    for number, ms in enumerate([100] * 18 + [1000, 9000]):
        maya.finish(maya.begin(garden, 2 * number)["turn"], 2 * number + 1, first_token_ms=ms)

    found = report(admin)

    assert found["first_token_ms"] == pytest.approx(100, rel=0.05)
    assert found["first_token_p95_ms"] == pytest.approx(1000, rel=0.05)
    assert report(admin, admin)["first_token_ms"] is None


def test_bytes_are_those_of_stored_messages(world, admin, maya):
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400, reply_thoughts=sealed("hm"))
    stored = "select sum(octet_length(body) + coalesce(octet_length(thoughts), 0)) from public.messages where user_id = %s"

    def kept():
        found = admin.call("list_users", words="", sorted_by="cost", skip=0, at_most=500)
        return next(row["bytes"] for row in found["users"] if str(row["user_id"]) == str(maya.id))

    assert kept() == world.one(stored, maya.id) > 0
    world.admin.execute(
        "update public.messages set destroy_at = now() - interval '1 day' where user_id = %s and role = 'assistant'",
        [maya.id],
    )
    world.one("select private.tidy()")
    assert kept() == world.one(stored, maya.id) > 0


def test_user_is_signed_out_everywhere(admin, maya):
    assert admin.call("sign_out_everywhere", person=maya.id) == {"ok": True}

    assert maya.refusal("my_account") == SIGNED_OUT


def test_admin_deletes_a_user_but_not_the_last_admin(world, admin, maya):
    assert admin.call("delete_account", person=maya.id) == {"ok": True}
    assert maya.refusal("my_account") == SIGNED_OUT
    assert world.one("select count(*) from public.user_keys where user_id = %s", maya.id) == 0
    assert admin.call("delete_account", person=maya.id) == {"ok": False, "reason": "not_found"}
    world.person()
    assert admin.call("delete_account", person=admin.id) == {"ok": False, "reason": "last_admin"}


def test_end_is_refused_before_it_is_begun(admin, maya):
    def check(person, is_shut):
        return admin.call("check_end", person=person, is_shut=is_shut)

    assert check(maya.id, True) == check(admin.id, False) == {"ok": True}
    assert check(admin.id, True) == {"ok": False, "reason": "last_admin"}
    assert check(uuid4(), True) == {"ok": False, "reason": "not_found"}
    own = {"person": maya.id, "is_shut": True}
    assert maya.call("check_end", **own) == {"ok": True}
    assert maya.refusal("check_end", person=admin.id, is_shut=True) == NOT_ALLOWED


def test_admin_who_was_just_suspended_deletes_nobody(world, migrated, maya):
    pair = [world.make_admin(world.person()) for _ in range(2)]
    world.make_admin(maya)

    def shut_other(connection, number):
        me, other = pair[number].by(connection), pair[1 - number]
        me.refusal("delete_account", person=other.id)

    servers.at_once(migrated, 2, shut_other)

    left = "select count(*) from private.roles where role = 'admin' and deleted_at is null"
    assert world.one(left) == 2


def test_defaults_are_those_of_the_next_account(world, admin):
    def set_caps(**changes):
        changes = json.dumps(changes)
        return admin.call("set_settings", changes=changes)

    assert set_caps(daily_cap_tokens=900, max_open=2, max_per_minute=7) == {"ok": True}

    caps = "select daily_cap_micro, daily_cap_tokens, max_open, max_per_minute from private.budgets where user_id = %s"
    assert world.one(caps, world.person().id) == (1_000_000, 900, 2, 7)
    assert set_caps(daily_cap_tokens=None, max_open=2)["ok"]
    settings = admin.call("deployment_settings")
    assert settings["defaults"]["daily_cap_tokens"] is None
    noted = world.admin.execute(
        "select detail from private.audit where action = 'settings.set' order by id"
    )
    assert [detail for (detail,) in noted] == [
        {"daily_cap_tokens": [None, 900], "max_open": [4, 2], "max_per_minute": [20, 7]},
        {"daily_cap_tokens": [900, None]},
    ]


def test_deployment_shows_its_cap_and_costs(world, admin, maya):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 400)
    # as totals of past days, which early in a month may all belong to the month before
    world.admin.execute(
        "insert into private.usage_by_day (user_id, day, model, purpose, cost_micro, first_tokens)"
        " values (private.all_users(), (now() at time zone 'utc')::date, 'm', 'reply', 400, '{}')"
    )
    admin.call("set_deployment_cap", new_monthly_cap_micro=5_000_000)

    settings = admin.call("deployment_settings")

    spent = (settings["spent_today_micro"], settings["spent_this_month_micro"])
    assert (settings["monthly_cap_micro"], spent) == (5_000_000, (400, 400))


@contextmanager
def waiting(world, migrated, table, act):
    """Lock *table* during the block, in which *act* waits on a connection of its own; yield the future of its result."""

    def call():
        with psycopg.connect(migrated, autocommit=True) as connection:
            return act(connection)

    with ThreadPoolExecutor(1) as calling, psycopg.connect(migrated) as console:
        console.execute(f"select from {table} for update")
        answer = calling.submit(call)
        servers.wait_for_blocked(world.admin, 1)
        yield answer
        console.rollback()


def test_lower_cap_waits_for_budgets_in_use(world, migrated, admin, maya):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 400)
    spare = "select loan - month_spent from private.budgets where user_id = %s"
    assert world.one(spare, maya.id) > 0

    def lower_cap(connection):
        return admin.by(connection).call("set_deployment_cap", new_monthly_cap_micro=400)

    with waiting(world, migrated, "private.budgets", lower_cap) as answer:
        pass

    assert answer.result() == {"ok": True}
    assert world.one(spare, maya.id) == 0


@pytest.mark.parametrize(
    ("table", "verb", "arguments"),
    [
        ("private.budgets", "set_caps", {"changes": '{"max_open": 1}'}),
        ("private.budgets", "set_deployment_cap", {"new_monthly_cap_micro": 5}),
        ("private.settings", "set_settings", {"changes": '{"max_open": 1}'}),
        ("private.model_settings", "set_model", {"changes": '{"is_offered": true}'}),
        ("private.invitations", "revoke_invitation", {}),
        ("private.app_sessions", "sign_out_everywhere", {}),
    ],
)
def test_admin_suspended_during_a_wait_changes_nothing(
    world, migrated, admin, maya, table, verb, arguments
):
    admin.call("invite", new_code_hash=new_key().hex(), new_role="user")
    admin.call("set_model", changes='{"is_offered": false}')
    [one] = admin.call("list_invitations")
    targets = {"person": maya.id, "invitation": one["id"]}
    wanted = {name: targets[name] for name in world.contract.parameters[verb] if name in targets}

    def act(connection):
        return admin.by(connection).refusal(verb, **wanted, **arguments)

    with waiting(world, migrated, table, act) as refused:
        world.suspend(admin)

    assert refused.result() == NOT_ALLOWED


def test_audit_names_users_and_comes_in_pages(world, admin, maya):
    admin.call("set_role", person=maya.id, new_role="admin")
    admin.call("set_deployment_cap", new_monthly_cap_micro=7)
    every = admin.call("list_audit", before=2**62, at_most=500)
    address = "select email from auth.users where id = %s"

    newest, older = every[:2]
    assert (newest["action"], newest["detail"]) == (
        "caps.deployment",
        {"monthly_cap_micro": [None, 7]},
    )
    assert (older["actor"], older["target"], older["detail"]) == (
        world.one(address, admin.id),
        world.one(address, maya.id),
        {"role": ["user", "admin"]},
    )
    assert admin.call("list_audit", before=newest["id"], at_most=1) == [older]


def test_audit_names_deleted_users_by_their_ids(world, admin, maya):
    maya.call("delete_account", person=maya.id)

    [newest] = admin.call("list_audit", before=2**62, at_most=1)

    assert (newest["action"], newest["actor"], newest["target"]) == (
        "account.delete",
        str(maya.id),
        str(maya.id),
    )


def test_user_sees_changes_of_the_own_account_alone(world, admin, maya):
    admin.call("set_role", person=maya.id, new_role="admin")
    admin.call("set_role", person=world.person().id, new_role="admin")

    seen = [(row["action"], row["actor"]) for row in maya.call("my_audit")]

    assert seen == [("role.set", "Admin"), ("key.put", "You"), ("account.begin", "You")]
    assert {row["target"] for row in maya.call("my_audit")} == {None}


def test_spending_of_a_clock_that_was_ahead_is_shown(world, admin, maya):
    world.admin.execute(
        "update private.budgets set day = current_date + 31, day_spent = 5, day_tokens = 6,"
        " month = date_trunc('month', current_date + 31), month_spent = 7 where user_id = %s",
        [maya.id],
    )

    account = maya.call("my_account")
    found = admin.call("list_users", words="", sorted_by="email", skip=0, at_most=500)
    user = next(row for row in found["users"] if str(row["user_id"]) == str(maya.id))

    assert (account["spent_today_micro"], account["spent_this_month_micro"]) == (5, 7)
    assert account["tokens_today"] == user["tokens_today"] == 6


def test_failures_do_not_hide_changes_of_the_own_account(world, maya):
    insertion = """
        insert into private.audit (at, action, target, detail)
        select now(), action, %s, '{}' from generate_series(1, %s), unnest(%s::text[]) action
    """
    world.admin.execute(insertion, [maya.id, 1001, ["proof.fail"]])
    seen = [row["action"] for row in maya.call("my_audit")]
    assert seen == ["proof.fail"] * 100 + ["key.put", "account.begin"]

    world.admin.execute(insertion, [maya.id, 501, ["session.prove", "proof.fail"]])
    seen = [row["action"] for row in maya.call("my_audit")]
    assert sorted(seen) == ["proof.fail"] * 100 + ["session.prove"] * 500


def age(world, conversation, days):
    used = "update public.conversations set updated_at = now() - make_interval(days => %s) where id = %s"
    world.admin.execute(used, [days, conversation])


def let_warning_pass(world):
    """Make the deployment believe that all users were warned for 14 days."""
    world.admin.execute("update private.settings set retention_from = now() - interval '1 second'")


def set_retention(admin, days):
    return admin.call("set_settings", changes=json.dumps({"retention_days": days}))


def tidy(world):
    while world.one("select private.tidy()"):
        pass


def test_unused_conversations_are_deleted_after_a_warning(world, admin, maya):
    old, newer, young = (maya.create_conversation() for _ in range(3))
    age(world, old, 100)
    age(world, newer, 80)
    preview = admin.call("preview_retention", days=90)
    assert (preview["conversations"], preview["users"]) == (2, 1)
    assert maya.call("my_account")["expiring"] is None

    assert set_retention(admin, 90) == {"ok": True}
    tidy(world)

    expiring = maya.call("my_account")["expiring"]
    assert expiring["conversations"] == 2
    warned = "select %s::timestamptz > now() + interval '13 days'"
    assert world.one(warned, expiring["from_time"])
    assert len(maya.rows("conversations")) == 3
    let_warning_pass(world)
    tidy(world)
    assert {row["id"] for row in maya.rows("conversations")} == {str(newer), str(young)}
    assert maya.call("my_account")["expiring"]["conversations"] == 1


@pytest.mark.parametrize("change", [{"pinned": True}, {"state": "archived"}])
def test_pinned_and_archived_conversations_expire_after_a_warning(world, admin, maya, change):
    garden = maya.create_conversation()
    maya.change(garden, **change)
    age(world, garden, 100)

    assert admin.call("preview_retention", days=90)["conversations"] == 1
    set_retention(admin, 90)
    assert maya.call("my_account")["expiring"]["conversations"] == 1
    let_warning_pass(world)
    tidy(world)

    assert maya.rows("conversations") == []


def test_used_conversation_no_longer_expires(world, admin, maya):
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1)
    age(world, garden, 89)
    set_retention(admin, 90)
    let_warning_pass(world)
    assert maya.call("my_account")["expiring"]["conversations"] == 1

    maya.finish(maya.begin(garden, 2)["turn"], 3)

    assert maya.call("my_account")["expiring"] is None


def test_conversation_with_a_reply_under_way_does_not_expire(world, admin, maya):
    garden = maya.create_conversation()
    maya.begin(garden)
    age(world, garden, 100)
    set_retention(admin, 90)
    let_warning_pass(world)

    tidy(world)

    assert world.one("select destroy_at is null from public.conversations where id = %s", garden)


def test_shorter_retention_warns_anew(world, admin, maya):
    age(world, maya.create_conversation(), 70)
    set_retention(admin, 90)
    let_warning_pass(world)

    set_retention(admin, 60)
    tidy(world)

    assert len(maya.rows("conversations")) == 1
    assert set_retention(admin, None) == {"ok": True}
    let_warning_pass(world)
    tidy(world)
    assert len(maya.rows("conversations")) == 1


def test_database_says_its_time_and_versions(world, admin):
    state = admin.call("database_state")

    assert state["schema_version"] == world.one("select max(version) from private.migrations")
    assert state["database_version"] == world.one("show server_version")
    assert world.one(
        "select clock_timestamp() - %s::timestamptz < interval '1 minute'", state["at"]
    )
    assert state["database_ms"] > 0
