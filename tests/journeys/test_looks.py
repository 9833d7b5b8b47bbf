"""The stylesheet, and the scripts of texts and details, on pages without Streamlit."""

from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from services.web.page_assets import _ASSETS
from tests.stack.apps import until

# a change, and the frame in which the scripts see it
_DRAWN_ANEW = """() => {
  document.body.append(document.createElement("i"));
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


@pytest.fixture
def page_of(browser):
    """Return a function that opens a page with our stylesheet and scripts, in a context with these options."""
    with ExitStack() as ends:

        def open_page(content, **options):
            options = {"viewport": {"width": 600, "height": 600}} | options
            page = ends.enter_context(browser.new_context(**options)).new_page()
            page.set_content(content)
            page.add_style_tag(path=_ASSETS / "style.css")
            for name in ("_shared", "copy", "details", "place", "text"):
                script = (_ASSETS / "page" / f"{name}.js").read_text("utf-8")
                page.add_script_tag(content=f"{{{script}}}")
            page.evaluate(_DRAWN_ANEW)
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


# as Streamlit draws Markdown: with line ends within texts and between blocks
REPLY = """<div class="stChatMessage"><div class="stMarkdown"><div data-testid="stMarkdownContainer"><p>Roses are red,
violets <em>are
blue</em><br>
and <code>peas are</code> green.</p>
<ol>
<li><strong>Name</strong>
Street
<ul>
<li>City
and land</li>
</ul>
</li>
<li>
<ul>
<li>first</li>
</ul>
</li>
<li>last
of all</li>
</ol>
<ul>
<li>
<p>loose
item</p>
</li>
</ul>
<blockquote>
<p>quoted
too</p>
</blockquote></div></div></div>"""


def test_line_ends_of_a_reply_are_breaks(page_of):
    page = page_of(REPLY)

    def lines(place, nth=0):
        line = page.locator("em").evaluate("one => one.getClientRects()[0].height")
        return page.locator(place).nth(nth).bounding_box()["height"] / line

    assert page.locator(".stMarkdown > div > p").inner_text().split("\n") == [
        *("Roses are red,", "violets are", "blue", "and peas are green.")
    ]
    texts = page.locator("ol").inner_text().split("\n")
    assert [text for text in texts if text.strip()] == [
        *("Name", "Street", "City", "and land", "first", "last", "of all")
    ]
    two = lines("ol > li", 2)
    assert lines("ol ul li") == two
    assert lines("ol > li") < 2.5 * two, "no empty line beside the inner list"
    assert lines("ol > li", 1) <= two, "no empty line above or below the inner list"
    assert lines("ul > li > p") == lines("blockquote p") == two


def test_copied_formula_is_its_tex(page_of):
    def formula(tex):
        return f"""<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>x</mi></mrow>
          <annotation encoding="application/x-tex">{tex}</annotation></semantics></math></span>
          <span class="katex-html" aria-hidden="true"><span class="mord">x</span></span></span>"""

    page = page_of(f"""<p>The mean is {formula("{a}{b}")}, so\u2060</p>
      <span class="katex-display" style="display: block">{formula("{n}+1")}</span><p>is all.</p>""")
    copied = """([start, end]) => {
      const range = document.createRange(), data = new DataTransfer();
      range.setStart(document.querySelector(start), 0);
      range.setEnd(document.querySelectorAll(end)[1], 0);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      const options = { clipboardData: data, bubbles: true, cancelable: true };
      const before = document.body.innerHTML;
      document.dispatchEvent(new ClipboardEvent("copy", options));
      return [data.getData("text/plain"), document.body.innerHTML === before];
    }"""

    whole, is_restored = page.evaluate(copied, ["p", "p"])
    assert whole.split() == ["The", "mean", "is", "${a}{b}$,", "so", "$$", "{n}+1", "$$"]
    assert is_restored
    inside, _ = page.evaluate(copied, [".mord", ".mord"])
    assert inside.split() == ["${a}{b}$,", "so", "$$", "{n}+1", "$$"]


def test_parts_that_scroll_are_focusable_and_boxes_named(page_of):
    wide = "x" * 200
    page = page_of(f"""<div class="stMarkdown">
      <span class="katex-display" style="display: block; overflow: auto">{wide}</span>
      <span class="katex-display" style="display: block; overflow: auto">x</span>
      <div class="stCode"><pre style="overflow: auto">{wide}</pre></div>
      <table><tr><td>{wide}</td></tr></table>
      <ul><li class="task-list-item"><input type="checkbox" disabled> Sow peas</li></ul></div>""")

    found = page.locator("[tabindex]").evaluate_all("all => all.map((one) => one.localName)")
    assert found == ["span", "pre", "table"]
    expect(page.get_by_role("checkbox", name="Task")).to_be_visible()


def test_table_of_a_right_to_left_reply_is_at_the_right(page_of):
    table = "<table><tr><td>{}</td></tr></table>"
    page = page_of(f"""<div class="stMarkdown"><div data-testid="stMarkdownContainer">
      {table.format("علي")}{table.format("Ali")}</div></div>""")

    right, left = (page.locator("table").nth(n).bounding_box() for n in (0, 1))
    whole = page.locator(".stMarkdown").bounding_box()
    assert right["x"] + right["width"] == whole["x"] + whole["width"]
    assert left["x"] == whole["x"]


def test_growing_composer_does_not_cover_the_end(page_of):
    page = page_of("""<main id="stMain" style="height: 500px; overflow: auto">
      <div data-testid="stMainBlockContainer" style="padding-bottom: 60px"><div class="st-key-thread"><div>
        <div class="st-key-exchange-1"><p style="height: 900px">A reply</p></div></div></div></div>
      <div data-testid="stBottom" style="position: sticky; bottom: 0; height: 100px"></div></main>""")
    bar, latest = page.get_by_test_id("stBottom"), page.get_by_role("button", name="Jump to latest")
    page.evaluate("stMain.scrollTop = 1e6")
    page.evaluate("new Promise(requestAnimationFrame)")
    page.evaluate("stMain.scrollTop -= 30")
    expect(latest).to_be_hidden()

    bar.evaluate("bar => bar.style.height = '250px'")

    page.evaluate("new Promise((end) => setTimeout(end, 200))")
    expect(latest).to_be_hidden()
    end = page.locator("p").bounding_box()
    assert end["y"] + end["height"] <= bar.bounding_box()["y"] + 8


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
