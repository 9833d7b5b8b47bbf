"""Routes of codes by mail: `/code` (send one, or another one) and `/code/redeem` (enter it), for every purpose.

Native forms post here. The answer to `/code` is a redirect to the page with the form for the code, which names the step
and the purpose, never an address. It is the same, at a multiple of 0.4 s, if the address is unknown, if it may have no
code, if its codes are used up, and if the mail is not sent.
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

from services.domain.browsers import BrowserName
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
from services.store.accounts import Cookie
from services.store.backend import Throttles
from services.store.codes import NOBODY, CodeRequest, Codes, Recipient, RightCode, typed_code
from services.store.steps import Step, Steps
from services.users import Shared
from services.web.attempts import Attempts
from services.web.current_session import SentForm, current_session
from services.web.forms import (
    LONGEST_INVITATION,
    local_path,
    other_site,
    read_step_id,
    with_query,
    with_reason,
)
from services.web.origin import Origin, browser_of, networks_of

# errors after which a step goes on, if it has not ended before them
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
    """A request about a code."""

    network: str = field(repr=False)  # of the client, as the lanes of hashes count it

    @property
    def browser(self) -> BrowserName:
        return browser_of(self.request)


class CodePurposeFlow(Protocol):
    """One purpose of codes: what they are asked for, who gets them, and what a right one does."""

    # the field `purpose` of its forms, the key `code` of its address, and the kind of its steps
    name: ClassVar[str]
    # true: its steps go on in the session of a signed-in user alone; false: in none
    needs_session: ClassVar[bool]

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Read what a code is asked for out of the form. Raise an AppError, which does not depend on who has an account."""
        ...

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        """Decide who gets a mail, and count it in *throttles*, in one call of the store. Also for a code sent again.

        Raise TooManyAttempts, for which no mail is sent and the page is the same, and StoreUnavailable. It blocks.
        """
        ...

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Do what the right *code* is good for, once `code.end` has ended its step. Raise an AppError.

        SignedOut: the session has ended meanwhile.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of ours: its fields, its purpose, the page that it leads back to, and the step that it goes on with, if any."""

    fields: Mapping[str, str] = field(repr=False)
    flow: CodePurposeFlow
    target: str = field(repr=False)
    step: str = field(default="", repr=False)

    @property
    def invitation(self) -> str:
        """The code of an invitation, with which the form of a sign-up is filled in again once its step is over."""
        return self.fields.get("invite", "").strip()[:LONGEST_INVITATION]


@dataclass(frozen=True, slots=True)
class CodeRoutes:
    """Sends codes and takes them, for the purposes that it knows."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    send: Callable[[Mail], object]  # returns at once; a mail that is not accepted is lost
    flows: Iterable[CodePurposeFlow]

    def routes(self) -> list[Route]:
        return [
            Route("/code", self._begin, methods=["POST"]),
            Route("/code/redeem", self._redeem, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        """Send a code: for a new step, or another one for the step in the form."""

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
        """Send a code for a form of another route; return the redirect to the form for the code.

        Raise TooManyAttempts, StoreUnavailable. The caller delays the answer (`Attempts.delay_answers`).
        """
        return await self._sent(request, _Form({"invite": invitation}, flow, target), wanted)

    async def _sent(
        self, request: Request, form: _Form, wanted: CodeRequest | None = None
    ) -> Response:
        """Send a code; *wanted*: what a new step is for, if the form does not say it."""
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
        """Begin a step, or (*step_id*) begin it anew; mail its code; return its id.

        *wanted*: what a new step is for; None: the form says it.
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
            except TooManyAttempts:
                if step_id:  # the code that was sent before stays good
                    codes.keep(browser, flow.name, step_id, asked.session)
                    return None
                recipient = NOBODY
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
                browser=asked.browser,
                at=datetime.now(UTC),
                expires_at=step.expires_at,
                is_known=recipient.is_known,
            )
            self.send(mail)
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
        """Return the answer of *act* to a form of ours; after a refusal, the redirect to the form."""
        if not self.origin.is_same_origin(request):
            return other_site()
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
        """Raise SignedOut, StoreUnavailable."""
        shared, signed_in = self.shared(), None
        if form.flow.needs_session:
            cookie = self.origin.session_cookie(request)
            signed_in = await run_sync(current_session, shared, cookie)
            if signed_in is None:
                raise SignedOut
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
    """Return the redirect to the form for the code of *step*; "": to the form that has a code sent."""
    values = {"code": form.flow.name, "step": step, "invite": form.invitation}
    return RedirectResponse(with_reason(form.target, error, **values), 303)


def _codes(asked: Asked) -> Codes:
    return Codes(Steps.of(asked.accounts))
