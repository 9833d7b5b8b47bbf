"""A temporary chat in a browser: its text is stored nowhere, and gone once the page is left."""

import secrets

import pytest
from playwright.sync_api import expect

from tests.journeys.seeds import everything_stored, tables_of
from tests.test_privacy import found


@pytest.fixture
def word():
    return f"kestrel{secrets.randbelow(10**9):09}"


def is_fresh(maya):
    maya.sees("Ask anything.")
    expect(maya.messages).to_have_count(0)
    expect(maya.temporary_switch).not_to_be_checked()


def test_a_temporary_chat_leaves_no_trace(maya, app, model, word):
    before = tables_of(app, maya.email)
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
    maya.undoes()
    maya.hears(f"You said: Again {word}")
    maya.page.once("dialog", lambda dialog: dialog.dismiss())
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Sign out").click()
    expect(maya.last_reply).to_be_visible()  # the user is asked, and stays
    maya.begins_a_new_chat()

    is_fresh(maya)
    expect(maya.composer).to_have_value("")
    assert word not in maya.stored()
    assert word in str([request.body for request in model.requests])
    assert tables_of(app, maya.email) == before | {"turns", "ledger", "days"}
    everything = everything_stored(app)
    # shows that the search finds stored text
    assert any(found("scripted", data) for data in everything.values())
    assert [name for name, data in everything.items() if found(word, data)] == []


def is_fresh_and_temporary(maya):
    expect(maya.temporary_switch).to_be_checked()
    expect(maya.messages).to_have_count(0)


def test_leaving_the_page_ends_a_temporary_chat(maya, word):
    maya.turns_to_a_temporary_chat()
    maya.asks(f"Hello {word}")
    maya.hears_all_of("You said: Hello")
    maya.reloads_what_is_not_kept()
    is_fresh_and_temporary(maya)

    maya.asks(f"Hello {word}")
    maya.hears_all_of("You said: Hello")
    maya.page.locator(".st-key-account-menu button").click()
    maya.page.get_by_role("menuitem", name="Memory").click()
    maya.sees("Remember things about me")
    maya.page.go_back()
    is_fresh_and_temporary(maya)
    assert word not in maya.stored()
