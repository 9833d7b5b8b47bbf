"""A temporary chat as a user sees it: the switch, its effects, and no writes of text."""

from uuid import uuid4

import pytest
import streamlit as st

from pages._parts import temporary
from pages._parts.undo import messages_dialog
from pages._tab import KEY, BarLine, tab
from services.chat.temporary import ChatIsOver
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.domain.turns import TurnState
from services.errors import Cap, OverBudget, StoreUnavailable
from tests.fakes import choose
from tests.pages.conftest import (
    captions,
    html,
    in_composer,
    in_dialog,
    messages,
    opened,
    press,
    pressed,
)
from tests.stack.apps import SECONDS
from tests.store.conformance.talk import a_fact


@pytest.fixture
def app(open_app, maya):
    return open_app(maya)


def switches(app, *, is_on=True):
    return app.toggle(key="is-temporary").set_value(is_on).run()


def asks(app, prompt):
    app.chat_input[0].set_value(prompt).run()
    return app


def buttons(app):
    return {each.label for each in app.button}


def test_the_switch_says_what_a_temporary_chat_is(app):
    switches(app)

    assert app.title[0].value == "Temporary chat"
    assert "Not saved and not used for memory." in app.markdown[0].value
    assert "Still counts towards your limits." in app.markdown[0].value

    switches(app, is_on=False)
    assert app.title[0].value == "New chat"


def test_temporary_chat_is_stored_nowhere_and_has_no_address(app, database, maya, model):
    asks(switches(app), "Hello")
    asks(app, "And again")

    assert messages(app) == ["Hello", "Prune in March.", "And again", "Prune in March."]
    sent = [message.body for message in model.seen[-1]]
    assert sent[-3:] == ["Hello", "Prune in March.", "And again"]
    assert database.threads() == []
    assert "c" not in app.query_params
    assert database.turn_states() == [TurnState.COMPLETE] * 2
    assert app.title[0].value == "Temporary chat"
    assert any("Not saved" in each.value for each in app.caption)


def test_reload_of_a_temporary_page_begins_another(open_app, app, maya, database):
    address = {name: app.query_params[name] for name in switches(app).query_params}

    app = open_app(maya, **address)

    assert app.title[0].value == "Temporary chat"
    asks(app, "Hello")
    assert messages(app) == ["Hello", "Prune in March."]
    assert database.threads() == []

    app.button(key="new-chat").click().run()
    switches(switches(app), is_on=False)
    assert not dict(app.query_params)


def test_nothing_that_would_write_is_offered(app):
    asks(switches(app), "Hello")

    assert 'data-place="above"' not in html(app)
    assert 'aria-label="Regenerate"' in html(app)
    assert not any("Untitled" in label or "Hello" in label for label in buttons(app))


def leaves(app, way, elsewhere):
    match way:
        case "row":
            opened(app, elsewhere)
            assert app.title[0].value == "Elsewhere"
        case "back":
            app.query_params.clear()
            app.query_params["c"] = str(elsewhere)
            app.run()
            assert app.title[0].value == "Elsewhere"
        case "memory":
            app.switch_page("pages/memory.py").run()
        case _:
            app.button(key="new-chat").click().run()
            assert app.title[0].value == "New chat"
    if way == "new temporary chat":
        asks(switches(app), "And another")


@pytest.mark.parametrize("way", ["new chat", "new temporary chat", "row", "back", "memory"])
def test_left_temporary_chat_is_brought_back_by_undo(app, maya, database, way):
    elsewhere = database.hold("Elsewhere")
    asks(switches(app), "Hello")
    leaves(app, way, elsewhere)
    assert "Hello" not in messages(app)

    press(app, "Undo")

    assert messages(app) == ["Hello", "Prune in March."]
    assert app.title[0].value == "Temporary chat"
    if way == "memory":  # AppTest stays on this page
        return
    asks(app, "Again")
    assert messages(app)[2:] == ["Again", "Prune in March."]
    assert [one.title for one in database.conversations.recent(9)] == ["Elsewhere"]
    if way == "new temporary chat":
        press(app, "Undo")
        assert messages(app) == ["And another", "Prune in March."]


def test_left_temporary_chat_leaves_no_summary_in_the_tab(app, maya):
    asks(switches(app), "Hello")
    [chat], tab = maya.temporary, app.session_state[KEY]
    tab.bar += [
        BarLine(uuid4(), "Deleted the summary", None, document_id=chat.id),
        BarLine(uuid4(), "Archived", None, document_id=uuid4()),
    ]

    app.button(key="new-chat").click().run()

    sentences = [one.sentence for one in app.session_state[KEY].bar]
    assert sentences == ["Left the temporary chat: it will be deleted", "Archived"]


def test_temporary_chat_is_called_kept_but_not_saved(app, maya, model):
    model.pieces, model.failure = ("Prune ",), ModelUnavailable(ModelFailure.BUSY)
    asks(switches(app), "Hello")
    assert "The model is busy (rate limit). The partial reply is kept; try again." in captions(app)

    model.pieces, model.failure = ("\n", " "), None
    model.gate.clear()
    turn = maya.temporary[0].chat.begin(maya.temporary[0].id, "Again")
    turn.stop()
    model.gate.set()
    assert turn.wait(SECONDS)
    app.run()

    assert "You stopped this reply. Your message is kept." in captions(app)
    [badge] = [one.proto.help for one in app.markdown if "Incomplete" in one.value]
    assert badge == "The model did not finish this reply. The partial reply is kept."


def test_left_temporary_chat_without_text_is_ended(app, maya):
    switches(app)

    app.button(key="new-chat").click().run()

    assert maya.temporary[0].is_over
    assert "Undo" not in buttons(app)


def test_undo_of_an_ended_temporary_chat_is_refused(app, maya):
    asks(switches(app), "Hello")
    app.button(key="new-chat").click().run()
    maya.temporary[0].end()

    press(app, "Undo")

    assert ChatIsOver.public in [each.value for each in app.warning]
    assert messages(app) == []


def test_chat_after_a_temporary_one_is_saved(app, database):
    asks(switches(app), "Hello")
    app.button(key="new-chat").click().run()
    asks(app, "For good")

    [thread] = database.threads()
    assert [message.body for message in thread.messages] == ["For good", "Prune in March."]


def test_facts_are_read_only_if_allowed_on_the_page(app, maya, model):
    assert "temporary-reads" not in {each.key for each in switches(app).toggle}
    choose(maya.store.profile, keeps_facts=True)
    maya.store.facts.keep(a_fact("Lives in Bern."))

    app.run()
    assert app.toggle(key="temporary-reads").value is False
    app.toggle(key="temporary-reads").set_value(True).run()
    asks(app, "Where do I live?")

    assert "Lives in Bern." in model.seen[-1][0].body
    app.button(key="new-chat").click().run()
    assert switches(app).toggle(key="temporary-reads").value is False


def test_refused_prompt_is_deleted_with_its_temporary_chat(app, maya):
    switches(app)
    maya.database.rows.failures["begin_turn"] = OverBudget(Cap.DAILY)
    asks(app, "Too dear")

    assert in_composer(app) == "Too dear"
    assert "Daily limit reached." in app.warning[0].value
    assert app.title[0].value == "Temporary chat"

    app.button(key="new-chat").click().run()
    assert list(app.warning) == []
    assert in_composer(app) == ""


def test_late_refusal_of_a_temporary_chat_is_dropped(app, maya):
    def begin():  # meanwhile another run, which replaces this one, goes elsewhere
        tab().destination = {}
        temporary.leave_if_elsewhere(st.Page(lambda: None, title="Daybook", default=True))
        raise StoreUnavailable

    switches(app)
    maya.database.rows.before["begin_turn"] = begin
    asks(app, "A secret")

    assert app.title[0].value == "New chat"
    assert [each.value for each in (*app.warning, *app.code)] == []


def test_prompt_sent_during_the_switch_is_not_saved(app, database):
    app.toggle(key="is-temporary").set_value(True)
    asks(app, "A secret")

    assert database.threads() == []
    assert app.title[0].value == "Temporary chat"
    assert in_composer(app) == "A secret"
    asks(app, "A secret")
    assert messages(app) == ["A secret", "Prune in March."]
    assert database.threads() == []


def test_prompt_sent_during_the_switch_off_is_not_called_saved(app):
    switches(app).toggle(key="is-temporary").set_value(False)
    asks(app, "A secret")

    assert ChatIsOver.public in [each.value for each in app.warning]
    assert [each.value for each in app.code] == ["A secret"]
    assert not any("saved" in each.value for each in app.caption)


def test_it_stays_temporary_where_facts_cannot_be_allowed(app, maya, monkeypatch):
    def is_away(**_):
        raise StoreUnavailable

    choose(maya.store.profile, keeps_facts=True)
    switches(app)
    with monkeypatch.context() as patched:
        patched.setattr(maya, "begin_temporary", is_away)
        app.toggle(key="temporary-reads").set_value(True).run()

    assert app.title[0].value == "Temporary chat"
    assert app.toggle(key="temporary-reads").value is False


def test_disconnected_temporary_chat_is_replaced_by_another(app, maya, database):
    asks(switches(app), "Hello")
    maya.temporary[0].end()

    asks(app, "Are you there?")

    assert app.title[0].value == "Temporary chat"
    assert "This temporary chat has ended" in app.warning[0].value
    assert in_composer(app) == "Are you there?"
    asks(app, "Are you there?")
    assert messages(app) == ["Are you there?", "Prune in March."]
    assert database.threads() == []


def test_temporary_chat_stays_when_an_exchange_is_deleted(app, maya):
    asks(switches(app), "Hello")
    asks(app, "And again")
    [chat] = maya.temporary
    prompt = chat.chat.open(chat.id).messages[2]
    in_dialog(app, messages_dialog, chat.id, prompt.id).run()

    pressed(in_dialog(app, messages_dialog, chat.id, prompt.id), "danger-delete-2")
    app.run()

    assert messages(app) == ["Hello", "Prune in March."]
    asks(app, "Go on")
    assert messages(app) == ["Hello", "Prune in March.", "Go on", "Prune in March."]


def test_page_of_a_temporary_chat_writes_nothing_to_the_users_chats(app, database):
    asks(switches(app), "Hello")

    app.run()

    assert "change_conversation" not in [verb for verb, *_ in database.rows.calls]


def test_messages_are_restored_after_the_temporary_chat_was_left(app, maya):
    asks(asks(switches(app), "Hello"), "And again")
    [chat] = maya.temporary
    prompt = chat.chat.open(chat.id).messages[2]
    in_dialog(app, messages_dialog, chat.id, prompt.id).run()
    pressed(in_dialog(app, messages_dialog, chat.id, prompt.id), "danger-delete-2")
    app.button(key="new-chat").click().run()
    press(app, "Undo")
    assert messages(app) == ["Hello", "Prune in March."]

    pressed(app, "restore-elsewhere")

    assert messages(app)[2:] == ["And again", "Prune in March."]


def test_temporary_chat_ending_during_a_run_is_reported(app, monkeypatch):
    asks(switches(app), "Hello")
    held = app.session_state[KEY].temporary

    with monkeypatch.context() as patch:
        patch.setattr("pages._parts.models.draw_notices", lambda *_: held.end())
        app.run()

    assert {each.value for each in app.error} == {ChatIsOver.public}
    assert not app.exception
