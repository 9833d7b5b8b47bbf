"""Spaces: their instructions and notes, the conversations in them, and that deleting a space loses no conversation."""

import pytest
from playwright.sync_api import expect


def told(model):
    """Return the first message of the last request."""
    return model.requests[-1].body["messages"][0]["content"]


@pytest.mark.long_run
def test_space_from_its_creation_to_its_deletion(maya, model):
    maya.asks("Peas")
    maya.hears_all_of("You said: Peas")

    maya.begins_a_new_chat()
    maya.makes_a_space("Latin", "Be a tutor of Latin.")
    expect(maya.page.get_by_role("heading", name="Latin")).to_be_visible()
    expect(maya.rows).to_have_count(0)
    maya.edits_the_space()
    expect(maya.dialog.get_by_label("Name")).to_be_focused()
    maya.notes_in_the_dialog("She reads Caesar.")
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)

    maya.asks("Salve")
    maya.hears_all_of("You said: Salve")
    assert told(model).startswith("Be a tutor of Latin.")
    assert "She reads Caesar." in told(model)
    expect(maya.rows).to_have_text(["Salve"])
    expect(maya.page.locator(".st-key-space-sign")).to_contain_text("Latin")
    maya.page.reload()
    maya.is_in("Salve")
    maya.is_in_space("Latin")
    # the menu of spaces is plain HTML, drawn before Streamlit has loaded its widgets
    expect(maya.page.locator(".st-key-new-chat button")).to_be_visible()
    maya.page.keyboard.press("Control+Shift+O")
    expect(maya.messages).to_have_count(0)
    maya.asks("Vale")
    maya.hears_all_of("You said: Vale")
    assert told(model).startswith("Be a tutor of Latin.")
    expect(maya.rows).to_have_text(["Vale", "Salve"])

    maya.chooses_space("All chats")
    maya.is_in("Vale")
    expect(maya.rows).to_have_text(["Vale Latin", "Salve Latin", "Peas"])
    maya.chooses("Peas", "Move to space")
    maya.moves_to("Latin")
    maya.sees("Moved “Peas” to “Latin”")
    maya.opens("Peas", "Latin")
    maya.asks("Beans")
    maya.hears_all_of("You said: Beans")
    assert told(model).startswith("Be a tutor of Latin.")
    maya.page.locator(".st-key-space-sign button").click()
    maya.is_in_space("Latin")
    expect(maya.rows).to_have_text(["Peas", "Vale", "Salve"])
    maya.chooses("Peas", "Move to space")
    maya.moves_to("No space")
    maya.sees("Removed “Peas” from its space")
    expect(maya.page.locator(".st-key-space-sign")).to_have_count(0)
    maya.asks("Leeks")
    maya.hears_all_of("You said: Leeks")
    assert "tutor of Latin" not in told(model)

    maya.edits_the_space()
    maya.dialog.get_by_label("Name").fill("Latin II")
    maya.dialog.get_by_role("button", name="Save", exact=True).click()
    expect(maya.dialog).to_have_count(0)
    maya.is_in_space("Latin II")
    maya.edits_the_space()
    maya.dialog.get_by_role("button", name="Delete space").click()
    expect(maya.dialog).to_contain_text("its chats are kept")
    maya.dialog.get_by_role("button", name="Delete space").click()
    maya.sees("Deleted “Latin II”. Its chats are kept.")
    expect(maya.dialog).to_have_count(0)
    expect(maya.page.locator(".st-key-space-chooser")).to_have_count(0)
    expect(maya.rows).to_have_text(["Peas", "Vale", "Salve"])
    maya.opens("Salve")
    maya.asks("Quid nunc?")
    maya.hears_all_of("You said: Quid nunc?")
    assert "tutor of Latin" not in told(model)
    assert "Caesar" not in told(model)
