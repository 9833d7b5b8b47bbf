"""Facts about a user: offered, noted, sent in other conversations and undone."""

from playwright.sync_api import expect

OFFER = "Let Daybook remember things about you between chats?"


def noted(maya):
    return maya.page.locator(".st-key-noted [role=status]:visible")


def rows(maya):
    """Return the facts in the list, the newest first."""
    texts = maya.page.locator('.st-key-facts [class*="st-key-fact-"] .stMarkdown:not(button *)')
    return texts.filter(has_not=maya.page.get_by_test_id("stCaptionContainer"))


def asks(maya, prompt, reply):
    maya.asks(prompt)
    maya.hears_all_of(reply)


def agrees(maya):
    """Chat until noting facts is offered, and accept."""
    asks(maya, "Hello", "You said: Hello")
    expect(maya.page.get_by_text(OFFER)).to_have_count(0)
    asks(maya, "Again", "You said: Again")
    maya.sees(OFFER)
    maya.page.get_by_role("button", name="Turn on").click()
    expect(maya.page.get_by_text(OFFER)).to_have_count(0)


def opens_memory(maya):
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Memory").click()
    maya.sees("Remember things about me")


def leaves_and_returns(maya):
    """Let facts be noted by going to another chat and back."""
    maya.begins_a_new_chat()
    maya.page.go_back()


def told(model):
    """Return the first message of the last request for a reply."""
    return model.requests[-1].body["messages"][0]["content"]


def test_fact_is_noted_sent_elsewhere_and_undone(maya, model):
    agrees(maya)
    asks(maya, "I live in Bern [[facts=Lives_in_Bern.]]", "You said: I live in Bern")
    leaves_and_returns(maya)
    expect(noted(maya)).to_have_text("Memory updated: Lives in Bern. Used in all chats")

    maya.asks("Now in Zurich [[facts=1:Lives_in_Zurich. tokens=120 held=3]]")
    maya.hears("word3")
    expect(noted(maya)).to_have_count(0)
    # the offer was removed while the reply streams, not after it
    expect(maya.stop_button).to_be_visible()
    model.go_on()
    maya.hears_all_of("word120")
    leaves_and_returns(maya)
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

    maya.page.get_by_label("Add a memory").fill("Has a dog.")
    maya.page.get_by_role("button", name="Add", exact=True).click()
    expect(rows(maya)).to_have_text(["Has a dog.", "Lives in Bern."])
    maya.page.get_by_role("button", name="Edit: Lives in Bern.").click()
    field = maya.page.get_by_label("Memory", exact=True)
    expect(field).to_be_focused()
    above = maya.page.locator('[class*="st-key-fact-"]').first.bounding_box()
    assert field.bounding_box()["y"] - above["y"] - above["height"] >= 8
    maya.page.keyboard.type("Lives in Basel.")
    # as a screen reader does: no key, no pointer
    maya.page.get_by_role("button", name="Save").evaluate("button => button.click()")
    expect(rows(maya)).to_have_text(["Lives in Basel.", "Has a dog."])
