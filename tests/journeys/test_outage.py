"""The database is gone for a while: what is seen, typed, sent and coming meanwhile, and what is stored afterwards."""

import re
import time
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, database, second_process
from tests.stack.apps import running, until

SECONDS = 20.0  # longer than every time-out of the app, and than the lease of a turn


@pytest.fixture(scope="module")
def frail(make_app):
    """An app whose database this module may freeze."""
    prices = {"DAYBOOK_INPUT_PRICE_MICRO": "1000000", "DAYBOOK_OUTPUT_PRICE_MICRO": "5000000"}
    with running(make_app("frail", environment=prices)) as app:
        app.until_ready()
        yield app


def is_told(tab):
    expect(tab.outage).to_be_visible()


def is_told_no_longer(tab):
    expect(tab.outage).to_have_count(0)


def test_a_reply_survives_a_database_that_stands_still(frail, person):
    maya = person(url=frail.url)
    maya.arrives()
    maya.asks("Before")
    maya.hears_all_of("You said: Before")
    fresh, beside = maya.new_tab(), maya.new_tab()
    fresh.visit()
    expect(fresh.rows).to_have_text(["Before"])
    maya.asks("Tell me all [[tokens=110 rate=2]]")
    beside.visit(f"/?c={maya.conversation_id}")
    beside.hears("word2")
    beside.composer.press_sequentially("And then ")

    with frail.frozen_database():
        since = time.monotonic()
        for tab in (maya, fresh, beside):
            is_told(tab)
        expect(fresh.rows).to_have_text(["Before"])  # what was read stays
        expect(beside.messages).to_have_count(4)
        expect(beside.composer).to_have_value("And then ")
        beside.page.keyboard.type("what?")
        said = len(maya.texts()[-1])
        until(lambda: len(maya.texts()[-1]) > said + 20)  # it goes on
        fresh.composer.fill("A thought")
        fresh.sends()
        fresh.sees("Nothing is lost")
        expect(fresh.composer).to_have_value("A thought")
        until(lambda: time.monotonic() - since > SECONDS)

    for tab in (maya, fresh, beside):
        is_told_no_longer(tab)
    for tab in (maya, beside):
        tab.hears_all_of(re.compile("word1 .*word110"))
    expect(beside.composer).to_have_value("And then what?")
    fresh.sends()
    fresh.hears_all_of("You said: A thought")
    expect(fresh.rows).to_have_text(["A thought", "Before"])
    assert_each_is_stored_and_paid_once(frail, maya, turns=3, messages=6)


def test_a_prompt_that_is_sent_just_when_it_stops_is_asked_once(frail, person):
    maya = person(url=frail.url)
    maya.arrives()
    maya.asks("Before")
    maya.hears_all_of("You said: Before")

    with frail.frozen_database():  # nobody knows it yet
        maya.composer.fill("Are you there?")
        maya.sends()
        maya.sees("Nothing is lost")
        expect(maya.composer).to_have_value("Are you there?")
        is_told(maya)

    is_told_no_longer(maya)
    maya.sees_no_reply_coming()
    maya.sends()
    maya.hears_all_of("You said: Are you there?")
    assert maya.texts() == ["Before", "You said: Before", "Are you there?", *maya.texts()[3:]]
    assert len(maya.texts()) == 4
    assert_each_is_stored_and_paid_once(frail, maya, turns=2, messages=4)


def test_a_prompt_that_is_refused_when_one_has_gone_on_waits_where_it_was_written(frail, person):
    maya = person(url=frail.url)
    maya.arrives()
    for name in ("Peas", "Roses"):
        maya.begins_a_new_chat()
        maya.asks(name)
        maya.hears_all_of(f"You said: {name}")

    with frail.frozen_database():  # nobody knows it yet
        maya.composer.fill("And thorns?")
        maya.sends()
        maya.opens("Peas")
        expect(maya.page.locator(".stCode")).to_have_text("And thorns?")
        maya.sees("Nothing is lost")
        expect(maya.composer).to_have_value("")
        maya.composer.fill("And pods?")
        maya.opens("Roses")
        expect(maya.composer).to_have_value("And thorns?")
        expect(maya.page.locator(".stCode")).to_have_count(0)

    is_told_no_longer(maya)
    maya.sends()
    maya.hears_all_of("You said: And thorns?")
    maya.opens("Peas")
    expect(maya.composer).to_have_value("And pods?")


@contextmanager
def nothing_written(app):
    """Lock the conversations: writers wait meanwhile, readers do not."""
    with database(app) as rows, rows.transaction():
        rows.execute("lock table public.conversations in share row exclusive mode")
        yield


def test_what_is_pressed_is_done_whole_though_another_press_follows(frail, person):
    maya = person(url=frail.url)
    maya.arrives()
    maya.asks("Peas")
    maya.hears_all_of("You said: Peas")
    archive = maya.page.get_by_role("button", name="Archived")
    back = maya.page.get_by_role("button", name="Back")

    maya.begins_a_new_chat()
    with nothing_written(frail):
        maya.composer.fill("Beans?")
        maya.sends()
        archive.click()  # another run, beside the one that sends
        maya.sees("No archived chats.")
    maya.hears_all_of("You said: Beans?")
    expect(maya.composer).to_have_value("")
    back.click()
    maya.is_in("Beans?")

    with nothing_written(frail):
        maya.chooses("Peas", "Delete")
        archive.click()
        maya.sees("No archived chats.")
    back.click()
    expect(maya.rows).to_have_text(["Beans?"])
    maya.page.get_by_role("button", name="Undo").click()
    expect(maya.rows).to_have_text(["Beans?", "Peas"])


def test_who_comes_meanwhile_waits_and_goes_on(frail, person):
    maya, omar = person(url=frail.url), person("omar", url=frail.url)
    maya.arrives()
    omar.arrives()
    omar.signs_out()
    with second_process(frail) as sessions:  # a session that the app has not opened yet
        cookie, session = sessions.sign_in(maya.email, PASSWORD)
        converse(session, [("What was", "That was.")])
    maya.context.clear_cookies()
    maya.context.add_cookies(
        [{"name": "__Host-sid", "value": str(cookie), "url": frail.url.replace("http:", "https:")}]
    )

    omar.page.locator('form[action="/session"] [name="email"]').fill(omar.email)
    with frail.frozen_database():
        is_told(omar)
        expect(omar.page.locator('form[action="/session"] [name="email"]')).to_have_value(
            omar.email
        )
        maya.visit()
        maya.sees("You are still signed in")
        expect(maya.sign_in_form).to_have_count(0)
        is_told(maya)
        omar.enters("/session", omar.email)
        omar.sees("Daybook cannot reach its database. Nothing is lost")
        expect(omar.page.locator('form[action="/session"] [name="email"]')).to_have_value(
            omar.email
        )

    maya.is_welcome()
    expect(maya.rows).to_have_text(["What was"])
    omar.enters("/session", omar.email)
    omar.is_welcome()


def test_a_database_that_died_comes_back_under_the_page(frail, person):
    maya = person(url=frail.url)
    maya.arrives()
    maya.asks("Before")
    maya.hears_all_of("You said: Before")
    maya.asks("Tell me all [[tokens=30 rate=6]]")
    maya.hears("word2")

    frail.part("postgres").kill()

    maya.hears_all_of(re.compile("word1 .*word30"))
    is_told_no_longer(maya)
    assert_each_is_stored_and_paid_once(frail, maya, turns=2, messages=4)


def assert_each_is_stored_and_paid_once(app, person, *, turns, messages):
    """Assert so many complete turns and messages of *person*, charged at cost, nothing reserved."""
    with database(app) as rows:
        whose = "user_id = (select id from auth.users where email = %s)"
        found = rows.execute(
            "select state, charged_micro, tokens_in + 5 * tokens_out,"
            " (select sum(micro) from private.ledger where turn_id = turns.id)::bigint"
            f" from public.turns where purpose = 'reply' and {whose}",
            [person.email],
        ).fetchall()
        assert [state for state, *_ in found] == ["complete"] * turns
        for _, charged, cost, in_ledger in found:
            assert charged == cost == in_ledger > 0
        books = (
            "select reserved, day_spent - (select sum(micro) from private.ledger"
            " where ledger.user_id = budgets.user_id)::bigint,"
            " (select count(*) from public.messages where messages.user_id = budgets.user_id)"
            f" from private.budgets where {whose}"
        )
        # once the titles are paid for, too
        until(lambda: rows.execute(books, [person.email]).fetchone() == (0, 0, messages), 20)
