"""Facts about oneself at a browser: offered, noted, undone, written, changed, deleted and brought back."""

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PHONE

OFFER = "Let Daybook remember things about you between chats?"


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


def noted(maya):
    return maya.page.locator(".st-key-noted [role=status]:visible")


def rows(maya):
    """The facts that are listed, the newest first."""
    texts = maya.page.locator('.st-key-facts [class*="st-key-fact-"] .stMarkdown:not(button *)')
    return texts.filter(has_not=maya.page.get_by_test_id("stCaptionContainer"))


def asks(maya, prompt, reply):
    maya.asks(prompt)
    maya.hears_all_of(reply)


def agrees(maya):
    """Talk until it is offered to keep facts, and say yes."""
    asks(maya, "Hello", "You said: Hello")
    expect(maya.page.get_by_text(OFFER)).to_have_count(0)
    asks(maya, "Again", "You said: Again")
    maya.sees(OFFER)
    maya.page.get_by_role("button", name="Turn on").click()
    expect(maya.page.get_by_text(OFFER)).to_have_count(0)


def opens_memory(maya):
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("link", name="Memory").click()
    maya.sees("Remember things about me")


def adds(maya, text):
    maya.page.get_by_label("Add a memory").fill(text)
    maya.page.keyboard.press("Enter")
    expect(rows(maya).first).to_have_text(text)


def told(model):
    """Return the first message of the last request for a reply."""
    return model.requests[-1].body["messages"][0]["content"]


def test_a_fact_is_offered_noted_known_elsewhere_and_undone(maya, model):
    agrees(maya)
    asks(maya, "I live in Bern [[facts=Lives_in_Bern.]]", "You said: I live in Bern")
    expect(noted(maya)).to_have_text("Memory updated: Lives in Bern. Used in all chats")

    maya.asks("Now in Zurich [[facts=1:Lives_in_Zurich. tokens=120 rate=20]]")
    maya.hears("word3")
    expect(noted(maya)).to_have_count(0)
    expect(maya.stop_button).to_be_visible()  # it went while the reply comes, not after
    maya.hears_all_of("word120")
    expect(noted(maya)).to_have_text(
        "Memory updated: Lives in Zurich. Lives in Bern. Used in all chats"
    )

    maya.begins_a_new_chat()
    asks(maya, "Where am I?", "You said: Where am I?")
    assert "Lives in Zurich." in told(model)
    assert "Lives in Bern." not in told(model)
    maya.page.go_back()
    maya.page.go_back()
    expect(noted(maya)).to_have_text(
        "Memory updated: Lives in Zurich. Lives in Bern. Used in all chats"
    )
    maya.page.get_by_role("button", name="Undo").click()
    expect(noted(maya)).to_have_count(0)

    opens_memory(maya)
    expect(rows(maya)).to_have_text(["Lives in Bern."])
    maya.page.reload()
    expect(rows(maya)).to_have_text(["Lives in Bern."])


def test_facts_are_written_changed_deleted_and_brought_back(maya, model):
    opens_memory(maya)
    maya.sees("No memories yet")
    adds(maya, "I take my coffee black")
    adds(maya, "I have a dog")

    maya.page.get_by_role("button", name="Edit: I have a dog").click()
    field = maya.page.get_by_label("Memory", exact=True)
    expect(field).to_be_focused()
    maya.page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    maya.page.get_by_role("button", name="Edit: I have a dog").click()
    expect(field).to_be_focused()
    maya.page.keyboard.type("I have two dogs")
    maya.page.keyboard.press("Enter")
    expect(rows(maya)).to_have_text(["I have two dogs", "I take my coffee black"])

    maya.page.get_by_role("button", name="Delete: I have two dogs").click()
    expect(rows(maya)).to_have_text(["I take my coffee black"])
    maya.sees("Deleted “I have two dogs”")
    maya.undoes()
    expect(rows(maya)).to_have_text(["I have two dogs", "I take my coffee black"])

    maya.page.get_by_role("button", name="Delete all memories").click()
    expect(maya.dialog).to_contain_text("Delete 2 memories?")
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)
    expect(rows(maya)).to_have_count(2)
    maya.page.get_by_role("button", name="Delete all memories").click()
    maya.dialog.get_by_role("button", name="Delete all").click()
    expect(maya.dialog).to_have_count(0)
    maya.sees("No memories yet")
    maya.page.reload()
    maya.sees("No memories yet")


def test_a_conversation_has_facts_that_hold_nowhere_else(maya, model):
    asks(maya, "Where is my order?", "You said: Where is my order?")
    maya.opens_the_facts()
    maya.notes_in_the_dialog("It is order 7781")
    expect(maya.dialog.get_by_label("Add a note")).to_have_value("")
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)
    expect(maya.facts_sign).to_be_visible()

    asks(maya, "And now?", "You said: And now?")
    assert "It is order 7781" in told(model)
    maya.begins_a_new_chat()
    asks(maya, "Hello", "You said: Hello")
    assert "7781" not in told(model)
    expect(maya.facts_sign).to_have_count(0)

    opens_memory(maya)
    expect(rows(maya)).to_have_text(["It is order 7781"])
    maya.page.locator(".st-key-facts").get_by_role("link", name="Where is my order?").click()
    maya.is_in("Where is my order?")
    maya.facts_sign.click()
    maya.dialog.get_by_role("button", name="Edit: It is order 7781").press("Enter")
    expect(maya.dialog.get_by_label("Note", exact=True)).to_be_focused()
    maya.page.keyboard.type("It is order 7782")
    maya.page.keyboard.press("Enter")
    expect(maya.dialog.get_by_text("It is order 7782", exact=True)).to_be_visible()
    maya.dialog.get_by_role("button", name="Delete: It is order 7782").press("Enter")
    expect(maya.dialog.get_by_text("Deleted “It is order 7782”")).to_be_visible()
    expect(maya.dialog.get_by_text("It is order 7782", exact=True)).to_have_count(0)
    maya.dialog.get_by_role("button", name="Undo").press("Enter")
    expect(maya.dialog.get_by_text("It is order 7782", exact=True)).to_be_visible()


def test_facts_at_a_phone_fit_and_can_be_touched(person):
    maya = person(viewport=PHONE, has_touch=True)
    maya.arrives()
    maya.visit("/memory")
    adds(maya, "I live on the third floor of a house without a lift, which matters for deliveries")

    assert maya.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for name in ("Edit: I live", "Delete: I live"):
        box = maya.page.get_by_role("button", name=name).bounding_box()
        assert box["width"] >= 40 <= box["height"]
        assert box["x"] + box["width"] <= PHONE["width"]
