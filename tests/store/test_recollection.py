"""Recall within a conversation: what is brought back, and that it stays where it was."""

from dataclasses import replace

import pytest

from services.domain import Retrieval, Window
from tests.fakes import INFO
from tests.store.conftest import done
from tests.store.test_summaries import LONG

SMALL = replace(INFO, context_tokens=1200, reply_tokens=200)
KUMQUAT = "My kumquat tree is called Zebedee."


@pytest.fixture
def chat(maya, make_chat, server):
    server.script(reply="I see. " + LONG)
    server.requests.clear()
    return make_chat(maya, info=SMALL)


def ask(chat, thread, prompt):
    turn = done(chat.begin(thread.conversation.id if thread else None, prompt))
    assert turn.failure is None
    return chat.store.conversations.thread(turn.conversation_id)


def last_receipt(chat, thread):
    found = chat.planning.receipt(thread, thread.messages[-1])
    assert found
    return found


@pytest.fixture
def long_thread(chat):
    """Its first prompt has long left the view."""
    thread = ask(chat, None, KUMQUAT)
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    for _ in range(9):
        thread = ask(chat, thread, LONG)
    chat.store.conversations.set_policy(thread.conversation.id, Retrieval())
    return chat.store.conversations.thread(thread.conversation.id)


def test_what_the_prompt_is_about_is_brought_back(chat, long_thread, server):
    thread = ask(chat, long_thread, "What is my kumquat tree called?")

    asked = server.requests[-1].body["messages"][-1]["content"]
    assert KUMQUAT in asked
    assert asked.endswith("\n\nWhat is my kumquat tree called?")
    [note] = [
        n for n in last_receipt(chat, thread).recalls if n.message_id == thread.messages[0].id
    ]
    assert "kumquat" in note.matched


def test_what_was_recalled_stays_where_it_was(chat, maya, long_thread, server, make_chat):
    thread = ask(chat, long_thread, "What is my kumquat tree called?")
    before = server.requests[-1].body["messages"]

    other = make_chat(maya, info=SMALL)  # as after a restart: from rows alone
    ask(other, thread, "Thanks.")

    after = server.requests[-1].body["messages"]
    assert after[: len(before)] == before
    assert str(after).count(KUMQUAT) == 1


def test_an_extract_stays_as_it_was_sent(chat, maya, server, make_chat):
    server.script(reply=f"{LONG}. Zebedee likes rain. {LONG}")
    thread = ask(chat, None, KUMQUAT)
    server.script(reply="I see. " + LONG)
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    for _ in range(9):
        thread = ask(chat, thread, LONG)
    chat.store.conversations.set_policy(thread.conversation.id, Retrieval())
    thread = ask(
        chat, chat.store.conversations.thread(thread.conversation.id), "What does Zebedee like?"
    )
    before = server.requests[-1].body["messages"]
    reply = thread.messages[1]
    [note] = [n for n in last_receipt(chat, thread).recalls if n.message_id == reply.id]

    other = make_chat(maya, info=SMALL)  # as after a restart: from rows alone
    ask(other, thread, "Thanks.")

    assert server.requests[-1].body["messages"][: len(before)] == before
    extract = reply.body[slice(*note.extract)]
    assert "Zebedee likes rain." in extract
    assert f"assistant, extract of message 2> {extract}\n" in before[-1]["content"]


def test_nothing_from_before_the_reset_is_recalled(chat, long_thread, server):
    chat.store.conversations.start_anew(long_thread)

    ask(
        chat,
        chat.store.conversations.thread(long_thread.conversation.id),
        "What is my kumquat tree called?",
    )

    assert "Zebedee" not in str(server.requests[-1].body["messages"])


def test_another_branch_is_not_recalled(chat, server):
    server.script(reply="Zanzibar. " + LONG)
    thread = ask(chat, None, "Where to?")
    chat.store.conversations.set_policy(thread.conversation.id, Retrieval())
    server.script(reply="I see. " + LONG)
    done(chat.retry(thread.conversation.id))
    thread = chat.store.conversations.thread(thread.conversation.id)
    for _ in range(9):
        thread = ask(chat, thread, LONG)

    ask(chat, thread, "Was it Zanzibar?")

    assert "Zanzibar. peas" not in str(server.requests[-1].body["messages"])
