"""Entries into an account, on any store: sign-in, sign-up, reset, and taking a former address back.

An entry follows a correct password or mailed code, and starts a session; a reset, for example, also sets a new password.
If the account has a second factor, the user must give it first: until then, the `Entry` is stored, sealed, as the
contents of a step.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TypeVar

from pydantic import TypeAdapter

from services.crypto import Credentials
from services.crypto.recovery_codes import recovery_hashes
from services.domain import UserId
from services.domain.accounts import CredentialsAction, ProofScope, SecondFactor
from services.domain.addresses import Confirmed, EmailAddress
from services.domain.passkeys import Passkey
from services.domain.sign_in_methods import BY_PASSWORD, UsedMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import FactorRequired, StepEnded
from services.store.accounts import (
    Accounts,
    AppSession,
    Checked,
    Cookie,
    Entered,
    FoundFormer,
    second_factor,
    until_unchanged,
)
from services.store.backend import NOT_COUNTED
from services.store.codes import confirmed_again, reset
from services.store.device_names import Browser
from services.store.factors import Factors, given, turned_off, use_passkey
from services.store.kept import marks, with_only
from services.store.linking import noting_use, sign_in_linking
from services.store.steps import OpenStep, Step

Answer = TypeVar("Answer")


class Way(StrEnum):
    """The ways of entering an account."""

    SIGN_IN = "sign_in"
    RESET = "reset"  # signs in and sets a new password
    RESTORE = "restore"  # takes a former address back and sets a new password
    SIGN_UP = "sign_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry into an account, after the password, mailed code or identity was verified."""

    way: Way
    address: EmailAddress = field(repr=False)
    by: UsedMethod = BY_PASSWORD
    password_hash: str = field(default="", repr=False)  # the hash of a new password; "": none
    # the throttle buckets that counted this attempt; a successful attempt is subtracted from them again
    counted: tuple[str, ...] = field(default=(), repr=False)
    invitation: str = field(default="", repr=False)  # the code of an invitation, as it was typed
    confirmed: Confirmed | None = None  # how the address of a sign-up was confirmed
    # the identity that a sign-up begins with, or that a sign-in links to the account
    identity: LinkedIdentity | None = None
    # the account changes for which this entry counts as a proof
    scope: ProofScope = ProofScope.FULL
    used: Identity | None = None  # the linked identity that the user signs in with
    # the secret of an authenticator app that is being set up, in hexadecimal; "": none
    secret: str = field(default="", repr=False)
    # marks of the passkeys and identities that a reset removes (kept.py)
    gone: tuple[str, ...] = field(default=(), repr=False)


ENTRY = TypeAdapter(Entry)


@dataclass(slots=True)
class FactorEntry:
    """The text entered as the second factor; it is compared again if the credentials change meanwhile."""

    factors: Factors
    text: str = field(repr=False)
    codes_left: int | None = None  # the number of recovery codes left after one was used

    @property
    def is_recovery(self) -> bool:
        """True if the text has the form of a recovery code; such codes are too long to guess."""
        return self.factors.recovery_hash(self.text) is not None

    def use(self, credentials: Credentials, *, is_required: bool) -> Credentials:
        """Return *credentials* with the use of the factor recorded. Raise WrongFactor if the text is not a valid code."""
        used = self.factors.use(credentials, self.text)
        if self.is_recovery:
            self.codes_left = len(used.recovery)
        return used

    def given(
        self, accounts: Accounts, checked: Checked, act: Callable[[Checked], Answer]
    ) -> Answer:
        """Use the factor, then call *act* with the new credentials, and return the result. Raise the errors of `factors.given`."""
        use = partial(self.use, is_required=checked.requires_factor)
        return given(accounts, checked, use, act)


@dataclass(slots=True)
class PasskeyEntry:
    """A passkey's response as the second factor; it is verified again if the credentials change meanwhile."""

    credential_id: bytes = field(repr=False)
    # returns the passkey after its use; arguments: the passkey, the user handle, whether the user must be verified
    verify: Callable[[Passkey, bytes, bool], Passkey] = field(repr=False)
    # new recovery codes, for an account that has none (`with_recovery`)
    recovery: tuple[str, ...] = field(repr=False)
    gives_recovery: bool = False  # true: *recovery* is stored, and must be shown to the user

    def use(self, credentials: Credentials, *, is_required: bool) -> Credentials:
        """Return *credentials* with the use of this passkey recorded. *is_required*: the deployment requires a second factor.

        Raise PasskeyMissing, PasskeyRefused, PasskeyCopied.
        """

        def verify(passkey: Passkey, user_handle: bytes) -> Passkey:
            return self.verify(passkey, user_handle, is_required)

        return use_passkey(credentials, self.credential_id, verify)

    def with_recovery(self, taken_back: Credentials) -> Credentials:
        """Return the credentials *taken_back*, whose former address was restored; add recovery codes if they have none."""
        self.gives_recovery = not taken_back.recovery
        if not self.gives_recovery:
            return taken_back
        return replace(taken_back, recovery=recovery_hashes(self.recovery))

    def given(
        self, accounts: Accounts, checked: Checked, act: Callable[[Checked], Answer]
    ) -> Answer:
        """Use the factor, then call *act* with the new credentials, and return the result. Raise the errors of `factors.given`."""

        def act_with_recovery(one: Checked) -> Answer:
            self.gives_recovery = one.begins_asking
            return act(one.with_recovery(self.recovery))

        use = partial(self.use, is_required=checked.requires_factor)
        return given(accounts, checked, use, act_with_recovery, CredentialsAction.PASSKEY_USED)


GivenFactor = FactorEntry | PasskeyEntry


@dataclass(frozen=True, slots=True)
class WaitingEntry:
    """An entry that waits for a second factor, and the account's credentials (for a restore: as they will be stored)."""

    entry: Entry
    user_id: UserId
    found: Checked | FoundFormer
    credentials: Credentials
    factor: SecondFactor | None  # None: the entry is a reset, and the account has no factor

    @property
    def is_confirmed(self) -> bool:
        """True if the user has confirmed the address of the entry."""
        return isinstance(self.found, FoundFormer) or self.found.credentials.confirmed is not None

    @classmethod
    def read(cls, accounts: Accounts, entry: Entry, step: Step) -> "WaitingEntry":
        """Return *entry* with its credentials. Raise StepEnded if they have changed, or (except for a reset) have no factor.

        A restore uses the factor that the account had when its address changed, even if the factor has changed since
        then.
        """
        if entry.way is Way.RESTORE:
            former = accounts.find_former(entry.address, NOT_COUNTED)
            credentials = former.taken_back(accounts.now(), None) if former else None
            factor = second_factor(credentials) if credentials else None
            if not former or not credentials or not factor or not former.stored.user_id:
                raise StepEnded
            return cls(entry, former.stored.user_id, former, credentials, factor)
        found = accounts.find(entry.address, NOT_COUNTED)  # the step counts the attempts instead
        step.check(found.stored)
        stored = found.stored
        if not stored or not stored.user_id or not found.credentials:
            raise StepEnded
        opened = found.opened(stored, found.credentials, entry.by, entry.counted)
        checked = replace(opened, scope=entry.scope)
        factor = second_factor(checked.credentials)
        if not factor and entry.way is not Way.RESET:
            raise StepEnded
        return cls(entry, stored.user_id, checked, checked.credentials, factor)

    def enter(
        self,
        accounts: Accounts,
        factor: GivenFactor,
        step: OpenStep,
        browser: Browser | None,
        counted: tuple[str, ...] = (),
        *,
        keeps_factor: bool = True,
        gone: Collection[str] = (),
        on_used: Callable[[AppSession], object],
    ) -> Entered:
        """Check the *factor*, end the step, then start the session.

        *counted*: throttle buckets that counted this attempt (a successful attempt is subtracted again);
        *keeps_factor*: as in `Accounts.change_password`; *gone*: marks of the passkeys and identities that a reset
        removes (kept.py); *on_used*: called once the use of the factor is stored, after which a link or a reset may
        still fail.

        Raise the errors of *factor* and FactorRequired (the step then stays open, unless it has already ended),
        StepEnded, and the errors of the sign-in, reset or restore.
        """
        entry, found = self.entry, self.found
        if isinstance(found, FoundFormer):
            entered = self._restore(accounts, found, factor, step, browser)
            on_used(entered.session)
            return entered
        checked = replace(found, counted=found.counted + counted)
        if entry.way is Way.RESET:
            return self._reset(
                accounts,
                checked,
                factor,
                step,
                browser,
                keeps_factor=keeps_factor,
                gone=gone,
                on_used=on_used,
            )

        def sign_in(given: Checked) -> tuple[Cookie, AppSession]:
            step.end()
            after = noting_use(given, entry.used, accounts.now())
            return sign_in_linking(accounts, after, entry.identity, browser, on_begun=on_used)

        return Entered(*factor.given(accounts, checked, sign_in))

    def _reset(
        self,
        accounts: Accounts,
        checked: Checked,
        factor: GivenFactor,
        step: OpenStep,
        browser: Browser | None,
        *,
        keeps_factor: bool,
        gone: Collection[str],
        on_used: Callable[[AppSession], object],
    ) -> Entered:
        # the marks of the passkeys and identities to keep; any that are added during the reset are removed
        kept = {*marks(checked.credentials)} - {*gone}
        left = with_only(checked.credentials, kept)
        if not keeps_factor:
            left = turned_off(left)
        if checked.requires_factor and not left.wants_factor:
            raise FactorRequired
        was_given = False

        def note_given(session: AppSession) -> None:
            nonlocal was_given
            if not was_given:
                on_used(session)
            was_given = self.factor is not None

        def reset_by(given: Checked) -> tuple[Cookie, AppSession]:
            step.end()
            return reset(
                accounts,
                given,
                self.entry.password_hash,
                browser,
                keeps_factor=keeps_factor,
                kept=kept,
                on_begun=note_given,
            )

        def reset_again(one: Checked) -> tuple[Cookie, AppSession]:
            if was_given:
                # the use of the factor is stored, so the factor counts as given, unless it was turned off meanwhile
                return reset_by(replace(one, has_factor=one.credentials.wants_factor))
            if self.factor is None:
                return reset_by(one)
            return factor.given(accounts, one, reset_by)

        again = partial(confirmed_again, accounts, self.entry.address, self.user_id)
        return Entered(*until_unchanged(checked, again, reset_again))

    def _restore(
        self,
        accounts: Accounts,
        found: FoundFormer,
        factor: GivenFactor,
        step: OpenStep,
        browser: Browser | None,
    ) -> Entered:
        def use(credentials: Credentials) -> Credentials:
            used = factor.use(credentials, is_required=found.requires_factor)
            step.end()
            return factor.with_recovery(used) if isinstance(factor, PasskeyEntry) else used

        address, hashed = self.entry.address, self.entry.password_hash or None
        return accounts.restore_address(address, hashed, browser, use)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A factor that a user sets up while signing in or up, because the deployment requires one."""

    factors: Factors
    text: str = field(repr=False)  # the entered code of the authenticator app
    recovery: tuple[str, ...] = field(repr=False)  # hashes of the recovery codes

    def enter(
        self, accounts: Accounts, entry: Entry, step: OpenStep, browser: Browser | None
    ) -> Entered:
        """Check the code, end the step, then start the session and store the factor with it.

        Raise WrongFactor (the step then stays open), StepEnded (also if the credentials have changed since the step
        began), and the errors of the sign-up, sign-in, reset or restore.
        """
        if entry.way is Way.SIGN_UP:
            return self._sign_up(accounts, entry, step, browser)
        if entry.way is Way.RESTORE:
            enrol = partial(self._enrolled, entry, step)
            address, hashed = entry.address, entry.password_hash or None
            return accounts.restore_address(address, hashed, browser, enrol)
        found = accounts.find(entry.address, NOT_COUNTED)
        stored, credentials = found.stored, found.credentials
        seen = step.step.user_id, step.step.generation
        if not stored or not credentials or (stored.user_id, stored.generation) != seen:
            raise StepEnded
        used = self._enrolled(entry, step, credentials)
        opened = found.opened(stored, credentials, entry.by, entry.counted)
        checked = replace(opened, has_factor=True, used=used, scope=entry.scope)
        if entry.way is Way.SIGN_IN:
            after = noting_use(checked, entry.used, accounts.now())
            return Entered(
                *sign_in_linking(accounts, after, entry.identity, browser, entry.invitation)
            )

        kept = {*marks(credentials)} - {*entry.gone}

        def reset_by(one: Checked) -> tuple[Cookie, AppSession]:
            # if the credentials were read again, the factor is stored already, and counts as given
            given = replace(one, has_factor=True)
            return reset(accounts, given, entry.password_hash, browser, kept=kept)

        def again() -> Checked:
            now = confirmed_again(accounts, entry.address, stored.user_id)
            factor = now.credentials.factor
            if factor is None or factor.secret != bytes.fromhex(entry.secret):
                raise StepEnded  # another change was stored first, so the enrolment was not stored
            return now

        return Entered(*until_unchanged(checked, again, reset_by))

    def _sign_up(
        self, accounts: Accounts, entry: Entry, step: OpenStep, browser: Browser | None
    ) -> Entered:
        found = accounts.find_for_sign_up(entry.address, NOT_COUNTED, entry.invitation)
        factor = self.factors.confirmed(bytes.fromhex(entry.secret), self.text)
        step.end()
        identity = entry.identity
        return Entered(
            *accounts.sign_up(
                found,
                entry.password_hash or None,
                entry.invitation,
                browser,
                entry.confirmed,
                factor,
                identity,
                self.recovery,
                scope=entry.scope,
                by=entry.by if identity else None,
            )
        )

    def _enrolled(self, entry: Entry, step: OpenStep, credentials: Credentials) -> Credentials:
        """Return the next generation of *credentials*, with the factor; end the step.

        Raise WrongFactor (wrong code), StepEnded.
        """
        if credentials.wants_factor:  # another factor was set up meanwhile, and must be used
            raise StepEnded
        secret = bytes.fromhex(entry.secret)
        enrolled = self.factors.enrolled(credentials, secret, self.text, self.recovery)
        step.end()
        return enrolled
