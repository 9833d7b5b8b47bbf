"""A deployment without passwords: codes make and open accounts, and a password opens one that an operator has set."""

import pytest
from playwright.sync_api import expect

from services.crypto import RootKeys
from services.operate.accounts import set_password
from services.store.sqlite import SqlitePlace
from services.store.tables.operator import TablesOperator
from tests.confirmed import confirm
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import coded, enters, form, mail_settings
from tests.journeys.test_codes import mails as mails  # a fixture
from tests.stack.apps import running, until

EMAIL, OLD, NEW_PASSWORD = (
    "maya@daybook.test",
    "omar@daybook.test",
    "another horse, another battery",
)


@pytest.fixture
def app(make_app, mails, tmp_path):
    """An app with codes alone, and a user who has a password from before."""
    environment = mail_settings(mails) | {"DAYBOOK_SIGN_IN_METHODS": "code"}
    with running(make_app("methods", "sqlite", environment=environment)) as app:
        app.until_ready()
        with second_process(app) as accounts:
            confirm(accounts, accounts.sign_up_with(OLD, PASSWORD)[1])
        yield app


def set_by_operator(app, email, password):
    place = SqlitePlace(app.base / "daybook.db")
    ring = RootKeys.parse((app.keys / "root.key").read_text())
    set_password(TablesOperator(place, lambda: place.open(is_app=False)), ring, email, password)


def offers_password(person):
    person.page.get_by_role("button", name="Sign in with a password").click()
    person.sees("Only a password that your admin has set for you works here.")


def test_codes_make_and_open_accounts_and_an_operators_password_does(app, mails, person):
    maya = person(url=app.url, viewport=PHONE, has_touch=True)
    maya.visit("/")
    look = Look(maya)
    look.at("sign-in")
    expect(maya.page.locator('input[type="password"]')).to_have_count(0)
    maya.page.get_by_role("tab", name="Create account").click()
    look.at("sign-up")
    form(maya, "/account").get_by_label("Email").fill(EMAIL)
    form(maya, "/account").get_by_role("button", name="Send code").click()
    enters(maya, until(lambda: coded(mails))[0].code, "Create account")
    maya.is_welcome()
    maya.visit("/account")
    expect(maya.page.locator(".stMarkdownBadge")).to_contain_text("Confirmed")
    expect(maya.page.locator('form[action="/account/password"]')).to_have_count(0)
    look.at("account")

    omar = person(url=app.url, viewport=DESK)
    omar.visit("/")
    at_desk = Look(omar)
    at_desk.at("sign-in")
    offers_password(omar)
    at_desk.at("password")
    omar.enters("/session", OLD, PASSWORD)
    omar.sees("Wrong email or password.")
    set_by_operator(app, OLD, NEW_PASSWORD)
    omar.enters("/session", OLD, NEW_PASSWORD)
    omar.is_welcome()
    omar.visit("/account")
    omar.page.get_by_text("Show changes and failed attempts").click()
    omar.sees("Signed in with a password set by an admin")

    assert omar.page.request.get(f"{app.url}/.well-known/change-password").status == 404
    forged = omar.page.request.post(f"{app.url}/account/password", form={"password": PASSWORD})
    assert forged.status in (404, 405)
    assert look.found + at_desk.found == []
