"""Which tests a run has: a plain run omits those that repeat on a further store what the same code passes on another one; a run with
DAYBOOK_TESTS=all has all."""

import os

IS_WHOLE = os.environ.get("DAYBOOK_TESTS") == "all"


def described():
    """Return a line that says which tests of several stores the run has."""
    if IS_WHOLE:
        return "Stores: all tests on each"
    return "Stores: of accounts, a part on each (DAYBOOK_TESTS=all: all tests on each)"


def pytest_collection_modifyitems(config, items):
    """Leave the tests that are marked `long_run` to runs with DAYBOOK_TESTS=all."""
    if IS_WHOLE:
        return
    left_out = [one for one in items if one.get_closest_marker("long_run")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [one for one in items if one not in left_out]
