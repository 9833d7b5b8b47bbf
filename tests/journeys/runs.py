"""Which journeys a run has: each run leaves out some in which little is the store's; with DAYBOOK_JOURNEYS=all, none."""

import os

IS_WHOLE = os.environ.get("DAYBOOK_JOURNEYS") == "all"


def described():
    """Return a line that says whether each journey runs on each of its stores."""
    if IS_WHOLE:
        return "Journeys: each on each of its stores"
    return "Journeys: some not on all of their stores (DAYBOOK_JOURNEYS=all: each on each)"
