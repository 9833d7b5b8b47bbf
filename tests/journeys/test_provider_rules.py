"""What a provider does not let in, and what lets its users in: its domains, invitations, suspensions, a provider that is down,
the end of an account, and the operator's commands."""

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from services.domain import AccountRole
from services.domain.accounts import SignUps
from services.domain.single_sign_on import (
    Identity,
    LinkedIdentity,
    NoAccount,
    OtherSignInNeeded,
    ProviderUnavailable,
)
from services.embedded.folders import free_port
from services.errors import InvitationMissing, Suspended
from services.store.administration import SignUpAdministration
from services.store.linking import link
from tests.journeys.conftest import STORES
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import BY_AN_OPERATOR, operate, second_process
from tests.journeys.test_access import SIZES, Look
from tests.journeys.test_codes import form
from tests.journeys.test_passkeys import SIGN_IN, Authenticator, adds, press
from tests.journeys.test_single_sign_on import CORP, HOME, entry, started_site
from tests.journeys.test_single_sign_on import link as way
from tests.stores import NOT_COUNTED

_RUN = uuid4().hex[:6]  # a store of the tests may keep its rows
ADMIN, RUTH, LEA = (f"{name}-{_RUN}@daybook.test" for name in ("admin", "ruth", "lea"))
DOMAIN = "only.example"
MOVED, NOOR = (f"{name}-{_RUN}@{DOMAIN}" for name in ("ruth", "noor"))
OUTSIDE = [f"omar@not-{DOMAIN}", f"omar@sub.{DOMAIN}"]
OLD_ISSUER = "https://before.example"


def entries(providers):
    """Return the entries of the only provider of a domain, and of one that is down."""
    return {
        "corp": entry(
            providers.mock, CORP, may_sign_up=True, only=True, domains=[DOMAIN], trusts_mfa=["mfa"]
        ),
        "home": entry(f"http://127.0.0.1:{free_port()}", HOME),
    }


started_rules = partial(started_site, entries=entries, users=(ADMIN, RUTH, LEA))


@pytest.fixture
def site(make_app, cache, tmp_path, store, mails):
    with started_rules(partial(make_app, store=store), cache, tmp_path, mails) as site:
        yield site


@pytest.fixture
def app(site):
    return site.app


@contextmanager
def invited(site):
    """Have sign-ups want an invitation during the block, and link two users: one by the provider's former name, and a suspended one."""
    with second_process(site.app) as accounts:
        admins = administration(accounts)
        admins.set_sign_ups(SignUps.INVITED)
        linked(accounts, RUTH, Identity(OLD_ISSUER, "ruth"))
        lea = linked(accounts, LEA, Identity(site.providers.mock, "lea"))
        admins.suspend(lea.user_id, is_suspended=True)
    try:
        yield
    finally:
        with second_process(site.app) as accounts:
            administration(accounts).set_sign_ups(SignUps.OPEN)


def linked(accounts, address, identity):
    """Link *identity* to the user of *address*; return a session of theirs."""
    _, session = accounts.sign_in_with(address, PASSWORD)
    new = LinkedIdentity(identity=identity, name=address, created_at=datetime.now(UTC))
    link(accounts, session, accounts.find(address, NOT_COUNTED).checked(PASSWORD), new)
    return session


def administration(accounts):
    return accounts.sign_in_with(ADMIN, PASSWORD)[1].backend.administration


def answers(site, name, address):
    """Have the provider answer that its user *name* has *address*."""
    site.providers.script(claims={"sub": name, "email": address, "email_verified": True})


def comes_by(tab, label):
    """Go to a provider from the sign-in page."""
    tab.visit()
    way(tab, f"Continue with {label}").click()


def asks_for_a_code(tab, button, address):
    tab.visit()
    tab.page.get_by_role("button", name=button).click()
    form(tab, "/code").get_by_label("Email").fill(address)
    form(tab, "/code").get_by_role("button", name="Send code").click()


def is_refused(omar, site, _):
    """Come with an address of another domain, as a suspended user, and to a provider that is down; then sign in by a password."""
    for address in OUTSIDE:
        answers(site, "omar", address)
        comes_by(omar, CORP)
        omar.sees(NoAccount.public)
    answers(site, "lea", LEA)
    comes_by(omar, CORP)
    omar.sees(Suspended.public)
    comes_by(omar, HOME)
    omar.sees(ProviderUnavailable.public)
    omar.enters("/session", ADMIN)
    omar.is_welcome()


def begins_and_ends_an_account(noor, site, look_at):
    """Begin an account by an invitation, and delete it after a proof in part."""
    with second_process(site.app) as accounts:
        sign_ups = SignUpAdministration(administration(accounts), None, lambda: False)
        code = sign_ups.invite(NOOR, AccountRole.USER)
    answers(site, "noor", NOOR)
    comes_by(noor, CORP)
    noor.sees(InvitationMissing.public)
    look_at("no invitation")
    noor.enters_invitation(code)
    way(noor, f"Continue with {CORP}").click()
    noor.is_welcome()

    noor.visit("/account")
    noor.sees(f"{CORP}: {NOOR}")
    press(noor, "Delete account")
    press(noor, f"Confirm with {CORP}")
    way(noor, f"Continue to {CORP}").click()
    noor.sees("Confirmed, but not for all changes.")
    look_at("a proof in part")
    form(noor, "/account/end?then=end").get_by_label("Your email").fill(NOOR)
    press(noor, "Delete account")
    noor.sees("Your account has been deleted.")


def is_moved_by_an_operator(ruth, site, look_at):
    """Be signed out, have the provider under its new name and an address that it alone lets in, and sign in by nothing else."""
    ruth.email = RUTH
    ruth.signs_in()
    Authenticator(ruth)
    adds(ruth)
    operate(site.app, "move-issuer", OLD_ISSUER, site.providers.mock)
    operate(site.app, "set-address", RUTH, MOVED)
    ruth.is_signed_out_before_long()
    ruth.enters("/session", MOVED)
    ruth.sees(OtherSignInNeeded.public)
    for button in ("Sign in with a code", "Forgot your password?"):
        asks_for_a_code(ruth, button, MOVED)
        ruth.sees(OtherSignInNeeded.public)
    ruth.visit()
    press(ruth, SIGN_IN)
    ruth.sees(OtherSignInNeeded.public)
    answers(site, "ruth", MOVED)
    comes_by(ruth, CORP)
    ruth.is_welcome()
    ruth.visit("/account")
    ruth.sees(f"{CORP}: {RUTH}")
    notices = ruth.page.locator(".st-key-notices")
    notices.get_by_role("button", name="more").click()
    expect(notices.get_by_text(BY_AN_OPERATOR)).to_have_count(2)
    look_at("an account with ways in that are refused")


def goes_by_the_rules(person, site, *, is_looked_at=False):
    """Have three users come by the providers; *is_looked_at*: check each page for barriers."""
    ways = (
        ("omar", "phone", is_refused),
        ("noor", "phone", begins_and_ends_an_account),
        ("ruth", "desk", is_moved_by_an_operator),
    )
    found = []
    with invited(site):
        for name, size, goes in ways:
            one = person(name, url=site.url, reduced_motion="reduce", **SIZES[size])
            one.sites.add(urlsplit(site.providers.mock).netloc)
            look = Look(one, is_on=is_looked_at)
            goes(one, site, look.at)
            found += look.found

    assert found == []
    for text in (ADMIN, RUTH, MOVED, NOOR):
        assert text not in site.app.said()


@pytest.mark.long_run
@pytest.mark.parametrize("store", STORES)
def test_rules_of_a_provider(person, site):
    goes_by_the_rules(person, site, is_looked_at=True)
