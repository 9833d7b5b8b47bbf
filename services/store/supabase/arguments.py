"""Arguments of the API's functions, derived from the fields of a write (services/store/writes.py)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from datetime import date
from enum import Enum
from functools import cache
from types import NoneType
from typing import Annotated, NewType, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic_core import to_jsonable_python

from services.domain import Usage
from services.domain.rows import FieldKind

Argument = UUID | str | int | bool | date | None
# the names of the API's arguments, keyed by the fields of a `Usage`
_USED = {name: f"used_{name}" for name in ("prompt", "reply", "cached")}
_CLASSES: dict[FieldKind, tuple[type, ...]] = {
    FieldKind.ID: (UUID,),
    FieldKind.NUMBER: (int, date),
    FieldKind.NAME: (Enum,),
    FieldKind.TEXT: (str,),
}


@dataclass(frozen=True, slots=True)
class Hidden:
    """An argument that goes into a server proof only as a hash: free text or sealed text."""

    text: str | None = field(repr=False)

    @classmethod
    def json(cls, values: Mapping[str, object]) -> "Hidden":
        return cls(json.dumps(values, default=str))

    @classmethod
    def of(cls, value: object) -> "Hidden":
        """Return an argument for *value*: text unchanged, ids separated by commas, a dataclass as JSON."""
        match value:
            case None | str():
                return cls(value)
            case tuple():
                return cls(",".join(map(str, cast(tuple[UUID, ...], value))))
            case _:
                return cls(json.dumps(to_jsonable_python(value)))


@dataclass(frozen=True, slots=True)
class ArgumentField:
    """A field of a write (services/store/writes.py), or of a dataclass nested in the write."""

    name: str  # the name of the function's argument
    path: tuple[str, ...]
    kind: FieldKind


def arguments_of(write: object) -> dict[str, Argument | Hidden]:
    """Return the arguments for *write*, in the order of the API function's parameters."""
    found: dict[str, Argument | Hidden] = {}
    for each in argument_fields(type(write)):
        value = write
        for name in each.path:
            value = None if value is None else getattr(value, name)
        is_hidden = each.kind in (FieldKind.SEALED, FieldKind.TEXT)
        found[each.name] = Hidden.of(value) if is_hidden else cast(Argument, value)
    return found


@cache
def argument_fields(write: type) -> tuple[ArgumentField, ...]:
    """Return the fields of the class *write* that become arguments, in order. Raise TypeError if a field has no kind."""
    return tuple(each for each in _fields(write) if each.kind is not FieldKind.IMPLIED)


def _fields(write: type) -> Iterator[ArgumentField]:
    hints = get_type_hints(write, include_extras=True)
    for name in hints:
        kind = _kind_of(hints[name])
        if isinstance(kind, FieldKind):
            yield ArgumentField(name.removesuffix("_id"), (name,), kind)
            continue
        for part in _fields(kind):
            if kind is not Usage or part.name in _USED:
                argument = _USED[part.name] if kind is Usage else part.name
                yield ArgumentField(argument, (name, *part.path), part.kind)


def _kind_of(hint: object) -> FieldKind | type:
    """Return the kind of a field of type *hint*, or the type if it is a nested dataclass; else raise TypeError."""
    if get_origin(hint) is Annotated:
        return next(mark for mark in get_args(hint) if isinstance(mark, FieldKind))
    if alternatives := get_args(hint):
        [hint] = (each for each in alternatives if each is not NoneType)
        return _kind_of(hint)
    if isinstance(hint, NewType):
        return _kind_of(hint.__supertype__)
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    if isinstance(hint, type):
        for kind, classes in _CLASSES.items():
            if issubclass(hint, classes):
                return kind
    raise TypeError(f"a field of a write does not say what it is: {hint}")
