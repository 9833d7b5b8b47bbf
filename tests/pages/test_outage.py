"""An unreachable database: the content of the page meanwhile."""

import pytest
from streamlit.testing.v1 import AppTest

from services import bootstrap
from services.domain import AccountRole
from services.errors import SignedOut, StoreUnavailable
from tests.fakes import FakePerson, ScriptedModel
from tests.pages.conftest import html, messages


def lines(app):
    """Return the number of notices of the outage."""
    return html(app).count("cannot reach its database")


@pytest.mark.parametrize("page", ["", "pages/memory.py", "pages/admin.py"])
def test_every_page_says_so_while_it_is_so(open_app, database, health, page):
    app = open_app(FakePerson(database, ScriptedModel(), AccountRole.ADMIN))
    if page:
        app.switch_page(page).run()
    assert not lines(app)

    health.is_database_away = True
    assert lines(app.run()) == 1
    health.is_database_away = False
    assert not lines(app.run())


def test_who_is_signed_out_is_told_as_well(open_app, health):
    health.is_database_away = True

    app = open_app(None)

    assert lines(app) == 1
    assert app.tabs


def test_what_was_read_stays_on_the_page(open_chat, database, health):
    app, _ = open_chat("When?", "In March.")

    health.is_started, health.is_database_away = False, True
    database.rows.failure = StoreUnavailable()
    app.run()

    assert messages(app) == ["When?", "In March."]
    assert app.chat_input(key="composer")


def test_new_tab_during_an_outage_waits(open_app, health, monkeypatch):
    def nobody_knows(session_id):
        raise StoreUnavailable

    monkeypatch.setattr(bootstrap.current_app(), "user", nobody_knows)
    health.is_database_away = True

    app = open_app(None)

    assert [title.value for title in app.title] == ["Reconnecting…"]
    assert not app.tabs
    assert lines(app) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [(StoreUnavailable(), StoreUnavailable.public), (SignedOut(), "Sign in"), (ValueError(), None)],
)
def test_error_that_a_callback_lets_through_is_drawn_in_words(monkeypatch, tab, error, said):
    def script(error):
        from pages import _session

        if not _session.draw_uncaught(error):
            raise error

    app = AppTest.from_function(script, args=(error,), default_timeout=30).run()

    drawn = [each.value for each in app.error] + [each.label for each in app.tabs]
    assert (said in drawn) is bool(said)
    assert bool(app.exception) is not bool(said)
