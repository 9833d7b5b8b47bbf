"""The port of a store for everything except content: accounts, app sessions, administration and upkeep.

All arguments and results are plain values. No store sees the root key, a user key or a conversation key. Any thread may
call any member.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

from services.domain import AccountRole, SessionId, UserId
from services.domain.accounts import (
    Account,
    AuditEntry,
    CredentialsAction,
    DeploymentSettings,
    Exemption,
    Failure,
    Invitation,
    OpenInvitation,
    ProofScope,
    RetentionPreview,
    SessionEnd,
    SignUps,
    UserOrder,
    UserPage,
)
from services.domain.addresses import EmailAddress
from services.domain.health import StoreHealth
from services.domain.mails import NoticeKind
from services.domain.models import ModelSettings
from services.domain.usage import UsageReport
from services.store.rows import FirstPage, Rows

LISTED_CREDENTIALS = 500  # maximum credentials that one call of `list_credentials` returns


class SignInUser(Protocol):
    """A user that `SignIn` has authenticated, with the data that the store needs to begin a session."""

    @property
    def user_id(self) -> UserId: ...


class SignIn(Protocol):
    """Creates and authenticates users in the store's own sign-in service, by managed (random, never shown) passwords.

    The app itself checks the passwords that users choose. All members may raise StoreUnavailable; all but `end` may also
    raise Refused (TooManyAttempts, …).
    """

    def confirms_addresses(self) -> bool:
        """Return True if new users must confirm their addresses before they can sign in."""
        ...

    def sign_up(self, email: EmailAddress, password: str) -> SignInUser:
        """Create a user; if an unfinished sign-up with this *password* has already created the user, authenticate the user.

        Raise AddressTaken, BadAddress, AddressNotAllowed, SignUpsClosed, ConfirmationSent.
        """
        ...

    def resume(self, email: EmailAddress, password: str) -> SignInUser:
        """Authenticate the user that an unfinished sign-up with this *password* has created; if there is none, create a user.

        Raise NotConfirmed, Suspended, and the errors of `sign_up`.
        """
        ...

    def sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> SignInUser:
        """Authenticate a user who has an account. Raise Suspended, NotConfirmed, SignInBroken."""
        ...

    def end(self, user: SignInUser) -> None:
        """Sign out *user*, for whom no app session was started. Raise no errors."""


class SessionSealer(Protocol):
    """Seals the data that a store holds for one app session, under a key derived from the session's cookie."""

    def seal(self, text: str, user_id: UserId) -> str: ...
    def open(self, sealed: str, user_id: UserId) -> str:
        """Return the decrypted text. Raise Tampered if it cannot be decrypted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCookie:
    """The cookie that replaces a session's current cookie."""

    replaces: str = field(repr=False)  # the hash of the cookie that is replaced
    cookie_hash: str
    sealer: SessionSealer = field(repr=False)  # seals under a key derived from the new cookie


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A user key, wrapped under an account secret and a root key."""

    version: int
    wrapped: str = field(repr=False)
    created_at: datetime | None = field(default=None, compare=False)  # None: the time is unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredentials:
    """The sealed credentials of a user, or of a sign-up that has no user yet."""

    id: UUID  # the user's id; while the sign-up is pending, the sign-up's own id
    user_id: UserId | None  # None: the sign-up is pending
    lookup: str = field(repr=False)  # the look-up value of the address
    sealed: str = field(repr=False)
    generation: int
    uses: int = 0  # the number of uses of the second factor, passkeys and identities so far
    wants_factor: bool = False  # true: no session begins without the account's second factor


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSignIn:
    """The sealed credentials of an account, and the time at which it began."""

    begun_at: datetime | None  # None: the audit log has no entry of it
    credentials: StoredCredentials


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account to create with the user's first session, in place of the pending sign-up."""

    sign_up: UUID  # the id of the pending sign-up
    credentials: StoredCredentials
    key: WrappedKey
    invitation: str | None = field(repr=False)  # the code of the invitation
    # the look-up values of the account's identities
    ways_in: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A new app session to be stored, and the changes that are stored together with it."""

    cookie_hash: str
    idle_seconds: int
    lifetime_seconds: int
    generation: int  # the generation of the credentials that were checked
    id: SessionId
    device: str | None = field(default=None, repr=False)  # the sealed name of the browser
    # the session before in the browser: the user's session with the cookie of this hash; without one, the session *follows*
    cookie_before: str | None = field(default=None, repr=False)
    follows: SessionId | None = None
    account: NewAccount | None = None  # None: the user has an account already
    # the throttle buckets that counted this attempt; a successful attempt is subtracted from them again
    returned: tuple[str, ...] = ()
    has_factor: bool = False  # true: the user gave the second factor that is required
    # the credentials after this sign-in used a factor, passkey or identity, or enrolled a factor; None: unchanged
    used: StoredCredentials | None = None
    # the kind of use: FACTOR_USED, RECOVERY_USED, PASSKEY_USED or IDENTITY_USED
    used_by: CredentialsAction = CredentialsAction.FACTOR_USED
    # the account changes for which the sign-in counts as a proof
    scope: ProofScope = ProofScope.FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpState:
    """The current rules for sign-ups, as they apply to one user."""

    mode: SignUps
    is_first_admin: bool  # true: no account exists yet, and the first one becomes admin
    # true: while mail is configured, a code must confirm a new user's address
    confirms_by_code: bool
    requires_factor: bool = False  # true: no session begins without a second factor
    is_invited: bool = False  # true: the given invitation is valid
    # false: no account is an active admin's; only `Backend.sign_up_state` tells
    has_admin: bool = True


@dataclass(frozen=True, slots=True)
class Throttle:
    """A rate limit: *bucket* allows at most *at_most* attempts within *seconds*."""

    bucket: str
    at_most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Throttles:
    """The throttles that count an attempt."""

    strangers: tuple[Throttle, ...]
    # the user whose known device makes the attempt; the throttles *device* count attempts on this user's account, the
    # throttles *strangers* count all other attempts
    device_user: UserId | None = None
    device: tuple[Throttle, ...] = ()


# no throttles, for an attempt that is counted elsewhere, such as by a step
NOT_COUNTED = Throttles(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt to sign in or to sign up, to be counted once."""

    # look-up values of an address (current or former), an identity or a passkey, one for each root key
    lookups: tuple[str, ...] = field(repr=False)
    throttles: Throttles
    invitation: str | None = field(repr=False)  # the code of the invitation
    # the address of the sign-up that uses the invitation; None: there is no invitation
    invited: EmailAddress | None = field(repr=False)
    nonce: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAttempt:
    """The result of counting a sign-in attempt: the data stored for its address, identity or passkey."""

    credentials: StoredCredentials | None
    keys: tuple[WrappedKey, ...] = ()  # the user keys of the owner of *credentials*
    is_known: bool  # true: the attempt comes from one of the user's devices
    is_suspended: bool  # true: the user may not sign in
    sign_ups: SignUpState


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignUp:
    """A sign-up to be stored until its user has an account."""

    credentials: StoredCredentials  # the credentials to store; generation 1: the sign-up is new
    # the look-up values of the address, as in `NewAddress.claims`
    lookups: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAddress:
    """A user's new email address, with the credentials that contain it."""

    credentials: StoredCredentials  # the credentials to store, of the next generation
    address: EmailAddress = field(repr=False)
    # look-up values to check whether *address* is taken: as a current and as a former address, under each root key
    claims: tuple[str, ...] = field(repr=False)
    # look-up values of the addresses that the user may take back after the change (`RootKeys.former_address_tags`)
    former: tuple[str, ...] = field(repr=False)
    is_restored: bool  # true: the user takes a former address back, which ends all other sessions
    # the look-up values of all identities and passkeys after the change
    ways_in: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step (an unfinished action in a browser, see services/store/steps.py) to be stored."""

    key: str = field(repr=False)  # a hash of the browser's secret and of the id in the step's form
    kind_tag: str = field(repr=False)  # a tag that all steps of one kind in the browser share
    sealed: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDevice:
    """An app session, as shown in its user's list of devices."""

    session: SessionId
    # the sealed name of the browser (services/store/device_names.py)
    device: str | None = field(repr=False)
    created_at: datetime | None  # None: the time is unknown
    seen_at: datetime | None
    is_this_one: bool
    is_proven: bool  # true: the user gave a full proof in this session in the last ten minutes
    # true: the user gave a full or a partial proof (`ProofScope.PART`) in this session in the last ten minutes
    is_proven_in_part: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotice:
    """A notice to a user about a change to the account."""

    id: UUID
    kind: NoticeKind
    browser: str | None = field(repr=False)  # the browser's sealed name (services/store/notices.py)
    # the session that made the change, which does not show the notice; None: no session made the change
    session: SessionId | None


class Administration(Protocol):
    """An admin's reports and changes. All members raise AdminsOnly for non-admins, and NotFound for deleted users."""

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        """Return at most 500 users whose addresses contain *words*, sorted by *order*, after skipping the first *skip*."""
        ...

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        """Return the usage of one user (None: of all users). *days*: the first and the last day of the report."""
        ...

    def deployment(self) -> DeploymentSettings: ...

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        """Set the amount that all users together may spend in a month; None: no limit."""

    def change_settings(self, changes: Mapping[str, int | None]) -> None:
        """Change the limits for new users (None: no limit) or the retention period.

        `retention_days`: the days (15 to 3,650) from a conversation's last use to its deletion; None: never. Nothing
        is deleted in the first 14 days after the period was changed.
        """

    def preview_retention(self, days: int) -> RetentionPreview:
        """Count the conversations that a retention period of *days* would delete within the next 14 days."""
        ...

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        """Set a user's limits to the values in *changes*, keyed by the limits' names; None: no limit."""

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        """Change the role of a user. Raise LastAdmin if the user is the last admin."""

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        """Return at most *at_most* (up to 500) audit entries, newest first; *before*: only entries older than this id."""
        ...

    def list_credentials(self, after: UUID | None = None) -> list[StoredCredentials]:
        """Return the sealed credentials of at most 500 accounts, sorted by id; *after*: only accounts with a greater id."""
        ...

    def read_sign_in(self, user_id: UserId) -> StoredSignIn: ...

    def health(self) -> StoreHealth: ...


class GuardedAdministration(Administration, Protocol):
    """Administration, with the methods that pages call through `services.store.administration`."""

    def check_end(self, user_id: UserId, *, is_shut: bool) -> None:
        """Raise the error that ending the user's sessions would raise: LastAdmin, ProofNeeded. *is_shut*: ending the account."""

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        """Suspend the account and end its sessions, or lift the suspension. Raise LastAdmin if the user is the last admin."""

    def sign_out(self, user_id: UserId) -> None:
        """End all sessions of a user."""

    def delete(self, user_id: UserId) -> None:
        """Delete an account: its keys immediately, its rows soon after. Its usage figures are kept.

        Users may delete their own account. Raise LastAdmin if the user is the last admin, and ProofNeeded if callers
        delete their own account without a recent proof.
        """

    def set_model(self, name: str, changes: Mapping[str, object]) -> None:
        """Set fields of a model's settings, such as prices, to the values in *changes*, keyed by the fields' names."""

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        """Refuse models without a known price if *is_refused*; otherwise, treat them as free."""

    def set_sign_ups(self, mode: SignUps) -> None: ...

    def confirm_by_code(self, *, is_on: bool) -> None:
        """Turn the confirmation of new users' addresses by codes on or off; it applies only while mail is configured."""

    def require_factor(self, *, is_on: bool) -> None:
        """Require a second factor of all users, or stop requiring it.

        While the requirement is on, sessions without a factor are refused at each call. Turning it on also ends those
        sessions, so that they do not become valid again later. Raise ProofNeeded, FactorNeeded (the admin's own account
        has no factor).
        """

    def invite(self, code_hash: str, email: EmailAddress | None, role: AccountRole) -> None:
        """Store an invitation by the hash of its code. Raise BadInput (too many are open)."""

    def invitations(self) -> list[Invitation]:
        """Return the open invitations, then the newest of the others, at most 500 in all."""
        ...

    def revoke_invitation(self, invitation: UUID) -> None:
        """Revoke an open invitation. Raise NotFound if there is none, or it was already used or revoked."""


class UserBackend(Protocol):
    """The calls of one signed-in user. All members may raise SignedOut, StoreUnavailable.

    Members that change how the user signs in, end sessions or end the account raise ProofNeeded unless the user has
    proved who they are in the last ten minutes; a sign-in counts as a proof, unless its scope is `ProofScope.NONE`.
    """

    @property
    def administration(self) -> GuardedAdministration: ...

    def account(self) -> Account: ...

    def dismiss_notices(self, notices: Collection[UUID]) -> None:
        """Remove the user's *notices*, given by id, except those that this session does not show (`StoredNotice.is_shown`)."""

    def rows(self, most_bytes: int | None = None, first: FirstPage | None = None) -> Rows:
        """Return access to the user's sealed rows. *most_bytes*: the bytes that the account may store; None: no limit.

        *first*: data that was read in advance; the first read of each part returns this part without a call to the
        store.
        """
        ...

    def first_page(self) -> FirstPage | None:
        """Return the first page's data if the start of the session loaded it, else None; a second call returns None."""
        ...

    def change_credentials(
        self,
        new: StoredCredentials,
        seen_generation: int,
        *,
        action: CredentialsAction,
        ends_others: bool,
        renamed: Mapping[str, str] | None = None,
        ways_in: Sequence[str] | None = None,
    ) -> bool:
        """Replace the user's credentials of *seen_generation* with *new* ones; return False if the stored row has changed.

        A use of a factor, passkey or identity counts as a change, too. So *new* must have the stored number of
        uses, or one more if *new* itself stores a use. *new* has the next generation, unless *action* is RESEAL or a use
        (FACTOR_USED, RECOVERY_USED, PASSKEY_USED, IDENTITY_USED).

        *renamed*: maps each old look-up value of the user to its replacement; values of former addresses keep their
        expiry. *ways_in*: the look-up values of all identities and passkeys after the change. Missing values are
        stored, stored values are never overwritten, and values of the user's other identities and passkeys are removed;
        None: no change. An *action* that adds or removes an identity or a passkey needs *ways_in*; PASSWORD_SET and
        PASSWORD_RESET may have it. *ends_others*: end all other sessions of the user.

        All actions but RESEAL are audited; all but RESEAL and ADDRESS_CONFIRMED need a recent proof. FACTOR_ADDED and
        PASSKEY_FACTOR_ADDED turn `wants_factor` on; FACTOR_REMOVED, PASSKEY_FACTOR_REMOVED, PASSWORD_SET,
        PASSWORD_RESET and PASSKEY_REMOVED may turn it off: after that, no session of the user counts as one in which a
        factor was given.

        Raise ProofNeeded, FactorRequired (the deployment requires the factor), WayInTaken (another account has the
        identity or passkey that is added), ValueError (generation, uses, `wants_factor`, *ways_in* or *ends_others* do
        not fit the action).
        """
        ...

    def change_address(self, new: NewAddress) -> bool:
        """Change the user's address and credentials, in the store and in `SignIn`, in one transaction, and audit the change.

        Return False, changing nothing, unless the stored credentials are one generation older than *new* and have the
        same number of uses.

        A pending sign-up with the address is removed, and so is a user of `SignIn` who has the address but no account.
        Look-up values of former addresses are stored for 72 hours. They are never overwritten, and those that *new*
        does not contain are removed. `wants_factor` changes only if the user takes back a former address. If the user
        then has no factor, but the deployment requires one, the session is refused.

        Raise, changing nothing: ProofNeeded; AddressTaken (an account has the address or may take it back); WayInTaken
        (another account has an identity or a passkey that would be restored).
        """
        ...

    def put_user_key(self, key: WrappedKey, replaces: str) -> None:
        """Replace the stored wrapped key *replaces* with *key*; do nothing if *replaces* is no longer stored."""

    def devices(self) -> list[StoredDevice]:
        """Return at most 300 devices of the user, the most recently used first."""
        ...

    def prove(
        self,
        generation: int,
        returned: Sequence[str],
        cookie: NewCookie,
        *,
        has_factor: bool = False,
        used: StoredCredentials | None = None,
        used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
        scope: ProofScope = ProofScope.FULL,
    ) -> bool:
        """Record that the user has proved who they are; return False if the credentials are no longer of *generation*.

        In the same transaction, *cookie* replaces the session's cookie: the old one is no longer valid, but this object
        can still make calls. *returned*, *has_factor*, *used* and *used_by*: as in `NewSession`. A partial proof
        (*scope*) does not replace a full proof that is younger than ten minutes.

        Raise SignedOut also if the session no longer has the cookie to be replaced, FactorNeeded (the account has a
        factor that was not given), FactorUsed (the factor was used meanwhile: check it again), ValueError. After
        StoreUnavailable the session may have either cookie.
        """
        ...

    def stop_turns(self, session_id: SessionId | None) -> int:
        """Ask other processes to stop replies that one of the user's sessions (None: any session but this one) started.

        Return the number of replies that are still streaming. Raise ProofNeeded without a recent proof.
        """
        ...

    def end_device(self, session_id: SessionId) -> int:
        """End one of the user's sessions; return 1, or 0 if the user has no such session.

        Raise ProofNeeded without a recent proof.
        """
        ...

    def end_other_devices(self) -> int:
        """End all sessions of the user but this one; return their number. Raise ProofNeeded without a recent proof."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A valid app session, and the credentials and keys of its user."""

    id: SessionId
    user_id: UserId
    credentials: StoredCredentials | None  # None: the credentials are missing in the store
    keys: tuple[WrappedKey, ...]
    user: UserBackend = field(repr=False)
    role: AccountRole


class Backend(Protocol):
    """The app's calls that need no signed-in user. All members may raise StoreUnavailable."""

    @property
    def sign_in(self) -> SignIn: ...

    def start_session(
        self, user: SignInUser, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        """Begin an app session; with a user's first session, create the account in the same transaction.

        Raise SignUpsClosed, InvitationNeeded, BadAddress, SignedOut (the account is suspended or deleted), Stale (the
        credentials have changed, or the new account exists already), FactorNeeded, FactorUsed (the factor was used
        meanwhile: check it again), WayInTaken (another account has an identity of the new account), ValueError
        (`NewSession.used` is neither a use nor an enrolment).
        """
        ...

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        """Return the session with this cookie. Raise SignedOut if it has ended, Tampered if its data cannot be decrypted."""
        ...

    def is_alive(self, cookie_hash: str) -> bool:
        """Return False if the session has ended; otherwise record that it was used now."""
        ...

    def ended(self, sessions: Iterable[tuple[SessionId, UserId]]) -> dict[SessionId, SessionEnd]:
        """Return the *sessions* that have ended, with the reasons, in one call."""
        ...

    def end_session(self, cookie_hash: str) -> None:
        """End a session; if other processes of the app stream its replies, have them stop and store these first."""
        ...

    def sign_up_state(self) -> SignUpState: ...

    def count_attempt(self, attempt: Attempt) -> CountedAttempt:
        """Count *attempt*, once for each nonce; return the data stored under its look-up values.

        Raise TooManyAttempts above the limit.
        """
        ...

    def put_sign_up(self, new: PendingSignUp) -> bool:
        """Store a pending sign-up, or its next generation.

        Return False, and store nothing, if other credentials have been stored for the address meanwhile.
        """
        ...

    def count_throttles(self, throttles: Sequence[Throttle]) -> None:
        """Count one attempt in each of *throttles*, in order. Raise TooManyAttempts at the first that exceeds its limit."""

    def open_invitation(self, code: str, throttles: Sequence[Throttle]) -> OpenInvitation | None:
        """Count the question in *throttles*, as `count_throttles` does; return the open invitation with *code*, if there is one."""
        ...

    def begin_step(self, new: NewStep) -> None:
        """Store a step for ten minutes, with all its attempts left. It replaces a stored step with the same key.

        A browser has at most four open steps of one kind: a fifth deletes the oldest.
        """

    def try_step(self, key: str) -> str | None:
        """Count an attempt to complete a step, and return its sealed text; None if the step no longer exists.

        A step allows five attempts. The sixth deletes the step, and returns None.
        """
        ...

    def end_step(self, key: str) -> str | None:
        """Delete a step, and return its sealed text; None if the step no longer exists.

        If several calls run at the same time, only one of them gets the text.
        """
        ...

    def add_notice(self, user_id: UserId, new: NewNotice, throttles: Sequence[Throttle]) -> None:
        """Store a notice, unless the account was deleted, and count it in *throttles*; keep only the newest three of a kind.

        If a throttle exceeds its limit, store the notice, and raise TooManyAttempts, so that no mail is sent about it.
        """

    def note_failure(self, user_id: UserId, failure: Failure | Exemption) -> None:
        """Count *failure* in the user's audit entry for its kind and this hour; create the entry if none exists.

        Failures of a deleted user are not counted.
        """

    def model_settings(self) -> ModelSettings: ...

    def root_key_versions(self) -> list[int]:
        """Return the versions of the root key that stored data is sealed under; none before the first account."""
        ...

    def sweep(self) -> bool:
        """Settle some turns whose lease has run out, and remove some rows due for deletion. Return True if more remain."""
        ...

    def check(self) -> list[int]:
        """Return `root_key_versions`, from the same read as far as possible.

        Raise an Unavailable or Misconfigured error, such as RowsCut, if the app cannot use the store.
        """
        ...

    def start_upkeep(self, report: Callable[[str], None]) -> None:
        """Start the threads that sweep and probe the store.

        *report* is called with a sentence at the start of each outage, and with "" at its end.
        """
