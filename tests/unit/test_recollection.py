"""What earlier prompts brought back, as their receipts say."""

from collections import Counter
from datetime import UTC, datetime
from uuid import uuid4

from services.chat.recollection import Brought, Recollection
from services.domain import ConversationId, Message, MessageId, Outcome, Role, TurnId
from services.domain.context import PartKind, ReceiptEntry
from services.memory.receipt import Receipt

HERE, FAR = MessageId(uuid4()), MessageId(uuid4())


def reply(turn_id):
    return Message(
        id=MessageId(uuid4()),
        seq=2,
        parent_id=MessageId(uuid4()),
        role=Role.ASSISTANT,
        body="Prune in March.",
        created_at=datetime.now(UTC),
        outcome=Outcome.COMPLETE,
        turn_id=turn_id,
    )


def receipt(policy):
    notes = (
        ReceiptEntry(message_id=HERE, tokens=5, extract=(3, 9)),
        ReceiptEntry(
            message_id=FAR,
            tokens=5,
            recalled_for=MessageId(uuid4()),
            conversation_id=ConversationId(uuid4()),
        ),
    )
    return Receipt(
        policy=policy,
        model="smollm2",
        instructions="",
        tokens=Counter({PartKind.FRAME: 10}),
        recalls=notes,
        reply_tokens=10,
        prefix_seq=7,
    ).to_json()


def test_each_receipt_is_asked_for_and_read_once():
    recalled, windowed, unknown = (reply(TurnId(uuid4())) for _ in range(3))
    texts = {recalled.turn_id: receipt("retrieval"), windowed.turn_id: receipt("window")}
    asked = []

    def receipts(messages):
        asked.append(messages)
        return {one.turn_id: texts[one.turn_id] for one in messages if one.turn_id in texts}

    recollection, said = Recollection(), [recalled, windowed, unknown, reply(None)]
    found = [recollection.brought(said, receipts) for _ in range(2)]

    assert found == 2 * [{recalled.parent_id: Brought(True, 7, ((HERE, (3, 9)),), (FAR,))}]
    assert asked == [[recalled, windowed, unknown], [unknown]]  # which may come yet
