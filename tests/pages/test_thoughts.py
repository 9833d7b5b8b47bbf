"""The wait for a reply's first words, and the thoughts above it, as a page draws them."""

import pytest

from services.chat.live_turn import LiveTurn
from services.domain import Thoughts
from services.llm import SentAtOnce, Thought
from tests.pages.conftest import captions, unanswered
from tests.pages.test_chat_page import following_nothing, send
from tests.stack.apps import until


@pytest.fixture
def garden(database):
    """A conversation with thoughts before its reply."""
    thoughts = Thoughts(text="Peas like **cold**.", seconds=125)
    return database.hold("Garden", "When?", "In March.", thoughts=thoughts)


def texts(message):
    return [element.value for element in message.markdown]


def draw_coming(app, maya, database, thoughts=""):
    """Draw the page after *thoughts*, but no words, of the reply to "When?" have arrived."""
    turn = maya.chat.begin(None, "When?")
    until(lambda: maya.model.seen and (turn.thoughts() or Thoughts()).text == thoughts)
    app.query_params["c"] = str(turn.conversation_id)
    return turn, following_nothing(app, database.thread(turn.conversation_id)).run()


def test_thoughts_are_folded_above_their_reply(open_app, maya, garden):
    app = open_app(maya, c=str(garden))

    (expander,) = app.expander
    assert (expander.label, expander.proto.expanded) == ("Thought for 2 min 5 s", False)
    assert texts(app.chat_message[0]) == ["Peas like **cold**.", "In March."]


def test_shortened_thoughts_say_so(open_chat):
    thoughts = Thoughts(text="Peas", seconds=3, is_shortened=True)
    app, _ = open_chat("When?", "In March.", thoughts=thoughts)

    assert "only the first 100 KB" in app.expander[0].caption[0].value


def test_unverified_thoughts_are_named_and_the_reply_is_shown(open_app, maya, database, garden):
    database.spoil("message", database.thread(garden).messages[-1].id, "thoughts")

    app = open_app(maya, c=str(garden))

    unverified, reply = texts(app.chat_message[0])
    assert "integrity check" in unverified
    assert reply == "In March."


def test_thoughts_without_an_answer_offer_retry(open_chat):
    thoughts = Thoughts(text="Hm.", seconds=3)
    app, _ = open_chat("When?", "", thoughts=thoughts)

    assert texts(app.chat_message[0]) == ["Hm."]
    assert app.button(key="retry").label == "Retry"
    assert "Its reasoning is saved" in captions(app)
    assert not unanswered(app)
    copies = [each for each in app.get("html") if "data-copy" in each.proto.body]
    assert len(copies) == 1, "of the prompt"

    send(app, "And how?")

    assert unanswered(app)


@pytest.mark.parametrize(("seconds", "is_told"), [(2.9, False), (3.2, True)])
def test_page_reports_thinking_after_three_seconds(
    open_app, maya, model, database, monkeypatch, seconds, is_told
):
    monkeypatch.setattr(LiveTurn, "waited_seconds", lambda _: seconds)
    model.pieces, _ = ("In March.",), model.gate.clear()
    app = open_app(maya)

    turn, app = draw_coming(app, maya, database)

    pulses = [each.proto.body for each in app.get("html") if "db-thinking" in each.proto.body]
    assert bool(pulses) is is_told
    assert all("--waited: -3s" in pulse for pulse in pulses)
    model.gate.set()
    turn.wait(20)


def test_page_says_that_a_reply_comes_at_once(open_app, maya, model, database, monkeypatch):
    monkeypatch.setattr(LiveTurn, "waited_seconds", lambda _: 4.0)
    model.pieces, _ = (SentAtOnce(), "In March."), model.gate.clear()
    app = open_app(maya)

    turn = maya.chat.begin(None, "When?")
    until(lambda: turn.is_at_once)
    app.query_params["c"] = str(turn.conversation_id)
    app = following_nothing(app, database.thread(turn.conversation_id)).run()

    shown = [part.proto.body for part in app.get("html")]
    assert any("This endpoint sends its reply at once." in part for part in shown)
    model.gate.set()
    turn.wait(20)


def test_thoughts_are_folded_while_they_come(open_app, maya, model, database):
    model.pieces, _ = (Thought("Hm. "), Thought("So. "), "In ", "March."), model.gate.clear()
    app = open_app(maya)

    turn, app = draw_coming(app, maya, database, "Hm. So. ")

    assert app.expander[0].label == "Thinking…"
    assert texts(app.chat_message[-1]) == ["Hm. So."]
    model.gate.set()
    turn.wait(20)
