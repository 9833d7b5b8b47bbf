"""The queue of outgoing emails, the hourly limit, and the thread that sends emails."""

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Protocol

from services.daemon_threads import in_thread
from services.domain.addresses import has_mailbox
from services.domain.health import MailHealth
from services.domain.mails import Code, Invited, LoginRefused, Mail, NoCode, Notice
from services.events import log_event
from services.identity.console_mail import ConsoleSender
from services.settings import Settings

_logger = logging.getLogger(__name__)
_HOUR_SECONDS = 3600.0
_MOST_WAITING = 500
_LONGEST_RETRY_SECONDS = 60.0


class MailSender(Protocol):
    """Sends an email immediately, without a queue."""

    def send(self, mail: Mail) -> bool:
        """Send *mail*. Return False if it is rejected permanently.

        Raise LoginRefused if the server refuses the app's login, or another OSError if a later attempt may succeed.
        """
        ...


class Rank(IntEnum):
    """The priority of an email. The lowest number is sent first, and is the last to be dropped from a full queue."""

    # an email that a known device requested: with a code, or with the reason why there is no code
    KNOWN_DEVICE = 0
    STRANGER = 1
    NOTICE = 2


class MailRefusal(Enum):
    """The reasons why an email is not queued."""

    NO_MAILBOX = "no_mailbox"  # the address is a placeholder, to which no email is sent
    HOURLY_LIMIT = "hourly_limit"
    FULL_QUEUE = "full_queue"


def rank_of(mail: Mail) -> Rank:
    match mail.content:
        case Code() | NoCode():
            return Rank.KNOWN_DEVICE if mail.is_known else Rank.STRANGER
        case Notice() | Invited():
            return Rank.NOTICE


class HourlyLimit:
    """Counts the emails of the last hour against a limit; a fifth of the limit is reserved for known devices. Not thread-safe."""

    def __init__(self, at_most: int, clock: Callable[[], float]) -> None:
        self.at_most, self._clock = at_most, clock
        self.for_known = at_most // 5
        self._known, self._others = deque[float](), deque[float]()

    @property
    def used(self) -> int:
        self._forget()
        return len(self._known) + len(self._others)

    def has_room(self, *, is_known: bool, queued: Collection[Mail] = ()) -> bool:
        """Return True if the limit allows another email after the earlier emails *queued*, which are not counted yet."""
        used, known = self.used, sum(one.is_known for one in queued)
        others = len(queued) - known
        # the number of further emails for unknown devices that the limit allows
        left = self.at_most - self.for_known - len(self._others)
        return (is_known or others < left) and used + known + min(others, left) < self.at_most

    def count(self, *, is_known: bool) -> None:
        (self._known if is_known else self._others).append(self._clock())

    def _forget(self) -> None:
        begins = self._clock() - _HOUR_SECONDS
        for times in (self._known, self._others):
            while times and times[0] <= begins:
                times.popleft()


@dataclass(slots=True)
class _Waiting:
    """An email in the queue, with a number that orders emails of equal rank, and the earliest time of its next attempt."""

    mail: Mail
    number: int
    retry_seconds: float
    due_at: float
    # False: the hourly limit has no room for this notice or invitation yet
    is_counted: bool = False

    @property
    def order(self) -> tuple[Rank, int]:
        return rank_of(self.mail), self.number


class Mailer:
    """Sends emails from a separate thread, in the order of their ranks. Any thread may call any method.

    An email that the server does not accept is retried at growing intervals until it expires. If the server refuses the
    login, all emails wait for such an interval, because more attempts could lock the mail account. A notice (and an
    invitation) waits until the hourly limit allows it, because a thief could use up the limit before signing in. Emails
    that are still waiting when the process ends are lost.
    """

    def __init__(
        self,
        open_sender: Callable[[], MailSender],
        mails_an_hour: int,
        *,
        most_waiting: int = _MOST_WAITING,
        retry_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*open_sender* is called in the sending thread, at the first email, because importing a sender is slow."""
        self._open_sender, self._clock = open_sender, clock
        self._most_waiting, self._retry_seconds = most_waiting, retry_seconds
        self._limit = HourlyLimit(mails_an_hour, clock)
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._is_sending = self._is_started = self._is_closed = False
        self._number = 0
        # after a refused login, nothing is sent until `_held_until`; `_hold_seconds` is the pause after the next refused login
        self._held_until, self._hold_seconds = 0.0, retry_seconds
        self._last_failure: tuple[str, datetime] | None = None
        self._sender: MailSender | None = None  # used only by the sending thread

    def send(self, mail: Mail) -> bool:
        """Queue *mail*. Return False if the queue or (for a code) the hourly limit is full, or the address has no mailbox.

        *mail* replaces a waiting email of the same step, such as one with an older code. If the queue is full, *mail*
        replaces the last email of the lowest priority, but only if its own priority is higher.
        """
        with self._changed:
            refusal = self._refusal(mail)
            if refusal is None:
                if not self._is_started:
                    in_thread("mail", self._run)
                    self._is_started = True
                for older in self._of_step(mail):
                    self._drop(older)
                if self._is_full:
                    self._drop(max(self._waiting, key=lambda one: one.order))
                self._number += 1
                waiting = _Waiting(mail, self._number, self._retry_seconds, self._clock())
                self._count(waiting)
                self._waiting.append(waiting)
                self._changed.notify()
        if refusal:
            log_event("mail.refused", kind=mail.kind, reason=refusal)
        return refusal is None

    def has_room(self, *, is_known: bool) -> bool:
        """Return True if the hourly limit and the queue allow another code; *is_known*: a known device requests it."""
        rank = Rank.KNOWN_DEVICE if is_known else Rank.STRANGER
        with self._changed:
            has_room = self._limit.has_room(is_known=is_known, queued=self._uncounted)
            return has_room and not self._is_full_for(rank)

    def health(self) -> MailHealth:
        """Return the state of the queue and of the hourly limit, for admins."""
        with self._changed:
            failure, failed_at = self._last_failure or (None, None)
            return MailHealth(
                last_hour=self._limit.used,
                at_most=self._limit.at_most,
                for_known=self._limit.for_known,
                waiting=len(self._waiting) + self._is_sending,
                last_failure=failure,
                last_failed_at=failed_at,
            )

    def close(self) -> None:
        """Stop the thread once it has sent the current email."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) + self._is_sending >= self._most_waiting

    @property
    def _uncounted(self) -> list[Mail]:
        return [one.mail for one in self._waiting if not one.is_counted]

    def _count(self, waiting: _Waiting) -> None:
        """Count *waiting* against the hourly limit; if the limit is reached, postpone the email for a minute."""
        if self._limit.has_room(is_known=waiting.mail.is_known):
            self._limit.count(is_known=waiting.mail.is_known)
            waiting.is_counted = True
        else:
            waiting.due_at = self._clock() + _LONGEST_RETRY_SECONDS

    def _refusal(self, mail: Mail) -> MailRefusal | None:
        if not has_mailbox(mail.address):
            return MailRefusal.NO_MAILBOX
        has_room = self._limit.has_room(is_known=mail.is_known, queued=self._uncounted)
        if not has_room and rank_of(mail) is not Rank.NOTICE:
            return MailRefusal.HOURLY_LIMIT
        return MailRefusal.FULL_QUEUE if self._is_full_for(rank_of(mail)) else None

    def _is_full_for(self, rank: Rank) -> bool:
        """Return True if the queue is full and contains no email of a lower priority than *rank*, which could be replaced."""
        lowest = max((rank_of(one.mail) for one in self._waiting), default=Rank.KNOWN_DEVICE)
        return self._is_full and lowest <= rank

    def _of_step(self, mail: Mail) -> list[_Waiting]:
        """Return the waiting emails of the same step as *mail*."""
        return [one for one in self._waiting if mail.step and one.mail.step == mail.step]

    def _drop(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        log_event("mail.dropped", kind=waiting.mail.kind)

    def _run(self) -> None:
        while waiting := self._next():
            self._try(waiting)

    def _next(self) -> _Waiting | None:
        """Wait for the next email that is due, and take it out of the queue; return None once the mailer is closed."""
        with self._changed:
            while not self._is_closed:
                now = datetime.now(UTC)
                for expired in [one for one in self._waiting if one.mail.expires_at <= now]:
                    self._drop(expired)
                is_held = self._held_until > self._clock()
                for one in self._waiting:
                    if one.due_at <= self._clock() and not one.is_counted:
                        self._count(one)
                due = [one for one in self._waiting if one.due_at <= self._clock()]
                if due and not is_held:
                    first = min(due, key=lambda one: one.order)
                    self._waiting.remove(first)
                    self._is_sending = True
                    return first
                next_at = min((one.due_at for one in self._waiting), default=None)
                if next_at is not None:
                    next_at = max(next_at, self._held_until)
                self._changed.wait(None if next_at is None else next_at - self._clock())
            return None

    def _try(self, waiting: _Waiting) -> None:
        is_again = self._is_to_be_sent_again(waiting.mail)
        with self._changed:
            self._is_sending = False
            if is_again and not self._of_step(waiting.mail):
                waiting.due_at = self._clock() + waiting.retry_seconds
                waiting.retry_seconds = min(2 * waiting.retry_seconds, _LONGEST_RETRY_SECONDS)
                # requeue the email behind others of its rank, so that failing emails do not delay the first attempt of
                # newer ones
                self._number += 1
                waiting.number = self._number
                self._waiting.append(waiting)

    def _is_to_be_sent_again(self, mail: Mail) -> bool:
        """Send *mail*; return True if that failed and a later attempt may succeed."""
        try:
            self._sender = self._sender or self._open_sender()
            if self._sender.send(mail):
                log_event("mail.sent", kind=mail.kind)
            else:
                log_event("mail.undeliverable", kind=mail.kind)
                self._show_failure("refused by the server")
            self._hold_seconds = self._retry_seconds
        except LoginRefused as error:
            self._held_until = self._clock() + self._hold_seconds
            self._hold_seconds = min(2 * self._hold_seconds, _LONGEST_RETRY_SECONDS)
            self._note_failure(mail, error)
            return True
        except (OSError, ImportError) as error:  # ImportError: the app's files are being updated
            self._note_failure(mail, error)
            return True
        except Exception as error:  # a bug: this email is lost, but the thread must send the others
            self._note_failure(mail, error)
            _logger.exception("mail.lost")
        return False

    def _note_failure(self, mail: Mail, error: Exception) -> None:
        log_event("mail.failed", kind=mail.kind, error=type(error))
        self._show_failure(_words_of(error))

    def _show_failure(self, reason: str) -> None:
        with self._changed:
            self._last_failure = reason, datetime.now(UTC)


def _words_of(error: Exception) -> str:
    """Return the reason of a failed attempt in words; the log has the class of *error*."""
    match error:
        case LoginRefused():
            return "the server refused the login, or allows none by password"
        case ssl.SSLError():
            return "no secure connection to the server"
        case OSError():
            return "no connection, or an error of the server"
        case _:
            return "internal error, which the log names"


def open_mailer(chosen: Settings, write: Callable[[str], None]) -> Mailer | None:
    """Return the mailer that the settings describe; None if they configure no email. *write* prints a line on the console."""
    if chosen.prints_mail:
        return Mailer(lambda: ConsoleSender(write), chosen.mails_an_hour)
    server = chosen.mail_server
    if server is None:
        return None

    def open_smtp() -> MailSender:
        from services.identity.mail import SmtpSender

        return SmtpSender(server)

    return Mailer(open_smtp, chosen.mails_an_hour)
