"""The chat page as a user sees it, with the real chat over fakes."""

import contextlib
import json
import re
from base64 import b64encode
from uuid import UUID, uuid4

import pytest
import streamlit as st

from pages import _session, _tab
from pages._parts import browser, sidebar, thoughts, turns, undo, words
from pages._parts.preferences import instructions_dialog
from pages._parts.undo import branches_dialog, messages_dialog
from pages._tab import KEY, Callbacks, Refusal
from services import bootstrap
from services.domain import AccountRole, Full, Outcome, Usage, Window
from services.domain.model_failures import FailureDetails, ModelFailure, ModelUnavailable
from services.domain.models import ModelState
from services.domain.turns import StopCause
from services.errors import ChatFull, NotFound, SignedOut, StoreUnavailable
from services.llm import LimitReached, Offer
from tests.fakes import LARGE, FakePerson, ScriptedModel
from tests.pages.conftest import (
    captions,
    clicked,
    html,
    in_composer,
    in_dialog,
    listed,
    opened,
    options_above,
    pressed,
    regenerated,
    replace_the_run,
    unanswered,
    warnings,
)
from tests.pages.conftest import messages as said
from tests.stack.apps import SECONDS, until
from tests.store.conformance.talk import a_fact

TRACKER = "http://tracker.example/pixel.png"


def titles(app):
    return [words for words in listed(app) if words not in ("Today", "No chats yet.")]


@pytest.mark.parametrize("is_plain", [False, True])
def test_new_chat_says_how_chats_are_stored(open_app, maya, is_plain):
    bootstrap.current_app().is_plain = is_plain

    shown = [one.value for one in open_app(maya).markdown]

    how = "as plain text" if is_plain else "encrypted"
    assert f":gray[Ask anything. Chats are stored {how}.]" in shown


def send(app, prompt):
    return app.chat_input(key="composer").set_value(prompt).run()


def following_nothing(app, thread):
    """Draw a streaming reply once without following it, as while a dialog is open."""
    return in_dialog(app, instructions_dialog, thread.conversation)


def begin_slowly(maya, prompt, conversation_id=None):
    """Return a turn whose reply has begun, and which continues once the gate of the model opens."""
    maya.model.gate.clear()
    turn = maya.chat.begin(conversation_id, prompt)
    until(turn.said)
    return turn


def pairs(count):
    return [f"{who} {n}" for n in range(count) for who in ("prompt", "reply")]


def test_a_reply_is_shown_kept_and_found_again(open_app, maya):
    app = send(open_app(maya), "When do I prune?")

    assert said(app) == ["When do I prune?", "Prune in March."]
    assert titles(app) == ["When do I prune?"]
    again = open_app(maya, c=app.query_params["c"])
    assert said(again) == ["When do I prune?", "Prune in March."]


def test_reply_that_ends_as_its_page_begins_is_drawn_as_a_reply(open_app, maya, monkeypatch):
    begun = turns.begun

    def ended(temporary_chat):
        if turn := begun(temporary_chat):
            maya.model.gate.set()
            assert turn.wait(SECONDS)
        return turn

    monkeypatch.setattr(turns, "begun", ended)
    maya.model.gate.clear()

    app = send(open_app(maya), "When do I prune?")

    assert said(app) == ["When do I prune?", "Prune in March."]
    assert len(app.chat_message) == 1  # prompts are HTML


def test_a_conversation_without_a_message_opens(open_app, maya, database):
    """Such a conversation remains if a process died before it stored the first prompt."""
    app = open_app(maya, c=str(database.hold("Empty")))

    assert [title.value for title in app.title] == ["Empty"]
    assert not app.exception


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-4000-8000-000000000000"])
def test_what_is_not_ones_own_does_not_exist(open_app, maya, name):
    app = open_app(maya, c=name)

    assert [error.value for error in app.error] == ["This chat does not exist."]
    assert not app.chat_input
    assert app.button(key="way-out").click().run().title[0].value == "New chat"


# --- refused prompts -----------------------------------------------------------------------------


def test_prompt_over_budget_returns_to_the_composer(open_app, maya, database):
    database.ledger.daily_micro = 1
    app = send(open_app(maya), "A long thought")

    [warning] = app.warning
    assert re.fullmatch(
        r"Daily limit reached: \\\$0\.00 left, a short reply may need up to \\\$0\.\d{2,4}\. "
        r"Resets at 00:00, your time\.",
        warning.value,
    )
    assert "An admin can raise the limit." in [caption.value for caption in app.caption]
    assert in_composer(app) == "A long thought"
    assert not app.chat_message
    assert titles(app) == []


@pytest.mark.parametrize("is_same_process", [True, False])
def test_stale_tab_is_told_and_keeps_its_prompt(open_chat, database, is_same_process):
    app, garden = open_chat("One", "Two")
    database.go_on(garden, "From the other tab")
    if is_same_process:
        database.thread(garden)  # the tabs of this process share the last read

    send(app, "From this tab")

    assert "changed in another tab" in app.warning[0].value
    assert said(app) == ["One", "Two", "From the other tab"]
    assert in_composer(app) == "From this tab"
    send(app, "From this tab")
    assert said(app)[-2:] == ["From this tab", "Prune in March."]


def test_refused_prompt_stays_out_of_other_conversations(open_app, maya, database):
    """The prompt was sent in the garden, and refused after the user had opened the sea."""
    garden = database.hold("Garden")
    sea = database.hold("Sea")
    app = open_app(maya, c=str(sea))
    refusal = Refusal(StoreUnavailable.public, "A thought", garden)
    app.session_state[KEY].callbacks.keep(refusal)

    for _ in range(2):  # the refusal stays
        app.run()
        assert StoreUnavailable.public in warnings(app)
        assert in_composer(app) == ""
        assert [code.value for code in app.code] == ["A thought"]

    opened(app, garden)
    assert in_composer(app) == "A thought"
    assert not app.code
    assert not app.run().warning


def test_a_prompt_that_was_refused_elsewhere_can_be_dismissed(open_app, maya, database):
    garden = database.hold("Garden")
    app = open_app(maya)
    elsewhere, here = (Refusal("No.", "A thought", garden), Refusal("No.", "Another"))
    for refusal in (elsewhere, here):
        app.session_state[KEY].callbacks.keep(refusal)
    app.run()
    assert in_composer(app) == "Another"  # the prompt was written on this page

    app.button(key=f"dismiss-{elsewhere.id}").click().run()
    assert not app.code
    assert not app.warning


@pytest.mark.parametrize("error", [StoreUnavailable(), NotFound()])
def test_refused_prompt_of_a_deleted_chat_is_saved_nowhere(open_app, maya, database, error):
    app = open_app(maya)
    refusal = Refusal(error.public, "A thought", database.hold("Garden"), error)
    app.session_state[KEY].callbacks.keep(refusal)

    app.run()

    assert [code.value for code in app.code] == ["A thought"]
    is_saved = "This draft is saved in the chat where you wrote it." in captions(app)
    assert is_saved is not isinstance(error, NotFound)


def test_refusal_that_comes_again_is_a_new_one():
    """The browser scrolls to a refusal that was not on the page when the prompt was sent."""
    callbacks = Callbacks()
    first, again = Refusal("No.", "A thought"), Refusal("No.", "A thought")

    for refusal in (first, Refusal("No.", "Another"), again):
        callbacks.keep(refusal)

    assert [one.prompt for one in callbacks.refusals] == ["Another", "A thought"]
    assert callbacks.refusals[-1].id == again.id != first.id


def test_new_chats_page_knows_the_prompt_that_began_a_chat(open_app, maya, monkeypatch):
    """The browser lost the response, and with it the URL of the chat."""
    app, drafts = open_app(maya), []
    monkeypatch.setattr(
        browser, "_DRAFTS", lambda data, **_: drafts.append(json.loads(data["json"]))
    )

    app = send(app, " When do I prune? ")
    app.query_params.clear()
    app.run()

    assert (drafts[-1]["place"], drafts[-1]["count"]) == ("new", 1)
    assert drafts[-1]["prompts"] == [[16, "When do I prune?"]]
    app.button(key="new-chat").click().run()
    assert (drafts[-1]["prompts"], drafts[-1]["count"]) == ([], 1)


def test_new_chats_page_knows_no_prompt_of_a_temporary_chat(open_app, maya, monkeypatch):
    drafts = []
    monkeypatch.setattr(
        browser, "_DRAFTS", lambda data, **_: drafts.append(json.loads(data["json"]))
    )
    app = send(open_app(maya, temporary="1"), "A thought")

    app.query_params.clear()
    app.run()

    assert (drafts[-1]["place"], drafts[-1]["prompts"]) == ("new", [])


def test_refusal_survives_an_interrupted_run(open_app, maya, database, monkeypatch):
    """The browser has just learned that the database is away, and asks for another run at once."""
    app = open_app(maya)
    database.rows.failure = StoreUnavailable()
    once = [st.rerun]
    monkeypatch.setattr(browser, "keep_drafts", lambda *_, **__: once and once.pop()())

    send(app, "A thought")

    assert not once
    assert StoreUnavailable.public in warnings(app)
    assert in_composer(app) == "A thought"
    assert StoreUnavailable.public not in warnings(app.run())


def test_refusal_of_a_replaced_run_is_drawn(open_app, maya, monkeypatch):
    app = open_app(maya)

    def refuse(*_):
        # the replacing run sees the running callback, and asks for another run
        assert _tab.tab().callbacks.running
        replace_the_run()
        raise StoreUnavailable

    monkeypatch.setattr(maya.store.turns, "begin", refuse)
    send(app, "A thought")
    assert not app.warning  # the run ended in the callback

    app.run()
    assert app.warning[0].value == StoreUnavailable.public
    assert in_composer(app) == "A thought"


@pytest.mark.parametrize("is_over", [True, False])
def test_late_callback_has_the_page_drawn_again(open_app, maya, monkeypatch, is_over):
    looks = []
    monkeypatch.setattr(
        st, "fragment", lambda **_: lambda look: lambda: looks.append(look.__name__)
    )

    def another_run_ends(*_):
        if is_over:
            with _session.keep_errors():
                pass

    monkeypatch.setattr(browser, "announce", another_run_ends)
    open_app(maya)

    assert looks == (["glance"] if is_over else [])


@pytest.mark.parametrize("late", [(sidebar, "draw_rest"), (undo, "draw")], ids=["end", "start"])
@pytest.mark.parametrize("page", ["chat", "memory", "usage", "data", "account", "admin"])
def test_late_callback_has_every_page_drawn_again(open_app, maya, monkeypatch, page, late):
    app, looks = open_app(maya).switch_page(f"pages/{page}.py").run(), []
    monkeypatch.setattr(
        st, "fragment", lambda **_: lambda look: lambda: looks.append(look.__name__)
    )
    app.run()
    assert looks == []

    def another_run_ends(*_):
        with _session.keep_errors():
            pass

    monkeypatch.setattr(*late, another_run_ends)
    app.run()

    assert looks == ["glance"]


def test_fresh_page_becomes_its_conversation_after_a_replaced_run(open_app, maya, database):
    app = open_app(maya)
    database.rows.before["begin_turn"] = replace_the_run
    send(app, "When?")

    assert said(app.run()) == ["When?", "Prune in March."]
    assert app.query_params["c"]


def test_callback_of_a_replaced_run_finishes(open_chat, database, monkeypatch):
    app, garden = open_chat("One", "Two")
    app.session_state[KEY].edited_title = f"menu-{garden}", garden
    app.run()
    database.rows.after["change_conversation"] = replace_the_run
    app.text_input(key=f"title-{garden}").set_value("Beans").run()

    app.run()
    assert app.title[0].value == "Beans"
    assert app.session_state[KEY].edited_title is None


def test_prompt_sent_to_a_restarted_server_comes_back(open_chat, monkeypatch):
    monkeypatch.setattr(turns, "send", lambda *_: None)  # a restarted server calls no callback
    app, _ = open_chat("One", "Two")

    send(app, "A thought")

    assert app.warning[0].value == "The connection was lost. Please send again."
    assert in_composer(app) == "A thought"


def test_lost_choices_for_a_new_chat_are_told(open_app, maya, monkeypatch):
    monkeypatch.setattr(turns, "send", lambda *_: None)  # a restarted server calls no callback

    app = send(open_app(maya), "A thought")

    assert "Choices for this chat were reset" in app.warning[0].value
    assert in_composer(app) == "A thought"


def test_lost_temporary_chat_is_told(open_app, maya, monkeypatch):
    monkeypatch.setattr(turns, "send", lambda *_: None)  # a restarted server calls no callback

    app = send(open_app(maya, temporary="1"), "A thought")

    assert "this temporary chat was deleted" in app.warning[0].value
    assert in_composer(app) == "A thought"


def test_prompt_of_an_ended_session_can_be_copied(open_app, maya, tab):
    app = open_app(maya)
    tab.person = None

    send(app, "A thought")

    assert [code.value for code in app.code] == ["A thought"]
    assert app.tabs


def test_refused_call_leads_to_sign_in_and_check(open_app, maya, database, monkeypatch):
    session_id, doubted = str(uuid4()), []
    monkeypatch.setattr(st, "user", {"sid": session_id})
    monkeypatch.setattr(bootstrap.current_app(), "doubt", doubted.append)
    database.rows.failure = SignedOut()

    app = open_app(maya, c=str(uuid4()))

    assert app.info[0].value.startswith("You were signed out.")
    assert not app.chat_input
    assert doubted == [session_id]


@pytest.mark.parametrize("address", [{}, {"c": str(uuid4())}], ids=["all drawn", "nothing found"])
def test_session_ended_during_a_run_leads_to_sign_in(open_app, maya, tab, monkeypatch, address):
    def has_ended(session_id):
        was_signed_in, tab.person = tab.person is not None, None
        return was_signed_in

    monkeypatch.setattr(st, "user", {"sid": str(uuid4())})
    monkeypatch.setattr(bootstrap.current_app(), "has_ended", has_ended)

    app = open_app(maya, **address)

    assert app.info[0].value.startswith("You were signed out.")
    # the page is reloaded here, and loses text that is typed into a form before
    assert not app.tabs
    assert not app.chat_input
    assert not app.error


# --- replies that fail, stop or break -------------------------------------------------------------


def test_failed_model_is_reported_with_retry(open_app, maya, model):
    model.pieces, model.failure = (), ModelUnavailable(ModelFailure.BUSY)
    app = send(open_app(maya), "When?")

    assert "The model is busy (rate limit). Your message is saved; try again." in captions(app)
    assert said(app) == ["When?"]
    model.pieces, model.failure = ("In March.",), None
    app.button(key="retry").click().run()
    assert said(app) == ["When?", "In March."]
    assert "try again" not in captions(app)


@pytest.mark.parametrize(
    ("outcome", "sentence", "buttons"),
    [
        (Outcome.CUT, "The reply was cut off at its length limit.", ["Continue"]),
        (
            Outcome.STOPPED,
            "You stopped this reply. The partial reply is saved.",
            ["Continue", "Retry"],
        ),
        (
            Outcome.FAILED,
            "The model did not finish this reply. The partial reply is saved.",
            ["Continue", "Retry"],
        ),
        (
            Outcome.INTERRUPTED,
            "This reply was interrupted. The partial reply is saved.",
            ["Continue", "Retry"],
        ),
    ],
)
def test_ending_of_a_reply_is_a_line_then_buttons_then_icons(open_chat, outcome, sentence, buttons):
    app, _ = open_chat("When?", "Pru", outcome=outcome)

    line, row, icons = in_order(app)
    assert line.endswith(sentence)
    assert row == buttons
    assert 'aria-label="Copy reply"' in icons
    assert ('aria-label="Regenerate"' in icons) == ("Retry" not in buttons)
    assert not [words.value for words in app.main.markdown if "-badge[" in words.value]
    assert len(send(app, "Go on").chat_message[0].markdown) == 2  # the mark of the reply stays


def test_edited_reply_has_no_line_below(open_chat):
    app, _ = open_chat("When?", "Pru", outcome=Outcome.EDITED)

    assert any("Edited" in badge.value for badge in app.main.markdown)
    assert "You edited this reply." not in captions(app)


def in_order(app):
    """Return the line, the labels of the buttons, and the icons below the last message, in the order of the page."""
    found = []
    for part in app.main:
        match part.type:
            case "caption" if not found:
                found.append(part.value)
            case "button" if len(found) == 1 and part.label in ("Continue", "Retry"):
                found.append([part.label])
            case "button" if len(found) == 2 and part.label == "Retry":
                found[1].append(part.label)
            case "html" if len(found) == 2 and "Copy reply" in part.proto.body:
                found.append(part.proto.body)
            case _:
                pass
    return found


@pytest.mark.parametrize(
    ("pieces", "failure", "sentence"),
    [
        (
            ("Pru",),
            ModelFailure.BROKEN,
            "returned an error. The partial reply is saved; try again.",
        ),
        ((), ModelFailure.DROPPED, "The connection to the model was lost. Your message is saved."),
        (("Pru",), ModelFailure.DROPPED, "to the model was lost. The partial reply is saved."),
        (
            ("Pru",),
            ModelFailure.PROMPT_FILTERED,
            "The partial reply is saved. Edit the message to send it again.",
        ),
    ],
)
def test_failure_says_what_is_saved(open_app, maya, model, monkeypatch, pieces, failure, sentence):
    announced = []
    monkeypatch.setattr(browser, "announce", lambda words, _: announced.append(words))
    model.pieces, model.failure = pieces, ModelUnavailable(failure)

    app = send(open_app(maya), "When?")

    assert sentence in captions(app)
    assert sentence in announced[-1]


def test_provider_s_own_words_are_folded_below_the_failure(open_app, maya, model):
    details = FailureDetails(400, code="context_length_exceeded", sentence="*At most* 8192 tokens")
    model.pieces = ()
    model.failure = ModelUnavailable(ModelFailure.TOO_LONG, details=details)

    app = send(open_app(maya), "When?")

    [fold] = [fold for fold in app.expander if fold.label == "Details"]
    assert [text.value for text in fold.text] == [
        "Status: 400\nCode: context_length_exceeded\nThe provider says: *At most* 8192 tokens"
    ]
    [failed] = maya.offers.failures.latest()
    assert (failed.model, failed.code) == (maya.offers.first.info.name, details.code)


def test_failure_before_the_page_is_drawn_is_announced(open_app, maya, model, monkeypatch):
    announced, retry = [], maya.chat.retry
    model.pieces, model.failure = (), ModelUnavailable(ModelFailure.BUSY)
    turn = maya.chat.begin(None, "When?")
    assert turn.wait(SECONDS)
    app = open_app(maya, c=str(turn.conversation_id))
    monkeypatch.setattr(browser, "announce", lambda words, _: announced.append(words))
    monkeypatch.setattr(type(maya.chat), "retry", lambda _, *a, **k: retry(*a, **k).wait(SECONDS))

    app.button(key="retry").click().run()

    assert announced == ["The model is busy (rate limit). Your message is saved; try again."]


def test_busy_model_disables_retry_while_it_asks_to_wait(open_app, maya, model, monkeypatch):
    monkeypatch.setattr(ModelUnavailable, "wait_seconds", 40)
    model.pieces, model.failure = ("Pru",), ModelUnavailable(ModelFailure.BUSY)
    app = send(open_app(maya), "When?")
    assert "The partial reply is saved. Try again in 40 s." in captions(app)
    assert app.button(key="retry-later").disabled
    assert app.button(key="continue").disabled

    monkeypatch.setattr(ModelUnavailable, "wait_seconds", 0)
    app.run()

    assert "The partial reply is saved; try again." in captions(app)
    assert not app.button(key="retry").disabled
    assert not app.button(key="continue").disabled


@pytest.mark.parametrize(
    "outcome", [Outcome.CUT, Outcome.STOPPED, Outcome.FAILED, Outcome.INTERRUPTED]
)
def test_reply_that_ended_early_goes_on_in_its_place(open_app, maya, database, model, outcome):
    garden = database.hold("Garden", "When?", "Prune", outcome=outcome)
    model.pieces = (" in ", "March.")

    app = open_app(maya, c=str(garden))
    assert 'aria-label="Copy reply"' in html(app)
    app.button(key="continue").click().run()

    assert said(app) == ["When?", "Prune in March."]
    assert 'aria-label="Regenerate"' in html(app)
    assert not [button for button in app.button if button.key == "continue"]
    assert sum("Copy reply" in html.proto.body for html in app.get("html")) == 1


def test_reply_that_goes_on_is_drawn_once(open_app, maya, database, model):
    garden = database.hold("Garden", "When?", "Prune", outcome=Outcome.CUT)
    model.pieces = (" in", LimitReached())
    app = open_app(maya, c=str(garden)).button(key="continue").click().run()
    model.pieces = (" March", " or May.")
    model.gate.clear()
    turn = maya.chat.continue_reply(garden, maya.chat.open(garden).tip.id)
    until(turn.said)

    following_nothing(app, database.thread(garden)).run()

    assert said(app) == ["When?", "Prune in March ▍"]
    model.gate.set()


def test_continued_reply_shows_the_sum_of_its_costs(open_app, maya, database, model):
    garden = database.hold("Garden", "When?", "Prune", outcome=Outcome.CUT)
    model.pieces = (" in March.", Usage(60, 34, 40))
    app = open_app(maya, c=str(garden)).button(key="continue").click().run()

    rows = [html.proto.body for html in app.get("html")]

    assert any("1,260 + 68 tokens" in row and "$0.0009" in row for row in rows)


def test_a_prompt_that_nobody_answered_can_be_tried_again(open_chat):
    app, _ = open_chat("When?")
    assert "No reply was received. Your message is saved." in captions(app)

    app.button(key="retry").click().run()

    assert said(app) == ["When?", "Prune in March."]


@pytest.mark.parametrize(
    ("failure", "told", "told_admins"),
    [
        (ModelFailure.UNAUTHORIZED, "Ask your admin to check", "Check OPENAI_API_KEY."),
        (ModelFailure.REJECTED, "Ask your admin to check", "Check the model name (DAYBOOK_MODEL,"),
        (ModelFailure.NO_CREDIT, "Ask your admin to check", "Add credit at the provider."),
        (ModelFailure.BUSY, "The model is busy", "The model is busy"),
    ],
)
@pytest.mark.parametrize("role", AccountRole)
def test_failure_tells_who_can_mend_it(open_app, database, failure, told, told_admins, role):
    model = ScriptedModel((), ModelUnavailable(failure))

    app = send(open_app(FakePerson(database, model, role)), "When?")

    assert (told_admins if role is AccountRole.ADMIN else told) in captions(app)


@pytest.mark.parametrize("role", AccountRole)
def test_address_of_a_silent_endpoint_is_for_admins(open_app, database, role):
    outage = "No answer at `http://127.0.0.1:8611/v1`. Check OPENAI_BASE_URL."
    model = ScriptedModel((), ModelUnavailable(ModelFailure.UNREACHABLE, outage))

    app = send(open_app(FakePerson(database, model, role)), "When?")

    for_all = "The model cannot be reached. Your message is saved; try again."
    for_admins = f"{outage} Your message is saved."
    assert (for_admins in captions(app)) == (role is AccountRole.ADMIN)
    assert (for_all in captions(app)) == (role is not AccountRole.ADMIN)


def test_empty_reply_says_that_it_was_empty(open_app, maya, model):
    model.pieces = ("\n", Usage(60, 1))
    app = send(open_app(maya), "When?")

    assert "The model sent an empty reply. Your message is saved; try again." in captions(app)
    model.pieces = ("In March.",)
    app.button(key="retry").click().run()
    assert said(app) == ["When?", "In March."]
    assert "try again" not in captions(app)


@pytest.mark.parametrize(
    ("pieces", "failure", "sentence"),
    [
        (("\n",), None, "The model sent an empty reply. Your message is saved; try again."),
        (("\n", " "), StopCause.USER, "You stopped this reply. Your message is saved."),
        (("\n", " "), StopCause.SERVER, "This reply was interrupted. Your message is saved."),
        ((), ModelUnavailable(ModelFailure.BUSY), "No reply was received. Your message is saved."),
    ],
)
def test_reason_of_a_missing_reply_outlives_the_process(
    open_app, maya, database, model, pieces, failure, sentence
):
    model.pieces = pieces
    if isinstance(failure, StopCause):
        model.gate.clear()
    else:
        model.failure = failure
    turn = maya.chat.begin(None, "When?")
    if isinstance(failure, StopCause):
        turn.stop(failure)
        model.gate.set()
    assert turn.wait(10)

    app = open_app(FakePerson(database, model), c=str(turn.conversation_id))

    assert sentence in captions(app)
    assert "You stopped" not in captions(app) or failure is StopCause.USER


def test_outcome_is_announced_until_another_conversation_is_read(
    open_app, maya, database, monkeypatch
):
    announced = []
    monkeypatch.setattr(browser, "announce", lambda words, _: announced.append(words))
    other = database.hold("Other", "One", "Two")
    app = send(open_app(maya), "When?")

    app.run()  # a browser may show only the second of two quick runs
    assert announced[-2:] == ["The reply is complete."] * 2

    opened(app, other)
    app.sidebar.button[-1].run()
    assert announced[-2:] == ["", ""]


def test_stopped_reply_without_text_is_announced(open_app, maya, monkeypatch):
    announced, begun = [], turns.begun

    def stopped(temporary_chat):
        if turn := begun(temporary_chat):
            turn.stop()
            maya.model.gate.set()
            assert turn.wait(SECONDS)
        return turn

    monkeypatch.setattr(turns, "begun", stopped)
    monkeypatch.setattr(browser, "announce", lambda words, _: announced.append(words))
    maya.model.pieces = ("\n", " ")
    maya.model.gate.clear()

    send(open_app(maya), "When?")

    assert announced[-1] == "You stopped this reply. Your message is saved."


def test_page_is_sent_before_it_is_drawn_again(open_app, maya, monkeypatch):
    news = iter(range(1000))
    runs = []
    monkeypatch.setattr(turns, "expected_news", lambda *_: (frozenset([next(news)]),))
    monkeypatch.setattr(browser, "announce", lambda *_: runs.append(1))

    open_app(maya)

    assert runs == [1]


@pytest.mark.parametrize(
    ("patience", "is_another_drawn", "heard"),
    [(60.0, False, True), (60.0, True, False), (0.0, True, True)],
    ids=["alone", "while another is drawn", "when that takes too long"],
)
def test_rest_of_a_page_waits_for_other_pages(
    open_app, maya, model, monkeypatch, patience, is_another_drawn, heard
):
    announced = []
    drawn = []
    draw = thoughts.StreamedReply.draw

    def draw_thrice(reply, said):
        draw(reply, said)
        if said:
            drawn.append(said)
        if len(drawn) == 3:
            model.gate.set()

    monkeypatch.setattr(browser, "announce", lambda words, _: announced.append(words))
    monkeypatch.setattr(thoughts.StreamedReply, "draw", draw_thrice)
    monkeypatch.setattr(turns, "_PATIENCE", patience)
    turn = begin_slowly(maya, "When?")

    with turns._drawing if is_another_drawn else contextlib.nullcontext():
        app = open_app(maya, c=str(turn.conversation_id))

    assert ("A reply is coming." in announced) == heard
    assert said(app) == ["When?", "Prune in March."]


def test_stop_ends_the_reply_and_keeps_what_was_said(open_app, maya, database):
    turn = begin_slowly(maya, "When?")
    app = open_app(maya)
    app.query_params["c"] = str(turn.conversation_id)
    following_nothing(app, database.thread(turn.conversation_id)).run()

    app.button(key="stop").click().run()

    assert said(app) == ["When?", "Prune"]
    assert "You stopped this reply." in captions(app)
    assert "stop" not in [button.key for button in app.button]


def test_second_prompt_is_kept_while_a_reply_streams(open_chat, maya, model, database):
    app, garden = open_chat("One", "Two")
    begin_slowly(maya, "Three", garden)
    following_nothing(app, database.thread(garden))

    send(app, "Four")

    assert warnings(app) == ["A reply is still coming. Wait for it, or stop it first."]
    assert said(app)[2:] == ["Three", "Prune  ▍"]
    assert in_composer(app) == "Four"
    model.gate.set()


# --- text from elsewhere --------------------------------------------------------------------------


def test_nothing_that_anybody_wrote_loads_from_elsewhere(open_app, maya, database):
    image = f"![seen]({TRACKER})"
    garden = database.hold(image, f"Look: {image}", f"A reply with {image}")

    app = open_app(maya, c=str(garden))

    everything = [element.value for element in (*app.markdown, *app.title, *app.caption)]
    everything += [button.label for button in app.button]
    assert any("tracker" in text for text in everything)
    assert not [text for text in everything if "![" in text]


def test_too_long_line_is_drawn_as_code_as_it_is(open_app, maya, model):
    model.pieces = (f"\n {'[' * 20_000}\n  \n![seen]({TRACKER})\n",)

    app = send(open_app(maya), "Draw")

    assert [code.value for code in app.code] == ["".join(model.pieces)]


def test_nor_does_a_reply_while_it_comes(open_app, maya, model, database):
    model.pieces = (f"Look: ![seen]({TRACKER})", "")
    turn = begin_slowly(maya, "Draw")
    app = open_app(maya)
    app.query_params["c"] = str(turn.conversation_id)

    following_nothing(app, database.thread(turn.conversation_id)).run()

    assert said(app)[1] == f"Look: [seen (image on tracker.example)]({TRACKER}) ▍"
    model.gate.set()


def test_an_address_in_a_label_is_no_link(open_app, maya):
    app = open_app(maya)

    captions = [caption.value for caption in app.sidebar.caption]
    assert not [caption for caption in captions if "maya@daybook.test" in caption.replace("\\", "")]


def test_reply_shows_its_model_and_cost(open_app, maya, database):
    garden = database.hold("Garden")
    for prompt, reply in (("Shade?", "Ferns]>"), ("Sun?", "Sage.")):
        database.go_on(garden, prompt, reply, model="a<b>c")
    app = open_app(maya, c=str(garden))

    rows = [row.value for row in app.main.get("html") if "db-acts" in row.value]
    rows = [row for row in rows if "db-ask" not in row]

    assert len(rows) == 2  # the figures of the last reply are drawn beside its buttons
    for row in rows:
        assert "a&lt;b&gt;c · 1,200 + 34 tokens · $0.0007 · " in row
        assert "1,200 input tokens (800 of them cached), 34 output tokens" in row
    assert f'data-copy="{b64encode(b"Ferns]>").decode()}"' in rows[0]


@pytest.mark.parametrize(("counted", "is_said"), [(400, True), (1800, False)])
def test_truncated_prompt_is_reported_below_the_reply(open_app, maya, model, counted, is_said):
    model.pieces = ("In March.", Usage(counted, 34))
    app = send(open_app(maya), "Water the beds and the pots every morning. " * 150)

    captions = [caption.value for caption in app.main.caption]
    told = [each for each in captions if "The provider counted only 400 of about " in each]
    assert len(told) == is_said


def test_both_versions_of_a_regenerated_reply_can_be_read(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.")
    app = regenerated(open_app(maya, c=str(garden)), database.thread(garden).tip)
    assert said(app) == ["Shade?", "Prune in March."]
    first, second = database.thread(garden).messages[1:]
    assert _switches(app) == [(str(first.id), "2 / 2", "")]

    app = open_app(maya, c=str(garden), m=str(first.id))
    assert said(app) == ["Shade?", "Ferns."]
    assert _switches(app) == [("", "1 / 2", str(second.id))]
    [exports] = [each.value for each in app.get("html") if "As Markdown" in each.value]
    assert f'name="m" value="{first.id}"' in exports

    app = send(app, "Why?")
    assert said(app) == ["Shade?", "Ferns.", "Why?", "Prune in March."]
    assert "m" not in app.query_params


def edit(app, database, conversation_id, number, text):
    """Edit the message of that number in place, and send it."""
    message = database.thread(conversation_id).messages[number]
    app.session_state[KEY].edited_message = message.id
    [field] = app.run().text_area
    assert field.value == message.body
    field.set_value(text)
    return app.button(key="send-message").click().run()


def test_edited_reply_says_so_and_can_be_edited_again(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")

    app = edit(open_app(maya, c=str(garden)), database, garden, 1, "Hostas.")

    assert said(app) == ["Shade?", "Hostas."]
    assert "Edited" in app.chat_message[0].markdown[-1].value
    edited = database.thread(garden).tip
    [row] = [row.value for row in app.main.get("html") if "Copy reply" in row.value]
    assert f'data-act="edit" data-message="{edited.id}" aria-label="Edit reply"' in row
    assert "2 / 2" in row


def test_double_click_on_save_stores_one_version(open_chat, database):
    app, garden = open_chat("Shade?", "Ferns.")
    app.session_state[KEY].edited_message = database.thread(garden).tip.id
    app.run().text_area[0].set_value("Hostas.")

    save = app.button(key="send-message").click()
    save.run()
    save.click().run()

    assert [one.body for one in database.thread(garden).messages] == ["Shade?", "Ferns.", "Hostas."]


def test_edit_that_is_refused_stays_in_its_field(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.")
    database.ledger.daily_micro = 1

    app = edit(open_app(maya, c=str(garden)), database, garden, 0, "Half shade?")

    assert "Daily limit reached" in app.warning[0].value
    assert [field.value for field in app.text_area] == ["Half shade?"]
    app.button(key="leave-message").click().run()
    assert said(app) == ["Shade?", "Ferns."]


def test_prompt_can_be_edited_once_no_reply_streams(open_app, maya, database, model):
    garden = database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")
    acts = r'data-act="(?:edit|delete)"|aria-label="Copy \w+"'

    def offered(app):
        rows = [row.value for row in app.main.get("html")]
        return [re.findall(acts, row) for row in rows if "db-ask" in row]

    app = open_app(maya, c=str(garden))
    copy, edit, delete = 'aria-label="Copy message"', 'data-act="edit"', 'data-act="delete"'
    assert offered(app) == [[copy, edit, delete]] * 2

    model.gate.clear()
    turn = maya.chat.retry(garden)
    following_nothing(app, database.thread(garden)).run()
    assert offered(app) == [['aria-label="Copy message"']] * 2
    model.gate.set()
    assert turn.wait(20)


def delete(app, database, conversation_id, number):
    """Open the dialog that deletes a prompt."""
    message = database.thread(conversation_id).messages[number]
    app.session_state["asked"] = messages_dialog, conversation_id, message.id
    return in_dialog(app, messages_dialog, conversation_id, message.id).run()


def agree(app, count):
    """Press the button of the dialog that `delete` opened."""
    return pressed(in_dialog(app, *app.session_state["asked"]), f"danger-delete-{count}")


def undo_lines(app):
    return re.findall('<p role="status">(Deleted.*)</p>', html(app))


@pytest.mark.parametrize("numbers", [[2], [4, 2]], ids=["at once", "one after the other"])
def test_deleted_prompts_and_their_followers_are_restored(open_chat, database, numbers):
    app, garden = open_chat("Shade?", "Ferns.", "Sun?", "Sage.", "Why?", "So.")
    for number in numbers:
        count = 4 // len(numbers)
        delete(app, database, garden, number)
        assert any(f"{count} messages" in text.value for text in app.markdown)
        agree(app, count)

    assert said(app.run()) == ["Shade?", "Ferns."]
    assert undo_lines(app) == ["Deleted 4 messages"]
    app.button(key=f"restore-{garden}").click().run()
    assert said(app) == ["Shade?", "Ferns.", "Sun?", "Sage.", "Why?", "So."]
    assert undo_lines(app) == []


def test_new_version_moves_no_button_of_its_reply(open_chat, database):
    app, garden = open_chat("Shade?", "Ferns.")
    before = button_names(app)

    regenerated(app, database.thread(garden).messages[1])

    assert before[:2] == ["Copy reply", "Edit reply"]
    assert button_names(app)[: len(before)] == before
    assert button_names(app)[len(before)] == "Previous version"


def button_names(app):
    """Return the labels of the buttons below the last reply in order."""
    below = next(one for one in reversed(html(app).split("\n")) if "Copy reply" in one)
    found = re.findall('aria-label="(.*?)"', below[below.index("Copy reply") - 12 :])
    return [name for name in found if "Details" not in name and "Versions" not in name]


def test_deletion_counts_messages_in_view_and_names_versions(open_chat, database, maya):
    app, garden = open_chat("Shade?", "Ferns.", "Sun?", "Sage.")
    regenerated(app, database.thread(garden).messages[3])

    delete(app, database, garden, 2)

    [told] = [text.value for text in app.markdown if "will be deleted" in text.value]
    assert told.startswith("**2 messages**")
    assert "Other versions of later messages are deleted too." in told


def test_chat_whose_first_prompt_is_deleted_is_deleted(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.")
    noted = a_fact(source_id=database.thread(garden).messages[0].id, source_conversation_id=garden)
    maya.store.facts.keep(noted)

    app = delete(open_app(maya, c=str(garden)), database, garden, 0)
    agree(app, 2)

    assert (database.threads(), maya.store.facts.facts()) == ([], ())
    app.run().button(key=f"restore-{garden}").click().run()
    assert said(app) == ["Shade?", "Ferns."]
    assert maya.store.facts.facts() == (noted,)


def test_dialog_of_a_chat_that_is_gone_says_so(open_chat, database):
    app, garden = open_chat("Shade?", "Ferns.")
    dialog = messages_dialog, garden, database.thread(garden).messages[0].id
    database.conversations.discard(garden, 20)

    in_dialog(app, *dialog).run()

    assert not app.exception
    assert [error.value for error in app.error] == [NotFound.public] * 2
    assert [one.key for one in app.button if one.label == "Start a new chat"] == ["way-out"]
    assert app.button(key="way-out").click().run().title[0].value == "New chat"


@pytest.mark.parametrize(("number", "verb"), [(0, "discard_conversation"), (2, "discard_messages")])
def test_deletion_whose_dialog_is_closed_meanwhile_is_undone(open_chat, database, number, verb):
    app, garden = open_chat("Shade?", "Ferns.", "Sun?", "Sage.")
    delete(app, database, garden, number)
    database.rows.after[verb] = replace_the_run

    agree(app, 4 - number)
    assert not database.threads() or len(database.thread(garden).messages) == number
    app.run().button(key=f"restore-{garden}").click().run()

    assert len(database.thread(garden).messages) == 4


def test_changed_number_of_messages_is_confirmed_again(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")
    app = delete(open_app(maya, c=str(garden)), database, garden, 2)
    database.go_on(garden, "Why?")

    agree(app, 2)

    assert len(database.thread(garden).messages) == 5
    assert undo_lines(app) == []


def test_deletion_of_messages_that_are_gone_can_be_tried_again(open_chat, maya, database):
    app, garden = open_chat("Shade?", "Ferns.", "Sun?", "Sage.")
    gone = [message.id for message in database.thread(garden).messages[2:]]
    maya.chat.deletions.delete_messages(garden, gone, 20)

    in_dialog(app, messages_dialog, garden, gone[0]).run()

    assert "This chat changed in another tab. Try again." in [error.value for error in app.error]


def test_only_the_branch_that_is_read_is_kept(open_app, maya, database):
    garden = database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")
    app = edit(open_app(maya, c=str(garden)), database, garden, 0, "Half shade?")

    menu(app, "Keep only this branch")
    in_dialog(app, branches_dialog, database.thread(garden).conversation)
    pressed(app, "danger-delete-4")

    app.run()
    assert said(app) == ["Half shade?", "Prune in March."]
    assert _switches(app) == []
    assert "Keep only this branch" not in options_above(app)
    app.button(key=f"restore-{garden}").click().run()
    assert len(database.thread(garden).messages) == 6


def test_messages_deleted_in_another_tab_can_be_restored(open_chat, open_app, maya, database):
    app, garden = open_chat("Shade?", "Ferns.", "Sun?", "Sage.")
    other = open_app(maya, c=str(garden))
    agree(delete(other, database, garden, 2), 2)

    app.run()
    assert said(app) == ["Shade?", "Ferns."]
    app.button(key="restore-elsewhere").click().run()

    assert said(app) == ["Shade?", "Ferns.", "Sun?", "Sage."]
    assert not [button for button in app.button if button.key == "restore-elsewhere"]


def test_undo_is_offered_while_messages_can_be_restored(open_app, maya, database):
    database.let_pass(-60)  # the clock of the database is slow
    garden = database.hold("Garden", "Shade?", "Ferns.")
    thread = maya.chat.open(garden)
    maya.chat.deletions.delete_messages(garden, [thread.messages[1].id], 20)
    app = open_app(maya, c=str(garden))
    assert app.button(key="restore-elsewhere").label == words.UNDO

    database.let_pass(21)
    app.run()

    assert not [button for button in app.button if button.key == "restore-elsewhere"]


def test_reply_is_regenerated_by_another_model_for_once(open_app, database, model):
    others = (Offer(LARGE, ScriptedModel(("Hostas.",))),)
    maya = FakePerson(database, model, others=others)
    garden = database.hold("Garden", "Shade?", "Ferns.", "Sun?", "Sage.")

    app = open_app(maya, c=str(garden))
    regenerated(app, database.thread(garden).messages[3], "large")
    assert said(app) == ["Shade?", "Ferns.", "Sun?", "Hostas."]

    regenerated(app, database.thread(garden).messages[1], "Context: Everything")
    assert said(app) == ["Shade?", "Prune in March."]
    conversation = database.thread(garden).conversation
    assert (conversation.model, conversation.policy) == (None, Window())


@pytest.mark.parametrize("name", ["nonsense", str(UUID(int=99))])
def test_a_version_that_is_none_is_not_looked_for(open_app, maya, garden, name):
    app = open_app(maya, c=str(garden), m=name)

    assert said(app) == ["One", "Two"]
    assert not app.error


def _switches(app):
    """Return the previous message, the label and the next message of each version switch."""
    button = '(?:data-message="([^"]*)"|disabled)'
    return re.findall(f"db-versions.*?{button}.*?<small>(.*?)</small>.*?{button}", html(app))


def test_what_replies_cost_may_be_unknown(open_app, maya, database):
    database.rows.failures["costs"] = StoreUnavailable()

    app = open_app(maya, c=str(database.hold("Garden", "Shade?", "Ferns.")))

    assert said(app) == ["Shade?", "Ferns."]
    assert not app.error


@pytest.mark.parametrize("number", [1, 3])
def test_unverified_reply_is_hidden_alone(open_app, maya, database, number):
    written = ["One", "Two", "Three", "Four"]
    garden = database.hold("Garden", *written)
    database.spoil("message", database.thread(garden).messages[number].id)

    app = open_app(maya, c=str(garden))

    assert "This message failed its integrity check and is hidden." in said(app)[number]
    assert [said(app)[n] == written[n] for n in range(4)] == [n != number for n in range(4)]
    assert "changed or deleted outside Daybook" in app.error[0].value
    assert not app.exception
    assert 'aria-label="Regenerate"' in html(app)


# --- long conversations and what the model sees of them --------------------------------------------


def test_last_twenty_messages_are_drawn_first(open_chat):
    app, _ = open_chat(*pairs(25), policy=Full())
    assert len(said(app)) == 20
    assert said(app)[-1] == "reply 24"

    app.button(key="earlier").click().run()
    app.button(key="earlier").click().run()

    assert len(said(app)) == 50
    assert "earlier" not in [button.key for button in app.button]


def test_chat_opens_ten_messages_before_the_one_that_its_address_names(open_chat, open_app, maya):
    _, garden = open_chat(*pairs(25), policy=Full())
    asked = maya.store.conversations.thread(garden).messages[20]

    app = open_app(maya, c=str(garden), at=str(asked.id))

    assert said(app)[0] == "prompt 5"
    assert said(app)[-1] == "reply 24"
    assert html(app).count("data-at") == 1
    assert f'<i hidden data-at="{asked.id}"></i><div class="db-message' in html(app)


def test_reply_that_the_address_names_is_marked_before_it(open_chat, open_app, maya):
    _, garden = open_chat(*pairs(3), policy=Full())
    reply = maya.store.conversations.thread(garden).messages[1]

    app = open_app(maya, c=str(garden), at=str(reply.id))

    shown = html(app)
    assert shown.index("prompt 0") < shown.index(f'data-at="{reply.id}"') < shown.index("prompt 1")


def test_found_message_in_another_version_is_shown_and_that_is_said(open_app, maya, database):
    garden = database.hold("Garden", "Peas?", "In March.")
    older = maya.store.conversations.thread(garden).messages[1]
    maya.store.messages.edit_reply(maya.store.conversations.thread(garden), older, "In April.")

    app = open_app(maya, c=str(garden), at=str(older.id))

    assert "In March." in said(app)
    assert app.query_params["m"] == str(older.id)
    assert "in another version of the chat" in html(app)

    newest = maya.store.conversations.thread(garden).messages[-1]
    clicked(app, act="show", message=str(newest.id))
    assert "In April." in said(app)
    assert "at" not in app.query_params


def test_found_message_that_is_gone_is_said(open_chat, open_app, maya):
    _, garden = open_chat(*pairs(3), policy=Full())

    app = open_app(maya, c=str(garden), at=str(uuid4()))

    assert said(app)[-1] == "reply 2"
    assert "This message no longer exists." in html(app)
    assert "at" not in app.query_params


def test_found_message_is_looked_for_once(open_chat, open_app, maya):
    _, garden = open_chat(*pairs(3), policy=Full())
    thread = maya.store.conversations.thread(garden)
    app = open_app(maya, c=str(garden), at=str(thread.messages[4].id))

    maya.store.messages.discard(thread, thread.messages[4:], (), 20, drops_summary=False)
    app.run()

    assert said(app)[-1] == "reply 1"
    assert "no longer exists" not in html(app)


@pytest.mark.parametrize("at", ["garden", "", "<b>"])
def test_unreadable_id_of_a_message_is_ignored(open_chat, open_app, maya, at):
    _, garden = open_chat(*pairs(3), policy=Full())

    app = open_app(maya, c=str(garden), at=at)

    assert said(app)[-1] == "reply 2"
    assert "no longer exists" not in html(app)


def test_pressed_hit_opens_its_chat_at_the_message(open_app, maya, database):
    garden = database.hold("Garden", *pairs(25))
    asked = maya.store.conversations.thread(garden).messages[20]
    app = open_app(maya)

    clicked(app, act="open", chat=str(garden), message=str(asked.id))

    assert app.query_params["at"] == str(asked.id)
    assert said(app)[0] == "prompt 5"


def test_start_of_the_context_is_drawn_a_little_above_the_last_messages(open_app, maya, database):
    garden = database.hold("Garden", *pairs(16), policy=Window())
    database.go_on(garden, "prompt 16", "reply 16", start_seq=12)

    app = open_app(maya, c=str(garden))

    assert said(app)[0] == "prompt 6"
    assert html(app).count("Context starts here") == 1
    assert "Jump to context start" in html(app)


def test_the_context_starts_anew_and_the_history_stays(open_chat, model):
    app, _ = open_chat("Old prompt", "Old reply")

    app.button(key="start-anew").click().run()
    why = "**2 earlier messages** are not sent because you cleared the context."
    assert captions(app).count(why) == 2  # in the banner and in the panel, both with the button
    assert app.button(key="undo-reset-unsent")
    page = html(app)
    assert page.index("Context starts here") > page.rindex('aria-label="Regenerate"')
    assert html(app).count("Context starts here") == 1
    send(app, "New prompt")

    assert said(app) == ["Old prompt", "Old reply", "New prompt", "Prune in March."]
    assert [message.body for message in model.seen[-1]] == ["Be kind.", "New prompt"]
    app.button(key="undo-reset-banner").click().run()
    assert "earlier message" not in captions(app)


def test_cleared_context_is_restored_after_deleting_newest_messages(open_chat, maya):
    app, garden = open_chat("One", "Two", "Three", "Four")
    app.button(key="start-anew").click().run()
    thread = maya.chat.open(garden)
    maya.chat.deletions.delete_messages(garden, {one.id for one in thread.messages[2:]}, 20)

    app.run()

    assert app.button(key="undo-start")


@pytest.mark.parametrize("way_out", ["full-to-summary", "full-clear"])
def test_full_chat_says_so_and_offers_ways_out(open_chat, way_out):
    app, _ = open_chat(*["word " * 2500, "reply"] * 2, policy=Full())
    assert "This chat is full" in captions(app)

    send(app, "More")
    assert warnings(app) == [ChatFull.public]
    assert "This chat is full" not in captions(app)
    assert in_composer(app) == "More"
    app.button(key=way_out).click().run()

    assert not [button for button in app.button if str(button.key).startswith("full-")]
    assert said(send(app, "More"))[-1] == "Prune in March."


def test_prompt_too_long_by_itself_is_no_full_chat(open_app, maya, database):
    garden = database.hold("Garden", "prompt", "reply", policy=Full())

    app = send(open_app(maya, c=str(garden)), "word " * 5000)

    assert "too long for the model" in app.warning[0].value
    assert not [button for button in app.button if str(button.key).startswith("full-")]


def test_unanswered_prompt_is_marked_after_the_next(open_chat):
    app, _ = open_chat("When?")
    assert not unanswered(app)

    send(app, "And how?")

    [prompt] = unanswered(app)
    assert "When?" in prompt


# --- the conversation's menu and the account -------------------------------------------------------


def menu(app, choice):
    assert choice in options_above(app)
    return clicked(app, act="choose", place="above", choice=choice)


def test_a_conversation_is_renamed(open_chat, database):
    app, garden = open_chat("One", "Two")

    menu(app, "Rename")
    app.text_input(key=f"title-{garden}").set_value("Roses").run()

    assert database.thread(garden).conversation.title == "Roses"
    assert app.title[0].value == "Roses"
    assert f"title-{garden}" not in [field.key for field in app.text_input]


def test_refused_title_stays_in_its_field(open_chat, database):
    app, garden = open_chat("One", "Two")
    menu(app, "Rename")

    app.text_input(key=f"title-{garden}").set_value("  ").run()

    assert app.warning[0].value == "Enter a title (max. 120 characters)."
    assert database.thread(garden).conversation.title == "Garden"
    assert app.text_input(key=f"title-{garden}")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ModelState.STARTING, "The local model is starting"),
        (ModelState.READY, "a tiny demo model"),
        (ModelState.FAILED, "is not running; retrying every few minutes"),
        (ModelState.REMOTE, "Model: scripted"),
    ],
)
def test_the_page_says_which_model_answers(open_app, maya, health, state, words):
    health.model = state

    app = open_app(maya)

    assert words in html(app)
    assert (words in captions(app).replace("\\", "")) is (state is not ModelState.REMOTE)


def test_the_account_says_what_is_spent_and_leads_out(open_app, maya):
    app = send(open_app(maya), "When?")

    assert "of $1.00</p>" in html(app)
    assert 'method="post" action="/session/end"' in html(app)
