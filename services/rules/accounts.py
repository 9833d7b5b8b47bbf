"""Rules for accounts.

They cover the first and the last admin, sign-ups, invitations, sessions, retention, steps, throttles, and the look-up
values of former addresses, identities and passkeys.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Protocol, TypeVar, cast
from uuid import UUID

from services.domain import AccountRole, SessionId, UserId
from services.domain.accounts import (
    CredentialsAction,
    Limits,
    NoticeRow,
    ProofScope,
    SessionEnd,
    SignUps,
)
from services.domain.addresses import checked_address
from services.domain.models import ModelPrices, ModelSetting, ModelSettings
from services.errors import BadAddress
from services.rules import NOT_FOUND, STALE, Refusal

LAST_ADMIN = Refusal(reason="last_admin")
ADMINS_ONLY = Refusal(reason="admins_only")
OUT_OF_BOUNDS = Refusal(reason="out_of_bounds")
FACTOR_NEEDED = Refusal(reason="factor_needed")
FACTOR_USED = Refusal(reason="factor_used")
FACTOR_REQUIRED = Refusal(reason="factor_required")
WAY_IN_TAKEN = Refusal(reason="way_in_taken")
_BIGINT = 2**63 - 1
BOUNDS: Mapping[str, tuple[int, int]] = {  # the minimum and maximum of each value, as in SQL
    "daily_cap_micro": (0, _BIGINT),
    "monthly_cap_micro": (0, _BIGINT),
    "daily_cap_tokens": (0, _BIGINT),
    "max_open": (0, 1000),
    "max_per_minute": (0, 1_000_000),
    "retention_days": (15, 3650),
    **{each.name: (0, 10**10) for each in fields(ModelPrices)},
}
_NEVER_NONE = {"daily_cap_micro", "monthly_cap_micro", "max_open", "max_per_minute"}
MOST_INVITATIONS = 500  # maximum open invitations of a deployment
INVITATION_LIFE = timedelta(days=7)
PROOF_LIFE = timedelta(minutes=10)  # for this long, a proof permits changes to the account
STEP_LIFE = timedelta(minutes=10)
MOST_STEPS = 4  # maximum steps of one kind in a browser; a new step ends the oldest
# maximum tries (such as entered codes) to complete one step
MOST_TRIES = 5
MOST_NOTICES = 3  # maximum notices of one kind that are stored for a user
# for this long, the session that follows another in its browser does not show the notices of the other's changes
FOLLOWED_LIFE = timedelta(minutes=10)
# maximum audit entries that a user gets about changes, among them steps of sign-ins, which the page leaves out
MOST_CHANGES = 500
MOST_FAILURES = 100  # the maximum about failures, which strangers can cause
FORMER_LIFE = timedelta(hours=72)  # for this long, a user may take a former address back
# the time from setting a new or shorter retention period until the first deletion, during which users are warned
WARNING = timedelta(days=14)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAccount:
    """The stored account of a user. A deleted account has no address; its row stays, because the ledger refers to it."""

    id: UserId
    email: str | None = field(repr=False)
    role: AccountRole
    suspended_at: datetime | None = None
    # the time of the deletion, which cannot be undone: the sweep destroys the account's rows
    deleted_at: datetime | None = None
    is_ended: bool = False  # true: the sweep has destroyed the deleted account's rows

    @property
    def is_admin(self) -> bool:
        return self.role is AccountRole.ADMIN and self.suspended_at is None


Stored = TypeVar("Stored", bound=StoredAccount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Limits):
    """The settings of a deployment, including the limits that new users get."""

    daily_cap_micro: int = 1_000_000
    monthly_cap_micro: int = 10_000_000
    daily_cap_tokens: int | None = None
    max_open: int = 4
    max_per_minute: int = 20
    first_account_is_admin: bool = False
    sign_ups: SignUps = SignUps.OPEN
    confirms_by_code: bool = True  # if mail is configured, new users must enter a mailed code
    requires_factor: bool = False  # true: no session begins without a second factor
    # days after which unused conversations are deleted; None: never
    retention_days: int | None = None
    # the time at which retention begins to delete, so that users can be warned first; later sweeps set it to the time of the sweep
    retention_from: datetime = _LONG_AGO

    def changed(self, changes: Mapping[str, object], now: datetime) -> "Settings":
        """Return the settings after *changes*; a new or shorter retention period deletes nothing until users have been warned."""
        new, before = replace(self, **changes), self.retention_days
        if before is not None and new.retention_days is not None and new.retention_days >= before:
            return new
        return replace(new, retention_from=now + WARNING)

    def swept(self, now: datetime) -> "Settings":
        """Return the settings for a sweep at *now*, which renews `retention_from` every hour.

        If there was no sweep for a day (Daybook was stopped, or a backup was restored), or if the clock was ahead and
        was set back, retention deletes nothing until users have been warned again.
        """
        if (
            self.retention_days is None
            or now - timedelta(hours=1) <= self.retention_from <= now + WARNING
        ):
            return self
        is_running = now - timedelta(days=1) <= self.retention_from <= now
        return replace(self, retention_from=now if is_running else now + WARNING)

    def expires_at(self, used_at: datetime) -> datetime | None:
        """Return the time at which retention deletes a conversation that was last used at *used_at*; None if never."""
        if self.retention_days is None:
            return None
        return max(used_at + timedelta(days=self.retention_days), self.retention_from)

    def unused_since(self, now: datetime) -> datetime | None:
        """Return the cutoff at *now*: retention deletes conversations last used before this time. None: it deletes nothing yet."""
        if self.retention_days is None or self.retention_from > now:
            return None
        return now - timedelta(days=self.retention_days)


def bounds_refusal(values: Mapping[str, object]) -> Refusal | None:
    """Return a refusal if a limit, setting or price in *values* is out of bounds, or is None although it is required."""
    for name in values.keys() & BOUNDS.keys():
        value, (least, most) = values[name], BOUNDS[name]
        if value is None:
            is_good = name not in _NEVER_NONE
        else:
            is_good = isinstance(value, int) and least <= value <= most
        if not is_good:
            return OUT_OF_BOUNDS
    return None


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """Return the values of *after* that differ from *before*, keyed by name, each as [before, after]."""
    return {
        name: [before.get(name), value]
        for name, value in after.items()
        if value != before.get(name)
    }


# --- credentials ------------------------------------------------------------------------------------


# changes that need no recent proof: RESEAL changes no sign-in method, and an address is confirmed by a mailed code
WITHOUT_PROOF = {CredentialsAction.RESEAL, CredentialsAction.ADDRESS_CONFIRMED}


# allowed changes of `wants_factor`, as pairs of the values before and after
_SAME = frozenset({(False, False), (True, True)})
_STAYS_ON = frozenset({(True, True)})
# the value is true before, too, if an account with an authenticator app adds passkeys as a factor, or the reverse
_IS_ON = frozenset({(False, True), (True, True)})
_WAS_ON = frozenset({(True, False), (True, True)})
_MAY_GO_OFF = _SAME | {(True, False)}
_MAY_GO_ON = _SAME | {(False, True)}


class _ChangeRule(NamedTuple):
    """The limits on one kind of change to credentials, which `check_change` and `check_flag` apply."""

    raised_by: int | None  # the increase of the generation; None: only operators make this change
    ends_others: bool | None  # True: all other sessions must end; None: the user chooses
    flags: frozenset[tuple[bool, bool]]  # the changes of `wants_factor` that are allowed


_CHANGE_RULES: Mapping[CredentialsAction, _ChangeRule] = {
    CredentialsAction.RESEAL: _ChangeRule(0, False, _SAME),
    CredentialsAction.PASSWORD_SET: _ChangeRule(1, True, _MAY_GO_OFF),
    CredentialsAction.PASSWORD_RESET: _ChangeRule(1, True, _MAY_GO_OFF),
    CredentialsAction.PASSWORD_ADDED: _ChangeRule(1, False, _SAME),
    CredentialsAction.ADDRESS_CONFIRMED: _ChangeRule(1, False, _SAME),
    CredentialsAction.ADDRESS_FREED: _ChangeRule(None, None, _SAME),
    CredentialsAction.ADDRESS_SET: _ChangeRule(None, None, _SAME),
    CredentialsAction.IDENTITY_MOVED: _ChangeRule(None, None, _SAME),
    CredentialsAction.FACTOR_USED: _ChangeRule(0, False, _STAYS_ON),
    CredentialsAction.RECOVERY_USED: _ChangeRule(0, False, _STAYS_ON),
    CredentialsAction.FACTOR_ADDED: _ChangeRule(1, None, _IS_ON),
    CredentialsAction.FACTOR_REMOVED: _ChangeRule(1, None, _WAS_ON),
    CredentialsAction.FACTOR_REPLACED: _ChangeRule(1, None, _STAYS_ON),
    CredentialsAction.RECOVERY_RENEWED: _ChangeRule(1, None, _STAYS_ON),
    CredentialsAction.IDENTITY_ADDED: _ChangeRule(1, None, _SAME),
    CredentialsAction.IDENTITY_REMOVED: _ChangeRule(1, None, _SAME),
    CredentialsAction.IDENTITY_USED: _ChangeRule(0, False, _SAME),
    CredentialsAction.PASSKEY_ADDED: _ChangeRule(1, None, _SAME),
    CredentialsAction.PASSKEY_REMOVED: _ChangeRule(1, None, _MAY_GO_OFF),
    # if the deployment requires a second factor, the first use of a passkey makes passkeys the factor
    CredentialsAction.PASSKEY_USED: _ChangeRule(0, False, _MAY_GO_ON),
    CredentialsAction.PASSKEY_FACTOR_ADDED: _ChangeRule(1, None, _IS_ON),
    CredentialsAction.PASSKEY_FACTOR_REMOVED: _ChangeRule(1, None, _WAS_ON),
}


def check_change(
    action: CredentialsAction, seen_generation: int, generation: int, *, ends_others: bool
) -> None:
    """Raise ValueError unless *action* may raise the generation by this much, and allows the choice *ends_others*.

    *ends_others*: True if the change ends the user's other sessions.
    """
    rule = _CHANGE_RULES[action]
    is_raised = generation - seen_generation == rule.raised_by
    if not is_raised or rule.ends_others not in (None, ends_others):
        raise ValueError(f"not a change of credentials: {action}")


# with these changes, the look-up values of all the identities and passkeys that the user then has must be stored, too
CHANGES_WAYS_IN = {
    CredentialsAction.IDENTITY_ADDED,
    CredentialsAction.IDENTITY_REMOVED,
    CredentialsAction.PASSKEY_ADDED,
    CredentialsAction.PASSKEY_REMOVED,
}
# changes of the password that end all other sessions, and may remove identities, passkeys and the second factor
PASSWORD_CHANGES = {CredentialsAction.PASSWORD_SET, CredentialsAction.PASSWORD_RESET}
# uses of a passkey or an identity, each of which may sign a user in without a second factor
_USES_ALONE = {CredentialsAction.PASSKEY_USED, CredentialsAction.IDENTITY_USED}
_USES = {CredentialsAction.FACTOR_USED, CredentialsAction.RECOVERY_USED, *_USES_ALONE}
_ADDS_WAYS_IN = {CredentialsAction.IDENTITY_ADDED, CredentialsAction.PASSKEY_ADDED}


def check_ways_in(action: CredentialsAction, *, has_lookups: bool, renames: bool = False) -> None:
    """Raise ValueError unless the actions in `CHANGES_WAYS_IN`, and no others, store look-up values (*has_lookups*).

    `PASSWORD_CHANGES` may store them or not, because a new password may remove identities and passkeys. *renames*: the change
    replaces look-up values by those under a newer root key, as only RESEAL does; it must not also store look-up values.
    """
    if has_lookups and renames:
        raise ValueError(f"look-ups that change and are renamed: {action}")
    if has_lookups is not (action in CHANGES_WAYS_IN) and action not in PASSWORD_CHANGES:
        raise ValueError(f"not a change of ways in: {action}")


def ways_in_refusal(
    named: Collection["Lookup"], user_id: UserId, action: CredentialsAction | None = None
) -> Refusal | None:
    """Return a refusal if one of *named*, the look-up values of *user_id* after *action*, belongs to another user.

    *action*: None if an account is created, an address is taken back, or an operator makes the change. Other actions are
    refused only if they add an identity or a passkey.
    """
    adds = action is None or action in _ADDS_WAYS_IN
    return WAY_IN_TAKEN if adds and any(one.user_id != user_id for one in named) else None


class CredentialsState(Protocol):
    """The fields of credentials that are stored twice: inside their encrypted document, and unencrypted next to it."""

    @property
    def generation(self) -> int: ...
    @property
    def uses(self) -> int: ...
    @property
    def wants_factor(self) -> bool: ...


def takes_proof_in_part(
    action: CredentialsAction, stored: CredentialsState | None, *, ends_others: bool
) -> bool:
    """Return True if a partial proof is enough for *action*, because it only adds to the *stored* credentials."""
    match action:
        case CredentialsAction.PASSKEY_ADDED | CredentialsAction.PASSWORD_ADDED:
            adds = True
        case CredentialsAction.FACTOR_ADDED:
            # false if passkeys are the second factor: adding an app would also replace the recovery codes
            adds = stored is not None and not stored.wants_factor
        case _:
            adds = False
    return adds and not ends_others


def change_refusal(
    action: CredentialsAction,
    stored: CredentialsState | None,
    new: CredentialsState,
    seen_generation: int,
    *,
    by_operator: bool = False,
) -> Refusal | None:
    """Return a refusal if the *stored* credentials have changed since the caller read them to make *new*.

    Raise ValueError if *action* must not change `wants_factor` in this way.
    """
    if stored is None or stored.generation != seen_generation:
        return STALE
    if stored.uses != new.uses - (action in _USES):
        return FACTOR_USED
    check_flag(action, stored, new, by_operator=by_operator)
    return None


def check_flag(
    action: CredentialsAction | None,
    stored: CredentialsState,
    new: CredentialsState,
    *,
    by_operator: bool = False,
) -> None:
    """Raise ValueError unless *action* (None: only the address changes) may change `wants_factor` from its *stored* to its *new* value."""
    flags = _CHANGE_RULES[action].flags if action else _SAME
    if by_operator and flags == _WAS_ON:
        # an operator may also remove the factor of a former address, although the account itself has no factor
        flags |= {(False, False)}
    if (stored.wants_factor, new.wants_factor) not in flags:
        raise ValueError(f"not a change of the second factor: {action}")


def check_proof(scope: ProofScope) -> None:
    """Raise ValueError if *scope* is NONE, which permits no change to the account."""
    if scope is ProofScope.NONE:
        raise ValueError("not a proof")


def check_given(used: CredentialsState | None, *, has_factor: bool) -> None:
    """Raise ValueError if the credentials *used* require a second factor and none was given."""
    if used is not None and used.wants_factor and not has_factor:
        raise ValueError("a second factor that was not given")


def factor_refusal(
    stored: CredentialsState | None,
    seen_generation: int,
    used: CredentialsState | None,
    *,
    has_factor: bool,
    is_required: bool,
    used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
) -> Refusal | None:
    """Return a refusal if the *stored* credentials do not permit a new session or proof, else None.

    *used*: the credentials after a factor, a passkey or an identity was used (*used_by* says which), or after a factor was
    enrolled; None: none of these happened. *is_required*: the deployment requires a second factor. *has_factor* is False
    for a passkey that did not verify its user, and for an identity whose provider's second factor is not trusted.

    Raise ValueError if *used* cannot be the result of such a use or enrolment.
    """
    if used is not None:
        check_given(used, has_factor=has_factor)
        action = use_of(used, seen_generation, used_by)
        if not has_factor and action not in _USES_ALONE:
            raise ValueError("a second factor that was not given")
        if not has_factor and is_required:
            return FACTOR_NEEDED
        check_change(action, seen_generation, used.generation, ends_others=False)
        refusal = change_refusal(action, stored, used, seen_generation)
        is_enrolled = action is CredentialsAction.FACTOR_ADDED
        if refusal is None and is_enrolled and stored and stored.wants_factor:
            raise ValueError("another second factor stands, and was not given")
        return refusal
    if stored is None or stored.generation != seen_generation:
        return STALE
    return FACTOR_NEEDED if (stored.wants_factor or is_required) and not has_factor else None


def use_of(
    used: CredentialsState, seen_generation: int, used_by: CredentialsAction
) -> CredentialsAction:
    """Return the action that led to *used*: the use *used_by* if the generation is unchanged, else FACTOR_ADDED."""
    if used_by not in _USES:
        raise ValueError(f"not a use: {used_by}")
    return used_by if used.generation == seen_generation else CredentialsAction.FACTOR_ADDED


# --- sign-ups ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInvitation:
    """An invitation to create one account, identified by the hash of its code."""

    id: UUID
    code_hash: str = field(repr=False)
    email: str | None = field(repr=False)  # None: for any user who has the code
    role: AccountRole
    made_by: UserId
    created_at: datetime
    expires_at: datetime
    used_by: UserId | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(
        self, maker: StoredAccount | None, now: datetime
    ) -> Literal["open", "used", "revoked", "expired"]:
        """Return the invitation's state: "revoked" also if *maker* is no longer an admin, because they could use it themselves."""
        if self.used_by:
            return "used"
        if self.revoked_at or not (maker and maker.is_admin):
            return "revoked"
        return "expired" if self.expires_at <= now else "open"

    def is_good(self, maker: StoredAccount | None, address: str | None, now: datetime) -> bool:
        """Return True if an account with *address* may be created with the invitation."""
        return self.state(maker, now) == "open" and self.email in (None, address)


def mode_of(settings: Settings, *, is_first: bool) -> SignUps:
    """Return the sign-up mode. If *is_first*, the next account is the first and becomes admin, so sign-ups are open."""
    return SignUps.OPEN if is_first else settings.sign_ups


def begin_account(
    user_id: UserId,
    email: str,
    settings: Settings,
    *,
    is_first: bool,
    invitation: StoredInvitation | None,
    lacks_factor: bool = False,
    taken: Refusal | None = None,
) -> StoredAccount | Refusal:
    """Return the new account of a user who has none yet, or a refusal.

    *invitation*: an open invitation for the address, if any; *lacks_factor*: the deployment requires a second factor, and
    the user gave none; *taken*: a refusal if another account has one of the user's identities or passkeys, else None.
    """
    try:
        is_address = checked_address(email) == email
    except BadAddress:
        is_address = False
    if not is_address:
        return Refusal(reason="bad_address")
    mode = mode_of(settings, is_first=is_first)
    if mode is SignUps.CLOSED:
        return Refusal(reason="sign_ups_closed")
    if lacks_factor:
        return FACTOR_NEEDED
    if taken:
        return taken
    if mode is SignUps.INVITED and invitation is None:
        return Refusal(reason="no_invitation")
    role = invitation.role if invitation else AccountRole.USER
    return StoredAccount(id=user_id, email=email, role=AccountRole.ADMIN if is_first else role)


# --- the end of access ------------------------------------------------------------------------------


def leave_refusal(
    account: StoredAccount | None,
    admins: Collection[StoredAccount],
    *,
    has_others: bool = True,
    is_left: bool = True,
) -> Refusal | None:
    """Return a refusal if *account* is missing or deleted, or if the change would end the access of the last admin.

    *has_others*: other accounts exist; *is_left*: the change ends the account's admin role or its access. A change to the
    last admin's account is refused only if both are true.
    """
    is_last = account and [one.id for one in admins if one.is_admin] == [account.id]
    if is_last and has_others and is_left:
        return LAST_ADMIN
    return NOT_FOUND if account is None or account.deleted_at else None


def deleted(account: Stored, now: datetime) -> Stored:
    return replace(account, email=None, suspended_at=now, deleted_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A stored app session. It is found by its id, or by the hash of its cookie, which a proof replaces."""

    cookie_hash: str
    id: SessionId
    user_id: UserId
    # a text encrypted under a key that is derived from the cookie: only the right cookie can decrypt it
    sealed: str = field(repr=False)
    idle_seconds: int
    expires_at: datetime
    ends_at: datetime  # the time at which the session ends unless it is used earlier
    device: str | None = field(default=None, repr=False)  # the sealed name of the browser
    follows: SessionId | None = None  # the user's session before this one in the same browser
    created_at: datetime | None = None  # None: stored by an earlier version of the app
    seen_at: datetime | None = None
    proved_at: datetime | None = None  # the time of the user's last proof; None: there was none
    scope: ProofScope = ProofScope.FULL  # the scope of the last proof
    # true: the user gave a second factor at the sign-in or in a later proof, and has not turned the factor off since
    has_factor: bool = False

    def used(self, now: datetime) -> "StoredSession":
        ends_at = min(self.expires_at, now + timedelta(seconds=self.idle_seconds))
        return replace(self, ends_at=ends_at, seen_at=now)

    def proven(
        self,
        now: datetime,
        credentials: CredentialsState | None,
        scope: ProofScope,
        *,
        has_factor: bool,
    ) -> "StoredSession":
        """Return the session after a proof of *scope*. A partial proof does not replace a full proof that is still valid."""
        stays = scope is ProofScope.PART and self.is_proven(now, credentials)
        proof = (self.proved_at, self.scope) if stays else (now, scope)
        has_factor = self.has_factor or has_factor
        return replace(self, proved_at=proof[0], scope=proof[1], has_factor=has_factor)

    def is_proven(
        self, now: datetime, credentials: CredentialsState | None, *, is_part: bool = False
    ) -> bool:
        """Return True if the user, who has *credentials*, gave a proof in this session in the last ten minutes.

        *is_part*: a partial proof is enough. If the account has a second factor, a proof counts only if the user gave the
        factor in this session.
        """
        scopes = (ProofScope.FULL, ProofScope.PART) if is_part else (ProofScope.FULL,)
        # `abs`, because a proof time in the future was written while the clock was ahead
        is_recent = self.proved_at is not None and abs(now - self.proved_at) < PROOF_LIFE
        is_recent = is_recent and self.scope in scopes
        return is_recent and (self.has_factor or not (credentials and credentials.wants_factor))

    def is_alive(self, account: StoredAccount | None, now: datetime, *, is_refused: bool) -> bool:
        """Return True if the session has not ended, and this version of the app knows the role of *account*.

        *is_refused*: the session lacks the second factor that the deployment requires.
        """
        is_known = account is not None and account.role.is_known
        return is_known and self.end(self, account, now, is_refused=is_refused) is None

    @staticmethod
    def end(
        session: "StoredSession | None",
        account: StoredAccount | None,
        now: datetime,
        *,
        is_refused: bool,
    ) -> SessionEnd | None:
        """Return the reason why a *session* of *account* has ended; None if it has not ended."""
        if account is None or account.deleted_at:
            return SessionEnd.DELETED
        if account.suspended_at:
            return SessionEnd.SUSPENDED
        is_open = session is not None and session.ends_at > now and not is_refused
        return None if is_open else SessionEnd.ENDED


# --- look-ups ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A look-up value: a keyed hash of an identity, of a passkey, or of a former address that can be taken back.

    No other account can have this identity, passkey or address.
    """

    lookup: str = field(repr=False)
    user_id: UserId
    # the time at which a former address becomes free for other accounts; None for an identity or a passkey
    expires_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        return self.expires_at is None or self.expires_at > now


# --- steps ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """A step: an action begun in a browser but not complete, such as a sign-in that waits for a code.

    Its key is a hash of the browser's secret and a public id.
    """

    key: str = field(repr=False)
    kind_tag: str = field(repr=False)  # a tag shared by all steps of one kind in one browser
    sealed: str = field(repr=False)
    tries: int = 0
    expires_at: datetime

    @staticmethod
    def surplus(others: Collection["StoredStep"]) -> list["StoredStep"]:
        """Return the oldest of *others* (steps of one kind in one browser): those that must end before a new step begins."""
        newest_first = sorted(others, key=lambda one: one.expires_at, reverse=True)
        return newest_first[MOST_STEPS - 1 :]

    def is_open(self, now: datetime) -> bool:
        return self.expires_at > now

    def tried(self) -> "StoredStep | None":
        """Return the step after one more try; None if no tries are left, so that the step ends."""
        return None if self.tries >= MOST_TRIES else replace(self, tries=self.tries + 1)


# --- throttles --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """The attempts that a throttle has counted in one bucket (such as an IP address) during the current time window."""

    bucket: str
    window_ends: datetime
    attempts: int

    def wait(self, at_most: int, now: datetime) -> int | None:
        """Return the seconds to wait if the last attempt exceeded the limit *at_most*, else None."""
        if self.attempts <= at_most:
            return None
        return max(1, math.ceil((self.window_ends - now).total_seconds()))


def counted(counter: Counter | None, bucket: str, seconds: int, now: datetime) -> Counter:
    """Return *counter* after one more attempt. If its window of *seconds* is over, the attempt begins a new window.

    The attempt also begins a new window if the old window would end later than the new one, because the clock was ahead when
    the old window began.
    """
    window_ends = now + timedelta(seconds=seconds)
    if counter is None or not now < counter.window_ends <= window_ends:
        return Counter(bucket=bucket, window_ends=window_ends, attempts=1)
    return replace(counter, attempts=counter.attempts + 1)


# --- notices ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNotice(NoticeRow):
    """A notice to a user about a change to the account, and the session in which the change was made."""

    session: SessionId | None = None  # None: the change was made outside of any session

    @staticmethod
    def newest_first(notices: Collection["StoredNotice"]) -> list["StoredNotice"]:
        return sorted(notices, key=lambda one: (-one.at.timestamp(), str(one.id)))

    @staticmethod
    def surplus(of_kind: Collection["StoredNotice"]) -> list["StoredNotice"]:
        """Return the oldest of a user's notices of one kind: those to delete before another notice of that kind is stored."""
        return StoredNotice.newest_first(of_kind)[MOST_NOTICES - 1 :]

    def is_shown(self, session: StoredSession | None, now: datetime) -> bool:
        """Return True if *session* shows the notice and can dismiss it: all sessions except the one that made the change.

        For ten minutes, the session that follows that one in its browser does not show the notice either. Afterwards it
        does: a stranger may have made the change in an open browser.
        """
        if self.session is None or session is None:
            return True
        # `abs`, because a time in the future was written while the clock was ahead
        is_recent = abs(now - self.at) < FOLLOWED_LIFE
        return self.session != session.id and not (is_recent and self.session == session.follows)


# --- failures ---------------------------------------------------------------------------------------


def failure_count(detail: Mapping[str, object] | None) -> Mapping[str, object]:
    """Return the detail of an hour's audit entry after one more failure. *detail*: the detail so far; None: no entry yet."""
    return {"count": 1 + (int(str(detail["count"])) if detail else 0)}


# --- models -----------------------------------------------------------------------------------------


def columns_of(setting: ModelSetting) -> dict[str, object]:
    """Return the database columns for *setting*: the prices (all None if no admin has set them), and `is_offered`."""
    unknown = dict.fromkeys(each.name for each in fields(ModelPrices))
    prices = asdict(setting.prices) if setting.prices else unknown
    return {**prices, "is_offered": setting.is_offered}


def changed_models(
    settings: ModelSettings, name: str, changes: Mapping[str, object]
) -> ModelSettings | Refusal:
    """Return the settings of all models after *changes* to the model *name*, or a refusal.

    Prices must be set all together and be in bounds, and cached input must not cost more than other input.
    """
    columns = columns_of(settings.of(name)) | dict(changes)
    is_offered = columns.pop("is_offered") is True
    prices, known = None, [value for value in columns.values() if value is not None]
    if bounds_refusal(columns) or len(known) not in (0, len(columns)):
        return OUT_OF_BOUNDS
    if known:
        prices = ModelPrices(**cast(dict[str, int], columns))
        if prices.cached_input_micro > prices.input_micro:
            return OUT_OF_BOUNDS
    setting = ModelSetting(prices=prices, is_offered=is_offered)
    return replace(settings, by_name={**settings.by_name, name: setting})
