"""The scroll position when a conversation is opened, and after the user scrolls."""

import pytest
from playwright.sync_api import expect

from tests.journeys.test_keys import page_with
from tests.stack.apps import until

LONG = "Tell me all of it"
PAGE = "#stMain"
# the distance from the bottom of the window to the end of the conversation: in every frame with a
# message, and in frames in
# which elements were drawn after the page had moved and before the frame was shown
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
    """A user on a fresh page with one conversation of many screens."""
    maya = person()
    maya.arrives()
    maya.asks(f"{LONG} [[tokens=900 title={LONG.replace(' ', '_')}]]")
    maya.hears_all_of("word900")
    maya.begins_a_new_chat()
    return maya


# on each side of the button is its strip
BESIDE = """one => {
  const { left, right, top, bottom } = one.getBoundingClientRect(), x = (left + right) / 2, y = (top + bottom) / 2;
  return [[left - 9, y], [right + 9, y], [x, top - 3], [x, bottom + 2]].map((at) => document.elementFromPoint(...at) === one.parentElement);
}"""
# the names of the elements whose top edge another element covers
COVERED = """all => all.filter((one) => {
  const { left, width, top } = one.getBoundingClientRect();
  return !one.contains(document.elementFromPoint(left + width / 2, top + 1));
}).map((one) => one.textContent)"""


def test_conversation_opens_at_its_end(maya):
    maya.page.evaluate(FRAMES, PAGE)

    maya.opens(LONG)

    frames = until(lambda: maya.page.evaluate("window.drawn"))
    assert max(frames) < 50, "it was scrolled to"


def test_sent_prompt_stays_at_the_top_of_the_view(maya):
    maya.opens(LONG)
    maya.scrolls_up(8)
    prompt = maya.messages.filter(has_text="Once more")
    head = maya.page.locator(".st-key-chat-head")

    def below_the_head():
        title = head.bounding_box()
        return prompt.bounding_box()["y"] - title["y"] - title["height"]

    maya.asks("Once more [[tokens=700 rate=70]]")
    until(lambda: 0 <= below_the_head() < 40)
    latest = maya.page.get_by_role("button", name="Jump to latest")
    expect(latest).to_be_visible()  # the reply is longer than the window
    assert 0 <= below_the_head() < 40
    assert head.locator("button").evaluate_all(COVERED) == []
    assert latest.evaluate(BESIDE) == [True] * 4  # no text can be read below the button
    maya.composer.fill("And then?")
    maya.sends()
    told = maya.page.get_by_role("alert")
    expect(told).to_contain_text("Wait for the reply")
    line, button = told.bounding_box(), latest.bounding_box()
    assert button["y"] + button["height"] <= line["y"]  # neither covers the other
    maya.composer.fill("")
    maya.page.evaluate(FRAMES, PAGE)

    latest.click()
    expect(latest).not_to_be_visible()
    until(lambda: maya.page.evaluate("window.below.at(-1) < 50"))
    maya.hears_all_of("word700")
    until(lambda: maya.page.evaluate("window.below.at(-1) < 50"))


DRAWN = """<script>history.replaceState(null, "", "?c=peas")</script>
<div id="stMain" style="height: 400px; overflow: auto"><div data-testid="stMainBlockContainer">
<div class="st-key-thread"><div class="st-key-exchange-1"><div data-stale="false">
<div class="db-message" style="height: 2000px">Peas</div></div></div></div></div></div>"""
# the distance to the end after the page was shorter for a moment within a frame, or the user scrolled
TO_END = """async (wasShorter) => {
  const page = document.getElementById("stMain"), message = document.querySelector(".db-message");
  if (wasShorter) {
    message.style.height = "500px";
    page.scrollTop; // the browser lays the page out, and moves it
    message.style.height = "3000px";
  } else page.scrollTop -= 100;
  for (let frames = 0; frames < 4; frames++) await new Promise(requestAnimationFrame);
  return page.scrollHeight - page.clientHeight - page.scrollTop;
}"""


@pytest.mark.parametrize(("was_shorter", "left"), [(True, 0), (False, 100)])
def test_only_the_user_leaves_the_end(browser, was_shorter, left):
    page = page_with(browser, "place.js", DRAWN)
    until(lambda: page.evaluate("document.getElementById('stMain').scrollTop") == 1600)

    assert page.evaluate(TO_END, was_shorter) == left
    page.close()
