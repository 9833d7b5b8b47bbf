"""The OpenID Connect clients of the single sign-on providers, shared within one event loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from services.provider_settings import ProviderSettings

if TYPE_CHECKING:
    from services.identity.oidc import Provider

_MODULE = "services.identity.oidc"


@dataclass(frozen=True, slots=True)
class ProviderClients:
    """Creates the client of each provider at its first use, because importing the clients takes a third of a second."""

    entries: Mapping[str, ProviderSettings] = field(repr=False)
    _made: "dict[str, Provider]" = field(
        default_factory=dict[str, "Provider"], init=False, repr=False
    )

    async def get(self, name: str) -> "Provider":
        """Return the client of the provider *name*. Call this only in the event loop of the routes."""
        if name not in self._made:
            await run_sync(import_module, _MODULE)
            from services.identity.oidc import Provider

            self._made.setdefault(name, Provider(name, self.entries[name]))
        return self._made[name]
