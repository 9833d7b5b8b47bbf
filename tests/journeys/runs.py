"""Which journeys a run has: with DAYBOOK_JOURNEYS=all, those of accounts, which every run has on one of two stores, run on both, and
more of them run on the parts of hosted Supabase."""

import os

IS_WHOLE = os.environ.get("DAYBOOK_JOURNEYS") == "all"


def described():
    """Return a line that says on which stores the journeys of accounts run."""
    if IS_WHOLE:
        return "Journeys: those of accounts on both stores"
    return "Journeys: those of accounts on one store each (DAYBOOK_JOURNEYS=all: on both, and on the rig)"
