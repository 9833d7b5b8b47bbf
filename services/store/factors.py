"""The second factor of an account, on any store: its enrolment, and its use by a code.

A code of the authenticator (TOTP) or a recovery code makes new credentials out of those that it was compared with. They are
stored with the session or the proof that begins by it, if no other use was stored meanwhile; else the code is compared
again with what is stored then, so that each is good once, also for several at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from services.crypto import Credentials, Factor
from services.errors import FactorUsed, RateLimited, WrongFactor
from services.store.accounts import Accounts, Checked
from services.store.backend import NOT_COUNTED

Answer = TypeVar("Answer")
_MOST_TRIES = 10  # of one code, while others use the factor


@dataclass(frozen=True, slots=True)
class Factors:
    """Enrols factors and compares codes. Any thread may call any method."""

    # the time step of a code by a secret at a time, if it is newer than another step; else None
    matching_step: Callable[[bytes, str, datetime, int], int | None]
    recovery_hash: Callable[
        [str], str | None
    ]  # of a recovery code as it was typed; None: it is none
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def confirmed(self, secret: bytes, entered: str, recovery: Sequence[str]) -> Factor:
        """Return a new factor of *secret* that the code *entered* confirms, or raise WrongFactor.

        *recovery*: the hashes of its recovery codes.
        """
        now = self.now().replace(microsecond=0)
        step = self.matching_step(secret, entered, now, 0)
        if step is None:
            raise WrongFactor
        return Factor(secret=secret, since=now, step=step, recovery=tuple(recovery))

    def enrolled(
        self, credentials: Credentials, secret: bytes, entered: str, recovery: Sequence[str]
    ) -> Credentials:
        """Return the next generation, with a factor as `confirmed` returns it, or raise WrongFactor."""
        factor = self.confirmed(secret, entered, recovery)
        return replace(credentials, factor=factor, generation=credentials.generation + 1)

    def use(self, credentials: Credentials, entered: str) -> Credentials:
        """Return the credentials after the use of a code, or raise WrongFactor."""
        factor = credentials.factor
        if factor is None:
            raise WrongFactor
        step = self.matching_step(factor.secret, entered, self.now(), factor.step)
        if step is not None:
            return credentials.used(step=step)
        if (spent := self.recovery_hash(entered)) in factor.recovery:
            return credentials.used(spent=spent)
        raise WrongFactor

    def given(
        self,
        accounts: Accounts,
        checked: Checked,
        entered: str,
        act: Callable[[Checked], Answer],
    ) -> Answer:
        """Call *act*, a sign-in or a proof, with *checked* after the use of a code.

        Where the factor was used meanwhile, read the credentials and compare the code again.

        Raise WrongFactor, RateLimited (a way in has changed meanwhile, or others go on using the factor), and the errors
        of *act*.
        """
        for _ in range(_MOST_TRIES):
            used = self.use(checked.credentials, entered)
            try:
                return act(replace(checked, has_factor=True, used=used))
            except FactorUsed:
                found = accounts.find(checked.credentials.address, NOT_COUNTED)
            stored, credentials = found.stored, found.credentials
            if not stored or not credentials or stored.generation != checked.stored.generation:
                break
            checked = replace(checked, stored=stored, credentials=credentials)
        raise RateLimited


def renewed(credentials: Credentials, recovery: Sequence[str]) -> Credentials:
    """Return the next generation, with the hashes of new *recovery* codes. Raise WrongFactor if there is no factor."""
    if credentials.factor is None:
        raise WrongFactor
    factor = replace(credentials.factor, recovery=tuple(recovery))
    return replace(credentials, factor=factor, generation=credentials.generation + 1)


def turned_off(credentials: Credentials) -> Credentials:
    """Return the next generation, without a factor; an address that is taken back brings it back."""
    return replace(credentials, factor=None, generation=credentials.generation + 1)
