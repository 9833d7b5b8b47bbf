"""Errors that the app raises on purpose, grouped by how the user can react.

* AppError
  x Refused ............ the request is understood but will not be done; the sentence says why
    - SignedOut
    - NotFound ......... also for another user's rows
      - SpaceGone
    - WrongCredentials
    - ProofNeeded ...... before this change, the user must prove again who they are
    - Suspended
    - NotConfirmed
    - SignUpsClosed
    - InvitationRefused
      - InvitationMissing
    - StepEnded ........ a sign-in or another process with several pages has expired; start it again
      - TriesUsed ...... its five tries have failed
    - WrongCode ........ the mailed code is wrong; the user has five tries
    - WrongFactor ...... the one-time code or the recovery code is wrong
    - FactorNeeded ..... a second factor is missing: the account has one, or the deployment requires one
    - FactorUsed ....... another sign-in used the second factor at the same time; enter the next code
    - FactorRequired ... a second factor cannot be removed while the deployment requires one
    - PasskeyRefused ... a passkey's response failed a check; `flaw` names the check
    - PasskeyCopied .... the passkey's sign count has not grown since its last use
    - PasskeyMissing ... the user has no such passkey, or no passkey for this site
    - PasskeyUnknown ... no account has the passkey
    - PasskeysUnusable . browsers offer no passkeys at this URL
    - PasskeyExists
    - TooManyPasskeys
    - InvitationNeeded . Supabase Auth has the user, but there is no account yet
    - AddressTaken
    - WayInTaken ....... another account has the identity or passkey
    - MethodOff ........ this sign-in method is switched off
    - LastWayIn ........ after the change, the user could no longer sign in
    - BadInput ......... invalid input; the sentence says what to change
      - UnreadableInput
      - BadAddress
        - AddressNotPlain
      - BadName
      - AddressNotAllowed
      - WeakPassword
      - ConfirmationSent
      - InstructionsTooLong
    - TooManyAttempts
    - Stale ............ the conversation was continued elsewhere
      - ChangedElsewhere
    - Busy ............. a reply of this conversation is still streaming
    - ExportRunning .... each user may run one export at a time
    - LastAdmin ........ without this admin, no user could manage the accounts
    - AdminsOnly
    - TooLate .......... the deleted data can no longer be restored
    - OverBudget
    - AccountFull ...... the account's stored bytes have reached the deployment's limit
    - ModelGone ........ a model other than the one on the page would have replied, at another price
    - PriceUnknown ..... the price of the model is unknown, and the deployment refuses such models
    - PromptTooLong
      - ChatFull ....... the prompt fits, but not the whole conversation (policy Full)
    - AnswerRefused .... a single sign-on provider's response is wrong; `fault` says why (domain/single_sign_on.py)
    - NoAccount ........ this and the next five: a provider's response is valid, but the user cannot sign in or link the identity
    - AddressNeeded
    - AddressUnconfirmed
    - IdentityTaken
    - TooManyIdentities
    - OtherSignInNeeded
  x Unavailable ........ trying again later may help
    - StoreUnavailable
      - RateLimited
      - StoreBlocked ... the sentence says what an operator must do
        - FileDamaged .. one JSON file is damaged; the others may be intact
      - ServerRefused
        - FunctionMissing
      - RowsCut
    - MailUnsent ....... Supabase Auth could not send its email to confirm an address
    - ModelUnavailable . the model failed; `failure` says how (domain/model_failures.py)
    - ProviderUnavailable a single sign-on provider failed (domain/single_sign_on.py)
  x Tampered ........... stored data failed authentication; stop and tell an operator
    - NewerVersion ..... the data was decrypted, but only a newer version of the app understands it
    - KeyMissing ....... the credentials or the user keys of an account are gone
    - SignInBroken ..... the password is right, but Supabase Auth does not recognise the user
  x Misconfigured ...... the deployment cannot work as it is; raised at the start, by later checks and by `operate`
    - ProxyUnusable .... the environment names a SOCKS proxy

`public` is one sentence that is safe to show on a page: it never contains message text, keys or a vendor's words.
The arguments of an error are only for the log.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum


class AppError(Exception):
    """The base class of every error that the app raises on purpose."""

    public = "Something went wrong. Try again."

    @property
    def for_admins(self) -> str:
        """The sentence that admins see instead of `public`, because `public` may say "Ask your admin"."""
        return self.public


class Refused(AppError):
    """The request is understood but will not be done."""


class SignedOut(Refused):
    """There is no valid session."""

    public = "You are signed out. Please sign in again."


class NotFound(Refused):
    """No such row is visible to the user."""

    public = "This chat does not exist."


class SpaceGone(NotFound):
    """No such space is visible to the user."""

    public = "This space no longer exists."


class WrongCredentials(Refused):
    """The address is unknown or the password is wrong."""

    public = "Wrong email or password."


class ProofNeeded(Refused):
    """The change needs a proof of who the user is, at most ten minutes old, and the user has given none that permits it."""

    public = "Confirm that it is you on the page Account, then try again."


class Suspended(Refused):
    """The account is suspended."""

    public = "This account is suspended. Contact your admin."


class NotConfirmed(Refused):
    """The password is right, but the address is not confirmed."""

    public = "Confirm your address first: open the link in the email that we sent you."


class SignUpsClosed(Refused):
    """The deployment accepts no new accounts."""

    public = "Sign-ups are closed. Contact your admin."


class InvitationRefused(Refused):
    """No open invitation for the address has this code."""

    public = (
        "This invitation code is not valid. It may be mistyped, used, expired or for another email. "
        "Ask your admin for a new one."
    )


class InvitationMissing(InvitationRefused):
    """A sign-up lacks an invitation: it came through a provider, or from a page loaded before invitations were required."""

    public = "You need an invitation to create an account. Open its link or enter its code first, then try again."


class StepEnded(Refused):
    """The step (such as a sign-in that waits for a code) has ended, is of another kind, or belongs to another browser or user.

    A step ends when it is complete, after five tries, and after ten minutes.
    """

    public = "This page has expired. Please start again."


class TriesUsed(StepEnded):
    """The step has ended because its five tries have failed."""

    public = "Five tries failed. Please start again."


class WrongCode(Refused):
    """The mailed code for a step (such as a sign-in) is wrong, or no code was sent for the step."""

    public = "Wrong code. Use the newest one; after five tries you have to start again."


class WrongFactor(Refused):
    """The code of an authenticator app, or the recovery code, is wrong or was used before."""

    public = "Wrong code. Each code works once: wait for the next one, or use a recovery code."


class FactorNeeded(Refused):
    """A second factor was not given, although the account has one or the deployment requires one.

    Also raised until the user has chosen which passkeys and identities a password reset keeps.
    """

    public = "Use your authenticator app, your passkey or a recovery code to go on."

    def __init__(
        self,
        since: datetime | None = None,
        *,
        asks_passkey: bool = False,
        listed: tuple[str, ...] = (),
        enrols: bool = False,
    ) -> None:
        """*since*: the time when the authenticator app was added; *asks_passkey*: a passkey is the second factor.

        If neither is given, the account has no second factor.

        *listed*: the passkeys and identities that a password reset may remove, as marks (services/store/kept.py);
        *enrols*: the user must also set up an authenticator app.
        """
        super().__init__()
        self.since = since
        self.asks_passkey = asks_passkey
        self.listed = listed
        self.enrols = enrols

    @property
    def has_form(self) -> bool:
        """True if a form asks for the second factor, or for the passkeys and identities that a reset keeps; false if an
        authenticator app must be set up first."""
        has_choice = self.listed != () and not self.enrols
        return self.since is not None or self.asks_passkey or has_choice


class FactorUsed(Refused):
    """Another sign-in or proof has used the second factor since this one read the credentials."""

    public = (
        "You signed in elsewhere at the same time. Enter the next code of your authenticator app."
    )


class FactorRequired(Refused):
    """The deployment requires a second factor, so the last one cannot be removed."""

    public = "Two-step verification is required here, so it cannot be turned off."


class PasskeyFlaw(StrEnum):
    """The checks that a passkey's response can fail."""

    FORM = "form"  # the response is malformed or too large
    # the response to a request to add a passkey was sent where a passkey should be used, or the reverse
    TYPE = "type"
    CHALLENGE = "challenge"
    ORIGIN = "origin"
    FRAME = "frame"  # the page was embedded in a page of another site
    RELYING_PARTY = "relying_party"
    PRESENCE = "presence"  # the authenticator was not touched
    VERIFICATION = "verification"  # the authenticator did not ask for a PIN or a biometric
    ALGORITHM = "algorithm"
    CREDENTIAL = "credential"  # the response came from another passkey
    USER = "user"  # the response names another user, or no user
    SIGNATURE = "signature"


class PasskeyRefused(Refused):
    """A passkey's response failed a check."""

    public = "This passkey could not be checked. Try again, or use another way."

    def __init__(self, flaw: PasskeyFlaw) -> None:
        super().__init__(flaw)
        self.flaw = flaw


class PasskeyCopied(Refused):
    """The sign count of a passkey has not grown since its last use, which suggests a copy of its private key."""

    public = (
        "This passkey was refused because a copy of it may be in use. Remove it, and add a new one."
    )


class PasskeyMissing(Refused):
    """The user has no such passkey, or no passkey for this site."""

    public = "You have no passkey for this address. Use another way."


class PasskeyUnknown(Refused):
    """No account has the passkey."""

    public = "Daybook does not know this passkey: it may have been removed. Use another way."


class PasskeysUnusable(Refused):
    """Browsers offer no passkeys at the URL of the page."""

    public = "Passkeys do not work at this address. On this computer, open localhost instead; elsewhere they need https."


class PasskeyExists(Refused):
    """The user has the passkey already."""

    public = "You have added this passkey already."


class TooManyPasskeys(Refused):
    """The user has 20 passkeys, the maximum for an account."""

    public = "You have 20 passkeys, and no account can have more. Remove one first."


class InvitationNeeded(Refused):
    """The password is right, but the account can be created only with an invitation."""

    public = (
        "Your account needs a valid invitation code. Enter it below, or ask your admin for one."
    )


class AddressTaken(Refused):
    """An account with this address exists."""

    public = "This email already has an account. Sign in instead."


class WayInTaken(Refused):
    """Another account has the identity or passkey."""

    public = "Another account has this sign-in or passkey. Remove it there first."


class MethodOff(Refused):
    """This sign-in method is switched off on the deployment."""

    public = "This way to sign in is switched off here. Choose one that the sign-in page shows."


class LastWayIn(Refused):
    """After the change, the user would have no way left to sign in on this deployment."""

    public = "You need another way to sign in first, besides codes sent by email."


class BadInput(Refused):
    """Invalid input; *public* says what to change."""

    def __init__(self, public: str = "") -> None:
        self.public = public or self.public
        super().__init__(self.public)


class UnreadableInput(BadInput):
    """A value that no page of the app sends."""

    public = "This page sent something that cannot be read. Reload it."


class BadAddress(BadInput):
    """The input is not an email address."""

    public = "Enter an email address like name@example.org."


class AddressNotPlain(BadAddress):
    """The input has characters that no email address of the app may have, such as those of an international domain."""

    public = "Enter an email address in plain letters (a-z); an international domain is typed in its xn-- form."


class BadName(BadInput):
    """The name of a passkey or an identity is empty, too long or not printable."""

    public = "Enter a name (max. 60 characters)."


class AddressNotAllowed(BadInput):
    """Supabase sends no email to the address: without a custom SMTP server, it sends only to the project's team."""

    public = "Daybook cannot send email to this address. Contact your admin."


class WeakPassword(BadInput):
    """The password is too short, too long or too easy to guess."""

    def __init__(self, reason: str = "") -> None:
        """*reason* is a code of `services.domain.passwords`; any other value counts as no reason."""
        self.reason = reason if reason in _WEAKNESSES else ""
        super().__init__(_WEAKNESSES[self.reason])


_WEAKNESSES = {
    "": "Choose a password of at least 12 characters that is not easy to guess.",
    "short": "This password is too short. Use at least 12 characters.",
    "long": "This password is too long. Use at most 1,024 characters; accents, emoji and other scripts count 2 to 4.",
    "address": "This password is your email, or the part before its @. Choose another one.",
    "name": "This password is the name of this app with numbers or signs. Choose another one.",
    "repeated": "This password repeats one or two characters. Choose another one.",
    "common": "This is one of the most common passwords. Choose another one.",
    "unreadable": "This password contains a character that cannot be stored.",
}


class ConfirmationSent(BadInput):
    """The sign-up is not complete until the user opens the confirmation link in an email from Supabase Auth.

    Also raised for an address that is taken, so that a stranger does not learn which addresses have accounts.
    """

    public = "We sent you an email. Confirm your address, then sign in."


class InstructionsTooLong(BadInput):
    """The user's instructions leave too little room for messages."""

    public = (
        "The instructions are too long for this model. Shorten them, or choose a model with a "
        "larger context window."
    )


class TooManyAttempts(Refused):
    """There were too many sign-ins, codes or other attempts in a short time."""

    def __init__(self, retry_after: int) -> None:
        """*retry_after*: seconds until the next attempt is allowed."""
        super().__init__(retry_after)
        self.retry_after = retry_after
        minutes = -(-retry_after // 60)
        wait = "a minute" if minutes <= 1 else f"{minutes} minutes"
        if minutes >= 120:
            wait = f"{-(-minutes // 60)} hours"
        self.public = f"Too many attempts. Try again in {wait}."


class Stale(Refused):
    """The conversation has changed since it was read."""

    public = "This chat changed in another tab. Try again."


class ChangedElsewhere(Stale):
    """The document has changed since the caller read it. *now* is the current text."""

    public = "This changed in another tab."

    def __init__(self, now: str = "") -> None:
        super().__init__()
        self.now = now


class Busy(Refused):
    """A reply of this conversation is still streaming."""

    public = "A reply is still coming. Wait for it, or stop it first."


class ExportRunning(Refused):
    """The user's previous export is still being sent."""

    public = "Another export of yours is running. Wait until it is complete, or cancel it."


class LastAdmin(Refused):
    """The user is the last admin: without them, no user could manage the accounts."""

    public = "This is the last admin. Make another user an admin first."


class AdminsOnly(Refused):
    """The user is not, or no longer, an admin."""

    public = "You are no longer an admin: the change was refused."


class TooLate(Refused):
    """The time for Undo is over."""

    public = "This can no longer be undone."


class Cap(StrEnum):
    """The limits that can cause the refusal of a turn."""

    DAILY = "daily_cap"
    DAILY_TOKENS = "daily_tokens"
    MONTHLY = "monthly_cap"
    DEPLOYMENT = "deployment_cap"
    OPEN_TURNS = "too_many_open"
    TURNS_A_MINUTE = "too_fast"

    def resets_at(self, now: datetime) -> datetime | None:
        """Return the time at which the counted spending restarts from zero; None for rate limits."""
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        match self:
            case Cap.DAILY | Cap.DAILY_TOKENS:
                return today + timedelta(days=1)
            case Cap.MONTHLY | Cap.DEPLOYMENT:
                return (today.replace(day=1) + timedelta(days=32)).replace(day=1)
            case _:
                return None


class OverBudget(Refused):
    """The turn would exceed a limit: on spending, on tokens, on replies at the same time, or on messages per minute."""

    def __init__(
        self,
        cap: Cap,
        needed: int = 0,
        left: int = 0,
        *,
        per_minute: int = 0,
        wait_seconds: int = 0,
    ) -> None:
        """*needed* is the highest cost of the prompt and a short reply, *left* the unspent part of *cap*. Both are in
        micro-dollars, or in tokens for `Cap.DAILY_TOKENS`, and given only for a user's own caps. *per_minute* is the
        limit of messages per minute, *wait_seconds* the time until the next minute."""
        super().__init__(cap)
        self.cap, self.needed, self.left = cap, needed, left
        self.public = _CAP_SENTENCES[cap]
        if cap is Cap.TURNS_A_MINUTE and wait_seconds:
            messages = "1 message" if per_minute == 1 else f"{per_minute} messages"
            self.public = f"Limit of {messages} a minute reached. Try again in {wait_seconds} s."


_CAP_SENTENCES = {
    Cap.DAILY: "Daily limit reached.",
    Cap.DAILY_TOKENS: "Daily token limit reached.",
    Cap.MONTHLY: "Monthly limit reached.",
    Cap.DEPLOYMENT: "Shared monthly limit reached.",
    Cap.OPEN_TURNS: "Too many replies at once. Wait until one is complete.",
    Cap.TURNS_A_MINUTE: "Limit of messages a minute reached. Try again in a minute.",
}


class AccountFull(Refused):
    """The account's stored bytes have reached the limit."""

    public = "Your storage is full. Delete chats or memories, then wait two minutes and try again."


class ModelGone(Refused):
    """The model that would now reply is not the one that the page showed."""

    public = "Another model would reply now. Try again to use the one below."


class PriceUnknown(Refused):
    """The price of the model is unknown, and the deployment refuses such models."""

    public = "The price of this model is not known, so it cannot be used. Ask your admin to set its price."


class PromptTooLong(Refused):
    """The prompt and the instructions alone do not fit the context window."""

    public = "Your message is too long for the model. Shorten it, or choose a model with a larger context window."

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"needs {tokens} tokens, {limit} are left")
        self.tokens, self.limit = tokens, limit


class ChatFull(PromptTooLong):
    """The context policy is Full, and the whole conversation no longer fits the context window."""

    public = "This chat is full: it no longer fits the model's context. Switch to Auto-summary or clear the context."


class Unavailable(AppError):
    """An error after which a later try may succeed."""


class StoreUnavailable(Unavailable):
    """The database or the sign-in server failed or timed out."""

    # the sentence shown on every page until the database responds again
    outage = "Daybook cannot reach its database."
    public = f"{outage} Nothing is lost. Try again in a moment."


class RateLimited(StoreUnavailable):
    """The app or Supabase Auth is too busy, or other requests keep changing the same credentials."""

    public = "Daybook is busy. Try again in a minute."


class StoreBlocked(StoreUnavailable):
    """The files of the store cannot be written or read for now; *sentence* says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.public = self.outage = sentence


class FileDamaged(StoreBlocked):
    """A JSON file of the store is damaged; other files may be intact."""


class ServerRefused(StoreUnavailable):
    """The database's API refuses the app, not the user: such as by rejecting the app's server proof."""

    public = outage = (
        "The database refuses Daybook: a wrong root key, a wrong clock or a missing migration. An admin sees which "
        "with “operate check”."
    )


class FunctionMissing(ServerRefused):
    """The database's API lacks the called function: a migration is missing, or the API has not yet reloaded the schema."""


class RowsCut(StoreUnavailable):
    """The database's API returns fewer rows per response than Daybook needs."""

    def __init__(self, bound: int, least: int) -> None:
        """*bound* is the maximum number of rows in a response, *least* the number that Daybook needs."""
        super().__init__("rows")
        self.public = (
            f"The database returns at most {bound} rows at once, and Daybook needs {least}. An admin must raise "
            "“Max rows” in the settings of its API."
        )


class MailUnsent(Unavailable):
    """Supabase Auth could not send its email to confirm an address: its mail server refused, or did not answer."""

    public = "We could not send you the email that confirms your address. Contact your admin."


class Tampered(AppError):
    """Stored data failed an integrity check. The error never says which check."""

    public = "Some data failed its integrity check and is hidden. Contact your admin."

    def __init__(self) -> None:
        super().__init__("stored data cannot be opened")


class NewerVersion(Tampered):
    """The stored data was decrypted, but contains a value that this version of the app does not know."""

    public = "A newer version of Daybook saved this. Update Daybook to change it."


class KeyMissing(Tampered):
    """The credentials or the user keys of an account are gone."""

    public = "The key to your chats is missing. Nothing was changed. Contact your admin."


class SignInBroken(Tampered):
    """The password is right, but Supabase Auth has a different managed password, or a different user, for the address."""

    public = "Your password is right, but your sign-in needs a repair. Contact your admin."


class Misconfigured(AppError):
    """The deployment cannot work as configured. *public* is one sentence that says what to do."""

    def __init__(self, public: str) -> None:
        super().__init__(public)
        self.public = public


class ProxyUnusable(Misconfigured):
    """The environment names a SOCKS proxy, for which the HTTP clients lack a package."""

    def __init__(self) -> None:
        super().__init__(
            "ALL_PROXY, HTTPS_PROXY or HTTP_PROXY names a SOCKS proxy, which Daybook cannot use: "
            "name an HTTP proxy, or unset it."
        )
