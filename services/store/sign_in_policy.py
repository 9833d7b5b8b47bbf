"""The sign-in rules of a deployment, which decide which of a user's sign-in methods are accepted. Pure functions."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.crypto import Credentials
from services.domain.addresses import NO_ADDRESS, EmailAddress
from services.domain.passkeys import relying_party
from services.domain.sign_in_methods import (
    ALL_METHODS,
    BY_CODE,
    BY_PASSKEY,
    BY_PASSWORD,
    SignInMethod,
    UsedMethod,
)
from services.domain.single_sign_on import OtherSignInNeeded
from services.errors import LastWayIn, MethodOff
from services.provider_settings import ProviderSettings
from services.settings import Settings
from services.store.identities import Providers, check_way_in, only_provider


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInPolicy:
    """The enabled sign-in methods, the single sign-on providers, and the deployment's URL."""

    methods: frozenset[SignInMethod] = ALL_METHODS
    providers: Providers = field(default_factory=dict[str, ProviderSettings], repr=False)
    public_url: str | None = field(default=None, repr=False)  # the deployment's URL, without a path

    @classmethod
    def of(cls, chosen: Settings) -> "SignInPolicy":
        """Return the policy that a deployment's settings define."""
        return cls(methods=chosen.methods, providers=chosen.providers, public_url=chosen.public_url)

    def check(self, credentials: Credentials, used: UsedMethod) -> None:
        """Raise MethodOff if *used* is disabled, OtherSignInNeeded if the address must sign in through another provider.

        Even if passwords are disabled, a password that an operator set is accepted.
        """
        if not self.is_exempt(credentials, used):
            self.check_method(used.method)
        check_way_in(self.providers, credentials.address, used.provider)

    def check_address(self, address: EmailAddress, *methods: SignInMethod) -> None:
        """Raise MethodOff unless all *methods* are enabled, OtherSignInNeeded if *address* must sign in through a provider."""
        for method in methods:
            self.check_method(method)
        check_way_in(self.providers, address)

    def allows(self, address: EmailAddress, *methods: SignInMethod) -> bool:
        """Return True if all *methods* are enabled, and *address* need not sign in through a provider."""
        with suppress(MethodOff, OtherSignInNeeded):
            self.check_address(address, *methods)
            return True
        return False

    def check_method(self, method: SignInMethod) -> None:
        """Raise MethodOff unless *method* is enabled."""
        if method not in self.methods:
            raise MethodOff

    def check_sign_up(
        self, address: EmailAddress, *, has_password: bool, issuer: str | None
    ) -> None:
        """Raise MethodOff or OtherSignInNeeded unless an account with *address* may be created.

        The account's first sign-in method is a password, an identity at *issuer*, or else the code that confirmed the address.
        """
        if issuer is not None:
            self.check_method(SignInMethod.OIDC)
            check_way_in(self.providers, address, self.provider_of(issuer))
        # a single-user deployment (NO_ADDRESS) has no sign-in, so there is nothing to check
        elif address != NO_ADDRESS:
            method = SignInMethod.PASSWORD if has_password else SignInMethod.CODE
            self.check_address(address, method)

    def check_move(self, address: EmailAddress, new: EmailAddress) -> None:
        """Raise OtherSignInNeeded if *address* or *new* must sign in through a provider: only an operator may change them."""
        check_way_in(self.providers, address)
        check_way_in(self.providers, new)

    def is_exempt(self, credentials: Credentials, used: UsedMethod) -> bool:
        """Return True if passwords are disabled, but *used* is a password that an operator set."""
        is_off = SignInMethod.PASSWORD not in self.methods
        return used == BY_PASSWORD and is_off and credentials.has_operator_password

    def opens(self, credentials: Credentials, used: UsedMethod) -> bool:
        """Return True if the rules let the user of *credentials* sign in with *used*, a method that the user has."""
        with suppress(MethodOff, OtherSignInNeeded):
            self.check(credentials, used)
            return True
        return False

    def takes_password(self, credentials: Credentials) -> bool:
        """Return True if the account has a password, and the rules let the user sign in with it."""
        return credentials.password_hash is not None and self.opens(credentials, BY_PASSWORD)

    def takes_passkey(self, credentials: Credentials) -> bool:
        """Return True if the account has a passkey for this URL, and the rules let the user sign in with it."""
        return self._has_passkey(credentials) and self.opens(credentials, BY_PASSKEY)

    def has_way_in(self, credentials: Credentials) -> bool:
        """Return True if the user can sign in here: by a method in *credentials*, or by a first visit at an `only` provider.

        That visit links the provider to an account with a confirmed address, after the password or a mailed code.
        """
        if self._has_own_way_in(credentials):
            return True
        by_password = SignInMethod.PASSWORD in self.methods and credentials.password_hash
        return bool(
            only_provider(self.providers, credentials.address)
            and credentials.confirmed
            and SignInMethod.OIDC in self.methods
            and (by_password or SignInMethod.CODE in self.methods)
        )

    def proves_otherwise(
        self, credentials: Credentials, rp_id: str | None, *, has_mail: bool
    ) -> bool:
        """Return True if the user can prove who they are with a password, passkey (for *rp_id*) or mailed code (*has_mail*)."""
        passkeys = credentials.passkeys.each if credentials.passkeys else ()
        by_passkey = any(one.rp_id == rp_id for one in passkeys)
        by_code = has_mail and credentials.confirmed is not None
        return (
            self.takes_password(credentials)
            or (by_passkey and self.opens(credentials, BY_PASSKEY))
            or (by_code and self.opens(credentials, BY_CODE))
        )

    def may_leave(self, before: Credentials, after: Credentials) -> bool:
        """Return False if this deployment accepts a sign-in method of the credentials *before*, but no method of *after*."""
        return self._has_own_way_in(after) or not self._has_own_way_in(before)

    def check_left(self, before: Credentials, after: Credentials) -> None:
        """Raise LastWayIn unless `may_leave`."""
        if not self.may_leave(before, after):
            raise LastWayIn

    def provider_of(self, issuer: str) -> str | None:
        """Return the name of the provider with this issuer; None: no such provider is configured."""
        return next((name for name, one in self.providers.items() if one.issuer == issuer), None)

    def lifetime_seconds(self, used: UsedMethod | None, lifetime_seconds: int) -> int:
        """Return a session's lifetime: *lifetime_seconds*, but at most `session_days` of a provider with the setting `only`."""
        provider = self.providers.get(used.provider) if used and used.provider else None
        if provider is None or not provider.only:
            return lifetime_seconds
        days = timedelta(days=provider.session_days)
        return min(lifetime_seconds, int(days.total_seconds()))

    def asking(self, credentials: Credentials, *, is_required: bool) -> Credentials:
        """Return *credentials* with the second factor that a sign-in must require; *is_required*: the deployment requires one.

        If a required factor is not set up yet, the sign-in requires a passkey that works on this deployment and verifies
        its user, if the user has one: the password alone must not be enough to set up a factor.
        """
        passkeys = credentials.passkeys
        if not is_required or credentials.wants_factor or not self._has_passkey(credentials):
            return credentials
        return replace(credentials, passkeys=passkeys and replace(passkeys, is_factor=True))

    def _has_own_way_in(self, credentials: Credentials) -> bool:
        """Return True if *credentials* contain a sign-in method that works on this deployment.

        Mailed codes count only if no other method is enabled: otherwise, access to the mailbox alone would control the
        account.
        """
        return any(self.opens(credentials, one) for one in self._ways_in(credentials))

    def _has_passkey(self, credentials: Credentials) -> bool:
        """Return True if *credentials* contain a passkey that works on this deployment and verifies its user."""
        for one in credentials.passkeys.each if credentials.passkeys else ():
            site = relying_party(self.public_url, "http", one.rp_id)
            if one.verifies_user and site and site.id == one.rp_id:
                return True
        return False

    def _ways_in(self, credentials: Credentials) -> Iterator[UsedMethod]:
        """Yield the sign-in methods in *credentials* that this deployment knows, including disabled methods."""
        if credentials.password_hash is not None:
            yield BY_PASSWORD
        for one in credentials.identities:
            if provider := self.provider_of(one.identity.issuer):
                yield UsedMethod(SignInMethod.OIDC, provider)
        if self._has_passkey(credentials):
            yield BY_PASSKEY
        if credentials.confirmed and self.methods == frozenset({SignInMethod.CODE}):
            yield BY_CODE
