"""Changes of a conversation's row: values out of bounds, and two changes at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from services.domain.models import MODEL_NAME
from tests.database import servers
from tests.database.people import MISUSE, sealed

OUT_OF_BOUNDS = "23514"
BAD_NAMES = [
    "",
    " mini",
    "a model",
    "m\n",
    "-",
    "x" * 201,
    "kumquat\u00e9",
    "|m",
    "Team|m",
    "a|b|m",
]
GOOD_NAMES = [
    "@cf/meta/llama-3.1-8b-instruct",
    "@preset/support",
    "x" * 200,
    "team-2|@cf/meta/llama",
]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        *(({"model": name}, OUT_OF_BOUNDS) for name in BAD_NAMES),
        *(({"policy": name}, OUT_OF_BOUNDS) for name in ("", "Full", "full ", "x" * 31)),
        *(({"read_seq": seq}, MISUSE) for seq in (0, -1)),
        *(({"facts_seq": seq}, MISUSE) for seq in (0, -1)),
        *(({"reset_seq": seq}, OUT_OF_BOUNDS) for seq in (-1, 1)),
    ],
)
def test_change_out_of_bounds_is_refused(maya, garden, change, refusal):
    before = maya.rows("conversations")

    changes = json.dumps(change)
    assert maya.refusal("change_conversation", conversation=garden, changes=changes) == refusal

    assert maya.rows("conversations") == before


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_model_may_begin_with_an_at_sign_and_name_its_endpoint(maya, garden, name):
    assert maya.change(garden, model=name) == {"ok": True, "changed": True}
    [row] = maya.rows("conversations")
    assert row["model"] == name


def test_pattern_of_model_names_is_that_of_the_app(migrated):
    query = (
        "select pg_get_constraintdef(oid) from pg_constraint where contypid = 'model_name'::regtype"
    )
    with psycopg.connect(migrated) as admin:
        [(check,)] = admin.execute(query).fetchall()

    assert rf"'^([a-z][a-z0-9-]{{0,19}}\|)?{MODEL_NAME.pattern}$'" in check


def test_policy_of_a_newer_version_is_stored(maya, garden):
    assert maya.change(garden, policy="vector", policy_size=8) == {"ok": True, "changed": True}
    [row] = maya.rows("conversations")
    assert (row["policy"], row["policy_size"]) == ("vector", 8)


def test_title_of_the_model_waits_for_a_rename(world, maya, garden, migrated):
    mine = {"title": sealed("mine"), "titled_by": "person"}
    made = {"title": sealed("made"), "titled_by": "model"}

    def title():
        with psycopg.connect(migrated, autocommit=True) as connection:
            return maya.by(connection).change(garden, **made)

    with ThreadPoolExecutor(1) as other, psycopg.connect(migrated, autocommit=True) as renaming:
        with renaming.transaction():
            maya.by(renaming).change(garden, **mine)
            answer = other.submit(title)
            servers.wait_for_blocked(world.admin, 1)

        assert answer.result() == {"ok": True, "changed": False}
    stored = "select title, titled_by from public.conversations where id = %s"
    assert world.one(stored, garden) == (sealed("mine"), "person")


def test_slice_of_a_clean_up_reads_no_more_than_its_limit(world, maya, garden):
    world.admin.execute(
        "insert into public.conversations select copy.* from public.conversations chat, generate_series(1, 5000) n,"
        " jsonb_populate_record(chat, jsonb_build_object('id', md5(n::text)::uuid, 'destroy_at', '2020-01-01')) copy"
    )
    world.admin.execute("analyze public.conversations")

    def slice_of_a_sweep():
        assert world.anon.call("sweep_turns", at_most=1)["more"]

    unindexed, indexed, _ = world.work("public.conversations", slice_of_a_sweep)
    assert unindexed + indexed < 1500
    assert world.one("select count(*) from public.conversations") == 4801
