"""Accounts and app sessions, for any store. A session is a signed-in device; its cookie gives access to the user's keys.

The cookie contains a random secret. The store contains the secret's hash, and data of the session sealed under a key
derived from the secret and the root key. So a database dump alone opens no session, and every app process with the same
root key can open any session from its cookie. An `AppSession` is a session that this process has opened.
"""

import hashlib
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from services.caches import LruCache
from services.crypto import (
    AccountKeys,
    Credentials,
    Factor,
    FormerAddress,
    Place,
    RootKeys,
    UserKey,
    UserKeys,
    VaultRing,
    check_password,
    hash_password,
    managed_password,
    new_key,
    open_credentials,
)
from services.crypto.recovery_codes import recovery_hashes
from services.daemon_threads import in_thread
from services.domain import SessionId, UserId
from services.domain.accounts import (
    CredentialsAction,
    Exemption,
    ProofScope,
    SecondFactor,
    SessionEnd,
    SignUps,
)
from services.domain.addresses import NO_ADDRESS, Confirmed, ConfirmedBy, EmailAddress
from services.domain.health import UnsentReason
from services.domain.passwords import check_new_password
from services.domain.sign_in_methods import BY_CODE, BY_PASSWORD, SignInMethod, UsedMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import (
    AddressNotAllowed,
    AddressTaken,
    AppError,
    ConfirmationSent,
    FactorNeeded,
    InvitationMissing,
    InvitationRefused,
    KeyMissing,
    MailUnsent,
    ProofNeeded,
    RateLimited,
    SignedOut,
    SignInBroken,
    SignUpsClosed,
    Stale,
    StepEnded,
    StoreUnavailable,
    Suspended,
    Tampered,
    TooManyAttempts,
    WrongCredentials,
)
from services.events import log_event
from services.rules.accounts import (
    CHANGES_WAYS_IN,
    FORMER_LIFE,
    PASSWORD_CHANGES,
    WITHOUT_PROOF,
)
from services.store.backend import (
    NOT_COUNTED,
    Attempt,
    Backend,
    CountedAttempt,
    NewAccount,
    NewAddress,
    NewCookie,
    NewSession,
    OpenedSession,
    PendingSignUp,
    SignInUser,
    SignUpState,
    StoredCredentials,
    Throttle,
    Throttles,
    UserBackend,
    WrappedKey,
)
from services.store.credentials import (
    claims_of,
    former_lookups_of,
    lookups_of,
    open_stored,
    renamed_lookups,
    seal_stored,
    ways_in_of,
)
from services.store.device_names import Browser, NewDevice
from services.store.failures import note_failure
from services.store.kept import marks, with_only, without_newer
from services.store.passkeys import removed
from services.store.sign_in_policy import SignInPolicy

WithCredentials = TypeVar("WithCredentials", CountedAttempt, OpenedSession)
_COOKIE_BYTES = 32
_MOST_GENERATIONS = 100_000  # maximum number of users in `Accounts._newest`
# rate limit for changes of one user's sign-in methods: the number of changes, and the period in seconds
_MOST_CHANGES, _CHANGES_SECONDS = 20, 900
# why Supabase Auth did not send a confirmation, by the error; any other error: `UnsentReason.OTHER`
_UNSENT: dict[type[AppError], UnsentReason] = {
    MailUnsent: UnsentReason.SERVER,
    TooManyAttempts: UnsentReason.LIMIT,
    AddressNotAllowed: UnsentReason.TEAM_ONLY,
    SignUpsClosed: UnsentReason.CLOSED,
}
# maximum attempts at one change; an attempt fails if a concurrent change is stored first
_MOST_OVERTAKEN = 5


@dataclass(frozen=True, slots=True)
class Cookie:
    """The secret in a cookie that identifies a browser's session or its steps; never logged, never stored."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> "Cookie":
        return cls(secrets.token_bytes(_COOKIE_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Cookie | None":
        """Return the cookie whose secret is the hexadecimal *text*; None if *text* is malformed."""
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            return None
        return cls(secret) if len(secret) == _COOKIE_BYTES else None

    def __str__(self) -> str:
        return self.secret.hex()

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.secret).hexdigest()


@dataclass(frozen=True, slots=True)
class CookieSealer:
    """Implements `SessionSealer`: seals the stored data of one app session under a key derived from its cookie."""

    vault: VaultRing = field(repr=False)
    cookie_hash: str

    def seal(self, text: str, user_id: UserId) -> str:
        return self.vault.seal(text, self._place(user_id))

    def open(self, sealed: str, user_id: UserId) -> str:
        return self.vault.open(sealed, self._place(user_id))

    def _place(self, user_id: UserId) -> Place:
        # the row's id is unknown when a session is opened by its cookie, so the cookie's hash is used instead
        row_id = UUID(bytes=bytes.fromhex(self.cookie_hash)[:16])
        return Place(table="app_sessions", column="tokens", row_id=row_id, user_id=user_id)


@dataclass(frozen=True, slots=True)
class AppSession:
    """An opened session of one signed-in device. The device's tabs and streaming replies share this object."""

    id: SessionId
    user_id: UserId
    email: EmailAddress = field(repr=False)
    is_confirmed: bool  # true: the address was confirmed when the session was opened
    user_keys: UserKeys = field(repr=False)
    backend: UserBackend = field(repr=False)

    def with_address_of(self, credentials: Credentials) -> "AppSession":
        """Return a copy with the address from *credentials*, which another process may have changed."""
        is_confirmed = credentials.confirmed is not None
        return replace(self, email=credentials.address, is_confirmed=is_confirmed)


@dataclass(frozen=True, slots=True)
class Current:
    """A user's credentials, as currently stored."""

    stored: StoredCredentials
    credentials: Credentials

    def hashed(self, password: str) -> str:
        """Return the hash of the user's new *password*. Raise WeakPassword if it is too weak."""
        return hash_new_password(self.credentials.address, password)


@dataclass(frozen=True, slots=True)
class Checked(Current):
    """The credentials of a user who has proved who they are, and the method of that proof.

    The proof is a correct password (`Found.checked`), a correct code (codes.py), a passkey or a single sign-on.
    """

    counted: tuple[str, ...] = field(repr=False)
    # the user's keys, which seal the new device's name; if there are none, the device gets no name
    keys: tuple[WrappedKey, ...] = ()
    requires_factor: bool = False  # true: the deployment requires a second factor
    # true: the second factor that the account or the deployment requires was given, here or at the provider
    has_factor: bool = False
    # the credentials after a factor, passkey or identity was used, or a factor was enrolled; None: unchanged
    used: Credentials | None = None
    # the kind of use: FACTOR_USED, PASSKEY_USED or IDENTITY_USED
    used_by: CredentialsAction = CredentialsAction.FACTOR_USED
    by: UsedMethod | None = None  # None: no proof was needed, because the deployment has one user
    scope: ProofScope = ProofScope.FULL  # the account changes for which this proof counts

    def check_factor(self, *, is_required: bool) -> None:
        """Raise FactorNeeded if no second factor was given, though the account has one or the deployment requires one.

        *is_required*: the deployment requires a factor. A factor of the account, even one that was enrolled in this sign-in,
        meets that requirement, and so does a factor that was given at the provider.
        """
        if self.credentials.wants_factor and not self.has_factor:
            raise factor_needed(self.credentials)
        is_by_provider = self.by is not None and self.by.provider is not None
        is_met = self.after.stored.wants_factor or (is_by_provider and self.has_factor)
        if is_required and not is_met:
            raise factor_needed(self.credentials)

    @property
    def begins_asking(self) -> bool:
        """True if this sign-in makes the user's passkeys the required second factor (`SignInPolicy.asking`)."""
        return self.used is not None and self.used.asks_passkey and not self.stored.wants_factor

    def with_recovery(self, codes: Sequence[str]) -> "Checked":
        """If `begins_asking`, return a copy with the hashes of new recovery *codes*; else return this object."""
        if self.used is None or not self.begins_asking:
            return self
        return replace(self, used=replace(self.used, recovery=recovery_hashes(codes)))

    @property
    def after(self) -> Current:
        """The credentials that are stored once the sign-in or the proof has succeeded."""
        if self.used is None:
            return self
        numbers = {"generation": self.used.generation, "uses": self.used.uses}
        wants_factor = self.used.wants_factor
        return Current(replace(self.stored, **numbers, wants_factor=wants_factor), self.used)


@dataclass(frozen=True, slots=True)
class Found:
    """The credentials found for an address, identity or passkey by the call that counts a sign-in or sign-up attempt."""

    email: EmailAddress = field(repr=False)
    stored: StoredCredentials | None
    credentials: Credentials | None  # None if no credentials are stored or they cannot be decrypted
    is_known: bool  # true: the attempt comes from one of the user's devices
    is_suspended: bool
    sign_ups: SignUpState
    counted: tuple[str, ...] = field(repr=False)  # the throttle buckets that counted the attempt
    keys: tuple[WrappedKey, ...] = ()  # the user's keys
    policy: SignInPolicy = field(default_factory=SignInPolicy, repr=False)

    @property
    def is_taken(self) -> bool:
        """True if an account has the address, or may take it back (`find_claim`)."""
        return self.stored is not None and self.stored.user_id is not None

    @property
    def known_user(self) -> UserId | None:
        """The user, if the attempt comes from one of the user's known devices; else None."""
        return self.stored.user_id if self.stored and self.is_known else None

    def in_session(self) -> "Found":
        """Return a copy without the deployment's requirement of a second factor, which the session met when it started."""
        return replace(self, sign_ups=replace(self.sign_ups, requires_factor=False))

    def checked(self, password: str) -> Checked:
        """Return the credentials if *password* is right; else raise WrongCredentials.

        The check takes as long as hashing a password (`hash_password`), even for an unknown address, so that its
        duration does not reveal whether an account exists.
        """
        credentials, is_right = self.credentials, False
        with suppress(Tampered):  # raised if the stored hash has unexpected cost parameters
            is_right = check_password(password, credentials.password_hash if credentials else None)
        if not (is_right and credentials and self.stored):
            raise WrongCredentials
        return self.opened(self.stored, credentials, BY_PASSWORD, self.counted)

    def opened(
        self,
        stored: StoredCredentials,
        credentials: Credentials,
        by: UsedMethod,
        counted: tuple[str, ...] = (),
        *,
        has_factor: bool = False,
    ) -> Checked:
        """Return *credentials* as a `Checked`: the user has proved who they are by the method *by*.

        *has_factor*: the user has given a second factor at the provider. If the deployment requires a factor and none was
        given, the returned credentials may ask for a passkey even if the stored ones do not (`SignInPolicy.asking`).
        """
        required = self.sign_ups.requires_factor
        credentials = self.policy.asking(credentials, is_required=required and not has_factor)
        return Checked(
            stored=stored,
            credentials=credentials,
            counted=counted,
            keys=self.keys,
            requires_factor=required,
            has_factor=has_factor,
            by=by,
        )

    def hashed(self, password: str) -> str:
        """Return the hash of a new *password*. Raise WeakPassword if it is too weak."""
        return hash_new_password(self.email, password)


@dataclass(frozen=True, slots=True)
class FoundFormer:
    """An account that may take back one of its former email addresses."""

    stored: StoredCredentials
    credentials: Credentials
    former: FormerAddress
    is_known: bool  # true: the attempt comes from one of the user's devices
    is_suspended: bool
    keys: tuple[WrappedKey, ...]  # the user's keys
    requires_factor: bool  # true: the deployment requires a second factor
    policy: SignInPolicy = field(repr=False)

    def taken_back(self, now: datetime, password_hash: str | None) -> Credentials:
        """Return the next generation of the credentials, with the former address and the hash of the new password, if any.

        Passkeys and identities that were added within `FORMER_LIFE` before the account's address changed are removed,
        because an attacker could have added them before changing the address. Raise NewerVersion as
        `Credentials.taken_back` does.
        """
        confirmed = Confirmed(how=ConfirmedBy.CODE, at=now.replace(microsecond=0))
        before = self.credentials.taken_back(self.former, confirmed, password_hash)
        back = without_newer(before, self.former.until - 2 * FORMER_LIFE)
        return self.policy.asking(back, is_required=self.requires_factor)


@dataclass(frozen=True, slots=True)
class Entered:
    """A session that was just started. *left*: the account's previous address, if the user took a former address back."""

    cookie: Cookie
    session: AppSession
    left: EmailAddress | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Accounts:
    """Creates accounts, starts and ends app sessions, and changes credentials. Any thread may call any method.

    Signing in and signing up take two calls: one that returns `Found`, then `sign_in` or `sign_up`. Between the two
    calls, the caller hashes the password, which is slow.
    """

    backend: Backend
    root_keys: RootKeys
    idle_seconds: int
    lifetime_seconds: int
    keys: type[UserKeys] = UserKeys  # `PlainKeys` in a store without encryption
    policy: SignInPolicy = field(default_factory=SignInPolicy)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    # the newest generation and number of uses of each user's credentials; they reveal when the store is rolled back
    _newest: LruCache[UUID, tuple[int, int]] = field(
        default_factory=lambda: LruCache[UUID, tuple[int, int]](_MOST_GENERATIONS),
        init=False,
        repr=False,
    )
    _noting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def find(self, email: EmailAddress, throttles: Throttles) -> Found:
        """Count an attempt to sign in, and read the credentials. Raise TooManyAttempts, StoreUnavailable."""
        counted = self._count(lookups_of(self.root_keys, email), throttles)
        return self._found(email, throttles, *counted)

    def find_claim(self, email: EmailAddress, throttles: Throttles) -> Found:
        """Count an attempt to claim *email*, and read the credentials of the user who has the address or may take it back.

        Raise TooManyAttempts, StoreUnavailable.
        """
        counted = self._count(claims_of(self.root_keys, email), throttles)
        return self._found(email, throttles, *counted)

    def find_former(self, email: EmailAddress, throttles: Throttles) -> FoundFormer | None:
        """Count an attempt to take *email* back; return the account that may take it back, or None.

        Raise TooManyAttempts, StoreUnavailable.
        """
        lookups = former_lookups_of(self.root_keys, email)
        counted, is_set_back = self._count(lookups, throttles)
        stored, former = counted.credentials, None
        if stored:
            with suppress(Tampered):
                credentials = self._opened(stored, is_set_back=is_set_back)
                former = credentials.former_at(email, self.now())
                if former:
                    return FoundFormer(
                        stored=stored,
                        credentials=credentials,
                        former=former,
                        is_known=counted.is_known,
                        is_suspended=counted.is_suspended,
                        keys=counted.keys,
                        requires_factor=counted.sign_ups.requires_factor,
                        policy=self.policy,
                    )
                # the stored look-up value points to credentials that do not contain this former address
                log_event("credentials.unopened", user=stored.id)
        return None

    def find_identity(self, identity: Identity, throttles: Throttles) -> Found | None:
        """Count an attempt to sign in with *identity*; return its user's credentials, or None if no account has it.

        Raise TooManyAttempts, StoreUnavailable, Tampered (the look-up value points to credentials without the identity).
        """
        tags = self.root_keys.identity_tags(identity)
        return self._find_way_in(
            tags, throttles, lambda found: any(one.identity == identity for one in found.identities)
        )

    def find_passkey(self, credential_id: bytes, throttles: Throttles) -> Found | None:
        """Count an attempt to sign in with a passkey; return its user's credentials, or None if no account has it.

        Raise TooManyAttempts, StoreUnavailable, Tampered (the look-up value points to credentials without the passkey).
        """

        def has_it(found: Credentials) -> bool:
            each = found.passkeys.each if found.passkeys else ()
            return any(one.credential_id == credential_id for one in each)

        return self._find_way_in(self.root_keys.passkey_tags(credential_id), throttles, has_it)

    def find_for_sign_up(
        self, email: EmailAddress, throttles: Throttles, invitation: str = ""
    ) -> Found:
        """Count an attempt to create an account, with an *invitation* code if sign-ups need one.

        Raise TooManyAttempts, SignUpsClosed, InvitationRefused, StoreUnavailable.
        """
        lookups = claims_of(self.root_keys, email)
        counted, is_set_back = self._count(lookups, throttles, _code_of(invitation), email)
        state = counted.sign_ups
        if state.mode is SignUps.CLOSED:
            raise SignUpsClosed
        if state.mode is SignUps.INVITED and not state.is_invited:
            raise InvitationRefused if invitation else InvitationMissing
        return self._found(email, throttles, counted, is_set_back)

    def sign_up(
        self,
        found: Found,
        password_hash: str | None,
        invitation: str = "",
        browser: Browser | None = None,
        confirmed: Confirmed | None = None,
        factor: Factor | None = None,
        identity: LinkedIdentity | None = None,
        recovery: tuple[str, ...] = (),
        scope: ProofScope = ProofScope.FULL,
        by: UsedMethod | None = None,
        *,
        has_factor: bool = False,
    ) -> tuple[Cookie, AppSession]:
        """Create an account, and sign in. Without a *password_hash*, the account has no password.

        *confirmed*: how the address was confirmed; None: it was not. *factor*: the account's authenticator app, confirmed by
        a code. *recovery*: hashes of recovery codes. *identity*: the user's identity at a provider. *by*: the method of the
        sign-up. *has_factor*: a factor was given at the provider. *scope*: the changes for which the sign-up counts as a proof.

        Raise FactorNeeded (the deployment requires a factor), AddressTaken, ConfirmationSent, SignUpsClosed (there is
        no password, and Supabase Auth must confirm the address: it completes only sign-ups with a password), RateLimited, and the errors of
        `SignInPolicy.check_sign_up`, `SignIn.sign_up` and `start_session`.
        """
        self._check_sign_up(
            found, password_hash, identity, has_factor=has_factor or factor is not None
        )
        pending, credentials = self._pending(found, password_hash, _code_of(invitation), confirmed)
        self._put_pending(found, pending, credentials)
        user = self.backend.sign_in.sign_up(found.email, credentials.managed_password)
        credentials = replace(credentials, identities=(identity,) if identity else ())
        return self._begin(
            user,
            pending,
            credentials,
            browser,
            factor=factor,
            recovery=recovery,
            has_factor=has_factor,
            scope=scope,
            by=by,
        )

    def sign_in(
        self, checked: Checked, invitation: str = "", browser: Browser | None = None
    ) -> tuple[Cookie, AppSession]:
        """Sign in the user of *checked*; also complete a sign-up that was interrupted, or waited for a confirmed address.

        May raise FactorNeeded, FactorUsed (the caller must check the factor again), RateLimited, SignInBroken,
        Suspended, and the errors of `SignInPolicy.check`, `SignIn` and `start_session`.
        """
        self._check_method(checked)
        checked.check_factor(is_required=checked.requires_factor)
        stored, credentials, sign_in = checked.stored, checked.credentials, self.backend.sign_in
        address, password = credentials.address, credentials.managed_password
        user_id = stored.user_id
        if user_id is None:
            user = sign_in.resume(address, password)
            code = _code_of(invitation) or credentials.invitation
            credentials = replace(credentials, invitation=code)
            enrolled = checked.used
            return self._begin(
                user,
                stored,
                credentials,
                browser,
                checked.counted,
                factor=enrolled and enrolled.factor,
                recovery=enrolled.recovery if enrolled else (),
                has_factor=checked.has_factor,
                scope=checked.scope,
            )
        if checked.by and self.policy.is_exempt(credentials, checked.by):
            note_failure(self.backend, user_id, Exemption.OPERATOR_PASSWORD)
        device = self._device(checked, user_id, browser)
        user = sign_in.sign_in(user_id, address, password)
        if user.user_id != user_id:
            log_event("sign_in.mismatch", user=user_id, answered=user.user_id)
            sign_in.end(user)
            raise SignInBroken
        return self._start(
            user,
            stored.generation,
            checked.counted,
            device,
            has_factor=checked.has_factor,
            used=self._used(checked, user_id),
            used_by=checked.used_by,
            by=checked.by,
            scope=checked.scope,
        )

    def enter(self, only: StoredCredentials | None) -> tuple[Cookie, AppSession]:
        """Sign in to a single-user store without a password. *only*: the user's credentials; None creates the account first.

        Raise Tampered, and the errors of `sign_up` and `sign_in`.
        """
        if only is None:
            return self.sign_up(self.find_for_sign_up(NO_ADDRESS, NOT_COUNTED), None)
        is_set_back = _is_before(only, self._newest.get(only.id))
        credentials = self._opened(only, is_set_back=is_set_back)
        return self.sign_in(Checked(only, credentials, (), has_factor=True))

    def prove(self, session: AppSession, cookie: Cookie, checked: Checked) -> Cookie:
        """Record that the user of *session* has proved who they are, which allows changes to the account for ten minutes.

        Return the session's new cookie; the old *cookie*, which may have been copied, is no longer valid. After
        StoreUnavailable, either cookie may be the valid one, and the user may have to sign in again.

        Raise WrongCredentials (*checked* is another user's), ProofNeeded (*checked* has the scope NONE), RateLimited (the
        credentials changed meanwhile), FactorNeeded, FactorUsed (check the factor again), SignedOut (also if another proof
        has replaced *cookie*), and the errors of `SignInPolicy.check`.
        """
        stored = checked.stored
        if stored.user_id != session.user_id:
            raise WrongCredentials
        self._check_method(checked)
        if checked.scope is ProofScope.NONE:
            raise ProofNeeded
        # a factor that the deployment requires was given when the session began, so it is not asked for again
        checked.check_factor(is_required=False)
        used, new = self._used(checked, session.user_id), Cookie.new()
        changed = NewCookie(replaces=cookie.hash, cookie_hash=new.hash, sealer=self._sealer(new))
        if not session.backend.prove(
            stored.generation,
            checked.counted,
            changed,
            has_factor=checked.has_factor,
            used=used,
            used_by=checked.used_by,
            scope=checked.scope,
        ):
            raise RateLimited
        if used:
            self._note(used)
        return new

    def current(self, cookie: Cookie) -> Current:
        """Return the credentials of a session's user.

        Raise SignedOut, StoreUnavailable, Tampered (they cannot be decrypted), KeyMissing.
        """
        sealer = self._sealer(cookie)
        opened, is_set_back = self._fresh(lambda: self.backend.open_session(cookie.hash, sealer))
        if opened.credentials is None:
            raise KeyMissing
        credentials = self._opened(opened.credentials, is_set_back=is_set_back)
        return Current(opened.credentials, credentials)

    def change_password(
        self,
        session: AppSession,
        current: Current,
        password_hash: str,
        *,
        keeps_factor: bool = True,
        kept: Collection[str] | None = None,
        action: CredentialsAction = CredentialsAction.PASSWORD_SET,
    ) -> None:
        """Change the password of the user of *session*, and end all other sessions unless *action* is PASSWORD_ADDED.

        *keeps_factor*: False removes the authenticator app. *kept*: marks (kept.py) of the passkeys and identities to
        keep; None: keep all of them.

        Raise WrongCredentials (*current* holds another user's credentials), MethodOff, OtherSignInNeeded (users with
        this address must sign in through a provider), RateLimited (the credentials changed meanwhile), ProofNeeded,
        FactorRequired.
        """
        stored = current.stored
        if stored.user_id != session.user_id:
            raise WrongCredentials
        self.policy.check_address(current.credentials.address, SignInMethod.PASSWORD)
        new = replace(
            current.credentials,
            password_hash=password_hash,
            has_operator_password=False,
            generation=stored.generation + 1,
            factor=current.credentials.factor if keeps_factor else None,
        )
        if kept is not None:
            new = with_only(new, kept)
        ends_others = action in PASSWORD_CHANGES
        if not self.change_credentials(session, new, stored, action, ends_others=ends_others):
            raise RateLimited

    def add_password(self, session: AppSession, current: Current, password_hash: str) -> None:
        """Add a password to the account of *session*, which has none. Raise the errors of `change_password`."""
        action = CredentialsAction.PASSWORD_ADDED
        self.change_password(session, current, password_hash, action=action)

    def change_credentials(
        self,
        session: AppSession,
        new: Credentials,
        seen: StoredCredentials,
        action: CredentialsAction,
        *,
        ends_others: bool = False,
    ) -> bool:
        """Replace the user's credentials *seen* with *new* ones, as `UserBackend.change_credentials` does.

        *ends_others*: end all other sessions. Raise LastWayIn if no sign-in method of *new* works on this deployment,
        but one of *seen* does, and TooManyAttempts (after 20 changes in 15 minutes, not counting new passwords).
        """
        before = open_credentials(self.root_keys, seen.sealed, session.user_id)
        self.policy.check_left(before, new)
        # Each change invalidates the codes that were mailed to the owner. Without a limit, an attacker who is signed in
        # could invalidate each of them. New passwords are not counted; otherwise, the attacker could use up the limit
        # and so block a password reset.
        if action not in WITHOUT_PROOF | PASSWORD_CHANGES:
            bucket = self.root_keys.bucket(f"changes of {session.user_id}")
            self.backend.count_throttles([Throttle(bucket, _MOST_CHANGES, _CHANGES_SECONDS)])
        row = seal_stored(self.root_keys, new, session.user_id, replaces=seen)
        changes_ways_in = action in CHANGES_WAYS_IN | PASSWORD_CHANGES
        change = partial(
            session.backend.change_credentials,
            row,
            seen.generation,
            action=action,
            ends_others=ends_others,
            # derived from the root key that seals `row`
            ways_in=ways_in_of(self.root_keys.of(row.sealed), new) if changes_ways_in else None,
        )
        return self._try_change(row, change)

    def change_address(
        self, session: AppSession, email: EmailAddress, seen_generation: int
    ) -> bool:
        """Change the address of the user of *session* to *email*, which a mailed code has confirmed; all sessions stay valid.

        Return True if the old address had been confirmed: then the user may take it back within 72 hours. Raise
        AddressTaken, OtherSignInNeeded (`SignInPolicy.check_move`), StepEnded (the credentials are no longer of
        *seen_generation*: a sign-in method changed since they were checked).
        """
        lookups = lookups_of(self.root_keys, session.email)
        counted, is_set_back = self._count(lookups, NOT_COUNTED)
        stored = counted.credentials
        seen = (stored.user_id, stored.generation) if stored else None
        if stored is None or seen != (session.user_id, seen_generation):
            raise StepEnded
        now = self.now().replace(microsecond=0)
        confirmed = Confirmed(how=ConfirmedBy.CODE, at=now)
        credentials = self._opened(stored, is_set_back=is_set_back)
        self.policy.check_move(credentials.address, email)
        moved = credentials.moved(email, confirmed, now + FORMER_LIFE)
        if not self._put_address(session.backend, moved, session, is_restored=False):
            raise StepEnded
        return moved.former_at(session.email, now) is not None

    def restore_address(
        self,
        email: EmailAddress,
        password_hash: str | None,
        browser: Browser | None = None,
        use: Callable[[Credentials], Credentials] | None = None,
    ) -> Entered:
        """Give *email* back to the account that had it, after a code has confirmed *email* again, and sign in.

        The account gets a new password; None (where passwords are off) leaves it without one. All other sessions end,
        and the sign-in methods that the account had before its address changed are restored. *use* checks the entered
        code or passkey against the factor that the account had then (`Factors.use`); if it had none, but the deployment
        requires one, *use* enrols one.

        Raise StepEnded (no account may still take *email* back), AddressTaken, MethodOff, OtherSignInNeeded (for the
        former address, too), and the errors of `sign_in` and *use*.
        """
        takes_password = [SignInMethod.PASSWORD] if password_hash is not None else []
        # this call checks the address, and that passwords are enabled; `sign_in` checks that mailed codes are enabled
        self.policy.check_address(email, *takes_password)

        def former() -> FoundFormer:
            found = self.find_former(email, NOT_COUNTED)
            if found is None:
                raise StepEnded
            return found

        restore = partial(self._restore, email, password_hash, browser, use)
        return until_unchanged(former(), former, restore)

    def _restore(
        self,
        email: EmailAddress,
        password_hash: str | None,
        browser: Browser | None,
        use: Callable[[Credentials], Credentials] | None,
        found: FoundFormer,
    ) -> Entered:
        new = self._without_taken(found.taken_back(self.now(), password_hash), found.stored)
        if new.wants_factor or found.requires_factor:
            if use is None:
                raise factor_needed(new)
            # keep `uses` and `generation` of `new`, which already has the next values: the restored address and the
            # used factor are stored by a single change
            new = replace(use(new), uses=new.uses, generation=new.generation)
        # has_factor=True: the current factor is not required, because an attacker may have set it up
        checked = Checked(
            stored=found.stored,
            credentials=found.credentials,
            counted=(),
            keys=found.keys,
            has_factor=True,
            by=BY_CODE,
        )
        cookie, session = self.sign_in(checked, browser=browser)
        try:
            if not self._put_address(session.backend, new, session, is_restored=True):
                raise RateLimited
        except AppError:
            with suppress(AppError):
                self.end(cookie)  # no browser has received this cookie
            raise
        return Entered(cookie, replace(session, email=email), found.credentials.address)

    def _without_taken(self, new: Credentials, stored: StoredCredentials) -> Credentials:
        """Return *new* credentials without the identities and passkeys that now belong to another account.

        An attacker with access to the account can add its passkeys to another account. This must not stop the user of
        *stored* from taking the former address back, so such a passkey is dropped instead of failing the change.
        """

        def is_free(tags: Mapping[int, str]) -> bool:
            owner = self._count(tuple(tags.values()), NOT_COUNTED)[0].credentials
            return owner is None or owner.id == stored.id

        ring, passkeys = self.root_keys, new.passkeys
        identities = [one for one in new.identities if is_free(ring.identity_tags(one.identity))]
        for one in passkeys.each if passkeys else ():
            if passkeys and not is_free(ring.passkey_tags(one.credential_id)):
                passkeys = removed(passkeys, one.credential_id)
        return replace(new, identities=tuple(identities), passkeys=passkeys)

    def _put_address(
        self, user: UserBackend, new: Credentials, session: AppSession, *, is_restored: bool
    ) -> bool:
        current, row = self.root_keys.current, self._sealed(new, session.user_id)
        former = [self.root_keys.former_address_tags(one.address)[current] for one in new.former]
        address = NewAddress(
            credentials=row,
            address=new.address,
            claims=claims_of(self.root_keys, new.address),
            former=tuple(former),
            is_restored=is_restored,
            ways_in=ways_in_of(self.root_keys, new),  # derived from the root key that seals `row`
        )
        return self._try_change(row, lambda: user.change_address(address))

    def _try_change(self, row: StoredCredentials, change: Callable[[], bool]) -> bool:
        """Call *change*, which stores *row*, and return its result. If the response is lost, return True if *row* is stored.

        Without this check, the user would not be notified of such a change. Raise the errors of *change*.
        """
        try:
            is_changed = change()
        except StoreUnavailable:
            if self._count((row.lookup,), NOT_COUNTED)[0].credentials != row:
                raise
            is_changed = True
        if is_changed:
            self._note(row)
        return is_changed

    def open(self, cookie: Cookie) -> AppSession:
        """Return the session of *cookie*, with its user's keys.

        Raise SignedOut, StoreUnavailable, Tampered (its data cannot be decrypted).
        """
        sealer = self._sealer(cookie)
        opened, is_set_back = self._fresh(lambda: self.backend.open_session(cookie.hash, sealer))
        return self._session(opened, is_set_back=is_set_back)

    def ended(self, sessions: Iterable[AppSession]) -> dict[SessionId, SessionEnd]:
        """Return the *sessions* that have ended, with the reasons, in one call. Raise StoreUnavailable."""
        return self.backend.ended((one.id, one.user_id) for one in sessions)

    def end(self, cookie: Cookie) -> None:
        """End the session of *cookie*; the store refuses it from the next call on. Raise StoreUnavailable."""
        self.backend.end_session(cookie.hash)

    # --- counting attempts, and reading credentials

    def _count(
        self,
        lookups: tuple[str, ...],
        throttles: Throttles,
        invitation: str | None = None,
        invited: EmailAddress | None = None,
    ) -> tuple[CountedAttempt, bool]:
        """Count an attempt; return the data stored under *lookups*, and True if they are older than credentials seen before."""
        counting = [throttles]  # only the first read counts the attempt; a repeated read does not

        def read() -> CountedAttempt:
            counted_in = counting.pop() if counting else Throttles((), throttles.device_user)
            attempt = Attempt(
                lookups=lookups,
                throttles=counted_in,
                invitation=invitation,
                invited=invited if invitation else None,
                nonce=uuid4(),
            )
            return self.backend.count_attempt(attempt)

        return self._fresh(read)

    def _found(
        self,
        email: EmailAddress,
        throttles: Throttles,
        counted: CountedAttempt,
        is_set_back: bool,
    ) -> Found:
        stored, credentials = counted.credentials, None
        # a former address, which the account may only take back, cannot be used to sign in
        if stored and stored.lookup in lookups_of(self.root_keys, email):
            with suppress(Tampered):  # the sign-in then fails as with a wrong password
                credentials = self._opened(stored, email, is_set_back=is_set_back)
        return _found_in(counted, email, throttles, credentials, self.policy)

    def _find_way_in(
        self, tags: Mapping[int, str], throttles: Throttles, has_it: Callable[[Credentials], bool]
    ) -> Found | None:
        counted, is_set_back = self._count(tuple(tags.values()), throttles)
        stored = counted.credentials
        if stored is None:
            return None
        credentials = self._opened(stored, is_set_back=is_set_back)
        if not has_it(credentials):
            # the stored look-up value points to credentials that do not contain this identity or passkey
            log_event("credentials.unopened", user=stored.id)
            raise Tampered
        return _found_in(counted, credentials.address, throttles, credentials, self.policy)

    def _opened(
        self,
        stored: StoredCredentials,
        email: EmailAddress | None = None,
        *,
        is_set_back: bool,
    ) -> Credentials:
        """Decrypt credentials; on failure, log an event and raise Tampered.

        *email*: the address that the credentials must have, if given. *is_set_back*: True if they are older than
        credentials that this process has seen, which counts as a failure.
        """
        try:
            credentials = open_stored(self.root_keys, stored, email)
            if is_set_back:
                raise Tampered
        except Tampered:
            log_event("credentials.unopened", user=stored.id)
            raise
        self._note(stored)
        return credentials

    def _fresh(self, read: Callable[[], WithCredentials]) -> tuple[WithCredentials, bool]:
        """Call *read*; call it again if the credentials are older than the newest that this process has seen.

        Return the last result, and True if its credentials are still older: then the store was rolled back to an
        earlier state.
        """
        answer = read()
        if (stored := answer.credentials) is None:
            return answer, False
        newest = self._newest.get(stored.id)
        if not _is_before(stored, newest):
            return answer, False
        answer = read()
        stored = answer.credentials
        return answer, stored is not None and _is_before(stored, newest)

    def _note(self, stored: StoredCredentials) -> None:
        """Remember the generation and the number of uses of credentials that were just decrypted or stored."""
        with self._noting:
            generation, uses = self._newest.get(stored.id) or (0, 0)
            newest = max(stored.generation, generation), max(stored.uses, uses)
            self._newest.put(stored.id, newest)

    def _check_method(self, checked: Checked) -> None:
        if checked.by:
            self.policy.check(checked.credentials, checked.by)

    def _used(self, checked: Checked, user_id: UserId) -> StoredCredentials | None:
        """Return the sealed form of `Checked.used`, the credentials changed by a sign-in or proof; None if unchanged."""
        if checked.used is None:
            return None
        return seal_stored(self.root_keys, checked.used, user_id, replaces=checked.stored)

    # --- creating accounts

    def _check_sign_up(
        self,
        found: Found,
        password_hash: str | None,
        identity: LinkedIdentity | None,
        *,
        has_factor: bool,
    ) -> None:
        """Raise FactorNeeded if a required factor was not given, but AddressTaken if it would be given in vain.

        Raise MethodOff or OtherSignInNeeded as `check_sign_up` does.
        """
        # a sign-up that waits for a mailed link stores no factor; the first sign-in afterwards asks for one
        if found.sign_ups.requires_factor and not (
            has_factor or self.backend.sign_in.confirms_addresses()
        ):
            # a user who has an account would add a second entry to the app before the refusal
            raise AddressTaken if found.is_taken else FactorNeeded
        issuer = identity.identity.issuer if identity else None
        self.policy.check_sign_up(
            found.email, has_password=password_hash is not None, issuer=issuer
        )

    def _put_pending(
        self, found: Found, pending: StoredCredentials, credentials: Credentials
    ) -> None:
        """Store a *pending* sign-up; where Supabase Auth confirms addresses, make it send the confirmation link.

        Raise SignUpsClosed, ConfirmationSent, AddressTaken, RateLimited (a concurrent sign-up with the address came
        first).
        """
        new = PendingSignUp(credentials=pending, lookups=claims_of(self.root_keys, found.email))
        sign_in, password = self.backend.sign_in, credentials.managed_password
        # this call runs in parallel with storing the sign-up
        confirms = in_thread("sign-up-settings", sign_in.confirms_addresses)
        if credentials.password_hash is None and confirms.result():
            raise SignUpsClosed  # raised here, before this sign-up replaces a pending one
        # if the address is taken, this call stores nothing, but takes the same time
        is_put = self.backend.put_sign_up(new)
        if confirms.result():
            in_thread("sign-up", lambda: self._send_confirmation(found.email, password))
            raise ConfirmationSent
        if found.is_taken:
            raise AddressTaken
        if not is_put:
            raise RateLimited

    def _pending(
        self,
        found: Found,
        password_hash: str | None,
        invitation: str | None,
        confirmed: Confirmed | None,
    ) -> tuple[StoredCredentials, Credentials]:
        """Return the credentials of a sign-up; if a sign-up of the address is pending already, they are its next generation.

        The managed password stays the same, because Supabase Auth keeps the password from the first sign-up.
        """
        row_id, generation, known = uuid4(), 1, None
        if found.stored and not found.is_taken:
            row_id, generation = found.stored.id, found.stored.generation + 1
            known = found.credentials
        credentials = Credentials(
            address=found.email,
            password_hash=password_hash,
            account_secret=None,
            managed_password=known.managed_password if known else managed_password(),
            generation=generation,
            invitation=invitation,
            confirmed=confirmed,
            newer=known.newer if known else {},
        )
        return self._sealed(credentials, row_id), credentials

    def _sealed(self, credentials: Credentials, owner_id: UUID) -> StoredCredentials:
        return seal_stored(self.root_keys, credentials, owner_id)

    def _send_confirmation(self, email: EmailAddress, password: str) -> None:
        """Create the user at Supabase Auth, which then mails the confirmation link."""
        sign_in = self.backend.sign_in
        try:
            sign_in.end(sign_in.sign_up(email, password))
        except ConfirmationSent:
            pass
        except AppError as error:
            log_event("sign_up.failed", reason=_UNSENT.get(type(error), UnsentReason.OTHER))

    def _begin(
        self,
        user: SignInUser,
        pending: StoredCredentials,
        credentials: Credentials,
        browser: Browser | None,
        counted: tuple[str, ...] = (),
        *,
        factor: Factor | None = None,
        recovery: tuple[str, ...] = (),
        has_factor: bool = False,
        scope: ProofScope = ProofScope.FULL,
        by: UsedMethod | None = None,
    ) -> tuple[Cookie, AppSession]:
        """Create the account of *user* from the credentials of a *pending* sign-up, and sign in."""
        user_id, secret, key = user.user_id, new_key(), new_key()
        bound = replace(
            credentials,
            account_secret=secret,
            invitation=None,
            factor=factor,
            recovery=recovery,
        )
        wrapped = self.root_keys.account_keys(secret).wrap(key, user_id, 1)
        device = NewDevice.of(self.keys([UserKey(key, user_id, 1)]), user_id, browser)
        account = NewAccount(
            sign_up=pending.id,
            credentials=self._sealed(bound, user_id),
            key=WrappedKey(1, wrapped),
            invitation=credentials.invitation,
            ways_in=ways_in_of(self.root_keys, bound),
        )
        has_factor = has_factor or factor is not None
        return self._start(
            user,
            pending.generation,
            counted,
            device,
            account,
            has_factor=has_factor,
            scope=scope,
            by=by,
        )

    def _device(self, checked: Checked, user_id: UserId, browser: Browser | None) -> NewDevice:
        """Return the device on which the user of *checked* signs in. Raise Tampered if the user keys cannot be unwrapped."""
        keys = self.keys_of(checked, user_id)
        # without keys, the name cannot be sealed; `_session` refuses such an account
        return NewDevice.of(keys, user_id, browser) if keys else NewDevice.unnamed()

    def keys_of(self, found: Checked | FoundFormer, user_id: UserId) -> UserKeys | None:
        """Return the user keys that were read with the credentials *found*, or None.

        Raise Tampered if one cannot be unwrapped.
        """
        secret = found.credentials.account_secret
        if secret is None or not found.keys:
            return None
        return self.keys(unwrapped_keys(found.keys, self.root_keys.account_keys(secret), user_id))

    # --- starting and opening sessions

    def _start(
        self,
        user: SignInUser,
        generation: int,
        counted: tuple[str, ...],
        device: NewDevice,
        account: NewAccount | None = None,
        *,
        has_factor: bool = False,
        used: StoredCredentials | None = None,
        used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
        by: UsedMethod | None = None,
        scope: ProofScope = ProofScope.FULL,
    ) -> tuple[Cookie, AppSession]:
        cookie = Cookie.new()
        new = NewSession(
            id=device.session_id,
            device=device.sealed,
            cookie_before=device.cookie_before,
            follows=device.follows,
            cookie_hash=cookie.hash,
            idle_seconds=self.idle_seconds,
            lifetime_seconds=self.policy.lifetime_seconds(by, self.lifetime_seconds),
            generation=generation,
            account=account,
            returned=counted,
            has_factor=has_factor,
            used=used,
            used_by=used_by,
            scope=scope,
        )
        try:
            opened = self.backend.start_session(user, new, self._sealer(cookie))
            # is_set_back=False: the store has just checked that these credentials are current; if this process has seen
            # newer ones, a later use of a factor, passkey or identity has stored them
            return cookie, self._session(opened, is_set_back=False)
        except AppError as error:
            self.backend.sign_in.end(user)  # no browser has received the cookie
            # `SignIn` has just recognised the user, so the refusal means that the account is suspended
            if isinstance(error, SignedOut):
                raise Suspended from None
            if isinstance(error, Stale):  # another device changed the credentials first
                raise RateLimited from None
            raise

    def _sealer(self, cookie: Cookie) -> CookieSealer:
        return CookieSealer(self.root_keys.session_vault(cookie.secret), cookie.hash)

    def _session(self, opened: OpenedSession, *, is_set_back: bool) -> AppSession:
        if not opened.role.is_known:  # only a newer version of the app knows this role
            raise SignedOut
        stored, user_id = opened.credentials, opened.user_id
        if stored is None or not opened.keys:
            log_event("key.missing", user=user_id)
            raise KeyMissing
        credentials = self._opened(stored, is_set_back=is_set_back)
        if stored.id != user_id or credentials.account_secret is None:
            raise Tampered
        if self.root_keys.needs_rewrap(stored.sealed):
            anew = self._sealed(credentials, user_id)
            opened.user.change_credentials(
                anew,
                stored.generation,
                action=CredentialsAction.RESEAL,
                ends_others=False,
                renamed=renamed_lookups(self.root_keys, credentials),
            )
        keys = self._user_keys(opened, self.root_keys.account_keys(credentials.account_secret))
        return AppSession(
            id=opened.id,
            user_id=user_id,
            email=credentials.address,
            is_confirmed=credentials.confirmed is not None,
            user_keys=keys,
            backend=opened.user,
        )

    def _user_keys(self, opened: OpenedSession, account_keys: AccountKeys) -> UserKeys:
        """Unwrap a user's keys; rewrap each key that an old root key wraps. Raise Tampered if one cannot be unwrapped."""
        user_id, keys = opened.user_id, list[UserKey]()
        for row in opened.keys:
            key = account_keys.unwrap(row.wrapped, user_id, row.version)
            keys.append(UserKey(key, user_id, row.version))
            if self.root_keys.needs_rewrap(row.wrapped):
                rewrapped = account_keys.wrap(key, user_id, row.version)
                opened.user.put_user_key(WrappedKey(row.version, rewrapped), row.wrapped)
        return self.keys(keys)


def _found_in(
    counted: CountedAttempt,
    email: EmailAddress,
    throttles: Throttles,
    credentials: Credentials | None,
    policy: SignInPolicy,
) -> Found:
    counting = throttles.device if counted.is_known else throttles.strangers
    return Found(
        email=email,
        stored=counted.credentials,
        credentials=credentials,
        is_known=counted.is_known,
        is_suspended=counted.is_suspended,
        sign_ups=counted.sign_ups,
        counted=tuple(throttle.bucket for throttle in counting),
        keys=counted.keys,
        policy=policy,
    )


class _HasStored(Protocol):
    """An object that contains stored credentials: `Checked` or `FoundFormer`."""

    @property
    def stored(self) -> StoredCredentials: ...


Seen = TypeVar("Seen", bound=_HasStored)
Answer = TypeVar("Answer")


def until_unchanged(seen: Seen, read: Callable[[], Seen], act: Callable[[Seen], Answer]) -> Answer:
    """Return the result of `act(seen)`; if the credentials changed meanwhile, *read* them again and retry, at most four times.

    The user cannot retry, because the mailed code is already used up. Without these retries, an attacker who is signed
    in could lock the user out by changing the password or ending sessions at the right moment.

    Raise RateLimited after the last attempt, and the errors of *read* and *act*.
    """
    for _ in range(_MOST_OVERTAKEN):
        try:
            return act(seen)
        except (SignedOut, ProofNeeded):
            # ProofNeeded: a factor was set up meanwhile, which invalidates the new session's proof
            again = read()
        except RateLimited:
            again = read()
            now, before = again.stored, seen.stored
            # the credentials are unchanged, so the store is only busy
            if (now.generation, now.uses) == (before.generation, before.uses):
                raise
        seen = again
    raise RateLimited


def _is_before(stored: StoredCredentials, seen: tuple[int, int] | None) -> bool:
    """Return True if *stored* has a lower generation or fewer uses than *seen*, a pair of both; False if *seen* is None."""
    return seen is not None and (stored.generation < seen[0] or stored.uses < seen[1])


def second_factor(credentials: Credentials) -> SecondFactor | None:
    """Return the account's second factor in the form shown to its user; None if the account has none."""
    if not credentials.wants_factor:
        return None
    return SecondFactor(
        since=credentials.factor and credentials.factor.since,
        codes_left=len(credentials.recovery),
        asks_passkey=credentials.asks_passkey,
    )


def factor_needed(credentials: Credentials) -> FactorNeeded:
    """Return the error for a user who must give the second factor of *credentials*, or must first set one up."""
    since = credentials.factor and credentials.factor.since
    asks, listed = credentials.asks_passkey, marks(credentials)
    return FactorNeeded(since, asks_passkey=asks, listed=listed if credentials.wants_factor else ())


def require_recent(user: UserBackend, *, is_part: bool = False) -> ProofScope:
    """Return the scope of the proof that the user of this session gave in the last ten minutes.

    *is_part*: a partial proof is enough. Raise ProofNeeded (there is no such proof), SignedOut, StoreUnavailable.
    """
    mine = [one for one in user.devices() if one.is_this_one]
    if any(one.is_proven for one in mine):
        return ProofScope.FULL
    if is_part and any(one.is_proven_in_part for one in mine):
        return ProofScope.PART
    raise ProofNeeded


def hash_new_password(address: EmailAddress, password: str) -> str:
    """Return the hash of a new *password* for the account with *address*. Raise WeakPassword if it is too weak."""
    check_new_password(address, password)
    return hash_password(password)


def unwrapped_keys(
    rows: Iterable[WrappedKey], account_keys: AccountKeys, user_id: UserId
) -> list[UserKey]:
    """Return the user keys that *rows* contain in wrapped (encrypted) form. Raise Tampered if one cannot be unwrapped."""
    return [
        UserKey(account_keys.unwrap(row.wrapped, user_id, row.version), user_id, row.version)
        for row in rows
    ]


def _code_of(typed: str) -> str | None:
    """Return the typed invitation code without leading and trailing whitespace; None if *typed* cannot be a code."""
    code = typed.strip()
    return code if code and code.isprintable() else None
