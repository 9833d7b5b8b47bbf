"""The end of an account, by an admin or by its user: replies under way, what goes at once, and what is left."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from services.domain import Outcome
from services.domain.accounts import SessionEnd, UserOrder
from services.domain.turns import StopCause
from services.errors import (
    NotFound,
    SignedOut,
    WrongCredentials,
)
from tests.stack.apps import until
from tests.store.conformance.talk import (
    a_fact,
    answer,
    attached,
    begun_with,
    first_turn,
    new_turn,
    titles,
)
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED

MINUTE = 60  # seconds


@pytest.fixture
def days():
    """Yesterday and tomorrow: a test may run at midnight."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=1), today + timedelta(days=1)


def by_admin(deployment, admin, user, stop_turns=lambda _: None):
    deployment.administration(admin.session, stop_turns).delete(user.id)


def by_user(deployment, admin, user, stop_turns=lambda _: None):
    deployment.accounts.delete_with(user.session, user.cookie, PASSWORD, stop_turns=stop_turns)


@pytest.fixture(params=[by_admin, by_user])
def delete(request, deployment, admin):
    """Delete the account of a user, by an admin and by the user."""
    return lambda user, *stop_turns: request.param(deployment, admin, user, *stop_turns)


def erase(deployment):
    """Sweep, and erase what the log of sign-ins tells, as a process does two minutes later."""
    deployment.let_pass(2 * MINUTE)
    deployment.sweep()
    while deployment.server.erase_log_entries():
        pass


# --- what goes at once


def test_address_of_a_deleted_account_is_unknown_and_free_at_once(deployment, delete, maya):
    begun_with(maya.store, "Letters")

    delete(maya)

    with pytest.raises(WrongCredentials):
        maya.sign_in()
    anew = deployment.sign_up(maya.email)
    assert anew.id != maya.id
    assert anew.store.conversations.recent() == []
    deployment.sweep()
    assert anew.sign_in().id == anew.id


def test_sessions_and_keys_of_a_deleted_account_are_gone_at_once(deployment, admin, delete, maya):
    other = maya.sign_in()
    begun_with(maya.store, "Letters")
    wrapped = deployment.stored_keys(maya)
    assert wrapped

    delete(maya)

    assert deployment.stored_keys(maya) == []
    assert all(key not in deployment.stored_text() for key in wrapped)
    with pytest.raises(SignedOut):
        maya.account()
    with pytest.raises(SignedOut):
        deployment.accounts.open(other.cookie)
    ended = deployment.accounts.ended([maya.session, other.session, admin.session])
    assert ended == dict.fromkeys((maya.session.id, other.session.id), SessionEnd.DELETED)
    assert admin.administration.list_users(maya.email, UserOrder.EMAIL).total == 0
    with pytest.raises(NotFound):
        admin.administration.delete(maya.id)
    with pytest.raises(NotFound):
        admin.administration.suspend(maya.id, is_suspended=False)


def test_suspended_user_is_deleted(deployment, admin, maya):
    admin.administration.suspend(maya.id, is_suspended=True)

    admin.administration.delete(maya.id)

    ended = deployment.accounts.ended([maya.session])
    assert ended == {maya.session.id: SessionEnd.DELETED}


# --- what is left


def test_deleted_account_leaves_costs_and_an_audit_without_an_address(
    deployment, admin, delete, maya, days
):
    thread = answer(maya.store, first_turn("When?"), "In March.", cost_micro=300)
    answer(maya.store, attached(maya.store, new_turn(thread, "Look"), b"leaf"), "I see.")
    maya.store.facts.keep(a_fact())
    usage = admin.administration.usage(days, maya.id)
    assert maya.email in deployment.stored_text()

    delete(maya)
    erase(deployment)

    text = deployment.stored_text()
    assert maya.email not in text
    assert str(thread.conversation.id) not in text
    assert admin.administration.usage(days, maya.id) == usage
    entries = [one for one in admin.administration.audit() if one.target == str(maya.id)]
    assert {"account.begin", "account.delete", "account.end"} <= {one.action for one in entries}
    assert not deployment.server.sweep().log_erasures


def test_log_of_sign_ins_forgets_a_deleted_account(deployment, delete, maya):
    delete(maya)
    deployment.let_pass(2 * MINUTE)
    deployment.sweep()
    if deployment.has_log:
        assert deployment.server.sweep().log_erasures

    while deployment.server.erase_log_entries():
        pass

    assert not deployment.server.sweep().log_erasures
    assert maya.email not in deployment.stored_text()


def test_content_of_others_stays(deployment, delete, maya, omar):
    begun_with(omar.store, "Letters")

    delete(maya)
    erase(deployment)

    assert titles(omar.sign_in().store.conversations.recent()) == ["Letters"]


# --- replies under way


@pytest.fixture
def services(shared, admin):
    """The services of an admin in a process that has a chat."""
    shared.session_cache.find(admin.cookie)
    return shared.find(admin.session.id)


@pytest.fixture
def turn(maya, shared, server):
    """A live turn that has said something."""
    shared.session_cache.find(maya.cookie)
    server.script(tokens=3, fault="hang", after=2)
    turn = shared.find(maya.session.id).chat.begin(None, "How do I prune?")
    until(turn.said, within=20)
    return turn


def is_charged(admin, user, days, *, interrupted):
    """Return True if the only reply of *user* was stopped or interrupted, and charged by what it said."""
    report = admin.administration.usage(days, user.id)
    assert sum(day.replies for day in report.days) == 1
    assert (report.interrupted, report.failed) == (interrupted, 0)
    return sum(day.tokens_out for day in report.days) > 0


@pytest.mark.parametrize("end", ["suspend", "sign_out"])
def test_reply_of_an_ended_session_costs_what_was_said(services, admin, maya, turn, days, end):
    act = getattr(services.access, end)
    act(maya.id, **({"is_suspended": True} if end == "suspend" else {}))

    assert is_charged(admin, maya, days, interrupted=1)
    admin.administration.suspend(maya.id, is_suspended=False)
    again = maya.sign_in()
    [entry] = again.usage.ledger(*days)
    assert (entry.kind, entry.outcome) == ("charge", "interrupted")
    reply = again.store.conversations.thread(turn.conversation_id).tip
    assert (reply.outcome, reply.body) == (Outcome.INTERRUPTED, turn.said())


@pytest.mark.usefixtures("turn")
def test_reply_of_a_user_whom_an_admin_deletes_costs_what_was_said(services, admin, maya, days):
    services.access.delete(maya.id)

    assert is_charged(admin, maya, days, interrupted=1)


@pytest.mark.usefixtures("turn")
def test_reply_at_ones_own_deletion_costs_what_was_said(deployment, shared, admin, maya, days):
    stop = partial(shared.stop_turns_of, StopCause.USER)
    deployment.accounts.delete_with(maya.session, maya.cookie, PASSWORD, stop_turns=stop)

    assert is_charged(admin, maya, days, interrupted=0)


@pytest.mark.parametrize("end", ["one", "others"])
def test_reply_of_a_device_that_another_ends_costs_what_was_said(
    shared, admin, maya, turn, days, end
):
    other = maya.sign_in()
    shared.session_cache.find(other.cookie)
    devices = shared.find(other.session.id).devices

    ended = devices.end(maya.session.id) if end == "one" else devices.end_others()

    assert ended == 1
    assert turn.is_done
    assert is_charged(admin, maya, days, interrupted=0)
    assert shared.find_unchecked(maya.session.id) is None
    assert shared.find(other.session.id)


def test_replies_of_another_device_go_on_while_one_ends(shared, maya, turn):
    phone, tablet = maya.sign_in(), maya.sign_in()
    shared.session_cache.find(phone.cookie)

    assert shared.find(phone.session.id).devices.end(tablet.session.id) == 1

    assert not turn.is_stopped
    turn.stop()
    assert turn.wait(20)


def test_replies_are_stopped_before_the_account_is_shut(deployment, delete, maya):
    stopped = []

    def stop(user_id):
        stopped.append((user_id, deployment.accounts.ended([maya.session]) == {}))

    delete(maya, stop)

    assert stopped == [(maya.id, True)]


def test_reply_of_another_process_is_charged_once_its_lease_ran_out(
    deployment, admin, delete, maya, days
):
    thread = answer(maya.store, first_turn("When?"), "In March.", cost_micro=300)
    maya.store.turns.begin(new_turn(thread, "And leeks?"))

    delete(maya)
    erase(deployment)

    report = admin.administration.usage(days, maya.id)
    assert (sum(day.replies for day in report.days), report.interrupted) == (2, 1)
    assert str(thread.conversation.id) not in deployment.stored_text()


# --- refusals


def test_refused_deletion_ends_and_stops_nothing(deployment, maya, omar):
    stopped, accounts = [], deployment.accounts
    with pytest.raises(WrongCredentials):
        accounts.delete_with(maya.session, maya.cookie, PASSWORD + "!", stop_turns=stopped.append)
    with pytest.raises(WrongCredentials):
        accounts.prove(
            maya.session, maya.cookie, accounts.find(omar.email, NOT_COUNTED).checked(PASSWORD)
        )

    assert stopped == []
    assert deployment.accounts.backend.is_alive(maya.cookie.hash)
    assert maya.sign_in().account().user_id == maya.id
