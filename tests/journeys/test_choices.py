"""Another model and instructions of one's own: from a click to what the endpoint is asked."""

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PHONE


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


def asked(model):
    """Return the model and the first message of the last request."""
    body = model.requests[-1].body
    return body["model"], body["messages"][0]["content"]


def test_the_model_is_told_what_a_person_wrote_and_what_one_conversation_says_instead(maya, model):
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


def test_the_tools_stay_in_one_row_on_a_phone(person, model):
    maya = person(viewport=PHONE, has_touch=True)
    maya.arrives()
    maya.composer.fill("Seco")  # what is being typed stays
    maya.picks("scripted-large")
    expect(maya.composer).to_have_value("Seco")
    maya.asks("Slowly [[tokens=400 rate=20]]")
    maya.hears("word3")

    tools = maya.page.locator(".st-key-composer-tools button:visible")
    expect(tools).to_have_count(4)  # policy, meter, model, Stop
    boxes = [tool.bounding_box() for tool in tools.all()]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert all(box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    assert all(box["width"] >= 32 for box in boxes)
    maya.stops()
