"""Another model and the user's own instructions: from the click to the request at the endpoint."""

import pytest
from playwright.sync_api import expect


def asked(model):
    """Return the model and the first message of the last request."""
    body = model.requests[-1].body
    return body["model"], body["messages"][0]["content"]


@pytest.mark.long_run
def test_instructions_of_a_conversation_replace_the_users_own(maya, model):
    maya.prefers("scripted-large", "Be brief.")
    maya.asks("First")
    maya.hears_all_of("You said: First")
    assert asked(model) == ("scripted-large", "Be brief.")
    expect(maya.instructions_sign).to_have_count(0)

    maya.instructs("Answer in verse.")
    maya.asks("Second")
    maya.hears_all_of("You said: Second")
    assert asked(model) == ("scripted-large", "Answer in verse.")

    maya.page.reload()
    maya.instructions_sign.click()
    expect(maya.dialog.get_by_role("textbox")).to_have_value("Answer in verse.")
    maya.dialog.get_by_role("button", name="Reset to mine").click()
    expect(maya.instructions_sign).to_have_count(0)
    maya.asks("Third")
    maya.hears_all_of("You said: Third")
    assert asked(model) == ("scripted-large", "Be brief.")
