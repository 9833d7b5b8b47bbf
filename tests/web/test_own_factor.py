"""The routes by which a signed-in user sets up a second factor, renews its recovery codes and removes it."""

import re
from base64 import b32decode
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest
from pyotp import TOTP

from services.crypto.recovery_codes import recovery_hash
from services.domain.accounts import CredentialsAction, ProofScope
from services.domain.mails import Notice, NoticeKind
from services.domain.passkeys import Passkeys
from services.identity.totp import matching_step
from services.store.accounts import Cookie
from services.store.factors import asking_passkey
from services.store.tables import schema
from services.store.tables.access import settings_of
from services.store.tables.in_memory import InMemoryStore
from services.users.devices import Devices
from services.web import own_factor
from services.web.factor_check import FACTORS
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.own_factor import OwnFactor
from tests.confirmed import confirm, set_address
from tests.store.conftest import PASSWORD, new_email
from tests.stores import accounts_in_memory
from tests.unit.test_passkeys import LAPTOP
from tests.web.test_code_routes import Site, said

pytestmark = pytest.mark.usefixtures("cheap_passwords")
CODE = r"<code>([0-9A-Z]{4}(?:-[0-9A-Z]{4}){5})</code>"


@dataclass
class FactorSite(Site):
    """The routes of a user's own factor."""

    def __post_init__(self):
        super().__post_init__()
        cache, self.stopped = self.cache, []
        self.outdated = []  # the users whose pages read again how their accounts are opened

        def ending(is_meant, seconds):
            self.stopped.append(is_meant)
            return nullcontext()

        shared = SimpleNamespace(
            session_cache=cache,
            outdate_sign_in_details=self.outdated.append,
            set_address=partial(set_address, cache),
            user_of=lambda session: SimpleNamespace(devices=Devices(session, ending)),
        )
        origin = Origin(None, 0)
        notices = Notices(self.attempts, origin, self.send)
        self.own = OwnFactor(lambda: shared, self.attempts, origin, notices)
        self.routes = self.own.routes()

    def signed_in(self, email):
        """Return a browser in which the user is signed in."""
        cookie, session = self.accounts.sign_in_with(email, PASSWORD)
        self.cache.add(cookie, session)
        browser = self.browser()
        browser.cookies = {"__Host-sid": str(cookie)}
        return browser

    def change_sessions(self, **changes):
        @self.accounts.backend.tables.run
        def _(block):
            for one in block.select(schema.SESSIONS):
                block.put(schema.SESSIONS, replace(one, **changes))

    def require_factor(self):
        @self.accounts.backend.tables.run
        def _(block):
            block.put(schema.SETTINGS, replace(settings_of(block), requires_factor=True))

    def current(self, browser):
        return self.accounts.current(Cookie.parse(browser.cookies["__Host-sid"]))

    def factor(self, browser):
        return self.current(browser).credentials.factor

    def recovery(self, browser):
        return self.current(browser).credentials.recovery


def begins(browser, path="/account/factor"):
    """Begin to set up; keep the fields and the key of the page."""
    answer = browser.post(path, once=uuid4())
    if found := re.search('name="step" value="(.*?)"', answer.text):
        browser.step = found[1]
        browser.replaces = re.search('name="replaces" value="(.*?)"', answer.text)[1]
        browser.key = re.search("<code>([A-Z2-7 ]*)</code>", answer.text)[1].replace(" ", "")
    return answer


def digits(key, steps=0):
    return TOTP(key).at(datetime.now(UTC) + timedelta(seconds=30 * steps))


def confirms(browser, code=None, **fields):
    given = {"step": browser.step, "replaces": browser.replaces}
    given["code"] = digits(browser.key) if code is None else code
    return browser.post("/account/factor/confirm", **given | fields)


def begins_anew(browser):
    """Begin to replace the app; keep the fields and the key of the page."""
    return begins(browser, "/account/factor/replace")


def replaces(browser, **fields):
    """Replace the app."""
    begins_anew(browser)
    return confirms(browser, **fields)


def wrong(key):
    right = {digits(key, steps) for steps in (-2, -1, 0, 1, 2)}
    return next(
        code for code in ("000000", "111111", *map(str, range(222222, 222233))) if code not in right
    )


def enrolled(browser):
    """Set up a factor; return its recovery codes."""
    begins(browser)
    return re.findall(CODE, confirms(browser).text)


def renews(browser, once=None, **fields):
    return browser.post("/account/factor/codes", once=once or uuid4(), **fields)


def removes(browser, **fields):
    return browser.post("/account/factor/remove", once=uuid4(), **fields)


@pytest.fixture
def site():
    return FactorSite(accounts_in_memory(InMemoryStore()))


def new_user(site):
    """Return the address of a new user, who has confirmed it."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    return email


@pytest.fixture
def maya(site):
    return new_user(site)


@pytest.fixture
def browser(site, maya):
    return site.signed_in(maya)


def test_code_of_the_app_confirms_the_factor(site, maya, browser):
    begun = begins(browser)
    assert site.factor(browser) is None
    codes = re.findall(CODE, confirms(browser).text)

    assert begun.headers["cache-control"] == "no-store"
    assert TOTP(browser.key).verify(digits(browser.key))
    assert (len(set(codes)), site.recovery(browser)) == (10, tuple(map(recovery_hash, codes)))
    assert site.current(browser).stored.wants_factor
    assert site.outdated[-1] == browser.session.user_id
    told = [(mail.address, mail.content) for mail in site.mails]
    assert told == [(maya, Notice(NoticeKind.FACTOR_ADDED))]
    assert site.stopped == []


def test_browser_that_sets_a_factor_up_is_a_device_that_gave_it(site, browser):
    enrolled(browser)

    session, device = browser.session, browser.cookies["__Host-device"]
    since, gave = site.factor(browser).since, site.attempts.gave_factor
    assert gave(session.user_id, device, since=since, is_former=False)


def test_wrong_code_shows_the_same_key_again(browser, site):
    begins(browser)

    again = confirms(browser, wrong(browser.key))

    assert "Wrong code." in again.text
    assert browser.key in again.text.replace(" ", "")
    assert site.factor(browser) is None
    assert len(re.findall(CODE, confirms(browser).text)) == 10


def test_wrong_code_leaves_the_choice_to_sign_out_others(browser):
    box = 'name="others" value="yes"'
    assert f"{box}>" in begins(browser).text

    for _ in range(2):
        assert f"{box} checked>" in confirms(browser, wrong(browser.key), others="yes").text

    assert f"{box}>" in confirms(browser, wrong(browser.key)).text


def test_code_may_be_typed_in_groups(browser, site):
    begins(browser)
    code = digits(browser.key)

    confirms(browser, f" {code[:3]} {code[3:]} ")

    assert site.factor(browser)


def test_key_has_five_tries(browser, site):
    begins(browser)
    for _ in range(5):
        assert confirms(browser, wrong(browser.key)).status_code == 200

    assert said(confirms(browser)) == {"reason": "tries"}
    assert site.factor(browser) is None


def test_code_that_confirmed_the_factor_does_not_sign_in(browser, site):
    begins(browser)
    code = digits(browser.key)
    confirms(browser, code)

    factor = site.factor(browser)

    now = datetime.now(UTC)
    assert matching_step(factor.secret, code, now, factor.step) is None


def test_key_is_confirmed_in_its_browser_and_session_alone(site, maya, browser):
    begins(browser)
    other, omar = site.signed_in(maya), site.signed_in(new_user(site))
    for one in (other, omar):
        one.step, one.key, one.replaces = browser.step, browser.key, browser.replaces
        assert said(confirms(one)) == {"reason": "expired"}  # without the step's cookie
        one.cookies["__Host-step"] = browser.cookies["__Host-step"]
        assert said(confirms(one)) == {"reason": "expired"}
    assert site.factor(browser) is None

    confirms(browser)

    assert site.factor(browser)


def test_key_is_void_once_a_way_in_has_changed(site, browser):
    begins(browser)
    current = site.current(browser)
    change = site.accounts.change_password
    change(browser.session, current, current.hashed("another horse, another battery"))

    assert said(confirms(browser)) == {"reason": "expired"}
    assert site.factor(browser) is None


@pytest.mark.parametrize("act", [begins, begins_anew, renews, removes])
def test_nothing_is_changed_or_shown_without_a_recent_proof(site, browser, act):
    enrolled(browser)
    site.mails.clear()
    before = site.factor(browser)
    site.change_sessions(proved_at=None)

    assert said(act(browser)) == {"reason": "prove"}

    assert site.factor(browser) == before
    assert site.mails == []


def test_factor_is_not_confirmed_by_a_proof_that_has_become_old(site, browser):
    page = begins(browser, "/account/factor?then=app").text
    site.change_sessions(proved_at=None)
    [address] = re.findall('action="(/account/factor/confirm.*?)"', page)

    refused = browser.post(address, step=browser.step, code=digits(browser.key))

    assert said(refused) == {"then": "app", "reason": "prove"}
    assert site.factor(browser) is None


@pytest.mark.parametrize("path", ["", "/replace", "/confirm", "/codes", "/remove"])
def test_form_wants_a_session(site, path):
    assert site.browser().post(f"/account/factor{path}").headers["location"] == "/account"


# --- shown once


@pytest.mark.parametrize("path", ["", "/replace", "/confirm", "/codes", "/remove"])
def test_address_of_a_page_says_that_it_was_shown(site, path):
    answer = site.browser().client.get(f"/account/factor{path}")

    assert "already shown" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_reload_of_the_key_shows_no_other(browser, site):
    once = uuid4()
    browser.post("/account/factor", once=once)

    again = browser.post("/account/factor", once=once)

    assert "Setup key already shown" in again.text
    assert "<svg" not in again.text


def test_reload_of_the_recovery_codes_makes_no_others(browser, site):
    enrolled(browser)
    before = site.factor(browser)
    assert "Recovery codes already shown" in confirms(browser).text
    assert site.factor(browser) == before

    once = uuid4()
    codes = re.findall(CODE, renews(browser, once).text)
    again = renews(browser, once)
    site.change_sessions(proved_at=None)
    much_later = renews(browser, once)

    assert "Recovery codes already shown" in again.text
    assert "Recovery codes already shown" in much_later.text
    assert said(renews(browser)) == {"reason": "prove"}
    assert site.recovery(browser) == tuple(map(recovery_hash, codes))


# --- another app


def test_app_is_replaced_once_the_new_one_has_made_a_code(site, maya, browser):
    old = enrolled(browser)
    before, generation = site.factor(browser), site.current(browser).stored.generation
    assert "<svg" in begins_anew(browser).text
    assert "Wrong code." in confirms(browser, wrong(browser.key)).text
    assert site.factor(browser) == before
    site.mails.clear()

    new = re.findall(CODE, confirms(browser).text)

    factor, stored = site.factor(browser), site.current(browser).stored
    assert factor.secret == b32decode(browser.key) != before.secret
    assert factor.since >= before.since
    assert (len({*new} - {*old}), site.recovery(browser)) == (10, tuple(map(recovery_hash, new)))
    assert (stored.generation, stored.wants_factor) == (generation + 1, True)
    [told] = site.mails
    assert (told.address, told.content) == (maya, Notice(NoticeKind.FACTOR_REPLACED))


def test_app_is_replaced_while_a_factor_is_required(site, browser):
    enrolled(browser)
    before = site.factor(browser)
    site.require_factor()

    assert len(re.findall(CODE, replaces(browser).text)) == 10

    assert site.factor(browser).secret != before.secret


def test_page_that_does_not_know_the_factor_replaces_none(site, browser):
    assert begins_anew(browser).headers["location"] == "/account"
    enrolled(browser)
    before = site.factor(browser)

    assert begins(browser).headers["location"] == "/account"

    assert site.factor(browser) == before


def test_new_app_that_is_confirmed_too_late_replaces_none(site, browser):
    enrolled(browser)
    before = site.factor(browser)
    begins_anew(browser)
    current = site.current(browser)
    change = site.accounts.change_password
    change(browser.session, current, current.hashed("another horse, another battery"))

    assert said(confirms(browser)) == {"reason": "expired"}

    assert site.factor(browser) == before


def test_reload_of_the_codes_of_a_new_app_makes_no_others(site, browser, monkeypatch):
    enrolled(browser)
    begins_anew(browser)
    later = replace(FACTORS, now=lambda: datetime.now(UTC) + timedelta(seconds=2))
    monkeypatch.setattr(own_factor, "FACTORS", later)
    confirms(browser)
    after = site.factor(browser)

    assert "Recovery codes already shown" in confirms(browser).text

    assert site.factor(browser) == after


# --- new recovery codes, and the end of the factor


def test_new_recovery_codes_replace_the_old_ones(site, browser):
    old = enrolled(browser)

    new = re.findall(CODE, renews(browser).text)

    assert len(new) == 10
    assert not {*old} & {*new}
    assert site.recovery(browser) == tuple(map(recovery_hash, new))
    assert site.mails[-1].content == Notice(NoticeKind.RECOVERY_CODES_RENEWED)


def test_factor_is_removed(site, maya, browser):
    enrolled(browser)

    assert said(removes(browser)) == {"reason": "factor-removed"}

    assert site.factor(browser) is None
    assert site.mails[-1].content == Notice(NoticeKind.FACTOR_REMOVED)
    assert site.accounts.sign_in_with(maya, PASSWORD)


def test_factor_that_all_need_is_not_removed(site, browser):
    enrolled(browser)

    site.require_factor()

    assert said(removes(browser)) == {"reason": "factor-required"}

    assert site.factor(browser)


@pytest.mark.parametrize("act", [confirms, replaces, renews, removes])
def test_other_devices_are_signed_out_if_asked(site, maya, browser, act):
    others = [site.signed_in(maya)]
    if act is confirms:
        begins(browser)
    else:
        enrolled(browser)
    assert others[0].session

    act(browser, others="yes")

    assert site.accounts.ended([one.session for one in others]).keys()
    assert browser.session
    [is_meant] = site.stopped  # their replies are stored first
    assert is_meant(others[0].session)
    assert not is_meant(browser.session)


@pytest.mark.parametrize("act", [replaces, renews, removes])
def test_change_that_another_overtakes_is_lost(site, browser, monkeypatch, act):
    enrolled(browser)
    seen = site.current(browser)
    renews(browser)
    after = site.factor(browser)
    monkeypatch.setattr(type(site.accounts), "current", lambda *_: seen)

    assert said(act(browser)) == {"reason": "busy"}

    monkeypatch.undo()
    assert site.factor(browser) == after


def test_deployment_without_sign_in_has_no_such_routes(site):
    assert replace(site.own, origin=Origin(None, 0, True)).routes() == []


# --- a proof in part


def test_proof_in_part_sets_a_first_factor_up_and_changes_none(site, browser):
    site.change_sessions(scope=ProofScope.PART)
    begun = begins(browser)
    assert 'name="others"' not in begun.text  # it ends no other session
    assert said(confirms(browser, others="yes"))["reason"] == "prove"
    assert 'name="others"' not in confirms(browser, wrong(browser.key)).text

    codes = re.findall(CODE, confirms(browser).text)

    assert len(codes) == 10
    assert "Recovery codes already shown" in confirms(browser).text
    for refused in (
        renews(browser),
        removes(browser),
        browser.post("/account/factor/replace", once=uuid4()),
    ):
        assert said(refused)["reason"] == "prove"
    assert site.factor(browser)


def test_proof_in_part_adds_no_app_beside_a_passkey(site, browser):
    current = site.current(browser)
    passkeys = Passkeys(user_handle=bytes(64), each=(LAPTOP,))
    generation = current.stored.generation + 1
    with_one = replace(current.credentials, passkeys=passkeys, generation=generation)
    accounts, added = site.accounts, CredentialsAction.PASSKEY_ADDED
    accounts.change_credentials(browser.session, with_one, current.stored, added)
    asked = replace(asking_passkey(with_one, is_asked=True), recovery=("0" * 64,))
    accounts.change_credentials(
        browser.session, asked, site.current(browser).stored, CredentialsAction.PASSKEY_FACTOR_ADDED
    )
    site.change_sessions(scope=ProofScope.PART, has_factor=True)

    assert said(begins(browser))["reason"] == "prove"

    site.change_sessions(scope=ProofScope.FULL)
    assert "<code>" in begins(browser).text
