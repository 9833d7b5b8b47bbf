"""Linking an identity after a passkey proves that the user owns the account with the email address in the provider's response."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import RedirectResponse, Response

from services.domain.sign_in_methods import SignInMethod
from services.errors import (
    AppError,
    MethodOff,
    PasskeyCopied,
    PasskeyRefused,
    PasskeyUnknown,
)
from services.identity.passkeys import PasskeyUse, request_options
from services.store.accounts import Checked
from services.store.steps import OpenStep
from services.web.forms import read_step_id, with_reason
from services.web.oidc_steps import SignOnSteps
from services.web.oidc_visits import ACCOUNT, ACCOUNT_STEP
from services.web.passkey_check import PasskeyCheck
from services.web.passkey_routes import Asked, Given, Offer
from services.web.passkey_sign_in import begin_session

_ASKS_AGAIN = PasskeyRefused, PasskeyUnknown, PasskeyCopied


@dataclass(frozen=True, slots=True)
class LinkByPasskey:
    """Links an identity to a passkey's account, and signs in.

    The field `entry` has the id of the step that stores the provider's response.
    """

    name: ClassVar[str] = "link"
    needs_session: ClassVar[bool] = False
    steps: SignOnSteps
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options to sign in with a passkey. Raise MethodOff if passkeys are off, or StepEnded."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        step_id = read_step_id(asked.fields.get("entry", ""))
        options = request_options(asked.party, challenge, PasskeyUse.SIGN_IN, ())
        return Offer(options=options, kept=str(step_id))

    async def finish(self, asked: Asked, given: Given) -> Response:
        """Sign in; if that is refused, redirect to the page of the step, or to the sign-in page if the step has ended.

        Raise StepEnded if the step had already ended.
        """
        request, takes_passkey = asked.request, asked.accounts.policy.takes_passkey
        attempt = partial(self.steps.attempt, request, ACCOUNT_STEP, given.kept)
        begun, waiting = await run_sync(attempt)
        step = OpenStep(begun, lambda: self.steps.end(request, begun))

        def prepare(checked: Checked) -> Checked:
            begun.check(checked.stored)
            if not takes_passkey(checked.credentials):
                raise MethodOff
            step.end()
            return replace(checked, by=waiting.by)

        try:
            async with self.check.attempts.delay_refusals():
                return await begin_session(
                    self.steps.start,
                    self.check,
                    asked,
                    given,
                    prepare,
                    user_id=begun.user_id,
                    identity=self.steps.linked(waiting.answer, signs_in=True),
                    target=waiting.target,
                )
        except AppError as error:
            if isinstance(error, _ASKS_AGAIN) and not step.has_ended:
                return RedirectResponse(with_reason(ACCOUNT, error, step=str(begun.id)), 303)
            return RedirectResponse(with_reason(waiting.target, error), 303)
