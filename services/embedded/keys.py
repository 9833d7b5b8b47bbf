"""The stack's own secrets: made once, readable by us alone, never beside the data."""

import base64
import binascii
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.errors import Misconfigured, says_disk_full

_ROOT_BYTES = 32
_FEWEST_DISTINCT = 16  # of 32 random bytes, fewer than 16 distinct: once in 10^13


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSecrets:
    """What the parts of the stack need to trust each other. Kept out of reprs, and so of tracebacks."""

    postgres_password: str = field(repr=False)
    owner_password: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)
    model_key: str = field(repr=False)


def stack_secrets(keys: Path, database: Path) -> StackSecrets:
    """The stack's secrets, made on the first start. Raise Misconfigured where a database lost its own."""
    path = keys / "stack.json"
    if not path.exists():
        _refuse_orphan(path, database, "the database cannot be opened")
        _write_private(path, json.dumps(asdict(_new_secrets())))
    try:
        return StackSecrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{path} is damaged: put its backup back.") from error


def root_key(keys: Path, database: Path, given: str | None) -> bytes:
    """The root key: *given* by the environment, or the file's. Raise Misconfigured if it is no good."""
    if given is not None:
        return _decoded(given, "DAYBOOK_ROOT_KEYS")
    path = keys / "root.key"
    if not path.exists():
        _refuse_orphan(path, database, "nothing stored can be read")
        _write_private(path, base64.urlsafe_b64encode(secrets.token_bytes(_ROOT_BYTES)).decode())
    return _decoded(path.read_text(), str(path))


def _decoded(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _ROOT_BYTES or len(set(key)) < _FEWEST_DISTINCT:
        raise Misconfigured(
            f"The root key in {source} is not 32 random bytes in base64url: put the right one there."
        )
    return key


def _refuse_orphan(path: Path, database: Path, consequence: str) -> None:
    if database.exists():
        raise Misconfigured(f"{path} is missing, and without it {consequence}: put it back.")


def _new_secrets() -> StackSecrets:
    return StackSecrets(
        postgres_password=secrets.token_urlsafe(32),
        owner_password=secrets.token_urlsafe(32),
        jwt_secret=secrets.token_urlsafe(48),
        publishable_key=f"sb_publishable_{secrets.token_hex(11)}_{secrets.token_hex(4)}",
        model_key=secrets.token_urlsafe(32),
    )


def _write_private(path: Path, text: str) -> None:
    """Write *path* whole or not at all, readable by us alone."""
    draft = path.with_suffix(".draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        if says_disk_full(error):
            raise Misconfigured(
                f"The disk is full: free some space for {path.parent} and start again."
            ) from error
        raise
    draft.replace(path)
