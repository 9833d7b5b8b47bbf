"""Mails that tell users that an operator's command has changed their account.

The command sends them itself, because it does not know whether an app process is running.
"""

from datetime import UTC, datetime, timedelta

from services.domain.addresses import EmailAddress
from services.domain.mails import Mail, Notice, NoticeKind
from services.settings import MailServer

NOT_TOLD = "No mail could be sent: tell the user."
REFUSED = "The mail server refuses the user's address: tell the user."
_LIFE = timedelta(minutes=5)  # a mail expires after this time; sending it is tried only once


def tell(server: MailServer | None, address: EmailAddress) -> str:
    """Tell a user, by mail to their confirmed *address*, that an operator changed the account.

    Return a sentence that tells the operator whether the mail was sent; "" if *server* is None (no mail server is configured).
    """
    if server is None:
        return ""
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
        return "The user was told by mail." if SmtpSender(server).send(mail) else REFUSED
    except OSError:
        return NOT_TOLD
