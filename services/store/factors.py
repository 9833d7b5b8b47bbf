"""The second factor of an account, on any store: its enrolment, and its use by a code or a passkey.

A code of the authenticator (TOTP), a recovery code or a passkey that is asked for makes new credentials out of those that it was compared with. They are
stored with the session or the proof that begins by it, if no other use was stored meanwhile; else the code is compared
again with what is stored then, so that each is good once, also for several at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from services.crypto import Credentials, Factor
from services.domain.accounts import CredentialsAction
from services.domain.passkeys import Passkey
from services.errors import FactorUsed, PasskeyMissing, RateLimited, WrongFactor
from services.store.accounts import Accounts, Checked
from services.store.backend import NOT_COUNTED
from services.store.passkeys import find

Answer = TypeVar("Answer")
_MOST_TRIES = 10  # of one code, while others use the factor


@dataclass(frozen=True, slots=True)
class Factors:
    """Enrols factors and compares codes. Any thread may call any method."""

    # the time step of a code by a secret at a time, if it is newer than another step; else None
    matching_step: Callable[[bytes, str, datetime, int], int | None]
    # of a recovery code as it was typed; None: it is none
    recovery_hash: Callable[[str], str | None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def confirmed(self, secret: bytes, entered: str) -> Factor:
        """Return a new authenticator app of *secret* that the code *entered* confirms, or raise WrongFactor."""
        now = self.now().replace(microsecond=0)
        step = self.matching_step(secret, entered, now, 0)
        if step is None:
            raise WrongFactor
        return Factor(secret=secret, since=now, step=step)

    def enrolled(
        self, credentials: Credentials, secret: bytes, entered: str, recovery: Sequence[str]
    ) -> Credentials:
        """Return the next generation, with an app as `confirmed` returns it, or raise WrongFactor.

        *recovery*: the hashes of its recovery codes, in place of those so far.
        """
        factor = self.confirmed(secret, entered)
        return renewed(replace(credentials, factor=factor), recovery)

    def use(self, credentials: Credentials, entered: str) -> Credentials:
        """Return the credentials after the use of a code, or raise WrongFactor."""
        factor, step = credentials.factor, None
        if factor:
            step = self.matching_step(factor.secret, entered, self.now(), factor.step)
        if step is not None:
            return credentials.used(step=step)
        spent = self.recovery_hash(entered)
        if credentials.wants_factor and spent in credentials.recovery:
            return credentials.used(spent=spent)
        raise WrongFactor


def given(
    accounts: Accounts,
    checked: Checked,
    use: Callable[[Credentials], Credentials],
    act: Callable[[Checked], Answer],
    used_by: CredentialsAction = CredentialsAction.FACTOR_USED,
    *,
    has_factor: bool = True,
) -> Answer:
    """Call *act*, a sign-in or a proof, with *checked* after the *use* of the factor, or of a way in that gave none (*has_factor*).

    Where the factor or a way in was used meanwhile, read the credentials and compare what was entered again.

    Raise RateLimited (a way in has changed meanwhile, or others go on using the factor), and the errors of *use* and *act*.
    """
    for _ in range(_MOST_TRIES):
        used = use(checked.credentials)
        try:
            after = replace(checked, has_factor=has_factor, used=used, used_by=used_by)
            return act(after)
        except FactorUsed:
            found = accounts.find(checked.credentials.address, NOT_COUNTED)
        stored, credentials = found.stored, found.credentials
        if not stored or not credentials or stored.generation != checked.stored.generation:
            break
        checked = replace(checked, stored=stored, credentials=credentials)
    raise RateLimited


def use_passkey(
    credentials: Credentials,
    credential_id: bytes,
    verify: Callable[[Passkey, bytes], Passkey],
) -> Credentials:
    """Return the credentials after the use of one of the passkeys that are asked for.

    *verify*: returns the passkey of a user handle after its use.

    Raise PasskeyMissing (the account has no such passkey, or asks for none), and the errors of *verify*.
    """
    passkeys = credentials.passkeys
    if passkeys is None or not passkeys.is_factor:
        raise PasskeyMissing
    used = verify(find(passkeys, credential_id), passkeys.user_handle)
    return credentials.passkey_used(used)


def renewed(credentials: Credentials, recovery: Sequence[str]) -> Credentials:
    """Return the next generation, with the hashes of new *recovery* codes. Raise WrongFactor if there is no factor."""
    if not credentials.wants_factor:
        raise WrongFactor
    return replace(credentials, recovery=tuple(recovery), generation=credentials.generation + 1)


def turned_off(credentials: Credentials) -> Credentials:
    """Return the next generation, without the authenticator app; an address that is taken back brings it back."""
    return replace(credentials, factor=None, generation=credentials.generation + 1)


def asking_passkey(credentials: Credentials, *, is_asked: bool) -> Credentials:
    """Return the next generation, in which a passkey is asked for after the password or a mailed code, or not.

    Raise PasskeyMissing if there is none to ask for.
    """
    passkeys = credentials.passkeys
    if passkeys is None or not passkeys.each:
        raise PasskeyMissing
    passkeys = replace(passkeys, is_factor=is_asked)
    return replace(credentials, passkeys=passkeys, generation=credentials.generation + 1)
