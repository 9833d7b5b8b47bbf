"""The databases of tests/database, the running app of the journeys, and browsers, for attacks on them."""

from tests.database.conftest import (  # noqa: F401
    administrator,
    migrated,
    proof,
    server,
    template,
    world,
)
from tests.journeys.conftest import app, browser, make_app, model, person  # noqa: F401
