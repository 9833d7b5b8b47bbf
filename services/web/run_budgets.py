"""Fair shares of a process's script runs: a run waits until the budgets of its tab and of its user or network allow it.

A run takes some 50 ms of Python's one lock, so a process draws some 20 pages a second for all users. Each budget is a token
bucket of CPU seconds: it refills at a share of one core, up to a burst, and each run is charged what its thread used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, get_ident

from services.caches import LruCache

# a run that goes on for longer may follow a reply; no run is charged more CPU seconds
_LONG_SECONDS = 1.0
_FOLLOWING = 0.1  # a long run that uses a smaller part of a core follows a reply, and does not count as one at once
_USUAL_SECONDS = 0.05  # assumed use of a run while nothing is known of the runs before it
_LEARNING = 0.2  # weight of a run's use in the expected use of the next one
_TICK = 0.001  # seconds that are not waited for
# between two looks whether the run's tab is gone, and whether a run follows a reply by now
_MOST_WAIT_SECONDS = 0.5
# budgets that are kept: the least recently used is full again long before so many others have begun runs
_MOST_KNOWN = 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """The size of a budget: *share* of one core, *burst* in CPU seconds, and runs *at_once*."""

    share: float
    burst: float
    at_once: int


TAB = Share(0.4, 1.5, 1)
USER = Share(0.4, 1.5, 2)
NETWORK = Share(0.15, 1.0, 1)  # of tabs without a session
STRANGERS = Share(0.25, 1.5, 1)  # all tabs without a session


def thread_clock() -> Callable[[], float]:
    """Return the clock of the CPU seconds of this thread, which other threads may read where the system lets them."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.thread_time
    clock = time.pthread_getcpuclockid(get_ident())
    return lambda: time.clock_gettime(clock)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    begun_at: float
    clock: Callable[[], float]  # of its thread
    before: float  # the CPU seconds of its thread when it began

    @property
    def used(self) -> float:
        return self.clock() - self.before

    def is_busy(self, now: float) -> bool:
        """Return False for a run that follows a reply."""
        seconds = now - self.begun_at
        return seconds < _LONG_SECONDS or self.used > _FOLLOWING * seconds


@dataclass(slots=True)
class _Budget:
    size: Share
    left: float  # CPU seconds; negative: used beforehand
    at: float  # the time for which *left* is right
    expected: float = _USUAL_SECONDS
    runs: list[_Run] = field(default_factory=list[_Run])

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a run may begin; 0: at once."""
        self.left = min(self.size.burst, self.left + (now - self.at) * self.size.share)
        self.at = now
        if sum(run.is_busy(now) for run in self.runs) >= self.size.at_once:
            return _MOST_WAIT_SECONDS
        return max(0.0, -self.left / self.size.share)

    def begin(self, run: _Run) -> float:
        """Return the CPU seconds that are reserved for *run*."""
        self.runs.append(run)
        self.left -= self.expected
        return self.expected

    def end(self, run: _Run, reserved: float, used: float) -> None:
        self.runs.remove(run)
        self.left += reserved - used
        self.expected += _LEARNING * (used - self.expected)


class RunBudgets:
    """The budgets of all tabs, users and networks of a process. Any thread may call any method."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        changed: Condition | None = None,
        cpu_clock: Callable[[], Callable[[], float]] = thread_clock,
    ) -> None:
        self._clock, self._changed, self._cpu_clock = clock, changed or Condition(), cpu_clock
        self._budgets = LruCache[str, _Budget](_MOST_KNOWN)

    @property
    def known(self) -> int:
        """The number of budgets that are kept."""
        return len(self._budgets.items())

    def begin(
        self, tab: str, user_id: str, network: str, is_gone: Callable[[], bool]
    ) -> Callable[[], None]:
        """Wait until a run of *tab* may begin in this thread, or *is_gone*; return a function that ends the run.

        *user_id*: "" for a tab without a session, whose *network* is charged instead.
        """
        owners = {f"user {user_id}": USER}
        if not user_id:
            owners = {f"network {network}": NETWORK, "strangers": STRANGERS}
        with self._changed:
            now = self._clock()
            budgets = [
                self._budget(name, size, now)
                for name, size in ({f"tab {tab}": TAB} | owners).items()
            ]
            while (wait := max(budget.wait_seconds(now) for budget in budgets)) > _TICK:
                if is_gone():
                    break
                self._changed.wait(min(wait, _MOST_WAIT_SECONDS))
                now = self._clock()
            clock = self._cpu_clock()
            run = _Run(now, clock, clock())
            reserved = [budget.begin(run) for budget in budgets]

        def end() -> None:
            used = min(run.used, _LONG_SECONDS)
            with self._changed:
                for budget, seconds in zip(budgets, reserved, strict=True):
                    budget.end(run, seconds, used)
                self._changed.notify_all()

        return end

    def _budget(self, name: str, size: Share, now: float) -> _Budget:
        """Return the budget of *name*, which is full if it is new."""
        budget = self._budgets.get(name)
        if budget is None:
            budget = _Budget(size, size.burst, now)
            self._budgets.put(name, budget)
        return budget
