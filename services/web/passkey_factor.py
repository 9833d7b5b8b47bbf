"""A passkey as the second factor of a sign-in, or of a proof by a provider."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import Response

from services.crypto import Credentials
from services.crypto.recovery_codes import new_codes
from services.domain.passkeys import Passkey
from services.identity.passkeys import (
    PasskeyUse,
    read_assertion,
    request_options,
    verify_assertion,
)
from services.store.backend import NOT_COUNTED
from services.store.entries import PasskeyEntry
from services.web.entries import PASSKEY, Entries, FactorForm
from services.web.forms import read_step_id
from services.web.own_identities import OwnIdentities
from services.web.passkey_routes import Asked, Given, Offer


@dataclass(frozen=True, slots=True)
class EnterByPasskey:
    """Continues a sign-in that waits for the second factor. The form field `entry` contains the id of the waiting step."""

    name: ClassVar[str] = PasskeyUse.FACTOR.value
    needs_session: ClassVar[bool] = False
    entries: Entries

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options for using a passkey as the second factor.

        Raise StepEnded, PasskeyMissing (none is usable for this host).
        """
        step = asked.fields.get("entry", "")
        waiting = self.entries.waiting(asked.request, step)
        passkeys, use = _asked_for(waiting.credentials), _use(waiting.found.requires_factor)
        return Offer(options=request_options(asked.party, challenge, use, passkeys), kept=step)

    async def finish(self, asked: Asked, given: Given) -> Response:
        form = FactorForm.read(given.kept, PASSKEY, asked.fields)
        return await self.entries.give(asked.request, form, lambda: passkey_entry(asked, given))


@dataclass(frozen=True, slots=True)
class FinishProofByPasskey:
    """Completes a proof (re-authentication) through single sign-on, once the second factor is given.

    The form field `entry` contains the id of the step that waits for the factor.
    """

    name: ClassVar[str] = "proof_factor"
    needs_session: ClassVar[bool] = True
    own: OwnIdentities

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options for using a passkey as the second factor.

        Raise StepEnded, PasskeyMissing (none is usable for this host).
        """
        step_id = read_step_id(asked.fields.get("entry", ""))
        found = asked.accounts.find(asked.own.session.email, NOT_COUNTED)
        passkeys = _asked_for(asked.own.current.credentials)
        use = _use(found.sign_ups.requires_factor)
        options = request_options(asked.party, challenge, use, passkeys)
        return Offer(options=options, kept=str(step_id))

    async def finish(self, asked: Asked, given: Given) -> Response:
        give, entry = self.own.give_factor, passkey_entry(asked, given)
        return await run_sync(give, asked.request, asked.own, given.kept, entry)


def passkey_entry(asked: Asked, given: Given) -> PasskeyEntry:
    """Return the browser's response as a second factor. Raise PasskeyRefused if the response is malformed."""
    assertion, now = read_assertion(given.text), datetime.now(UTC).replace(microsecond=0)

    def verify(passkey: Passkey, user_handle: bytes, is_required: bool) -> Passkey:
        use = _use(is_required)
        return verify_assertion(
            assertion, passkey, user_handle, asked.party, given.challenge, use, now
        ).passkey

    return PasskeyEntry(assertion.id, verify, new_codes())


def _asked_for(credentials: Credentials) -> tuple[Passkey, ...]:
    """Return the user's passkeys if they serve as the second factor, else none."""
    passkeys = credentials.passkeys
    return passkeys.each if passkeys and passkeys.is_factor else ()


def _use(is_required: bool) -> PasskeyUse:
    return PasskeyUse.REQUIRED_FACTOR if is_required else PasskeyUse.FACTOR
