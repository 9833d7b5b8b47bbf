"""Fair shares of a process's script runs: a run waits until the budgets of its tab and of its user or network allow it.

A run takes some 50 ms of Python's one lock, so a process draws some 20 pages a second for all users. Each budget is a token
bucket of CPU seconds: it refills at a share of one core, up to a burst, and each run is charged what its thread used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition

_LONG_SECONDS = 1.0  # a run that takes longer follows a reply: it no longer counts as one at once, and is charged no more
_USUAL_SECONDS = 0.05  # assumed use of a run while nothing is known of the runs before it
_LEARNING = 0.2  # weight of a run's use in the expected use of the next one
_TICK = 0.001  # seconds that are not waited for
_MOST_WAIT_SECONDS = 0.5  # between two looks whether the run's tab is gone
_MOST_KNOWN = 1_000  # budgets that are kept before those that are full are dropped


@dataclass(frozen=True, slots=True)
class Share:
    """The size of a budget: *share* of one core, *burst* in CPU seconds, and runs *at_once*."""

    share: float
    burst: float
    at_once: int


TAB = Share(0.4, 3.0, 1)
USER = Share(0.5, 4.0, 2)
NETWORK = Share(0.15, 1.5, 1)  # of tabs without a session
STRANGERS = Share(0.25, 3.0, 1)  # all tabs without a session


@dataclass(slots=True)
class _Budget:
    size: Share
    left: float  # CPU seconds; negative: used beforehand
    at: float  # the time for which *left* is right
    expected: float = _USUAL_SECONDS
    begun: list[float] = field(default_factory=list[float])  # the beginnings of the runs that go on

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a run may begin; 0: at once."""
        self._refill(now)
        short = [at for at in self.begun if now - at < _LONG_SECONDS]
        if len(short) >= self.size.at_once:
            return _LONG_SECONDS + min(short) - now
        return max(0.0, -self.left / self.size.share)

    def reserve(self, now: float) -> float:
        """Begin a run, and return the CPU seconds that are reserved for it."""
        self.begun.append(now)
        self.left -= self.expected
        return self.expected

    def charge(self, begun_at: float, reserved: float, used: float) -> None:
        """End a run."""
        charged = min(used, _LONG_SECONDS)
        self.begun.remove(begun_at)
        self.left += reserved - charged
        self.expected += _LEARNING * (charged - self.expected)

    def is_full(self, now: float) -> bool:
        self._refill(now)
        return not self.begun and self.left >= self.size.burst

    def _refill(self, now: float) -> None:
        self.left = min(self.size.burst, self.left + (now - self.at) * self.size.share)
        self.at = now


class RunBudgets:
    """The budgets of all tabs, users and networks of a process. Any thread may call any method."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, changed: Condition | None = None
    ) -> None:
        self._clock, self._changed = clock, changed or Condition()
        self._budgets: dict[str, _Budget] = {}

    @property
    def known(self) -> int:
        """The number of budgets that are kept."""
        return len(self._budgets)

    def begin(
        self, tab: str, user_id: str, network: str, is_gone: Callable[[], bool]
    ) -> Callable[[float], None]:
        """Wait until a run of *tab* may begin, or *is_gone*; return a function to call with the CPU seconds that it used.

        *user_id*: "" for a tab without a session, whose *network* is charged instead.
        """
        owners = {f"user {user_id}": USER} if user_id else {f"at {network}": NETWORK, "": STRANGERS}
        with self._changed:
            now = self._clock()
            budgets = [
                self._budgets.setdefault(name, _Budget(size, size.burst, now))
                for name, size in ({f"tab {tab}": TAB} | owners).items()
            ]
            while (wait := max(budget.wait_seconds(now) for budget in budgets)) > _TICK:
                if is_gone():
                    break
                self._changed.wait(min(wait, _MOST_WAIT_SECONDS))
                now = self._clock()
            reserved = [budget.reserve(now) for budget in budgets]

        def end(used: float) -> None:
            with self._changed:
                for budget, seconds in zip(budgets, reserved, strict=True):
                    budget.charge(now, seconds, used)
                if len(self._budgets) > _MOST_KNOWN:
                    self._drop_full()
                self._changed.notify_all()

        return end

    def _drop_full(self) -> None:
        now = self._clock()
        self._budgets = {
            name: budget for name, budget in self._budgets.items() if not budget.is_full(now)
        }
