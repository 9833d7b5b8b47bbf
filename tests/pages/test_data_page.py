"""The page "Your data": the figures of each layer, and the buttons that clear them."""

import json
import re
from types import SimpleNamespace
from uuid import uuid4

import pytest
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext

from pages._parts.undo import chats_dialog
from services import bootstrap
from services.domain import Fact, FactId
from services.domain.models import ModelState
from services.errors import TooLate
from services.rules.accounts import Settings
from services.store.tables.schema import SETTINGS
from tests.fakes import NOON
from tests.pages.conftest import html, in_dialog, press, pressed, replace_the_run
from tests.pages.test_conversation_list import undo_lines
from tests.stores import USAGE


@pytest.fixture
def open_data(open_app, maya):
    return lambda **query: open_app(maya, **query).switch_page("pages/data.py").run()


def diagram(app):
    """Return the texts of the diagram."""
    drawn = [
        json.loads(one.proto.json)
        for one in app.get("bidi_component")
        if one.proto.component_name == "drawing"
    ]
    return re.findall(r"<text[^>]*>(.*?)</text>", drawn[0]["svg"])


def said(app):
    return "\n".join(each.value for each in (*app.markdown, *app.text))


def titles(database, **of):
    return {one.title for one in database.conversations.recent(**of)}


def test_diagram_has_the_figures_of_each_layer(open_data, database, maya):
    garden = database.hold("Garden", "One", "Two")
    database.hold("Pond", "Three", "Four")
    maya.store.facts.keep(Fact(id=FactId(uuid4()), text="Grows leeks.", since=NOON))
    maya.store.conversations.thread(garden)

    app = open_data()
    texts = diagram(app)

    assert texts[:2] == ["This browser", "Unsent drafts"]
    assert any(text.startswith("1 chat open: 2 messages, ") for text in texts)
    assert {"2 chats", "4 messages", "1 memory", "0 spaces", "2 requests"} <= set(texts)
    assert f"{2 * USAGE.prompt:,} tokens sent" in texts
    # in the user's time zone, as all times here
    assert "Days begin at 00:00, your time." in said(app)
    assert "UTC" not in said(app)


@pytest.mark.parametrize(
    ("most", "told"),
    [
        (None, None),
        (10**9, r"Storage used: [\d.]+ \w+ of 1 GB\."),
        (100, r"of 100 bytes\. It is full: "),
    ],
)
def test_storage_is_shown_with_its_limit(open_data, database, maya, most, told):
    database.hold("Garden", "One", "Two")
    maya.account_bytes = most

    shown = said(open_data())

    assert re.search(told, shown) if told else "Storage" not in shown


def test_request_under_way_is_counted(open_data, maya):
    maya.model.gate.clear()
    turn = maya.chat.begin(None, "How do I prune?")

    texts = diagram(open_data())
    maya.model.gate.set()
    turn.wait(30)

    assert "0 requests, 1 under way" in texts


def test_page_says_when_unused_chats_are_deleted(open_data, database):
    database.tables.store(SETTINGS, Settings(retention_days=90))

    sentence = "chats (pinned and archived ones too) for at most 90 days after their last use."
    assert f"until you delete it, {sentence}" in said(open_data())


def test_clearing_server_memory_leaves_no_opened_chat(open_data, database, maya):
    maya.store.conversations.thread(database.hold("Garden", "One", "Two"))

    app = pressed(open_data(), "drop-caches")

    assert any(text.startswith("0 chats open: 0 messages") for text in diagram(app))


def test_result_of_clearing_is_beside_its_button(open_data, database):
    database.hold("Garden", "One", "Two")

    app = pressed(open_data(), "drop-caches")
    assert "Server memory cleared.</p>" in html(app)

    app = pressed(app, "clear-context")
    assert "Context cleared.</p>" in html(app)
    assert "Server memory cleared." not in html(app)


def test_browser_is_cleared_after_a_question_and_told(open_data, open_app, maya):
    app = open_data()
    assert "data-clear-tab" not in html(app)
    assert "data-clear-tab" in html(pressed(app, "clear-browser"))

    app = open_app(maya, reason="cleared")  # where assets/page/data.js leads

    assert undo_lines(app) == ["This browser is cleared."]
    assert "reason" not in app.query_params


@pytest.mark.parametrize(
    ("state", "told"),
    [(ModelState.READY, "Runs on this server"), (ModelState.REMOTE, "The provider can read it")],
)
def test_diagram_names_a_provider_only_where_there_is_one(open_data, monkeypatch, state, told):
    monkeypatch.setattr(bootstrap.current_app().health, "model", state)

    assert diagram(open_data())[-1] == told


def test_context_of_the_chosen_chat_is_cleared(open_data, database):
    garden = database.hold("Garden", "One", "Two")
    database.hold("Pond", "Three", "Four")
    app = open_data()

    app.selectbox(key="to-clear").set_value(garden).run()
    pressed(app, "clear-context")

    resets = {one.conversation.title: one.conversation.reset_seq for one in database.threads()}
    assert resets == {"Garden": 2, "Pond": 0}


def test_context_of_a_chat_chosen_in_the_same_run_is_cleared(open_data, database):
    garden = database.hold("Garden", "One", "Two")
    database.hold("Pond", "Three", "Four")
    app = open_data()
    assert app.selectbox(key="to-clear").value != garden

    app.selectbox(key="to-clear").set_value(garden)
    pressed(app, "clear-context")

    resets = {one.conversation.title: one.conversation.reset_seq for one in database.threads()}
    assert resets == {"Garden": 2, "Pond": 0}


def test_context_of_the_shown_chat_of_several_with_one_title_is_cleared(open_data, database):
    hold = database.hold
    chats = [hold("Untitled", "One", "Two"), hold("Pond"), hold("Untitled", "Three", "Four")]
    app = open_data()
    app.selectbox(key="to-clear").set_value(chats[2]).run()
    shown = app.selectbox(key="to-clear").value

    pressed(app, "clear-context")

    resets = [database.thread(chat).conversation.reset_seq for chat in chats]
    assert (shown, resets) == (chats[2], [0, 0, 2])


def test_all_chats_are_deleted_and_restored(open_data, database):
    database.hold("Garden", "One", "Two")
    database.conversations.archive(database.hold("Pond", "Three", "Four"))
    app = pressed(open_data(), "delete-chats")
    assert "No chats match." in said(app)

    in_dialog(app, chats_dialog).radio(key="which-chats").set_value("All chats").run()
    pressed(in_dialog(app, chats_dialog), "danger-delete-2")
    assert titles(database) == titles(database, is_archived=True) == set()

    press(app, "Undo")
    assert (titles(database), titles(database, is_archived=True)) == ({"Garden"}, {"Pond"})


def test_undo_of_all_deletions_that_comes_too_late_says_so(open_data, database):
    database.hold("Garden", "One", "Two")
    app = in_dialog(open_data(), chats_dialog).run()
    in_dialog(app, chats_dialog).radio(key="which-chats").set_value("All chats").run()
    app = pressed(in_dialog(app, chats_dialog), "danger-delete-1")
    database.let_pass(21)

    app = press(app, "Undo")

    assert [one.value for one in app.warning] == [TooLate.public]


def test_chats_are_restored_although_the_dialog_was_closed_meanwhile(open_data, database):
    for name in ("Garden", "Pond"):
        database.hold(name, "One", "Two")
    app = pressed(open_data(), "delete-chats")
    in_dialog(app, chats_dialog).radio(key="which-chats").set_value("All chats").run()
    database.rows.after["discard_conversation"] = replace_the_run

    pressed(in_dialog(app, chats_dialog), "danger-delete-2")
    assert titles(database) == set()
    press(app.run(), "Undo")

    assert titles(database) == {"Garden", "Pond"}


def test_only_unused_chats_are_deleted(open_data, database):
    database.hold("Garden", "One", "Two")
    database.let_pass(-100 * 86400)
    database.hold("Pond", "Three", "Four")
    database.let_pass(100 * 86400)
    app = pressed(open_data(), "delete-chats")

    pressed(in_dialog(app, chats_dialog), "danger-delete-1")

    assert titles(database) == {"Garden"}


def test_progress_of_a_running_export_is_shown(open_data, maya):
    maya.export = SimpleNamespace(done=3, total=10, is_over=False)

    (bar,) = open_data().get("progress")

    assert bar.proto.text == "Exporting: 3 of 10 chats"


@pytest.fixture
def polls(monkeypatch):
    """The messages that make the browser run a fragment at an interval."""
    polls, enqueue = [], ScriptRunContext.enqueue

    def note(context, message):
        polls.extend([message] if message.HasField("auto_rerun") else [])
        enqueue(context, message)

    monkeypatch.setattr(ScriptRunContext, "enqueue", note)
    return polls


@pytest.mark.parametrize("is_over", [None, True, False])
def test_page_polls_only_while_an_export_runs(open_data, maya, is_over, polls):
    maya.export = None if is_over is None else SimpleNamespace(done=3, total=10, is_over=is_over)

    open_data()

    assert bool(polls) is (is_over is False)


def test_end_of_an_export_closes_no_dialog(open_data, maya, polls):
    app = open_data()
    maya.export = SimpleNamespace(done=3, total=10, is_over=False)

    in_dialog(app, chats_dialog).run()
    assert app.get("dialog")
    assert not polls

    app.run()
    assert polls


def test_page_leads_to_the_account_for_the_rest(open_data):
    page = html(open_data())

    assert 'href="/account" target="_self">Manage or delete your account</a>' in page
    assert "/account/end" not in page


@pytest.fixture
def alone(health):
    """Let the deployment have no sign-in."""
    bootstrap.current_app().is_alone = True


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("is_plain", [False, True])
def test_page_takes_the_place_of_the_account_without_sign_in(open_data, is_plain):
    bootstrap.current_app().is_plain = is_plain

    app = open_data()

    page, text = html(app) + html(press(app, "Delete account")), said(app)
    assert "This Daybook is for one person and needs no password" in text
    assert ("set-password EMAIL" in text) is not is_plain  # plain text is for one person alone
    assert page.count('action="/session/end"') == 2
    form = page.split('action="/account/end?then=end"')[1]
    assert "Type “delete” to confirm" in form
    assert "password" not in form
    assert 'href="/account"' not in page
    assert "Two-step verification" not in [title.value for title in app.subheader]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("email", "Your account was not deleted. Type “delete” to confirm"),
        ("still-signed-in", "You are still signed in"),
        ("unavailable", "Your change may not have been saved."),
    ],
)
def test_refused_deletion_without_sign_in_is_told(open_data, reason, sentence):
    errors = [error.value for error in open_data(reason=reason).error]

    assert len(errors) == 1
    assert sentence in errors[0]


@pytest.mark.usefixtures("alone")
def test_menu_without_sign_in_has_no_account_and_no_spending(open_data):
    app = open_data()

    menu = html(app)
    assert ('href="/account"' in menu, 'href="/data"' in menu, 'href="/admin"' in menu) == (
        False,
        True,
        False,
    )
    assert "Spent today" not in menu
    assert 'id="sign-out"' not in html(app)


@pytest.mark.parametrize("is_alone", [False, True])
def test_cookies_of_the_browser_are_named(open_data, monkeypatch, is_alone):
    monkeypatch.setattr(bootstrap.current_app(), "is_alone", is_alone)

    app = open_data()

    assert "cookie keeps you signed in" in said(app)
    assert ("marks this browser" in said(app)) is not is_alone
    assert any("ookie" in text for text in diagram(app))


def test_page_says_that_texts_are_not_sealed_and_names_files_that_were_not_read(
    open_data, monkeypatch
):
    app = bootstrap.current_app()
    monkeypatch.setattr(app, "is_plain", True)
    monkeypatch.setattr(app, "unread_files", lambda user_id: ["other"])

    text = said(open_data())

    assert "Everything you keep is stored as plain text, in" in text
    assert "a copy of them is kept too (as plain text), from which the search index is made" in text
    assert (
        "Not read: other. A start reads JSON lists up to 10 MB, of messages up to 294 kB." in text
    )
