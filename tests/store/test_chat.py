"""A story for each kind of turn, from the prompt to sealed rows and the ledger; and turns that other processes and sessions see."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from services.chat.paid_calls import PaidCalls
from services.domain import NewConversation, Outcome, Preferences, Purpose, Retrieval, Role, Usage
from services.domain.turns import Pace
from services.errors import SignedOut, SpaceGone
from tests.chats import LONG, SMALL, done, said, settled
from tests.fakes import INFO, LARGE, choose
from tests.stack.apps import until
from tests.store.conformance.talk import a_fact, begun_with, first_turn, stored_space
from tests.store.conftest import ledger
from tests.stores import store_of


def purposes(entries):
    return [purpose for _, purpose, _, micro in entries if micro]


def begin_slowly(chat):
    """Return a turn whose reply has begun and takes long."""
    turn = chat.begin(None, "Slowly [[tokens=400 rate=20 times=1]]")
    next(filter(None, turn.follow()))
    return turn


# --- replies, titles, summaries, facts, recall -----------------------------------------------------


def test_reply_and_title_are_stored_and_charged(maya, make_chat, stack, server):
    server.script(reply="In March.", cached=5)
    server.script_titles(reply='Title: "Sowing peas in spring."')
    chat = make_chat(maya, purposes=(Purpose.TITLE,))

    its = settled(chat, chat.begin(None, "When do I sow peas?")).conversation.id

    thread = store_of(maya).conversations.thread(its)
    assert [(message.role, message.body) for message in thread.messages] == [
        (Role.USER, "When do I sow peas?"),
        (Role.ASSISTANT, "In March."),
    ]
    assert thread.is_whole
    assert thread.tip.outcome is Outcome.COMPLETE
    assert thread.conversation.title == "Sowing peas in spring"
    assert purposes(ledger(stack, maya)) == ["reply", "title"]


def test_chosen_model_is_reserved_and_charged(maya, make_chat, stack, server):
    chat = make_chat(maya, others=(LARGE,))
    turn = done(chat.begin(None, "One"))
    chat.store.conversations.set_model(turn.conversation_id, "large")
    chat.open(turn.conversation_id)

    turn = done(chat.begin(turn.conversation_id, "Two"))

    with stack.connect() as database:
        query = "select reserved_micro from public.turns where id = %s"
        (reserved,) = database.execute(query, [turn.id]).fetchone()
    longest_reply = LARGE.cost_micro(Usage(0, LARGE.reply_tokens))
    assert longest_reply < reserved < longest_reply + 1_000
    assert server.requests[-1].body["max_tokens"] == LARGE.reply_tokens
    replies = chat.open(turn.conversation_id).messages[1::2]
    costs = chat.store.turns.costs(replies, turn.conversation_id)
    charged = [(costs[reply.turn_id].model, costs[reply.turn_id].cost_micro) for reply in replies]
    assert [(model, micro) for *_, model, micro in ledger(stack, maya)] == charged
    for (name, micro), info in zip(charged, (INFO, LARGE), strict=True):
        tokens = next(cost.tokens for cost in costs.values() if cost.model == name)
        assert (name, micro) == (info.name, info.cost_micro(tokens))


def test_fact_of_a_prompt_is_noted_with_its_source(maya, make_chat, stack, server):
    chat, before = make_chat(maya), datetime.now(UTC)
    choose(chat.store.profile, keeps_facts=True)
    server.script(reply="How nice.")

    prompt = "I live in Bern with my dog. [[facts=Has_a_dog.]]"
    thread = settled(chat, chat.begin(None, prompt))

    (fact,) = store_of(maya).facts.facts()
    assert (fact.text, fact.source_id) == ("Has a dog.", thread.messages[0].id)
    assert (fact.source_conversation_id, fact.conversation_id) == (thread.conversation.id, None)
    assert before < fact.since < datetime.now(UTC)
    [noted] = chat.tasks.noted(thread.conversation.id)
    assert noted.fact == fact
    [asked] = server.facts_requests
    assert f"user> {prompt}\nassistant> How nice" in asked.prompt
    assert purposes(ledger(stack, maya)) == ["reply", "facts"]


def test_summary_of_a_full_context_is_stored_and_sent(maya, make_chat, stack, server):
    server.script(reply=LONG)
    server.script_summaries(reply="The user sows peas.")
    chat = make_chat(maya, info=SMALL)
    thread = settled(chat, chat.begin(None, LONG))
    while not thread.summary:
        assert len(thread.messages) < 40
        thread = settled(chat, chat.begin(thread.conversation.id, LONG))

    done(chat.begin(thread.conversation.id, "And now?"))

    stored = store_of(maya).conversations.thread(thread.conversation.id)
    assert stored.summary == thread.summary
    system = server.requests[-1].body["messages"][0]["content"]
    assert system.startswith("Be kind.")
    assert "The user sows peas." in system
    assert purposes(ledger(stack, maya)).count("summary") == 1


def test_message_of_another_conversation_is_recalled_for_its_user(sign_up, make_chat, server):
    def searching(session):
        chosen = Preferences(policy=Retrieval(), recalls_elsewhere=True)
        chat = make_chat(session)
        chat.store.profile.change(lambda _: chosen)
        return chat

    maya, omar = sign_up()[1], sign_up()[1]
    kumquat, question = "My kumquat tree is called Zebedee.", "What is my kumquat tree called?"
    there = done(searching(maya).begin(None, kumquat)).conversation_id

    chat = searching(maya)  # another process
    here = settled(chat, chat.begin(None, question))
    sent = server.requests[-1].body["messages"][-1]["content"]
    assert f"user, in another chat> {kumquat}" in sent
    receipt = chat.view(here.conversation.id).receipt(here.tip)
    assert {entry.conversation_id for entry in receipt.recalls} == {there}
    done(searching(omar).begin(None, question))
    assert kumquat not in str(server.requests[-1].body["messages"])


# --- other processes and sessions ------------------------------------------------------------------


def test_reply_of_another_process_is_stopped_by_a_heartbeat(maya, make_chat, stack):
    turn = begin_slowly(make_chat(maya))
    elsewhere = make_chat(maya)
    elsewhere.open(turn.conversation_id)

    elsewhere.view(turn.conversation_id).turn.stop()

    assert turn.wait(60)
    reply = elsewhere.open(turn.conversation_id).tip
    assert (reply.outcome, reply.body) == (Outcome.STOPPED, turn.said())
    assert purposes(ledger(stack, maya)) == ["reply"]


def test_reply_of_a_killed_process_is_recovered(maya, make_chat, stack, server, monkeypatch):
    server.script(reply="Here it is.")
    dying = make_chat(maya)
    monkeypatch.setattr(dying.store.turns, "pace", Pace(lease_seconds=2))
    turn = begin_slowly(dying)
    query = "select partial is not null from public.turns where id = %s"
    with stack.connect() as database:
        until(lambda: database.execute(query, [turn.id]).fetchone() == (True,))
    monkeypatch.setattr(dying.store.turns, "checkpoint", lambda *_: False)
    monkeypatch.setattr(PaidCalls, "_finish", lambda *_: None)
    turn.stop()
    done(turn)
    monkeypatch.undo()

    survivor = make_chat(maya)
    survivor.open(turn.conversation_id)
    texts = list(survivor.view(turn.conversation_id).turn.follow())  # until the turn is settled
    thread = survivor.open(turn.conversation_id)

    assert (thread.tip.outcome, thread.tip.body) == (Outcome.INTERRUPTED, texts[-1])
    assert texts[-1]
    assert thread.is_whole
    assert ledger(stack, maya)
    done(survivor.retry(turn.conversation_id))
    assert said(survivor.open(turn.conversation_id))[1] == "Here it is."


def test_session_ended_elsewhere_stops_its_reply(maya, make_chat, sessions, server):
    turn = begin_slowly(make_chat(maya))

    sessions.backend.server.call("end_session", cookie=maya.backend.bearer.cookie_hash, waits=False)

    server.wait_until(lambda s: s.requests[-1].end == "left")
    assert isinstance(done(turn).failure, SignedOut)


@pytest.mark.parametrize(
    "put",
    [
        lambda user, space, _: user.turns.begin(
            first_turn("When?", NewConversation(space_id=space))
        ),
        lambda user, space, chat: user.conversations.move(chat, space),
        lambda user, space, _: user.facts.keep(a_fact(space_id=space)),
    ],
    ids=["new chat", "chat", "fact"],
)
def test_space_that_is_being_deleted_is_gone(maya, stack, put):
    user = store_of(maya)
    chat, space = begun_with(user).conversation.id, stored_space(user).id

    waits = "select from pg_locks where not granted"
    with ThreadPoolExecutor(1) as other, stack.connect() as deleting:
        with deleting.transaction():
            deleting.execute("delete from public.documents where id = %s", [space])
            putting = other.submit(put, user, space, chat)
            until(lambda: deleting.execute(waits).fetchall())

        with pytest.raises(SpaceGone):
            putting.result()
