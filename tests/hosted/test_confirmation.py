"""Sign-ups where Supabase Auth confirms addresses."""

import threading

import pytest

from services.domain.health import UnsentReason
from services.errors import (
    AddressTaken,
    ConfirmationSent,
    MailUnsent,
    NotConfirmed,
    WrongCredentials,
)
from services.events import listen
from services.store.supabase import auth
from services.web.recent_calls import RecentCalls
from tests.stack.apps import until
from tests.store.conftest import PASSWORD, _cheap_hashes, new_email  # noqa: F401
from tests.stores import NOT_COUNTED

OTHER = "another horse, another battery"
COUNT, PUT = "rpc/count_attempt", "rpc/put_sign_up"  # the calls of the app before it answers


@pytest.fixture
def stack(hosted):
    return hosted


def is_quiet():
    """Return True if no sign-up waits for Supabase Auth."""
    return not [one for one in threading.enumerate() if one.name == "sign-up"]


def test_sign_up_with_confirmation_is_answered_alike_for_every_address(
    hosted, process, wire, addresses, hashes
):
    seen = set()
    wire.may_sign_up.clear()
    with hosted.auth(confirms=True):
        process.backend.sign_in.settings.read()
        for email in (*addresses, addresses[-1]):  # the last is pending by now
            wire.made, hashes[:] = [], []
            with pytest.raises(ConfirmationSent):  # while Supabase Auth does not answer
                process.sign_up_with(email, OTHER)
            seen.add((*wire.made, len(hashes)))
        assert seen == {(COUNT, PUT, 1)}
        wire.may_sign_up.set()
        until(is_quiet)


def test_two_sign_ups_at_once_are_answered_alike_for_every_address(
    hosted, process, wire, addresses
):
    with hosted.auth(confirms=True):
        process.backend.sign_in.settings.read()
        for email in addresses:
            for found in [process.find_for_sign_up(email, NOT_COUNTED) for _ in range(2)]:
                with pytest.raises(ConfirmationSent):
                    process.sign_up(found, found.hashed(OTHER))
        until(is_quiet)


def test_confirmed_address_opens_the_account_that_waited_for_it(hosted, process, wire):
    email = new_email()
    with hosted.auth(confirms=True):
        with pytest.raises(ConfirmationSent):
            process.sign_up_with(email, PASSWORD)
        until(is_quiet)
        with pytest.raises(NotConfirmed):
            process.sign_in_with(email, PASSWORD)
        with pytest.raises(WrongCredentials):
            process.sign_in_with(email, OTHER)

        confirm(hosted, email)
        cookie, session = process.sign_in_with(email, PASSWORD)

        assert (session.email, process.open(cookie).user_id) == (email, session.user_id)
        assert not session.is_confirmed  # only a code of ours confirms an address


def test_unsent_mail_is_told_after_the_right_password_alone(hosted, process, addresses, caplog):
    email, calls = new_email(), RecentCalls()
    with hosted.auth(confirms=True, is_mail_broken=True):
        process.backend.sign_in.settings.read()
        listen(calls.record)
        for address in (*addresses, email):
            with pytest.raises(ConfirmationSent):
                process.sign_up_with(address, PASSWORD)
        until(is_quiet)

        assert calls.unsent_reason is UnsentReason.SERVER
        with pytest.raises(WrongCredentials):
            process.sign_in_with(email, OTHER)
        with pytest.raises(MailUnsent):
            process.sign_in_with(email, PASSWORD)
    with hosted.auth(confirms=True):
        with pytest.raises(ConfirmationSent):  # the mail server answers again
            process.sign_in_with(email, PASSWORD)
        confirm(hosted, email)
        assert process.sign_in_with(email, PASSWORD)[1].email == email


def test_second_sign_up_keeps_the_password_at_supabase_auth(hosted, process):
    email = new_email()
    with hosted.auth(confirms=True):
        for password in (OTHER, PASSWORD):
            with pytest.raises(ConfirmationSent):
                process.sign_up_with(email, password)
            until(is_quiet)
        confirm(hosted, email)

        with pytest.raises(WrongCredentials):
            process.sign_in_with(email, OTHER)
        assert process.sign_in_with(email, PASSWORD)[1].email == email


def test_user_from_before_daybook_keeps_the_address(hosted, process):
    email = new_email()
    auth.sign_up(process.backend.gateway.client(), email, OTHER)
    with hosted.connect() as database:
        ageing = "update auth.users set created_at = '1999-01-01' where email = %s"
        database.execute(ageing, [email])
    with hosted.auth(confirms=True):
        process.backend.sign_in.settings.read()
        with pytest.raises(ConfirmationSent):
            process.sign_up_with(email, PASSWORD)
        until(is_quiet)

        with pytest.raises(AddressTaken):
            process.sign_in_with(email, PASSWORD)
    with hosted.connect() as database:  # `operate check` of other tests would name the user
        database.execute("delete from auth.users where email = %s", [email])


def test_stranger_who_prepares_an_address_does_not_get_its_account(hosted, process, wire):
    email = new_email()
    with hosted.auth(confirms=True):
        client = process.backend.gateway.client()
        with pytest.raises(ConfirmationSent):
            auth.sign_up(client, email, OTHER)
        with pytest.raises(ConfirmationSent):
            process.sign_up_with(email, PASSWORD)
        until(is_quiet)
        confirm(hosted, email)  # who owns the address follows the link of either sign-up

        with pytest.raises(WrongCredentials):
            process.sign_in_with(email, OTHER)
        with pytest.raises(ConfirmationSent):  # the stranger's user has gone
            process.sign_in_with(email, PASSWORD)
        confirm(hosted, email)
        assert process.sign_in_with(email, PASSWORD)[1].email == email


def confirm(hosted, email):
    """Confirm an address, as the link in the email does."""
    with hosted.connect() as database:
        confirmation = "update auth.users set email_confirmed_at = now() where email = %s"
        assert database.execute(confirmation, [email]).rowcount == 1
