"""The brakes on guessing passwords: throttles, device cookies, and one attempt at a time."""

import hmac
import secrets
import time
import unicodedata
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4
from weakref import WeakValueDictionary

import anyio
from anyio.to_thread import run_sync

from services.crypto import RootKeys
from services.errors import AppError, StoreUnavailable, TooManyAttempts
from services.store.supabase.api import ServerCalls

DEVICE_SECONDS = 90 * 86400
_QUARTER, _HOUR = 900, 3600  # seconds
_SLOT_SECONDS = 0.4  # longer than a check takes, so that a known address answers no later


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How often one may try. Sign-ups from one address are an operator's choice: a class shares one."""

    sign_ups_an_hour: int
    tries_of_an_account: int = 10
    tries_of_an_address: int = 60


@dataclass(frozen=True, slots=True)
class _Throttle:
    counted: str
    at_most: int
    seconds: int
    is_given_back: bool = True  # after a success


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt counts against, and the queue that it waits in."""

    throttles: tuple[_Throttle, ...]
    queue: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """Throttled attempts to sign in and up.

    A device that has signed in to an account holds a signed cookie (OWASP's device cookies) and has a throttle of
    its own for it, so that strangers who guess lock nobody out of their own devices.
    """

    server: Callable[[], ServerCalls]
    root_keys: RootKeys
    limits: AttemptLimits
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    _queues: WeakValueDictionary[str, anyio.Lock] = field(
        default_factory=WeakValueDictionary[str, anyio.Lock], repr=False
    )

    def sign_up(self, email: str, address: str) -> Attempt:
        """An attempt to make an account from the network address *address*."""
        from_address = _Throttle(
            f"sign-up from {address}", self.limits.sign_ups_an_hour, _HOUR, is_given_back=False
        )
        return Attempt((from_address,), _folded(email))

    def sign_in(self, email: str, address: str, device: str) -> Attempt:
        """An attempt to sign in, from *address* or from the known device of the cookie *device*."""
        counted = f"sign-in as {_folded(email)}"
        throttles = [
            _Throttle(f"sign-in from {address}", self.limits.tries_of_an_address, _QUARTER)
        ]
        if self._is_known(device, email):
            counted, throttles = f"{counted} on {device}", []
        throttles.append(_Throttle(counted, self.limits.tries_of_an_account, _QUARTER))
        return Attempt(tuple(throttles), counted)

    def device_cookie(self, email: str) -> str:
        """A cookie for a device that has signed in to the account of *email*."""
        fields = f"{int(time.time()) + DEVICE_SECONDS}.{secrets.token_hex(16)}"
        return f"{fields}.{self._device_tag(fields, email)}"

    @asynccontextmanager
    async def reserved(self, attempt: Attempt) -> AsyncGenerator[None]:
        """Reserve *attempt* in its throttles; give it back if the block succeeds.

        One block at a time runs in a queue, and ends at a multiple of 400 ms after it began: how long a check takes,
        alone or behind others, is not told. Raise TooManyAttempts, StoreUnavailable.
        """
        began = self.clock()
        try:
            for throttle in attempt.throttles:
                await run_sync(self._reserve, throttle)
        except AppError:
            await self._slot(began)
            raise
        async with self._queues.setdefault(attempt.queue, anyio.Lock()):
            began = self.clock()
            try:
                yield
                await run_sync(self._give_back, attempt)
            finally:
                await self._slot(began)

    async def _slot(self, began: float) -> None:
        await self.sleep((began - self.clock()) % _SLOT_SECONDS)

    def _reserve(self, throttle: _Throttle) -> None:
        answer = self.server().call(
            "throttle",
            counted=self.root_keys.bucket(throttle.counted),
            at_most=throttle.at_most,
            window_seconds=throttle.seconds,
            nonce=uuid4(),
        )
        if not answer.ok:
            fields = answer.model_extra or {}
            raise TooManyAttempts(int(fields.get("retry_after", throttle.seconds)))

    def _give_back(self, attempt: Attempt) -> None:
        with suppress(StoreUnavailable):  # signed in all the same
            for throttle in attempt.throttles:
                if throttle.is_given_back:
                    bucket = self.root_keys.bucket(throttle.counted)
                    self.server().call("return_attempt", counted=bucket, nonce=uuid4())

    def _is_known(self, device: str, email: str) -> bool:
        fields, _, tag = device.rpartition(".")
        is_ours = hmac.compare_digest(tag.encode(), self._device_tag(fields, email).encode())
        return is_ours and int(fields.partition(".")[0]) > time.time()

    def _device_tag(self, fields: str, email: str) -> str:
        return self.root_keys.device_tag(f"{fields}.{_folded(email)}")


def _folded(email: str) -> str:
    """*email* as no server folds it further: some read "\u0130" as "i", which would be ten more tries."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", email).casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
