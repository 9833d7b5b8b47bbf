"""Sealing and opening of every text of one user, each bound to its place (services/crypto/keyring.py has the table)."""

import json
import time
from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services.crypto import Head, Place, UserKeys, Vault, new_key
from services.domain import (
    ConversationId,
    Fact,
    Message,
    MessageId,
    Preferences,
    Role,
    RunningSummary,
    Space,
    Thoughts,
    Thread,
    TurnId,
    UserId,
)
from services.domain.policies import policy_size
from services.domain.turns import ClientTurnId, OpenTurn
from services.errors import Tampered
from services.events import log_event
from services.store.rows import (
    ConversationRow,
    DocumentKind,
    DocumentRow,
    MessageRow,
    ReceiptRow,
    SealedConversation,
    TurnRow,
)

_PURPOSE = "documents"  # of a user's key
Value = TypeVar("Value", Fact, Preferences, RunningSummary, Space, Thoughts)


class Format(Generic[Value]):
    """The JSON of a frozen dataclass, without `is_verified` and the fields that are *columns* of its row."""

    def __init__(self, kind: type[Value], columns: Collection[str] = ()) -> None:
        self._adapter, self._columns = TypeAdapter[Value](kind), columns
        self._known = {each.name for each in fields(kind)}

    def write(self, value: Value, before: str = "{}") -> str:
        """The JSON of *value*; fields of a later version of the app in *before* stay."""
        later = {key: kept for key, kept in json.loads(before).items() if key not in self._known}
        known = self._adapter.dump_python(
            value, mode="json", exclude={*self._columns, "is_verified"}, exclude_none=True
        )
        return json.dumps(later | known, ensure_ascii=False)

    def read(self, text: str, row: object = None) -> Value:
        """The value of the JSON *text* and the columns of *row*. Raise Tampered: this version cannot read it."""
        columns = {name: getattr(row, name) for name in self._columns}
        try:
            return self._adapter.validate_python(json.loads(text) | columns)
        except ValidationError:  # its message repeats the text
            raise Tampered from None


SUMMARY_FORMAT = Format(RunningSummary)
THOUGHTS_FORMAT = Format(Thoughts)


class Seals:
    """Seals and opens the conversations of one user; the keys of their texts are wrapped in their rows."""

    def __init__(self, user_id: UserId, keys: UserKeys) -> None:
        self._user_id, self._keys = user_id, keys
        self.documents = DocumentSeals(user_id, keys)

    def vault(self, row: ConversationRow) -> Vault:
        """The vault of the conversation of *row*. Raise Tampered."""
        key = self._keys.unwrap(row.wrapped_key, row.user_key_version, row.id, row.key_version)
        return Vault(key, row.key_version)

    def new_conversation(self, thread: Thread) -> tuple[SealedConversation, Vault]:
        """Seal an empty conversation that is not stored yet under a new key."""
        conversation, key, user_key = thread.conversation, new_key(), self._keys.newest
        vault, instructions = Vault(key), None
        if thread.instructions:
            place = _conversation_place(self._user_id, conversation.id, DocumentKind.INSTRUCTIONS)
            instructions = vault.seal(thread.instructions, place)
        created = SealedConversation(
            id=conversation.id,
            title=self.title(vault, conversation.id, conversation.title),
            wrapped_key=user_key.wrap(key, conversation.id, vault.version),
            user_key_version=user_key.version,
            head=self.head(vault, conversation.id, Head()),
            policy=conversation.policy.name,
            policy_size=policy_size(conversation.policy),
            model=conversation.model,
            instructions=instructions,
            space_id=conversation.space_id,
        )
        return created, vault

    def title(self, vault: Vault, conversation_id: ConversationId, title: str) -> str:
        return vault.seal(title, _conversation_place(self._user_id, conversation_id, "title"))

    def open_title(self, vault: Vault, conversation_id: ConversationId, sealed: str) -> str:
        """Raise Tampered."""
        return vault.open(sealed, _conversation_place(self._user_id, conversation_id, "title"))

    def head(self, vault: Vault, conversation_id: ConversationId, head: Head) -> str:
        return vault.seal_head(head, self._user_id, conversation_id)

    def open_head(self, vault: Vault, row: ConversationRow) -> Head | None:
        """The head of *row*; None if it does not open."""
        try:
            return vault.open_head(row.head, self._user_id, row.id)
        except Tampered:
            return None

    def next_message(
        self,
        vault: Vault,
        conversation_id: ConversationId,
        head: Head,
        message_id: MessageId,
        parent_id: MessageId | None,
        role: Role,
        body: str,
    ) -> tuple[str, str]:
        """Seal the message after *head*, and the head after it."""
        seq = head.last_seq + 1
        place = _message_place(self._user_id, conversation_id, message_id, seq, parent_id, role)
        sealed = vault.seal(body, place)
        next_head = head.add(vault.row_mac(sealed, place), seq)
        return sealed, self.head(vault, conversation_id, next_head)

    def open_message(self, vault: Vault, row: MessageRow) -> Message:
        """The message of *row*, unverified if it does not open."""
        try:
            body, is_verified = self.open_body(vault, row), True
        except Tampered:
            body, is_verified = "", False
        return Message(
            id=row.id,
            seq=row.seq,
            parent_id=row.parent_id,
            role=row.role,
            body=body,
            created_at=row.created_at,
            outcome=row.outcome,
            turn_id=row.turn_id,
            is_verified=is_verified,
            has_thoughts=row.has_thoughts,
        )

    def open_body(self, vault: Vault, row: MessageRow) -> str:
        """Raise Tampered."""
        return vault.open(row.body, _row_place(self._user_id, row))

    def macs(self, vault: Vault, rows: Iterable[MessageRow]) -> list[bytes]:
        """The MACs of messages, of which a head is made."""
        return [vault.row_mac(row.body, _row_place(self._user_id, row)) for row in rows]

    def thoughts(
        self,
        vault: Vault,
        conversation_id: ConversationId,
        thoughts: Thoughts,
        message_id: MessageId,
        seq: int,
        parent_id: MessageId,
    ) -> str:
        """Seal the thoughts of a reply."""
        about = message_id, seq, parent_id, Role.ASSISTANT, "thoughts"
        place = _message_place(self._user_id, conversation_id, *about)
        return vault.seal(THOUGHTS_FORMAT.write(thoughts), place)

    def open_thoughts(
        self, vault: Vault, conversation_id: ConversationId, message: Message, sealed: str
    ) -> Thoughts:
        """The thoughts of *message*, unverified if they do not open."""
        about = message.id, message.seq, message.parent_id, message.role, "thoughts"
        place = _message_place(self._user_id, conversation_id, *about)
        try:
            return THOUGHTS_FORMAT.read(vault.open(sealed, place))
        except Tampered:
            log_event("thoughts.unverified", conversation=conversation_id)
            return Thoughts(is_verified=False)

    def receipt(
        self,
        vault: Vault,
        conversation_id: ConversationId,
        client_turn_id: ClientTurnId,
        receipt: str,
    ) -> str:
        return vault.seal(receipt, _receipt_place(self._user_id, conversation_id, client_turn_id))

    def open_receipt(self, vault: Vault, conversation_id: ConversationId, row: ReceiptRow) -> str:
        """The receipt of *row*; empty if it does not open."""
        place = _receipt_place(self._user_id, conversation_id, row.client_turn_id)
        try:
            return vault.open(row.body, place)
        except Tampered:
            log_event("receipt.unverified", turn=row.turn_id)
            return ""

    def partial(
        self,
        vault: Vault,
        conversation_id: ConversationId,
        turn_id: TurnId,
        text: str,
        thoughts: Thoughts | None,
    ) -> tuple[str | None, str | None]:
        """Seal the partial reply of a turn, and its thoughts; None where there are none."""

        def sealed(plain: str, column: str) -> str | None:
            place = _partial_place(self._user_id, conversation_id, turn_id, column)
            return vault.seal(plain, place) if plain else None

        known = THOUGHTS_FORMAT.write(thoughts) if thoughts else ""
        return sealed(text, "partial"), sealed(known, "partial_thoughts")

    def open_turn(self, vault: Vault, conversation_id: ConversationId, row: TurnRow) -> OpenTurn:
        """The turn of *row*, without the partial texts that do not open."""

        def opened(sealed: str | None, column: str) -> str:
            place = _partial_place(self._user_id, conversation_id, row.id, column)
            try:
                return vault.open(sealed, place) if sealed else ""
            except Tampered:  # the conversation itself can still be read
                log_event("turn.unverified", turn=row.id)
                return ""

        thoughts = opened(row.partial_thoughts, "partial_thoughts")
        return OpenTurn(
            row.id,
            row.state,
            row.prompt_id,
            row.begun_at,
            row.lease_until,
            opened(row.partial, "partial"),
            THOUGHTS_FORMAT.read(thoughts) if thoughts else None,
        )


class DocumentSeals:
    """Seals and opens the documents of one user, and remembers the newest revision of each.

    A text opens at its own revision only. A row that is put back together with its revision is refused by every process
    that has seen a later one.
    """

    def __init__(self, user_id: UserId, keys: UserKeys) -> None:
        self._user_id, self._keys = user_id, keys
        self._newest: dict[tuple[DocumentKind, UUID], int] = {}

    def seal(self, row: DocumentRow, text: str | None, vault: Vault | None = None) -> DocumentRow:
        """The revision after *row*, with *text* sealed by *vault*, or under the user's key."""
        # a deleted document that is restored begins above the revisions that it had
        row = replace(row, rev=max(row.rev + 1, self._seen(row) + 1, int(time.time() * 1000)))
        vault = vault or self._keys.newest.vault(_PURPOSE)
        place = _document_place(self._user_id, row)
        return replace(row, body=None if text is None else vault.seal(text, place))

    def open(self, row: DocumentRow, vault: Vault | None = None) -> str | None:
        """The text of *row*. Raise Tampered, also for an earlier revision than was seen."""
        if self.is_set_back(row):
            raise Tampered
        if row.body is None:
            return None
        place = _document_place(self._user_id, row)
        text = vault.open(row.body, place) if vault else self._keys.open(_PURPOSE, row.body, place)
        self.note(row)
        return text

    def note(self, row: DocumentRow) -> None:
        """Remember the revision of a *row* that was opened or stored."""
        self._newest[row.kind, row.id] = max(row.rev, self._seen(row))

    def is_set_back(self, row: DocumentRow) -> bool:
        """Return True if a later revision than that of *row* was seen."""
        return row.rev < self._seen(row)

    def _seen(self, row: DocumentRow) -> int:
        return self._newest.get((row.kind, row.id), 0)


def _conversation_place(
    user_id: UserId, conversation_id: ConversationId, column: str, rev: int = 0
) -> Place:
    """The place of a text in the row of a conversation."""
    return Place(
        table="conversations",
        column=column,
        row_id=conversation_id,
        user_id=user_id,
        conversation_id=conversation_id,
        seq=rev,
    )


def _message_place(
    user_id: UserId,
    conversation_id: ConversationId,
    message_id: MessageId,
    seq: int,
    parent_id: MessageId | None,
    role: Role,
    column: str = "body",
) -> Place:
    """The place of a text of a message."""
    return Place(
        table="messages",
        column=column,
        row_id=message_id,
        user_id=user_id,
        conversation_id=conversation_id,
        seq=seq,
        parent_id=parent_id,
        role=role,
    )


def _row_place(user_id: UserId, row: MessageRow) -> Place:
    """The place of the body of a stored message."""
    return _message_place(user_id, row.conversation_id, row.id, row.seq, row.parent_id, row.role)


def _receipt_place(user_id: UserId, conversation_id: ConversationId, client_turn_id: UUID) -> Place:
    """The place of a receipt: sealed before the database has given the turn its id."""
    return Place(
        table="receipts",
        column="body",
        row_id=client_turn_id,
        user_id=user_id,
        conversation_id=conversation_id,
    )


def _partial_place(
    user_id: UserId, conversation_id: ConversationId, turn_id: TurnId, column: str
) -> Place:
    """The place of a partial text of a turn."""
    return Place(
        table="turns",
        column=column,
        row_id=turn_id,
        user_id=user_id,
        conversation_id=conversation_id,
        role=Role.ASSISTANT,
    )


def _document_place(user_id: UserId, row: DocumentRow) -> Place:
    """The place of a document at its revision."""
    if row.kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY):
        return _conversation_place(user_id, ConversationId(row.id), row.kind, row.rev)
    return Place(
        table="documents",
        column=row.kind,
        row_id=row.id,
        user_id=user_id,
        conversation_id=row.conversation_id,
        seq=row.rev,
        parent_id=row.space_id,
    )
