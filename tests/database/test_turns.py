"""The rows, reservations and costs of turns, however they end."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from tests.database import servers
from tests.database.people import MISUSE, SIGNED_OUT, beginning, finish, sealed, side_call


@pytest.fixture
def money(world, maya):
    """Return the amounts that Maya has reserved, spent today, and spent this month."""
    return lambda: world.one(
        "select reserved, day_spent, month_spent from private.budgets where user_id = %s", maya.id
    )


@pytest.fixture
def two_at_once(world, maya, migrated):
    """Call *act* twice at the same moment, and return both results.

    Both calls wait for Maya's budget, which is locked until both are waiting.
    """

    def run(act):
        # opens the windows of Maya's day, for which both calls would wait otherwise
        maya.call("begin_turn", **side_call())

        def once(_):
            with psycopg.connect(migrated, autocommit=True) as connection:
                return act(maya.by(connection))

        with ThreadPoolExecutor(2) as both:
            with psycopg.connect(migrated) as gate:
                gate.execute("select from private.budgets where user_id = %s for update", [maya.id])
                results = both.map(once, range(2))
                servers.wait_for_blocked(world.admin, 2)
            return list(results)

    return run


def let_lapse(world, *turns):
    """End the leases of *turns* and sweep; return the number of settled turns."""
    lapsing = "update public.turns set lease_until = now() - interval '1s' where id = any (%s)"
    world.admin.execute(lapsing, [list(turns)])
    return world.anon.call("sweep_turns", at_most=100)["swept"]


def partial_of(world, turn):
    return world.one("select partial, partial_thoughts from public.turns where id = %s", turn)


def books_agree(world):
    """Return True if budgets, loans and the deployment agree with the ledger, with nothing open."""
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    ledger, spent, loans, lent = world.one(
        "select (select coalesce(sum(micro), 0) from private.ledger), (select sum(month_spent) from private.budgets),"
        " (select sum(loan) from private.budgets), (select lent from private.deployment)"
    )
    return ledger == spent == loans == lent


# one whole turn ------------------------------------------------------------------------------------------


def test_settled_turn_is_in_all_books(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    assert money() == (1100, 0, 0)

    maya.finish(turn, 1, 400)

    assert money() == (0, 400, 400)
    entry = "select tokens_in, tokens_out, tokens_cached, micro, kind from private.ledger where turn_id = %s"
    assert world.one(entry, turn) == (10, 20, 5, 400, "charge")
    assert books_agree(world)


def test_beginning_twice_begins_one_turn(world, maya, garden):
    arguments = beginning(garden)

    first = maya.call("begin_turn", **arguments)
    again = maya.call("begin_turn", **arguments)
    other = maya.call("begin_turn", **arguments | {"reply_micro": 5, "least_reply_micro": 1})

    assert again == {"ok": True, "replay": True, "state": "reserved"} | {
        name: first[name] for name in ("turn", "reserved", "reserved_tokens")
    }
    assert other == {"ok": False, "reason": "different_request"}
    replies = "select count(*), sum(reserved_micro) from public.turns where purpose = 'reply'"
    assert world.one(replies) == (1, 1100)


def test_beginning_twice_at_the_same_moment_begins_one_turn(world, garden, two_at_once):
    arguments = beginning(garden)

    answers = two_at_once(lambda maya: maya.call("begin_turn", **arguments))

    assert sorted(answer["replay"] for answer in answers) == [False, True]
    assert world.one("select count(*) from public.messages") == 1


def test_windows_of_a_clock_that_was_ahead_are_left(world, maya, garden):
    world.admin.execute(
        "update private.budgets set minute = now() + interval '2 hours', day = current_date + 31,"
        " day_spent = 5, minute_turns = max_per_minute"
    )

    assert maya.begin(garden)["ok"]

    windows = "select day, day_spent, minute_turns, minute <= now() from private.budgets"
    assert world.one(f"{windows} where minute_turns = 1") == (
        datetime.now(UTC).date(),
        5,
        1,
        True,
    )


def test_turns_are_settled_though_the_deployments_month_is_ahead(world, maya, garden):
    omar = world.person()
    turn = maya.begin(garden)["turn"]
    world.admin.execute(
        "update private.deployment set month = month + interval '1 month', lent = 0"
    )

    other = omar.begin(omar.create_conversation())["turn"]

    assert maya.finish(turn, 1, 400)["ok"]
    assert omar.finish(other, 1, 400)["ok"]
    assert books_agree(world)


def test_prompt_follows_no_message_of_another_conversation(maya, garden):
    elsewhere, prompt = maya.create_conversation(), uuid4()
    maya.begin(elsewhere, prompt=prompt)

    assert maya.refusal("begin_turn", **beginning(garden, parent=prompt)) == "23503"


def test_temporary_chat_leaves_nothing_but_the_ledger(world, maya):
    turn = maya.begin(None, None, receipt_body=sealed("receipt"))["turn"]
    assert maya.checkpoint(turn, sealed("so far"), thoughts=sealed("hm"))["ok"]
    assert partial_of(world, turn) == (None, None)
    assert maya.finish(turn, None, 7)["saved"] is False

    assert maya.rows("messages") + maya.rows("receipts") == []
    assert world.one("select kind, micro from private.ledger") == ("charge", 7)


@pytest.mark.parametrize(
    ("function", "change"),
    [
        ("begin_turn", {"purpose": "embedding"}),
        ("begin_turn", {"prompt_micro": -1}),
        ("begin_turn", {"reply_micro": 10**13}),
        ("begin_turn", {"least_reply_micro": 1001}),
        ("begin_turn", {"lease_seconds": 0}),
        ("begin_turn", {"lease_seconds": None}),
        ("finish_turn", {"cost_micro": None}),
        ("finish_turn", {"cost_micro": None, "outcome": "interrupted", "reply_body": None}),
        ("finish_turn", {"cost_micro": -1}),
        ("finish_turn", {"used_prompt": None}),
        ("finish_turn", {"used_cached": -1}),
        ("finish_turn", {"outcome": "lapsed"}),
        *(("discard_conversation", {"for_seconds": seconds}) for seconds in (None, 0, 3601)),
    ],
)
def test_arguments_out_of_range_are_refused(maya, garden, function, change):
    arguments = {
        "begin_turn": beginning(garden),
        "finish_turn": finish(uuid4(), 1, 5),
        "discard_conversation": {"conversation": garden, "for_seconds": 20},
    }

    assert maya.refusal(function, **arguments[function] | change) == MISUSE


# caps ----------------------------------------------------------------------------------------------------


def test_all_users_together_stay_below_the_deployments_cap(world, maya):
    world.admin.execute("update private.deployment set monthly_cap_micro = 2000")
    omar = world.person()

    first = maya.begin(maya.create_conversation())
    second = omar.begin(omar.create_conversation())
    third = maya.begin(maya.create_conversation())

    assert (first["reserved"], second["reserved"]) == (1100, 900)
    assert (third["ok"], third["reason"]) == (False, "deployment_cap")
    assert world.one("select sum(reserved) from private.budgets") == 2000


@pytest.mark.parametrize(
    ("cap", "share"),
    [
        (None, None),
        (1056, None),
        (1055, 0.9),
        (1001, 0.9),
        (1000, 0.95),
        (950, 1),
        (900, 1),
        (0, 0),
    ],
)
def test_used_part_of_the_shared_budget_is_coarse(world, maya, cap, share):
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 950)
    omar = world.person()

    world.admin.execute("update private.deployment set monthly_cap_micro = %s", [cap])

    assert omar.call("my_account")["deployment_share"] == share


def test_unused_loans_are_recalled_for_a_larger_reservation(world, maya):
    world.admin.execute("update private.deployment set monthly_cap_micro = 20000")
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 100)
    assert world.one("select loan > 1100 from private.budgets where user_id = %s", maya.id)
    omar = world.person()

    begun = omar.begin(omar.create_conversation(), reply_micro=19_800)

    assert begun["reserved"] == 19_900
    assert world.one("select lent from private.deployment") == 20_000


def test_recall_of_many_loans_writes_the_deployment_once(world, maya):
    """Each version of that row would be read again by the next change in the same transaction."""
    world.admin.execute("update private.deployment set monthly_cap_micro = 20000")
    for user in (maya, world.person(), world.person()):
        user.finish(user.begin(user.create_conversation())["turn"], 1, 100)

    def recall():
        world.admin.execute("select private.recall_loans(null)")

    assert world.work("private.deployment", recall)[2] == 1
    assert world.one("select lent from private.deployment") == 300


def test_lowered_cap_of_the_deployment_holds_for_loans(world, maya, garden):
    maya.finish(maya.begin(garden)["turn"], 1, 100)
    admin = world.make_admin(world.person())

    assert admin.call("set_deployment_cap", new_monthly_cap_micro=150) == {"ok": True}

    assert maya.begin(garden, 2, prompt_micro=0)["reserved"] == 50


@pytest.mark.parametrize(("cap", "then"), [(0, None), (1000, 600), (5000, 600)])
def test_ended_turns_leave_no_room_under_a_lowered_cap(world, maya, garden, cap, then):
    """If a cap of all users is lowered while replies stream, the amounts that the replies do not use stay unavailable."""
    omar = world.person()
    theirs = omar.create_conversation()
    turn, other = maya.begin(garden)["turn"], omar.begin(theirs)["turn"]
    admin = world.make_admin(world.person())
    admin.call("set_deployment_cap", new_monthly_cap_micro=cap)

    maya.finish(turn, 1, 200)
    omar.finish(other, 1, 200)

    begun = maya.begin(garden, 2, reply_micro=500, prompt_micro=100)
    assert begun.get("reserved") == then
    assert begun["ok"] or begun["reason"] == "deployment_cap"
    assert world.one("select lent <= greatest(400, monthly_cap_micro) from private.deployment")


def test_refusal_by_the_shared_cap_has_no_amount(world, maya, garden):
    world.admin.execute("update private.deployment set monthly_cap_micro = 149")
    by_all = maya.begin(garden)
    world.admin.execute("update private.budgets set max_per_minute = 0")
    by_rate = maya.begin(garden)
    world.admin.execute("update private.budgets set max_per_minute = 9, daily_cap_micro = 148")
    by_own = maya.begin(garden)

    assert [(one["reason"], one["room"]) for one in (by_all, by_rate, by_own)] == [
        ("deployment_cap", None),
        ("too_fast", None),
        ("daily_cap", 148),
    ]


def test_user_without_a_budget_begins_no_turn(world, maya, garden):
    world.admin.execute("delete from private.budgets")

    assert maya.refusal("begin_turn", **beginning(garden)) == SIGNED_OUT


def test_turn_across_the_end_of_month_counts_in_new_one(world, maya, garden, money):
    earlier = maya.begin(maya.create_conversation())["turn"]
    maya.finish(earlier, 1, 200)
    turn = maya.begin(garden)["turn"]
    ageing = "update private.budgets set day = day - 31, month = (month - interval '1 month')::date"
    world.admin.execute(ageing)
    world.admin.execute("update private.deployment set month = (month - interval '1 month')::date")

    maya.finish(turn, 1, 300)

    assert money() == (0, 300, 300)
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    assert world.one("select loan, lent from private.budgets, private.deployment") == (300, 300)


def test_turn_open_at_the_months_end_keeps_its_room(world, maya, garden):
    world.admin.execute("update private.deployment set monthly_cap_micro = 2000")
    omar = world.person()
    turn = maya.begin(garden)["turn"]
    world.admin.execute("update private.budgets set month = (month - interval '1 month')::date")
    world.admin.execute("update private.deployment set month = (month - interval '1 month')::date")

    assert omar.begin(omar.create_conversation(), reply_micro=5000)["reserved"] == 900
    maya.finish(turn, 1, 1100)

    assert world.one("select lent from private.deployment") == 2000


def test_turn_open_at_the_months_end_counts_under_a_lowered_cap(world, maya, garden):
    omar, admin = world.person(), world.make_admin(world.person())
    omar.begin(omar.create_conversation())
    world.admin.execute("update private.budgets set month = (month - interval '1 month')::date")
    world.admin.execute("update private.deployment set month = (month - interval '1 month')::date")
    turn = maya.begin(garden)["turn"]
    admin.call("set_deployment_cap", new_monthly_cap_micro=1500)

    maya.finish(turn, 1, 200)

    begun = maya.begin(garden, 2, reply_micro=500, prompt_micro=100)
    assert begun["reserved"] == 1500 - 1100 - 200


def test_cost_beyond_the_reservation_is_not_charged(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]

    maya.finish(turn, 1, 5000)

    assert money() == (0, 1100, 1100)
    assert books_agree(world)


def test_late_cost_that_is_no_longer_reserved_is_owed(world, maya, garden, money):
    world.admin.execute("update private.deployment set monthly_cap_micro = 1100")
    omar = world.person()
    turn = maya.begin(garden)["turn"]
    let_lapse(world, turn)
    omar.finish(omar.begin(omar.create_conversation())["turn"], 1, 1100)

    maya.finish(turn, 1, 300)

    assert money() == (0, 300, 300)
    assert books_agree(world)


# turns that nobody finishes ------------------------------------------------------------------------------


def test_correction_changes_the_periods_that_counted_the_charge(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    maya.checkpoint(turn)
    let_lapse(world, turn)
    world.admin.execute("update private.budgets set day = day - 1")
    world.admin.execute("update public.turns set finished_at = finished_at - interval '1 day'")
    same_month = world.one("select extract(day from now() at time zone 'utc') > 1")
    other = maya.create_conversation()
    maya.finish(maya.begin(other)["turn"], 1, 900)

    maya.finish(turn, 1, 300)

    assert money() == (0, 900, 900 + 1100 - 800 if same_month else 900 + 1100)


def test_sweep_settles_at_most_as_many_as_asked(world, maya, garden):
    for _ in range(3):
        maya.call("begin_turn", **side_call(garden))
    world.admin.execute("update public.turns set lease_until = now()")

    sweeps = [world.anon.call("sweep_turns", at_most=2) for _ in range(3)]

    results = [(sweep["swept"], sweep["more"]) for sweep in sweeps]
    assert results == [(2, True), (1, True), (0, False)]


def test_sweep_does_not_wait_for_a_locked_budget(world, maya, garden, migrated):
    turn, omar = maya.begin(garden)["turn"], world.person()
    omars = omar.begin(omar.create_conversation())["turn"]
    with psycopg.connect(migrated) as busy:
        busy.execute("select from private.budgets where user_id = %s for no key update", [maya.id])
        world.admin.execute("set lock_timeout = '2s'")

        assert let_lapse(world, turn, omars) == 1

    assert world.one("select state::text from public.turns where id = %s", turn) == "reserved"
    assert world.anon.call("sweep_turns", at_most=10)["swept"] == 1


def test_sweep_does_not_wait_for_a_locked_table(world, maya, migrated):
    with psycopg.connect(migrated) as busy:
        # `skip locked` waits for a lock of the table
        busy.execute("lock table private.budgets in exclusive mode")
        world.admin.execute("set statement_timeout = '2s'")

        assert world.one("select private.lock_if_free(%s)", maya.id) is False

    assert world.one("select private.lock_if_free(%s)", maya.id) is True


def test_sweep_leaves_a_turn_with_a_heartbeat_under_way(world, maya, garden, migrated):
    turn = maya.begin(garden)["turn"]
    world.admin.execute("update public.turns set lease_until = now() - interval '1 second'")
    with psycopg.connect(migrated) as busy:
        busy.execute("select from public.turns where id = %s for no key update", [turn])
        world.admin.execute("set lock_timeout = '2s'")

        swept = world.anon.call("sweep_turns", at_most=10)["swept"]

    assert swept == 0


# what time removes, and what people delete ---------------------------------------------------------------


def test_conversation_deleted_during_reply_leaves_cost_alone(world, maya, garden, money):
    turn = maya.begin(garden, receipt_body=sealed("receipt"))["turn"]
    maya.checkpoint(turn, sealed("so far"), thoughts=sealed("hm"))

    world.admin.execute("delete from public.conversations where id = %s", [garden])
    assert partial_of(world, turn) == (None, None)
    assert maya.checkpoint(turn, sealed("so far and more"), thoughts=sealed("hm"))["ok"]
    assert partial_of(world, turn) == (None, None)
    assert maya.finish(turn, 1, 300)["saved"] is False

    assert maya.rows("messages") + maya.rows("receipts") + maya.rows("conversations") == []
    assert money() == (0, 300, 300)


def test_tidy_does_not_wait_for_a_locked_conversation(world, maya, migrated):
    passing = maya.create_conversation()
    for conversation in (passing, maya.create_conversation()):
        maya.call("discard_conversation", conversation=conversation, for_seconds=20)
        let_pass(world, conversation)
    with psycopg.connect(migrated) as busy:
        busy.execute("select from public.conversations where id = %s for update", [passing])
        world.admin.execute("set lock_timeout = '2s'")

        world.anon.call("sweep_turns", at_most=10)

        assert [row["id"] for row in maya.rows("conversations")] == [str(passing)]


def let_pass(world, conversation):
    """Let the undo period of the conversation pass."""
    passing = "update public.conversations set destroy_at = now() - interval '1s' where id = %s"
    world.admin.execute(passing, [conversation])


def test_open_turn_ends_in_a_discarded_conversation(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    maya.call("discard_conversation", conversation=garden, for_seconds=20)
    let_pass(world, garden)

    world.anon.call("sweep_turns", at_most=10)
    assert maya.finish(turn, 1, 300)["saved"]
    assert maya.call("begin_turn", **beginning(garden, 2)) == {"ok": False, "reason": "not_found"}
    assert money() == (0, 300, 300)

    world.anon.call("sweep_turns", at_most=10)
    assert maya.rows("conversations") == []


def test_due_rows_are_removed_in_slices(world, maya, garden):
    world.fill(garden, 1, 201)
    world.admin.execute(
        "insert into private.throttles"
        " select encode(sha256(n::text::bytea), 'hex'), now(), 1 from generate_series(1, 201) n"
    )
    maya.call("discard_conversation", conversation=garden, for_seconds=20)
    let_pass(world, garden)

    left = []
    for _ in range(3):
        more = world.anon.call("sweep_turns", at_most=10)["more"]
        assert not maya.call("restore_conversation", conversation=garden)["ok"]
        throttles = world.one("select count(*) from private.throttles")
        left.append((more, len(maya.rows("messages")), throttles))

    assert left == [(True, 1, 1), (True, 0, 0), (False, 0, 0)]
    assert maya.rows("conversations") == []


def test_turns_of_a_deleted_conversation_are_kept_in_slices(world, maya, garden):
    world.admin.execute(
        "insert into public.turns select copy.* from public.turns one, generate_series(1, 300) n, md5(n::text) other,"
        " jsonb_populate_record(one, jsonb_build_object('id', other, 'client_turn_id', other)) copy"
    )
    world.admin.execute(
        "insert into public.receipts select id, conversation_id, user_id, %s from public.turns",
        [sealed("receipt")],
    )
    maya.call("discard_conversation", conversation=garden, for_seconds=20)
    let_pass(world, garden)

    left = []
    for _ in range(2):
        _, _, updated = world.work("public.turns", lambda: world.one("select private.tidy()"))
        left.append((updated, len(maya.rows("receipts")), len(maya.rows("conversations"))))

    assert left == [(200, 101, 1), (101, 0, 0)]
    assert len(maya.rows("turns")) == 301


@pytest.mark.parametrize("table", ["conversations", "turns"])
def test_sweep_reads_no_rows_of_users_who_stay(world, garden, table):
    world.admin.execute(
        f"insert into public.{table} select copy.* from public.{table} one, generate_series(1, 10000) n,"
        " md5(n::text) other, jsonb_populate_record(one, jsonb_build_object('id', other, 'client_turn_id', other)) copy"
    )
    world.admin.execute(
        "with deleted as ("
        " insert into auth.users (id, email) select gen_random_uuid(), n from generate_series(1, 20) n returning id"
        ") insert into private.roles (user_id, suspended_at, deleted_at) select id, now(), now() from deleted"
    )
    world.admin.execute("analyze")

    unindexed, indexed, _ = world.work(
        f"public.{table}", lambda: world.one("select private.tidy()")
    )
    assert unindexed + indexed < 100


def test_reading_a_chat_reads_no_turns_of_other_chats(world, maya, garden):
    other = maya.create_conversation()
    world.admin.execute(
        "insert into public.turns select copy.* from public.turns one, generate_series(1, 10000) n, md5(n::text) other,"
        " jsonb_populate_record(one, jsonb_build_object('id', other, 'client_turn_id', other)) copy"
        " where one.conversation_id = %s",
        [other],
    )
    world.admin.execute("analyze")
    # unlike `World.work`, this also counts the index entries whose rows are not read
    read = (
        "select sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index"
        " where indrelid = 'public.turns'::regclass"
    )

    with world.admin.transaction():
        before = world.one(read)
        maya.call("read_conversation", conversation=garden, after_seq=0)
        assert world.one(read) - before < 100
