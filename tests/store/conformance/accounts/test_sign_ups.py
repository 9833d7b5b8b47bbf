"""Sign-ups: the first account, the mode, and invitations."""

from functools import partial
from uuid import uuid4

import pytest

from services.crypto import new_key, sha
from services.domain import AccountRole
from services.domain.accounts import OpenInvitation, SignUps
from services.errors import (
    BadAddress,
    InvitationMissing,
    InvitationNeeded,
    InvitationRefused,
    NotFound,
    SignUpsClosed,
    StoreUnavailable,
    TooManyAttempts,
    WrongCredentials,
)
from services.store.backend import Throttle
from services.store.credentials import open_stored
from tests.store.conformance.accounts.deployments import DAY, at_once
from tests.store.conftest import PASSWORD, new_email
from tests.stores import cut_at


@pytest.fixture
def deployment(alone):
    return alone


@pytest.fixture
def sign_ups(admin):
    """Sign-ups by invitation alone, in the hands of an admin."""
    admin.sign_ups.set_mode(SignUps.INVITED)
    return admin.sign_ups


def states(sign_ups):
    return [one.state for one in sign_ups.invitations()]


def refused(deployment, code, email=None):
    """Fail unless no account begins with *code*."""
    error = InvitationRefused if code else InvitationMissing
    with pytest.raises(error):
        deployment.sign_up(email, invitation=code)


def cut(deployment, email, **options):
    """Sign up in a process that ends before the account begins."""
    accounts = cut_at(deployment.process(), "start_session", is_done=False)
    with pytest.raises(StoreUnavailable):
        accounts.sign_up_with(email, PASSWORD, **options)


def test_first_account_is_the_admins_where_the_settings_say_so(deployment):
    assert not deployment.server.next_is_admin()
    deployment.let_first_be_admin()
    assert deployment.server.next_is_admin()

    first, other = at_once(deployment.sign_up, deployment.sign_up)

    roles = sorted(user.account().role for user in (first, other))
    assert roles == [AccountRole.ADMIN, AccountRole.USER]
    assert not deployment.server.next_is_admin()


def test_state_of_sign_ups_tells_whether_there_is_an_admin(deployment):
    state, user = deployment.accounts.backend.sign_up_state, deployment.sign_up()
    assert not state().has_admin

    deployment.make_admin(user)

    assert state().has_admin


def test_first_account_is_a_users_where_the_settings_say_nothing(deployment):
    assert deployment.sign_up().account().role is AccountRole.USER


def test_first_admin_needs_no_invitation_also_after_all_others_are_gone(
    deployment, sign_ups, admin
):
    deployment.let_first_be_admin()
    assert not deployment.server.next_is_admin()
    admin.administration.delete(admin.id)

    assert deployment.server.next_is_admin()
    assert deployment.server.sign_ups() is SignUps.OPEN
    assert deployment.sign_up().account().role is AccountRole.ADMIN
    assert deployment.server.sign_ups() is SignUps.INVITED


def test_mode_is_followed_at_once(deployment, admin):
    assert admin.sign_ups.mode() is deployment.server.sign_ups() is SignUps.OPEN
    assert deployment.sign_up()

    for mode in (SignUps.CLOSED, SignUps.INVITED, SignUps.OPEN):
        admin.sign_ups.set_mode(mode)

        assert admin.sign_ups.mode() is deployment.server.sign_ups() is mode


def test_addresses_are_confirmed_until_an_admin_switches_that_off(deployment, admin):
    backend = deployment.accounts.backend
    assert admin.sign_ups.confirms_by_code()

    for is_on in (False, True):
        admin.sign_ups.confirm_by_code(is_on=is_on)

        assert admin.sign_ups.confirms_by_code() is is_on
        assert backend.sign_up_state().confirms_by_code is is_on
    changed = admin.administration.audit()[0]
    assert (changed.action, changed.detail) == (
        "settings.set",
        {"confirms_by_code": [False, True]},
    )


def test_closed_sign_ups_let_accounts_in_and_nobody_else(deployment, admin, maya):
    code = admin.sign_ups.invite("", AccountRole.USER)

    admin.sign_ups.set_mode(SignUps.CLOSED)

    with pytest.raises(SignUpsClosed):
        deployment.sign_up(invitation=code)
    assert maya.sign_in().id == maya.id
    assert states(admin.sign_ups) == ["open"]


def test_invitation_begins_one_account_with_its_role(deployment, sign_ups):
    email = new_email()
    code = sign_ups.invite(email, AccountRole.ADMIN)
    for wrong in ("", "wrong", "\0", code[:-1]):
        refused(deployment, wrong, email)  # and nothing is left that blocks the right one
    refused(deployment, code, new_email())

    user = deployment.sign_up(email, invitation=f" {code} ")

    assert user.account().role is AccountRole.ADMIN
    assert states(sign_ups) == ["used"]
    assert user.sign_in().id == user.id
    refused(deployment, code)


def test_invitation_for_anyone_begins_an_account_of_a_user(deployment, sign_ups):
    code = sign_ups.invite("", AccountRole.USER)
    [invitation] = sign_ups.invitations()

    assert (invitation.email, invitation.role, invitation.state) == (None, "user", "open")
    assert deployment.sign_up(invitation=code).account().role is AccountRole.USER


def test_code_of_an_open_invitation_tells_its_address_and_maker(deployment, admin, sign_ups):
    email = new_email()
    code, for_anyone = (sign_ups.invite(address, AccountRole.USER) for address in (email, ""))
    ask = partial(deployment.accounts.backend.open_invitation, throttles=())

    assert ask(code) == OpenInvitation(email=email, invited_by=admin.email)
    assert ask(for_anyone) == OpenInvitation(email=None, invited_by=admin.email)

    deployment.sign_up(email, invitation=code)
    sign_ups.revoke(next(one.id for one in sign_ups.invitations() if one.state == "open"))
    assert [ask(other) for other in (code, for_anyone, sha(code), "")] == [None] * 4


def test_questions_about_invitations_are_counted(deployment, sign_ups):
    code = sign_ups.invite("", AccountRole.USER)
    ask = deployment.accounts.backend.open_invitation
    throttles = [Throttle(new_key().hex(), 2, 60)]

    assert ask(code, throttles)
    assert ask("another", throttles) is None
    with pytest.raises(TooManyAttempts):
        ask(code, throttles)


def test_hash_of_an_invitation_begins_no_account(deployment, sign_ups):
    """The hash stands in a copy of the store, and the code does not."""
    code, email = sign_ups.invite("", AccountRole.ADMIN), new_email()
    assert sha(code) in deployment.stored_text()
    sign_ups.set_mode(SignUps.OPEN)
    cut(deployment, email)
    sign_ups.set_mode(SignUps.INVITED)

    refused(deployment, sha(code))
    with pytest.raises(InvitationNeeded):
        deployment.accounts.sign_in_with(email, PASSWORD, invitation=sha(code))

    assert states(sign_ups) == ["open"]


def test_cut_sign_up_keeps_the_code_of_its_invitation_sealed(deployment, sign_ups):
    code, email = sign_ups.invite("", AccountRole.ADMIN), new_email()
    cut(deployment, email, invitation=code)
    assert code not in deployment.stored_text()

    _, session = deployment.accounts.sign_in_with(email, PASSWORD)

    assert deployment.account(session).role is AccountRole.ADMIN
    assert states(sign_ups) == ["used"]
    stored = deployment.credentials()[session.user_id]
    assert open_stored(deployment.accounts.root_keys, stored).invitation is None


def test_code_at_the_sign_in_goes_before_that_of_the_sign_up(deployment, sign_ups):
    first, second = (sign_ups.invite("", role) for role in (AccountRole.USER, AccountRole.ADMIN))
    email = new_email()
    cut(deployment, email, invitation=first)

    _, session = deployment.accounts.sign_in_with(email, PASSWORD, invitation=second)

    assert deployment.account(session).role is AccountRole.ADMIN


def test_invitation_used_by_two_at_once_begins_one_account(deployment, sign_ups):
    code = sign_ups.invite("", AccountRole.USER)

    answers = at_once(*[partial(deployment.sign_up, invitation=code)] * 2)

    refusals = [one for one in answers if isinstance(one, Exception)]
    assert len(refusals) == 1
    assert isinstance(refusals[0], InvitationNeeded | InvitationRefused)
    assert states(sign_ups) == ["used"]


def test_withdrawn_invitation_is_listed_and_refused(deployment, sign_ups):
    code = sign_ups.invite("", AccountRole.USER)
    [made] = sign_ups.invitations()

    sign_ups.revoke(made.id)

    assert states(sign_ups) == ["revoked"]
    refused(deployment, code)
    for gone in (made.id, uuid4()):
        with pytest.raises(NotFound):
            sign_ups.revoke(gone)


def test_used_invitation_is_not_withdrawn(deployment, sign_ups):
    deployment.sign_up(invitation=sign_ups.invite("", AccountRole.USER))
    [used] = sign_ups.invitations()

    with pytest.raises(NotFound):
        sign_ups.revoke(used.id)

    assert states(sign_ups) == ["used"]


def test_invitation_is_good_for_a_week_and_forgotten_a_month_later(deployment, sign_ups, admin):
    code = sign_ups.invite("", AccountRole.USER)

    deployment.let_pass(7 * DAY + 60)

    refused(deployment, code)
    sign_ups = admin.sign_in().sign_ups  # by now that session has lapsed
    assert states(sign_ups) == ["expired"]
    deployment.let_pass(30 * DAY)
    deployment.sweep()
    assert states(admin.sign_in().sign_ups) == []


def test_invitation_of_a_former_admin_is_worth_nothing(deployment, sign_ups, admin):
    other = deployment.sign_up(invitation=sign_ups.invite("", AccountRole.ADMIN))
    code = sign_ups.invite("", AccountRole.ADMIN)

    other.administration.set_role(admin.id, AccountRole.USER)

    refused(deployment, code)
    assert states(other.sign_ups) == ["revoked", "used"]


def test_open_invitations_are_listed_first_then_the_newest(sign_ups):
    for role in (AccountRole.USER, AccountRole.ADMIN):
        sign_ups.invite("", role)
    [newest, oldest] = sign_ups.invitations()
    assert (oldest.role, newest.role) == (AccountRole.USER, AccountRole.ADMIN)
    assert 6 < (oldest.expires_at - oldest.created_at).days <= 7

    sign_ups.revoke(newest.id)

    assert [one.id for one in sign_ups.invitations()] == [oldest.id, newest.id]


def test_wrong_address_of_an_invitation_is_refused(sign_ups):
    with pytest.raises(BadAddress):
        sign_ups.invite("omar", AccountRole.USER)

    assert sign_ups.invitations() == []


def test_user_made_past_the_app_does_not_hold_the_address(deployment, sign_ups):
    email, code = new_email(), sign_ups.invite("", AccountRole.USER)
    deployment.outsider(email)
    with pytest.raises(WrongCredentials):
        deployment.accounts.sign_in_with(email, PASSWORD)

    user = deployment.sign_up(email, invitation=code)

    assert user.sign_in().id == user.id
