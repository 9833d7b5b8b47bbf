"""Static files are served compressed and cached for ever; the app's stylesheet and script are linked in its pages."""

import asyncio
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.web import streamlit_assets
from services.web.page_assets import PageAssets, app_files

STYLE = streamlit_assets.style_link()
PAGE = f'<html><head>{STYLE}</head><body>é<div id="root"></div></body></html>'
BROWSER = {"accept": "text/html,*/*"}
SCRIPTS = streamlit_assets.folder() / "static" / "js"
CHAT_INPUT = next(SCRIPTS.glob("ChatInput.*.js"))


@pytest.fixture
def client(tmp_path):
    (tmp_path / "style.css").write_text("body { mask: url(logo.svg) }")
    for name in ("logo.svg", "mark.svg"):
        (tmp_path / name).write_text(f"<svg>{name}</svg>")
    (tmp_path / "not_found.html").write_text("<html><head></head>Nothing here</html>")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "shut.js").write_text("const act = 2;\n")
    (tmp_path / "page" / "open.js").write_text("const act = 1;\n")
    pieces = (PAGE[:20], PAGE[20:])
    routes = [
        Route("/pieces", lambda _: StreamingResponse(iter(pieces), media_type="text/html")),
        Route("/text", lambda _: PlainTextResponse(PAGE, headers={"ETag": "kept"})),
        Route("/form", lambda _: HTMLResponse("<form></form>")),
        Route("/{path:path}", lambda _: HTMLResponse(PAGE), methods=["GET", "HEAD"]),
        Route("/{path:path}", lambda _: PlainTextResponse("Streamlit"), methods=["POST"]),
    ]
    return TestClient(PageAssets(Starlette(routes=routes), ("", "pieces"), tmp_path))


@pytest.mark.parametrize("path", ["/", "/pieces"])
def test_page_links_an_immutable_stylesheet(client, path, tmp_path):
    page = client.get(path, headers=BROWSER).text

    before, links, after = page.partition('<link rel="stylesheet" href="')
    assert before.startswith(PAGE.partition("<div")[0].replace(STYLE, ""))
    assert after.endswith("</body></html>")
    sheet = client.get(links and after.partition('"')[0])
    logo = app_files(tmp_path).logo
    assert sheet.text == f"body {{ mask: url({logo}) }}"
    assert "immutable" in sheet.headers["cache-control"]


def test_words_are_read_before_any_stylesheet_is_loaded(client):
    page = client.get("/", headers=BROWSER).text

    before, links, after = page.partition('<link rel="stylesheet"')
    assert '<div id="root"><p class="db-loading">Daybook is loading…</p></div>' in before
    assert after.startswith(STYLE.removeprefix(links))
    assert STYLE in (streamlit_assets.folder() / "index.html").read_text("utf-8")


def test_page_links_one_immutable_script_of_separate_blocks(client):
    page = client.get("/", headers=BROWSER).text

    address = page.partition('<script type="module" async src="')[2].partition('"')[0]
    script = client.get(address)
    assert script.text == "{\nconst act = 1;\n}\n{\nconst act = 2;\n}\n"
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]


def test_logo_is_served_for_pages_without_streamlit(client, tmp_path):
    files = app_files(tmp_path)

    for path, text in ((files.logo, "<svg>logo.svg</svg>"), (files.mark, "<svg>mark.svg</svg>")):
        answer = client.get(path)
        assert (answer.text, answer.headers["content-type"]) == (text, "image/svg+xml")
        assert "immutable" in answer.headers["cache-control"]


def test_fonts_are_declared_in_a_served_stylesheet(client):
    style = client.get(streamlit_assets.font_style()).text

    assert {"Source Sans", "Source Serif", "Source Code Pro"} <= set(
        re.findall(r"@font-face{font-family:(Source [\w ]+);", style)
    )


def test_address_without_a_page_answers_404(client):
    answer = client.get("/nowhere", headers=BROWSER)

    assert answer.status_code == 404
    assert "Nothing here" in answer.text
    assert "<script" in answer.text  # the script sets the theme
    assert f'<link rel="stylesheet" href="{streamlit_assets.font_style()}">' in answer.text
    assert client.get("/form", headers=BROWSER).text == "<form></form>"


def test_other_answers_pass_unchanged(client):
    answer = client.get("/text", headers=BROWSER)

    assert (answer.text, answer.headers["etag"]) == (PAGE, "kept")
    assert client.get("/", headers={"accept": "*/*"}).text == PAGE
    assert client.get("/static/js/nothing.js").text == PAGE
    assert client.get("/static/js/../../../secrets.toml").text == PAGE
    assert client.post(f"/static/js/{CHAT_INPUT.name}").text == "Streamlit"


def test_download_is_sent_as_it_comes():
    async def download(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"One", b"Two"):
            await send({"type": "http.response.body", "body": part, "more_body": part == b"One"})
            assert sent[-1]["body"] == part

    async def send(message):
        sent.append(message)

    sent = []
    asked = {"type": "http", "method": "GET", "path": "/export/everything.zip"}
    headers = [(b"accept", b"text/html,*/*")]

    asyncio.run(PageAssets(download, ())(asked | {"headers": headers}, None, send))

    assert len(sent) == 3


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
def test_static_file_is_immutable_and_compressed_on_request(client, encoding):
    for _ in range(2):  # from the disk, and then from memory
        answer = client.get(f"/static/js/{CHAT_INPUT.name}", headers={"accept-encoding": encoding})
        assert answer.text == CHAT_INPUT.read_text()
        size = int(answer.headers["content-length"])
        assert (size < CHAT_INPUT.stat().st_size / 2) is ("gzip" in encoding)
        assert answer.headers.get("content-encoding", "identity") in encoding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/javascript")


def test_file_is_read_once_and_waits_for_its_clients(monkeypatch):
    async def send(message):
        sent.append(message)
        if "body" in message:
            await asyncio.Event().wait()  # the client reads nothing

    async def ask_at_once(files):
        asked = {"type": "http", "method": "GET", "headers": []}
        path = f"/static/js/{CHAT_INPUT.name}"
        clients = [
            asyncio.create_task(files(asked | {"path": path}, None, send)) for _ in range(20)
        ]
        while len(sent) < 2 * len(clients):
            await asyncio.sleep(0.01)
        for client in clients:
            client.cancel()

    def read_bytes(path):
        read.append(path)
        return b"a" * 1_000_000

    sent, read = [], []
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    files = PageAssets(None, ())
    read.clear()  # the app's own files
    asyncio.run(ask_at_once(files))

    assert read == [CHAT_INPUT]
    assert {len(message.get("body", "")) for message in sent} == {0, 16_384}


def test_prefetch_links_name_the_font_of_texts():
    links = streamlit_assets.prefetch_links()
    [font] = re.findall(
        r'as="font" [^>]*href="/(static/media/SourceSerifVariable-Roman[\w.-]+)"', links
    )

    assert (streamlit_assets.folder() / font).exists()


def test_start_logs_an_unknown_theme_key(caplog, monkeypatch):
    caplog.set_level("INFO", "daybook")

    PageAssets(Starlette(), ())
    assert caplog.messages == []

    monkeypatch.setattr(streamlit_assets, "theme_key", lambda: "stActiveTheme-${path}-v3")
    PageAssets(Starlette(), ())
    assert caplog.messages == ['{"event": "theme.unknown"}']
