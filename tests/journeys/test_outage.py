"""An outage of the database: the page, typed text, prompts and streaming replies meanwhile, and the rows afterwards."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.journeys.seeds import database
from tests.stack.apps import running, until

SECONDS = 20.0  # longer than every time-out of the app, and than the lease of a turn

_COUNT_RUNS = """() => {
  const app = document.querySelector(".stApp");
  window.runs = 0;
  new MutationObserver((changes) => {
    // a busy browser may draw only that a run was requested and has ended
    const states = [...changes.map(({ oldValue }) => oldValue), app.dataset.testScriptState];
    runs += states.some((state) => ["rerunRequested", "running"].includes(state));
  }).observe(app, { attributeFilter: ["data-test-script-state"], attributeOldValue: true });
}"""


@pytest.fixture(scope="module")
def frail(make_app):
    """An app whose database this module may freeze, and which it may kill."""
    prices = {"DAYBOOK_INPUT_PRICE_MICRO": "1000000", "DAYBOOK_OUTPUT_PRICE_MICRO": "5000000"}
    with running(make_app("frail", "embedded", environment=prices)) as app:
        app.until_ready()
        yield app


def is_told(tab):
    expect(tab.outage).to_be_visible()


def is_told_no_longer(tab):
    expect(tab.outage).to_have_count(0)


def test_reply_survives_a_database_that_stands_still(frail, person, model):
    maya = person(url=frail.url)
    maya.arrives()
    maya.asks("Before")
    maya.hears_all_of("You said: Before")
    fresh, beside = maya.new_tab(), maya.new_tab()
    fresh.visit()
    expect(fresh.rows).to_have_text(["Before"])
    maya.asks("Tell me all [[tokens=110 held=9 rate=3]]")
    beside.visit(f"/?c={maya.conversation_id}")
    beside.hears("word2")
    beside.composer.press_sequentially("And then ")

    with frail.frozen_database():
        since = time.monotonic()
        model.go_on()
        for tab in (maya, fresh, beside):
            is_told(tab)
        expect(fresh.rows).to_have_text(["Before"])  # data that was read before stays
        expect(beside.messages).to_have_count(4)
        expect(beside.composer).to_have_value("And then ")
        beside.page.keyboard.type("what?")
        said = len(maya.texts()[-1])
        until(lambda: len(maya.texts()[-1]) > said + 20)  # the reply continues
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


@pytest.mark.long_run
def test_reply_interrupted_by_a_kill_is_kept(frail, person):
    # only the first request gets this reply; later ones are answered with the prompt itself
    prompt = "Tell me all [[tokens=9000 rate=12 times=1]]"
    maya = person(url=frail.url)
    maya.signs_up()
    maya.asks("Before")
    maya.hears_all_of("You said: Before")
    maya.asks(prompt)
    maya.hears("word10")
    before = partial_reply(frail)
    until(lambda: partial_reply(frail) != before)
    frail.end()
    maya.sees("Reconnecting… Your unsent message is kept.")
    frail.start()
    frail.until_ready()

    maya.sees("This reply was interrupted.")  # the tab reconnects by itself
    assert maya.texts()[:3] == ["Before", "You said: Before", prompt]
    assert re.fullmatch(r"word1 word2 .*word\d+", maya.texts()[3])
    maya.retries()

    maya.hears_all_of("You said: Tell me all")
    maya.page.reload()
    maya.hears_all_of("You said: Tell me all")
    assert len(maya.texts()) == 4


def test_first_press_after_a_restart_works(make_app, person):
    with running(make_app("restarted", "sqlite")) as app:
        app.until_ready()
        maya = person(url=app.url)
        maya.arrives()
        maya.asks("Peas")
        maya.hears_all_of("You said: Peas")
        maya.begins_a_new_chat()
        maya.sees_no_reply_coming()  # what is typed earlier is a draft of the chat before
        maya.composer.fill("A thought")
        app.kill()
        maya.sees("Reconnecting… Your unsent message is kept.")
        maya.page.evaluate(_COUNT_RUNS)
        app.start()
        app.until_ready()
        until(lambda: maya.page.evaluate("runs"))
        maya.sees_no_reply_coming()

        maya.row("Peas").click()  # once
        maya.is_in("Peas")
        maya.begins_a_new_chat()
        expect(maya.composer).to_have_value("A thought")


def partial_reply(app):
    """The sealed partial reply of the one turn that has one; None before it is stored."""
    with database(app) as rows:
        found = rows.execute("select partial from public.turns where partial is not null")
        return found.fetchone()


def assert_each_is_stored_and_paid_once(app, person, *, turns, messages):
    """Fail unless *person* has so many complete turns and messages, charged at cost, and nothing is reserved."""
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
        # the costs of titles have been settled too
        until(lambda: rows.execute(books, [person.email]).fetchone() == (0, 0, messages), 20)
