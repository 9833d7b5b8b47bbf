"""Sign-ups whose address a code confirms, and the confirmation of one's own address."""

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import pytest

from services.domain import AccountRole
from services.domain.accounts import SignUps
from services.domain.addresses import ConfirmedBy
from services.domain.mails import CodePurpose, NoCode, NoCodeReason
from services.errors import StoreUnavailable, WrongCredentials
from services.store.credentials import open_stored
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import ACCOUNTS, CREDENTIALS, STEPS
from services.web.code_routes import CodeRoutes
from services.web.confirmation_codes import ConfirmAddress, SignUpByCode, SignUpCode
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_codes import ResetPassword, SignInByCode
from services.web.sign_in_routes import SignInRoutes
from tests.confirmed import confirm, set_address
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, accounts_in_memory, cut_at
from tests.web.test_code_routes import NEW_PASSWORD, RESET, Site, another, said
from tests.web.test_records import written

pytestmark = pytest.mark.usefixtures("cheap_passwords")
SIGN_UP, CONFIRM = "sign_up", CodePurpose.CONFIRM_ADDRESS


@dataclass
class SignUpSite(Site):
    """The routes of a process that confirms addresses by codes."""

    def __post_init__(self):
        super().__post_init__()
        origin, self.noted = Origin(None, 0), []
        one = SimpleNamespace(
            session_cache=self.cache,
            set_address=partial(set_address, self.cache),
            outdate_sign_in_details=self.noted.append,
            user_of=self.user_of,
        )
        shared = lambda: one  # noqa: E731
        notices = Notices(self.attempts, origin, self.send)
        start = SessionStart(shared, self.attempts, origin, 3600, notices)
        flow, lanes = SignUpCode(start), HashingLanes()
        flows = (
            flow,
            SignInByCode(start),
            ResetPassword(start, lanes),
            ConfirmAddress(),
        )
        codes = CodeRoutes(shared, self.attempts, origin, self, flows)
        by_code = SignUpByCode(codes, flow)
        sign_in = SignInRoutes(start, lanes, by_code)
        self.routes = [*sign_in.routes(), *codes.routes()]

    def rows(self, table=CREDENTIALS):
        return self.accounts.backend.all_tables.of(None).run(lambda block: block.select(table))

    def credentials(self, email):
        stored = self.accounts.find(email, NOT_COUNTED).stored
        return open_stored(self.accounts.root_keys, stored)


def signs_up(browser, email, password=PASSWORD, **fields):
    answer = browser.post("/account", email=email, password=password, next="/?c=1", **fields)
    browser.step = said(answer).get("step", "")
    return answer


def enters(browser, code=None):
    return browser.enters(code or browser.site.digits, SIGN_UP)


@pytest.fixture
def site():
    return SignUpSite(accounts_in_memory(InMemoryStore()))


@pytest.fixture
def admin(site):
    """The administration of the first account, whose address is not confirmed."""
    _, session = site.accounts.sign_up_with(new_email(), PASSWORD)

    def promote(block):
        account = block.get(ACCOUNTS, session.user_id)
        block.put(ACCOUNTS, replace(account, role=AccountRole.ADMIN))

    site.accounts.backend.all_tables.of(None).run(promote)
    return session


def test_account_begins_with_its_code_and_is_confirmed(site):
    browser, email = site.browser(), new_email()

    sent = signs_up(browser, email)

    assert said(sent) == {"c": "1", "code": "sign_up", "step": browser.step}
    assert (site.rows(), len(site.rows(STEPS))) == ([], 1)
    assert (site.mails[0].address, site.mails[0].content.purpose) == (email, CONFIRM)
    assert enters(browser).headers["location"] == "/?c=1"
    assert browser.session.email == email
    assert browser.session.is_confirmed
    assert site.credentials(email).confirmed.how is ConfirmedBy.CODE
    assert site.accounts.sign_in_with(email, PASSWORD)


class SiteOfAllMails(SignUpSite):
    """Keeps the mails that tell of a new device, too."""

    def send(self, mail):
        self.mails.append(mail)
        return True


def test_new_account_is_told_of_no_new_device():
    site, email = SiteOfAllMails(accounts_in_memory(InMemoryStore())), new_email()
    browser = site.browser()
    signs_up(browser, email)

    enters(browser)

    assert browser.session.is_confirmed
    written()
    _, elsewhere = site.accounts.sign_in_with(email, PASSWORD)
    assert not elsewhere.backend.account().notices
    assert [mail.content.purpose for mail in site.mails] == [CONFIRM]


def test_step_of_a_sign_up_shows_neither_address_nor_hash(site):
    browser, email = site.browser(), new_email()

    answer = signs_up(browser, email)

    for text in (email, site.digits, "argon2"):
        assert text not in str(site.rows(STEPS)) + str(answer.headers) + answer.text


def test_taken_address_gets_the_same_page_and_time_and_a_mail_without_a_code(site):
    taken, seen = new_email(), []
    site.accounts.sign_up_with(taken, PASSWORD)
    for email in (taken, new_email()):
        browser, began = site.browser(), site.clock.now
        answers = [signs_up(browser, email), *(enters(browser, "00000000") for _ in range(6))]
        seen.append(
            (
                [(one.status_code, one.text) for one in answers],
                [one.headers["location"].replace(browser.step, "STEP") for one in answers],
                [[cookie[:12] for cookie in one.headers.get_list("set-cookie")] for one in answers],
                round(site.clock.now - began, 1),
            )
        )

    assert seen[0] == seen[1]
    assert seen[0][-1] == pytest.approx(0.4 * 7)
    assert site.contents[0] == NoCode(NoCodeReason.TAKEN)
    assert len(site.mails) == 2


def test_mail_that_is_not_sent_looks_the_same(site):
    usual = said(signs_up(site.browser(), new_email())).keys()
    site.is_full = True

    assert said(signs_up(site.browser(), new_email())).keys() == usual


def test_strangers_have_five_mails_an_hour_of_sign_ups_of_an_address(site):
    email = new_email()

    for _ in range(7):
        assert said(signs_up(site.browser(), email)).keys() == {"c", "code", "step"}

    assert len(site.mails) == 5


def test_account_prepared_under_another_address_is_its_owners(site):
    """An attacker's sign-up of an address waits for the code that only its owner reads."""
    attacker, owner, email = site.browser(), site.browser(), new_email()
    signs_up(attacker, email, "the password of an attacker")
    signs_up(owner, email)

    assert enters(owner).headers["location"] == "/?c=1"

    for guess in ("00000000", site.digits):
        assert said(enters(attacker, guess))["reason"] == "wrong-code"
    with pytest.raises(WrongCredentials):
        site.accounts.sign_in_with(email, "the password of an attacker")


def test_owner_of_the_address_resets_no_unconfirmed_account(site):
    """It may be an attacker's, who would go on to read what its new user writes."""
    email, browser = new_email(), site.browser()
    site.accounts.sign_up_with(email, "the password of an attacker")

    browser.asks(email, RESET)

    assert site.contents == [NoCode(NoCodeReason.UNCONFIRMED)]
    refused = browser.enters("00000000", RESET, password=NEW_PASSWORD)
    assert said(refused)["reason"] == "wrong-code"
    assert site.accounts.sign_in_with(email, "the password of an attacker")


def test_pending_sign_up_without_a_code_is_replaced_with_its_password(site):
    email, browser = new_email(), site.browser()
    with pytest.raises(StoreUnavailable):
        cut_at(site.accounts, "sign_up", is_done=False).sign_up_with(email, "of an attacker 123")

    signs_up(browser, email)
    enters(browser)

    assert site.credentials(email).confirmed
    with pytest.raises(WrongCredentials):
        site.accounts.sign_in_with(email, "of an attacker 123")
    assert site.accounts.sign_in_with(email, PASSWORD)


def test_of_two_who_take_an_address_at_once_one_has_it(site):
    """Both read the mailbox."""
    email, browsers, digits = new_email(), [site.browser(), site.browser()], []
    for browser in browsers:
        signs_up(browser, email)
        digits.append(site.digits)

    first, second = (enters(one, code) for one, code in zip(browsers, digits, strict=True))

    assert first.headers["location"] == "/?c=1"
    assert said(second)["reason"] == "taken"
    assert len(site.rows()) == 1


def test_code_is_good_once_and_in_its_browser(site):
    browser, thief = site.browser(), site.browser()
    signs_up(browser, new_email())
    thief.cookies, thief.step = {"__Host-step": "ab" * 32}, browser.step

    assert said(enters(thief))["reason"] == "expired"
    kept = dict(browser.cookies)
    enters(browser)
    browser.cookies = kept
    assert said(enters(browser))["reason"] == "expired"


def test_sixth_guess_ends_a_sign_up(site):
    browser = site.browser()
    signs_up(browser, new_email())

    for _ in range(5):
        assert said(enters(browser, another(site.digits)))["reason"] == "wrong-code"

    assert said(enters(browser))["reason"] == "expired"
    assert site.rows() == []


def test_mode_and_invitation_are_asked_again_with_the_code(site, admin):
    administration = admin.backend.administration
    late, invited = site.browser(), site.browser()
    signs_up(late, new_email())
    digits = site.digits
    administration.set_sign_ups(SignUps.INVITED)
    administration.invite("ab" * 32, None, AccountRole.USER)

    assert said(enters(late, digits))["reason"] == "no-invitation"
    assert said(signs_up(invited, new_email()))["reason"] == "no-invitation"
    administration.set_sign_ups(SignUps.OPEN)
    signs_up(invited, new_email())
    administration.set_sign_ups(SignUps.CLOSED)
    assert said(enters(invited))["reason"] == "closed"
    assert len(site.rows()) == 1


def test_sign_up_that_is_over_keeps_its_invitation(site):
    browser = site.browser()

    sent = said(signs_up(browser, new_email(), invite=" a code "))
    wrong, over = (
        said(browser.enters("00000000", SIGN_UP, invite=sent["invite"], step=step))
        for step in (browser.step, "")
    )

    assert sent["invite"] == wrong["invite"] == over["invite"] == "a code"
    assert (wrong["reason"], over["reason"]) == ("wrong-code", "expired")


def test_weak_password_is_refused_before_a_mail(site):
    assert said(signs_up(site.browser(), new_email(), "short"))["reason"] == "weak"
    assert site.mails == []


def test_former_address_that_its_user_may_take_back_is_taken(site, caplog):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    site.accounts.change_address(session, new_email(), 2)

    signs_up(site.browser(), email)

    assert site.contents == [NoCode(NoCodeReason.TAKEN)]
    assert "credentials.unopened" not in caplog.text


def test_switched_off_no_code_is_asked_for(site, admin):
    admin.backend.administration.confirm_by_code(is_on=False)
    browser, email = site.browser(), new_email()

    assert signs_up(browser, email).headers["location"] == "/?c=1"

    assert site.mails == []
    assert not browser.session.is_confirmed
    assert site.credentials(email).confirmed is None


def test_auth_that_confirms_addresses_takes_the_place_of_codes(site, monkeypatch):
    backend = type(site.accounts.backend.sign_in)
    monkeypatch.setattr(backend, "confirms_addresses", lambda _: True)

    assert said(signs_up(site.browser(), new_email()))["reason"] == "confirm"

    assert site.mails == []
    assert len(site.rows()) == 1


def test_sign_up_begins_with_a_password_alone(site):
    answer = site.browser().asks(new_email(), SIGN_UP)

    assert said(answer)["reason"] == "expired"
    assert (site.mails, site.rows(STEPS)) == ([], [])


# --- a process that is killed


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["end_step", "put_sign_up", "sign_up", "start_session"])
def test_cut_sign_up_goes_on(site, monkeypatch, step, is_done):
    """Until the step has ended the code is good; before the sign-up is stored, it begins anew; then its password signs in."""
    browser, email = site.browser(), new_email()
    signs_up(browser, email)
    whole = site.cache.accounts
    site.cache.accounts = cut_at(whole, step, is_done=is_done)

    assert said(enters(browser))["reason"] == "unavailable"

    site.cache.accounts = whole
    if step == "end_step" and not is_done:
        assert enters(browser).headers["location"] == "/?c=1"
    else:
        assert said(enters(browser))["reason"] == "expired"
    if (step, is_done) in {("end_step", True), ("put_sign_up", False)}:
        assert site.rows() == []
        signs_up(browser, email)
        assert enters(browser).headers["location"] == "/?c=1"
    assert site.accounts.sign_in_with(email, PASSWORD)[1].is_confirmed
    assert len(site.rows()) == 1


# --- one's own address


@pytest.fixture
def maya(site, admin):
    """The browser of a user whose address is not confirmed."""
    admin.backend.administration.confirm_by_code(is_on=False)
    browser = site.browser()
    signs_up(browser, new_email())
    site.mails.clear()
    return browser


def test_user_confirms_the_address_and_no_session_ends(site, maya):
    email = maya.session.email
    _, other = site.accounts.sign_in_with(email, PASSWORD)

    maya.asks("", CONFIRM)
    done = maya.enters(site.digits, CONFIRM)

    assert said(done) == {"c": "1", "reason": "confirmed"}
    assert site.noted == [maya.session.user_id]
    assert site.credentials(email).confirmed.how is ConfirmedBy.CODE
    assert site.accounts.ended([other, maya.session]) == {}
    actions = [one.action for one in maya.session.backend.rows().usage.account_changes()]
    assert actions[0] == "address.confirm"
    assert site.accounts.sign_in_with(email, PASSWORD)[1].is_confirmed


def test_address_is_confirmed_in_its_session_alone(site, maya):
    omar, outside = site.browser(), site.browser()
    signs_up(omar, new_email())
    maya.asks("", CONFIRM)
    omar.cookies["__Host-step"] = outside.cookies["__Host-step"] = maya.cookies["__Host-step"]

    for browser in (omar, outside):
        browser.step = maya.step
        refused = browser.enters(site.digits, CONFIRM)
        assert said(refused).get("reason") in ("expired", None)

    assert site.noted == []
    assert site.credentials(maya.session.email).confirmed is None
    assert said(maya.enters(site.digits, CONFIRM))["reason"] == "confirmed"


def test_code_from_before_another_change_confirms_nothing(site, maya):
    email = maya.session.email
    maya.asks("", CONFIRM)
    site.accounts.change_with(maya.session, PASSWORD, NEW_PASSWORD)

    refused = maya.enters(site.digits, CONFIRM)

    assert said(refused)["reason"] == "expired"
    assert site.credentials(email).confirmed is None


def test_address_that_is_confirmed_already_stays_as_it_is(site, maya):
    maya.asks("", CONFIRM)
    first, step = site.digits, maya.step
    other = site.browser()
    other.post("/session", email=maya.session.email, password=PASSWORD, next="/")
    maya.enters(first, CONFIRM)
    before = site.credentials(maya.session.email)

    other.asks("", CONFIRM)
    assert said(other.enters(site.digits, CONFIRM))["reason"] == "confirmed"

    assert site.credentials(maya.session.email) == before
    assert step != other.step


def test_visitor_without_a_session_confirms_nothing(site):
    assert "reason" not in said(site.browser().asks(new_email(), CONFIRM))
    assert site.mails == []
