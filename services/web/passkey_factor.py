"""A passkey as the second factor, after the password or a mailed code of a sign-in."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from starlette.responses import Response

from services.crypto.recovery_codes import new_codes
from services.domain.passkeys import Passkey
from services.identity.passkeys import (
    PasskeyUse,
    read_assertion,
    request_options,
    verify_assertion,
)
from services.store.entries import PasskeyEntry
from services.web.entries import PASSKEY, Entries, FactorForm
from services.web.passkey_routes import Asked, Given, Offer


@dataclass(frozen=True, slots=True)
class EnterByPasskey:
    """Continues a sign-in whose step waits for the second factor. The form names this step in the field `entry`."""

    name: ClassVar[str] = PasskeyUse.FACTOR.value
    needs_session: ClassVar[bool] = False
    entries: Entries

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options to use a passkey. Raise StepEnded, PasskeyMissing (no passkey is asked for, or none exists for this host)."""
        step = asked.fields.get("entry", "")
        waiting = self.entries.waiting(asked.request, step)
        passkeys, use = waiting.credentials.passkeys, _use(waiting.found.requires_factor)
        each = passkeys.each if passkeys and passkeys.is_factor else ()
        return Offer(options=request_options(asked.party, challenge, use, each), kept=step)

    async def finish(self, asked: Asked, given: Given) -> Response:
        form = FactorForm.read(given.kept, PASSKEY, asked.fields)
        return await self.entries.give(asked.request, form, lambda: passkey_entry(asked, given))


def passkey_entry(asked: Asked, given: Given) -> PasskeyEntry:
    """Return the answer of the browser as a second factor. Raise PasskeyRefused."""
    assertion, now = read_assertion(given.text), datetime.now(UTC).replace(microsecond=0)

    def verify(passkey: Passkey, user_handle: bytes, is_required: bool) -> Passkey:
        use = _use(is_required)
        return verify_assertion(
            assertion, passkey, user_handle, asked.party, given.challenge, use, now
        ).passkey

    return PasskeyEntry(assertion.id, verify, new_codes())


def _use(is_required: bool) -> PasskeyUse:
    return PasskeyUse.REQUIRED_FACTOR if is_required else PasskeyUse.FACTOR
