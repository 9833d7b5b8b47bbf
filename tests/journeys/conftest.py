"""The real app, a scripted model, and users with real browsers.

With DAYBOOK_JOURNEY_STORE=sqlite the apps keep their data in SQLite, instead of the embedded stack; with DAYBOOK_TESTS=all the
journeys of accounts, each of which every run has on one store, run on both.
"""

import os
from contextlib import contextmanager

import httpx
import pytest

from tests.chromium import chromium
from tests.journeys.people import PASSWORD, SECONDS, Person
from tests.mail_server import mail_server
from tests.model_server import ModelServer
from tests.runs import IS_WHOLE
from tests.stack.apps import App, running

ADMIN = "admin@daybook.test"
STORE = os.environ.get("DAYBOOK_JOURNEY_STORE", "embedded")
STORES = [*dict.fromkeys([STORE, "sqlite"])]  # of the journeys of accounts
# of those that every run has on the embedded stack, and of those that it has on SQLite
FIRST_STORE, ONE_STORE = (STORES, STORES) if IS_WHOLE else (STORES[:1], STORES[-1:])
_PEOPLE = pytest.StashKey[list[Person]]()


@pytest.fixture(scope="session")
def model():
    with ModelServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _plain_model(model):
    """Reset the model's script, also after a failed test."""
    yield
    model.script()


@pytest.fixture(scope="session")
def make_app(model, cache, tmp_path_factory):
    """Return a function that makes an app, not started, with folders of its own or those of another app."""

    def make(name, store=STORE, **changes):
        base = changes.pop("base", None) or tmp_path_factory.mktemp(name)
        environment = {
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "scripted",
            "DAYBOOK_MODEL": "scripted",
            "DAYBOOK_MODELS": "scripted-large",
            "DAYBOOK_SIGN_UPS_AN_HOUR": "1000",
        }
        if store == "sqlite":
            environment["DAYBOOK_STORE"] = f"sqlite:{base}/daybook.db"
            environment["DAYBOOK_SIGN_IN"] = "local"
        environment |= changes.pop("environment", {})
        return App(base, cache, environment=environment, **changes)

    return make


@pytest.fixture
def store():
    """Return the store of an app of one test, which the test may choose by a parameter of this name."""
    return STORE


@pytest.fixture(scope="session")
def app(make_app):
    """An app for all journeys that do not damage it."""
    with running(make_app("app")) as app:
        app.until_ready()
        sign_up(app, ADMIN)  # the first account becomes admin
        yield app


def sign_up(app, email):
    """Return the cookie of a new account, made without a browser."""
    form = {"email": email, "password": PASSWORD, "next": "/"}
    answer = httpx.post(f"{app.url}/account", data=form, timeout=SECONDS, trust_env=False)
    return answer.headers["set-cookie"].split(";")[0]


@pytest.fixture(scope="module")
def shared_mails():
    """A mail server for all tests of a module."""
    with mail_server() as server:
        yield server


@pytest.fixture
def mails(shared_mails):
    """The mail server of the module, without the mails of earlier tests."""
    shared_mails.received.clear()
    return shared_mails


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@contextmanager
def _people(node, browser, app):
    """Yield a function that makes users with browsers of their own. Errors that a browser reports fail the test."""
    people = node.stash.setdefault(_PEOPLE, [])

    def make(name="maya", url=app.url, **context):
        people.append(Person(browser, url, name, **context))
        return people[-1]

    yield make
    for each in people:
        each.leaves()
    for each in people:
        assert each.complaints() == []


@pytest.fixture
def person(request, browser, app):
    """Yield a function that makes a user for one test."""
    with _people(request.node, browser, app) as make:
        yield make


@pytest.fixture(scope="module")
def shared_person(request, browser, app):
    """Yield a function that makes a user for all tests of a module."""
    with _people(request.node, browser, app) as make:
        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Add to the report of a failed journey what the browsers showed, and the app's last output."""
    report = yield
    if report.failed and "tmp_path_factory" in item.funcargs:
        folder = item.funcargs["tmp_path_factory"].mktemp("seen")
        for node in item.listchain():
            for each in node.stash.get(_PEOPLE, []):
                report.sections.append((f"what {each.name} saw", each.picture(folder)))
        for app in (each for each in item.funcargs.values() if isinstance(each, App)):
            report.sections.append(("what the app said", app.told()))
    return report
