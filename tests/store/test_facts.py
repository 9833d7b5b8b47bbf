"""Facts, from a prompt to the sealed row, with a scripted model."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.chat.live_turn import LiveTurns
from services.domain import (
    Fact,
    FactId,
    MessageId,
    NewConversation,
    Outcome,
    Purpose,
    Space,
    SpaceId,
)
from services.domain.memories import NotedFact
from services.errors import ChangedElsewhere, StoreUnavailable
from tests.fakes import INFO, choose
from tests.stack.apps import until
from tests.store.conftest import done
from tests.store.test_titles import books, limit_budget
from tests.stores import store_of

PROMPT = "I live in Bern with my dog Rex."
DOG, BERN = "Has a dog called Rex.", "Lives in Bern."


def answer(*add, **replaced):
    names = [{"number": int(name[1:]), "fact": text} for name, text in replaced.items()]
    return json.dumps({"add": add, "replace": names})


@pytest.fixture
def chat(maya, make_chat, server):
    server.script(reply="How nice, and you drive a red car.")
    server.script_facts(reply=answer(DOG))
    server.requests.clear()
    server.facts_requests.clear()
    made = make_chat(maya)
    choose(made.store.profile, keeps_facts=True)
    return made


@pytest.fixture
def profile(chat):
    return chat.store.profile


@pytest.fixture
def memories(chat):
    return chat.store.facts


def settled(chat):
    until(lambda: not chat.coming(Purpose.FACTS))


def ask(chat, prompt=PROMPT, conversation_id=None):
    turn = done(chat.begin(conversation_id, prompt))
    settled(chat)
    return turn.conversation_id


def texts(chat):
    return [fact.text for fact in chat.facts.facts()]


def noted(chat, conversation_id):
    return [one.fact.text for one in chat.memories.noted(conversation_id)]


def test_fact_of_a_prompt_is_noted_with_its_source(chat, maya, stack, server):
    before = datetime.now(UTC)

    conversation_id = ask(chat)

    (fact,) = store_of(maya).facts.facts()
    prompt, _ = chat.open(conversation_id).messages
    assert (fact.text, fact.source_id) == (DOG, prompt.id)
    assert (fact.source_conversation_id, fact.conversation_id) == (conversation_id, None)
    assert before < fact.since < datetime.now(UTC)
    assert noted(chat, conversation_id) == [DOG]
    [asked] = server.facts_requests
    assert f"user> {PROMPT}\nassistant> How nice" in asked.prompt
    entries, agrees = books(stack, maya)
    assert [purpose for purpose, *_ in entries] == ["reply", "facts"]
    assert agrees


def test_fact_is_sent_in_other_conversations(chat, server):
    ask(chat)
    server.script_facts(reply=answer())

    ask(chat, "What shall I buy?")

    system = server.requests[-1].body["messages"][0]["content"]
    assert system.startswith("Be kind.\n\n[Facts that were kept about the user.")
    assert DOG in system
    assert f"> 1. {DOG}" in server.facts_requests[-1].prompt


@pytest.mark.parametrize("choice", [None, False])
def test_no_fact_is_noted_unless_switched_on(chat, profile, server, choice):
    choose(profile, keeps_facts=choice)

    conversation_id = ask(chat)

    assert server.facts_requests == []
    assert (texts(chat), noted(chat, conversation_id)) == ([], [])


def test_fact_is_dropped_when_switched_off_meanwhile(chat, profile, server):
    server.script_facts(reply=answer(DOG), delay=0.6)
    done(chat.begin(None, PROMPT))
    server.wait_until(lambda server: server.facts_requests)

    choose(profile, keeps_facts=False)

    settled(chat)
    assert texts(chat) == []


def test_turns_go_on_while_facts_are_noted(chat, server):
    server.script_facts(reply=answer(DOG), delay=1.0)

    turn = done(chat.begin(None, PROMPT))

    assert chat.coming(Purpose.FACTS) == {turn.conversation_id}
    assert noted(chat, turn.conversation_id) == []
    chat.open(turn.conversation_id)
    server.wait_until(lambda server: server.facts_requests)
    assert done(chat.begin(turn.conversation_id, "And now?")).failure is None
    chat.open(turn.conversation_id)
    assert done(chat.begin(turn.conversation_id, "I have a cat, too.")).failure is None
    assert len(server.facts_requests) == 1  # one at a time
    settled(chat)
    assert texts(chat) == [DOG]
    first, last = (str(asked.body["messages"]) for asked in server.facts_requests)
    assert PROMPT in first
    assert "I have a cat, too." in last  # the newest that came meanwhile


def test_contradicting_fact_replaces_the_earlier_one(chat, server):
    server.script_facts(reply=answer(BERN))
    conversation_id = ask(chat)
    (old,) = chat.facts.facts()
    server.script_facts(reply=answer(DOG, _1="Lives in Zurich."))

    ask(chat, "I moved to Zurich, and have a dog.", conversation_id)

    zurich, dog = sorted(chat.facts.facts(), key=lambda fact: fact.id != old.id)
    assert (zurich.text, dog.text) == ("Lives in Zurich.", DOG)
    assert zurich.since > old.since
    assert zurich.source_id == chat.open(conversation_id).messages[2].id
    assert set(chat.memories.noted(conversation_id)) == {NotedFact(dog), NotedFact(zurich, old)}


def test_noted_facts_are_taken_back(chat, server):
    server.script_facts(reply=answer(BERN))
    conversation_id = ask(chat)
    before = chat.facts.facts()
    server.script_facts(reply=answer(DOG, _1="Lives in Zurich."))
    ask(chat, "I moved to Zurich, and have a dog.", conversation_id)

    for one in chat.memories.noted(conversation_id):
        chat.memories.undo_noted(conversation_id, one)

    assert chat.facts.facts() == before
    assert chat.memories.noted(conversation_id) == ()


def test_fact_changed_since_is_not_taken_back(chat, server):
    server.script_facts(reply=answer(BERN))
    conversation_id = ask(chat)
    server.script_facts(reply=answer(_1="Lives in Zurich."))
    ask(chat, "I moved to Zurich.", conversation_id)
    [one] = chat.memories.noted(conversation_id)
    mine = replace(one.fact, text="Lives in Basel.")
    chat.facts.keep(mine, replaces=one.fact)

    with pytest.raises(ChangedElsewhere):
        chat.memories.undo_noted(conversation_id, one)

    assert chat.memories.noted(conversation_id) == ()
    assert texts(chat) == ["Lives in Basel."]


def test_dismissed_note_stays_a_fact(chat):
    conversation_id = ask(chat)

    chat.background.dismiss(conversation_id, chat.memories.noted(conversation_id))

    assert chat.memories.noted(conversation_id) == ()
    assert texts(chat) == [DOG]


@pytest.mark.parametrize(
    "script",
    [
        {"status": 500},
        {"fault": "drop", "tokens": 9, "after": 3},
        {"fault": "html"},
        {"fault": "empty"},
        {"reply": "***"},
        {"reply": f"Sure! {answer(DOG)}"},
        {"reply": "word " * 4000},
        {"reply": answer(DOG, _1=BERN)},
        {"reply": answer("dog 1", "dog 2", "dog 3", "dog 4")},
        {"reply": answer("Drives a red car.")},  # said the assistant
    ],
    ids=lambda script: str(script)[:40],
)
def test_failed_or_invalid_answer_changes_no_fact(chat, server, maya, stack, script):
    server.script_facts(**script)

    conversation_id = ask(chat)

    assert server.facts_requests
    assert (texts(chat), noted(chat, conversation_id)) == ([], [])
    assert done(chat.begin(conversation_id, "And now?")).failure is None
    settled(chat)
    assert books(stack, maya)[1]


def test_facts_are_not_requested_without_budget(chat, maya, stack, server):
    server.script(reply="How nice.", tokens=1, delay=0.5)
    server.script_facts(reply=answer(DOG))
    turn = chat.begin(None, PROMPT)
    limit_budget(stack, maya, 0)

    done(turn)
    settled(chat)

    assert turn.failure is None
    assert server.facts_requests == []
    assert texts(chat) == []


def test_stopped_reply_yields_no_fact(chat, server):
    server.script(tokens=400, rate=20)
    server.script_facts(reply=answer(DOG))
    turn = chat.begin(None, PROMPT)
    next(said for said in turn.follow() if said)

    turn.stop()

    done(turn)
    settled(chat)
    assert chat.open(turn.conversation_id).messages[-1].outcome is Outcome.STOPPED
    assert server.facts_requests == []


def test_regenerated_reply_requests_no_facts_again(chat, server):
    conversation_id = ask(chat)
    chat.memories.undo_noted(conversation_id, *chat.memories.noted(conversation_id))

    done(chat.retry(conversation_id))

    settled(chat)
    assert len(server.facts_requests) == 1
    assert texts(chat) == []


def test_failed_request_for_facts_is_sent_again(chat, server):
    server.script_facts(status=500)
    conversation_id = ask(chat)
    server.script_facts(reply=answer(DOG))

    done(chat.retry(conversation_id))

    settled(chat)
    assert texts(chat) == [DOG]


def test_unreadable_conversation_yields_no_fact(chat, maya, stack, server, make_chat):
    conversation_id = ask(chat)
    ask(chat, "I have a cat.", conversation_id)
    with stack.connect() as database:
        database.execute(
            "update public.messages m set body = o.body from public.messages o"
            " where m.conversation_id = %(id)s and o.conversation_id = %(id)s"
            " and (m.seq, o.seq) in ((1, 3), (3, 1))",
            {"id": conversation_id},
        )
    server.facts_requests.clear()
    other = make_chat(maya)  # which has not read it yet

    thread = other.open(conversation_id)
    note = done(other.begin(None, PROMPT))  # a whole one is, all the same
    settled(other)

    assert not thread.is_whole
    assert len(server.facts_requests) == 1
    other._tasks._note(conversation_id, thread.messages[-2].id)
    assert len(server.facts_requests) == 1
    assert noted(other, note.conversation_id) == []  # it was known


def test_fact_noted_in_a_space_stays_there(chat, maya, server):
    space = Space(id=SpaceId(uuid4()), name="Kennel", created_at=datetime.now(UTC))
    chat.store.spaces.keep(space)

    done(chat.begin(None, PROMPT, new=NewConversation(space_id=space.id)))
    settled(chat)

    (fact,) = chat.facts.facts()
    assert (fact.text, fact.space_id) == (DOG, space.id)
    ask(chat, "What shall I buy?")
    assert DOG not in str(server.requests[-1].body)


def test_fact_of_another_conversation_is_neither_shown_nor_replaced(chat, server):
    elsewhere = Fact(
        id=FactId(uuid4()), text=BERN, since=datetime.now(UTC), conversation_id=ask(chat, "Hello")
    )
    for fact in chat.facts.facts():
        chat.facts.forget(fact.id)
    chat.facts.keep(elsewhere)
    server.script_facts(reply=answer(_1="Lives in Zurich."))

    ask(chat, "I live in Zurich")

    assert BERN not in server.facts_requests[-1].prompt
    assert texts(chat) == [BERN]


def test_fact_of_a_conversation_is_sent_only_there(chat, profile, server):
    choose(profile, keeps_facts=False)
    here, there = ask(chat, "Hello"), ask(chat, "Hello again")
    now = datetime.now(UTC)
    chat.facts.keep(
        Fact(id=FactId(uuid4()), text="It is order 7781.", since=now, conversation_id=here)
    )
    noted = Fact(
        id=FactId(uuid4()), text=DOG, since=now, conversation_id=here, source_id=MessageId(uuid4())
    )
    chat.facts.keep(noted)

    for conversation_id in (here, there):
        chat.open(conversation_id)
    ask(chat, "Where is it?", there)
    assert "7781" not in str(server.requests[-1].body)
    ask(chat, "Where is it?", here)
    assert "It is order 7781." in server.requests[-1].body["messages"][0]["content"]
    assert DOG not in str(server.requests[-1].body)


def test_fact_is_noted_though_the_next_fails(chat, server, memories, monkeypatch):
    server.script_facts(reply=answer(DOG, BERN))
    keep, kept = memories.keep, []

    def once(fact, **seen):
        if kept:
            raise StoreUnavailable
        kept.append(fact)
        keep(fact, **seen)

    monkeypatch.setattr(memories, "keep", once)

    assert noted(chat, ask(chat)) == [DOG]
    assert texts(chat) == [DOG]


def test_leaving_cancels_the_request_for_facts(chat, server):
    server.script_facts(fault="hang-headers")
    done(chat.begin(None, PROMPT))
    server.wait_until(lambda server: server.facts_requests)

    chat.leave()

    # before the silence alone would have ended it
    server.wait_until(lambda server: server.facts_requests[0].end == "left", within=3)
    settled(chat)
    assert texts(chat) == []


def test_deleted_conversation_leaves_no_fact(chat, server):
    server.script_facts(reply=answer(DOG), delay=1.5)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda server: server.facts_requests)

    chat.deletions.discard(turn.conversation_id, 20)

    settled(chat)
    assert texts(chat) == []


def test_facts_are_noted_with_a_small_context(chat, maya, make_chat, server):
    small = make_chat(maya, LiveTurns(), replace(INFO, context_tokens=1200, reply_tokens=200))

    ask(small, f"{PROMPT} {'More of it. ' * 120}")

    assert texts(small) == [DOG]
