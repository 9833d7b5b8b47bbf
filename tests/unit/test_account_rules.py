"""The rules of accounts at their limits; the conformance suite of accounts tests them in every store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.domain import AccountRole, UserId
from services.domain.accounts import CredentialsAction, SessionEnd, SignUps
from services.domain.models import ModelPrices, ModelSettings
from services.rules import NOT_FOUND, Refusal
from services.rules.accounts import (
    INVITATION_LIFE,
    LAST_ADMIN,
    WARNING,
    Settings,
    StoredAccount,
    StoredInvitation,
    StoredSession,
    begin_account,
    changed_models,
    check_change,
    counted,
    deleted,
    differences,
    leave_refusal,
)

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
MAYA, RUTH = UserId(UUID(int=1)), UserId(UUID(int=2))
USER = StoredAccount(id=MAYA, email="maya@daybook.test", role=AccountRole.USER)
ADMIN = StoredAccount(id=RUTH, email="ruth@daybook.test", role=AccountRole.ADMIN)
INVITATION = StoredInvitation(
    id=UUID(int=3),
    code_hash="c" * 64,
    email=None,
    role=AccountRole.ADMIN,
    made_by=RUTH,
    created_at=NOON,
    expires_at=NOON + INVITATION_LIFE,
)
SESSION = StoredSession(
    cookie_hash="a" * 64,
    id=UUID(int=4),
    user_id=MAYA,
    sealed="p1.1.x",
    idle_seconds=60,
    expires_at=NOON + timedelta(seconds=90),
    ends_at=NOON + timedelta(seconds=60),
)


def begun(settings, email="maya@daybook.test", *, is_first=False, invitation=None):
    """Return the role of a new account, or the reason why it may not begin."""
    account = begin_account(MAYA, email, settings, is_first=is_first, invitation=invitation)
    return account.reason if isinstance(account, Refusal) else account.role


@pytest.mark.parametrize(
    ("mode", "is_first", "invitation", "role"),
    [
        (SignUps.OPEN, False, None, "user"),
        (SignUps.OPEN, False, INVITATION, "admin"),
        (SignUps.OPEN, True, None, "admin"),
        (SignUps.INVITED, False, None, "no_invitation"),
        (SignUps.INVITED, False, INVITATION, "admin"),
        (SignUps.INVITED, True, None, "admin"),
        (SignUps.CLOSED, False, INVITATION, "sign_ups_closed"),
        (SignUps.CLOSED, True, None, "admin"),
    ],
)
def test_account_begins_as_the_mode_allows(mode, is_first, invitation, role):
    settings = Settings(sign_ups=mode)

    assert begun(settings, is_first=is_first, invitation=invitation) == role


@pytest.mark.parametrize("email", ["maya", "Maya@daybook.test", "x@deleted.invalid", ""])
def test_account_of_no_address_is_refused_first(email):
    assert begun(Settings(sign_ups=SignUps.CLOSED), email) == "bad_address"


def test_invitation_is_good_until_its_end_and_while_its_maker_is_admin():
    assert INVITATION.state(ADMIN, INVITATION.expires_at - MOMENT) == "open"
    assert INVITATION.state(ADMIN, INVITATION.expires_at) == "expired"
    assert INVITATION.state(replace(ADMIN, suspended_at=NOON), NOON) == "revoked"
    assert INVITATION.state(None, NOON) == "revoked"
    assert replace(INVITATION, revoked_at=NOON).state(ADMIN, NOON) == "revoked"
    assert replace(INVITATION, used_by=MAYA, revoked_at=NOON).state(None, NOON) == "used"
    named = replace(INVITATION, email=USER.email)
    assert named.is_good(ADMIN, USER.email, NOON)
    assert not named.is_good(ADMIN, ADMIN.email, NOON)


def test_last_admin_leaves_only_an_empty_deployment():
    suspended = replace(USER, role=AccountRole.ADMIN, suspended_at=NOON)

    assert leave_refusal(ADMIN, [ADMIN, suspended]) is LAST_ADMIN
    assert leave_refusal(ADMIN, [ADMIN], has_others=False) is None
    assert leave_refusal(ADMIN, [ADMIN, replace(USER, role=AccountRole.ADMIN)]) is None
    assert leave_refusal(USER, [ADMIN]) is None
    assert leave_refusal(deleted(USER, NOON), [ADMIN]) is leave_refusal(None, []) is NOT_FOUND


def test_session_ends_by_idle_time_age_and_account():
    def end(session, account, seconds):
        return StoredSession.end(session, account, NOON + timedelta(seconds=seconds))

    assert end(SESSION, USER, 59) is None
    assert end(SESSION, USER, 60) is SessionEnd.ENDED
    used = SESSION.used(NOON + timedelta(seconds=59))
    assert used.ends_at == SESSION.expires_at
    assert end(used, USER, 90) is end(None, USER, 0) is SessionEnd.ENDED
    assert end(SESSION, replace(USER, suspended_at=NOON), 0) is SessionEnd.SUSPENDED
    assert end(SESSION, deleted(USER, NOON), 0) is end(SESSION, None, 0) is SessionEnd.DELETED


def test_shorter_retention_warns_and_a_longer_one_does_not():
    first = Settings().changed({"retention_days": 30}, NOON)
    assert first.retention_from == NOON + WARNING
    later = NOON + WARNING + MOMENT
    assert first.unused_since(NOON + WARNING) is None
    assert first.unused_since(later) == later - timedelta(days=30)
    assert first.expires_at(NOON - timedelta(days=90)) == first.retention_from
    assert first.expires_at(NOON) == NOON + timedelta(days=30)

    assert first.changed({"retention_days": 31}, later).retention_from == first.retention_from
    assert first.changed({"retention_days": 29}, later).retention_from == later + WARNING
    off = first.changed({"retention_days": None}, later)
    assert off.expires_at(NOON) is off.unused_since(later + WARNING) is None


def test_throttle_counts_in_windows_and_rounds_its_wait_up():
    first = counted(None, "b", 60, NOON)
    second = counted(first, "b", 60, NOON + timedelta(seconds=59.5))

    assert (first.wait(1, NOON), second.attempts) == (None, 2)
    assert second.window_ends == first.window_ends
    assert second.wait(1, NOON + timedelta(seconds=59.5)) == 1
    assert second.wait(1, NOON + timedelta(seconds=0.5)) == 60
    assert counted(second, "b", 60, first.window_ends).attempts == 1


def test_models_change_by_columns():
    prices = {"input_micro": 3, "cached_input_micro": 1, "output_micro": 9}
    priced = changed_models(ModelSettings(), "large", prices)
    closed = changed_models(priced, "large", {"is_offered": False})
    known = changed_models(closed, "large", dict.fromkeys(prices))

    assert priced.of("large").prices == closed.of("large").prices == ModelPrices(**prices)
    assert (priced.of("large").is_offered, closed.of("large").is_offered) == (True, False)
    assert known.of("large").prices is None
    assert not known.of("large").is_offered


def test_differences_are_pairs_of_what_changed():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": None, "c": 3}) == {
        "b": [2, None],
        "c": [None, 3],
    }


@pytest.mark.parametrize("generation", [1, 2, 3])
@pytest.mark.parametrize("ends_others", [False, True])
def test_user_frees_no_address(generation, ends_others):
    with pytest.raises(ValueError, match=r"address\.free"):
        check_change(CredentialsAction.ADDRESS_FREED, 1, generation, ends_others=ends_others)
