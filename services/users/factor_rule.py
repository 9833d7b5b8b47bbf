"""The deployment's rule that every account needs a second factor."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from services.caches import CachedRead
from services.store.accounts import AppSession, require_recent
from services.store.backend import SignUpState


@dataclass(frozen=True, slots=True)
class FactorRule:
    """Reads the rule, and lets an admin set it (other users get AdminsOnly). Any thread may call any method."""

    session: AppSession = field(repr=False)
    cached: CachedRead[SignUpState] = field(repr=False)  # the rule as this process last read it
    # stops the live turns of sessions in this process, as `Devices.ending` does
    ending: Callable[[Callable[[AppSession], bool], float], AbstractContextManager[None]]
    longest_seconds: float = 5.0  # the longest wait for replies to be stored before sessions end

    def is_required(self) -> bool:
        """Return True if every account needs a second factor, as it was at most a few seconds ago."""
        return self.cached.get().requires_factor

    def require(self, *, is_on: bool) -> None:
        """If *is_on*, require a second factor of every account, and end the sessions of accounts without one; else stop requiring it.

        The replies of all other sessions in this process are stopped first, so that they are stored and settled; a sweep
        settles the replies of ended sessions in other processes.
        Raise ProofNeeded, or FactorNeeded if the admin's account has no second factor.
        """
        own = self.session.id
        self._check()  # called first, so that a refusal stops no turn
        with self.ending(lambda one: is_on and one.id != own, self.longest_seconds):
            self.session.backend.administration.require_factor(is_on=is_on)
        self.cached.outdate()

    def _check(self) -> None:
        """Raise AdminsOnly unless the user is an admin, and ProofNeeded unless the user has given a recent proof."""
        self.session.backend.administration.deployment()
        require_recent(self.session.backend)
