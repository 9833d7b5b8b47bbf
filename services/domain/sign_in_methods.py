"""The methods of signing in, and the method by which a user signed in or gave a proof."""

from dataclasses import dataclass, field
from enum import StrEnum


class SignInMethod(StrEnum):
    """The methods that `DAYBOOK_SIGN_IN_METHODS` may name."""

    PASSWORD = "password"  # noqa: S105
    CODE = "code"  # a code sent by mail
    PASSKEY = "passkey"
    OIDC = "oidc"  # a provider of single sign-on


ALL_METHODS = frozenset(SignInMethod)


@dataclass(frozen=True, slots=True)
class UsedMethod:
    """A sign-in method that was used; *provider*: the name of the OIDC provider, None for all other methods."""

    method: SignInMethod
    provider: str | None = field(default=None, repr=False)


BY_PASSWORD = UsedMethod(SignInMethod.PASSWORD)
BY_CODE = UsedMethod(SignInMethod.CODE)
BY_PASSKEY = UsedMethod(SignInMethod.PASSKEY)
