"""The secrets that a deployment must not lose: made once, readable by us alone, never beside the data."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.embedded.folders import full
from services.errors import Misconfigured, says_disk_full


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSecrets:
    """What the parts of the stack need to trust each other. Kept out of reprs, and so of tracebacks."""

    postgres_password: str = field(repr=False)
    owner_password: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)


def stack_secrets(keys: Path, database: Path) -> StackSecrets:
    """The stack's secrets, made on the first start. Raise Misconfigured where a database lost its own."""
    path = keys / "stack.json"
    if not path.exists():
        _refuse_orphan(path, database, "the database cannot be opened")
        write_private(path, json.dumps(asdict(_new_secrets())))
    try:
        return StackSecrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{path} is damaged: put its backup back.") from error


def root_keys(keys: Path, database: Path) -> str:
    """The text of the root key beside the stack's secrets, made on the first start.

    Raise Misconfigured where a database lost its own.
    """
    path = keys / "root.key"
    if not path.exists():
        _refuse_orphan(path, database, "nothing stored can be read")
        write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return path.read_text()


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


def _new_secrets() -> StackSecrets:
    return StackSecrets(
        postgres_password=secrets.token_urlsafe(32),
        owner_password=secrets.token_urlsafe(32),
        jwt_secret=secrets.token_urlsafe(48),
        publishable_key=f"sb_publishable_{secrets.token_hex(11)}_{secrets.token_hex(4)}",
    )
