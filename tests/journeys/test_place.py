"""Scroll position of a page when a conversation is opened, and after the reader scrolls."""

import pytest
from playwright.sync_api import expect

from tests.stack.apps import until

LONG = "Tell me all of it"
PAGE = "#stMain"
# how far below the window a conversation goes on: of every frame that shows a message; and of those in which something
# was drawn once more, after the page has moved within the frame and before that is seen
FRAMES = """(page) => {
  window.below = [];
  window.drawn = [];
  const look = (frames) => {
    const element = document.querySelector(page);
    if (element && document.querySelector('.stChatMessage, .db-message')) {
      frames.push(element.scrollHeight - element.clientHeight - element.scrollTop);
    }
  };
  const each = () => {
    look(below);
    requestAnimationFrame(each);
  };
  each();
  new MutationObserver(() => requestAnimationFrame(() => look(drawn)))
    .observe(document, { childList: true, subtree: true, attributeFilter: ["data-stale"] });
}"""


@pytest.fixture
def maya(person):
    """Somebody who has one conversation of many screens, and is on a fresh page."""
    maya = person()
    maya.arrives()
    maya.asks(f"{LONG} [[tokens=900 title={LONG.replace(' ', '_')}]]")
    maya.hears_all_of("word900")
    maya.begins_a_new_chat()
    return maya


def test_the_end_of_a_conversation_is_in_view_from_its_first_frame(maya):
    maya.page.evaluate(FRAMES, PAGE)

    maya.opens(LONG)

    frames = until(lambda: maya.page.evaluate("window.drawn"))
    assert max(frames) < 50, "it was scrolled to"


def test_the_end_is_in_view_even_if_the_conversation_before_ended_alike(maya):
    maya.asks("And again [[tokens=900 title=Again]]")
    maya.hears_all_of("word900")
    maya.page.evaluate(FRAMES, PAGE)

    def is_up():
        maya.scrolls_up(8)
        return maya.page.evaluate("window.below.at(-1) > 500")

    until(is_up)  # the reply has just ended: the first turns of the wheel may be taken back

    maya.opens(LONG)

    until(lambda: maya.page.evaluate("window.below.at(-1) < 50"))


def test_who_moves_the_page_stays_where_they_are(maya):
    maya.opens(LONG)
    maya.page.evaluate(FRAMES, PAGE)

    maya.scrolls_up(8)
    until(lambda: maya.page.evaluate("window.below.at(-1) > 500"))

    later = until(lambda: maya.page.evaluate("window.below.slice(30)"))
    assert later[-1] > 500, "it went back to the end"


def test_what_was_sent_stays_at_the_top_until_the_reader_goes_to_the_end(maya):
    maya.opens(LONG)
    maya.scrolls_up(8)
    prompt = maya.messages.filter(has_text="Once more")
    head = maya.page.locator(".st-key-chat-head")

    def below_the_head():
        title = head.bounding_box()
        return prompt.bounding_box()["y"] - title["y"] - title["height"]

    maya.asks("Once more [[tokens=700 rate=150]]")
    until(lambda: 0 <= below_the_head() < 40)
    latest = maya.page.get_by_role("button", name="Jump to latest")
    expect(latest).to_be_visible()  # the reply is longer than the view
    assert 0 <= below_the_head() < 40
    maya.page.evaluate(FRAMES, PAGE)

    latest.click()
    expect(latest).not_to_be_visible()
    until(lambda: maya.page.evaluate("window.below.at(-1) < 50"))
    maya.hears_all_of("word700")
    until(lambda: maya.page.evaluate("window.below.at(-1) < 50"))


def test_a_message_that_is_edited_is_in_view_however_the_page_was_moved(maya):
    for prompt in ("Beans", "Peas", "Leeks"):
        maya.asks(f"{prompt} [[tokens=200]]")
        maya.hears_all_of("word200")
    maya.page.evaluate("(page) => document.querySelector(page).scrollTo(0, 0)", PAGE)

    maya.page.locator('[data-act="edit"]').first.dispatch_event("click")

    field = maya.page.locator(".st-key-edit-prompt textarea")
    expect(field).to_be_focused()
    expect(field).to_be_in_viewport()
