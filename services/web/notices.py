"""Notices to users about changes to their sign-in methods and attempts to use them: on each page until dismissed, and by email."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

from services.domain import UserId
from services.domain.addresses import EmailAddress
from services.domain.mails import Mail, Notice, NoticeKind
from services.errors import AppError, Tampered, TooManyAttempts
from services.events import log_event
from services.store.accounts import Accounts, AppSession, Checked, FoundFormer
from services.store.backend import Backend, NewNotice
from services.store.notices import new_notice
from services.web.attempts import Attempts
from services.web.origin import Origin, browser_of

# the app stops trying to send an email after this time
_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Notices:
    """Stores notices, and emails them. Any thread may call any method; all methods block.

    A failure is logged, not raised, because the change that a notice reports has already been made.
    """

    attempts: Attempts
    origin: Origin
    # queues an email without waiting until it is sent; None: the app sends no email
    send: Callable[[Mail], object] | None = field(repr=False)

    def tell(
        self, request: Request, backend: Backend, session: AppSession, kind: NoticeKind
    ) -> None:
        """Notify a user of a change that *request* has made in *session*: on the pages of all other sessions, and by email.

        An address that was never confirmed gets no email, because its mailbox may belong to someone else.
        """
        notice = _notice(request, session, kind)
        address = session.email if session.is_confirmed else None
        self._tell(request, backend, session.user_id, notice, address)

    def tell_user(
        self,
        request: Request,
        accounts: Accounts,
        user_id: UserId,
        kind: NoticeKind,
        found: Checked | FoundFormer,
        address: EmailAddress | None,
    ) -> None:
        """Notify a user of an event that *request* has caused outside of a session: on each page, and by email.

        At most one email per *kind* is sent in an hour. *found*: the user's credentials, with the encryption keys, if
        available; *address*: the user's confirmed email address, if there is one.
        """
        keys = None
        with suppress(Tampered):
            keys = accounts.keys_of(found, user_id)
        notice = new_notice(kind, user_id, keys, browser_of(request))
        self._tell(request, accounts.backend, user_id, notice, address)

    def tell_of_address(
        self,
        request: Request,
        backend: Backend,
        session: AppSession,
        mails: Mapping[EmailAddress, NoticeKind],
    ) -> None:
        """Notify the user of *session* that the email address has changed: on the pages of all other sessions, and by email.

        *mails* maps each recipient to a kind of email. These emails have no throttle: each change needs an emailed
        code, and the user of the previous address must learn of it.
        """
        notice = _notice(request, session, NoticeKind.ADDRESS_CHANGED)
        self._tell(request, backend, session.user_id, notice, None)
        if self.send:
            for address, kind in mails.items():
                self.send(_mail(request, address, kind, is_known=True))

    def mail_of_deletion(self, request: Request, session: AppSession) -> None:
        """Email the user of *session*, unless the address was never confirmed, that the account was deleted."""
        if self.send and session.is_confirmed:
            kind = NoticeKind.ACCOUNT_DELETED
            self.send(_mail(request, session.email, kind, is_known=True))

    def _tell(
        self,
        request: Request,
        backend: Backend,
        user_id: UserId,
        notice: NewNotice,
        address: EmailAddress | None,
    ) -> None:
        kind, mail = notice.kind, None
        try:
            if self.send and address:
                device = self.origin.device_cookie(request)
                is_known = self.attempts.is_known(device, user_id)
                mail = _mail(request, address, kind, is_known=is_known)
            throttles = [self.attempts.notice(kind, user_id)] if mail else []
            backend.add_notice(user_id, notice, throttles)
        except TooManyAttempts:  # the notice is stored, but not emailed
            log_event("notice.unmailed", kind=kind)
            return
        except AppError as error:
            log_event("notice.dropped", kind=kind, error=type(error))
        if self.send and mail:
            self.send(mail)


def _notice(request: Request, session: AppSession, kind: NoticeKind) -> NewNotice:
    keys, user_id = session.user_keys, session.user_id
    return new_notice(kind, user_id, keys, browser_of(request), session.id)


def _mail(request: Request, address: EmailAddress, kind: NoticeKind, *, is_known: bool) -> Mail:
    """Return the email for a notice of this *kind*. Raise BadAddress if *address* is invalid."""
    now = datetime.now(UTC)
    return Mail(
        address=address,
        content=Notice(kind),
        browser=browser_of(request),
        at=now,
        expires_at=now + _LIFE,
        is_known=is_known,
    )
