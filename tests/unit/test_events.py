"""Logs without users' text."""

import json
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services import deployment
from services.domain import Outcome
from services.errors import AppError, SignedOut, StoreUnavailable, WrongCredentials
from services.events import log_event


@pytest.fixture(autouse=True)
def _no_listeners(monkeypatch):
    """Call no listener of other tests, which may need other measures."""
    monkeypatch.setattr("services.events._listeners", [])


def test_event_is_one_line_of_json(caplog):
    caplog.set_level(logging.INFO, "daybook")

    figures = {"tokens": 12, "seconds": 0.5, "won": True}

    log_event("turn.finished", turn=UUID(int=7), outcome=Outcome.STOPPED, **figures)

    [record] = caplog.records
    assert "\n" not in record.getMessage()
    ids = {"turn": "00000000-0000-0000-0000-000000000007"}
    event = {"event": "turn.finished", **ids, "outcome": "stopped", **figures}
    assert json.loads(record.getMessage()) == event


def line_of(record):
    """Return the line that the server's handler writes."""
    handler = deployment.log_handler()
    logging.getLogger().removeHandler(handler)
    return json.loads(handler.format(record))


def test_log_line_has_time_level_and_event(caplog):
    caplog.set_level(logging.INFO, "daybook")

    log_event("turn.finished", tokens=12, failure=StoreUnavailable)

    line = line_of(caplog.records[0])
    at = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    finished = {"event": "turn.finished", "tokens": 12, "failure": "StoreUnavailable"}
    assert line == {"level": "info", **finished}


@pytest.mark.parametrize("logger", ["services.daemon_threads", "streamlit.runtime"])
def test_log_line_has_places_and_no_words(caplog, logger):
    try:
        raise ValueError("kumquat")
    except ValueError:
        logging.getLogger(logger).exception("a value is wrong: %s", "kumquat")

    line = line_of(caplog.records[0])

    assert "kumquat" not in str(line)
    assert (line["level"], line["event"], line["error"]) == ("error", logger, "ValueError")
    assert line["at"].startswith("test_events:")
    assert [place.partition(":")[0] for place in line["traceback"]] == ["test_events"]


@pytest.mark.parametrize("error", [SignedOut("PT401"), WrongCredentials(), StoreUnavailable(503)])
def test_expected_error_is_one_event_without_a_traceback(caplog, error):
    """The record is as Streamlit logs an error that a callback raises, with the error of the API as its cause."""
    try:
        try:
            raise ValueError("kumquat")
        except ValueError as cause:
            raise error from cause
    except AppError:
        logging.getLogger("streamlit.error_util").exception("Uncaught app execution")

    line = line_of(caplog.records[0])

    assert (line["level"], line["event"]) == ("info", "call.refused")
    assert line["error"] == type(error).__name__
    assert "traceback" not in line


@pytest.mark.parametrize("value", ["kumquat", b"kumquat", ["kumquat"], {"a": "kumquat"}], ids=repr)
def test_text_is_refused_at_run_time(caplog, value):
    caplog.set_level(logging.INFO, "daybook")

    with pytest.raises(TypeError) as caught:
        log_event("turn.finished", said=value)

    assert "kumquat" not in caplog.text + str(caught.value)
