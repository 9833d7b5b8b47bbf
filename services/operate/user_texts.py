"""Conversion of one user's rows between a sealed (encrypted) and a plain store: texts, attachment lists, heads, byte counts."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

from services.crypto import Head, PlainKeys, UserKeys, Vault, new_key
from services.crypto.plain import NO_VAULT
from services.domain import ConversationId, UserId
from services.domain.rows import MessageRow
from services.errors import BadInput, Tampered
from services.store.copies import CopiedTable, CopySource, Row, chat_missing
from services.store.rows import ReceiptRow, ThoughtsRow
from services.store.sealed.seals import DOCUMENTS, ConversationSeals, document_place
from services.store.tables import schema
from services.store.tables.content import text_bytes
from services.store.tables.protocol import Table

# The tables whose rows are changed or read for sealing, in the order in which they are stored: pieces before the messages
# that list them, messages before heads; receipts and thoughts after the turns and messages to which they are bound.
ORDER: tuple[Table[Any], ...] = (
    *(schema.TURNS, schema.PIECES, schema.MESSAGES, schema.RECEIPTS, schema.THOUGHTS),
    *(schema.SEARCH_TEXTS, schema.DISCARDS, schema.DOCUMENTS, schema.CONVERSATIONS, schema.COUNTS),
)
_COUNTED: tuple[Table[Any], ...] = tuple(
    set(ORDER) - {schema.TURNS, schema.PIECES, schema.DISCARDS, schema.COUNTS}
)
_TEXTS_OF_CHATS = ("body", "thoughts", "partial", "partial_thoughts")
_NO_HEAD = ""  # replaces a head that cannot be converted; the chat is then shown as incomplete
_NO_KEY: dict[str, Any] = {"wrapped_key": "", "key_version": 1, "user_key_version": 1}
_FIRST = 1  # the version of a new conversation key
_NOBODY = UUID(int=0)
_LARGEST_NUMBER = 2**63

# the MACs of each attachment piece, in the sealed and in the plain store; keyed by message id, attachment id and piece
# number
_Macs = Mapping[tuple[str, str, int], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Side:
    """The sealed or the plain side of a copy: its keys, and the index of its MACs in the pairs of `_Macs`."""

    keys: UserKeys
    vault: Callable[[ConversationId], Vault]
    column: int


@dataclass(frozen=True, slots=True)
class _PlacedRow:
    """A row of any table, with the id of its conversation, if any; a row of thoughts also has its message here."""

    row: Any
    conversation_id: ConversationId | None
    message: MessageRow | None = None


@dataclass(frozen=True, slots=True)
class _Sums:
    """Totals over a user's stored rows, and the conversation heads computed from these rows."""

    # the number of bytes that sealing adds to each conversation; the key None stands for documents, titles,
    # instructions and summaries
    added: Counter[ConversationId | None] = field(default_factory=Counter[ConversationId | None])
    heads: dict[ConversationId, Head] = field(default_factory=dict[ConversationId, Head])


class UserTexts:
    """Converts the rows of one user between a sealed store and a plain store."""

    def __init__(self, store: CopySource, user_id: UserId, keys: UserKeys) -> None:
        self._store, self._user_id, self._keys = store, user_id, keys
        self._known = dict[ConversationId, ConversationSeals]()
        # for each conversation: its wrapped key, the version of that key, and the version of the user key that wraps it
        self._wrapped: dict[ConversationId, tuple[str, int, int]] | None = None
        # for each conversation: the MACs of its pieces, and the number of bytes that sealing adds to them
        self._pieces = dict[ConversationId, tuple[_Macs, int]]()
        self._sums: _Sums | None = None
        self._sealed = _Side(keys, lambda one: self._seals(one).vault, 0)
        self._plain = _Side(PlainKeys([]), lambda _: NO_VAULT, 1)
        self.broken_heads = set[ConversationId]()

    def opened(self, table: CopiedTable[Row], within: ConversationId | None) -> list[Row]:
        """Return the rows of *table* as a plain store contains them. Raise BadInput if a text cannot be decrypted."""
        rows: list[Any] = self._read(table, within)
        if table is schema.COUNTS:
            return cast(list[Row], [self._counted(row, -1) for row in rows])
        opened = self._changed(rows, self._sealed, self._plain)
        if table is schema.CONVERSATIONS:
            pairs = zip(rows, opened, strict=True)
            return cast(list[Row], [self._with_plain_head(*pair) for pair in pairs])
        return opened

    def sealed(self, table: CopiedTable[Row], rows: Sequence[Row]) -> list[Row]:
        """Return the *rows* of a plain store as the sealed store contains them. Raise BadInput if a row cannot be sealed."""
        self.forget()
        plain = cast(list[Any], rows)
        if table is schema.COUNTS:
            for one in self._known.keys() - {row.id for row in self._read(schema.CONVERSATIONS)}:
                raise chat_missing(one)
            return cast(list[Row], [self._counted(row, 1) for row in plain])
        if table is schema.PIECES:
            self._pieces.clear()
        sealed = self._changed(plain, self._plain, self._sealed)
        if table is schema.CONVERSATIONS:
            return cast(list[Row], [self._with_sealed_head(row) for row in sealed])
        return sealed

    def _read(self, table: CopiedTable[Row], within: ConversationId | None = None) -> list[Row]:
        return self._store.rows(table, self._user_id, within)

    # --- keys

    def _seals(self, conversation_id: ConversationId) -> ConversationSeals:
        """Return the object that seals a conversation's rows; create the conversation's key if the conversation is not stored.

        Raise Tampered if a key cannot be unwrapped.
        """
        if self._wrapped is None:
            stored = self._read(schema.CONVERSATIONS)
            self._wrapped = {
                row.id: (row.wrapped_key, row.key_version, row.user_key_version) for row in stored
            }
        if conversation_id not in self._known:
            if conversation_id not in self._wrapped:
                newest = self._keys.newest
                wrapped = newest.wrap(new_key(), conversation_id, _FIRST)
                self._wrapped[conversation_id] = wrapped, _FIRST, newest.version
            wrapped, version, user_version = self._wrapped[conversation_id]
            key = self._keys.unwrap(wrapped, user_version, conversation_id, version)
            vault = self._keys.conversation_vault(key, version)
            self._known[conversation_id] = ConversationSeals(self._user_id, conversation_id, vault)
        return self._known[conversation_id]

    # --- texts

    def _changed(self, rows: Sequence[Row], old: _Side, new: _Side) -> list[Row]:
        """Return *rows* with their texts converted from *old* to *new*. Raise BadInput if a text cannot be converted."""
        changed = [self._row_changed(placed, old, new) for placed in self._placed(rows)]
        return cast(list[Row], changed)

    def _row_changed(self, placed: _PlacedRow, old: _Side, new: _Side) -> object:
        # suppress and do not chain the error, because its message could contain the text
        with suppress(Tampered, ValueError):
            return self._with_texts(placed, old, new)
        what = (
            f"the chat {placed.conversation_id}"
            if placed.conversation_id
            else "a memory, a space or the preferences"
        )
        verb = "opened" if old is self._sealed else "sealed"
        raise BadInput(
            f"A text of {what} cannot be {verb}: delete that, or copy to a store of the same kind."
        )

    def _placed(self, rows: Sequence[object]) -> Iterator[_PlacedRow]:
        messages, turns = dict[object, MessageRow](), dict[object, ConversationId | None]()
        if any(isinstance(row, ThoughtsRow) for row in rows):
            messages = {row.id: row for row in self._read(schema.MESSAGES)}
        if any(isinstance(row, ReceiptRow) for row in rows):
            turns = {row.id: row.conversation_id for row in self._read(schema.TURNS)}
        for row in rows:
            match row:
                case schema.StoredConversation():
                    yield _PlacedRow(row, row.id)
                case ThoughtsRow():
                    message = messages.get(row.id)
                    yield _PlacedRow(row, message and message.conversation_id, message)
                case ReceiptRow():
                    yield _PlacedRow(row, turns.get(row.turn_id))
                case _:
                    yield _PlacedRow(row, cast(Any, row).conversation_id)

    def _with_texts(self, placed: _PlacedRow, old: _Side, new: _Side) -> object:
        """Return the row with texts converted from *old* to *new*. Raise Tampered or ValueError if a text cannot be converted."""
        row, conversation_id = placed.row, placed.conversation_id
        if conversation_id is None and isinstance(row, schema.Document) and row.body is not None:
            place = document_place(self._user_id, row)
            text = old.keys.open(DOCUMENTS, row.body, place)
            return replace(row, body=new.keys.vault(DOCUMENTS).seal(text, place))
        if conversation_id is None:
            if any(getattr(row, name, None) for name in _TEXTS_OF_CHATS):
                # the row's conversation is unknown, so its text would stay unconverted
                raise Tampered
            return row
        vault, other = old.vault(conversation_id), new.vault(conversation_id)
        texts = dict[str, str]()
        for name, place in self._seals(conversation_id).places(row, placed.message).items():
            sealed = getattr(row, name)
            if sealed is None:
                continue
            if name == "piece_body":
                texts[name] = other.seal_octets(vault.open_octets(sealed, place), place)
                continue
            text = vault.open(sealed, place)
            if name == "attachments" and isinstance(row, MessageRow):
                text = self._with_macs(text, row, old.column, new.column)
            texts[name] = other.seal(text, place)
        return replace(row, **texts)

    def _with_macs(self, text: str, message: MessageRow, old: int, new: int) -> str:
        """Return an attachment list with the MACs of the side *new*. Raise Tampered if a MAC does not match its piece."""
        macs, listed = self._pieces_of(message.conversation_id)[0], json.loads(text)
        try:
            for file in listed["files"]:
                for index, mac in enumerate(file["macs"]):
                    # keep the MAC of a missing piece, so that the piece still counts as missing
                    pair = macs.get((str(message.id), file["id"], index + 1))
                    if pair and pair[old] != mac:
                        raise Tampered
                    file["macs"][index] = pair[new] if pair else mac
        except (LookupError, TypeError):
            raise Tampered from None
        return json.dumps(listed, ensure_ascii=False)

    def _pieces_of(self, conversation_id: ConversationId) -> tuple[_Macs, int]:
        """Return the MACs of a conversation's pieces, and the bytes that sealing adds. Raise BadInput if a piece cannot be decrypted."""
        if conversation_id not in self._pieces:
            seals, added = self._seals(conversation_id), 0
            macs = dict[tuple[str, str, int], tuple[str, str]]()
            rows = self._read(schema.PIECES, conversation_id)
            for row, plain in zip(
                rows, self._changed(rows, self._sealed, self._plain), strict=True
            ):
                [place] = seals.places(row).values()
                macs[str(row.message_id), str(row.attachment_id), row.number] = (
                    seals.vault.piece_mac(row.piece_body, place).hex(),
                    NO_VAULT.piece_mac(plain.piece_body, place).hex(),
                )
                added += text_bytes(row) - text_bytes(plain)
            self._pieces[conversation_id] = macs, added
        return self._pieces[conversation_id]

    # --- heads and bytes

    def forget(self) -> None:
        """Drop the cached `_Sums`, because rows have changed."""
        self._sums = None

    def _summed(self) -> _Sums:
        if self._sums is None:
            found, discards = _Sums(), self._read(schema.DISCARDS)
            gone = {one for row in discards for one in row.message_ids}
            for table in _COUNTED:
                is_content = table not in (schema.DOCUMENTS, schema.CONVERSATIONS)
                for placed in self._placed(self._read(table)):
                    row = placed.row
                    plain = self._row_changed(placed, self._sealed, self._plain)
                    key = placed.conversation_id if is_content else None
                    found.added[key] += text_bytes(row) - text_bytes(plain)
                    if isinstance(row, MessageRow):
                        head = found.heads.setdefault(row.conversation_id, Head())
                        if row.id not in gone:
                            [mac] = self._seals(row.conversation_id).macs([row])
                            found.heads[row.conversation_id] = head.add(mac, row.seq)
            for conversation_id in self._known:
                found.added[conversation_id] += self._pieces_of(conversation_id)[1]
            self._sums = found
        return self._sums

    def _counted(self, row: schema.Counts, sign: int) -> schema.Counts:
        added = self._summed().added
        content = added.total() - added[None]
        return row.plus(bytes=sign * added[None]).with_content(sign * content)

    def _with_plain_head(
        self, row: schema.StoredConversation, opened: schema.StoredConversation
    ) -> schema.StoredConversation:
        sums = self._summed()
        head, read = self._seals(row.id).open_head(row.head), sums.heads.get(row.id, Head())
        is_right = head is not None and head.is_of(read)
        if not is_right or head is None or (head.rev, head.last_seq) != (row.rev, row.last_seq):
            self.broken_heads.add(row.id)
        plain = _NO_HEAD
        # A plain head has counts but no MACs. If only the MACs of the sealed head are wrong, a plain head would look
        # right and hide the fault, so no plain head is made.
        if head and (is_right or head.count != read.count):
            plain = NO_VAULT.seal_head(head, self._user_id, row.id)
        return replace(
            opened,
            **_NO_KEY,
            head=plain,
            bytes=row.bytes - sums.added[row.id],
        )

    def _with_sealed_head(self, row: schema.StoredConversation) -> schema.StoredConversation:
        sums, seals, plain = self._summed(), self._seals(row.id), _plain_head(row.head)
        total = sums.heads.get(row.id, Head()).total
        wrapped, version, user_version = (self._wrapped or {})[row.id]
        return replace(
            row,
            wrapped_key=wrapped,
            key_version=version,
            user_key_version=user_version,
            head=seals.head(replace(plain, total=total)) if plain else _NO_HEAD,
            bytes=row.bytes + sums.added[row.id],
        )


def normal(row: object) -> object:
    """Normalize *row* of a plain store to the form that `OpenedSource` returns, because users may edit a plain store's files."""
    match row:
        case schema.StoredConversation():
            head = _plain_head(row.head)
            text = NO_VAULT.seal_head(head, row.id, row.id) if head else _NO_HEAD
            return replace(row, **_NO_KEY, head=text)
        case schema.StoredNotice():
            return replace(row, browser=None)  # the name of a browser is not converted
        case schema.AuditRow():
            return replace(row, device=None)
        case MessageRow() if row.attachments:
            # leave invalid JSON unchanged: sealing refuses it later
            with suppress(ValueError):
                listed = json.dumps(json.loads(row.attachments), ensure_ascii=False)
                return replace(row, attachments=listed)
            return row
        case _:
            return row


def _plain_head(text: str) -> Head | None:
    """Return the head of a chat in a plain store; None if a user's edit has made it invalid."""
    with suppress(Tampered):
        head = NO_VAULT.open_head(text, _NOBODY, _NOBODY)
        if all(0 <= one < _LARGEST_NUMBER for one in (head.rev, head.count, head.last_seq)):
            return head
    return None
