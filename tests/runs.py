"""Which tests a run has: each promise once, on the part where it is kept; a run with DAYBOOK_TESTS=all has all tests."""

import hashlib
import os
from pathlib import Path

IS_WHOLE = os.environ.get("DAYBOOK_TESTS") == "all"
_ROOT = Path(__file__).parents[1]
_LONG_RUN = _ROOT / "tests" / "long-run.md"
_START = ("streamlit_app.py", "services/deployment.py", "services/embedded/**/*.*")


def start_hash():
    """Return a short hash of the files that a start consists of."""
    found = (path for pattern in _START for path in _ROOT.glob(pattern))
    files = sorted(path for path in found if path.is_file() and path.suffix != ".pyc")
    return hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()[:12]


def described(_reports):
    """Return a line that says which tests the run has; tests/long-run.md keeps that of the last long run."""
    if IS_WHOLE:
        return f"All tests, of a start whose files have the hash {start_hash()}"
    return "Each promise once (DAYBOOK_TESTS=all: on every store)"


def pytest_collection_modifyitems(config, items):
    """Leave the tests that are marked `long_run` to runs with DAYBOOK_TESTS=all."""
    if IS_WHOLE:
        return
    last = _LONG_RUN.read_text("utf-8") if _LONG_RUN.exists() else ""
    has_new_start = start_hash() not in last or "with exit code 0." not in last  # or it failed

    def is_out(item):
        marker = item.get_closest_marker("long_run")
        return marker and not (has_new_start and marker.kwargs.get("start"))

    config.hook.pytest_deselected(items=[item for item in items if is_out(item)])
    items[:] = [item for item in items if not is_out(item)]
