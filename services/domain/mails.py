"""Mails to users as values, without their wording: mails with a code, mails in place of a code, and notices."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from services.domain.addresses import EmailAddress, checked_address
from services.domain.browsers import BrowserName
from services.domain.names import StoredName
from services.errors import BadAddress

# the link on the sign-in page that leads to `CodePurpose.RESTORE_ADDRESS`; mails name it, too
UNDO_CHANGE = "Undo a change of email address"
# the link there for who has an invitation's code but not its link; the mail of an invitation names it
HAS_INVITATION = "I have an invitation code"


class CodePurpose(StrEnum):
    """The purposes of a code."""

    CONFIRM_ADDRESS = "confirm_address"  # confirms the address of a sign-up or of an account
    SIGN_IN = "sign_in"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - no password
    NEW_ADDRESS = "new_address"  # confirms a new address, to which the code is sent
    RESTORE_ADDRESS = "restore_address"  # gives a former address back, to which the code is sent
    PROVE = "prove"  # proves who the signed-in user is, before a change to the account


class NoCodeReason(StrEnum):
    """The reasons to send a mail that contains no code, although the browser requested a code.

    The page shows the same text as for a mail with a code, so that it does not reveal whether an account exists.
    """

    TAKEN = "taken"  # an account with the address exists
    UNCONFIRMED = "unconfirmed"  # the account has never confirmed the address


class NoticeKind(StoredName):
    """The events of which a user is notified: changes to the ways to sign in, new devices, and suspicious sign-ins."""

    NEW_DEVICE = "new_device"
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    FACTOR_REPLACED = "factor_replaced"
    # a passkey is now asked for after the password or a code
    PASSKEY_FACTOR_ADDED = "passkey_factor_added"
    PASSKEY_FACTOR_REMOVED = "passkey_factor_removed"
    WRONG_FACTORS = "wrong_factors"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"
    FEW_RECOVERY_CODES = "few_recovery_codes"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    PASSKEY_COPIED = "passkey_copied"  # a passkey was refused because its sign count had not grown
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - no password
    PASSWORD_RESET = "password_reset"  # noqa: S105
    ADDRESS_CHANGED = "address_changed"
    FORMER_ADDRESS = "former_address"  # sent to the address that the user gave up and may take back
    IDENTITY_ADDED = "identity_added"
    IDENTITY_REMOVED = "identity_removed"
    OPERATOR = "operator"  # an operator changed the account
    ACCOUNT_DELETED = "account_deleted"  # mailed only: the account's notices are deleted with it

    @property
    def gravity(self) -> int:
        """The rank of the kind among all notices, from 0 for the gravest; kinds of a newer version come last."""
        ranks = (rank for rank, kinds in enumerate(_GRAVEST_FIRST) if self in kinds)
        return next(ranks, len(_GRAVEST_FIRST))


_GRAVEST_FIRST = (
    {NoticeKind.PASSKEY_COPIED},
    {NoticeKind.WRONG_FACTORS},
    {NoticeKind.OPERATOR},
    {NoticeKind.ADDRESS_CHANGED},
    {NoticeKind.PASSWORD_RESET, NoticeKind.PASSWORD_CHANGED},
    {
        NoticeKind.FACTOR_REMOVED,
        NoticeKind.FACTOR_REPLACED,
        NoticeKind.PASSKEY_FACTOR_REMOVED,
        NoticeKind.PASSKEY_REMOVED,
        NoticeKind.IDENTITY_REMOVED,
    },
    {NoticeKind.RECOVERY_CODE_USED},
    {NoticeKind.RECOVERY_CODES_RENEWED},
    {
        NoticeKind.FACTOR_ADDED,
        NoticeKind.PASSKEY_FACTOR_ADDED,
        NoticeKind.PASSKEY_ADDED,
        NoticeKind.IDENTITY_ADDED,
    },
    {NoticeKind.NEW_DEVICE},
    {NoticeKind.FEW_RECOVERY_CODES},
)


class OtherMail(StrEnum):
    """The kinds of mails without a code of decimal digits that are about no account."""

    INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Code:
    """The content of a mail with a code of decimal *digits*."""

    purpose: CodePurpose
    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoCode:
    """The content of a mail that is sent in place of a mail with a code."""

    reason: NoCodeReason


@dataclass(frozen=True, slots=True)
class Notice:
    """The content of a mail about an event in an account."""

    kind: NoticeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """The content of a mail with the *code* of an invitation; *host*: the deployment's host name; *by*: an admin's address."""

    code: str = field(repr=False)
    host: str = field(repr=False)
    by: EmailAddress = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail to one address.

    `browser`: the browser that caused the mail; None: an operator's command caused it. `at`: the time of the request or
    the command. `expires_at`: the time after which the mail is useless and is no longer sent.
    `is_known`: true if the browser is a known device of the user. `step`: the id of the sign-in or other step for which a
    code was requested; only the step's newest code is valid.
    """

    address: EmailAddress = field(repr=False)
    content: Code | NoCode | Notice | Invited
    browser: BrowserName | None = field(repr=False)
    at: datetime
    expires_at: datetime
    is_known: bool
    step: UUID | None = None
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        """Raise BadAddress unless the address is in canonical form: text in another form could name two recipients."""
        if checked_address(self.address) != self.address:
            raise BadAddress

    @property
    def kind(self) -> CodePurpose | NoCodeReason | NoticeKind | OtherMail:
        """The content's purpose, reason or kind, which may be logged."""
        match self.content:
            case Code(kind) | NoCode(kind) | Notice(kind):
                return kind
            case Invited():
                return OtherMail.INVITATION


class LoginRefused(OSError):
    """Raised if the mail server refuses the app's login, and so accepts no mail from the app."""

    def __init__(self, offered: str = "") -> None:
        """*offered*: the login mechanisms of a server that does not offer login by password; empty if it does."""
        super().__init__()
        self.offered = offered
