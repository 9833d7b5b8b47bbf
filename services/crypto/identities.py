"""The field of a credentials document that holds the user's identities at single sign-on providers.

The field is a list of at most 10 JSON objects, the oldest first. Each object has these fields:

issuer .. the provider's issuer identifier (OpenID Connect)
sub ..... the subject, the id of the user at the provider
name .... the display name, which the user may change
made .... the time at which the identity was added, in seconds since 1970
used .... the time of the last sign-in or proof with the identity, in seconds since 1970; null: never used
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from services.domain.single_sign_on import MOST_IDENTITIES, Identity, LinkedIdentity

_FIELDS = 5  # the number of fields of an identity


def written(identities: Sequence[LinkedIdentity]) -> list[object]:
    """Convert *identities* to the value of the document's field."""
    return [
        {
            "issuer": one.identity.issuer,
            "sub": one.identity.subject,
            "name": one.name,
            "made": int(one.created_at.timestamp()),
            "used": one.last_used_at and int(one.last_used_at.timestamp()),
        }
        for one in identities
    ]


def read(value: object) -> tuple[LinkedIdentity, ...]:
    """Read the identities in the field's *value*. Raise ValueError if this version of the app cannot read all of them."""
    if not isinstance(value, list):
        raise ValueError("identities of a newer version")
    identities = tuple(map(_read, cast(list[object], value)))
    check(identities)
    return identities


def moved(value: object, old: str, new: str) -> object:
    """Replace the issuer *old* by *new* in the field's *value*; of identities that become equal, keep only the first."""
    if not isinstance(value, list):
        return value
    left = dict[object, object]()
    for number, one in enumerate(cast(list[object], value)):
        match one:
            case {"issuer": str(issuer), "sub": str(subject)}:
                at = new if issuer == old else issuer
                moved_one = {**cast(dict[str, object], one), "issuer": at}
                left.setdefault((at, subject), moved_one)
            case _:  # only a newer version can read this identity
                left[number] = one
    return list(left.values())


def check(identities: Sequence[LinkedIdentity]) -> None:
    """Raise ValueError if there are more than 10 identities, or two equal ones."""
    if len({one.identity for one in identities}) != len(identities):
        raise ValueError("a user has each identity once")
    if len(identities) > MOST_IDENTITIES:
        raise ValueError("a user has at most 10 identities")


def _read(value: object) -> LinkedIdentity:
    """Read one identity. Raise ValueError, OverflowError or OSError if this version cannot read it."""
    match value:
        case {
            "issuer": str(issuer),
            "sub": str(subject),
            "name": str(name),
            "made": int(made),
            "used": int() | None as used,
        } if len(cast(dict[str, object], value)) == _FIELDS:
            return LinkedIdentity(
                identity=Identity(issuer, subject),
                name=name,
                created_at=datetime.fromtimestamp(made, UTC),
                last_used_at=None if used is None else datetime.fromtimestamp(used, UTC),
            )
        case _:
            raise ValueError("an identity of a newer version")
