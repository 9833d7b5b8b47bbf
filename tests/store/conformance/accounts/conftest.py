"""Each kind of deployment in turn, and its users."""

import time

import pytest

from tests.store.conformance.accounts import deployments
from tests.store.conformance.accounts.deployments import KINDS, SecondPostgres


@pytest.fixture(scope="session")
def second_postgres(place, cache):
    """The Postgres of embedded deployments of their own; it outlives their kind, which pytest begins again for each module."""
    postgres = SecondPostgres(place / "second", cache)
    yield postgres
    postgres.close()


@pytest.fixture(scope="session")
def second_rig(hosted):
    """The rig of hosted deployments of their own, and its first rows; it outlives their kind, too."""
    if hosted.server is None:
        pytest.skip("a project's database is not made anew")
    with deployments.second_rig(hosted.server) as rig:
        yield rig


@pytest.fixture(scope="session")
def running(request):
    kind = KINDS[request.param](request.getfixturevalue)
    yield kind
    kind.close()


@pytest.fixture
def deployment(running):
    """A deployment that other tests use as well; a module whose tests change what is one for all has `alone` in its place."""
    shared = running.shared()
    yield shared
    shared.close()


@pytest.fixture
def alone(running):
    """A deployment without an account, for one test."""
    with running.alone() as deployment:
        yield deployment
        deployment.close()


@pytest.fixture(autouse=True)
def backend(deployment, monkeypatch):
    """Have the clock of the deployment; the suite of content has its own under this name."""
    monkeypatch.setattr(time, "monotonic", deployment.monotonic)


@pytest.fixture
def sessions(deployment):
    """The accounts, for the process of tests/store that has a chat."""
    return deployment.accounts


@pytest.fixture
def maya(deployment):
    return deployment.sign_up()


@pytest.fixture
def omar(deployment):
    return deployment.sign_up()


@pytest.fixture
def admin(deployment):
    return deployment.sign_up_admin()
