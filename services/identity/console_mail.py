"""Emails that are printed instead of sent, for a trial on one machine."""

from collections.abc import Callable

from services.domain.mails import Code, Mail
from services.identity.mail_texts import text_of


class ConsoleSender:
    """Prints the address, the subject and, if there is one, the code of each email."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, mail: Mail) -> bool:
        subject = text_of(mail).subject
        code = f" {mail.content.digits}" if isinstance(mail.content, Code) else ""
        self._write(f"Mail to {mail.address}: {subject}{':' if code else ''}{code}")
        return True
