"""Starts on a project whose schema is of another version."""

import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from services.errors import FunctionMissing, Misconfigured, StoreUnavailable
from services.store.supabase.schema import FOLDER, StoredSchema, hash_of, newest_version, read
from tests.database import servers
from tests.database.test_operate import run as run  # a fixture
from tests.earlier.make import HERE, ROOT_KEY, export
from tests.stack.apps import running, until
from tests.store.conftest import PASSWORD, Wire, make_sessions, new_email
from tests.store.test_earlier import files_of, lacking

EARLIER = (
    "delete from private.migrations where version = (select max(version) from private.migrations)"
)
OTHER = "update private.migrations set sha256 = repeat('0', 64) where version = (select min(version) from private.migrations)"
LATER = "insert into private.migrations values ('20990101000000', repeat('0', 64))"
RENAME = "alter function public.{} rename to {}; notify pgrst, 'reload schema'"
VERSIONS = "root_key_versions"
LACKS = "The database lacks migrations of this version of Daybook: run `python -m services.operate migrate`"
OTHERS = "The database was made by another development version of Daybook, and was not touched."


@pytest.fixture
def backend(hosted):
    backend = make_sessions(hosted).backend
    with backend.gateway.http:
        yield backend


@contextmanager
def changed(hosted, statement):
    """Change the recorded migrations during the block."""
    with hosted.connect() as owner:
        before = owner.execute("select * from private.migrations").fetchall()
        owner.execute(statement)
        try:
            yield
        finally:
            owner.execute("delete from private.migrations")
            put = "insert into private.migrations values (%s, %s, %s)"
            owner.cursor().executemany(put, before)


def test_answer_names_the_newest_migration_and_one_hash(backend):
    migrations = read(FOLDER)

    stored = backend.server.stored_versions()

    assert stored.schema == StoredSchema(newest=newest_version(), sha256=hash_of(migrations))
    assert backend.check() == stored.versions


def test_database_without_recorded_hashes_needs_migrate(hosted, backend):
    with (
        changed(hosted, "delete from private.migrations"),
        pytest.raises(Misconfigured, match="lacks migrations"),
    ):
        backend.check()


@pytest.mark.parametrize(
    ("change", "sentence"), [(EARLIER, LACKS), (OTHER, OTHERS)], ids=["earlier", "other"]
)
def test_start_on_a_schema_of_another_version_is_refused(hosted, make_app, change, sentence):
    starting = running(make_app("other-schema", "hosted", environment=hosted.environment()))
    with changed(hosted, change), starting as app:
        assert app.ended() == 1

    assert f"Daybook cannot start: {sentence}" in app.said()


def test_copy_of_another_version_goes_into_a_new_project(hosted, run, tmp_path):
    if hosted.server is None:
        pytest.skip("a real project has one database")
    with tarfile.open(HERE / "supabase.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    server = replace(hosted.server, root_keys=ROOT_KEY)
    address = server.make_database("taken_along")
    try:
        settings = {"DATABASE_URL": servers.as_owner(address), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

        code, said = run("copy", f"sqlite:{tmp_path}/store", "supabase", **settings)

        assert code == 0, said
        with server.rig(address) as rig:
            sessions = make_sessions(rig)
            with sessions.backend.gateway.http:
                _, maya = sessions.sign_in_with("maya@daybook.test", PASSWORD)
                before = files_of((tmp_path / "export.zip").read_bytes())
                assert lacking(before, files_of(export(maya))) is None
    finally:
        servers.drop_database(hosted.superuser, "taken_along")


def test_app_runs_on_a_later_schema_and_health_says_so(hosted, backend):
    sessions = make_sessions(hosted)
    with sessions.backend.gateway.http, hosted.connect() as owner:
        _, session = sessions.sign_up_with(new_email(), PASSWORD)
        owner.execute(
            "update private.roles set role = 'admin' where user_id = %s", [session.user_id]
        )
        health = session.backend.administration.health
        assert not health().is_newer
        with changed(hosted, LATER):
            backend.check()
            assert health().is_newer
        owner.execute(
            "update private.roles set role = 'user' where user_id = %s", [session.user_id]
        )


def test_check_waits_for_a_reload_of_the_schema(hosted):
    wire, found = Wire(), []
    backend = make_sessions(hosted, wire).backend

    def is_missing():
        try:
            backend.server.stored_versions()
        except StoreUnavailable as error:  # PostgREST may call the function until it has reloaded
            return isinstance(error, FunctionMissing)
        return False

    checking = threading.Thread(target=lambda: found.append(backend.check()))
    with backend.gateway.http, hosted.connect() as owner:
        owner.execute(RENAME.format(VERSIONS, "old_versions"))
        until(is_missing)
        wire.made.clear()
        checking.start()
        until(lambda: len(wire.made) > 1)
        assert (found, set(wire.made)) == ([], {f"rpc/{VERSIONS}"})
        owner.execute(RENAME.format("old_versions", VERSIONS))
        checking.join()
    assert found
