"""The outcomes of a provider's response to a sign-in: a session, a new account, or a page with a question.

`/identity/account` asks the user to sign in to the account that has the response's email address, and
`/identity/address` asks for an email address. Emailed codes are processed in code_routes.py, passkeys in
passkey_link.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, assert_never

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain.accounts import SIGN_IN_REASONS
from services.domain.addresses import Confirmed, ConfirmedBy, EmailAddress, checked_address
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import SignInMethod
from services.errors import (
    AppError,
    BadAddress,
    MethodOff,
    StepEnded,
    StoreUnavailable,
    TooManyAttempts,
    WrongCredentials,
)
from services.store.accounts import Accounts, Checked, Entered, Found
from services.store.backend import NOT_COUNTED, Throttles
from services.store.codes import CodeRequest, Recipient, RightCode, recipient_of
from services.store.entries import Entry, Way
from services.store.identities import (
    AsksAddress,
    BeginsAccount,
    ProvesAccount,
    SignsIn,
    next_of,
    scope_of,
    with_address,
)
from services.store.linking import account_of, given_identity, sign_in_linking
from services.store.steps import Step
from services.web.attempts import DEVICE_SECONDS
from services.web.code_routes import Asked, CodeRoutes
from services.web.entries import Entries
from services.web.forms import fields, with_reason
from services.web.hashing_lanes import HashingLanes
from services.web.oidc_pages import account_page, address_page
from services.web.oidc_steps import SignOnSteps, WaitingAnswer
from services.web.origin import networks_of

ACCOUNT, _ADDRESS = "/identity/account", "/identity/address"
# kinds of steps; opening the page of such a step resets the step's count of attempts, so steps with emailed codes
# must be of other kinds
ACCOUNT_STEP, _ADDRESS_STEP = "account_of_identity", "address_asked_for"


@dataclass(frozen=True, slots=True)
class SignOnVisits:
    """Continues a sign-in after a provider's response, as `next_of` decides."""

    steps: SignOnSteps
    has_mail: bool

    async def enter(self, request: Request, waiting: WaitingAnswer) -> Response:
        """Sign in or sign up; return the response. If the provider has a sign-out URL, a cookie names the provider
        until sign-out.

        Raise the errors of `next_of`, of a sign-in and of a sign-up.
        """
        answer, name = await self._enter(request, waiting), waiting.answer.provider
        client, origin = await self.steps.clients.get(name), self.steps.start.origin
        known = (name, DEVICE_SECONDS) if client.has_sign_out else ("", 0)
        origin.set_cookie(answer, request, "provider", *known)
        return answer

    async def _enter(self, request: Request, waiting: WaitingAnswer) -> Response:
        linked, at_address = await run_sync(self._find, request, waiting)
        entries = self._accounts.policy.providers
        accounts = account_of(linked), account_of(at_address)
        found = next_of(waiting.answer, *accounts, entries, has_mail=self.has_mail)
        match found:
            case SignsIn():
                return await self._sign_in(request, waiting, linked)
            case BeginsAccount(address):
                return await self._begin_account(request, waiting, address)
            case ProvesAccount():
                stored = at_address.stored if at_address else None
                ask = partial(self.steps.ask, request, ACCOUNT_STEP, ACCOUNT, waiting)
                return await ask(credentials=stored)
            case AsksAddress():
                return await self.steps.ask(request, _ADDRESS_STEP, _ADDRESS, waiting)
            case _:
                assert_never(found)

    def _find(self, request: Request, waiting: WaitingAnswer) -> tuple[Found | None, Found | None]:
        """Count a sign-in attempt; look up the account of the identity and, if there is none, of the response's email address.

        This call blocks.
        """
        start, answer = self.steps.start, waiting.answer
        device, client = start.origin.device_cookie(request), start.origin.client_address(request)
        throttles = start.attempts.sign_in(None, client, device)
        linked = self._accounts.find_identity(answer.identity, throttles)
        if linked or answer.address is None or not answer.is_verified:
            return linked, None
        return None, self._accounts.find(answer.address, NOT_COUNTED)

    async def _sign_in(
        self, request: Request, waiting: WaitingAnswer, found: Found | None
    ) -> Response:
        """Sign in; redirect to the form for the second factor first, unless the provider has already checked a second factor."""
        accounts, answer = self._accounts, waiting.answer
        browser = self.steps.start.browser(request)
        opened = _opened(found, waiting, has_factor=answer.has_factor)
        scope = scope_of(answer, accounts.now())
        checked = replace(opened, scope=scope)
        identity = answer.identity
        entry = Entry(
            way=Way.SIGN_IN,
            address=checked.credentials.address,
            by=waiting.by,
            counted=checked.counted,
            scope=scope,
            used=identity,
        )

        def act() -> Entered:
            sign_in = partial(accounts.sign_in, browser=browser)
            return Entered(*given_identity(accounts, checked, identity, sign_in))

        enter = Entries(self.steps.start).enter
        return await enter(request, entry, checked.stored, waiting.target, act)

    async def _begin_account(
        self, request: Request, waiting: WaitingAnswer, address: EmailAddress
    ) -> Response:
        """Create an account, if sign-ups are open to this user."""
        start, accounts, code = self.steps.start, self._accounts, waiting.invitation
        throttles = start.attempts.sign_up(start.origin.client_address(request))
        found = await run_sync(accounts.find_for_sign_up, address, throttles, code)
        now = accounts.now().replace(microsecond=0)
        entry = Entry(
            way=Way.SIGN_UP,
            address=address,
            by=waiting.by,
            invitation=code,
            confirmed=Confirmed(how=waiting.confirmed_by, at=now),
            identity=self.steps.linked(waiting.answer, signs_in=True),
            scope=scope_of(waiting.answer, now),
        )

        def act() -> Entered:
            begun = accounts.sign_up(
                found,
                None,
                code,
                start.browser(request),
                entry.confirmed,
                identity=entry.identity,
                scope=entry.scope,
                by=entry.by,
                has_factor=waiting.answer.has_factor,
            )
            return Entered(*begun)

        enter = Entries(start).enter
        return await enter(request, entry, None, waiting.target, act, is_new_account=True)

    async def link(self, request: Request, waiting: WaitingAnswer, proven: Checked) -> Response:
        """Link the identity to the *proven* account, and sign in; if the account has a second factor, ask for it first.

        A second factor that was given at the provider never replaces the account's own, because the provider's factor
        does not prove who owns the account.
        """
        has_factor = waiting.answer.has_factor and not proven.credentials.wants_factor
        checked = replace(proven, by=waiting.by, has_factor=has_factor)
        accounts, browser = self._accounts, self.steps.start.browser(request)
        entry = Entry(
            way=Way.SIGN_IN,
            address=checked.credentials.address,
            by=waiting.by,
            counted=checked.counted,
            identity=self.steps.linked(waiting.answer, signs_in=True),
        )

        def act() -> Entered:
            return Entered(*sign_in_linking(accounts, checked, entry.identity, browser))

        enter = Entries(self.steps.start).enter
        return await enter(request, entry, checked.stored, waiting.target, act)

    @property
    def _accounts(self) -> Accounts:
        return self.steps.start.accounts


@dataclass(frozen=True, slots=True)
class LinkByCode:
    """Links an identity to the account with the email address in the provider's response, once an emailed code proves
    that the user owns the account.
    """

    name: ClassVar[str] = "link_identity"
    needs_session: ClassVar[bool] = False
    visits: SignOnVisits

    async def request_of(self, asked: Asked) -> CodeRequest:
        raise StepEnded  # steps for this purpose begin only at `/identity/account`

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        return recipient_of(asked.accounts.find(request.address, throttles), CodePurpose.SIGN_IN)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        waiting = self.visits.steps.read(code.request.extra)

        def proven() -> Checked:
            found = asked.accounts.find(code.request.address, NOT_COUNTED)
            code.step.check(found.stored)
            checked = _opened(found, waiting)
            code.end()
            return checked

        return await self.visits.link(asked.request, waiting, await run_sync(proven))


@dataclass(frozen=True, slots=True)
class AddressByCode:
    """Confirms the email address that a user has entered, because the provider verified none, and continues the sign-in."""

    name: ClassVar[str] = "address_of_identity"
    needs_session: ClassVar[bool] = False
    visits: SignOnVisits

    async def request_of(self, asked: Asked) -> CodeRequest:
        raise StepEnded

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        found = asked.accounts.find_claim(request.address, throttles)
        return Recipient(mail=CodePurpose.CONFIRM_ADDRESS, is_known=found.is_known)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        waiting = self.visits.steps.read(code.request.extra)
        await run_sync(code.end)
        entries = asked.accounts.policy.providers
        answer = with_address(waiting.answer, code.request.address, entries)
        confirmed = replace(waiting, answer=answer, confirmed_by=ConfirmedBy.CODE)
        return await self.visits.enter(asked.request, confirmed)


@dataclass(frozen=True, slots=True)
class VisitRoutes:
    """Routes of the pages that ask for a sign-in to an existing account, and for an email address."""

    visits: SignOnVisits
    lanes: HashingLanes
    codes: CodeRoutes | None  # None: the app sends no email

    def routes(self) -> list[Route]:
        return [
            Route(ACCOUNT, self._show_account),
            Route(ACCOUNT, self._take_password, methods=["POST"]),
            Route(f"{ACCOUNT}/code", self._send_code, methods=["POST"]),
            Route(_ADDRESS, self._show_address),
            Route(_ADDRESS, self._take_address, methods=["POST"]),
        ]

    async def _show_account(self, request: Request) -> Response:
        def page() -> Response:
            step, waiting = self._steps.show(request, ACCOUNT_STEP)
            error = SIGN_IN_REASONS.get(request.query_params.get("reason", ""))
            return self._account_page(step, waiting, error.public if error else "")

        return await _or_start_again(page)

    def _account_page(self, step: Step, waiting: WaitingAnswer, refusal: str = "") -> Response:
        """Return the page that asks for a sign-in to the existing account. This call blocks.

        Raise StepEnded if the account has changed since the step began.
        """
        accounts = self._steps.start.accounts
        found = accounts.find(_address(waiting), NOT_COUNTED)
        step.check(found.stored)
        policy, credentials = accounts.policy, found.credentials
        has_hash = credentials is not None and credentials.password_hash is not None
        return account_page(
            self._steps.question(step, waiting, ACCOUNT, refusal),
            has_password=has_hash and SignInMethod.PASSWORD in policy.methods,
            sends_codes=self.codes is not None and SignInMethod.CODE in policy.methods,
            takes_passkey=credentials is not None and policy.takes_passkey(credentials),
        )

    async def _take_password(self, request: Request) -> Response:
        """Link the identity to the account if the password is right; else, or while Daybook is busy, show the page again."""
        start, steps, target = self._steps.start, self._steps, "/"
        step_id, password = await fields(request, "step", "password")
        try:
            step, waiting = await run_sync(steps.attempt, request, ACCOUNT_STEP, step_id)
            target = waiting.target
            try:
                async with start.attempts.delay_refusals():
                    proven = await self._proven(request, step, waiting, password)
            except (WrongCredentials, TooManyAttempts, StoreUnavailable) as error:
                is_wrong = isinstance(error, WrongCredentials)
                sentence = "Wrong password." if is_wrong else error.public
                return await run_sync(self._account_page, step, waiting, sentence)
            await run_sync(steps.end, request, step)
            return await self.visits.link(request, waiting, proven)
        except AppError as error:
            return RedirectResponse(with_reason(target, error), 303)

    async def _proven(
        self, request: Request, step: Step, waiting: WaitingAnswer, password: str
    ) -> Checked:
        """Return the credentials of the account if *password* is right.

        Raise WrongCredentials, TooManyAttempts, StepEnded if the account has changed, or MethodOff if passwords are
        switched off.
        """
        start = self._steps.start
        accounts = start.accounts
        if SignInMethod.PASSWORD not in accounts.policy.methods:
            raise MethodOff
        address = _address(waiting)
        device, client = start.origin.device_cookie(request), start.origin.client_address(request)
        throttles = start.attempts.sign_in(address, client, device)
        found = await run_sync(accounts.find, address, throttles)
        step.check(found.stored)
        check, network = partial(found.checked, password), networks_of(client)[-1].name
        return await self.lanes.run(check, client=network, user_id=found.known_user)

    async def _send_code(self, request: Request) -> Response:
        """Email a code that proves that the user owns the account; if the code cannot be sent, show the page again."""
        [step_id] = await fields(request, "step")

        async def send(codes: CodeRoutes) -> Response:
            steps, methods = self._steps, self._steps.start.accounts.policy.methods
            if SignInMethod.CODE not in methods:
                raise MethodOff
            step, waiting = await run_sync(steps.attempt, request, ACCOUNT_STEP, step_id)
            wanted = CodeRequest(address=_address(waiting), extra=waiting.text())
            try:
                return await codes.begin(request, LinkByCode(self.visits), waiting.target, wanted)
            except (TooManyAttempts, StoreUnavailable) as error:
                return await run_sync(self._account_page, step, waiting, error.public)

        return await self._by_mail(request, send)

    async def _show_address(self, request: Request) -> Response:
        def page() -> Response:
            step, waiting = self._steps.show(request, _ADDRESS_STEP)
            return address_page(self._steps.question(step, waiting, _ADDRESS))

        return await _or_start_again(page)

    async def _take_address(self, request: Request) -> Response:
        """Email a code to the entered address; if the address is invalid or the code cannot be sent, show the page again."""
        step_id, text = await fields(request, "step", "email")

        async def send(codes: CodeRoutes) -> Response:
            steps, flow = self._steps, AddressByCode(self.visits)
            step, waiting = await run_sync(steps.attempt, request, _ADDRESS_STEP, step_id)
            try:
                wanted = CodeRequest(address=checked_address(text), extra=waiting.text())
                return await codes.begin(request, flow, waiting.target, wanted, waiting.invitation)
            except (BadAddress, TooManyAttempts, StoreUnavailable) as error:
                return address_page(steps.question(step, waiting, _ADDRESS, error.public), text)

        return await self._by_mail(request, send)

    async def _by_mail(
        self, request: Request, send: Callable[[CodeRoutes], Awaitable[Response]]
    ) -> Response:
        """Return the response of *send*, delayed so that the response time does not depend on the email address."""
        start = self._steps.start
        if self.codes is None:
            return PlainTextResponse("Not Found", 404)
        try:
            async with start.attempts.delay_answers():
                return await send(self.codes)
        except AppError as error:
            return RedirectResponse(with_reason("/", error), 303)

    @property
    def _steps(self) -> SignOnSteps:
        return self.visits.steps


async def _or_start_again(page: Callable[[], Response]) -> Response:
    """Return the *page* of a pending step; if that raises an AppError, redirect to the sign-in page."""
    try:
        return await run_sync(page)
    except AppError as error:
        return RedirectResponse(with_reason("/", error), 303)


def _address(waiting: WaitingAnswer) -> EmailAddress:
    """Return the email address in a provider's response. Raise StepEnded if there is none."""
    if waiting.answer.address is None:
        raise StepEnded
    return waiting.answer.address


def _opened(found: Found | None, waiting: WaitingAnswer, *, has_factor: bool = False) -> Checked:
    """Return the credentials of a user whom the provider has signed in; *has_factor*: a second factor was also given.

    Raise StepEnded if no credentials were found.
    """
    if found is None or found.stored is None or found.credentials is None:
        raise StepEnded
    return found.opened(
        found.stored, found.credentials, waiting.by, found.counted, has_factor=has_factor
    )
