"""The deployment's rule that every account needs a second factor."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from services.caches import CachedRead
from services.store.accounts import AppSession, require_recent
from services.store.backend import SignUpState


@dataclass(frozen=True, slots=True)
class FactorRule:
    """Reads and sets the rule, for the admin of a session. Any thread may call any method. Non-admins get AdminsOnly."""

    session: AppSession = field(repr=False)
    cached: CachedRead[SignUpState] = field(repr=False)  # the state that this process applies
    # stops the live turns of the sessions in this process, as for `Devices`
    ending: Callable[[Callable[[AppSession], bool], float], AbstractContextManager[None]]
    longest_seconds: float = 5.0  # for the replies of the sessions to be stored before these end

    def is_required(self) -> bool:
        """Return True if every account needs a second factor, at most some seconds old."""
        return self.cached.get().requires_factor

    def require(self, *, is_on: bool) -> None:
        """Require a second factor of every account (*is_on*), which ends all sessions without one, or stop requiring it.

        The replies of these sessions in this process stop first, so that they are stored and settled; a sweep settles those of
        other processes.
        Raise ProofNeeded, FactorNeeded (the account of the admin has no second factor of its own).
        """
        own = self.session.id
        self._check()  # first, so that these refusals stop no turn
        with self.ending(lambda one: is_on and one.id != own, self.longest_seconds):
            self.session.backend.administration.require_factor(is_on=is_on)
        self.cached.outdate()

    def _check(self) -> None:
        """Raise AdminsOnly, ProofNeeded."""
        self.session.backend.administration.deployment()
        require_recent(self.session.backend)
