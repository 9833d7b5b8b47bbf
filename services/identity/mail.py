"""The SMTP client. Only this module imports smtplib; it is imported only when the app sends an email or checks the server.

Connections to other machines require TLS with a verified certificate: from the first byte at port 465, else by
STARTTLS.
"""

import smtplib
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from enum import Enum

from pydantic import SecretStr

from services.domain.addresses import EmailAddress
from services.domain.hosts import is_this_machine
from services.domain.mails import LoginRefused, Mail
from services.identity.mail_texts import text_of
from services.settings import MailServer
from services.store.operator import Finding, Mark

_STEP_SECONDS = 10.0
_TLS_PORT = 465
_DAYBOOK = "Daybook"
_BY_PASSWORD = {"CRAM-MD5", "PLAIN", "LOGIN"}  # the login methods that smtplib supports
_ENCODED_WORD = "=?", "?="  # beginning and end of an encoded word (RFC 2047)
# 998: the longest line that SMTP allows. No line of our emails is longer, so no header is folded and no body is
# encoded.
_POLICY = SMTP.clone(max_line_length=998)


class Tls(Enum):
    """The ways to encrypt an SMTP connection."""

    NONE = "none"  # only for a server on this machine
    AT_ONCE = "at_once"
    STARTTLS = "starttls"


def tls_of(server: MailServer) -> Tls:
    """Return how a connection to *server* is encrypted."""
    if server.port == _TLS_PORT:
        return Tls.AT_ONCE
    return Tls.NONE if is_this_machine(server.host) else Tls.STARTTLS


class SmtpSender:
    """Sends each email over a new connection."""

    def __init__(self, server: MailServer, step_seconds: float = _STEP_SECONDS) -> None:
        """*step_seconds* is the timeout of each step: connecting, or waiting for one reply of the server."""
        self._server, self._step_seconds = server, step_seconds

    def send(self, mail: Mail) -> bool:
        """Send *mail*. Return False if the server rejects *mail* permanently, or the recipient's address is unsafe in a header.

        Raise LoginRefused if the server refuses the app's login, or another OSError if a later attempt may succeed.
        """
        # refuse an address that looks like an encoded word: mail programs would decode it to another address
        if all(mark in mail.address for mark in _ENCODED_WORD):
            return False
        message = message_of(mail, self._server.sender)
        with connection(self._server, self._step_seconds) as smtp:
            try:
                smtp.sendmail(self._server.sender, [mail.address], message)
            except smtplib.SMTPRecipientsRefused as error:
                if all(_is_final(code) for code, _ in error.recipients.values()):
                    return False
                raise
            except smtplib.SMTPDataError as error:
                if _is_final(error.smtp_code):
                    return False
                raise
            # the server has accepted the email: a failure from here on must not cause a second attempt
            with suppress(OSError):
                smtp.quit()
        return True


def message_of(mail: Mail, sender: EmailAddress) -> bytes:
    """Return *mail* as a MIME message. Each attempt to send it uses the same message, except for the MIME boundary."""
    text, message = text_of(mail), EmailMessage(_POLICY)
    message["From"] = Address(_DAYBOOK, addr_spec=sender)
    message["To"] = Address(addr_spec=mail.address)
    message["Subject"] = text.subject
    message["Date"] = mail.at
    # This id does not contain the name of this machine. It is the same for each attempt, so that mail programs can drop
    # duplicates.
    message["Message-ID"] = f"<{mail.id.hex}@{_domain(sender)}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents automatic replies
    message.set_content(text.plain())
    message.add_alternative(text.html(), subtype="html")
    return message.as_bytes()


@contextmanager
def connection(server: MailServer, step_seconds: float = _STEP_SECONDS) -> Generator[smtplib.SMTP]:
    """Connect to *server*, encrypt the connection as `tls_of` says, and log in.

    Raise LoginRefused if the login is refused, or another OSError if the connection fails.
    """
    # smtplib's default TLS context verifies no certificate
    tls, checking = tls_of(server), ssl.create_default_context
    # without this name, smtplib would look up the name of this machine by DNS and send it to the server
    own_name = _domain(server.sender)
    at = server.host, server.port, own_name
    if tls is Tls.AT_ONCE:
        smtp = _SmtpOverTls(*at, timeout=step_seconds, context=checking())
    else:
        smtp = _Smtp(*at, timeout=step_seconds)
    try:
        if tls is Tls.STARTTLS:
            smtp.starttls(context=checking())
        if server.login:
            _log_in(smtp, *server.login)
        yield smtp
    finally:
        smtp.close()


def check(server: MailServer, step_seconds: float = _STEP_SECONDS) -> Finding:
    """Connect to *server* and log in, without sending an email; return the finding for the operator."""
    name = f"{server.host}:{server.port}"
    try:
        with connection(server, step_seconds) as smtp, suppress(OSError):
            smtp.quit()
    except ssl.SSLCertVerificationError as error:
        return Mark.FAIL, f"the certificate of {name} is refused: {error.verify_message}"
    except smtplib.SMTPNotSupportedError as error:
        lacks = "login" if "AUTH" in str(error) else "TLS (STARTTLS)"
        return Mark.FAIL, f"{name} offers no {lacks}: no mail is sent to it"
    except LoginRefused as error:
        if error.offered:
            return Mark.FAIL, (
                f"{name} takes no password (it offers {error.offered}): name another server, such as a relay of your provider"
            )
        return Mark.FAIL, f"{name} refuses DAYBOOK_SMTP_USER and DAYBOOK_SMTP_PASSWORD"
    except OSError as error:
        return Mark.FAIL, (
            f"{name} does not answer as a mail server ({type(error).__name__}): check DAYBOOK_SMTP_HOST and DAYBOOK_SMTP_PORT"
        )
    tls = "on this machine, without TLS" if tls_of(server) is Tls.NONE else "with TLS"
    login = " and takes the login" if server.login else ""
    return Mark.OK, f"{name} answers {tls}{login}"


def _log_in(smtp: smtplib.SMTP, user: str, password: SecretStr) -> None:
    """Log in with a password.

    Raise LoginRefused if the server refuses the password or supports none of the methods in `_BY_PASSWORD`, or
    another OSError if the connection fails.
    """
    smtp.ehlo_or_helo_if_needed()
    offered = smtp.esmtp_features.get("auth", "").split()
    if offered and not _BY_PASSWORD.intersection(offered):
        names = [one for one in offered if one.isascii() and one.replace("-", "").isalnum()]
        raise LoginRefused(", ".join(names)[:80] or "others")
    try:
        smtp.login(user, password.get_secret_value())
    # do not chain the error, whose message may contain the login
    except smtplib.SMTPAuthenticationError:
        raise LoginRefused from None


class _Smtp(smtplib.SMTP):
    """An SMTP connection whose timeout limits the wait for a whole reply; smtplib's own timeout limits each single read.

    One thread uses the connection; the thread of a timer only shuts the socket down.
    """

    def getreply(self) -> tuple[int, bytes]:
        timer = threading.Timer(self.timeout, self._cut)
        timer.daemon = True
        timer.start()
        try:
            return super().getreply()
        finally:
            timer.cancel()

    def _cut(self) -> None:
        """Shut the socket down, so that a thread that is reading a reply immediately gets an error."""
        with suppress(OSError):
            if self.sock:
                # SSLSocket.shutdown ends TLS first: a write at that moment would be sent unencrypted
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class _SmtpOverTls(_Smtp, smtplib.SMTP_SSL):
    """An `_Smtp` connection that uses TLS from the first byte."""


def _is_final(code: int) -> bool:
    return 500 <= code < 600


def _domain(address: EmailAddress) -> str:
    return address.rpartition("@")[2]
