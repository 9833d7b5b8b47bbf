"""A temporary chat at a browser: what is said in it is nowhere, and gone when it is left."""

import secrets

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PHONE
from tests.journeys.seeds import database
from tests.stack.apps import until
from tests.test_privacy import files, found, tables


@pytest.fixture
def maya(person):
    maya = person()
    maya.arrives()
    return maya


@pytest.fixture
def word():
    return f"kestrel{secrets.randbelow(10**9):09}"


def is_fresh(maya):
    maya.sees("Ask anything.")
    expect(maya.messages).to_have_count(0)
    expect(maya.temporary_switch).not_to_be_checked()


def where_known(maya, app):
    """Our tables with a row of hers."""
    with database(app) as connection:
        [(user_id,)] = connection.execute(
            "select id from auth.users where email = %s", [maya.email]
        )
        return {
            table
            for (schema, table), text in tables(connection).items()
            if schema in ("public", "private") and " " not in table and str(user_id) in text
        }


def test_a_temporary_chat_leaves_no_trace(maya, app, model, word):
    before = where_known(maya, app)
    maya.turns_to_a_temporary_chat()
    maya.composer.press_sequentially(f"I say {word}")
    assert word not in maya.stored()
    maya.sends()
    maya.hears_all_of(f"You said: I say {word}")
    maya.asks(f"Again {word}")
    maya.hears_all_of(f"You said: Again {word}")
    maya.sees("Not saved")
    maya.page.get_by_role("button", name="Regenerate", exact=True).last.click()
    maya.sees("2 / 2")
    maya.sees_no_reply_coming()
    maya.page.get_by_role("button", name="Previous version").click()
    maya.sees("1 / 2")
    maya.page.get_by_role("button", name="Context used for this reply").last.click()
    expect(maya.dialog).to_contain_text("recent messages")
    maya.page.keyboard.press("Escape")
    assert word in maya.exports("Markdown")[1]
    maya.composer.press_sequentially(f"Unsent {word}")
    expect(maya.rows).to_have_count(0)
    assert "?c=" not in maya.page.url

    maya.begins_a_new_chat()

    is_fresh(maya)
    expect(maya.composer).to_have_value("")
    assert word not in maya.stored()
    assert word in str([request.body for request in model.requests])
    assert where_known(maya, app) == before | {"public.turns", "private.ledger"}
    with database(app) as connection:
        held = tables(connection)
        connection.execute("checkpoint")  # what is still in memory goes to the tables' files
    assert [table for table, text in held.items() if found(word, text.encode())] == []
    everything = list(files(app.base))
    assert any(found("scripted", data) for _, data in everything)  # what is there can be found
    assert [str(path) for path, data in everything if found(word, data)] == []


def is_fresh_and_temporary(maya):
    expect(maya.temporary_switch).to_be_checked()
    expect(maya.messages).to_have_count(0)


def test_a_refresh_another_page_and_going_back_end_it_and_leave_another(maya, word):
    maya.turns_to_a_temporary_chat()
    maya.asks(f"Hello {word}")
    maya.hears_all_of("You said: Hello")
    maya.reloads_what_is_not_kept()
    is_fresh_and_temporary(maya)

    maya.asks(f"Hello {word}")
    maya.hears_all_of("You said: Hello")
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("link", name="Memory").click()
    maya.sees("Remember things about me")
    maya.page.go_back()
    is_fresh_and_temporary(maya)
    assert word not in maya.stored()


def test_what_was_typed_before_the_switch_stays_typed_and_is_kept_no_longer(maya, word):
    maya.composer.press_sequentially(word)
    until(lambda: word in maya.stored())

    maya.turns_to_a_temporary_chat()
    until(lambda: word not in maya.stored())
    expect(maya.composer).to_have_value(word)
    maya.composer.press_sequentially(" more")
    assert word not in maya.stored()

    maya.temporary_switch.focus()
    maya.page.keyboard.press("Space")
    maya.sees("Ask anything.")
    expect(maya.composer).to_have_value(f"{word} more")
    until(lambda: word in maya.stored())


def states(maya, app):
    """Return the states of Maya's turns."""
    with database(app) as connection:
        rows = connection.execute(
            "select t.state from public.turns t join auth.users u on u.id = t.user_id"
            " where u.email = %s",
            [maya.email],
        )
        return [state for (state,) in rows]


def test_a_closed_tab_stops_what_is_coming(maya, app, word):
    tab = maya.new_tab()
    tab.visit()
    tab.turns_to_a_temporary_chat()
    tab.asks(f"{word} [[tokens=5000 rate=20]]")
    tab.hears("word3")
    tab.page.close()

    until(lambda: states(maya, app) == ["stopped"], within=30)


def test_whoever_signs_out_has_it_stopped_and_settled_before(maya, app, word):
    maya.turns_to_a_temporary_chat()
    maya.asks(f"{word} [[tokens=5000 rate=20]]")
    maya.hears("word3")

    maya.signs_out()

    assert states(maya, app) == ["stopped"]
    assert word not in maya.stored()


def test_at_a_phone_it_fits_and_can_be_touched(person):
    maya = person(viewport=PHONE, has_touch=True)
    maya.arrives()
    maya.turns_to_a_temporary_chat()
    box = maya.page.locator(".st-key-is-temporary label").bounding_box()
    assert box["height"] >= 40
    maya.asks("Hello")
    maya.hears_all_of("You said: Hello")
    maya.sees("Not saved")
    assert maya.exports("JSON")[0] == "Temporary chat.json"

    assert maya.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
