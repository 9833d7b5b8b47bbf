"""The keys: a sheet of them, and the way to a conversation without a mouse."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import hold, second_process
from tests.stack.apps import until

_SCRIPTS = Path(__file__).parents[2] / "assets" / "page"


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


def sheet(maya):
    return maya.page.get_by_role("dialog", name="Keyboard shortcuts")


def asks_for_the_sheet(maya):
    """By its key, as soon as the page listens to it."""

    def is_there():
        maya.page.keyboard.press("?")
        return sheet(maya).is_visible()

    until(is_there)


def test_the_sheet_opens_over_a_reply_which_goes_on(maya):
    maya.asks("Go on and on [[tokens=400 rate=12]]")
    maya.hears("word2")
    maya.page.locator("main").click(position={"x": 20, "y": 200})

    asks_for_the_sheet(maya)
    expect(sheet(maya)).to_contain_text("New chatCtrl Shift O")
    maya.page.keyboard.press("Control+k")
    maya.page.keyboard.press("Control+Shift+O")
    maya.page.keyboard.press("Escape")

    expect(sheet(maya)).to_have_count(0)
    maya.hears("word20")
    expect(maya.stop_button).to_be_visible()
    maya.page.keyboard.press("Escape")
    maya.sees("You stopped this reply.")


@pytest.mark.parametrize(
    ("state", "after", "stops"),
    [
        ("running", [], True),
        ("running", ["x"], True),
        ("running", ["Enter"], False),
        ("notRunning", [], False),
    ],
)
def test_escape_is_kept_until_stop_is_drawn(browser, state, after, stops):
    page = browser.new_page()
    page.set_content(f'<div class="stApp" data-test-script-state="{state}"></div>')
    for script in ("_shared.js", "stop.js"):
        page.add_script_tag(path=_SCRIPTS / script)

    for key in ("Escape", *after):
        page.keyboard.press(key)
    stopped = page.evaluate("""async () => {
      let stopped = false;
      document.body.innerHTML += '<div class="st-key-stop"><button></button></div>';
      document.querySelector("button").onclick = () => stopped = true;
      for (let frames = 0; frames < 3; frames++) await new Promise(requestAnimationFrame);
      return stopped;
    }""")

    assert stopped is stops
    page.close()


def test_a_question_mark_that_is_typed_opens_nothing(maya):
    maya.composer.press_sequentially("Peas?")
    maya.jumps_to_the_filter()
    maya.page.keyboard.type("Why?")

    expect(maya.composer).to_have_value("Peas?")
    expect(maya.filter).to_have_value("Why?")
    expect(sheet(maya)).to_have_count(0)

    maya.page.keyboard.press("Control+/")
    expect(sheet(maya)).to_be_visible()


def test_on_a_mac_the_keys_are_those_of_a_mac(person):
    maya = person()
    maya.context.add_init_script(
        "Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })"
    )
    maya.arrives()
    maya.page.locator("main").click(position={"x": 20, "y": 200})

    asks_for_the_sheet(maya)

    expect(sheet(maya)).to_contain_text("Search chats⌘ K")
    expect(maya.page.locator(".st-key-new-chat kbd")).to_contain_text("⌘")


def test_from_the_filter_the_arrows_go_through_what_was_found(app, maya):
    with second_process(app) as sessions:
        _, session = sessions.sign_in(maya.email, PASSWORD)
        hold(session, ["Peas in March", "Beans", "Peas in April"])
    maya.page.reload()
    expect(maya.rows).to_have_count(3)
    press = maya.page.keyboard.press

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("peas")
    expect(maya.rows).to_have_text(["Peas in April", "Peas in March"])
    press("ArrowDown")
    expect(maya.rows.first).to_be_focused()
    press("ArrowDown")
    expect(maya.rows.last).to_be_focused()
    press("ArrowDown")
    expect(maya.rows.last).to_be_focused()
    press("ArrowUp")
    press("ArrowUp")
    expect(maya.filter).to_be_focused()
    press("ArrowDown")
    press("ArrowDown")
    press("Enter")
    expect(maya.page.locator(".st-key-chat-head h1")).to_have_text("Peas in March")

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("bean")
    press("Enter")  # before it has been found
    expect(maya.page.locator(".st-key-chat-head h1")).to_have_text("Beans")


def test_enter_opens_what_was_found_however_its_title_is_drawn(app, maya):
    long = "What I sowed, " + "and sowed, " * 8 + "in March"
    with second_process(app) as sessions:
        _, session = sessions.sign_in(maya.email, PASSWORD)
        hold(session, [long, "To @peas", "Roses"])
    maya.page.reload()
    expect(maya.rows).to_have_count(3)

    for words, title in (("in march", long), ("@peas", re.compile("To @.?peas"))):
        maya.jumps_to_the_filter()
        maya.page.keyboard.type(words)
        maya.page.keyboard.press("Enter")
        expect(maya.page.locator(".st-key-chat-head h1")).to_have_text(title)


def test_whoever_writes_elsewhere_when_a_reply_ends_goes_on_there(maya):
    maya.asks("Go on [[tokens=20 rate=12]]")
    maya.hears("word2")
    maya.chooses("Go on [[tokens=20 rate=12]]", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Sweet")
    maya.hears_all_of("word20")
    expect(maya.composer).to_be_enabled()
    maya.page.keyboard.type(" peas")
    maya.page.keyboard.press("Enter")
    maya.is_in("Sweet peas")
    expect(maya.composer).to_have_value("")

    maya.asks("And then? [[tokens=20 rate=12]]")
    maya.hears("word2")
    maya.hears_all_of("word20")
    expect(maya.composer).to_be_focused()  # who wrote there


def test_a_letter_that_is_being_composed_keeps_its_enter_and_escape(app, maya):
    with second_process(app) as sessions:
        _, session = sessions.sign_in(maya.email, PASSWORD)
        hold(session, ["Peas"])
    maya.page.reload()
    composed = """(field, key) => field.dispatchEvent(
      new KeyboardEvent("keydown", { key, isComposing: true, bubbles: true, cancelable: true }))"""

    maya.asks("Go on and on [[tokens=400 rate=12]]")
    maya.hears("word2")
    maya.jumps_to_the_filter()
    maya.page.keyboard.type("Pea")
    expect(maya.rows).to_have_text(["Peas"])
    for key in ("Enter", "Escape"):
        maya.filter.evaluate(composed, key)
    expect(maya.filter).to_have_value("Pea")
    maya.chooses("Peas", "Rename")
    expect(maya.title_field).to_be_focused()
    for key in ("Escape", "Enter"):
        maya.title_field.evaluate(composed, key)
    maya.hears("word20")
    expect(maya.title_field).to_be_focused()
    expect(maya.page.locator(".st-key-chat-head h1")).to_contain_text("Go on and on")
    maya.stops()
