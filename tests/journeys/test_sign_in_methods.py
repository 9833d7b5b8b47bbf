"""A deployment without passwords and passkeys, which prints its mails: codes make and open accounts, and a password opens one
that an operator has set."""

import re
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from services.embedded.reports import MAIL_IS_PRINTED
from services.operate.accounts import set_password
from tests.confirmed import confirm
from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import operate, operator_of, root_keys_of, second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import enters, form
from tests.journeys.test_passkeys import SIGN_IN
from tests.stack.apps import running, until

_RUN = uuid4().hex[:6]  # a store of the tests may keep its rows
EMAIL, OLD, LEFT_OUT = (f"{name}-{_RUN}@daybook.test" for name in ("maya", "omar", "ruth"))
NEW_PASSWORD = "another horse, another battery"


@contextmanager
def started_app(make):
    """Yield an app with codes alone, and two users who have a password from before; the address of the second is not confirmed.

    *make*: returns the app by a name and an environment.
    """
    environment = {"DAYBOOK_MAIL": "console", "DAYBOOK_SIGN_IN_METHODS": "code"}
    with running(make("methods", environment=environment)) as app:
        app.until_ready()
        with second_process(app) as accounts:
            confirm(accounts, accounts.sign_up_with(OLD, PASSWORD)[1])
            accounts.sign_up_with(LEFT_OUT, PASSWORD)
        yield app


@pytest.fixture
def app(make_app, store):
    with started_app(partial(make_app, store=store)) as app:
        yield app


def printed_codes(app, address):
    """Return the codes for *address* on the operator's console."""
    return re.findall(rf"^Mail to {re.escape(address)}: .*: (\d{{8}})$", app.said(), re.MULTILINE)


def offers_password(person):
    person.page.get_by_role("button", name="Sign in with a password").click()
    person.sees("Only a password that your admin has set for you works here.")


def opens_by_codes_alone(person, app, *, is_looked_at=False):
    """Have a user begin an account by a code, and an admin sign in by a password that an operator set.

    The sum of the accounts that nothing lets in is the operator's: a store of the tests may have more of them.
    """
    assert MAIL_IS_PRINTED.sentence in app.said()
    maya = person(url=app.url, viewport=PHONE, has_touch=True)
    maya.visit("/")
    expect(form(maya, "/code")).to_be_visible()
    look = Look(maya, is_on=is_looked_at)
    look.at("sign-in")
    expect(maya.page.locator('input[type="password"]')).to_have_count(0)
    expect(maya.page.get_by_role("button", name=SIGN_IN)).to_have_count(0)
    maya.page.get_by_role("tab", name="Create account").click()
    look.at("sign-up")
    form(maya, "/account").get_by_label("Email").fill(EMAIL)
    form(maya, "/account").get_by_role("button", name="Send code").click()
    enters(maya, until(lambda: printed_codes(app, EMAIL))[0], "Create account")
    maya.is_welcome()
    maya.visit("/account")
    expect(maya.page.locator(".stMarkdownBadge")).to_contain_text("Confirmed")
    expect(maya.page.get_by_role("button", name="password")).to_have_count(0)
    expect(maya.page.get_by_role("heading", name="Passkeys")).to_have_count(0)
    look.at("account")

    omar = person(url=app.url, viewport=DESK)
    omar.visit("/")
    expect(form(omar, "/code")).to_be_visible()
    at_desk = Look(omar, is_on=is_looked_at)
    at_desk.at("sign-in")
    offers_password(omar)
    at_desk.at("password")
    omar.enters("/session", OLD, PASSWORD)
    omar.sees("Wrong email or password.")
    set_password(operator_of(app), root_keys_of(app), OLD, NEW_PASSWORD)
    omar.enters("/session", OLD, NEW_PASSWORD)
    omar.is_welcome()
    omar.visit("/account")
    omar.page.get_by_text("Show changes and failed attempts").click()
    omar.sees("Signed in with a password set by an admin")
    omar.visit("/admin?tab=Health")
    [left_out] = re.findall(r"ways in +(\d+) accounts have none", operate(app, "check"))
    accounts = "account" if left_out == "1" else "accounts"
    omar.sees(f"{left_out} {accounts} cannot sign in.")  # a confirmed address is a way in
    at_desk.at("an account that is left out")

    assert omar.page.request.get(f"{app.url}/.well-known/change-password").status == 404
    forged = omar.page.request.post(f"{app.url}/account/password", form={"password": PASSWORD})
    assert forged.status in (404, 405)
    assert omar.page.request.post(f"{app.url}/passkey/options").status in (404, 405)
    assert look.found + at_desk.found == []
    return left_out


@pytest.mark.long_run
@pytest.mark.parametrize("store", STORES)
def test_codes_make_and_open_accounts_and_an_operators_password_does(app, person):
    assert opens_by_codes_alone(person, app, is_looked_at=True) == "1"
