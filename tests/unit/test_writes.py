"""Writes as values: the arguments that Supabase derives from them match the functions in `db/api.txt`."""

import json
import re
from dataclasses import dataclass
from uuid import UUID

import pytest

from services.domain import ConversationId, FactId, MessageId, Outcome, Purpose, TurnId, Usage
from services.domain.rows import FieldKind, SealedConversation
from services.domain.turns import ClientTurnId, Reservation, Settlement
from services.store.supabase.arguments import Hidden, argument_fields, arguments_of
from services.store.writes import (
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    PutDocument,
    PutPiece,
    PutSearchText,
    RestoreMessages,
)
from tests.api_list import api_functions

WRITES = [
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    PutDocument,
    PutPiece,
    PutSearchText,
    RestoreMessages,
]
KINDS = {
    "uuid": FieldKind.ID,
    "integer": FieldKind.NUMBER,
    "bigint": FieldKind.NUMBER,
    "text": FieldKind.NAME,
    "free_text": FieldKind.TEXT,
    "sealed": FieldKind.SEALED,
    "sealed_octets": FieldKind.SEALED,
    "sealed_head": FieldKind.SEALED,
}
ONE, TWO = (UUID(int=number) for number in (1, 2))
GARDEN = ConversationId(ONE)


@pytest.mark.parametrize("write", WRITES)
def test_fields_are_the_arguments_of_the_function(write):
    verb = re.sub(r"(?<=.)([A-Z])", r"_\1", write.__name__).lower()
    arguments = dict(api_functions()[verb].arguments)
    arguments.pop("most_bytes", None)  # a setting of the store, not part of the write

    found = [(each.name, each.kind) for each in argument_fields(write)]

    assert found == [(name, KINDS[kind]) for name, kind in arguments.items()]


def test_text_and_sealed_text_are_proven_by_their_hash():
    write = DiscardMessages(
        conversation_id=GARDEN,
        expected_rev=4,
        message_ids=(MessageId(ONE), MessageId(TWO)),
        fact_ids=(FactId(TWO),),
        kept_summary=None,
        new_head="h1.head",
        for_seconds=20,
    )

    assert arguments_of(write) == {
        "conversation": GARDEN,
        "expected_rev": 4,
        "message_ids": Hidden(f"{ONE},{TWO}"),
        "fact_ids": Hidden(f"{TWO}"),
        "kept_summary": Hidden(None),
        "new_head": Hidden("h1.head"),
        "for_seconds": 20,
    }


def test_part_that_is_missing_is_sent_as_null():
    settlement = Settlement(TurnId(ONE), Outcome.COMPLETE, Usage(10, 20, 5), 300)

    arguments = arguments_of(FinishTurn(conversation_id=GARDEN, settlement=settlement))

    used = [arguments[name] for name in ("used_prompt", "used_reply", "used_cached")]
    assert (arguments["turn"], arguments["outcome"], *used) == (ONE, "complete", 10, 20, 5)
    assert (arguments["expected_rev"], arguments["reply_body"]) == (None, Hidden(None))


def test_new_conversation_is_sent_as_json():
    created = SealedConversation(
        id=ConversationId(ONE),
        title="p1.title",
        wrapped_key="p1.key",
        key_version=1,
        user_key_version=2,
        head="h1.head",
        policy="window",
        policy_size=20,
        model=None,
        instructions=None,
        space_id=None,
    )
    amounts = ("prompt_micro", "reply_micro", "least_reply_micro")
    tokens = ("prompt_tokens", "reply_tokens", "least_reply_tokens", "lease_seconds")
    reservation = Reservation(
        client_turn_id=ClientTurnId(TWO), model="large", **dict.fromkeys((*amounts, *tokens), 1)
    )

    arguments = arguments_of(BeginTurn(reservation=reservation, created=created))

    assert arguments["purpose"] is Purpose.REPLY
    assert arguments["model"] == Hidden("large")
    sent = json.loads(arguments["created"].text)
    assert (sent["id"], sent["policy_size"], sent["space_id"]) == (str(ONE), 20, None)


def test_field_that_does_not_say_what_it_is_is_refused():
    @dataclass
    class Write:
        weight: float

    with pytest.raises(TypeError, match="does not say what it is"):
        argument_fields(Write)
