"""The model client on the model that comes with the app."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from services.domain import Role, Tokens
from services.llm import OpenAIModel, connect
from services.memory import ContextMessage

KEY = "kumquat-7781"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "services.embedded.model", str(port)],
        env=os.environ | {"DAYBOOK_MODEL_KEY": KEY},
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 30
        while not _answers(url):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models", headers={"authorization": f"Bearer {KEY}"}).is_success
    except httpx.HTTPError:
        return False


def ask(model: OpenAIModel, prompt: str, max_tokens: int) -> Iterator[str | Tokens]:
    said = [ContextMessage(Role.SYSTEM, "Be brief."), ContextMessage(Role.USER, prompt)]
    return iter(model.start(said, max_tokens=max_tokens))


def test_the_local_model_replies_and_says_what_it_used(address: str):
    model = OpenAIModel(connect(address, KEY), "SmolLM2-135M", first_token_seconds=30)

    first = list(ask(model, "Say hello.", 8))
    again = list(ask(model, "Say hello.", 8))

    *text, used = first
    assert "".join(map(str, text)).strip()
    assert isinstance(used, Tokens)
    assert 10 < used.prompt < 40
    assert 0 < used.reply <= 8
    assert isinstance(again[-1], Tokens)
    assert again[-1].prompt == used.prompt  # cached or not, it is counted once
    assert used.prompt > again[-1].cached > 0
    model.close()


def test_the_local_model_stops_when_it_is_told_to(address: str):
    model = OpenAIModel(connect(address, KEY), "SmolLM2-135M", first_token_seconds=30)
    said = [ContextMessage(Role.USER, "Count from one to a thousand.")]
    streams = [model.start(said, max_tokens=1900) for _ in range(2)]  # as many as it serves at once
    for stream in streams:
        pieces = iter(stream)
        next(pieces)
        stream.cancel()
        list(pieces)

    began = time.monotonic()
    assert list(ask(model, "Say hello.", 4))

    assert time.monotonic() - began < 8  # it would still be counting
    model.close()
