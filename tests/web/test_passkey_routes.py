"""The routes of passkeys: signing in, proving, adding, renaming and removing, and that each forged answer is refused."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from services import errors
from services.crypto.vault import encode_base64url
from services.domain.accounts import Failure, ProofScope
from services.domain.mails import Notice, NoticeKind
from services.domain.passkeys import MOST_PASSKEYS
from services.domain.sign_in_methods import SignInMethod
from services.provider_settings import ProviderSettings
from services.store.accounts import Accounts, Cookie
from services.store.sign_in_policy import SignInPolicy
from services.store.tables import schema
from services.store.tables.in_memory import InMemoryStore
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.own_passkeys import AddPasskey, OwnPasskeys
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_routes import PasskeyRoutes
from services.web.passkey_sign_in import ProveByPasskey, SignInByPasskey
from services.web.session_start import SessionStart
from tests.authenticator import Authenticator as App
from tests.passkeys import PRESENT, Authenticator
from tests.store.conftest import PASSWORD, new_email
from tests.stores import accounts_in_memory
from tests.web.test_code_routes import said
from tests.web.test_own_factor import FactorSite, new_user
from tests.web.test_records import failures, told

pytestmark = pytest.mark.usefixtures("cheap_passwords")
HERE = "http://localhost"
CORP = {"issuer": "https://login.example.com", "client_id": "daybook", "client_secret": "a secret"}


@dataclass
class PasskeySite(FactorSite):
    """The routes of passkeys."""

    def __post_init__(self):
        super().__post_init__()
        shared = self.own.shared()
        origin = Origin(None, 0)
        notices = Notices(self.attempts, origin, self.send)
        start = SessionStart(lambda: shared, self.attempts, origin, 3600, notices)
        check = PasskeyCheck(self.attempts, origin, notices)
        flows = SignInByPasskey(start, check), ProveByPasskey(check), AddPasskey(notices)
        self.passkey_routes = PasskeyRoutes(lambda: shared, self.attempts, origin, flows)
        self.own_routes = OwnPasskeys(lambda: shared, origin, notices)
        self.routes = [*self.passkey_routes.routes(), *self.own_routes.routes()]

    def passkeys(self, browser):
        return self.current(browser).credentials.passkeys


def options(browser, use, **fields):
    """Press the button; keep the step."""
    answer = browser.post("/passkey/options", use=use, **fields).json()
    browser.step = answer.get("step", "")
    return answer


def adds(browser, authenticator, name="Laptop", **fields):
    """Add a passkey; *fields*: of the form, or `forged`."""
    forged = fields.pop("forged", {})
    asked = options(browser, "add", passkey_name=name, **fields)["options"]
    return sends(browser, "add", authenticator.create(asked, **forged), next="/account")


def answers(browser, authenticator, use, *, target="/?c=1", forged=None):
    """Use a passkey."""
    asked = options(browser, use)["options"]
    return sends(browser, use, authenticator.get(asked, **(forged or {})), next=target)


def sends(browser, use, answer, **fields):
    return browser.post("/passkey", use=use, step=browser.step, answer=answer, **fields)


def signs_in(browser, authenticator, **forged):
    return answers(browser, authenticator, "sign_in", forged=forged)


def proves(browser, authenticator, **forged):
    return answers(browser, authenticator, "proof", target="/account?then=1", forged=forged)


@pytest.fixture
def site(request):
    limits = getattr(request, "param", {})
    return PasskeySite(accounts_in_memory(InMemoryStore()), limits=limits)


@pytest.fixture
def maya(site):
    return new_user(site)


@pytest.fixture
def browser(site, maya):
    return site.signed_in(maya)


@pytest.fixture
def key(browser):
    """A passkey of maya's."""
    authenticator = Authenticator(HERE)
    adds(browser, authenticator)
    return authenticator


@pytest.fixture
def stranger(site):
    return site.browser()


# --- adding


def test_passkey_is_added_by_its_user(site, maya, browser):
    authenticator = Authenticator(HERE)

    assert said(adds(browser, authenticator)) == {"reason": "passkey-added"}

    passkeys = site.passkeys(browser)
    [one] = passkeys.each
    assert (one.credential_id, one.name, one.rp_id) == (authenticator.id, "Laptop", "localhost")
    assert (one.verifies_user, passkeys.user_handle) == (True, authenticator.user_handle)
    assert [(mail.address, mail.content) for mail in site.mails] == [
        (maya, Notice(NoticeKind.PASSKEY_ADDED))
    ]
    assert site.outdated == [browser.session.user_id]
    assert site.stopped == []
    assert not site.current(browser).stored.wants_factor


def test_all_passkeys_of_a_user_name_the_user_alike(site, browser, key):
    other = Authenticator(HERE)

    asked = options(browser, "add", passkey_name="Phone")["options"]
    sends(browser, "add", other.create(asked))

    assert other.user_handle == key.user_handle
    assert [one["id"] for one in asked["excludeCredentials"]] == [encode_base64url(key.id)]
    assert asked["attestation"] == "none"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert [one.name for one in site.passkeys(browser).each] == ["Laptop", "Phone"]


def test_passkey_is_added_after_a_recent_proof_alone(site, browser):
    authenticator = Authenticator(HERE)
    asked = options(browser, "add", passkey_name="Laptop")["options"]
    site.change_sessions(proved_at=None)

    assert options(browser, "add", passkey_name="Laptop") == {"refusal": errors.ProofNeeded.public}

    browser.step = ""
    assert said(sends(browser, "add", authenticator.create(asked))) == {"reason": "expired"}
    assert site.passkeys(browser) is None


def test_proof_in_part_adds_a_passkey_but_ends_no_other_sessions(site, browser):
    site.change_sessions(scope=ProofScope.PART)
    authenticator = Authenticator(HERE)

    refused = options(browser, "add", passkey_name="Laptop", others="yes")
    assert refused == {"refusal": errors.ProofNeeded.public}
    assert said(adds(browser, authenticator)) == {"reason": "passkey-added"}
    assert said(removes(browser, authenticator)) == {"reason": "prove"}


def test_passkey_is_not_added_where_passkeys_are_off(site, browser):
    authenticator = Authenticator(HERE)
    asked = options(browser, "add", passkey_name="Laptop")["options"]
    switch(site, methods=frozenset({SignInMethod.PASSWORD}))

    assert said(sends(browser, "add", authenticator.create(asked))) == {"reason": "off"}
    assert options(browser, "add", passkey_name="Phone") == {"refusal": errors.MethodOff.public}
    assert site.passkeys(browser) is None


def test_proof_that_has_become_old_adds_no_passkey(site, browser):
    authenticator = Authenticator(HERE)
    asked = options(browser, "add", passkey_name="Laptop")["options"]
    site.change_sessions(proved_at=None)

    assert said(sends(browser, "add", authenticator.create(asked))) == {"reason": "prove"}

    assert site.passkeys(browser) is None
    assert failures(browser.session) == {Failure.CHANGE: 1}


@pytest.mark.parametrize(
    "forged",
    [
        {"client_data": {"origin": "http://evil.example"}},
        {"client_data": {"crossOrigin": True}},
        {"rp": "evil.example"},
        {"flags": PRESENT | 64},
        {"client_data": {"challenge": "AAAA"}},
    ],
    ids=["origin", "frame", "relying party", "verification", "challenge"],
)
def test_forged_passkey_is_not_added(site, browser, forged):
    assert said(adds(browser, Authenticator(HERE), forged=forged)) == {"reason": "passkey"}

    assert site.passkeys(browser) is None
    assert failures(browser.session) == {Failure.CHANGE: 1}
    assert site.mails == []


def test_passkey_is_not_added_once_a_way_in_has_changed(site, browser, key):
    authenticator = Authenticator(HERE)
    asked = options(browser, "add", passkey_name="Phone")["options"]
    step = browser.step
    adds(browser, Authenticator(HERE))
    browser.step = step

    assert said(sends(browser, "add", authenticator.create(asked))) == {"reason": "expired"}

    assert len(site.passkeys(browser).each) == 2


def test_passkey_is_added_in_the_session_that_asked_alone(site, maya, browser):
    authenticator, omar = Authenticator(HERE), site.signed_in(new_user(site))
    for other in (omar, site.signed_in(maya)):
        asked = options(browser, "add", passkey_name="Laptop")["options"]
        other.step = browser.step
        other.cookies["__Host-step"] = browser.cookies["__Host-step"]

        assert said(sends(other, "add", authenticator.create(asked))) == {"reason": "expired"}

        assert site.passkeys(other) is None


def test_passkey_of_another_account_is_not_added(site, browser, key):
    omar = site.signed_in(new_user(site))

    assert said(adds(omar, key)) == {"reason": "way-in-taken"}

    assert site.passkeys(omar) is None


def test_user_is_told_of_the_most_passkeys(site, browser, key):
    for _ in range(MOST_PASSKEYS - 1):
        adds(browser, Authenticator(HERE))

    assert options(browser, "add", passkey_name="Phone") == {
        "refusal": errors.TooManyPasskeys.public
    }

    assert len(site.passkeys(browser).each) == MOST_PASSKEYS


@pytest.mark.parametrize("name", ["", " ", "n" * 61])
def test_name_that_cannot_be_shown_is_refused_before_a_passkey_is_made(browser, name):
    assert "Enter a name" in options(browser, "add", passkey_name=name)["refusal"]


# --- signing in


def test_passkey_signs_in_without_an_address(site, maya, key, stranger):
    asked = options(stranger, "sign_in")["options"]
    answer = sends(stranger, "sign_in", key.get(asked), next="/?c=1")

    assert (asked["allowCredentials"], asked["userVerification"]) == ([], "required")
    assert answer.headers["location"] == "/?c=1"
    assert stranger.session.email == maya
    assert "__Host-step" not in stranger.cookies
    [passkey] = site.passkeys(stranger).each
    assert (passkey.sign_count, passkey.last_used_at is None) == (1, False)
    assert site.current(stranger).stored.uses == 1


def test_passkey_is_both_factors(site, browser, key, stranger):
    App().enrol(site.accounts, browser.session)
    site.require_factor()

    signs_in(stranger, key)

    assert stranger.session


def switch(site, **policy):
    """Have the process sign users in by another policy."""
    on = site.cache.accounts
    site.own.shared().session_cache.accounts = replace(on, policy=SignInPolicy(**policy))


@pytest.mark.parametrize("use", ["sign_in", "proof"])
def test_passkey_made_before_passkeys_were_off_does_nothing(site, browser, key, use):
    asked, before = options(browser, use)["options"], browser.cookies["__Host-sid"]
    site.change_sessions(proved_at=None)
    switch(site, methods=frozenset({SignInMethod.PASSWORD}))

    assert said(sends(browser, use, key.get(asked))) == {"reason": "off"}
    assert options(browser, use) == {"refusal": errors.MethodOff.public}
    assert browser.cookies["__Host-sid"] == before
    assert not any(one.is_proven for one in browser.session.backend.devices())


@pytest.mark.parametrize("use", ["sign_in", "proof"])
def test_passkey_made_before_a_provider_alone_lets_in_does_nothing(site, maya, browser, key, use):
    asked, before = options(browser, use)["options"], browser.cookies["__Host-sid"]
    site.change_sessions(proved_at=None)
    only = {"only": True, "domains": [maya.partition("@")[2]]}
    switch(site, providers={"corp": ProviderSettings.model_validate(CORP | only)})

    assert said(sends(browser, use, key.get(asked))) == {"reason": "other-sign-in"}
    assert browser.cookies["__Host-sid"] == before
    assert not any(one.is_proven for one in browser.session.backend.devices())


def test_passkey_does_not_open_a_suspended_account(site, browser, key, stranger):
    user_id = browser.session.user_id

    @site.accounts.backend.tables.run
    def _(block):
        for one in block.select(schema.ACCOUNTS):
            when = datetime.now(UTC) if one.id == user_id else None
            block.put(schema.ACCOUNTS, replace(one, suspended_at=when))

    assert said(signs_in(stranger, key)) == {"c": "1", "reason": "suspended"}

    assert "__Host-sid" not in stranger.cookies


FORGED = {
    "origin": {"client_data": {"origin": "http://evil.example"}},
    "frame": {"client_data": {"crossOrigin": True}},
    "relying party": {"rp": "evil.example"},
    "challenge": {"client_data": {"challenge": "AAAA"}},
    "type": {"client_data": {"type": "webauthn.create"}},
    "verification": {"flags": PRESENT},
    "user": {"answer": {"user_handle": bytes(64)}},
    "no user": {"answer": {"user_handle": None}},
    "signature": {"answer": {"signature": b"signature"}},
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_forged_answer_signs_nobody_in(site, browser, key, stranger, forged):
    assert said(signs_in(stranger, key, **forged)) == {"c": "1", "reason": "passkey"}

    assert "__Host-sid" not in stranger.cookies
    assert failures(browser.session) == {Failure.PASSKEY: 1}
    assert site.passkeys(browser).each[0].last_used_at is None


def test_challenge_is_taken_once(site, key, stranger):
    asked = options(stranger, "sign_in")["options"]
    answer, step = key.get(asked), stranger.cookies["__Host-step"]
    sends(stranger, "sign_in", answer)
    first = stranger.session
    stranger.cookies["__Host-step"] = step

    assert said(sends(stranger, "sign_in", answer)) == {"reason": "expired"}

    assert stranger.session is first


def test_refused_answer_ends_its_challenge(key, stranger):
    asked = options(stranger, "sign_in")["options"]
    sends(stranger, "sign_in", key.get(asked, flags=PRESENT))

    assert said(sends(stranger, "sign_in", key.get(asked))) == {"reason": "expired"}


def test_challenge_is_taken_in_its_browser_alone(site, key, stranger):
    asked = options(stranger, "sign_in")["options"]
    other = site.browser()
    other.step = stranger.step
    for _ in range(2):
        assert said(sends(other, "sign_in", key.get(asked))) == {"reason": "expired"}
        options(other, "sign_in")  # which gives the browser a cookie of its own
        other.step = stranger.step

    assert "__Host-sid" not in other.cookies


def test_challenge_of_one_use_is_none_of_another(browser, key):
    before = browser.cookies["__Host-sid"]
    asked = options(browser, "add", passkey_name="Phone")["options"]
    answer = key.get({"rpId": asked["rp"]["id"], "challenge": asked["challenge"]})

    assert said(sends(browser, "proof", answer)) == {"reason": "expired"}

    assert browser.cookies["__Host-sid"] == before


def test_copied_passkey_is_refused_and_told(site, maya, browser, key, stranger):
    signs_in(stranger, key)
    site.mails.clear()
    key.count = 0  # of the copy

    assert said(signs_in(site.browser(), key)) == {"c": "1", "reason": "passkey-copied"}

    assert failures(browser.session) == {Failure.PASSKEY: 1}
    assert [(mail.address, mail.content) for mail in site.mails] == [
        (maya, Notice(NoticeKind.PASSKEY_COPIED))
    ]
    assert told(browser.session)[0] == (NoticeKind.PASSKEY_COPIED, "Firefox on Linux")


def test_copy_is_not_mailed_to_an_address_that_was_never_confirmed(site, stranger):
    email = new_email()
    site.accounts.sign_up_with(email, PASSWORD)
    key = Authenticator(HERE)
    adds(site.signed_in(email), key)
    signs_in(stranger, key)
    key.count = 0

    signs_in(site.browser(), key)

    assert told(stranger.session)[0] == (NoticeKind.PASSKEY_COPIED, "Firefox on Linux")
    assert site.mails == []


def test_forged_answer_tells_of_no_copy(site, browser, key, stranger):
    signs_in(stranger, key)
    key.count = 0

    assert said(signs_in(site.browser(), key, **FORGED["signature"]))["reason"] == "passkey"

    assert NoticeKind.PASSKEY_COPIED not in [kind for kind, _ in told(browser.session)]


def test_removed_and_unknown_passkeys_sign_nobody_in(site, browser, key, stranger):
    unknown = Authenticator(HERE, user_handle=bytes(64))
    removes(browser, key)

    for one in (key, unknown):
        assert said(signs_in(stranger, one)) == {"c": "1", "reason": "passkey-unknown"}

    assert failures(browser.session) == {}


def test_look_up_that_a_writer_re_points_signs_nobody_in(site, browser, key, stranger, monkeypatch):
    def find(*_):
        raise errors.Tampered

    monkeypatch.setattr(Accounts, "find_passkey", find)

    assert said(signs_in(stranger, key)) == {"c": "1", "reason": "passkey"}


def test_two_passkeys_that_sign_in_at_once_both_get_in(site, browser, key, stranger, monkeypatch):
    """The second use finds that the first was stored meanwhile, and is verified again."""
    other, phone = site.browser(), Authenticator(HERE)
    adds(browser, phone)
    sign_in = Accounts.sign_in

    def slow(*given, **named):
        monkeypatch.setattr(Accounts, "sign_in", sign_in)
        signs_in(other, phone)
        return sign_in(*given, **named)

    monkeypatch.setattr(Accounts, "sign_in", slow)
    signs_in(stranger, key)

    assert stranger.session.user_id == other.session.user_id
    assert [one.sign_count for one in site.passkeys(browser).each] == [1, 1]
    assert site.current(browser).stored.uses == 2


def test_passkey_that_is_removed_meanwhile_does_not_sign_in(
    site, browser, key, stranger, monkeypatch
):
    phone, sign_in = Authenticator(HERE), Accounts.sign_in
    adds(browser, phone)

    def slow(*given, **named):
        monkeypatch.setattr(Accounts, "sign_in", sign_in)
        removes(browser, key)
        return sign_in(*given, **named)

    monkeypatch.setattr(Accounts, "sign_in", slow)

    assert said(signs_in(stranger, key))["reason"] == "busy"
    assert said(signs_in(stranger, key))["reason"] == "passkey-unknown"


def test_passkey_is_used_for_ever_by_others_is_busy(key, stranger, monkeypatch):
    def used(*_, **__):
        raise errors.FactorUsed

    monkeypatch.setattr(Accounts, "sign_in", used)

    assert said(signs_in(stranger, key))["reason"] == "busy"


# --- proving


def test_passkey_proves_who_is_signed_in(site, browser, key):
    App().enrol(site.accounts, browser.session)
    site.change_sessions(proved_at=None)
    before = browser.cookies["__Host-sid"]

    assert said(proves(browser, key)) == {"then": "1", "reason": "proved"}

    assert browser.cookies["__Host-sid"] != before
    assert site.cache.find(Cookie.parse(before)) is None
    assert any(one.is_proven for one in browser.session.backend.devices())
    assert site.passkeys(browser).each[0].sign_count == 1


def test_pages_read_passkeys_by_the_cookie_that_a_proof_gave(site, browser, key):
    proves(browser, key)

    current = site.cache.current(browser.session.id)

    assert current.credentials.passkeys == site.passkeys(browser)
    with pytest.raises(errors.SignedOut):
        site.cache.current(site.browser)


def test_passkey_of_another_user_proves_nothing(site, browser, key):
    omar = site.signed_in(new_user(site))
    adds(omar, Authenticator(HERE))
    site.change_sessions(proved_at=None)

    assert said(proves(omar, key)) == {"then": "1", "reason": "passkey"}

    assert failures(omar.session) == {Failure.PASSKEY: 1}
    assert failures(browser.session) == {}
    assert not any(one.is_proven for one in omar.session.backend.devices())
    assert site.passkeys(browser).each[0].last_used_at is None


def test_proof_names_the_passkeys_of_this_address(browser, key):
    asked = options(browser, "proof")["options"]

    assert [one["id"] for one in asked["allowCredentials"]] == [encode_base64url(key.id)]
    assert asked["userVerification"] == "required"


def test_user_without_a_passkey_is_told(browser):
    assert options(browser, "proof") == {"refusal": errors.PasskeyMissing.public}


@pytest.mark.parametrize("forged", [FORGED["verification"], FORGED["signature"]])
def test_forged_answer_proves_nothing(site, browser, key, forged):
    site.change_sessions(proved_at=None)

    assert said(proves(browser, key, **forged)) == {"then": "1", "reason": "passkey"}

    assert failures(browser.session) == {Failure.PASSKEY: 1}
    assert not any(one.is_proven for one in browser.session.backend.devices())


def test_answer_proves_in_its_own_session_alone(site, maya, browser, key):
    other = site.signed_in(maya)
    asked = options(browser, "proof")["options"]
    other.step, other.cookies["__Host-step"] = browser.step, browser.cookies["__Host-step"]

    assert said(sends(other, "proof", key.get(asked))) == {"reason": "expired"}


# --- renaming and removing


def removes(browser, key, **fields):
    return browser.post("/passkey/remove", passkey=encode_base64url(key.id), **fields)


def renames(browser, key, name="Old laptop", **fields):
    return browser.post(
        "/passkey/rename", passkey=encode_base64url(key.id), passkey_name=name, **fields
    )


def test_passkey_is_renamed(site, browser, key):
    before = site.current(browser).stored

    assert renames(browser, key).headers["location"] == "/account"

    after = site.current(browser).stored
    assert [one.name for one in site.passkeys(browser).each] == ["Old laptop"]
    assert (after.generation, after.uses) == (before.generation, before.uses)
    assert site.outdated[-1] == browser.session.user_id


def test_passkey_is_removed(site, maya, browser, key):
    handle = key.user_handle
    site.mails.clear()

    assert said(removes(browser, key)) == {"reason": "passkey-removed"}

    assert (site.passkeys(browser).each, site.passkeys(browser).user_handle) == ((), handle)
    assert site.mails[-1].content == Notice(NoticeKind.PASSKEY_REMOVED)
    assert site.mails[-1].address == maya


@pytest.mark.parametrize("act", [renames, removes])
def test_passkey_is_changed_after_a_recent_proof_alone(site, browser, key, act):
    before = site.passkeys(browser)
    site.change_sessions(proved_at=None)

    assert said(act(browser, key)) == {"reason": "prove"}

    assert site.passkeys(browser) == before
    assert failures(browser.session) == {Failure.CHANGE: 1}


@pytest.mark.parametrize("act", ["rename", "remove"])
def test_refused_change_of_a_passkey_leads_back_to_its_form(browser, act):
    answer = browser.post(f"/passkey/{act}?then={act}-passkey-x", passkey="")

    assert said(answer) == {"then": f"{act}-passkey-x", "reason": "passkey-missing"}


@pytest.mark.parametrize("act", [renames, removes])
def test_passkey_of_another_user_is_not_changed(site, browser, key, act):
    omar = site.signed_in(new_user(site))
    adds(omar, Authenticator(HERE))

    assert said(act(omar, key)) == {"reason": "passkey-missing"}

    assert [one.name for one in site.passkeys(browser).each] == ["Laptop"]


@pytest.mark.parametrize("act", [adds, removes])
def test_other_devices_are_signed_out_if_asked(site, maya, browser, key, act):
    others = site.signed_in(maya)
    passkey = key if act is removes else Authenticator(HERE)
    assert others.session

    act(browser, passkey, others="yes")

    assert site.accounts.ended([others.session]).keys()
    assert browser.session
    assert site.stopped  # their replies are stored first


# --- the forms


@pytest.mark.parametrize("use", ["proof", "add"])
def test_use_of_a_signed_in_user_wants_a_session(stranger, use):
    assert options(stranger, use) == {"refusal": errors.SignedOut.public}
    assert sends(stranger, use, "{}", next="/account").headers["location"] == "/account"
    assert renames(stranger, Authenticator(HERE)).headers["location"] == "/account"


@pytest.mark.parametrize("path", ["/passkey", "/passkey/options"])
def test_unknown_use_is_not_found(stranger, path):
    assert stranger.post(path, use="open").status_code == 404


@pytest.mark.parametrize("answer", ["", "{}", "[" * 9000])
def test_answer_that_no_browser_sends_is_refused(stranger, answer):
    options(stranger, "sign_in")

    assert said(sends(stranger, "sign_in", answer)) == {"reason": "passkey"}


@pytest.mark.parametrize("site", [{"steps_of_an_address": 2}], indirect=True)
def test_challenges_are_counted_for_a_network_and_a_known_device(site, key, stranger):
    signs_in(stranger, key)
    crowd = replace(stranger, cookies={})  # in the same network
    options(crowd, "sign_in")

    assert options(crowd, "sign_in") == {"refusal": errors.TooManyAttempts(900).public}

    assert "options" in options(stranger, "sign_in")


@pytest.mark.parametrize("site", [{"steps_of_an_address": 2}], indirect=True)
def test_known_devices_of_a_user_share_the_challenges(site, key, stranger):
    signs_in(stranger, key)  # each of them makes the device another cookie
    other = replace(stranger, cookies=dict(stranger.cookies))
    assert "options" in options(stranger, "sign_in")
    other.cookies["__Host-device"] = site.attempts.device_cookie(
        stranger.session.user_id, stranger.session.id
    )

    assert "options" in options(other, "sign_in")
    assert options(other, "sign_in") == {"refusal": errors.TooManyAttempts(900).public}


@pytest.mark.parametrize("site", [{"tries_of_an_address": 3}], indirect=True)
def test_passkey_is_counted_before_it_is_verified(key, stranger):
    for _ in range(3):
        signs_in(stranger, key, **FORGED["signature"])

    assert said(signs_in(stranger, key))["reason"] == "slow"


@pytest.mark.parametrize(
    "site", [{"tries_of_an_address": 3, "tries_of_an_account": 3}], indirect=True
)
def test_passkey_that_signs_in_gets_its_attempt_back(key, stranger):
    for _ in range(5):
        assert signs_in(stranger, key).headers["location"] == "/?c=1"


def test_page_at_an_ip_address_says_to_open_localhost(stranger):
    stranger.client.base_url = "http://127.0.0.1"
    stranger.client.headers["origin"] = "http://127.0.0.1"

    assert options(stranger, "sign_in") == {"refusal": errors.PasskeysUnusable.public}
    assert said(sends(stranger, "sign_in", "{}")) == {"reason": "passkey-address"}


def test_deployment_without_sign_in_has_no_such_routes(site):
    for one in (site.passkey_routes, site.own_routes):
        assert replace(one, origin=Origin(None, 0, True)).routes() == []
