"""Codes by mail: signing in by one, and setting a new password by one."""

from functools import partial
from uuid import uuid4

import pytest

from services.crypto import hash_password
from services.domain.accounts import SessionEnd
from services.domain.mails import CodePurpose, NoCode, NoCodeReason
from services.errors import (
    FactorNeeded,
    RateLimited,
    SignedOut,
    StepEnded,
    StoreUnavailable,
    Suspended,
    TooManyAttempts,
    WrongCode,
    WrongCredentials,
)
from services.store import codes as rules
from services.store.accounts import AppSession, Cookie
from services.store.backend import Throttle, Throttles
from services.store.codes import CodeRequest, Codes
from services.store.steps import Steps
from tests.confirmed import confirm
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conformance.accounts.test_factors import enrol
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED, cut_at

OTHER = "another horse, another battery"
KIND = CodePurpose.SIGN_IN


@pytest.fixture
def browser():
    return Cookie.new()


@pytest.fixture
def codes(deployment):
    return Codes(Steps(deployment.accounts.backend, deployment.accounts.root_keys))


@pytest.fixture
def send(deployment, codes, browser):
    """Have a code sent to a user; return its step and what is mailed."""

    def send(user, throttles=NOT_COUNTED):
        request = CodeRequest(address=user.email)
        recipient = rules.recipient_of(deployment.accounts.find(user.email, throttles), KIND)
        return codes.begin(browser, KIND, request, recipient, step_id=uuid4())

    return send


@pytest.fixture
def right(codes, browser, send):
    """Have a code sent to a user and enter it."""

    def right(user):
        step, code = send(user)
        return codes.check(browser, KIND, step.id, code.digits, None)

    return right


@pytest.fixture
def maya(deployment):
    """A user with a confirmed address."""
    user = deployment.sign_up()
    confirm(deployment.accounts, user.session)
    return user


def test_code_signs_in_once_in_any_process(deployment, maya, browser, send):
    begun_with(maya.store, "Letters")
    step, code = send(maya)
    accounts = deployment.process()
    elsewhere = Codes(Steps(accounts.backend, accounts.root_keys))
    check = partial(elsewhere.check, browser, KIND, step.id, code.digits, None)
    entered, again = check(), check()

    cookie, session = rules.sign_in(accounts, entered)

    assert accounts.open(cookie).user_id == session.user_id == maya.id
    assert titles(deployment.store(session).conversations.recent()) == ["Letters"]
    assert maya.account().user_id == maya.id  # no other session ends
    with pytest.raises(StepEnded):
        rules.sign_in(accounts, again)


def test_of_two_who_enter_a_code_at_once_one_signs_in(deployment, maya, codes, browser, send):
    step, code = send(maya)

    def enter():
        entered = codes.check(browser, KIND, step.id, code.digits, None)
        return rules.sign_in(deployment.accounts, entered)[1]

    answers = at_once(enter, enter)

    assert [type(one) for one in answers if isinstance(one, AppSession)] == [AppSession]
    assert sum(isinstance(one, StepEnded) for one in answers) == 1


def test_code_does_not_take_the_place_of_the_second_factor(deployment, maya, right):
    enrol(maya)
    hashed = deployment.accounts.current(maya.cookie).hashed(OTHER)

    with pytest.raises(FactorNeeded):
        rules.sign_in(deployment.accounts, right(maya))
    with pytest.raises(FactorNeeded):
        rules.reset_password(deployment.accounts, right(maya), hashed)

    assert set(deployment.devices(maya.session)) == {maya.session.id}


def test_address_that_was_never_confirmed_gets_no_code(omar, codes, browser, send):
    step, content = send(omar)

    assert content == NoCode(NoCodeReason.UNCONFIRMED)
    with pytest.raises(WrongCode):
        codes.check(browser, KIND, step.id, "00000000", None)


def test_suspended_user_and_pending_sign_up_get_no_mail(deployment, admin, maya, omar, send):
    admin.administration.suspend(maya.id, is_suspended=True)
    assert send(maya)[1] is None

    admin.administration.suspend(maya.id, is_suspended=False)
    assert send(maya)[1]
    email = f"nobody-{omar.email}"
    with pytest.raises(StoreUnavailable):
        cut_at(deployment.accounts, "put_sign_up", is_done=True).sign_up_with(email, PASSWORD)
    assert rules.recipient_of(deployment.accounts.find(email, NOT_COUNTED), KIND) == rules.NOBODY


def test_user_suspended_since_is_told_after_the_right_code(deployment, admin, maya, right):
    entered = right(maya)
    admin.administration.suspend(maya.id, is_suspended=True)

    with pytest.raises(Suspended):
        rules.sign_in(deployment.accounts, entered)


def test_code_is_over_once_the_credentials_have_changed(deployment, maya, right):
    entered = right(maya)
    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    with pytest.raises(StepEnded):
        rules.sign_in(deployment.accounts, entered)


def test_code_of_another_user_opens_no_account(deployment, maya, omar, codes, browser, send):
    _, code = send(maya)
    confirm(deployment.accounts, omar.session)
    step, _ = send(omar)

    with pytest.raises(WrongCode):
        codes.check(browser, KIND, step.id, code.digits, None)


def test_codes_of_strangers_leave_those_of_a_known_device(maya, omar, send):
    shared, own = (Throttle(uuid4().hex * 2, 1, 60) for _ in range(2))
    assert send(maya, Throttles((shared,)))[1]

    with pytest.raises(TooManyAttempts):
        send(maya, Throttles((shared,)))
    with pytest.raises(TooManyAttempts):  # who is known to another account
        send(maya, Throttles((shared,), omar.id, (own,)))

    assert send(maya, Throttles((shared,), maya.id, (own,)))[1]


# --- a new password


def test_reset_sets_the_password_and_ends_all_other_sessions(deployment, maya, omar, right):
    begun_with(maya.store, "Letters")
    accounts, other = deployment.accounts, maya.sign_in()

    cookie, session = rules.reset_password(accounts, right(maya), hash_password(OTHER))

    ended = accounts.ended([one.session for one in (maya, other, omar)])
    assert ended == dict.fromkeys((maya.session.id, other.session.id), SessionEnd.ENDED)
    with pytest.raises(SignedOut):
        maya.account()
    assert deployment.process().open(cookie).id == session.id
    with pytest.raises(WrongCredentials):
        accounts.sign_in_with(maya.email, PASSWORD)
    _, again = accounts.sign_in_with(maya.email, OTHER)
    assert titles(deployment.store(again).conversations.recent()) == ["Letters"]
    assert deployment.usage(session).account_changes()[0].action == "password.reset"


def test_process_killed_before_the_new_password_leaves_the_old_one(deployment, maya, right):
    """The session of which no browser has the cookie is not ended: the process is gone."""
    accounts, entered = deployment.accounts, right(maya)

    _, session = rules.sign_in(accounts, entered)

    assert maya.sign_in().id == maya.id
    assert maya.account().user_id == maya.id
    with pytest.raises(StepEnded):  # the code is spent
        rules.reset_password(accounts, entered, hash_password(OTHER))
    assert set(deployment.devices(maya.session)) >= {maya.session.id, session.id}


def overtaking(monkeypatch, accounts, change, times, *, is_before=False):
    """Call *change* after each of the next *times* sign-ins, before the new session is used, or *is_before* the sign-in."""
    sign_in, left = type(accounts).sign_in, [change] * times

    def overtaken(*arguments, **options):
        if is_before and left:
            left.pop()()
        started = sign_in(*arguments, **options)
        if left:
            left.pop()()
        return started

    monkeypatch.setattr(type(accounts), "sign_in", overtaken)


def sets_password(deployment, user):
    """Return a change of the password by a session of *user*."""
    accounts, hashed = deployment.accounts, hash_password("a thief's own password")
    return lambda: accounts.change_password(user.session, accounts.current(user.cookie), hashed)


@pytest.mark.parametrize("what", ["password before", "password", "sessions"])
def test_thief_overtakes_no_reset_once_its_code_is_spent(
    deployment, maya, right, monkeypatch, what
):
    entered, thief = right(maya), maya.sign_in()
    ends = thief.session.backend.end_other_devices
    change = ends if what == "sessions" else sets_password(deployment, thief)
    is_before = what == "password before"
    overtaking(monkeypatch, deployment.accounts, change, 2, is_before=is_before)

    _, session = rules.reset_password(deployment.accounts, entered, hash_password(OTHER))

    assert list(deployment.devices(session)) == [session.id]
    assert deployment.accounts.sign_in_with(maya.email, OTHER)[1].user_id == maya.id


def test_reset_that_other_changes_overtook_changes_nothing(deployment, maya, right, monkeypatch):
    entered, thief = right(maya), maya.sign_in()
    with monkeypatch.context() as changed:
        overtaking(changed, deployment.accounts, sets_password(deployment, thief), 100)
        with pytest.raises(RateLimited):
            rules.reset_password(deployment.accounts, entered, hash_password(OTHER))

    assert list(deployment.devices(thief.session)) == [thief.session.id]
    with pytest.raises(WrongCredentials):
        deployment.accounts.sign_in_with(maya.email, OTHER)
    assert deployment.accounts.sign_in_with(maya.email, "a thief's own password")


def test_reset_is_not_repeated_while_sign_in_is_busy(deployment, right, maya, monkeypatch):
    entered, calls = right(maya), []

    def busy(*arguments, **_):
        calls.append(arguments)
        raise RateLimited

    monkeypatch.setattr(type(deployment.accounts), "sign_in", busy)
    with pytest.raises(RateLimited):
        rules.reset_password(deployment.accounts, entered, hash_password(OTHER))

    assert len(calls) == 1
