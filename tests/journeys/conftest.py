"""The real app, a scripted model, and users with real browsers.

The apps keep their data in SQLite, which takes the least time, but for the journey of an outage. With DAYBOOK_TESTS=all or
DAYBOOK_JOURNEY_STORE=embedded they keep it in the embedded stack; with DAYBOOK_TESTS=all the journeys of accounts run on both.
"""

import os
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.journeys.people import PASSWORD, SECONDS, Person
from tests.mail_server import mail_server
from tests.model_server import ModelServer
from tests.runs import IS_WHOLE
from tests.stack.apps import App, running

ADMIN = "admin@daybook.test"
STORE = os.environ.get("DAYBOOK_JOURNEY_STORE", "embedded" if IS_WHOLE else "sqlite")
STORES = ["embedded", "sqlite"] if IS_WHOLE else [STORE]  # of the journeys of accounts
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
def shared_app(make_app):
    """Return a function that returns the running app of a store and of settings, for all journeys that do not damage it."""
    apps = {}
    with ExitStack() as ends:

        def shared(store=STORE, **environment):
            key = store, *sorted(environment.items())
            if key not in apps:
                made = make_app("shared", store, environment=environment)
                apps[key] = ends.enter_context(running(made))
                apps[key].until_ready()
            return apps[key]

        yield shared


@pytest.fixture(scope="session")
def app(shared_app):
    """An app without settings, for all journeys that do not damage it."""
    app = shared_app()
    sign_up(app, ADMIN)  # the first account becomes admin
    return app


@pytest.fixture
def mail_app(shared_app, shared_mails, store):
    """An app with mail, for all journeys that do not damage it."""
    return shared_app(store, **mail_settings(shared_mails))


def mail_settings(mails):
    return {
        "DAYBOOK_SMTP_HOST": "127.0.0.1",
        "DAYBOOK_SMTP_PORT": str(mails.port),
        "DAYBOOK_SMTP_FROM": "no-reply@daybook.test",
    }


def sign_up(app, email):
    """Return the cookie of a new account, made without a browser."""
    form = {"email": email, "password": PASSWORD, "next": "/"}
    answer = httpx.post(f"{app.url}/account", data=form, timeout=SECONDS, trust_env=False)
    return answer.headers["set-cookie"].split(";")[0]


@pytest.fixture(scope="session")
def shared_mails():
    """A mail server for all tests."""
    with mail_server() as server:
        yield server


@pytest.fixture
def mails(shared_mails):
    """The mail server, without the mails of earlier tests."""
    shared_mails.received.clear()
    return shared_mails


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


@pytest.fixture
def maya(person):
    """A user on a fresh page."""
    maya = person()
    maya.arrives()
    return maya


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
