"""The rules for a new password."""

from functools import cache
from pathlib import Path

from services.domain.addresses import EmailAddress
from services.domain.safe_text import normalize
from services.errors import WeakPassword

# the minimum length; NIST SP 800-63B-4 recommends length, not kinds of characters
PASSWORD_CHARACTERS = 12
PASSWORD_BYTES = 1_024  # the maximum length in UTF-8: enough for a sentence, and fast to check
PASSWORD_RULE = f"At least {PASSWORD_CHARACTERS} characters. A short sentence works well."
# the name of this app: a password must not consist of it and digits or signs (OWASP ASVS 5.0, 6.1.2)
_APP = "daybook"
# the 3,000 most common passwords that pass the other rules (OWASP ASVS 5.0, 6.2.4), in lower case
_COMMON = Path(__file__).with_name("common_passwords.txt")


def check_new_password(email: EmailAddress, password: str) -> None:
    """Raise WeakPassword with the reason if *password* is too weak for the account of *email*."""
    if reason := _weakness(email, password):
        raise WeakPassword(reason)


def _weakness(email: EmailAddress, password: str) -> str | None:
    """Return the reason to refuse *password* as a code for `WeakPassword`; None if the password is accepted."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:  # *password* contains an unpaired surrogate
        return "unreadable"
    if size > PASSWORD_BYTES:  # checked first, because the other checks are slow for long text
        return "long"
    if len(password) < PASSWORD_CHARACTERS:
        return "short"
    folded = normalize("NFC", password).casefold()
    if folded in (email, email.partition("@")[0]):
        return "address"
    rest = folded.replace(_APP, "")
    if rest != folded and not any(map(str.isalpha, rest)):  # such as "daybook-2026!"
        return "name"
    if len(set(folded)) <= 2:  # such as "abababababab"
        return "repeated"
    return "common" if folded in _common_passwords() else None


@cache
def _common_passwords() -> frozenset[str]:
    return frozenset(_COMMON.read_text("utf-8").splitlines())
