"""Routes of passkeys: `/passkey/options` (get a challenge after a click) and `/passkey` (post the browser's response to it).

assets/page/passkey.js posts the same form to both, for every use. The first responds with JSON: `step` and the
`options` for the browser, or a sentence `refusal`. The second responds with a redirect; after a refusal, the redirect's
query has the reason.

The challenge is stored in a pending step, which ends with the browser's first response, whether right or wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from anyio.to_thread import run_sync
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services.domain.passkeys import RelyingParty
from services.errors import AppError, PasskeysUnusable, SignedOut, StepEnded
from services.identity.passkeys import new_challenge
from services.store.accounts import Cookie
from services.store.backend import StoredCredentials
from services.store.steps import Step, Steps, read_contents
from services.users import Shared
from services.web.attempts import Attempts
from services.web.current_session import SentForm, current_session, is_signed_in
from services.web.forms import all_fields, local_path, read_step_id, with_query, with_reason
from services.web.origin import Origin
from services.web.shown_once import codes_were_shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(SentForm):
    """A submitted form about a passkey."""

    party: RelyingParty


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The WebAuthn options for the browser, and the data to store in the step of the challenge."""

    options: Mapping[str, object] = field(repr=False)
    credentials: StoredCredentials | None = None  # the credentials that the step is bound to
    # other data for the step; `finish` gets it as `Given.kept`
    kept: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The browser's response, which is not verified yet, and the step that it ended."""

    text: str = field(repr=False)
    challenge: bytes = field(repr=False)
    step: Step
    kept: str = field(default="", repr=False)


class PasskeyFlow(Protocol):
    """A use of passkeys, such as sign-in: the WebAuthn options for the browser, and the action after its response is verified."""

    name: ClassVar[str]  # value of the form field `use`
    # True: steps for this purpose belong to the session of a signed-in user; False: they belong to no session
    needs_session: ClassVar[bool]

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options for *challenge*. This call blocks. Raise an AppError if the request is refused."""
        ...

    async def finish(self, asked: Asked, given: Given) -> Response:
        """Verify the browser's response, and perform the action for which the passkey was requested.

        Raise an AppError if the response or the action is refused; SignedOut: the session has ended in the meantime.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The contents of a step; the challenge is in hexadecimal."""

    challenge: str = field(repr=False)
    kept: str = field(repr=False)


_CONTENTS = TypeAdapter(_Contents)


@dataclass(frozen=True, slots=True)
class PasskeyRoutes:
    """Routes that send challenges and process the browser's responses, for the purposes in `flows`."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    flows: Iterable[PasskeyFlow]

    def routes(self) -> list[Route]:
        if self.origin.is_alone:  # this deployment has no sign-in
            return []
        return [
            Route("/passkey/options", self._offer, methods=["POST"]),
            Route("/passkey", self._take, methods=["POST"]),
            Route("/passkey", codes_were_shown),
        ]

    async def _offer(self, request: Request) -> Response:
        """Begin a step, and return its challenge and options as JSON."""
        form = await all_fields(request)
        flow = self._flow(form)
        if flow is None:
            return PlainTextResponse("Not Found", 404)
        browser = self.origin.step_cookie(request) or Cookie.new()
        try:
            challenge = await run_sync(self._begin, request, form, flow, browser)
        except AppError as error:
            # status 200, because browsers would log any other status as an error of the page
            return JSONResponse({"refusal": error.public})
        answer = JSONResponse(challenge)
        self.origin.set_step_cookie(answer, request, browser)
        return answer

    def _begin(
        self, request: Request, form: Mapping[str, str], flow: PasskeyFlow, browser: Cookie
    ) -> Mapping[str, object]:
        asked, challenge = self._asked(request, form, flow), new_challenge()
        offer = flow.offer(asked, challenge)
        device, client = self.origin.device_cookie(request), self.origin.client_address(request)
        throttles = self.attempts.challenge(device, client)
        if asked.session:
            throttles = self.attempts.factor_step(asked.session.user_id, device, client)
        contents = _Contents(challenge=challenge.hex(), kept=offer.kept)
        step = Steps.of(asked.accounts).begin(
            browser,
            _kind(flow),
            _CONTENTS.dump_json(contents).decode(),
            throttles,
            session=asked.session,
            credentials=offer.credentials,
        )
        return {"step": str(step.id), "options": offer.options}

    async def _take(self, request: Request) -> Response:
        """Verify the browser's response, and perform the purpose's action; after a refusal, redirect to the page with the form."""
        form = await all_fields(request)
        flow, target = self._flow(form), local_path(form.get("next", ""))
        if flow is None:
            return PlainTextResponse("Not Found", 404)
        try:
            async with self.attempts.delay_refusals():
                asked, given = await run_sync(self._end, request, form, flow)
                return await flow.finish(asked, given)
        except SignedOut:
            return RedirectResponse(with_query(target), 303)
        except AppError as error:
            # without this cookie, the form may be a resubmission: the cookie is deleted when a session begins in the browser
            has_steps = self.origin.step_cookie(request) is not None
            is_again = isinstance(error, StepEnded) and not (flow.needs_session or has_steps)
            if is_again and is_signed_in(self.shared(), self.origin.session_cookie(request)):
                return codes_were_shown(request)  # the page with the codes was reloaded
            return RedirectResponse(with_reason(target, error), 303)

    def _end(
        self, request: Request, form: Mapping[str, str], flow: PasskeyFlow
    ) -> tuple[Asked, Given]:
        """End the step that stores the challenge, so that only one response to it is accepted. Raise StepEnded, SignedOut."""
        asked, browser = self._asked(request, form, flow), self.origin.step_cookie(request)
        if browser is None:
            raise StepEnded
        step_id = read_step_id(form.get("step", ""))
        step = Steps.of(asked.accounts).end(browser, _kind(flow), step_id, asked.session)
        contents = read_contents(_CONTENTS, step.contents)
        challenge = bytes.fromhex(contents.challenge)
        text = form.get("answer", "")
        return asked, Given(text=text, challenge=challenge, step=step, kept=contents.kept)

    def _asked(self, request: Request, form: Mapping[str, str], flow: PasskeyFlow) -> Asked:
        """Return the parsed form, with its session if its purpose needs one.

        Raise PasskeysUnusable, SignedOut, StoreUnavailable.
        """
        party, shared, signed_in = self.origin.relying_party(request), self.shared(), None
        if party is None:
            raise PasskeysUnusable
        if flow.needs_session:
            signed_in = current_session(shared, self.origin.session_cookie(request))
        target = with_query(local_path(form.get("next", "")))
        return Asked(
            request=request,
            fields=form,
            signed_in=signed_in,
            target=target,
            shared=shared,
            party=party,
        )

    def _flow(self, form: Mapping[str, str]) -> PasskeyFlow | None:
        return {one.name: one for one in self.flows}.get(form.get("use", ""))


def _kind(flow: PasskeyFlow) -> str:
    return f"passkey {flow.name}"
