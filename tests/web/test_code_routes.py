"""The routes of codes: what they say, when, and what they mail, to users and to those who try to find them."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.testclient import TestClient

from services.domain.mails import CodePurpose, NoCode, NoCodeReason, Notice, NoticeKind
from services.errors import SignedOut, StoreUnavailable, WrongCredentials
from services.identity.mail_texts import text_of
from services.rules.accounts import FORMER_LIFE
from services.store.accounts import Accounts, Cookie
from services.store.codes import CodeRequest, recipient_of
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import ACCOUNTS, SESSIONS, THROTTLES
from services.users.devices import Devices
from services.users.session_cache import SessionCache
from services.web.attempts import Attempts
from services.web.code_routes import CodeRoutes
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.session_start import SessionStart
from services.web.sign_in_codes import ResetPassword, SignInByCode
from tests.confirmed import confirm
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, accounts_in_memory

pytestmark = pytest.mark.usefixtures("cheap_passwords")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
OURS = {"origin": "http://localhost", "sec-fetch-site": "same-origin", "user-agent": FIREFOX}
SIGN_IN, RESET = CodePurpose.SIGN_IN, CodePurpose.RESET_PASSWORD
NEW_PASSWORD = "another horse, another battery"


@dataclass
class Clock:
    """Seconds, which pass while somebody waits or looks."""

    now: float = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


@dataclass
class Site:
    """The routes of a process over tables in memory, and what they mail."""

    accounts: Accounts
    mails: list = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)
    limits: dict = field(default_factory=dict)
    is_full: bool = False  # the queue of mails

    def __post_init__(self):
        cache = SessionCache(
            self.accounts, on_leave=lambda _: nullcontext(), on_forget=lambda _: None
        )
        self.attempts = Attempts(
            self.accounts.root_keys,
            **(
                {"sign_ups_an_hour": 100, "clock": self.clock, "sleep": self.clock.sleep}
                | self.limits
            ),
        )
        self.cache, origin = cache, Origin(None, 0)
        shared = lambda: SimpleNamespace(session_cache=cache)  # noqa: E731
        notices = Notices(self.attempts, origin, self.send)
        start = SessionStart(shared, self.attempts, origin, 3600, notices)
        flows = SignInByCode(start), ResetPassword(start, HashingLanes()), OfSession()
        self.routes = CodeRoutes(shared, self.attempts, origin, self, flows).routes()

    @staticmethod
    def user_of(session):
        """Return a user whose devices have no reply under way."""
        return SimpleNamespace(devices=Devices(session, lambda *_: nullcontext()))

    def send(self, mail):
        """Take a mail, as a mailer does that has room; but none that tells of a device: a thread sends it."""
        if not self.is_full and mail.kind is not NoticeKind.NEW_DEVICE:
            self.mails.append(mail)
        return not self.is_full

    def has_room(self, *, is_known):
        return not self.is_full

    def browser(self, **headers):
        return Browser(
            self,
            TestClient(
                Starlette(routes=self.routes),
                base_url="http://localhost",
                client=(f"host-{uuid4()}", 50000),
                headers=OURS | headers,
                follow_redirects=False,
            ),
        )

    @property
    def contents(self):
        return [mail.content for mail in self.mails]

    @property
    def digits(self):
        return self.mails[-1].content.digits


@dataclass
class Browser:
    """A browser, which keeps its cookies."""

    site: Site
    client: TestClient
    cookies: dict = field(default_factory=dict)
    step: str = ""

    def post(self, path, **fields):
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.client.cookies.clear()  # over http the test's client would send no Secure cookie back
        answer = self.client.post(path, data=fields, headers={"cookie": sent})
        for text in answer.headers.get_list("set-cookie"):
            name, _, rest = text.partition("=")
            value = rest.partition(";")[0].strip('"')
            self.cookies = {**self.cookies, name: value} if value else self._without(name)
        return answer

    def _without(self, name):
        return {one: value for one, value in self.cookies.items() if one != name}

    def asks(self, email, purpose=SIGN_IN, **fields):
        answer = self.post("/code", purpose=purpose, email=email, next="/?c=1", **fields)
        self.step = said(answer).get("step", "")
        return answer

    def asks_raw(self, email):
        return self.post("/code", purpose=SIGN_IN, email=email, next="/")

    def enters(self, code, purpose=SIGN_IN, **fields):
        given = {"purpose": purpose, "step": self.step, "code": code, "next": "/?c=1"}
        return self.post("/code/redeem", **given | fields)

    @property
    def session(self):
        return self.site.cache.find(Cookie.parse(self.cookies["__Host-sid"]))


def said(answer):
    """Return the query of the address that an answer leads to."""
    assert answer.status_code == 303
    return {
        name: one for name, [one] in parse_qs(urlsplit(answer.headers["location"]).query).items()
    }


def another(digits):
    return f"{(int(digits) + 1) % 10**8:08}"


@pytest.fixture
def site():
    return Site(accounts_in_memory(InMemoryStore()))


def sign_up(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    return email, session


@pytest.fixture
def maya(site):
    """The address of a user who has confirmed it."""
    email, session = sign_up(site)
    confirm(site.accounts, session)
    return email


def test_code_signs_in_and_the_step_is_over(site, maya):
    browser = site.browser()

    sent = browser.asks(maya)
    entered = browser.enters(f" {site.digits[:4]} {site.digits[4:]}")

    [mail] = site.mails
    assert (mail.address, mail.content.purpose, mail.browser) == (maya, SIGN_IN, "Firefox on Linux")
    assert said(sent) == {"c": "1", "code": "sign_in", "step": browser.step}
    assert entered.headers["location"] == "/?c=1"
    assert browser.session.email == maya
    assert browser.cookies.keys() == {"__Host-sid", "__Host-device"}
    step = next(text for text in sent.headers.get_list("set-cookie"))
    assert step.startswith("__Host-step=")
    for flag in ("Max-Age=600", "HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert flag in step


def test_answer_names_neither_address_nor_code(site, maya):
    browser = site.browser()

    for answer in (browser.asks(maya), browser.enters(another(site.digits))):
        for text in (maya, maya.partition("@")[0], site.digits):
            assert text not in str(answer.headers) + answer.text


# --- enumeration


def let_a_minute_pass(site):
    """For the throttles alone: a step has ten."""

    def forget(block):
        for counter in block.select(THROTTLES):
            if counter.window_ends <= datetime.now(UTC) + timedelta(minutes=1):
                block.delete(THROTTLES, counter.bucket)

    site.accounts.backend.all_tables.of(None).run(forget)


def sessions_of(site, session):
    tables = site.accounts.backend.all_tables.of(session.user_id)
    rows = tables.run(lambda block: block.select(SESSIONS, {"user_id": session.user_id}))
    return {row.id for row in rows}


def somebody(site, kind, maya):
    """Return an address of a kind: each must be answered alike."""
    match kind:
        case "unknown":
            return new_email()
        case "unconfirmed":
            return sign_up(site)[0]
        case "suspended":
            email, session = sign_up(site)
            confirm(site.accounts, session)
            suspend(site, email)
            return email
        case "throttled":
            email, session = sign_up(site)
            confirm(site.accounts, session)
            for _ in range(5):
                site.browser().asks(email)
            return email
        case "no mail":
            site.is_full = True
    return maya


def suspend(site, email):
    def change(block):
        account = block.get(ACCOUNTS, user_id)
        block.put(ACCOUNTS, replace(account, suspended_at=datetime.now(UTC)))

    user_id = site.accounts.find(email, NOT_COUNTED).stored.user_id
    site.accounts.backend.all_tables.of(user_id).run(change)


ANSWERED_ALIKE = ("confirmed", "unknown", "unconfirmed", "suspended", "throttled", "no mail")


@pytest.mark.parametrize("purpose", [SIGN_IN, RESET])
def test_every_address_is_answered_alike_at_the_same_time(site, maya, purpose):
    answers, seen = {}, site.clock
    for kind in ANSWERED_ALIKE:
        email = somebody(site, kind, maya)
        browser, began = site.browser(), seen.now
        answer = browser.asks(email, purpose)
        wrong = [browser.enters("00000000", purpose, password=NEW_PASSWORD) for _ in range(6)]
        answers[kind] = (
            tuple(
                (
                    one.status_code,
                    one.text,
                    one.headers["location"].replace(browser.step, "STEP"),
                    [text.partition("=")[0] for text in one.headers.get_list("set-cookie")],
                )
                for one in (answer, *wrong)
            ),
            round(seen.now - began, 1),
        )

    assert len(set(map(str, answers.values()))) == 1, answers
    (first, *_), seconds = answers["unknown"]
    assert first[2] == f"/?c=1&code={purpose}&step=STEP"
    assert seconds == pytest.approx(0.4 * 7)


def test_mail_tells_nobody_but_the_user_of_the_mailbox(site, maya):
    for kind in ("unknown", "suspended", "unconfirmed"):
        site.browser().asks(somebody(site, kind, maya))

    assert site.contents == [NoCode(NoCodeReason.UNCONFIRMED)]


def test_work_of_another_length_is_answered_at_a_multiple_of_the_slot(site, maya, monkeypatch):
    find = Accounts.find

    def slow(accounts, *arguments):
        site.clock.now += 0.5
        return find(accounts, *arguments)

    monkeypatch.setattr(Accounts, "find", slow)
    site.browser().asks(maya)

    assert site.clock.now == pytest.approx(0.8, abs=0.01)


# --- guesses, browsers, sessions


def test_code_guessed_six_times_is_over(site, maya):
    browser = site.browser()
    browser.asks(maya)

    guesses = [said(browser.enters(another(site.digits))) for _ in range(5)]
    over = said(browser.enters(site.digits))

    wrong = {"c": "1", "code": "sign_in", "step": browser.step, "reason": "wrong-code"}
    assert guesses == [wrong] * 5
    assert over == {"c": "1", "code": "sign_in", "reason": "expired"}
    assert "__Host-sid" not in browser.cookies


def test_code_is_good_in_its_browser_and_for_its_purpose_alone(site, maya):
    browser, other = site.browser(), site.browser()
    other.asks(maya)
    browser.asks(maya)
    other.step = browser.step

    for answer in (
        other.enters(site.digits),
        site.browser().enters(site.digits, step=browser.step),
        browser.enters(site.digits, RESET, password=NEW_PASSWORD),
        browser.enters(site.digits, step="no id"),
        browser.enters(site.digits, step=str(uuid4())),
    ):
        assert said(answer)["reason"] == "expired"
    assert browser.enters(site.digits).headers["location"] == "/?c=1"


def test_code_is_good_once(site, maya):
    browser = site.browser()
    browser.asks(maya)
    kept = dict(browser.cookies)
    browser.enters(site.digits)

    browser.cookies = kept

    assert said(browser.enters(site.digits))["reason"] == "expired"


def test_code_of_a_browser_that_is_signed_in_ends_its_session(site, maya):
    browser = site.browser()
    browser.asks(maya)
    browser.enters(site.digits)
    before = Cookie.parse(browser.cookies["__Host-sid"])
    browser.asks(maya)

    browser.enters(site.digits)

    assert site.cache.find(before) is None
    assert browser.session.email == maya


class OfSession:
    """A purpose whose steps go on in a session alone, and which does nothing."""

    name, needs_session = "prove", True

    async def request_of(self, asked):
        return CodeRequest(address=asked.session.email)

    def recipient(self, asked, request, throttles):
        return recipient_of(asked.accounts.find(request.address, throttles), CodePurpose.PROVE)

    async def finish(self, asked, code):
        await run_sync(code.end)
        return RedirectResponse(f"{asked.target}?done=1", 303)


def test_code_of_a_session_is_good_in_that_session_alone(site, maya):
    browser = site.browser()
    browser.asks(maya)
    browser.enters(site.digits)
    session = browser.cookies["__Host-sid"]
    signed_out = site.browser()

    no_session = signed_out.post("/code", purpose="prove", next="/account")
    sent = browser.post("/code", purpose="prove", next="/account")
    given = {"purpose": "prove", "step": said(sent)["step"], "code": site.digits}
    other, _ = site.accounts.sign_in_with(maya, PASSWORD)
    for cookie, target in ((str(other), "expired"), (str(Cookie.new()), None)):
        browser.cookies["__Host-sid"] = cookie
        assert said(browser.post("/code/redeem", next="/account", **given)).get("reason") == target
    browser.cookies["__Host-sid"] = session
    done = browser.post("/code/redeem", next="/account", **given)

    assert no_session.headers["location"] == "/account"
    assert done.headers["location"] == "/account?done=1"


# --- another code


def test_another_code_ends_the_older_of_its_step(site, maya):
    browser = site.browser()
    browser.asks(maya)
    old, step = site.digits, browser.step
    let_a_minute_pass(site)

    browser.asks("", step=step)

    assert browser.step == step
    assert [str(mail.step) for mail in site.mails] == [step] * 2
    assert site.mails[-1].address == maya
    if old != site.digits:
        assert said(browser.enters(old))["reason"] == "wrong-code"
    assert browser.enters(site.digits).headers["location"] == "/?c=1"


def test_another_code_is_sent_once_a_minute_and_the_last_one_stays_good(site, maya):
    browser = site.browser()
    browser.asks(maya)
    step = browser.step

    for _ in range(6):
        refused = said(browser.asks("", step=step))
        assert (refused["step"], refused["reason"]) == (step, "slow")
    browser.step = step

    assert len(site.mails) == 1
    assert browser.enters(site.digits).headers["location"] == "/?c=1"


def test_codes_that_are_used_up_leave_the_last_one_its_tries(site, maya):
    browser = site.browser()
    browser.asks(maya)
    digits, step = site.digits, browser.step
    for _ in range(4):
        site.browser().asks(maya)
    site.mails.clear()

    for _ in range(6):
        let_a_minute_pass(site)
        assert said(browser.asks("", step=step)) == {"c": "1", "code": "sign_in", "step": step}
    browser.step = step

    assert site.mails == []
    assert browser.enters(digits).headers["location"] == "/?c=1"


def test_code_stays_valid_if_the_mail_with_another_is_refused(site, maya):
    browser = site.browser()
    browser.asks(maya)
    let_a_minute_pass(site)
    site.is_full = True

    browser.asks("", step=browser.step)

    assert browser.enters(site.digits).headers["location"] == "/?c=1"


def test_refused_mails_do_not_tell_whether_an_address_has_an_account(site, maya):
    def reasons(email):
        site.is_full = False
        browser = site.browser()
        browser.asks(email)
        site.is_full = True
        for _ in range(2):
            let_a_minute_pass(site)
            browser.asks("", step=browser.step)
            yield from [said(browser.enters("wrong"))["reason"] for _ in range(4)]

    expected = ["wrong-code"] * 5 + ["tries"] * 3
    assert [*reasons(maya)] == [*reasons(new_email())] == expected


def test_step_of_another_browser_gets_no_other_code(site, maya):
    browser, thief = site.browser(), site.browser()
    browser.asks(maya)
    let_a_minute_pass(site)

    refused = said(thief.asks("", step=browser.step))

    assert refused["reason"] == "expired"
    assert len(site.mails) == 1


# --- mail bombing


def test_strangers_have_five_codes_an_hour_mailed_to_an_address(site, maya):
    for _ in range(7):
        answer = site.browser().asks(maya)
        assert said(answer).keys() == {"c", "code", "step"}

    assert len(site.mails) == 5


def test_known_device_gets_its_code_while_strangers_use_up_theirs(site, maya):
    known = site.browser()
    known.asks(maya)
    known.enters(site.digits)
    for _ in range(7):
        site.browser().asks(maya)
    site.mails.clear()
    known.cookies = {"__Host-device": known.cookies["__Host-device"]}

    known.asks(maya)

    assert [mail.is_known for mail in site.mails] == [True]
    assert known.enters(site.digits).headers["location"] == "/?c=1"


def test_network_address_has_sixty_steps_a_quarter_of_an_hour(site):
    site = Site(site.accounts, limits={"steps_of_an_address": 2})
    browser = site.browser()

    answers = [said(browser.asks(new_email())) for _ in range(3)]

    assert ["step" in one for one in answers] == [True, True, False]
    assert answers[2]["reason"] == "slow"


def test_device_stays_as_old_as_its_first_sign_in(site, maya, monkeypatch):
    """So that its codes that reset the password are those of a known device, however often its user signs in."""
    browser, now = site.browser(), time.time()
    for seconds in (0, FORMER_LIFE.total_seconds()):
        monkeypatch.setattr("services.web.attempts.time.time", lambda at=now + seconds: at)
        browser.asks(maya)
        browser.enters(site.digits)
    site.mails.clear()

    browser.asks(maya, RESET)

    assert [mail.is_known for mail in site.mails] == [True]


# --- forms


def test_changed_host_leads_nowhere_else(site, maya):
    """No address of a host is made of a request: neither the redirect nor the mail holds one."""
    answer = site.browser(host="127.0.0.1", origin="http://127.0.0.1").asks(maya)

    assert answer.headers["location"].startswith("/?c=1&")
    assert "127.0.0.1" not in text_of(site.mails[0]).plain()


def test_unknown_purpose_is_no_page(site, maya):
    browser = site.browser()

    answers = (
        browser.post("/code", purpose="admin", email=maya),
        browser.post("/code/redeem", purpose="", step=str(uuid4()), code="1"),
    )

    assert [one.status_code for one in answers] == [404, 404]


@pytest.mark.parametrize("email", ["", "no address", "maya@corp.test,omar@corp.test"])
def test_what_is_no_address_is_told_so(site, email):
    assert said(site.browser().asks(email)) == {"c": "1", "code": "sign_in", "reason": "address"}
    assert site.mails == []


def test_code_stays_good_while_the_store_is_away(site, maya, monkeypatch):
    browser = site.browser()
    browser.asks(maya)

    def away(*_, **__):
        raise StoreUnavailable

    with monkeypatch.context() as changed:
        changed.setattr(Accounts, "find", away)
        refused = said(browser.enters(site.digits))

    assert (refused["reason"], refused["step"]) == ("unavailable", browser.step)
    assert browser.enters(site.digits).headers["location"] == "/?c=1"


# --- a new password


def reset(browser, **fields):
    given = {"purpose": RESET, "password": NEW_PASSWORD} | fields
    return browser.enters(browser.site.digits, **given)


def test_reset_sets_a_password_ends_other_sessions_and_is_told(site, maya):
    browser, elsewhere = site.browser(), site.browser()
    elsewhere.asks(maya)
    elsewhere.enters(site.digits)
    other = Cookie.parse(elsewhere.cookies["__Host-sid"])
    browser.asks(maya, RESET)

    answer = reset(browser)

    assert answer.headers["location"] == "/?c=1&reason=password-reset"
    assert browser.session.email == maya
    assert browser.cookies.keys() == {"__Host-sid", "__Host-device"}
    with pytest.raises(SignedOut):
        site.accounts.open(other)
    with pytest.raises(WrongCredentials):
        site.accounts.sign_in_with(maya, PASSWORD)
    assert site.accounts.sign_in_with(maya, NEW_PASSWORD)
    assert site.contents[-1] == Notice(NoticeKind.PASSWORD_RESET)
    assert (site.mails[-1].address, site.mails[-1].browser) == (maya, "Firefox on Linux")


def test_notice_of_a_reset_is_sent_once_an_hour(site, maya):
    for number in range(2):
        browser = site.browser()
        browser.asks(maya, RESET)
        reset(browser, password=NEW_PASSWORD + str(number))

    assert site.contents.count(Notice(NoticeKind.PASSWORD_RESET)) == 1


@pytest.mark.parametrize(
    ("password", "why"), [("short", "short"), ("", "short"), ("1qaz2wsx3edc", "common")]
)
def test_weak_password_leaves_the_code_good(site, maya, password, why):
    browser = site.browser()
    browser.asks(maya, RESET)

    refused = said(reset(browser, password=password))

    assert (refused["reason"], refused["why"], refused["step"]) == ("weak", why, browser.step)
    assert reset(browser).headers["location"] == "/?c=1&reason=password-reset"


def test_wrong_code_sets_no_password(site, maya):
    browser = site.browser()
    browser.asks(maya, RESET)

    refused = browser.enters(another(site.digits), RESET, password=NEW_PASSWORD)

    assert said(refused)["reason"] == "wrong-code"
    assert site.accounts.sign_in_with(maya, PASSWORD)


def test_failed_change_of_the_password_begins_no_session(site, maya, monkeypatch):
    browser = site.browser()
    browser.asks(maya, RESET)
    before = sessions_of(site, site.accounts.sign_in_with(maya, PASSWORD)[1])

    def away(*_, **__):
        raise StoreUnavailable

    with monkeypatch.context() as changed:
        changed.setattr(Accounts, "change_password", away)
        refused = reset(browser)

    # the code is spent, so the first form comes again
    assert said(refused) == {"c": "1", "code": "reset_password", "reason": "unavailable"}
    assert "__Host-sid" not in browser.cookies
    _, session = site.accounts.sign_in_with(maya, PASSWORD)
    assert sessions_of(site, session) == {*before, session.id}
