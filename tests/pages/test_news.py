"""The page's reaction to revisions that another process changed."""

import json

import pytest
import streamlit as st

from pages._parts import browser
from services.domain.revisions import OpenPlace
from tests.fakes import choose
from tests.pages.conftest import html


@pytest.fixture
def watched(monkeypatch):
    """The place and the revisions of each run; a field replaces the component, which AppTest does not run."""
    runs = []

    def watch(place, seen, hear):
        runs.append((place, seen))
        st.text_input(
            "found", key="found", on_change=lambda: hear(json.loads(st.session_state.found))
        )

    monkeypatch.setattr(browser, "watch_news", watch)
    return runs


def tell(app, watched, **found):
    """Report other revisions, as after a poll; return the app after the run."""
    return app.text_input(key="found").set_value(json.dumps(watched[-1][1] | found)).run()


def test_page_names_what_it_shows_as_a_poll_does(open_app, maya, database, watched):
    garden = database.hold("Garden", "One", "Two")
    database.hold("Bees", "One", "Two")

    open_app(maya, c=str(garden))

    place, seen = watched[-1]
    assert place == {"c": str(garden)}
    polled = maya.store.conversations.poll(OpenPlace(conversation_id=garden))
    assert seen == {
        "chat": polled.chat,
        "choices": polled.choices,
        "list": polled.list,
        "running": [],
        "preferences": polled.preferences,
        "settings": "",
        "is_admin": False,
    }


def test_results_of_a_search_are_not_watched(open_app, maya, watched):
    app = open_app(maya)
    assert "list" in watched[-1][1]

    app.text_input(key="search").set_value("Garden").run()

    assert "list" not in watched[-1][1]


def test_reply_of_another_process_is_marked_while_it_runs(open_app, maya, database, watched):
    bees, garden = (database.hold(name, "One", "Two") for name in ("Bees", "Garden"))
    app = open_app(maya, c=str(garden))
    mark = f'data-chat="{bees}" class="db-running"'
    assert mark not in html(app)

    assert mark in html(tell(app, watched, running=[str(bees)]))
    assert watched[-1][1]["running"] == [str(bees)]

    assert mark not in html(tell(app, watched, running=[]))


def test_preferences_of_another_device_are_read_again(open_app, maya, database, watched):
    app = open_app(maya)
    choose(database.store().profile, theme="dark")
    assert maya.store.profile.preferences().theme == "system"

    tell(app, watched, preferences=maya.store.conversations.poll(OpenPlace()).preferences)

    assert maya.store.profile.preferences().theme == "dark"


def test_instructions_of_another_device_apply_to_the_next_turn(open_app, maya, database, watched):
    garden = database.hold("Garden", "One", "Two")
    app = open_app(maya, c=str(garden))
    database.store().conversations.set_instructions(garden, "Be brief.")
    polled = maya.store.conversations.poll(OpenPlace(conversation_id=garden))
    assert watched[-1][1]["choices"] != polled.choices

    tell(app, watched, choices=polled.choices)

    assert watched[-1][1]["choices"] == polled.choices
    assert maya.store.turns.known(garden).instructions == "Be brief."


@pytest.mark.parametrize("found", [{}, {"running": 3}, {"preferences": "x", "settings": 4}])
def test_page_survives_any_revisions(open_app, maya, watched, found):
    app = open_app(maya)

    app.text_input(key="found").set_value(json.dumps(found)).run()

    assert not app.exception
