"""What lets users in, and what does not, on the parts of hosted Supabase: methods that are off, a provider that alone lets in its
domain, invitations, suspensions, and a required second factor."""

import pytest

from tests.journeys.seeds import operator_of
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
