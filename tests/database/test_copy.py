"""Copies of a deployment out of Supabase into a file, and back into another Supabase."""

import shutil
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from uuid import uuid4
from zipfile import ZipFile

import psycopg
import pytest

from services.crypto import RootKeys
from services.domain import AccountRole
from services.domain.accounts import Failure, SignUps
from services.domain.browsers import UNKNOWN_BROWSER
from services.domain.mails import NoticeKind
from services.errors import StoreUnavailable
from services.store.notices import new_notice
from services.store.sqlite import SqlitePlace
from services.store.supabase.copying import SupabaseCopy
from services.store.tables import schema
from services.store.tables.backend import TablesBackend
from services.store.tables.opening import check_root_key, let_first_account_be_admin
from services.users import full_export
from services.users.full_export import FullExport
from tests.conftest import started_stack
from tests.database import servers
from tests.database.people import sealed
from tests.database.storm import MUST_BE_ZERO
from tests.database.test_operate import run as run  # a fixture
from tests.database.test_operate import with_keys
from tests.store.conformance import talk
from tests.store.conformance.accounts.deployments import put_back, stored_rows
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.store.test_copy import OTHER_DATA
from tests.store.test_copy_plain import Noon
from tests.stores import OpenStore, WholeAccounts, cut_at, store_of, sweep

# tables of sessions and of calls in progress, and the tables that `operate migrate` fills
NOT_COPIED = {
    *("app_sessions", "steps", "throttles", "seen_nonces", "password_permits", "log_erasures"),
    *("server_keys", "migrations"),
}
# the loans of the deployment's cap to its users, which the database calculates anew, the sessions of turns, which end, and
# the time of the first migration
OWN = {
    "budgets": {"loan"},
    "deployment": {"lent"},
    "turns": {"auth_session_id"},
    "settings": {"made_at"},
}
pytestmark = pytest.mark.usefixtures("cheap_passwords")

_TABLES = """
select schemaname || '.' || tablename, tablename from pg_tables where schemaname in ('public', 'private')
"""


def rows_of(database):
    """Return the sorted rows of each table that a copy includes, without the totals, which the sweep makes."""
    found = {}
    for table, name in database.execute(_TABLES).fetchall():
        if name not in NOT_COPIED:
            made_here = list(OWN.get(name, ()))
            query = f"select to_jsonb(one) - %s::text[] as row from {table} one order by row"
            found[name] = [row for (row,) in database.execute(query, [made_here])]
    everybody = "00000000-0000-0000-0000-000000000000"
    found["usage_by_day"] = [row for row in found["usage_by_day"] if row["user_id"] != everybody]
    return found


def fill(stack, sessions):
    """Make accounts in each state, settings, invitations and a pending sign-up."""

    def change(statement, *values):
        with stack.connect() as database:
            database.execute(statement, values)

    lapse = partial(change, "update public.turns set lease_until = now() - interval '1 s'")
    people = {
        name: sessions.sign_up_with(f"{name}@daybook.test", PASSWORD)[1]
        for name in ("admin", "maya", "omar", "lena", "ravi")
    }
    for name in ("maya", "omar", "lena"):
        talk.fill_chats(store_of(people[name]), lapse)
    admin = people["admin"].backend.administration
    admin.set_caps(people["omar"].user_id, {"daily_cap_micro": 7, "daily_cap_tokens": 70_000})
    admin.set_role(people["omar"].user_id, AccountRole.ADMIN)
    admin.suspend(people["ravi"].user_id, is_suspended=True)
    admin.delete(people["lena"].user_id)
    due = "update public.messages set destroy_at = now() - interval '1 s' where user_id = %s and destroy_at is not null"
    change(due, people["maya"].user_id)
    sweep(sessions.backend)
    admin.set_deployment_cap(50_000_000)
    admin.change_settings({"monthly_cap_micro": 5_000_000, "retention_days": 90})
    admin.set_sign_ups(SignUps.INVITED)
    admin.refuse_unknown_prices(is_refused=True)
    prices = {"input_micro": 9, "cached_input_micro": 3, "output_micro": 99}
    admin.set_model("test-model", {**prices, "is_offered": False})
    admin.set_model("other-model", {"is_offered": False})
    admin.invite("ab" * 32, "nora@daybook.test", AccountRole.USER)
    admin.invite("cd" * 32, None, AccountRole.ADMIN)
    admin.set_sign_ups(SignUps.OPEN)
    admin.confirm_by_code(is_on=False)
    with pytest.raises(StoreUnavailable):
        cut_at(sessions, "put_sign_up", is_done=True).sign_up_with(new_email(), PASSWORD)
    maya = people["maya"]
    sessions.change_address(maya, "peas@daybook.test", 1)
    maya = replace(maya, email="peas@daybook.test")  # which a code has confirmed
    sessions.change_address(maya, "maya@daybook.test", 2)
    told = new_notice(NoticeKind.NEW_DEVICE, maya.user_id, maya.user_keys, UNKNOWN_BROWSER)
    sessions.backend.add_notice(maya.user_id, told, ())
    sessions.backend.note_failure(maya.user_id, Failure.PROOF)
    used = "update private.invitations set used_by = %s, used_at = now() where email is null"
    change(used, people["maya"].user_id)


def exports(accounts, monkeypatch):
    """Return the files of the exports of all users who can sign in, by name, and the figures of their rows."""
    monkeypatch.setattr(full_export, "datetime", Noon)
    stores = [
        store_of(accounts.sign_in_with(f"{name}@daybook.test", PASSWORD)[1])
        for name in ("admin", "maya", "omar")
    ]
    zips = [ZipFile(BytesIO(b"".join(FullExport(store, UTC).parts()))) for store in stores]
    return [
        {name: one.read(name) for name in one.namelist()} | {"figures": store.usage.stored()}
        for one, store in zip(zips, stores, strict=True)
    ]


def without_numbers(files):
    """Return *files* without those that contain the numbers of ledger entries, which have leading zeros in a file."""
    numbered = {"usage.csv", "manifest.json"}
    return [{name: one[name] for name in one.keys() - numbered} for one in files]


def test_supabase_to_a_file_and_back_loses_nothing(run, place, cache, tmp_path, monkeypatch):
    file = f"sqlite:{tmp_path}/copy.db"
    with started_stack(place / "copied", cache) as stack:
        with stack.connect() as database:
            rows_of_a_new_stack = stored_rows(database)
        sessions = make_sessions(stack)
        fill(stack, sessions)
        with stack.connect() as database:
            rows = rows_of(database)
        assert not [name for name, found in rows.items() if not found]

        code, said = run("copy", "supabase", file, **with_keys(stack))

        assert code == 0, said
        again = run("copy", "supabase", file, **with_keys(stack))
        assert again[1].endswith("nothing, all is there.")
        sent = exports(sessions, monkeypatch)
        sessions.backend.gateway.http.close()
        with closing(SqlitePlace(tmp_path / "copy.db").open()) as tables:
            ring = RootKeys.parse(stack.root_keys)
            accounts = WholeAccounts(TablesBackend(tables), ring, 3600, 3600)
            assert without_numbers(exports(accounts, monkeypatch)) == without_numbers(sent)
        with stack.connect() as database:
            put_back(database, rows_of_a_new_stack)

        code, said = run("copy", file, "supabase", **with_keys(stack))

        assert code == 0, said
        with stack.connect() as database:
            assert rows_of(database) == rows
        again = run("copy", file, "supabase", **with_keys(stack))
        assert again[1].endswith("nothing, all is there.")
        sessions = make_sessions(stack)
        assert exports(sessions, monkeypatch) == sent
        sessions.backend.gateway.http.close()


@pytest.mark.parametrize(
    ("table", "copied"),
    [
        ("messages", schema.MESSAGES),
        ("messages", schema.THOUGHTS),
        ("receipts", schema.RECEIPTS),
    ],
)
def test_copy_of_a_user_reads_no_rows_of_others(world, maya, garden, table, copied):
    world.fill(garden, 1, 1000)
    world.admin.execute(
        "with begun as ("
        " insert into public.turns select copy.* from public.turns one, generate_series(1, 1000) n, md5(n::text) other,"
        " jsonb_populate_record(one, jsonb_build_object('id', other, 'client_turn_id', other)) copy returning turns.*"
        ") insert into public.receipts select id, conversation_id, user_id, %s from begun",
        [sealed("receipt")],
    )
    omar = world.person()
    omar.begin(omar.create_conversation(), receipt_body=sealed("receipt"))
    world.admin.execute("analyze")

    reading = world.work(f"public.{table}", lambda: SupabaseCopy(world.admin).rows(copied, omar.id))

    assert sum(reading[:2]) < 10


# --- into the database of a hosted project


@pytest.fixture(scope="module")
def file(hosted, tmp_path_factory):
    """Return the path of a store with accounts in each state, whose root key is that of the rig."""
    path = tmp_path_factory.mktemp("file") / "source.db"
    ring = RootKeys.parse(hosted.root_keys)
    with closing(SqlitePlace(path).open()) as tables:
        check_root_key(tables, ring)
        store = OpenStore(tables)
        accounts = WholeAccounts(TablesBackend(store), ring, 10**6, 10**6)
        let_first_account_be_admin(tables, is_let=True)
        people = {
            name: accounts.sign_up_with(f"{name}@daybook.test", PASSWORD)[1]
            for name in ("admin", "maya", "omar", "lena", "ravi")
        }
        for name in ("maya", "omar", "lena"):
            talk.fill_chats(store_of(people[name]), lambda: store.let_pass(60))
        admin = people["admin"].backend.administration
        admin.delete(people["lena"].user_id)
        sweep(accounts.backend)
        admin.delete(people["ravi"].user_id)  # deleted, but not yet swept
        admin.set_deployment_cap(50_000_000)
        admin.set_model("test-model", {"is_offered": False})
    return path


@pytest.fixture
def target(hosted):
    """Yield a migrated database of the rig's server for one test."""
    if hosted.server is None:
        pytest.skip("a real project has one database")
    yield hosted.server.make_database("copied")
    servers.drop_database(hosted.superuser, "copied")


@pytest.fixture
def copy_into(run, file, hosted):
    """Return a function that copies the file into a database."""

    def copy_into(address, *options, source=file, **environment):
        given = {"DATABASE_URL": servers.as_owner(address), "DAYBOOK_ROOT_KEYS": hosted.root_keys}
        return run("copy", f"sqlite:{source}", "supabase", *options, **given | environment)

    return copy_into


def count(address, table):
    with psycopg.connect(address) as database:
        return database.execute(f"select count(*) from {table}").fetchone()[0]


def test_users_of_a_file_sign_in_to_a_hosted_project(copy_into, target, hosted, monkeypatch):
    code, said = copy_into(target)

    assert code == 0, said
    with psycopg.connect(target) as database:
        hashes = database.execute("select encrypted_password from auth.users").fetchall()
    assert [one[:7] for (one,) in hashes if one] == ["$2b$10$"] * 3  # at the cost of Supabase Auth
    with hosted.server.rig(target) as rig:
        sessions = make_sessions(rig)
        for name in ("admin", "maya", "omar"):
            store = store_of(sessions.sign_in_with(f"{name}@daybook.test", PASSWORD)[1])
            listed = store.conversations.recent(100)
            assert all(store.conversations.thread(one.id).is_whole for one in listed)
            assert bool(listed) == (name != "admin")
        sweep(sessions.backend)  # the sweep also destroys the deleted account
        sessions.backend.gateway.http.close()
    with psycopg.connect(target) as database:
        broken = {name: database.execute(query).fetchone() for name, query in MUST_BE_ZERO.items()}
        # these checks fail because messages were deleted, and an account with its loan
        of_all = {"threads torn", "replies named and not there", "deployment and loans apart by"}
        assert {name for name, found in broken.items() if found[0]} <= of_all
        ids = "select user_id from auth.identities where provider_id = user_id::text and email is not null"
        assert database.execute(ids).rowcount == count(target, "private.roles") == 3


def test_copy_lets_no_first_account_become_admin(copy_into, target):
    assert copy_into(target)[0] == 0
    assert copy_into(target)[1].endswith("nothing, all is there.")

    with psycopg.connect(target) as database:
        query = "select first_account_is_admin from private.settings"
        assert database.execute(query).fetchone() == (False,)


def test_copy_into_a_database_goes_on(copy_into, target, monkeypatch):
    put, left = SupabaseCopy.put, [25]

    def counted(self, table, user_id, rows):
        left[0] -= 1
        if not left[0]:
            raise SystemExit(9)
        put(self, table, user_id, rows)

    monkeypatch.setattr(SupabaseCopy, "put", counted)
    assert copy_into(target)[0] == 9
    users = count(target, "private.roles")
    assert 0 < users < 4
    monkeypatch.setattr(SupabaseCopy, "put", put)

    assert copy_into(target)[0] == 0
    assert copy_into(target)[1].endswith("nothing, all is there.")
    assert count(target, "private.roles") == 4


def test_dry_run_leaves_a_database_as_it_is(copy_into, target):
    with psycopg.connect(target) as database:
        before = rows_of(database)
        code, said = copy_into(target, "--dry-run")

        assert code == 0
        counted = said.partition("To be copied: ")[2].split(", ")
        assert (
            "4 accounts" in counted
        )  # copied after the ledger, where the id of the ended account comes first
        assert rows_of(database) == before


def test_database_with_other_data_is_refused(copy_into, target, file, tmp_path, hosted):
    assert copy_into(target)[0] == 0
    with psycopg.connect(target) as database:
        before = rows_of(database)
        database.execute("update public.conversations set policy = 'other'")
        database.commit()
        assert copy_into(target)[1] == OTHER_DATA
        database.execute("update public.conversations set policy = 'window'")
        database.commit()
        other = tmp_path / "other.db"
        with closing(SqlitePlace(other).open()) as tables:
            check_root_key(tables, RootKeys.parse(hosted.root_keys))
        assert copy_into(target, source=other)[1] == OTHER_DATA
        assert rows_of(database) == before


def test_database_of_another_root_key_is_refused(copy_into, target):
    with psycopg.connect(target, autocommit=True) as database:
        database.execute("update private.server_keys set inner_pad = outer_pad")
        before = rows_of(database)

        code, said = copy_into(target)

        assert (code, "Root key 1 is not the one" in said) == (1, True)
        assert rows_of(database) == before


def test_database_that_is_not_up_to_date_is_refused(copy_into, hosted):
    address = servers.new_database(hosted.superuser, "bare")
    servers.lay_ground(address)
    try:
        assert copy_into(address)[1] == (
            "The database is not up to date: run `operate migrate` first."
        )
    finally:
        servers.drop_database(hosted.superuser, "bare")


def hide_a_space(block):
    block.put(schema.ERASURES, schema.Erasure(id=uuid4(), space_id=uuid4()))


def delete_an_account(block):
    account = block.select(schema.ACCOUNTS, {"deleted_at": None})[-1]
    block.put(schema.ACCOUNTS, replace(account, email=None, deleted_at=datetime.now(UTC)))


@pytest.mark.parametrize("begin", [hide_a_space, delete_an_account])
def test_half_done_deletion_is_not_copied_into_a_database(copy_into, target, file, tmp_path, begin):
    source = Path(shutil.copy(file, tmp_path))
    with closing(SqlitePlace(source).open()) as tables:
        tables.of(tables.owners(schema.CONVERSATIONS)[0]).run(begin)

    code, said = copy_into(target, source=source)

    assert (code, said.endswith("start Daybook there, and stop it after a minute.")) == (1, True)


def test_database_with_an_open_turn_is_not_copied(run, copy_into, target, tmp_path, hosted):
    assert copy_into(target)[0] == 0
    with psycopg.connect(target, autocommit=True) as database:
        last = "id = (select id from public.turns order by begun_at desc limit 1)"
        database.execute(
            f"update public.turns set finished_at = null, state = 'streaming' where {last}"
        )
    given = {"DATABASE_URL": servers.as_owner(target), "DAYBOOK_ROOT_KEYS": hosted.root_keys}

    code, said = run("copy", "supabase", f"sqlite:{tmp_path}/new.db", **given)

    assert (code, said.startswith("A reply of the source is still open")) == (1, True)
    assert not (tmp_path / "new.db").exists()
