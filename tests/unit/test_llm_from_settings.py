"""The models that the settings name, and their limits as these become known."""

import pytest

from services.domain import Role
from services.domain.context import ContextMessage
from services.domain.models import LimitSource
from services.llm import from_settings
from services.llm.from_settings import configured_models
from services.settings import Settings
from tests.model_server import ModelServer


@pytest.fixture
def threads(monkeypatch):
    """Threads by name, which run when a test calls them."""
    threads = {}
    monkeypatch.setattr(from_settings, "in_thread", lambda name, run: threads.update({name: run}))
    return threads


def test_limits_of_the_listed_models_are_learned(threads):
    with ModelServer() as server:
        server.models = [
            {"id": "scripted", "max_input_tokens": 4_096, "max_output_tokens": 2_048},
            {"id": "other", "context_length": 9_000},
        ]
        names = {"model": "scripted", "models": "other"}
        chosen = Settings(openai_base_url=server.url, reply_tokens=500, **names)

        models = configured_models(chosen)
        before = [each.info.context_tokens for each in models]
        threads["model-list"]()

    assert before == [32_768, 32_768]
    assert [each.info.context_tokens for each in models] == [4_096, 9_000]
    assert [each.info.reply_tokens for each in models] == [500, 500]  # the settings take precedence
    assert models.first.info.name == "scripted"


def test_limit_named_by_a_refusal_is_remembered(threads):
    with ModelServer() as server:
        server.models = [{"id": "scripted", "context_length": 16_384, "max_output_tokens": 9_000}]
        server.script(most=4096, error="This model supports at most 4096 completion tokens")
        chosen = Settings(openai_base_url=server.url, model="scripted")
        models = configured_models(chosen)
        prompt = [ContextMessage(Role.USER, "Hi")]
        list(models.first.client.start(prompt, max_tokens=models.first.info.reply_tokens))
        remembered = models.first.info
        threads["model-list"]()

    assert (remembered.reply_tokens, remembered.reply_source) == (4096, LimitSource.ENDPOINT)
    assert (remembered.context_tokens, remembered.context_source) == (32_768, LimitSource.GUESS)
    assert (models.first.info.context_tokens, models.first.info.reply_tokens) == (16_384, 4096)
