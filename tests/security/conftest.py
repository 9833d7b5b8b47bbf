"""The databases of tests/database, the running app of the journeys, and browsers, for attacks on them."""

from tests.database.conftest import migrated, proof, server, template, world
from tests.journeys.conftest import app, browser, make_app, model, person

__all__ = [
    "app",
    "browser",
    "make_app",
    "migrated",
    "model",
    "person",
    "proof",
    "server",
    "template",
    "world",
]
