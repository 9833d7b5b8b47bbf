"""Single sign-on and passkeys on the parts of hosted Supabase."""

from uuid import uuid4

import pytest

from services.errors import PasskeyCopied
from tests.confirmed import confirm
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import required_factor, second_process
from tests.journeys.test_factor_setup import codes
from tests.journeys.test_passkey_factor import USE, enters_password
from tests.journeys.test_passkeys import (
    SIGN_IN,
    Authenticator,
    adds,
    goes_through,
    press,
    signs_out,
)
from tests.journeys.test_single_sign_on import goes_all_ways, started_site
from tests.mail_server import mail_server

pytestmark = pytest.mark.long_run


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


@pytest.fixture
def lea(app, person, site):
    """A user with a confirmed address, who is signed in."""
    lea = person("lea", url=site.url)
    lea.email = f"lea-{uuid4().hex[:6]}@daybook.test"
    with second_process(app) as accounts:
        confirm(accounts, accounts.sign_up_with(lea.email, PASSWORD)[1])
    lea.signs_in()
    return lea


def test_passkey_here_too(app, lea):
    goes_through(lea, app)


def test_passkey_is_a_second_step_and_no_copy_is_here_too(app, lea):
    key = Authenticator(lea)
    adds(lea)
    (old,) = key.credentials()
    signs_out(lea)
    with required_factor(app):
        enters_password(lea)
        press(lea, USE)
        assert len(codes(lea)) == 10
        lea.page.get_by_role("link", name="Continue").click()
        lea.is_welcome()
    signs_out(lea)
    enters_password(lea)
    press(lea, USE)
    lea.is_welcome()
    signs_out(lea)

    key.restore(old)
    press(lea, SIGN_IN)

    lea.sees(PasskeyCopied.public)
