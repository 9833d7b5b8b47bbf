"""The list of conversations in the sidebar."""

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import hold, let_talk_fast, second_process
from tests.stack.apps import until


def ask_each(maya, *names):
    for name in names:
        maya.begins_a_new_chat()
        maya.asks(name)
        maya.hears_all_of(f"You said: {name}")


# the distance between the Undo bar and the composer
BETWEEN = """() => {
  const box = (selector) => document.querySelector(selector).getBoundingClientRect();
  return box('[data-testid="stBottom"]').top - box('.st-key-undo').bottom;
}"""


@pytest.mark.long_run
def test_chats_are_pinned_archived_deleted_and_restored(maya):
    ask_each(maya, "Peas", "Beans", "Roses")
    expect(maya.rows).to_have_text(["Roses", "Beans", "Peas"])

    maya.chooses("Peas", "Pin")
    expect(maya.rows).to_have_text(["Peas", "Roses", "Beans"])
    maya.chooses("Beans", "Archive")
    expect(maya.rows).to_have_text(["Peas", "Roses"])

    maya.page.reload()
    expect(maya.rows).to_have_text(["Peas", "Roses"])
    maya.turns_to_the_archive()
    # the open conversation, and the archived one
    expect(maya.rows).to_have_text(["Roses", "Beans"])
    maya.opens("Beans")
    expect(maya.rows).to_have_text(["Beans"])
    maya.chooses("Beans", "Unarchive")
    maya.sees("Unarchived “Beans”")
    maya.turns_back_to_all()
    expect(maya.rows).to_have_text(["Peas", "Roses", "Beans"])

    maya.deletes("Beans")
    expect(maya.messages).to_have_count(0)
    maya.undoes()
    maya.is_in("Beans")
    maya.hears("You said: Beans")
    expect(maya.rows).to_have_text(["Peas", "Roses", "Beans"])


def test_chat_is_renamed_in_place_deleted_and_restored(maya):
    ask_each(maya, "Peas", "Beans")
    maya.chooses("Peas", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Roses")

    maya.page.keyboard.press("Escape")
    expect(maya.title_field).to_have_count(0)
    expect(maya.rows).to_have_text(["Beans", "Peas"])
    expect(maya.page.get_by_role("button", name="More: Peas")).to_be_focused()

    maya.chooses("Peas", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Roses")
    maya.page.get_by_role("button", name="Cancel").click()
    expect(maya.title_field).to_have_count(0)
    maya.sees_no_reply_coming()
    expect(maya.rows).to_have_text(["Beans", "Peas"])

    maya.chooses("Peas", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.press("Enter")  # without a change
    expect(maya.title_field).to_have_count(0)

    maya.renames("Peas", "Snow peas")
    expect(maya.page.get_by_role("button", name="More: Snow peas")).to_be_focused()
    maya.chooses("Snow peas", "Rename")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Sweet peas")
    maya.page.get_by_role("button", name="Save").click()
    expect(maya.title_field).to_have_count(0)
    expect(maya.rows).to_have_text(["Beans", "Sweet peas"])
    maya.page.locator(".st-key-conversation-menu button").click()
    maya.page.get_by_role("menuitem", name="Rename").click()
    expect(maya.title_field).to_have_value("Beans")
    expect(maya.title_field).to_be_focused()
    maya.page.keyboard.type("Broad beans")
    maya.composer.click()  # leaving the field saves the title
    maya.is_in("Broad beans")

    maya.deletes("Broad beans")
    line = maya.page.locator('.st-key-undo [class*="st-key-undo-"]').first
    expect(line).to_have_css("animation-delay", "20s")  # as long as Undo is possible
    maya.composer.fill("Leeks\n" * 9)
    until(lambda: maya.page.evaluate(BETWEEN) == 8)  # px: the bar does not cover the typed text
    maya.composer.fill("")
    maya.undoes()
    maya.is_in("Broad beans")


@pytest.mark.long_run
def test_reply_that_came_elsewhere_is_marked_unread(maya, model):
    ask_each(maya, "Peas")
    maya.asks("Tell me more [[tokens=80 held=2]]")
    maya.hears("word2")
    maya.begins_a_new_chat()
    expect(maya.unread).to_have_count(0)
    model.go_on()

    expect(maya.unread).to_have_count(1)  # without an action of the user
    elsewhere = maya.new_tab()
    elsewhere.visit()
    expect(elsewhere.unread).to_have_count(1)

    elsewhere.unread.click()
    elsewhere.hears("word20")
    expect(elsewhere.unread).to_have_count(0)
    maya.page.reload()
    maya.is_welcome()
    expect(maya.unread).to_have_count(0)


@pytest.mark.long_run
def test_titles_are_filtered_as_one_types(app, maya):
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        let_talk_fast(app)
        hold(session, [f"Letter {n}" for n in range(70)])
    maya.page.reload()
    expect(maya.rows).to_have_count(30)
    maya.page.get_by_role("button", name="Show more").click()
    expect(maya.rows).to_have_count(60)
    maya.jumps_to_the_filter()
    maya.page.keyboard.type("letter 9")
    expect(maya.rows).to_have_text([f"Letter {n}" for n in range(69, 0, -10)])

    maya.page.keyboard.type("x")
    maya.sees("No titles match.")
    maya.page.keyboard.press("Escape")
    expect(maya.rows).to_have_count(30)
    expect(maya.filter).to_have_value("")
    expect(maya.filter).to_be_focused()

    maya.page.keyboard.type("letter 12")
    maya.opens("Letter 12")
    expect(maya.rows).to_have_count(31)
    expect(maya.filter).to_have_value("")
