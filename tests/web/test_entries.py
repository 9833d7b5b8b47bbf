"""Second factors at each way in and in proofs: what is asked for, how often it can be guessed, and who is told."""

import re
from base64 import b32decode, b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from services.domain import AccountRole
from services.domain.accounts import CredentialsAction
from services.domain.mails import CodePurpose, Notice, NoticeKind
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Accounts, Cookie
from services.store.credentials import seal_stored
from services.store.factors import turned_off
from services.store.steps import Steps
from services.store.tables.access import settings_of
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import ACCOUNTS, CREDENTIALS, NOTICES, SETTINGS, THROTTLES
from services.web.address_codes import NewAddress, RestoreAddress
from services.web.code_routes import CodeRoutes
from services.web.enrolments import Enrolments
from services.web.entries import Entries
from services.web.factor_check import FACTORS, FactorCheck
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_codes import ProveByCode, ResetPassword, SignInByCode
from services.web.sign_in_routes import SignInRoutes
from tests.authenticator import Authenticator, change_factor
from tests.confirmed import confirm, set_address
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, accounts_in_memory, cut_at
from tests.web.test_code_routes import NEW_PASSWORD, Site, said

pytestmark = pytest.mark.usefixtures("cheap_passwords")
RESET, BACK, NEW = (
    CodePurpose.RESET_PASSWORD,
    CodePurpose.RESTORE_ADDRESS,
    CodePurpose.NEW_ADDRESS,
)
WRONG = "wrong-factor"


@dataclass
class FactorSite(Site):
    """The routes of all ways in."""

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
        self.start = start = SessionStart(shared, self.attempts, origin, 3600, notices)
        flows = (
            SignInByCode(start),
            ResetPassword(start, lanes),
            NewAddress(notices),
            RestoreAddress(start, lanes),
            ProveByCode(FactorCheck(self.attempts, origin, notices)),
        )
        self.routes = [
            *CodeRoutes(shared, self.attempts, origin, self, flows).routes(),
            *SignInRoutes(start, lanes).routes(),
            *Entries(start).routes(),
            *Enrolments(Entries(start)).routes(),
        ]

    @property
    def told(self):
        return [one.kind for one in self.contents if isinstance(one, Notice)]


@dataclass
class User:
    """A user with a confirmed address and an authenticator."""

    site: FactorSite
    email: str
    app: Authenticator

    def begins(self, browser=None, password=PASSWORD):
        """Enter the password; return the browser."""
        browser = browser or self.site.browser()
        answer = browser.post("/session", email=self.email, password=password, next="/?c=1")
        browser.step = said(answer).get("step", "")
        return browser

    def gives(self, browser, text, **fields):
        """Enter *text* for the factor; return the query of the address that it leads to."""
        given = {"factor": text, "step": browser.step, "form": "factor", "next": "/?c=1"}
        return said(browser.post("/factor", **given | fields))

    def signed_in(self, steps=0):
        """Return a browser in which the user has signed in."""
        browser = self.begins()
        assert self.gives(browser, self.app.code(steps)) == {"c": "1"}
        return browser

    def asks(self, purpose, browser=None, **fields):
        """Have a code mailed and enter it; return the browser and what it was told."""
        browser = browser or self.site.browser()
        browser.asks(self.email, purpose)
        answer = said(browser.enters(self.site.digits, purpose, **fields))
        browser.step = answer.get("step", "")
        return browser, answer

    @property
    def credentials(self):
        return self.site.accounts.find(self.email, NOT_COUNTED).credentials


def is_in(browser):
    return "__Host-sid" in browser.cookies


def user_of(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    return User(site, email, Authenticator().enrol(site.accounts, session))


@pytest.fixture(params=["in-memory", pytest.param("embedded", marks=pytest.mark.long_run)])
def site(request):
    if request.param == "in-memory":
        return FactorSite(accounts_in_memory(InMemoryStore()))
    return FactorSite(request.getfixturevalue("sessions"))


@pytest.fixture
def maya(site):
    return user_of(site)


# --- sign-in


def test_password_leads_to_the_form_for_the_factor_which_signs_in(maya):
    browser = maya.begins()
    begun = is_in(browser)

    wrong = maya.gives(browser, maya.app.wrong)
    code = maya.app.code()
    right = maya.gives(browser, f" {code[:3]} {code[3:]}")

    assert not begun
    assert browser.step
    assert wrong == {"c": "1", "code": "factor", "step": browser.step, "reason": WRONG}
    assert right == {"c": "1"}
    assert browser.session.email == maya.email
    assert browser.cookies.keys() == {"__Host-sid", "__Host-device"}


def test_code_is_good_once_and_a_recovery_code_too(maya):
    code, recovery = maya.app.code(), maya.app.recovery[0]
    for text in (code, recovery.lower().replace("-", " ")):
        assert maya.gives(maya.begins(), text) == {"c": "1"}
    for text in (code, recovery):
        assert maya.gives(maya.begins(), text)["reason"] == WRONG

    assert maya.site.told == [NoticeKind.RECOVERY_CODE_USED]
    assert len(maya.credentials.recovery) == 9


@pytest.mark.parametrize("kind", ["code", "recovery code"])
def test_code_that_two_browsers_give_at_once_lets_one_in(maya, kind):
    code = maya.app.code() if kind == "code" else maya.app.recovery[0]
    browsers = [maya.begins() for _ in range(2)]

    answers = at_once(*[partial(maya.gives, one, code) for one in browsers])

    assert sorted(one.get("reason", "") for one in answers) == ["", WRONG]
    assert [is_in(one) for one in browsers].count(True) == 1


def test_third_last_recovery_code_is_told(maya):
    for code in maya.app.recovery[:7]:
        assert maya.gives(maya.begins(), code) == {"c": "1"}

    assert maya.site.told == [NoticeKind.RECOVERY_CODE_USED, NoticeKind.FEW_RECOVERY_CODES]


def test_wrong_password_learns_of_no_factor(maya):
    browser = maya.site.browser()

    answer = browser.post("/session", email=maya.email, password="not hers", next="/")

    assert said(answer) == {"reason": "wrong"}
    assert browser.cookies == {}


def test_mailed_code_leads_to_the_factor_which_signs_in(maya):
    browser, answer = maya.asks(CodePurpose.SIGN_IN)

    assert answer == {"c": "1", "code": "factor", "step": browser.step}
    assert not is_in(browser)
    assert maya.gives(browser, maya.app.code()) == {"c": "1"}
    assert is_in(browser)


def test_address_names_neither_user_nor_code(maya):
    browser = maya.begins()
    for text in (maya.app.wrong, maya.app.code()):
        given = {"factor": text, "step": browser.step, "form": "recovery", "next": "/"}
        answer = browser.post("/factor", **given)
        for secret in (text, maya.email, maya.email.partition("@")[0]):
            assert secret not in str(answer.headers) + answer.text


# --- steps


def test_factor_is_good_in_its_browser_and_for_its_step_alone(maya):
    omar, browser, other = user_of(maya.site), maya.begins(), maya.site.browser()
    omar.begins(other)
    own, other.step = other.step, browser.step

    stolen = maya.gives(other, maya.app.code())
    other.step = own
    of_another = maya.gives(other, maya.app.code())
    nowhere = maya.gives(maya.site.browser(), maya.app.code())
    no_step = maya.gives(browser, maya.app.code(), step="no step")

    assert stolen == nowhere == no_step == {"c": "1", "reason": "expired"}
    assert of_another["reason"] == WRONG
    assert not is_in(other)


def test_step_is_over_after_five_tries_and_after_the_sign_in(maya):
    browser = maya.begins()
    for _ in range(5):
        assert maya.gives(browser, maya.app.wrong)["reason"] == WRONG
    assert maya.gives(browser, maya.app.code()) == {"c": "1", "reason": "tries"}

    browser = maya.begins()
    cookies = browser.cookies
    assert maya.gives(browser, maya.app.recovery[0]) == {"c": "1"}
    browser.cookies = cookies
    assert maya.gives(browser, maya.app.recovery[1])["reason"] == "expired"


def test_tries_of_a_stranger_use_up_no_step(maya):
    browser, stranger = maya.begins(), maya.site.browser()
    user_of(maya.site).begins(stranger)
    stranger.step = browser.step

    for _ in range(5):
        assert maya.gives(stranger, maya.app.wrong)["reason"] == "expired"

    assert maya.gives(stranger, maya.app.wrong)["reason"] == "tries"
    assert maya.gives(browser, maya.app.code()) == {"c": "1"}


def test_step_that_two_tabs_end_at_once_begins_one_session(maya):
    browser = maya.begins()
    tabs = [replace(browser), replace(browser)]
    codes = maya.app.recovery

    answers = at_once(
        *[partial(maya.gives, one, code) for one, code in zip(tabs, codes, strict=False)]
    )

    assert sorted(one.get("reason", "") for one in answers) == ["", "expired"]


def test_password_changed_meanwhile_ends_the_step(maya):
    session, browser = maya.signed_in().session, maya.begins()
    accounts = maya.site.accounts
    found = accounts.find(maya.email, NOT_COUNTED)
    accounts.change_password(session, found, found.hashed(NEW_PASSWORD))

    assert maya.gives(browser, maya.app.code(1))["reason"] == "expired"
    assert not is_in(browser)


def test_step_that_ended_before_a_failure_is_not_offered_again(maya, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable

    browser = maya.begins()
    with monkeypatch.context() as changed:
        changed.setattr(type(maya.site.accounts), "sign_in", away)
        answer = maya.gives(browser, maya.app.code())

    assert answer == {"c": "1", "reason": "unavailable"}


# --- a new password


def test_reset_without_the_factor_changes_nothing(maya):
    known = maya.signed_in().session
    browser, answer = maya.asks(RESET, password=NEW_PASSWORD)
    added = str(maya.credentials.factor.since.date())

    assert answer == {"c": "1", "code": "factor", "step": browser.step, "added": added}
    wrong = maya.gives(browser, maya.app.wrong, added=added, keeps="yes")
    assert wrong == answer | {"reason": WRONG}
    assert not is_in(browser)
    assert maya.site.accounts.ended([known]) == {}
    maya.site.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    assert maya.site.told == []


@pytest.mark.parametrize("is_kept", [True, False])
def test_reset_with_the_factor_keeps_it_or_not(maya, is_kept):
    known = maya.signed_in().session
    browser, answer = maya.asks(RESET, password=NEW_PASSWORD)

    ticks = {"keeps": "yes"} if is_kept else {}
    assert maya.gives(browser, maya.app.code(1), added=answer["added"], **ticks) == {
        "c": "1",
        "reason": "password-reset",
    }

    assert browser.session.email == maya.email
    assert set(maya.site.accounts.ended([known])) == {known.id}
    assert (maya.credentials.factor is not None) is is_kept
    told = [NoticeKind.PASSWORD_RESET]
    assert sorted(maya.site.told) == sorted(told if is_kept else [*told, NoticeKind.FACTOR_REMOVED])
    again = maya.begins(password=NEW_PASSWORD)
    assert is_in(again) is not is_kept


def test_reset_during_which_the_factor_is_turned_off_counts_as_one_without(monkeypatch):
    maya = user_of(FactorSite(accounts_in_memory(InMemoryStore())))
    accounts, other = maya.site.accounts, maya.signed_in()
    change, removed = Accounts.change_password, CredentialsAction.FACTOR_REMOVED

    def change_late(*given, **options):
        monkeypatch.undo()
        now = accounts.current(Cookie.parse(other.cookies["__Host-sid"]))
        without = turned_off(now.credentials)
        assert accounts.change_credentials(other.session, without, now.stored, removed)
        return change(*given, **options)

    monkeypatch.setattr(Accounts, "change_password", change_late)
    browser, answer = maya.asks(RESET, password=NEW_PASSWORD)
    maya.gives(browser, maya.app.code(1), added=answer["added"], keeps="yes")

    assert is_in(browser)
    assert not maya.credentials.wants_factor

    @accounts.backend.tables.run
    def _(block):  # the rule that an admin sets
        block.put(SETTINGS, replace(settings_of(block), requires_factor=True))

    assert accounts.ended([browser.session])


def test_reset_during_which_the_factor_is_set_up_begins_anew(site, monkeypatch):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    maya, change = User(site, email, Authenticator()), Accounts.change_password

    def change_late(*given, **options):
        monkeypatch.undo()
        maya.app.enrol(site.accounts, session)
        return change(*given, **options)

    monkeypatch.setattr(Accounts, "change_password", change_late)
    browser, refused = maya.asks(RESET, password=NEW_PASSWORD)

    assert refused == {"c": "1", "code": RESET, "reason": "expired"}
    assert not is_in(browser)
    browser, _ = maya.asks(RESET, password=NEW_PASSWORD)
    assert maya.gives(browser, maya.app.code(1)) == {"c": "1", "reason": "password-reset"}


def test_reset_without_the_list_of_factors_keeps_them(maya):
    browser, _ = maya.asks(RESET, password=NEW_PASSWORD)

    assert maya.gives(browser, maya.app.code()) == {"c": "1", "reason": "password-reset"}
    assert maya.credentials.factor


def test_factor_leaves_by_no_sign_in(maya):
    """The field belongs to the form of a reset."""
    maya.gives(maya.begins(), maya.app.code(), added="2026-11-25")

    assert maya.credentials.factor


# --- an address taken back


def moved(user, browser):
    """Give the account another address, as a thief who is signed in does."""
    accounts, new = user.site.accounts, new_email()
    generation = accounts.find(user.email, NOT_COUNTED).stored.generation
    accounts.change_address(browser.session, new, generation)
    set_address(user.site.cache, browser.session.user_id, new)
    return new


def test_address_is_taken_back_with_the_factor_that_stood_before(maya):
    browser = maya.signed_in()
    moved(maya, browser)
    accounts, session = maya.site.accounts, browser.session
    change_factor(accounts, session, None, CredentialsAction.FACTOR_REMOVED)
    thief = Authenticator().enrol(accounts, session)

    back, answer = maya.asks(BACK, password=NEW_PASSWORD)

    assert answer == {"c": "1", "code": "factor", "step": back.step}
    assert maya.gives(back, thief.code(1))["reason"] == WRONG
    assert not is_in(back)
    change_factor(accounts, session, None, CredentialsAction.FACTOR_REMOVED)  # ends no step
    assert maya.gives(back, maya.app.recovery[0]) == {"c": "1", "reason": "address-restored"}
    assert back.session.email == maya.email
    assert maya.credentials.factor.secret == maya.app.secret
    assert is_in(maya.begins(password=NEW_PASSWORD)) is False
    with pytest.raises(SignedOut):
        browser.session.backend.account()


def test_address_without_a_factor_is_taken_back_without_the_one_of_a_thief(site):
    email = new_email()
    cookie, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    thief, user = site.browser(), User(site, email, Authenticator())
    thief.cookies = {"__Host-sid": str(cookie)}
    moved(user, thief)
    user.app.enrol(site.accounts, thief.session)

    back, answer = user.asks(BACK, password=NEW_PASSWORD)

    assert answer == {"c": "1", "reason": "address-restored"}
    assert back.session.email == email
    assert user.credentials.factor is None


# --- proofs


def proves(browser, text, password=PASSWORD):
    return said(browser.post("/proof", password=password, factor=text, next="/account"))


def test_proof_needs_the_factor(maya):
    browser = maya.signed_in()

    assert proves(browser, "") == {"reason": "factor"}
    assert proves(browser, maya.app.wrong) == {"reason": WRONG}
    assert proves(browser, maya.app.code(1), "not hers") == {"reason": "wrong"}
    assert proves(browser, maya.app.code(1)) == {"reason": "proved"}
    assert proves(browser, maya.app.code(1)) == {"reason": WRONG}
    assert proves(browser, maya.app.recovery[0]) == {"reason": "proved"}
    assert proves(browser, maya.app.recovery[0]) == {"reason": WRONG}
    assert maya.site.told == [NoticeKind.RECOVERY_CODE_USED]


def test_new_address_wants_a_proof_by_the_factor(site):
    """A sign-in from before the factor was added is none."""
    email, new = new_email(), new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    maya = User(site, email, Authenticator())
    browser = maya.begins()
    maya.app.enrol(site.accounts, session)

    assert said(browser.asks(new, NEW))["reason"] == "prove"
    assert not site.mails
    assert proves(browser, "") == {"reason": "factor"}
    assert proves(browser, maya.app.code(1)) == {"reason": "proved"}
    assert said(browser.asks(new, NEW))["code"] == "new_address"
    assert said(browser.enters(site.digits, NEW))["reason"] == "moved"


def test_mailed_code_proves_with_the_factor_alone(maya):
    browser = maya.signed_in()
    browser.asks(maya.email, CodePurpose.PROVE)

    def enters(text):
        return said(browser.enters(maya.site.digits, CodePurpose.PROVE, factor=text))

    assert enters("")["reason"] == "factor"
    assert enters(maya.app.wrong)["reason"] == WRONG
    assert enters(maya.app.code(1)) == {"c": "1", "reason": "proved"}
    assert enters(maya.app.recovery[0])["reason"] == "expired"


def test_proof_by_the_factor_of_another_is_none(maya):
    omar = user_of(maya.site)

    assert proves(maya.signed_in(), omar.app.code()) == {"reason": WRONG}


def test_guesses_at_the_factor_of_a_proof_are_throttled():
    site = FactorSite(accounts_in_memory(InMemoryStore()))
    maya = user_of(site)
    browser, reasons = maya.signed_in(), []
    for _ in range(2):
        reasons += [proves(browser, maya.app.wrong)["reason"] for _ in range(6)]
        minutes_pass(site, 15)  # the password has a quarter of an hour

    assert reasons == [WRONG] * 10 + ["slow"] * 2
    assert proves(browser, maya.app.recovery[0]) == {"reason": "proved"}


# --- guesses


def guesses(user, browser, times, text=None):
    """Enter a wrong code *times*, over as many steps as it takes; return the reasons."""
    reasons = []
    for number in range(times):
        if number % 5 == 0:
            user.begins(browser)
        reasons.append(user.gives(browser, text or user.app.wrong)["reason"])
    return reasons


def minutes_pass(site, minutes):
    """For the throttles alone."""

    def forget(block):
        for counter in block.select(THROTTLES):
            if counter.window_ends <= datetime.now(UTC) + timedelta(minutes=minutes):
                block.delete(THROTTLES, counter.bucket)

    site.accounts.backend.all_tables.of(None).run(forget)


def test_factor_guessed_over_many_steps_is_throttled(maya):
    reasons = [reason for _ in range(3) for reason in guesses(maya, maya.site.browser(), 4)]

    assert reasons == [WRONG] * 10 + ["slow"] * 2
    browser = maya.begins()
    assert maya.gives(browser, maya.app.code())["reason"] == "slow"
    assert maya.gives(browser, maya.app.recovery[0], form="recovery") == {"c": "1"}


def test_wrong_recovery_codes_use_nothing_up(maya):
    other = Authenticator().recovery[0]

    assert guesses(maya, maya.site.browser(), 12, other) == [WRONG] * 12
    assert maya.gives(maya.begins(), maya.app.code()) == {"c": "1"}


def test_right_factor_gets_its_try_back(maya):
    browser = maya.site.browser()
    assert guesses(maya, browser, 9) == [WRONG] * 9
    for steps in (0, 1):
        assert maya.gives(maya.begins(), maya.app.code(steps)) == {"c": "1"}
    assert guesses(maya, maya.site.browser(), 2) == [WRONG, "slow"]


def test_strangers_lock_no_user_out_of_a_browser_with_the_factor(maya):
    browser = maya.signed_in()
    guesses(maya, maya.site.browser(), 11)

    own = browser.cookies["__Host-device"]
    assert guesses(maya, browser, 10) == [WRONG] * 10
    assert guesses(maya, browser, 1) == ["slow"]
    assert browser.cookies["__Host-device"] == own


def test_crowd_locks_no_user_out_of_the_steps_of_a_known_device(site):
    """The steps of its network address are used up; a known device has as many of its own."""
    site = FactorSite(site.accounts, limits={"steps_of_an_address": 2})
    maya, omar = user_of(site), user_of(site)
    known = maya.signed_in()
    stranger = replace(known, cookies={}, step="")  # at the same network address
    assert omar.begins(stranger).step
    assert not omar.begins(known).step
    assert not maya.begins(stranger).step

    assert maya.begins(known).step
    assert maya.gives(known, maya.app.code(1)) == {"c": "1"}

    assert [bool(maya.begins(known).step) for _ in range(3)] == [True, True, False]


def test_device_known_by_the_password_alone_is_a_stranger(site):
    """A thief of the password makes as many devices as they like before the user adds a factor."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    user = User(site, email, Authenticator())
    thieves = [user.begins() for _ in range(2)]
    assert all(map(is_in, thieves))
    age_devices(site, thieves, session.user_id)
    user.app.enrol(site.accounts, session)

    assert [guesses(user, one, 8) for one in thieves] == [
        [WRONG] * 8,
        [WRONG] * 2 + ["slow"] * 6,
    ]


def age_devices(site, browsers, user_id, seconds=60):
    """Make the cookies of devices those of some time ago."""
    for one in browsers:
        seen = one.cookies["__Host-device"].split(".")
        fields = f"{user_id.hex}.{int(seen[1]) - seconds}.{int(seen[2]) - seconds}.{uuid4().hex}"
        tag = site.accounts.root_keys.device_tag(fields)
        one.cookies = {**one.cookies, "__Host-device": f"{fields}.{tag}"}


def test_new_password_empties_the_count(maya):
    browser, stranger = maya.signed_in(), maya.site.browser()
    guesses(maya, stranger, 11)
    accounts = maya.site.accounts
    found = accounts.find(maya.email, NOT_COUNTED)
    accounts.change_password(browser.session, found, found.hashed(NEW_PASSWORD))

    fresh = maya.begins(password=NEW_PASSWORD)

    assert maya.gives(fresh, maya.app.code(1)) == {"c": "1"}


def test_day_of_guesses_has_thirty():
    site = FactorSite(accounts_in_memory(InMemoryStore()))
    maya, reasons = user_of(site), []
    for _ in range(4):
        reasons += guesses(maya, site.browser(), 10)
        minutes_pass(site, 60)

    assert reasons == [WRONG] * 30 + ["slow"] * 10


def test_wrong_codes_of_a_device_known_by_the_password_alone_are_told(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    user = User(site, email, Authenticator())
    thief = user.begins()
    age_devices(site, [thief], session.user_id)
    user.app.enrol(site.accounts, session)

    guesses(user, thief, 3)

    assert site.told[-1] == NoticeKind.WRONG_FACTORS


def test_third_wrong_code_of_an_unknown_device_is_told(maya):
    known = maya.signed_in()
    guesses(maya, known, 4)
    for _ in range(2):
        guesses(maya, maya.site.browser(), 2)
    assert maya.site.told == []

    guesses(maya, maya.site.browser(), 3)

    assert maya.site.told == [NoticeKind.WRONG_FACTORS]
    assert maya.site.mails[-1].address == maya.email


def test_five_wrong_codes_of_a_step_are_told_once():
    site = FactorSite(accounts_in_memory(InMemoryStore()))
    maya = user_of(site)
    guesses(maya, site.browser(), 5)

    user_id = site.accounts.find(maya.email, NOT_COUNTED).stored.user_id
    tables = site.accounts.backend.all_tables.of(user_id)
    stored = tables.run(lambda block: block.select(NOTICES))
    assert [one.kind for one in stored] == [NoticeKind.WRONG_FACTORS]


# --- a factor that the deployment requires


@pytest.fixture
def strict():
    """A site whose admin requires second factors, and its admin."""
    site = FactorSite(accounts_in_memory(InMemoryStore()))
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    admin = User(site, email, Authenticator().enrol(site.accounts, session))
    maya = new_email()
    _, hers = site.accounts.sign_up_with(maya, PASSWORD)
    confirm(site.accounts, hers)
    tables = site.accounts.backend.all_tables.of(session.user_id)

    def promote(block):
        account = block.get(ACCOUNTS, session.user_id)
        block.put(ACCOUNTS, replace(account, role=AccountRole.ADMIN))

    tables.run(promote)
    session.backend.administration.require_factor(is_on=True)
    return User(site, maya, Authenticator()), admin


def sets_up(user, browser):
    """Have the setup key shown; the user's app takes it."""
    answer = browser.post("/factor/enrol", step=browser.step, next="/?c=1")
    key = re.search('data-copy="(.*?)"', answer.text)[1]
    user.app.secret = b32decode(b64decode(key))
    assert answer.headers["cache-control"] == "no-store"
    return browser


def test_setup_key_is_shown_again_at_most_five_times(strict):
    maya, _ = strict
    browser = maya.begins()
    for _ in range(6):
        sets_up(maya, browser)

    assert said(browser.post("/factor/enrol", step=browser.step))["reason"] == "tries"


def confirms(user, browser, text=None):
    given = {"code": text or user.app.code(), "step": browser.step, "next": "/?c=1"}
    return browser.post("/factor/enrol/confirm", **given)


def recovery_codes(answer):
    return re.findall("<li><code>(.*?)</code></li>", answer.text)


def test_required_factor_is_set_up_before_the_session_begins(strict):
    maya, _ = strict
    browser = maya.begins()
    before = is_in(browser)

    sets_up(maya, browser)
    wrong = confirms(maya, browser, maya.app.wrong)
    between = is_in(browser)
    codes = recovery_codes(confirms(maya, browser))

    assert (before, between) == (False, False)
    assert "Wrong code" in wrong.text
    assert len(set(codes)) == 10
    assert browser.session.email == maya.email
    assert len(maya.credentials.recovery) == 10
    assert maya.site.told == [NoticeKind.FACTOR_ADDED]
    assert "Recovery codes already shown" in confirms(maya, browser).text
    assert maya.gives(maya.begins(), codes[0]) == {"c": "1"}


def test_code_by_mail_skips_no_required_factor(strict):
    maya, _ = strict
    for purpose in (CodePurpose.SIGN_IN, RESET):
        fields = {"password": NEW_PASSWORD} if purpose == RESET else {}
        browser, answer = maya.asks(purpose, **fields)
        assert answer == {"c": "1", "code": "enrol_factor", "step": browser.step}
        assert not is_in(browser)
        assert maya.gives(browser, maya.app.code())["reason"] == "expired"
        unseen = confirms(maya, browser)
        assert said(unseen)["reason"] == "expired"
    assert maya.site.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)


def test_reset_sets_up_the_required_factor_and_the_password(strict):
    maya, _ = strict
    browser, _ = maya.asks(RESET, password=NEW_PASSWORD)

    assert recovery_codes(confirms(maya, sets_up(maya, browser)))

    assert is_in(browser)
    assert maya.credentials.factor.secret == maya.app.secret
    assert maya.gives(maya.begins(password=NEW_PASSWORD), maya.app.code(1)) == {"c": "1"}


def test_factor_that_another_adds_meanwhile_is_not_skipped_by_a_reset(strict, monkeypatch):
    maya, _ = strict
    browser, _ = maya.asks(RESET, password=NEW_PASSWORD)
    sets_up(maya, browser)
    own = Authenticator()
    accounts = maya.site.accounts
    sign_in = type(accounts).sign_in

    def overtaken(self, checked, *arguments, **options):
        changed.undo()
        found = accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
        enrolled = FACTORS.enrolled(found.credentials, own.secret, own.code(), ())
        sign_in(self, replace(found, has_factor=True, used=enrolled))
        return sign_in(self, checked, *arguments, **options)

    with monkeypatch.context() as changed:
        changed.setattr(type(accounts), "sign_in", overtaken)
        answer = confirms(maya, browser)

    assert said(answer)["reason"] == "expired"
    assert not is_in(browser)
    assert maya.credentials.factor.secret == own.secret
    assert accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)


def test_required_factor_leaves_by_no_reset(strict):
    _, admin = strict
    browser, answer = admin.asks(RESET, password=NEW_PASSWORD)

    refused = admin.gives(browser, admin.app.code(), added=answer["added"])

    assert refused == answer | {"reason": "factor-required", "gone": "keeps"}
    assert admin.gives(browser, admin.app.code(), added=answer["added"], keeps="yes") == {
        "c": "1",
        "reason": "password-reset",
    }


def test_address_is_taken_back_with_a_new_factor_where_one_is_required(strict):
    maya, _ = strict
    thief = maya.begins()
    confirms(maya, sets_up(maya, thief))
    moved(maya, thief)

    back, answer = maya.asks(BACK, password=NEW_PASSWORD)
    assert answer == {"c": "1", "code": "factor", "step": back.step}

    omar = User(maya.site, new_email(), Authenticator())
    browser = omar.site.browser()
    signs_up(omar, browser)
    confirms(omar, sets_up(omar, browser))
    confirm(omar.site.accounts, browser.session)
    change_former(omar, browser)
    back, answer = omar.asks(BACK, password=NEW_PASSWORD)
    assert answer["code"] == "enrol_factor"
    assert recovery_codes(confirms(omar, sets_up(omar, back)))
    assert back.session.email == omar.email
    assert omar.credentials.factor.secret == omar.app.secret


def change_former(user, browser):
    """Leave the address as an account without a factor, from before one was required."""
    accounts, session = user.site.accounts, browser.session
    found = accounts.find(user.email, NOT_COUNTED)
    bare = replace(found.credentials, factor=None)
    accounts_before = user.site.accounts.backend.all_tables.of(session.user_id)

    def forget(block):
        row = block.get(CREDENTIALS, session.user_id)
        sealed = seal_stored(accounts.root_keys, bare, session.user_id)
        block.put(CREDENTIALS, replace(row, sealed=sealed.sealed, wants_factor=False))

    accounts_before.run(forget)
    moved(user, browser)


def signs_up(user, browser):
    answer = browser.post("/account", email=user.email, password=PASSWORD, next="/?c=1")
    browser.step = said(answer).get("step", "")
    return said(answer)


def test_sign_up_sets_up_the_required_factor(strict):
    maya, _ = strict
    omar = User(maya.site, new_email(), Authenticator())
    browser = omar.site.browser()

    assert signs_up(omar, browser)["code"] == "enrol_factor"
    assert omar.site.accounts.find(omar.email, NOT_COUNTED).stored is None
    assert recovery_codes(confirms(omar, sets_up(omar, browser)))

    assert browser.session.email == omar.email
    assert is_in(omar.begins()) is False


def test_sign_up_that_is_over_before_the_factor_leads_to_another(strict):
    maya, _ = strict
    browser = maya.site.browser()
    begun = said(browser.post("/account", email=new_email(), password=PASSWORD, next="/?c=1"))
    given = {"step": begun["step"], "next": "/?c=1", "new": begun["new"]}

    for path in ("/factor/enrol", "/factor/enrol/confirm"):
        page = browser.post(path, **given, code="wrong").text
        over = said(browser.post(path, **given | {"step": uuid4()}))

        assert 'name="new" value="yes"' in page
        assert over == {"c": "1", "code": "sign_up", "reason": "expired"}


def test_sign_up_that_is_over_before_the_factor_keeps_its_invitation(strict):
    maya, _ = strict
    omar = User(maya.site, new_email(), Authenticator())
    browser, sign_up = omar.site.browser(), {"email": omar.email, "password": PASSWORD}
    begun = said(browser.post("/account", **sign_up, next="/?c=1", invite=" a code "))
    given = {"step": begun["step"], "next": "/?c=1", "new": begun["new"], "invite": begun["invite"]}

    for path in ("/factor/enrol", "/factor/enrol/confirm"):
        page = browser.post(path, **given, code="wrong").text
        over = said(browser.post(path, **given | {"step": uuid4()}))

        assert 'name="invite" value="a code"' in page
        assert 'href="/?c=1&amp;invite=a+code">Cancel<' in page
        assert over == {"c": "1", "code": "sign_up", "invite": "a code", "reason": "expired"}


@pytest.mark.parametrize("step", ["put_sign_up", "sign_up", "start_session"])
def test_cut_sign_up_sets_up_the_required_factor_when_it_goes_on(strict, step):
    maya, _ = strict
    omar, site = User(maya.site, new_email(), Authenticator()), maya.site
    browser, whole = site.browser(), site.cache.accounts
    signs_up(omar, browser)
    sets_up(omar, browser)
    site.cache.accounts = cut_at(whole, step, is_done=step == "put_sign_up")
    assert said(confirms(omar, browser)) == {"c": "1", "reason": "unavailable"}
    site.cache.accounts = whole
    assert site.accounts.find(omar.email, NOT_COUNTED).stored.user_id is None

    again = omar.begins()

    assert not is_in(again)
    assert recovery_codes(confirms(omar, sets_up(omar, again)))
    assert again.session.email == omar.email
    assert omar.credentials.factor.secret == omar.app.secret
    assert not is_in(omar.begins())


def test_sign_up_that_waits_for_a_link_sets_up_one_factor_after_it(strict, monkeypatch):
    """Supabase Auth mails the link, and refuses the sign-in until it is followed."""
    maya, _ = strict
    omar = User(maya.site, new_email(), Authenticator())
    sign_in = type(omar.site.accounts.backend.sign_in)

    with monkeypatch.context() as auth:
        auth.setattr(sign_in, "confirms_addresses", lambda _: True)
        assert signs_up(omar, omar.site.browser()) == {
            "code": "sign_up",
            "reason": "confirm",
            "c": "1",
        }
    browser = omar.begins()
    assert recovery_codes(confirms(omar, sets_up(omar, browser)))

    assert browser.session.email == omar.email
    assert omar.credentials.factor.secret == omar.app.secret
    tables = omar.site.accounts.backend.all_tables.of(browser.session.user_id)
    assert tables.run(lambda block: block.select(NOTICES)) == []  # the account is new


def test_setup_key_is_of_its_browser_and_step(strict):
    maya, _ = strict
    browser, other = maya.begins(), maya.site.browser()
    other.step = browser.step
    first = sets_up(maya, browser).cookies and maya.app.secret

    stolen = other.post("/factor/enrol", step=browser.step, next="/")
    sets_up(maya, maya.begins())

    assert said(stolen) == {"reason": "expired"}
    assert maya.app.secret != first
    assert is_in(browser) is False


def test_page_of_the_setup_key_that_is_sent_again_shows_the_same_key(strict):
    """A phone loads the page again after its user was in the authenticator app, which already has the key."""
    maya, _ = strict
    browser = sets_up(maya, maya.begins())
    first = maya.app.secret

    sets_up(maya, browser)

    assert maya.app.secret == first
    assert recovery_codes(confirms(maya, browser))


def test_step_of_a_new_factor_expires_though_its_key_is_shown_again(strict):
    maya, _ = strict
    browser, accounts = maya.begins(), maya.site.accounts
    cookie = Cookie.parse(browser.cookies["__Host-step"])
    attempt = Steps(accounts.backend, accounts.root_keys).attempt
    before = attempt(cookie, "enrol_factor", UUID(browser.step), None)

    sets_up(maya, browser)

    assert attempt(cookie, "enrol_factor", before.id, None).expires_at == before.expires_at


def test_refused_setup_in_a_reset_leads_back_with_what_was_unticked(strict, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable

    maya, _ = strict
    browser, answer = maya.asks(RESET, password=NEW_PASSWORD)
    listed = {"ways": "passkey.2025-03-09T12:30Z.0123456789abcdef"}
    given = {"step": browser.step, "next": "/?c=1"} | listed
    gone = f"keeps-{listed['ways']}"
    expected = answer | listed | {"reason": "unavailable", "gone": gone}
    with monkeypatch.context() as changed:
        changed.setattr(Steps, "renew", away)
        assert said(browser.post("/factor/enrol", **given)) == expected

    page = browser.post("/factor/enrol", **given).text
    assert f'name="gone" value="{gone}"' in page
    monkeypatch.setattr(Steps, "attempt", away)
    refused = browser.post("/factor/enrol/confirm", code="000000", gone=gone, **given)
    assert said(refused) == expected


def test_step_of_a_new_factor_ends_before_a_failure(strict, monkeypatch):
    def away(*_, **__):
        raise StoreUnavailable

    maya, _ = strict
    browser = sets_up(maya, maya.begins())
    with monkeypatch.context() as changed:
        changed.setattr(type(maya.site.accounts), "sign_in", away)
        answer = confirms(maya, browser)

    assert said(answer) == {"c": "1", "reason": "unavailable"}
