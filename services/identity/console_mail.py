"""Emails that are printed instead of sent, for a trial on one machine."""

from collections.abc import Callable

from services.domain.mails import Mail
from services.identity.mail_texts import text_of


class ConsoleSender:
    """Prints the address, the subject and, if there is one, the code of each email."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def send(self, mail: Mail) -> bool:
        text = text_of(mail)
        code = f": {text.code}" if text.code else ""
        self._write(f"Mail to {mail.address}: {text.subject}{code}")
        return True
