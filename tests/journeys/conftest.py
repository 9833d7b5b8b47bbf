"""The real app, a scripted model, and people at real browsers."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from services import embedded
from tests.journeys.people import Person
from tests.model_server import ModelServer
from tests.stack.apps import App, running

CHROMIUM = "/usr/bin/chromium"  # a missing one fails: these journeys are never skipped
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
ADMIN = "admin@daybook.test"
_PEOPLE = pytest.StashKey[list[Person]]()


@pytest.fixture(scope="session")
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def make_app(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., App]:
    """An app with folders of its own, or those of another; not started."""
    cache = embedded.chosen(None, None).cache.parent  # Node modules are fetched once a machine

    def make(name: str, **changes: object) -> App:
        environment = {
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "scripted",
            "DAYBOOK_MODEL": "scripted",
            "DAYBOOK_SIGN_UPS_AN_HOUR": "1000",
        } | changes.pop("environment", {})
        base = changes.pop("base", None) or tmp_path_factory.mktemp(name)
        return App(base, cache, environment=environment, **changes)

    return make


@pytest.fixture(scope="session")
def app(make_app: Callable[..., App]) -> Iterator[App]:
    """One app for all journeys that leave it whole."""
    with running(make_app("app")) as app:
        app.until_ready()
        yield app


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def person(
    request: pytest.FixtureRequest, browser: Browser, app: App, tmp_path: Path
) -> Iterator[Callable[..., Person]]:
    """Somebody new at a browser of their own. What the browser complains of afterwards is an error."""
    people = request.node.stash.setdefault(_PEOPLE, [])

    def make(name: str = "maya", url: str = app.url, **context: object) -> Person:
        people.append(Person(browser, url, name, tmp_path, **context))
        return people[-1]

    yield make
    for each in people:
        each.leaves()
    for each in people:
        assert each.complaints() == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failed journey shows what its people saw."""
    report = yield
    if report.when == "call" and report.failed:
        for each in item.stash.get(_PEOPLE, []):
            report.sections.append((f"what {each.name} saw", each.picture()))
    return report


class Elsewhere:
    """Another site, which counts who comes."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.visits.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "Elsewhere":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as site:
        yield site
