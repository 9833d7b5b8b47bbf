"""Which journeys a run has: with DAYBOOK_JOURNEYS=all, those that run on one of their stores in every run go on each of them."""

import os

IS_WHOLE = os.environ.get("DAYBOOK_JOURNEYS") == "all"


def described():
    """Return a line that says whether each journey runs on each of its stores."""
    if IS_WHOLE:
        return "Journeys: each on each of its stores"
    return "Journeys: some on one of their stores (DAYBOOK_JOURNEYS=all: each on each)"
