"""Single sign-on with a strict provider and with one that says what it is told: a new account, one that has the address, one to
which it is added, an address that a code confirms, proofs, and answers that are wrong."""

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from services.domain.single_sign_on import AddressNeeded, AddressUnconfirmed, AnswerRefused
from services.embedded.folders import free_port
from services.errors import LastWayIn
from tests.confirmed import confirm
from tests.identity.real_providers import CLIENT_ID, SECRET, RealProviders, real_providers
from tests.journeys.conftest import STORES, mail_settings
from tests.journeys.people import PASSWORD, PHONE
from tests.journeys.seeds import age_proofs, required_factor, second_process
from tests.journeys.test_access import SIZES, Look
from tests.journeys.test_codes import (
    NEW_PASSWORD,
    asks_for_a_code,
    code_for,
    enters,
    form,
)
from tests.journeys.test_passkeys import SIGN_IN, Authenticator, adds, press, signs_out
from tests.mail_server import MailServer
from tests.stack.apps import App, running

_RUN = uuid4().hex[:6]  # a store of the tests may keep its rows
OMAR, MAYA = (f"{name}-{_RUN}@corp.example" for name in ("omar", "maya"))
RUTH, NOOR = (f"{name}-{_RUN}@daybook.test" for name in ("ruth", "noor"))
CORP, HOME = "Corp SSO", "Home SSO"  # the second one says no time
WRONG = {  # claims, by what is wrong with them
    "audience": {"aud": "another"},
    "authorized_party": {"azp": "another"},
    "token_issuer": {"iss": "https://evil.example"},
    "nonce": {"nonce": "another"},
    "subject": {"sub": None},
    "expiry": {"exp": 1},
}


@dataclass(frozen=True)
class Site:
    """An app with two providers, and where mail is set with two users whose addresses are confirmed."""

    url: str
    app: App
    providers: RealProviders
    mails: MailServer | None


def two_entries(providers):
    """Return the entries of a provider that says when its user signed in, and of one that does not."""
    return {
        "corp": entry(providers.strict, CORP, may_sign_up=True),
        "home": entry(providers.mock, HOME, may_sign_up=True, trusts_mfa=["mfa"]),
    }


def entry(issuer, label, **more):
    return {
        "issuer": issuer,
        "client_id": CLIENT_ID,
        "client_secret": SECRET,
        "label": label,
    } | more


@contextmanager
def started_site(make, cache, folder, mails=None, entries=two_entries, users=(RUTH, MAYA)):
    """Yield a site. *make*: returns its app by a name, a port and an environment; *entries*: returns those of its providers."""
    port = free_port()
    url = f"http://localhost:{port}"
    with real_providers(cache, folder, f"{url}/oidc/corp/back") as providers:
        environment = {"DAYBOOK_OIDC": json.dumps(entries(providers))}
        environment |= mail_settings(mails) if mails else {}
        with running(make("single-sign-on", port=port, environment=environment)) as app:
            app.until_ready()
            with second_process(app) as accounts:
                for address in users if mails else ():
                    confirm(accounts, accounts.sign_up_with(address, PASSWORD)[1])
            yield Site(url, app, providers, mails)


@pytest.fixture
def site(make_app, cache, tmp_path, store, mails):
    with started_site(partial(make_app, store=store), cache, tmp_path, mails) as site:
        yield site


@pytest.fixture(scope="module", params=STORES)
def bare_site(request, make_app, cache, tmp_path_factory):
    """A site without mail."""
    folder = tmp_path_factory.mktemp("bare-site")
    with started_site(partial(make_app, store=request.param), cache, folder) as site:
        yield site


@pytest.fixture
def app(request):
    """The app of the site that the test asks for."""
    name = "site" if "site" in request.fixturenames else "bare_site"
    return request.getfixturevalue(name).app


def button(tab, name):
    return tab.page.get_by_role("button", name=name, exact=True)


def link(tab, name):
    return tab.page.get_by_role("link", name=name, exact=True)


def enters_name_there(tab, address):
    """Fill in the strict provider's form for the user with this *address* there."""
    tab.page.locator('[name="login"]').fill(address.partition("@")[0])
    tab.page.locator('[name="password"]').fill("x")
    tab.page.get_by_role("button", name="Sign-in").click()


def signs_in_there(tab, address):
    """Sign in at the strict provider, and agree to what it tells."""
    enters_name_there(tab, address)
    tab.page.get_by_role("button", name="Continue").click()


def proves_there(tab, address):
    """Prove on the page Account who is signed in, by the strict provider."""
    press(tab, f"Confirm with {CORP}")
    link(tab, f"Continue to {CORP}").click()
    enters_name_there(tab, address)
    tab.sees("Confirmed. You can make changes")


def begins_an_account(omar, site, look_at):
    """Make an account by the strict provider, keep its only way in, sign out, and in again from a link on another site."""
    omar.visit("/data")
    expect(link(omar, f"Continue with {CORP}")).to_be_visible()
    look_at("the sign-in page")
    link(omar, f"Continue with {CORP}").click()
    signs_in_there(omar, OMAR)
    omar.page.wait_for_url(f"{site.url}/data")
    omar.visit("/account")
    omar.sees(f"{CORP}: {OMAR}")
    look_at("an account without a password")
    press(omar, "Remove")
    proves_there(omar, OMAR)
    omar.sees(LastWayIn.public)
    expect(omar.dialog.get_by_role("button", name="Remove sign-in")).to_have_count(0)
    look_at("the only way to sign in")
    omar.visit("/")
    omar.signs_out()
    expect(link(omar, f"Sign out of {CORP}, too")).to_be_visible()
    look_at("signed out")
    omar.page.goto(f"{site.url}/oidc/corp?next=/")  # as a link on another site does
    expect(link(omar, f"Continue with {CORP}")).to_be_visible()
    look_at("a link of another site")
    link(omar, f"Continue with {CORP}").click()
    omar.is_welcome()  # signed in there already


def links_the_account_of_the_address(maya, site, look_at):
    """Prove the account that has a provider's address by password and by passkey, then reset it, and keep the sign-ins alone."""
    maya.visit("/")
    link(maya, f"Continue with {CORP}").click()
    signs_in_there(maya, MAYA)
    expect(maya.page.get_by_role("heading")).to_have_text(f"Add {CORP} to your account")
    maya.page.get_by_label("Password").fill("not the password")
    press(maya, "Sign in")
    expect(maya.page.get_by_role("alert")).to_contain_text("Wrong password")
    maya.sees("Or have a code sent to your email.")
    look_at("an account that has the address")
    maya.page.get_by_label("Password").fill(PASSWORD)
    press(maya, "Sign in")
    maya.is_welcome()

    Authenticator(maya)
    adds(maya)
    maya.sees(f"{CORP}: {MAYA}")
    signs_out(maya)
    site.providers.script(claims={"sub": "maya", "email": MAYA, "email_verified": True})
    link(maya, f"Continue with {HOME}").click()
    expect(maya.page.get_by_role("heading")).to_have_text(f"Add {HOME} to your account")
    look_at("an account with a passkey")
    press(maya, SIGN_IN)
    maya.is_welcome()
    site.providers.script(claims={})
    signs_out(maya)
    asks_for_a_code(maya, "Forgot your password?", MAYA)
    form(maya, "/code/redeem").get_by_label("New password").fill(NEW_PASSWORD)
    enters(maya, code_for(site.mails, MAYA), "Reset password")
    kept = form(maya, "/factor")
    both = kept.get_by_role("checkbox", name="Sign-in at a provider, added on", checked=True)
    expect(both).to_have_count(2)
    kept.get_by_role("checkbox", name="Passkey, added on").uncheck()
    maya.sees("Untick any you don't recognize; they are removed.")
    look_at("what a reset keeps")
    kept.get_by_role("button", name="Reset password").click()
    maya.is_welcome()
    maya.visit("/account")
    for label in (CORP, HOME):
        maya.sees(f"{label}: {MAYA}")
    maya.sees("No passkeys yet.")


def adds_and_removes_a_sign_in(ruth, site, look_at):
    """Add a sign-in on the page Account, prove by it, rename and remove it; link another by a code."""
    name = f"new-{RUTH}"  # the provider has not confirmed such addresses
    ruth.email = RUTH
    ruth.signs_in()
    ruth.visit("/account")
    press(ruth, "Add a sign-in")
    press(ruth, f"Add {CORP}")
    expect(link(ruth, f"Continue to {CORP}")).to_be_visible()
    look_at("the way to the provider")
    link(ruth, f"Continue to {CORP}").click()
    signs_in_there(ruth, name)
    expect(ruth.page.get_by_role("heading")).to_have_text("Add this sign-in?")
    look_at("the question")
    press(ruth, "Add sign-in")
    ruth.sees("Sign-in added.")
    age_proofs(site.app)
    ruth.visit("/account")
    press(ruth, "Rename")
    expect(button(ruth, f"Confirm with {CORP}")).to_be_visible()
    look_at("a proof")
    proves_there(ruth, name)
    expect(ruth.dialog).to_be_visible()
    look_at("the dialog for the name")
    ruth.dialog.get_by_label("Name").fill("Work")
    ruth.dialog.get_by_role("button", name="Save").click()
    ruth.sees(f"{CORP}: Work")
    press(ruth, "Remove")
    expect(ruth.dialog).to_contain_text("It will no longer open your account.")
    look_at("the question before a sign-in is removed")
    ruth.page.keyboard.press("Escape")
    expect(ruth.dialog).to_have_count(0)
    press(ruth, "Remove")
    ruth.dialog.get_by_role("button", name="Remove sign-in").click()
    ruth.sees("Sign-in removed.")

    signs_out(ruth)
    site.providers.script(claims={"sub": "ruth", "email": RUTH, "email_verified": True})
    link(ruth, f"Continue with {HOME}").click()
    press(ruth, "Send code")
    expect(form(ruth, "/code/redeem")).to_be_visible()
    look_at("a code that links")
    enters(ruth, code_for(site.mails, RUTH), "Sign in")
    ruth.is_welcome()
    site.providers.script(claims={})
    ruth.visit("/account")
    ruth.sees(f"{HOME}: {RUTH}")


def confirms_an_address(noor, site, look_at):
    """Make an account by a provider that names no address, with one that a code confirms."""
    noor.visit("/")
    link(noor, f"Continue with {HOME}").click()
    expect(noor.page.get_by_role("heading")).to_have_text("Enter your email")
    look_at("an address that is not named")
    noor.page.get_by_label("Email").fill(NOOR)
    press(noor, "Send code")
    expect(form(noor, "/code/redeem")).to_be_visible()
    expect(noor.page.locator(".db-sent-to")).to_have_text(f"Email: {NOOR}")
    look_at("its code")
    enters(noor, code_for(site.mails, NOOR), "Sign in")
    noor.is_welcome()
    noor.visit("/account")
    noor.sees(f"{HOME}: {NOOR}")
    expect(noor.page.locator(".stMarkdownBadge")).to_contain_text("Confirmed")


def goes_all_ways(person, site, *, is_looked_at=False):
    """Have four users of a browser each sign in by providers; *is_looked_at*: check each page for barriers."""
    ways = {
        "omar": begins_an_account,
        "maya": links_the_account_of_the_address,
        "ruth": adds_and_removes_a_sign_in,
        "noor": confirms_an_address,
    }
    found = []
    for name, goes in ways.items():
        one = person(name, url=site.url, reduced_motion="reduce")
        # the pages of the strict provider ask for fonts
        one.sites |= {urlsplit(site.providers.strict).netloc, "fonts.googleapis.com"}
        one.sites.add(urlsplit(site.providers.mock).netloc)
        look = Look(one, PHONE, is_on=is_looked_at)
        goes(one, site, look.at)
        found += look.found + one.complaints()
        assert "code=" not in urlsplit(one.page.url).query

    assert found == []
    for text in ("code=", "state=", "/back", OMAR, MAYA, RUTH, NOOR):
        assert text not in site.app.said()


@pytest.mark.parametrize("store", STORES)
def test_single_sign_on(person, site):
    goes_all_ways(person, site, is_looked_at=True)


@pytest.mark.long_run
def test_proof_in_part(person, bare_site):
    """Its end of an account, and the page on a phone: test_provider_rules.py."""
    claims = {"sub": "noor", "email": "noor-1@home.example", "email_verified": True}
    bare_site.providers.script(claims=claims)
    noor = person("noor", url=bare_site.url, reduced_motion="reduce", **SIZES["desk"])
    noor.sites |= {urlsplit(bare_site.providers.mock).netloc}
    look = Look(noor)

    noor.visit("/account")
    link(noor, f"Continue with {HOME}").click()
    noor.sees(f"{HOME}: noor-1@home.example")
    press(noor, "Add password")
    expect(button(noor, f"Confirm with {HOME}")).to_be_visible()
    look.at("no proof yet")
    press(noor, f"Confirm with {HOME}")
    link(noor, f"Continue to {HOME}").click()
    noor.sees("Confirmed, but not for all changes.")
    look.at("a proof in part")
    noor.page.locator("#new-password").fill(PASSWORD)
    press(noor, "Add password")
    noor.sees("Password added.")
    press(noor, "Change password")
    noor.page.locator("#current-password").fill(PASSWORD)
    press(noor, "Confirm")
    noor.sees("Confirmed. You can make changes")

    assert look.found == []
    assert noor.complaints() == []


@pytest.mark.long_run
def test_wrong_answer_ends_on_the_sign_in_page(person, bare_site):
    noor = person("noor", url=bare_site.url)
    noor.sites |= {urlsplit(bare_site.providers.mock).netloc}
    for fault, claims in WRONG.items():
        named = {"email": "noor@home.example", "email_verified": True}
        bare_site.providers.script(claims=named | claims)
        noor.visit("/")

        link(noor, f"Continue with {HOME}").click()

        noor.sees(AnswerRefused.public)
        noor.is_asked_to_sign_in()
        assert faults(bare_site.app)[-1] == fault
        assert "__Host-sid" not in {one["name"] for one in noor.context.cookies()}
    assert noor.complaints() == []


@pytest.mark.long_run
def test_sign_in_that_begins_no_account_says_why(person, bare_site):
    """It was given up at the provider, has no address where no code confirms one, or one that an account has not confirmed."""
    maya, noor = (person(name, url=bare_site.url) for name in ("maya", "noor"))
    noor.sites |= {urlsplit(bare_site.providers.mock).netloc}
    maya.arrives()
    given_up = {"error": "access_denied", "error_description": "kumquat"}
    known = {"sub": "9", "email": maya.email, "email_verified": True}
    for script, sentence in (
        ({"query": given_up}, AnswerRefused.public),
        ({}, AddressNeeded.public),
        ({"claims": known}, AddressUnconfirmed.public),
    ):
        bare_site.providers.script(**script)
        noor.visit("/")

        link(noor, f"Continue with {HOME}").click()

        noor.sees(sentence)
        assert "kumquat" not in noor.page.content()
    noor.is_asked_to_sign_in()


def faults(app):
    """Return what was wrong with the answers that *app* refused, in their order."""
    lines = [line for line in app.said().splitlines() if '"event": "oidc.refused"' in line]
    return [json.loads(line)["fault"] for line in lines]


def meets_a_required_factor(person, site, label, address, *, is_looked_at=False):
    """Sign in by the mock provider, whose entry says *label*, where a factor is required.

    Who gave one there sets none up, and may; who did not is asked to.
    """
    claims = {"sub": "7", "email": address, "email_verified": True}
    noor, later = (
        person(name, url=site.url, reduced_motion="reduce", **SIZES["phone"])
        for name in ("noor", "later")
    )
    for one in (noor, later):
        one.sites |= {urlsplit(site.providers.mock).netloc}
    looks = [Look(one, is_on=is_looked_at) for one in (noor, later)]

    with required_factor(site.app):
        site.providers.script(claims=claims | {"amr": ["mfa"]})
        noor.visit("/account")
        link(noor, f"Continue with {label}").click()
        noor.sees(f"{label}: {address}")
        press(noor, "Set up")
        press(noor, f"Confirm with {label}")
        link(noor, f"Continue to {label}").click()
        noor.sees("Confirmed, but not for all changes.")
        expect(button(noor, "Show setup key")).to_be_visible()
        looks[0].at("a factor of a provider")

        site.providers.script(claims=claims | {"amr": ["pwd"]})
        later.visit("/")
        link(later, f"Continue with {label}").click()
        later.sees("Two-step verification is required here.")
        looks[1].at("a factor to be set up")
    assert looks[0].found + looks[1].found == []
    assert noor.complaints() + later.complaints() == []


@pytest.mark.long_run
def test_required_factor_of_a_provider(person, bare_site):
    meets_a_required_factor(person, bare_site, HOME, "noor-7@home.example", is_looked_at=True)
