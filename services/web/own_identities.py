"""A signed-in user's identities at providers of single sign-on: adding, renaming and removing them, and proofs by them.

`/identity/add` asks the user before an identity is added, and `/identity/proof` asks for the second factor of a proof
(passkeys are posted to the passkey routes instead, see passkey_factor.py). Forms of the Account page post to
`/identity/rename` and `/identity/remove`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.domain.accounts import CredentialsAction, ProofScope
from services.domain.mails import NoticeKind
from services.domain.single_sign_on import (
    MOST_IDENTITIES,
    Identity,
    LinkedIdentity,
    RequestKind,
    TooManyIdentities,
)
from services.errors import (
    AppError,
    FactorNeeded,
    ProofNeeded,
    SignedOut,
    StepEnded,
    TooManyAttempts,
)
from services.store.accounts import Accounts, AppSession, Checked
from services.store.backend import NOT_COUNTED
from services.store.entries import PasskeyEntry
from services.store.identities import check_link, proof_of, renamed, unlinked
from services.store.linking import account_of, given_identity, link, noting_use
from services.store.steps import OpenStep, Step
from services.users import Shared
from services.web.changes import change_listed, require_proof
from services.web.current_session import SignedIn, current_session
from services.web.factor_check import REFUSED_FACTOR, FactorCheck
from services.web.forms import fields, with_form, with_query, with_reason
from services.web.oidc_pages import add_page, factor_page
from services.web.oidc_steps import SignOnSteps, WaitingAnswer
from services.web.proofs import Proof

_PAGE = "/account"
_ADD, _PROOF = "/identity/add", "/identity/proof"
# after a refusal, the page Account shows the forms that add a sign-in
_ADD_FORM = f"{_ADD}?then=identity"
_ADD_STEP, _PROOF_STEP = "add_identity", "proof_by_identity"
# values of the query parameter `reason`
ADDED, LINKED, REMOVED = "identity-added", "identity-linked", "identity-removed"


@dataclass(frozen=True, slots=True)
class OwnIdentities:
    """Routes that add, rename and remove identities of a signed-in user, or accept an identity as proof of who is signed in."""

    steps: SignOnSteps
    check: FactorCheck
    has_mail: bool  # True: codes can be mailed

    def routes(self) -> list[Route]:
        return [
            Route(_ADD, self._show_add),
            Route(_ADD, self._form(self._add, "step", "others"), methods=["POST"]),
            Route(_PROOF, self._show_proof),
            Route(_PROOF, self._form(self.give_factor, "step", "factor"), methods=["POST"]),
        ]

    def routes_without_provider(self) -> list[Route]:
        """Return the routes that rename and remove linked identities. They exist even if no provider is configured."""
        rename = self._form(self._rename, "identity", "identity_name")
        remove = self._form(self._remove, "identity", "others")
        return [
            Route("/identity/rename", rename, methods=["POST"]),
            Route("/identity/remove", remove, methods=["POST"]),
        ]

    def check_may_add(self, signed_in: SignedIn) -> None:
        """Raise ProofNeeded or TooManyIdentities if the user may not add an identity now. This call blocks."""
        require_proof(self._accounts, signed_in.session)
        if len(signed_in.current.credentials.identities) >= MOST_IDENTITIES:
            raise TooManyIdentities

    def proof_request_kind(self, request: Request, signed_in: SignedIn) -> RequestKind:
        """Return FRESH if only a provider can prove who the user is, else PROOF.

        FRESH also accepts responses of providers that do not state when the user signed in.
        """
        party = self.steps.start.origin.relying_party(request)
        rp_id = party.id if party else None
        proves = self._accounts.policy.proves_otherwise
        return (
            RequestKind.PROOF
            if proves(signed_in.current.credentials, rp_id, has_mail=self.has_mail)
            else RequestKind.FRESH
        )

    async def offer(
        self, request: Request, signed_in: SignedIn, waiting: WaitingAnswer
    ) -> Response:
        """Redirect to the page that asks whether to add the identity in a provider's response.

        If the identity is already linked to this account, redirect to the Account page instead. Raise IdentityTaken
        if it is linked to another account.
        """
        session = signed_in.session

        def is_new() -> bool:
            found = self._accounts.find_identity(waiting.answer.identity, NOT_COUNTED)
            return check_link(session.user_id, account_of(found))

        if not await run_sync(is_new):
            return _to_page(LINKED)
        return await self.steps.ask(request, _ADD_STEP, _ADD, waiting, session=session)

    async def prove(
        self, request: Request, signed_in: SignedIn, waiting: WaitingAnswer
    ) -> Response:
        """Store the proof of a signed-in user; if the account has a second factor, ask for it first.

        Raise IdentityTaken if the identity is not linked to the account, or ProofNeeded if the response proves no
        recent sign-in.
        """
        session = signed_in.session
        checked = await run_sync(self._proven, session, waiting)
        if checked.credentials.wants_factor and not checked.has_factor:
            ask = partial(self.steps.ask, request, _PROOF_STEP, _PROOF, waiting)
            return await ask(session=session, credentials=checked.stored)
        proof, identity = Proof(request, self.steps.start.origin), waiting.answer.identity

        def note(given: Checked) -> None:
            proof.note(self._shared, session, given)

        await run_sync(given_identity, self._accounts, checked, identity, note)
        return proof.finish(_to_page(_proved(checked), waiting.target))

    def _proven(self, session: AppSession, waiting: WaitingAnswer) -> Checked:
        """Return the credentials of the user of *session*, whom a provider has signed in again. This call blocks.

        Raise IdentityTaken if the identity is not linked to the user's account, or ProofNeeded if the response proves
        no recent sign-in.
        """
        accounts, answer = self._accounts, waiting.answer
        found = accounts.find_identity(answer.identity, NOT_COUNTED)
        linked = account_of(found)
        scope = proof_of(answer, waiting.asked, session.user_id, linked, accounts.now())
        if found is None or found.stored is None or found.credentials is None:
            raise ProofNeeded
        own = found.stored, found.credentials, waiting.by
        opened = found.in_session().opened(*own, has_factor=answer.has_factor)
        # if the deployment requires a second factor, a passkey that serves as this factor must verify its user
        return replace(opened, scope=scope, requires_factor=found.sign_ups.requires_factor)

    async def _show_add(self, request: Request) -> Response:
        def page(signed_in: SignedIn) -> Response:
            step, waiting = self.steps.show(request, _ADD_STEP, signed_in.session)
            return add_page(self.steps.question(step, waiting, _ADD_FORM))

        return await self._answer(request, page)

    def _add(self, request: Request, signed_in: SignedIn, step_id: str, others: str) -> Response:
        """Link the identity that the page has shown to the account. Raise the errors of `link`."""
        self.check_may_add(signed_in)
        session = signed_in.session
        step, waiting = self.steps.attempt(request, _ADD_STEP, step_id, session)
        self.steps.end(request, step, session)
        identity = self.steps.linked(waiting.answer, signs_in=False)
        act = partial(link, self._accounts, session, signed_in.current, identity)
        if others:
            self._shared.user_of(session).devices.end_others_by(partial(act, ends_others=True))
        else:
            act()
        self._shared.outdate_sign_in_details(session.user_id)
        self._tell(request, session, NoticeKind.IDENTITY_ADDED)
        return _to_page(ADDED)

    def _rename(self, request: Request, signed_in: SignedIn, mark: str, name: str) -> Response:
        """Rename an identity of the account. Raise StepEnded, BadName, ProofNeeded, RateLimited."""
        require_proof(self._accounts, signed_in.session)
        before = signed_in.current.credentials
        identity = _marked(before.identities, mark)
        changed = replace(before, identities=renamed(before.identities, identity, name))
        change_listed(self._shared, signed_in, changed, CredentialsAction.RESEAL)
        return _to_page()

    def _remove(self, request: Request, signed_in: SignedIn, mark: str, others: str) -> Response:
        """Remove an identity from the account. Raise StepEnded, ProofNeeded, RateLimited."""
        require_proof(self._accounts, signed_in.session)
        before, action = signed_in.current.credentials, CredentialsAction.IDENTITY_REMOVED
        identity = _marked(before.identities, mark)
        changed = replace(before, identities=unlinked(before.identities, identity))
        change_listed(self._shared, signed_in, changed, action, ends_others=bool(others))
        self._tell(request, signed_in.session, NoticeKind.IDENTITY_REMOVED)
        return _to_page(REMOVED)

    async def _show_proof(self, request: Request) -> Response:
        def page(signed_in: SignedIn) -> Response:
            step, waiting = self.steps.show(request, _PROOF_STEP, signed_in.session)
            return self._proof_page(signed_in, step, waiting)

        return await self._answer(request, page)

    def _proof_page(
        self, signed_in: SignedIn, step: Step, waiting: WaitingAnswer, refusal: str = ""
    ) -> Response:
        credentials = signed_in.current.credentials
        return factor_page(
            self.steps.question(step, waiting, _PROOF, refusal),
            has_app=credentials.factor is not None,
            asks_passkey=credentials.asks_passkey,
        )

    def give_factor(
        self, request: Request, signed_in: SignedIn, step_id: str, entered: str | PasskeyEntry
    ) -> Response:
        """Store the proof of a step if the second factor is right; else return the page of the step again.

        This call blocks. Raise StepEnded, IdentityTaken, and the errors of `Proof.note`.
        """
        session, proof = signed_in.session, Proof(request, self.steps.start.origin)
        begun, waiting = self.steps.attempt(request, _PROOF_STEP, step_id, session)
        begun.check(signed_in.current.stored)
        checked = self._proven(session, waiting)
        step = OpenStep(begun, lambda: self.steps.end(request, begun, session))

        def note(given: Checked) -> None:
            step.end()  # only once: `note` is called again if another request used the factor in the meantime
            now, identity = self._accounts.now(), waiting.answer.identity
            proof.note(self._shared, session, noting_use(given, identity, now))

        try:
            self.check.prove(request, self._accounts, session, checked, entered, note)
        except (FactorNeeded, *REFUSED_FACTOR, TooManyAttempts) as error:
            if step.has_ended:
                raise
            return self._proof_page(signed_in, begun, waiting, error.public)
        return proof.finish(_to_page(_proved(checked), waiting.target))

    def _tell(self, request: Request, session: AppSession, kind: NoticeKind) -> None:
        self.check.notices.tell(request, self._accounts.backend, session, kind)

    def _form(
        self, act: Callable[..., Response], *names: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a form's handler, which calls *act* with the request, the session, and the values of the fields *names*."""

        async def answer(request: Request) -> Response:
            entered = await fields(request, *names)
            return await self._answer(request, lambda one: act(request, one, *entered))

        return answer

    async def _answer(self, request: Request, act: Callable[[SignedIn], Response]) -> Response:
        """Return the response of *act* for a signed-in user; after a refusal, redirect to the Account page. *act* may block."""

        def answer() -> Response:
            cookie = self.steps.start.origin.session_cookie(request)
            return act(current_session(self._shared, cookie))

        try:
            return await run_sync(answer)
        except SignedOut:
            return _to_page()
        except AppError as error:
            return RedirectResponse(with_reason(with_form(request, _PAGE), error), 303)

    @property
    def _shared(self) -> Shared:
        return self.steps.start.shared()

    @property
    def _accounts(self) -> Accounts:
        return self.steps.start.accounts


def _marked(identities: tuple[LinkedIdentity, ...], mark: str) -> Identity:
    """Return the identity with the id *mark* in forms. Raise StepEnded if it has been removed since the page was drawn."""
    for one in identities:
        if one.identity.mark == mark:
            return one.identity
    raise StepEnded


def _proved(checked: Checked) -> str:
    """Return the value of the query parameter `reason`, which tells the next page whether the proof is full or partial."""
    return "proved" if checked.scope is ProofScope.FULL else "proved-in-part"


def _to_page(reason: str = "", target: str = _PAGE) -> Response:
    return RedirectResponse(with_query(target, reason=reason), 303)
