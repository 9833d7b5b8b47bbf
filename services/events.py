"""Structured logging without users' text.

An event has a name and measurements: ids, numbers, enum members and classes. The type checker and `log_event` refuse
strings, because a string could contain the text of a message.
"""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from uuid import UUID

Measure = UUID | int | float | bool | Enum | type[object] | None
Listener = Callable[[str, Mapping[str, object]], None]

_logger = logging.getLogger("daybook")
_listeners: list[Listener] = []


def log_event(event: str, /, **fields: Measure) -> None:
    """Log *event* with its measurements as one JSON line, and call the listeners."""
    measures = {name: _plain(value) for name, value in fields.items()}
    _logger.info("%s", json.dumps({"event": event} | measures))
    for listener in _listeners:
        listener(event, measures)


def listen(listener: Listener) -> None:
    """Register *listener*, which is called with the name and the measurements of every later event."""
    _listeners.append(listener)


def log_handler(*expected: type[Exception]) -> logging.Handler:
    """Add a handler to the root logger, and return it. It writes events and libraries' warnings to stderr as JSON lines.

    *expected* are the errors that are raised on purpose; see `JsonFormatter`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(*expected))
    handler.addFilter(lambda one: one.name == _logger.name or one.levelno >= logging.WARNING)
    logging.getLogger().addHandler(handler)
    _logger.setLevel(logging.INFO)
    return handler


class JsonFormatter(logging.Formatter):
    """Formats each record as a JSON object: time, level, event and its measurements.

    Records of other loggers are logged with their source line instead of their text. A traceback is logged without
    messages and values: only the type of the error, and the lines of the frames. Otherwise a log could contain a user's
    text. An expected error (a session ended elsewhere, an unreachable database) is logged by its type, without a
    traceback.
    """

    def __init__(self, *expected: type[Exception]) -> None:
        super().__init__()
        self._expected = expected

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": at, "level": record.levelname.lower()}
        if record.name == _logger.name:
            line |= json.loads(record.getMessage())
        else:
            line |= {"event": record.name, "at": f"{record.module}:{record.lineno}"}
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, self._expected):
            line |= {"level": "info", "event": "call.refused", "error": type(error).__name__}
        elif error:
            frames = traceback.extract_tb(error.__traceback__)
            line["traceback"] = [f"{Path(one.filename).stem}:{one.lineno}" for one in frames]
            line["error"] = type(error).__name__
        return json.dumps(line)


def _plain(value: object) -> object:
    match value:
        case UUID():
            return str(value)
        case Enum():
            return value.value
        case int() | float() | None:
            return value
        case type():
            return value.__name__
        case _:
            raise TypeError(f"not loggable: {type(value).__name__}")
