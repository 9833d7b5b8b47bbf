"""One person: what is asked, interrupted, looked for again and taken away, and is there tomorrow."""

import json
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.journeys.people import MESSAGE, PHONE
from tests.stack.apps import until

SLOWLY = "[[tokens=40 rate=12]]"  # three seconds and more
FOR_EVER = "[[tokens=400 rate=12]]"
WHOLE = re.compile(r"word1 .*word20 .*word40")


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


def test_a_day(person, model):
    maya = person()
    maya.signs_up()

    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    maya.is_in("When do I sow peas?")

    maya.asks(f"Tell me more {SLOWLY}")
    maya.hears("word3")
    maya.page.reload()
    maya.hears_all_of(WHOLE)

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
    maya = person(viewport=PHONE, has_touch=True, is_mobile=True)
    maya.signs_up()

    maya.asks(f"When do I sow peas? {SLOWLY}")
    maya.hears("word2")
    maya.page.reload()
    maya.hears_all_of(WHOLE)
    maya.asks(f"And beans? {FOR_EVER}")
    maya.hears("word2")
    maya.stops()
    maya.sees("You stopped this reply.")

    maya.unfolds_the_sidebar()
    maya.begins_a_new_chat()
    expect(maya.sidebar).not_to_be_in_viewport()
    maya.asks("What is a hotbed?")
    maya.hears_all_of("You said: What is a hotbed?")
    maya.unfolds_the_sidebar()
    maya.rows.last.tap()
    expect(maya.sidebar).not_to_be_in_viewport()
    maya.hears("word2")
    assert maya.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    maya.unfolds_the_sidebar()
    maya.signs_out()


def test_escape_stops_a_reply_and_ends_its_request(maya, model):
    maya.asks(f"Go on and on {FOR_EVER}")
    maya.hears("word2")

    maya.page.keyboard.press("Escape")

    model.wait_until(lambda server: server.requests[-1].end == "left")
    maya.sees_no_reply_coming()
    maya.sees("You stopped this reply.")
    maya.asks("And now?")
    maya.hears_all_of("You said: And now?")


def test_a_reply_goes_on_while_one_looks_elsewhere(maya):
    maya.asks("First things first")
    maya.hears_all_of("You said: First things first")
    maya.begins_a_new_chat()
    maya.asks(f"Second {SLOWLY}")
    maya.hears("word2")

    maya.opens("First things first")
    expect(maya.messages).to_have_count(2)
    maya.page.go_back()

    maya.hears_all_of(WHOLE)


def test_back_and_forward(maya):
    for name in ("One", "Two", "Three"):
        maya.asks(name)
        maya.hears_all_of(f"You said: {name}")
        maya.begins_a_new_chat()
    maya.opens("One")
    maya.opens("Three")
    maya.opens("Two")

    maya.page.go_back()
    maya.is_in("Three")
    maya.hears("You said: Three")
    maya.page.go_back()
    maya.is_in("One")
    maya.hears("You said: One")
    maya.page.go_forward()
    maya.is_in("Three")
    maya.page.reload()
    maya.is_in("Three")
    assert maya.texts() == ["Three", "You said: Three"]


def test_a_conversation_is_taken_away_in_one_click(maya):
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


def test_a_closed_tab_loses_no_reply(maya):
    maya.asks(f"Take your time {SLOWLY}")
    maya.hears("word2")
    where = maya.page.url
    maya.page.close()

    tab = maya.new_tab()
    tab.page.goto(where)

    tab.hears_all_of(WHOLE)
    assert len(tab.texts()) == 2


def test_a_second_tab_follows_the_same_reply(maya, model):
    asked = len(model.requests)
    maya.asks(f"Both of us {SLOWLY}")
    maya.hears("word2")

    tab = maya.new_tab()
    tab.page.goto(maya.page.url)
    tab.hears("word3")

    for each in (maya, tab):
        each.hears_all_of(WHOLE)
        assert len(each.texts()) == 2
    assert len(model.requests) == asked + 1


def test_what_is_typed_after_a_sign_out_elsewhere_is_not_lost(maya):
    maya.asks("Here")
    maya.hears_all_of("You said: Here")
    tab = maya.new_tab()
    tab.page.goto(maya.page.url)
    tab.hears("You said: Here")
    maya.signs_out()

    tab.composer.fill("A long thought")
    tab.sends()

    tab.is_asked_to_sign_in()
    tab.sees("A long thought")
    expect(tab.messages).to_have_count(0)


def test_a_reply_is_copied_as_it_was_written(maya, model):
    written = 'Use `Array<string[]>`, <!-- not --> **any**: "é" 🌱'
    maya.context.grant_permissions(["clipboard-read", "clipboard-write"])
    model.script(reply=written)
    maya.asks("Which type?")
    maya.hears("any")
    maya.sees_no_reply_coming()
    model.script(reply="Gladly.")
    maya.asks("Thanks.")
    maya.hears("Gladly.")
    maya.sees_no_reply_coming()
    model.script()

    first, last = maya.page.get_by_role("button", name="Copy reply").all()
    first.press("Enter")
    expect(maya.page.get_by_role("button", name="Copied")).to_have_count(1)
    assert maya.page.evaluate("navigator.clipboard.readText()") == written
    last.click()
    until(lambda: maya.page.evaluate("navigator.clipboard.readText()") == "Gladly.")
    facts = maya.page.locator(".db-acts small").all_inner_texts()
    assert len(facts) == 2
    assert all("scripted · " in fact and " tokens · $" in fact for fact in facts)


def test_a_reply_is_written_again_and_every_version_stays(maya):
    maya.asks("What grows in the shade?")
    maya.hears_all_of("You said: What grows in the shade?")
    maya.asks("And in the sun?")
    maya.hears_all_of("You said: And in the sun?")

    # by keyboard: what is drawn later keeps the last prompt in view, and a click would miss what stands above
    maya.page.get_by_role("button", name="Regenerate", exact=True).first.press("Enter")
    expect(maya.messages).to_have_count(2)
    maya.hears_all_of("You said: What grows in the shade?")
    maya.sees("2 / 2")

    maya.page.get_by_role("button", name="Previous version").click()
    maya.sees("1 / 2")
    expect(maya.messages).to_have_count(4)
    maya.page.reload()
    expect(maya.messages).to_have_count(4)

    maya.asks("And on the sill?")
    maya.hears_all_of("You said: And on the sill?")
    expect(maya.messages).to_have_count(6)
    maya.page.get_by_role("button", name="Next version").click()
    expect(maya.messages).to_have_count(2)


def test_what_is_being_typed_stays_until_it_is_sent(maya):
    maya.composer.fill("An unsent beginning")
    until(lambda: "An unsent" in maya.page.evaluate("JSON.stringify(localStorage)"))
    maya.page.reload()
    expect(maya.composer).to_have_value("An unsent beginning")
    maya.sends()
    maya.hears_all_of("You said: An unsent beginning")
    expect(maya.composer).to_have_value("")
    until(lambda: "An unsent" not in maya.page.evaluate("JSON.stringify(localStorage)"))
    maya.composer.fill("Second thoughts")
    maya.begins_a_new_chat()
    expect(maya.composer).to_have_value("")
    maya.asks("Elsewhere")
    maya.hears_all_of("You said: Elsewhere")
    maya.opens("An unsent beginning")
    expect(maya.composer).to_have_value("Second thoughts")
    other = maya.new_tab()
    other.visit(f"/?c={maya.conversation_id}")
    expect(other.composer).to_have_value("Second thoughts")
    other.composer.fill("Third thoughts")
    expect(maya.composer).to_have_value("Third thoughts")
    maya.sends()
    maya.hears_all_of("You said: Third thoughts")
    expect(other.composer).to_have_value("")
    maya.composer.fill("Not for the next at this desk")
    maya.signs_out()
    assert maya.page.evaluate("JSON.stringify(localStorage)").count("next at this desk") == 0


def test_two_tabs_on_one_conversation_do_not_undo_what_is_typed(maya):
    maya.asks("Here")
    maya.hears_all_of("You said: Here")
    beside = maya.new_tab()
    beside.visit(f"/?c={maya.conversation_id}")
    expect(beside.messages).to_have_count(2)
    words = (
        "A long sentence that is typed quickly, and of which no letter may be lost on the way. " * 3
    )

    beside.composer.press_sequentially(words, delay=1)

    expect(maya.composer).to_have_value(words)
    expect(beside.composer).to_have_value(words)


def test_what_is_typed_while_a_first_reply_comes_belongs_to_its_conversation(maya):
    maya.asks("Wait for it [[delay=1 tokens=9 rate=9]]")
    maya.composer.fill("Meanwhile")
    maya.hears_all_of("word9")
    expect(maya.composer).to_have_value("Meanwhile")
    maya.page.reload()
    expect(maya.composer).to_have_value("Meanwhile")
    maya.begins_a_new_chat()
    expect(maya.composer).to_have_value("")


# in every frame: how many of these stand in the page, and how faint the first is
WATCH = """(places) => {
  window.seen = {};
  const look = () => {
    for (const place of places) {
      const all = [...document.querySelectorAll(place)].filter((each) => each.offsetParent);
      const least = window.seen[place] ?? [all.length, 1];
      const ink = all.length ? Number(getComputedStyle(all[0]).opacity) : 1;
      window.seen[place] = [Math.min(least[0], all.length), Math.min(least[1], ink)];
    }
    requestAnimationFrame(look);
  };
  look();
}"""


def test_what_stands_in_the_page_stays_while_a_reply_begins(maya):
    """It is drawn anew only after the first words; until then the browser must keep it."""
    for name in ("One", "Two"):
        maya.asks(name)
        maya.hears_all_of(f"You said: {name}")
    stands = {
        f".st-key-thread :is({MESSAGE})": 4,
        ".st-key-chat-head h1": 1,
        ".st-key-export button": 1,
        ".st-key-memory-policy button": 1,
        ".st-key-composer textarea": 1,
        '[data-act="open"]': 1,
    }
    maya.page.evaluate(WATCH, list(stands))

    maya.asks("Wait for it [[delay=1 tokens=9 rate=9]]")
    maya.hears_all_of("word9")

    seen = maya.page.evaluate("window.seen")
    assert {place: count for place, (count, _) in seen.items()} == stands
    assert min(ink for _, ink in seen.values()) == 1


def test_a_title_comes_by_itself_and_disturbs_nobody(maya, model):
    model.script_titles(reply="Peas in wet soil", delay=1.5)

    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")
    maya.is_in("When do I sow peas?")
    maya.composer.press_sequentially("And when ")
    maya.is_in("Peas in wet soil")
    maya.page.keyboard.type("beans?")

    expect(maya.composer).to_have_value("And when beans?")
    maya.sends()
    maya.hears_all_of("You said: And when beans?")
    maya.is_in("Peas in wet soil")
    model.script()


def test_figures_and_times_are_the_readers_own(person):
    maya = person(locale="de-DE", timezone_id="Asia/Tokyo")
    maya.arrives()
    since = datetime.now(ZoneInfo("Asia/Tokyo"))
    maya.asks("When do I sow peas?")
    maya.hears_all_of("You said: When do I sow peas?")

    facts = maya.page.locator(".db-acts small").last.inner_text()
    times = [since, datetime.now(since.tzinfo)]  # a minute may have ended meanwhile
    assert facts.split(" · ")[-2] == "0,00\xa0$"
    assert facts.split(" · ")[-1] in [f"{time:%H:%M}" for time in times]
    maya.page.locator(".st-key-context-meter button").click()
    expect(maya.page.locator(".st-key-context-inspector")).to_contain_text(
        re.compile(r"of \d+\.\d{3}")
    )
