"""The start on a Supabase database of another version, decided from one answer."""

import itertools

import httpx
import pytest
from pydantic import SecretStr

from services.crypto import ServerProof
from services.errors import Misconfigured, StoreUnavailable
from services.store.supabase import backend as supabase_backend
from services.store.supabase.backend import SupabaseBackend
from services.store.supabase.schema import (
    FOLDER,
    Migration,
    SchemaState,
    StoredSchema,
    hash_of,
    newest_version,
    read,
    state_of,
)

FILES = [Migration(f"2026112109{n}000", "some", f"select {n};") for n in range(3)]
EDITED = [FILES[0], Migration(FILES[1].version, "some", "select 7;"), FILES[2]]
LATER = [*FILES, Migration("20270101000000", "later", "select 3;")]
ALL_ROWS = list(range(1001))


def stored(migrations):
    return StoredSchema(
        newest=migrations[-1].version if migrations else "", sha256=hash_of(migrations)
    )


@pytest.mark.parametrize(
    ("schema", "state"),
    [
        (stored(FILES), SchemaState.CURRENT),
        (stored(FILES[:2]), SchemaState.EARLIER),
        (stored([]), SchemaState.EARLIER),  # the Supabase CLI records no hashes
        (stored(EDITED), SchemaState.OTHER),
        (stored(EDITED[:2]), SchemaState.OTHER),
        (stored(FILES[1:]), SchemaState.OTHER),
        (stored([FILES[0], FILES[2]]), SchemaState.OTHER),
        (StoredSchema(), SchemaState.OTHER),  # a database older than such answers
        (stored(LATER), SchemaState.LATER),
        (stored([*EDITED, LATER[3]]), SchemaState.LATER),
    ],
)
def test_stored_schema_is_compared_with_the_files(schema, state):
    assert state_of(schema, FILES) is state


def test_newest_version_is_that_of_the_last_file():
    assert newest_version() == read(FOLDER)[-1].version


@pytest.fixture
def checked(monkeypatch):
    """Return a function that checks a backend whose API gives *answers* in turn, the last one from then on."""

    def checked(*answers):
        left, calls = list(answers), []

        def answer(request):
            function = request.url.path.rpartition("/")[2]
            calls.append(function)
            found = (left.pop(0) if len(left) > 1 else left[0]).get(function)
            if isinstance(found, Exception):
                raise found
            if found is None:
                return httpx.Response(404, json={"code": "PGRST202"})
            return httpx.Response(200, json=found)

        backend = SupabaseBackend(
            "https://database.test",
            SecretStr("key"),
            ServerProof(bytes(32)),
            is_hosted=True,
            transport=httpx.MockTransport(answer),
        )
        try:
            return backend.check(), calls
        except (Misconfigured, StoreUnavailable) as error:
            return error, calls

    ticks = itertools.count()
    monkeypatch.setattr(supabase_backend.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(supabase_backend.time, "sleep", lambda _: None)
    return checked


def answers(schema):
    return {
        "root_key_versions": {
            "ok": True,
            "versions": [1, 2],
            "schema": {"newest": schema.newest, "sha256": schema.sha256},
        },
        "row_bound": ALL_ROWS,
    }


CURRENT = answers(stored(read(FOLDER)))


def test_check_of_this_versions_schema_takes_two_calls(checked):
    assert checked(CURRENT) == ([1, 2], ["root_key_versions", "row_bound"])


def test_earlier_schema_needs_a_migration(checked):
    error, _ = checked(answers(stored(read(FOLDER)[:-1])))

    assert isinstance(error, Misconfigured)
    assert (
        "lacks migrations of this version of Daybook: run `python -m services.operate migrate`"
        in error.public
    )


@pytest.mark.parametrize(
    "answer",
    [
        answers(StoredSchema(newest=newest_version(), sha256="0" * 64)),
        {"root_key_versions": {"ok": True, "versions": [1]}},  # before this answer had the schema
    ],
)
def test_schema_of_other_files_names_the_way_that_keeps_data(checked, answer):
    error, _ = checked(answer)

    assert isinstance(error, Misconfigured)
    for part in (
        "The database was made by another development version",
        "that version's `python -m services.operate copy supabase sqlite:FILE`",
        "a new project, `migrate` and `copy sqlite:FILE supabase`",
    ):
        assert part in error.public


def test_schema_of_a_later_version_is_accepted(checked):
    later = StoredSchema(newest="20990101000000", sha256="0" * 64)

    assert checked(answers(later))[0] == [1, 2]


def test_start_waits_until_the_api_reloads_its_functions(checked):
    found, calls = checked({}, {}, CURRENT)

    assert found == [1, 2]
    assert calls == [*["root_key_versions"] * 3, "row_bound"]


def test_function_that_stays_missing_ends_the_start_after_30_seconds(checked):
    error, calls = checked({})

    assert isinstance(error, Misconfigured)
    assert "lacks migrations" in error.public
    assert len(calls) == 30  # one a second


def test_check_without_an_answer_does_not_wait(checked):
    error, calls = checked({"root_key_versions": httpx.ConnectError("away")})

    assert isinstance(error, StoreUnavailable)
    assert len(calls) == 1


def test_check_goes_on_while_the_probe_misses_a_function(checked, monkeypatch):
    """The probe begins at the same time, and what it misses makes other calls fail fast."""
    monkeypatch.setattr(supabase_backend.DatabaseHealth, "is_away", True)

    assert checked({}, CURRENT)[0] == [1, 2]
