"""The rules of accounts at their limits; the conformance suite of accounts tests them in every store."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.domain import AccountRole, UserId
from services.domain.accounts import (
    CredentialsAction,
    ProofScope,
    SessionEnd,
    SignUps,
)
from services.domain.models import ModelPrices, ModelSettings
from services.rules import NOT_FOUND, STALE, Refusal
from services.rules.accounts import (
    FACTOR_NEEDED,
    FACTOR_USED,
    INVITATION_LIFE,
    LAST_ADMIN,
    PROOF_LIFE,
    WARNING,
    WAY_IN_TAKEN,
    Counter,
    Lookup,
    Settings,
    StoredAccount,
    StoredInvitation,
    StoredSession,
    begin_account,
    change_refusal,
    changed_models,
    check_change,
    check_proof,
    check_ways_in,
    counted,
    deleted,
    differences,
    factor_refusal,
    leave_refusal,
    takes_proof_in_part,
    ways_in_refusal,
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
    def end(session, account, seconds, *, is_refused=False):
        now = NOON + timedelta(seconds=seconds)
        return StoredSession.end(session, account, now, is_refused=is_refused)

    assert end(SESSION, USER, 59) is None
    assert end(SESSION, USER, 60) is SessionEnd.ENDED
    used = SESSION.used(NOON + timedelta(seconds=59))
    assert used.ends_at == SESSION.expires_at
    assert end(used, USER, 90) is end(None, USER, 0) is SessionEnd.ENDED
    assert end(SESSION, replace(USER, suspended_at=NOON), 0) is SessionEnd.SUSPENDED
    assert end(SESSION, deleted(USER, NOON), 0) is end(SESSION, None, 0) is SessionEnd.DELETED
    assert end(SESSION, USER, 0, is_refused=True) is SessionEnd.ENDED
    assert end(SESSION, None, 0, is_refused=True) is SessionEnd.DELETED


def test_shorter_retention_warns_and_a_longer_one_does_not():
    first = Settings().changed({"retention_days": 30}, NOON)
    assert first.retention_from == NOON + WARNING
    later = NOON + WARNING
    assert first.unused_since(later - MOMENT) is None
    assert first.unused_since(later) == later - timedelta(days=30)
    assert first.expires_at(NOON - timedelta(days=90)) == first.retention_from
    assert first.expires_at(NOON) == NOON + timedelta(days=30)

    assert first.changed({"retention_days": 31}, later).retention_from == first.retention_from
    assert first.changed({"retention_days": 29}, later).retention_from == later + WARNING
    off = first.changed({"retention_days": None}, later)
    assert off.expires_at(NOON) is off.unused_since(later + WARNING) is None


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (-31, WARNING),  # as in a backup of that age
        (-1.01, WARNING),
        (-0.99, timedelta()),
        (-0.05, timedelta()),
        (-0.04, timedelta(days=-0.04)),
        (13, timedelta(days=13)),
        (15, WARNING),  # the clock had been ahead
    ],
)
def test_late_sweep_has_owners_warned_anew(days, expected):
    settings = Settings(retention_days=30, retention_from=NOON + timedelta(days=days))

    assert settings.swept(NOON).retention_from == NOON + expected
    assert replace(settings, retention_days=None).swept(NOON).retention_from != NOON + WARNING


def test_proof_of_a_clock_that_was_ahead_is_none():
    lately = replace(SESSION, proved_at=NOON + timedelta(minutes=1))

    assert lately.is_proven(NOON, None)  # the clock was set a little
    assert not replace(SESSION, proved_at=NOON + PROOF_LIFE).is_proven(NOON, None)


def test_throttle_counts_in_windows_and_rounds_its_wait_up():
    first = counted(None, "b", 60, NOON)
    second = counted(first, "b", 60, NOON + timedelta(seconds=59.5))

    assert (first.wait(1, NOON), second.attempts) == (None, 2)
    assert second.window_ends == first.window_ends
    assert second.wait(1, NOON + timedelta(seconds=59.5)) == 1
    assert second.wait(1, NOON + timedelta(seconds=0.5)) == 60
    assert counted(second, "b", 60, first.window_ends).attempts == 1


def test_throttle_window_of_a_clock_that_was_ahead_is_over():
    full = Counter(bucket="b", window_ends=NOON + timedelta(seconds=61), attempts=9)

    assert counted(full, "b", 60, NOON + timedelta(seconds=1)).attempts == 10
    assert counted(full, "b", 60, NOON) == Counter(
        bucket="b", window_ends=NOON + timedelta(seconds=60), attempts=1
    )


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
@pytest.mark.parametrize(
    "action",
    [
        *(CredentialsAction.ADDRESS_FREED, CredentialsAction.ADDRESS_SET),
        CredentialsAction.IDENTITY_MOVED,
    ],
)
def test_user_makes_no_change_of_an_operator(action, generation, ends_others):
    with pytest.raises(ValueError, match=action):
        check_change(action, 1, generation, ends_others=ends_others)


# --- the second factor


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The state of credentials."""

    generation: int = 4
    uses: int = 7
    wants_factor: bool = True


OWN, NONE = Stored(), Stored(uses=0, wants_factor=False)
USED = Stored(uses=8)
ENROLLED = Stored(generation=5, uses=0)
FLAGS = {  # what a change may make of the flag: before, after
    CredentialsAction.RESEAL: {(False, False), (True, True)},
    CredentialsAction.ADDRESS_CONFIRMED: {(False, False), (True, True)},
    CredentialsAction.ADDRESS_FREED: {(False, False), (True, True)},
    CredentialsAction.ADDRESS_SET: {(False, False), (True, True)},
    CredentialsAction.IDENTITY_MOVED: {(False, False), (True, True)},
    CredentialsAction.PASSWORD_SET: {(False, False), (True, True), (True, False)},
    CredentialsAction.PASSWORD_RESET: {(False, False), (True, True), (True, False)},
    CredentialsAction.PASSWORD_ADDED: {(False, False), (True, True)},
    CredentialsAction.FACTOR_USED: {(True, True)},
    CredentialsAction.RECOVERY_USED: {(True, True)},
    CredentialsAction.FACTOR_ADDED: {(False, True), (True, True)},
    CredentialsAction.FACTOR_REMOVED: {(True, False), (True, True)},
    CredentialsAction.FACTOR_REPLACED: {(True, True)},
    CredentialsAction.RECOVERY_RENEWED: {(True, True)},
    CredentialsAction.IDENTITY_ADDED: {(False, False), (True, True)},
    CredentialsAction.IDENTITY_REMOVED: {(False, False), (True, True)},
    CredentialsAction.IDENTITY_USED: {(False, False), (True, True)},
    CredentialsAction.PASSKEY_ADDED: {(False, False), (True, True)},
    CredentialsAction.PASSKEY_REMOVED: {(False, False), (True, True), (True, False)},
    CredentialsAction.PASSKEY_USED: {(False, False), (False, True), (True, True)},
    CredentialsAction.PASSKEY_FACTOR_ADDED: {(False, True), (True, True)},
    CredentialsAction.PASSKEY_FACTOR_REMOVED: {(True, False), (True, True)},
}
USES_ALONE = (CredentialsAction.PASSKEY_USED, CredentialsAction.IDENTITY_USED)
USES = (CredentialsAction.FACTOR_USED, CredentialsAction.RECOVERY_USED, *USES_ALONE)
PASSWORDS = (CredentialsAction.PASSWORD_SET, CredentialsAction.PASSWORD_RESET)
WAYS_IN = ("identity.add", "identity.remove", "passkey.add", "passkey.remove")
OF_PASSKEYS = ("passkey_factor.add", "passkey_factor.remove")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("action", CredentialsAction)
def test_flag_of_the_factor_changes_by_its_actions_alone(action, before, after):
    used = action in USES
    stored, new = Stored(wants_factor=before), Stored(uses=7 + used, wants_factor=after)

    if (before, after) in FLAGS[action]:
        assert change_refusal(action, stored, new, 4) is None
    else:
        with pytest.raises(ValueError, match="second factor"):
            change_refusal(action, stored, new, 4)


def test_operator_removes_a_factor_that_only_a_former_address_has():
    without, action = Stored(wants_factor=False), CredentialsAction.FACTOR_REMOVED

    assert change_refusal(action, without, without, 4, by_operator=True) is None
    with pytest.raises(ValueError, match="second factor"):
        change_refusal(action, without, Stored(), 4, by_operator=True)


@pytest.mark.parametrize("action", CredentialsAction)
def test_change_is_refused_once_the_credentials_have_changed(action):
    uses = 7 + (action in USES)

    for stored in (None, Stored(generation=5)):
        assert change_refusal(action, stored, Stored(uses=uses), 4) == STALE
    for off in (1, -1):
        assert change_refusal(action, OWN, Stored(uses=uses + off), 4) == FACTOR_USED


def test_changes_of_a_way_in_may_end_the_other_sessions():
    of_app = ("factor.add", "factor.remove", "factor.replace", "recovery.renew")
    for action in (*of_app, *OF_PASSKEYS, *WAYS_IN):
        for ends_others in (True, False):
            check_change(CredentialsAction(action), 4, 5, ends_others=ends_others)
        with pytest.raises(ValueError, match=action):
            check_change(CredentialsAction(action), 4, 4, ends_others=False)


@pytest.mark.parametrize("action", USES_ALONE)
@pytest.mark.parametrize(
    ("stored", "used", "has_factor", "is_required", "expected"),
    [
        (NONE, replace(NONE, uses=1), False, False, None),
        (NONE, replace(NONE, uses=1), False, True, FACTOR_NEEDED),
        (NONE, replace(NONE, uses=1), True, True, None),
        (NONE, replace(NONE, uses=2), True, False, FACTOR_USED),
        (OWN, USED, True, True, None),
    ],
)
def test_session_begins_by_a_passkey_or_an_identity(
    action, stored, used, has_factor, is_required, expected
):
    by = {"used_by": action, "is_required": is_required}

    assert factor_refusal(stored, 4, used, has_factor=has_factor, **by) == expected


def test_use_of_a_passkey_alone_has_it_asked_for_from_then_on():
    asked = replace(NONE, uses=1, wants_factor=True)
    given = {"has_factor": True, "is_required": True}

    used_by = CredentialsAction.PASSKEY_USED
    assert factor_refusal(NONE, 4, asked, used_by=used_by, **given) is None
    with pytest.raises(ValueError, match=r"identity\.use"):
        factor_refusal(NONE, 4, asked, used_by=CredentialsAction.IDENTITY_USED, **given)


def test_session_begins_by_no_other_change():
    for used, action, has_factor in (
        (USED, CredentialsAction.PASSKEY_USED, False),
        (USED, CredentialsAction.IDENTITY_USED, False),
        (USED, CredentialsAction.RESEAL, True),
        (replace(NONE, uses=1), CredentialsAction.FACTOR_USED, False),
        (replace(NONE, uses=1), CredentialsAction.FACTOR_USED, True),
    ):
        by = {"used_by": action, "is_required": False}
        with pytest.raises(ValueError, match=r"factor|use"):
            factor_refusal(replace(used, uses=used.uses - 1), 4, used, has_factor=has_factor, **by)
    by = {"used_by": CredentialsAction.FACTOR_USED, "is_required": True}
    with pytest.raises(ValueError, match="not given"):  # before it is compared with what is stored
        factor_refusal(None, 4, replace(NONE, uses=1), has_factor=False, **by)


def test_look_ups_do_not_change_and_get_new_names_at_once():
    check_ways_in(CredentialsAction.RESEAL, has_lookups=False, renames=True)
    with pytest.raises(ValueError, match="renamed"):
        check_ways_in(CredentialsAction.PASSWORD_SET, has_lookups=True, renames=True)


@pytest.mark.parametrize("action", CredentialsAction)
@pytest.mark.parametrize("has_lookups", [True, False])
def test_changes_of_ways_in_come_with_look_up_values(action, has_lookups):
    if action in PASSWORDS or has_lookups is (action in WAYS_IN):
        check_ways_in(action, has_lookups=has_lookups)
    else:
        with pytest.raises(ValueError, match=action):
            check_ways_in(action, has_lookups=has_lookups)


@pytest.mark.parametrize("action", [None, *map(CredentialsAction, WAYS_IN)])
def test_way_in_of_another_user_is_not_added(action):
    own, others = Lookup(lookup="a", user_id=MAYA), Lookup(lookup="b", user_id=RUTH)
    is_removal = action is not None and action.endswith("remove")

    assert ways_in_refusal([own], MAYA, action) is None
    assert ways_in_refusal([own, others], MAYA, action) == (None if is_removal else WAY_IN_TAKEN)


@pytest.mark.parametrize(
    ("stored", "used", "has_factor", "is_required", "expected"),
    [
        (NONE, None, False, False, None),
        (NONE, None, False, True, FACTOR_NEEDED),
        (NONE, None, True, True, None),
        (NONE, ENROLLED, True, False, None),
        (OWN, None, False, False, FACTOR_NEEDED),
        (OWN, None, True, False, None),
        (OWN, USED, True, True, None),
        (OWN, Stored(uses=9), True, False, FACTOR_USED),
        (Stored(generation=5), None, False, False, STALE),
        (Stored(generation=5), USED, True, False, STALE),
        (None, None, False, False, STALE),
    ],
)
def test_session_begins_by_the_factor_that_is_wanted(
    stored, used, has_factor, is_required, expected
):
    refusal = factor_refusal(stored, 4, used, has_factor=has_factor, is_required=is_required)

    assert refusal == expected


@pytest.mark.parametrize(
    ("stored", "used", "has_factor"),
    [
        (OWN, USED, False),
        (OWN, replace(USED, wants_factor=False), True),
        (OWN, Stored(generation=5), True),  # an enrolment beside the factor that there is
        (NONE, Stored(uses=1), True),
        (NONE, Stored(generation=6, uses=0), True),
    ],
)
def test_session_begins_by_nothing_but_a_use_or_an_enrolment(stored, used, has_factor):
    with pytest.raises(ValueError, match=r"factor|credentials"):
        factor_refusal(stored, 4, used, has_factor=has_factor, is_required=False)


def test_account_begins_with_the_factor_that_is_required():
    settings = Settings(sign_ups=SignUps.INVITED)

    refused = begin_account(
        MAYA, USER.email, settings, is_first=False, invitation=INVITATION, lacks_factor=True
    )

    assert refused == FACTOR_NEEDED


@dataclass
class State:
    generation: int = 1
    uses: int = 0
    wants_factor: bool = False


def test_proof_in_part_is_enough_for_what_only_adds():
    adding = {
        action
        for action in CredentialsAction
        if takes_proof_in_part(action, State(), ends_others=False)
    }

    assert adding == {
        CredentialsAction.FACTOR_ADDED,
        CredentialsAction.PASSKEY_ADDED,
        CredentialsAction.PASSWORD_ADDED,
    }
    for stored in (None, State(wants_factor=True)):
        assert not takes_proof_in_part(CredentialsAction.FACTOR_ADDED, stored, ends_others=False)
    assert not any(takes_proof_in_part(one, State(), ends_others=True) for one in adding)


def test_sign_in_that_proves_nothing_is_no_proof():
    check_proof(ProofScope.PART)
    with pytest.raises(ValueError, match="not a proof"):
        check_proof(ProofScope.NONE)
