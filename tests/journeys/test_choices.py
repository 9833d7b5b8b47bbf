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
    """Which model was asked last, and what it was told first."""
    body = model.requests[-1].body
    return body["model"], body["messages"][0]["content"]


def test_another_model_answers_in_the_middle_of_a_conversation(maya, model):
    maya.asks("First")
    maya.hears_all_of("You said: First")
    expect(maya.facts).to_contain_text(["scripted · "])

    maya.composer.fill("Seco")  # what is being typed stays
    maya.picks("scripted-large")
    expect(maya.composer).to_have_value("Seco")
    maya.asks("Second")
    maya.hears_all_of("You said: Second")

    expect(maya.facts).to_contain_text(["scripted · ", "scripted-large · "])
    assert asked(model)[0] == "scripted-large"
    maya.page.reload()
    expect(maya.picker).to_contain_text("scripted-large")


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


def test_what_another_tab_prefers_meanwhile_is_kept_or_shown_before_it_is_replaced(maya, model):
    other = maya.new_tab()
    other.visit()
    maya.opens_preferences()
    other.prefers("scripted-large", "Be brief.")

    text = maya.dialog.get_by_role("textbox")
    text.fill("Be kind.")
    maya.dialog.get_by_role("button", name="Save").click()
    expect(maya.dialog).to_contain_text("changed in another tab")
    expect(maya.dialog).to_contain_text("Be brief.")
    expect(text).to_have_value("Be kind.")
    maya.dialog.get_by_role("button", name="Save").click()
    expect(maya.dialog).to_have_count(0)

    maya.asks("First")
    maya.hears_all_of("You said: First")
    assert asked(model) == ("scripted-large", "Be kind.")


def test_the_tools_stay_in_one_row_on_a_phone(person, model):
    maya = person(viewport=PHONE, has_touch=True)
    maya.arrives()
    maya.picks("scripted-large")
    maya.asks("Slowly [[tokens=400 rate=20]]")
    maya.hears("word3")

    tools = maya.page.locator(".st-key-composer-tools button:visible")
    expect(tools).to_have_count(4)  # policy, meter, model, Stop
    boxes = [tool.bounding_box() for tool in tools.all()]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert all(box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    assert all(box["width"] >= 32 for box in boxes)
    maya.stops()
