"""Mails that tell users what changed or tried the ways into their accounts."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.daemon_threads import in_thread
from services.domain.browsers import BrowserName
from services.domain.mails import Mail, Notice, NoticeKind
from services.errors import AppError
from services.events import log_event
from services.identity.mailer import Mailer
from services.store.accounts import AppSession
from services.store.backend import Backend
from services.web.attempts import Attempts

_LIFE = timedelta(hours=24)  # after which a notice that no server took is no news


@dataclass(frozen=True, slots=True)
class Notices:
    """Sends notices: one of a kind and user an hour. Any thread may call any method."""

    mailer: Mailer
    attempts: Attempts

    def send(
        self, backend: Backend, session: AppSession, kind: NoticeKind, browser: BrowserName
    ) -> None:
        """Tell the user of *session*, from a thread, so that no caller waits for the throttle or shows its state."""
        at = datetime.now(UTC)

        def send() -> None:
            try:
                mail = Mail(
                    address=session.email,
                    content=Notice(kind),
                    browser=browser,
                    at=at,
                    expires_at=at + _LIFE,
                    is_known=False,
                )
                backend.count_throttles([self.attempts.notice(kind, session.user_id)])
            except (
                AppError
            ) as error:  # TooManyAttempts, or a database that is away: the sign-in itself goes on
                log_event("notice.dropped", kind=kind, error=type(error))
            else:
                self.mailer.send(mail)

        in_thread("notice", send)
