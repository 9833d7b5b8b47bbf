"""Single sign-on by OpenID Connect: requests to a provider, its answers about a user, and the errors."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.domain.addresses import EmailAddress
from services.errors import Refused, Unavailable

MOST_IDENTITIES = 10  # maximum identities of one user
LONGEST_IDENTITY_NAME = 60  # characters
_SECRET_BYTES = 32
_LINK = "sign in to it another way and add this sign-in on the page Account."


class RequestKind(StrEnum):
    """The kinds of requests to a provider. For PROOF and FRESH, the provider must ask its user to sign in again."""

    SIGN_IN = "sign_in"
    PROOF = "proof"  # the provider's answer must state when its user signed in
    FRESH = "fresh"  # like PROOF, for providers that do not state when their user signed in


class AnswerFault(StrEnum):
    """The reasons for which a provider's answer is refused. They appear only in logs."""

    PROVIDER = "provider"  # the answer came from another provider
    STATE = "state"
    REPEATED = "repeated"  # a parameter occurs more than once
    ISSUER = "issuer"  # the parameter `iss` is missing or wrong (RFC 9207)
    ERROR = "error"  # the provider or its user declined the request
    # the provider refused what was requested: its client is set up in another way than the app needs
    REQUEST = "request"
    CODE = "code"  # the authorization code is missing or too long, or the provider refused it
    TOKEN = "token"  # noqa: S105 - the token is missing, or its signature is not valid
    TOKEN_ISSUER = "token_issuer"  # noqa: S105
    AUDIENCE = "audience"
    AUTHORIZED_PARTY = "authorized_party"
    SUBJECT = "subject"
    NONCE = "nonce"
    EXPIRY = "expiry"
    SIGN_IN_TIME = "sign_in_time"
    PROFILE = "profile"  # the provider returned the profile of another user


class ProviderFault(StrEnum):
    """The reasons for which a provider cannot be used. They appear only in logs and in `operate check`."""

    CALL = "call"  # the provider did not respond in time, or not as HTTP demands
    # METADATA, KEYS and PROFILE: the document has another status than 200, or is not of the form that the standard demands
    METADATA = "metadata"
    ISSUER = "issuer"  # the metadata has another issuer than the provider's entry in DAYBOOK_OIDC
    ADDRESS = "address"  # a URL in the metadata is not https
    KEYS = "keys"
    CLIENT = "client"  # the provider refused the client's id or secret
    TOKEN = "token"  # noqa: S105 - the provider issued no token for another reason
    PROFILE = "profile"


class AnswerRefused(Refused):
    """The provider's answer does not prove who its user is."""

    public = "Your sign-in could not be confirmed. Start again, or sign in another way."

    def __init__(self, fault: AnswerFault) -> None:
        super().__init__(fault)
        self.fault = fault


class NoAccount(Refused):
    """The provider's user has no account, and may not create one through the provider."""

    public = (
        f"There is no account for this sign-in. If you have an account, {_LINK} "
        "If not, ask your admin for one."
    )


class AddressNeeded(Refused):
    """The provider states no verified email address, and the app cannot mail a code to confirm another address."""

    public = (
        "Your sign-in has no confirmed email, so it cannot begin an account. "
        f"If you have an account, {_LINK} If not, ask your admin for one."
    )


class AddressUnconfirmed(Refused):
    """The email address that the provider states belongs to an account that has never confirmed it."""

    public = (
        f"An account has your email, but never confirmed it. If it is yours, {_LINK} "
        "If you cannot, or it is not yours, ask your admin."
    )


class IdentityTaken(Refused):
    """An identity cannot be used for the session's account.

    Either the user gave a proof with an identity that is not linked to this account, or tried to add an identity that is
    linked to another account.
    """

    public = "This sign-in does not belong to your account, and may open another one. Use a different one."


class TooManyIdentities(Refused):
    """The user has 10 identities, the maximum for an account."""

    public = "You have added 10 sign-ins, and no account can have more. Remove one first."


class OtherSignInNeeded(Refused):
    """Users with an email address of this domain may sign in only through a certain provider."""

    public = (
        "This email only works with your organization's sign-in. Choose it on the sign-in page."
    )


class ProviderUnavailable(Unavailable):
    """A provider cannot be reached, or its metadata or its response is not valid."""

    public = "This sign-in does not work right now. Try again in a moment, or sign in another way."

    def __init__(self, fault: ProviderFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class OfferedProvider:
    """A single sign-on provider that the pages offer to users."""

    name: str = field(repr=False)  # the name in URLs
    label: str = field(repr=False)  # the name on screen
    issuer: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """A request to a provider, stored (in a step) while the browser is at the provider."""

    provider: str = field(repr=False)  # the name of the provider's entry in DAYBOOK_OIDC
    asked: RequestKind
    redirect_uri: str = field(repr=False)
    state: str = field(repr=False)  # begins with the id of the step that stores the request
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)  # the code verifier of PKCE


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of a provider, identified by issuer and subject, which stay the same when the address changes."""

    issuer: str = field(repr=False)
    subject: str = field(repr=False)

    @property
    def mark(self) -> str:
        """The name of the identity in HTML forms: a hash in hexadecimal."""
        return hashlib.sha256(f"{self.issuer} {self.subject}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedIdentity:
    """An identity that a user has linked to an account, to sign in with it."""

    identity: Identity
    name: str = field(repr=False)  # shown on Account, where the user may change it
    created_at: datetime  # in UTC, whole seconds
    last_used_at: datetime | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if a field is empty, or the name is too long."""
        if not self.identity.issuer or not self.identity.subject:
            raise ValueError("an identity has an issuer and a subject")
        if not 0 < len(self.name) <= LONGEST_IDENTITY_NAME:
            raise ValueError("a linked identity has a name of at most 60 characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """A provider's statements about a user who has signed in there."""

    provider: str = field(repr=False)  # the name of the provider's entry in DAYBOOK_OIDC
    identity: Identity
    # None: the provider states no address, or one that is not valid or cannot have a mailbox
    address: EmailAddress | None = field(repr=False)
    # true: the provider has verified the address, or its entry in DAYBOOK_OIDC trusts all addresses
    is_verified: bool
    # false only for Google, if its entry in DAYBOOK_OIDC lists domains, none of which belongs to the user's organisation
    is_member: bool
    # true: the provider's entry lists no domains, or the user is a member with a verified address in one of these domains
    is_of_domains: bool
    # the time of the sign-in at the provider, in UTC; None: not stated
    signed_in_at: datetime | None
    # true: the claim `acr` or `amr` has a value that the provider's entry trusts as a second factor
    has_factor: bool


def new_request(
    provider: str, asked: RequestKind, step_id: UUID, redirect_uri: str
) -> ProviderRequest:
    """Return a request with new secrets. The caller stores it in the step with the id *step_id*."""
    state, nonce, verifier = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3))
    return ProviderRequest(
        provider=provider,
        asked=asked,
        redirect_uri=redirect_uri,
        state=f"{step_id.hex}.{state}",
        nonce=nonce,
        verifier=verifier,
    )


def step_of(state: str) -> UUID | None:
    """Return the id of the step with which *state* begins; None if it does not begin with an id."""
    step_id, dot, _ = state.partition(".")
    if not dot or len(step_id) != 32 or not {*step_id} <= {*"0123456789abcdef"}:
        return None
    return UUID(step_id)
