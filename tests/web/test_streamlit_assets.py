"""Streamlit's own files come early, small and from memory; what is none of them passes untouched."""

import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.web import streamlit_assets
from services.web.streamlit_assets import StreamlitAssets

SCRIPTS = streamlit_assets.folder() / "static" / "js"


def streamlit(request):
    return PlainTextResponse(f"Streamlit's answer to {request.method}")


@pytest.fixture
def client():
    route = Route("/{path:path}", streamlit, methods=["GET", "HEAD", "POST"])
    return TestClient(StreamlitAssets(Starlette(routes=[route])))


def test_the_code_of_every_element_that_the_chat_draws_is_fetched_early():
    fetched = re.findall(r'modulepreload" href="/static/js/([\w.-]+)"', streamlit_assets.preloads())

    assert {"Button", "ChatInput", "MenuButton", "TextInput", "BidiComponent", "Html"} <= {
        name.partition(".")[0] for name in fetched
    }
    assert all((SCRIPTS / name).is_file() for name in fetched)
    assert len(fetched) == len(set(fetched))


def test_with_an_element_comes_all_that_it_imports():
    page = (streamlit_assets.folder() / "index.html").read_text()
    links = page + streamlit_assets.preloads()

    for name in re.findall(r"/static/js/([\w.-]+)", streamlit_assets.preloads()):
        for imported in re.findall(r"from[\"'`]\./([\w.-]+)", (SCRIPTS / name).read_text()):
            assert f"/static/js/{imported}" in links, f"{name} imports it"


def test_a_script_is_compressed_and_may_be_kept_for_ever(client):
    script = next(SCRIPTS.glob("ChatInput.*.js"))

    for _ in range(2):  # read from the disk, and from memory
        answer = client.get(f"/static/js/{script.name}", headers={"accept-encoding": "gzip, br"})
        assert answer.text == script.read_text()
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < script.stat().st_size / 2
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    ("method", "path", "encoding"),
    [
        ("GET", "/static/js/../../../secrets.toml", "gzip"),
        ("GET", "/static/js/nothing.js", "gzip"),
        ("GET", "/static/js/{script}", "identity"),
        ("POST", "/static/js/{script}", "gzip"),
        ("GET", "/", "gzip"),
    ],
)
def test_all_else_is_streamlits(client, method, path, encoding):
    script = next(SCRIPTS.glob("ChatInput.*.js")).name

    answer = client.request(
        method, path.format(script=script), headers={"accept-encoding": encoding}
    )

    assert answer.text == f"Streamlit's answer to {method}"
