"""Routes of sessions and accounts.

`/session` (sign in), `/session/end` (sign out), `/account` (sign up), `/proof` (prove again who is signed in), and
two routes that require such a proof: `/account/password` (set a password) and `/account/end` (delete the account).

Native HTML forms post here. The response is always a redirect; after a refusal, its query has the reason. Neither the
redirect's URL nor a log contains the email address or password that was entered.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services import errors
from services.domain import UserId
from services.domain.accounts import DELETE_WORD, Failure
from services.domain.addresses import NO_ADDRESS, EmailAddress, checked_address
from services.domain.mails import NoticeKind
from services.domain.sign_in_methods import ALL_METHODS, BY_PASSWORD, SignInMethod
from services.domain.turns import StopCause
from services.events import log_event
from services.store.accounts import Accounts, AppSession, Checked, Entered, Found
from services.store.administration import UserAccess
from services.store.entries import Entry, Way
from services.store.failures import note_failure
from services.web.changes import require_proof
from services.web.confirmation_codes import SignUpByCode, SignUpCode
from services.web.current_session import SignedIn, current_session
from services.web.entries import Entries
from services.web.factor_check import FactorCheck
from services.web.forms import (
    fields,
    local_path,
    read_invitation,
    with_form,
    with_query,
    with_reason,
)
from services.web.hashing_lanes import HashingLanes
from services.web.origin import networks_of
from services.web.proofs import Proof
from services.web.session_start import SessionStart

Answer = TypeVar("Answer")

# sign-in methods with which the sign-up form can create an account: one of them is enough
BY_FORM = frozenset({SignInMethod.PASSWORD, SignInMethod.CODE})
_ACCOUNT = "/account"  # path of the Account page, and of the route that signs up
_DATA = "/data"  # path of the page "Your data", which takes the place of the Account page without sign-in


@dataclass(frozen=True, slots=True)
class SignInRoutes:
    """Routes for signing up, in and out, changing a password, and deleting an account."""

    start: SessionStart
    lanes: HashingLanes = field(default_factory=HashingLanes)
    # None: the app sends no email, so no code confirms an address
    by_code: SignUpByCode | None = None
    methods: frozenset[SignInMethod] = ALL_METHODS  # sign-in methods that are enabled

    def routes(self) -> list[Route]:
        ends = [
            Route("/account/end", self._delete, methods=["POST"]),
            Route("/session/end", self._sign_out, methods=["POST"]),
        ]
        if self.start.origin.is_alone:  # this deployment has no sign-in
            return [*ends, Route(_ACCOUNT, RedirectResponse(_DATA, 303))]
        sign_up = Route("/account", self._sign_in, methods=["POST"])
        return [
            # these two routes always exist: a password that an operator has set works even if passwords are disabled
            Route("/proof", self._prove, methods=["POST"]),
            Route("/session", self._sign_in, methods=["POST"]),
            *([sign_up] if self.methods & BY_FORM else []),
            *(self._of_passwords() if self._takes_passwords else []),
            Route("/.well-known/{name:path}", PlainTextResponse("Not Found", 404)),
            *ends,
        ]

    def _of_passwords(self) -> tuple[Route, ...]:
        return (
            Route("/account/password", self._change_password, methods=["POST"]),
            # W3C, A Well-Known URL for Changing Passwords: password managers use this URL only if unknown URLs next to
            # it get a 404
            Route("/.well-known/change-password", RedirectResponse(_ACCOUNT, 303)),
        )

    @property
    def _page(self) -> str:
        """The path of the page that deletes the account."""
        return _DATA if self.start.origin.is_alone else _ACCOUNT

    @property
    def _takes_passwords(self) -> bool:
        return SignInMethod.PASSWORD in self.methods

    async def _sign_in(self, request: Request) -> Response:
        email, password, target, code = await fields(request, "email", "password", "next", "invite")
        target, code = local_path(target), read_invitation(code)
        is_new = request.url.path == _ACCOUNT
        attempts = self.start.attempts
        delay = attempts.delay_answers if is_new and self.by_code else attempts.delay_refusals
        try:
            async with delay():
                email = checked_address(email)
                self._accounts.policy.check_address(email)
                if is_new:
                    return await self._sign_up(request, email, password, code, target)
                return await self._enter(request, email, password, code, target)
        except errors.AppError as error:
            purpose = SignUpCode.name if is_new else ""  # the form that shows the refusal
            return RedirectResponse(with_reason(target, error, code=purpose, invite=code), 303)

    async def _enter(
        self, request: Request, email: EmailAddress, password: str, code: str, target: str
    ) -> Response:
        """Sign in with a password, or redirect to the form for the second factor."""
        found = await self._find(request, email)
        checked = await self._checked(request, found, password)
        accounts, browser = self._accounts, self.start.browser(request)
        counted = checked.counted
        entry = Entry(way=Way.SIGN_IN, address=email, counted=counted, invitation=code)

        def act() -> Entered:
            return Entered(*accounts.sign_in(checked, code, browser))

        is_first = not found.is_taken
        return await Entries(self.start).enter(
            request, entry, checked.stored, target, act, is_new_account=is_first
        )

    async def _sign_up(
        self, request: Request, email: EmailAddress, password: str, code: str, target: str
    ) -> Response:
        """Create an account, or send a code that completes the sign-up (`SignUpCode`).

        If passwords are disabled, the user can sign in to the account only with codes. Raise SignUpsClosed if no code
        can be sent in that case, because the app sends no email, or because Supabase Auth confirms addresses itself.
        """
        throttles = self.start.attempts.sign_up(self.start.origin.client_address(request))
        found = await run_sync(self._accounts.find_for_sign_up, email, throttles, code)
        hashed = None
        if self._takes_passwords:
            hashed = await self._hash(request, lambda: found.hashed(password), found.known_user)
        if self.by_code and (hashed is None or found.sign_ups.confirms_by_code):
            confirms = self._accounts.backend.sign_in.confirms_addresses
            if not await run_sync(confirms):
                return await self.by_code.answer(request, found, hashed, code, target)
        if hashed is None:
            raise errors.SignUpsClosed
        accounts, browser = self._accounts, self.start.browser(request)
        entry = Entry(way=Way.SIGN_UP, address=email, password_hash=hashed, invitation=code)

        def act() -> Entered:
            return Entered(*accounts.sign_up(found, hashed, code, browser))

        return await Entries(self.start).enter(
            request, entry, None, target, act, is_new_account=True
        )

    async def _find(self, request: Request, email: EmailAddress) -> Found:
        """Count an attempt to sign in as *email*, and return the account data stored for this address."""
        device, address = (
            self.start.origin.device_cookie(request),
            self.start.origin.client_address(request),
        )
        throttles = self.start.attempts.sign_in(email, address, device)
        return await run_sync(self._accounts.find, email, throttles)

    async def _checked(self, request: Request, found: Found, password: str) -> Checked:
        """Return the credentials. Raise WrongCredentials if *password* is wrong or the account disallows passwords.

        The error is the same in both cases, because MethodOff would reveal that the password is right.
        """
        checked = await self._hash(request, lambda: found.checked(password), found.known_user)
        if not self._accounts.policy.opens(checked.credentials, BY_PASSWORD):
            raise errors.WrongCredentials
        return checked

    async def _hash(
        self, request: Request, work: Callable[[], Answer], user_id: UserId | None
    ) -> Answer:
        """Return the result of *work*, which hashes a password; *user_id*: the user whose known device sent the request."""
        client = networks_of(self.start.origin.client_address(request))[-1].name
        return await self.lanes.run(work, client=client, user_id=user_id)

    @property
    def _accounts(self) -> Accounts:
        return self.start.accounts

    async def _sign_out(self, request: Request) -> Response:
        try:
            if cookie := self.start.origin.session_cookie(request):
                await run_sync(self.start.shared().session_cache.leave, cookie)
        except errors.StoreUnavailable:  # the cookie stays, so that the user can try again
            return RedirectResponse(with_query(self._page, reason="still-signed-in"), 303)
        provider = self.start.origin.provider_cookie(request)
        answer = RedirectResponse(with_query("/", left=provider, reason="left"), 303)
        for name in ("sid", *(["provider"] if provider else [])):
            self.start.origin.set_cookie(answer, request, name, "", 0)
        return answer

    async def _prove(self, request: Request) -> Response:
        """Store a proof of who is signed in, if the password is right."""
        password, entered, then = await fields(request, "password", "factor", "then")
        proof, target = Proof(request, self.start.origin), with_query(_ACCOUNT, then=then)
        try:
            signed_in = await self._current_session(request)
            if signed_in is None:
                raise errors.SignedOut
            session = signed_in.session
            async with self.start.attempts.delay_refusals():
                self._accounts.policy.check_address(session.email)
                found = (await self._find(request, session.email)).in_session()
                try:
                    checked = await self._checked(request, found, password)
                except errors.WrongCredentials:
                    note_failure(self._accounts.backend, session.user_id, Failure.PROOF)
                    raise
                check = FactorCheck(self.start.attempts, self.start.origin, self.start.notices)
                note = partial(proof.note, self.start.shared(), session)
                await run_sync(
                    check.prove, request, self._accounts, session, checked, entered, note
                )
            target = with_query(target, reason="proved")
        except errors.SignedOut:  # the session has ended, or another proof has replaced the cookie
            pass
        except errors.AppError as error:
            target = with_reason(target, error)
        return proof.finish(RedirectResponse(target, 303))

    async def _change_password(self, request: Request) -> Response:
        """Change the password of the session's account, if its user has proved who they are."""
        [password] = await fields(request, "password")
        try:
            signed_in = await self._current_session(request)
            if signed_in is None:
                return RedirectResponse(_ACCOUNT, 303)
            session, current = signed_in.session, signed_in.current
            has_password = current.credentials.password_hash is not None
            async with self.start.attempts.delay_refusals():
                is_part = not has_password
                # require the proof before the throttle counts: a thief with a copied cookie must not use up the throttle
                await run_sync(partial(require_proof, self._accounts, session, is_part=is_part))
                counted = [self.start.attempts.password(session.user_id)]
                await run_sync(self._accounts.backend.count_throttles, counted)
                device = self.start.origin.device_cookie(request)
                is_known = self.start.attempts.is_known(device, session.user_id)
                known_user = session.user_id if is_known else None
                hashed = await self._hash(request, lambda: current.hashed(password), known_user)
                if has_password:
                    change = partial(self._accounts.change_password, session, current, hashed)
                    devices = (await run_sync(self.start.shared().user_of, session)).devices
                    await run_sync(devices.end_others_by, change)
                else:
                    await run_sync(self._accounts.add_password, session, current, hashed)
                    self.start.shared().outdate_sign_in_details(session.user_id)
            tell, kind = self.start.notices.tell, NoticeKind.PASSWORD_CHANGED
            await run_sync(tell, request, self._accounts.backend, session, kind)
        except errors.AppError as error:
            return RedirectResponse(with_reason(with_form(request, _ACCOUNT), error), 303)
        outcome = "changed" if has_password else "password-added"
        return RedirectResponse(f"{_ACCOUNT}?reason={outcome}", 303)

    async def _delete(self, request: Request) -> Response:
        """Delete the session's account if its user has entered the account's email address (if any) and has proved
        who they are.

        On a deployment without sign-in, the user types a confirmation word instead of giving a proof.
        """
        email, word = await fields(request, "address", "word")
        session: AppSession | None = None
        try:
            signed_in = await self._current_session(request)
            if signed_in is None:
                return RedirectResponse(self._page, 303)
            session = signed_in.session
            async with self.start.attempts.delay_refusals():
                is_meant = not self.start.origin.is_alone or word.strip().casefold() == DELETE_WORD
                is_address = session.email == NO_ADDRESS or checked_address(email) == session.email
                if not is_address or not is_meant:
                    return RedirectResponse(
                        with_query(with_form(request, self._page), reason="email"), 303
                    )
                shared = self.start.shared()
                stop_turns = partial(shared.stop_turns_of, StopCause.USER)
                administration = session.backend.administration
                forget = shared.session_cache.forget_ended_of
                access = UserAccess(administration, stop_turns, forget=forget)
                await run_sync(access.delete, session.user_id)
        except errors.AppError as error:
            if session and isinstance(error, errors.ProofNeeded):
                note_failure(self._accounts.backend, session.user_id, Failure.CHANGE)
            return RedirectResponse(with_reason(with_form(request, self._page), error), 303)
        log_event("account.deleted", user=session.user_id)
        self.start.notices.mail_of_deletion(request, session)
        answer = RedirectResponse("/?reason=deleted", 303)
        for name in ("sid", "device"):
            self.start.origin.set_cookie(answer, request, name, "", 0)
        return answer

    async def _current_session(self, request: Request) -> SignedIn | None:
        """Return the session of the request's cookie, if any. Raise the other errors of `current_session`."""
        cookie = self.start.origin.session_cookie(request)
        with suppress(errors.SignedOut):
            return await run_sync(current_session, self.start.shared(), cookie)
        return None
