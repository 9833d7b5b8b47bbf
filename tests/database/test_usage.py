"""Usage by day: the sums of the ledger, however a turn ends, and readable by its user only."""

import pytest

from tests.database.people import SIGNED_OUT, side_call
from tests.database.test_turns import let_lapse

# the sums by the ledger, beside the stored sums
APART = """
select count(*) from private.usage_by_day kept full join (
  select user_id, day, model, purpose, sum(micro)::bigint as cost_micro, sum(tokens_in)::bigint as tokens_in,
    sum(tokens_cached)::bigint as tokens_cached, sum(tokens_out)::bigint as tokens_out,
    count(*) filter (where kind <> 'adjust') as turns, count(*) filter (where outcome = 'failed') as failed,
    sum((outcome in ('lapsed', 'interrupted'))::integer - (kind = 'adjust')::integer) as interrupted
  from private.ledger group by user_id, day, model, purpose
) sums using (user_id, day, model, purpose)
where (kept.cost_micro, kept.tokens_in, kept.tokens_cached, kept.tokens_out, kept.turns, kept.failed, kept.interrupted)
  is distinct from
    (sums.cost_micro, sums.tokens_in, sums.tokens_cached, sums.tokens_out, sums.turns, sums.failed, sums.interrupted)
"""


@pytest.fixture
def maya(world):
    return world.person()


def usage(person, **days):
    report = person.call("my_usage", **days)
    return {key: report[key] for key in ("days", "purposes", "conversations")}


def test_sums_are_those_of_the_ledger(world, maya):
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400)
    maya.finish(maya.begin(garden, 2)["turn"], 3, 90, outcome="failed", reply=None, reply_body=None)
    maya.finish(maya.call("begin_turn", **side_call())["turn"], None, 50)
    dead, late = (maya.begin(maya.create_conversation())["turn"] for _ in range(2))
    for turn in (dead, late):
        maya.checkpoint(turn)
    assert let_lapse(world, dead, late) == 2
    maya.finish(late, 1, 30)

    assert world.one(APART) == 0
    found = world.one(
        "select turns, failed, interrupted, cost_micro from private.usage_by_day where purpose = 'reply'"
    )
    assert found == (4, 1, 1, 400 + 90 + 1100 + 30)


def test_late_refund_counts_on_the_day_of_its_charge(world, maya):
    turn = maya.begin(maya.create_conversation())["turn"]
    maya.checkpoint(turn)
    let_lapse(world, turn)
    world.admin.execute(
        "update public.turns set finished_at = finished_at - interval '1 day' where id = %s", [turn]
    )

    maya.finish(turn, 1, 100)

    days = world.admin.execute(
        "select day - (now() at time zone 'utc')::date, micro from private.ledger where purpose = 'reply' order by id"
    )
    assert days.fetchall() == [(0, 1100), (-1, -1000)]
    assert world.one(APART) == 0


def test_free_turn_that_ended_late_is_no_more_interrupted(world, maya):
    free = {"prompt_micro": 0, "reply_micro": 0, "least_reply_micro": 0}
    turn = maya.begin(maya.create_conversation(), **free)["turn"]
    maya.checkpoint(turn)
    let_lapse(world, turn)
    yesterday = "update public.turns set finished_at = finished_at - interval '1 day' where id = %s"
    world.admin.execute(yesterday, [turn])

    maya.finish(turn, 1, 0, first_token_ms=80)

    days = "select array_agg(day - (now() at time zone 'utc')::date order by id) from private.ledger where purpose = 'reply'"
    assert world.one(days) == [0, -1]
    timed = "select sum(counted) from private.usage_by_day, unnest(first_tokens) counted where purpose = 'reply'"
    assert world.one(timed) == 1


def test_report_adds_up_to_the_same_three_times(world, maya):
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400)
    maya.finish(maya.call("begin_turn", **side_call(garden))["turn"], None, 50)
    maya.finish(maya.begin(None, None)["turn"], None, 7)

    report = usage(maya)

    assert {key: sum(row["cost_micro"] for row in rows) for key, rows in report.items()} == (
        dict.fromkeys(("days", "purposes", "conversations"), 457)
    )
    assert [(row["purpose"], row["turns"]) for row in report["purposes"]] == [
        ("reply", 2),
        ("title", 2),  # the title of the conversation
    ]
    assert [(row["conversation_id"], row["replies"]) for row in report["conversations"]] == [
        (str(garden), 1),
        (None, 1),
    ]
    assert [row["replies"] for row in report["days"]] == [2]


@pytest.fixture
def six_hundred(world, maya):
    """Return 600 conversations of Maya's, each with a reply that cost one micro-dollar more than the one before."""
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 400)
    number = "md5({}::text)::uuid"
    copies = {
        "conversations": {"id": number},
        "turns": {"id": number, "conversation_id": number, "client_turn_id": number},
    }
    for table, ids in copies.items():
        changes = ", ".join(f"'{column}', {value.format('n')}" for column, value in ids.items())
        world.admin.execute(
            f"insert into public.{table} select (jsonb_populate_record(known, jsonb_build_object({changes}))).*"
            f" from public.{table} known, generate_series(1, 600) n where id = (select id from public.{table} limit 1)"
        )
    world.admin.execute(
        "insert into private.ledger (user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_out, micro)"
        " select %s, md5(n::text)::uuid, (now() at time zone 'utc')::date, 'charge', 'complete', 'reply', 'm', 10, 20, n"
        " from generate_series(1, 600) n",
        [maya.id],
    )


@pytest.mark.usefixtures("six_hundred")
def test_conversations_with_the_lowest_costs_are_one_row(maya):
    report = usage(maya)

    rows = report["conversations"]
    assert [row["is_rest"] for row in rows] == [False] * 499 + [True]
    assert (rows[0]["cost_micro"], rows[-1]["conversation_id"]) == (600, None)
    for figure in ("cost_micro", "tokens_in", "tokens_out"):
        assert sum(row[figure] for row in rows) == sum(row[figure] for row in report["days"])


def test_other_days_are_not_in_the_report(maya):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 400)

    for report in (usage(maya, last_day="2000-01-01"), usage(maya, first_day="2999-12-31")):
        assert report == {"days": [], "purposes": [], "conversations": []}


def test_ledger_comes_in_pages(maya):
    conversation = maya.create_conversation()
    for rev in (0, 2, 4):
        maya.finish(maya.begin(conversation, rev)["turn"], rev + 1, rev)

    every = maya.call("my_ledger", after=0)
    rest = maya.call("my_ledger", first_day=every[0]["day"], after=every[0]["id"])

    assert [entry["cost_micro"] for entry in every] == [
        0,
        0,
        2,
        4,
    ]  # the first row is that of the conversation
    assert rest == every[1:]


def test_ledger_comes_by_day(world, maya):
    add = """
    insert into private.ledger (user_id, turn_id, day, kind, outcome, purpose, model, micro)
    select %s, gen_random_uuid(), day, 'adjust', 'complete', 'reply', 'small', -1
    from unnest(array['2026-11-03', '2026-11-02', '2026-11-02', '2026-11-04']::date[]) day
    """
    world.admin.execute(add, [maya.id])

    every = maya.call("my_ledger", last_day="2026-11-03", after=0)
    rest = maya.call(
        "my_ledger", first_day=every[0]["day"], last_day="2026-11-03", after=every[0]["id"]
    )

    assert [entry["day"][-1] for entry in every] == ["2", "2", "3"]
    assert rest == every[1:]


def test_usage_of_others_is_not_read(world, maya):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 400)
    omar = world.person()

    assert usage(omar) == {"days": [], "purposes": [], "conversations": []}
    assert omar.call("my_ledger", after=0) == []
    world.sign_out(omar)
    assert omar.refusal("my_usage") == SIGNED_OUT


def test_middle_of_a_bucket_is_within_five_per_cent(world):
    worst = world.one(
        "select max(abs(1.1 ^ (private.bucket_of(ms) - 0.5) / ms - 1)) from generate_series(1, 300000, 7) ms"
    )

    assert worst <= 0.05


def test_times_to_the_first_token_are_counted_by_bucket(world, maya):
    garden = maya.create_conversation()
    for number, ms in enumerate((120, None, 125, 9000)):
        maya.finish(maya.begin(garden, 2 * number)["turn"], 2 * number + 1, first_token_ms=ms)

    found = world.one(
        "select array_agg(first_tokens[bucket] order by bucket)"
        " from private.usage_by_day, generate_subscripts(first_tokens, 1) bucket"
        " where purpose = 'reply' and first_tokens[bucket] > 0"
    )
    # counts of replies without a time, with 120 and 125 ms, and with 9,000 ms
    assert found == [1, 2, 1]
