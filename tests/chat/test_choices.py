"""The chosen model and instructions, from the choice to the endpoint."""

import json

import pytest

from services.domain import NewConversation, Purpose, Window
from services.domain.rows import DocumentKind
from services.errors import InstructionsTooLong, ModelGone
from services.memory.tokens import min_tokens
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.seals import DocumentSeals
from services.store.writes import PutDocument
from tests.chats import done, settled, view
from tests.fakes import LARGE, MAYA, choose
from tests.stores import InMemoryDatabase


@pytest.fixture
def chat(make_chat):
    return make_chat(others=(LARGE,))


@pytest.fixture
def conversations(chat):
    return chat.store.conversations


@pytest.fixture
def garden(database):
    return database.hold("Garden")


def ask(chat, server, prompt, conversation_id, **seen):
    """Send *prompt*; return the model and the instructions of the request."""
    settled(chat, chat.begin(conversation_id, prompt, **seen))
    body = server.requests[-1].body
    return body["model"], body["messages"][0]["content"]


def test_preferences_of_a_later_version_stay():
    rows, keys = InMemoryDatabase(MAYA).rows, throwaway_keys(MAYA)
    profile, seals = sealed_store(rows, keys).profile, DocumentSeals(MAYA, keys)
    choose(profile, model="large")
    (row,) = rows.documents(DocumentKind.PREFERENCES)
    later = json.dumps({"model": "large", "instructions": None, "font": "serif"})
    rows.put_document(PutDocument.of(seals.seal(row, later), row.rev))

    choose(profile, instructions="Be brief.")

    (row,) = rows.documents(DocumentKind.PREFERENCES)
    kept = json.loads(seals.open(row))
    assert (kept["model"], kept["instructions"], kept["font"]) == ("large", "Be brief.", "serif")


def test_choice_holds_for_a_prompt_before_the_redraw(chat, conversations, garden, server):
    rev = chat.open(garden).conversation.rev

    conversations.set_model(garden, "large")
    conversations.set_instructions(garden, "Answer in verse.")

    assert ask(chat, server, "One", garden, seen_rev=rev) == ("large", "Answer in verse.")


def test_cleared_context_holds_for_a_prompt_before_the_redraw(chat, conversations, garden, server):
    ask(chat, server, "One", garden)
    thread = chat.open(garden)

    conversations.start_anew(thread)
    conversations.set_policy(garden, Window(2))
    conversations.take_back_reset(thread)
    conversations.start_anew(thread)
    ask(chat, server, "Two", garden, seen_rev=thread.conversation.rev)

    assert [said["content"] for said in server.requests[-1].body["messages"][1:]] == ["Two"]


def test_underreported_usage_is_charged_by_a_lower_bound(chat, garden, server):
    reply = " ".join(f"word{number}" for number in range(100))
    # with so many characters per token, the server reports one token
    server.script(reply=reply, signs=100_000)

    ask(chat, server, "One", garden)

    (cost,) = chat.store.turns.costs(chat.open(garden).messages, garden).values()
    assert cost.tokens.reply == min_tokens(reply) > 20


def test_prompt_for_a_model_that_is_gone_is_refused(chat, garden, server):
    asked = len(server.requests)

    with pytest.raises(ModelGone):
        chat.begin(garden, "One", seen_model="gone")

    assert (len(server.requests), chat.open(garden).messages) == (asked, ())
    assert done(chat.begin(garden, "One", seen_model="scripted")).failure is None


AGAIN = {
    "retry": lambda chat, thread: chat.retry(thread.conversation.id, seen_model="gone"),
    "other model": lambda chat, thread: chat.retry(thread.conversation.id, model="gone"),
    "other policy": lambda chat, thread: chat.retry(
        thread.conversation.id, policy=Window(2), seen_model="gone"
    ),
    "edit": lambda chat, thread: chat.edit_prompt(
        thread.conversation.id, thread.messages[0].id, "Two", seen_model="gone"
    ),
    "continue": lambda chat, thread: chat.continue_reply(
        thread.conversation.id, thread.tip.id, seen_model="gone"
    ),
}


@pytest.mark.parametrize("begin", AGAIN.values(), ids=AGAIN)
def test_other_reply_by_a_model_that_is_gone_is_refused(chat, garden, server, begin):
    server.script(tokens=3, finish="length")
    done(chat.begin(garden, "One"))
    thread = chat.open(garden)

    with pytest.raises(ModelGone):
        begin(chat, thread)

    assert (len(server.requests), chat.open(garden).messages) == (1, thread.messages)


def test_title_is_made_by_the_answering_model(make_chat, server):
    chat = make_chat(purposes=(Purpose.TITLE,), others=(LARGE,))

    settled(chat, chat.begin(None, "One [[title=Peas]]", new=NewConversation(model="large")))

    [asked] = server.title_requests
    assert asked.body["model"] == "large"


def test_turn_is_refused_when_instructions_leave_no_room(chat, conversations, garden, server):
    conversations.set_instructions(garden, "word " * 1_600)

    with pytest.raises(InstructionsTooLong):
        _ = chat.view(garden).next_receipt
    with pytest.raises(InstructionsTooLong):
        chat.begin(garden, "One")
    assert conversations.thread(garden).messages == ()

    conversations.set_model(garden, "large")
    assert ask(chat, server, "One", garden)[0] == "large"


def test_instructions_count_against_the_context(chat, conversations, garden):
    before = view(chat, chat.open(garden)).prompt_tokens
    conversations.set_instructions(garden, "word " * 1_000)

    assert view(chat, chat.open(garden)).prompt_tokens >= before + 990


def test_unreadable_instructions_are_passed_over(chat, conversations, garden, server, database):
    conversations.set_instructions(garden, "Answer in verse.")
    database.spoil("conversation", garden, "instructions")
    chat.open(garden)

    assert ask(chat, server, "One", garden) == ("scripted", "Be kind.")
