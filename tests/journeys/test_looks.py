"""The stylesheet, and the scripts of texts and details, on pages without Streamlit."""

from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS
from tests.stack.apps import until


@pytest.fixture
def page_of(browser):
    """Return a function that opens a page with our stylesheet and scripts, in a context with these options."""
    with ExitStack() as ends:

        def open_page(content, **options):
            options = {"viewport": {"width": 600, "height": 600}} | options
            page = ends.enter_context(browser.new_context(**options)).new_page()
            page.set_content(content)
            page.add_style_tag(path=_ASSETS / "style.css")
            for name in ("_shared", "details", "text"):
                script = (_ASSETS / "page" / f"{name}.js").read_text("utf-8")
                page.add_script_tag(content=f"{{{script}}}")
            page.evaluate("document.body.append(document.createElement('i'))")  # is drawn anew
            return page

        yield open_page


@pytest.mark.parametrize(
    "thinking",
    [
        '<p class="db-thinking" style="--waited: -7s">Thinking…</p>',
        """<style>.st-key-thinking-1 { --waited: -7s }</style>
           <details class="st-key-thinking-1"><summary><p>Thinking…</p></summary></details>""",
    ],
    ids=["wait", "thoughts"],
)
def test_seconds_of_thinking_are_counted_from_those_waited(page_of, thinking):
    line = page_of(thinking).get_by_text("Thinking…", exact=True)
    seconds = "one => Number(getComputedStyle(one, '::after').getPropertyValue('--seconds'))"
    first = line.evaluate(seconds)

    assert first >= 7
    until(lambda: line.evaluate(seconds) > first)


def test_title_and_fields_have_the_direction_of_their_words(page_of):
    page = page_of("""
      <div class="st-key-chat-head"><h1>מה זה JSON?</h1></div>
      <div class="stTextInput"><input value="מה זה JSON?"></div>
      <textarea>ענה בקצרה, ב-JSON.</textarea>
    """)

    for place in ("h1", "input", "textarea"):
        expect(page.locator(place)).to_have_css("direction", "rtl")
    expect(page.locator("h1")).to_have_css("text-align", "start")


def test_reason_of_a_recalled_message_stays_readable(page_of):
    """Beside a long extract, and above the whole message."""
    page = page_of(f"""<table class="db-parts db-seen">
      <tr><td>Assistant: {"We sow peas. " * 99}</td><td>1 May, extract, matched “peas”</td></tr>
      <tr><td colspan="2"><details><summary>Show message</summary><p>{"We sow peas. " * 99}</p></details></td></tr>
    </table>""")
    reason = page.get_by_role("cell").nth(1)
    width = reason.bounding_box()["width"]
    assert width >= 64  # px: two short words

    page.get_by_text("Show message").click()

    assert reason.bounding_box()["width"] > width / 2


def test_details_of_a_reply_are_behind_a_press_on_phones(page_of):
    page = page_of(
        """<meta name="viewport" content="width=device-width"><div class="db-acts">
          <button class="db-act" data-act="edit">Edit</button>
          <small><span class="db-spent">12 tokens</span></small>
          <button class="db-act db-details" aria-expanded="false" aria-label="Details"></button></div>""",
        has_touch=True,
        is_mobile=True,
    )
    details, behind = page.get_by_label("Details"), page.locator(".db-spent, [data-act]")

    for is_open in (True, False):
        details.tap()

        expect(details).to_have_attribute("aria-expanded", str(is_open).lower())
        expect(behind.filter(visible=True)).to_have_count(2 if is_open else 0)


def test_nothing_of_streamlit_turns_for_ever_without_motion(page_of):
    spinner = """<style>@keyframes turn { to { rotate: 1turn } } i { animation: turn 1s linear infinite }</style>
      <p class="stSpinner"><i>…</i></p>"""
    moving = "document.getAnimations().length"

    assert page_of(spinner).evaluate(moving)
    still = page_of(spinner, reduced_motion="reduce")
    until(lambda: not still.evaluate(moving))
