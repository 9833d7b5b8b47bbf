"""A passkey as second factor: at each way in, as one switches it on and off, and that each forged answer is refused."""

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pyotp import TOTP

from services.crypto.recovery_codes import new_codes, recovery_hash, recovery_hashes
from services.crypto.vault import encode_base64url
from services.domain.accounts import CredentialsAction, Failure
from services.domain.addresses import checked_address
from services.domain.mails import CodePurpose, NoticeKind
from services.domain.passkeys import Passkeys, RelyingParty
from services.domain.sign_in_methods import BY_PASSWORD
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import FactorNeeded
from services.identity.passkeys import creation_options, new_user_handle, verify_creation
from services.store import entries
from services.store.accounts import Accounts
from services.store.codes import confirmed_again
from services.store.factors import asking_passkey
from services.store.kept import marks, read_marks
from services.store.linking import link
from services.store.tables import schema
from services.store.tables.access import settings_of
from services.store.tables.in_memory import InMemoryStore
from services.web.entries import Entries
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_factor import EnterByPasskey
from services.web.passkey_routes import PasskeyRoutes
from services.web.passkey_sign_in import ProveByPasskey, SignInByPasskey
from tests.authenticator import Authenticator as App
from tests.confirmed import confirm
from tests.passkeys import PRESENT, Authenticator
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, accounts_in_memory
from tests.web import test_entries
from tests.web.test_code_routes import NEW_PASSWORD, said
from tests.web.test_entries import is_in, moved
from tests.web.test_own_factor import CODE, new_user
from tests.web.test_passkey_routes import PasskeySite, adds, options, sends, signs_in
from tests.web.test_passkey_routes import proves as proves_by_passkey
from tests.web.test_records import failures

pytestmark = pytest.mark.usefixtures("cheap_passwords")
HERE = "http://localhost"
PARTY = RelyingParty(id="localhost", origin=HERE)
FORM, REFUSED = "passkey_factor", "passkey"


class Site(test_entries.FactorSite):
    """The routes of all ways in, and of passkeys."""

    def __post_init__(self):
        super().__post_init__()
        start = self.start
        check = PasskeyCheck(self.attempts, start.origin, start.notices)
        flows = EnterByPasskey(Entries(start)), SignInByPasskey(start, check), ProveByPasskey(check)
        passkeys = PasskeyRoutes(start.shared, self.attempts, start.origin, flows)
        self.routes += passkeys.routes()

    def require_factor(self):
        @self.accounts.backend.tables.run
        def _(block):
            block.put(schema.SETTINGS, replace(settings_of(block), requires_factor=True))


def change(accounts, session, action, new):
    found = accounts.find(session.email, NOT_COUNTED)
    changed = replace(new(found.credentials), generation=found.stored.generation + 1)
    assert accounts.change_credentials(session, changed, found.stored, action)


def add_passkey(accounts, session, key):
    """Add *key* to the passkeys of the user of *session*."""
    known = accounts.find(session.email, NOT_COUNTED).credentials.passkeys
    passkeys, challenge = known or Passkeys(user_handle=new_user_handle()), bytes(32)
    email = checked_address(session.email)
    options = creation_options(PARTY, challenge, passkeys.user_handle, email, ())
    now = datetime.now(UTC).replace(microsecond=0)
    answer = key.create(options)
    made = verify_creation(answer, PARTY, challenge, "Laptop", now)
    passkeys = replace(passkeys, each=(*passkeys.each, made))
    added = CredentialsAction.PASSKEY_ADDED
    change(accounts, session, added, lambda one: replace(one, passkeys=passkeys))


@dataclass
class User(test_entries.User):
    """A user with a confirmed address, from whom a passkey is asked after the password."""

    session: object = None
    key: Authenticator = field(default_factory=lambda: Authenticator(HERE))
    recovery: tuple = field(default_factory=new_codes)

    def asks_passkey(self, *, is_asked=True):
        hashes = recovery_hashes(self.recovery)
        action = CredentialsAction.PASSKEY_FACTOR_ADDED
        if not is_asked:
            action = CredentialsAction.PASSKEY_FACTOR_REMOVED
        asking = partial(asking_passkey, is_asked=is_asked)
        change(
            self.site.accounts,
            self.session,
            action,
            lambda one: replace(asking(one), recovery=hashes),
        )

    def options(self, browser, entry=None):
        """Press the button; return the answer."""
        asked = {"use": "factor", "entry": entry or browser.step, "step": ""}
        answer = browser.post("/passkey/options", **asked).json()
        browser.passkey_step = answer.get("step", "")
        return answer

    def posts(self, browser, answer, **fields):
        given = {"use": "factor", "entry": browser.step, "step": browser.passkey_step}
        given |= {"answer": answer, "by": "passkey", "next": "/?c=1"}
        return browser.post("/passkey", **given | fields)

    def sends(self, browser, answer, **fields):
        return said(self.posts(browser, answer, **fields))

    def uses(self, browser, authenticator=None, fields=None, **forged):
        """Give the passkey; return the query of the address that it leads to."""
        options = self.options(browser)["options"]
        return self.sends(
            browser, (authenticator or self.key).get(options, **forged), **fields or {}
        )


def user_of(site):
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    user = User(site, email, App(), session)
    add_passkey(site.accounts, session, user.key)
    user.asks_passkey()
    return user


@pytest.fixture
def site():
    return Site(accounts_in_memory(InMemoryStore()))


@pytest.fixture
def maya(site):
    return user_of(site)


@pytest.fixture
def both(site):
    """A user of whom a passkey or the code of an app is asked."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    user = User(site, email, App().enrol(site.accounts, session), session)
    add_passkey(site.accounts, session, user.key)
    user.asks_passkey()
    return user


# --- ways in


def test_password_leads_to_the_passkey_which_signs_in(maya):
    browser = maya.site.browser()
    answer = browser.post("/session", email=maya.email, password=PASSWORD, next="/?c=1")
    browser.step = said(answer)["step"]
    begun, asked = is_in(browser), maya.options(browser)

    signed_in = maya.sends(browser, maya.key.get(asked["options"]))

    assert said(answer) == {"c": "1", "code": FORM, "step": browser.step, "by": "passkey"}
    assert not begun
    assert [one["type"] for one in asked["options"]["allowCredentials"]] == ["public-key"]
    assert asked["options"]["userVerification"] == "preferred"
    assert signed_in == {"c": "1"}
    assert browser.session.email == maya.email
    [passkey] = maya.credentials.passkeys.each
    assert (passkey.sign_count, maya.credentials.uses) == (1, 1)
    assert passkey.last_used_at


def test_passkey_need_not_verify_its_user_after_the_password(maya):
    assert maya.uses(maya.begins(), flags=PRESENT) == {"c": "1"}


def test_recovery_code_takes_the_place_of_the_passkey(maya):
    code = maya.recovery[0]
    wrong = {"code": "recovery", "by": "passkey", "reason": "wrong-factor"}
    fields = {"form": "recovery", "by": "passkey"}

    browser = maya.begins()
    assert maya.gives(browser, "123456", **fields).items() >= wrong.items()
    assert maya.gives(browser, code, **fields) == {"c": "1"}
    assert maya.gives(maya.begins(), code, **fields).items() >= wrong.items()
    assert maya.site.told == [NoticeKind.RECOVERY_CODE_USED]
    assert maya.credentials.recovery == recovery_hashes(maya.recovery[1:])


def test_app_or_passkey_will_do_where_both_are_asked_for(both):
    browser = both.site.browser()
    answer = browser.post("/session", email=both.email, password=PASSWORD, next="/?c=1")
    browser.step = said(answer)["step"]

    assert said(answer) == {"c": "1", "code": FORM, "step": browser.step, "by": "both"}
    assert both.gives(browser, both.app.code(), by="both") == {"c": "1"}
    assert both.uses(both.begins()) == {"c": "1"}


def test_mailed_code_leads_to_the_passkey(maya):
    browser, answer = maya.asks(CodePurpose.SIGN_IN)

    assert answer == {"c": "1", "code": FORM, "step": browser.step, "by": "passkey"}
    assert maya.uses(browser) == {"c": "1"}
    assert browser.session.email == maya.email


def test_reset_wants_the_passkey_and_keeps_its_use(maya):
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    [ways] = marks(maya.credentials)
    assert re.fullmatch(rf"passkey\.{datetime.now(UTC).date()}T\d\d:\d\dZ\.[0-9a-f]{{16}}", ways)
    expected = {"code": FORM, "step": browser.step, "by": "passkey", "ways": ways}
    assert answer == {"c": "1"} | expected
    assert not is_in(browser)
    maya.site.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)

    assert maya.uses(browser) == {"c": "1", "reason": "password-reset"}

    assert maya.credentials.passkeys.each[0].sign_count == 1
    again = maya.begins(password=NEW_PASSWORD)
    assert not is_in(again)
    assert maya.uses(again) == {"c": "1"}


def test_wrong_code_of_a_reset_leads_back_with_what_was_unticked(both):
    browser, answer = both.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    listed = {name: answer[name] for name in ("by", "added", "ways")}

    refused = both.gives(browser, both.app.wrong, **listed)

    wrong = answer | {"code": "factor", "reason": "wrong-factor"}
    assert refused == wrong | {"gone": f"keeps~keeps-{answer['ways']}"}
    ticks = {"keeps": "yes", f"keeps-{answer['ways']}": "yes"}
    assert both.gives(browser, both.app.wrong, **listed, **ticks) == wrong


@pytest.mark.parametrize("is_kept", [True, False])
def test_reset_lists_the_passkeys_and_keeps_them_or_not(site, is_kept):
    """Also of an account without a second factor."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    maya = User(site, email, App(), session)
    add_passkey(site.accounts, session, maya.key)
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    [ways] = marks(maya.credentials)
    assert re.fullmatch(rf"passkey\.{datetime.now(UTC).date()}T\d\d:\d\dZ\.[0-9a-f]{{16}}", ways)
    assert answer == {"c": "1", "code": "kept", "step": browser.step, "ways": ways}
    assert not is_in(browser)

    ticks = {f"keeps-{ways}": "yes"} if is_kept else {}
    assert maya.gives(browser, "", form="kept", ways=ways, **ticks) == {
        "c": "1",
        "reason": "password-reset",
    }

    assert bool(maya.credentials.passkeys.each) is is_kept
    assert (site.accounts.find_passkey(maya.key.id, NOT_COUNTED) is not None) is is_kept
    told = [NoticeKind.PASSWORD_RESET] + [NoticeKind.PASSKEY_REMOVED] * (not is_kept)
    assert sorted(site.told) == sorted(told)
    assert is_in(maya.begins(password=NEW_PASSWORD))


def user_without_factor(site):
    """Return a user with a passkey that is not asked for."""
    email = new_email()
    _, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    user = User(site, email, App(), session)
    add_passkey(site.accounts, session, user.key)
    return user


def test_reset_lists_each_passkey_of_a_day_on_its_own(site):
    maya = user_without_factor(site)
    add_passkey(site.accounts, maya.session, Authenticator(HERE))
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    own, _ = answer["ways"].split("~")

    ticks = {f"keeps-{own}": "yes", "ways": answer["ways"]}
    assert maya.gives(browser, "", form="kept", **ticks) == {"c": "1", "reason": "password-reset"}

    assert [one.credential_id for one in maya.credentials.passkeys.each] == [maya.key.id]


@pytest.mark.parametrize("has_list", [False, True])
def test_passkey_added_while_a_reset_is_under_way_goes(site, monkeypatch, has_list):
    maya, whole, tried = user_without_factor(site), Accounts.change_password, list[int]()
    if not has_list:
        removed = CredentialsAction.PASSKEY_REMOVED
        change(site.accounts, maya.session, removed, lambda one: replace(one, passkeys=None))

    def change_password(self, *args, **options):
        if not tried:
            tried.append(1)
            add_passkey(site.accounts, maya.session, Authenticator(HERE))
        return whole(self, *args, **options)

    monkeypatch.setattr(Accounts, "change_password", change_password)
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    if has_list:
        ticks = {f"keeps-{answer['ways']}": "yes", "ways": answer["ways"]}
        maya.gives(browser, "", form="kept", **ticks)

    assert is_in(browser)
    left = [one.credential_id for one in maya.credentials.passkeys.each]
    assert left == [maya.key.id] * has_list


def test_factor_that_is_set_up_while_a_reset_is_tried_again_counts_as_not_given(site, monkeypatch):
    maya, change_password, again = (
        user_without_factor(site),
        Accounts.change_password,
        confirmed_again,
    )

    def overtaken(self, *args, **options):
        monkeypatch.setattr(Accounts, "change_password", change_password)
        add_passkey(site.accounts, maya.session, Authenticator(HERE))
        return change_password(self, *args, **options)

    def read_late(*args):
        maya.asks_passkey()
        return again(*args)

    monkeypatch.setattr(Accounts, "change_password", overtaken)
    monkeypatch.setattr(entries, "confirmed_again", read_late)
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    ticks = {f"keeps-{answer['ways']}": "yes", "ways": answer["ways"]}
    refused = maya.gives(browser, "", form="kept", **ticks)

    assert maya.credentials.wants_factor
    assert refused["reason"] == "factor"
    assert refused["code"] == CodePurpose.RESET_PASSWORD
    assert not is_in(browser)
    assert site.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)


@pytest.mark.parametrize(("is_kept", "has_list"), [(True, True), (False, True), (True, False)])
def test_reset_that_sets_a_factor_up_lists_the_passkeys(site, is_kept, has_list):
    """A form without the list keeps all."""
    maya = user_without_factor(site)
    [made] = maya.credentials.passkeys.each
    unverified = replace(maya.credentials.passkeys, each=(replace(made, verifies_user=False),))
    action = CredentialsAction.PASSKEY_REMOVED
    change(site.accounts, maya.session, action, lambda one: replace(one, passkeys=unverified))
    site.require_factor()  # which such a passkey does not meet
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    [ways] = marks(maya.credentials)
    expected = {"c": "1", "code": "enrol_factor", "step": browser.step, "ways": ways}
    assert answer == expected

    sent = {f"keeps-{ways}": "yes"} if is_kept else {}
    sent |= {"ways": ways} if has_list else {}
    given = {"step": browser.step, "next": "/?c=1"}
    page = browser.post("/factor/enrol", **given, **sent)
    key = re.sub(r"\s", "", re.search(r"<code>(.*?)</code>", page.text)[1])
    browser.post("/factor/enrol/confirm", code=TOTP(key).now(), **given)

    assert is_in(browser)
    assert maya.credentials.factor
    assert bool(maya.credentials.passkeys.each) is is_kept
    told = [NoticeKind.FACTOR_ADDED, NoticeKind.PASSWORD_RESET]
    told += [NoticeKind.PASSKEY_REMOVED] * (not is_kept)
    assert sorted(site.told) == sorted(told)


@pytest.mark.parametrize("is_kept", [True, False])
def test_reset_tells_of_a_sign_in_that_goes(site, is_kept):
    email, now = new_email(), datetime.now(UTC).replace(microsecond=0)
    cookie, session = site.accounts.sign_up_with(email, PASSWORD)
    confirm(site.accounts, session)
    own = LinkedIdentity(identity=Identity("https://sso.example", email), name="x", created_at=now)
    link(site.accounts, session, site.accounts.current(cookie), own)
    maya = User(site, email, App(), session)
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)
    [ways] = marks(maya.credentials)
    assert (answer["code"], answer["ways"]) == ("kept", ways)

    ticks = {f"keeps-{ways}": "yes"} if is_kept else {}
    assert maya.gives(browser, "", form="kept", ways=ways, **ticks) == {
        "c": "1",
        "reason": "password-reset",
    }

    assert bool(maya.credentials.identities) is is_kept
    told = [NoticeKind.PASSWORD_RESET] + [NoticeKind.IDENTITY_REMOVED] * (not is_kept)
    assert sorted(site.told) == sorted(told)


def test_reset_takes_the_passkey_away_with_the_question_for_it(maya):
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)

    assert maya.uses(browser, fields={"ways": answer["ways"]}) == {
        "c": "1",
        "reason": "password-reset",
    }

    assert (maya.credentials.wants_factor, maya.credentials.recovery) == (False, ())
    told = NoticeKind.PASSKEY_FACTOR_REMOVED, NoticeKind.PASSKEY_REMOVED, NoticeKind.PASSWORD_RESET
    assert [one for one in maya.site.told if one in told] == [*told]
    assert is_in(maya.begins(password=NEW_PASSWORD))


def test_required_factor_leaves_by_no_list_of_a_reset(maya):
    maya.site.require_factor()
    browser, answer = maya.asks(CodePurpose.RESET_PASSWORD, password=NEW_PASSWORD)

    refused = maya.uses(browser, fields={"ways": answer["ways"]})

    assert refused["reason"] == "factor-required"
    assert refused["ways"] == answer["ways"]
    assert maya.credentials.passkeys.each


def test_address_is_taken_back_with_the_passkey_that_stood_before(maya):
    browser = maya.begins()
    maya.uses(browser)
    moved(maya, browser)
    thief, maya.session = Authenticator(HERE), browser.session
    add_passkey(maya.site.accounts, browser.session, thief)
    maya.asks_passkey(is_asked=False)
    back, answer = maya.asks(CodePurpose.RESTORE_ADDRESS, password=NEW_PASSWORD)

    assert answer == {"c": "1", "code": FORM, "step": back.step, "by": "passkey"}
    assert maya.uses(back, thief)["reason"] == "passkey-missing"
    assert maya.uses(back) == {"c": "1", "reason": "address-restored"}
    assert back.session.email == maya.email
    assert maya.credentials.asks_passkey
    assert len(maya.credentials.passkeys.each) == 1
    assert maya.credentials.recovery == recovery_hashes(maya.recovery)
    assert NoticeKind.PASSKEY_FACTOR_ADDED not in maya.site.told


def test_required_factor_is_met_by_a_passkey_that_verifies_its_user(maya):
    maya.site.require_factor()
    browser = maya.begins()

    asked = maya.options(browser)["options"]
    refused = maya.sends(browser, maya.key.get(asked, flags=PRESENT))

    assert asked["userVerification"] == "required"
    assert refused["reason"] == REFUSED
    assert not is_in(browser)
    assert maya.uses(browser) == {"c": "1"}


@pytest.fixture
def unasked(site):
    """A user with a passkey that is not asked for, where a second factor is required."""
    user = user_without_factor(site)
    site.require_factor()
    return user


def shows_codes(user, browser, send):
    """Hold that *send* begins the session by which a passkey is asked for from now on, and shows its recovery codes once."""
    answer = send()
    codes = re.findall("<li><code>(.*?)</code>", answer.text)

    assert is_in(browser)
    assert user.credentials.asks_passkey
    assert user.credentials.recovery == recovery_hashes(codes)
    assert len(codes) == 10
    assert 'href="/?c=1"' in answer.text
    assert user.site.told == [NoticeKind.PASSKEY_FACTOR_ADDED]
    for reloaded in (send(), browser.client.get("/passkey")):
        assert "Recovery codes already shown" in reloaded.text
        assert codes[0] not in reloaded.text
    assert signs_in(browser, user.key).headers["location"] == "/?c=1"


def test_password_alone_sets_no_required_factor_up_where_a_passkey_stands(unasked):
    browser = unasked.site.browser()
    answer = browser.post("/session", email=unasked.email, password=PASSWORD, next="/?c=1")
    browser.step = said(answer)["step"]

    assert said(answer) == {"c": "1", "code": FORM, "step": browser.step, "by": "passkey"}
    assert unasked.uses(browser, flags=PRESENT)["reason"] == REFUSED
    assert not is_in(browser)
    asked = unasked.options(browser)["options"]
    given = unasked.key.get(asked)
    shows_codes(unasked, browser, lambda: unasked.posts(browser, given))
    thief = unasked.begins()
    page = thief.post("/factor/enrol", step=thief.step, next="/?c=1")
    assert said(page) == {"c": "1", "reason": "expired"}


def test_passkey_alone_meets_the_required_factor(site, unasked):
    alone = site.browser()

    given = unasked.key.get(options(alone, "sign_in")["options"])
    shows_codes(unasked, alone, lambda: sends(alone, "sign_in", given, next="/?c=1"))
    assert said(alone.post("/session", email=unasked.email, password=PASSWORD))["code"] == FORM


@pytest.mark.parametrize("of_passkey", [{"rp_id": "old.example"}, {"verifies_user": False}])
def test_passkey_that_cannot_meet_the_required_factor_is_not_asked_for(site, unasked, of_passkey):
    passkeys = unasked.credentials.passkeys
    changed = replace(passkeys, each=(replace(passkeys.each[0], **of_passkey),))

    @site.accounts.backend.tables.run
    def _(block):
        block.put(schema.SETTINGS, replace(settings_of(block), requires_factor=False))

    action = CredentialsAction.PASSKEY_REMOVED
    change(site.accounts, unasked.session, action, lambda one: replace(one, passkeys=changed))
    site.require_factor()

    answer = site.browser().post("/session", email=unasked.email, password=PASSWORD)
    assert said(answer)["code"] == "enrol_factor"


def test_passkey_that_was_made_without_verification_leads_to_an_app(site, unasked):
    @site.accounts.backend.tables.run
    def _(block):
        block.put(schema.SETTINGS, replace(settings_of(block), requires_factor=False))

    passkeys = unasked.credentials.passkeys
    changed = replace(passkeys, each=(replace(passkeys.each[0], verifies_user=False),))
    action = CredentialsAction.PASSKEY_REMOVED
    change(site.accounts, unasked.session, action, lambda one: replace(one, passkeys=changed))
    site.require_factor()

    assert said(signs_in(site.browser(), unasked.key))["code"] == "enrol_factor"


def test_factor_of_no_provider_leaves_the_passkey_asked_for(unasked):
    found = unasked.site.accounts.find(unasked.email, NOT_COUNTED)
    opened = found.opened(found.stored, found.credentials, BY_PASSWORD)

    with pytest.raises(FactorNeeded) as refusal:
        unasked.site.accounts.sign_in(replace(opened, has_factor=True))

    assert refusal.value.asks_passkey


@pytest.mark.parametrize("way", ["password", "code", "passkey"])
def test_passkey_that_is_not_asked_for_belongs_to_no_proof(site, way):
    """The session has met what is required; the account has no factor of its own."""
    maya, browser = user_without_factor(site), site.browser()
    signs_in(browser, maya.key)
    site.require_factor()

    match way:
        case "password":
            proven = said(browser.post("/proof", password=PASSWORD))
        case "code":
            _, proven = maya.asks(CodePurpose.PROVE, browser)
        case "passkey":
            proven = said(proves_by_passkey(browser, maya.key))

    assert proven["reason"] == "proved"
    assert not maya.credentials.asks_passkey


def test_passkey_restores_an_address_where_a_factor_is_required(unasked):
    browser = unasked.begins()
    unasked.posts(browser, unasked.key.get(unasked.options(browser)["options"]))
    passkeys = unasked.credentials.passkeys
    [made] = passkeys.each
    old = replace(made, created_at=made.created_at - timedelta(days=30))
    unasked_before = replace(passkeys, is_factor=False, each=(old,))

    @unasked.site.accounts.backend.tables.run
    def _(block):
        block.put(schema.SETTINGS, replace(settings_of(block), requires_factor=False))

    accounts, action = unasked.site.accounts, CredentialsAction.PASSKEY_FACTOR_REMOVED
    change(accounts, browser.session, action, lambda one: replace(one, passkeys=unasked_before))
    moved(unasked, browser)
    unasked.site.require_factor()

    back, answer = unasked.asks(CodePurpose.RESTORE_ADDRESS, password=NEW_PASSWORD)

    assert answer == {"c": "1", "code": FORM, "step": back.step, "by": "passkey"}
    given = unasked.key.get(unasked.options(back)["options"])
    page = unasked.posts(back, given)
    codes = re.findall("<li><code>(.*?)</code>", page.text)
    assert back.session.email == unasked.email
    assert unasked.credentials.asks_passkey
    assert unasked.credentials.recovery == recovery_hashes(codes)
    assert len(codes) == 10
    assert 'href="/?c=1&amp;reason=address-restored"' in page.text
    assert codes[0] not in unasked.posts(back, given).text


def test_mark_has_a_kind_a_minute_and_a_hash():
    minute = "2026-11-26T09:40Z"
    end = f"{minute}.0123456789abcdef"
    good = f"passkey.{end}", f"identity.{end}"
    times = "2026-11-26", "2026-11-26T09:40", "0001-01-01T00:00+14:00"
    bad = [f"passkey.{at}.0123456789abcdef" for at in times]
    bad += (
        f"factor.{end}",
        f"passkey.{minute}",
        f"passkey.{end}0",
        f"{good[0][:-1]}X",
        "passkey",
        "",
    )

    assert read_marks("~".join([*good, *bad])) == good


# --- attacks


@pytest.mark.parametrize(
    "forged",
    [
        {"client_data": {"challenge": "AAAA"}},
        {"client_data": {"origin": "http://evil.example"}},
        {"client_data": {"crossOrigin": True}},
        {"rp": "evil.example"},
        {"flags": 0},
        {"key": Authenticator(HERE).key},
        {"answer": {"user_handle": bytes(64)}},
    ],
    ids=["challenge", "origin", "frame", "rp", "presence", "signature", "user handle"],
)
def test_forged_answer_is_refused_and_the_step_goes_on(maya, forged):
    browser = maya.begins()

    answer = maya.uses(browser, **forged)

    expected = {"code": FORM, "step": browser.step, "by": "passkey", "reason": REFUSED}
    assert answer == {"c": "1"} | expected
    assert not is_in(browser)
    assert maya.credentials.uses == 0
    assert failures(maya.session) == {Failure.FACTOR: 1}
    assert maya.uses(browser) == {"c": "1"}


def test_passkey_of_another_user_is_refused(maya):
    omar, browser = user_of(maya.site), maya.begins()

    assert maya.uses(browser, omar.key)["reason"] == "passkey-missing"
    assert not is_in(browser)


def test_answer_is_good_once(maya):
    """Also where the passkey does not count its uses."""
    maya.key.count = None
    first, other = maya.begins(), maya.begins()
    asked = maya.options(first)
    answer = maya.key.get(asked["options"])
    other.cookies, other.passkey_step = first.cookies, first.passkey_step
    other.step = first.step

    assert maya.sends(first, answer) == {"c": "1"}

    assert maya.sends(other, answer)["reason"] == "expired"
    third = maya.begins()
    maya.options(third)
    assert maya.sends(third, answer)["reason"] == REFUSED


def test_challenge_is_good_in_its_browser_and_for_its_sign_in_alone(maya):
    omar, browser = user_of(maya.site), maya.begins()
    other = omar.begins(maya.site.browser())

    assert maya.options(other, browser.step) == {
        "refusal": "This page has expired. Please start again."
    }
    omar.options(other)
    asked = maya.options(browser)["options"]
    other.passkey_step = browser.passkey_step
    assert omar.sends(other, maya.key.get(asked))["reason"] == "expired"
    # the field `entry` names another sign-in of the same browser: the challenge was for the first
    second = replace(browser, step="")
    omar.begins(second)
    asked = maya.options(browser)["options"]
    second.passkey_step = browser.passkey_step
    second.cookies = browser.cookies
    maya.sends(second, maya.key.get(asked))
    assert second.session.email == maya.email


def test_copied_passkey_is_refused_and_told(maya):
    maya.uses(maya.begins())
    browser = maya.begins()

    answer = maya.uses(browser, count=1)

    assert answer["reason"] == "passkey-copied"
    assert not is_in(browser)
    assert maya.site.told == [NoticeKind.PASSKEY_COPIED]


def test_third_wrong_answer_is_told_and_the_sixth_finds_no_step(maya):
    browser = maya.begins()
    for number in range(5):
        maya.gives(browser, "123456", by="passkey")
        assert (maya.site.told != []) is (number > 1)

    assert maya.site.told[0] == NoticeKind.WRONG_FACTORS
    assert maya.gives(browser, maya.recovery[0])["reason"] == "tries"


def test_challenge_of_a_passkey_gives_a_step_no_more_tries(both):
    browser = both.begins()
    for _ in range(4):
        both.gives(browser, "000000", by="both")
    assert "options" in both.options(browser)
    assert both.gives(browser, "000000", by="both")["reason"] == "wrong-factor"

    assert both.gives(browser, both.app.code(), by="both")["reason"] == "tries"
    assert not is_in(browser)


def test_switch_that_was_turned_off_meanwhile_ends_the_step(maya):
    known = maya.begins()
    maya.uses(known)
    maya.session, browser = known.session, maya.begins()
    maya.asks_passkey(is_asked=False)

    assert "expired" in maya.options(browser)["refusal"]
    assert maya.gives(browser, maya.recovery[0])["reason"] == "expired"
    assert not is_in(browser)


def test_passkey_that_is_not_asked_for_is_none_of_the_app(both):
    """The account wants the code of its app, and no passkey."""
    both.uses(both.begins())
    browser = both.begins()
    both.gives(browser, both.app.code())
    both.session = browser.session
    both.asks_passkey(is_asked=False)
    later = both.begins()

    assert both.options(later)["refusal"].startswith("You have no passkey")
    assert both.gives(later, both.app.code(1)) == {"c": "1"}


# --- the switch on the page Account


@dataclass
class Own:
    """A browser in which a user with a passkey is signed in."""

    site: PasskeySite
    email: str
    browser: object
    key: Authenticator = field(default_factory=lambda: Authenticator(HERE))

    def switch(self, *, is_on, once="one", **fields):
        path = "/account/factor/passkey" + ("" if is_on else "/off")
        return self.browser.post(path, once=once, **fields)

    @property
    def credentials(self):
        return self.site.current(self.browser).credentials

    def is_given(self):
        """Have the factor given in all sessions, as a proof by the passkey does."""
        self.site.change_sessions(has_factor=True)


@pytest.fixture
def own():
    site = PasskeySite(accounts_in_memory(InMemoryStore()))
    site.routes += site.own.routes()
    email = new_user(site)
    return Own(site, email, site.signed_in(email))


def test_switch_shows_recovery_codes_once(own):
    adds(own.browser, own.key)
    own.site.mails.clear()

    page = own.switch(is_on=True)

    codes = re.findall(CODE, page.text)
    assert (len(codes), own.credentials.asks_passkey) == (10, True)
    assert own.credentials.recovery == tuple(map(recovery_hash, codes))
    assert page.headers["cache-control"] == "no-store"
    assert [one.kind for one in own.site.contents] == [NoticeKind.PASSKEY_FACTOR_ADDED]
    assert own.site.outdated[-1] == own.browser.session.user_id
    # the proof of a session that has not given the new factor no longer counts
    assert "already shown" in own.switch(is_on=True).text
    assert failures(own.browser.session) == {}
    own.is_given()
    assert "already shown" in own.switch(is_on=True).text
    assert own.credentials.recovery == tuple(map(recovery_hash, codes))


def test_switch_keeps_the_recovery_codes_of_the_app(own):
    adds(own.browser, own.key)
    app = App().enrol(own.site.accounts, own.browser.session)

    assert said(own.switch(is_on=True)) == {"reason": "passkey-asked"}
    assert own.credentials.recovery == tuple(map(recovery_hash, app.recovery))
    assert said(own.switch(is_on=True, once="two")) == {}
    own.site.mails.clear()
    assert said(own.switch(is_on=False)) == {"reason": "passkey-not-asked"}
    assert [one.kind for one in own.site.contents] == [NoticeKind.PASSKEY_FACTOR_REMOVED]
    assert own.credentials.recovery == tuple(map(recovery_hash, app.recovery))
    assert said(own.switch(is_on=False)) == {}


def test_app_that_is_turned_off_leaves_the_passkey_and_the_codes(own):
    adds(own.browser, own.key)
    App().enrol(own.site.accounts, own.browser.session)
    own.switch(is_on=True)

    assert said(own.browser.post("/account/factor/remove")) == {"reason": "app-removed"}

    assert own.credentials.asks_passkey
    assert len(own.credentials.recovery) == 10


def test_switch_wants_a_passkey_for_this_address(own):
    assert said(own.switch(is_on=True)) == {"reason": "passkey-missing"}
    adds(own.browser, own.key)
    passkeys = own.credentials.passkeys
    moved_away = replace(passkeys, each=(replace(passkeys.each[0], rp_id="old.example"),))
    change(
        own.site.accounts,
        own.browser.session,
        CredentialsAction.PASSKEY_REMOVED,
        lambda one: replace(one, passkeys=moved_away),
    )

    assert said(own.switch(is_on=True, once="two")) == {"reason": "passkey-missing"}
    assert not own.credentials.wants_factor


def test_required_factor_is_not_switched_off(own):
    adds(own.browser, own.key)
    own.switch(is_on=True)
    own.is_given()
    own.site.require_factor()

    assert said(own.switch(is_on=False)) == {"reason": "factor-required"}
    only = encode_base64url(own.key.id)
    assert said(own.browser.post("/passkey/remove", passkey=only)) == {"reason": "factor-required"}
    assert own.credentials.asks_passkey


def test_last_passkey_takes_the_question_and_the_codes_along(own):
    adds(own.browser, own.key)
    own.switch(is_on=True)
    own.is_given()

    own.site.mails.clear()

    only = encode_base64url(own.key.id)
    removed = said(own.browser.post("/passkey/remove", passkey=only))

    assert removed == {"reason": "last-passkey-removed"}
    assert (own.credentials.wants_factor, own.credentials.recovery) == (False, ())
    told = [NoticeKind.PASSKEY_REMOVED, NoticeKind.PASSKEY_FACTOR_REMOVED]
    assert [one.kind for one in own.site.contents] == told


def test_app_stays_the_second_step_when_the_last_passkey_goes(own):
    adds(own.browser, own.key)
    App().enrol(own.site.accounts, own.browser.session)
    own.switch(is_on=True)

    only = encode_base64url(own.key.id)
    assert said(own.browser.post("/passkey/remove", passkey=only)) == {"reason": "passkey-removed"}

    assert (own.credentials.wants_factor, own.credentials.asks_passkey) == (True, False)
    assert own.site.contents[-1].kind is NoticeKind.PASSKEY_FACTOR_REMOVED
