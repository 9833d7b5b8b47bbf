"""Fair shares of a process's script runs: a run waits until the budgets of its tab and of its user or network allow it.

A run takes some 50 ms of Python's one lock, so a process draws some 20 pages a second for all users. Each budget is a token
bucket of CPU seconds: it refills at a share of one core, up to a burst, and each run is charged what its thread uses, while
it uses it. A run that follows a reply waits between two drawings, too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, get_ident

from services.caches import LruCache

# a run that has gone on for longer, and uses a smaller part of a core, waits for something, and does not count as one at once
_LONG_SECONDS, _WAITING = 1.0, 0.1
_HALF_LIFE_SECONDS = 30.0  # half-life of a use
_MOST_LATELY = 1.0  # CPU seconds that were used lately: a budget of which so much was used gets nothing of what is kept
_TICK = 0.001  # seconds that are not waited for
# between two looks whether the run's tab is gone, and whether a busy run waits by now
_MOST_WAIT_SECONDS = 0.5
# budgets that are kept: the least recently used is full again long before so many others have begun runs
_MOST_KNOWN = 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """The size of a budget: *share* of one core, *burst* in CPU seconds, and runs *at_once*."""

    share: float
    burst: float
    at_once: int
    kept: float = 0.0  # of the burst: for smaller budgets of which little was used lately


TAB = Share(0.4, 1.5, 1)
USER = Share(0.4, 1.5, 2)
NETWORK = Share(0.15, 1.0, 1)  # of tabs without a session
# all tabs without a session; without *kept*, a new visitor would wait behind all tabs of two busy networks
STRANGERS = Share(0.25, 1.5, 1, 0.75)


def thread_clock() -> Callable[[], float]:
    """Return the clock of the CPU seconds of this thread; in other threads, it may show the time when it was last read in this."""
    thread, read = get_ident(), time.thread_time()
    if hasattr(time, "pthread_getcpuclockid"):
        clock = time.pthread_getcpuclockid(thread)
        return lambda: time.clock_gettime(clock)

    def read_or_last() -> float:
        nonlocal read
        if get_ident() == thread:
            read = time.thread_time()
        return read

    return read_or_last


@dataclass(slots=True, eq=False)
class _Run:
    begun_at: float
    clock: Callable[[], float]  # of its thread
    before: float  # the CPU seconds of its thread when it began
    # true: it waits between two drawings until its budgets allow the next one
    is_following: bool = False

    @property
    def used(self) -> float:
        return self.clock() - self.before

    def is_busy(self, now: float) -> bool:
        seconds = now - self.begun_at
        is_waiting = seconds >= _LONG_SECONDS and self.used <= _WAITING * seconds
        return not (self.is_following or is_waiting)


@dataclass(slots=True)
class _Budget:
    size: Share
    left: float  # CPU seconds; negative: used beforehand
    at: float  # the time for which *left* is right
    lately: float = 0.0  # CPU seconds that were used, less for those used longer ago
    runs: dict[_Run, float] = field(default_factory=dict[_Run, float])  # with what each was charged

    def charge(self, now: float) -> None:
        """Refill the budget, and charge what its runs have used, both since the last call."""
        used = 0.0
        for run, charged in self.runs.items():
            self.runs[run] = run.used
            used += self.runs[run] - charged
        passed, self.at = now - self.at, now
        self.left = min(self.size.burst, self.left + passed * self.size.share - used)
        self.lately = self.lately * 0.5 ** (passed / _HALF_LIFE_SECONDS) + used

    def wait_seconds(self, least: float = 0.0) -> float:
        """Return the seconds until *least* CPU seconds are left."""
        return max(0.0, (least - self.left) / self.size.share)


def _wait_seconds(budgets: list[_Budget], now: float, *, is_begun: bool) -> float:
    """Return the seconds until all *budgets*, the smallest first, allow a run to begin or to go on; 0: at once."""
    wait, lately = 0.0, 0.0
    for budget in budgets:
        budget.charge(now)
        wait = max(wait, budget.wait_seconds(budget.size.kept * min(1.0, lately / _MOST_LATELY)))
        lately = budget.lately
        if not is_begun and sum(run.is_busy(now) for run in budget.runs) >= budget.size.at_once:
            wait = max(wait, _MOST_WAIT_SECONDS)
    return wait


@dataclass(frozen=True, slots=True)
class BegunRun:
    """Functions that only the thread of the run may call."""

    end: Callable[[], None]
    # for a run that follows a reply: waits until its budgets allow the next drawing, or a function returns True
    go_on: Callable[[Callable[[], bool]], None]


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

    def begin(self, tab: str, user_id: str, network: str, is_gone: Callable[[], bool]) -> BegunRun:
        """Wait until a run of *tab* may begin in this thread, or *is_gone*; return the run.

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
            self._wait(budgets, is_gone, is_begun=False)
            clock = self._cpu_clock()
            run = _Run(self._clock(), clock, clock())
            for budget in budgets:
                budget.runs[run] = 0.0

        def go_on(is_gone: Callable[[], bool]) -> None:
            with self._changed:
                if not run.is_following:
                    run.is_following = True
                    self._changed.notify_all()
                self._wait(budgets, is_gone, is_begun=True)

        def end() -> None:
            with self._changed:
                for budget in budgets:
                    budget.charge(self._clock())
                    del budget.runs[run]
                self._changed.notify_all()

        return BegunRun(end, go_on)

    def _wait(self, budgets: list[_Budget], is_gone: Callable[[], bool], *, is_begun: bool) -> None:
        while (wait := _wait_seconds(budgets, self._clock(), is_begun=is_begun)) > _TICK:
            if is_gone():
                break
            self._changed.wait(min(wait, _MOST_WAIT_SECONDS))

    def _budget(self, name: str, size: Share, now: float) -> _Budget:
        """Return the budget of *name*, which is full if it is new."""
        budget = self._budgets.get(name)
        if budget is None:
            budget = _Budget(size, size.burst, now)
            self._budgets.put(name, budget)
        return budget
