"""The test of the connection to the model endpoint, on the admin page: a real client, and a real server or none."""

from contextlib import closing

import pytest

from services.domain import AccountRole
from services.embedded.folders import free_port
from services.llm import connection
from services.llm.connection import Connection
from services.llm.endpoint import Endpoint
from services.llm.openai_model import OpenAIModel, connect
from tests.fakes import FakePerson, ScriptedModel
from tests.model_server import ModelServer
from tests.pages.conftest import keys, news, pressed, refusals, warnings

TABS = ("Health", "Models")


@pytest.fixture
def port():
    """A port at which nothing listens until a test starts a server there."""
    return free_port()


@pytest.fixture
def tested(port):
    """The connection to a server at *port*, whose address has a user and a key."""
    url = f"http://name-7781@127.0.0.1:{port}/v1"
    endpoint = Endpoint(f"{url}?key=key-7781")
    with closing(OpenAIModel(connect(url, "-"), "scripted", endpoint=endpoint)) as model:
        yield Connection(endpoint, model.list_models)


@pytest.fixture
def ruth(database, tested):
    return FakePerson(database, ScriptedModel(), AccountRole.ADMIN, connection=tested)


@pytest.fixture
def open_tab(open_app, ruth):
    def open_tab(name):
        app = open_app(ruth).switch_page("pages/admin.py")
        app.query_params["tab"] = name
        return app.run()

    return open_tab


def model_server(app):
    [text] = [text.value for text in app.text if text.value.startswith("Model server: ")]
    return text.splitlines()[0].removeprefix("Model server: ")


@pytest.mark.parametrize("name", TABS)
def test_connection_is_tested_without_a_reply(open_tab, port, name):
    app = open_tab(name)
    assert news(app) == []

    with ModelServer(port) as server:
        server.models = [{"id": "scripted"}, {"id": "other"}]
        app = pressed(app, "test-connection")
        assert server.requests == []

    [told] = news(app)
    assert told.startswith(f"127.0.0.1:{port} answered after ")
    assert " and lists 2 models. Tested at " in told
    assert "7781" not in told
    assert "/v1" not in told
    assert refusals(app) == []


@pytest.mark.parametrize("name", TABS)
def test_refused_connection_is_told_by_host_and_port(open_tab, port, name):
    app = pressed(open_tab(name), "test-connection")

    [told] = refusals(app)
    assert told.startswith(f"No answer from 127.0.0.1:{port} after ")
    assert "7781" not in told


def test_server_without_a_list_is_told_to_answer(open_tab, port):
    with ModelServer(port) as server:
        server.models = []
        app = pressed(open_tab("Models"), "test-connection")

    [told] = refusals(app)
    assert f"127.0.0.1:{port} answered after " in told
    assert ", but lists no models." in told


def test_outage_is_shown_on_health_until_a_test_succeeds(open_tab, port, monkeypatch):
    monkeypatch.setattr(connection, "_SECONDS", 0.0)
    app = open_tab("Health")
    assert warnings(app) == []

    app = pressed(app, "test-connection")

    [outage] = warnings(app)
    address = f"`http://127.0.0.1:{port}/v1`"
    assert outage == f"No answer at {address}. Is the model server running? Check OPENAI_BASE_URL."
    with ModelServer(port):
        app = pressed(app, "test-connection")
    assert (warnings(app), refusals(app)) == ([], [])
    assert news(app)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1:11434/v1", "on this machine"),
        ("http://localhost:11434/v1", "on this machine"),
        ("https://llm.example/v1", "at a provider"),
    ],
)
def test_health_says_where_the_model_server_is(open_app, database, url, place):
    at = Connection(Endpoint(url), list)
    ruth = FakePerson(database, ScriptedModel(), AccountRole.ADMIN, connection=at)
    app = open_app(ruth).switch_page("pages/admin.py")
    app.query_params["tab"] = "Health"

    assert model_server(app.run()) == place


@pytest.mark.parametrize("name", TABS)
def test_local_model_has_no_connection_to_test(open_app, database, name):
    app = open_app(FakePerson(database, ScriptedModel(), AccountRole.ADMIN))
    app.switch_page("pages/admin.py")
    app.query_params["tab"] = name

    assert "test-connection" not in keys(app.run())
