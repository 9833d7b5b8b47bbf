"""The one module that reads which store a deployment has, and opens it."""

from pydantic import SecretStr

from services.crypto import RootKeys
from services.embedded.plan import Endpoints
from services.settings import Settings
from services.store.backend import Backend


def open_backend(chosen: Settings, at: Endpoints, root_keys: RootKeys) -> Backend:
    """Open the store that the settings name, or the embedded one at *at*."""
    from services.store.supabase.backend import open_supabase  # each vendor only where it is chosen

    return open_supabase(
        at.supabase_url or str(chosen.supabase_url).rstrip("/"),
        chosen.supabase_key or SecretStr(at.publishable_key or ""),
        root_keys.proof_key(),
        is_hosted=at.supabase_url is None,
    )
