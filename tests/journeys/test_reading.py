"""Reading: the appearance of messages, and that nothing moves while the user reads."""

import re

import pytest
from playwright.sync_api import expect

from services.domain import Full
from tests.journeys.people import DESK, FOR_EVER, MESSAGE, PASSWORD, PHONE
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.stack.apps import until

# records the positions of elements, frame by frame
WATCH = """selector => {
  const seen = window.__seen = [];
  const look = () => {
    seen.push([...document.querySelectorAll(selector)].map((one) => one.getBoundingClientRect().top));
    if (window.__seen === seen) requestAnimationFrame(look);
  };
  look();
}"""
SEEN = "() => { const seen = window.__seen; window.__seen = null; return seen; }"
# in every frame: the number of these elements, and the opacity of the first
PRESENT = """(places) => {
  window.seen = {};
  const look = () => {
    for (const place of places) {
      const all = [...document.querySelectorAll(place)].filter((each) => each.offsetParent);
      const least = window.seen[place] ?? [all.length, 1];
      const ink = all.length ? Number(getComputedStyle(all[0]).opacity) : 1;
      window.seen[place] = [Math.min(least[0], all.length), Math.min(least[1], ink)];
    }
    requestAnimationFrame(look);
  };
  look();
}"""
SCROLLED = "() => document.getElementById('stMain').scrollTop"
# waits for some animation frames, in which a page would be printed
FRAMES = "async () => { for (let n = 0; n < 9; n++) await new Promise(requestAnimationFrame); }"
STILL = 2.0  # pixels
# true if nothing is drawn above the middle of the focused element
IN_VIEW = """() => {
  const { left, right, top, bottom } = document.activeElement.getBoundingClientRect();
  return document.activeElement.contains(document.elementFromPoint((left + right) / 2, (top + bottom) / 2));
}"""


@pytest.fixture
def letters(app, maya):
    """Return Maya at a long conversation."""
    let_talk_fast(app)
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        turns = [(f"Prompt {n}", f"Reply {n}. " + "And so on. " * 60) for n in range(20)]
        conversation_id = converse(session, turns)
    maya.visit(f"/?c={conversation_id}")
    maya.hears("Reply 19")
    maya.sees_no_reply_coming()
    return maya


def test_nothing_moves_or_vanishes_while_a_reply_comes(maya):
    """The page is redrawn only after the first words; until then, the browser must keep the old elements."""
    maya.asks("First")
    maya.hears_all_of("You said: First")
    maya.asks("Second [[tokens=20 rate=20]]")
    maya.hears("word2")
    maya.page.evaluate(WATCH, MESSAGE)
    maya.hears_all_of("word20")
    expect(maya.page.get_by_role("button", name="Regenerate", exact=True)).to_have_count(2)
    frames = maya.page.evaluate(SEEN)
    assert {len(frame) for frame in frames} == {4}  # no element is doubled or missing
    for tops in zip(*frames, strict=True):
        assert max(tops) - min(tops) <= STILL  # a finished reply stays where it came

    stands = {
        f".st-key-thread :is({MESSAGE})": 4,
        ".st-key-chat-head h1": 1,
        ".st-key-export button": 1,
        ".st-key-memory-policy button": 1,
        ".st-key-composer textarea": 1,
        '[data-act="open"]': 1,
    }
    maya.page.evaluate(PRESENT, list(stands))
    maya.asks("Wait for it [[delay=1 tokens=9 rate=9]]")
    maya.hears_all_of("word9")
    seen = maya.page.evaluate("window.seen")
    assert {place: count for place, (count, _) in seen.items()} == stands
    assert min(ink for _, ink in seen.values()) == 1

    maya.asks("Go on [[tokens=300 rate=80]]")
    maya.hears("word2")
    maya.page.evaluate(WATCH, ".st-key-composer")
    maya.hears("word250")
    tops = [top for (top,) in maya.page.evaluate(SEEN)]
    assert max(tops) - min(tops) <= STILL  # a long reply does not move the composer


def test_page_stays_where_the_reader_scrolled(letters, model):
    first = letters.messages.filter(has_text="Prompt 6")
    letters.scrolls_up(80)
    until(lambda: _is_at_rest(letters))
    before = first.bounding_box()["y"]
    letters.page.get_by_role("button", name="Earlier messages", exact=True).click()
    expect(letters.messages).to_have_count(40)
    letters.sees_no_reply_coming()
    until(lambda: abs(first.bounding_box()["y"] - before) <= STILL)

    letters.asks("Go on [[tokens=900 held=600]]")
    letters.hears("word600")
    letters.scrolls_up(12)
    until(lambda: _is_at_rest(letters))
    in_view = letters.messages.filter(has_text="Prompt 17")
    before = in_view.bounding_box()["y"]
    assert letters.page.evaluate(SCROLLED) > 0
    model.go_on()
    letters.hears_all_of("word900")
    # the line at the start of the context was above and is gone
    assert abs(in_view.bounding_box()["y"] - before) <= STILL


def test_title_and_composer_cover_no_focused_button(app, maya):
    page, lines = maya.page, "\nAnd so on." * 60
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        turns = [(f"Prompt {n}{lines}", f"Reply {n}{lines}") for n in range(4)]
        conversation_id = converse(session, turns)
    maya.visit(f"/?c={conversation_id}")
    maya.hears("Reply 3")
    maya.sees_no_reply_coming()
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        maya.composer.focus()
        for key in ["Shift+Tab"] * 24 + ["Tab"] * 24:
            page.keyboard.press(key)
            # the focus scrolls the page, and what stands above the composer comes and goes with that
            until(
                lambda: page.evaluate(IN_VIEW),
                told=lambda: page.evaluate("document.activeElement.outerHTML"),
            )

        more = page.locator(".db-more").nth(1)
        more.click()
        more.click()
        expect(more).to_have_text("Show all")
        assert page.evaluate(IN_VIEW)


@pytest.mark.long_run
def test_cut_reply_goes_on_after_a_reload(maya, model):
    maya.asks("Count [[tokens=30 rate=60 finish=length]]")
    maya.sees("cut off at its length limit")
    maya.page.set_viewport_size({"width": 390, "height": 844})
    maya.page.reload()
    model.script(reply="word31 and so on", rate=4, times=1)

    maya.page.get_by_role("button", name="Continue").click()

    maya.hears("word30 word31")  # while the reply streams
    maya.hears_all_of("word31 and so on")
    expect(maya.page.get_by_text("cut off at its length limit")).to_have_count(0)
    maya.page.reload()
    maya.hears("word30 word31 and so on")
    assert len(maya.texts()) == 2


def test_prompts_are_as_typed_and_replies_fit_a_phone(maya, model):
    prompt = "# a comment\n    indented\n" + "\n".join(f"line {n}" for n in range(12))
    wide = "unbreakable" * 3
    reply = f"""$5 or $7, $x^2$, H~2~O

\\begin{{align}}
a &= b
\\end{{align}}

100. hundred

| {wide} | {wide} |
|---|---|
| 1 | 8 |

שלום לכולם `a.b()!`[^1]

![a house](https://pictures.example/house.png)

```python
{"long = " * 30}![a](b)
```

```mermaid
graph TD; A-->B
```

[^1]: A note."""
    model.script(times=1, reply=reply)
    maya.page.set_viewport_size(PHONE)
    maya.asks(prompt)
    maya.sees_no_reply_coming()

    asked, page, reply = maya.messages.first, maya.page, maya.messages.last
    assert asked.locator("p").inner_text() == prompt
    more = asked.get_by_role("button", name="Show all")
    folded = asked.bounding_box()["height"]
    more.click()
    expect(asked.get_by_role("button", name="Show less", expanded=True)).to_be_visible()
    assert asked.bounding_box()["height"] > folded
    expect(reply.locator(".katex")).to_have_count(2)
    expect(reply.locator("p").first).to_contain_text("$5 or $7, ")
    expect(reply.locator("del, .katex-error")).to_have_count(0)
    assert (
        reply.locator("ol li").first.evaluate("one => parseFloat(getComputedStyle(one).marginLeft)")
        > 25
    )
    expect(reply.locator("table")).to_have_attribute("tabindex", "0")  # the table scrolls
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    hebrew = reply.get_by_text("שלום")
    assert hebrew.evaluate("one => getComputedStyle(one).direction") == "rtl"
    inline = reply.locator("p > code").evaluate("one => getComputedStyle(one).unicodeBidi")
    assert inline == "isolate"
    picture = reply.get_by_role("link", name="a house (image on pictures.example)")
    expect(picture).to_have_attribute("target", "_blank")
    expect(picture).to_have_attribute("rel", "noopener noreferrer")
    expect(reply.locator("img")).to_have_count(0)
    notes = reply.get_by_role("heading", name="Footnotes")
    assert notes.evaluate("one => parseFloat(getComputedStyle(one).fontSize)") < 16
    heads = reply.locator(".db-code-head > span")
    expect(heads).to_have_text(["python", "mermaid"])
    expect(reply.locator("table td")).to_have_text(["1", "8"])
    maya.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reply.get_by_role("button", name="Copy to clipboard").first.press("Enter")
    until(lambda: "long = " in page.evaluate("navigator.clipboard.readText()"))
    assert page.evaluate("navigator.clipboard.readText()").endswith("![a](b)")
    code = reply.locator(".stCode").first
    low = code.bounding_box()["height"]
    reply.get_by_role("button", name="Wrap lines").first.click()
    expect(reply.get_by_role("button", name="Wrap lines", pressed=True)).to_be_visible()
    assert code.bounding_box()["height"] > low


@pytest.mark.long_run
def test_title_and_edited_texts_have_the_direction_of_their_words(maya):
    maya.asks("Peas [[title=Peas]]")
    maya.sees_no_reply_coming()
    maya.renames("Peas", "מה זה JSON?")
    title = maya.page.get_by_role("heading", name="מה זה JSON?")
    expect(title).to_have_css("direction", "rtl")
    expect(title).to_have_css("text-align", "start")

    maya.chooses("מה זה JSON?", "Rename")
    expect(maya.title_field).to_have_css("direction", "rtl")
    maya.page.keyboard.press("Escape")
    maya.page.locator(".st-key-conversation-menu button").click()
    maya.page.get_by_role("menuitem", name="Instructions").click()
    field = maya.dialog.locator("textarea")
    field.fill("ענה בקצרה, ב-JSON.")
    expect(field).to_have_css("direction", "rtl")


@pytest.mark.long_run
def test_thoughts_stay_after_a_reload(maya, model):
    model.script(fault="hang")
    thinking = maya.page.locator('[class*="st-key-thinking-"]')
    thought = maya.page.locator('[class*="st-key-thoughts-"]').filter(visible=True)
    maya.asks("Why? [[thoughts=3 thinks_as=reasoning fault=hang]]")

    thinking.locator("summary").click()
    expect(thinking.get_by_text("Hm. Hm. Hm.")).to_be_visible()
    maya.page.reload()
    expect(thinking.locator("summary")).to_have_text("Thinking…chevron_right")
    seconds = "e => Number(getComputedStyle(e, '::after').getPropertyValue('--seconds'))"
    counted = thinking.locator("summary p").evaluate(seconds)
    until(lambda: thinking.locator("summary p").evaluate(seconds) > counted)
    maya.stops()
    expect(thought.locator("summary p")).to_have_text(re.compile(r"^Thought for \d+ s$"))
    label = thought.locator("summary p").inner_text()
    maya.page.reload()
    expect(thought.locator("summary p")).to_have_text(label)
    expect(thought.get_by_text("Hm.")).to_be_hidden()


def _is_at_rest(person):
    """Return True if the page did not move for half a second; a busy machine draws few frames."""
    places = {person.page.evaluate(SCROLLED)}
    for _ in range(5):
        person.page.wait_for_timeout(100)
        places.add(person.page.evaluate(SCROLLED))
    return len(places) == 1


def test_print_draws_the_whole_chat_without_the_page_around_it(app, person):
    maya = person(color_scheme="dark", viewport=PHONE)
    maya.arrives()
    let_talk_fast(app)
    table = "| Bed | Sown |\n| --- | --- |\n| East | Peas |\n\n$\\sqrt{x^2+1}$"
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        turns = [(f"Prompt {n}", f"Reply {n}") for n in range(19)]
        long = converse(session, [*turns, ("A table?", table)], Full())
    maya.visit(f"/?c={long}")
    expect(maya.messages).to_have_count(20)
    maya.sees_no_reply_coming()
    around = maya.page.locator('.st-key-composer, [data-testid="stSidebar"], .db-act, .stButton')
    missing = maya.page.get_by_text("20 earlier messages are missing.")
    expect(missing).to_be_hidden()

    maya.page.emulate_media(media="print")
    expect(missing).to_be_visible()
    expect(maya.page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    title = maya.page.locator(".st-key-chat-head h1")
    assert title.bounding_box()["x"] == missing.bounding_box()["x"]
    expect(around.locator("visible=true")).to_have_count(0)
    whole = maya.page.locator(".stMarkdown table")
    expect(whole).to_have_css("display", "table")
    root = maya.page.locator(".katex .hide-tail svg")  # clips a line that is far too long
    assert root.locator("path").bounding_box()["width"] > PHONE["width"]
    expect(root).to_have_css("overflow", "hidden")
    assert maya.email not in maya.page.locator("body").inner_text()
    maya.page.emulate_media(media="screen")

    # as in Safari, the pages are laid out after `print` has returned
    # (in braces, because Playwright calls a function that an expression returns)
    maya.page.evaluate(f"""() => {{ print = () => setTimeout(() => {{
      window.printed = document.querySelectorAll('{MESSAGE}').length;
      dispatchEvent(new Event("afterprint"));
    }}, 1000) }}""")
    maya.page.locator(".st-key-conversation-menu button").click()
    maya.page.get_by_role("menuitem", name="Print").click()
    until(lambda: maya.page.evaluate("window.printed") == 40)
    expect(maya.messages).to_have_count(20)

    # a page that is opened before the chat could be printed is not printed, nor is the chat later
    maya.page.evaluate("window.printed = null")
    maya.asks(f"More? {FOR_EVER}")
    maya.hears("word2")
    maya.page.locator(".st-key-conversation-menu button").click()
    maya.page.get_by_role("menuitem", name="Print").click()
    expect(maya.messages).to_have_count(42)
    maya.page.set_viewport_size(DESK)
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Memory").click()
    expect(maya.page.get_by_role("heading", name="Memory", level=1)).to_be_visible()
    maya.sees_no_reply_coming()
    maya.page.evaluate(FRAMES)
    maya.page.go_back()
    maya.stops()
    maya.page.evaluate(FRAMES)
    assert maya.page.evaluate("window.printed") is None
