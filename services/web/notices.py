"""Mails that tell users what changed or tried the ways into their accounts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

from services.domain import UserId
from services.domain.addresses import EmailAddress
from services.domain.mails import Mail, Notice, NoticeKind
from services.errors import AppError
from services.events import log_event
from services.store.accounts import AppSession
from services.store.backend import Backend
from services.web.attempts import Attempts
from services.web.origin import Origin, browser_of

_LIFE = timedelta(hours=24)  # after which a notice that no server took is no news


@dataclass(frozen=True, slots=True)
class Notices:
    """Sends notices. Any thread may call any method."""

    attempts: Attempts
    origin: Origin
    send: Callable[[Mail], object] = field(repr=False)  # returns at once

    def tell(
        self, request: Request, backend: Backend, session: AppSession, kind: NoticeKind
    ) -> None:
        """Tell the user of *session* what *request* has done, as `tell_user` does.

        An address that was never confirmed is told nothing, because its mailbox may be a stranger's.
        """
        if session.is_confirmed:
            self.tell_user(request, backend, session.email, session.user_id, kind)

    def tell_user(
        self,
        request: Request,
        backend: Backend,
        address: EmailAddress,
        user_id: UserId,
        kind: NoticeKind,
    ) -> None:
        """Tell a user at *address*, which is confirmed, what *request* has done: one notice of a kind an hour. It blocks.

        A failure is logged, not raised, because what it tells of has been done.
        """
        is_known = self.attempts.is_known(self.origin.device_cookie(request), user_id)
        try:
            mail = _mail(request, address, kind, is_known=is_known)
            backend.count_throttles([self.attempts.notice(kind, user_id)])
        except AppError as error:  # for example TooManyAttempts
            log_event("notice.dropped", kind=kind, error=type(error))
        else:
            self.send(mail)

    def tell_address(self, request: Request, address: EmailAddress, kind: NoticeKind) -> None:
        """Tell an *address*, which was confirmed, that an account has left it, or has it now.

        A code precedes each such change, so there is no further limit: the user of an address that was left must learn of it.
        """
        self.send(_mail(request, address, kind, is_known=True))


def _mail(request: Request, address: EmailAddress, kind: NoticeKind, *, is_known: bool) -> Mail:
    """Raise BadAddress."""
    now = datetime.now(UTC)
    return Mail(
        address=address,
        content=Notice(kind),
        browser=browser_of(request),
        at=now,
        expires_at=now + _LIFE,
        is_known=is_known,
    )
