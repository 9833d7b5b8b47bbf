"""A passkey as the proof of the account that has the address of a provider's answer: then the identity is linked to it."""

from dataclasses import dataclass, replace
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import Response

from services.domain.sign_in_methods import SignInMethod
from services.errors import (
    MethodOff,
    PasskeyCopied,
    PasskeyFlaw,
    PasskeyRefused,
    PasskeyUnknown,
    TooManyAttempts,
)
from services.identity.passkeys import PasskeyUse, request_options
from services.store.accounts import Checked
from services.web.oidc_visits import VisitRoutes
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_routes import Asked, Given, Offer
from services.web.passkey_sign_in import begin_session

_WRONG = PasskeyRefused, PasskeyUnknown, PasskeyCopied, TooManyAttempts  # the page asks again


@dataclass(frozen=True, slots=True)
class LinkByPasskey:
    """Links an identity to the account of a passkey, and signs in. Its form names the step of the answer in the field `entry`."""

    name: ClassVar[str] = "link"
    needs_session: ClassVar[bool] = False
    visits: VisitRoutes
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Raise MethodOff."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        options = request_options(asked.party, challenge, PasskeyUse.SIGN_IN, ())
        return Offer(options=options, kept=asked.fields.get("entry", ""))

    async def finish(self, asked: Asked, given: Given) -> Response:
        """Raise StepEnded, MethodOff (passkeys do not open the account), and the errors of a sign-in and of `link`."""
        takes_passkey = asked.accounts.policy.takes_passkey
        step, waiting = await run_sync(self.visits.attempt, asked.request, given.kept)

        def proven(checked: Checked) -> Checked:
            if checked.stored.user_id != step.step.user_id:
                raise PasskeyRefused(PasskeyFlaw.USER)
            step.step.check(checked.stored)
            if not takes_passkey(checked.credentials):
                raise MethodOff
            step.end()
            return replace(checked, by=waiting.by)

        try:
            return await begin_session(
                *(self.visits.steps.start, self.check, asked, given, proven),
                by=waiting.by,
                identity=self.visits.steps.linked(waiting.answer, signs_in=True),
                target=waiting.target,
            )
        except _WRONG as error:
            return await run_sync(self.visits.account_page, step.step, waiting, error.public)
