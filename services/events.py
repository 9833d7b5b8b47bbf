"""Logging that cannot leak a conversation.

An event is a name and measurements. Field values are ids, numbers and enums: the type has no
place for a string, so the type checker refuses message text.
"""

import json
import logging
from enum import Enum
from uuid import UUID

Measure = UUID | int | float | bool | Enum | None

_logger = logging.getLogger("daybook")


def log_event(event: str, /, **fields: Measure) -> None:
    """Log *event* with its measurements as one JSON line."""
    _logger.info("%s", json.dumps({"event": event} | fields, default=_plain))


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Enum():
            return value.value
        case _:
            raise TypeError(f"not loggable: {type(value).__name__}")
