"""A sign-up whose address is confirmed by a code, and the confirmation on the page Account."""

import re

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import operate, second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import app as app  # a fixture: an app with mail
from tests.journeys.test_codes import code_for, coded, enters, form
from tests.stack.apps import until
from tests.store.conftest import new_email

pytestmark = pytest.mark.parametrize("store", STORES)


@pytest.fixture
def old(app):
    """The address of a user, which is not confirmed."""
    old = new_email()
    with second_process(app) as accounts:
        accounts.sign_up_with(old, PASSWORD)
    return old


def test_address_is_confirmed_at_sign_up_and_on_account(app, mails, person, old):
    email = new_email()
    maya = person(url=app.url, viewport=PHONE, has_touch=True)
    maya.visit("/")
    maya.page.get_by_role("tab", name="Create account").click()
    maya.enters("/account", email, PASSWORD)
    expect(form(maya, "/code/redeem")).to_be_visible()
    expect(maya.page.locator(".db-sent-to")).to_have_text(f"Email: {email}")
    look = Look(maya)
    look.at("sign-up")
    code = until(lambda: coded(mails))[0].code
    enters(maya, code, "Create account")
    maya.is_welcome()
    assert email not in maya.page.url

    omar = person(url=app.url, viewport=DESK)
    omar.visit("/")
    omar.enters("/session", old, PASSWORD)
    omar.is_welcome()
    omar.visit("/account")
    look_at_account = Look(omar)
    expect(omar.page.get_by_text("Not confirmed")).to_be_visible()
    look_at_account.at("unconfirmed")
    form(omar, "/code").get_by_role("button", name="Send code").click()
    code = until(lambda: coded(mails)[1:])[0].code
    enters(omar, code, "Confirm email")
    expect(omar.page.get_by_text(re.compile("Confirmed"))).to_be_visible()
    look_at_account.at("confirmed")
    assert look.found + look_at_account.found == []
    assert code not in app.said()


def loses_an_address(app, mails, person, old, new, *, is_looked_at=False):
    """Have an operator free the address *old*, which its owner signs up with, and its user of before take *new* in its place."""
    placeholder = re.search(r"freed-\S+@daybook\.invalid", operate(app, "free-address", old))[0]
    owner = person(url=app.url, viewport=DESK)
    owner.visit("/")
    owner.page.get_by_role("tab", name="Create account").click()
    owner.enters("/account", old, PASSWORD)
    enters(owner, code_for(mails, old), "Create account")
    owner.is_welcome()

    omar = person(url=app.url, viewport=PHONE, has_touch=True)
    omar.visit("/")
    omar.enters("/session", placeholder, PASSWORD)
    omar.sees("You sign in with a placeholder")
    look = Look(omar, is_on=is_looked_at)
    look.at("placeholder")
    omar.page.get_by_role("button", name="Change email").click()
    form(omar, "/code").get_by_label("New email").fill(new)
    form(omar, "/code").get_by_role("button", name="Send code").click()
    expect(form(omar, "/code/redeem")).to_be_visible()
    enters(omar, code_for(mails, new), "Change email")
    omar.sees("Email changed.")
    expect(omar.page.get_by_text("You sign in with a placeholder")).to_have_count(0)
    expect(omar.page.locator(".stMarkdownBadge")).to_contain_text("Confirmed")
    assert placeholder not in {address for mail in mails.received for address in mail.recipients}
    assert look.found == []


@pytest.mark.long_run
def test_freed_address_is_its_owners_and_its_user_takes_another(app, mails, person, old):
    new = new_email()
    loses_an_address(app, mails, person, old, new, is_looked_at=True)
    assert {address for mail in mails.received for address in mail.recipients} == {old, new}
