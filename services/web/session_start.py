"""The response that begins an app session in a browser: it sets the cookies, and ends the browser's previous session."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services import errors
from services.daemon_threads import in_thread
from services.domain import ConversationId
from services.domain.addresses import has_mailbox
from services.domain.mails import NoticeKind
from services.events import log_event
from services.store.accounts import Accounts, AppSession, Cookie
from services.store.device_names import Browser
from services.store.steps import Steps
from services.users import Shared
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.notices import Notices
from services.web.origin import Origin, browser_of
from services.web.shown_once import codes_page


def redirect(target: str) -> Response:
    return RedirectResponse(target, 303)


@dataclass(frozen=True, slots=True)
class SessionStart:
    """Gives a new session to the browser that has signed in. Any thread may call its methods."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    lifetime_seconds: int
    notices: Notices

    @property
    def accounts(self) -> Accounts:
        return self.shared().session_cache.accounts

    @property
    def steps(self) -> Steps:
        return Steps.of(self.accounts)

    def count_try(self, browser: Cookie, step_id: UUID) -> None:
        """Count an attempt in the throttle of a browser's step, as `Steps.count_try` does. Raise TriesUsed."""
        steps = self.steps
        steps.count_try(self.attempts.tries(steps.row_key(browser, step_id)))

    def browser(self, request: Request) -> Browser:
        """Return the browser that sent *request*, in which a session is about to begin."""
        cookie, device = self.origin.session_cookie(request), self.origin.device_cookie(request)
        return Browser(
            name=browser_of(request),
            cookie_before=cookie.hash if cookie else None,
            last=self.attempts.last_session(device),
        )

    async def answer(
        self,
        request: Request,
        cookie: Cookie,
        session: AppSession,
        target: str,
        *,
        is_new_account: bool = False,
        page: Callable[[str], Response] = redirect,
    ) -> Response:
        """Set the session's cookies; return the redirect to *target*, or if that is another user's chat, to the front page.

        *page*: a function that builds a different response, with a link to the target. Notify the user of a new
        device, unless the account was just created. Redirect a user whose address is a placeholder to the Account
        page if the app sends email.
        """
        cache = self.shared().session_cache
        await run_sync(cache.add, cookie, session)
        log_event("session.started", user=session.user_id, session=session.id)
        device = self.origin.device_cookie(request)
        if not is_new_account and not self.attempts.has_signed_in(device, session.user_id):
            tell, backend = self.notices.tell, cache.accounts.backend
            # in a thread, so that the response does not wait for the notice
            in_thread("notice", lambda: tell(request, backend, session, NoticeKind.NEW_DEVICE))
        # the browser may still have the cookie of another session, perhaps of another account: end that session
        if previous := self.origin.session_cookie(request):
            target = await run_sync(self._visible_target, session, target)
            with suppress(errors.StoreUnavailable):  # if this fails, the old session stays open
                await run_sync(cache.leave, previous)
        if self.notices.send and not has_mailbox(session.email):
            target = "/account"
        answer = page(target)
        self.origin.set_cookie(answer, request, "sid", str(cookie), self.lifetime_seconds)
        device = self.attempts.device_cookie(session.user_id, session.id, device)
        self.origin.set_cookie(answer, request, "device", device, DEVICE_SECONDS)
        # delete the cookie, so that a stranger who knows the cookie cannot continue later steps
        if self.origin.step_cookie(request):
            self.origin.set_step_cookie(answer, request, None)
        return answer

    def page_of_codes(
        self, request: Request, session: AppSession, codes: tuple[str, ...]
    ) -> Callable[[str], Response]:
        """Notify the user that sign-ins now ask for a passkey; return a function that builds the page with recovery *codes*.

        This call blocks.
        """
        kind = NoticeKind.PASSKEY_FACTOR_ADDED
        self.notices.tell(request, self.accounts.backend, session, kind)
        return codes_page(codes, session.email)

    def _visible_target(self, session: AppSession, target: str) -> str:
        try:
            conversation_id = UUID(dict(parse_qsl(urlsplit(target).query)).get("c", ""))
        except ValueError:
            return target
        # ignore errors: the page at *target* reports them, for example StoreUnavailable
        with suppress(errors.AppError):
            wanted = ConversationId(conversation_id)
            if not self.shared().store_of(session, wanted).conversations.some([wanted]):
                return "/"
        return target
