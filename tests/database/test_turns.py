"""What a turn keeps, what it holds and what it costs, however it goes."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from tests.database import servers
from tests.database.people import (
    MISUSE,
    SIGNED_OUT,
    Refused,
    beginning,
    finish,
    sealed,
    side_call,
)


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    """A conversation of Maya's."""
    return maya.create_conversation()


@pytest.fixture
def money(world, maya):
    """What Maya has reserved, spent today, and spent this month."""
    return lambda: world.one(
        "select reserved, day_spent, month_spent from private.budgets where user_id = %s", maya.id
    )


@pytest.fixture
def two_at_once(world, maya, migrated):
    """Let Maya do something twice at the same moment; what came of each.

    Both are held up at her budget, where turns queue up, until both are there.
    """

    def run(act):
        maya.call("begin_turn", **side_call())  # opens her day, which would queue them up too

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


def set_caps(world, person, **caps):
    for name, value in caps.items():
        world.admin.execute(
            f"update private.budgets set {name} = %s where user_id = %s", [value, person.id]
        )


def let_lapse(world, *turns):
    """End the leases of *turns* and sweep; how many were settled."""
    world.admin.execute(
        "update public.turns set lease_until = now() - interval '1 second' where id = any (%s)",
        [list(turns)],
    )
    return world.anon.call("sweep_turns", at_most=100)["swept"]


def turn_row(world, turn):
    return world.one("select to_jsonb(t) from public.turns t where id = %s", turn)


def partial_of(world, turn):
    row = turn_row(world, turn)
    return row["partial"], row["partial_thoughts"]


def entries(world, turn):
    found = world.admin.execute(
        "select kind, micro from private.ledger where turn_id = %s order by id", [turn]
    )
    return [(kind, micro) for kind, micro in found]


def books_agree(world):
    """Whether budgets, loans and the deployment say what the ledger says, with nothing open."""
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    ledger, spent, loans, lent = world.one(
        "select (select coalesce(sum(micro), 0) from private.ledger), (select sum(month_spent) from private.budgets),"
        " (select sum(loan) from private.budgets), (select lent from private.deployment)"
    )
    return ledger == spent == loans == lent


# one whole turn ------------------------------------------------------------------------------------------


def test_a_turn_keeps_both_messages_and_costs_what_it_used(world, maya, garden, money):
    prompt, reply = uuid4(), uuid4()

    begun = maya.begin(garden, prompt=prompt, receipt_body=sealed("receipt"))
    assert (begun["ok"], begun["replay"], begun["reserved"], begun["rev"], begun["seq"]) == (
        True, False, 1100, 1, 1,
    )  # fmt: skip
    assert money() == (1100, 0, 0)
    assert maya.checkpoint(begun["turn"], sealed("so"), thoughts=sealed("hm"))["ok"]
    assert maya.checkpoint(begun["turn"])["ok"]
    assert partial_of(world, begun["turn"]) == (sealed("so"), sealed("hm"))
    ended = maya.finish(begun["turn"], 1, 400, reply=reply)

    assert (ended["ok"], ended["saved"], ended["charged"], ended["rev"]) == (True, True, 400, 2)
    assert money() == (0, 400, 400)
    messages = sorted(maya.rows("messages"), key=lambda row: row["seq"])
    assert [(m["id"], m["role"], m["parent_id"]) for m in messages] == [
        (str(prompt), "user", None),
        (str(reply), "assistant", str(prompt)),
    ]
    turn = turn_row(world, begun["turn"])
    assert (turn["state"], turn["reply_id"]) == ("complete", str(reply))
    assert partial_of(world, begun["turn"]) == (None, None)
    assert (turn["tokens_in"], turn["tokens_out"], turn["tokens_cached"]) == (10, 20, 5)
    assert world.one(
        "select tokens_in, tokens_out, tokens_cached, micro, kind from private.ledger where turn_id = %s",
        begun["turn"],
    ) == (10, 20, 5, 400, "charge")
    conversation = maya.rows("conversations")[0]
    assert (conversation["rev"], conversation["last_seq"], conversation["message_count"]) == (
        2,
        2,
        2,
    )
    assert books_agree(world)


def test_beginning_twice_begins_one_turn(world, maya, garden):
    arguments = beginning(garden)

    first = maya.call("begin_turn", **arguments)
    again = maya.call("begin_turn", **arguments)
    other = maya.call("begin_turn", **arguments | {"reply_micro": 5, "least_reply_micro": 1})

    assert again == {
        "ok": True,
        "replay": True,
        "turn": first["turn"],
        "state": "reserved",
        "reserved": 1100,
    }
    assert other == {"ok": False, "reason": "different_request"}
    assert world.one("select count(*), sum(reserved_micro) from public.turns") == (1, 1100)


def test_beginning_twice_at_the_same_moment_begins_one_turn(world, garden, two_at_once):
    arguments = beginning(garden)

    answers = two_at_once(lambda maya: maya.call("begin_turn", **arguments))

    assert sorted(answer["replay"] for answer in answers) == [False, True]
    assert world.one("select count(*) from public.messages") == 1


def test_finishing_twice_charges_once(world, maya, garden, money):
    turn, reply = maya.begin(garden)["turn"], uuid4()
    maya.finish(turn, 1, 400, reply=reply)

    again = maya.finish(turn, 1, 900)

    assert again == {
        "ok": True,
        "replay": True,
        "state": "complete",
        "reply": str(reply),
        "charged": 400,
    }
    assert money() == (0, 400, 400)
    assert world.one("select count(*) from public.messages") == 2


def test_two_replies_of_one_conversation_never_come_at_once(garden, two_at_once):
    answers = two_at_once(lambda maya: maya.begin(garden))

    assert sorted(answer.get("reason", "") for answer in answers) == ["", "busy"]


def test_a_stale_finish_changes_nothing_and_can_be_made_again(maya, garden, money):
    turn = maya.begin(garden)["turn"]

    stale = maya.finish(turn, 0, 400)
    assert (stale["ok"], stale["reason"], stale["rev"]) == (False, "stale", 1)
    assert money() == (1100, 0, 0)

    assert maya.finish(turn, stale["rev"], 400)["saved"] is True
    assert money() == (0, 400, 400)


def test_no_message_hangs_below_one_of_another_conversation(maya, garden):
    elsewhere, prompt = maya.create_conversation(), uuid4()
    maya.begin(elsewhere, prompt=prompt)

    assert maya.refusal("begin_turn", **beginning(garden, parent=prompt)) == "23503"


def test_a_temporary_chat_leaves_nothing_but_the_ledger(world, maya):
    turn = maya.begin(None, None, receipt_body=sealed("receipt"))["turn"]
    assert maya.checkpoint(turn, sealed("so far"), thoughts=sealed("hm"))["ok"]
    assert partial_of(world, turn) == (None, None)
    assert maya.finish(turn, None, 7)["saved"] is False

    assert maya.rows("messages") + maya.rows("receipts") == []
    assert entries(world, turn) == [("charge", 7)]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_micro": -1},
        {"reply_micro": 10**13},
        {"least_reply_micro": 1001},
        {"lease_seconds": 0},
        {"lease_seconds": None},
    ],
)
def test_amounts_out_of_range_are_refused(maya, garden, changes):
    assert maya.refusal("begin_turn", **beginning(garden, **changes)) == MISUSE


@pytest.mark.parametrize(
    "changes",
    [
        {"cost_micro": None},
        {"cost_micro": -1},
        {"used_in": None},
        {"used_cached": -1},
        {"outcome": "lapsed"},
    ],
)
def test_endings_out_of_range_are_refused(maya, garden, changes):
    turn = maya.begin(garden)["turn"]

    assert maya.refusal("finish_turn", **finish(turn, 1, 5) | changes) == MISUSE


# where the model's view begins ---------------------------------------------------------------------------


def view(maya):
    row = maya.rows("conversations")[0]
    return row["reset_seq"], row["start_seq"]


def set_policy(maya, garden, reset, policy="window"):
    changes = {"policy": policy, "policy_size": 20} | (
        {} if reset is None else {"reset_seq": reset}
    )
    return maya.change(garden, **changes)


def talk(maya, garden, turns, **changes):
    """Some turns; the conversation's revision after them."""
    rev = maya.rows("conversations")[0]["rev"]
    for _ in range(turns):
        maya.finish(maya.begin(garden, rev, **changes)["turn"], rev + 1)
        rev += 2
    return rev


def test_a_plan_from_before_a_reset_is_stale(maya, garden):
    rev = talk(maya, garden, 2)
    assert set_policy(maya, garden, 4)["ok"]
    assert view(maya) == (4, 4)

    assert maya.begin(garden, rev, new_start_seq=2)["reason"] == "stale"
    assert (
        maya.begin(garden, rev, new_start_seq=5)["reason"] == "stale"
    )  # nor is there such a message
    assert maya.begin(garden, rev, new_start_seq=4)["ok"]


@pytest.mark.parametrize("reset", [-1, 3])
def test_no_reset_lies_outside_the_conversation(maya, garden, reset):
    talk(maya, garden, 1)

    with pytest.raises(Refused):
        set_policy(maya, garden, reset)

    assert view(maya) == (0, 0)


# caps ----------------------------------------------------------------------------------------------------


def test_everybody_together_stays_below_the_deployments_cap(world, maya):
    world.admin.execute("update private.deployment set monthly_cap_micro = 2000")
    omar = world.person()

    first = maya.begin(maya.create_conversation())
    second = omar.begin(omar.create_conversation())
    third = maya.begin(maya.create_conversation())

    assert (first["reserved"], second["reserved"]) == (1100, 900)
    assert (third["ok"], third["reason"], third["room"]) == (False, "deployment_cap", 0)
    assert world.one("select sum(reserved) from private.budgets") == 2000


def test_unused_loans_are_called_back_when_somebody_needs_them(world, maya):
    world.admin.execute("update private.deployment set monthly_cap_micro = 20000")
    maya.finish(maya.begin(maya.create_conversation())["turn"], 1, 100)
    assert world.one("select loan > 1100 from private.budgets where user_id = %s", maya.id)
    omar = world.person()

    begun = omar.begin(omar.create_conversation(), reply_micro=19_800)

    assert begun["reserved"] == 19_900
    assert world.one("select lent from private.deployment") == 20_000


def test_a_lower_cap_of_the_deployment_holds_for_loans_already_made(world, maya, garden):
    maya.finish(maya.begin(garden)["turn"], 1, 100)
    admin = world.make_admin(world.person())

    assert admin.call("set_deployment_cap", new_monthly_cap_micro=150) == {"ok": True}

    assert maya.begin(garden, 2, prompt_micro=0)["reserved"] == 50


def test_too_many_turns_a_minute_are_refused(world, maya):
    set_caps(world, maya, max_per_minute=2, max_open=10)

    answers = [maya.begin(maya.create_conversation()) for _ in range(3)]
    assert maya.call("begin_turn", **side_call())["ok"]  # what the app asks by itself is no haste
    # the minute may end between two of them; the next one begins anew
    world.admin.execute("update private.budgets set minute = minute - interval '1 minute'")

    assert [answer.get("reason") for answer in answers] == [None, None, "too_fast"]
    assert answers[-1]["per_minute"] == 2
    assert 1 <= answers[-1]["wait_seconds"] <= 60
    assert maya.begin(maya.create_conversation())["ok"]


def test_a_missing_budget_is_no_licence(world, maya, garden):
    world.admin.execute("delete from private.budgets")

    assert maya.refusal("begin_turn", **beginning(garden)) == SIGNED_OUT


def test_a_new_day_and_a_new_month_open_the_caps(world, maya, garden, money):
    set_caps(world, maya, daily_cap_micro=1000, monthly_cap_micro=1500)
    maya.finish(maya.begin(garden)["turn"], 1, 1000)
    assert maya.begin(garden, 2)["reason"] == "daily_cap"

    world.admin.execute("update private.budgets set day = day - 1")
    second = maya.begin(garden, 2)
    assert second["reserved"] == 500
    assert money() == (500, 0, 1000)
    maya.finish(second["turn"], 3, 500)

    world.admin.execute(
        "update private.budgets set day = day - 31, month = (month - interval '1 month')::date"
    )
    world.admin.execute("update private.deployment set month = (month - interval '1 month')::date")
    assert maya.begin(garden, 4)["reserved"] == 1000
    assert money() == (1000, 0, 0)
    assert world.one("select lent >= 1000 from private.deployment")


def test_a_turn_open_across_the_months_end_is_paid_in_the_new_one(world, maya, garden, money):
    earlier = maya.begin(maya.create_conversation())["turn"]
    maya.finish(earlier, 1, 200)
    turn = maya.begin(garden)["turn"]
    world.admin.execute(
        "update private.budgets set day = day - 31, month = (month - interval '1 month')::date"
    )
    world.admin.execute("update private.deployment set month = (month - interval '1 month')::date")

    maya.finish(turn, 1, 300)

    assert money() == (0, 300, 300)
    world.admin.execute("select private.lock_deployment(), private.recall_loans(null)")
    assert world.one("select loan, lent from private.budgets, private.deployment") == (300, 300)


def test_more_than_was_reserved_is_charged_noted_and_owed(world, maya, garden, money):
    world.admin.execute("update private.deployment set monthly_cap_micro = 1100")
    turn = maya.begin(garden)["turn"]

    maya.finish(turn, 1, 5000)

    assert money() == (0, 5000, 5000)
    assert books_agree(world)
    assert world.one("select detail from private.audit where action = 'turn.overrun'") == {
        "reserved": 1100,
        "cost": 5000,
    }


# turns that nobody finishes ------------------------------------------------------------------------------


def test_a_turn_that_never_called_the_model_lapses_for_free(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]

    assert let_lapse(world, turn) == 1

    assert money() == (0, 0, 0)
    assert entries(world, turn) == [("lapsed", 0)]
    assert maya.checkpoint(turn) == {"ok": False, "reason": "lapsed"}
    assert books_agree(world)


def test_a_turn_that_called_the_model_lapses_at_its_reservation(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    maya.checkpoint(turn, sealed("so far"))

    assert let_lapse(world, turn) == 1
    assert let_lapse(world, turn) == 0

    assert money() == (0, 1100, 1100)
    assert turn_row(world, turn)["partial"] == sealed("so far")
    assert books_agree(world)


def test_a_heartbeat_keeps_a_turn_alive(world, maya, garden):
    turn = maya.begin(garden, lease_seconds=1)["turn"]
    world.admin.execute("update public.turns set lease_until = now() - interval '1 second'")

    assert maya.checkpoint(turn, lease_seconds=60)["ok"]

    assert world.anon.call("sweep_turns", at_most=10)["swept"] == 0


def test_the_next_turn_settles_what_lapsed_before_it(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    world.admin.execute("update public.turns set lease_until = now() - interval '1 second'")

    begun = maya.begin(garden, 1)

    assert begun["ok"]
    assert turn_row(world, turn)["state"] == "lapsed"
    assert money() == (1100, 0, 0)


def test_a_late_finish_pays_back_what_was_charged_too_much(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    maya.checkpoint(turn, sealed("so far"))
    let_lapse(world, turn)

    ended = maya.finish(turn, 1, 300)

    assert (ended["saved"], ended["charged"]) == (True, 300)
    assert entries(world, turn) == [("lapsed", 1100), ("adjust", -800)]
    assert money() == (0, 300, 300)
    assert books_agree(world)


def test_a_correction_touches_only_the_windows_that_counted_the_charge(world, maya, garden, money):
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


def test_a_sweep_settles_as_many_turns_as_it_is_asked_to(world, maya, garden):
    title = {"new_purpose": "title", "prompt": None, "prompt_body": None, "new_head": None}
    for _ in range(3):
        maya.begin(garden, None, **title)
    world.admin.execute("update public.turns set lease_until = now()")

    sweeps = [world.anon.call("sweep_turns", at_most=2) for _ in range(3)]

    assert [(sweep["swept"], sweep["more"]) for sweep in sweeps] == [
        (2, True),
        (1, True),
        (0, False),
    ]


def test_a_sweep_waits_for_nobody(world, maya, garden, migrated):
    turn, omar = maya.begin(garden)["turn"], world.person()
    omars = omar.begin(omar.create_conversation())["turn"]
    with psycopg.connect(migrated) as busy:
        busy.execute("select from private.budgets where user_id = %s for no key update", [maya.id])
        world.admin.execute("set lock_timeout = '2s'")

        assert let_lapse(world, turn, omars) == 1

    assert turn_row(world, turn)["state"] == "reserved"
    assert world.anon.call("sweep_turns", at_most=10)["swept"] == 1


def test_a_budget_that_cannot_be_skipped_is_not_waited_for_either(world, maya, migrated):
    with psycopg.connect(migrated) as busy:
        busy.execute("lock table private.budgets in exclusive mode")  # `skip locked` waits for it
        world.admin.execute("set statement_timeout = '2s'")

        assert world.one("select private.lock_if_free(%s)", maya.id) is False

    assert world.one("select private.lock_if_free(%s)", maya.id) is True


def test_a_sweep_leaves_a_turn_whose_heartbeat_is_on_the_way(world, maya, garden, migrated):
    turn = maya.begin(garden)["turn"]
    world.admin.execute("update public.turns set lease_until = now() - interval '1 second'")
    with psycopg.connect(migrated) as busy:
        busy.execute("select from public.turns where id = %s for no key update", [turn])
        world.admin.execute("set lock_timeout = '2s'")

        swept = world.anon.call("sweep_turns", at_most=10)["swept"]

    assert swept == 0


# what time removes, and what people delete ---------------------------------------------------------------


def test_a_conversation_deleted_in_mid_reply_leaves_the_cost_and_no_text(
    world, maya, garden, money
):
    turn = maya.begin(garden, receipt_body=sealed("receipt"))["turn"]
    maya.checkpoint(turn, sealed("so far"), thoughts=sealed("hm"))

    assert maya.call("delete_conversation", conversation=garden) == {"ok": True}
    assert partial_of(world, turn) == (None, None)
    assert maya.checkpoint(turn, sealed("so far and more"), thoughts=sealed("hm"))["ok"]
    ended = maya.finish(turn, 1, 300)

    assert (ended["ok"], ended["saved"]) == (True, False)
    assert partial_of(world, turn) == (None, None)
    assert maya.rows("messages") + maya.rows("receipts") + maya.rows("conversations") == []
    assert money() == (0, 300, 300)
    assert books_agree(world)


def test_an_expired_conversation_is_removed_once_its_turn_has_ended(world, maya):
    passing = maya.create_conversation(expires_at="2026-01-01T00:00:00+00:00")
    turn = maya.begin(passing)["turn"]

    world.anon.call("sweep_turns", at_most=10)
    assert len(maya.rows("conversations")) == 1
    maya.finish(turn, 1, 5)
    world.anon.call("sweep_turns", at_most=10)

    assert maya.rows("conversations") + maya.rows("messages") == []


def test_tidying_waits_for_nobody(world, maya, migrated):
    passing = maya.create_conversation(expires_at="2026-01-01T00:00:00+00:00")
    maya.create_conversation(expires_at="2026-01-01T00:00:00+00:00")
    with psycopg.connect(migrated) as busy:
        busy.execute("select from public.conversations where id = %s for update", [passing])
        world.admin.execute("set lock_timeout = '2s'")

        world.anon.call("sweep_turns", at_most=10)

        assert [row["id"] for row in maya.rows("conversations")] == [str(passing)]


def let_pass(world, conversation):
    """As if the time were over for which it can be brought back."""
    world.admin.execute(
        "update public.conversations set destroy_at = now() - interval '1 second' where id = %s",
        [conversation],
    )


def test_what_is_discarded_can_be_brought_back_as_it_was(world, maya, garden):
    passing = maya.create_conversation(expires_at="2090-01-01T00:00:00+00:00")
    maya.finish(maya.begin(garden)["turn"], 1, 5)
    maya.change(garden, pinned=True, state="archived")
    before = world.contents()

    for conversation in (garden, passing):
        discarded = maya.call("discard_conversation", conversation=conversation, for_seconds=20)
        assert discarded == {"ok": True}
    world.anon.call("sweep_turns", at_most=10)
    for conversation in (garden, passing):
        assert maya.call("restore_conversation", conversation=conversation) == {"ok": True}

    assert world.contents() == before
    again = maya.call("restore_conversation", conversation=garden)
    assert again == {"ok": False, "reason": "not_found"}


def test_what_is_discarded_is_destroyed_with_its_key_when_its_time_is_over(world, maya, garden):
    maya.finish(maya.begin(garden)["turn"], 1, 5)
    maya.call("discard_conversation", conversation=garden, for_seconds=20)
    due = "select destroy_at from public.conversations where id = %s"
    first = world.one(due, garden)
    assert 15 < world.one("select extract(epoch from %s - now())", first) <= 20

    maya.call("discard_conversation", conversation=garden, for_seconds=3600)
    assert world.one(due, garden) == first  # asking twice prolongs nothing
    let_pass(world, garden)
    world.anon.call("sweep_turns", at_most=10)

    assert maya.rows("conversations") + maya.rows("messages") == []
    gone = maya.call("restore_conversation", conversation=garden)
    assert gone == {"ok": False, "reason": "not_found"}


def test_no_turn_begins_in_what_is_discarded_and_an_open_one_ends_there(world, maya, garden, money):
    turn = maya.begin(garden)["turn"]
    maya.call("discard_conversation", conversation=garden, for_seconds=20)
    let_pass(world, garden)

    world.anon.call("sweep_turns", at_most=10)
    assert maya.finish(turn, 1, 300)["saved"]
    assert maya.call("begin_turn", **beginning(garden, 2)) == {"ok": False, "reason": "not_found"}
    assert money() == (0, 300, 300)

    world.anon.call("sweep_turns", at_most=10)
    assert maya.rows("conversations") == []


def test_what_is_due_is_removed_in_slices(world, maya, garden):
    world.admin.execute(
        """
        insert into public.messages (id, conversation_id, user_id, seq, parent_id, role, body)
        select md5(n::text)::uuid, %(garden)s, %(maya)s, n, case when n > 1 then md5((n - 1)::text)::uuid end, 'user',
          %(body)s
        from generate_series(1, 201) n
        """,
        {"garden": garden, "maya": maya.id, "body": sealed("message")},
    )
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
        left.append(
            (more, len(maya.rows("messages")), world.one("select count(*) from private.throttles"))
        )

    assert left == [(True, 1, 1), (True, 0, 0), (False, 0, 0)]
    assert maya.rows("conversations") == []


@pytest.mark.parametrize("seconds", [None, 0, 3601])
def test_nothing_is_discarded_for_long(maya, garden, seconds):
    refused = maya.refusal("discard_conversation", conversation=garden, for_seconds=seconds)

    assert refused == MISUSE
    assert maya.rows("conversations")[0]["destroy_at"] is None
