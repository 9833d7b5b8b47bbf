"""App processes and users' browsers on the rig, whose project dates from before 2026 and so has open grants."""

import pytest

from tests.hosted.rig import started_rig
from tests.journeys.conftest import (  # noqa: F401
    make_app,
    model,
    person,
    pytest_runtest_makereport,
)
from tests.stack.apps import running
from tests.store.conftest import addresses, hashes, process, wire  # noqa: F401


@pytest.fixture(scope="session")
def open_rig(cache):
    with started_rig(cache, is_open=True) as rig:
        rig.gateway.delay = 0.02  # the network delay to a project in a data centre
        yield rig


@pytest.fixture(scope="session")
def make_hosted_app(open_rig, make_app):  # noqa: F811
    """Return a function that makes an app process on the rig, not started, with a model that has a price."""
    prices = {"DAYBOOK_INPUT_PRICE_MICRO": "3000000", "DAYBOOK_OUTPUT_PRICE_MICRO": "15000000"}

    def make(name, environment=None, **changes):
        environment = open_rig.environment() | prices | (environment or {})
        database = open_rig.address
        return make_app(name, "hosted", environment=environment, database=database, **changes)

    return make


@pytest.fixture(scope="module")
def app(make_hosted_app):
    """An app for all tests of a file that do not damage it."""
    with running(make_hosted_app("first")) as app:
        app.until_ready()
        yield app
