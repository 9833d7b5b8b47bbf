"""Titles by the model, after the first complete reply."""

from dataclasses import replace

import pytest

from services.chat import background
from services.domain import Purpose
from services.domain.turns import StopCause, TurnState
from services.errors import NotFound, StoreUnavailable
from services.memory.titles import INSTRUCTIONS
from tests.chats import done, settled
from tests.fakes import INFO

PROMPT = "When do I sow peas?"


@pytest.fixture
def chat(make_chat, server):
    server.script(reply="In March.")
    return make_chat(purposes=(Purpose.TITLE,))


def ask(chat, prompt=PROMPT, conversation_id=None):
    """Send *prompt*; return the conversation after the reply and its title."""
    return settled(chat, chat.begin(conversation_id, prompt)).conversation


def begin_endless_title(chat, server):
    """Return a turn whose title has begun to stream and does not end."""
    server.script_titles(reply="Never", fault="hang", after=1)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda s: s.title_requests and s.title_requests[0].sent)
    return turn


def test_conversation_is_titled_after_its_first_reply(chat, server, database):
    server.script_titles(reply='Title: "Sowing peas in spring."')

    conversation = ask(chat)

    assert (conversation.title, conversation.is_titled) == ("Sowing peas in spring", True)
    [asked] = server.title_requests
    assert asked.body["messages"][0]["content"] == INSTRUCTIONS
    assert PROMPT in asked.prompt
    assert "In March." in asked.prompt
    assert asked.body.get("max_tokens") == 24
    assert [purpose for purpose, cost in database.costs() if cost] == ["reply", "title"]


def test_reasoning_model_has_room_for_its_thoughts(make_chat, server):
    server.script(reply="In March.")
    server.script_titles(reply="Sowing peas", thoughts=100)
    info = replace(INFO, is_reasoning=True)

    conversation = ask(make_chat(purposes=(Purpose.TITLE,), info=info))

    assert (conversation.title, conversation.is_titled) == ("Sowing peas", True)


def test_model_that_thinks_until_the_limit_gets_room_once(chat, server):
    server.script_titles(reply="", thoughts=5000)

    conversations = [ask(chat, f"{PROMPT} {number}") for number in range(5)]

    assert [conversation.is_titled for conversation in conversations] == [False] * 5
    limits = [asked.body["max_tokens"] for asked in server.title_requests]
    assert limits == [24, 24, INFO.reply_tokens]


def test_model_that_has_a_title_after_its_thoughts_keeps_its_room(chat, server):
    server.script_titles(reply="Sowing peas", thoughts=100)

    conversations = [ask(chat, f"{PROMPT} {number}") for number in range(4)]

    assert [conversation.is_titled for conversation in conversations] == [False, False, True, True]


def test_titles_of_a_thinker_at_once_count_as_calls_without_room(chat, server):
    server.script_titles(reply="", thoughts=5000, delay=0.1)
    begun = [chat.begin(None, f"{PROMPT} {number}") for number in range(3)]
    for turn in begun:
        settled(chat, turn)

    server.script_titles(reply="Sowing peas", thoughts=100)

    assert ask(chat).is_titled


def test_title_that_thinks_for_too_long_counts_as_thought(chat, server, monkeypatch):
    monkeypatch.setitem(background._SECONDS, Purpose.TITLE, 0.2)
    server.script_titles(reply="Sowing peas", thoughts=5000, thought_rate=20)

    for number in range(4):
        ask(chat, f"{PROMPT} {number}")

    limits = [asked.body["max_tokens"] for asked in server.title_requests]
    assert limits == [24, 24, INFO.reply_tokens]


def test_stopped_title_says_nothing_about_the_model(chat, server):
    registry = chat.tasks.registry
    for _ in range(2):
        registry.end_title("m", had_room=False, has_text=False)

    assert registry.begin_title("m") is True
    assert registry.begin_title("m") is None
    registry.end_title("m", had_room=True, has_text=None)

    assert registry.begin_title("m") is True
    registry.end_title("m", had_room=True, has_text=True)
    assert registry.begin_title("m") is True


def test_reply_is_over_before_its_title_is_made(chat, server):
    turn = begin_endless_title(chat, server)

    assert chat.coming(Purpose.TITLE) == {turn.conversation_id}
    view = chat.view(turn.conversation_id)
    assert (view.thread.conversation.title, view.turn) == (PROMPT, None)


def test_later_reply_makes_no_other_title(chat, make_chat, server):
    server.script_titles(reply="The first title")
    conversation = ask(chat)
    server.script_titles(reply="The second title")

    for other in (chat, make_chat(purposes=(Purpose.TITLE,))):
        other.open(conversation.id)
        conversation = ask(other, "And beans?", conversation.id)

    assert conversation.title == "The first title"
    assert len(server.title_requests) == 1


def test_title_is_requested_once_in_a_process(chat, server):
    conversation = ask(chat)
    server.script_titles(reply="At the second try")

    conversation = ask(chat, "And beans?", conversation.id)

    assert (conversation.title, conversation.is_titled) == (PROMPT, False)
    assert len(server.title_requests) == 1


def test_title_by_the_user_is_kept(chat, server, database):
    def rename():
        [conversation] = database.conversations.recent()
        database.conversations.rename(conversation.id, "My garden")

    server.script_titles(reply="Another title")
    database.rows.before["finish_turn"] = rename

    assert ask(chat).title == "My garden"
    assert server.title_requests == []


def test_first_words_stay_without_budget_for_a_title(chat, server, database):
    server.script(reply="In March.", delay=0.3)
    server.script_titles(reply="Too dear")
    turn = chat.begin(None, PROMPT)
    database.ledger.daily_micro = 1

    assert settled(chat, turn).conversation.title == PROMPT
    assert server.title_requests == []
    assert [purpose for purpose, _ in database.costs()] == ["reply"]


@pytest.mark.parametrize(
    "script",
    [
        {"status": 401},
        {"fault": "drop", "reply": "Half a title", "after": 2},
        {"reply": "***"},
        {"reply": "so " * 99},
    ],
    ids=["failed", "dropped", "no title", "endless"],
)
def test_failed_title_is_charged_and_first_words_stay(chat, server, database, script):
    server.script_titles(**script)

    conversation = ask(chat)

    assert (conversation.title, conversation.is_titled) == (PROMPT, False)
    assert [purpose for purpose, _ in database.costs()] == ["reply", "title"]
    assert chat.failure(conversation.id) is None


def test_incomplete_reply_makes_no_title(chat, server):
    server.script_titles(reply="Too early")
    server.script(tokens=9, fault="drop", after=3)
    conversation = ask(chat)
    assert conversation.title == PROMPT
    assert server.title_requests == []

    server.script(reply="In March.")
    server.script_titles(reply="Now it is time")

    assert settled(chat, chat.retry(conversation.id)).conversation.title == "Now it is time"


def test_leaving_stops_and_charges_the_title(chat, server, database):
    turn = begin_endless_title(chat, server)
    title = chat.live_turns.find(database.user_id, turn.conversation_id, Purpose.TITLE)

    chat.live_turns.stop(StopCause.SERVER)

    assert (title.is_done, title.is_stopped) == (True, True)
    assert settled(chat, turn).conversation.title == PROMPT
    assert len(database.costs()) == 2
    assert database.turn_states() == [TurnState.COMPLETE, TurnState.INTERRUPTED]


def test_slow_title_is_given_up(chat, server, database, monkeypatch):
    monkeypatch.setitem(background._SECONDS, Purpose.TITLE, 0.1)
    server.script_titles(reply="Never", fault="hang", after=1)

    assert ask(chat).title == PROMPT
    assert database.turn_states() == [TurnState.COMPLETE, TurnState.STOPPED]
    assert len(database.costs()) == 2


def test_title_of_a_server_that_begins_late_is_waited_for(chat, server, monkeypatch):
    monkeypatch.setitem(background._SECONDS, Purpose.TITLE, 0.1)
    server.script_titles(reply="Sowing peas", delay=2)

    assert ask(chat).title == "Sowing peas"


def test_deleted_conversation_stops_and_charges_its_title(chat, server, database):
    turn = begin_endless_title(chat, server)

    chat.deletions.discard(turn.conversation_id, 20)

    with pytest.raises(NotFound):
        settled(chat, turn)
    assert len(database.costs()) == 2


def test_first_words_stay_when_no_title_is_stored(chat, server, database):
    database.rows.failures["change_conversation"] = StoreUnavailable()
    server.script_titles(reply="Lost on the way")

    assert ask(chat).title == PROMPT


def test_no_title_is_requested_when_switched_off(make_chat, server):
    server.script_titles(reply="Not asked for")

    assert ask(make_chat()).title == PROMPT
    assert server.title_requests == []
