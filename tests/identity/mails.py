"""Mails of the tests."""

from datetime import UTC, datetime, timedelta

from services.domain.addresses import EmailAddress
from services.domain.browsers import BrowserName
from services.domain.mails import Code, CodePurpose, Mail, Notice, NoticeKind

DIGITS = "73310428"
MAYA = EmailAddress("maya@daybook.test")
FIREFOX = BrowserName("Firefox on Linux")


def a_mail(content=None, *, seconds=600.0, is_known=False, **changes):
    """A mail with a code for a stranger, unless *content* or others say otherwise."""
    now = datetime.now(UTC)
    fields = {
        "address": MAYA,
        "content": content or Code(CodePurpose.SIGN_IN, DIGITS),
        "browser": FIREFOX,
        "at": now,
        "expires_at": now + timedelta(seconds=seconds),
        "is_known": is_known,
    }
    return Mail(**fields | changes)


def a_notice(**changes):
    return a_mail(Notice(NoticeKind.NEW_DEVICE), **changes)
