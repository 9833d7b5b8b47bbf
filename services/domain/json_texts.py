"""Reading JSON that contains users' texts or secrets."""

from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter
from pydantic_core import CoreConfig, SchemaValidator

Value = TypeVar("Value")


def read_json(form: TypeAdapter[Value], text: str | bytes) -> Value:
    """Parse the JSON *text* as a value of *form*, without caching its short strings. Raise ValidationError.

    `TypeAdapter.validate_json` would keep short strings in pydantic's cache as long as the process lives.
    """
    return cast(Value, _validator(form).validate_json(text))


@cache
def _validator(form: TypeAdapter[Any]) -> SchemaValidator:
    return SchemaValidator(form.core_schema, CoreConfig(cache_strings="keys"))
