"""The stylesheet is linked in the page that Streamlit serves, and nothing else is touched."""

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.web import streamlit_assets
from services.web.page_assets import PageAssets

PAGE = '<html><body>é<div id="root"></div></body></html>'
BROWSER = {"accept": "text/html,*/*"}


def page(_):
    return HTMLResponse(PAGE, headers={"ETag": "old"})


def page_in_pieces(_):
    return StreamingResponse(iter([PAGE[:20], PAGE[20:]]), media_type="text/html")


def text(_):
    return PlainTextResponse(PAGE, headers={"ETag": "kept"})


@pytest.fixture
def client(tmp_path):
    (tmp_path / "style.css").write_text("body { color: red }")
    (tmp_path / "not_found.html").write_text("<html><head></head>Nothing here</html>")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "shut.js").write_text("const act = 2;\n")
    (tmp_path / "page" / "open.js").write_text("const act = 1;\n")
    routes = [
        Route("/pieces", page_in_pieces),
        Route("/text", text),
        Route("/form", lambda _: HTMLResponse("<form></form>")),
        Route("/{path:path}", page),
    ]
    return TestClient(PageAssets(Starlette(routes=routes), ("", "pieces"), tmp_path))


@pytest.mark.parametrize("path", ["/", "/pieces"])
def test_a_page_links_a_stylesheet_that_may_be_kept_for_ever(client, path):
    answer = client.get(path, headers=BROWSER)

    before, links, after = answer.text.partition('<link rel="stylesheet" href="')
    address = links and after.partition('"')[0]
    assert before == PAGE.partition("<div")[0]
    assert '<div id="root"></div></body></html>' in after
    assert "etag" not in answer.headers
    sheet = client.get(address)
    assert sheet.text == "body { color: red }"
    assert "immutable" in sheet.headers["cache-control"]


def test_a_page_runs_its_scripts_side_by_side_and_may_keep_them_for_ever(client):
    page = client.get("/", headers=BROWSER).text

    address = page.partition('<script type="module" async src="')[2].partition('"')[0]
    script = client.get(address)
    assert script.text == "{\nconst act = 1;\n}\n{\nconst act = 2;\n}\n"
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]


def test_an_address_without_a_page_answers_404_and_says_so(client):
    answer = client.get("/nowhere", headers=BROWSER)

    assert answer.status_code == 404
    assert "Nothing here" in answer.text
    assert "<script" in answer.text  # with the theme that was chosen
    assert 'rel="stylesheet"' in answer.text
    assert client.get("/form", headers=BROWSER).text == "<form></form>"


def test_what_is_no_page_passes_untouched(client):
    answer = client.get("/text", headers=BROWSER)

    assert (answer.text, answer.headers["etag"]) == (PAGE, "kept")
    assert client.get("/", headers={"accept": "*/*"}).text == PAGE


def test_the_serif_that_streamlit_brings_is_fetched_early():
    assert b"SourceSerifVariable-Roman" in PageAssets(Starlette(), ()).links


def test_start_logs_a_streamlit_that_keeps_its_theme_elsewhere(caplog, monkeypatch):
    caplog.set_level("INFO", "daybook")

    PageAssets(Starlette(), ())
    assert caplog.messages == []

    monkeypatch.setattr(streamlit_assets, "theme_key", lambda: "stActiveTheme-${path}-v3")
    PageAssets(Starlette(), ())
    assert caplog.messages == ['{"event": "theme.unknown"}']
