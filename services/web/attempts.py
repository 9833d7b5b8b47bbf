"""Protection against password guessing and mail bombing: throttles, device cookies, and delayed refusals."""

import hmac
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import anyio

from services.crypto import RootKeys
from services.domain import SessionId, UserId
from services.domain.addresses import EmailAddress
from services.domain.mails import CodePurpose, NoticeKind
from services.errors import AppError
from services.rules.accounts import FORMER_LIFE, MOST_TRIES
from services.store.backend import Throttle, Throttles
from services.web.origin import networks_of

DEVICE_SECONDS = 90 * 86400
_MOST_EARLIER = 4  # maximum earlier users of a device that its cookie names
# codes for these purposes let users recover their accounts, so only devices older than FORMER_LIFE count as known:
# a thief who has just learned the password could have added newer devices by signing in
_RECOVERING = {CodePurpose.RESET_PASSWORD, CodePurpose.RESTORE_ADDRESS}
_UNTOLD_FACTORS = 2  # wrong codes in one step before the user is notified
_MINUTE, _QUARTER, _HOUR, _DAY = 60, 900, 3600, 86400  # time windows of throttles, in seconds
# in seconds; longer than a password check, so the response time of a refusal does not reveal whether the address
# has an account
_SLOT_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class _Device:
    """A device on which a user has signed in, read from the device's cookie."""

    user_id: UserId
    since: int  # the user's first sign-in on the device, in seconds since 1970
    seen: int  # the user's last sign-in on the device, in seconds since 1970
    # the session that this sign-in began; a random id in cookies of earlier versions
    session: SessionId
    # the last sign-ins of the device's earlier users, in seconds since 1970
    earlier: Mapping[UserId, int]


def _is_new(device: _Device) -> bool:
    """Return True if the user's first sign-in on the device was less than FORMER_LIFE ago.

    A former address can be restored for FORMER_LIFE after the address was changed.
    """
    return time.time() - device.since < FORMER_LIFE.total_seconds()


@dataclass(frozen=True, slots=True)
class Attempts:
    """Throttles for sign-in and sign-up attempts, for beginning a pending step (store/steps.py), and for sending emails.

    A device that has signed in to an account holds a signed cookie (OWASP's device cookies) and has its own
    throttle, so that guesses from elsewhere do not lock users out of their own devices.
    """

    root_keys: RootKeys
    # maximum sign-ups per hour from one network address; configurable because, for example, all pupils of a school
    # share one address
    sign_ups_an_hour: int
    # maximum emails with a code per hour, requested from one network address; configurable
    codes_an_hour: int = 20
    tries_of_an_account: int = 10
    tries_of_an_address: int = 60
    steps_of_an_address: int = 60
    codes_of_an_hour: int = 5  # maximum emails with a code per hour to one email address
    codes_of_a_day: int = 15
    factors_of_an_hour: int = 10  # maximum attempts per hour to enter a second factor
    factors_of_a_day: int = 30
    invitations_of_a_day: int = 20  # maximum emails with invitations per day that one admin sends
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    def sign_up(self, address: str) -> Throttles:
        """Return the throttles for an attempt to create an account from the network address *address*."""
        return Throttles(self._of_networks("sign-up", address, self.sign_ups_an_hour, _HOUR))

    def sign_in(self, email: EmailAddress | None, address: str, device: str) -> Throttles:
        """Return the throttles for an attempt to sign in from the network address *address* with the device cookie *device*.

        *email* is None for a sign-in with a passkey or through a provider. Such sign-ins cannot be guessed, so they
        do not count against the account's throttle; otherwise a stranger could use up the throttle, and lock the user
        out.
        """
        strangers = self._of_networks("sign-in", address, self.tries_of_an_address)
        if email is not None:
            strangers += (self._throttle(f"sign-in as {email}", self.tries_of_an_account),)
        user_id = self.device_user(device)
        if user_id is None:
            return Throttles(strangers)
        of_device = self._throttle(f"sign-in on {device}", self.tries_of_an_account)
        return Throttles(strangers, user_id, (of_device,))

    def password(self, user_id: UserId) -> Throttle:
        """Return the throttle for attempts to set a password. Each attempt costs a password hash, even if it is refused."""
        return self._throttle(f"password of {user_id}", self.tries_of_an_account)

    def step(self, address: str, step_id: UUID | None = None) -> tuple[Throttle, ...]:
        """Return the throttles for beginning a step (such as entering an emailed code) from the network address *address*.

        *step_id*: the id of the step if a code is emailed for it; the throttles then also limit this step to one code a
        minute.
        """
        of_networks = self._of_networks("step", address, self.steps_of_an_address)
        if step_id is None:
            return of_networks
        return (*of_networks, self._throttle(f"code of step {step_id}", 1, _MINUTE))

    def factor_step(
        self, user_id: UserId | None, device: str, address: str
    ) -> tuple[Throttle, ...]:
        """Return the throttles for beginning a step that waits for a second factor or a provider; *device*: the device cookie.

        A known device of the user has its own throttle, so that other clients at the same network address do not lock
        the user out.
        """
        if self.is_known(device, user_id):
            return (self._throttle(f"step on {device}", self.steps_of_an_address),)
        return self.step(address)

    def challenge(self, device: str, address: str) -> tuple[Throttle, ...]:
        """Return the throttles for beginning a step that waits for a passkey while no user is signed in; *device*:
        the device cookie.

        All known devices of a user share one throttle: each sign-in adds a device, so a throttle per device would
        limit nothing.
        """
        user_id = self.device_user(device)
        if user_id is None:
            return self.step(address)
        return (self._throttle(f"challenge on devices of {user_id}", self.steps_of_an_address),)

    def tries(self, step_key: str) -> Throttle:
        """Return the throttle for attempts to complete a step. `Steps.renew` resets the step's own count, but not this
        throttle. *step_key*: the key of the step's row, which no other browser knows.
        """
        return self._throttle(f"tries of step {step_key}", MOST_TRIES, _HOUR)

    def code(self, email: EmailAddress, address: str, device: str, purpose: str) -> Throttles:
        """Return the throttles for an email with a code to *email*.

        *address*: the client's network address; *device*: the client's device cookie.

        Requests from unknown devices share the limits of *email* and of their network address. A known device of the
        user has its own limits instead. Codes that restore an address are counted separately from all other codes. On
        known devices, codes that reset a password are also counted separately.
        """
        of_strangers = f"{purpose} code" if purpose == CodePurpose.RESTORE_ADDRESS else "code"
        strangers = (
            *self._of_networks(of_strangers, address, self.codes_an_hour, _HOUR),
            self._throttle(f"{of_strangers} of an hour for {email}", self.codes_of_an_hour, _HOUR),
            self._throttle(f"{of_strangers} of a day for {email}", self.codes_of_a_day, _DAY),
        )
        recovers = purpose in _RECOVERING
        known = self._device(device)
        if known is None or (recovers and _is_new(known)):
            return Throttles(strangers)
        of_devices = f"{purpose} code" if recovers else "code"
        of_device = (
            self._throttle(f"{of_devices} on {device}", self.codes_of_an_hour, _HOUR),
            # a common limit for all devices of the user: each sign-in adds a device, so with limits per device only,
            # one user could use up the deployment's hourly limit of emails
            self._throttle(
                f"{of_devices} on devices of {known.user_id}", self.codes_of_a_day, _HOUR
            ),
        )
        return Throttles(strangers, known.user_id, of_device)

    def factor(
        self, user_id: UserId, device: str, *, since: datetime, state: str, is_former: bool
    ) -> tuple[Throttle, ...]:
        """Return the throttles for an attempt to enter a user's second factor; *device*: the device cookie.

        A device on which the user has entered the factor before has its own throttle (`gave_factor`). All other
        devices share throttles, which are reset when *state* changes. *state* is, for example, the generation of
        the account's credentials.
        """
        if self.gave_factor(user_id, device, since=since, is_former=is_former):
            return (self._throttle(f"factor on {device}", self.factors_of_an_hour, _HOUR),)
        account = f"{user_id} {state}"
        return (
            self._throttle(f"factor of an hour of {account}", self.factors_of_an_hour, _HOUR),
            self._throttle(f"factor of a day of {account}", self.factors_of_a_day, _DAY),
        )

    def gave_factor(
        self, user_id: UserId, device: str, *, since: datetime, is_former: bool
    ) -> bool:
        """Return True if the user has signed in on the device since the second factor was added (*since*); *device*:
        the device cookie.

        Each of these sign-ins has included the factor, because a password alone does not make a device known.
        *is_former*: the factor is entered to restore a former address, so only devices older than FORMER_LIFE count, as
        in `code`.
        """
        known = self._device(device)
        return (
            known is not None
            and known.user_id == user_id
            and known.seen >= int(since.timestamp())
            and not (is_former and _is_new(known))
        )

    def wrong_factor(self, step_id: UUID) -> Throttle:
        """Return the throttle for wrong codes in a step; when it is exceeded, the user is notified."""
        return self._throttle(f"wrong factor of {step_id}", _UNTOLD_FACTORS, _HOUR)

    def wrong_factor_notice(self, step_id: UUID) -> Throttle:
        """Return the throttle for notices about wrong codes in a step; it allows one notice."""
        return self._throttle(f"notice of wrong factor of {step_id}", 1, _HOUR)

    def form(self, form_id: str) -> Throttle:
        """Return the throttle for a form that may be submitted only once, for example because its response shows a secret."""
        return self._throttle(f"form {form_id}", 1, _DAY)

    def is_known(self, device: str, user_id: UserId | None) -> bool:
        """Return True if the user has signed in on the device with the cookie *device*."""
        return user_id is not None and self.device_user(device) == user_id

    def has_signed_in(self, device: str, user_id: UserId) -> bool:
        """Return True if the user has signed in on the device within DEVICE_SECONDS, even if other users have since.

        Only the notice of a new device asks this: two users of one browser must not get the notice at each change. For
        throttles, the device is known to its last user alone (`is_known`).
        """
        known = self._device(device)
        if known is None:
            return False
        seen = known.earlier.get(user_id, 0)
        return known.user_id == user_id or time.time() - seen < DEVICE_SECONDS

    def invitation_mail(self, email: EmailAddress, admin: UserId) -> tuple[Throttle, ...]:
        """Return the throttles for mailing an invitation to *email*."""
        return (
            self._throttle(f"invitations by {admin}", self.invitations_of_a_day, _DAY),
            self._throttle(f"invitation to {email}", 1, _HOUR),
        )

    def notice(self, kind: NoticeKind, user_id: UserId) -> Throttle:
        return self._throttle(f"notice {kind} to {user_id}", 1, _HOUR)

    def device_cookie(self, user_id: UserId, session: SessionId, before: str = "") -> str:
        """Return a new cookie for a device on which the user has begun *session*.

        It keeps the user's first sign-in time, and the earlier users, of the old cookie *before*.
        """
        now, known = int(time.time()), self._device(before)
        since = known.since if known and known.user_id == user_id else now
        users = {**known.earlier, known.user_id: known.seen} if known else {}
        newest = sorted(
            (seen, one.hex)
            for one, seen in users.items()
            if one != user_id and now - seen < DEVICE_SECONDS
        )
        earlier = "_".join(f"{one}-{seen}" for seen, one in newest[-_MOST_EARLIER:])
        fields = f"{user_id.hex}.{now + DEVICE_SECONDS}.{since}.{session.hex}.{earlier}"
        return f"{fields}.{self.root_keys.device_tag(fields)}"

    def device_user(self, cookie: str) -> UserId | None:
        """Return the user who has signed in on the device with *cookie*; None if the cookie has no valid signature or is too old."""
        device = self._device(cookie)
        return device.user_id if device else None

    def last_session(self, cookie: str) -> tuple[UserId, SessionId] | None:
        """Return the last user of the device with *cookie*, and the user's session; None as for `device_user`."""
        device = self._device(cookie)
        return (device.user_id, device.session) if device else None

    def _device(self, cookie: str) -> "_Device | None":
        fields, _, tag = cookie.rpartition(".")
        if not hmac.compare_digest(tag.encode(), self.root_keys.device_tag(fields).encode()):
            return None
        match fields.split("."):
            case [user_id, ends_at, since, session, *others] if int(ends_at) > time.time():
                seen = int(ends_at) - DEVICE_SECONDS
                pairs = (one.split("-") for one in "".join(others).split("_") if one)
                earlier = {UserId(UUID(one)): int(last_seen) for one, last_seen in pairs}
                session_id = SessionId(UUID(session))
                return _Device(UserId(UUID(user_id)), int(since), seen, session_id, earlier)
            case _:
                return None

    @asynccontextmanager
    async def delay_refusals(self) -> AsyncGenerator[None]:
        """Delay an AppError raised in the block until the elapsed time is a multiple of 0.4 seconds."""
        began = self.clock()
        try:
            yield
        except AppError:
            await self._end_slot(began)
            raise

    @asynccontextmanager
    async def delay_answers(self) -> AsyncGenerator[None]:
        """Delay the end of the block, with or without an AppError, until the elapsed time is a multiple of 0.4 seconds."""
        began = self.clock()
        async with self.delay_refusals():
            yield
        await self._end_slot(began)

    async def _end_slot(self, began: float) -> None:
        await self.sleep((began - self.clock()) % _SLOT_SECONDS)

    def _of_networks(
        self, what: str, address: str, at_most: int, seconds: int = _QUARTER
    ) -> tuple[Throttle, ...]:
        """Return a throttle named *what* for each network of *address*; its limit is *at_most* times `Network.addresses`."""
        return tuple(
            self._throttle(f"{what} from {network.name}", at_most * network.addresses, seconds)
            for network in networks_of(address)
        )

    def _throttle(self, name: str, at_most: int, seconds: int = _QUARTER) -> Throttle:
        return Throttle(self.root_keys.bucket(name), at_most, seconds)
