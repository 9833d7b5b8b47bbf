"""Emails that tell users that an operator's command has changed their account.

The command sends them itself, because it does not know whether an app process is running.
"""

from datetime import UTC, datetime, timedelta

from services.domain.addresses import EmailAddress
from services.domain.mails import Mail, Notice, NoticeKind
from services.settings import MailServer

TOLD = "The user was told by mail."
NO_MAIL = "No mail is set up for this command: tell the user."
NOT_TOLD = "No mail could be sent: tell the user."
REFUSED = "The mail server refuses the user's address: tell the user."
_LIFE = timedelta(minutes=5)  # lifetime of an email; the command makes only one attempt to send it


def tell(server: MailServer | None, address: EmailAddress) -> str:
    """Notify a user, by email to the confirmed *address*, that an operator has changed the account.

    Return a sentence that tells the operator whether the email was sent; *server*: None if no mail server is configured.
    """
    if server is None:
        return NO_MAIL
    from services.identity.mail import SmtpSender

    now = datetime.now(UTC)
    mail = Mail(
        address=address,
        content=Notice(NoticeKind.OPERATOR),
        browser=None,
        at=now,
        expires_at=now + _LIFE,
        is_known=True,
    )
    try:
        return TOLD if SmtpSender(server).send(mail) else REFUSED
    except OSError:
        return NOT_TOLD
