"""The databases of tests/database, the running app of the journeys, and browsers, for attacks on them."""

from tests.database.conftest import migrated, proof, server, template, world  # noqa: F401
from tests.journeys.conftest import (  # noqa: F401
    app,
    make_app,
    model,
    person,
    shared_app,
)
