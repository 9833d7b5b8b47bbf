"""A deployment without passwords and passkeys: codes make and open accounts, and a password opens one that an operator has set."""

import pytest
from playwright.sync_api import expect

from services import settings
from services.crypto import RootKeys
from services.operate.accounts import set_password
from services.stores import open_operator
from tests.confirmed import confirm
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import coded, enters, form, mail_settings
from tests.journeys.test_codes import mails as mails  # a fixture
from tests.journeys.test_passkeys import SIGN_IN
from tests.stack.apps import running, until

EMAIL, OLD, LEFT_OUT = (f"{name}@daybook.test" for name in ("maya", "omar", "ruth"))
NEW_PASSWORD = "another horse, another battery"


@pytest.fixture
def app(make_app, mails, store):
    """An app with codes alone, and two users who have a password from before: an admin, and one whose address is not confirmed."""
    environment = mail_settings(mails) | {"DAYBOOK_SIGN_IN_METHODS": "code"}
    with running(make_app("methods", store, environment=environment)) as app:
        app.until_ready()
        with second_process(app) as accounts:
            confirm(accounts, accounts.sign_up_with(OLD, PASSWORD)[1])
            accounts.sign_up_with(LEFT_OUT, PASSWORD)
        yield app


def set_by_operator(app, email, password):
    store = app.environment.get("DAYBOOK_STORE")
    chosen = settings.read(store=store, data_dir=app.data, key_dir=app.keys)
    ring = RootKeys.parse((app.keys / "root.key").read_text())
    set_password(open_operator(chosen), ring, email, password)


def offers_password(person):
    person.page.get_by_role("button", name="Sign in with a password").click()
    person.sees("Only a password that your admin has set for you works here.")


def test_codes_make_and_open_accounts_and_an_operators_password_does(app, mails, person):
    maya = person(url=app.url, viewport=PHONE, has_touch=True)
    maya.visit("/")
    expect(form(maya, "/code")).to_be_visible()
    look = Look(maya)
    look.at("sign-in")
    expect(maya.page.locator('input[type="password"]')).to_have_count(0)
    expect(maya.page.get_by_role("button", name=SIGN_IN)).to_have_count(0)
    maya.page.get_by_role("tab", name="Create account").click()
    look.at("sign-up")
    form(maya, "/account").get_by_label("Email").fill(EMAIL)
    form(maya, "/account").get_by_role("button", name="Send code").click()
    enters(maya, until(lambda: coded(mails))[0].code, "Create account")
    maya.is_welcome()
    maya.visit("/account")
    expect(maya.page.locator(".stMarkdownBadge")).to_contain_text("Confirmed")
    expect(maya.page.locator('form[action="/account/password"]')).to_have_count(0)
    expect(maya.page.get_by_role("heading", name="Passkeys")).to_have_count(0)
    look.at("account")

    omar = person(url=app.url, viewport=DESK)
    omar.visit("/")
    expect(form(omar, "/code")).to_be_visible()
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
    omar.visit("/admin?tab=Health")
    omar.sees("Accounts with no way to sign in here: 1.")  # a confirmed address is one
    at_desk.at("an account that is left out")

    assert omar.page.request.get(f"{app.url}/.well-known/change-password").status == 404
    forged = omar.page.request.post(f"{app.url}/account/password", form={"password": PASSWORD})
    assert forged.status in (404, 405)
    assert omar.page.request.post(f"{app.url}/passkey/options").status in (404, 405)
    assert look.found + at_desk.found == []
