"""Lanes: the threads that hash passwords, and the order in which attempts to sign in or sign up get a thread.

A hash takes a core for about 0.2 s and 64 MiB of memory (services/crypto/password_hash.py). So only a few run at the
same time, each in its own thread with a low priority, and the other attempts wait as coroutines.
"""

import asyncio
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from services.daemon_threads import in_thread
from services.domain import UserId
from services.errors import RateLimited

Answer = TypeVar("Answer")

_MOST_LANES = 8
_PATIENCE_SECONDS = 20.0
# maximum number of attempts from one user's known devices that wait at the same time
_MOST_WAITING = 5
# maximum number of known devices that get a lane in a row while an unknown device waits
_KNOWN_IN_A_ROW = 3
_NICENESS = 10  # niceness of a hashing thread, so that replies and pages take precedence


def lane_count() -> int:
    """Return half the number of cores that this process may use, at least 1 and at most 8."""
    has_affinity = hasattr(os, "sched_getaffinity")  # False on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(max(1, cores // 2), _MOST_LANES)


@dataclass(slots=True, eq=False, repr=False)
class _Waiter:
    """A sign-in or sign-up attempt that waits for a lane (a hashing thread). Use it only in the event loop's thread."""

    client: str
    # the user whose known device makes the attempt; None: the device is unknown
    user_id: UserId | None
    entered: anyio.Event = field(default_factory=anyio.Event)

    @property
    def is_known(self) -> bool:
        return self.user_id is not None


@dataclass(slots=True, repr=False)
class HashingLanes:
    """A pool of threads that hash passwords, shared fairly between clients. Use it only in the event loop's thread."""

    lanes: int = field(default_factory=lane_count)
    # seconds that an unknown device may wait; devices that have signed in to the account wait without a limit
    patience_seconds: float = _PATIENCE_SECONDS
    _waiting: list[_Waiter] = field(default_factory=list[_Waiter], init=False)
    # number of busy lanes of each client
    _busy: Counter[str] = field(default_factory=Counter[str], init=False)
    # number of known devices that have got a lane since an unknown device last got one
    _known_in_a_row: int = field(default=0, init=False)

    async def run(
        self, work: Callable[[], Answer], *, client: str, user_id: UserId | None = None
    ) -> Answer:
        """Return the result of *work*, which runs in a lane as soon as one is free.

        *user_id*: the user whose known device makes the attempt; None: an unknown device makes it.

        Known devices come first, then attempts in their order of arrival; but after three known devices an unknown
        device gets a lane, because one user could otherwise keep all strangers out. One *client* has at most half
        of the lanes, but at least one lane. Raise RateLimited if an unknown device has waited for 20 seconds, or if
        five attempts from known devices of the user are already waiting. Also raise the errors of *work*.
        """
        waiter = _Waiter(client, user_id)
        waiting = sum(one.user_id == user_id for one in self._waiting)
        if waiter.is_known and waiting >= _MOST_WAITING:
            raise RateLimited
        self._waiting.append(waiter)
        self._fill()
        try:
            with anyio.move_on_after(math.inf if waiter.is_known else self.patience_seconds):
                await waiter.entered.wait()
            if not waiter.entered.is_set():
                raise RateLimited
        except BaseException:  # the wait was too long, or the request was cancelled
            self._leave(waiter)
            raise
        # runs in a separate task: the thread continues after its request is cancelled, and must keep its lane
        return await asyncio.shield(asyncio.ensure_future(self._hash(waiter, work)))

    async def _hash(self, waiter: _Waiter, work: Callable[[], Answer]) -> Answer:
        def hash_behind_others() -> Answer:
            if sys.platform == "linux":  # on other systems, a thread cannot have its own priority
                # only root may lower the niceness, so the process's niceness is the minimum
                niceness = max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
            return work()

        try:
            return await asyncio.wrap_future(in_thread("hash", hash_behind_others))
        finally:
            self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        """Free the lane of *waiter*, or remove *waiter* from the queue if it has no lane."""
        if waiter.entered.is_set():
            self._busy[waiter.client] -= 1
            self._busy = +self._busy  # removes clients that have no lane
            self._fill()
        else:
            self._waiting.remove(waiter)

    def _fill(self) -> None:
        """Give the free lanes to waiting attempts."""
        of_a_client = max(1, self.lanes // 2)
        while self._busy.total() < self.lanes:
            able = [each for each in self._waiting if self._busy[each.client] < of_a_client]
            if not able:
                return
            waiter = min(
                able, key=lambda each: each.is_known == (self._known_in_a_row >= _KNOWN_IN_A_ROW)
            )
            self._known_in_a_row = self._known_in_a_row + 1 if waiter.is_known else 0
            self._waiting.remove(waiter)
            self._busy[waiter.client] += 1
            waiter.entered.set()
