"""Pending steps of single sign-on: some wait for a provider's response, others store a response until the user continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode
from uuid import uuid4

from anyio.to_thread import run_sync
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.domain.addresses import ConfirmedBy, EmailAddress
from services.domain.sign_in_methods import SignInMethod, UsedMethod
from services.domain.single_sign_on import (
    LONGEST_IDENTITY_NAME,
    LinkedIdentity,
    ProviderAnswer,
    RequestKind,
    new_request,
)
from services.errors import StepEnded
from services.provider_settings import ProviderSettings
from services.store.accounts import AppSession, Cookie
from services.store.backend import StoredCredentials
from services.store.identities import SIGN_ON, SignOn, SignOnPurpose
from services.store.steps import Step, read_contents
from services.web.forms import read_step_id
from services.web.oidc_clients import ProviderClients
from services.web.oidc_pages import Question
from services.web.session_start import SessionStart


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingAnswer:
    """A verified response of a provider, and the values that the sign-in needs to continue."""

    answer: ProviderAnswer
    target: str = field(repr=False)  # path of the page to open afterwards
    invitation: str = field(default="", repr=False)
    asked: RequestKind = RequestKind.SIGN_IN
    confirmed_by: ConfirmedBy = ConfirmedBy.PROVIDER  # how the email address was confirmed

    @property
    def by(self) -> UsedMethod:
        return UsedMethod(SignInMethod.OIDC, self.answer.provider)

    def text(self) -> str:
        """Return this object in JSON, as a step stores it."""
        return _WAITING.dump_json(self).decode()


_WAITING = TypeAdapter(WaitingAnswer)


@dataclass(frozen=True, slots=True)
class SignOnSteps:
    """Begins, reads and ends the pending steps of single sign-on in a browser."""

    start: SessionStart
    clients: ProviderClients

    async def leave(
        self,
        request: Request,
        name: str,
        kind: str,
        sign_on: tuple[SignOnPurpose, RequestKind],
        target: str,
        *,
        session: AppSession | None = None,
        invitation: str = "",
    ) -> tuple[str, Cookie]:
        """Begin a step of this *kind* that waits for a provider's response; it belongs to *session*, if there is one.

        Return the provider's authorization URL, and the cookie that identifies the browser's pending steps. Raise
        TooManyAttempts, ProviderUnavailable.
        """
        (purpose, asked), origin, step_id = sign_on, self.start.origin, uuid4()
        back = f"{origin.public_url(request)}/oidc/{name}/back"
        attempts, device = self.start.attempts, origin.device_cookie(request)
        user_id = session.user_id if session else attempts.device_user(device)
        throttles = attempts.factor_step(user_id, device, origin.client_address(request))
        await run_sync(self.start.accounts.backend.count_throttles, throttles)
        wanted = new_request(name, asked, step_id, back)
        client = await self.clients.get(name)
        address = await client.authorization_address(wanted)
        waiting = SignOn(purpose=purpose, request=wanted, target=target, invitation=invitation)
        contents, browser = SIGN_ON.dump_json(waiting).decode(), self.browser(request)
        begin = partial(self.start.steps.begin, browser, kind, contents, (), session=session)
        await run_sync(lambda: begin(step_id=step_id))
        return address, browser

    async def ask(
        self,
        request: Request,
        kind: str,
        path: str,
        waiting: WaitingAnswer,
        *,
        session: AppSession | None = None,
        credentials: StoredCredentials | None = None,
    ) -> Response:
        """Begin a step that stores *waiting*; return the redirect to the page of this step at *path*.

        *credentials*: the credentials that must stay unchanged until the step ends.
        """
        browser = self.browser(request)

        def begin() -> Step:
            text = waiting.text()
            return self.start.steps.begin(
                browser, kind, text, (), session=session, credentials=credentials
            )

        step = await run_sync(begin)
        answer = RedirectResponse(f"{path}?{urlencode({'step': str(step.id)})}", 303)
        self.start.origin.set_step_cookie(answer, request, browser)
        return answer

    def show(
        self, request: Request, kind: str, session: AppSession | None = None
    ) -> tuple[Step, WaitingAnswer]:
        """Return the step named in the URL of a page, and the response that it stores, without ending the step.

        This call blocks. Raise StepEnded if the step has ended.
        """
        step_id = read_step_id(request.query_params.get("step", ""))
        browser = self._browser_of(request)
        step = self.start.steps.renew(browser, kind, step_id, session, lambda text: text)
        return step, self.read(step.contents)

    def attempt(
        self, request: Request, kind: str, step: str, session: AppSession | None = None
    ) -> tuple[Step, WaitingAnswer]:
        """Count an attempt to complete the *step* of a form; return the step and the response that it stores.

        This call blocks. Raise StepEnded if the step has ended, TriesUsed if that was after five tries.
        """
        browser, step_id = self._browser_of(request), read_step_id(step)
        steps, tries = self.start.steps, self.start.attempts.tries
        found = steps.attempt(browser, kind, step_id, session, tries)
        return found, self.read(found.contents)

    def read(self, text: str) -> WaitingAnswer:
        """Parse the provider's response in the contents *text* of a step.

        Raise StepEnded if another version of the app stored the response, or its provider is no longer configured.
        """
        waiting = read_contents(_WAITING, text)
        if waiting.answer.provider not in self.entries:
            raise StepEnded
        return waiting

    def end(self, request: Request, step: Step, session: AppSession | None = None) -> None:
        """End a step. Only one of several concurrent callers succeeds; the others get StepEnded. This call blocks."""
        self.start.steps.end(self._browser_of(request), step.kind, step.id, session)

    def question(
        self, step: Step, waiting: WaitingAnswer, action: str, refusal: str = ""
    ) -> Question:
        """Return the question that the page of a step asks; the form of the page posts to *action*."""
        answer = waiting.answer
        hidden: Mapping[str, str] = {"step": str(step.id)}
        return Question(
            label=self.label(answer.provider),
            address=answer.address,
            is_verified=answer.is_verified,
            action=action,
            hidden=hidden,
            cancel=waiting.target,
            refusal=refusal,
        )

    def browser(self, request: Request) -> Cookie:
        """Return the cookie that identifies the browser's pending steps, or a new cookie if the browser has none."""
        return self.start.origin.step_cookie(request) or Cookie.new()

    def label(self, name: str) -> str:
        """Return the name of a provider, as pages show it."""
        return self.entries[name].name_on_screen(name)

    def linked(self, answer: ProviderAnswer, *, signs_in: bool) -> LinkedIdentity:
        """Return the `LinkedIdentity` to store for *answer*; its name is the email address in *answer*, else the
        provider's name.

        *signs_in*: the identity is also used to sign in now.
        """
        now = self.start.accounts.now().replace(microsecond=0)
        address: EmailAddress | str = answer.address or ""
        is_name = 0 < len(address) <= LONGEST_IDENTITY_NAME
        return LinkedIdentity(
            identity=answer.identity,
            name=address if is_name else self.label(answer.provider),
            created_at=now,
            last_used_at=now if signs_in else None,
        )

    @property
    def entries(self) -> Mapping[str, ProviderSettings]:
        return self.clients.entries

    def _browser_of(self, request: Request) -> Cookie:
        """Return the cookie that identifies the browser's pending steps. Raise StepEnded if the browser has none."""
        browser = self.start.origin.step_cookie(request)
        if browser is None:
            raise StepEnded
        return browser
