"""The models that the settings name, and their limits as these become known."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from services.domain import Role
from services.domain.context import ContextMessage
from services.domain.model_failures import ModelUnavailable
from services.domain.models import LimitSource
from services.embedded.folders import free_port
from services.llm import catalogue, from_settings, openai_model
from services.llm.from_settings import configured_models
from services.llm.model_spec import ModelSpec
from services.settings import Settings
from tests.model_server import ModelServer


class Pause(Exception):
    """A thread that never ends would sleep now."""


@pytest.fixture
def threads(monkeypatch):
    """Threads by name, which run until they sleep when a test calls them."""
    threads = {}

    def sleep(seconds):
        raise Pause

    def in_thread(name, run):
        def round_of():
            with pytest.raises(Pause):
                run()

        threads[name] = round_of

    monkeypatch.setattr(from_settings, "in_thread", in_thread)
    monkeypatch.setattr(from_settings, "time", SimpleNamespace(sleep=sleep))
    return threads


def test_prices_and_the_list_are_read_again(threads, monkeypatch):
    """Some list prices depend on the time of day; an endpoint may be down as the app starts, or may list no model yet."""
    prices, rounds = iter(range(1, 9)), []
    whole = {"data": [{"id": "scripted", "max_input_tokens": 4_096}]}
    documents = iter([None, "<html>", {"object": "list", "data": []}, whole])

    def sleep(seconds):
        rounds.append((models.first.info.context_tokens, models.first.info.input_micro))
        if len(rounds) == 5:
            raise Pause

    def listed(*given):
        return ModelSpec(input_micro=next(prices), output_micro=1)

    monkeypatch.setattr(catalogue, "_listed_prices", listed)
    monkeypatch.setattr(from_settings.time, "sleep", sleep)
    monkeypatch.setattr(from_settings.OpenAIModel, "list_models", lambda self: next(documents))
    url = "http://127.0.0.1:1/v1"
    models = configured_models(Settings(OPENAI_BASE_URL=url, DAYBOOK_MODEL="scripted"))

    threads["model-list"]()

    unknown = [(32_768, 2), (32_768, 3), (32_768, 4)]
    assert rounds == [*unknown, (4_096, 5), (4_096, 6)]


def test_limits_of_the_listed_models_are_learned(threads):
    with ModelServer() as server:
        server.models = [
            {"id": "scripted", "max_input_tokens": 4_096, "max_output_tokens": 2_048},
            {"id": "other", "context_length": 9_000},
        ]
        names = {"DAYBOOK_MODEL": "scripted", "DAYBOOK_MODELS": "other"}
        chosen = Settings(OPENAI_BASE_URL=server.url, DAYBOOK_REPLY_TOKENS=500, **names)

        models = configured_models(chosen)
        before = [each.info.context_tokens for each in models]
        threads["model-list"]()

    assert before == [32_768, 32_768]
    assert [each.info.context_tokens for each in models] == [4_096, 9_000]
    assert [each.info.reply_tokens for each in models] == [500, 500]  # the settings take precedence
    assert models.first.info.name == "scripted"


def test_thread_of_the_list_notices_an_outage_and_its_end(threads):
    port, lines = free_port(), []
    url = f"http://127.0.0.1:{port}/v1"
    chosen = Settings(OPENAI_BASE_URL=url, DAYBOOK_MODEL="scripted")
    models = configured_models(chosen, tell=lines.append)
    for _ in range(2):
        threads["model-list"]()
    assert [line.partition(". ")[0] for line in lines] == [f"No answer at {url}"]

    with ModelServer(port):
        threads["model-list"]()
        assert models.first.info.context_tokens == 9_216

    assert lines[1:] == [f"The model server answers: {url}"]


def test_list_is_read_again_until_an_outage_ends(threads, monkeypatch):
    port, lines, servers = free_port(), [], ExitStack()
    url = f"http://127.0.0.1:{port}/v1"
    monkeypatch.setattr(openai_model, "_PAUSES", ())
    servers.enter_context(ModelServer(port))
    models = configured_models(
        Settings(OPENAI_BASE_URL=url, DAYBOOK_MODEL="scripted"), tell=lines.append
    )

    def fail_a_reply():
        servers.close()
        with pytest.raises(ModelUnavailable):
            list(models.first.client.start([ContextMessage(Role.USER, "Hi")], max_tokens=9))

    between = iter([fail_a_reply, lambda: servers.enter_context(ModelServer(port))])

    def sleep(seconds):
        step = next(between, None)
        if step is None:
            raise Pause
        step()

    monkeypatch.setattr(from_settings.time, "sleep", sleep)
    with servers:
        threads["model-list"]()

    assert len(lines) == 2
    assert lines[1] == f"The model server answers: {url}"


@pytest.mark.slow
def test_model_that_is_listed_as_reasoning_may_be_silent_longer(threads, monkeypatch):
    monkeypatch.setattr(openai_model, "is_nearby", lambda host: False)
    monkeypatch.setattr(openai_model, "_FIRST_TOKEN_SECONDS", 0.3)
    prompt = [ContextMessage(Role.USER, "Hi")]
    with ModelServer() as server:
        server.models = [{"id": "scripted", "supported_parameters": ["reasoning"]}]
        server.script(tokens=1, delay=1, usage="none")
        models = configured_models(Settings(OPENAI_BASE_URL=server.url, DAYBOOK_MODEL="scripted"))
        with pytest.raises(ModelUnavailable):
            list(models.first.client.start(prompt, max_tokens=9))
        threads["model-list"]()
        client = models.first.client
        threads["model-list"]()

        assert list(client.start(prompt, max_tokens=9)) == ["word1 "]
        assert models.first.client is client  # which remembers the parameters that were refused


def test_limit_named_by_a_refusal_is_remembered(threads):
    with ModelServer() as server:
        server.models = [{"id": "scripted", "context_length": 16_384, "max_output_tokens": 9_000}]
        server.script(most=4096, error="This model supports at most 4096 completion tokens")
        chosen = Settings(OPENAI_BASE_URL=server.url, DAYBOOK_MODEL="scripted")
        models = configured_models(chosen)
        prompt = [ContextMessage(Role.USER, "Hi")]
        list(models.first.client.start(prompt, max_tokens=models.first.info.reply_tokens))
        remembered = models.first.info
        threads["model-list"]()

    assert (remembered.reply_tokens, remembered.reply_source) == (4096, LimitSource.REFUSAL)
    assert (remembered.context_tokens, remembered.context_source) == (32_768, LimitSource.GUESS)
    assert (models.first.info.context_tokens, models.first.info.reply_tokens) == (16_384, 4096)
    models.forget_refusals("scripted")
    assert models.first.info.reply_tokens == 9_000
