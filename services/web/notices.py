"""Mails that tell users of changes to the ways into their accounts."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

from services.domain.browsers import browser_name
from services.domain.mails import Mail, Notice, NoticeKind
from services.errors import AppError
from services.store.accounts import AppSession
from services.store.backend import Backend
from services.web.attempts import Attempts
from services.web.origin import Origin

_NOTICE_LIFE = timedelta(days=1)  # for which a notice that the mail server does not take is tried


@dataclass(frozen=True, slots=True)
class Notices:
    """Sends notices. Any thread may call any method."""

    attempts: Attempts
    origin: Origin
    send: Callable[[Mail], object] = field(repr=False)  # returns at once

    def tell(
        self, request: Request, backend: Backend, session: AppSession, kind: NoticeKind
    ) -> None:
        """Mail the user of *session* what *request* has done, once an hour. It is never an error: the deed is done."""
        with suppress(AppError):
            backend.count_throttles((self.attempts.notice(kind, session.user_id),))
            now, device = datetime.now(UTC), self.origin.device_cookie(request)
            mail = Mail(
                address=session.email,
                content=Notice(kind),
                browser=browser_name(request.headers.get("user-agent", "")),
                at=now,
                expires_at=now + _NOTICE_LIFE,
                is_known=self.attempts.is_known(device, session.user_id),
            )
            self.send(mail)
