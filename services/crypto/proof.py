"""The server proof, which every write to the database needs in addition to the user's access token.

A proof is an HMAC-SHA256 over a claim, under a key that only the app and the database have. The claim is the verb, the user and
every argument of the call, one per line. SQL builds the same claim from the arguments that it received
(`private.require_proof`) and compares the proofs. So a thief who calls the API directly with a stolen access token cannot spend
money, settle turns or delete data.

    claim of a user  = verb, user id, fields …
    claim of the app = "server", unix seconds, verb, fields …

A field is an id, a number, a date, true or false, a name from the code, or nothing (an empty line). It never holds a
line break, because two different calls could then have the same claim: free text and tokens are passed as their SHA-256.
"""

import hashlib
import hmac
from datetime import date
from uuid import UUID

Field = str | int | UUID | date | None  # int includes bool, and str includes enums of strings


class ServerProof:
    """Makes server proofs with one HMAC key, which the repr does not show."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of_person(self, verb: str, user_id: UUID, *fields: Field) -> str:
        """Return the proof, in hexadecimal, for a call on behalf of a signed-in user."""
        return self._of(verb, user_id, *fields)

    def of_server(self, verb: str, made_at: int, *fields: Field) -> str:
        """Return the proof, in hexadecimal, for a call by the app itself; valid for a minute from *made_at* (Unix seconds)."""
        return self._of("server", made_at, verb, *fields)

    def _of(self, *fields: Field) -> str:
        return hmac.digest(self._key, claim(*fields).encode(), "sha256").hex()


def claim(*fields: Field) -> str:
    """Return the claim: one field per line, written as Postgres does. Raise ValueError if a field contains a line break."""
    lines = [_line(field) for field in fields]
    if any("\n" in line for line in lines):
        raise ValueError("a field of a proof holds a line break: pass its sha256")
    return "\n".join(lines)


def sha(text: str | None) -> str:
    """Return the sha256 of *text* in hexadecimal; an empty string for None (SQL's null)."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _line(field: Field) -> str:
    match field:
        case None:
            return ""
        case bool():
            return "true" if field else "false"
        case _:
            return str(field)
