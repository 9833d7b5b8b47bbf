"""Which tests a run has: a plain run omits those that repeat on a further store what the same code passes on another one; a run with
DAYBOOK_TESTS=all has all."""

import os

IS_WHOLE = os.environ.get("DAYBOOK_TESTS") == "all"


def described(_reports):
    """Return a line that says which tests of several stores the run has."""
    if IS_WHOLE:
        return "Stores: all tests on each"
    return "Stores: of accounts, a part on each (DAYBOOK_TESTS=all: all tests on each)"
