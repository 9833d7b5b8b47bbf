"""Single sign-on, on any store: the contents of its steps, and the next action after a provider's answer. Pure functions.

An answer is a `ProviderAnswer` that has passed every check; the accounts of its identity and its address were looked up
before. An identity gives access only to the account that it is linked to: if another account has the answer's address,
the user must first prove ownership of that account by one of its own sign-in methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from services.domain import UserId
from services.domain.accounts import ProofScope
from services.domain.addresses import EmailAddress
from services.domain.single_sign_on import (
    MOST_IDENTITIES,
    AddressNeeded,
    AddressUnconfirmed,
    Identity,
    IdentityTaken,
    LinkedIdentity,
    NoAccount,
    OtherSignInNeeded,
    ProviderAnswer,
    ProviderRequest,
    RequestKind,
    TooManyIdentities,
)
from services.errors import NotFound, ProofNeeded
from services.provider_settings import ProviderSettings
from services.rules.accounts import PROOF_LIFE
from services.store.passkeys import checked_name

Providers = Mapping[str, ProviderSettings]


class SignOnPurpose(StrEnum):
    """The purposes of a sign-on at a provider."""

    SIGN_IN = "sign_in"
    LINK = "link"  # adds the identity to the account of a session
    PROVE = "prove"  # proves who the user of a session is


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOn:
    """The contents of a step that waits for a provider's answer."""

    purpose: SignOnPurpose
    request: ProviderRequest
    target: str = field(default="", repr=False)  # the page to open after the sign-on
    invitation: str = field(default="", repr=False)  # the code of an invitation, as it was typed


SIGN_ON = TypeAdapter(SignOn)


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """The account that has an identity or an address."""

    user_id: UserId
    address: EmailAddress = field(repr=False)
    is_confirmed: bool  # true: the address is confirmed


@dataclass(frozen=True, slots=True)
class SignsIn:
    """The identity is linked to an account, whose user signs in."""


@dataclass(frozen=True, slots=True)
class ProvesAccount:
    """An account has the identity's address; the identity is linked to the account once the user has proved who they are."""


@dataclass(frozen=True, slots=True)
class BeginsAccount:
    """A new account with *address* is created for the identity, if sign-ups are open."""

    address: EmailAddress = field(repr=False)


@dataclass(frozen=True, slots=True)
class AsksAddress:
    """The user must enter an address, and confirm it with a mailed code."""


Next = SignsIn | ProvesAccount | BeginsAccount | AsksAddress


def only_provider(providers: Providers, address: EmailAddress) -> str | None:
    """Return the name of the only provider through which *address* may sign in; None: any sign-in method is allowed."""
    domain = address.rpartition("@")[2]
    names = (name for name, one in providers.items() if one.only and domain in one.domains)
    return next(names, None)


def check_way_in(providers: Providers, address: EmailAddress, provider: str | None = None) -> None:
    """Raise OtherSignInNeeded if *address* must sign in through a provider other than *provider* (None: no provider)."""
    if only_provider(providers, address) not in (None, provider):
        raise OtherSignInNeeded


def next_of(
    answer: ProviderAnswer,
    linked: FoundAccount | None,
    at_address: FoundAccount | None,
    providers: Providers,
    *,
    has_mail: bool,
) -> Next:
    """Return the next action after a provider's answer to a sign-in.

    *linked*: the account to which the identity in *answer* is linked; *at_address*: the account that has the address in
    *answer*; *has_mail*: codes can be mailed.

    Raise NoAccount, AddressNeeded, AddressUnconfirmed, OtherSignInNeeded.
    """
    if linked:
        check_way_in(providers, linked.address, answer.provider)
        return SignsIn()
    if answer.address is None or not answer.is_verified:
        if not has_mail:
            raise AddressNeeded
        return AsksAddress()
    check_way_in(providers, answer.address, answer.provider)
    if at_address and at_address.is_confirmed:
        return ProvesAccount()
    if at_address:
        raise AddressUnconfirmed
    if not providers[answer.provider].may_sign_up or not answer.is_of_domains:
        raise NoAccount
    return BeginsAccount(answer.address)


def with_address(
    answer: ProviderAnswer, address: EmailAddress, providers: Providers
) -> ProviderAnswer:
    """Return *answer* with the *address* that the user has confirmed by a code."""
    domains = providers[answer.provider].domains
    is_of_domains = not domains or (answer.is_member and address.rpartition("@")[2] in domains)
    return replace(answer, address=address, is_verified=True, is_of_domains=is_of_domains)


def linked(identities: Sequence[LinkedIdentity], new: LinkedIdentity) -> tuple[LinkedIdentity, ...]:
    """Return *identities* with a *new* one, which replaces any entry for the same identity. Raise TooManyIdentities."""
    others = [one for one in identities if one.identity != new.identity]
    if len(others) >= MOST_IDENTITIES:
        raise TooManyIdentities
    return (*others, new)


def unlinked(
    identities: Sequence[LinkedIdentity], identity: Identity
) -> tuple[LinkedIdentity, ...]:
    """Return a user's *identities* without *identity*. Raise NotFound if it is not among them."""
    left = tuple(one for one in identities if one.identity != identity)
    if len(left) == len(identities):
        raise NotFound
    return left


def renamed(
    identities: Sequence[LinkedIdentity], identity: Identity, name: str
) -> tuple[LinkedIdentity, ...]:
    """Return a user's *identities*, with *identity* renamed to *name*. Raise BadName if the name is not valid."""
    name = checked_name(name)
    return tuple(replace(one, name=name) if one.identity == identity else one for one in identities)


def used(
    identities: Sequence[LinkedIdentity], identity: Identity, at: datetime
) -> tuple[LinkedIdentity, ...]:
    """Return *identities* with *identity*'s last use set to *at*, the time (UTC) of a sign-in or proof with *identity*."""
    at = at.replace(microsecond=0)
    return tuple(
        replace(one, last_used_at=at) if one.identity == identity else one for one in identities
    )


def check_link(user_id: UserId, linked: FoundAccount | None) -> bool:
    """Return True if the identity is to be linked to *user_id*, False if it is linked already.

    Raise IdentityTaken if it is another user's.
    """
    if linked and linked.user_id != user_id:
        raise IdentityTaken
    return linked is None


def scope_of(answer: ProviderAnswer, now: datetime) -> ProofScope:
    """Return the scope of *answer* as a proof: NONE unless the user signed in at the provider in the last ten minutes."""
    at = answer.signed_in_at
    return ProofScope.FULL if at is not None and at > now - PROOF_LIFE else ProofScope.NONE


def proof_of(
    answer: ProviderAnswer,
    asked: RequestKind,
    user_id: UserId,
    linked: FoundAccount | None,
    now: datetime,
) -> ProofScope:
    """Return the scope of *answer* as a proof by *user_id*. *asked*: the request's kind. Raise ProofNeeded, IdentityTaken."""
    if linked is None or linked.user_id != user_id:
        raise IdentityTaken
    if scope_of(answer, now) is ProofScope.FULL:
        return ProofScope.FULL
    # an old sign-in time shows that the provider did not ask the user to sign in again; an answer without a time is a
    # proof only if the request was FRESH
    if answer.signed_in_at is not None or asked is not RequestKind.FRESH:
        raise ProofNeeded
    return ProofScope.PART
