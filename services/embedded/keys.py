"""The secrets that a deployment must not lose: made once, readable by their owner alone, never beside the data."""

import base64
import secrets
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.crypto import RootKeys, new_key
from services.embedded.folders import Folders, write_private
from services.embedded.plan import StackSecrets
from services.errors import Misconfigured

_STACK_SECRETS = TypeAdapter(StackSecrets)


def stack_secrets(folders: Folders) -> StackSecrets:
    """Read the stack's secrets; the first start makes them. Raise Misconfigured where a database lost its own."""
    path = folders.keys / "stack.json"
    if not path.exists():
        _refuse_lost(path, folders.database, "the database cannot be opened")
        new = StackSecrets(
            postgres_password=secrets.token_urlsafe(32),
            owner_password=secrets.token_urlsafe(32),
            jwt_secret=secrets.token_urlsafe(48),
            publishable_key=f"sb_publishable_{secrets.token_hex(11)}_{secrets.token_hex(4)}",
        )
        write_private(path, _STACK_SECRETS.dump_json(new).decode())
    try:
        return _STACK_SECRETS.validate_json(path.read_bytes())
    except ValidationError:  # not the cause of the next: its text repeats the secrets
        problem = f"{path} is damaged: put its backup back."
    raise Misconfigured(problem)


def root_keys(folders: Folders, configured: str | None, *, may_create: bool) -> RootKeys:
    """Return the *configured* root keys, else those beside the stack's secrets; the first start makes them if
    *may_create*.

    Raise Misconfigured where they are missing or invalid, or a database lost its own.
    """
    if configured is not None:
        return RootKeys.parse(configured)
    path = folders.keys / "root.key"
    if not path.exists():
        if not may_create:
            raise Misconfigured(
                "The root key is missing: set DAYBOOK_ROOT_KEYS, "
                f"or put the key that belongs to this database into {path}."
            )
        _refuse_lost(path, folders.database, "nothing stored can be read")
        write_private(path, base64.urlsafe_b64encode(new_key()).decode())
    return RootKeys.parse(path.read_text(), str(path))


def _refuse_lost(path: Path, database: Path, consequence: str) -> None:
    if database.exists():
        raise Misconfigured(f"{path} is missing, and without it {consequence}: put it back.")
