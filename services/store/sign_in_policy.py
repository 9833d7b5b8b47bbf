"""What lets users in on a deployment, whatever their credentials hold. Pure."""

from dataclasses import dataclass, field
from datetime import timedelta

from services.domain.addresses import EmailAddress
from services.domain.sign_in_methods import ALL_METHODS, SignInMethod, UsedMethod
from services.errors import MethodOff
from services.provider_settings import ProviderSettings
from services.store.identities import Providers, check_way_in


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInPolicy:
    """The methods that are on, and the providers of single sign-on."""

    methods: frozenset[SignInMethod] = ALL_METHODS
    providers: Providers = field(default_factory=dict[str, ProviderSettings], repr=False)

    def check(self, address: EmailAddress, used: UsedMethod) -> None:
        """Raise MethodOff, or OtherSignInNeeded if *address* gets in by another provider alone."""
        if used.method not in self.methods:
            raise MethodOff
        check_way_in(self.providers, address, used.provider)

    def lifetime_seconds(self, used: UsedMethod | None, lifetime_seconds: int) -> int:
        """Return the seconds that a session lasts: those of an `only` provider that began it, but never more than *lifetime_seconds*."""
        provider = self.providers.get(used.provider) if used and used.provider else None
        if provider is None or not provider.only:
            return lifetime_seconds
        days = timedelta(days=provider.session_days)
        return min(lifetime_seconds, int(days.total_seconds()))
