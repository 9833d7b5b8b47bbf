"""The codes of signed-in users, which prove who they are or change their address, and that take a former one back."""

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import pytest

from services.domain.mails import CodePurpose, NoCode, NoCodeReason, Notice, NoticeKind
from services.errors import SignedOut, WrongCredentials
from services.identity.mail_texts import text_of
from services.store.accounts import Accounts, Cookie
from services.store.tables import schema
from services.store.tables.in_memory import InMemoryStore
from services.web.address_codes import NewAddress, RestoreAddress
from services.web.code_routes import CodeRoutes
from services.web.factor_check import FactorCheck
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_codes import ProveByCode
from services.web.sign_in_routes import SignInRoutes
from tests.confirmed import confirm, set_address
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, accounts_in_memory
from tests.web.test_code_routes import (
    NEW_PASSWORD,
    Site,
    another,
    let_a_minute_pass,
    said,
    suspend,
)

pytestmark = pytest.mark.usefixtures("cheap_passwords")
NEW, BACK, PROVE = CodePurpose.NEW_ADDRESS, CodePurpose.RESTORE_ADDRESS, CodePurpose.PROVE
CHANGED, FORMER = Notice(NoticeKind.ADDRESS_CHANGED), Notice(NoticeKind.FORMER_ADDRESS)


@dataclass
class AddressSite(Site):
    """The routes of these codes, and of sign-in."""

    def __post_init__(self):
        super().__post_init__()
        cache, origin, lanes = self.cache, Origin(None, 0), HashingLanes()
        one = SimpleNamespace(
            session_cache=cache,
            set_address=partial(set_address, cache),
            outdate_sign_in_details=lambda _: None,
            stop_turns_of=lambda *_: None,
            user_of=self.user_of,
        )
        shared = lambda: one  # noqa: E731
        notices = Notices(self.attempts, origin, self.send)
        start = SessionStart(shared, self.attempts, origin, 3600, notices)
        flows = (
            NewAddress(notices),
            RestoreAddress(start, lanes),
            ProveByCode(FactorCheck(self.attempts, origin, notices)),
        )
        self.routes = [
            *CodeRoutes(shared, self.attempts, origin, self, flows).routes(),
            *SignInRoutes(start, lanes).routes(),
        ]

    def signed_in(self, email, password=PASSWORD):
        browser = self.browser()
        browser.post("/session", email=email, password=password, next="/")
        return browser


@pytest.fixture
def site():
    return AddressSite(accounts_in_memory(InMemoryStore()))


@pytest.fixture
def maya(site):
    """The address of a user who has confirmed it."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    return email


def asks(browser, email):
    return browser.asks(email, NEW)


def moved(site, email):
    """Change the address *email*; return the browser and the new one."""
    browser, new = site.signed_in(email), new_email()
    asks(browser, new)
    assert said(browser.enters(site.digits, NEW))["reason"] == "moved"
    return browser, new


def forget_proofs(site):
    @site.accounts.backend.tables.run
    def _(block):
        for one in block.select(schema.SESSIONS):
            block.put(schema.SESSIONS, replace(one, proved_at=None))


def open_steps(site):
    tables = site.accounts.backend.all_tables.of(None)
    return tables.run(lambda block: block.select(schema.STEPS))


def test_code_to_the_new_address_changes_it_and_both_are_told(site, maya):
    browser, elsewhere, new = site.signed_in(maya), site.signed_in(maya), new_email()

    sent = asks(browser, new)
    entered = browser.enters(site.digits, NEW)

    assert said(sent) == {"c": "1", "code": "new_address", "step": browser.step}
    assert said(entered) == {"c": "1", "reason": "moved"}
    assert open_steps(site) == []
    told = [(mail.address, mail.content) for mail in site.mails]
    assert told[0][0] == new
    assert told[1:] == [(maya, FORMER), (new, CHANGED)]
    assert browser.session.email == elsewhere.session.email == new
    assert site.accounts.sign_in_with(new, PASSWORD)
    with pytest.raises(WrongCredentials):
        site.accounts.sign_in_with(maya, PASSWORD)


def test_new_address_wants_a_recent_proof_and_a_session(site, maya):
    browser, new = site.signed_in(maya), new_email()
    forget_proofs(site)

    unproven = said(asks(browser, new))
    nobody = said(asks(site.browser(), new))

    assert unproven == {"c": "1", "code": "new_address", "reason": "prove"}
    assert nobody == {"c": "1"}
    assert site.mails == []


def test_code_stays_good_where_the_proof_has_lapsed_before_it(site, maya):
    browser, new = site.signed_in(maya), new_email()
    asks(browser, new)
    waits = {"c": "1", "code": "new_address", "step": browser.step}
    forget_proofs(site)

    refused = said(browser.enters(site.digits, NEW))

    assert refused == waits | {"reason": "prove"}
    assert browser.session.email == maya
    proved = browser.post("/proof", password=PASSWORD, then=browser.step)
    assert proved.headers["location"] == f"/account?then={browser.step}&reason=proved"
    assert said(browser.enters(site.digits, NEW))["reason"] == "moved"


def test_another_code_for_a_new_address_wants_a_proof_that_is_good(site, maya):
    """And the code that was sent before stays good."""
    browser, new = site.signed_in(maya), new_email()
    asks(browser, new)
    step = browser.step
    let_a_minute_pass(site)
    assert said(browser.asks("", NEW, step=step))["step"] == step
    let_a_minute_pass(site)
    forget_proofs(site)

    refused = said(browser.asks("", NEW, step=step))

    assert refused == {"c": "1", "code": "new_address", "step": step, "reason": "prove"}
    assert len(site.mails) == 2
    browser.post("/proof", password=PASSWORD)
    browser.step = step
    assert said(browser.enters(site.digits, NEW))["reason"] == "moved"


def test_address_that_was_never_confirmed_is_told_nothing(site):
    """Its mailbox may be a stranger's."""
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)

    _, new = moved(site, email)

    assert [(mail.address, mail.content) for mail in site.mails[1:]] == [(new, CHANGED)]


@pytest.mark.parametrize("who", ["free", "taken", "reserved"])
def test_new_address_is_answered_alike_whoever_has_it(site, maya, who):
    omar = new_email()
    site.accounts.sign_up_with(omar, PASSWORD)
    browser, site_mails = site.signed_in(omar), site.mails
    if who == "reserved":
        moved(site, maya)
        site_mails.clear()
    email = new_email() if who == "free" else maya
    began = site.clock.now

    answer = asks(browser, email)
    wrong = browser.enters("00000000", NEW)

    assert said(answer) == {"c": "1", "code": "new_address", "step": browser.step}
    assert said(wrong) == said(answer) | {"reason": "wrong-code"}
    assert site.clock.now - began == pytest.approx(0.8, abs=0.05)
    [content] = site.contents
    assert (content == NoCode(NoCodeReason.TAKEN)) == (who != "free")


def test_session_with_the_address_of_another_is_not_proven(site, maya, monkeypatch):
    """The password of another account, which has the address by now, proves nothing in this one."""
    omar = new_email()
    site.accounts.sign_up_with(omar, NEW_PASSWORD)
    browser, find = site.signed_in(maya), type(site.accounts).find
    monkeypatch.setattr(
        type(site.accounts), "find", lambda self, _, throttles: find(self, omar, throttles)
    )

    assert said(browser.post("/proof", password=NEW_PASSWORD))["reason"] == "wrong"


@pytest.fixture
def elsewhere(site, maya):
    """A browser whose user has another address since, by a change in another process; and that address."""
    browser, email = site.signed_in(maya), new_email()
    generation = site.accounts.find(maya, NOT_COUNTED).stored.generation
    site.accounts.change_address(browser.session, email, generation)
    assert browser.session.email == maya
    return browser, email


def test_password_proves_after_a_change_of_address_elsewhere(site, elsewhere):
    browser, email = elsewhere

    proven = browser.post("/proof", password=PASSWORD, next="/account")

    assert said(proven) == {"reason": "proved"}
    assert browser.session.email == email


def test_account_is_deleted_by_the_address_that_it_has_elsewhere(site, maya, elsewhere):
    browser, email = elsewhere

    refused, deleted = (browser.post("/account/end", address=one) for one in (maya, email))

    assert said(refused) == {"reason": "email"}
    assert said(deleted) == {"reason": "deleted"}


def test_address_changes_again_after_a_change_elsewhere(site, elsewhere):
    browser, email = elsewhere
    asks(browser, new := new_email())
    set_address(site.cache, browser.session.user_id, new_email())  # another process takes the code

    entered = browser.enters(site.digits, NEW)

    assert said(entered)["reason"] == "moved"
    assert [mail.address for mail in site.mails[1:]] == [email, new]
    assert said(asks(browser, new))["reason"] == "taken"


def test_own_address_is_refused(site, maya):
    assert said(asks(site.signed_in(maya), maya.upper()))["reason"] == "taken"


def test_session_that_ends_meanwhile_is_told_so(site, maya, monkeypatch):
    browser = site.signed_in(maya)
    asks(browser, new_email())

    def ended(*_):
        raise SignedOut

    monkeypatch.setattr(Accounts, "change_address", ended)

    assert said(browser.enters(site.digits, NEW)) == {"c": "1", "reason": "signed-out"}


def test_code_of_another_session_changes_nothing(site, maya):
    browser, thief, new = site.signed_in(maya), site.signed_in(maya), new_email()
    asks(browser, new)
    thief.cookies["__Host-step"], thief.step = browser.cookies["__Host-step"], browser.step

    assert said(thief.enters(site.digits, NEW))["reason"] == "expired"

    assert browser.session.email == maya


def test_code_for_a_new_address_ends_with_a_new_password(site, maya):
    browser = site.signed_in(maya)
    asks(browser, new_email())
    site.accounts.change_with(browser.session, PASSWORD, NEW_PASSWORD)

    assert said(browser.enters(site.digits, NEW))["reason"] == "expired"

    assert site.accounts.sign_in_with(maya, NEW_PASSWORD)


def test_password_changes_after_the_address_in_the_same_session(site, maya):
    browser, new = moved(site, maya)

    answer = browser.post("/account/password", current=PASSWORD, password=NEW_PASSWORD)

    assert said(answer) == {"reason": "changed"}
    assert site.accounts.sign_in_with(new, NEW_PASSWORD)


def test_former_address_is_taken_back_by_its_mailbox(site, maya):
    thief, stolen = moved(site, maya)
    site.accounts.change_with(thief.session, PASSWORD, "a thief's own password")
    before = Cookie.parse(thief.cookies["__Host-sid"])
    browser = site.browser()
    site.mails.clear()

    sent = browser.asks(maya, BACK)
    digits = site.digits
    back = browser.enters(digits, BACK, password=NEW_PASSWORD)

    assert said(sent) == {"c": "1", "code": "restore_address", "step": browser.step}
    assert back.headers["location"] == "/?c=1&reason=address-restored"
    assert open_steps(site) == []
    assert browser.session.email == maya
    told = [(mail.address, mail.content) for mail in site.mails[1:]]
    assert told == [(maya, CHANGED), (stolen, CHANGED)]
    with pytest.raises(SignedOut):
        site.accounts.open(before)
    for email, password in (
        (maya, PASSWORD),
        (maya, "a thief's own password"),
        (stolen, NEW_PASSWORD),
    ):
        with pytest.raises(WrongCredentials):
            site.accounts.sign_in_with(email, password)
    assert site.accounts.sign_in_with(maya, NEW_PASSWORD)


def test_change_by_the_thief_ends_no_step_of_the_way_back(site, maya):
    thief, _ = moved(site, maya)
    browser = site.browser()
    browser.asks(maya, BACK)
    digits = site.digits

    site.accounts.change_with(thief.session, PASSWORD, "a thief's own password")

    back = browser.enters(digits, BACK, password=NEW_PASSWORD)
    assert back.headers["location"] == "/?c=1&reason=address-restored"


def test_weak_password_leaves_the_code_of_the_way_back_good(site, maya):
    moved(site, maya)
    browser = site.browser()
    browser.asks(maya, BACK)
    digits = site.digits

    refused = said(browser.enters(digits, BACK, password="short"))

    assert (refused["reason"], refused["step"]) == ("weak", browser.step)
    assert (
        browser.enters(digits, BACK, password=NEW_PASSWORD).headers["location"]
        == "/?c=1&reason=address-restored"
    )


@pytest.mark.parametrize("who", ["unknown", "account", "former", "suspended"])
def test_way_back_is_answered_alike_for_every_address(site, maya, who):
    if who in {"former", "suspended"}:
        new = moved(site, maya)[1]
    if who == "suspended":
        suspend(site, new)
    site.mails.clear()
    browser, began = site.browser(), site.clock.now

    answer = browser.asks(new_email() if who == "unknown" else maya, BACK)
    digits = another(site.digits) if who == "former" else "00000000"
    wrong = browser.enters(digits, BACK, password=NEW_PASSWORD)

    assert said(answer) == {"c": "1", "code": "restore_address", "step": browser.step}
    assert said(wrong) == said(answer) | {"reason": "wrong-code"}
    assert site.clock.now - began == pytest.approx(0.8, abs=0.05)
    assert len(site.mails) == (who == "former")


def test_notice_to_the_former_address_names_the_page_and_no_link(site, maya):
    moved(site, maya)

    [mail] = [mail for mail in site.mails if mail.content == FORMER]

    text = text_of(mail).plain()
    assert "Undo a change of email address" in text
    assert "http" not in text


# --- a proof by a code


def test_code_proves_who_is_signed_in_once(site, maya):
    browser = site.signed_in(maya)
    forget_proofs(site)
    assert said(browser.post("/account/password", password=NEW_PASSWORD))["reason"] == "prove"

    browser.asks("", PROVE)
    entered, again = (browser.enters(site.digits, PROVE) for _ in range(2))

    assert [(mail.address, mail.content.purpose) for mail in site.mails] == [(maya, PROVE)]
    assert said(entered) == {"c": "1", "reason": "proved"}
    assert said(again)["reason"] == "expired"
    assert said(browser.post("/account/password", password=NEW_PASSWORD))["reason"] == "changed"


def test_code_that_a_copied_cookie_enters_after_a_proof_proves_nothing(site, maya):
    browser, thief = site.signed_in(maya), site.browser()
    thief.cookies = dict(browser.cookies)
    browser.asks("", PROVE)
    thief.cookies["__Host-step"], thief.step = browser.cookies["__Host-step"], browser.step
    assert said(browser.post("/proof", password=PASSWORD))["reason"] == "proved"

    stolen = thief.enters(site.digits, PROVE)

    assert said(stolen) == {"c": "1"}
    assert thief.cookies["__Host-sid"] != browser.cookies["__Host-sid"]
    assert said(browser.enters(site.digits, PROVE))["reason"] == "proved"  # its step goes on


def test_code_to_an_address_that_was_never_confirmed_proves_nothing(site):
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)
    browser = site.signed_in(email)

    browser.asks("", PROVE)

    assert site.contents == [NoCode(NoCodeReason.UNCONFIRMED)]
    assert said(browser.enters("00000000", PROVE))["reason"] == "wrong-code"


def test_code_from_before_another_change_proves_nothing(site, maya):
    browser, elsewhere = site.signed_in(maya), site.signed_in(maya)
    forget_proofs(site)
    browser.asks("", PROVE)
    confirm(site.accounts, elsewhere.session)  # ends no session

    assert said(browser.enters(site.digits, PROVE))["reason"] == "expired"
