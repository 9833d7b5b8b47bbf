"""The secrets that a deployment must not lose: made once, readable by us alone, never beside the data."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.crypto import RootKeys, new_key
from services.embedded.folders import Folders, full
from services.errors import Misconfigured, says_disk_full


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSecrets:
    """What the parts of the stack need to trust each other. Kept out of reprs, and so of tracebacks."""

    postgres_password: str = field(repr=False)
    owner_password: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)


def stack_secrets(places: Folders) -> StackSecrets:
    """The stack's secrets, made on the first start. Raise Misconfigured where a database lost its own."""
    path = places.keys / "stack.json"
    if not path.exists():
        _refuse_orphan(path, places.database, "the database cannot be opened")
        made = StackSecrets(
            postgres_password=secrets.token_urlsafe(32),
            owner_password=secrets.token_urlsafe(32),
            jwt_secret=secrets.token_urlsafe(48),
            publishable_key=f"sb_publishable_{secrets.token_hex(11)}_{secrets.token_hex(4)}",
        )
        write_private(path, json.dumps(asdict(made)))
    try:
        return StackSecrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{path} is damaged: put its backup back.") from error


def root_keys(places: Folders, *, may_make: bool) -> RootKeys:
    """The root keys beside the stack's secrets, made on the first start if *may_make*.

    Raise Misconfigured where they are missing, or a database lost its own.
    """
    path = places.keys / "root.key"
    if not path.exists():
        if not may_make:
            raise Misconfigured(
                "The root key is missing: set DAYBOOK_ROOT_KEYS, "
                f"or put the key that belongs to this database into {path}."
            )
        _refuse_orphan(path, places.database, "nothing stored can be read")
        write_private(path, base64.urlsafe_b64encode(new_key()).decode())
    return RootKeys.parse(path.read_text(), str(path))


def write_private(path: Path, text: str) -> None:
    """Write *path* whole or not at all, readable by us alone. Raise Misconfigured if the disk is full."""
    draft = path.with_suffix(".draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        if says_disk_full(error):
            raise full(path.parent) from error
        raise
    draft.replace(path)


def _refuse_orphan(path: Path, database: Path, consequence: str) -> None:
    if database.exists():
        raise Misconfigured(f"{path} is missing, and without it {consequence}: put it back.")
