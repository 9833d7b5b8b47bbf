"""App sessions: from a password to a cookie, from a cookie to keys on any process, and to their end."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.crypto import new_key
from services.domain import AccountRole
from services.domain.accounts import SessionEnd
from services.domain.browsers import UNKNOWN_BROWSER, browser_name
from services.domain.revisions import LISTED
from services.errors import (
    AddressTaken,
    BadAddress,
    KeyMissing,
    SignedOut,
    StoreUnavailable,
    Suspended,
    TooManyAttempts,
    WeakPassword,
    WrongCredentials,
)
from services.store.backend import Throttle, Throttles
from services.store.device_names import Browser
from services.store.sealed import sealed_store
from services.users.devices import Devices
from tests.store.conformance.accounts.deployments import DAY, at_once
from tests.store.conformance.talk import a_fact, begun_with, titles
from tests.store.conftest import PASSWORD, new_email

IDLE = 3600  # seconds


def titles_of(user):
    return titles(user.store.conversations.recent())


def is_alive(user):
    return user.deployment.accounts.backend.is_alive(user.cookie.hash)


def ended(*users):
    """Return why the sessions have ended, by session."""
    return users[0].deployment.accounts.ended([user.session for user in users])


# --- sign up, sign in


def test_user_has_the_same_key_on_every_device(maya):
    other = maya.sign_in()

    assert other.id == maya.id
    assert other.session.id != maya.session.id
    assert (other.session.email, maya.session.email) == (maya.email, maya.email)
    wrapped = maya.session.user_keys.newest.wrap(b"k" * 32, maya.id, 1)
    assert other.session.user_keys.newest.unwrap(wrapped, maya.id, 1) == b"k" * 32


def test_users_have_keys_of_their_own(maya, omar):
    begun_with(maya.store, "Letters")

    assert (titles_of(maya), titles_of(omar)) == (["Letters"], [])
    assert maya.id != omar.id


def test_user_with_an_unknown_role_may_do_nothing(deployment, maya):
    deployment.give_role(maya, AccountRole("auditor"))

    for act in (maya.account, lambda: begun_with(maya.store)):
        with pytest.raises(SignedOut):
            act()
    with pytest.raises(SignedOut):
        deployment.accounts.open(maya.cookie)
    with pytest.raises(Suspended):
        maya.sign_in()
    assert not is_alive(maya)


def test_wrong_password_and_unknown_address_are_refused_alike(deployment, maya):
    with pytest.raises(WrongCredentials) as wrong:
        deployment.accounts.sign_in_with(maya.email, PASSWORD + "!")
    with pytest.raises(WrongCredentials) as unknown:
        deployment.accounts.sign_in_with(new_email(), PASSWORD)
    with pytest.raises(WrongCredentials):
        deployment.accounts.sign_in_with(maya.email, "")

    assert wrong.value.public == unknown.value.public
    assert list(deployment.devices(maya.session)) == [maya.session.id]


def test_taken_address_is_refused(deployment, maya):
    with pytest.raises(AddressTaken):
        deployment.sign_up(maya.email)

    assert maya.sign_in().id == maya.id


def test_one_of_two_sign_ups_at_once_has_the_address(deployment):
    email = new_email()

    one, other = at_once(*[lambda: deployment.sign_up(email)] * 2)

    user, refused = (other, one) if isinstance(one, Exception) else (one, other)
    assert isinstance(refused, AddressTaken | StoreUnavailable)
    assert user.sign_in().id == user.id


@pytest.mark.parametrize("password", ["short", "a" * 20, "x" * 200, ""])
def test_weak_password_is_refused(deployment, password):
    email = new_email()

    with pytest.raises(WeakPassword):
        deployment.accounts.sign_up_with(email, password)

    assert deployment.sign_up(email)


def test_address_of_no_form_is_refused(deployment):
    with pytest.raises(BadAddress):
        deployment.sign_up("maya")


@pytest.mark.parametrize("verb", ["sign_up", "sign_in"])
def test_throttled_attempt_begins_no_session(deployment, maya, verb):
    email = new_email() if verb == "sign_up" else maya.email
    full = Throttles((Throttle(new_key().hex(), 0, 60),))
    with pytest.raises(TooManyAttempts):
        getattr(deployment.accounts, f"{verb}_with")(email, PASSWORD, throttles=full)

    assert list(deployment.devices(maya.session)) == [maya.session.id]


def test_refused_sign_in_gives_its_identity_up(deployment, maya):
    assert deployment.identities(maya) == 1

    with deployment.lost_key(maya), pytest.raises(KeyMissing):
        maya.sign_in()

    assert deployment.identities(maya) == 1


def test_sign_in_brings_what_the_first_page_reads(deployment, maya, omar):
    for user in (omar, maya):
        user.store.facts.keep(a_fact())
    begun_with(maya.store, "Letters")
    session = maya.sign_in().session

    first = session.backend.first_page()

    assert session.backend.first_page() is None  # once
    if deployment.brings_first_page:
        assert first.account == session.backend.account()
        assert len(first.documents) == 1
        store = sealed_store(session.backend.rows(first=first), session.user_keys)
        maya.store.facts.keep(a_fact("Has a cat."))
        begun_with(maya.store, "Roses")
        for facts, titled in ((1, ["Letters"]), (2, ["Roses", "Letters"])):
            assert len(store.facts.fresh_facts()) == facts
            assert titles(store.conversations.recent(LISTED)) == titled
    else:
        assert first is None


# --- open by cookie, renew


def test_session_is_opened_by_its_cookie_on_another_process(deployment, maya):
    begun_with(maya.store, "Letters")

    opened = deployment.process().open(maya.cookie)

    assert (opened.id, opened.user_id) == (maya.session.id, maya.id)
    assert opened.email == maya.email
    assert titles_of(replace(maya, session=opened)) == ["Letters"]
    assert is_alive(maya)


def test_unknown_cookie_opens_nothing(deployment, maya):
    cookie = type(maya.cookie).new()

    with pytest.raises(SignedOut):
        deployment.accounts.open(cookie)

    assert not deployment.accounts.backend.is_alive(cookie.hash)


def test_session_outlives_what_its_sign_in_gave(deployment):
    accounts, email = deployment.process_with_short_tokens(), new_email()
    cookie, session = accounts.sign_up_with(email, PASSWORD)
    begun_with(deployment.store(session), "Letters")

    reads = at_once(*[lambda: deployment.store(session).conversations.recent()] * 4)

    assert list(map(titles, reads)) == [["Letters"]] * 4
    assert accounts.backend.is_alive(cookie.hash)
    opened = deployment.process().open(cookie)
    assert titles(deployment.store(opened).conversations.recent()) == ["Letters"]


def test_copy_of_all_that_is_stored_opens_no_session(deployment, maya):
    text = deployment.stored_text()

    assert maya.cookie.hash in text
    assert str(maya.cookie) not in text
    assert PASSWORD not in text


def test_missing_user_key_is_not_replaced_by_another(deployment, maya, caplog):
    caplog.set_level("INFO")
    begun_with(maya.store, "Letters")

    with deployment.lost_key(maya), pytest.raises(KeyMissing):
        maya.sign_in()

    assert f'{{"event": "key.missing", "user": "{maya.id}"}}' in caplog.text
    assert titles_of(maya.sign_in()) == ["Letters"]


def test_unreachable_store_ends_no_session(deployment, maya):
    accounts = deployment.accounts
    for call in (
        lambda: accounts.open(maya.cookie),
        lambda: accounts.backend.is_alive(maya.cookie.hash),
        lambda: accounts.ended([maya.session]),
        lambda: accounts.end(maya.cookie),
        lambda: accounts.sign_in_with(maya.email, PASSWORD),
    ):
        with deployment.away(), pytest.raises(StoreUnavailable):
            call()

    assert is_alive(maya)


# --- end


def test_sign_out_ends_one_session_at_once(deployment, maya):
    other = maya.sign_in()

    deployment.accounts.end(maya.cookie)

    with pytest.raises(SignedOut):
        maya.account()
    with pytest.raises(SignedOut):
        deployment.accounts.open(maya.cookie)
    assert not is_alive(maya)
    assert ended(maya, other) == {maya.session.id: SessionEnd.ENDED}
    assert deployment.accounts.open(other.cookie).id == other.session.id
    deployment.accounts.end(maya.cookie)  # again: nothing happens


def test_user_ends_all_other_sessions(deployment, maya, omar):
    lost = [maya.sign_in(), maya.sign_in()]
    assert deployment.devices(maya.session) == {maya.session.id: True} | {
        one.session.id: False for one in lost
    }

    assert maya.session.backend.end_other_devices() == 2

    assert ended(maya, omar, *lost) == {one.session.id: SessionEnd.ENDED for one in lost}
    assert [is_alive(one) for one in (*lost, maya, omar)] == [False, False, True, True]
    with pytest.raises(SignedOut):
        lost[0].account()
    assert maya.session.backend.end_other_devices() == 0


def test_user_ends_one_session_of_their_own_alone(deployment, maya, omar):
    lost, other = maya.sign_in(), maya.sign_in()

    assert maya.session.backend.end_device(omar.session.id) == 0
    assert maya.session.backend.end_device(lost.session.id) == 1

    assert [is_alive(one) for one in (lost, other, maya, omar)] == [False, True, True, True]


def test_session_lapses_by_idle_time(deployment, maya):
    deployment.let_pass(IDLE - 60)
    assert is_alive(maya)  # which is a use
    deployment.let_pass(IDLE - 60)
    assert ended(maya) == {}  # which is none
    deployment.let_pass(120)

    assert ended(maya) == {maya.session.id: SessionEnd.ENDED}
    assert not is_alive(maya)
    with pytest.raises(SignedOut):
        deployment.accounts.open(maya.cookie)
    with pytest.raises(SignedOut):
        maya.account()
    assert maya.sign_in().account().user_id == maya.id


def test_session_lapses_by_age_though_it_is_used(deployment):
    accounts = deployment.process(idle_seconds=10 * DAY, lifetime_seconds=2 * DAY)
    cookie, session = accounts.sign_up_with(new_email(), PASSWORD)
    deployment.let_pass(2 * DAY - 60)
    assert accounts.backend.is_alive(cookie.hash)

    deployment.let_pass(120)

    assert not accounts.backend.is_alive(cookie.hash)
    with pytest.raises(SignedOut):
        accounts.open(cookie)
    assert accounts.ended([session]) == {session.id: SessionEnd.ENDED}


def test_suspension_ends_sessions_and_refuses_new_ones(admin, maya, deployment):
    other = maya.sign_in()

    admin.administration.suspend(maya.id, is_suspended=True)

    assert not is_alive(maya)
    with pytest.raises(Suspended):
        maya.sign_in()
    with pytest.raises(SignedOut):
        deployment.accounts.open(other.cookie)
    with pytest.raises(SignedOut):
        maya.account()
    assert ended(maya, other, admin) == dict.fromkeys(
        (maya.session.id, other.session.id), SessionEnd.SUSPENDED
    )
    admin.administration.suspend(maya.id, is_suspended=False)
    assert not is_alive(maya)
    assert list(deployment.devices(maya.sign_in().session).values()) == [True]


def test_process_learns_in_one_call_which_sessions_ended_and_why(deployment, admin, maya, omar):
    other, gone, out = maya.sign_in(), deployment.sign_up(), deployment.sign_up()
    deployment.accounts.end(other.cookie)
    admin.administration.suspend(omar.id, is_suspended=True)
    deployment.accounts.delete_with(gone.session, gone.cookie, PASSWORD)
    admin.administration.sign_out(out.id)

    assert ended(admin, maya, other, omar, gone, out) == {
        other.session.id: SessionEnd.ENDED,
        omar.session.id: SessionEnd.SUSPENDED,
        gone.session.id: SessionEnd.DELETED,
        out.session.id: SessionEnd.ENDED,
    }
    assert deployment.accounts.ended([]) == {}


# --- devices


def devices_of(user):
    return Devices(user.session, lambda *_: nullcontext()).all()


def test_devices_of_a_user_have_their_browsers_and_times(deployment, maya, omar):
    began = datetime.now(UTC)
    other = maya.sign_in(browser=Browser(name=browser_name("Firefox/140.0 (Linux)")))
    deployment.sign_up(browser=Browser(name=browser_name("Chrome/9 (Windows)")))
    deployment.let_pass(60)
    assert is_alive(maya)

    devices = devices_of(maya)

    assert [(one.id, one.browser, one.is_this_one) for one in devices] == [
        (maya.session.id, UNKNOWN_BROWSER, True),
        (other.session.id, "Firefox on Linux", False),
    ]
    this_one, another = devices
    assert this_one.last_seen_at - this_one.first_seen_at >= timedelta(seconds=59)
    assert another.first_seen_at == another.last_seen_at < began
    assert [one.id for one in devices_of(omar)] == [omar.session.id]


def test_first_session_of_an_account_has_its_browser(deployment):
    user = deployment.sign_up(browser=Browser(name=browser_name("Safari/1 (Macintosh)")))

    assert [one.browser for one in devices_of(user)] == ["Safari on Mac"]


def test_store_shows_no_browser_and_takes_none_of_another_session(deployment, maya):
    firefox, chrome = browser_name("Firefox/1 (Linux)"), browser_name("Chrome/1 (Linux)")
    one, other = (maya.sign_in(browser=Browser(name=name)) for name in (firefox, chrome))
    assert "Firefox" not in deployment.stored_text()
    stored = {each.session: each.device for each in maya.session.backend.devices()}

    deployment.put_device(one, stored[other.session.id])

    named = {each.id: each.browser for each in devices_of(maya)}
    assert named[one.session.id] == UNKNOWN_BROWSER
    assert named[other.session.id] == "Chrome on Linux"


def test_ended_session_is_no_device_and_lists_none(deployment, maya):
    other = maya.sign_in()
    deployment.accounts.end(other.cookie)

    assert [one.id for one in devices_of(maya)] == [maya.session.id]
    for act in (
        lambda: devices_of(other),
        lambda: other.session.backend.end_other_devices(),
        lambda: other.session.backend.end_device(maya.session.id),
        lambda: other.session.backend.stop_turns(None),
    ):
        with pytest.raises(SignedOut):
            act()
    assert is_alive(maya)
