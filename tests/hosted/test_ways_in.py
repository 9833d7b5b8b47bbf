"""Single sign-on and passkeys on the parts of hosted Supabase."""

import pytest

from tests.journeys.test_passkeys import goes_through
from tests.journeys.test_single_sign_on import RUTH, goes_all_ways, started_site
from tests.mail_server import mail_server


@pytest.fixture(scope="module")
def site(make_hosted_app, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ways-in")
    with mail_server() as mails, started_site(make_hosted_app, cache, folder, mails) as site:
        yield site


@pytest.fixture
def app(site):
    return site.app


def test_providers_here_too(person, site):
    goes_all_ways(person, site)


def test_passkey_here_too(app, person, site):
    ruth = person("ruth", url=site.url)
    ruth.email = RUTH
    ruth.signs_in()
    goes_through(ruth, app)
