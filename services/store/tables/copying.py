"""A store over tables as the source or the target of a copy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, cast

from services.domain import ConversationId, UserId
from services.store.copies import CopiedTable, Row
from services.store.tables import schema
from services.store.tables.content import first_slice
from services.store.tables.protocol import AllTables, Block, JoinsBlocks, Range, Table

# the reverse of the order in which rows are destroyed: a conversation is written before its messages, and a message or
# turn before its thoughts or receipt, which a store in files saves in the same file
_OWN: tuple[Table[Any], ...] = (*reversed(schema.DESTROYED), schema.LEDGER, schema.DAYS)
_OF_ACCOUNT = (schema.CREDENTIALS.name, schema.ACCOUNTS.name)
# the account is written last, so that no user exists before all their rows do
_ORDER = (*(table.name for table in _OWN), *_OF_ACCOUNT)


@dataclass(frozen=True, slots=True)
class TablesCopy:
    """Implements `CopySource` and `CopyTarget` over tables."""

    tables: AllTables

    def has_open_turns(self) -> bool:
        # the range excludes no turn: with it, Firestore can use the index that the sweep needs
        return bool(self.tables.owners(schema.TURNS, {"finished_at": None}, Range("lease_until")))

    def user_ids(self) -> list[UserId]:
        accounts = self.tables.of(None).run(lambda block: block.select(schema.ACCOUNTS))
        owners = {one for table in _OWN for one in self.tables.owners(table)}
        return sorted(owners | {one.id for one in accounts})

    def rows(
        self,
        table: CopiedTable[Row],
        user_id: UserId | None,
        conversation_id: ConversationId | None = None,
    ) -> list[Row]:
        own, where = cast(Table[Row], table), dict[str, object]()
        if conversation_id:
            where = {"conversation_id": conversation_id}
        if table.name in _OF_ACCOUNT and user_id:
            row = self.tables.of(None).run(lambda block: block.get(own, user_id))
            return [row] if row else []
        if table.name == schema.CREDENTIALS.name:
            where = {"user_id": None}
        return self.tables.of(user_id).run(methodcaller("select", own, where))

    @property
    def numbered(self) -> Sequence[str]:
        return ()

    def number(self, table: str, ids: Sequence[str]) -> None: ...

    def order(self, *, is_ended: bool) -> Sequence[str]:
        return _ORDER

    def kept(self, table: CopiedTable[Row], rows: list[Row]) -> list[Row]:
        return rows

    def at_once(self) -> AbstractContextManager[object]:
        return self.tables.joined() if isinstance(self.tables, JoinsBlocks) else nullcontext()

    def put(self, table: CopiedTable[Row], user_id: UserId | None, rows: Sequence[Row]) -> None:
        while rows:
            some = first_slice(rows)

            def write(block: Block, some: Sequence[Row] = some) -> None:
                for row in some:
                    block.put(cast(Table[Row], table), row)

            self.tables.of(user_id).run(write)
            rows = rows[len(some) :]
