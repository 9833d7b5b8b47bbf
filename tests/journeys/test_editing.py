"""Editing messages: prompts in place, by keyboard, and on a phone."""

import pytest
from playwright.sync_api import expect

from tests.journeys.people import DESK, PHONE
from tests.stack.apps import until


def test_messages_are_edited_regenerated_deleted_and_restored(person):
    maya = person()
    maya.arrives()
    page, field = maya.page, maya.page.locator(".st-key-edit-prompt textarea")
    for prompt in ("Shade?", "Sun?"):
        maya.asks(prompt)
        maya.hears_all_of(f"You said: {prompt}")
    edit = page.get_by_role("button", name="Edit message").first

    edit.focus()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    expect(field).to_be_in_viewport()
    page.keyboard.type(" No.")
    page.keyboard.press("Escape")
    expect(edit).to_be_focused()
    assert maya.texts()[0] == "Shade?"

    page.locator('[data-testid="stMain"]').evaluate("page => page.scrollTo(0, page.scrollHeight)")
    expect(edit).not_to_be_in_viewport()
    edit.evaluate("button => button.click()")  # as a screen reader does: no key, no pointer
    expect(field).to_be_in_viewport()
    expect(field).to_be_focused()  # a moment later
    page.keyboard.press("Escape")
    expect(edit).to_be_focused()

    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    field.fill("Half shade? [[tokens=30 rate=12]]")
    page.reload()  # which closes the field, and keeps its text
    maya.hears_all_of("You said: Sun?")
    edit.click()
    expect(field).to_have_value("Half shade? [[tokens=30 rate=12]]")
    expect(page.get_by_text("Ctrl+Enter to send", exact=True)).to_be_visible()
    page.keyboard.press("Control+Enter")
    maya.hears("word5")
    expect(maya.messages.filter(has_text="Sun?")).not_to_be_visible()
    maya.hears_all_of("word30")
    until(lambda: "Half shade?" not in maya.stored())
    head = page.locator(".st-key-chat-head").bounding_box()
    top = maya.messages.first.bounding_box()["y"]
    assert 0 <= top - head["y"] - head["height"] < 40

    page.get_by_role("button", name="Regenerate with…").click()
    page.get_by_role("menuitem", name="scripted-large").click()
    maya.hears_all_of("word30")
    expect(maya.facts.last).to_contain_text("scripted-large")
    expect(maya.picker).not_to_contain_text("scripted-large")

    page.get_by_role("button", name="Edit reply").click()
    written = page.locator(".st-key-edit-reply textarea")
    expect(written).to_be_focused()
    written.fill("Ferns, of course.")
    page.get_by_role("button", name="Save", exact=True).click()
    maya.hears_all_of("Ferns, of course.")
    until(lambda: "Ferns, of course." not in maya.stored())
    expect(maya.last_reply).to_contain_text("Edited")

    page.set_viewport_size(PHONE)
    versions = page.get_by_role("group", name="Versions of this message")
    versions.get_by_role("button", name="Previous version").click()
    maya.hears_all_of("You said: Sun?")
    assert maya.texts()[0] == "Shade?"

    page.set_viewport_size(DESK)
    other = maya.new_tab()
    other.visit(f"/?c={maya.conversation_id}")
    other.hears_all_of("Ferns, of course.")
    page.get_by_role("button", name="Delete this and everything after").last.click()
    maya.sees("2 messages will be deleted")
    maya.dialog.get_by_role("button", name="Delete 2 messages").click()
    expect(maya.dialog).to_have_count(0)
    maya.hears_all_of("You said: Shade?")
    maya.sees("Deleted 2 messages")

    other.comes_back()
    other.sees("Messages of this chat were just deleted.")
    other.undoes()
    expect(other.page.get_by_text("Messages of this chat were just deleted.")).to_have_count(0)
    maya.page.reload()
    maya.sees("Sun?")


@pytest.mark.long_run
def test_chosen_theme_waits_until_a_message_is_not_edited(person):
    maya = person(color_scheme="light")
    maya.arrives()
    page, field = maya.page, maya.page.locator(".st-key-edit-prompt textarea")
    maya.asks("Shade?")
    maya.hears_all_of("You said: Shade?")
    page.get_by_role("button", name="Edit message").press("Enter")
    field.fill("Half shade?")

    maya.opens_preferences()
    maya.dialog.get_by_text("Dark", exact=True).click()
    maya.dialog.get_by_role("button", name="Save").click()
    expect(page.locator("i[data-theme=dark]")).to_be_attached()
    maya.sees_no_reply_coming()

    expect(field).to_have_value("Half shade?")
    field.press("Escape")
    expect(page.locator(".stApp")).to_have_css("color-scheme", "dark")


def test_chosen_theme_waits_until_a_temporary_chat_is_over(person):
    maya = person(color_scheme="light")
    maya.arrives()
    maya.turns_to_a_temporary_chat()
    maya.asks("Shade?")
    maya.hears_all_of("You said: Shade?")
    page, root = maya.page, maya.page.locator("html")

    maya.opens_preferences()
    maya.dialog.get_by_text("Dark", exact=True).click()
    maya.dialog.get_by_role("button", name="Save").click()
    expect(page.locator("i[data-theme=dark]")).to_be_attached()
    maya.sees_no_reply_coming()
    expect(root).not_to_have_css("color-scheme", "dark")  # menus and dialogs match the page

    maya.begins_a_new_chat()
    maya.undoes()
    # the sign of a temporary chat, for which the browser asks, is drawn after the messages
    maya.hears_all_of("You said: Shade?")
    maya.reloads_what_is_not_kept()
    expect(root).to_have_css("color-scheme", "dark")
    expect(page.locator(".stApp")).to_have_css("color-scheme", "dark")


@pytest.mark.long_run
def test_edited_text_stays_until_it_is_sent(person):
    maya = person()
    maya.arrives()
    field = maya.page.locator(".st-key-edit-prompt textarea")
    for prompt in ("Sun?", "Shade?"):
        maya.begins_a_new_chat()
        maya.asks(prompt)
        maya.hears_all_of(f"You said: {prompt}")
    edit = maya.page.get_by_role("button", name="Edit message")
    edit.click()
    expect(
        field
    ).to_be_focused()  # the page has set the cursor, which else may come between selection and text
    field.fill("Half shade?")

    maya.opens("Sun?")
    maya.hears_all_of("You said: Sun?")
    maya.opens("Shade?")
    expect(field).to_have_value("Half shade?")
    maya.page.reload()
    edit.click()
    expect(field).to_have_value("Half shade?")
    maya.page.get_by_role("button", name="Send", exact=True).click()
    maya.hears_all_of("You said: Half shade?")
    assert "Half shade?" not in maya.page.evaluate("JSON.stringify(localStorage)")

    edit.click()
    field.fill("Moss?")
    field.press("Escape")
    expect(edit).to_be_focused()
    maya.sees_no_reply_coming()
    edit.click()
    expect(field).to_have_value("Half shade?")


@pytest.mark.long_run
def test_chosen_theme_is_shown_once_undo_is_over(person):
    maya = person(color_scheme="light")
    maya.arrives()
    maya.asks("Shade?")
    maya.hears_all_of("You said: Shade?")
    maya.deletes("Shade?")
    maya.opens_preferences()
    maya.dialog.get_by_text("Dark", exact=True).click()
    maya.dialog.get_by_role("button", name="Save").click()
    expect(maya.page.locator("i[data-theme=dark]")).to_be_attached()
    maya.sees_no_reply_coming()
    expect(maya.page.locator("html")).not_to_have_css("color-scheme", "dark")

    maya.page.evaluate("""() => {
      for (const one of document.getAnimations()) if (one.animationName === "db-leave") one.finish();
    }""")

    expect(maya.page.locator(".stApp")).to_have_css("color-scheme", "dark")
