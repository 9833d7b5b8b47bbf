"""Sealing and decrypting one user's texts and attachment pieces, each bound to its place (see services/crypto/keyring.py)."""

import hmac
import json
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services.crypto import Head, Place, UserKeys, Vault, new_key
from services.domain import (
    Attachment,
    AttachmentId,
    ConversationId,
    Fact,
    Message,
    MessageId,
    Preferences,
    Role,
    RunningSummary,
    SearchedMessage,
    SearchText,
    Space,
    Thoughts,
    Thread,
    TurnId,
    UserId,
)
from services.domain.rows import (
    ConversationRow,
    DocumentKind,
    DocumentRow,
    MessageRow,
    SealedConversation,
    SearchTextRow,
)
from services.domain.turns import ClientTurnId, OpenTurn
from services.errors import NewerVersion, Tampered
from services.events import log_event
from services.rules.turns import Turn
from services.store.rows import ReceiptRow, ThoughtsRow, TurnRow
from services.store.writes import PutPiece

# the purpose string in the derivation of the documents' key from a user's key
DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class _Attachments:
    files: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class _SearchText:
    number: int
    last_seq: int
    messages: tuple[SearchedMessage, ...] = field(repr=False)


Value = TypeVar(
    "Value",
    Fact,
    Preferences,
    RunningSummary,
    SearchedMessage,
    Space,
    Thoughts,
    _Attachments,
    _SearchText,
)


class Format(Generic[Value]):
    """The JSON format of a frozen dataclass, without `is_verified`, `is_newer` and the fields that the row stores in *columns*."""

    def __init__(self, kind: type[Value], columns: Collection[str] = ()) -> None:
        self._adapter, self._columns = TypeAdapter[Value](kind), columns
        self._known = {each.name for each in fields(kind)}

    def write(self, value: Value, before: str = "{}", seen: Value | None = None) -> str:
        """Return the JSON of *value*; keep the data that a newer version of the app stored in *before*.

        This keeps fields that this version does not know, and fields unchanged since *seen* was read from *before*.
        """
        known, was = self._fields(value), self._fields(seen) if seen else {}
        stays = {
            name: kept
            for name, kept in json.loads(before).items()
            if name not in self._known or (name in known and known[name] == was.get(name))
        }
        return json.dumps(known | stays, ensure_ascii=False)

    def read(self, text: str, row: object = None) -> Value:
        """Build a value from the JSON *text* and the columns of *row*.

        Raise NewerVersion if the JSON has an unknown form, and Tampered if *text* is not a JSON object, as after a manual
        edit in a store without encryption.
        """
        columns = {name: getattr(row, name) for name in self._columns}
        try:
            stored = json.loads(text) | columns
        except (ValueError, TypeError):  # not chained, because the error contains the text
            raise Tampered from None
        try:
            return self._adapter.validate_python(stored)
        except ValidationError:  # not chained, because the error's message repeats the text
            raise NewerVersion from None

    def _fields(self, value: Value) -> dict[str, object]:
        return self._adapter.dump_python(
            value,
            mode="json",
            exclude={*self._columns, "is_verified", "is_newer"},
            exclude_none=True,
        )


SUMMARY_FORMAT = Format(RunningSummary)
THOUGHTS_FORMAT = Format(Thoughts)
_ATTACHMENTS_FORMAT = Format(_Attachments)
_SEARCH_TEXT_FORMAT = Format(_SearchText)


@dataclass(frozen=True, slots=True, repr=False)
class SealedMessage:
    """A sealed message, and the sealed head that includes this message."""

    body: str
    attachments: str | None  # the sealed list of attachments
    thoughts: str | None
    head: str


@dataclass(frozen=True, slots=True)
class ConversationSeals:
    """Seals and decrypts the texts of one conversation under its key."""

    user_id: UserId
    id: ConversationId
    vault: Vault

    def title(self, title: str) -> str:
        return self.vault.seal(title, self._place("conversations", "title", self.id))

    def open_title(self, sealed: str) -> str:
        """Decrypt a title. Raise Tampered on failure."""
        return self.vault.open(sealed, self._place("conversations", "title", self.id))

    def head(self, head: Head) -> str:
        return self.vault.seal_head(head, self.user_id, self.id)

    def open_head(self, sealed: str) -> Head | None:
        """Decrypt a head; return None if that fails."""
        try:
            return self.vault.open_head(sealed, self.user_id, self.id)
        except Tampered:
            return None

    def next_message(
        self,
        head: Head,
        message_id: MessageId,
        parent_id: MessageId | None,
        role: Role,
        body: str,
        thoughts: Thoughts | None = None,
        attachments: tuple[Attachment, ...] = (),
    ) -> SealedMessage:
        """Seal the next message after the messages in *head*, and the next head, which includes this message."""
        seq = head.last_seq + 1
        place = self._place("messages", _body_column(attachments), message_id)
        place = replace(place, seq=seq, parent_id=parent_id, role=role)
        sealed, files, known = self.vault.seal(body, place), None, None
        if attachments:
            text = _ATTACHMENTS_FORMAT.write(_Attachments(attachments))
            files = self.vault.seal(text, replace(place, column="attachments"))
        if thoughts:
            known = self.vault.seal(
                THOUGHTS_FORMAT.write(thoughts), replace(place, column="thoughts")
            )
        new_head = self.head(head.add(self.vault.row_mac(sealed, place, files), seq))
        return SealedMessage(sealed, files, known, new_head)

    def open_message(self, row: MessageRow) -> Message:
        """Return the message of *row*; if it cannot be decrypted, a message marked as unverified."""
        try:
            (body, attachments), is_verified = self.open_texts(row), True
        except Tampered:
            body, attachments, is_verified = "", (), False
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
            attachments=attachments,
        )

    def open_texts(self, row: MessageRow) -> tuple[str, tuple[Attachment, ...]]:
        """Return the body of *row* and its attachments. Raise Tampered if they cannot be decrypted."""
        place = self._message_place(row)
        body = self.vault.open(row.body, place)
        if row.attachments is None:
            return body, ()
        files = self.vault.open(row.attachments, replace(place, column="attachments"))
        return body, _ATTACHMENTS_FORMAT.read(files).files

    def macs(self, rows: Iterable[MessageRow]) -> list[bytes]:
        """Return the MACs of *rows*; a conversation's head contains the sum of the MACs of its messages.

        The MAC of a row that has no valid place is empty: the row is still counted, but the sum does not match the
        head's.
        """
        return [*map(self._mac, rows)]

    def _mac(self, row: MessageRow) -> bytes:
        try:
            return self.vault.row_mac(row.body, self._message_place(row), row.attachments)
        except Tampered:
            return b""

    def piece(
        self, message_id: MessageId, attachment_id: AttachmentId, number: int, octets: bytes
    ) -> tuple[str, str]:
        """Seal a piece of an attachment; return the sealed piece and its MAC."""
        place = self._piece_place(message_id, attachment_id, number)
        sealed = self.vault.seal_octets(octets, place)
        return sealed, self.vault.piece_mac(sealed, place).hex()

    def open_piece(
        self, message_id: MessageId, attachment: Attachment, number: int, sealed: str
    ) -> bytes:
        """Decrypt a piece of *attachment*. Raise Tampered if that fails, or if *attachment* lists a different MAC for it."""
        place = self._piece_place(message_id, attachment.id, number)
        mac = self.vault.piece_mac(sealed, place).hex()
        if not hmac.compare_digest(mac, attachment.macs[number - 1]):
            raise Tampered
        return self.vault.open_octets(sealed, place)

    def search_text(self, text: SearchText) -> SearchTextRow:
        """Seal a search text; return its row."""
        number, last_seq = text.seqs.start, text.seqs.stop - 1
        body = _SEARCH_TEXT_FORMAT.write(_SearchText(number, last_seq, text.messages))
        return SearchTextRow(
            conversation_id=self.id,
            number=number,
            last_seq=last_seq,
            body=self.vault.seal(body, self._search_text_place(number)),
        )

    def open_search_text(self, row: SearchTextRow) -> SearchText:
        """Decrypt a search text. Raise Tampered if that fails, or if *row* has another range than the sealed one."""
        text = self.vault.open(row.body, self._search_text_place(row.number))
        opened = _SEARCH_TEXT_FORMAT.read(text)
        if (opened.number, opened.last_seq) != (row.number, row.last_seq):
            raise Tampered
        return SearchText(seqs=range(row.number, row.last_seq + 1), messages=opened.messages)

    def open_thoughts(self, message: Message, sealed: str) -> Thoughts:
        """Return the thoughts of *message*; if they cannot be decrypted, thoughts marked as unverified."""
        place = replace(self._message_place(message), column="thoughts")
        try:
            return THOUGHTS_FORMAT.read(self.vault.open(sealed, place))
        except Tampered:
            log_event("thoughts.unverified", conversation=self.id)
            return Thoughts(is_verified=False)

    def receipt(self, client_turn_id: ClientTurnId, receipt: str) -> str:
        """Seal a receipt; its place contains the client turn id, because the database has not assigned the turn's id yet."""
        return self.vault.seal(receipt, self._place("receipts", "body", client_turn_id))

    def open_receipt(self, row: ReceiptRow) -> str:
        """Return the receipt in *row*, decrypted; an empty text if that fails."""
        try:
            return self.vault.open(row.body, self._place("receipts", "body", row.client_turn_id))
        except Tampered:
            log_event("receipt.unverified", turn=row.turn_id)
            return ""

    def partial(
        self, turn_id: TurnId, text: str, thoughts: Thoughts | None
    ) -> tuple[str | None, str | None]:
        """Return the sealed partial reply and the sealed thoughts of a turn; None for each that is empty."""

        def sealed(plain: str, column: str) -> str | None:
            return self.vault.seal(plain, self._turn_place(turn_id, column)) if plain else None

        known = THOUGHTS_FORMAT.write(thoughts) if thoughts else ""
        return sealed(text, "partial"), sealed(known, "partial_thoughts")

    def open_turn(self, row: TurnRow) -> OpenTurn:
        """Return the turn of *row*; partial texts that cannot be decrypted are omitted."""

        def opened(sealed: str | None, column: str) -> str:
            try:
                return self.vault.open(sealed, self._turn_place(row.id, column)) if sealed else ""
            except Tampered:  # not raised, because the conversation itself can still be read
                log_event("turn.unverified", turn=row.id)
                return ""

        thoughts = None
        if text := opened(row.partial_thoughts, "partial_thoughts"):
            with suppress(Tampered):
                thoughts = THOUGHTS_FORMAT.read(text)
        return OpenTurn(
            row.id,
            row.state,
            row.prompt_id,
            row.begun_at,
            row.lease_until,
            opened(row.partial, "partial"),
            thoughts,
        )

    def places(self, row: object, message: MessageRow | None = None) -> dict[str, Place]:
        """Return the places of the sealed texts in *row*, keyed by field.

        *message*: the message whose thoughts *row* contains.
        """
        match row:
            case MessageRow():
                place = self._message_place(row)
                return {"body": place, "attachments": replace(place, column="attachments")}
            case ThoughtsRow() if message:
                return {"thoughts": replace(self._message_place(message), column="thoughts")}
            case PutPiece():
                place = self._piece_place(row.message_id, row.attachment_id, row.number)
                return {"piece_body": place}
            case SearchTextRow():
                return {"body": self._search_text_place(row.number)}
            case Turn():
                names = ("partial", "partial_thoughts")
                return {name: self._turn_place(row.id, name) for name in names}
            case ReceiptRow():
                return {"body": self._place("receipts", "body", row.client_turn_id)}
            case ConversationRow():
                texts = (
                    row.text(kind) for kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
                )
                found = {one.kind.value: document_place(self.user_id, one) for one in texts}
                return {"title": self._place("conversations", "title", self.id)} | found
            case DocumentRow():
                return {"body": document_place(self.user_id, row)}
            case _:
                return {}

    def _place(self, table: str, column: str, row_id: UUID) -> Place:
        return Place(
            table=table, column=column, row_id=row_id, user_id=self.user_id, conversation_id=self.id
        )

    def _message_place(self, message: MessageRow | Message) -> Place:
        place = self._place("messages", _body_column(message.attachments), message.id)
        return replace(place, seq=message.seq, parent_id=message.parent_id, role=message.role)

    def _piece_place(
        self, message_id: MessageId, attachment_id: AttachmentId, number: int
    ) -> Place:
        place = self._place("pieces", "body", attachment_id)
        return replace(place, seq=number, parent_id=message_id)

    def _search_text_place(self, number: int) -> Place:
        return replace(self._place("search_texts", "search_text", self.id), seq=number)

    def _turn_place(self, turn_id: TurnId, column: str) -> Place:
        return replace(self._place("turns", column, turn_id), role=Role.ASSISTANT)


def _body_column(attachments: object) -> str:
    """Return the column for the place of a body; it depends on *attachments*, so that adding or removing them is detected."""
    return "listed_body" if attachments else "body"


class Seals:
    """Makes and unwraps the keys of one user's conversations. Any thread may call any method."""

    def __init__(self, user_id: UserId, keys: UserKeys) -> None:
        self._user_id, self._keys = user_id, keys
        self.documents = DocumentSeals(user_id, keys)

    def of(self, row: SealedConversation) -> ConversationSeals:
        """Return the `ConversationSeals` for *row*. Raise Tampered if its key cannot be unwrapped."""
        key = self._keys.unwrap(row.wrapped_key, row.user_key_version, row.id, row.key_version)
        vault = self._keys.conversation_vault(key, row.key_version)
        return ConversationSeals(self._user_id, row.id, vault)

    def new_conversation(self, thread: Thread) -> tuple[SealedConversation, ConversationSeals]:
        """Seal an empty conversation, which is not stored yet, under a new key; return its row and seals."""
        conversation, key, user_key = thread.conversation, new_key(), self._keys.newest
        vault, instructions = self._keys.conversation_vault(key), None
        seals = ConversationSeals(self._user_id, conversation.id, vault)
        if thread.instructions:
            kind, row_id = DocumentKind.INSTRUCTIONS, conversation.id
            place = document_place(
                self._user_id, DocumentRow(kind=kind, id=row_id, conversation_id=row_id)
            )
            instructions = seals.vault.seal(thread.instructions, place)
        created = SealedConversation(
            id=conversation.id,
            title=seals.title(conversation.title),
            wrapped_key=user_key.wrap(key, conversation.id, seals.vault.version),
            key_version=seals.vault.version,
            user_key_version=user_key.version,
            head=seals.head(Head()),
            policy=conversation.policy.name,
            policy_size=conversation.policy.messages,
            model=conversation.model,
            instructions=instructions,
            space_id=conversation.space_id,
        )
        return created, seals


class DocumentSeals:
    """Seals and decrypts the documents of one user, and remembers the newest revision of each.

    A text can be decrypted only with the revision at which it was sealed. An older row that is restored together with its
    revision is refused by every process that has seen a later revision. Any thread may call any method.
    """

    def __init__(self, user_id: UserId, keys: UserKeys) -> None:
        self._user_id, self._keys = user_id, keys
        self._newest: dict[tuple[DocumentKind, UUID], int] = {}
        self._noting = threading.Lock()

    def seal(self, row: DocumentRow, text: str | None, vault: Vault | None = None) -> DocumentRow:
        """Return the next revision of *row*, with *text* sealed by *vault* (None: by the user's vault)."""
        # the current time in ms is greater than all earlier revisions, even those that a restored backup lacks
        row = replace(row, rev=max(row.rev + 1, self._seen(row) + 1, int(time.time() * 1000)))
        vault = vault or self._keys.vault(DOCUMENTS)
        place = document_place(self._user_id, row)
        return replace(row, body=None if text is None else vault.seal(text, place))

    def open(self, row: DocumentRow, vault: Vault | None = None) -> str | None:
        """Return the text of *row*. Raise Tampered if *row* is not authentic, or this process has seen a later revision."""
        if self.is_set_back(row):
            raise Tampered
        if row.body is None:
            self.note(row)
            return None
        place = document_place(self._user_id, row)
        text = vault.open(row.body, place) if vault else self._keys.open(DOCUMENTS, row.body, place)
        self.note(row)
        return text

    def note(self, row: DocumentRow) -> None:
        """Remember the revision of *row*, which was decrypted or stored, or has no text."""
        with self._noting:
            if row.rev > self._seen(row):
                self._newest[row.kind, row.id] = row.rev

    def is_set_back(self, row: DocumentRow) -> bool:
        """Return True if this process has seen a later revision than that of *row*."""
        return row.rev < self._seen(row)

    def _seen(self, row: DocumentRow) -> int:
        return self._newest.get((row.kind, row.id), 0)


def document_place(user_id: UserId, row: DocumentRow) -> Place:
    """Return the place that the text of a document is bound to, which includes the document's revision."""
    is_text = row.kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
    return Place(
        table="conversations" if is_text else "documents",
        column=row.kind,
        row_id=row.id,
        user_id=user_id,
        conversation_id=row.conversation_id,
        seq=row.rev,
        parent_id=row.space_id,
    )
