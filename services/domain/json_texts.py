"""Reading JSON that contains users' texts or secrets."""

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_core import CoreConfig, SchemaValidator

Value = TypeVar("Value")


def read_json(form: TypeAdapter[Value], text: str | bytes) -> Value:
    """Return the value of *form* that *text* describes; its short strings stay in no cache. Raise ValidationError.

    `TypeAdapter.validate_json` would keep them in pydantic's cache of strings, for as long as the process lives.
    """
    return cast(Value, _validator(form).validate_json(text))


@cache
def _validator(form: TypeAdapter[Any]) -> SchemaValidator:
    return SchemaValidator(form.core_schema, CoreConfig(cache_strings="keys"))
