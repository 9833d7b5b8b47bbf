"""Accounts, and the usage and cost of model calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType
from uuid import UUID

from services import errors
from services.domain import single_sign_on
from services.domain.browsers import BrowserName
from services.domain.mails import NoticeKind
from services.domain.names import StoredName
from services.errors import Cap

UserId = NewType("UserId", UUID)
SessionId = NewType("SessionId", UUID)


class AccountRole(StoredName):
    """The role of a user in this deployment. A user with an unknown role may do nothing."""

    USER = "user"
    ADMIN = "admin"


class CredentialsAction(StrEnum):
    """Changes to a user's credentials. The audit log contains all of them, except RESEAL, under these names."""

    # the credentials were sealed again under a newer root key, or a passkey or an identity was renamed
    RESEAL = "reseal"
    PASSWORD_SET = "password.set"  # noqa: S105
    PASSWORD_RESET = "password.reset"  # noqa: S105 - set after a mailed code, in place of a forgotten password
    PASSWORD_ADDED = "password.add"  # noqa: S105 - a first password, for an account without one
    ADDRESS_CONFIRMED = "address.confirm"
    # only operators make the changes ADDRESS_FREED, ADDRESS_SET and IDENTITY_MOVED
    ADDRESS_FREED = "address.free"
    ADDRESS_SET = "address.set"
    IDENTITY_MOVED = "identity.move"  # identities were moved to another issuer of the same provider
    # a code of the authenticator app was used; the ways to sign in are unchanged
    FACTOR_USED = "factor.use"
    # a recovery code was used; the other ways to sign in are unchanged
    RECOVERY_USED = "recovery.use"
    FACTOR_ADDED = "factor.add"  # an authenticator app was added
    FACTOR_REMOVED = "factor.remove"
    FACTOR_REPLACED = "factor.replace"  # the authenticator app was replaced by another one
    RECOVERY_RENEWED = "recovery.renew"
    IDENTITY_ADDED = "identity.add"  # an identity at a provider of single sign-on was linked
    IDENTITY_REMOVED = "identity.remove"
    IDENTITY_USED = "identity.use"  # an identity was used; the ways to sign in are unchanged
    PASSKEY_ADDED = "passkey.add"
    PASSKEY_REMOVED = "passkey.remove"
    PASSKEY_USED = "passkey.use"  # a passkey was used; the ways to sign in are unchanged
    # passkeys became a second factor, asked for after the password or a mailed code (ADDED), or stopped being one (REMOVED)
    PASSKEY_FACTOR_ADDED = "passkey_factor.add"
    PASSKEY_FACTOR_REMOVED = "passkey_factor.remove"


class ProofScope(StrEnum):
    """The scope of a proof of who the user is: the changes to the account that it permits for ten minutes."""

    FULL = "full"  # permits all changes to the account
    # permits deleting the account, adding a first password or passkeys, and adding an authenticator app as the first second
    # factor; the scope of a proof by single sign-on if the provider does not state when its user signed in
    PART = "part"
    NONE = "none"  # permits nothing: the provider may not have asked its user to sign in again


class Failure(StrEnum):
    """Kinds of failed attempts to sign in or to change an account.

    The audit log has one entry for each kind, user and hour, which contains the number of attempts.
    """

    ADDRESS = "address.fail"  # a code to confirm or take back an address was wrong
    # a change to the account was refused, because a proof was missing or a step had ended
    CHANGE = "change.fail"
    ENROLMENT = "enrolment.fail"  # the code that confirms a signed-in user's new authenticator app was wrong
    FACTOR = "factor.fail"  # the code of the second factor was wrong
    PASSKEY = "passkey.fail"  # a passkey's response was refused, in a sign-in or a proof
    # the password or code of a proof was wrong
    PROOF = "proof.fail"
    RESET = "reset.fail"  # the code of a password reset was wrong
    SIGN_IN = "sign_in.fail"  # the code of a sign-in was wrong


class Exemption(StrEnum):
    """The kinds of sign-ins that are accepted although their method is switched off, named as in the audit log."""

    OPERATOR_PASSWORD = "sign_in.operator"  # noqa: S105 - a sign-in with a password that an operator set


# successful steps of a sign-in or a proof, named as in the audit log
SIGN_IN_STEPS = frozenset(
    {
        CredentialsAction.FACTOR_USED,
        CredentialsAction.IDENTITY_USED,
        CredentialsAction.PASSKEY_USED,
    }
)


class SessionEnd(StrEnum):
    """The reasons for the end of an app session."""

    ENDED = "ended"  # the user signed out, here or on another device, or the session expired
    SUSPENDED = "suspended"
    DELETED = "deleted"  # the user's account was deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device on which a user is signed in: an app session."""

    id: SessionId
    browser: BrowserName = field(repr=False)
    first_seen_at: datetime | None  # None: the session began before devices were recorded
    last_seen_at: datetime | None
    is_this_one: bool
    is_proven: bool  # true: the user gave a full proof (`ProofScope.FULL`) in the last ten minutes
    is_proven_in_part: bool  # true: the user gave a full or a partial proof in the last ten minutes


RECOVERY_CODES = 10  # the number of recovery codes that a user is given at once
FEW_RECOVERY_CODES = 3  # once only this many codes are left, the user is told to make new ones


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactor:
    """The second factor of an account, as its user sees it: an authenticator app, passkeys, or both."""

    since: datetime | None  # the time at which the authenticator app was added; None: no app
    codes_left: int  # the number of unused recovery codes
    asks_passkey: bool = False  # true: a passkey is asked for after the password or a mailed code


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used by one model call."""

    prompt: int
    reply: int
    cached: int = 0  # the cached part of the prompt's tokens
    thoughts: int = 0  # the part of the reply's tokens that were thoughts


@dataclass(frozen=True, slots=True)
class TurnCost:
    """The usage of a settled turn, and its cost in micro-dollars."""

    model: str
    tokens: Usage
    cost_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """The number of conversations that will be deleted within 14 days, because they have not been used for too long."""

    conversations: int
    from_time: datetime  # the time at which the first of the conversations will be deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """A notice to a user about their account, in the form in which it is stored until the user dismisses it."""

    id: UUID
    kind: NoticeKind
    at: datetime
    # the encrypted name of the browser that caused the notice; None: an operator's command did, or the name is unknown
    browser: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountNotice:
    """A notice to a user about their account, in the form in which pages show it."""

    id: UUID
    kind: NoticeKind
    at: datetime
    browser: BrowserName | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The role, the budget and the notices of a user. Amounts are in micro-dollars or tokens."""

    user_id: UserId
    role: AccountRole
    daily_cap_micro: int
    monthly_cap_micro: int
    spent_today_micro: int
    spent_this_month_micro: int
    daily_cap_tokens: int | None  # None: no cap
    tokens_today: int
    expiring: Expiring | None = None
    # the used share of the spending limit for all users together, rounded down to 0.9, 0.95 or 1; 0: the limit is 0;
    # None: less, or no limit
    deployment_share: float | None = None
    # days after which unused conversations are deleted; None: never
    retention_days: int | None = None
    # the notices that are shown in the calling session, newest first
    notices: tuple[NoticeRow, ...] = ()

    @property
    def limits(self) -> tuple["Limit", ...]:
        """The limits on spending, and the limit on tokens, if any."""
        day = Limit(Cap.DAILY, self.spent_today_micro, self.daily_cap_micro)
        month = Limit(Cap.MONTHLY, self.spent_this_month_micro, self.monthly_cap_micro)
        if self.daily_cap_tokens is None:
            return day, month
        return day, month, Limit(Cap.DAILY_TOKENS, self.tokens_today, self.daily_cap_tokens)

    @property
    def shared_limit(self) -> "Limit | None":
        """The limit for all users together; None if less than 90 % of it is used, or there is no cap."""
        if (share := self.deployment_share) is None:
            return None
        return Limit(Cap.DEPLOYMENT, round(1000 * share), 1000 if share else 0)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and the used part of it, in micro-dollars; for `Cap.DAILY_TOKENS` in tokens; for `Cap.DEPLOYMENT` in
    thousandths of the limit, because only the used share of that limit is known."""

    cap: Cap
    used: int
    most: int

    @property
    def left(self) -> int:
        return max(0, self.most - self.used)

    @property
    def share(self) -> float:
        """The used share, from 0 to 1; 1 if the limit is 0."""
        return min(1.0, self.used / self.most) if self.most else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one user, in micro-dollars, tokens and turns."""

    daily_cap_micro: int
    monthly_cap_micro: int
    daily_cap_tokens: int | None  # None: no cap
    max_open: int  # replies that may stream at the same time
    max_per_minute: int  # messages that may be sent in a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """The limits of new users, the limit and costs of all users together (micro-dollars), and the retention period."""

    defaults: Limits
    monthly_cap_micro: int | None  # None: no cap
    spent_today_micro: int
    spent_this_month_micro: int
    retention_days: int | None  # days after which unused conversations are deleted; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPreview:
    """Counts of the conversations that a retention period, if set now, would delete within 14 days."""

    conversations: int
    users: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUsage(Limits):
    """The account, limits and usage of one user, without any text of chats. Costs are in micro-dollars."""

    user_id: UserId
    email: str = field(repr=False)
    role: AccountRole
    is_suspended: bool
    last_active_at: datetime | None
    replies_today: int
    tokens_today: int
    cost_today_micro: int
    replies_this_month: int
    tokens_in_this_month: int
    tokens_out_this_month: int
    cost_this_month_micro: int
    conversations: int
    bytes: int  # the size of the user's stored messages


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInState:
    """What an admin sees of an account beside its usage."""

    begun_at: datetime | None  # None: unknown, for example of an account from an earlier version
    is_confirmed: bool  # true: the user has proved to receive mail at the address
    has_app: bool  # true: the user signs in with an authenticator app as the second factor
    asks_passkey: bool  # true: the user signs in with a passkey as the second factor


class SignUps(StrEnum):
    """The mode of sign-ups: who may create an account. The values are spelt as in SQL."""

    OPEN = "open"
    INVITED = "invited"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation to create one account. Its code is not stored."""

    id: UUID
    email: str | None = field(repr=False)  # None: for anyone who has the code
    role: AccountRole
    created_at: datetime
    expires_at: datetime
    state: Literal["open", "used", "revoked", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInvitation:
    """What a person with the code of an open invitation learns of it."""

    email: str | None = field(repr=False)  # None: for anyone who has the code
    invited_by: str = field(repr=False)  # the address of the admin who made it


class UserOrder(StrEnum):
    """Sort orders of the list of users; spelt as in SQL. Costs, replies and tokens are those of the current month."""

    COST = "cost"
    ACTIVE = "active"
    REPLIES = "replies"
    TOKENS = "tokens"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class UserPage:
    """One page of the list of users, and the number of users on all pages."""

    users: tuple[UserUsage, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An entry of the audit log: a change by an admin, an operator or a user. Amounts are in micro-dollars or tokens."""

    id: str = field(repr=False)  # the store's cursor for reading older entries
    at: datetime
    action: str  # the database's name for the action, such as `caps.set`
    actor: str | None = field(repr=False)  # None: an operator
    target: str | None = field(repr=False)  # the user whom the change concerns
    # details by name; a changed value is the list [before, after]
    detail: Mapping[str, object] = field(repr=False)

    @property
    def is_failure(self) -> bool:
        """True if the entry counts failed attempts, which a stranger may have made."""
        return counts_failures(self.action)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRow(AuditEntry):
    """An entry of the audit log about the calling user, in the form in which it is stored."""

    # the session in which the user acted; None: a failure, or a change by an admin, a command or an earlier version
    session: SessionId | None = None
    device: str | None = field(default=None, repr=False)  # the sealed name of the session's browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity(AuditEntry):
    """An entry of the audit log about a user, in the form in which the user sees it."""

    browser: BrowserName | None = field(repr=False)  # None: no browser is known


def counts_failures(action: str) -> bool:
    """Return True if an audit entry with this *action* counts failed attempts."""
    return action in set(Failure)


# the word that a user types to confirm the deletion of the account in a deployment without sign-in
DELETE_WORD = "delete"

# the query parameters that the app adds to the URL to which it redirects after a form; the next redirect removes them
REDIRECT_PARAMETERS = (
    *("reason", "wait", "why", "invite", "new", "code", "step", "by", "added", "ways", "gone"),
    "left",
)
# the errors that a page shows after a refused form, keyed by the code in the page's URL
SIGN_IN_REASONS: dict[str, type[errors.AppError]] = {
    "signed-out": errors.SignedOut,
    "wrong": errors.WrongCredentials,
    "prove": errors.ProofNeeded,
    "factor": errors.FactorNeeded,
    "wrong-factor": errors.WrongFactor,
    "factor-used": errors.FactorUsed,
    "suspended": errors.Suspended,
    "unconfirmed": errors.NotConfirmed,
    "taken": errors.AddressTaken,
    "weak": errors.WeakPassword,
    "address": errors.BadAddress,
    "letters": errors.AddressNotPlain,
    "name": errors.BadName,
    "not-allowed": errors.AddressNotAllowed,
    "closed": errors.SignUpsClosed,
    "invitation": errors.InvitationRefused,
    "no-invitation": errors.InvitationMissing,
    "uninvited": errors.InvitationNeeded,
    "confirm": errors.ConfirmationSent,
    "unsent": errors.MailUnsent,
    "factor-required": errors.FactorRequired,
    "expired": errors.StepEnded,
    "tries": errors.TriesUsed,
    "wrong-code": errors.WrongCode,
    "slow": errors.TooManyAttempts,
    "tampered": errors.Tampered,
    "newer": errors.NewerVersion,
    "key": errors.KeyMissing,
    "repair": errors.SignInBroken,
    "last-admin": errors.LastAdmin,
    "busy": errors.RateLimited,
    "unavailable": errors.StoreUnavailable,
    "off": errors.MethodOff,
    "way-in-taken": errors.WayInTaken,
    "last-way-in": errors.LastWayIn,
    "answer": single_sign_on.AnswerRefused,
    "no-account": single_sign_on.NoAccount,
    "no-address": single_sign_on.AddressNeeded,
    "address-unconfirmed": single_sign_on.AddressUnconfirmed,
    "other-user": single_sign_on.IdentityTaken,
    "identities": single_sign_on.TooManyIdentities,
    "other-sign-in": single_sign_on.OtherSignInNeeded,
    "provider": single_sign_on.ProviderUnavailable,
    "passkey": errors.PasskeyRefused,
    "passkey-copied": errors.PasskeyCopied,
    "passkey-missing": errors.PasskeyMissing,
    "passkey-unknown": errors.PasskeyUnknown,
    "passkey-address": errors.PasskeysUnusable,
    "passkey-exists": errors.PasskeyExists,
    "passkeys": errors.TooManyPasskeys,
}
