"""The chosen model and instructions, from the choice to the endpoint."""

import json

import pytest

from services.domain import NewConversation, Purpose, Usage, Window
from services.errors import InstructionsTooLong
from services.memory.tokens import min_tokens
from services.store.rows import DocumentKind
from services.store.sealed.documents import DocumentSeals
from services.store.supabase.rows import SupabaseRows
from tests.fakes import INFO, LARGE, choose
from tests.store.conftest import done
from tests.stores import store_of


@pytest.fixture
def mine(maya):
    return store_of(maya).profile


@pytest.fixture
def chat(maya, make_chat):
    return make_chat(maya, others=(LARGE,))


@pytest.fixture
def garden(conversations):
    return conversations.create("Garden", Window()).conversation.id


def asked(server):
    """Return the model and the instructions of the last request."""
    body = server.requests[-1].body
    return body["model"], body["messages"][0]["content"]


def test_preferences_of_a_later_version_stay(maya, mine):
    later = json.dumps({"model": "large", "instructions": None, "font": "serif"})
    choose(mine, model="large")
    (row,) = SupabaseRows(maya).documents(DocumentKind.PREFERENCES)
    seals = DocumentSeals(maya.user_id, maya.user_keys)
    SupabaseRows(maya).put_document(seals.seal(row, later), seen_rev=row.rev)

    choose(mine, instructions="Be brief.")

    (row,) = SupabaseRows(maya).documents(DocumentKind.PREFERENCES)
    kept = json.loads(seals.open(row))
    assert (kept["model"], kept["instructions"], kept["font"]) == ("large", "Be brief.", "serif")


# --- turns -----------------------------------------------------------------------------------------


def test_nearest_choice_of_model_and_instructions_answers(chat, conversations, maya, server):
    garden = done(chat.begin(None, "One")).conversation_id
    assert asked(server) == ("scripted", "Be kind.")

    mine = chat.store.profile
    choose(mine, model="large")
    choose(mine, instructions="Be brief.")
    chat.open(garden)
    done(chat.begin(garden, "Two"))
    assert asked(server) == ("large", "Be brief.")

    conversations.set_model(garden, "scripted")
    conversations.set_instructions(garden, "Answer in verse.")
    chat.open(garden)
    done(chat.begin(garden, "Three"))
    assert asked(server) == ("scripted", "Answer in verse.")

    conversations.set_model(garden, "gone")
    thread = chat.open(garden)
    assert chat.setup(thread).missing_model == "gone"
    done(chat.begin(garden, "Four"))
    assert asked(server) == ("large", "Answer in verse.")


def test_choice_holds_for_a_prompt_before_the_redraw(chat, server):
    garden = done(chat.begin(None, "One")).conversation_id
    rev = chat.open(garden).conversation.rev

    chat.store.conversations.set_model(garden, "large")
    chat.store.conversations.set_instructions(garden, "Answer in verse.")
    done(chat.begin(garden, "Two", seen_rev=rev))

    assert asked(server) == ("large", "Answer in verse.")


def test_cleared_context_holds_for_a_prompt_before_the_redraw(chat, server):
    garden = done(chat.begin(None, "One")).conversation_id
    thread, mine = chat.open(garden), chat.store.conversations

    for act in (
        lambda: mine.start_anew(thread),
        lambda: mine.set_policy(garden, Window(2)),
        lambda: mine.take_back_reset(thread),
        lambda: mine.start_anew(thread),
    ):
        act()
    done(chat.begin(garden, "Two", seen_rev=thread.conversation.rev))

    assert [said["content"] for said in server.requests[-1].body["messages"][1:]] == ["Two"]


def test_ledger_names_the_chosen_model(chat, conversations, stack, maya):
    garden = done(chat.begin(None, "One")).conversation_id
    conversations.set_model(garden, "large")
    chat.open(garden)
    done(chat.begin(garden, "Two"))

    messages = chat.open(garden).messages
    costs = chat.store.turns.costs(messages, garden)
    for reply, info in zip(messages[1::2], (INFO, LARGE), strict=True):
        cost = costs[reply.turn_id]
        assert cost.model == info.name
        assert cost.cost_micro == info.cost_micro(cost.tokens) > 0
    with stack.connect() as database:
        booked = database.execute(
            "select model from private.ledger where user_id = %s order by id", [maya.user_id]
        ).fetchall()
    assert booked == [("scripted",), ("large",)]


def test_underreported_usage_is_charged_by_a_lower_bound(chat, conversations, server):
    reply = " ".join(f"word{number}" for number in range(100))
    server.script(reply=reply, signs=100_000)  # which reports one token

    garden = done(chat.begin(None, "One")).conversation_id

    (cost,) = chat.store.turns.costs(chat.open(garden).messages, garden).values()
    assert cost.tokens.reply == min_tokens(reply) > 20


def test_reservation_is_the_worst_cost_of_the_chosen_model(chat, stack, server):
    turn = done(chat.begin(None, "One", new=NewConversation(model="large")))

    with stack.connect() as database:
        (reserved,) = database.execute(
            "select reserved_micro from public.turns where id = %s", [turn.id]
        ).fetchone()
    longest_reply = LARGE.cost_micro(Usage(0, LARGE.reply_tokens))
    assert longest_reply < reserved < longest_reply + 1_000
    assert asked(server)[0] == "large"
    assert server.requests[-1].body["max_tokens"] == LARGE.reply_tokens


def test_title_is_made_by_the_answering_model(maya, make_chat, server):
    chat = make_chat(maya, purposes=(Purpose.TITLE,), others=(LARGE,))
    server.title_requests.clear()

    turn = done(chat.begin(None, "One [[title=Peas]]", new=NewConversation(model="large")))
    server.wait_until(lambda s: s.title_requests)
    made = chat.live_turns.find(maya.user_id, turn.conversation_id, Purpose.TITLE)

    assert made.wait(20)
    assert server.title_requests[-1].body["model"] == "large"
    assert server.title_requests[-1].body["messages"][0]["content"].startswith("You give")


def test_turn_is_refused_when_instructions_leave_no_room(chat, conversations, garden):
    conversations.set_instructions(garden, "word " * 1_600)
    thread = chat.open(garden)

    with pytest.raises(InstructionsTooLong):
        chat.planning.view(thread, chat.setup(thread))
    with pytest.raises(InstructionsTooLong):
        chat.begin(garden, "One")
    assert conversations.thread(garden).messages == ()

    conversations.set_model(garden, "large")
    chat.open(garden)
    done(chat.begin(garden, "One"))
    assert len(conversations.thread(garden).messages) == 2


def test_instructions_count_against_the_context(chat, conversations):
    garden = done(chat.begin(None, "One")).conversation_id

    def seen():
        thread = chat.open(garden)
        return chat.planning.view(thread, chat.setup(thread)).prompt_tokens

    before = seen()
    conversations.set_instructions(garden, "word " * 1_000)

    assert seen() >= before + 990


# --- changed behind the app's back


def test_unreadable_instructions_are_passed_over(chat, garden, conversations, server, stack):
    conversations.set_instructions(garden, "Answer in verse.")
    with stack.connect() as database:
        database.execute(
            "update public.conversations set instructions = title where id = %s", [garden]
        )
    chat.open(garden)

    done(chat.begin(garden, "One"))

    assert asked(server) == ("scripted", "Be kind.")
