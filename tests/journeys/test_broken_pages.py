"""Pages that an update, an old browser or a proxy breaks: the scripts of the page alone."""

from base64 import b64encode

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS

REPLY = "# Peas\n\n```\nsow()\n```"
# what Streamlit draws of a reply whose code it cannot draw, and the button that the app draws below
TRACE = f"""<div class="st-key-thread"><div><div class="stMarkdown"><p>Peas</p>
  <div class="stAlertContainer"><pre data-testid="stErrorElementStack">at import</pre></div></div></div>
  <button data-copy="{b64encode(REPLY.encode()).decode()}">Copy</button></div>"""


@pytest.fixture
def opens(browser):
    """Return a function that opens a page of *body* with the app's stylesheet and *scripts*."""
    with browser.new_context() as context:

        def opens(body, *scripts, without=""):
            page = context.new_page()
            page.add_init_script(without)
            page.route("**/*", lambda route: route.fulfill(body=body, content_type="text/html"))
            page.goto("https://app.test/")
            page.add_style_tag(content=(_ASSETS / "style.css").read_text("utf-8"))
            for name in ("_shared", *scripts):
                script = (_ASSETS / "page" / f"{name}.js").read_text("utf-8")
                page.add_script_tag(content=f"{{{script}}}")
            return page

        yield opens


def test_reply_that_cannot_be_drawn_is_shown_as_written(opens):
    page = opens(TRACE, "copy", "broken")
    page.evaluate("document.body.append('')")  # a redraw

    written = page.locator(".db-written")
    expect(written).to_have_text(REPLY)
    expect(page.get_by_test_id("stErrorElementStack")).to_be_hidden()
    expect(page.locator(".stMarkdown")).to_be_hidden()

    page.evaluate("document.querySelector('.stAlertContainer').remove()")
    expect(written).to_have_count(0)
    expect(page.locator(".stMarkdown")).to_be_visible()


def test_missing_script_is_told_with_a_way_to_reload(opens):
    page = opens('<div class="stApp" data-test-connection-state="CONNECTED"></div>', "connection")

    page.evaluate("dispatchEvent(new Event('vite:preloadError'))")
    expect(page.get_by_role("alert")).to_have_text("Daybook was updated. Reload.")

    with page.expect_navigation():
        page.get_by_role("button", name="Reload.").click()


def test_page_that_cannot_begin_says_so(opens):
    page = opens('<div id="root">Daybook is loading…</div>')
    page.route("**/static/js/*", lambda route: route.fulfill(status=404))
    page.add_script_tag(content=(_ASSETS / "page" / "connection.js").read_text("utf-8"))

    page.evaluate("import('/static/js/index.old.js').catch(() => {})")

    expect(page.get_by_role("alert")).to_have_text("Daybook was updated. Reload.")


@pytest.mark.parametrize(
    "missing",
    ["delete HTMLElement.prototype.showPopover", "CSS.supports = () => false", ""],
)
def test_sign_in_page_names_the_browsers_that_work(opens, missing):
    page = opens('<div class="st-key-login"></div>', "support", without=missing)
    page.evaluate("document.body.append('')")

    told = page.get_by_role("alert")
    if missing:
        expect(told).to_contain_text("Safari 17.5 or newer")
    else:
        page.evaluate(
            "new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))"
        )
        expect(told).to_have_count(0)


def test_browser_without_check_of_visibility_finds_what_is_drawn(opens):
    body = "<p>Peas</p><p hidden>Beans</p>"
    page = opens(body, without="delete Element.prototype.checkVisibility")

    drawn = page.evaluate("[...document.querySelectorAll('p')].map((row) => row.checkVisibility())")

    assert drawn == [True, False]


PRINTED = """
  <div class="stApp"><div class="st-key-notices">New sign-in</div>
  <p style="font-family: Source Sans">Peas</p><span role="img" style="font-family: Icons">stop</span>
  <div class="stChatMessage"><div class="stMarkdown"><p>Sow <b>now</b> <code>sow()</code></p>
    <span class="katex" style="font-family: KaTeX"><i>x</i></span>
    <table><tr><td>unlimited storage</td><td>Uptime</td></tr></table>
    <table><tr><td>WIDE</td></tr></table></div></div></div>""".replace(
    "WIDE", "https://x.test/" * 20
)


def test_print_has_system_fonts_and_no_notices(opens):
    page = opens(PRINTED, "print")
    page.emulate_media(media="print")

    expect(page.get_by_text("New sign-in")).to_be_hidden()
    fonts = page.evaluate(
        """(names) => Object.fromEntries(names.map((name) =>
      [name, getComputedStyle(document.querySelector(name)).fontFamily]))""",
        [".stApp > p", "b", "code", "td", "i", "span"],
    )
    assert fonts == {
        ".stApp > p": "sans-serif",
        "b": "serif",
        "code": "monospace",
        "td": "serif",
        "i": "KaTeX",
        "span": "Icons",
    }


def test_print_breaks_words_of_too_wide_tables_alone(opens):
    page = opens(PRINTED, "print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")

    cells = page.locator("tr:first-child td:first-child")
    expect(cells.nth(0)).to_have_css("overflow-wrap", "normal")
    expect(cells.nth(1)).to_have_css("overflow-wrap", "anywhere")
