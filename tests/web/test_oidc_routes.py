"""Single sign-on in a browser: to a provider and back, and what its answer leads to."""

import asyncio
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import escape
from threading import current_thread
from types import SimpleNamespace
from unittest.mock import AsyncMock
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from pyotp import TOTP
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain import AccountRole
from services.domain.accounts import CredentialsAction, Failure, ProofScope, SignUps
from services.domain.addresses import ConfirmedBy
from services.domain.mails import CodePurpose, Notice, NoticeKind
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import Identity, IdentityTaken, LinkedIdentity
from services.errors import BadAddress, RateLimited, StoreUnavailable, TooManyAttempts
from services.operate.accounts import free_address
from services.store.accounts import Cookie
from services.store.administration import SignUpAdministration
from services.store.linking import link, sign_in_linking
from services.store.sign_in_policy import SignInPolicy
from services.store.tables import schema
from services.store.tables.access import settings_of
from services.store.tables.backend import TablesBackend, TablesUser
from services.store.tables.in_memory import InMemoryStore, InMemoryTables
from services.store.tables.operator import TablesOperator
from services.users.devices import Devices
from services.web import oidc_visits
from services.web.code_routes import CodeRoutes
from services.web.enrolments import Enrolments
from services.web.entries import Entries
from services.web.factor_check import FactorCheck
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.oidc_clients import ProviderClients
from services.web.oidc_routes import OidcRoutes
from services.web.oidc_steps import SignOnSteps
from services.web.oidc_visits import AddressByCode, LinkByCode, SignOnVisits, VisitRoutes
from services.web.origin import Origin
from services.web.own_identities import OwnIdentities
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_factor import FinishProofByPasskey
from services.web.passkey_link import LinkByPasskey
from services.web.passkey_routes import PasskeyRoutes
from services.web.session_start import SessionStart
from services.web.sign_in_routes import SignInRoutes
from tests.authenticator import Authenticator
from tests.confirmed import confirm
from tests.identity.provider import (
    ADDRESS,
    LEFT_OUT,
    METADATA,
    SUBJECT,
    Response,
    forging_provider,
)
from tests.stack.apps import until
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED, accounts_in_memory, cut_at
from tests.unit.test_passkeys import LAPTOP, MAYAS
from tests.web.test_code_routes import NEW_PASSWORD, OURS, Browser, Site, another, said

pytestmark = pytest.mark.usefixtures("cheap_passwords")
LINK = LinkByCode.name
# as a browser sends them with a press on a page of ours, and with the redirect of a provider
PRESSED = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
LED_BACK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
OTHER = "noor@corp.example"
DAY = 86_400


@dataclass
class Visitor(Browser):
    """A browser that goes to providers and back."""

    def get(self, path, **headers):
        sent = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.client.cookies.clear()
        bare = {"origin": None, **headers}
        answer = self.client.get(
            path, headers={"cookie": sent} | {n: v for n, v in bare.items() if v is not None}
        )
        for text in answer.headers.get_list("set-cookie"):
            name, _, rest = text.partition("=")
            value = rest.partition(";")[0].strip('"')
            self.cookies = {**self.cookies, name: value} if value else self._without(name)
        return answer

    def leaves(self, name="corp", path="/?c=1", **query):
        """Press the button of a provider; return the parameters of the request that it gets."""
        answer = self.get(
            f"/oidc/{name}?" + "&".join(f"{n}={v}" for n, v in ({"next": path} | query).items()),
            **PRESSED,
        )
        assert answer.status_code == 303
        return self.noted(answer.headers["location"], name)

    def leaves_by_form(self, act, name="corp", **fields):
        """Press a button of the page Account, and follow the link of the page that answers."""
        answer = self.post(f"/oidc/{name}/{act}", **fields)
        assert answer.status_code == 200
        link = re.search(r'rel="noreferrer" href="([^"]*)"', answer.text)[1]
        return self.noted(link.replace("&amp;", "&"), name)

    def noted(self, address, name):
        asked = dict(parse_qsl(urlsplit(address).query))
        self.site.providers[name].nonce = asked["nonce"]
        return asked

    def returns(self, asked, name="corp", **changes):
        """Come back from a provider with the answer to what it was *asked*."""
        query = {"code": "kiwi-5512", "state": asked["state"]} | changes
        text = "&".join(f"{n}={v}" for n, v in query.items() if v is not None)
        return self.get(f"/oidc/{name}/back?{text}", **LED_BACK)

    def signs_in(self, name="corp", **query):
        return self.returns(self.leaves(name, **query), name)

    def opens(self, answer):
        """Open the page that an answer leads to; keep its step."""
        page = self.get(answer.headers["location"], **PRESSED)
        if found := re.search('name="step" value="(.*?)"', page.text):
            self.step = found[1]
        return page


@dataclass
class SignOnSite(Site):
    """The routes of all ways in, with providers."""

    providers: dict = field(default_factory=dict)
    sends_mail: bool = True
    url: str | None = None

    def __post_init__(self):
        super().__post_init__()
        cache, origin, lanes = self.cache, Origin(self.url, 0), HashingLanes()
        self.stopped, self.outdated = [], []

        def ending(is_meant, seconds):
            self.stopped.append(is_meant)
            return nullcontext()

        one = SimpleNamespace(
            session_cache=cache,
            outdate_sign_in_details=self.outdated.append,
            set_address=lambda *_: None,
            stop_turns_of=lambda *_: None,
            user_of=lambda session: SimpleNamespace(devices=Devices(session, ending)),
        )
        shared = lambda: one  # noqa: E731
        notices = Notices(self.attempts, origin, self.send)
        start = SessionStart(shared, self.attempts, origin, 3600, notices)
        steps = SignOnSteps(start, ProviderClients(self.accounts.policy.providers))
        visits = SignOnVisits(steps, self.sends_mail)
        own = OwnIdentities(steps, FactorCheck(self.attempts, origin, notices), self.sends_mail)
        flows = LinkByCode(visits), AddressByCode(visits)
        codes = CodeRoutes(shared, self.attempts, origin, self, flows)
        check = PasskeyCheck(self.attempts, origin, notices)
        passkeys = LinkByPasskey(steps, check), FinishProofByPasskey(own)
        self.routes = [
            *codes.routes(),
            *SignInRoutes(start, lanes).routes(),
            *Entries(start).routes(),
            *Enrolments(Entries(start)).routes(),
            *OidcRoutes(steps, visits, own).routes(),
            *own.routes(),
            *own.routes_without_provider(),
            *VisitRoutes(visits, lanes, codes if self.sends_mail else None).routes(),
            *PasskeyRoutes(shared, self.attempts, origin, passkeys).routes(),
        ]

    def browser(self, **headers):
        made = super().browser(**headers)
        return Visitor(self, made.client)

    def neighbour(self, address="shared"):
        """Return a browser at a network address that others share."""
        client = TestClient(
            Starlette(routes=self.routes),
            base_url="http://localhost",
            client=(address, 50000),
            headers=OURS,
            follow_redirects=False,
        )
        return Visitor(self, client)

    def use_up(self, throttles):
        with pytest.raises(TooManyAttempts):
            for _ in range(100):
                self.accounts.backend.count_throttles(throttles)

    def change_settings(self, **changes):
        @self.accounts.backend.tables.run
        def _(block):
            block.put(schema.SETTINGS, replace(settings_of(block), **changes))

    def change_sessions(self, **changes):
        @self.accounts.backend.tables.run
        def _(block):
            for one in block.select(schema.SESSIONS):
                block.put(schema.SESSIONS, replace(one, **changes))

    def change_accounts(self, **changes):
        @self.accounts.backend.tables.run
        def _(block):
            for one in block.select(schema.ACCOUNTS):
                block.put(schema.ACCOUNTS, replace(one, **changes))

    def audited(self):
        def actions(block):
            return [one.action for one in block.select(schema.AUDIT)]

        return self.accounts.backend.tables.run(actions)

    def user(self, address=ADDRESS, *, is_confirmed=True):
        """Make an account with a password."""
        _, session = self.accounts.sign_up_with(address, PASSWORD)
        if is_confirmed:
            confirm(self.accounts, session)
        return session

    def signed_in(self, address):
        """Return a browser in which a user has just signed in by the password."""
        browser = self.browser()
        browser.post("/session", email=address, password=PASSWORD, next="/")
        assert browser.session.email == address
        return browser

    def free_address(self, address=ADDRESS):
        """Run the operator's command."""
        tables = SimpleNamespace(of=self.accounts.backend.all_tables.of, close=lambda: None)
        operator = TablesOperator(SimpleNamespace(check=dict), lambda: tables)
        free_address(operator, self.accounts.root_keys, address)

    def found(self, address=ADDRESS):
        return self.accounts.find(address, NOT_COUNTED)

    def last_used(self, address=ADDRESS):
        """True for each identity that was used in the last minute."""
        times = [one.last_used_at for one in self.found(address).credentials.identities]
        return [one and self.accounts.now() - one < timedelta(minutes=1) for one in times]

    def forget_uses(self, browser):
        """Have no identity of the user of *browser* be used so far, as far as the store knows."""
        current, session = (
            self.accounts.current(Cookie.parse(browser.cookies["__Host-sid"])),
            browser.session,
        )
        unused = tuple(replace(one, last_used_at=None) for one in current.credentials.identities)
        new, action = replace(current.credentials, identities=unused), CredentialsAction.RESEAL
        assert self.accounts.change_credentials(session, new, current.stored, action)

    def identities(self, address=ADDRESS):
        return [one.identity for one in self.found(address).credentials.identities]

    @property
    def told(self):
        return [one.kind for one in self.contents if isinstance(one, Notice)]


@pytest.fixture
def corp():
    with forging_provider() as provider:
        yield provider


@pytest.fixture
def make(corp):
    """Return a function that makes a site with the provider, by changed entries."""

    def make(sends_mail=True, methods=None, others=(), url=None, **entry):
        entries = {"corp": corp.entry(**({"label": "Corp SSO"} | entry))}
        entries |= {name: one.entry() for name, one in dict(others).items()}
        policy = SignInPolicy(methods=methods or frozenset(SignInMethod), providers=entries)
        accounts = accounts_in_memory(InMemoryStore(), lifetime_seconds=90 * DAY, policy=policy)
        return SignOnSite(
            accounts, providers={"corp": corp, **dict(others)}, sends_mail=sends_mail, url=url
        )

    return make


@pytest.fixture
def site(make):
    return make(may_sign_up=True)


def session_of(site):
    """Return a session of the user of the provider."""
    browser = site.browser()
    browser.signs_in()
    return browser.session


def is_signed_in(browser):
    return "__Host-sid" in browser.cookies


# --- to the provider


def test_press_leads_to_the_provider(site, corp):
    browser = site.browser()
    answer = browser.get("/oidc/corp?next=/%3Fc%3D1", **PRESSED)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{corp.issuer}/authorize?tenant=1&")
    assert answer.headers["cache-control"] == "no-store"
    asked = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert asked["redirect_uri"] == "http://localhost/oidc/corp/back"
    assert (asked["response_mode"], asked["code_challenge_method"]) == ("query", "S256")
    assert "prompt" not in asked


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "sec-purpose": "prefetch"},
        {"sec-fetch-site": "same-origin", "sec-purpose": "prefetch;prerender"},
    ],
)
def test_link_of_another_site_and_prefetch_begin_nothing(site, corp, headers):
    browser = site.browser()

    answer = browser.get("/oidc/corp?next=/%3Fc%3D1&invite=pear", **headers)

    assert answer.status_code == 200
    assert 'href="/oidc/corp?next=%2F%3Fc%3D1&amp;invite=pear"' in answer.text
    assert corp.asked == []
    assert browser.cookies == {}


def test_request_without_fetch_metadata_begins_nothing(site, corp):
    client = site.browser().client
    del client.headers["sec-fetch-site"]

    assert client.get("/oidc/corp").status_code == 200
    assert corp.asked == []


def test_sign_in_begins_at_the_host_that_the_provider_leads_back_to(site, corp):
    answer = site.browser().get("/oidc/corp?next=/data", host="127.0.0.1", **PRESSED)

    assert answer.headers["location"] == "http://localhost/oidc/corp?next=%2Fdata"
    assert corp.asked == []


def test_provider_leads_back_to_the_port_of_this_process(site):
    browser = site.browser()
    browser.client.base_url = "http://localhost:8501"

    answer = browser.get("/oidc/corp", **PRESSED)

    asked = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert asked["redirect_uri"] == "http://localhost:8501/oidc/corp/back"


def test_provider_leads_back_to_the_public_address_whatever_a_proxy_says(make):
    site = make(url="https://chat.example.org")

    answer = site.browser().get("/oidc/corp", host="app:8501", **PRESSED)

    asked = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert asked["redirect_uri"] == "https://chat.example.org/oidc/corp/back"


def test_page_to_go_on_to_is_one_of_ours(site):
    browser = site.browser()

    answer = browser.returns(browser.leaves(path="https://evil.example/"))

    assert answer.headers["location"] == "/"


def test_unknown_provider_is_not_found(site):
    assert site.browser().get("/oidc/other", **PRESSED).status_code == 404


def test_provider_that_is_down_is_said_and_begins_no_step(site, corp):
    corp.metadata = {"issuer": "https://evil.example"}
    browser = site.browser()

    answer = browser.get("/oidc/corp?next=/%3Fc%3D1", **PRESSED)

    assert said(answer) == {"c": "1", "reason": "provider"}
    assert browser.cookies == {}


def test_provider_that_hangs_holds_up_no_password(site, corp):
    """On the one event loop of a process."""
    site.user(OTHER)
    corp.instead[METADATA] = Response(seconds=60)
    app = httpx2.ASGITransport(Starlette(routes=site.routes), client=(ADDRESS, 50000))

    async def sign_in_meanwhile():
        async with httpx2.AsyncClient(
            transport=app, base_url="http://localhost", headers=OURS
        ) as client:
            leaving = asyncio.create_task(client.get("/oidc/corp", headers=PRESSED))
            while METADATA not in corp.paths():
                await asyncio.sleep(0.01)
            form = {"email": OTHER, "password": PASSWORD, "next": "/"}
            answer = await client.post("/session", data=form)
            is_waiting = not leaving.done()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            return answer, is_waiting

    answer, is_waiting = asyncio.run(sign_in_meanwhile())

    assert (answer.headers["location"], is_waiting) == ("/", True)


# --- neighbours at the same network address


def of_neighbours(site):
    """Use up what a network address may try and begin; return a device that is known there, and a new one."""
    known = site.neighbour()
    known.signs_in()
    for throttles in (
        site.attempts.step("shared"),
        site.attempts.sign_in(None, "shared", "").strangers,
    ):
        site.use_up(throttles)
    return known, site.neighbour()


def test_neighbours_lock_no_known_device_out_of_its_provider(site):
    known, new = of_neighbours(site)
    known.cookies.pop("__Host-sid")

    assert said(new.get("/oidc/corp", **PRESSED))["reason"] == "slow"
    for _ in range(12):  # each sign-in gives its attempt back
        assert known.signs_in().headers["location"] == "/?c=1"
        known.cookies.pop("__Host-sid")


def test_neighbours_keep_no_known_device_from_a_proof(site, corp):
    known, _ = of_neighbours(site)

    _, answer = proves(known, corp)

    assert said(answer) == {"reason": "proved"}


# --- the first visit


def test_first_visit_begins_an_account(site, corp):
    browser = site.browser()

    answer = browser.signs_in()

    assert answer.headers["location"] == "/?c=1"
    assert browser.session.email == ADDRESS
    credentials = site.found().credentials
    assert [one.identity for one in credentials.identities] == [Identity(corp.issuer, SUBJECT)]
    assert credentials.identities[0].name == ADDRESS
    assert credentials.confirmed.how is ConfirmedBy.PROVIDER
    assert credentials.password_hash is None
    again = site.browser()
    assert again.signs_in().headers["location"] == "/?c=1"
    assert again.session.user_id == browser.session.user_id


def test_no_password_opens_an_account_without_one(site):
    site.browser().signs_in()

    for password in ("", PASSWORD):
        browser = site.browser()
        answer = browser.post("/session", email=ADDRESS, password=password, next="/")
        assert said(answer) == {"reason": "wrong"}


@pytest.mark.parametrize(
    ("mode", "reason"), [(SignUps.CLOSED, "closed"), (SignUps.INVITED, "no-invitation")]
)
def test_mode_of_sign_ups_holds(site, mode, reason):
    site.user(OTHER)
    site.change_settings(sign_ups=mode)

    assert said(site.browser().signs_in()) == {"c": "1", "reason": reason}
    assert site.found().stored is None


def invites(site):
    """Have an admin invite the user of the provider, without which nobody signs up; return the code."""
    admin = site.user(OTHER)
    site.change_accounts(role=AccountRole.ADMIN)
    invitations = SignUpAdministration(admin.backend.administration, None, lambda: False)
    site.change_settings(sign_ups=SignUps.INVITED)
    return invitations.invite(ADDRESS, AccountRole.USER)


def test_invitation_goes_along(site):
    code, browser = invites(site), site.browser()

    browser.signs_in(invite=code)

    assert browser.session.email == ADDRESS


def test_account_begins_only_where_the_entry_allows(make):
    closed = make()

    assert said(closed.browser().signs_in()) == {"c": "1", "reason": "no-account"}
    assert closed.found().stored is None


def test_account_of_another_domain_does_not_begin(make):
    site = make(may_sign_up=True, domains=["other.example"])

    assert said(site.browser().signs_in())["reason"] == "no-account"


def test_sign_up_that_was_cut_begins_at_the_next_visit(site):
    with pytest.raises(StoreUnavailable):
        found = site.accounts.find_for_sign_up(ADDRESS, NOT_COUNTED)
        cut = cut_at(site.accounts, "put_sign_up", is_done=True)
        cut.sign_up(found, None)

    browser = site.browser()
    browser.signs_in()

    assert browser.session.email == ADDRESS


def test_visit_leaves_a_sign_up_that_waits_for_its_link(site, monkeypatch):
    with monkeypatch.context() as auth:
        auth.setattr(type(site.accounts.backend.sign_in), "confirms_addresses", lambda _: True)
        site.browser().post("/account", email=ADDRESS, password=PASSWORD, next="/")
        waiting = site.found().stored

        assert said(site.browser().signs_in()) == {"c": "1", "reason": "closed"}

    assert site.found().stored == waiting
    assert site.found().checked(PASSWORD)


# --- the answer


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": "another"},
        {"error": "access_denied"},
        {"iss": "https://evil.example"},
        {"code": None},
    ],
)
def test_wrong_answer_begins_no_session(site, changes):
    browser = site.browser()
    asked = browser.leaves()

    answer = browser.returns(asked, **changes)

    assert said(answer)["reason"] in ("answer", "expired")
    assert not is_signed_in(browser)
    assert site.found().stored is None


def test_answer_is_good_once(site, corp):
    browser = site.browser()
    asked = browser.leaves()
    steps = dict(browser.cookies)
    browser.returns(asked)
    browser.cookies = steps

    assert said(browser.returns(asked))["reason"] == "expired"
    assert corp.paths().count("/token") == 1


def test_refused_answer_ends_its_step(site, corp):
    browser = site.browser()
    asked = browser.leaves()

    refused = browser.returns(asked, error="access_denied", error_description="sapodilla")

    assert said(refused) == {"c": "1", "reason": "answer"}
    assert said(browser.returns(asked))["reason"] == "expired"
    assert "/token" not in corp.paths()


def test_answer_in_another_browser_is_refused(site, corp):
    """Else an attacker could have a victim sign in to the attacker's account."""
    asked, victim = site.browser().leaves(), site.browser()
    victim.leaves()
    corp.nonce = asked["nonce"]

    assert said(victim.returns(asked)) == {"reason": "expired"}
    assert said(site.browser().returns(asked)) == {"reason": "expired"}
    assert "/token" not in corp.paths()


def test_answer_to_another_provider_is_refused(make, corp):
    with forging_provider() as other:
        site = make(may_sign_up=True, others={"other": other})
        browser = site.browser()
        asked = browser.leaves("corp")

        answer = browser.returns(asked, "other")

        assert said(answer) == {"c": "1", "reason": "answer"}
        assert "/token" not in corp.paths() + other.paths()


def test_answer_is_led_away_without_its_code(site):
    browser = site.browser()
    asked = browser.leaves()

    answer = browser.returns(asked)

    assert answer.status_code == 303
    for text in ("kiwi-5512", asked["state"], asked["nonce"]):
        assert text not in str(answer.headers) + answer.text


def test_nothing_of_an_answer_is_logged(site, corp, caplog):
    corp.claims = {"aud": "another"}
    browser = site.browser()
    asked = browser.leaves()
    with caplog.at_level("INFO", logger="daybook"):
        browser.returns(asked, error_description="sapodilla")

    own = [one for one in caplog.records if one.name == "daybook"]
    assert own
    for text in ("kiwi-5512", asked["state"], "sapodilla", ADDRESS, SUBJECT):
        assert all(text not in one.getMessage() for one in own)


def test_changed_address_of_a_known_user_changes_nothing(site, corp):
    """A provider that gives a user another's address opens no other account."""
    noor = site.user(OTHER)
    maya = site.browser()
    maya.signs_in()
    corp.claims = {"email": OTHER}

    again = site.browser()
    again.signs_in()

    assert again.session.user_id == maya.session.user_id != noor.user_id
    assert again.session.email == ADDRESS
    assert site.identities(OTHER) == []


def test_way_that_is_off_signs_nobody_in(make):
    site = make(may_sign_up=True, methods=frozenset({SignInMethod.PASSWORD}))

    assert said(site.browser().signs_in()) == {"c": "1", "reason": "off"}
    assert site.found().stored is None


def test_sign_in_of_a_signed_in_browser_only_signs_in(site, corp):
    """A visit with the attacker's session at the provider links nothing to the account of the browser."""
    site.user(OTHER)
    browser = site.signed_in(OTHER)

    browser.signs_in()

    assert browser.session.email == ADDRESS
    assert site.identities(OTHER) == []


@pytest.mark.parametrize(
    ("only", "days"), [({}, 90), ({"domains": ["corp.example"], "only": True}, 3)]
)
def test_session_of_an_only_provider_lasts_as_its_entry_says(make, corp, only, days):
    """Also one that begins after the factor, or where it is set up on the way in."""
    site = make(may_sign_up=True, session_days=3, **only)
    corp.claims = {"auth_time": int(time.time())}
    app = Authenticator().enrol(site.accounts, session_of(site))
    session_of_factor(site, app)
    site.change_settings(requires_factor=True)
    corp.claims = {"sub": "another", "email": OTHER}
    browser = site.browser()
    sets_up_on_the_way_in(browser, said(browser.signs_in())["step"])

    sessions = site.accounts.backend.tables.run(lambda block: block.select(schema.SESSIONS))

    lasting = {(one.expires_at - one.created_at).total_seconds() for one in sessions}
    assert (len(sessions), lasting) == (3, {days * DAY})


def session_of_factor(site, app):
    """Sign in by the provider and the app; return the session."""
    browser = site.browser()
    step = said(browser.signs_in())["step"]
    browser.post("/factor", factor=app.code(), step=step, form="factor", next="/")
    return browser.session


# --- the second factor


def test_factor_of_the_account_is_asked_for(site, corp):
    corp.claims = {"auth_time": int(time.time())}
    app = Authenticator().enrol(site.accounts, session_of(site))
    browser = site.browser()

    asked = said(browser.signs_in())

    assert asked["code"] == "factor"
    assert not is_signed_in(browser)
    browser.post("/factor", factor=app.code(), step=asked["step"], form="factor", next="/?c=1")
    assert browser.session.email == ADDRESS


def test_use_of_an_identity_is_noted_with_that_of_the_factor(site, corp):
    corp.claims = {"auth_time": int(time.time())}  # so that the sign-in is a proof
    first = site.browser()
    first.signs_in()
    app = Authenticator().enrol(site.accounts, first.session)
    site.forget_uses(first)
    uses = site.found().stored.uses
    browser = site.browser()

    asked = said(browser.signs_in())
    assert site.last_used() == [None]
    browser.post("/factor", factor=app.code(), step=asked["step"], form="factor", next="/?c=1")

    assert site.last_used() == [True]
    assert site.found().stored.uses == uses + 1
    assert site.audited().count("factor.use") == 1
    assert "identity.use" not in site.audited()


def test_use_of_an_identity_is_noted_with_the_factor_that_is_set_up(site):
    first = site.browser()
    first.signs_in()
    site.forget_uses(first)
    site.change_settings(requires_factor=True)
    browser = site.browser()

    asked = said(browser.signs_in())
    page = browser.post("/factor/enrol", step=asked["step"], next="/?c=1")
    key = re.sub(r"\s", "", re.search(r"<code>(.*?)</code>", page.text)[1])
    browser.post("/factor/enrol/confirm", code=TOTP(key).now(), step=asked["step"], next="/?c=1")

    assert site.last_used() == [True]


def test_factor_given_at_a_trusted_provider_counts(make, corp):
    site = make(may_sign_up=True, trusts_mfa=["mfa"])
    corp.claims = {"amr": ["pwd", "mfa"], "auth_time": int(time.time())}
    Authenticator().enrol(site.accounts, session_of(site))
    browser = site.browser()

    assert browser.signs_in().headers["location"] == "/?c=1"
    corp.claims = {"amr": ["pwd"]}
    assert said(site.browser().signs_in())["code"] == "factor"


def test_required_factor_is_set_up_before_an_account_begins(site, corp):
    site.change_settings(requires_factor=True)
    browser = site.browser()

    asked = said(browser.signs_in())

    assert asked["code"] == "enrol_factor"
    assert not is_signed_in(browser)
    page = browser.post("/factor/enrol", step=asked["step"], next="/?c=1")
    key = re.sub(r"\s", "", re.search(r"<code>(.*?)</code>", page.text)[1])
    browser.post("/factor/enrol/confirm", code=TOTP(key).now(), step=asked["step"], next="/?c=1")
    assert browser.session.email == ADDRESS
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]
    assert site.found().credentials.password_hash is None


@pytest.fixture
def trusted(make, corp):
    """A site where a second factor is required, and given at a provider that is trusted with it."""
    site = make(may_sign_up=True, trusts_mfa=["mfa"])
    site.change_settings(requires_factor=True)
    corp.claims = {"amr": ["mfa"]}
    return site


def test_required_factor_is_met_by_one_of_a_trusted_provider(trusted, corp):
    first, later, without = trusted.browser(), trusted.browser(), trusted.browser()

    for browser in (first, later):  # an account begins, then its user comes back
        assert browser.signs_in().headers["location"] == "/?c=1"
        assert browser.session.backend.account().user_id == browser.session.user_id
    assert not trusted.found().credentials.wants_factor
    assert trusted.last_used() == [True]
    corp.claims = {"amr": ["pwd"]}
    assert said(without.signs_in())["code"] == "enrol_factor"
    assert not is_signed_in(without)


def test_factor_of_a_trusted_provider_is_none_after_a_password(trusted):
    browser = trusted.browser()
    browser.signs_in()
    set_password(trusted, browser)

    other = trusted.browser()
    answer = other.post("/session", email=ADDRESS, password=PASSWORD, next="/?c=1")

    assert said(answer)["code"] == "enrol_factor"
    assert not is_signed_in(other)


def set_password(site, browser):
    """Give the user of *browser*, who has come by a provider, a password."""
    site.change_sessions(scope=ProofScope.FULL)
    current = site.accounts.current(Cookie.parse(browser.cookies["__Host-sid"]))
    site.accounts.add_password(browser.session, current, current.hashed(PASSWORD))


def add_passkey(site, session, rp_id="localhost"):
    """Give the user of *session* a passkey that is not asked for."""
    found = site.found(session.email)
    generation = found.stored.generation + 1
    each = (replace(LAPTOP, rp_id=rp_id, verifies_user=True),)
    passkeys = replace(MAYAS, each=each, is_factor=False)
    new = replace(found.credentials, passkeys=passkeys, generation=generation)
    action = CredentialsAction.PASSKEY_ADDED
    assert site.accounts.change_credentials(session, new, found.stored, action)


def test_factor_of_a_trusted_provider_leaves_a_passkey_unasked(trusted, corp):
    """The password asks for it afterwards, as before."""
    browser = trusted.browser()
    browser.signs_in()
    set_password(trusted, browser)
    add_passkey(trusted, browser.session)

    assert trusted.browser().signs_in().headers["location"] == "/?c=1"
    _, proof = proves(browser, corp)

    assert said(proof) == {"reason": "proved"}
    assert not trusted.found().stored.wants_factor
    answer = trusted.browser().post("/session", email=ADDRESS, password=PASSWORD)
    assert said(answer)["code"] == "passkey_factor"


def test_passkey_that_is_not_asked_for_belongs_to_no_proof_by_a_provider(trusted, corp):
    browser = trusted.browser()
    browser.signs_in()
    set_password(trusted, browser)
    add_passkey(trusted, browser.session)
    corp.claims = {"amr": ["pwd"]}

    _, proof = proves(browser, corp)

    assert said(proof) == {"reason": "proved"}


# --- an account that has the address


@pytest.fixture
def maya(site):
    """A user with a password and a confirmed address, to which nothing is linked."""
    return site.user()


def test_account_of_the_address_is_proved_before_it_is_linked(site, corp, maya):
    browser = site.browser()
    answer = browser.signs_in()
    assert answer.headers["location"].startswith("/identity/account?step=")
    assert ADDRESS not in answer.headers["location"]

    page = browser.opens(answer)
    assert (ADDRESS in page.text, "Corp SSO" in page.text) == (True, True)
    assert (is_signed_in(browser), site.identities()) == (False, [])
    wrong = browser.post("/identity/account", step=browser.step, password="not the password")
    assert "Wrong password." in wrong.text
    assert (is_signed_in(browser), site.identities()) == (False, [])

    right = browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert right.headers["location"] == "/?c=1"
    assert browser.session.user_id == maya.user_id
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]
    assert site.told == [NoticeKind.IDENTITY_ADDED]
    assert site.browser().signs_in().headers["location"] == "/?c=1"


def test_page_that_is_opened_again_gives_no_more_tries(site, corp, maya):
    browser = site.browser()
    answer = browser.signs_in()
    for _ in range(5):
        browser.opens(answer)
        browser.post("/identity/account", step=browser.step, password="not the password")
    browser.opens(answer)

    ended = browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert said(ended)["reason"] == "tries"
    assert (is_signed_in(browser), site.identities()) == (False, [])


def test_step_of_a_link_stays_open_while_daybook_is_busy(site, maya, monkeypatch):
    browser = site.browser()
    browser.opens(browser.signs_in())

    with monkeypatch.context() as busy:
        busy.setattr(HashingLanes, "run", AsyncMock(side_effect=RateLimited))
        refused = browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert escape(RateLimited.public) in refused.text
    browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert browser.session.user_id == maya.user_id


def test_step_of_a_link_stays_open_while_no_code_is_sent(site, maya):
    browser = site.neighbour()
    browser.opens(browser.signs_in())
    site.use_up(site.attempts.step("shared"))

    refused = browser.post("/identity/account/code", step=browser.step)

    assert "Too many attempts." in refused.text
    browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert browser.session.user_id == maya.user_id


def test_account_is_proved_by_a_code(site, corp, maya):
    browser = site.browser()
    browser.opens(browser.signs_in())

    sent = browser.post("/identity/account/code", step=browser.step)
    browser.step = said(sent)["step"]

    assert said(sent)["code"] == LINK
    [mail] = site.mails
    assert (mail.address, mail.content.purpose) == (ADDRESS, CodePurpose.SIGN_IN)
    assert said(browser.enters(another(site.digits), LINK))["reason"] == "wrong-code"
    assert site.identities() == []
    assert browser.enters(site.digits, LINK).headers["location"] == "/?c=1"
    assert browser.session.user_id == maya.user_id
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]


def test_factor_of_the_account_is_proved_too(make, corp):
    site = make(trusts_mfa=["mfa"])
    maya = site.user()
    corp.claims = {"amr": ["mfa"]}
    app = Authenticator().enrol(site.accounts, maya)
    browser = site.browser()
    browser.opens(browser.signs_in())

    asked = said(browser.post("/identity/account", step=browser.step, password=PASSWORD))

    assert asked["code"] == "factor"
    assert (is_signed_in(browser), site.identities()) == (False, [])
    browser.post("/factor", factor=app.code(), step=asked["step"], form="factor", next="/?c=1")
    assert browser.session.user_id == maya.user_id
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]
    assert site.told == [NoticeKind.IDENTITY_ADDED]


def test_recovery_code_of_a_link_that_fails_is_told(site, corp, maya):
    app = Authenticator().enrol(site.accounts, maya)
    browser = site.browser()
    browser.opens(browser.signs_in())
    asked = said(browser.post("/identity/account", step=browser.step, password=PASSWORD))
    identity = LinkedIdentity(
        identity=Identity(corp.issuer, SUBJECT), name="Corp SSO", created_at=datetime.now(UTC)
    )
    link(site.accounts, site.user(OTHER), site.found(OTHER).checked(PASSWORD), identity)

    given = {"factor": app.recovery[0], "step": asked["step"], "form": "recovery", "next": "/"}
    refused = said(browser.post("/factor", **given))

    assert (refused, is_signed_in(browser)) == ({"reason": "other-user"}, False)
    assert len(site.found().credentials.recovery) == 9
    assert site.told == [NoticeKind.RECOVERY_CODE_USED]


def test_required_factor_of_an_account_without_one_is_given_at_a_trusted_provider(trusted, corp):
    trusted.change_settings(requires_factor=False)
    maya = trusted.user()
    trusted.change_settings(requires_factor=True)
    browser = trusted.browser()
    browser.opens(browser.signs_in())

    answer = browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert answer.headers["location"] == "/?c=1"
    assert browser.session.user_id == maya.user_id
    assert trusted.identities() == [Identity(corp.issuer, SUBJECT)]


def test_passkey_of_an_account_is_asked_for_before_it_is_linked(trusted):
    """A factor at the provider says nothing of who has the account."""
    trusted.change_settings(requires_factor=False)
    add_passkey(trusted, trusted.user())
    trusted.change_settings(requires_factor=True)
    browser = trusted.browser()
    browser.opens(browser.signs_in())

    asked = said(browser.post("/identity/account", step=browser.step, password=PASSWORD))

    assert asked["code"] == "passkey_factor"
    assert (is_signed_in(browser), trusted.identities()) == (False, [])


def test_unconfirmed_account_of_the_address_is_not_linked(site):
    site.user(is_confirmed=False)

    assert said(site.browser().signs_in()) == {"c": "1", "reason": "address-unconfirmed"}


def test_unconfirmed_account_is_in_the_way_until_an_operator_frees_the_address(site):
    prepared = site.user(is_confirmed=False)
    site.free_address()
    browser = site.browser()

    browser.signs_in()

    assert (browser.session.email, browser.session.user_id == prepared.user_id) == (ADDRESS, False)


def test_unverified_address_links_nothing(site, corp, maya):
    corp.claims = {"email_verified": False}
    browser = site.browser()

    page = browser.opens(browser.signs_in())

    assert "Enter your email" in page.text
    assert ADDRESS not in page.text
    assert site.identities() == []


def test_step_of_a_link_goes_on_in_its_browser_alone(site, maya):
    browser, other = site.browser(), site.browser()
    browser.opens(browser.signs_in())
    other.opens(other.signs_in())

    answer = other.post("/identity/account", step=browser.step, password=PASSWORD)

    assert said(answer) == {"reason": "expired"}
    assert site.identities() == []


def test_password_that_is_off_links_nothing(make):
    site = make(methods=frozenset({SignInMethod.OIDC, SignInMethod.CODE}))
    _, session = replace(site.accounts, policy=SignInPolicy()).sign_up_with(ADDRESS, PASSWORD)
    confirm(site.accounts, session)
    browser = site.browser()
    page = browser.opens(browser.signs_in())

    assert 'name="password"' not in page.text
    answer = browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert said(answer)["reason"] == "off"
    assert site.identities() == []


def test_page_that_links_names_no_passkey_of_another_host(make):
    methods = frozenset({SignInMethod.OIDC, SignInMethod.PASSKEY})
    site = make(methods=methods)
    _, session = replace(site.accounts, policy=SignInPolicy()).sign_up_with(ADDRESS, PASSWORD)
    confirm(site.accounts, session)
    add_passkey(site, session, rp_id="old.example")
    browser = site.browser()

    assert "Ask your admin" in browser.opens(browser.signs_in()).text


@pytest.mark.parametrize(
    ("entry", "takes_passkey"), [({}, True), ({"domains": ["corp.example"], "only": True}, False)]
)
def test_page_that_links_offers_the_passkey(make, entry, takes_passkey):
    """Where a passkey opens nothing, as for the address of an only provider, the admin has to help."""
    methods = frozenset({SignInMethod.OIDC, SignInMethod.PASSKEY})
    site = make(methods=methods, **entry)
    _, session = replace(site.accounts, policy=SignInPolicy()).sign_up_with(ADDRESS, PASSWORD)
    confirm(site.accounts, session)
    browser = site.browser()
    assert "Ask your admin" in browser.opens(browser.signs_in()).text

    add_passkey(site, session)

    page = browser.opens(browser.signs_in()).text
    assert ('data-passkey="get"' in page) is takes_passkey
    assert ("Ask your admin" in page) is not takes_passkey


def restarted_without_provider(site, browser):
    """Restart the app after the provider was removed; *browser* goes on."""
    policy = replace(site.accounts.policy, providers={})
    restarted = SignOnSite(replace(site.accounts, policy=policy))
    browser.client = restarted.browser().client


def test_step_of_a_link_is_over_once_its_provider_is_removed(site, maya):
    browser = site.browser()
    browser.opens(browser.signs_in())
    restarted_without_provider(site, browser)

    shown = browser.get(f"/identity/account?step={browser.step}")
    sent = browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert [said(answer)["reason"] for answer in (shown, sent)] == ["expired"] * 2
    assert (is_signed_in(browser), site.identities()) == (False, [])


def test_code_of_a_step_is_over_once_its_provider_is_removed(site, nameless):
    browser = site.browser()
    browser.opens(browser.signs_in())
    browser.step = said(browser.post("/identity/address", step=browser.step, email=ADDRESS))["step"]
    restarted_without_provider(site, browser)

    entered = browser.enters(site.digits, AddressByCode.name)

    assert said(entered)["reason"] == "expired"
    assert site.found().stored is None


def test_code_that_is_off_links_nothing(make):
    site = make(methods=frozenset({SignInMethod.OIDC, SignInMethod.PASSWORD}))
    site.user()
    browser = site.browser()
    page = browser.opens(browser.signs_in())

    assert "Send code" not in page.text
    answer = browser.post("/identity/account/code", step=browser.step)
    assert said(answer) == {"reason": "off"}
    assert site.mails == []


def test_account_of_an_only_provider_is_linked_after_its_password(make, corp):
    site = make(domains=["corp.example"], only=True)
    _, session = replace(site.accounts, policy=SignInPolicy()).sign_up_with(ADDRESS, PASSWORD)
    confirm(site.accounts, session)
    browser = site.browser()
    refused = browser.post("/session", email=ADDRESS, password=PASSWORD, next="/")
    assert said(refused) == {"reason": "other-sign-in"}
    browser.opens(browser.signs_in())

    browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert browser.session.email == ADDRESS
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("cut", ["start_session", "change_credentials"])
def test_kill_between_two_steps_of_linking_links_all_or_nothing(
    site, maya, monkeypatch, cut, is_done
):
    owner = TablesBackend if cut == "start_session" else TablesUser
    browser, whole = site.browser(), getattr(owner, cut)

    def killed(*arguments, **named):
        if is_done:
            whole(*arguments, **named)
        raise StoreUnavailable

    browser.opens(browser.signs_in())
    with monkeypatch.context() as changed:
        changed.setattr(owner, cut, killed)
        browser.post("/identity/account", step=browser.step, password=PASSWORD)

    is_linked = cut == "change_credentials" and is_done  # the app finds the stored change
    assert (len(site.identities()), is_signed_in(browser)) == (is_linked, is_linked)
    browser.opens(browser.signs_in())
    if not is_linked:
        browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert browser.session.user_id == maya.user_id
    assert len(site.identities()) == 1


def changes_password(site, address=ADDRESS):
    _, session = site.accounts.sign_in_with(address, PASSWORD)
    site.accounts.change_with(session, PASSWORD, NEW_PASSWORD)


def test_password_is_compared_with_what_stood_when_the_step_began(site, maya):
    """Who has changed it meanwhile may be another."""
    browser = site.browser()
    browser.opens(browser.signs_in())
    changes_password(site)

    for password in (PASSWORD, NEW_PASSWORD):
        answer = browser.post("/identity/account", step=browser.step, password=password)
        assert said(answer)["reason"] == "expired"


def test_code_links_nothing_once_the_account_has_changed(site, maya):
    browser = site.browser()
    browser.opens(browser.signs_in())
    sent = browser.post("/identity/account/code", step=browser.step)
    browser.step = said(sent)["step"]
    changes_password(site)

    assert said(browser.enters(site.digits, LINK))["reason"] == "expired"
    assert site.identities() == []


def test_identity_linked_meanwhile_is_not_linked_again(site, corp, maya):
    """The answer of a form that is sent twice; the second of two browsers is refused."""
    first, second = site.browser(), site.browser()
    for browser in (first, second):
        browser.opens(browser.signs_in())
    first.post("/identity/account", step=first.step, password=PASSWORD)
    before = site.found().stored.generation

    answer = second.post("/identity/account", step=second.step, password=PASSWORD)

    assert said(answer)["reason"] == "expired"
    session, identity = session_of(site), site.found().credentials.identities[0]
    link(site.accounts, session, site.found().checked(PASSWORD), identity)
    assert site.found().stored.generation == before


def test_link_that_is_refused_leaves_no_session(site, corp, maya):
    """Another account adds the identity at this moment."""
    identity = LinkedIdentity(
        identity=Identity(corp.issuer, SUBJECT), name="Corp SSO", created_at=datetime.now(UTC)
    )
    noor = site.user(OTHER)
    link(site.accounts, noor, site.found(OTHER).checked(PASSWORD), identity)
    before = len(maya.backend.devices())

    with pytest.raises(IdentityTaken):
        sign_in_linking(site.accounts, site.found().checked(PASSWORD), identity)

    assert len(maya.backend.devices()) == before


# --- the account of a session


def adds(browser):
    """Go to the provider from the page Account and back, and open the page that asks; return it."""
    answer = browser.returns(browser.leaves_by_form("link"))
    return browser.opens(answer)


@pytest.fixture
def noor(site):
    """A browser in which a user with another address than the provider's has just signed in."""
    site.user(OTHER)
    return site.signed_in(OTHER)


def test_user_adds_a_sign_in_after_seeing_whose_it_is(site, corp, noor):
    page = adds(noor)
    assert f"<b>{ADDRESS}</b> at Corp SSO" in page.text
    assert "has not confirmed" not in page.text
    assert site.identities(OTHER) == []

    answer = noor.post("/identity/add", step=noor.step)

    assert said(answer) == {"reason": "identity-added"}
    assert site.identities(OTHER) == [Identity(corp.issuer, SUBJECT)]
    assert site.found(OTHER).credentials.identities[0].name == ADDRESS
    assert site.outdated == [noor.session.user_id]
    assert site.told == [NoticeKind.IDENTITY_ADDED]
    again = site.browser()
    again.signs_in()
    assert again.session.email == OTHER


def test_address_that_the_provider_did_not_confirm_is_shown_as_such(corp, noor):
    """Anybody can name the address of the user there."""
    corp.claims = {"email": OTHER, "email_verified": False}

    page = adds(noor)

    assert f"<b>{OTHER}</b> at Corp SSO" in page.text
    assert "Corp SSO has not confirmed this email." in page.text


def test_form_of_the_page_account_answers_with_a_link(noor, corp):
    """A form would not lead to a provider: browsers apply `form-action 'self'` to redirects."""
    answer = noor.post("/oidc/corp/link")

    assert answer.status_code == 200
    assert f'rel="noreferrer" href="{corp.issuer}/authorize' in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_sign_in_is_added_only_after_a_recent_proof(site, corp, noor):
    asked = noor.leaves_by_form("link")
    noor.opens(noor.returns(asked))
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))

    assert said(noor.post("/identity/add", step=noor.step)) == {"reason": "prove"}
    assert said(noor.post("/oidc/corp/link")) == {"reason": "prove"}
    assert site.identities(OTHER) == []


def test_signed_out_user_adds_nothing(site, corp, noor):
    asked = noor.leaves_by_form("link")
    steps = {name: one for name, one in noor.cookies.items() if name == "__Host-step"}
    noor.cookies = steps

    assert said(noor.returns(asked)) == {"reason": "expired"}
    assert "/token" not in corp.paths()


def test_answer_in_another_session_adds_nothing(site, corp, noor):
    """Also one of the same user in the same browser."""
    asked, steps = noor.leaves_by_form("link"), noor.cookies["__Host-step"]
    other = site.signed_in(OTHER)
    other.cookies["__Host-step"] = steps

    assert said(other.returns(asked)) == {"reason": "expired"}
    assert site.identities(OTHER) == []
    assert "/token" not in corp.paths()


def test_question_of_another_session_adds_nothing(site, noor):
    adds(noor)
    other = site.signed_in(OTHER)
    other.cookies["__Host-step"] = noor.cookies["__Host-step"]

    assert said(other.post("/identity/add", step=noor.step)) == {"reason": "expired"}
    assert site.identities(OTHER) == []


@pytest.mark.parametrize("act", ["/identity/add", "/identity/proof"])
def test_question_is_not_answered_after_the_sign_out(site, corp, noor, act):
    """By somebody who has copied the cookies."""
    if act == "/identity/proof":
        adds(noor)
        noor.post("/identity/add", step=noor.step)
        app = Authenticator().enrol(site.accounts, noor.session)
        noor.opens(proves(noor, corp)[1])
        entered = {"factor": app.code()}
    else:
        adds(noor)
        entered = {}
    copied, before = dict(noor.cookies), site.found(OTHER).stored
    noor.post("/session/end")
    noor.cookies = copied

    answer = noor.post(act, step=noor.step, **entered)

    assert answer.headers["location"] == "/account"
    assert site.found(OTHER).stored == before


def test_answer_of_a_session_is_good_once(corp, noor):
    asked = noor.leaves_by_form("link")
    noor.returns(asked, error="access_denied")

    assert said(noor.returns(asked)) == {"reason": "expired"}
    assert "/token" not in corp.paths()


def test_refused_addition_is_noted_and_ends_no_step(site, noor):
    page = adds(noor).text
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))
    [address] = re.findall('action="(/identity/add.*?)"', page)
    refused = noor.post(address, step=noor.step)

    assert said(refused) == {"then": "identity", "reason": "prove"}
    until(lambda: Failure.CHANGE in site.audited())
    site.change_sessions(proved_at=datetime.now(UTC))
    assert said(noor.post("/identity/add", step=noor.step)) == {"reason": "identity-added"}


def test_question_is_answered_once(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)

    assert said(noor.post("/identity/add", step=noor.step)) == {"reason": "expired"}


def test_identity_of_another_account_is_not_added(site, noor):
    site.browser().signs_in()

    assert said(noor.returns(noor.leaves_by_form("link"))) == {"reason": "other-user"}
    assert site.identities(OTHER) == []


def test_of_two_who_add_an_identity_at_once_one_is_refused(site, corp, noor):
    site.user("omar@corp.example")
    omar = site.signed_in("omar@corp.example")
    adds(noor)
    adds(omar)

    answers = at_once(
        lambda: said(noor.post("/identity/add", step=noor.step)),
        lambda: said(omar.post("/identity/add", step=omar.step)),
    )

    reasons = sorted(one["reason"] for one in answers)
    assert reasons[0] == "identity-added"
    assert reasons[1] in ("other-user", "way-in-taken")


def test_identity_that_is_linked_already_is_said(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)

    assert said(noor.returns(noor.leaves_by_form("link"))) == {"reason": "identity-linked"}


def test_user_with_ten_sign_ins_adds_no_other(site, noor):
    adds(noor)
    for number in range(10):
        add_identity(site, noor.session, f"{number}")

    assert said(noor.post("/oidc/corp/link")) == {"reason": "identities"}
    assert said(noor.post("/identity/add", step=noor.step)) == {"reason": "identities"}
    assert len(site.identities(OTHER)) == 10


def add_identity(site, session, subject):
    identity = LinkedIdentity(
        identity=Identity("https://other.example", subject),
        name=subject,
        created_at=datetime.now(UTC),
    )
    link(site.accounts, session, site.found(session.email).checked(PASSWORD), identity)


def test_sign_in_is_used_from_the_first_one_on(site, maya):
    browser = site.browser()
    page = browser.opens(browser.signs_in())
    assert "Corp SSO" in page.text
    browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert site.last_used() == [True]


def test_added_sign_in_is_not_used_until_it_signs_in(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    assert site.last_used(OTHER) == [None]
    before = site.found(OTHER).stored
    site.outdated.clear()

    site.browser().signs_in()

    after = site.found(OTHER).stored
    assert site.last_used(OTHER) == [True]
    assert (after.generation, after.uses) == (before.generation, before.uses + 1)
    assert site.audited().count("identity.use") == 1
    assert site.outdated == [noor.session.user_id]  # for the page of another device


def test_use_of_a_sign_in_costs_no_call_more(site, noor, monkeypatch):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    calls, run = [], InMemoryTables.run

    def counted(tables, work, **options):
        if current_thread().name != "notice":  # of the new browser, after the answer
            calls.append(work)
        return run(tables, work, **options)

    def calls_of_a_sign_in():
        browser = site.browser()
        asked = browser.leaves()
        calls.clear()
        browser.returns(asked)
        return len(calls)

    monkeypatch.setattr(InMemoryTables, "run", counted)
    noting = calls_of_a_sign_in()
    assert site.last_used(OTHER) == [True]
    monkeypatch.setattr(oidc_visits, "given_identity", lambda _, checked, __, act: act(checked))

    assert noting == calls_of_a_sign_in()


def renames(browser, mark, name="Work"):
    return browser.post("/identity/rename", identity=mark, identity_name=name)


def test_user_renames_a_sign_in(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    [own], before = site.identities(OTHER), site.found(OTHER).stored
    site.outdated.clear()

    assert said(renames(noor, own.mark)) == {}

    [after] = site.found(OTHER).credentials.identities
    assert (after.identity, after.name) == (own, "Work")
    assert site.outdated == [noor.session.user_id]
    stored = site.found(OTHER).stored
    assert (stored.generation, stored.uses) == (before.generation, before.uses)
    assert said(renames(noor, own.mark, "x" * 61))["reason"] == "name"
    assert said(renames(noor, "of nobody"))["reason"] == "expired"
    refused = noor.post("/identity/remove?then=remove-x", identity="of nobody")
    assert said(refused) == {"then": "remove-x", "reason": "expired"}
    assert site.found(OTHER).credentials.identities == (after,)


def test_sign_in_is_renamed_only_after_a_recent_proof(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    [own] = site.identities(OTHER)
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))

    assert said(renames(noor, own.mark)) == {"reason": "prove"}
    assert site.found(OTHER).credentials.identities[0].name == ADDRESS
    assert site.outdated == [noor.session.user_id]


def test_user_removes_a_sign_in(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    [own] = site.identities(OTHER)

    answer = noor.post("/identity/remove", identity=own.mark)

    assert said(answer) == {"reason": "identity-removed"}
    assert site.identities(OTHER) == []
    assert site.told == [NoticeKind.IDENTITY_ADDED, NoticeKind.IDENTITY_REMOVED]
    assert session_of(site).email == ADDRESS  # a new account: it opens the old one no more
    again = noor.post("/identity/remove", identity=own.mark)
    assert said(again)["reason"] == "expired"


@pytest.mark.parametrize("act", ["add", "remove"])
def test_other_devices_are_signed_out_if_asked(site, noor, act):
    other = site.signed_in(OTHER)
    adds(noor)
    answer = noor.post(
        "/identity/add", step=noor.step, **({"others": "yes"} if act == "add" else {})
    )
    if act == "remove":
        assert other.session
        assert site.stopped == []
        [own] = site.identities(OTHER)
        answer = noor.post("/identity/remove", identity=own.mark, others="yes")

    assert said(answer)["reason"] in ("identity-added", "identity-removed")
    assert site.accounts.ended([other.session]).keys()
    assert noor.session
    [is_meant] = site.stopped  # their replies are stored first
    assert is_meant(other.session)


def test_sign_in_is_removed_only_after_a_recent_proof(site, noor):
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    [own] = site.identities(OTHER)
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))

    assert said(noor.post("/identity/remove", identity=own.mark)) == {"reason": "prove"}
    assert site.identities(OTHER) == [own]


# --- proofs


@pytest.fixture
def linked(site, noor):
    """The browser of a user who has added the sign-in, and whose proof is over."""
    adds(noor)
    noor.post("/identity/add", step=noor.step)
    site.change_sessions(proved_at=datetime.now(UTC) - timedelta(minutes=11))
    return noor


def is_proven(browser):
    return any(one.is_proven for one in browser.session.backend.devices() if one.is_this_one)


def proves(browser, corp, signed_in_at=None, **fields):
    asked = browser.leaves_by_form("prove", **fields)
    now = int(time.time())
    corp.claims = corp.claims | {"auth_time": now if signed_in_at is None else signed_in_at}
    return asked, browser.returns(asked)


def test_provider_proves_who_is_signed_in(site, corp, linked):
    before = linked.cookies["__Host-sid"]
    assert not is_proven(linked)
    site.outdated.clear()

    asked, answer = proves(linked, corp, then="new_address")

    assert (asked["max_age"], asked["prompt"]) == ("0", "login")
    assert said(answer) == {"then": "new_address", "reason": "proved"}
    assert linked.cookies["__Host-sid"] != before
    assert is_proven(linked)
    assert site.last_used(OTHER) == [True]
    assert site.outdated == [linked.session.user_id]


def test_old_sign_in_at_the_provider_proves_nothing(corp, linked):
    _, answer = proves(linked, corp, signed_in_at=int(time.time()) - 601)

    assert said(answer) == {"reason": "prove"}
    assert not is_proven(linked)


def test_answer_without_a_time_proves_nothing(corp, linked):
    answer = linked.returns(linked.leaves_by_form("prove"))

    assert said(answer) == {"reason": "answer"}
    assert not is_proven(linked)


def scope_of(browser):
    [mine] = [one for one in browser.session.backend.devices() if one.is_this_one]
    return (mine.is_proven, mine.is_proven_in_part)


FULL, IN_PART, NONE = (True, True), (False, True), (False, False)  # as `scope_of` returns them


@pytest.fixture
def bare(make, corp):
    """The browser of a user who has a sign-in of the provider alone, where no mail is sent."""
    browser = make(may_sign_up=True, sends_mail=False).browser()
    browser.signs_in()
    assert scope_of(browser) == NONE
    return browser


def test_user_without_another_proof_proves_in_part(bare):
    before, asked = bare.cookies["__Host-sid"], bare.leaves_by_form("prove", then="new_address")

    answer = bare.returns(asked)

    assert (asked["max_age"], asked["prompt"]) == ("0", "login")
    assert said(answer) == {"then": "new_address", "reason": "proved-in-part"}
    assert bare.cookies["__Host-sid"] != before
    assert scope_of(bare) == IN_PART


def test_proof_in_part_adds_a_password_and_no_identity(bare):
    bare.returns(bare.leaves_by_form("prove"))

    refused = bare.post("/oidc/corp/link")
    added = bare.post("/account/password", password=NEW_PASSWORD)

    assert said(refused)["reason"] == "prove"
    assert said(added) == {"reason": "password-added"}
    assert said(bare.post("/account/password", password=PASSWORD)) == {"reason": "prove"}


def test_password_added_by_a_proof_in_part_proves_in_full(bare):
    bare.returns(bare.leaves_by_form("prove"))
    bare.post("/account/password", password=NEW_PASSWORD)

    bare.post("/proof", password=NEW_PASSWORD)

    assert scope_of(bare) == FULL


def test_proof_in_part_deletes_the_account(bare):
    bare.returns(bare.leaves_by_form("prove"))

    bare.post("/account/end", address=ADDRESS)

    assert bare.site.found().stored is None


def test_sign_in_that_proves_nothing_adds_no_password(bare):
    assert said(bare.post("/account/password", password=NEW_PASSWORD)) == {"reason": "prove"}
    assert said(bare.post("/account/end", address=ADDRESS)) == {"reason": "prove"}


def test_answer_with_a_time_proves_in_full_whatever_was_asked(bare, corp):
    _, answer = proves(bare, corp)

    assert said(answer) == {"reason": "proved"}
    assert scope_of(bare) == FULL


def test_old_answer_of_a_user_without_another_proof_proves_nothing(bare, corp):
    _, answer = proves(bare, corp, signed_in_at=int(time.time()) - 601)

    assert said(answer) == {"reason": "prove"}
    assert scope_of(bare) == NONE


def test_user_whose_code_would_be_mailed_proves_nothing_by_a_fresh_answer(site):
    browser = site.browser()
    browser.signs_in()

    answer = browser.returns(browser.leaves_by_form("prove"))

    assert said(answer) == {"reason": "answer"}
    assert scope_of(browser) == NONE


def test_proof_in_part_asks_for_the_factor_of_the_account(bare):
    bare.site.change_sessions(scope=ProofScope.FULL)
    app = Authenticator().enrol(bare.site.accounts, bare.session)
    bare.site.change_sessions(scope=ProofScope.NONE)

    bare.opens(bare.returns(bare.leaves_by_form("prove")))
    assert scope_of(bare) == NONE
    answer = bare.post("/identity/proof", step=bare.step, factor=app.code())

    assert said(answer) == {"reason": "proved-in-part"}
    assert scope_of(bare) == IN_PART


def test_sixth_factor_of_a_proof_says_that_five_tries_failed(bare):
    bare.site.change_sessions(scope=ProofScope.FULL)
    app = Authenticator().enrol(bare.site.accounts, bare.session)
    bare.site.change_sessions(scope=ProofScope.NONE)
    bare.opens(bare.returns(bare.leaves_by_form("prove")))
    for _ in range(5):
        bare.post("/identity/proof", step=bare.step, factor="000000")

    answer = bare.post("/identity/proof", step=bare.step, factor=app.code())

    assert said(answer) == {"reason": "tries"}
    assert scope_of(bare) == NONE


def test_user_of_a_trusted_provider_proves_without_a_factor_of_their_own(make, corp):
    site = make(may_sign_up=True, sends_mail=False, trusts_mfa=["mfa"])
    site.change_settings(requires_factor=True)
    corp.claims, browser = {"amr": ["mfa"]}, site.browser()
    browser.signs_in()

    corp.claims = {"amr": ["pwd"]}
    answer = browser.returns(browser.leaves_by_form("prove"))

    assert said(answer) == {"reason": "proved-in-part"}
    assert scope_of(browser) == IN_PART


# --- sign-ins as proofs


@pytest.mark.parametrize(
    ("ago", "scope"), [(0, FULL), (590, FULL), (601, NONE), (None, NONE)], ids=str
)
def test_sign_up_and_sign_in_prove_as_far_as_the_answer_says(site, corp, ago, scope):
    corp.claims = {} if ago is None else {"auth_time": int(time.time()) - ago}
    for _ in ("a sign-up", "a sign-in"):
        browser = site.browser()
        browser.signs_in()
        assert scope_of(browser) == scope


@pytest.mark.parametrize(("ago", "scope"), [(0, FULL), (None, NONE)], ids=str)
def test_sign_in_with_a_factor_proves_as_far_as_the_answer_says(site, corp, ago, scope):
    corp.claims = {"auth_time": int(time.time())}
    app = Authenticator().enrol(site.accounts, session_of(site))
    corp.claims = {} if ago is None else {"auth_time": int(time.time()) - ago}
    browser = site.browser()

    step = said(browser.signs_in())["step"]
    browser.post("/factor", factor=app.code(), step=step, form="factor", next="/")

    assert scope_of(browser) == scope


def sets_up_on_the_way_in(browser, step):
    page = browser.post("/factor/enrol", step=step, next="/")
    key = re.sub(r"\s", "", re.search(r"<code>(.*?)</code>", page.text)[1])
    browser.post("/factor/enrol/confirm", code=TOTP(key).now(), step=step, next="/")


def test_sign_in_that_sets_a_factor_up_proves_as_far_as_the_answer_says(site):
    session_of(site)
    site.change_settings(requires_factor=True)
    browser = site.browser()

    sets_up_on_the_way_in(browser, said(browser.signs_in())["step"])

    assert scope_of(browser) == NONE


def test_sign_up_that_sets_a_factor_up_proves_as_far_as_the_answer_says(site):
    site.change_settings(requires_factor=True)
    browser = site.browser()

    sets_up_on_the_way_in(browser, said(browser.signs_in())["step"])

    assert scope_of(browser) == NONE


def test_sign_in_that_links_is_a_proof_by_the_password(site, maya):
    browser = site.browser()
    browser.opens(browser.signs_in())
    browser.post("/identity/account", step=browser.step, password=PASSWORD)

    assert scope_of(browser) == FULL


def test_identity_of_another_user_proves_nothing(site, corp, linked):
    corp.claims = {"sub": "another", "email": ADDRESS}
    site.browser().signs_in()

    _, answer = proves(linked, corp)

    assert said(answer) == {"reason": "other-user"}
    assert not is_proven(linked)


def test_proof_in_another_session_proves_nothing(site, corp, linked):
    other = site.signed_in(OTHER)
    asked = linked.leaves_by_form("prove")
    other.cookies["__Host-step"] = linked.cookies["__Host-step"]
    corp.claims = {"auth_time": int(time.time())}

    assert said(other.returns(asked)) == {"reason": "expired"}
    assert not is_proven(linked)


def test_proof_asks_for_the_factor_of_the_account(site, corp, linked):
    app = Authenticator().enrol(site.accounts, site.signed_in(OTHER).session)
    _, answer = proves(linked, corp)
    assert answer.headers["location"].startswith("/identity/proof?step=")
    linked.opens(answer)
    assert not is_proven(linked)

    wrong = linked.post("/identity/proof", step=linked.step, factor=app.wrong)
    assert "Wrong code." in wrong.text
    assert not is_proven(linked)
    right = linked.post("/identity/proof", step=linked.step, factor=app.code())

    assert said(right) == {"reason": "proved"}
    assert is_proven(linked)
    assert site.last_used(OTHER) == [True]
    assert site.audited().count("factor.use") == 1


# --- an address that the provider does not name


@pytest.fixture
def nameless(corp):
    corp.claims = {"email": LEFT_OUT, "email_verified": LEFT_OUT}
    corp.profile = {"sub": SUBJECT}


def enters_an_address(browser, address, **query):
    browser.opens(browser.signs_in(**query))
    sent = browser.post("/identity/address", step=browser.step, email=address)
    browser.step = said(sent)["step"]
    assert said(sent)["code"] == AddressByCode.name
    return browser.enters(browser.site.digits, AddressByCode.name)


def test_address_is_confirmed_by_a_code_before_an_account_begins(site, corp, nameless):
    browser = site.browser()
    browser.opens(browser.signs_in())
    sent = browser.post("/identity/address", step=browser.step, email=ADDRESS)
    browser.step = said(sent)["step"]

    wrong = browser.enters(another(site.digits), AddressByCode.name)
    assert said(wrong)["reason"] == "wrong-code"
    assert site.found().stored is None
    browser.enters(site.digits, AddressByCode.name)

    assert browser.session.email == ADDRESS
    assert site.found().credentials.confirmed.how is ConfirmedBy.CODE
    assert site.identities() == [Identity(corp.issuer, SUBJECT)]


def test_mistyped_address_is_asked_for_again(site, nameless):
    browser = site.browser()
    browser.opens(browser.signs_in())

    refused = browser.post("/identity/address", step=browser.step, email='maya"@corp')

    assert escape(BadAddress.public) in refused.text
    assert 'value="maya&quot;@corp"' in refused.text
    assert f'value="{browser.step}"' in refused.text
    sent = browser.post("/identity/address", step=browser.step, email=ADDRESS)
    assert said(sent)["code"] == AddressByCode.name


def test_address_is_asked_for_again_while_the_store_is_away(site, nameless, monkeypatch):
    browser = site.browser()
    browser.opens(browser.signs_in())

    with monkeypatch.context() as away:
        away.setattr(CodeRoutes, "begin", AsyncMock(side_effect=StoreUnavailable))
        refused = browser.post("/identity/address", step=browser.step, email=ADDRESS)

    assert escape(StoreUnavailable.public) in refused.text
    sent = browser.post("/identity/address", step=browser.step, email=ADDRESS)
    assert said(sent)["code"] == AddressByCode.name


def test_page_that_asks_for_an_address_gives_a_code_no_tries(site, nameless):
    browser = site.browser()
    browser.opens(browser.signs_in())
    sent = browser.post("/identity/address", step=browser.step, email=ADDRESS)
    browser.step = said(sent)["step"]

    for _ in range(5):
        browser.enters(another(site.digits), AddressByCode.name)
        shown = browser.get(f"/identity/address?step={browser.step}")
        assert said(shown)["reason"] == "expired"

    assert said(browser.enters(site.digits, AddressByCode.name))["reason"] == "expired"
    assert not is_signed_in(browser)


def test_invitation_goes_along_where_an_address_is_asked_for(site, nameless):
    code = invites(site)
    browser = site.browser()

    enters_an_address(browser, ADDRESS, invite=code)

    assert browser.session.email == ADDRESS


def test_address_of_an_account_leads_to_its_proof(site, nameless, maya):
    browser = site.browser()

    answer = enters_an_address(browser, ADDRESS)

    assert answer.headers["location"].startswith("/identity/account?step=")
    assert not is_signed_in(browser)
    browser.opens(answer)
    browser.post("/identity/account", step=browser.step, password=PASSWORD)
    assert browser.session.user_id == maya.user_id


def test_address_is_asked_for_alike_whether_it_has_an_account(site, nameless, maya):
    sent = []
    for address in (ADDRESS, OTHER):
        browser = site.browser()
        browser.opens(browser.signs_in())
        answer = browser.post("/identity/address", step=browser.step, email=address)
        sent.append((answer.status_code, answer.headers["location"].partition("step=")[0]))

    assert sent[0] == sent[1]


def test_address_of_another_domain_begins_no_account(make, corp, nameless):
    site = make(may_sign_up=True, domains=["corp.example"])

    answer = enters_an_address(site.browser(), "maya@evilcorp.example")

    assert said(answer)["reason"] == "no-account"


def test_address_is_not_asked_for_without_mail(make, nameless):
    site = make(may_sign_up=True, sends_mail=False)

    assert said(site.browser().signs_in()) == {"c": "1", "reason": "no-address"}


# --- signing out


def test_signed_out_user_can_sign_out_of_the_provider_too(site, corp):
    browser = site.browser()
    browser.signs_in()

    left = browser.post("/session/end")

    assert left.headers["location"] == "/?left=corp&reason=left"
    assert browser.cookies.keys() == {"__Host-device"}
    answer = browser.get("/oidc/corp/end", **PRESSED)
    assert answer.headers["location"] == (
        f"{corp.issuer}/end?client_id=daybook&post_logout_redirect_uri=http%3A%2F%2Flocalhost%2F"
    )


def test_user_is_offered_no_sign_out_that_the_provider_does_not_have(make, corp):
    """Nor that of another one, by which the browser signed in before."""
    corp.metadata, corp.claims = {"end_session_endpoint": LEFT_OUT}, {"email": OTHER}
    with forging_provider() as other:
        browser = make(may_sign_up=True, others={"other": other}).browser()
        browser.site.user()
        browser.opens(browser.signs_in("other"))
        browser.post("/identity/account", step=browser.step, password=PASSWORD)
        assert browser.session.email == ADDRESS
        browser.signs_in("other")
    assert "__Host-provider" in browser.cookies

    browser.signs_in("corp")

    assert browser.session.email == OTHER
    assert browser.post("/session/end").headers["location"] == "/?reason=left"


def test_user_of_a_password_is_signed_out_of_no_provider(site):
    site.user(OTHER)

    assert site.signed_in(OTHER).post("/session/end").headers["location"] == "/?reason=left"


def test_link_of_another_site_signs_nobody_out(site, corp):
    answer = site.browser().get("/oidc/corp/end", **LED_BACK)

    assert answer.headers["location"] == "/"
    assert corp.asked == []


def test_provider_without_a_sign_out_is_said(site, corp):
    corp.metadata = {"end_session_endpoint": LEFT_OUT}

    answer = site.browser().get("/oidc/corp/end", **PRESSED)

    assert "cannot sign you out of Corp SSO" in answer.text
