"""Memory of a conversation: summary, recalled messages, and their display."""

import re

import pytest
from playwright.sync_api import expect

from services.domain import Retrieval, Summary
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process

LONG = (
    "peas and beans and leeks and all that grows beside them in a wet spring " * 20
)  # some 400 tokens
KUMQUAT = "My kumquat tree is called Zebedee."
PEAS, BEANS = "We sow peas in March. " * 100, "We sow beans in May. " * 100
SUMMARY = "They_sow_peas_in_March."


def open_long(app, maya, policy, count, reply="A fine name."):
    """Open a conversation with *count* long turns after one about the kumquat."""
    let_talk_fast(app)
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        pairs = [(f"prompt {n}", f"reply {n}: {LONG}") for n in range(1, count)]
        conversation = converse(session, [(KUMQUAT, reply), *pairs], policy)
    maya.visit(f"/?c={conversation}")
    maya.hears(f"reply {count - 1}")
    maya.sees_no_reply_coming()


@pytest.mark.long_run
def test_old_messages_are_summarised_and_the_summary_edited(app, maya, model):
    open_long(app, maya, Summary(), 16)
    expect(maya.banner).to_have_count(0)
    for n in range(12):
        maya.asks(f"next {n} {LONG} [[tokens=3 summary={SUMMARY}]]")
        expect(maya.page.get_by_text(f"next {n} ").first).to_be_attached()
        maya.sees_no_reply_coming()
        if maya.banner.count():
            break
    expect(maya.banner).to_contain_text("are sent as a summary")
    expect(maya.page.get_by_text("There is no summary yet.")).to_have_count(0)

    view = maya.banner.get_by_role("button", name="View summary")
    view.press("Enter")
    expect(maya.dialog).to_be_visible()
    maya.page.keyboard.press("Escape")  # no chat of test_escape.py has a summary
    expect(maya.dialog).to_have_count(0)
    expect(view).to_be_focused()
    view.click()
    field = maya.dialog.get_by_role("textbox")
    expect(field).to_have_value(re.compile("They sow peas in March."))
    field.fill("They grow kumquats.")
    maya.dialog.get_by_role("button", name="Save").click()
    expect(maya.dialog).to_have_count(0)
    maya.asks("And now? [[tokens=3]]")
    maya.sees_no_reply_coming()
    expect(maya.page.get_by_text("And now?").first).to_be_attached()
    model.wait_until(lambda server: server.requests[-1].prompt.startswith("And now?"))
    system = model.requests[-1].body["messages"][0]["content"]
    assert "They grow kumquats." in system
    assert "They sow peas" not in system


@pytest.mark.long_run
def test_recalled_messages_are_sent_and_shown(app, maya, model):
    open_long(app, maya, Retrieval(), 40, reply=f"{PEAS}Zebedee likes rain. {BEANS}")

    maya.asks("What is my kumquat tree Zebedee called? [[tokens=4]]")
    maya.hears_all_of("word4")

    sent = model.requests[-1].prompt
    assert KUMQUAT in sent
    assert "assistant, extract of message 2> Zebedee likes rain. We sow beans" in sent
    maya.page.get_by_role("button", name="Context used for this reply").last.click()
    expect(maya.dialog).to_contain_text("related older messages")
    maya.dialog.locator("summary").filter(has_text="related older messages").click()
    expect(maya.dialog).to_contain_text(f"You: {KUMQUAT}")
    expect(maya.dialog).to_contain_text("kumquat")
    extract = maya.dialog.get_by_role("row", name="Assistant: Zebedee likes rain.")
    expect(extract).to_contain_text("extract, matched")
    aside, whole = extract.get_by_role("cell").last, extract.locator("+ tr")
    width = aside.bounding_box()["width"]
    whole.get_by_text("Show message").click()
    expect(whole.locator("mark")).to_have_text(re.compile("^Zebedee likes rain. We sow beans"))
    expect(whole).to_contain_text(PEAS.strip())
    assert aside.bounding_box()["width"] > width / 2
    maya.page.keyboard.press("Escape")
    expect(maya.dialog).to_have_count(0)

    maya.page.locator(".st-key-context-meter button").first.click()
    maya.page.get_by_role("button", name="View full context").click()
    expect(maya.dialog).to_contain_text("recent messages")
    maya.page.keyboard.press("Escape")
