"""Facts that the model notes from prompts."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event
from threading import enumerate as enumerate_threads

import pytest

from services.chat.task_registry import BACKGROUND_THREAD
from services.domain import MessageId, NewConversation, Outcome, Purpose
from services.domain.memories import NotedFact
from services.errors import ChangedElsewhere, SignedOut, StoreUnavailable
from tests.chats import done, settled
from tests.fakes import choose
from tests.stack.apps import SECONDS, until
from tests.store.conformance.talk import a_fact, stored_space, texts

PROMPT = "I live in Bern with my dog Rex."
DOG, BERN, ZURICH = "Has a dog called Rex.", "Lives in Bern.", "Lives in Zurich."


def answer(*add, **replaced):
    names = [{"number": int(name[1:]), "fact": text} for name, text in replaced.items()]
    return json.dumps({"add": add, "replace": names})


@pytest.fixture
def chat(make_chat, server):
    server.script(reply="How nice, and you drive a red car.")
    server.script_facts(reply=answer(DOG))
    made = make_chat()
    choose(made.store.profile, keeps_facts=True)
    return made


def ask(chat, prompt=PROMPT, conversation_id=None, **new):
    turn = chat.begin(conversation_id, prompt, new=NewConversation(**new))
    return settled(chat, turn).conversation.id


def noted(chat, conversation_id):
    return [one.fact.text for one in chat.tasks.noted(conversation_id)]


@pytest.fixture
def moved(chat, server):
    """A conversation after "Lives in Bern." was noted, then replaced by "Lives in Zurich."; the dog's fact is unchanged."""
    server.script_facts(reply=answer(BERN))
    conversation_id = ask(chat)
    (bern,) = chat.store.facts.facts()
    server.script_facts(reply=answer(DOG, _1=ZURICH))
    ask(chat, "I moved to Zurich, and have a dog.", conversation_id)
    return conversation_id, bern


def test_fact_is_sent_in_other_conversations(chat, server):
    ask(chat)
    server.script_facts(reply=answer())

    ask(chat, "What shall I buy?")

    system = server.requests[-1].body["messages"][0]["content"]
    assert system.startswith("Be kind.\n\n[Facts that were kept about the user (days in UTC).")
    assert DOG in system
    assert f"> 1. {DOG}" in server.facts_requests[-1].prompt


@pytest.mark.parametrize("choice", [None, False])
def test_no_fact_is_noted_unless_switched_on(chat, server, choice):
    choose(chat.store.profile, keeps_facts=choice)

    conversation_id = ask(chat)

    assert server.facts_requests == []
    assert (texts(chat.store), noted(chat, conversation_id)) == ([], [])


def before_facts_are_noted(database, act):
    """Run *act* once the model has named the facts in the next prompt."""
    rows = database.rows
    rows.after["finish_turn"] = lambda: rows.before.update(finish_turn=act)


def test_fact_is_dropped_when_switched_off_meanwhile(chat, database):
    profile = chat.store.profile
    before_facts_are_noted(database, lambda: choose(profile, keeps_facts=False))

    ask(chat)

    assert texts(chat.store) == []


def test_deleted_conversation_leaves_no_fact(chat, server):
    server.script_facts(reply=answer(DOG), delay=5)
    turn = done(chat.begin(None, PROMPT))
    server.wait_until(lambda server: server.facts_requests)

    chat.deletions.discard(turn.conversation_id, 20)

    until(lambda: not chat.coming(Purpose.FACTS))
    assert texts(chat.store) == []


def test_turns_go_on_while_facts_are_noted(chat, server, database):
    is_held, may_end = Event(), Event()
    before_facts_are_noted(database, lambda: is_held.set() or may_end.wait(SECONDS))
    its = done(chat.begin(None, PROMPT)).conversation_id
    assert is_held.wait(SECONDS)

    for prompt in ("And now?", "I have a cat, too."):
        chat.open(its)
        last = done(chat.begin(its, prompt))

    assert chat.coming(Purpose.FACTS) == {its}
    assert noted(chat, its) == []
    assert len(server.facts_requests) == 1  # only one request runs at a time
    may_end.set()
    settled(chat, last)
    assert texts(chat.store) == [DOG]
    first, newest = (asked.prompt for asked in server.facts_requests)
    assert PROMPT in first
    assert "I have a cat, too." in newest


def test_contradicting_fact_replaces_the_earlier_one(chat, moved):
    conversation_id, bern = moved

    zurich, dog = sorted(chat.store.facts.facts(), key=lambda fact: fact.id != bern.id)

    assert (zurich.text, dog.text) == (ZURICH, DOG)
    assert zurich.since > bern.since
    assert zurich.source_id == chat.open(conversation_id).messages[2].id
    assert set(chat.tasks.noted(conversation_id)) == {NotedFact(dog), NotedFact(zurich, bern)}


def test_noted_facts_are_taken_back(chat, moved):
    conversation_id, bern = moved

    for one in chat.tasks.noted(conversation_id):
        chat.tasks.undo_noted(conversation_id, one)

    assert chat.store.facts.facts() == (bern,)
    assert chat.tasks.noted(conversation_id) == ()


def test_fact_changed_since_is_not_taken_back(chat, moved):
    conversation_id, bern = moved
    [zurich] = [one for one in chat.tasks.noted(conversation_id) if one.fact.id == bern.id]
    chat.store.facts.keep(replace(zurich.fact, text="Lives in Basel."), replaces=zurich.fact)

    with pytest.raises(ChangedElsewhere):
        chat.tasks.undo_noted(conversation_id, zurich)

    assert noted(chat, conversation_id) == [DOG]
    assert "Lives in Basel." in texts(chat.store)


def test_new_fact_changed_since_is_not_taken_back(chat):
    conversation_id = ask(chat)
    [dog] = chat.tasks.noted(conversation_id)
    chat.store.facts.keep(replace(dog.fact, text="Has two dogs."), replaces=dog.fact)

    with pytest.raises(ChangedElsewhere):
        chat.tasks.undo_noted(conversation_id, dog)

    assert texts(chat.store) == ["Has two dogs."]


def test_dismissed_note_stays_a_fact(chat):
    conversation_id = ask(chat)

    chat.tasks.registry.dismiss(conversation_id, chat.tasks.noted(conversation_id))

    assert chat.tasks.noted(conversation_id) == ()
    assert texts(chat.store) == [DOG]


@pytest.mark.parametrize(
    "script",
    [
        {"status": 401},
        {"fault": "drop", "tokens": 9, "after": 3},
        {"reply": answer(DOG, _1=BERN)},
        {"reply": answer("Drives a red car.")},  # stated by the assistant, not by the user
    ],
    ids=lambda script: str(script)[:40],
)
def test_failed_or_invalid_answer_changes_no_fact(chat, server, database, script):
    server.script_facts(**script)

    conversation_id = ask(chat)

    assert server.facts_requests
    assert (texts(chat.store), noted(chat, conversation_id)) == ([], [])
    ask(chat, "And now?", conversation_id)
    assert chat.failure(conversation_id) is None
    assert database.costs()


def test_stopped_reply_yields_no_fact(chat, server):
    server.script(tokens=400, rate=20)
    server.script_facts(reply=answer(DOG))
    turn = chat.begin(None, PROMPT)
    next(filter(None, turn.follow()))

    turn.stop()

    assert settled(chat, turn).tip.outcome is Outcome.STOPPED
    assert server.facts_requests == []


def test_regenerated_reply_requests_no_facts_again(chat, server):
    conversation_id = ask(chat)
    chat.tasks.undo_noted(conversation_id, *chat.tasks.noted(conversation_id))

    settled(chat, chat.retry(conversation_id))

    assert len(server.facts_requests) == 1
    assert texts(chat.store) == []


def test_failed_request_for_facts_is_sent_again(chat, server):
    server.script_facts(status=401)
    conversation_id = ask(chat)
    server.script_facts(reply=answer(DOG))

    settled(chat, chat.retry(conversation_id))

    assert texts(chat.store) == [DOG]


def test_unreadable_conversation_yields_no_fact(chat, database, server, monkeypatch):
    def spoil_the_first_prompt():
        [first, *_] = chat.open(conversation_id).messages
        database.spoil("message", first.id)
        chat.store.conversations.forget(conversation_id)

    server.script_facts(reply=answer())
    conversation_id = ask(chat, "Hello")
    database.rows.after["finish_turn"] = spoil_the_first_prompt

    ask(chat, PROMPT, conversation_id)

    thread = chat.open(conversation_id)
    assert not thread.is_whole
    assert len(server.facts_requests) == 1
    # no task is begun that could do nothing
    monkeypatch.setattr(chat.tasks.registry, "claim", None)
    chat.tasks.catch_up(thread)


def test_thoughts_about_facts_are_paid_for_where_no_usage_is_reported(chat, server, database):
    server.script_facts(reply=answer(), usage="none")
    ask(chat)
    server.script_facts(reply=answer(), thoughts=40, thought="The user has a dog. ", usage="none")

    ask(chat)

    without, thinking = (cost for purpose, cost in database.costs() if purpose is Purpose.FACTS)
    assert thinking > without > 0


def test_fact_noted_in_a_space_stays_there(chat, server):
    space = stored_space(chat.store, "Kennel")

    ask(chat, space_id=space.id)

    (fact,) = chat.store.facts.facts()
    assert (fact.text, fact.space_id) == (DOG, space.id)
    ask(chat, "What shall I buy?")
    assert DOG not in str(server.requests[-1].body)


def test_fact_of_a_chat_moved_meanwhile_is_noted_in_its_space(chat, database):
    space = stored_space(chat.store, "Kennel")

    def move():
        (thread,) = database.threads()
        chat.store.conversations.move(thread.conversation.id, space.id)

    before_facts_are_noted(database, move)
    ask(chat)

    (fact,) = chat.store.facts.facts()
    assert (fact.text, fact.space_id) == (DOG, space.id)


def test_fact_of_the_user_is_not_replaced_by_words_of_a_space(chat, server):
    space = stored_space(chat.store, "Kennel")
    server.script_facts(reply=answer(BERN))
    ask(chat)
    server.script_facts(reply=answer(_1=ZURICH))

    ask(chat, "I moved to Zurich", space_id=space.id)

    stored = {fact.text: fact.space_id for fact in chat.store.facts.facts()}
    assert stored == {BERN: None, ZURICH: space.id}


def test_fact_of_another_conversation_is_neither_shown_nor_replaced(chat, server):
    server.script_facts(reply=answer())
    elsewhere = a_fact(BERN, conversation_id=ask(chat, "Hello"))
    chat.store.facts.keep(elsewhere)
    server.script_facts(reply=answer(_1=ZURICH))

    ask(chat, "I live in Zurich")

    assert BERN not in server.facts_requests[-1].prompt
    assert texts(chat.store) == [BERN]


def test_fact_of_a_conversation_is_sent_only_there(chat, server):
    choose(chat.store.profile, keeps_facts=False)
    here, there = ask(chat, "Hello"), ask(chat, "Hello again")
    chat.store.facts.keep(a_fact("It is order 7781.", conversation_id=here))
    chat.store.facts.keep(
        a_fact(DOG, conversation_id=here, source_id=MessageId(here))
    )  # a fact that was noted from a message

    ask(chat, "Where is it?", there)
    assert "7781" not in str(server.requests[-1].body)
    ask(chat, "Where is it?", here)
    assert "It is order 7781." in server.requests[-1].body["messages"][0]["content"]
    assert DOG not in str(server.requests[-1].body)


@pytest.fixture
def only_first_is_stored(chat, server, database):
    """Have the model name two facts, of which the database stores the first alone."""

    def fail():
        database.rows.failures["put_document"] = StoreUnavailable()

    server.script_facts(reply=answer(DOG, BERN))
    database.rows.after["put_document"] = fail


@pytest.mark.usefixtures("only_first_is_stored")
def test_fact_is_noted_though_the_next_fails(chat):
    conversation_id = ask(chat)

    assert noted(chat, conversation_id) == [DOG]
    assert texts(chat.store) == [DOG]


def stored_later(chat, server, conversation_id):
    """Return the stored facts after the postponed second attempt."""
    assert chat.tasks.registry.is_postponed(Purpose.FACTS, conversation_id)
    assert len(server.facts_requests) == 1  # the failed attempt is not repeated at once
    chat.tasks.note_facts(conversation_id)
    settled(chat, conversation_id)
    assert len(server.facts_requests) == 2
    return texts(chat.store)


@pytest.mark.usefixtures("only_first_is_stored")
def test_facts_that_the_database_did_not_store_are_noted_later(chat, server, database):
    conversation_id = ask(chat)
    database.rows.failures.clear()

    assert sorted(stored_later(chat, server, conversation_id)) == [DOG, BERN]
    assert noted(chat, conversation_id) == [DOG, BERN]


def test_facts_are_noted_later_if_other_messages_were_deleted_meanwhile(chat, server, database):
    choose(chat.store.profile, keeps_facts=False)
    conversation_id = ask(chat, "Hello")
    first = settled(chat, chat.retry(conversation_id)).messages[1]
    choose(chat.store.profile, keeps_facts=True)
    delete = chat.deletions.delete_messages
    before_facts_are_noted(database, lambda: delete(conversation_id, {first.id}))

    ask(chat, PROMPT, conversation_id)

    assert stored_later(chat, server, conversation_id) == [DOG]


# --- several prompts in one request -----------------------------------------------------------------


@pytest.fixture
def paced(make_chat, server):
    """A chat that notes facts from five prompts at once."""
    server.script_facts(reply=answer(DOG))
    made = make_chat(fact_batch=5)
    choose(made.store.profile, keeps_facts=True)
    return made


def test_one_request_is_sent_for_five_prompts(paced, server):
    its = None
    for prompt in (PROMPT, "Why?", "```\nmain()\n```", "And beans?", "And leeks?"):
        its = ask(paced, prompt, its)
        assert server.facts_requests == []

    ask(paced, "Thanks.", its)

    (request,) = server.facts_requests
    assert PROMPT in request.prompt
    assert "Thanks." in request.prompt
    (fact,) = paced.store.facts.facts()
    asked = paced.open(its).messages[0]
    assert (fact.text, fact.source_id) == (DOG, asked.id)
    assert noted(paced, its) == [DOG]


def test_prompts_of_a_left_chat_are_noted(paced, server):
    its = ask(paced)

    paced.tasks.note_facts(its)

    settled(paced, its)
    assert texts(paced.store) == [DOG]
    paced.tasks.note_facts(its)
    assert len(server.facts_requests) == 1


def test_prompts_that_a_process_left_are_noted_when_the_chat_is_opened(paced, make_chat, server):
    its = ask(paced)

    later = make_chat(fact_batch=5, silence=timedelta(0))
    later.tasks.catch_up(later.open(its))

    settled(later, its)
    assert texts(later.store) == [DOG]
    later.tasks.catch_up(later.open(its))
    assert len(server.facts_requests) == 1


def test_prompts_of_an_opened_chat_wait_for_the_silence(paced, make_chat, server):
    its = ask(paced)

    soon = make_chat(fact_batch=5)
    soon.tasks.catch_up(soon.open(its))

    assert soon.tasks.registry.is_postponed(Purpose.FACTS, its)
    assert server.facts_requests == []


def test_request_of_a_user_who_has_left_is_not_postponed(paced, server, database):
    its = ask(paced)
    server.script_facts(fault="hang", after=1)
    paced.tasks.note_facts(its)
    until(lambda: server.facts_requests)

    database.rows.failure = SignedOut()
    paced.tasks.registry.forget(paced.store.turns.user_id)

    until(lambda: all(one.name != BACKGROUND_THREAD for one in enumerate_threads()))
    assert not paced.tasks.registry.is_postponed(Purpose.FACTS, its)


def test_failed_request_is_postponed_with_its_prompts(paced, server):
    server.script_facts(status=401)
    its = ask(paced)
    paced.tasks.note_facts(its)
    settled(paced, its)
    assert texts(paced.store) == []
    server.script_facts(reply=answer(DOG))

    until(lambda: paced.tasks.registry.is_postponed(Purpose.FACTS, its))
    paced.tasks.note_facts(its)

    settled(paced, its)
    assert texts(paced.store) == [DOG]


@pytest.mark.parametrize("first", [{"reply": "How nice."}, {"status": 401}], ids=str)
def test_prompts_from_before_memory_was_on_are_not_noted(paced, server, first):
    profile = paced.store.profile
    profile.change(lambda now: now.with_memory(False, datetime.now(UTC)))
    server.script(**first)
    its = ask(paced)
    server.script(reply="How nice.")
    profile.change(lambda now: now.with_memory(True, datetime.now(UTC)))

    ask(paced, "I have a dog, too.", its)
    paced.tasks.note_facts(its)

    settled(paced, its)
    (request,) = server.facts_requests
    assert "I have a dog, too." in request.prompt
    assert PROMPT not in request.prompt
