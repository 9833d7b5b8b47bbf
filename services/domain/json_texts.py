"""A JSON parser that keeps no users' texts or secrets in a cache."""

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_core import CoreConfig, SchemaValidator

Value = TypeVar("Value")


def read_json(form: TypeAdapter[Value], text: str | bytes) -> Value:
    """Parse the JSON *text* as a value of *form*, without caching short strings.

    `TypeAdapter.validate_json` would cache short strings, and so keep secrets in memory, until the process ends.
    Raise ValidationError if *text* is not JSON of this form.
    """
    return cast(Value, _validator(form).validate_json(text))


@cache
def _validator(form: TypeAdapter[Any]) -> SchemaValidator:
    return SchemaValidator(form.core_schema, CoreConfig(cache_strings="keys"))
