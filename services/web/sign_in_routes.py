"""Routes that set and clear the session cookie: `/account` (sign up), `/account/end` (delete it), `/session` (sign in),
`/session/end`.

Native forms post here. The answer is always a redirect; after a refusal, its query has the reason. Neither the
address nor a log repeats what was entered.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from services import errors
from services.domain import ConversationId
from services.domain.accounts import SIGN_IN_REASONS
from services.domain.addresses import EmailAddress, checked_address
from services.events import log_event
from services.store.accounts import AppSession
from services.users import Shared
from services.web.attempts import DEVICE_SECONDS, Attempt, Attempts
from services.web.origin import Origin

_LONGEST_CODE = 100  # characters of an invitation's code
_REASONS = {error: reason for reason, error in SIGN_IN_REASONS.items()}


@dataclass(frozen=True, slots=True)
class SignInRoutes:
    """Signing up, in and out, and deleting an account."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    lifetime_seconds: int

    def routes(self) -> list[Route]:
        return [
            Route("/account", self._sign_in, methods=["POST"]),
            Route("/account/end", self._delete, methods=["POST"]),
            Route("/session", self._sign_in, methods=["POST"]),
            Route("/session/end", self._sign_out, methods=["POST"]),
        ]

    async def _sign_in(self, request: Request) -> Response:
        if not self.origin.is_same_origin(request):
            return _other_site()
        async with request.form(max_files=0, max_fields=10) as form:
            email, password, target, code = (
                str(form.get(name, "")) for name in ("email", "password", "next", "invite")
            )
        target, code = _local_path(target), code.strip()[:_LONGEST_CODE]
        is_new = request.url.path == "/account"
        try:
            email = checked_address(email)
            attempt = (
                self.attempts.sign_up(email, self.origin.client_address(request))
                if is_new
                else self._attempt(request, email)
            )
            async with self.attempts.reserve(attempt) as reservation:
                cache = self.shared().session_cache
                enter = cache.accounts.sign_up if is_new else cache.accounts.sign_in
                cookie, session = await run_sync(enter, email, password, reservation, code)
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
        self._set_cookie(answer, request, "sid", str(cookie), self.lifetime_seconds)
        device = self.attempts.device_cookie(email)
        self._set_cookie(answer, request, "device", device, DEVICE_SECONDS)
        return answer

    def _attempt(self, request: Request, email: EmailAddress) -> Attempt:
        """Return the throttled attempt to sign in as *email*."""
        device = request.cookies.get(self.origin.cookie_name(request, "device"), "")
        return self.attempts.sign_in(email, self.origin.client_address(request), device)

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
        self._set_cookie(answer, request, "sid", "", 0)
        return answer

    async def _delete(self, request: Request) -> Response:
        """Delete the account of the session if the user has entered its address and password again."""
        if not self.origin.is_same_origin(request):
            return _other_site()
        async with request.form(max_files=0, max_fields=10) as form:
            email, password = (str(form.get(name, "")) for name in ("address", "password"))
        cookie = self.origin.session_cookie(request)
        try:
            shared = self.shared()
            cache = shared.session_cache
            session = await run_sync(cache.find, cookie) if cookie else None
            if cookie is None or session is None:
                return RedirectResponse("/data", 303)
            email = checked_address(email)
            if email != session.email:
                raise errors.WrongCredentials
            attempt = self._attempt(request, email)
            async with self.attempts.reserve(attempt) as reservation:
                delete = cache.accounts.delete_account
                await run_sync(delete, session, password, reservation, shared.stop_turns_of)
        except errors.AppError as error:
            return RedirectResponse(_with_reason("/data", error), 303)
        log_event("account.deleted", user=session.user_id)
        with suppress(errors.StoreUnavailable):  # the database has already ended the session
            await run_sync(cache.leave, cookie)
        answer = RedirectResponse("/?reason=deleted", 303)
        for name in ("sid", "device"):
            self._set_cookie(answer, request, name, "", 0)
        return answer

    def _set_cookie(
        self, answer: Response, request: Request, name: str, value: str, seconds: int
    ) -> None:
        name = self.origin.cookie_name(request, name)
        is_secure = name.startswith("__Host-")
        answer.set_cookie(
            name, value, seconds, path="/", secure=is_secure, httponly=True, samesite="lax"
        )


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
    if isinstance(error, errors.WeakPassword) and error.reasons:
        query.append(("why", ",".join(error.reasons)))
    return parts._replace(query=urlencode(query)).geturl()
