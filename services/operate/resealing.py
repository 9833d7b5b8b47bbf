"""Copies between a sealed store and `json-plain`: the sealed store's texts are decrypted when read, and sealed when stored.

Source and target are compared as plain texts, because the same text is sealed differently each time. This comparison
makes it possible to continue an interrupted copy.
"""

from collections.abc import Callable, Sequence
from typing import cast

from services.crypto import RootKeys, UserKeys
from services.domain import ConversationId, UserId
from services.operate.user_texts import ORDER, UserTexts, normal
from services.store.accounts import unwrapped_keys
from services.store.copies import CopiedTable, CopySource, CopyTarget, Row
from services.store.credentials import open_stored
from services.store.tables import schema
from services.store.writes import PutPiece


def user_keys(source: CopySource, ring: RootKeys, user_id: UserId) -> UserKeys:
    """Return the keys of a user; a deleted user has none. Raise Tampered if a key cannot be unwrapped."""
    account = next(iter(source.rows(schema.ACCOUNTS, user_id)), None)
    stored = next(iter(source.rows(schema.CREDENTIALS, user_id)), None)
    secret = open_stored(ring, stored).account_secret if stored else None
    if secret is None or account is None:
        return UserKeys([])
    return UserKeys(unwrapped_keys(account.keys, ring.account_keys(secret), user_id))


class OpenedSource:
    """Implements `CopySource` over a sealed store; returns rows with decrypted texts."""

    def __init__(self, store: CopySource, keys_of: Callable[[UserId], UserKeys]) -> None:
        self._store, self._keys_of = store, keys_of
        self.has_open_turns, self.user_ids = store.has_open_turns, store.user_ids
        self._texts = dict[UserId, UserTexts]()

    def rows(
        self,
        table: CopiedTable[Row],
        user_id: UserId | None,
        conversation_id: ConversationId | None = None,
    ) -> list[Row]:
        if user_id is None or table not in ORDER:
            rows = self._store.rows(table, user_id, conversation_id)
            return [cast(Row, normal(row)) for row in rows]
        return self.texts(user_id).opened(table, conversation_id)

    def texts(self, user_id: UserId) -> UserTexts:
        if user_id not in self._texts:
            self._texts[user_id] = UserTexts(self._store, user_id, self._keys_of(user_id))
        return self._texts[user_id]

    def check(self) -> set[ConversationId]:
        """Decrypt all texts; return the ids of the chats whose head does not match their messages.

        Raise BadInput if decryption fails.
        """
        broken = set[ConversationId]()
        for user_id in self.user_ids():
            # skip the attachment pieces: they are decrypted anyway when the bytes of conversations are counted
            for table in set(ORDER) - {schema.PIECES}:
                self.rows(table, user_id)
            broken |= self.texts(user_id).broken_heads
        return broken


class SealingTarget(OpenedSource):
    """Implements `CopyTarget` over a sealed store, for rows that come from a plain store.

    A user's account is stored last. Until then, `rows` returns only rows that this process has stored: rows left by an
    interrupted copy may be sealed under conversation keys that were never stored.
    """

    def __init__(self, store: CopyTarget, keys_of: Callable[[UserId], UserKeys]) -> None:
        super().__init__(store, keys_of)
        self._target, self.numbered = store, store.numbered
        self.number, self.at_once = store.number, store.at_once
        self._stored = set[tuple[str, UserId, ConversationId | None]]()

    def rows(
        self,
        table: CopiedTable[Row],
        user_id: UserId | None,
        conversation_id: ConversationId | None = None,
    ) -> list[Row]:
        is_stored = user_id is None or (table.name, user_id, conversation_id) in self._stored
        if table in ORDER and not is_stored and not self._store.rows(schema.ACCOUNTS, user_id):
            return []
        return super().rows(table, user_id, conversation_id)

    def order(self, *, is_ended: bool) -> Sequence[str]:
        names = self._target.order(is_ended=is_ended)
        first = [table.name for table in ORDER if table.name in names]
        return [*first, *(name for name in names if name not in first)]

    def kept(self, table: CopiedTable[Row], rows: list[Row]) -> list[Row]:
        return self._target.kept(table, [cast(Row, normal(row)) for row in rows])

    def put(self, table: CopiedTable[Row], user_id: UserId | None, rows: Sequence[Row]) -> None:
        if user_id and table in ORDER:
            first: object = rows[0]
            within = first.conversation_id if isinstance(first, PutPiece) else None
            self._stored.add((table.name, user_id, within))
            rows = self.texts(user_id).sealed(table, rows)
        self._target.put(table, user_id, rows)
        if user_id:
            self.texts(user_id).forget()
