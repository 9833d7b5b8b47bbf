"""Migrations: applied once, adopted from the Supabase CLI, or refused."""

import re
import shutil
from pathlib import Path

import psycopg
import pytest

from services.crypto import ServerProof, new_key
from services.errors import Misconfigured
from services.store.supabase import migrations
from services.store.supabase.schema import FOLDER
from tests.database import servers
from tests.database.people import NOT_ALLOWED, psycopg_world

VERSIONS = tuple(path.name[:14] for path in sorted(FOLDER.glob("*.sql")))


@pytest.fixture
def new_database(server):
    """Return a function that makes databases with Supabase's roles and schema, but without our tables."""
    made = []

    def make():
        made.append(f"empty_{id(made)}_{len(made)}")
        address = servers.new_database(server, made[-1])
        servers.lay_ground(address)
        return address

    yield make
    for name in made:
        servers.drop_database(server, name)


@pytest.fixture
def owner(new_database):
    """A connection of the migrations' owner to an empty database."""
    with psycopg.connect(servers.as_owner(new_database()), autocommit=True) as connection:
        yield connection


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a copy of our migrations."""
    return Path(shutil.copytree(FOLDER, tmp_path / "migrations"))


def recorded(connection, table="supabase_migrations.schema_migrations"):
    found = connection.execute(f"select version from {table} order by 1")
    return [row[0] for row in found]


def hashed(connection):
    return recorded(connection, "private.migrations")


def test_files_are_named_by_time_and_purpose():
    names = [path.name for path in sorted(FOLDER.glob("*"))]

    assert all(re.fullmatch(r"20\d{12}_[a-z_]+\.sql", name) for name in names)
    assert len(set(VERSIONS)) == len(names)


def test_each_file_is_applied_once_and_recorded_with_its_hash(owner):
    assert migrations.apply(owner, FOLDER) == VERSIONS
    assert migrations.apply(owner, FOLDER) == ()

    assert recorded(owner) == hashed(owner) == list(VERSIONS)
    first = owner.execute(
        "select name, statements from supabase_migrations.schema_migrations order by version"
    )
    assert first.fetchone() == ("ground", [min(FOLDER.glob("*.sql")).read_text()])


def test_concurrent_runs_apply_each_file_once(new_database):
    def apply(owner, _):
        return migrations.apply(owner, FOLDER)

    assert sorted(servers.at_once(servers.as_owner(new_database()), 2, apply)) == [(), VERSIONS]


def test_new_file_is_applied_alone(owner, folder):
    migrations.apply(owner, folder)
    (folder / "20990101000000_later.sql").write_text("create table private.later (id integer);")

    assert migrations.apply(owner, folder) == ("20990101000000",)


def test_failed_file_leaves_nothing(owner, folder):
    (folder / "20990101000000_broken.sql").write_text("select 1/0;")

    with pytest.raises(
        Misconfigured, match="20990101000000_broken cannot be applied: division by zero"
    ):
        migrations.apply(owner, folder)

    assert owner.execute("select to_regnamespace('private')").fetchone() == (None,)
    assert migrations.apply(owner, FOLDER) == VERSIONS


@pytest.mark.parametrize(
    "breakage",
    [
        "update private.migrations set sha256 = repeat('0', 64)",
        "insert into private.migrations values ('20261120090000', repeat('0', 64))",
        # the Supabase CLI stores no hashes
        "truncate private.migrations; update supabase_migrations.schema_migrations set version = '1' || version",
    ],
    ids=["another hash", "no file", "by the Supabase CLI"],
)
def test_database_made_from_other_files_is_refused_untouched(owner, folder, breakage):
    migrations.apply(owner, folder)
    owner.execute(breakage)
    before = recorded(owner), hashed(owner)
    (folder / "20990101000000_later.sql").write_text("create table private.later (id integer);")

    with pytest.raises(Misconfigured) as refused:
        migrations.apply(owner, folder)

    assert refused.value.public == (
        f"The database {owner.info.dbname} on {owner.info.host} was made by another development version of Daybook, and was"
        " not touched. To keep what it stores: run that version's `python -m services.operate copy supabase sqlite:FILE`;"
        " then, with this version, the same root keys and the settings of a new project, `migrate` and"
        " `copy sqlite:FILE supabase`."
    )
    with pytest.raises(Misconfigured) as refused:
        migrations.apply(owner, folder, data=folder)
    assert refused.value.public == (
        f"The data in {folder} was made by another development version of Daybook, and was not touched. To keep what it"
        " stores: start that version, and run its `python -m services.operate copy supabase sqlite:FILE` beside it; then move"
        " this folder aside (the key folder stays), start this version, and run `copy sqlite:FILE supabase` beside it."
    )
    assert (recorded(owner), hashed(owner)) == before


def test_database_of_a_later_version_is_refused_untouched(owner, folder):
    (folder / "20990101000000_later.sql").write_text("create table private.later (id integer);")
    migrations.apply(owner, folder)
    before = recorded(owner), hashed(owner)

    with pytest.raises(Misconfigured) as refused:
        migrations.apply(owner, FOLDER)

    assert refused.value.public == (
        f"The database {owner.info.dbname} on {owner.info.host} was written by a later version of Daybook:"
        " start that version."
    )
    with pytest.raises(Misconfigured, match=f"The data in {folder} was written by a later version"):
        migrations.apply(owner, FOLDER, data=folder)
    assert (recorded(owner), hashed(owner)) == before


def test_owner_bound_by_row_level_security_is_refused(new_database):
    address = new_database()
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(
            "drop role if exists plain; create role plain login; grant create on schema public to plain"
        )
    with psycopg.connect(f"{address} user=plain", autocommit=True) as plain:
        with pytest.raises(Misconfigured, match="BYPASSRLS"):
            migrations.apply(plain, FOLDER)
        # the Supabase CLI does not check this, so the first file does
        with pytest.raises(psycopg.errors.RaiseException, match="BYPASSRLS"):
            plain.execute(sorted(FOLDER.glob("*.sql"))[0].read_bytes())
    with psycopg.connect(address) as admin:
        assert admin.execute("select to_regnamespace('supabase_migrations')").fetchone() == (None,)


def test_database_without_supabase_schema_is_refused(server):
    address = servers.new_database(server, "bare")
    try:
        with (
            psycopg.connect(address, autocommit=True) as connection,
            pytest.raises(Misconfigured, match=r"auth\.users"),
        ):
            migrations.apply(connection, FOLDER)
    finally:
        servers.drop_database(server, "bare")


# migrations that the Supabase CLI has applied ------------------------------------------------------------


def as_the_cli_would(connection, statements):
    connection.execute(
        "create schema supabase_migrations; create table supabase_migrations.schema_migrations (version text"
        " not null primary key, statements text[], name text, created_by text, idempotency_key text unique)"
    )
    for path in sorted(FOLDER.glob("*.sql")):
        connection.execute(path.read_bytes())
        connection.execute(
            "insert into supabase_migrations.schema_migrations (version, name, statements) values (%s, %s, %s)",
            [path.stem[:14], path.stem[15:], statements(path.read_text())],
        )


def split(text):
    """Return one entry per statement, without its semicolon, as the CLI stores them (here split too often, which is harmless)."""
    return [statement.strip() for statement in text.split(";")]


@pytest.mark.parametrize("statements", [split, lambda text: None], ids=["applied", "declared"])
def test_migrations_of_the_supabase_cli_are_adopted(owner, statements):
    as_the_cli_would(owner, statements)

    assert migrations.apply(owner, FOLDER) == ()
    assert hashed(owner) == list(VERSIONS)


def test_other_text_applied_by_supabase_cli_is_refused(owner):
    as_the_cli_would(owner, lambda text: split(text.replace("append_only", "append_often")))

    with pytest.raises(Misconfigured, match="another development version"):
        migrations.apply(owner, FOLDER)

    assert hashed(owner) == []


def test_table_made_by_embedded_api_is_used(stack):
    with stack.connect(as_owner=True) as connection:
        assert migrations.apply(connection, FOLDER) == ()
        assert hashed(connection) == list(VERSIONS)
        assert set(VERSIONS) <= set(recorded(connection))


# server keys ---------------------------------------------------------------------------------------------


def test_exactly_the_installed_keys_make_proofs(migrated):
    old, new = new_key(), new_key()
    with (
        psycopg.connect(servers.as_owner(migrated), autocommit=True) as owner,
        psycopg.connect(migrated, autocommit=True) as admin,
    ):

        def accepted(*keys):
            anons = [psycopg_world(admin, ServerProof(key)).anon for key in keys]
            refusals = [anon.refusal("sweep_turns", at_most=1) for anon in anons]
            assert set(refusals) <= {None, NOT_ALLOWED}
            return [refusal is None for refusal in refusals]

        migrations.install_server_keys(owner, {2: old})
        assert accepted(old, new) == [True, False]
        migrations.install_server_keys(owner, {2: old, 3: new})
        assert accepted(old, new) == [True, True]
        migrations.install_server_keys(owner, {3: new})
        assert accepted(old, new) == [False, True]
        migrations.install_server_keys(owner, {2: old, 3: new})
        assert accepted(old, new) == [True, True]


@pytest.mark.parametrize("is_retired", [False, True])
def test_other_key_of_known_version_is_refused(migrated, is_retired):
    with psycopg.connect(servers.as_owner(migrated), autocommit=True) as owner:
        migrations.install_server_keys(owner, {2: new_key()})
        if is_retired:
            migrations.install_server_keys(owner, {3: new_key()})
        before = owner.execute("select * from private.server_keys order by id").fetchall()

        with pytest.raises(Misconfigured, match="Root key 2 is not the one"):
            migrations.install_server_keys(owner, {4: new_key(), 2: new_key()})

        assert owner.execute("select * from private.server_keys order by id").fetchall() == before


def test_database_stores_no_server_key_in_plain(migrated):
    key = new_key()
    with psycopg.connect(servers.as_owner(migrated), autocommit=True) as owner:
        migrations.install_server_keys(owner, {2: key})

        query = (
            "select position(%s in inner_pad) + position(%s in outer_pad) from private.server_keys"
        )
        row = owner.execute(query, [key, key]).fetchone()

    assert row == (0,)
