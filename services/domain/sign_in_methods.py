"""The methods by which users can sign in, and the method that a user has used."""

from dataclasses import dataclass, field
from enum import StrEnum


class SignInMethod(StrEnum):
    """The sign-in methods, named as in the setting `DAYBOOK_SIGN_IN_METHODS`."""

    PASSWORD = "password"  # noqa: S105
    CODE = "code"  # a code sent by mail
    PASSKEY = "passkey"
    OIDC = "oidc"  # a provider of single sign-on


ALL_METHODS = frozenset(SignInMethod)


@dataclass(frozen=True, slots=True)
class UsedMethod:
    """A sign-in method that a user has used. *provider*: the name of the OIDC provider, None for other methods."""

    method: SignInMethod
    provider: str | None = field(default=None, repr=False)


BY_PASSWORD = UsedMethod(SignInMethod.PASSWORD)
BY_CODE = UsedMethod(SignInMethod.CODE)
BY_PASSKEY = UsedMethod(SignInMethod.PASSKEY)
