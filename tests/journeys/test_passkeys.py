"""Passkeys, with Chromium's virtual authenticator: added, used to sign in and to prove, renamed and removed; and what a user is told."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from services import errors
from tests.journeys.conftest import STORE, STORES
from tests.journeys.people import DESK, PHONE
from tests.journeys.seeds import age_proofs
from tests.journeys.test_access import Look

ADD, SIGN_IN, CONFIRM = "Add a passkey", "Sign in with a passkey", "Confirm with a passkey"


class Authenticator:
    """A virtual authenticator in the browser of a user, which answers at once."""

    def __init__(self, tab, **changes):
        self.tab = tab
        self._cdp = tab.page.context.new_cdp_session(tab.page)
        self._cdp.send("WebAuthn.enable")
        self._id = ""
        self.plug_in(**changes)

    def plug_in(self, **changes):
        """Attach another one in place of the last."""
        if self._id:
            self._tell("WebAuthn.removeVirtualAuthenticator")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
        } | changes
        made = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self._id = made["authenticatorId"]

    def credentials(self):
        return self._tell("WebAuthn.getCredentials")["credentials"]

    def restore(self, credential):
        """Put an older copy of *credential* in the place of the present one."""
        self._tell("WebAuthn.removeCredential", credentialId=credential["credentialId"])
        self._tell("WebAuthn.addCredential", credential=credential)

    def _tell(self, command, **values):
        return self._cdp.send(command, {"authenticatorId": self._id} | values)


def press(tab, name):
    tab.page.get_by_role("button", name=name, exact=True).click()


def hears(tab, sentence):
    """Wait until a form says *sentence*."""
    expect(tab.page.locator(".db-told")).to_have_text(sentence)


def opens_form(tab):
    """Open the form for a passkey on the page Account; return its button."""
    tab.visit("/account")
    press(tab, ADD)
    form = tab.page.locator("form[data-passkey=create]")
    expect(form).to_be_visible()
    return form.get_by_role("button", name=ADD)


def adds(tab, name=None):
    """Add a passkey on the page Account."""
    button = opens_form(tab)
    if name:
        tab.page.locator("form[data-passkey=create]").get_by_label("Name").fill(name)
    button.click()
    tab.sees("Passkey added.")


def signs_out(tab):
    tab.visit()
    tab.signs_out()


def closes_by_escape(tab, name):
    """Open the dialog behind a button, and close it by one Escape, after which the button has the focus."""
    button = tab.page.get_by_role("button", name=name, exact=True)
    button.press("Enter")
    expect(tab.dialog).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.dialog).to_have_count(0)
    expect(button).to_be_focused()


@pytest.fixture
def app(app, shared_app, store):
    """The app of all journeys, or another on another *store*."""
    return app if store == STORE else shared_app(store)


@pytest.fixture
def local(app):
    """The address of the app at which browsers offer passkeys."""
    return app.url.replace("127.0.0.1", "localhost")


def goes_through(maya, app, looks_at=lambda name: None):
    """Have a signed-in user add a passkey, sign in and prove by it, rename it, and remove it."""
    list_, asked = maya.page.locator(".st-key-passkeys"), list[str]()
    maya.page.on("request", lambda one: asked.append(urlsplit(one.url).path))
    key = Authenticator(maya)
    maya.visit("/account")
    maya.sees("No passkeys yet.")
    looks_at("no passkeys")

    adds(maya)
    expect(list_).to_contain_text("Chrome on Linux")
    expect(list_).to_contain_text("Not used yet · On one device")
    looks_at("a passkey")
    signs_out(maya)
    looks_at("the sign-in page")
    press(maya, SIGN_IN)
    maya.is_welcome()

    maya.visit("/account")
    expect(list_).to_contain_text("Last used")
    age_proofs(app)
    maya.visit("/account")
    press(maya, "Rename")
    expect(maya.page.get_by_role("button", name=CONFIRM)).to_be_visible()
    looks_at("a proof")
    press(maya, CONFIRM)
    maya.sees("Confirmed. You can make changes for the next ten minutes.")
    expect(maya.dialog.get_by_label("Name")).to_be_visible()
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)
    assert asked.count("/passkey/options") == 3  # presses: a page that is opened asks for none

    for name in ("Rename", "Remove"):
        closes_by_escape(maya, name)
    press(maya, "Rename")
    looks_at("the dialog for the name")
    maya.dialog.get_by_label("Name").fill("Work laptop")
    maya.dialog.get_by_role("button", name="Save").click()
    expect(list_).to_contain_text("Work laptop")
    press(maya, "Remove")
    looks_at("the question")
    maya.dialog.get_by_role("button", name="Remove").click()
    maya.sees("Passkey removed.")
    maya.sees("No passkeys yet.")
    signs_out(maya)
    assert key.credentials()
    press(maya, SIGN_IN)
    maya.sees(errors.PasskeyUnknown.public)


@pytest.mark.parametrize("store", STORES)
def test_passkey_is_added_used_renamed_and_removed(app, person, local):
    maya = person(url=local, reduced_motion="reduce", has_touch=True)
    look = Look(maya, PHONE)

    def looks_at(name):
        maya.sees_no_reply_coming()  # else the page may miss a change of the theme
        look.at(name)
        if name == "a passkey":  # its buttons stand below on a phone
            maya.page.set_viewport_size(PHONE)
            one = maya.page.locator(".st-key-passkeys .stHorizontalBlock")
            assert one.evaluate("row => row.firstElementChild.offsetWidth === row.clientWidth")
            maya.page.set_viewport_size(DESK)

    maya.arrives()
    goes_through(maya, app, looks_at)

    assert look.found == []


@pytest.mark.long_run
def test_copied_passkey_is_refused_and_its_user_told(person, local):
    maya = person(url=local)
    maya.arrives()
    key = Authenticator(maya)
    adds(maya)
    (old,) = key.credentials()
    press(maya, "Rename")
    expect(maya.dialog.get_by_label("Name")).to_be_focused()
    signs_out(maya)
    press(maya, SIGN_IN)
    maya.is_welcome()
    signs_out(maya)

    key.restore(old)
    press(maya, SIGN_IN)

    maya.sees(errors.PasskeyCopied.public)
    maya.signs_in()
    maya.is_told("A passkey was refused", "/")


def test_what_a_browser_refuses_is_told_beside_the_button(person, local):
    maya = person(url=local)
    maya.arrives()
    key = Authenticator(maya)
    add = opens_form(maya)
    for unfit in ({"isUserVerified": False}, {"hasUserVerification": False}):
        key.plug_in(**unfit)
        add.click()
        hears(maya, re.compile("^(No passkey was added|This device cannot keep a passkey)"))
        maya.page.keyboard.press("Shift")
        expect(maya.page.locator(".db-told")).to_have_count(0)
    maya.visit("/account")
    maya.sees("No passkeys yet.")

    key.plug_in()
    adds(maya, "Laptop")
    opens_form(maya).click()
    hears(maya, "This device has a passkey for your account already.")

    signs_out(maya)
    key.plug_in()
    email = maya.sign_in_form.get_by_label("Email")
    email.fill(maya.email)
    press(maya, SIGN_IN)
    hears(maya, re.compile("^No passkey was used: it was cancelled, or this device has none"))
    maya.page.route("**/passkey/options", lambda route: route.abort())
    press(maya, SIGN_IN)
    hears(maya, "Daybook did not answer. Try again in a moment.")
    maya.page.evaluate("delete window.PublicKeyCredential")
    press(maya, SIGN_IN)
    hears(maya, "This browser does not support passkeys. Use another way.")
    expect(email).to_have_value(maya.email)
    maya.console.clear()  # the browser's line about the aborted request

    at_address = person()
    at_address.visit()
    press(at_address, SIGN_IN)
    hears(at_address, errors.PasskeysUnusable.public)


@pytest.mark.long_run
def test_page_at_an_ip_address_leads_to_localhost(person):
    maya = person()
    maya.visit()

    press(maya, SIGN_IN)

    hears(maya, errors.PasskeysUnusable.public)
    maya.arrives()
    maya.visit("/account")
    maya.sees(errors.PasskeysUnusable.public)
