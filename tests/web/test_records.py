"""What the routes record of an account: failures in the audit, and notices on the pages of its user."""

import threading
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest

from services.domain import UserId
from services.domain.accounts import Failure
from services.domain.mails import CodePurpose, NoticeKind
from services.errors import StoreUnavailable
from services.store.failures import note_failure
from services.store.notices import opened_notice
from services.store.tables import schema
from services.store.tables.in_memory import InMemoryStore
from services.web.notices import Notices
from services.web.origin import Origin
from tests.authenticator import Authenticator
from tests.confirmed import confirm
from tests.stack.apps import SECONDS, until
from tests.store.conftest import PASSWORD, new_email
from tests.stores import accounts_in_memory
from tests.web import test_own_factor as own_factor
from tests.web.test_code_routes import said
from tests.web.test_entries import BACK, NEW, RESET, FactorSite, User, guesses

SIGN_IN, PROVE = CodePurpose.SIGN_IN, CodePurpose.PROVE
FIREFOX = "Firefox on Linux"
USER = UserId(UUID(int=1))
pytestmark = pytest.mark.usefixtures("cheap_passwords")


def written():
    """Wait for what threads write."""
    until(lambda: all(one.name not in ("failure", "notice") for one in threading.enumerate()))


def failures(session):
    """The failures in the audit of the user of *session*, with their counts."""
    written()
    counts = Counter()  # of all hours: a test may begin just before the next one
    for one in session.backend.rows().usage.account_changes():
        counts[one.action] += one.detail["count"] if one.is_failure else 0
    return dict(+counts)


def told(session):
    """What the pages of *session* tell, the newest first: kinds and browsers."""
    written()
    keys, rows = session.user_keys, session.backend.account().notices
    opened = [opened_notice(keys, session.user_id, row) for row in rows]
    return [(one.kind, one.browser) for one in opened]


@pytest.fixture
def site():
    return FactorSite(accounts_in_memory(InMemoryStore()))


@pytest.fixture
def omar(site):
    """A user without a second factor, and a session in which nothing is done."""
    return _user(site)


def _user(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    return User(site, email, Authenticator())


def signed_in(user):
    return user.site.accounts.sign_in_with(user.email, PASSWORD)[1]


def forget_proofs(site):
    @site.accounts.backend.tables.run
    def _(block):
        for one in block.select(schema.SESSIONS):
            block.put(schema.SESSIONS, replace(one, proved_at=None))


# --- failures


@pytest.mark.parametrize(
    ("purpose", "failure"),
    [(SIGN_IN, Failure.SIGN_IN), (RESET, Failure.RESET), (PROVE, Failure.PROOF)],
)
def test_wrong_codes_are_counted(omar, purpose, failure):
    browser = omar.begins()
    browser.asks(omar.email, purpose)

    for _ in range(2):
        reason = said(browser.enters("00000000", purpose, password=PASSWORD))["reason"]
        assert reason == "wrong-code"

    assert failures(signed_in(omar)) == {failure: 2}


def test_wrong_code_of_a_new_address_and_of_a_former_one_is_counted(site, omar):
    browser, new = omar.begins(), new_email()
    browser.asks(new, NEW)
    browser.enters("00000000", NEW)
    browser.enters(site.digits, NEW)
    stranger = site.browser()
    stranger.asks(omar.email, BACK)

    stranger.enters("00000000", BACK, password=PASSWORD)

    assert failures(signed_in(replace(omar, email=new))) == {Failure.ADDRESS: 2}


def test_wrong_code_of_who_may_have_none_is_not_counted(site, omar):
    browser = site.browser()
    browser.asks(new_email(), SIGN_IN)

    browser.enters("00000000", SIGN_IN)

    assert failures(signed_in(omar)) == {}


def test_wrong_passwords_of_a_proof_are_counted_and_those_of_a_sign_in_are_not(site, omar):
    browser = omar.begins()

    for _ in range(2):
        browser.post("/proof", password="not the password")
    omar.begins(password="not the password")

    assert failures(signed_in(omar)) == {Failure.PROOF: 2}


@pytest.mark.parametrize("path", ["/account/password", "/account/end", "/code"])
def test_changes_without_a_proof_are_counted(site, omar, path):
    browser = omar.begins()
    forget_proofs(site)

    fields = {"password": "another horse, another battery", "address": omar.email}
    browser.post(path, **fields, email=new_email(), purpose=NEW, next="/account")

    assert failures(signed_in(omar)) == {Failure.CHANGE: 1}


def test_wrong_factors_are_counted_at_the_sign_in_and_in_a_proof(site, omar):
    omar.app.enrol(site.accounts, signed_in(omar))
    guesses(omar, site.browser(), 2)
    browser = omar.signed_in()

    browser.post("/proof", password=PASSWORD, factor="000000")

    assert failures(browser.session) == {Failure.FACTOR: 3}


def test_wrong_codes_of_a_new_factor_are_counted():
    site = own_factor.FactorSite(accounts_in_memory(InMemoryStore()))
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)
    browser = site.signed_in(email)
    own_factor.begins(browser)
    own_factor.confirms(browser, own_factor.wrong(browser.key))

    browser.step = ""
    own_factor.confirms(browser, "000000")
    site.change_sessions(proved_at=None)
    own_factor.removes(browser)

    found = failures(site.accounts.sign_in_with(email, PASSWORD)[1])
    assert found == {Failure.ENROLMENT: 1, Failure.CHANGE: 2}


def test_failures_do_not_fill_the_process_with_threads():
    slow, noted = threading.Event(), []
    backend = SimpleNamespace(note_failure=lambda *one: (slow.wait(SECONDS), noted.append(one)))

    for _ in range(100):
        note_failure(backend, USER, Failure.CHANGE)
    slow.set()
    written()
    note_failure(backend, USER, Failure.CHANGE)
    written()

    assert len(noted) == 33


def test_failures_are_counted_again_after_a_lack_of_threads(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    noted = []
    backend = SimpleNamespace(note_failure=lambda *one: noted.append(one))
    with monkeypatch.context() as lack:
        lack.setattr(threading.Thread, "start", start)
        for _ in range(32):
            note_failure(backend, USER, Failure.CHANGE)

    note_failure(backend, USER, Failure.CHANGE)
    written()

    assert len(noted) == 1


# --- notices


def test_sign_in_on_a_new_device_is_told_on_all_others(omar):
    before = signed_in(omar)

    browser = omar.begins()
    omar.begins()  # within the hour, in which one mail is sent

    assert told(before) == [(NoticeKind.NEW_DEVICE, FIREFOX)] * 2
    assert told(browser.session) == [(NoticeKind.NEW_DEVICE, FIREFOX)]


def test_new_and_reset_passwords_are_told_on_the_next_device(site, omar):
    browser, new = omar.begins(), "another horse, another battery"
    browser.post("/account/password", password=new)
    resetting, _ = omar.asks(RESET, browser, password=PASSWORD)

    kinds = [kind for kind, _ in told(signed_in(omar))]
    assert kinds == [
        NoticeKind.PASSWORD_RESET,
        NoticeKind.PASSWORD_CHANGED,
        NoticeKind.NEW_DEVICE,
    ]
    assert NoticeKind.PASSWORD_RESET not in [kind for kind, _ in told(resetting.session)]


@pytest.mark.parametrize("is_signed_out", [True, False])
def test_next_session_of_a_browser_is_not_told_what_it_changed(omar, is_signed_out):
    browser, new = omar.begins(), "another horse, another battery"
    browser.post("/account/password", password=new)
    if is_signed_out:
        browser.post("/session/end")
        assert "__Host-sid" not in browser.cookies
    else:
        browser.cookies.pop("__Host-device")

    omar.begins(browser, new)

    changed = (NoticeKind.PASSWORD_CHANGED, FIREFOX)
    assert changed not in told(browser.session)
    assert changed in told(omar.begins(password=new).session)


def test_wrong_factors_of_a_stranger_are_told_with_the_browser(site, omar):
    omar.app.enrol(site.accounts, signed_in(omar))

    guesses(omar, site.browser(), 3)

    kinds = told(omar.signed_in().session)
    assert kinds == [(NoticeKind.WRONG_FACTORS, FIREFOX)]


def test_wrong_factors_are_not_mailed_to_an_unconfirmed_address(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    maya = User(site, email, Authenticator())
    maya.app.enrol(site.accounts, session)

    guesses(maya, site.browser(), 3)

    assert told(session) == [(NoticeKind.WRONG_FACTORS, FIREFOX)]
    assert site.mails == []


def test_another_address_is_told_once(site, omar):
    before, browser, new = signed_in(omar), omar.begins(), new_email()
    browser.asks(new, NEW)

    browser.enters(site.digits, NEW)

    moved, device = (NoticeKind.ADDRESS_CHANGED, FIREFOX), (NoticeKind.NEW_DEVICE, FIREFOX)
    assert told(before) == [moved, device]
    assert told(browser.session) == []


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_change_is_told_on_pages_where_no_mail_goes(is_confirmed):
    site = own_factor.FactorSite(accounts_in_memory(InMemoryStore()))
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    if is_confirmed:  # but no mail is set
        confirm(site.accounts, session)
        notices = Notices(site.attempts, Origin(None, 0), None)
        site.routes = replace(site.own, notices=notices).routes()
    before, browser = site.accounts.sign_in_with(email, PASSWORD)[1], site.signed_in(email)

    own_factor.enrolled(browser)

    assert told(before) == [(NoticeKind.FACTOR_ADDED, FIREFOX)]
    assert site.mails == []


def test_change_is_mailed_to_the_address_that_is_stored_now():
    site = own_factor.FactorSite(accounts_in_memory(InMemoryStore()))
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)
    browser = site.signed_in(email)
    confirm(site.accounts, site.accounts.sign_in_with(email, PASSWORD)[1])  # in another process

    own_factor.enrolled(browser)

    assert [one.address for one in site.mails] == [email]


def test_notice_that_the_store_refuses_is_mailed_all_the_same(site, omar, monkeypatch):
    browser = omar.begins()
    site.mails.clear()
    monkeypatch.setattr(type(site.accounts.backend), "add_notice", refuse)

    browser.post("/account/password", password="another horse, another battery")

    assert [one.content.kind for one in site.mails] == [NoticeKind.PASSWORD_CHANGED]


def refuse(*_):
    raise StoreUnavailable


def test_new_password_is_mailed_to_the_address_that_is_stored_now(site):
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)
    user = User(site, email, Authenticator())
    browser = user.begins()
    confirm(site.accounts, signed_in(user))  # in another process

    browser.post("/account/password", password="another horse, another battery")

    assert (email, NoticeKind.PASSWORD_CHANGED) in [
        (one.address, one.content.kind) for one in site.mails
    ]
