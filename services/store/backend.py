"""The port of a store for all but content: accounts, app sessions, administration and upkeep, in plain values.

No store sees the root key, a user key or a conversation key. Any thread may call any member.
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

LISTED_CREDENTIALS = 500  # the most that one call lists


class SignInUser(Protocol):
    """A user whom `SignIn` has recognised, with the data that the store needs to begin a session."""

    @property
    def user_id(self) -> UserId: ...


class SignIn(Protocol):
    """Makes and recognises users by their managed passwords. The app has checked the user's own password before.

    All members raise StoreUnavailable, and all but `end` Refused (TooManyAttempts, …).
    """

    def confirms_addresses(self) -> bool:
        """Return True if new users must confirm their addresses before they can sign in."""
        ...

    def sign_up(self, email: EmailAddress, password: str) -> SignInUser:
        """Make a user, or recognise one whom a sign-up with this *password* has left without an account.

        Raise AddressTaken, BadAddress, AddressNotAllowed, SignUpsClosed, ConfirmationSent.
        """
        ...

    def resume(self, email: EmailAddress, password: str) -> SignInUser:
        """Recognise a user without an account whom a sign-up with this *password* has left, or else make one.

        Raise NotConfirmed, Suspended, and the errors of `sign_up`.
        """
        ...

    def sign_in(self, user_id: UserId, email: EmailAddress, password: str) -> SignInUser:
        """Recognise a user with an account. Raise Suspended, NotConfirmed, SignInBroken."""
        ...

    def end(self, user: SignInUser) -> None:
        """Sign out a *user* who begins no session. Raise nothing."""


class SessionSealer(Protocol):
    """Seals the data that a store keeps of one app session, under a key derived from its cookie."""

    def seal(self, text: str, user_id: UserId) -> str: ...
    def open(self, sealed: str, user_id: UserId) -> str:
        """Raise Tampered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCookie:
    """The cookie that a session gets in place of another one."""

    replaces: str = field(repr=False)  # the hash of the cookie so far
    cookie_hash: str
    sealer: SessionSealer = field(repr=False)  # of the new cookie


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A user key, wrapped under an account secret and a root key."""

    version: int
    wrapped: str = field(repr=False)
    created_at: datetime | None = field(default=None, compare=False)  # None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredentials:
    """The sealed credentials of a user, or of a sign-up that has no user yet."""

    id: UUID  # the user's id; while the sign-up is pending, an id of its own
    user_id: UserId | None  # None: the sign-up is pending
    lookup: str = field(repr=False)  # the look-up value of the address
    sealed: str = field(repr=False)
    generation: int
    uses: int = 0  # of the second factor so far
    wants_factor: bool = False  # true: no session begins without the factor in the seal


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """The account that begins with the first session of a user, in place of a sign-up that is pending."""

    sign_up: UUID  # the id of the pending sign-up
    credentials: StoredCredentials
    key: WrappedKey
    invitation: str | None = field(repr=False)  # the code
    ways_in: tuple[str, ...] = field(default=(), repr=False)  # look-up values of identities


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """The fields of a new app session."""

    cookie_hash: str
    idle_seconds: int
    lifetime_seconds: int
    generation: int  # of the credentials that were checked
    id: SessionId
    device: str | None = field(default=None, repr=False)  # the name of the browser, sealed
    account: NewAccount | None = None  # None: the user has an account
    returned: tuple[str, ...] = ()  # the buckets that get their counted attempt back
    has_factor: bool = False  # true: what the account or the deployment wants was given
    # after the use of the factor or a passkey, or the enrolment of a factor, by which the user signs in; None: as they are
    used: StoredCredentials | None = None
    used_by: CredentialsAction = CredentialsAction.FACTOR_USED  # or PASSKEY_USED, IDENTITY_USED
    scope: ProofScope = ProofScope.FULL  # of the sign-in, as a proof


@dataclass(frozen=True, slots=True, kw_only=True)
class SignUpState:
    """The current mode of sign-ups, as it applies to one user."""

    mode: SignUps
    is_first_admin: bool  # true: there is no account, and the first becomes admin
    # true: where mail is set, a new user's address is confirmed by a code
    confirms_by_code: bool
    requires_factor: bool = False  # true: no session begins without a second factor
    is_invited: bool = False  # true: the given invitation is valid


@dataclass(frozen=True, slots=True)
class Throttle:
    """A limit of attempts in some seconds, counted in a bucket."""

    bucket: str
    at_most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Throttles:
    """The throttles that count an attempt."""

    strangers: tuple[Throttle, ...]
    # the user whose device makes the attempt, and the throttles that count it if it is for the account of that user
    device_user: UserId | None = None
    device: tuple[Throttle, ...] = ()


# for an attempt that something else counts, such as the tries of a step
NOT_COUNTED = Throttles(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt to sign in or to sign up, to be counted once."""

    # under each root key: of the address, as it is or as a former one, or of an identity or a passkey
    lookups: tuple[str, ...] = field(repr=False)
    throttles: Throttles
    invitation: str | None = field(repr=False)  # the code
    invited: EmailAddress | None = field(repr=False)  # the address, if there is an invitation
    nonce: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedAttempt:
    """The stored data of the address, identity or passkey of an attempt."""

    credentials: StoredCredentials | None
    keys: tuple[WrappedKey, ...] = ()  # of the user of the credentials
    is_known: bool  # true: the attempt comes from a device of the user
    is_suspended: bool  # true: the user may not sign in
    sign_ups: SignUpState


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignUp:
    """A sign-up to be stored until its user has an account."""

    credentials: StoredCredentials  # after the change: a new one has generation 1
    lookups: tuple[str, ...] = field(repr=False)  # as `NewAddress.claims`


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAddress:
    """Another email address of a user, with the credentials that name it."""

    credentials: StoredCredentials  # after the change: of the next generation
    address: EmailAddress = field(repr=False)
    # of the address, as one that is taken: under each root key, also as a former address
    claims: tuple[str, ...] = field(repr=False)
    # of the addresses that the user may take back afterwards (`RootKeys.former_address_tags`)
    former: tuple[str, ...] = field(repr=False)
    is_restored: bool  # true: the user takes a former address back, which ends all other sessions
    # where it is restored, the look-up values of all identities and passkeys afterwards; None: they stay
    ways_in: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step to be stored (services/store/steps.py)."""

    key: str = field(repr=False)  # a hash of the browser's secret and of the id in the step's form
    kind_tag: str = field(repr=False)  # the same for all steps of one kind in the browser
    sealed: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDevice:
    """An app session of a user as a device."""

    session: SessionId
    # the name of the browser, sealed (services/store/devices.py)
    device: str | None = field(repr=False)
    created_at: datetime | None  # None: unknown
    seen_at: datetime | None
    is_this_one: bool
    is_proven: bool  # true: its user has proved who they are in the last ten minutes
    is_proven_in_part: bool  # true: at least in part (`ProofScope.PART`)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotice:
    """A notice to a user."""

    id: UUID
    kind: NoticeKind
    browser: str | None = field(repr=False)  # its name, sealed (services/store/notices.py)
    session: SessionId | None  # in which it was done, and is not shown; None: in none


class Administration(Protocol):
    """An admin's reports and changes. All members raise AdminsOnly for non-admins, and NotFound for deleted users."""

    def list_users(
        self, words: str, order: UserOrder, skip: int = 0, at_most: int = 500
    ) -> UserPage:
        """Return at most 500 users whose addresses contain *words*, from number *skip* on, in the order given."""
        ...

    def usage(self, days: tuple[date, date], user_id: UserId | None = None) -> UsageReport:
        """Return the usage of one user, or of all."""
        ...

    def deployment(self) -> DeploymentSettings: ...

    def set_deployment_cap(self, monthly_cap_micro: int | None) -> None:
        """Set the amount that all users together may spend in a month; None: no limit."""

    def change_settings(self, changes: Mapping[str, int | None]) -> None:
        """Change limits of new users (None: no limit), or the retention.

        `retention_days`: the days (15 to 3,650) from a conversation's last use to its deletion; None: never. Nothing
        is deleted for the first 14 days.
        """

    def preview_retention(self, days: int) -> RetentionPreview:
        """Return the conversations that a retention of *days* after their last use would delete within 14 days."""
        ...

    def set_caps(self, user_id: UserId, changes: Mapping[str, int | None]) -> None:
        """Change limits of a user; None: no limit."""

    def set_role(self, user_id: UserId, role: AccountRole) -> None:
        """Raise LastAdmin."""

    def audit(self, before: str = "", at_most: int = 500) -> list[AuditEntry]:
        """Return at most 500 audit entries, the newest first; *before*: only those older than the one with that id."""
        ...

    def list_credentials(self, after: UUID | None = None) -> list[StoredCredentials]:
        """Return the sealed credentials of the next 500 accounts by their ids: those after *after*; None: the first."""
        ...

    def health(self) -> StoreHealth: ...


class GuardedAdministration(Administration, Protocol):
    """Administration, with the methods that pages call through `services.store.administration`."""

    def check_end(self, user_id: UserId, *, is_shut: bool) -> None:
        """Raise what ending a user's sessions, or (*is_shut*) the account, would raise (LastAdmin, ProofNeeded)."""

    def suspend(self, user_id: UserId, *, is_suspended: bool) -> None:
        """Suspend the account and end its sessions, or lift the suspension. Raise LastAdmin."""

    def sign_out(self, user_id: UserId) -> None:
        """End all sessions of a user."""

    def delete(self, user_id: UserId) -> None:
        """Delete an account: its keys at once, its rows soon after; its usage figures stay. Users may delete their own.

        Raise LastAdmin, and ProofNeeded for one's own.
        """

    def set_model(self, name: str, changes: Mapping[str, object]) -> None:
        """Change fields of a model's setting and prices."""

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        """Refuse models without a known price, or count them as free."""

    def set_sign_ups(self, mode: SignUps) -> None: ...

    def confirm_by_code(self, *, is_on: bool) -> None:
        """Confirm the addresses of new users by codes, where mail is set, or do not."""

    def require_factor(self, *, is_on: bool) -> None:
        """Require a second factor of all users, or do not.

        While it is on, sessions without one are refused at each call; turned on, it also ends them, so that they do not come
        back. Raise ProofNeeded, FactorNeeded (the admin has none of their own).
        """

    def invite(self, code_hash: str, email: EmailAddress | None, role: AccountRole) -> None:
        """Store an invitation by the hash of its code. Raise BadInput (too many are open)."""

    def invitations(self) -> list[Invitation]:
        """Return the open invitations, then the newest others, at most 500 in all."""
        ...

    def revoke_invitation(self, invitation: UUID) -> None:
        """Revoke an open invitation. Raise NotFound also if it was used or revoked already."""


class UserBackend(Protocol):
    """The calls of one signed-in user. All members raise SignedOut, StoreUnavailable.

    Those that change a password, end other sessions or end the account raise ProofNeeded unless the user has proved who
    they are in the last ten minutes; a sign-in is a proof.
    """

    @property
    def administration(self) -> GuardedAdministration: ...

    def account(self) -> Account: ...

    def dismiss_notices(self, notices: Collection[UUID]) -> None:
        """Remove the user's *notices*, by their ids, but those of what was done in this session."""

    def rows(self, most_bytes: int | None = None, first: FirstPage | None = None) -> Rows:
        """Return the sealed rows of the user. *most_bytes*: the bytes that the account may store; None: no limit.

        The first reads of what *first* has are answered by it.
        """
        ...

    def first_page(self) -> FirstPage | None:
        """Return what the first page reads, once, if the start of the session has brought it."""
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
        """Store *new* credentials of a user in place of those of *seen_generation*; return False if those have changed.

        The factor must not have been used meanwhile: *new* have the number of uses that was read. *renamed*: new
        look-up values of the user by those so far; those of former addresses expire when those would have. *ways_in*: the
        look-up values of all identities and passkeys afterwards, which are stored, never overwritten, and of which no others
        stay; None: they stay. What adds or removes an identity or a passkey has them, PASSWORD_SET may. *ends_others*: all
        sessions of the user end but this one. Each *action* but RESEAL and FACTOR_USED
        has the next generation; each but RESEAL is audited; each but RESEAL and ADDRESS_CONFIRMED needs a recent proof.
        After FACTOR_ADDED and PASSKEY_FACTOR_ADDED `wants_factor` is on; FACTOR_REMOVED, PASSKEY_FACTOR_REMOVED, PASSWORD_SET
        and PASSKEY_REMOVED may turn it off: then no session of the user, this one included, has given a factor any more.

        Raise ProofNeeded, FactorRequired (the deployment requires the factor), WayInTaken (another account has the
        identity or passkey that is added), ValueError (generation, uses, `wants_factor`, *ways_in* or *ends_others* do
        not fit the action).
        """
        ...

    def change_address(self, new: NewAddress) -> bool:
        """Give the user another address and its credentials, in one transaction, also where the user signs in.

        Return False, and change nothing, if the credentials have changed since they were of the generation before.
        A user at the sign-in who has the address without an account goes, as when an account begins; so does a pending
        sign-up. Look-up values of former addresses are stored for 72 hours, never overwritten, and removed once *new*
        does not name them. It is audited. The number of uses is as it was read; `wants_factor` changes only where a
        former address is taken back; the session is not opened where that brings no factor, and one is required.

        Raise ProofNeeded, AddressTaken (an account has the address, or may take it back), WayInTaken (another account has
        an identity or a passkey that would come back), and change nothing.
        """
        ...

    def put_user_key(self, key: WrappedKey, replaces: str) -> None:
        """Store *key* in place of the wrapped key *replaces*, unless that was replaced meanwhile."""

    def devices(self) -> list[StoredDevice]:
        """Return at most 300 devices of the user, the one that was used last first."""
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
        """Note that the user has proved who they are; return False if the credentials are not of *generation* any more.

        The session gets another *cookie* with it, in one transaction: the one so far opens nothing any more, and calls by
        this object go on. *returned*: the buckets that get their counted attempt back; *has_factor*, *used* and *used_by*: as in
        `NewSession`. A proof in part (*scope*) leaves a full one that is younger than ten minutes as it is.

        Raise SignedOut also if the session has another cookie than the one to be replaced, FactorNeeded (the account has one of
        its own), FactorUsed (the factor was used meanwhile: check again), ValueError. After StoreUnavailable the session may have either cookie.
        """
        ...

    def stop_turns(self, session_id: SessionId | None) -> int:
        """Ask other processes to end the replies of a session of the user, or (None) of all others than this one.

        Return the number of those that still stream. Raise ProofNeeded.
        """
        ...

    def end_device(self, session_id: SessionId) -> int:
        """End a session of the user; return 1, or 0 if the user has no such session. Raise ProofNeeded."""
        ...

    def end_other_devices(self) -> int:
        """End all sessions of the user but this one; return their number. Raise ProofNeeded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A valid app session, and the credentials and keys of its user."""

    id: SessionId
    user_id: UserId
    credentials: StoredCredentials | None  # None: they are gone
    keys: tuple[WrappedKey, ...]
    user: UserBackend = field(repr=False)
    role: AccountRole


class Backend(Protocol):
    """The app's calls that need no signed-in user. All members raise StoreUnavailable."""

    @property
    def sign_in(self) -> SignIn: ...

    def start_session(
        self, user: SignInUser, new: NewSession, sealer: SessionSealer
    ) -> OpenedSession:
        """Begin an app session; the user's first session also begins the account, all in one transaction.

        Raise SignUpsClosed, InvitationNeeded, BadAddress, SignedOut (the account is suspended or deleted), Stale (the
        credentials have changed, or the account has begun), FactorNeeded, FactorUsed (the factor was used meanwhile:
        check again), WayInTaken (another account has an identity of the new one), ValueError (`NewSession.used` is neither a
        use nor an enrolment).
        """
        ...

    def open_session(self, cookie_hash: str, sealer: SessionSealer) -> OpenedSession:
        """Raise SignedOut, Tampered."""
        ...

    def is_alive(self, cookie_hash: str) -> bool:
        """Return False if the session has ended; otherwise count it as used."""
        ...

    def ended(self, sessions: Iterable[tuple[SessionId, UserId]]) -> dict[SessionId, SessionEnd]:
        """Return the *sessions* that have ended, with the reasons, in one call."""
        ...

    def end_session(self, cookie_hash: str) -> None: ...

    def sign_up_state(self) -> SignUpState: ...

    def count_attempt(self, attempt: Attempt) -> CountedAttempt:
        """Count *attempt*, once for each nonce; return what is stored of its look-up values. Raise TooManyAttempts."""
        ...

    def put_sign_up(self, new: PendingSignUp) -> bool:
        """Store a pending sign-up, or its next generation.

        Return False, and store nothing, if the address has other credentials by now.
        """
        ...

    def count_throttles(self, throttles: Sequence[Throttle]) -> None:
        """Count one attempt in *throttles*; those behind a full one do not count it. Raise TooManyAttempts."""

    def begin_step(self, new: NewStep) -> None:
        """Store a step for ten minutes, without tries, also in place of the one with its key.

        The fifth of one kind in a browser ends the oldest.
        """

    def try_step(self, key: str) -> str | None:
        """Count a try of a step, and return its sealed text; None: there is no such step any more.

        A step has five tries; the sixth ends it, and returns None.
        """
        ...

    def end_step(self, key: str) -> str | None:
        """Delete a step, and return its sealed text; None: there is no such step any more.

        Of several calls at once, one gets the text.
        """
        ...

    def add_notice(self, user_id: UserId, new: NewNotice, throttles: Sequence[Throttle]) -> None:
        """Store a notice, unless the account was deleted, beside the newest two of its kind; count it in *throttles*.

        Raise TooManyAttempts once it is stored, if one of them is full: no mail is sent of it.
        """

    def note_failure(self, user_id: UserId, failure: Failure | Exemption) -> None:
        """Count *failure*, or an exemption, in the audit: in the entry of this hour, kind and user, or in a new one. Of a deleted user, none."""

    def model_settings(self) -> ModelSettings: ...

    def root_key_versions(self) -> list[int]:
        """Return the versions of the root key that stored data is sealed under; none before the first account."""
        ...

    def sweep(self) -> bool:
        """Settle some turns whose lease has run out, and remove some rows that are due. Return True if more is due."""
        ...

    def check(self) -> None:
        """Raise RowsCut, or another Unavailable or Misconfigured, if the store is unfit for the app."""

    def start_upkeep(self, report: Callable[[str], None]) -> None:
        """Start the threads that sweep and probe the store; *report* each outage by a sentence, and its end by ""."""
