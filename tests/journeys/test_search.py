"""The search dialog: what was said is found, and opened in its place."""

import re

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.stack.apps import until
from tests.stores import store_of

LONG = "and on it went, " * 60
# the distance from the sticky head of the chat to the top of the found message, in px
BELOW_HEAD = """() => {
  const box = (selector) => document.querySelector(selector).getBoundingClientRect();
  return Math.abs(box('.db-found').top - box('.st-key-chat-head').bottom);
}"""


@pytest.fixture
def hits(maya):
    return maya.found.locator('[role="option"]')


@pytest.fixture
def garden(app, maya):
    """A long chat whose fifth prompt names a word, and a short one that names it too."""
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        let_talk_fast(app)
        said = [(f"Question {n}", f"Answer {n} {LONG}") for n in range(30)]
        said[5] = "Where do the <b>zucchinis</b> grow?", said[5][1]
        garden = converse(session, said)
        converse(session, [("Who eats zucchini?", "Nobody.")])
    maya.page.reload()
    expect(maya.rows).to_have_count(2)
    return garden


def test_message_is_found_by_keyboard_and_opened_in_its_place(maya, garden, hits):
    press = maya.page.keyboard.press
    maya.searches("zucchini")
    expect(hits).to_have_text(
        [
            re.compile("Who eats zucchini"),  # the title
            re.compile("Who eats zucchini"),
            re.compile("Where do the <b>zucchinis</b> grow"),
        ]
    )
    expect(maya.found.locator("mark").last).to_have_text("zucchinis")

    for _ in range(2):
        press("ArrowDown")
    expect(hits.last).to_have_attribute("aria-selected", "true")
    press("Enter")

    expect(maya.found).to_have_count(0)
    expect(maya.page).to_have_url(re.compile(f"c={garden}.*at="))
    found = maya.page.locator(".db-found")
    expect(found).to_contain_text("Where do the <b>zucchinis</b> grow?")
    until(lambda: found.count() == 0 or maya.page.evaluate(BELOW_HEAD) < 60)
    expect(maya.page.get_by_text("Where do the <b>zucchinis</b> grow?")).to_be_in_viewport()

    maya.scrolls_up(3)
    expect(maya.page).not_to_have_url(re.compile("at="))
    expect(maya.page).to_have_url(re.compile(f"c={garden}"))


def test_instructions_of_a_chat_open_where_they_are_edited(app, maya, garden, hits):
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        store_of(session).conversations.set_instructions(garden, "Speak of <b>okra</b> only.")

    maya.searches("okra")
    expect(hits).to_have_text(
        [re.compile(r"Instructions · Question 0\s*Speak of <b>okra</b> only\.")]
    )
    hits.first.click()

    expect(maya.page.get_by_role("dialog", name="Instructions")).to_be_visible()
    expect(maya.page.get_by_role("dialog").locator("textarea")).to_have_value(
        "Speak of <b>okra</b> only."
    )


def test_reply_streams_on_behind_the_search(maya, model, hits):
    maya.asks("Go on about zucchini [[tokens=20 held=2]]")
    maya.hears("word2")

    maya.searches("zucchini")
    expect(hits.first).to_contain_text("zucchini")
    model.go_on()

    expect(maya.last_reply).to_contain_text("word20")
    expect(maya.found).to_be_visible()
    maya.page.keyboard.press("Escape")
    expect(maya.found).to_have_count(0)


def test_deleted_chat_is_found_no_longer(maya, garden, hits):
    maya.searches("zucchini")
    expect(hits).to_have_count(3)
    maya.page.keyboard.press("Escape")

    maya.deletes("Who eats zucchini?")
    maya.searches("zucchini")

    expect(hits).to_have_count(1)


def test_filter_of_titles_leads_to_the_messages(maya, garden, hits):
    maya.jumps_to_the_filter()
    maya.page.keyboard.type("grow")
    maya.sees("No titles match.")
    maya.page.get_by_role("button", name="Search in messages").click()

    expect(hits).to_have_count(1)
    hits.first.click()

    maya.is_in("Question 0")
    expect(maya.page.locator(".db-found")).to_contain_text("zucchinis")


def test_words_are_found_in_the_open_chat(maya, garden):
    page, bar = maya.page, maya.page.get_by_role("search")
    maya.visit(f"/?c={garden}")
    maya.hears("Answer 29")
    expect(maya.composer).to_be_focused()

    page.keyboard.press("Control+f")
    page.keyboard.type("answer 1")
    expect(bar).to_contain_text("Message 11 of 11, 11 matches")
    expect(page.locator(".db-found")).to_contain_text("Answer 19")
    page.keyboard.press("Shift+Enter")
    expect(bar).to_contain_text("Message 1 of 11")
    expect(page.locator(".db-found")).to_contain_text("Answer 1 ")
    expect(bar.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Enter")
    expect(bar).to_contain_text("Message 11 of 11")

    page.keyboard.type("x")
    expect(bar).to_contain_text("Nothing found.")
    page.keyboard.press("Escape")
    expect(bar).to_have_count(0)
    expect(maya.composer).to_be_focused()


def test_words_are_found_in_a_temporary_chat(maya):
    maya.turns_to_a_temporary_chat()
    maya.asks("I say kestrel")
    maya.hears_all_of("You said: I say kestrel")

    maya.page.keyboard.press("Control+f")
    maya.page.keyboard.type("kestrel")

    expect(maya.page.get_by_role("search")).to_contain_text("Message 2 of 2, 2 matches")
    maya.page.keyboard.press("Escape")
    maya.searches("kestrel")
    expect(maya.found).to_contain_text("Nothing found.")
