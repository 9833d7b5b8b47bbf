"""The model and the instructions of a conversation and of a person, from the page's verbs to the endpoint."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.domain import NewConversation, Preferences, Purpose, Space, SpaceId, Usage, Window
from services.errors import (
    BadInput,
    InstructionsTooLong,
    NotFound,
    SpaceGone,
    StoreUnavailable,
    Tampered,
)
from services.memory.tokens import min_tokens
from services.store.conversations import Conversations
from services.store.documents import ChangedElsewhere
from services.store.profile import LONGEST_INSTRUCTIONS, Profile
from services.store.spaces import Spaces
from tests.fakes import INFO, LARGE, choose
from tests.store.conftest import done

CANARY = "kumquat-2204"


@pytest.fixture
def mine(maya):
    return Profile(maya)


@pytest.fixture
def chat(maya, make_chat):
    return make_chat(maya, others=(LARGE,))


@pytest.fixture
def garden(conversations):
    return conversations.create("Garden", Window()).conversation.id


def asked(server):
    """Which model was asked last, and what it was told first."""
    body = server.requests[-1].body
    return body["model"], body["messages"][0]["content"]


def test_what_was_chosen_is_there_again_for_a_reader_who_knows_nothing(
    maya, conversations, mine, garden
):
    conversations.set_model(garden, "large")
    conversations.set_instructions(garden, "  Answer in verse.\n")
    choose(mine, model="scripted")
    choose(mine, instructions="Be brief.")

    thread = Conversations(maya).thread(garden)
    assert (thread.conversation.model, thread.instructions) == ("large", "Answer in verse.")
    assert Conversations(maya).instructions(garden) == "Answer in verse."
    assert Conversations(maya).recent()[0].model == "large"
    assert Profile(maya).preferences() == Preferences(model="scripted", instructions="Be brief.")

    conversations.set_model(garden, None)
    conversations.set_instructions(garden, " ")
    choose(mine, instructions="")

    thread = Conversations(maya).thread(garden)
    assert (thread.conversation.model, thread.instructions) == (None, None)
    assert Profile(maya).preferences() == Preferences(model="scripted")


def test_instructions_and_preferences_are_readable_to_nobody_in_the_database(
    maya, conversations, mine, garden, stack
):
    conversations.set_instructions(garden, f"{CANARY} here")
    choose(mine, instructions=f"{CANARY} everywhere")
    choose(mine, model="large")

    with stack.connect() as database:
        held = database.execute(
            "select c::text, p::text from public.conversations c join public.profiles p using (user_id)"
            " where c.id = %s",
            [garden],
        ).fetchone()
    assert CANARY not in str(held)
    assert "large" not in str(held)
    assert str(held).count("p1.1.") >= 4  # a title, a key, and these two


def test_a_choice_is_nobody_elses(conversations, omar, mine, garden):
    choose(mine, instructions="Be brief.")
    theirs = Conversations(omar)

    for act in (
        lambda: theirs.set_model(garden, "large"),
        lambda: theirs.set_instructions(garden, "Mine now."),
        lambda: theirs.instructions(garden),
    ):
        with pytest.raises(NotFound):
            act()

    assert conversations.thread(garden).instructions is None
    assert Profile(omar).preferences() == Preferences()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * (LONGEST_INSTRUCTIONS + 1), "at most 8,000 characters"),
        ("\ud83d", "cannot be stored"),
    ],
)
def test_what_cannot_be_instructions_is_refused_in_a_sentence(
    conversations, mine, garden, text, says
):
    for act in (
        lambda: conversations.set_instructions(garden, text),
        lambda: choose(mine, instructions=text),
    ):
        with pytest.raises(BadInput, match=says):
            act()


def test_the_longest_instructions_fit_whatever_their_script(conversations, mine, garden):
    longest = "\N{GRINNING FACE}" * LONGEST_INSTRUCTIONS
    conversations.set_instructions(garden, longest)
    choose(mine, instructions=longest)

    assert conversations.thread(garden).instructions == longest
    assert mine.preferences().instructions == longest


def test_two_tabs_that_change_one_choice_each_lose_neither(maya, sessions):
    one, other = Profile(maya), Profile(maya)
    one.preferences(), other.preferences()

    choose(one, model="large")
    choose(other, instructions="Be brief.")

    assert Profile(maya).preferences() == Preferences(model="large", instructions="Be brief.")


def test_choice_stored_in_another_tab_meanwhile_is_seen(maya, mine, monkeypatch):
    def call_and_let_another_in(verb, /, **arguments):
        answer = calls.call(verb, **arguments)
        monkeypatch.setattr(maya, "calls", calls)
        choose(mine, keeps_facts=True)
        return answer

    calls = maya.calls
    monkeypatch.setattr(maya, "calls", SimpleNamespace(call=call_and_let_another_in))

    choose(mine, model="large")

    assert mine.preferences() == Preferences(model="large", keeps_facts=True)


def set_instructions(profile, text, seen):
    profile.change(lambda now: replace(now, instructions=text), seen=seen)


def test_instructions_are_replaced_only_by_who_has_seen_them(maya, conversations, mine, garden):
    mine.preferences()
    choose(Profile(maya), instructions="Be brief.")
    Conversations(maya).set_instructions(garden, "Answer in verse.")

    for put, now in (
        (partial(set_instructions, mine), "Be brief."),
        (partial(conversations.set_instructions, garden), "Answer in verse."),
    ):
        with pytest.raises(ChangedElsewhere) as refused:
            put("Be kind.", "")
        assert refused.value.now == now
        assert now not in repr(refused.value)
        put("Be kind.", now)
        put("Be kind.", now)  # which is what is there

    assert mine.preferences().instructions == "Be kind."
    assert conversations.instructions(garden) == "Be kind."


def test_instructions_stored_while_others_are_compared_are_not_lost(
    sessions, maya, conversations, garden
):
    hooks = sessions.gateway.http.event_hooks
    before = hooks["request"]

    def store_first(request):
        if request.url.path.endswith("/set_conversation_instructions"):
            sessions.gateway.http.event_hooks = hooks | {"request": before}
            Conversations(maya).set_instructions(garden, "Answer in verse.")

    sessions.gateway.http.event_hooks = hooks | {"request": [*before, store_first]}
    with pytest.raises(ChangedElsewhere):
        conversations.set_instructions(garden, "Be kind.", "")

    assert conversations.instructions(garden) == "Answer in verse."


def test_what_a_later_version_prefers_stays(maya, mine, stack):
    later = json.dumps({"model": "large", "instructions": None, "theme": "dark"})
    sealed = maya.newest_key.vault("profile").seal(later, mine._place())
    with stack.connect() as database:
        database.execute(
            "update public.profiles set preferences = %s where user_id = %s", [sealed, maya.user_id]
        )

    choose(mine, instructions="Be brief.")

    with stack.connect() as database:
        (token,) = database.execute(
            "select preferences from public.profiles where user_id = %s", [maya.user_id]
        ).fetchone()
    kept = json.loads(maya.newest_key.vault("profile").open(token, mine._place()))
    assert (kept["model"], kept["instructions"], kept["theme"]) == ("large", "Be brief.", "dark")


def test_preferences_are_asked_for_once_a_minute_and_kept_while_nobody_answers(
    maya, mine, monkeypatch
):
    choose(mine, model="large")
    reader = Profile(maya)
    reader.preferences()
    choose(mine, model="scripted")

    assert reader.preferences().model == "large"
    monkeypatch.setattr(reader._known, "_seconds", 0.0)
    assert reader.preferences().model == "scripted"

    def lost(*_, **__):
        raise StoreUnavailable("lost")

    monkeypatch.setattr(reader._known, "_ask", lost)
    assert reader.preferences().model == "scripted"
    fresh = Profile(maya)
    monkeypatch.setattr(fresh._known, "_ask", lost)
    with pytest.raises(StoreUnavailable):
        fresh.preferences()


# --- turns -----------------------------------------------------------------------------------------


def test_a_turn_is_answered_by_the_nearest_choice_and_told_so(chat, conversations, maya, server):
    garden = done(chat.begin(None, "One")).conversation_id
    assert asked(server) == ("scripted", "Be kind.")

    mine = chat.preferences.__self__
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


def test_a_choice_holds_for_a_prompt_that_comes_before_the_page_is_drawn(chat, server):
    garden = done(chat.begin(None, "One")).conversation_id
    rev = chat.open(garden).conversation.rev

    chat.store.set_model(garden, "large")
    chat.store.set_instructions(garden, "Answer in verse.")
    done(chat.begin(garden, "Two", seen_rev=rev))

    assert asked(server) == ("large", "Answer in verse.")


def test_what_the_model_may_see_holds_for_a_prompt_that_comes_before_the_page_is_drawn(
    chat, maya, server
):
    garden = done(chat.begin(None, "One")).conversation_id
    thread, mine = chat.open(garden), chat.store

    for act in (
        lambda: mine.start_anew(thread),
        lambda: mine.set_policy(garden, Window(2)),
        lambda: mine.take_back_reset(thread),
        lambda: mine.start_anew(thread),
    ):
        act()
        stored, known = Conversations(maya).thread(garden), mine.cached(garden)
        assert known.conversation == stored.conversation
    done(chat.begin(garden, "Two", seen_rev=thread.conversation.rev))

    assert [said["content"] for said in server.requests[-1].body["messages"][1:]] == ["Two"]


def test_the_books_follow_the_chosen_model(chat, conversations, stack, maya):
    garden = done(chat.begin(None, "One")).conversation_id
    conversations.set_model(garden, "large")
    chat.open(garden)
    done(chat.begin(garden, "Two"))

    messages = chat.open(garden).messages
    costs = conversations.costs(messages)
    for reply, info in zip(messages[1::2], (INFO, LARGE), strict=True):
        cost = costs[reply.turn_id]
        assert cost.model == info.name
        assert cost.cost_micro == info.cost_micro(cost.tokens) > 0
    with stack.connect() as database:
        booked = database.execute(
            "select model from private.ledger where user_id = %s order by id", [maya.user_id]
        ).fetchall()
    assert booked == [("scripted",), ("large",)]


def test_usage_reported_below_what_was_streamed_is_charged_by_our_lower_bound(
    chat, conversations, server
):
    reply = " ".join(f"word{number}" for number in range(100))
    server.script(reply=reply, signs=100_000)  # which reports one token

    garden = done(chat.begin(None, "One")).conversation_id

    (cost,) = conversations.costs(chat.open(garden).messages).values()
    assert cost.tokens.reply == min_tokens(reply) > 20


def test_what_is_reserved_is_the_chosen_models_worst_cost(chat, stack, server):
    turn = done(chat.begin(None, "One", new=NewConversation(model="large")))

    with stack.connect() as database:
        (reserved,) = database.execute(
            "select reserved_micro from public.turns where id = %s", [turn.id]
        ).fetchone()
    longest_reply = LARGE.cost_micro(Usage(0, LARGE.reply_tokens))
    assert longest_reply < reserved < longest_reply + 1_000
    assert server.requests[-1].body["max_tokens"] == LARGE.reply_tokens


def test_a_conversation_begins_with_the_model_that_was_picked(chat, maya, server):
    turn = done(chat.begin(None, "One", new=NewConversation(model="large")))

    assert asked(server)[0] == "large"
    assert Conversations(maya).thread(turn.conversation_id).conversation.model == "large"


def test_first_choices_are_stored_with_the_conversation_or_nothing_is(conversations, maya):
    space = Space(id=SpaceId(uuid4()), name="Tax", created_at=datetime.now(UTC))
    Spaces(maya).keep(space)
    new = NewConversation(model="large", instructions="Answer in verse.", space_id=space.id)

    made = conversations.create("Garden", Window(4), new)

    stored = Conversations(maya).thread(made.conversation.id)
    assert stored.instructions == made.instructions == "Answer in verse."
    one = stored.conversation
    assert (one.policy, one.model, one.space_id) == (Window(4), "large", space.id)
    with pytest.raises(SpaceGone):
        conversations.create("Sea", Window(), replace(new, space_id=SpaceId(uuid4())))
    assert [each.title for each in conversations.recent()] == ["Garden"]


def test_a_title_is_made_by_the_model_that_answers(maya, make_chat, server):
    chat = make_chat(maya, purposes=(Purpose.TITLE,), others=(LARGE,))
    server.title_requests.clear()

    turn = done(chat.begin(None, "One [[title=Peas]]", new=NewConversation(model="large")))
    server.wait_until(lambda s: s.title_requests)
    made = chat.live_turns.find(maya.user_id, turn.conversation_id, Purpose.TITLE)

    assert made.wait(20)
    assert server.title_requests[-1].body["model"] == "large"
    assert server.title_requests[-1].body["messages"][0]["content"].startswith("You give")


def test_instructions_that_leave_no_room_are_refused_in_a_sentence_and_nothing_is_stored(
    chat, conversations, garden
):
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


# --- changed behind the app's back -----------------------------------------------------------------


@pytest.fixture
def tampered(stack, garden, conversations):
    """A conversation whose instructions are those of another place: its title."""
    conversations.set_instructions(garden, "Answer in verse.")
    with stack.connect() as database:
        database.execute(
            "update public.conversations set instructions = title where id = %s", [garden]
        )
    return garden


def test_instructions_that_do_not_open_are_passed_over_and_said_to_be_lost(
    chat, tampered, conversations, server
):
    thread = chat.open(tampered)
    assert (thread.instructions, thread.are_instructions_verified) == (None, False)
    assert thread.is_whole
    with pytest.raises(Tampered):
        conversations.instructions(tampered)

    done(chat.begin(tampered, "One"))
    assert asked(server) == ("scripted", "Be kind.")

    conversations.set_instructions(tampered, "Answer in prose.")
    assert chat.open(tampered).are_instructions_verified


def test_another_conversations_instructions_do_not_open_here(conversations, maya, garden, stack):
    other = conversations.create("Other", Window()).conversation.id
    conversations.set_instructions(other, "Answer in verse.")
    with stack.connect() as database:
        database.execute(
            "update public.conversations set instructions = (select instructions from"
            " public.conversations where id = %s) where id = %s",
            [other, garden],
        )

    thread = Conversations(maya).thread(garden)
    assert (thread.instructions, thread.are_instructions_verified) == (None, False)


def test_preferences_that_do_not_open_are_passed_over_and_can_be_made_anew(maya, omar, mine, stack):
    choose(Profile(omar), instructions="Theirs.")
    with stack.connect() as database:
        database.execute(
            "update public.profiles set preferences = (select preferences from public.profiles"
            " where user_id = %s) where user_id = %s",
            [omar.user_id, maya.user_id],
        )

    assert mine.preferences() == Preferences(is_verified=False)
    choose(mine, model="large")
    assert Profile(maya).preferences() == Preferences(model="large")


def test_another_session_of_the_same_person_opens_them(sessions, sign_up):
    cookie, session = sign_up()
    choose(Profile(session), instructions="Be brief.")

    assert Profile(sessions.open(cookie)).preferences().instructions == "Be brief."


def test_sizes_are_stored_and_left_to_the_deployment_again(maya):
    mine = Profile(maya)
    choose(mine, context_tokens=2000)
    choose(mine, reply_tokens=300)
    choose(mine, window_messages=8)
    sizes = Preferences(context_tokens=2000, reply_tokens=300, window_messages=8)
    assert Profile(maya).preferences() == sizes

    choose(mine, context_tokens=None)
    choose(mine, reply_tokens=None)
    choose(mine, window_messages=None)
    assert Profile(maya).preferences() == Preferences()
