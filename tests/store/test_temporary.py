"""Temporary chats over a database: the rows that they leave in it, and their cost."""

import pytest

from services.chat.temporary import TEMPORARY_TITLE
from services.domain import Outcome, Purpose
from services.domain.turns import Pace
from services.errors import Cap, OverBudget
from tests.chats import LONG, done, said, settled
from tests.fakes import choose
from tests.stack.apps import until
from tests.store.conformance.talk import a_fact
from tests.store.conftest import ledger
from tests.stores import sweep

MONEY = {"private.ledger", "private.usage_by_day", "private.budgets", "private.deployment"}


@pytest.fixture
def begin(person, shared, maya):
    """Return a function that makes temporary chats, which are ended after the test."""

    def make(*, reads_facts=False):
        return person.begin_temporary(reads_facts=reads_facts, is_there=lambda: True)

    yield make
    shared.temporary.end_of(maya.id)


@pytest.fixture
def query(stack):
    def run(statement, *values):
        with stack.connect() as database:
            found = database.execute(statement, values or None)
            return found.fetchall() if found.description else None

    return run


@pytest.fixture
def turns(query, maya):
    """Return a function that reads the user's turns without names, times and amounts."""
    return lambda: query(
        "select purpose, state, conversation_id, prompt_id, reply_id, partial from public.turns"
        " where user_id = %s order by begun_at",
        maya.user_id,
    )


@pytest.fixture
def charges(stack, maya):
    """Return a function that checks the budget, and returns the kinds of the ledger entries."""
    return lambda: [kind for kind, *_, micro in ledger(stack, maya) if micro]


@pytest.fixture
def limit(query, maya):
    return lambda column, amount: query(
        f"update private.budgets set {column} = %s where user_id = %s", amount, maya.user_id
    )


def rows(query):
    """Return every row of each of our tables, as text."""
    names = query(
        "select format('%I.%I', table_schema, table_name) from information_schema.tables"
        " where table_type = 'BASE TABLE' and table_schema in ('public', 'private')"
    )
    return {table: set(query(f"select t::text from {table} t")) for (table,) in names}


def test_temporary_chat_stores_only_its_cost(begin, query, turns, charges, server):
    server.script(reply=f"I see. {LONG}")
    server.script_summaries(reply="Peas were sown.")
    before = rows(query)
    held = begin()
    chat, thread = held.chat, None

    for prompt in [LONG] * 9:
        rev = thread and thread.conversation.rev
        turn = chat.begin(held.id if thread else None, prompt, seen_rev=rev)
        thread = settled(chat, turn)
        assert turn.failure is None
    settled(chat, chat.retry(held.id))

    assert "Peas were sown." in str(server.requests[-1].body["messages"])
    assert thread.summary.text.endswith("Peas were sown.")
    after = rows(query)
    assert {table for table in after if after[table] != before[table]} == {"public.turns"} | MONEY
    stored = turns()
    assert {purpose for purpose, *_ in stored} == {Purpose.REPLY, Purpose.SUMMARY}
    assert {tuple(rest) for _, *rest in stored} == {("complete", None, None, None, None)}
    assert charges() == ["charge"] * len(stored)
    assert thread.conversation.title == TEMPORARY_TITLE
    assert server.title_requests == server.facts_requests == []


def test_limits_hold_for_temporary_chats(begin, person, limit, server):
    def refusal(prompt, conversation_id=None, chat=None):
        with pytest.raises(OverBudget) as refused:
            (chat or held.chat).begin(conversation_id, prompt)
        return refused.value

    held = begin()
    limit("daily_cap_micro", 0)
    assert refusal("Hello").cap is Cap.DAILY
    assert not held.is_begun

    limit("daily_cap_micro", 10**9)
    done(held.chat.begin(None, "Hello"))
    assert said(held.chat.open(held.id)) == ["Hello", "You said: Hello"]
    limit("max_per_minute", 0)  # 0, because with 1 the minute might pass
    assert refusal("Too fast", held.id).cap is Cap.TURNS_A_MINUTE

    limit("max_per_minute", 9)
    limit("max_open", 1)
    server.script(fault="hang")
    turn = held.chat.begin(held.id, "Wait")
    assert refusal("Elsewhere", chat=person.chat).cap is Cap.OPEN_TURNS
    turn.stop()
    done(turn)


def test_sign_out_stops_and_charges_its_temporary_chats(
    begin, shared, maya, turns, charges, server
):
    server.script(reply="word " * 500, rate=20)
    held = begin()
    turn = held.chat.begin(None, "Go on and on")
    next(filter(None, turn.follow()))

    shared.temporary.end_of(maya.id)

    assert (turn.is_done, held.is_over, held.is_begun) == (True, True, False)
    assert turns() == [("reply", "stopped", None, None, None, None)]
    assert charges() == ["charge"]


def test_end_of_the_process_interrupts_and_charges_replies(
    begin, shared, person, turns, charges, server
):
    server.script(reply="word " * 500, rate=20)
    chats = person.chat, begin().chat
    live = [chat.begin(None, "Go on and on") for chat in chats]
    for turn in live:
        next(filter(None, turn.follow()))

    shared.stop_turns()

    assert all(turn.is_done for turn in live)
    states = [state for purpose, state, *_ in turns() if purpose == "reply"]
    assert states == ["interrupted"] * 2
    assert charges() == ["charge"] * 2
    reply = person.chat.open(live[0].conversation_id).tip
    assert (reply.outcome, reply.body) == (Outcome.INTERRUPTED, live[0].said())


def test_temporary_turn_of_a_crashed_process_is_charged(
    begin, shared, query, turns, charges, server, monkeypatch
):
    server.script(fault="hang")
    chat = begin().chat
    monkeypatch.setattr(chat.store.turns, "pace", Pace(beat_seconds=600.0))
    turn = chat.begin(None, "Hello")
    until(lambda: turns()[0][1] == "streaming")
    query("update public.turns set lease_until = now() - interval '1 hour' where id = %s", turn.id)

    sweep(shared.backend)

    assert turns()[0][:3] == ("reply", "lapsed", None)
    assert charges() == ["lapsed"]
    turn.stop()
    done(turn)


def test_temporary_chat_reads_facts_if_allowed_and_notes_none(begin, person, server):
    choose(person.store.profile, keeps_facts=True)
    person.store.facts.keep(a_fact("Lives in Bern."))

    for reads_facts in (False, True):
        held = begin(reads_facts=reads_facts)
        chat = held.chat
        settled(chat, chat.begin(None, "Where? [[facts=Is_lost.]]"))
        told = str(server.requests[-1].body["messages"])
        assert ("Lives in Bern." in told) is reads_facts
        assert not person.tasks.registry.is_postponed(Purpose.FACTS, held.id)

    assert server.facts_requests == []
    assert [one.text for one in person.store.facts.facts()] == ["Lives in Bern."]


def test_lease_of_a_temporary_turn_is_prolonged(begin, query, server):
    server.script(fault="hang")
    turn = begin().chat.begin(None, "Hello")

    def lease():
        return query("select state, lease_until from public.turns where id = %s", turn.id)[0]

    _, first = lease()
    until(lambda: lease()[0] == "streaming" and lease()[1] > first)
    turn.stop()
    done(turn)
