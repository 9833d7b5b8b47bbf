"""Structured logging without text.

An event is a name and measurements: ids, numbers and enums. Strings are refused by their type and at run
time, so that no message text reaches a log.
"""

import json
import logging
from enum import Enum
from uuid import UUID

Measure = UUID | int | float | bool | Enum | None

_logger = logging.getLogger("daybook")


def log_event(event: str, /, **fields: Measure) -> None:
    """Log *event* with its measurements as one JSON line."""
    measures = {name: _plain(value) for name, value in fields.items()}
    _logger.info("%s", json.dumps({"event": event} | measures))


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Enum():
            return value.value
        case int() | float() | None:
            return value
        case _:
            raise TypeError(f"not loggable: {type(value).__name__}")
