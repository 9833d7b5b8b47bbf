"""What is told of codes, factors and sign-ups that are refused, over a mail server of the test."""

import pytest
from playwright.sync_api import expect

from services.crypto.recovery_codes import new_codes
from services.errors import BadAddress, SignUpsClosed, StepEnded
from tests.authenticator import Authenticator
from tests.confirmed import confirm
from tests.journeys.conftest import STORES, mail_settings
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import second_process
from tests.journeys.test_access import Look
from tests.journeys.test_codes import (
    asks_for_a_code,
    code_for,
    coded,
    enters,
    form,
    told,
)
from tests.journeys.test_factor import gives
from tests.journeys.test_notices import notices
from tests.stack.apps import running, until
from tests.web.test_code_routes import another

ADMIN, RUTH, MAYA, OMAR, NOOR = (
    f"{name}@daybook.test" for name in ("lea", "ruth", "maya", "omar", "noor")
)
pytestmark = [pytest.mark.long_run, pytest.mark.parametrize("store", STORES, scope="module")]


@pytest.fixture(scope="module")
def authenticator():
    """An app of whose recovery codes four are left."""
    return Authenticator(recovery=new_codes()[:4])


@pytest.fixture(scope="module")
def app(make_app, shared_mails, authenticator, store):
    """An app with mail: an admin, a user, one with a second factor, and one whose address is not confirmed."""
    with running(make_app("refusals", store, environment=mail_settings(shared_mails))) as app:
        app.until_ready()
        with second_process(app) as accounts:
            for email in (ADMIN, RUTH):
                confirm(accounts, accounts.sign_up_with(email, PASSWORD)[1])
            session = accounts.sign_up_with(MAYA, PASSWORD)[1]
            confirm(accounts, session)
            authenticator.enrol(accounts, session)
            accounts.sign_up_with(OMAR, PASSWORD)
        yield app


def test_refused_codes_are_told(app, mails, person):
    stranger = person(url=app.url, viewport=PHONE, has_touch=True)
    look = Look(stranger)
    stranger.visit("/")
    stranger.page.get_by_role("button", name="Sign in with a code").click()
    email = form(stranger, "/code").get_by_label("Email")
    email.fill("maya@localhost")
    form(stranger, "/code").get_by_role("button", name="Send code").click()
    assert email.evaluate("(field) => field.validationMessage") == BadAddress.public
    look.at("an address that is none")

    asks_for_a_code(stranger, "Sign in with a code", OMAR)
    mail = until(lambda: told(mails))[0]
    assert mail.recipients == [OMAR]
    assert mail.message["Subject"] == "Your email address is not confirmed"
    form(stranger, "/code").get_by_role("button", name="Send a new code").click()
    stranger.sees("Too many attempts. Try again in a minute.")
    look.at("another code too soon")

    asks_for_a_code(stranger, "Sign in with a code", RUTH)
    code = code_for(mails, RUTH)
    for _ in range(5):
        enters(stranger, another(code), "Sign in")
        stranger.sees("Wrong code.")
    enters(stranger, code, "Sign in")
    stranger.sees(StepEnded.public)
    look.at("the sixth code")

    stranger.visit("/")
    stranger.page.get_by_role("tab", name="Create account").click()
    stranger.enters("/account", RUTH, PASSWORD)
    expect(form(stranger, "/code/redeem")).to_be_visible()
    taken = until(lambda: told(mails)[1:])[0]
    assert (taken.recipients, taken.message["Subject"]) == ([RUTH], "You already have an account")
    assert [one.recipients for one in coded(mails)] == [[RUTH]]
    assert look.found == []


def test_wrong_factors_are_told_until_all_is_dismissed(app, mails, person, authenticator):
    maya, thief = person(url=app.url, viewport=DESK), person("thief", url=app.url, viewport=PHONE)
    thief.visit("/")
    thief.enters("/session", MAYA)
    look = Look(thief)
    for _ in range(3):
        gives(thief, "Code", authenticator.wrong)
        thief.sees("Wrong code.")
    look.at("a wrong factor")
    until(lambda: [one for one in told(mails) if one.recipients == [MAYA]])

    maya.visit("/")
    maya.enters("/session", MAYA)
    maya.page.get_by_role("button", name="Use a recovery code").click()
    gives(maya, "Recovery code", authenticator.recovery[0])
    maya.is_welcome()

    phone = person("phone", url=app.url, viewport=PHONE)  # is told what was done elsewhere
    phone.visit("/account")
    phone.enters("/session", MAYA)
    gives(phone, "Code", authenticator.code())
    phone.page.get_by_role("button", name="and 3 more").click()
    titles = notices(phone).locator("strong")
    expect(titles).to_have_text(
        [
            "Wrong codes at sign-in",
            "A recovery code was used",
            "New sign-in to your account",
            "3 recovery codes left",
        ]
    )
    look_at_notices = Look(phone)
    look_at_notices.at("notices")
    phone.page.get_by_role("button", name="Dismiss").click()
    expect(notices(phone)).to_have_count(0)
    assert look.found + look_at_notices.found == []


def test_admin_decides_who_signs_up(app, mails, person):
    admin, noor = person(url=app.url, viewport=DESK), person(url=app.url, viewport=PHONE)
    admin.visit("/admin?tab=Sign-ups")
    admin.enters("/session", ADMIN)
    admin.page.get_by_text("Confirm email addresses").click()
    admin.sees("People can create an account with an address that is not theirs.")
    noor.visit("/")
    noor.page.get_by_role("tab", name="Create account").click()
    noor.enters("/account", NOOR, PASSWORD)
    noor.is_welcome()  # without a code

    admin.page.get_by_text("Confirm email addresses").click()
    admin.sees("New users enter a code that is emailed to them")
    admin.page.get_by_text("Closed", exact=True).click()
    admin.sees("Invitations cannot be used while sign-ups are closed.")
    late = person("late", url=app.url, viewport=PHONE)
    late.visit("/")
    expect(late.page.get_by_role("tab", name="Sign in")).to_be_visible()
    look = Look(late)
    look.at("closed")
    expect(late.page.get_by_role("tab", name="Create account")).to_have_count(0)
    refused = late.page.request.post(
        f"{app.url}/account", form={"email": "late@daybook.test", "password": PASSWORD}
    )
    assert SignUpsClosed.public in refused.text() or "reason=closed" in refused.url
    assert look.found == []
