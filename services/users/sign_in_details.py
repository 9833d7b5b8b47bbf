"""The sign-in details on the Account page: the ways in which the user can sign in and prove who they are."""

from dataclasses import dataclass, replace

from services.crypto import Credentials
from services.domain.accounts import SecondFactor
from services.domain.passkeys import Passkey
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import LinkedIdentity
from services.store.accounts import second_factor
from services.store.identities import unlinked
from services.store.passkeys import removed
from services.store.sign_in_policy import SignInPolicy


@dataclass(frozen=True, slots=True)
class SignInDetails:
    """The ways in which a user can sign in, and prove who they are. Passkeys and identities are sorted, oldest first."""

    has_password: bool  # true: the user can sign in with a password
    is_confirmed: bool  # true: the address is confirmed
    takes_code: bool  # true: the user can prove who they are with a mailed code
    factor: SecondFactor | None
    passkeys: tuple[Passkey, ...]
    identities: tuple[LinkedIdentity, ...]  # identities at providers of single sign-on
    # the passkey or identity that may not be removed, because without it the user could no longer sign in
    last_way: Passkey | LinkedIdentity | None


def sign_in_details(credentials: Credentials, policy: SignInPolicy) -> SignInDetails:
    """Return the sign-in details in *credentials* that the user may see."""
    is_confirmed = credentials.confirmed is not None
    return SignInDetails(
        has_password=policy.takes_password(credentials),
        is_confirmed=is_confirmed,
        takes_code=is_confirmed and policy.allows(credentials.address, SignInMethod.CODE),
        factor=second_factor(credentials),
        passkeys=credentials.passkeys.each if credentials.passkeys else (),
        identities=credentials.identities,
        last_way=_last_way(credentials, policy),
    )


def _last_way(credentials: Credentials, policy: SignInPolicy) -> Passkey | LinkedIdentity | None:
    keys, identities = credentials.passkeys, credentials.identities
    without: list[tuple[Passkey | LinkedIdentity, Credentials]] = [
        (one, replace(credentials, identities=unlinked(identities, one.identity)))
        for one in identities
    ]
    if keys:
        without += [
            (one, replace(credentials, passkeys=removed(keys, one.credential_id)))
            for one in keys.each
        ]
    return next((one for one, after in without if not policy.may_leave(credentials, after)), None)
