"""Logs without text."""

import json
import logging
from uuid import UUID

import pytest

from services.domain import Outcome
from services.events import log_event


def test_event_is_one_line_of_json(caplog):
    caplog.set_level(logging.INFO, "daybook")

    figures = {"tokens": 12, "seconds": 0.5, "won": True}

    log_event("turn.finished", turn=UUID(int=7), outcome=Outcome.STOPPED, **figures)

    [record] = caplog.records
    assert "\n" not in record.getMessage()
    ids = {"turn": "00000000-0000-0000-0000-000000000007"}
    event = {"event": "turn.finished", **ids, "outcome": "stopped", **figures}
    assert json.loads(record.getMessage()) == event


@pytest.mark.parametrize("value", ["kumquat", b"kumquat", ["kumquat"], {"a": "kumquat"}], ids=repr)
def test_text_is_refused_at_run_time(caplog, value):
    caplog.set_level(logging.INFO, "daybook")

    with pytest.raises(TypeError) as caught:
        log_event("turn.finished", said=value)

    assert "kumquat" not in caplog.text + str(caught.value)
