"""Another email address, and the way back to the old one, over a mail server of the test."""

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import age_proofs
from tests.journeys.test_access import Look
from tests.journeys.test_codes import NEW_PASSWORD, coded, enters, form, told
from tests.journeys.test_codes import app as app  # a fixture: an app with mail
from tests.journeys.test_codes import email as email  # a fixture: the address of a user
from tests.stack.apps import until
from tests.store.conftest import new_email


@pytest.mark.parametrize("store", STORES)
def test_email_changes_and_its_owner_takes_the_old_one_back(app, mails, person, email):
    new = new_email()
    maya = person(url=app.url, viewport=DESK)
    maya.visit("/")
    maya.enters("/session", email)
    maya.is_welcome()
    maya.visit("/account")
    look = Look(maya)
    look.at("account")
    maya.page.get_by_role("button", name="Change email").click()
    look.at("new-email")
    form(maya, "/code").get_by_label("New email").fill(new)
    form(maya, "/code").get_by_role("button", name="Send code").click()
    expect(form(maya, "/code/redeem")).to_be_visible()
    expect(maya.page.locator(".db-sent-to")).to_have_text(f"New email: {new}")
    look.at("new-email-code")
    mail = until(lambda: coded(mails))[0]
    assert mail.recipients == [new]
    age_proofs(app)
    enters(maya, mail.code, "Change email")
    maya.sees("Confirm it again. Then enter the code that we sent to your new email.")
    look.at("new-email-proof")
    form(maya, "/proof").get_by_label("Password").first.fill(PASSWORD)
    form(maya, "/proof").get_by_role("button", name="Confirm").click()
    maya.sees("You can make changes for the next ten minutes.")
    expect(maya.page.locator(".db-sent-to")).to_have_text(f"New email: {new}")
    look.at("new-email-proved")
    enters(maya, mail.code, "Change email")  # it is still good
    maya.sees("Email changed.")
    maya.sees("Other devices stay signed in")
    expect(maya.page.get_by_role("heading", name="Devices")).to_be_visible()
    expect(maya.page.locator("main").get_by_text(new, exact=True)).to_be_visible()
    look.at("email-changed")
    assert new not in maya.page.url

    until(lambda: told(mails)[1:])
    assert [one.recipients for one in told(mails)] == [[email], [new]]
    text = told(mails)[0].message.get_body(["plain"]).get_content()
    assert "Undo a change of email address" in " ".join(text.split())

    phone = person(url=app.url, viewport=PHONE, has_touch=True)
    phone.visit("/")
    look_at_phone = Look(phone)
    phone.page.get_by_role("button", name="Forgot your password?").click()
    phone.page.get_by_role("button", name="Undo a change of email address").click()
    look_at_phone.at("take-back")
    form(phone, "/code").get_by_label("Email").fill(email)
    form(phone, "/code").get_by_role("button", name="Send code").click()
    expect(form(phone, "/code/redeem")).to_be_visible()
    look_at_phone.at("take-back-code")
    mail = until(lambda: coded(mails)[1:])[0]
    assert mail.recipients == [email]
    form(phone, "/code/redeem").get_by_label("New password").fill(NEW_PASSWORD)
    enters(phone, mail.code, "Undo the change")
    phone.is_welcome()

    maya.is_asked_to_sign_in()  # its tab hears of it by itself
    maya.enters("/session", new, NEW_PASSWORD)
    maya.sees("Wrong email or password.")
    maya.enters("/session", email, NEW_PASSWORD)
    expect(maya.page.locator("main").get_by_text(email, exact=True)).to_be_visible()
    assert look.found + look_at_phone.found == []
    for text in (email, new, mail.code):
        assert text not in app.said()
