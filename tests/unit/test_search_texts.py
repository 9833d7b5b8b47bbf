"""The split of messages into search texts, which fit one row when sealed."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.crypto import Place, Vault, new_key
from services.domain import (
    ConversationId,
    Message,
    MessageId,
    Outcome,
    Role,
    SearchText,
    UserId,
)
from services.store.sealed.seals import ConversationSeals
from services.store.sealed.search_texts import texts_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LARGEST = 262_144  # the most octets of a stored text
MOST = 192_508  # the most octets of a text that fits


def said(seq, body):
    return Message(
        id=MessageId(uuid4()),
        seq=seq,
        parent_id=None,
        role=Role.USER,
        body=body,
        created_at=NOON,
        outcome=Outcome.COMPLETE,
        turn_id=None,
    )


def ranges(seqs, *messages):
    return [
        (text.seqs, [message.seq for message in text.messages]) for text in texts_of(seqs, messages)
    ]


@pytest.mark.parametrize(("octets", "fits"), [(MOST, True), (MOST + 1, False)])
def test_longest_text_fits_its_row_when_sealed(octets, fits):
    place = Place(table="t", column="c", row_id=uuid4(), user_id=uuid4())

    sealed = Vault(new_key(), 999_999_999).seal("x" * octets, place)

    assert (len(sealed) <= LARGEST) is fits


def test_messages_are_sorted_and_seqs_without_one_are_covered():
    assert ranges(range(2, 9), said(7, "b"), said(4, "a")) == [(range(2, 9), [4, 7])]
    assert ranges(range(2, 9)) == [(range(2, 9), [])]
    assert ranges(range(2, 2)) == []


def test_text_ends_before_the_message_that_does_not_fit():
    half = "x" * 100_000

    assert ranges(range(1, 9), said(2, half), said(6, half), said(7, "a")) == [
        (range(1, 6), [2]),
        (range(6, 9), [6, 7]),
    ]


@pytest.mark.parametrize("body", ["x" * MOST, "ü" * 97_000, '"' * 97_000, "\0" * 33_000])
def test_message_that_is_too_long_is_left_out_with_its_seq(body):
    assert ranges(range(1, 5), said(1, "a"), said(3, body), said(4, "b")) == [
        (range(1, 3), [1]),
        (range(4, 5), [4]),
    ]
    assert ranges(range(1, 2), said(1, body)) == []


def test_search_text_is_sealed_at_its_place():
    user_id, its, vault = UserId(uuid4()), ConversationId(uuid4()), Vault(new_key(), 1)
    row = ConversationSeals(user_id, its, vault).search_text(
        SearchText(seqs=range(3, 5), messages=())
    )
    named = {"table": "search_texts", "column": "search_text", "row_id": its}
    place = Place(**named, user_id=user_id, conversation_id=its, seq=3)

    assert json.loads(vault.open(row.body, place)) == {"number": 3, "last_seq": 4, "messages": []}
