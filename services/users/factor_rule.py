"""The rule of a deployment that every account needs a second factor: reading and changing it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from services.caches import CachedRead
from services.store.accounts import AppSession, require_recent
from services.store.backend import SignUpState


@dataclass(frozen=True, slots=True)
class FactorRule:
    """Reads the rule that every account needs a second factor. Admins may change it; for others, a change raises AdminsOnly.

    Any thread may call any method.
    """

    session: AppSession = field(repr=False)
    cached: CachedRead[SignUpState] = field(repr=False)  # the cached read of the rule
    # `Shared.ending` with an admin as the cause: stops live turns before their sessions end; see `Devices.ending`
    ending: Callable[[Callable[[AppSession], bool], float], AbstractContextManager[None]]
    # the longest wait until replies are stored, before the sessions end
    longest_seconds: float = 5.0

    def is_required(self) -> bool:
        """Return True if every account needs a second factor, as read at most a few seconds ago."""
        return self.cached.get().requires_factor

    def require(self, *, is_on: bool) -> None:
        """Switch the rule on or off. Switching it on ends the sessions of accounts that have no second factor.

        Before that, the replies of all other sessions in this process are stopped, stored and settled; a sweep settles the
        replies of ended sessions in other processes.
        Raise ProofNeeded if the admin has given no recent proof, FactorNeeded if their account has no second factor.
        """
        own = self.session.id
        self._check()  # checked first, so that no turn is stopped if the check raises an error
        with self.ending(lambda one: is_on and one.id != own, self.longest_seconds):
            self.session.backend.administration.require_factor(is_on=is_on)
        self.cached.outdate()

    def _check(self) -> None:
        """Raise AdminsOnly if the user is no admin, and ProofNeeded if the session has no recent proof."""
        self.session.backend.administration.deployment()
        require_recent(self.session.backend)
