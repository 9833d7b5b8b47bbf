"""Protection against guessing passwords: throttles, device cookies, and one attempt at a time."""

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
class _Throttle:
    name: str
    at_most: int
    seconds: int
    is_returned: bool = True  # after a success


@dataclass(frozen=True, slots=True)
class Attempt:
    """The throttles that an attempt counts in, and its queue."""

    throttles: tuple[_Throttle, ...]
    queue: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """Throttled attempts to sign in and up.

    A device that has signed in to an account holds a signed cookie (OWASP's device cookies) and has its own
    throttle, so that guesses from elsewhere do not lock users out of their own devices.
    """

    server: Callable[[], ServerCalls]
    root_keys: RootKeys
    sign_ups_an_hour: int  # from one address; an operator's choice, as a school class shares one
    tries_of_an_account: int = 10
    tries_of_an_address: int = 60
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    _queues: WeakValueDictionary[str, anyio.Lock] = field(
        default_factory=WeakValueDictionary[str, anyio.Lock], repr=False
    )

    def sign_up(self, email: str, address: str) -> Attempt:
        """An attempt to create an account from the network address *address*."""
        name, at_most = f"sign-up from {address}", self.sign_ups_an_hour
        return Attempt((_Throttle(name, at_most, _HOUR, is_returned=False),), _folded(email))

    def sign_in(self, email: str, address: str, device: str) -> Attempt:
        """An attempt to sign in, from *address* or from the known device of the cookie *device*."""
        name, tries = f"sign-in as {_folded(email)}", self.tries_of_an_account
        if self._is_known(device, email):
            name = f"{name} on {device}"
            return Attempt((_Throttle(name, tries, _QUARTER),), name)
        from_address = _Throttle(f"sign-in from {address}", self.tries_of_an_address, _QUARTER)
        return Attempt((from_address, _Throttle(name, tries, _QUARTER)), name)

    def device_cookie(self, email: str) -> str:
        """A cookie for a device that has signed in to the account of *email*."""
        fields = f"{int(time.time()) + DEVICE_SECONDS}.{secrets.token_hex(16)}"
        return f"{fields}.{self._device_tag(fields, email)}"

    @asynccontextmanager
    async def reserve(self, attempt: Attempt) -> AsyncGenerator[None]:
        """Reserve *attempt* in its throttles; return it if the block succeeds.

        One block at a time runs in a queue, and ends at a multiple of 400 ms after it began, so that the
        time of an answer does not tell how long the check took, alone or behind others.
        Raise TooManyAttempts, StoreUnavailable.
        """
        began = self.clock()
        try:
            await run_sync(self._reserve, attempt)
        except AppError:
            await self._end_slot(began)
            raise
        async with self._queues.setdefault(attempt.queue, anyio.Lock()):
            began = self.clock()
            try:
                yield
                await run_sync(self._return, attempt)
            finally:
                await self._end_slot(began)

    async def _end_slot(self, began: float) -> None:
        await self.sleep((began - self.clock()) % _SLOT_SECONDS)

    def _reserve(self, attempt: Attempt) -> None:
        for throttle in attempt.throttles:
            result = self.server().call(
                "throttle",
                counted=self.root_keys.bucket(throttle.name),
                at_most=throttle.at_most,
                window_seconds=throttle.seconds,
                nonce=uuid4(),
            )
            if not result.ok:
                fields = result.model_extra or {}
                raise TooManyAttempts(int(fields.get("retry_after", throttle.seconds)))

    def _return(self, attempt: Attempt) -> None:
        with suppress(StoreUnavailable):  # signed in all the same
            for throttle in attempt.throttles:
                if throttle.is_returned:
                    bucket = self.root_keys.bucket(throttle.name)
                    self.server().call("return_attempt", counted=bucket, nonce=uuid4())

    def _is_known(self, device: str, email: str) -> bool:
        fields, _, tag = device.rpartition(".")
        is_ours = hmac.compare_digest(tag.encode(), self._device_tag(fields, email).encode())
        return is_ours and int(fields.partition(".")[0]) > time.time()

    def _device_tag(self, fields: str, email: str) -> str:
        return self.root_keys.device_tag(f"{fields}.{_folded(email)}")


def _folded(email: str) -> str:
    """Fold the spelling of *email* further than any server: some read "\u0130" as "i", which would be ten more tries."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", email).casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
