"""What lets users in, and what does not, on the parts of hosted Supabase: methods that are off, a provider that alone lets in its
domain, invitations, suspensions, a required second factor, and addresses that Supabase Auth confirms."""

import pytest
from playwright.sync_api import expect

from services.errors import ConfirmationSent, NotConfirmed
from tests.hosted.test_confirmation import confirm
from tests.journeys.seeds import addresses, operator_of
from tests.journeys.test_provider_rules import (
    ADMIN,
    CORP,
    DOMAIN,
    goes_by_the_rules,
    started_rules,
)
from tests.journeys.test_sign_in_methods import OLD, opens_by_codes_alone, started_app
from tests.journeys.test_single_sign_on import meets_a_required_factor
from tests.mail_server import mail_server
from tests.stack.apps import running, until
from tests.store.conftest import new_email

pytestmark = pytest.mark.long_run


@pytest.fixture(scope="module")
def site(make_hosted_app, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    with mail_server() as mails, started_rules(make_hosted_app, cache, folder, mails) as site:
        operator_of(site.app).grant_admin(ADMIN)
        yield site


@pytest.fixture
def app(site):
    return site.app


def test_required_factor_of_a_provider_here_too(person, site):
    meets_a_required_factor(person, site, CORP, f"noor-7@{DOMAIN}")


def test_rules_of_a_provider_here_too(person, site):
    goes_by_the_rules(person, site)


def test_codes_alone_here_too(make_hosted_app, person):
    with started_app(make_hosted_app) as app:
        operator_of(app).grant_admin(OLD)
        opens_by_codes_alone(person, app)


def test_supabase_auth_that_confirms_addresses_is_told(make_hosted_app, open_rig, person):
    """Its link lets in who followed it, and confirms no address here; an admin reads how to change that."""
    with (
        open_rig.auth(confirms=True),
        running(make_hosted_app("confirmed", {"DAYBOOK_MAIL": "console"})) as app,
    ):
        app.until_ready()
        noor = person("noor", url=app.url)
        noor.email = new_email()
        noor.visit()
        noor.page.get_by_role("tab", name="Create account").click()
        noor.enters("/account", noor.email)
        noor.sees(ConfirmationSent.public)
        until(lambda: noor.email in addresses(app))  # Auth is asked after the answer
        noor.visit()
        noor.enters("/session", noor.email)
        noor.sees(NotConfirmed.public)
        confirm(open_rig, noor.email)
        noor.signs_in()
        noor.visit("/account")
        noor.sees("Not confirmed")

        operator_of(app).grant_admin(noor.email)
        noor.visit()
        noor.signs_out()  # a session knows its role for some seconds
        noor.signs_in()
        noor.visit("/admin?tab=Sign-ups")
        noor.sees("Supabase Auth confirms addresses itself.")
        expect(noor.page.get_by_role("switch", name="Confirm email addresses")).to_be_disabled()
        noor.visit("/admin?tab=Health")
        noor.sees("so Daybook sends no codes to new users")
