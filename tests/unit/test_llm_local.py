"""The model client on the local model."""

import os
import sys
from contextlib import closing

import httpx
import psutil
import pytest

from services.domain import Role, Usage
from services.domain.context import ContextMessage
from services.embedded.folders import free_port
from services.llm.openai_model import OpenAIModel, connect
from tests.parts import OPENMP
from tests.stack.apps import until

KEY = "kumquat-7781"


@pytest.fixture(scope="module")
def server():
    """A process of the local model that answers."""
    OPENMP.required()
    port = free_port()
    process = psutil.Popen(
        [sys.executable, "-m", "services.embedded.model_server", str(port)],
        env=os.environ | {"DAYBOOK_MODEL_KEY": KEY},
    )
    process.url = f"http://127.0.0.1:{port}/v1"
    try:
        until(lambda: _answers(process.url) or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(url):
    try:
        return httpx.get(f"{url}/models", headers={"authorization": f"Bearer {KEY}"}).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def model(server):
    # the threads of the model wait for each other, which a busy machine makes very slow
    patience = {"first_token_seconds": 180, "between_tokens_seconds": 60}
    with closing(OpenAIModel(connect(server.url, KEY), "SmolLM2-135M", **patience)) as model:
        yield model


def ask(model, prompt, max_tokens):
    said = [ContextMessage(Role.SYSTEM, "Be brief."), ContextMessage(Role.USER, prompt)]
    return iter(model.start(said, max_tokens=max_tokens))


@pytest.mark.slow
def test_local_model_replies_and_reports_usage(model):
    first = list(ask(model, "Say hello.", 4))
    again = list(ask(model, "Say hello.", 4))

    *text, used = first
    assert "".join(map(str, text)).strip()
    assert isinstance(used, Usage)
    assert 10 < used.prompt < 40
    assert 0 < used.reply <= 4
    assert isinstance(again[-1], Usage)
    assert again[-1].prompt == used.prompt  # the whole prompt is counted, whether cached or not
    assert used.prompt > again[-1].cached > 0


@pytest.mark.slow
def test_cancel_stops_the_local_model(server, model):
    said = [ContextMessage(Role.USER, "Count from one to a thousand.")]
    # as many streams as the server runs at once
    streams = [model.start(said, max_tokens=1900) for _ in range(2)]
    for stream in streams:
        pieces = iter(stream)
        next(pieces)
        stream.cancel()
        list(pieces)

    # without the cancellation, both would continue to count
    until(lambda: server.cpu_percent(interval=0.3) < 20, within=30)
    assert list(ask(model, "Say hello.", 2))
