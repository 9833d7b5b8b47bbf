"""The one module that chooses and opens a deployment's store. A vendor is imported only if it is chosen."""

from pydantic import SecretStr

from services.crypto import RootKeys
from services.embedded.folders import choose_folders
from services.embedded.plan import Endpoints, read_secrets, running_endpoints
from services.settings import Settings
from services.store.backend import Backend
from services.store.operator import Operator


def open_backend(chosen: Settings, at: Endpoints, root_keys: RootKeys) -> Backend:
    """Open the store that the settings name, or the embedded one at *at*."""
    from services.store.supabase.backend import open_supabase

    return open_supabase(
        at.supabase_url or str(chosen.supabase_url).rstrip("/"),
        chosen.supabase_key or SecretStr(at.publishable_key or ""),
        root_keys.proof_key(),
        is_hosted=at.supabase_url is None,
    )


def open_operator(chosen: Settings) -> Operator:
    """Open the operator's port of the store that the settings name, or else of the running embedded stack.

    Raise Misconfigured if there is neither.
    """
    from services.store.supabase.operator import SupabaseOperator, operator_at

    if chosen.supabase_url or chosen.database_url:
        url = chosen.database_url.get_secret_value() if chosen.database_url else None
        api = None
        if chosen.supabase_url and chosen.supabase_key:
            api = str(chosen.supabase_url).rstrip("/"), chosen.supabase_key
        return operator_at(url, api)
    from services.embedded.postgres import Postgres  # needs the group `embedded`

    folders = choose_folders(chosen.data_dir, chosen.key_dir)
    at = running_endpoints(folders.data)
    postgres = Postgres(folders, read_secrets(folders))
    api = at.supabase_url or "", SecretStr(at.publishable_key or "")
    return SupabaseOperator(lambda: postgres.connect(as_owner=True), api)
