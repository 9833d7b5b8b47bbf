"""Routes of codes by mail: `/code` (send one, or another one) and `/code/redeem` (enter it), for every purpose.

Native forms post here. The answer to `/code` is a redirect to the page with the form for the code, which names the step
and the purpose, never an address. It is the same, at a multiple of 0.4 s, if the address is unknown, if it may have no
code, if its codes are used up, and if the mail is not sent.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Protocol
from uuid import UUID, uuid4

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain.browsers import BrowserName, browser_name
from services.domain.mails import Code, Mail, NoCode
from services.errors import (
    AppError,
    SignedOut,
    StepEnded,
    StoreUnavailable,
    TooManyAttempts,
    WeakPassword,
    WrongCode,
)
from services.store.accounts import Accounts, AppSession, Cookie
from services.store.backend import Throttles
from services.store.codes import NOBODY, CodeRequest, Codes, Recipient, RightCode, typed_code
from services.store.steps import Step, Steps
from services.users import Shared
from services.web.attempts import Attempts
from services.web.forms import local_path, other_site, with_query, with_reason
from services.web.origin import Origin, networks_of

_GOES_ON = WrongCode, WeakPassword, TooManyAttempts, StoreUnavailable  # errors that end no step


@dataclass(frozen=True, slots=True)
class Asked:
    """A request about a code: the fields of its form, and where it came from."""

    request: Request = field(repr=False)
    form: Mapping[str, str] = field(repr=False)
    accounts: Accounts
    session: AppSession | None  # None: the purpose needs none
    target: str = field(repr=False)  # the page that the form leads back to, without what it said
    network: str = field(repr=False)  # of the client, as the lanes of hashes count it

    @property
    def browser(self) -> BrowserName:
        return browser_name(self.request.headers.get("user-agent", ""))


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
        """Do what the right *code* is good for, once `code.end` has ended its step. Raise an AppError."""
        ...


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
        if not self.origin.is_same_origin(request):
            return other_site()
        form, flow = await self._form(request)
        if flow is None:
            return _unknown()
        target, step = local_path(form.get("next", "")), form.get("step", "")
        browser = self.origin.step_cookie(request) or Cookie.new()
        try:
            async with self.attempts.delay_answers():
                asked = await self._asked(request, form, target, flow)
                step = await self._send(asked, flow, browser, _uuid(step) if step else None)
        except SignedOut:
            return RedirectResponse(with_query(target), 303)
        except AppError as error:
            return _refused(target, flow, step, error)
        answer = RedirectResponse(with_query(target, code=flow.name, step=step), 303)
        self.origin.set_step_cookie(answer, request, browser)
        return answer

    async def begin(
        self, request: Request, flow: CodePurposeFlow, target: str, wanted: CodeRequest
    ) -> Response:
        """Send a code for a form of another route; return the redirect to the form for the code.

        Raise TooManyAttempts, StoreUnavailable. The caller sees to the time of the answer.
        """
        browser = self.origin.step_cookie(request) or Cookie.new()
        asked = await self._asked(request, {}, target, flow)
        step = await self._send(asked, flow, browser, None, wanted)
        answer = RedirectResponse(with_query(target, code=flow.name, step=step), 303)
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
        counting = self.attempts.code(request.address, client, device)

        def begin() -> tuple[Step, Recipient, Code | NoCode | None] | None:
            try:
                recipient = flow.recipient(asked, request, counting)
            except TooManyAttempts:
                if step_id:  # the code that was sent before stays good
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
        if not self.origin.is_same_origin(request):
            return other_site()
        form, flow = await self._form(request)
        if flow is None:
            return _unknown()
        target, step = local_path(form.get("next", "")), form.get("step", "")
        browser = self.origin.step_cookie(request)
        try:
            async with self.attempts.delay_refusals():
                if browser is None:
                    raise StepEnded
                asked = await self._asked(request, form, target, flow)
                check, digits = _codes(asked).check, typed_code(form.get("code", ""))
                code = await run_sync(check, browser, flow.name, _uuid(step), digits, asked.session)
                return await flow.finish(asked, code)
        except SignedOut:
            return RedirectResponse(with_query(target), 303)
        except AppError as error:
            return _refused(target, flow, step, error)

    async def _form(self, request: Request) -> tuple[Mapping[str, str], CodePurposeFlow | None]:
        async with request.form(max_files=0, max_fields=10) as form:
            fields = {name: str(value) for name, value in form.items()}
        flows = {flow.name: flow for flow in self.flows}
        return fields, flows.get(fields.get("purpose", ""))

    async def _asked(
        self, request: Request, form: Mapping[str, str], target: str, flow: CodePurposeFlow
    ) -> Asked:
        """Raise SignedOut, StoreUnavailable."""
        cache, session = self.shared().session_cache, None
        if flow.needs_session:
            cookie = self.origin.session_cookie(request)
            session = await run_sync(cache.find, cookie) if cookie else None
            if session is None:
                raise SignedOut
        network = networks_of(self.origin.client_address(request))[-1].name
        return Asked(request, form, cache.accounts, session, with_query(target), network)


def _codes(asked: Asked) -> Codes:
    return Codes(Steps(asked.accounts.backend, asked.accounts.root_keys))


def _uuid(text: str) -> UUID:
    """Raise StepEnded."""
    try:
        return UUID(text)
    except ValueError:
        raise StepEnded from None


def _refused(target: str, flow: CodePurposeFlow, step: str, error: AppError) -> Response:
    """Return the redirect to the form: of the code while its step may go on, else the first one."""
    kept = step if isinstance(error, _GOES_ON) else ""
    return RedirectResponse(with_reason(target, error, code=flow.name, step=kept), 303)


def _unknown() -> Response:
    return PlainTextResponse("Not Found", 404)
