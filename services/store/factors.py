"""The second factor of an account, on any store: its enrolment, and its use with a code or a passkey.

Each use of an authenticator-app code (TOTP), a recovery code or a passkey changes the credentials. The new credentials
are stored together with the session or proof that they allow. If another use was stored meanwhile, the code is compared
again, with the newer credentials. So each code is usable only once, even for simultaneous callers.
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
# maximum attempts to use one code; an attempt fails if a concurrent use is stored first
_MOST_TRIES = 10


@dataclass(frozen=True, slots=True)
class Factors:
    """Enrols factors, and checks the codes that are entered. Any thread may call any method."""

    # returns the time step of a code, or None if the code is wrong or its time step is not newer than the last used one;
    # arguments: secret, code, time, last used time step
    matching_step: Callable[[bytes, str, datetime, int], int | None]
    # returns the hash of a typed recovery code, or None if the text is not a recovery code
    recovery_hash: Callable[[str], str | None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def confirmed(self, secret: bytes, entered: str) -> Factor:
        """Return a new authenticator app with *secret*, confirmed by the code *entered*. Raise WrongFactor if it is wrong."""
        now = self.now().replace(microsecond=0)
        step = self.matching_step(secret, entered, now, 0)
        if step is None:
            raise WrongFactor
        return Factor(secret=secret, since=now, step=step)

    def enrolled(
        self, credentials: Credentials, secret: bytes, entered: str, recovery: Sequence[str]
    ) -> Credentials:
        """Return the next generation of *credentials*, with a new authenticator app. Raise WrongFactor as `confirmed` does.

        *recovery*: the hashes of the recovery codes that replace the old ones.
        """
        factor = self.confirmed(secret, entered)
        return renewed(replace(credentials, factor=factor), recovery)

    def use(self, credentials: Credentials, entered: str) -> Credentials:
        """Return the credentials after the use of the code *entered*. Raise WrongFactor if it is wrong or already used."""
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
    """Apply *use* (of a factor, passkey or identity) to the credentials, then return the result of *act* (a sign-in or proof).

    *has_factor*: the use counts as a second factor. If another use was stored meanwhile, read the credentials and repeat *use*.

    Raise RateLimited (a sign-in method changed meanwhile, or each of ten attempts failed because of a concurrent use),
    and the errors of *use* and *act*.
    """
    for _ in range(_MOST_TRIES):
        used = use(checked.credentials)
        is_recovery = len(used.recovery) < len(checked.credentials.recovery)
        by = CredentialsAction.RECOVERY_USED if is_recovery else used_by
        try:
            after = replace(checked, has_factor=has_factor, used=used, used_by=by)
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
    """Return the credentials after a passkey was used as the second factor.

    *verify*: takes the passkey and the user handle, and returns the passkey after its use.

    Raise PasskeyMissing (the account has no such passkey, or its passkeys are not a second factor), and the errors of *verify*.
    """
    passkeys = credentials.passkeys
    if passkeys is None or not passkeys.is_factor:
        raise PasskeyMissing
    used = verify(find(passkeys, credential_id), passkeys.user_handle)
    return credentials.passkey_used(used)


def renewed(credentials: Credentials, recovery: Sequence[str]) -> Credentials:
    """Return the next generation of *credentials*, with new *recovery* hashes. Raise WrongFactor if there is no factor."""
    if not credentials.wants_factor:
        raise WrongFactor
    return replace(credentials, recovery=tuple(recovery), generation=credentials.generation + 1)


def turned_off(credentials: Credentials) -> Credentials:
    """Return the next generation of *credentials*, without the app; taking back a former address restores the app."""
    return replace(credentials, factor=None, generation=credentials.generation + 1)


def asking_passkey(credentials: Credentials, *, is_asked: bool) -> Credentials:
    """Return the next generation of *credentials*; *is_asked*: sign-ins require a passkey as the second factor from then on.

    Raise PasskeyMissing if the account has no passkey.
    """
    passkeys = credentials.passkeys
    if passkeys is None or not passkeys.each:
        raise PasskeyMissing
    passkeys = replace(passkeys, is_factor=is_asked)
    return replace(credentials, passkeys=passkeys, generation=credentials.generation + 1)
