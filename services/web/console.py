"""Console output about the start, the state and the URL of the app."""

import sys
from contextlib import suppress

from services.domain.models import ModelState
from services.embedded import reports
from services.embedded.reports import Running, Stage, Starting

_MODEL_LINES = {
    ModelState.READY: "The local model is ready.",
    ModelState.FAILED: "The local model keeps failing; trying again in a while.",
}


def line_of(report: reports.Report, before: Starting | Running, *, was_started: bool) -> str | None:
    """Return the console line about *report*; "": print only the URL; None: print nothing. *before*: the previous state."""
    match report:
        case Starting():
            is_news = _progress(before) != _progress(report)
            return f"Daybook is starting: {report} …" if is_news else None
        case Running():
            return ""
        case reports.Trouble(sentence):
            return f"Daybook has a problem: {sentence}" if sentence else ""
        case reports.Notice(sentence):
            return sentence
        case reports.ModelReport(state):
            return _MODEL_LINES.get(state)
        case reports.Failed(sentence):
            return f"Daybook cannot {'go on' if was_started else 'start'}: {sentence}"


def announce(*lines: str) -> None:
    """Write the non-empty *lines* to the console; "?" replaces characters that its encoding lacks."""
    encoding = sys.stdout.encoding
    text = "".join(f"{each}\n" for each in lines if each)
    with suppress(OSError):  # stdout is closed, or is a file on a full disk
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()


def _progress(state: Starting | Running) -> tuple[Stage, int] | None:
    """Return the stage of the startup, and the number of completed quarters of that stage; None if the app is running."""
    if isinstance(state, Starting):
        return state.stage, 4 * state.done // state.total if state.total else 0
    return None
