"""Routes of sessions and accounts: `/session` (sign in), `/session/end`, `/account` (sign up), `/proof` (prove again who
is signed in), and what wants a proof: `/account/password` (change it), `/account/end` (delete the account).

Native forms post here. The answer is always a redirect; after a refusal, its query has the reason. Neither the
address nor a log repeats what was entered.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services import errors
from services.domain import ConversationId
from services.domain.accounts import DELETE_WORD, SIGN_IN_REASONS
from services.domain.addresses import NO_ADDRESS, EmailAddress, checked_address
from services.domain.browsers import BrowserName, browser_name
from services.domain.mails import NoticeKind
from services.events import log_event
from services.store.accounts import Accounts, AppSession, Cookie, Found
from services.store.administration import UserAccess
from services.users import Shared
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.origin import Origin, networks_of

Answer = TypeVar("Answer")

_LONGEST_CODE = 100  # characters of an invitation's code
_ACCOUNT, _DATA = "/account", "/data"  # pages with forms
_PROVING = {_ACCOUNT, _DATA}  # pages with a form that proves who is signed in
_REASONS = {error: reason for reason, error in SIGN_IN_REASONS.items()}


@dataclass(frozen=True, slots=True)
class SignInRoutes:
    """Signing up, in and out, changing a password, and deleting an account."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    lifetime_seconds: int
    lanes: HashingLanes = field(default_factory=HashingLanes)
    notices: Notices | None = None  # None: no mail is sent

    def routes(self) -> list[Route]:
        ends = [
            Route("/account/end", self._delete, methods=["POST"]),
            Route("/session/end", self._sign_out, methods=["POST"]),
        ]
        if self.origin.is_alone:  # no password opens anything
            return ends
        return [
            Route("/account", self._sign_in, methods=["POST"]),
            Route("/account/password", self._change_password, methods=["POST"]),
            Route("/proof", self._prove, methods=["POST"]),
            Route("/session", self._sign_in, methods=["POST"]),
            *ends,
        ]

    async def _sign_in(self, request: Request) -> Response:
        if not self.origin.is_same_origin(request):
            return _other_site()
        email, password, target, code = await _fields(
            request, "email", "password", "next", "invite"
        )
        target, code = _local_path(target), code.strip()[:_LONGEST_CODE]
        enter = self._enter_new if request.url.path == _ACCOUNT else self._enter
        try:
            async with self.attempts.delay_refusals():
                email = checked_address(email)
                cache = self.shared().session_cache
                cookie, session = await enter(request, email, password, code)
                await run_sync(cache.add, session)
                log_event("session.started", user=session.user_id, session=session.id)
                # the browser may have the cookie of another session or account
                if previous := self.origin.session_cookie(request):
                    target = await run_sync(self._visible_target, session, target)
                    with suppress(errors.StoreUnavailable):  # the old session stays then
                        await run_sync(cache.leave, previous)
        except errors.AppError as error:
            return RedirectResponse(_with_reason(target, error, code), 303)
        answer = RedirectResponse(target, 303)
        self.origin.set_cookie(answer, request, "sid", str(cookie), self.lifetime_seconds)
        device = self.attempts.device_cookie(session.user_id)
        self.origin.set_cookie(answer, request, "device", device, DEVICE_SECONDS)
        if self.origin.step_cookie(request):  # who knew it before the session must not go on in it
            self.origin.set_step_cookie(answer, request, None)
        return answer

    async def _enter(
        self, request: Request, email: EmailAddress, password: str, code: str
    ) -> tuple[Cookie, AppSession]:
        found = await self._find(request, email)
        checked = await self._hash(request, lambda: found.checked(password), found.is_known)
        browser = browser_of(request)
        cookie, session = await run_sync(self._accounts.sign_in, checked, code, browser)
        if self.notices and found.is_taken and not found.is_known:
            backend = self._accounts.backend
            self.notices.send(backend, session, NoticeKind.NEW_DEVICE, browser)
        return cookie, session

    async def _enter_new(
        self, request: Request, email: EmailAddress, password: str, code: str
    ) -> tuple[Cookie, AppSession]:
        throttles = self.attempts.sign_up(self.origin.client_address(request))
        found = await run_sync(self._accounts.find_for_sign_up, email, throttles, code)
        hashed = await self._hash(request, lambda: found.hashed(password), found.is_known)
        return await run_sync(self._accounts.sign_up, found, hashed, code, browser_of(request))

    def _device(self, request: Request) -> str:
        return request.cookies.get(self.origin.cookie_name(request, "device"), "")

    async def _find(self, request: Request, email: EmailAddress) -> Found:
        """Count an attempt to sign in as *email*, and return what is stored of it."""
        device, address = self._device(request), self.origin.client_address(request)
        throttles = self.attempts.sign_in(email, address, device)
        return await run_sync(self._accounts.find, email, throttles)

    async def _hash(self, request: Request, work: Callable[[], Answer], is_known: bool) -> Answer:
        """Return the answer of *work*, which hashes a password; *is_known*: for a known device."""
        client = networks_of(self.origin.client_address(request))[-1].name
        return await self.lanes.run(work, client=client, is_known=is_known)

    @property
    def _accounts(self) -> Accounts:
        return self.shared().session_cache.accounts

    def _visible_target(self, session: AppSession, target: str) -> str:
        """Return *target*, or the front page if *target* is another user's conversation."""
        try:
            conversation_id = UUID(dict(parse_qsl(urlsplit(target).query)).get("c", ""))
        except ValueError:
            return target
        with suppress(errors.AppError):  # for example an unknown session, which the page reports
            wanted = ConversationId(conversation_id)
            if not self.shared().store_of(session, wanted).conversations.some([wanted]):
                return "/"
        return target

    async def _sign_out(self, request: Request) -> Response:
        if not self.origin.is_same_origin(request):
            return _other_site()
        try:
            if cookie := self.origin.session_cookie(request):
                await run_sync(self.shared().session_cache.leave, cookie)
        except errors.StoreUnavailable as error:  # the cookie stays, to try again
            return RedirectResponse(_with_reason("/", error), 303)
        answer = RedirectResponse("/", 303)
        self.origin.set_cookie(answer, request, "sid", "", 0)
        return answer

    async def _prove(self, request: Request) -> Response:
        """Note a proof of who is signed in, if the password is right."""
        if not self.origin.is_same_origin(request):
            return _other_site()
        password, page = await _fields(request, "password", "next")
        page = page if page in _PROVING else _ACCOUNT
        try:
            session = await self._session(request)
            if session is None:
                return RedirectResponse(page, 303)
            async with self.attempts.delay_refusals():
                found = await self._find(request, session.email)
                checked = await self._hash(request, lambda: found.checked(password), found.is_known)
                await run_sync(self._accounts.prove, session, checked)
        except errors.AppError as error:
            return RedirectResponse(_with_reason(page, error), 303)
        return RedirectResponse(f"{page}?reason=proved", 303)

    async def _change_password(self, request: Request) -> Response:
        """Change the password of the session's account, if its user has proved who they are."""
        if not self.origin.is_same_origin(request):
            return _other_site()
        [password] = await _fields(request, "password")
        try:
            session, cookie = await self._session(request), self.origin.session_cookie(request)
            if session is None or cookie is None:
                return RedirectResponse(_ACCOUNT, 303)
            async with self.attempts.delay_refusals():
                current = await run_sync(self._accounts.current, cookie)
                hashed = await self._hash(request, lambda: current.hashed(password), is_known=True)
                await run_sync(self._accounts.change_password, session, current, hashed)
        except errors.AppError as error:
            return RedirectResponse(_with_reason(_ACCOUNT, error), 303)
        return RedirectResponse(f"{_ACCOUNT}?reason=changed", 303)

    async def _delete(self, request: Request) -> Response:
        """Delete the session's account if its user has entered its address (if any) and has proved who they are.

        Without sign-in, a typed word takes the place of the proof.
        """
        if not self.origin.is_same_origin(request):
            return _other_site()
        email, word = await _fields(request, "address", "word")
        try:
            session = await self._session(request)
            if session is None:
                return RedirectResponse(_DATA, 303)
            async with self.attempts.delay_refusals():
                is_meant = not self.origin.is_alone or word.strip().casefold() == DELETE_WORD
                is_address = session.email == NO_ADDRESS or checked_address(email) == session.email
                if not is_address or not is_meant:
                    return RedirectResponse(f"{_DATA}?reason=email", 303)
                access = UserAccess(session.backend.administration, self.shared().stop_turns_of)
                await run_sync(access.delete, session.user_id)
        except errors.AppError as error:
            return RedirectResponse(_with_reason(_DATA, error), 303)
        log_event("account.deleted", user=session.user_id)
        if cookie := self.origin.session_cookie(request):
            with suppress(errors.StoreUnavailable):  # the database has already ended the session
                await run_sync(self.shared().session_cache.leave, cookie)
        answer = RedirectResponse("/?reason=deleted", 303)
        for name in ("sid", "device"):
            self.origin.set_cookie(answer, request, name, "", 0)
        return answer

    async def _session(self, request: Request) -> AppSession | None:
        """Return the session of the request's cookie, if any. Raise StoreUnavailable."""
        cache, cookie = self.shared().session_cache, self.origin.session_cookie(request)
        return await run_sync(cache.find, cookie) if cookie else None


def browser_of(request: Request) -> BrowserName:
    return browser_name(request.headers.get("user-agent", ""))


async def _fields(request: Request, *names: str) -> list[str]:
    """Return the fields of the form of *request*; "" for one that it lacks."""
    async with request.form(max_files=0, max_fields=10) as form:
        return [str(form.get(name, "")) for name in names]


def _other_site() -> Response:
    return PlainTextResponse("This form was sent from another site.", 403)


def _local_path(target: str) -> str:
    """Return *target* if it is a path on this site, else the front page."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_path and target.isprintable() and len(target) < 2000 else "/"


def _with_reason(target: str, error: errors.AppError, code: str = "") -> str:
    """Return *target* with the reason of *error* in the query, and an invitation's *code*, to fill the form again."""
    parts = urlsplit(target)
    said = ("reason", "wait", "why", "invite")
    query = [(k, v) for k, v in parse_qsl(parts.query) if k not in said]
    query += [("invite", code)] if code else []
    query.append(("reason", _REASONS.get(type(error), "unavailable")))
    if isinstance(error, errors.TooManyAttempts):
        query.append(("wait", str(error.retry_after)))
    if isinstance(error, errors.WeakPassword):
        query.append(("why", error.reason))
    return parts._replace(query=urlencode(query)).geturl()
