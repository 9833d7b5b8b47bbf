"""The switch by which an admin requires two-step verification of all users."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pages._admin import settings
from services import bootstrap
from services.domain import AccountRole
from services.domain.accounts import SecondFactor
from services.errors import FactorNeeded, ProofNeeded
from services.store.tables.schema import CREDENTIALS, SESSIONS, CredentialsRow
from tests.fakes import FakePerson, ScriptedModel
from tests.pages.conftest import html, in_dialog, press


@pytest.fixture
def ruth(database):
    """An admin who has signed in with a second factor."""
    ruth = FakePerson(database, ScriptedModel(), AccountRole.ADMIN)
    ruth.sign_in_details.factor = SecondFactor(
        since=datetime(2026, 11, 20, tzinfo=UTC), codes_left=8
    )
    user_id = database.user_id
    row = CredentialsRow(
        id=user_id, user_id=user_id, lookup="", sealed="", generation=2, wants_factor=True
    )
    database.tables.store(CREDENTIALS, row)

    @database.tables.run
    def _(block):
        for one in block.select(SESSIONS):
            block.put(SESSIONS, replace(one, has_factor=True))

    return ruth


@pytest.fixture
def open_tab(open_app, ruth):
    def open_tab():
        app = open_app(ruth).switch_page("pages/admin.py")
        app.query_params["tab"] = "Settings"
        return app.run()

    return open_tab


def answered(app, is_on, label):
    """Open the dialog and press *label*."""
    app = in_dialog(app, settings.factor_dialog, is_on).run()
    return press(in_dialog(app, settings.factor_dialog, is_on), label)


def test_switch_asks_before_it_is_on(open_tab, ruth):
    app = open_tab()
    app = app.toggle[0].set_value(True).run()

    assert app.toggle[0].value is False
    assert any("are signed out" in one.value for one in app.markdown)
    assert not ruth.factor_rule.is_required()


def test_admin_requires_two_step_verification_and_stops_requiring_it(open_tab, ruth):
    answered(open_tab(), True, "Require it")
    assert ruth.factor_rule.is_required()
    assert open_tab().toggle[0].value is True

    answered(open_tab(), False, "Stop requiring it")
    assert not ruth.factor_rule.is_required()


def test_admin_without_a_factor_is_told_to_set_one_up(open_tab, ruth):
    ruth.sign_in_details.factor = None

    app = open_tab()

    assert not app.toggle
    assert any("your own account first" in one.value for one in app.caption)
    assert 'href="/account"' in html(app)


def test_admin_who_has_lost_the_factor_may_stop_requiring_it(open_tab, ruth):
    ruth.factor_rule.require(is_on=True)
    ruth.sign_in_details.factor = None

    assert open_tab().toggle[0].value is True


@pytest.mark.parametrize("is_on", [True, False])
def test_admin_with_an_old_proof_is_sent_to_the_page_account(open_tab, ruth, database, is_on):
    if not is_on:
        ruth.factor_rule.require(is_on=True)
    database.let_pass(601)

    app = answered(open_tab(), is_on, "Require it" if is_on else "Stop requiring it")

    assert ProofNeeded.public in [one.value for one in app.error]
    assert 'href="/account"' in html(app)
    assert ruth.factor_rule.is_required() is not is_on


def test_admin_who_has_turned_the_factor_off_elsewhere_is_told_to_set_one_up(open_tab, ruth):
    ruth.administration.failures["require_factor"] = FactorNeeded()

    app = answered(open_tab(), True, "Require it")

    assert any("your own account first" in one.value for one in app.error)


def test_switch_is_not_shown_without_sign_in(open_tab):
    bootstrap.current_app().is_alone = True

    assert not open_tab().toggle
