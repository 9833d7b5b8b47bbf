"""Whether a model endpoint answers: the line about an outage, the one about its end, and what neither contains."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.domain import Role
from services.domain.context import ContextMessage
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.embedded.folders import free_port
from services.llm import openai_model
from services.llm.endpoint import Endpoint
from services.llm.openai_model import OpenAIModel, connect
from tests.model_server import ModelServer

PROMPT = [ContextMessage(Role.USER, "Hi")]


@pytest.fixture
def port():
    """A port at which nothing listens."""
    return free_port()


@pytest.fixture
def lines():
    """The lines for the operator."""
    return []


@pytest.fixture
def model(port, lines, monkeypatch):
    monkeypatch.setattr(openai_model, "_PAUSES", (0.01, 0.01))
    url = f"http://127.0.0.1:{port}/v1"
    waits = {"first_token_seconds": 1.5, "between_tokens_seconds": 0.3}
    model = OpenAIModel(connect(url, "-"), "m", endpoint=Endpoint(url, lines.append), **waits)
    yield model
    model.close()


def failure_of(request):
    try:
        list(request())
    except ModelUnavailable as error:
        return error
    return None


def reply(model):
    return failure_of(lambda: model.start(PROMPT, max_tokens=9))


def listing(model):
    return failure_of(model.list_models)


def away(port):
    return (
        f"No answer at http://127.0.0.1:{port}/v1. Is the model server running? "
        "Check OPENAI_BASE_URL."
    )


@pytest.mark.parametrize(("first", "then"), [(listing, reply), (reply, listing)])
def test_outage_is_told_once_and_its_end_once(model, port, lines, first, then):
    for request in (first, then, first):
        assert request(model).failure is ModelFailure.UNREACHABLE
    assert lines == [away(port)]

    with ModelServer(port):
        for request in (then, first, then):
            assert request(model) is None

    answers = f"The model server answers: http://127.0.0.1:{port}/v1"
    assert lines == [away(port), answers]
    first(model)
    assert lines == [away(port), answers, away(port)]


def test_endpoint_that_answers_from_the_start_is_no_news(model, port, lines):
    with ModelServer(port):
        listing(model)
        reply(model)

    assert lines == []


@pytest.mark.parametrize(
    "script",
    [
        *({"status": status} for status in (400, 401, 402, 403, 404, 429, 500, 503)),
        *({"fault": fault} for fault in ("refuse", "drop", "html", "empty", "malformed")),
        {"fault": "error-event"},
        {"fault": "hang", "tokens": 3, "after": 1},
        pytest.param({"fault": "hang"}, marks=pytest.mark.slow),  # headers, but no token
    ],
)
def test_failure_after_a_connection_is_no_outage(model, port, lines, script):
    with ModelServer(port) as server:
        server.script(**script)
        error = reply(model)

    assert error
    assert lines == []
    assert error.for_admins == ModelUnavailable(error.failure).for_admins


@pytest.mark.slow
def test_silence_before_any_response_is_an_outage(model, port, lines):
    with ModelServer(port) as server:
        server.script(fault="hang-headers")
        error = reply(model)

    assert error.failure is ModelFailure.SILENT
    assert lines == [away(port)]


def test_missing_list_is_no_outage_once_replies_came(model, port, lines, monkeypatch):
    monkeypatch.setattr(openai_model, "_LIST_SECONDS", 0.2)
    with ModelServer(port) as server:
        server.models = None
        assert listing(model).failure is ModelFailure.SILENT
        assert lines == [away(port)]
        reply(model)
        listing(model)

    assert len(lines) == 2  # the outage, and the answer


def test_outage_within_one_replys_attempts_is_no_news(
    model, port, lines, monkeypatch, pause_begins
):
    monkeypatch.setattr(openai_model, "_PAUSES", (0.1,) * 10)
    with ThreadPoolExecutor(1) as pool:
        failure = pool.submit(reply, model)
        assert pause_begins.wait(20)
        with ModelServer(port):
            assert failure.result(20) is None

    assert lines == []


def test_admins_read_the_address_of_an_outage(model, port):
    error = reply(model)

    assert error.public == "The model cannot be reached. Your message is saved; try again."
    assert error.for_admins == (
        f"No answer at `http://127.0.0.1:{port}/v1`. Is the model server running? "
        "Check OPENAI_BASE_URL. Your message is saved."
    )


@pytest.mark.parametrize(
    ("url", "address", "host"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1", "api.openai.com:443"),
        ("http://me@llm.test/a/b/?key=sk-1#c", "http://llm.test/a/b", "llm.test:80"),
        ("http://me:sk-1@[::1]:8080/?key=sk-1", "http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_address_has_neither_user_nor_query(url, address, host):
    lines = []
    endpoint = Endpoint(url, lines.append)
    endpoint.note(is_away=True)
    endpoint.report()

    assert (endpoint.address, endpoint.host) == (address, host)
    assert f" {address}. " in lines[0]
    assert not {"sk-1", "me"} & {*lines[0].replace("@", " ").replace(":", " ").split()}
    assert "sk-1" not in endpoint.outage + lines[0]


@pytest.mark.parametrize(
    ("url", "is_here", "advice"),
    [
        ("http://127.0.0.1:1/v1", True, "Is the model server running?"),
        ("http://localhost/v1", True, "Is the model server running?"),
        ("http://[::1]:1/v1", True, "Is the model server running?"),
        ("http://192.168.1.4/v1", False, "Is the model server running?"),
        ("https://llm.example/v1", False, "Check this server's network"),
    ],
)
def test_advice_is_for_the_place_of_the_server(url, is_here, advice):
    endpoint = Endpoint(url)
    endpoint.note(is_away=True)

    assert endpoint.is_on_this_machine is is_here
    assert f"`. {advice}" in endpoint.outage
