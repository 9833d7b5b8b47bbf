"""Routes for emailed codes: `/code` (send a code) and `/code/redeem` (enter the code), for every purpose.

Native HTML forms post here. The response to `/code` redirects to the page with the form for the code; its URL names
the step and the purpose, never an email address. The response, and its time, which is
rounded up to a multiple of 0.4 s, are the same whether or not a code is sent: the address may be unknown, not allowed to
get a code, or over its limit of codes.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Protocol
from uuid import UUID, uuid4

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain.mails import Code, Mail, NoCode
from services.errors import (
    AppError,
    FactorNeeded,
    ProofNeeded,
    SignedOut,
    StepEnded,
    StoreUnavailable,
    TooManyAttempts,
    WeakPassword,
    WrongCode,
    WrongFactor,
)
from services.identity.mailer import Mailer
from services.store.accounts import Cookie
from services.store.backend import Throttles
from services.store.codes import NOBODY, CodeRequest, Codes, Recipient, RightCode, typed_code
from services.store.steps import Step, Steps
from services.users import Shared
from services.web.attempts import Attempts
from services.web.current_session import SentForm, current_session
from services.web.forms import local_path, read_invitation, read_step_id, with_query, with_reason
from services.web.origin import Origin, browser_of, networks_of

# errors after which the user can try again in the same step, unless the step has already ended
_GOES_ON = (
    WrongCode,
    WrongFactor,
    FactorNeeded,
    ProofNeeded,
    WeakPassword,
    TooManyAttempts,
    StoreUnavailable,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(SentForm):
    """A request to send a code, or to check one."""

    # name of the client's network, by which `HashingLanes` limits the threads of one client
    network: str = field(repr=False)


class CodePurposeFlow(Protocol):
    """A purpose of codes, such as sign-in: the request, the recipient of the email, and the action that the right code allows."""

    # name of the purpose: the value of the form field `purpose` and of the query parameter `code`, and the kind of
    # its steps
    name: ClassVar[str]
    # True: steps of this purpose belong to the session of a signed-in user; False: they belong to no session
    needs_session: ClassVar[bool]

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Convert the form to a request for a code.

        Raise an AppError if the form is refused; the error must not reveal whether an account exists.
        """
        ...

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        """Return the recipient of an email, and count the email in *throttles*, in a single call to the store.

        An email that is sent again counts, too. Raise StoreUnavailable or TooManyAttempts. After TooManyAttempts, no
        email is sent, but the response is the same as usual. This call blocks.
        """
        ...

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Perform the action that the code allows, and end the step with `code.end`.

        The code has already been checked. Raise an AppError if the action is refused; SignedOut: the session has
        ended in the meantime.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Form:
    """A submitted form of the app: its fields, its purpose, the page to return to, and the id of the step to continue, if any."""

    fields: Mapping[str, str] = field(repr=False)
    flow: CodePurposeFlow
    target: str = field(repr=False)
    step: str = field(default="", repr=False)

    @property
    def invitation(self) -> str:
        """The invitation code, which is filled in again in the sign-up form if the user has to start over."""
        return read_invitation(self.fields.get("invite", ""))


@dataclass(frozen=True, slots=True)
class CodeRoutes:
    """Routes that send codes, and check the codes entered, for the purposes in `flows`."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    mailer: Mailer  # if its queue refuses an email, the email is lost
    flows: Iterable[CodePurposeFlow]

    def routes(self) -> list[Route]:
        return [
            Route("/code", self._begin, methods=["POST"]),
            Route("/code/redeem", self._redeem, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        """Send a code: the first of a new step, or another code for the step that the form names."""

        async def send(form: _Form) -> Response:
            async with self.attempts.delay_answers():
                return await self._sent(request, form)

        return await self._answer(request, send)

    async def begin(
        self,
        request: Request,
        flow: CodePurposeFlow,
        target: str,
        wanted: CodeRequest,
        invitation: str = "",
    ) -> Response:
        """Send a code on behalf of another route; return the redirect to the form in which the code is entered.

        Raise TooManyAttempts, StoreUnavailable. The caller delays the response (`Attempts.delay_answers`).
        """
        return await self._sent(request, _Form({"invite": invitation}, flow, target), wanted)

    async def _sent(
        self, request: Request, form: _Form, wanted: CodeRequest | None = None
    ) -> Response:
        """Send a code; return the redirect to the form for entering it.

        *wanted*: the request for a new step's code; None: read it from the form.
        """
        browser, flow = self.origin.step_cookie(request) or Cookie.new(), form.flow
        asked = await self._asked(request, form)
        known = read_step_id(form.step) if form.step else None
        step = await self._send(asked, flow, browser, known, wanted)
        target = with_query(form.target, code=flow.name, step=step, invite=form.invitation)
        answer = RedirectResponse(target, 303)
        self.origin.set_step_cookie(answer, request, browser)
        return answer

    async def _send(
        self,
        asked: Asked,
        flow: CodePurposeFlow,
        browser: Cookie,
        step_id: UUID | None,
        wanted: CodeRequest | None = None,
    ) -> str:
        """Begin a step, or restart the step *step_id*; email a code for the step, and return the step's id.

        *wanted*: the request for the code of a new step; None: read it from the form.
        """
        codes, client = _codes(asked), self.origin.client_address(asked.request)
        begun = step_id or uuid4()
        throttles = self.attempts.step(client, begun)
        await run_sync(asked.accounts.backend.count_throttles, throttles)
        if step_id:
            request = await run_sync(codes.read, browser, flow.name, step_id, asked.session)
        else:
            request = wanted or await flow.request_of(asked)
        device = self.origin.device_cookie(asked.request)
        counting = self.attempts.code(request.address, client, device, flow.name)

        def begin() -> tuple[Step, Recipient, Code | NoCode | None] | None:
            try:
                recipient = flow.recipient(asked, request, counting)
                has_room = self.mailer.has_room(is_known=recipient.is_known)
            except TooManyAttempts:
                recipient, has_room = NOBODY, False
            if step_id and not has_room:  # no new email is sent, so the previous code stays valid
                codes.keep(browser, flow.name, step_id, asked.session)
                return None
            step, content = codes.begin(
                browser, flow.name, request, recipient, session=asked.session, step_id=begun
            )
            return step, recipient, content

        answer = await run_sync(begin)
        if answer is None:
            return str(begun)
        step, recipient, content = answer
        if content:
            mail = Mail(
                address=request.address,
                content=content,
                browser=browser_of(asked.request),
                at=datetime.now(UTC),
                expires_at=step.expires_at,
                is_known=recipient.is_known,
                step=step.id,
            )
            self.mailer.send(mail)
        return str(step.id)

    async def _redeem(self, request: Request) -> Response:
        browser = self.origin.step_cookie(request)

        async def enter(form: _Form) -> Response:
            async with self.attempts.delay_refusals():
                if browser is None:
                    raise StepEnded
                asked, name = await self._asked(request, form), form.flow.name
                check, digits = _codes(asked).check, typed_code(form.fields.get("code", ""))
                code = await run_sync(
                    check, browser, name, read_step_id(form.step), digits, asked.session
                )
                try:
                    return await form.flow.finish(asked, code)
                except SignedOut as error:
                    return RedirectResponse(with_reason(form.target, error), 303)
                except AppError as error:
                    if not code.has_ended:
                        raise
                    return _refusal(form, error, step="")

        return await self._answer(request, enter)

    async def _answer(
        self, request: Request, act: Callable[[_Form], Awaitable[Response]]
    ) -> Response:
        """Parse the submitted form, and return the response of *act*; if *act* raises an AppError, redirect to the form."""
        async with request.form(max_files=0, max_fields=10) as sent:
            fields = {name: str(value) for name, value in sent.items()}
        flow = {one.name: one for one in self.flows}.get(fields.get("purpose", ""))
        if flow is None:
            return PlainTextResponse("Not Found", 404)
        target = local_path(fields.get("next", ""))
        form = _Form(fields, flow, target, fields.get("step", ""))
        try:
            return await act(form)
        except SignedOut:
            return RedirectResponse(with_query(form.target), 303)
        except AppError as error:
            return _refusal(form, error, step=form.step if isinstance(error, _GOES_ON) else "")

    async def _asked(self, request: Request, form: _Form) -> Asked:
        """Return the parsed request, with its session if the purpose needs one. Raise SignedOut, StoreUnavailable."""
        shared, signed_in = self.shared(), None
        if form.flow.needs_session:
            cookie = self.origin.session_cookie(request)
            signed_in = await run_sync(current_session, shared, cookie)
        network = networks_of(self.origin.client_address(request))[-1].name
        target = with_query(form.target)
        return Asked(
            request=request,
            fields=form.fields,
            signed_in=signed_in,
            target=target,
            shared=shared,
            network=network,
        )


def _refusal(form: _Form, error: AppError, *, step: str) -> Response:
    """Return the redirect to the form for entering the code of *step* or, if *step* is "", to the form for requesting a code."""
    values = {"code": form.flow.name, "step": step, "invite": form.invitation}
    return RedirectResponse(with_reason(form.target, error, **values), 303)


def _codes(asked: Asked) -> Codes:
    return Codes(Steps.of(asked.accounts))
