"""The composer: ready wherever a page begins, by keyboard and under a finger."""

import re

from playwright.sync_api import expect

from tests.journeys.people import PHONE
from tests.stack.apps import running


def test_the_composer_is_ready_wherever_a_page_begins(person):
    maya = person()
    maya.arrives()
    press = maya.page.keyboard.press
    expect(maya.composer).to_be_focused()

    maya.page.keyboard.type("Peas")
    press("Control+Enter")
    maya.hears_all_of("You said: Peas")
    maya.page.locator(".st-key-new-chat button").click()
    expect(maya.messages).to_have_count(0)
    expect(maya.composer).to_be_focused()

    maya.page.locator("#stMain").click(position={"x": 20, "y": 200})
    expect(maya.composer).not_to_be_focused()
    maya.page.keyboard.type("Roses?")
    expect(maya.composer).to_have_value("Roses?")
    maya.composer.fill("")

    maya.jumps_to_the_filter()
    maya.page.keyboard.type("pea")
    press("Enter")
    maya.is_in("Peas")
    expect(maya.filter).to_have_value("")
    expect(maya.composer).to_be_focused()

    beside = maya.new_tab()
    beside.visit(f"/?c={maya.conversation_id}")
    beside.hears_all_of("You said: Peas")
    beside.asks("Beans")
    beside.hears_all_of("You said: Beans")
    expect(maya.messages).to_have_count(2)
    maya.comes_back()
    maya.hears_all_of("You said: Beans")


def test_under_a_finger_nothing_takes_the_focus_and_enter_begins_a_line(person):
    maya = person(viewport=PHONE, has_touch=True, is_mobile=True)
    maya.arrives()
    new_chat = maya.page.get_by_test_id("stHeader").get_by_role("button", name="New chat")
    expect(new_chat).to_be_visible()
    expect(maya.composer).not_to_be_focused()
    expect(maya.composer).to_have_css("font-size", "16px")

    maya.composer.tap()
    maya.page.keyboard.type("Peas")
    maya.page.keyboard.press("Enter")
    maya.page.keyboard.type("Beans")
    expect(maya.composer).to_have_value("Peas\nBeans")
    maya.page.get_by_test_id("stChatInputSubmitButton").tap()
    maya.hears_all_of(re.compile("You said: Peas\\s+Beans"))
    expect(maya.composer).not_to_be_focused()

    title = maya.page.locator(".st-key-chat-head h1").bounding_box()
    unfold = maya.page.get_by_test_id("stExpandSidebarButton").bounding_box()
    assert abs(title["y"] + title["height"] / 2 - unfold["y"] - unfold["height"] / 2) < 8
    new_chat.tap()
    expect(maya.messages).to_have_count(0)


def test_a_server_that_is_gone_is_said_by_our_line_alone(person, make_app):
    with running(make_app("gone")) as app:
        app.until_ready()
        maya = person(url=app.url)
        maya.arrives()
        maya.composer.press_sequentially("Half a thou")
        app.kill()
        maya.sees("Reconnecting… Your text is kept.")
        maya.page.wait_for_timeout(15000)
        expect(maya.dialog).to_have_count(0)
