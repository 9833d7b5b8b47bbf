"""What an admin sees and changes of users: roles, limits, lists, usage, and the audit of it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.domain import AccountRole, Outcome, Purpose, Usage
from services.domain.accounts import UserOrder
from services.domain.revisions import OpenPlace
from services.errors import Cap, NotFound, OverBudget, StoreUnavailable
from tests.store.conformance.talk import (
    answer,
    attached,
    crash,
    ending,
    first_turn,
    new_turn,
    say,
    stored_space,
    unsaid,
)
from tests.store.conftest import new_email

LEAF = b"leaf" * 100
CAPS = {
    "daily_cap_micro": 2000,
    "monthly_cap_micro": 30_000,
    "daily_cap_tokens": 5000,
    "max_open": 2,
    "max_per_minute": 7,
}


@pytest.fixture
def days():
    """Yesterday and tomorrow: a test may run at midnight."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=1), today + timedelta(days=1)


def listed(admin, user):
    """Return the row of *user* among all users."""
    [row] = admin.administration.list_users(user.email, UserOrder.EMAIL).users
    return row


def noted(admin, user):
    """Return the audit of what an admin did to *user*, the oldest first: action and detail."""
    entries = admin.administration.audit()
    return [
        (one.action, dict(one.detail))
        for one in reversed(entries)
        if (one.actor, one.target) == (admin.email, user.email)
    ]


# --- roles, suspension, sign-out


def test_role_holds_from_the_next_call(admin, maya):
    admin.administration.set_role(maya.id, AccountRole.ADMIN)

    assert maya.account().role is AccountRole.ADMIN
    assert maya.store.conversations.poll(OpenPlace()).is_admin
    assert listed(maya, admin).role is AccountRole.ADMIN

    admin.administration.set_role(maya.id, AccountRole.USER)

    assert maya.account().role is AccountRole.USER
    assert not maya.store.conversations.poll(OpenPlace()).is_admin
    assert noted(admin, maya) == [
        ("role.set", {"role": ["user", "admin"]}),
        ("role.set", {"role": ["admin", "user"]}),
    ]


def test_suspension_is_listed_and_noted_once(admin, maya):
    for is_suspended in (True, True, False):
        admin.administration.suspend(maya.id, is_suspended=is_suspended)

        assert listed(admin, maya).is_suspended == is_suspended
    assert noted(admin, maya) == [
        ("account.suspend", {"suspended": [False, True]}),
        ("account.suspend", {"suspended": [True, False]}),
    ]


def test_admin_signs_a_user_out_everywhere(deployment, admin, maya, omar):
    other = maya.sign_in()

    admin.administration.sign_out(maya.id)

    sessions = (maya, other, omar)
    assert set(deployment.accounts.ended([one.session for one in sessions])) == {
        maya.session.id,
        other.session.id,
    }
    assert list(deployment.devices(maya.sign_in().session).values()) == [True]
    assert noted(admin, maya) == [("session.end_all", {})]


VERBS_OF_A_USER = {
    "set_role": lambda admin, user_id: admin.set_role(user_id, AccountRole.ADMIN),
    "set_caps": lambda admin, user_id: admin.set_caps(user_id, {"max_open": 9}),
    "suspend": lambda admin, user_id: admin.suspend(user_id, is_suspended=True),
    "lift": lambda admin, user_id: admin.suspend(user_id, is_suspended=False),
    "sign_out": lambda admin, user_id: admin.sign_out(user_id),
    "delete": lambda admin, user_id: admin.delete(user_id),
}


@pytest.mark.parametrize("verb", VERBS_OF_A_USER)
def test_unknown_user_is_not_found(deployment, admin, verb):
    stopped = []
    administration = deployment.administration(admin.session, stopped.append)

    for one in (administration, admin.session.backend.administration):
        with pytest.raises(NotFound):
            VERBS_OF_A_USER[verb](one, uuid4())

    assert stopped == []


# --- limits


def test_limits_of_a_user_are_set_one_by_one(admin, maya):
    for name, value in CAPS.items():
        before = listed(admin, maya)
        admin.administration.set_caps(maya.id, {name: value})

        after = listed(admin, maya)
        assert getattr(after, name) == value
        others = CAPS.keys() - {name}
        assert [getattr(after, one) for one in others] == [getattr(before, one) for one in others]
    account = maya.account()
    assert (account.daily_cap_micro, account.monthly_cap_micro) == (2000, 30_000)
    assert account.daily_cap_tokens == 5000
    admin.administration.set_caps(maya.id, {"daily_cap_tokens": None})
    assert maya.account().daily_cap_tokens is None
    assert noted(admin, maya)[-1] == ("caps.set", {"daily_cap_tokens": [5000, None]})


@pytest.mark.parametrize(
    ("changes", "cap"),
    [
        ({"daily_cap_micro": 100}, Cap.DAILY),
        ({"monthly_cap_micro": 100}, Cap.MONTHLY),
        ({"daily_cap_tokens": 100}, Cap.DAILY_TOKENS),
        ({"max_open": 0}, Cap.OPEN_TURNS),
        ({"max_per_minute": 0}, Cap.TURNS_A_MINUTE),
    ],
    ids=lambda value: value if isinstance(value, Cap) else "",
)
def test_limit_of_a_user_holds_from_the_next_turn(admin, maya, omar, changes, cap):
    admin.administration.set_caps(maya.id, changes)

    with pytest.raises(OverBudget) as refused:
        maya.store.turns.begin(first_turn("When?"))

    assert refused.value.cap is cap
    assert omar.store.turns.begin(first_turn("When?")).reserved_micro == 1100


@pytest.mark.parametrize(
    "changes",
    [
        {"daily_cap_micro": -1},
        {"monthly_cap_micro": None},
        {"daily_cap_tokens": -1},
        {"max_open": 1001},
        {"max_per_minute": 1_000_001},
    ],
    ids=str,
)
def test_limit_out_of_its_bounds_is_refused(admin, maya, changes):
    before = listed(admin, maya)

    with pytest.raises(StoreUnavailable):
        admin.administration.set_caps(maya.id, changes)

    assert listed(admin, maya) == before
    assert noted(admin, maya) == []


def test_account_tells_what_is_spent(maya, omar):
    answer(maya.store, first_turn("When?"), "In March.", cost_micro=300, usage=Usage(10, 20))

    account = maya.account()

    assert account.user_id == maya.id
    assert (account.spent_today_micro, account.spent_this_month_micro) == (300, 300)
    assert account.retention_days is account.expiring is account.deployment_share is None
    assert omar.account().spent_today_micro == 0


# --- users, found and sorted


def test_users_are_found_sorted_and_skipped(deployment, admin):
    word = uuid4().hex
    users = [deployment.sign_up(f"{n}-{word}-{new_email()}") for n in range(3)]
    for user, costs in zip(users, ([5], [900], [40, 40]), strict=True):
        for cost in costs:
            answer(user.store, first_turn("When?"), "In March.", cost_micro=cost)

    def found(order, **options):
        page = admin.administration.list_users(f" {word.upper()} ", order, **options)
        return [int(row.email[0]) for row in page.users], page.total

    assert found(UserOrder.EMAIL) == ([0, 1, 2], 3)
    assert found(UserOrder.COST) == ([1, 2, 0], 3)
    assert found(UserOrder.REPLIES) == ([2, 0, 1], 3)
    assert found(UserOrder.TOKENS) == ([2, 0, 1], 3)
    assert found(UserOrder.ACTIVE) == ([2, 1, 0], 3)
    assert found(UserOrder.EMAIL, skip=1, at_most=1) == ([1], 3)
    assert admin.administration.list_users(uuid4().hex, UserOrder.EMAIL).total == 0


def test_user_is_listed_with_the_bytes_of_messages_and_pieces(admin, maya):
    thread = say(maya.store, unsaid(), "When?", "In March.")
    of_messages = listed(admin, maya).bytes
    stored_space(maya.store)
    assert listed(admin, maya).bytes == of_messages
    answer(maya.store, attached(maya.store, new_turn(thread, "This?"), LEAF), "Yes.")
    of_all = listed(admin, maya).bytes
    assert of_all > of_messages + len(LEAF)

    maya.store.conversations.discard(thread.conversation.id, 60)

    row = listed(admin, maya)
    assert (row.conversations, row.bytes) == (0, of_all)
    maya.store.conversations.restore(thread.conversation.id)
    assert listed(admin, maya).conversations == 1


def test_user_is_listed_with_counts_and_without_content(admin, maya):
    before = listed(admin, maya)
    assert (before.user_id, before.email, before.role) == (maya.id, maya.email, AccountRole.USER)
    assert (before.conversations, before.bytes, before.last_active_at) == (0, 0, None)
    thread = answer(
        maya.store, first_turn("When?"), "In March.", cost_micro=300, usage=Usage(10, 20)
    )
    title = new_turn(thread, None, purpose=Purpose.TITLE)
    answer(maya.store, title, "", cost_micro=20, usage=Usage(3, 4))

    row = listed(admin, maya)

    assert (row.replies_today, row.replies_this_month, row.conversations) == (1, 1, 1)
    assert (row.cost_today_micro, row.cost_this_month_micro, row.tokens_today) == (320, 320, 37)
    assert (row.tokens_in_this_month, row.tokens_out_this_month) == (13, 24)
    assert row.bytes > 0
    assert row.last_active_at
    assert "March" not in str(row)


# --- usage of one, of all


def test_usage_of_all_is_that_of_each(admin, maya, omar, days):
    report = admin.administration.usage
    before = sum(day.cost_micro for day in report(days).days)
    thread = answer(maya.store, first_turn("When?"), "In March.", cost_micro=300)
    say(maya.store, thread, "Why?", "", cost_micro=7, outcome=Outcome.FAILED)
    answer(omar.store, first_turn("When?", model="small"), "In May.", cost_micro=40)

    one, other = report(days, maya.id), report(days, omar.id)

    assert [(day.model, day.replies, day.cost_micro) for day in one.days] == [
        ("test-model", 2, 307)
    ]
    assert [(day.model, day.replies, day.cost_micro) for day in other.days] == [("small", 1, 40)]
    assert [(each.purpose, each.turns) for each in one.purposes] == [(Purpose.REPLY, 2)]
    assert (one.active_users, one.failed, one.interrupted) == (1, 1, 0)
    assert one.conversations == ()
    every = report(days)
    assert sum(day.cost_micro for day in every.days) == before + 347
    assert every.active_users >= 2
    own = maya.usage.report(*days)
    assert (own.days, own.purposes, own.failed) == (one.days, one.purposes, 1)
    long_ago = days[0] - timedelta(days=40)
    assert report((long_ago, long_ago), maya.id).days == ()


def test_lapsed_reply_is_counted_as_interrupted(deployment, admin, maya, days):
    thread = answer(maya.store, first_turn("When?"), "In March.", cost_micro=300)
    crash(deployment, maya.store, thread, "In A")
    deployment.sweep()

    report = admin.administration.usage(days, maya.id)

    assert (report.interrupted, sum(day.cost_micro for day in report.days)) == (1, 1400)
    assert maya.usage.ledger(*days)[-1].kind == "lapsed"


def test_interrupted_reply_is_counted_at_its_real_cost(deployment, admin, maya, days):
    end = {"cost_micro": 300, "outcome": Outcome.INTERRUPTED}
    thread = answer(maya.store, first_turn("When?"), "In M", **end)
    turn, begun = crash(deployment, maya.store, thread, "In A")
    deployment.sweep()
    maya.store.turns.finish(ending(turn, begun, "In Ap", **end))  # late, so it is corrected

    report = admin.administration.usage(days, maya.id)

    assert (report.interrupted, sum(day.cost_micro for day in report.days)) == (2, 600)
    entries = [(entry.kind, entry.outcome) for entry in maya.usage.ledger(*days)]
    assert entries == [
        ("charge", "interrupted"),
        ("lapsed", "lapsed"),
        ("adjust", "interrupted"),
    ]


def test_deployment_adds_up_what_all_spent(admin, maya):
    before = admin.administration.deployment()
    answer(maya.store, first_turn("When?"), "In March.", cost_micro=300)

    after = admin.administration.deployment()

    assert after.spent_today_micro - before.spent_today_micro == 300
    assert after.spent_this_month_micro - before.spent_this_month_micro == 300


# --- the audit, the database


def test_audit_comes_in_pages_the_newest_first(admin, maya):
    for n in range(3):
        admin.administration.set_caps(maya.id, {"max_open": n})
    audit = admin.administration.audit

    newest, *older = audit(at_most=3)

    assert (newest.action, newest.actor, newest.target) == ("caps.set", admin.email, maya.email)
    assert dict(newest.detail) == {"max_open": [1, 2]}
    assert abs(datetime.now(UTC) - newest.at) < timedelta(minutes=5)
    assert audit(newest.id, at_most=2) == older
    assert [one.id for one in older] == sorted((one.id for one in older), reverse=True)


def test_user_reads_changes_of_the_own_account_and_no_name(admin, maya, omar):
    admin.administration.set_caps(maya.id, {"max_open": 9})
    admin.administration.set_caps(omar.id, {"max_open": 8})

    changes = maya.usage.account_changes()

    told = [(one.action, one.actor, one.target) for one in changes]
    assert told[0] == ("caps.set", "Admin", None)
    assert ("account.begin", "You", None) in told
    assert [one.detail for one in changes if one.action == "caps.set"] == [{"max_open": [4, 9]}]
    assert admin.email not in str(told)


def test_database_tells_its_time_and_versions(admin):
    health = admin.administration.health()

    assert abs(health.clock_skew_seconds) < 60
    assert health.database_ms + (health.api_ms or 0) >= 0
    assert all(health.figures.values())
