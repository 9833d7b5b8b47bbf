"""Email addresses in the canonical form in which they are compared, stored and counted."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from services.errors import AddressNotPlain, BadAddress

EmailAddress = NewType("EmailAddress", str)

# the address of the single user of a deployment without sign-in
NO_ADDRESS = EmailAddress("owner@daybook.invalid")
LONGEST_ADDRESS = 254  # characters; RFC 5321 limits the address in angle brackets to 256
# no mailbox can have this domain, because RFC 2606 reserves .invalid
_NO_MAILBOX = "@daybook.invalid"
# the domain of the random addresses that replace those of deleted accounts (in SQL: private.delete_account)
_DELETED = "@deleted.invalid"
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# the form of an address in lower case; the sign-in page checks it in the browser, too
ADDRESS_PATTERN = rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+"
_ADDRESS = re.compile(ADDRESS_PATTERN)


class ConfirmedBy(StrEnum):
    """The ways in which an address can be confirmed."""

    CODE = "code"  # by a code that was mailed to the address
    OPERATOR = "operator"  # by an operator, whose command gave the account this address
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The method and the time of the confirmation that an email address belongs to the user."""

    how: ConfirmedBy
    at: datetime  # in UTC, whole seconds


def checked_address(text: str) -> EmailAddress:
    """Return the email address *text* in lower case. Raise BadAddress if it is not valid, and its AddressNotPlain if it is
    not ASCII.

    A valid address is a dot-atom (RFC 5322), an @ and a domain of at least two labels of ASCII letters, digits and
    hyphens, as in `private.is_address` in SQL. International domains are not converted: users type the xn-- form.
    """
    if not text.isascii():
        raise AddressNotPlain
    address = text.lower() if len(text) <= LONGEST_ADDRESS else ""
    if not _ADDRESS.fullmatch(address) or address.endswith(_DELETED):
        raise BadAddress
    return EmailAddress(address)


def new_placeholder() -> EmailAddress:
    """Return a random address without a mailbox, for an account whose address an operator has freed."""
    return EmailAddress(f"freed-{secrets.token_hex(6)}{_NO_MAILBOX}")


def has_mailbox(address: EmailAddress) -> bool:
    """Return False for an address that no mail can reach: a placeholder, or `NO_ADDRESS`."""
    return not address.endswith(_NO_MAILBOX)
