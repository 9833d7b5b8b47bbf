"""A message that the budget refuses is answered by a cheaper model, or after an operator raises the limit."""

import re

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import STORES
from tests.journeys.people import DESK, PHONE, Person
from tests.journeys.seeds import operate
from tests.stack.apps import running, until


def _bottom(place):
    box = place.bounding_box()
    return box["y"] + box["height"]


@pytest.mark.parametrize("store", STORES)
def test_refused_message_goes_on_with_a_cheaper_model(make_app, browser, store):
    priced = {"DAYBOOK_MODEL": "gpt-4.1", "DAYBOOK_MODELS": "gpt-4.1-nano"}
    with running(make_app("budget", store, environment=priced)) as app:
        app.until_ready()
        maya = Person(browser, app.url, "maya")
        maya.arrives()
        operate(app, "limits", maya.email, "--daily", "0.0004")

        maya.picks("gpt-4.1-nano")
        maya.picks("gpt-4.1")
        maya.page.set_viewport_size(PHONE)
        maya.asks_in_vain("and a pear, " * 60 + "how?")
        last = maya.page.get_by_role("link", name="Raise the limit")
        above = maya.page.get_by_test_id("stBottom")
        until(lambda: _bottom(last) <= above.bounding_box()["y"])  # also on a fresh page
        maya.page.set_viewport_size(DESK)
        maya.asks_in_vain("How do I prune a pear?")
        maya.sees("Daily limit reached: $0.0004 left, a short reply may need up to $0.0024.")
        maya.sends()  # the typed text also stays at the second refusal
        expect(maya.composer).to_have_value("How do I prune a pear?")
        link = maya.page.get_by_role("link", name="Raise the limit")
        expect(link).to_have_attribute("href", re.compile(r"\badmin\?tab=Users$"))
        maya.page.get_by_role("button", name="Use gpt-4.1-nano").click()
        expect(maya.picker).to_contain_text("gpt-4.1-nano")
        expect(maya.composer).to_have_value("How do I prune a pear?")
        maya.sends()
        maya.hears_all_of("You said: How do I prune a pear?")

        maya.asks("And all the others? [[tokens=2000 rate=2000]]")
        maya.sees("Daily limit nearly reached")
        maya.asks_in_vain("And a cherry?")
        refusal = maya.page.get_by_text("Daily limit reached")
        expect(refusal).to_be_in_viewport()
        expect(maya.page.get_by_role("link", name="Raise the limit")).to_be_in_viewport()
        maya.page.mouse.wheel(0, -600)
        expect(refusal).not_to_be_in_viewport()
        # no frame is drawn between the first refusal and the second, which has the same words
        maya.page.evaluate("""() => addEventListener("keydown", () => setTimeout(() => {
          const end = Date.now() + 2000;
          while (Date.now() < end);
        }), { once: true })""")
        maya.sends()
        expect(refusal).to_be_in_viewport()
        operate(app, "limits", maya.email, "--daily", "1")
        maya.begins_a_new_chat()
        maya.asks("And a plum?")
        maya.hears_all_of("You said: And a plum?")
        maya.leaves()
        assert maya.complaints() == []
