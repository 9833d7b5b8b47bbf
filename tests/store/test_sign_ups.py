"""Sign-ups over the API: the mode, invitations, and users without an account."""

import pytest

from services import errors
from services.caches import CachedRead
from services.domain import AccountRole
from services.domain.accounts import SignUps
from services.store.supabase import auth
from services.store.supabase.sign_ups import SignUpAdministration, read_sign_ups
from tests.store.conftest import PASSWORD, new_email


@pytest.fixture
def sign_ups(maya, sessions, stack):
    """As an admin."""
    with stack.connect() as database:
        promotion = "update private.roles set role = %s where user_id = %s"
        database.execute(promotion, ["admin", maya.user_id])
        yield SignUpAdministration(maya.calls, CachedRead(lambda: read_sign_ups(sessions.server)))
        database.execute(promotion, ["user", maya.user_id])
        database.execute("update private.settings set sign_ups = 'open' where id")
        database.execute("delete from private.invitations where true")


def role_of(stack, session):
    with stack.connect() as database:
        query = "select role from private.roles where user_id = %s"
        return database.execute(query, [session.user_id]).fetchone()[0]


def test_wrong_code_leaves_nothing_that_blocks_the_right_one(sessions, sign_ups, stack):
    email = new_email()
    sign_ups.set_mode(SignUps.INVITED)
    code = sign_ups.invite(email, AccountRole.ADMIN)
    for wrong in ("", "wrong"):
        with pytest.raises(errors.InvitationRefused):
            sessions.sign_up(email, PASSWORD, lambda: None, wrong)

    _, session = sessions.sign_up(email, PASSWORD, lambda: None, f" {code} ")

    assert role_of(stack, session) == "admin"
    assert [one.state for one in sign_ups.invitations()] == ["used"]
    with pytest.raises(errors.InvitationRefused):
        sessions.sign_up(new_email(), PASSWORD, lambda: None, code)


def test_user_made_past_the_app_signs_in_by_invitation(sessions, sign_ups, stack):
    email = new_email()
    sign_ups.set_mode(SignUps.INVITED)
    auth.sign_up(sessions.gateway.client(), email, PASSWORD)  # the publishable key is enough
    with pytest.raises(errors.InvitationNeeded):
        sessions.sign_in(email, PASSWORD)

    _, session = sessions.sign_in(
        email, PASSWORD, lambda: None, sign_ups.invite("", AccountRole.USER)
    )

    assert role_of(stack, session) == "user"
    assert sessions.sign_in(email, PASSWORD)[1].user_id == session.user_id


def test_closed_sign_ups_let_accounts_in(sessions, sign_ups, stack):
    email, other = new_email(), new_email()
    sessions.sign_up(email, PASSWORD)
    auth.sign_up(sessions.gateway.client(), other, PASSWORD)
    code = sign_ups.invite("", AccountRole.USER)

    sign_ups.set_mode(SignUps.CLOSED)

    assert sign_ups.mode() is SignUps.CLOSED
    with pytest.raises(errors.SignUpsClosed):
        sessions.sign_up(new_email(), PASSWORD, lambda: None, code)
    with pytest.raises(errors.SignUpsClosed):
        sessions.sign_in(other, PASSWORD, lambda: None, code)
    assert sessions.sign_in(email, PASSWORD)


def test_revoked_invitation_is_listed_and_refused(sessions, sign_ups):
    sign_ups.set_mode(SignUps.INVITED)
    code = sign_ups.invite("", AccountRole.USER)
    [made] = sign_ups.invitations()

    sign_ups.revoke(made.id)

    assert [one.state for one in sign_ups.invitations()] == ["revoked"]
    with pytest.raises(errors.InvitationRefused):
        sessions.sign_up(new_email(), PASSWORD, lambda: None, code)
    with pytest.raises(errors.NotFound):
        sign_ups.revoke(made.id)


def test_wrong_address_of_an_invitation_is_refused(sign_ups):
    with pytest.raises(errors.BadAddress):
        sign_ups.invite("omar", AccountRole.USER)
