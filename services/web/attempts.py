"""Protection against password guessing: throttles, device cookies, and one attempt at a time."""

import hmac
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4
from weakref import WeakValueDictionary

import anyio
from anyio.to_thread import run_sync

from services.caches import LruCache
from services.crypto import RootKeys
from services.daemon_threads import in_thread
from services.domain.addresses import EmailAddress
from services.errors import AppError, TooManyAttempts
from services.store.accounts import Reservation
from services.store.backend import Throttle
from services.users import Shared
from services.web.origin import networks_of

DEVICE_SECONDS = 90 * 86400
_QUARTER, _HOUR = 900, 3600  # windows in seconds
# seconds, longer than a password check, so that the time of an answer does not show if the address
# has an account
_SLOT_SECONDS = 0.4
_MOST_TRIED = 10_000
_MOST_BESIDE = 20  # reservations in parallel with their checks; others are made before the check


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt: the throttles that count it, and its queue. Sign-ups are counted even if they succeed."""

    throttles: tuple[Throttle, ...]
    queue: str = field(repr=False)
    is_sign_up: bool = False


@dataclass(frozen=True, slots=True)
class Attempts:
    """Throttled attempts to sign in or sign up.

    A device that has signed in to an account holds a signed cookie (OWASP's device cookies) and has its own
    throttle, so that guesses from elsewhere do not lock users out of their own devices. For the event loop's thread.
    """

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    root_keys: RootKeys
    # sign-ups from one network address; a setting, because for example a school class shares one
    sign_ups_an_hour: int
    tries_of_an_account: int = 10
    tries_of_an_address: int = 60
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    _queues: WeakValueDictionary[str, anyio.Lock] = field(
        default_factory=WeakValueDictionary[str, anyio.Lock], repr=False
    )
    _beside: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(_MOST_BESIDE), repr=False
    )
    # the time of the last attempt that is in progress or has failed, by bucket
    _tried: LruCache[str, float] = field(
        default_factory=lambda: LruCache[str, float](_MOST_TRIED), repr=False
    )

    def sign_up(self, email: EmailAddress, address: str) -> Attempt:
        """Return an attempt to create an account from the network address *address*."""
        throttles = self._of_networks("sign-up", address, self.sign_ups_an_hour, _HOUR)
        return Attempt(throttles, email, is_sign_up=True)

    def sign_in(self, email: EmailAddress, address: str, device: str) -> Attempt:
        """Return an attempt to sign in, counted by *address*, or by the device if its cookie *device* is known."""
        is_known = self._is_known(device, email)
        name = f"sign-in as {email}" + (f" on {device}" if is_known else "")
        of_account = self._throttle(name, self.tries_of_an_account)
        if is_known:
            return Attempt((of_account,), name)
        of_networks = self._of_networks("sign-in", address, self.tries_of_an_address)
        return Attempt((*of_networks, of_account), name)

    def device_cookie(self, email: EmailAddress) -> str:
        """Return a cookie for a device that has signed in to the account of exactly *email*."""
        fields = f"{int(time.time()) + DEVICE_SECONDS}.{secrets.token_hex(16)}"
        return f"{fields}.{self._device_tag(fields, email)}"

    @asynccontextmanager
    async def reserve(self, attempt: Attempt) -> AsyncGenerator[Reservation]:
        """Reserve *attempt* in its throttles, for a block that authenticates and then calls the yielded `Reservation`.

        Usually the reservation is made first. If no attempt in these throttles failed recently, the block begins at
        once; if the reservation is then refused, its error replaces any other.
        Each queue runs one block at a time, and a block ends a multiple of 400 ms after it began, so that the time of
        an answer does not show how long the check took, alone or behind others.
        Raise TooManyAttempts, StoreUnavailable.
        """
        began = self.clock()
        is_first = not attempt.is_sign_up and not any(map(self._was_tried, attempt.throttles))
        for throttle in attempt.throttles:
            self._tried.put(throttle.bucket, began)
        is_beside = is_first and self._beside.acquire(blocking=False)
        if is_beside:
            reserved = in_thread("throttle", lambda: self._reserve(attempt))
            reserved.add_done_callback(lambda _: self._beside.release())
        else:
            reserved = Future[tuple[str, ...]]()
            try:
                reserved.set_result(await run_sync(self._reserve, attempt))
            except AppError:
                await self._end_slot(began)
                raise
        async with self._queues.setdefault(attempt.queue, anyio.Lock()):
            began = self.clock()
            try:
                yield reserved.result
            except AppError:
                await run_sync(reserved.result)
                raise
            finally:
                await self._end_slot(began)
        for throttle in attempt.throttles:
            self._tried.drop(throttle.bucket)

    async def _end_slot(self, began: float) -> None:
        await self.sleep((began - self.clock()) % _SLOT_SECONDS)

    def _reserve(self, attempt: Attempt) -> tuple[str, ...]:
        """Reserve *attempt*; return the buckets that get it back if it succeeds. Raise as `reserve` does."""
        wait = self.shared().backend.throttle(attempt.throttles, uuid4())
        if wait is not None:
            raise TooManyAttempts(wait)
        if attempt.is_sign_up:
            return ()
        return tuple(throttle.bucket for throttle in attempt.throttles)

    def _was_tried(self, throttle: Throttle) -> bool:
        tried_at = self._tried.get(throttle.bucket)
        return tried_at is not None and self.clock() - tried_at < throttle.seconds

    def _of_networks(
        self, what: str, address: str, at_most: int, seconds: int = _QUARTER
    ) -> tuple[Throttle, ...]:
        """Return a throttle of *what* for each network of *address*, limited to *at_most* times its `addresses`."""
        return tuple(
            self._throttle(f"{what} from {network.name}", at_most * network.addresses, seconds)
            for network in networks_of(address)
        )

    def _throttle(self, name: str, at_most: int, seconds: int = _QUARTER) -> Throttle:
        return Throttle(self.root_keys.bucket(name), at_most, seconds)

    def _is_known(self, device: str, email: EmailAddress) -> bool:
        fields, _, tag = device.rpartition(".")
        is_ours = hmac.compare_digest(tag.encode(), self._device_tag(fields, email).encode())
        return is_ours and int(fields.partition(".")[0]) > time.time()

    def _device_tag(self, fields: str, email: EmailAddress) -> str:
        return self.root_keys.device_tag(f"{fields}.{email}")
