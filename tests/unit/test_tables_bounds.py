"""Rows that may be too many for one block: hidden by a single row, destroyed in slices, counted without being read."""

from dataclasses import replace
from uuid import uuid4

import pytest

from services.domain.rows import DocumentKind, DocumentRow
from services.store.rows import ReceiptRow, ThoughtsRow
from services.store.tables.blocks import delete_all
from services.store.tables.protocol import MOST_WRITES
from services.store.tables.schema import (
    COUNTS,
    DISCARDS,
    DOCUMENTS,
    ERASURES,
    LEDGER,
    MESSAGES,
    RECEIPTS,
    THOUGHTS,
    TURNS,
    Document,
)
from services.store.tables.sweep import TablesSweep
from services.store.writes import DiscardMessages, PutDocument
from tests.fakes import MAYA
from tests.store.conformance.bytes_store import BytesStore
from tests.store.conformance.talk import LEASE_SECONDS, UNDO_SECONDS, first_turn
from tests.stores import InMemoryDatabase

MANY = MOST_WRITES + 50


@pytest.fixture
def garden(database):
    return database.hold("Garden", "When do I sow peas?", "In March.")


def counts(database):
    return database.tables.run(lambda block: block.get(COUNTS, "counts"))


def discard(database, garden, fact_ids=()):
    """Delete all messages of *garden* and some facts."""
    thread = database.thread(garden)
    write = DiscardMessages(
        conversation_id=garden,
        expected_rev=thread.conversation.rev,
        message_ids=tuple(one.id for one in thread.messages),
        fact_ids=tuple(fact_ids),
        kept_summary=None,
        new_head="head",
        for_seconds=UNDO_SECONDS,
    )
    database.rows.discard_messages(write)


@pytest.fixture
def facts(database, garden):
    """Many facts of the user, ten bytes each."""
    before = counts(database)
    rows = [Document(kind=DocumentKind.FACT, id=uuid4(), rev=1, body="f" * 10) for _ in range(MANY)]
    database.tables.store(DOCUMENTS, *rows)
    more = replace(before, facts=MANY, bytes=before.bytes + 10 * MANY)
    database.tables.store(COUNTS, more)
    return [row.id for row in rows]


def test_figures_of_a_user_need_no_message_and_no_ledger_entry(database, garden):
    before = database.bounded_rows.usage.stored()
    assert (before.messages, before.ledger_entries) == (2, 1)

    for table in (MESSAGES, LEDGER):
        rows = database.tables.all(table).values()
        database.tables.run(lambda block, rows=(table, rows): delete_all(block, *rows))

    assert database.bounded_rows.usage.stored() == before


def test_facts_of_deleted_messages_are_hidden_at_once(database, garden, facts):
    kept, *deleted = facts

    discard(database, garden, deleted)

    assert [one.id for one in database.rows.documents(DocumentKind.FACT)] == [kept]
    assert counts(database).facts == 1


def test_facts_of_deleted_messages_are_destroyed_in_slices(database, garden, facts):
    before = counts(database)
    discard(database, garden, facts)

    database.sweep()

    assert (database.tables.documents, database.tables.all(ERASURES)) == ({}, {})
    assert counts(database) == replace(before, facts=0, bytes=before.bytes - 10 * MANY)


def restore(database, facts):
    for fact_id in facts:
        row = DocumentRow(kind=DocumentKind.FACT, id=fact_id, rev=1, body="f" * 10)
        database.rows.put_document(PutDocument.of(row, 0))


def test_facts_restored_before_the_sweep_stay(database, garden, facts):
    before = counts(database)
    discard(database, garden, facts)
    assert counts(database).facts == 0

    restore(database, facts)
    database.sweep()

    kept = {one.id for one in database.rows.documents(DocumentKind.FACT)}
    assert kept == set(facts)
    assert counts(database) == before


def test_facts_restored_while_the_sweep_runs_stay(database, garden, facts, monkeypatch):
    before, began = counts(database), list[object]()
    discard(database, garden, facts)
    erase = TablesSweep._erase

    def restore_and_erase(rows, block, one):
        if not began:
            restore(database, facts)
        began.append(one)
        return erase(rows, block, one)

    monkeypatch.setattr(TablesSweep, "_erase", restore_and_erase)
    database.sweep()

    assert began
    assert {one.id for one in database.rows.documents(DocumentKind.FACT)} == set(facts)
    assert counts(database) == before


def test_receipts_of_a_prompt_answered_often_are_destroyed(database, garden):
    [turn] = database.tables.turns.values()
    for _ in range(MANY):
        again = replace(turn, id=uuid4(), client_turn_id=uuid4(), reply_id=None)
        database.tables.store(TURNS, again)
        database.tables.store(RECEIPTS, ReceiptRow(again.id, again.client_turn_id, "receipt"))
    discard(database, garden)
    database.let_pass(UNDO_SECONDS + 1)

    database.sweep()

    for table in (MESSAGES, RECEIPTS, DISCARDS):
        assert database.tables.all(table) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("is_whole", "messages"), [(True, 48), (False, 30)])
def test_long_texts_are_destroyed_in_slices(is_whole, messages):
    database, text = InMemoryDatabase(MAYA, make_store=BytesStore), "x" * 190_000
    garden = database.hold("Garden", *[text] * messages)
    for message in database.thread(garden).messages:
        rows = ThoughtsRow(message.id, text), ReceiptRow(message.turn_id, uuid4(), text)
        for table, row in zip((THOUGHTS, RECEIPTS), rows, strict=True):
            database.tables.store(table, row)
    if is_whole:
        database.rows.discard_conversation(garden, 0)
    else:
        discard(database, garden)
        database.let_pass(UNDO_SECONDS + 1)

    database.sweep()

    for table in (MESSAGES, THOUGHTS, RECEIPTS, DISCARDS):
        assert database.tables.all(table) == {}


@pytest.mark.slow
def test_lapsed_turns_are_settled_in_slices(database):
    rows = database.bounded_rows
    rows._limits = replace(rows._limits, max_open=1000, max_per_minute=1000)
    free = (
        "prompt_micro reply_micro least_reply_micro prompt_tokens reply_tokens least_reply_tokens"
    )
    for _ in range(MANY // 2):
        database.store().turns.begin(first_turn("Hello", **dict.fromkeys(free.split(), 0)))
    database.let_pass(2 * LEASE_SECONDS)

    begun = database.store().turns.begin(first_turn("Hello"))
    database.sweep()

    open_turns = database.tables.run(lambda block: block.select(TURNS, {"finished_at": None}))
    assert [one.id for one in open_turns] == [begun.turn_id]
