"""Titles by the model, from the first complete reply to the sealed title: all real but the model's words."""

import pytest

from services.chat import background
from services.domain import Purpose
from services.errors import NotFound, StoreUnavailable
from services.memory.titles import INSTRUCTIONS
from tests.stack.apps import until
from tests.store.conftest import done

PROMPT = "When do I sow peas?"


@pytest.fixture
def chat(maya, make_chat, server):
    server.script(reply="In March.")
    server.title_requests.clear()
    return make_chat(maya, purposes=(Purpose.TITLE,))


def settled(chat, conversation_id):
    """The conversation once nothing is being said about its title."""
    until(lambda: conversation_id not in chat.coming(Purpose.TITLE))
    return chat.store.conversations.thread(conversation_id).conversation


def ask(chat, prompt=PROMPT, conversation_id=None):
    """The conversation after a reply and all that follows from it."""
    return settled(chat, done(chat.begin(conversation_id, prompt)).conversation_id)


def books(stack, maya):
    """Purpose, tokens out and cost of what is in the ledger; and whether the budget agrees with it."""
    with stack.connect() as database:
        entries = database.execute(
            "select purpose, tokens_out, micro from private.ledger where user_id = %s order by id",
            [maya.user_id],
        ).fetchall()
        spent, reserved = database.execute(
            "select month_spent, reserved from private.budgets where user_id = %s", [maya.user_id]
        ).fetchone()
    return entries, (spent, reserved) == (sum(micro for *_, micro in entries), 0)


def limit_budget(stack, maya, cap):
    with stack.connect() as database:
        database.execute(
            "update private.budgets set daily_cap_micro = %s where user_id = %s",
            [cap, maya.user_id],
        )


def test_a_conversation_is_titled_after_its_first_reply(chat, maya, stack, server):
    server.script_titles(reply='Title: "Sowing peas in spring."')

    conversation = ask(chat)

    assert (conversation.title, conversation.is_titled) == ("Sowing peas in spring", True)
    [asked] = server.title_requests
    assert asked.body["messages"][0]["content"] == INSTRUCTIONS
    assert PROMPT in asked.prompt
    assert "In March." in asked.prompt
    assert asked.body.get("max_tokens") == 24
    [(_, _, reply_cost), (purpose, tokens_out, cost)], agrees = books(stack, maya)
    assert (purpose, tokens_out) == ("title", 5)
    assert reply_cost > 0 < cost
    assert agrees


def test_followers_hear_done_before_the_title_is_asked_for(chat, server):
    server.script_titles(reply="Too late", delay=1.0)

    turn = done(chat.begin(None, PROMPT))

    assert chat.coming(Purpose.TITLE) == {turn.conversation_id}
    assert chat.open(turn.conversation_id).conversation.title == PROMPT
    assert chat.read(turn.conversation_id)[1] is None
    assert settled(chat, turn.conversation_id).title == "Too late"


def test_a_later_reply_does_not_title_again(chat, maya, make_chat, server):
    server.script_titles(reply="The first title")
    conversation = ask(chat)
    server.script_titles(reply="The second title")

    for other in (chat, make_chat(maya, purposes=(Purpose.TITLE,))):  # and another process
        other.open(conversation.id)
        conversation = ask(other, "And beans?", conversation.id)

    assert conversation.title == "The first title"
    assert len(server.title_requests) == 1


def test_a_conversation_is_tried_once_in_a_process(chat, server):
    conversation = ask(chat)
    server.script_titles(reply="At the second try")

    conversation = ask(chat, "And beans?", conversation.id)

    assert (conversation.title, conversation.is_titled) == (PROMPT, False)
    assert len(server.title_requests) == 1


def test_a_persons_title_is_kept(chat, server):
    server.script(reply="In March.", delay=0.5)
    server.script_titles(reply="Another title")
    turn = chat.begin(None, PROMPT)
    chat.store.conversations.rename(turn.conversation_id, "My garden")

    assert settled(chat, done(turn).conversation_id).title == "My garden"
    assert server.title_requests == []


def test_a_persons_title_is_kept_where_the_model_is_making_one(chat, server):
    server.script_titles(reply="Another title", delay=0.8)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda s: s.title_requests)
    chat.store.conversations.rename(turn.conversation_id, "My garden")

    assert settled(chat, turn.conversation_id).title == "My garden"
    assert server.title_requests[0].end == "whole"


def test_what_the_budget_refuses_leaves_the_first_words(chat, maya, stack, server):
    server.script(reply="In March.", delay=0.5)
    server.script_titles(reply="Too dear")
    turn = chat.begin(None, PROMPT)
    limit_budget(stack, maya, 1)

    conversation = settled(chat, done(turn).conversation_id)

    assert conversation.title == PROMPT
    assert server.title_requests == []
    entries, agrees = books(stack, maya)
    assert [purpose for purpose, *_ in entries] == ["reply"]
    assert agrees


@pytest.mark.parametrize(
    "script",
    [
        {"status": 500},
        {"fault": "drop", "reply": "Half a title", "after": 2},
        {"reply": "***"},
        {"reply": "so " * 99},  # it does not come to an end
    ],
    ids=["failed", "dropped", "no title", "endless"],
)
def test_where_the_model_makes_none_the_first_words_stay_and_it_is_paid(
    chat, maya, stack, server, script
):
    server.script_titles(**script)

    conversation = ask(chat)

    assert (conversation.title, conversation.is_titled) == (PROMPT, False)
    entries, agrees = books(stack, maya)
    assert [purpose for purpose, *_ in entries] == ["reply", "title"]
    assert agrees
    assert chat.failure(conversation.id) is None


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "failed"])
def test_the_first_complete_reply_is_the_one_that_counts(chat, server, is_stopped):
    server.script_titles(reply="Too early")
    if is_stopped:
        server.script(tokens=400, rate=20)
        turn = chat.begin(None, PROMPT)
        next(text for text in turn.follow() if text)
        turn.stop()
    else:
        server.script(tokens=9, fault="drop", after=3)
        turn = chat.begin(None, PROMPT)
    conversation = settled(chat, done(turn).conversation_id)
    assert conversation.title == PROMPT
    assert server.title_requests == []

    server.script(reply="In March.")
    server.script_titles(reply="Now it is time")
    chat.open(conversation.id)
    done(chat.retry(conversation.id))

    assert settled(chat, conversation.id).title == "Now it is time"


def test_who_leaves_stops_the_title_and_pays_what_it_cost(chat, maya, stack, server):
    server.script_titles(reply="Never", fault="hang", after=1)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda s: s.title_requests and s.title_requests[0].sent)

    title = chat.live_turns.find(maya.user_id, turn.conversation_id, Purpose.TITLE)
    chat.leave()

    assert title.is_done
    assert title.is_stopped
    assert settled(chat, turn.conversation_id).title == PROMPT
    assert books(stack, maya)[1]


def test_a_title_that_does_not_come_is_given_up(chat, maya, stack, server, monkeypatch):
    monkeypatch.setitem(background._SECONDS, Purpose.TITLE, 0.1)
    server.script_titles(fault="hang-headers")

    assert ask(chat).title == PROMPT
    assert server.title_requests[0].end == "left"
    assert books(stack, maya)[1]


def test_a_conversation_deleted_under_its_title_is_gone_and_paid_for(chat, maya, stack, server):
    server.script_titles(reply="Never", fault="hang", after=1)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda s: s.title_requests and s.title_requests[0].sent)

    chat.deletions.discard(turn.conversation_id, 20)

    with pytest.raises(NotFound):
        settled(chat, turn.conversation_id)
    assert books(stack, maya)[1]


def test_a_store_that_is_away_leaves_the_first_words(chat, server, monkeypatch):
    def away(*_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(chat.store.conversations, "give_title", away)
    server.script_titles(reply="Lost on the way")

    assert ask(chat).title == PROMPT


def test_switched_off_nothing_is_asked(maya, make_chat, server):
    server.title_requests.clear()
    server.script_titles(reply="Not asked for")

    assert ask(make_chat(maya)).title == PROMPT
    assert server.title_requests == []
