"""Mails to users: codes, what is sent in the place of a code, and notices. Plain values, without words."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from services.domain.addresses import EmailAddress, checked_address
from services.domain.browsers import BrowserName
from services.errors import BadAddress


class CodePurpose(StrEnum):
    """What a code is good for."""

    CONFIRM_ADDRESS = "confirm_address"  # of a sign-up, or of an account
    SIGN_IN = "sign_in"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - no password
    NEW_ADDRESS = "new_address"  # sent to the new address
    RESTORE_ADDRESS = "restore_address"  # sent to the old one
    PROVE = "prove"  # who is signed in, before a change of the account


class NoCodeReason(StrEnum):
    """Why a mail without a code is sent in the place of one, so that the page can answer alike."""

    TAKEN = "taken"  # there is an account with the address
    UNCONFIRMED = "unconfirmed"  # the account has never confirmed the address


class NoticeKind(StrEnum):
    """What a user is told of, because it changed or tried the ways into the account."""

    NEW_DEVICE = "new_device"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    WRONG_FACTORS = "wrong_factors"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"
    FEW_RECOVERY_CODES = "few_recovery_codes"
    PASSWORD_RESET = "password_reset"  # noqa: S105 - no password
    ADDRESS_CHANGED = "address_changed"
    FORMER_ADDRESS = "former_address"  # to the address that was left, and may be taken back
    OPERATOR = "operator"  # an operator changed the account


@dataclass(frozen=True, slots=True)
class Code:
    """A code, as decimal digits."""

    purpose: CodePurpose
    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoCode:
    """A mail in the place of a code."""

    reason: NoCodeReason


@dataclass(frozen=True, slots=True)
class Notice:
    """News of an account."""

    kind: NoticeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail to one address.

    `browser`: the browser that asked for it or caused it; None: an operator's command. `at`: when it did.
    `expires_at`: when the mail is of no use any more, and is no longer sent.
    `is_known`: true if the browser is a known device of the user.
    """

    address: EmailAddress = field(repr=False)
    content: Code | NoCode | Notice
    browser: BrowserName | None = field(repr=False)
    at: datetime
    expires_at: datetime
    is_known: bool
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        """Raise BadAddress if the address has another form: it could name two recipients."""
        if checked_address(self.address) != self.address:
            raise BadAddress

    @property
    def kind(self) -> CodePurpose | NoCodeReason | NoticeKind:
        """The kind of the content, which is fit for a log."""
        match self.content:
            case Code(kind) | NoCode(kind) | Notice(kind):
                return kind


class LoginRefused(OSError):
    """Raised if the mail server does not let the app log in: it takes none of its mails."""

    def __init__(self, offered: str = "") -> None:
        """*offered*: the ways to log in that the server offers, if it takes no password."""
        super().__init__()
        self.offered = offered
