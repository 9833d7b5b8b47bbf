"""The users who may begin an account: the mode of sign-ups, invitations, and users who never began one."""

from uuid import uuid4

import psycopg
import pytest

from services.crypto import new_key, sha
from services.domain.addresses import checked_address
from tests.addresses import GOOD, HOSTILE
from tests.database import servers
from tests.database.people import NOT_ALLOWED, SIGNED_OUT, with_token

CLOSED = {"ok": False, "reason": "sign_ups_closed"}
UNINVITED = {"ok": False, "reason": "no_invitation"}


@pytest.fixture
def admin(world):
    return world.make_admin(world.person())


def set_mode(admin, mode):
    changes = f'{{"sign_ups": "{mode}"}}'
    assert admin.call("set_settings", changes=changes)["ok"]


def invite(admin, address=None, role="user"):
    """Return the code of a new invitation."""
    code = new_key().hex()
    assert admin.call("invite", new_code_hash=sha(code), address=address, new_role=role)["ok"]
    return code


def stranger(world):
    """A user of Supabase Auth who has no account yet."""
    return world.make_person(world)


def start(person, **given):
    return person.call("start_session", new_cookie_hash=new_key().hex(), **given)


def begin(world, person, invitation=None):
    """Begin an account from a pending sign-up."""
    return start(person, **world.sign_up(), invitation=invitation)


def is_invited(world, code, address):
    counted = world.anon.call("count_attempt", throttles="[]", invitation=code, address=address)
    return counted["is_invited"]


def role(world, person):
    return world.admin.execute(
        "select role from private.roles where user_id = %s", [person.id]
    ).fetchone()


def listed(admin):
    return [(row["email"], row["role"], row["state"]) for row in admin.call("list_invitations")]


def test_user_of_supabase_auth_is_nobody_before_a_session(world):
    omar = stranger(world)
    assert role(world, omar) is None
    assert omar.refusal("my_account") == SIGNED_OUT

    assert begin(world, omar)["ok"]

    assert omar.call("my_account")["role"] == "user"


def test_closed_sign_ups_admit_existing_accounts_alone(world, admin):
    code = invite(admin)
    set_mode(admin, "closed")

    assert begin(world, stranger(world), code) == CLOSED

    assert start(with_token(world, admin.id))["ok"]


def test_invitation_admits_one_account_with_its_role(world, admin):
    code, (omar, ada) = invite(admin, role="admin"), (stranger(world) for _ in range(2))
    set_mode(admin, "invited")
    assert begin(world, omar) == UNINVITED
    assert begin(world, omar, new_key().hex()) == UNINVITED

    assert begin(world, omar, code)["ok"]

    assert role(world, omar) == ("admin",)
    assert start(with_token(world, omar.id))["ok"]
    assert begin(world, ada, code) == UNINVITED
    assert role(world, ada) is None
    detail = world.one(
        "select detail from private.audit where action = 'account.begin' and target = %s", omar.id
    )
    assert set(detail) == {"role", "invitation"}


@pytest.mark.parametrize(
    "spoil",
    [
        "update private.invitations set expires_at = now() where true",
        "update private.invitations set revoked_at = now() where true",
        "update private.invitations set email = 'omar@elsewhere.test' where true",
        "update private.roles set role = 'user' where true",
        "update private.roles set suspended_at = now() where true",
        "delete from auth.users where id = (select made_by from private.invitations)",
    ],
    ids=["expired", "revoked", "for another address", "of a former", "of a suspended", "of a gone"],
)
def test_spoilt_invitation_admits_nobody(world, admin, spoil):
    code, omar = invite(admin), stranger(world)
    set_mode(admin, "invited")
    world.admin.execute(spoil)

    assert begin(world, omar, code) == UNINVITED
    assert not is_invited(world, code, f"{omar.id}@daybook.test")


def test_invitation_of_a_former_admin_is_listed_as_revoked(world, admin):
    invite(admin)
    other = world.make_admin(world.person())
    world.suspend(admin)

    assert listed(other) == [(None, "user", "revoked")]


def test_invitation_for_an_address_admits_its_user(world, admin):
    omar = stranger(world)
    address = f"{omar.id}@daybook.test"
    code = invite(admin, address)
    set_mode(admin, "invited")
    assert is_invited(world, code, address)

    assert begin(world, omar, code)["ok"]

    assert listed(admin) == [(address, "user", "used")]


def test_addresses_have_one_form_in_sql_as_well(world):
    is_one = "select private.is_address(%s)"

    assert [world.one(is_one, checked_address(text)) for text in GOOD] == [True] * len(GOOD)
    spelt = [text for text in (*HOSTILE, "Maya@daybook.test") if "\0" not in text]
    assert [text for text in spelt if world.one(is_one, text)] == []
    assert world.one(is_one, None) is False


@pytest.mark.parametrize("address", ["v\u00edctim@daybook.test", "Omar@daybook.test", None])
def test_user_with_another_address_begins_no_account(world, admin, address):
    insertion = "insert into auth.users (email) values (%s) returning id"
    omar = with_token(world, world.one(insertion, address))

    assert begin(world, omar, invite(admin)) == {"ok": False, "reason": "bad_address"}

    assert role(world, omar) is None


def test_invitation_is_for_an_address_alone(world, admin):
    with pytest.raises(psycopg.errors.CheckViolation):
        world.admin.execute(
            "insert into private.invitations (code_hash, email, role, made_by) values (%s, %s, 'user', %s)",
            [new_key().hex(), "Omar@daybook.test", admin.id],
        )


def test_hash_of_an_invitation_begins_no_account(world, admin):
    """A copy of the database contains the hash, but not the code."""
    code, omar = invite(admin, role="admin"), stranger(world)
    set_mode(admin, "invited")

    assert begin(world, omar, sha(code)) == UNINVITED
    assert not is_invited(world, sha(code), f"{omar.id}@daybook.test")

    assert begin(world, omar, code)["ok"]


def test_parallel_users_share_no_invitation(world, migrated, admin):
    code, crowd = invite(admin), [(stranger(world), world.sign_up()) for _ in range(4)]
    set_mode(admin, "invited")

    def begin_one(connection, number):
        person, begun = crowd[number]
        return start(person.by(connection), **begun, invitation=code)["ok"]

    assert sorted(servers.at_once(migrated, 4, begin_one)) == [False, False, False, True]


def test_parallel_devices_of_one_user_begin_one_account(world, migrated, admin):
    code, omar = invite(admin), stranger(world)
    devices = [omar, *(with_token(world, omar.id) for _ in range(3))]
    set_mode(admin, "invited")
    begun = [world.sign_up() for _ in devices]

    def begin_one(connection, number):
        return start(devices[number].by(connection), **begun[number], invitation=code)

    answers = servers.at_once(migrated, 4, begin_one)
    assert sorted(answer.get("reason", "") for answer in answers) == ["", *["stale"] * 3]


def test_first_account_needs_no_invitation(world):
    world.admin.execute(
        "update private.settings set first_account_is_admin = true, sign_ups = 'closed'"
    )
    asked = world.anon.call("sign_ups")
    assert (asked["mode"], asked["is_first"]) == ("open", True)
    ruth = stranger(world)

    assert begin(world, ruth)["ok"]

    assert role(world, ruth) == ("admin",)
    asked = world.anon.call("sign_ups")
    assert (asked["mode"], asked["is_first"]) == ("closed", False)
    assert begin(world, stranger(world)) == CLOSED


def test_invitations_are_listed_and_revoked_once(world, admin):
    invite(admin, "omar@daybook.test", "admin")
    invite(admin)
    assert listed(admin) == [(None, "user", "open"), ("omar@daybook.test", "admin", "open")]
    [first, _] = admin.call("list_invitations")

    assert admin.call("revoke_invitation", invitation=first["id"])["ok"]
    assert not admin.call("revoke_invitation", invitation=first["id"])["ok"]

    assert listed(admin) == [("omar@daybook.test", "admin", "open"), (None, "user", "revoked")]


def test_invitation_is_forgotten_a_month_after_its_end(world, admin):
    invite(admin, "omar@daybook.test")
    invite(admin)
    ended = "update private.invitations set expires_at = now() - %s * interval '1 day' where (email is null) = %s"
    world.admin.execute(ended, [31, False])
    world.admin.execute(ended, [29, True])

    world.anon.call("sweep_turns", at_most=1)

    assert listed(admin) == [(None, "user", "expired")]


def test_deleted_account_leaves_no_invitation(world, admin):
    omar = stranger(world)
    begin(world, omar, invite(admin, f"{omar.id}@daybook.test"))

    world.admin.execute("delete from auth.users where id = %s", [omar.id])

    assert listed(admin) == []


def test_open_invitations_are_bounded(world, admin):
    world.admin.execute(
        "insert into private.invitations (code_hash, role, made_by)"
        " select encode(sha256(n::text::bytea), 'hex'), 'user', %s from generate_series(1, 500) n",
        [admin.id],
    )

    assert (
        admin.call("invite", new_code_hash=new_key().hex(), new_role="user")["reason"] == "too_many"
    )


def test_changes_of_sign_ups_are_noted_without_addresses(world, admin):
    set_mode(admin, "invited")
    set_mode(admin, "invited")
    invite(admin, "omar@daybook.test", "admin")

    noted = world.admin.execute(
        "select action, detail - 'invitation' from private.audit where actor = %s"
        " and action not in ('account.begin', 'key.put') order by id",
        [admin.id],
    ).fetchall()
    assert noted == [
        ("settings.set", {"sign_ups": ["open", "invited"]}),
        ("invitation.make", {"role": "admin"}),
    ]


def test_user_administers_no_sign_ups(world, admin):
    omar = world.person()
    invite(admin)

    assert omar.refusal("set_settings", changes='{"sign_ups": "closed"}') == NOT_ALLOWED
    assert omar.refusal("invite", new_code_hash=new_key().hex(), new_role="admin") == NOT_ALLOWED
    assert omar.refusal("revoke_invitation", invitation=uuid4()) == NOT_ALLOWED
    assert omar.refusal("list_invitations") == NOT_ALLOWED


@pytest.mark.parametrize(
    ("made_days_ago", "confirmed_days_ago", "is_kept"),
    [(2, 0.9, True), (2, 1.1, False), (6.9, None, True), (7.1, None, False)],
)
def test_user_who_never_began_is_removed(world, admin, made_days_ago, confirmed_days_ago, is_kept):
    omar = stranger(world)
    world.admin.execute("update private.settings set made_at = now() - interval '30 days'")
    world.admin.execute(
        "update auth.users set created_at = now() - %s * interval '1 day',"
        " email_confirmed_at = now() - %s * interval '1 day' where id = %s or id = %s",
        [made_days_ago, confirmed_days_ago, omar.id, admin.id],
    )

    world.anon.call("sweep_turns", at_most=1)

    left = "select array_agg(id) from auth.users where id = any (%s)"
    assert set(world.one(left, [omar.id, admin.id])) == {admin.id} | (
        {omar.id} if is_kept else set()
    )


@pytest.mark.parametrize(
    "spared",
    [
        "update private.settings set made_at = now()",
        "update private.roles set role = 'user'",
    ],
    ids=["from before Daybook", "may become the first admin"],
)
def test_some_users_who_never_began_are_left_alone(world, admin, spared):
    omar = stranger(world)
    world.admin.execute("update private.settings set made_at = now() - interval '30 days'")
    world.admin.execute("update auth.users set created_at = now() - interval '8 days'")
    world.admin.execute(spared)

    world.anon.call("sweep_turns", at_most=1)

    assert world.one("select count(*) from auth.users where id = %s", omar.id) == 1


def test_user_whom_another_table_needs_spares_no_other(world, admin):
    needed, other = stranger(world), stranger(world)
    world.admin.execute("create table of_the_operator (user_id uuid references auth.users)")
    world.admin.execute("insert into of_the_operator values (%s)", [needed.id])
    world.admin.execute("update private.settings set made_at = now() - interval '30 days'")
    world.admin.execute("update auth.users set created_at = now() - interval '8 days'")

    world.sweep()

    left = "select array_agg(id) from auth.users where id = any (%s)"
    assert world.one(left, [needed.id, other.id]) == [needed.id]
