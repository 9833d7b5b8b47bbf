"""Single sign-on with a strict provider: a new account, one that has the address, one to which it is added, and proofs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from services.embedded.folders import free_port
from services.store.tables.access import settings_of
from services.store.tables.schema import SETTINGS
from tests.confirmed import confirm
from tests.identity.real_providers import CLIENT_ID, SECRET, real_providers
from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PASSWORD, PHONE
from tests.journeys.seeds import age_proofs, second_process
from tests.journeys.test_access import Look
from tests.stack.apps import running

MAYA, RUTH = "maya@corp.example", "ruth@daybook.test"
CORP, HOME = "Corp SSO", "Home SSO"  # the second one says no time
SIZES = {"desk": {"viewport": DESK}, "phone": {"viewport": PHONE, "has_touch": True}}
_PICTURES = os.environ.get("DAYBOOK_PICTURES")


@pytest.fixture
def site(make_app, cache, tmp_path, store):
    """The address of an app with two providers and two users, the app, and the providers."""
    port = free_port()
    url = f"http://localhost:{port}"
    with real_providers(cache, tmp_path, f"{url}/oidc/corp/back") as providers:
        entry = {
            "issuer": providers.strict,
            "client_id": CLIENT_ID,
            "client_secret": SECRET,
            "label": CORP,
            "may_sign_up": True,
        }
        timeless = entry | {"issuer": providers.mock, "label": HOME, "trusts_mfa": ["mfa"]}
        environment = {"DAYBOOK_OIDC": json.dumps({"corp": entry, "home": timeless})}
        app = make_app("single-sign-on", store, port=port, environment=environment)
        with running(app):
            app.until_ready()
            with second_process(app) as accounts:
                for address in (RUTH, MAYA):
                    confirm(accounts, accounts.sign_up_with(address, PASSWORD)[1])
            yield url, app, providers


@pytest.fixture
def app(site):
    return site[1]


def button(tab, name):
    return tab.page.get_by_role("button", name=name, exact=True)


def link(tab, name):
    return tab.page.get_by_role("link", name=name, exact=True)


def signs_in_there(tab, name):
    """Fill in the provider's forms."""
    tab.page.locator('[name="login"]').fill(name)
    tab.page.locator('[name="password"]').fill("x")
    tab.page.get_by_role("button", name="Sign-in").click()
    tab.page.get_by_role("button", name="Continue").click()


def picture(tab, name):
    if _PICTURES:
        width = tab.page.viewport_size["width"]
        for theme in ("light", "dark"):
            tab.page.emulate_media(color_scheme=theme)
            tab.page.wait_for_timeout(300)
            path = Path(_PICTURES) / f"{name}-{width}-{theme}.png"
            tab.page.screenshot(path=path, full_page=True)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("size", SIZES)
def test_single_sign_on(person, site, size):
    url, app, providers = site
    provider = urlsplit(providers.strict).netloc
    omar, maya, ruth = (
        person(name, url=url, reduced_motion="reduce", **SIZES[size])
        for name in ("omar", "maya", "ruth")
    )
    for one in (omar, maya, ruth):
        one.sites |= {provider, "fonts.googleapis.com"}  # which its pages ask for
    look = Look(omar)

    # a new account
    omar.visit("/data")
    expect(link(omar, f"Continue with {CORP}")).to_be_visible()
    look.at("the sign-in page")
    picture(omar, "sign-in")
    link(omar, f"Continue with {CORP}").click()
    signs_in_there(omar, "omar")
    omar.page.wait_for_url(f"{url}/data")
    omar.visit("/")
    omar.is_welcome()
    omar.visit("/account")
    omar.sees(f"{CORP}: omar@corp.example")
    look.at("an account without a password")
    picture(omar, "account")
    omar.visit("/")
    if size == "phone":
        omar.unfolds_the_sidebar()
    omar.signs_out()
    expect(link(omar, f"Sign out of {CORP}, too")).to_be_visible()
    look.at("signed out")
    picture(omar, "signed-out")
    omar.page.goto(f"{url}/oidc/corp?next=/")  # as a link on another site does
    expect(link(omar, f"Continue with {CORP}")).to_be_visible()
    look.at("a link of another site")
    picture(omar, "start")
    link(omar, f"Continue with {CORP}").click()
    omar.is_welcome()  # signed in there already

    # an account that has the address
    look = Look(maya)
    maya.visit("/")
    link(maya, f"Continue with {CORP}").click()
    signs_in_there(maya, "maya")
    expect(maya.page.get_by_role("heading")).to_have_text(f"Add {CORP} to your account")
    maya.page.get_by_label("Password").fill("not the password")
    button(maya, "Sign in").click()
    expect(maya.page.get_by_role("alert")).to_contain_text("Wrong password")
    look.at("an account that has the address")
    picture(maya, "known-address")
    maya.page.get_by_label("Password").fill(PASSWORD)
    button(maya, "Sign in").click()
    maya.is_welcome()
    maya.visit("/account")
    maya.sees(f"{CORP}: {MAYA}")

    # added on the page Account, a proof, and removed
    look = Look(ruth)
    ruth.email = RUTH
    ruth.signs_in()
    ruth.visit("/account")
    button(ruth, f"Add {CORP}").click()
    expect(link(ruth, f"Continue to {CORP}")).to_be_visible()
    look.at("the way to the provider")
    picture(ruth, "leave")
    link(ruth, f"Continue to {CORP}").click()
    signs_in_there(ruth, "new-ruth")
    expect(ruth.page.get_by_role("heading")).to_have_text("Add this sign-in?")
    look.at("the question")
    picture(ruth, "add")
    button(ruth, "Add sign-in").click()
    ruth.sees("Sign-in added.")
    age_proofs(app)
    ruth.visit("/account")
    expect(button(ruth, f"Confirm with {CORP}")).to_be_visible()
    look.at("a proof")
    picture(ruth, "proof")
    button(ruth, f"Confirm with {CORP}").click()
    link(ruth, f"Continue to {CORP}").click()
    ruth.page.locator('[name="login"]').fill("new-ruth")
    ruth.page.locator('[name="password"]').fill("x")
    ruth.page.get_by_role("button", name="Sign-in").click()
    ruth.sees("Confirmed. You can make changes")
    picture(ruth, "proved")
    button(ruth, "Remove").click()
    expect(ruth.dialog).to_contain_text("It will no longer open your account.")
    look.at("the question before a sign-in is removed")
    picture(ruth, "remove")
    ruth.page.keyboard.press("Escape")
    expect(ruth.dialog).to_have_count(0)
    button(ruth, "Remove").click()
    ruth.dialog.get_by_role("button", name="Remove sign-in").click()
    ruth.sees("Sign-in removed.")

    assert look.found == []
    for text in ("code=", "state=", MAYA, "/back"):
        assert text not in app.said()
    assert [one for each in (omar, maya, ruth) for one in each.complaints()] == []
    assert all(urlsplit(one.page.url).query.count("code") == 0 for one in (omar, maya, ruth))


@pytest.mark.parametrize("store", STORES[-1:])
@pytest.mark.parametrize("size", SIZES)
def test_proof_in_part(person, site, size):
    url, _, providers = site
    providers.script(claims={"sub": "7", "email": "noor@home.example", "email_verified": True})
    noor = person("noor", url=url, reduced_motion="reduce", **SIZES[size])
    noor.sites |= {urlsplit(providers.mock).netloc}
    look = Look(noor)

    noor.visit("/account")
    link(noor, f"Continue with {HOME}").click()
    noor.sees(f"{HOME}: noor@home.example")
    expect(button(noor, f"Confirm with {HOME}")).to_be_visible()
    expect(button(noor, "Add password")).to_have_count(0)
    picture(noor, "unproved")
    button(noor, f"Confirm with {HOME}").click()
    link(noor, f"Continue to {HOME}").click()
    noor.sees("Confirmed, but not for all changes.")
    look.at("a proof in part")
    picture(noor, "in-part")
    noor.page.locator("#new-password").fill(PASSWORD)
    button(noor, "Add password").click()
    noor.sees("Password added.")
    noor.page.locator("#current-password").fill(PASSWORD)
    button(noor, "Confirm").click()
    noor.sees("Confirmed. You can make changes")

    assert look.found == []
    assert noor.complaints() == []


@pytest.mark.parametrize("store", STORES[-1:])
@pytest.mark.parametrize("size", SIZES)
def test_required_factor_of_a_provider(person, site, size):
    """Who gave one there sets none up, and may; who did not is asked to."""
    url, app, providers = site
    require_a_factor(app)
    claims = {"sub": "7", "email": "noor@home.example", "email_verified": True}
    noor, later = (
        person(name, url=url, reduced_motion="reduce", **SIZES[size]) for name in ("noor", "later")
    )
    for one in (noor, later):
        one.sites |= {urlsplit(providers.mock).netloc}

    providers.script(claims=claims | {"amr": ["mfa"]})
    noor.visit("/account")
    link(noor, f"Continue with {HOME}").click()
    noor.sees(f"{HOME}: noor@home.example")
    button(noor, f"Confirm with {HOME}").click()
    link(noor, f"Continue to {HOME}").click()
    noor.sees("Confirmed, but not for all changes.")
    expect(button(noor, "Set up")).to_be_visible()
    picture(noor, "factor-of-a-provider")

    providers.script(claims=claims | {"amr": ["pwd"]})
    later.visit("/")
    link(later, f"Continue with {HOME}").click()
    later.sees("Two-step verification is required here.")
    picture(later, "factor-to-be-set-up")
    assert noor.complaints() + later.complaints() == []


def require_a_factor(app):
    """Require a second factor of all, as an admin does."""
    with second_process(app) as accounts:

        @accounts.backend.tables.run
        def _(block):
            block.put(SETTINGS, replace(settings_of(block), requires_factor=True))
