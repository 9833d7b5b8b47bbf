"""What is one for a deployment: the last admin, limits of new users, the limit of all, retention, settings of models."""

from datetime import UTC, datetime, timedelta

import pytest

from services.domain import AccountRole
from services.domain.accounts import UserOrder
from services.domain.models import ModelPrices, ModelSetting, ModelSettings
from services.domain.revisions import OpenPlace
from services.errors import (
    AdminsOnly,
    BadInput,
    Cap,
    LastAdmin,
    NotFound,
    OverBudget,
    StoreUnavailable,
)
from tests.store.conformance.accounts.deployments import DAY, at_once
from tests.store.conformance.talk import (
    answer,
    attached,
    begun_with,
    ending,
    first_turn,
    new_turn,
    titles,
)
from tests.store.conftest import PASSWORD

LEAF = b"leaf" * 100
PRICES = ModelPrices(input_micro=3, cached_input_micro=0, output_micro=9)
LIMITS = {
    "daily_cap_micro": 2000,
    "monthly_cap_micro": 30_000,
    "daily_cap_tokens": 5000,
    "max_open": 2,
    "max_per_minute": 7,
}


@pytest.fixture
def deployment(alone):
    return alone


# --- the last admin


def test_last_admin_stays_until_there_is_another(deployment, admin, maya):
    stopped = []
    administration = deployment.administration(admin.session, stopped.append)
    for leave in (
        lambda: administration.set_role(admin.id, AccountRole.USER),
        lambda: administration.suspend(admin.id, is_suspended=True),
        lambda: administration.delete(admin.id),
        lambda: deployment.accounts.delete_with(
            admin.session, admin.cookie, PASSWORD, stop_turns=stopped.append
        ),
    ):
        with pytest.raises(LastAdmin):
            leave()
    assert stopped == []
    port = admin.session.backend.administration
    for leave in (lambda: port.suspend(admin.id, is_suspended=True), lambda: port.delete(admin.id)):
        with pytest.raises(LastAdmin):
            leave()
    assert admin.account().role is AccountRole.ADMIN

    administration.set_role(maya.id, AccountRole.ADMIN)
    administration.set_role(admin.id, AccountRole.USER)

    assert admin.account().role is AccountRole.USER
    with pytest.raises(LastAdmin):
        maya.administration.suspend(maya.id, is_suspended=True)


def test_suspended_admin_is_none_that_others_count_on(deployment, admin, maya):
    admin.administration.set_role(maya.id, AccountRole.ADMIN)
    admin.administration.suspend(maya.id, is_suspended=True)

    with pytest.raises(LastAdmin):
        admin.administration.delete(admin.id)


def test_last_account_may_go_though_it_is_the_admins(deployment, admin):
    deployment.accounts.delete_with(admin.session, admin.cookie, PASSWORD)

    assert deployment.sign_up().account().role is AccountRole.USER


def test_two_admins_who_remove_each_other_at_once_leave_one(deployment, admin):
    other = deployment.sign_up_admin()

    answers = at_once(
        lambda: admin.administration.set_role(other.id, AccountRole.USER),
        lambda: other.administration.set_role(admin.id, AccountRole.USER),
    )

    roles = sorted(user.account().role for user in (admin, other))
    assert roles == [AccountRole.ADMIN, AccountRole.USER]
    [refused] = [answer for answer in answers if answer is not None]
    assert isinstance(refused, AdminsOnly)


# --- limits of new users, and of all


def test_limits_of_new_users_change_those_of_nobody_else(deployment, admin, maya):
    admin.administration.change_settings(LIMITS)

    defaults = admin.administration.deployment().defaults
    assert {name: getattr(defaults, name) for name in LIMITS} == LIMITS
    omar = deployment.sign_up()
    [row] = admin.administration.list_users(omar.email, UserOrder.EMAIL).users
    assert {name: getattr(row, name) for name in LIMITS} == LIMITS
    assert maya.account().daily_cap_micro == 1_000_000
    admin.administration.change_settings({"daily_cap_tokens": None})
    assert admin.administration.deployment().defaults.daily_cap_tokens is None
    [newest, *_] = admin.administration.audit()
    assert (newest.action, newest.target) == ("settings.set", None)
    assert dict(newest.detail) == {"daily_cap_tokens": [5000, None]}


@pytest.mark.parametrize(
    "changes",
    [{"max_open": -1}, {"daily_cap_micro": None}, {"retention_days": 14}, {"retention_days": 3651}],
    ids=str,
)
def test_setting_out_of_its_bounds_is_refused(admin, changes):
    before = admin.administration.deployment()

    with pytest.raises(StoreUnavailable):
        admin.administration.change_settings(changes)

    assert admin.administration.deployment() == before


def test_limit_of_all_users_is_not_negative(admin):
    with pytest.raises(StoreUnavailable):
        admin.administration.set_deployment_cap(-1)

    assert admin.administration.deployment().monthly_cap_micro is None


@pytest.mark.parametrize(
    "changes",
    [
        {"input_micro": 1},
        {"input_micro": 1, "cached_input_micro": 2, "output_micro": 9},
        {"input_micro": 3, "cached_input_micro": 0, "output_micro": 10**10 + 1},
    ],
    ids=["one of three", "dear cached input", "too high"],
)
def test_price_out_of_its_bounds_is_refused(deployment, admin, changes):
    port = admin.session.backend.administration
    before = deployment.server.model_settings()

    with pytest.raises(StoreUnavailable):
        port.set_model("scripted", changes)

    assert deployment.server.model_settings().by_name == before.by_name


def test_all_users_together_stay_below_their_limit(admin, maya, omar):
    assert admin.administration.deployment().monthly_cap_micro is None
    admin.administration.set_deployment_cap(2000)
    turn, other = first_turn("When?"), first_turn("Why?")

    first, second = maya.store.turns.begin(turn), omar.store.turns.begin(other)

    assert (first.reserved_micro, second.reserved_micro) == (1100, 900)
    with pytest.raises(OverBudget) as refused:
        maya.store.turns.begin(first_turn("And then?"))
    assert refused.value.cap is Cap.DEPLOYMENT
    maya.store.turns.finish(ending(turn, first, "In March.", cost_micro=1000))
    omar.store.turns.finish(ending(other, second, "So.", cost_micro=900))
    deployment = admin.administration.deployment()
    assert (deployment.monthly_cap_micro, deployment.spent_this_month_micro) == (2000, 1900)
    assert omar.account().deployment_share == 0.95
    admin.administration.set_deployment_cap(None)
    assert omar.account().deployment_share is None
    assert omar.store.turns.begin(first_turn("And then?")).reserved_micro == 1100
    assert [one.action for one in admin.administration.audit(at_most=2)] == ["caps.deployment"] * 2


def test_limit_of_all_counts_what_a_deleted_user_spent(deployment, admin, maya, omar):
    answer(omar.store, first_turn("When?"), "In March.", cost_micro=1000)
    admin.administration.delete(omar.id)
    deployment.sweep()

    admin.administration.set_deployment_cap(1050)

    assert maya.account().deployment_share == 0.95
    with pytest.raises(OverBudget) as refused:
        maya.store.turns.begin(first_turn("And then?"))
    assert refused.value.cap is Cap.DEPLOYMENT


def test_lower_limit_of_all_holds_for_what_is_spent(admin, maya):
    answer(maya.store, first_turn("When?"), "In March.", cost_micro=1000)

    admin.administration.set_deployment_cap(1050)

    with pytest.raises(OverBudget) as refused:
        maya.store.turns.begin(first_turn("And then?"))
    assert refused.value.cap is Cap.DEPLOYMENT


# --- retention


def test_unused_conversations_are_deleted_after_a_warning(deployment, admin, maya, omar):
    old = begun_with(maya.store, "Old")
    deployment.let_pass(60 * DAY)
    admin, maya, omar = admin.sign_in(), maya.sign_in(), omar.sign_in()
    begun_with(maya.store, "Newer")
    deployment.let_pass(25 * DAY)
    admin, maya, omar = admin.sign_in(), maya.sign_in(), omar.sign_in()
    begun_with(omar.store, "Young")
    administration = admin.administration
    preview = administration.preview_retention(80)
    assert (preview.conversations, preview.users, preview.bytes > 0) == (1, 1, True)
    assert administration.preview_retention(20).conversations == 2
    assert administration.preview_retention(3650).conversations == 0

    administration.change_settings({"retention_days": 80})
    deployment.sweep()

    assert administration.deployment().retention_days == maya.account().retention_days == 80
    warned = maya.account().expiring
    assert warned.conversations == 1
    in_days = (warned.from_time - datetime.now(UTC)) / timedelta(days=1)
    assert 13 < in_days < 15
    assert omar.account().expiring is None
    assert titles(maya.store.conversations.recent()) == ["Newer", "Old"]
    deployment.let_pass_swept(15)
    admin, maya, omar = admin.sign_in(), maya.sign_in(), omar.sign_in()
    assert titles(maya.store.conversations.recent()) == ["Newer"]
    assert titles(omar.store.conversations.recent()) == ["Young"]
    with pytest.raises(NotFound):
        maya.store.conversations.thread(old.conversation.id)


def test_retention_warns_anew_after_a_stop(deployment, admin, maya):
    begun_with(maya.store, "Garden")
    admin.administration.change_settings({"retention_days": 30})
    deployment.let_pass_swept(20)
    maya = maya.sign_in()
    begun_with(maya.store, "Beans")
    deployment.let_pass(40 * DAY)

    deployment.sweep()

    maya = maya.sign_in()
    assert titles(maya.store.conversations.recent()) == ["Beans", "Garden"]
    warned = maya.account().expiring
    assert warned.conversations == 2
    assert 13 < (warned.from_time - datetime.now(UTC)) / timedelta(days=1) < 15
    deployment.let_pass_swept(15)
    assert maya.sign_in().store.conversations.recent() == []


def test_preview_of_retention_counts_messages_and_pieces(deployment, admin, maya):
    thread = begun_with(maya.store, "Garden")
    answer(maya.store, attached(maya.store, new_turn(thread, "This?"), LEAF), "Yes.")
    maya.store.conversations.discard(begun_with(maya.store, "Deleted").conversation.id, 60)
    deployment.let_pass(10 * DAY)

    preview = admin.sign_in().administration.preview_retention(15)

    assert (preview.conversations, preview.users) == (1, 1)
    assert len(LEAF) < preview.bytes


def test_used_conversation_is_kept_and_no_retention_deletes_nothing(deployment, admin, maya):
    thread = begun_with(maya.store, "Garden")
    admin.administration.change_settings({"retention_days": 15})
    deployment.let_pass(10 * DAY)
    maya = maya.sign_in()
    thread = maya.store.conversations.thread(thread.conversation.id)
    answer(maya.store, new_turn(thread, "And beans?"), "In May.")
    deployment.let_pass_swept(10)
    admin, maya = admin.sign_in(), maya.sign_in()
    assert titles(maya.store.conversations.recent()) == ["Garden"]

    admin.administration.change_settings({"retention_days": None})

    assert maya.account().retention_days is maya.account().expiring is None
    deployment.let_pass_swept(40)
    assert titles(maya.sign_in().store.conversations.recent()) == ["Garden"]


# --- models


def test_changed_settings_of_models_are_followed_at_once(deployment, admin, maya):
    models = admin.models
    assert models.settings() == deployment.server.model_settings() == ModelSettings()
    revision = maya.store.conversations.poll(OpenPlace()).settings
    assert revision == deployment.server.model_settings().revision

    models.set_price("large", PRICES)
    assert models.settings() == ModelSettings({"large": ModelSetting(prices=PRICES)})
    models.offer("large", is_offered=False)
    models.refuse_unknown_prices(is_refused=True)

    changed = ModelSettings(
        {"large": ModelSetting(prices=PRICES, is_offered=False)}, refuses_unknown_prices=True
    )
    assert models.settings() == deployment.server.model_settings() == changed
    assert maya.store.conversations.poll(OpenPlace()).settings not in ("", revision)
    entries = admin.administration.audit(at_most=3)
    assert [one.action for one in entries] == ["settings.set", "model.set", "model.set"]


def test_price_and_offer_of_a_model_are_taken_back(admin):
    models = admin.models
    models.set_price("large", PRICES)
    models.offer("large", is_offered=False)
    models.refuse_unknown_prices(is_refused=True)

    models.set_price("large", None)
    models.offer("large", is_offered=True)
    models.refuse_unknown_prices(is_refused=False)

    assert models.settings() == ModelSettings({"large": ModelSetting()})


def test_cached_input_that_costs_more_than_input_is_refused(admin):
    with pytest.raises(BadInput):
        admin.models.set_price(
            "large", ModelPrices(input_micro=3, cached_input_micro=4, output_micro=9)
        )

    assert admin.models.settings() == ModelSettings()
