"""One user: prompts, stopped replies, search and deletion, and the data on the next day."""

import json
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.journeys.people import FOR_EVER, PHONE
from tests.stack.apps import until


def test_a_day(person, model):
    maya = person()
    maya.signs_up()

    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    maya.is_in("When do I sow peas?")

    maya.asks("Tell me more [[tokens=40 held=5]]")
    maya.hears("word5")
    maya.page.reload()
    maya.hears("word5")
    model.go_on()
    maya.hears_all_of(re.compile(r"word1 .*word20 .*word40"))

    maya.asks(f"And more {FOR_EVER}")
    maya.hears("word2")
    maya.stops()
    maya.sees("You stopped this reply.")
    model.wait_until(lambda server: server.requests[-1].end == "left")

    maya.begins_a_new_chat()
    maya.asks("What is a hotbed?")
    maya.hears_all_of("You said: What is a hotbed?")
    maya.renames("When do I sow peas?", "Garden")
    maya.opens("Garden")
    said = maya.texts()
    assert len(said) == 6

    maya.signs_out()
    maya.signs_in()
    expect(maya.rows).to_have_text(["What is a hotbed?", "Garden"])
    maya.opens("Garden")
    expect(maya.messages).to_have_count(6)
    assert maya.texts() == said


def test_a_day_on_a_phone(person):
    tokyo = "Asia/Tokyo"
    touched = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    maya = person(**touched, locale="de-DE", timezone_id=tokyo)
    maya.signs_up()
    # on touch screens, each focus would open the keyboard
    expect(maya.composer).not_to_be_focused()
    expect(maya.composer).to_have_css("font-size", "16px")

    since = datetime.now(ZoneInfo(tokyo))
    maya.composer.tap()
    maya.page.keyboard.type("Peas")
    maya.page.keyboard.press("Enter")
    maya.page.keyboard.type("Beans")
    expect(maya.composer).to_have_value("Peas\nBeans")
    maya.page.get_by_test_id("stChatInputSubmitButton").tap()
    maya.hears_all_of(re.compile("You said: Peas\\s+Beans"))
    expect(maya.composer).not_to_be_focused()
    times = [since, datetime.now(since.tzinfo)]  # a minute may have ended meanwhile
    facts = maya.facts.last.text_content().split(" · ")  # a tap shows the whole line
    assert facts[-2] == "0,00\xa0$"
    assert facts[-1] in [f"{time:%H:%M}" for time in times]

    maya.composer.fill("Seco")  # text that is being typed stays
    maya.picks("scripted-large")
    expect(maya.composer).to_have_value("Seco")
    maya.asks(f"And beans? {FOR_EVER}")
    maya.hears("word2")
    tools = maya.page.locator(".st-key-composer-tools button:visible")
    expect(tools).to_have_count(4)  # policy, meter, model, Stop
    boxes = [tool.bounding_box() for tool in tools.all()]
    assert len({round(box["y"]) for box in boxes}) == 1
    assert all(box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    assert all(box["width"] >= 32 for box in boxes)
    maya.page.reload()
    maya.stops()
    maya.sees("You stopped this reply.")
    maya.page.get_by_role("button", name="Details").last.tap()
    expect(maya.page.get_by_role("button", name="Edit reply").last).to_be_visible()

    maya.page.get_by_test_id("stHeader").get_by_role("button", name="New chat").tap()
    expect(maya.messages).to_have_count(0)
    maya.asks("What is a hotbed?")
    maya.hears_all_of("You said: What is a hotbed?")
    maya.unfolds_the_sidebar()
    maya.page.reload()
    maya.is_welcome()
    expect(maya.sidebar).not_to_be_in_viewport()
    maya.unfolds_the_sidebar()
    maya.rows.last.tap()
    expect(maya.sidebar).not_to_be_in_viewport()
    maya.hears("word2")
    assert maya.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    for name, key in (("Memory", None), ("Usage", "Enter")):
        maya.unfolds_the_sidebar()
        maya.page.locator(".st-key-account-menu button").first.tap()
        link = maya.page.get_by_role("menuitem", name=name)
        link.press(key) if key else link.tap()
        expect(maya.page.get_by_role("heading", name=name, level=1)).to_be_visible()
        maya.sees_no_reply_coming()
        expect(maya.sidebar).not_to_be_in_viewport()

    maya.page.get_by_test_id("stHeader").get_by_role("button", name="New chat").tap()
    maya.is_welcome()
    maya.unfolds_the_sidebar()
    maya.signs_out()


def test_back_and_forward(maya):
    for name in ("One", "Two", "Three"):
        maya.asks(name)
        maya.hears_all_of(f"You said: {name}")
        maya.begins_a_new_chat()
    maya.opens("One")
    maya.opens("Three")

    maya.page.go_back()
    maya.is_in("One")
    maya.hears("You said: One")
    maya.page.go_forward()
    maya.is_in("Three")
    maya.page.reload()
    maya.is_in("Three")
    assert maya.texts() == ["Three", "You said: Three"]


@pytest.mark.long_run
def test_conversation_is_exported_in_one_click(maya):
    maya.asks("Peas/beans?")
    maya.hears_all_of("You said: Peas/beans?")
    maya.renames("Peas/beans?", "../Garden: <b>peas</b>")

    name, text = maya.exports("Markdown")
    assert name == "Garden b peas b.md"
    assert re.findall(r"^## (\w+),|^(You said.*|Peas.*)$", text, re.MULTILINE) == [
        ("You", ""),
        ("", "Peas/beans?"),
        ("Assistant", ""),
        ("", "You said: Peas/beans?"),
    ]
    name, text = maya.exports("JSON")
    assert name == "Garden b peas b.json"
    assert [message["body"] for message in json.loads(text)["messages"]] == maya.texts()


def test_reply_is_copied_as_it_was_written(maya, model):
    written = 'Use `Array<string[]>`, <!-- not --> **any**: "é" 🌱'
    maya.context.grant_permissions(["clipboard-read", "clipboard-write"])
    model.script(reply=written)
    maya.asks("Which type?")
    maya.hears_all_of("any")
    copy = maya.page.get_by_role("button", name="Copy reply")

    copy.press("Enter")

    expect(maya.page.get_by_role("button", name="Copied")).to_be_visible()
    assert maya.page.evaluate("navigator.clipboard.readText()") == written
    assert re.fullmatch(r"scripted · .* tokens · \$.*", maya.facts.inner_text())
    expect(copy).to_be_visible()
    maya.page.evaluate("() => { Clipboard.prototype.writeText = () => Promise.reject() }")
    copy.click()
    expect(maya.page.get_by_role("button", name="Copy failed")).to_be_visible()


def test_draft_stays_until_it_is_sent(maya):
    maya.composer.fill("An unsent beginning")
    until(lambda: "An unsent" in maya.stored())
    maya.page.reload()
    expect(maya.composer).to_have_value("An unsent beginning")
    maya.sends()
    maya.hears_all_of("You said: An unsent beginning")
    expect(maya.composer).to_have_value("")
    until(lambda: "An unsent" not in maya.stored())
    maya.composer.fill("An unsent beginning")  # the same text again, unsent
    until(lambda: "An unsent" in maya.stored())
    maya.page.reload()
    expect(maya.composer).to_have_value("An unsent beginning")
    maya.sees_no_reply_coming()
    maya.composer.fill("Second thoughts")
    maya.begins_a_new_chat()
    expect(maya.composer).to_have_value("")
    maya.opens("An unsent beginning")
    expect(maya.composer).to_have_value("Second thoughts")

    other = maya.new_tab()
    other.visit(f"/?c={maya.conversation_id}")
    other.hears_all_of("You said: An unsent beginning")
    words = "A long sentence typed quickly, of which no letter may be lost on the way. " * 3
    other.composer.press_sequentially(words, delay=1)
    expect(other.composer).to_have_value(words)
    expect(maya.composer).to_have_value("Second thoughts")  # each tab has its own draft
    other.sends()
    other.hears_all_of("You said: A long sentence")
    expect(other.composer).to_have_value("")
    maya.hears_all_of("You said: A long sentence")  # without an action of the user
    expect(maya.composer).to_have_value("Second thoughts")
    maya.composer.fill("Not for the next at this desk")
    maya.signs_out()
    assert "next at this desk" not in maya.stored()


@pytest.mark.long_run
def test_a_title_comes_by_itself_and_disturbs_nobody(maya, model):
    model.script_titles(reply="Peas in wet soil", held=1)

    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    maya.is_in("When do I sow peas?")
    maya.composer.press_sequentially("And when ")
    model.go_on()
    maya.is_in("Peas in wet soil")
    maya.page.keyboard.type("beans?")

    expect(maya.composer).to_have_value("And when beans?")
    maya.sends()
    maya.hears_all_of("You said: And when beans?")
    maya.is_in("Peas in wet soil")
