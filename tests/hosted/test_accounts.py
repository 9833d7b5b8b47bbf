"""The ways into an account on the parts of hosted Supabase: codes by mail, a second factor, and other email addresses."""

import pytest
from playwright.sync_api import expect
from pyotp import TOTP

from tests.journeys.conftest import mail_settings
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import second_process
from tests.journeys.test_codes import (
    NEW_PASSWORD,
    asks_for_a_code,
    code_for,
    enters,
    form,
    told,
)
from tests.journeys.test_confirmation import loses_an_address
from tests.journeys.test_factor import gives
from tests.journeys.test_factor_setup import begin, button, codes, confirm
from tests.mail_server import mail_server
from tests.stack.apps import running
from tests.store.conftest import new_email


@pytest.fixture(scope="module")
def mails():
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def app(make_hosted_app, mails):
    with running(make_hosted_app("accounts", mail_settings(mails))) as app:
        app.until_ready()
        yield app


def emails_at_auth(rig, user_id):
    with rig.connect() as rows:
        return rows.execute(
            "select users.email, identities.email, identity_data ->> 'email' from auth.users"
            " join auth.identities on user_id = users.id where users.id = %s",
            [user_id],
        ).fetchall()


def test_account_changes_hands_and_comes_back(app, mails, person, open_rig):
    old, new = new_email(), new_email()
    maya = person(viewport=DESK)
    maya.visit("/")
    maya.page.get_by_role("tab", name="Create account").click()
    maya.enters("/account", old, PASSWORD)
    enters(maya, code_for(mails, old), "Create account")
    maya.is_welcome()
    with open_rig.connect() as rows:
        [user_id] = rows.execute("select id from auth.users where email = %s", [old]).fetchone()

    totp = TOTP(begin(maya))
    confirm(maya, totp.now())
    recovery = codes(maya)
    maya.page.get_by_role("link", name="Continue").click()
    maya.sees("10 of 10 left")

    # a thief who has the password and a recovery code
    with open_rig.connect() as rows:
        rows.execute("update private.app_sessions set proved_at = now() - interval '10 minutes'")
    maya.page.get_by_role("button", name="Change email").click()
    form(maya, "/proof").get_by_label("Password").first.fill(PASSWORD)
    form(maya, "/proof").get_by_label("Code of your authenticator app").fill(recovery[0])
    button(maya, "Confirm").click()
    form(maya, "/code").get_by_label("New email").fill(new)
    button(maya, "Send code").click()
    code = code_for(mails, new)
    enters(maya, code, "Change email")
    maya.sees("Email changed.")
    assert emails_at_auth(open_rig, user_id) == [(new, new, new)]

    desk = person(viewport=DESK)
    asks_for_a_code(desk, "Forgot your password?", new)
    form(desk, "/code/redeem").get_by_label("New password").fill(NEW_PASSWORD)
    enters(desk, code_for(mails, new, 1), "Reset password")
    expect(form(desk, "/factor")).to_be_visible()
    desk.page.get_by_role("button", name="Use a recovery code").click()
    gives(desk, "Recovery code", recovery[1], "Reset password")
    desk.is_welcome()
    maya.is_signed_out_before_long()

    phone = person(viewport=PHONE, has_touch=True)
    asks_for_a_code(phone, "Undo a change of email address", old, "Forgot your password?")
    form(phone, "/code/redeem").get_by_label("New password").fill(PASSWORD)
    enters(phone, code_for(mails, old, 1), "Undo the change")
    phone.page.get_by_role("button", name="Use a recovery code").click()
    gives(phone, "Recovery code", recovery[0])
    phone.sees("Wrong code.")
    gives(phone, "Recovery code", recovery[2])
    phone.is_welcome()
    desk.is_signed_out_before_long()
    assert emails_at_auth(open_rig, user_id) == [(old, old, old)]

    desk.enters("/session", old, PASSWORD)
    expect(form(desk, "/factor")).to_be_visible()
    assert open_rig.gateway.calls["PUT /auth/v1/user"] == 0
    assert {mail.message["Subject"] for mail in told(mails)} >= {
        "Email address replaced",
        "Password reset",
        "Recovery code used",
    }
    for secret in (old, new, code, *recovery):
        assert secret not in app.said()


@pytest.mark.long_run
def test_freed_address_is_its_owners_here_too(app, mails, person):
    old, new = new_email(), new_email()
    with second_process(app) as accounts:
        accounts.sign_up_with(old, PASSWORD)
    loses_an_address(app, mails, person, old, new)
