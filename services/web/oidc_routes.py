"""Routes that send a browser to a single sign-on provider, and process its response.

`/oidc/NAME` (sign in), `/oidc/NAME/link` (add an identity to the account of a session), `/oidc/NAME/prove` (prove who
is signed in), `/oidc/NAME/back` (process the provider's response), `/oidc/NAME/end` (sign out at the provider). The
provider redirects the browser to a URL that contains a code and a state. This URL is not logged, and the response to it
is another redirect.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import assert_never
from urllib.parse import urlencode, urlsplit

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.domain.single_sign_on import RequestKind, step_of
from services.errors import AppError, SignedOut, StepEnded
from services.store.accounts import AppSession
from services.store.identities import SIGN_ON, SignOnPurpose
from services.store.steps import Step, read_contents
from services.web.current_session import SignedIn, current_session
from services.web.forms import fields, local_path, read_invitation, with_query, with_reason
from services.web.oidc_pages import (
    no_sign_out_page,
    other_address_page,
    provider_link_page,
    start_page,
)
from services.web.oidc_steps import SignOnSteps, WaitingAnswer
from services.web.oidc_visits import SignOnVisits
from services.web.own_identities import OwnIdentities

ACCOUNT = "/account"  # path of the Account page
# kinds of steps: those that begin without a session, and those that begin in a session
_SIGN_IN, _OWN = "single_sign_on", "own_single_sign_on"
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class OidcRoutes:
    """Redirects browsers to providers, and processes the providers' responses that browsers bring back."""

    steps: SignOnSteps
    visits: SignOnVisits
    own: OwnIdentities

    def routes(self) -> list[Route]:
        return [route for name in self.steps.entries for route in self._routes_of(name)]

    def _routes_of(self, name: str) -> list[Route]:
        def at(path: str, act: Callable[[Request, str], Awaitable[Response]], verb: str) -> Route:
            async def answer(request: Request) -> Response:
                return await act(request, name)

            return Route(f"/oidc/{name}{path}", answer, methods=[verb])

        return [
            at("", self._begin, "GET"),
            at("/link", partial(self._begin_own, purpose=SignOnPurpose.LINK), "POST"),
            at("/prove", partial(self._begin_own, purpose=SignOnPurpose.PROVE), "POST"),
            at("/back", self._back, "GET"),
            at("/end", self._end, "GET"),
        ]

    async def _begin(self, request: Request, name: str) -> Response:
        """Redirect to the provider after a click on a page of this app; else show a page with the link, because any site can link here."""
        query = request.query_params
        target = with_query(local_path(query.get("next", "")))
        invitation = read_invitation(query.get("invite", ""))
        values = {"next": target} | ({"invite": invitation} if invitation else {})
        here = f"/oidc/{name}?{urlencode(values)}"
        # the provider redirects back to the public host, which gets no cookies of this host, so the sign-in must begin
        # there
        if not self._is_public(request):
            return RedirectResponse(f"{self._public_url(request)}{here}", 303)
        if not _is_pressed(request):
            return start_page(self.steps.label(name), here)
        asked = SignOnPurpose.SIGN_IN, RequestKind.SIGN_IN
        try:
            address, browser = await self.steps.leave(
                request, name, _SIGN_IN, asked, target, invitation=invitation
            )
        except AppError as error:
            return RedirectResponse(with_reason(target, error, invite=invitation), 303)
        answer = RedirectResponse(address, 303, _NO_STORE)
        self.steps.start.origin.set_step_cookie(answer, request, browser)
        return answer

    async def _begin_own(self, request: Request, name: str, purpose: SignOnPurpose) -> Response:
        """Return the page with the link to the provider, for a signed-in user who adds an identity or proves who they are."""
        origin = self.steps.start.origin
        if not self._is_public(request):
            return other_address_page(self._public_url(request))
        [then] = await fields(request, "then")
        target = with_query(ACCOUNT, then=then)
        is_proof = purpose is SignOnPurpose.PROVE
        try:
            signed_in = await run_sync(self._session, request)
            if signed_in is None:
                return RedirectResponse(ACCOUNT, 303)
            asked = (
                self.own.proof_request_kind(request, signed_in) if is_proof else RequestKind.SIGN_IN
            )
            if not is_proof:
                await run_sync(self.own.check_may_add, signed_in)
            address, browser = await self.steps.leave(
                request, name, _OWN, (purpose, asked), target, session=signed_in.session
            )
        except AppError as error:
            return RedirectResponse(with_reason(target, error), 303)
        label = self.steps.label(name)
        answer = provider_link_page(label, address, target, is_proof=is_proof)
        origin.set_step_cookie(answer, request, browser)
        return answer

    async def _back(self, request: Request, name: str) -> Response:
        """End the step that waited for the provider's response, and continue the sign-in, the linking or the proof."""
        session, target, invitation = None, "/", ""
        try:
            signed_in = await run_sync(self._session, request)
            session = signed_in.session if signed_in else None
            target = ACCOUNT if session else target
            step = await run_sync(self._ended, request, session)
            sign_on = read_contents(SIGN_ON, step.contents)
            invitation = sign_on.invitation
            # a signed-in user returns to the Account page, because the Chat page would not show a refusal
            target = target if session and step.session_id is None else sign_on.target
            client = await self.steps.clients.get(name)
            found = await client.redeem(sign_on.request, request.query_params.multi_items())
            waiting = WaitingAnswer(
                answer=found,
                target=sign_on.target,
                invitation=sign_on.invitation,
                asked=sign_on.request.asked,
            )
            match sign_on.purpose:
                case SignOnPurpose.SIGN_IN:
                    return await self.visits.enter(request, waiting)
                case SignOnPurpose.LINK:
                    return await self.own.offer(request, _own(signed_in, step), waiting)
                case SignOnPurpose.PROVE:
                    return await self.own.prove(request, _own(signed_in, step), waiting)
                case _:
                    assert_never(sign_on.purpose)
        except AppError as error:
            return RedirectResponse(with_reason(target, error, invite=invitation), 303)

    async def _end(self, request: Request, name: str) -> Response:
        """Redirect to the sign-out of the provider after a click on a page of this app; else redirect to the front page."""
        if not _is_pressed(request):
            return RedirectResponse("/", 303)
        try:
            client = await self.steps.clients.get(name)
            address = await client.sign_out_address(f"{self._public_url(request)}/")
        except AppError as error:
            return RedirectResponse(with_reason("/", error), 303)
        return (
            RedirectResponse(address, 303) if address else no_sign_out_page(self.steps.label(name))
        )

    def _ended(self, request: Request, session: AppSession | None) -> Step:
        """End and return the step that waits for this response; the step belongs to *session*, or to no session.

        Raise StepEnded. This call blocks.
        """
        browser = self.steps.start.origin.step_cookie(request)
        step_id = step_of(request.query_params.get("state", ""))
        if browser is None or step_id is None:
            raise StepEnded
        steps = self.steps.start.steps
        if session:
            with suppress(StepEnded):
                steps.attempt(browser, _OWN, step_id, session)
                return steps.end(browser, _OWN, step_id, session)
        return steps.end(browser, _SIGN_IN, step_id, None)

    def _session(self, request: Request) -> SignedIn | None:
        start = self.steps.start
        with suppress(SignedOut):
            return current_session(start.shared(), start.origin.session_cookie(request))
        return None

    def _is_public(self, request: Request) -> bool:
        """Return True if the browser is at the URL to which providers redirect back."""
        if self.steps.start.origin.url:  # the header Host is not compared, as a proxy may change it
            return True
        return request.headers.get("host", "") == urlsplit(self._public_url(request)).netloc

    def _public_url(self, request: Request) -> str:
        return self.steps.start.origin.public_url(request)


def _is_pressed(request: Request) -> bool:
    """Return True if a user navigated here from a page of this app, and the browser does not merely prefetch the URL."""
    headers = request.headers
    return headers.get("sec-fetch-site") == "same-origin" and "sec-purpose" not in headers


def _own(signed_in: SignedIn | None, step: Step) -> SignedIn:
    """Return *signed_in* if *step* was begun in its session, else raise StepEnded."""
    if signed_in is None or step.session_id != signed_in.session.id:
        raise StepEnded
    return signed_in
