"""Codes that confirm the email address of a new account, or of the account of a signed-in user."""

from dataclasses import dataclass
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.domain.mails import CodePurpose
from services.errors import StepEnded
from services.store.accounts import Entered, Found
from services.store.backend import Throttles
from services.store.codes import CodeRequest, Recipient, RightCode
from services.store.confirmations import (
    confirm_address,
    recipient_of_session,
    recipient_of_sign_up,
    sign_up,
    sign_up_entry,
    sign_up_request,
)
from services.web.code_routes import Asked, CodeRoutes
from services.web.entries import Entries
from services.web.forms import with_query
from services.web.session_start import SessionStart


@dataclass(frozen=True, slots=True)
class SignUpCode:
    """Creates an account once the emailed code is entered.

    Its steps begin only at `/account`, and store the password hash, if any.
    """

    name: ClassVar[str] = "sign_up"
    needs_session: ClassVar[bool] = False
    start: SessionStart

    async def request_of(self, asked: Asked) -> CodeRequest:
        raise StepEnded

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        return recipient_of_sign_up(asked.accounts.find_claim(request.address, throttles))

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        def act() -> Entered:
            return Entered(*sign_up(asked.accounts, code, self.start.browser(asked.request)))

        entries, entry = Entries(self.start), sign_up_entry(code)
        return await entries.enter(
            asked.request, entry, None, asked.target, act, is_new_account=True
        )


@dataclass(frozen=True, slots=True)
class ConfirmAddress:
    """Confirms the email address of a signed-in user."""

    name: ClassVar[str] = CodePurpose.CONFIRM_ADDRESS
    needs_session: ClassVar[bool] = True

    async def request_of(self, asked: Asked) -> CodeRequest:
        return CodeRequest(address=asked.own.session.email)

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        found = asked.accounts.find(request.address, throttles)
        return recipient_of_session(found, asked.own.session)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        session = asked.own.session
        await run_sync(confirm_address, asked.accounts, session, code)
        asked.shared.outdate_sign_in_details(session.user_id)
        return RedirectResponse(with_query(asked.target, reason="confirmed"), 303)


@dataclass(frozen=True, slots=True)
class SignUpByCode:
    """Emails the code that completes a sign-up."""

    codes: CodeRoutes
    flow: SignUpCode

    async def answer(
        self,
        request: Request,
        found: Found,
        password_hash: str | None,
        invitation: str,
        target: str,
    ) -> Response:
        """Email the code; return the redirect to the form for entering it. Raise TooManyAttempts, StoreUnavailable.

        *password_hash*: None if the user will sign in with codes.
        """
        wanted = sign_up_request(found, password_hash, invitation)
        return await self.codes.begin(request, self.flow, target, wanted, invitation)
