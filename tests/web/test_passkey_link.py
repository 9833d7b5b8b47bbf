"""A passkey after the answer of a provider: as the proof of the account that has its address, and as the second factor of a proof."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from services.crypto.recovery_codes import recovery_hashes
from services.domain.accounts import CredentialsAction, Failure, ProofScope
from services.domain.mails import NoticeKind
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import (
    MethodOff,
    PasskeyCopied,
    PasskeyMissing,
    PasskeyRefused,
    PasskeyUnknown,
    StepEnded,
)
from services.store.factors import asking_passkey
from services.store.sign_in_policy import SignInPolicy
from services.store.tables import schema
from tests.authenticator import Authenticator as App
from tests.confirmed import confirm
from tests.identity.provider import ADDRESS, SUBJECT
from tests.passkeys import PRESENT, Authenticator
from tests.store.conftest import PASSWORD
from tests.web.test_code_routes import said
from tests.web.test_oidc_routes import corp as corp  # a fixture
from tests.web.test_oidc_routes import is_proven, is_signed_in, proves
from tests.web.test_oidc_routes import make as make
from tests.web.test_oidc_routes import site as site
from tests.web.test_passkey_factor import HERE, add_passkey, change
from tests.web.test_records import failures

pytestmark = pytest.mark.usefixtures("cheap_passwords")


@pytest.fixture
def maya(site):
    """A user with a confirmed address and a passkey, to whom nothing is linked."""
    return site.user()


@pytest.fixture
def key(site, maya):
    return key_of(site, maya)


def key_of(site, session):
    key = Authenticator(HERE)
    add_passkey(site.accounts, session, key)
    return key


@pytest.fixture
def browser(site, key):
    """A browser that shows the page which asks for the account's proof."""
    browser = site.browser()
    browser.page = browser.opens(browser.signs_in())
    return browser


def presses(browser):
    """Press the button; return the answer."""
    form = re.search('(?s)<form[^>]*data-passkey="get".*?</form>', browser.page.text)[0]
    browser.form = dict(re.findall('name="(.*?)" value="(.*?)"', form))
    answer = browser.post("/passkey/options", **browser.form).json()
    browser.form["step"] = answer.get("step", "")
    return answer


def gives(browser, key, **forged):
    answer = key.get(presses(browser)["options"], **forged)
    return sends(browser, answer)


def sends(browser, answer):
    return browser.post("/passkey", **browser.form | {"answer": answer})


def is_refused(site, browser, answer, error):
    """Return True if the page asks again, with the sentence of *error*, and nothing is linked."""
    browser.page = browser.opens(answer)
    assert f'<p role="alert">{error.public}</p>' in browser.page.text
    return not is_signed_in(browser) and site.identities() == []


def test_passkey_proves_the_account_and_the_identity_is_linked(site, corp, maya, key, browser):
    assert 'action="/passkey" data-passkey="get"' in browser.page.text
    assert "connect-src 'self'" in browser.page.headers["content-security-policy"]
    assert presses(browser)["options"]["userVerification"] == "required"

    answer = gives(browser, key)

    assert answer.headers["location"] == "/?c=1"
    assert browser.session.user_id == maya.user_id
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]
    assert site.last_used() == [True]
    assert site.found().credentials.passkeys.each[0].sign_count == 1
    assert site.told == [NoticeKind.IDENTITY_ADDED]
    assert Failure.PASSKEY not in failures(maya)
    assert site.browser().signs_in().headers["location"] == "/?c=1"


def test_passkey_of_another_user_links_nothing(site, maya, key, browser):
    omar = site.user("omar@corp.example")

    answer = gives(browser, key_of(site, omar))

    assert is_refused(site, browser, answer, PasskeyRefused)
    assert site.identities("omar@corp.example") == []
    assert (failures(maya), failures(omar)) == ({Failure.PASSKEY: 1}, {})
    assert gives(browser, key).headers["location"] == "/?c=1"


def test_passkey_that_does_not_verify_its_user_links_nothing(site, key, browser):
    answer = gives(browser, key, flags=PRESENT)

    assert is_refused(site, browser, answer, PasskeyRefused)


def test_unknown_passkey_links_nothing(site, key, browser):
    unknown = replace(key, id=b"unknown")

    assert is_refused(site, browser, gives(browser, unknown), PasskeyUnknown)


def test_copied_passkey_links_nothing(site, corp, key, browser):
    gives(browser, key)
    corp.claims = {"sub": "another"}
    other = site.browser()
    other.page = other.opens(other.signs_in())

    page = other.opens(gives(other, key, count=1))

    assert PasskeyCopied.public in page.text
    assert (is_signed_in(other), len(site.identities())) == (False, 1)
    assert site.told == [NoticeKind.IDENTITY_ADDED, NoticeKind.PASSKEY_COPIED]


def test_refusal_waits_as_that_of_a_password(site, key, browser):
    answer = key.get(presses(browser)["options"], flags=PRESENT)
    began = site.clock.now

    sends(browser, answer)

    assert site.clock.now - began == pytest.approx(0.4, abs=0.05)


def test_answer_is_good_once_and_a_step_five_times(key, browser):
    given = key.get(presses(browser)["options"], flags=PRESENT)
    sends(browser, given)
    assert said(sends(browser, given))["reason"] == "expired"
    for _ in range(4):
        gives(browser, key, flags=PRESENT)

    assert said(gives(browser, key))["reason"] == "tries"
    assert not is_signed_in(browser)


def test_step_ends_once(site, corp, key, browser):
    """Also where another tab begins a session by it while an answer is on its way."""
    other = site.browser()
    other.page = browser.page
    other.cookies = dict(browser.cookies)
    answer = key.get(presses(other)["options"])
    gives(browser, key)

    assert said(sends(other, answer))["reason"] == "expired"
    assert not is_signed_in(other)


def test_step_goes_on_in_its_browser_alone(site, key, browser):
    other = site.browser()
    other.opens(other.signs_in())
    other.page = browser.page

    assert said(gives(other, key)) == {"c": "1", "reason": "expired"}
    assert (is_signed_in(other), site.identities()) == (False, [])


def test_account_that_has_changed_meanwhile_is_not_linked(site, maya, key, browser):
    key_of(site, maya)

    assert said(gives(browser, key)) == {"c": "1", "reason": "expired"}
    assert (is_signed_in(browser), site.identities()) == (False, [])


def test_passkey_stands_for_the_app_too(site, corp, maya):
    App().enrol(site.accounts, maya)
    key, browser = key_of(site, maya), site.browser()
    browser.page = browser.opens(browser.signs_in())

    assert gives(browser, key).headers["location"] == "/?c=1"
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]


def test_required_factor_is_met_and_recovery_codes_are_shown(site, corp, key, browser):
    site.change_settings(requires_factor=True)

    page = gives(browser, key)

    codes = re.findall("<li><code>(.*?)</code>", page.text)
    assert site.found().credentials.recovery == recovery_hashes(codes)
    assert (len(codes), 'href="/?c=1"' in page.text) == (10, True)
    assert site.told == [NoticeKind.PASSKEY_FACTOR_ADDED, NoticeKind.IDENTITY_ADDED]
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]


def test_passkeys_that_are_off_link_nothing(make):
    site = make(methods=frozenset({SignInMethod.OIDC, SignInMethod.PASSWORD}))
    key_of(site, site.user())
    browser = site.browser()
    page = browser.opens(browser.signs_in())
    asked = browser.post("/passkey/options", use="link", entry=browser.step)

    assert "data-passkey" not in page.text
    assert "connect-src" not in page.headers["content-security-policy"]
    assert asked.json() == {"refusal": MethodOff.public}


def test_passkey_links_no_account_of_an_only_provider(make):
    site = make(domains=["corp.example"], only=True)
    before = replace(site.accounts, policy=SignInPolicy())
    _, session = before.sign_up_with(ADDRESS, PASSWORD)
    confirm(site.accounts, session)
    key, browser = key_of(site, session), site.browser()
    browser.opens(browser.signs_in())
    form = {"use": "link", "entry": browser.step, "next": "/?c=1"}
    asked = browser.post("/passkey/options", **form).json()

    given = form | {"step": asked["step"], "answer": key.get(asked["options"])}

    assert said(browser.post("/passkey", **given)) == {"c": "1", "reason": "off"}
    assert (is_signed_in(browser), site.identities()) == (False, [])


def test_session_lasts_as_the_providers_entry_says(make):
    site = make(domains=["daybook.test"], only=True, session_days=3)
    key, browser = key_of(site, site.user()), site.browser()
    browser.page = browser.opens(browser.signs_in())

    gives(browser, key)

    sessions = site.accounts.backend.tables.run(lambda block: block.select(schema.SESSIONS))
    [begun] = [one for one in sessions if one.id == browser.session.id]
    assert begun.expires_at - begun.created_at == timedelta(days=3)


@pytest.mark.parametrize("text", ["", "no step", "x" * 15_000])
def test_form_names_a_step(browser, text):
    asked = browser.post("/passkey/options", use="link", entry=text)

    assert asked.json() == {"refusal": StepEnded.public}


def test_account_with_ten_sign_ins_gets_no_recovery_codes(site, maya, key, browser):
    """The link is refused before the sign-in, which would have a passkey asked for from now on."""
    found = site.found()
    ten = tuple(
        LinkedIdentity(
            identity=Identity("https://login.example.com", str(number)),
            name="Work",
            created_at=site.accounts.now().replace(microsecond=0),
        )
        for number in range(10)
    )
    new = replace(found.credentials, identities=ten, generation=found.stored.generation + 1)
    action = CredentialsAction.IDENTITY_ADDED
    assert site.accounts.change_credentials(maya, new, found.stored, action)
    site.change_settings(requires_factor=True)
    browser.page = browser.opens(browser.signs_in())

    assert said(gives(browser, key)) == {"c": "1", "reason": "identities"}
    credentials = site.found().credentials
    assert (credentials.asks_passkey, credentials.recovery) == (False, ())


# --- the second factor of a proof

ONLY = {"domains": ["corp.example"], "only": True}
OFF = {"methods": frozenset({SignInMethod.OIDC})}


def asks_passkey(site, session):
    """Make sign-ins of the user of *session* ask for a new passkey; return it."""
    key, action = key_of(site, session), CredentialsAction.PASSKEY_FACTOR_ADDED
    change(site.accounts, session, action, partial(asking_passkey, is_asked=True))
    return key


def visitor_of(site):
    """Return a browser in which the user of the provider has just signed in, and may change the account."""
    browser = site.browser()
    browser.signs_in()
    site.change_sessions(scope=ProofScope.FULL)
    return browser


def confirms(site, corp, browser):
    """Prove at the provider, more than ten minutes after the sign-in; open the page that asks for the second factor."""
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))
    _, answer = proves(browser, corp)
    browser.page, browser.step = browser.opens(answer), said(answer)["step"]


@pytest.mark.parametrize("rules", [ONLY, OFF])
def test_passkey_is_the_second_factor_of_a_proof_by_a_provider(make, corp, rules):
    """It proves nothing on its own here."""
    site = make(may_sign_up=True, **rules)
    browser = visitor_of(site)
    key = asks_passkey(site, browser.session)
    confirms(site, corp, browser)
    assert "authenticator app" not in browser.page.text
    assert presses(browser)["options"]["userVerification"] == "preferred"
    before = is_proven(browser)

    answer = gives(browser, key, flags=PRESENT)

    assert (before, said(answer)) == (False, {"reason": "proved"})
    assert is_proven(browser)
    assert site.last_used() == [True]
    assert site.found().credentials.passkeys.each[0].sign_count == 1
    assert site.audited().count("passkey.use") == 1


def test_passkey_of_a_proof_verifies_its_user_where_a_factor_is_required(site, corp):
    browser = visitor_of(site)
    key = asks_passkey(site, browser.session)
    site.change_sessions(has_factor=True)
    site.change_settings(requires_factor=True)
    confirms(site, corp, browser)
    assert presses(browser)["options"]["userVerification"] == "required"

    browser.page = gives(browser, key, flags=PRESENT)

    assert PasskeyRefused.public in browser.page.text
    assert not is_proven(browser)
    assert said(gives(browser, key)) == {"reason": "proved"}


def test_refused_passkey_proves_nothing_and_the_step_goes_on(site, corp):
    browser = visitor_of(site)
    key = asks_passkey(site, browser.session)
    confirms(site, corp, browser)

    browser.page = gives(browser, replace(key, key=Authenticator(HERE).key))

    assert f'<p role="alert">{PasskeyRefused.public}</p>' in browser.page.text
    assert not is_proven(browser)
    assert failures(browser.session) == {Failure.FACTOR: 1}
    assert said(gives(browser, key)) == {"reason": "proved"}


def test_copied_passkey_proves_nothing_and_is_told(site, corp):
    browser = visitor_of(site)
    key = asks_passkey(site, browser.session)
    confirms(site, corp, browser)
    gives(browser, key)
    confirms(site, corp, browser)

    page = gives(browser, key, count=1)

    assert PasskeyCopied.public in page.text
    assert not is_proven(browser)
    assert site.told == [NoticeKind.PASSKEY_COPIED]


def test_app_or_passkey_is_the_second_factor_of_a_proof_by_a_provider(site, corp):
    browser = visitor_of(site)
    app = App().enrol(site.accounts, browser.session)
    key = asks_passkey(site, browser.session)
    confirms(site, corp, browser)
    assert "Code of your authenticator app" in browser.page.text
    assert said(gives(browser, key)) == {"reason": "proved"}
    confirms(site, corp, browser)

    answer = browser.post("/identity/proof", step=browser.step, factor=app.code())

    assert said(answer) == {"reason": "proved"}


def test_passkey_that_is_not_asked_for_is_no_factor_of_a_proof_by_a_provider(site, corp):
    browser = visitor_of(site)
    App().enrol(site.accounts, browser.session)
    key_of(site, browser.session)
    confirms(site, corp, browser)
    fields = {"use": "proof_factor", "entry": browser.step, "step": ""}

    refused = browser.post("/passkey/options", **fields).json()

    assert "data-passkey" not in browser.page.text
    assert refused == {"refusal": PasskeyMissing.public}
