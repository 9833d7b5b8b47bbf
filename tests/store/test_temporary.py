"""Temporary chats over the embedded stack: what they leave there, and that they are paid for like any other."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import uuid4

import pytest

from services.chat.temporary import ChatIsOver
from services.domain import Fact, FactId, Purpose
from services.errors import Cap, NotFound, OverBudget
from services.llm import Models, Offer
from services.settings import Settings
from services.users import PersonServices, Shared
from tests.fakes import INFO, NOON, choose
from tests.stack.apps import until
from tests.store.conftest import done
from tests.store.test_summaries import LONG
from tests.stores import sweep

MONEY = {"private.ledger", "private.budgets", "private.deployment"}
Rows = Mapping[str, frozenset[str]]


@pytest.fixture
def begin(person, shared):
    """Makes temporary chats; in the end they are over."""

    def make(*, reads_facts=False):
        return person.begin_temporary(reads_facts=reads_facts, is_there=lambda: True)

    yield make
    shared.temporary.end_of(person._session.id)


def rows(stack):
    """Every row of every table of ours, as text."""
    with stack.connect() as database:
        names = database.execute(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables"
            " where table_type = 'BASE TABLE' and table_schema in ('public', 'private')"
        ).fetchall()
        return {
            table: frozenset(
                text for (text,) in database.execute(f"select t::text from {table} t").fetchall()
            )
            for (table,) in names
        }


def changed(before, after):
    return {table for table, held in after.items() if held != before[table]}


def turns(stack, maya):
    """What is stored of the person's turns, but for names, times and amounts."""
    with stack.connect() as database:
        return database.execute(
            "select purpose, state, conversation_id, prompt_id, reply_id, partial from public.turns"
            " where user_id = %s order by begun_at",
            [maya.user_id],
        ).fetchall()


def money(stack, maya):
    """Spent, reserved, and what is in the ledger."""
    with stack.connect() as database:
        entries = database.execute(
            "select kind, micro from private.ledger where user_id = %s order by id", [maya.user_id]
        ).fetchall()
        spent, reserved = database.execute(
            "select month_spent, reserved from private.budgets where user_id = %s", [maya.user_id]
        ).fetchone()
    return spent, reserved, entries


def set_budget(stack, maya, column, amount):
    with stack.connect() as database:
        database.execute(
            f"update private.budgets set {column} = %s where user_id = %s", [amount, maya.user_id]
        )


def said(chat):
    return [message.body for message in chat.chat.open(chat.id).branch()]


def test_a_temporary_chat_writes_only_what_it_costs(begin, stack, maya, server):
    before = rows(stack)
    chat = begin()

    done(chat.chat.begin(None, "Hello"))
    thread = chat.chat.open(chat.id)
    done(chat.chat.begin(chat.id, "Again", seen_rev=thread.conversation.rev))
    done(chat.chat.retry(chat.id))

    assert said(chat) == ["Hello", "You said: Hello", "Again", "You said: Again"]
    after = rows(stack)
    assert changed(before, after) == {"public.turns"} | MONEY
    assert turns(stack, maya) == [("reply", "complete", None, None, None, None)] * 3
    spent, reserved, entries = money(stack, maya)
    assert reserved == 0
    assert spent == sum(micro for _, micro in entries) > 0
    assert [kind for kind, _ in entries] == ["charge"] * 3
    assert server.title_requests == server.facts_requests == []


def test_a_long_one_is_summarised_in_memory(sessions, maya, model, stack, server):
    small = replace(INFO, context_tokens=1200, reply_tokens=200)
    shared = Shared(sessions, Settings(), Models(Offer(small, model)))
    person = PersonServices(maya, shared)
    chat = person.begin_temporary(reads_facts=False, is_there=lambda: True)
    server.script(reply="I see. " + LONG)
    server.script_summaries(reply="Peas were sown.")
    before = rows(stack)

    turn = done(chat.chat.begin(None, LONG))
    for _ in range(9):
        until(lambda: not chat.chat.coming(Purpose.SUMMARY))
        rev = chat.chat.open(chat.id).conversation.rev
        turn = done(chat.chat.begin(chat.id, LONG, seen_rev=rev))
        assert turn.failure is None

    assert "Peas were sown." in str(server.requests[-1].body["messages"])
    assert chat.chat.open(chat.id).summary.text.endswith("Peas were sown.")
    until(lambda: not chat.chat.coming(Purpose.SUMMARY))
    assert changed(before, rows(stack)) == {"public.turns"} | MONEY
    assert ("summary", "complete", None, None, None, None) in turns(stack, maya)
    chat.end()
    assert not chat.store.conversations.cached(chat.id)


def test_its_replies_have_versions_receipts_and_costs_until_it_ends(begin):
    chat = begin()
    done(chat.chat.begin(None, "Hello"))
    done(chat.chat.retry(chat.id))

    thread = chat.chat.open(chat.id)
    first, second = thread.versions(thread.branch()[-1])
    costs = chat.store.turns.costs([first, second], chat.id)
    assert all(costs[reply.turn_id].cost_micro > 0 for reply in (first, second))
    assert chat.chat.planning.receipt(thread, second).instructions == "Be kind."

    chat.end()
    assert chat.store.conversations.cached(chat.id) is None
    with pytest.raises(NotFound):
        chat.store.turns.receipts([first], chat.id)
    with pytest.raises(ChatIsOver):
        _ = chat.chat


def test_caps_and_bounds_hold_as_for_any_chat(begin, stack, maya):
    chat = begin()
    set_budget(stack, maya, "daily_cap_micro", 0)
    with pytest.raises(OverBudget) as refused:
        chat.chat.begin(None, "Hello")
    assert refused.value.cap is Cap.DAILY
    assert not chat.is_begun

    set_budget(stack, maya, "daily_cap_micro", 10**9)
    set_budget(stack, maya, "max_per_minute", 1)
    done(chat.chat.begin(None, "Hello"))
    chat.chat.open(chat.id)
    with pytest.raises(OverBudget) as refused:
        chat.chat.begin(chat.id, "Too fast")
    assert refused.value.cap is Cap.TURNS_A_MINUTE
    assert "Limit of 1 message a minute reached. Try again in" in refused.value.public
    assert said(chat) == ["Hello", "You said: Hello"]


def test_its_open_turns_count_among_those_that_may_be_open(begin, person, stack, maya, server):
    set_budget(stack, maya, "max_open", 1)
    server.script(fault="hang")
    chat = begin()
    turn = chat.chat.begin(None, "Wait")

    with pytest.raises(OverBudget) as refused:
        person.chat.begin(None, "Elsewhere")
    assert refused.value.cap is Cap.OPEN_TURNS
    turn.stop()
    done(turn)


def test_leaving_stops_and_settles_what_is_coming_and_forgets_it(begin, stack, maya, server):
    server.script(reply="word " * 500, rate=20)
    chat = begin()
    turn = chat.chat.begin(None, "Go on and on")
    next(text for text in turn.follow() if text)

    chat.end()

    assert turn.is_done
    assert turns(stack, maya) == [("reply", "stopped", None, None, None, None)]
    spent, reserved, entries = money(stack, maya)
    assert (reserved, [kind for kind, _ in entries]) == (0, ["charge"])
    assert spent > 0
    assert not chat.is_begun


def test_a_turn_whose_process_died_is_settled_by_the_sweep(
    begin, shared, stack, maya, server, monkeypatch
):
    monkeypatch.setattr("services.chat.live_turn._HEARTBEAT_SECONDS", 600.0)
    server.script(fault="hang")
    chat = begin()
    turn = chat.chat.begin(None, "Hello")
    until(lambda: turns(stack, maya)[0][1] == "streaming")
    reserved = money(stack, maya)[1]
    assert reserved > 0
    with stack.connect() as database:  # as if nobody had prolonged it
        database.execute(
            "update public.turns set lease_until = now() - interval '1 hour' where id = %s",
            [turn.id],
        )
    sweep(shared.server)

    assert turns(stack, maya)[0][:3] == ("reply", "lapsed", None)
    spent, left, entries = money(stack, maya)
    assert (left, spent) == (0, sum(micro for _, micro in entries))
    assert entries[0][0] == "lapsed"
    turn.stop()
    done(turn)


def test_it_reads_facts_only_if_allowed_and_notes_none(begin, person, stack, server):
    choose(person.store.profile, keeps_facts=True)
    fact = Fact(id=FactId(uuid4()), text="Lives in Bern.", since=NOON)
    person.store.facts.keep(fact)

    for reads_facts in (False, True):
        chat = begin(reads_facts=reads_facts).chat
        done(chat.begin(None, "Where? [[facts=Is_lost.]]"))
        until(lambda chat=chat: not chat.coming(Purpose.FACTS))
        told = str(server.requests[-1].body["messages"])
        assert ("Lives in Bern." in told) is reads_facts

    assert server.facts_requests == []
    assert [one.text for one in person.store.facts.facts()] == ["Lives in Bern."]


def test_its_lease_is_prolonged_while_a_reply_is_coming(begin, stack, server):
    server.script(fault="hang")
    turn = begin().chat.begin(None, "Hello")

    def lease():
        with stack.connect() as database:
            return database.execute(
                "select state, lease_until from public.turns where id = %s", [turn.id]
            ).fetchone()

    first = lease()
    until(lambda: lease()[0] == "streaming" and lease()[1] > first[1])
    turn.stop()
    done(turn)


def test_who_signs_out_ends_theirs(begin, shared, maya, server):
    server.script(fault="hang")
    chat = begin()
    turn = chat.chat.begin(None, "Hello")

    shared.temporary.end_of(maya.id)

    assert chat.is_over
    assert turn.is_done
