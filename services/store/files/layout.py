"""The assignment of rows to documents in a store over files.

A document is a file of rows; its name is relative to the folder of a user, or of the shared tables. A selection reads
only the documents that may contain the selected rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from services.rules.turns import Turn
from services.store.tables import schema
from services.store.tables.protocol import Range, Selection, Table
from services.store.tables.schema import (
    DAYS,
    DOCUMENTS,
    LEDGER,
    MESSAGES,
    PIECES,
    RECEIPTS,
    SEARCH_TEXTS,
    THOUGHTS,
    TURNS,
    StoredConversation,
)

_OPEN, _CHATS = "open-turns", "chats/"
_LOOSE = "loose"  # receipts and thoughts whose turn or message is not stored yet
# The documents that each table is stored in. A name that ends with a slash is a folder with one document for each chat,
# message or month. All other tables of a user share the document "user".
_DOCUMENTS = {
    MESSAGES.name: (_CHATS,),
    THOUGHTS.name: (_LOOSE, _CHATS),
    RECEIPTS.name: (_LOOSE, _CHATS),
    TURNS.name: (_OPEN, _CHATS, "turns/"),
    PIECES.name: ("files/",),
    SEARCH_TEXTS.name: ("search/",),
    DOCUMENTS.name: ("documents",),
    LEDGER.name: ("ledger/",),
    DAYS.name: ("days/",),
}


@dataclass(frozen=True, slots=True)
class Location:
    """The document in which a message is stored, or in which a turn is stored once it is finished."""

    # the id of the message or turn, or "client" and the `client_turn_id` of the turn
    id: str = field(repr=False)
    document: str = field(repr=False)


LOCATIONS = Table("locations", Location, lambda row: row.id)
TABLES = schema.TABLES | {LOCATIONS.name: LOCATIONS}


@dataclass(frozen=True, slots=True)
class Layout:
    """The documents of one user, or of the shared tables."""

    # returns the document of the `Location` with the given id; None if there is none
    locate: Callable[[str], str | None]
    names: Callable[[str], list[str]]  # returns the names of all documents in a folder

    def document_of(self, table: Table[Any], row: Any) -> str:
        """Return the document that *row* belongs to."""
        match table.name:
            case MESSAGES.name:
                return f"{_CHATS}{row.conversation_id}"
            case THOUGHTS.name | RECEIPTS.name:
                return self.locate(str(table.key(row))) or _LOOSE
            case TURNS.name:
                return _OPEN if row.finished_at is None else _finished(row)
            case PIECES.name:
                return f"files/{row.conversation_id}.{row.message_id}"
            case SEARCH_TEXTS.name:
                return f"search/{row.conversation_id}"
            case LEDGER.name | DAYS.name:
                return f"{table.name}/{row.day:%Y-%m}"
            case _:
                return _documents_of(table)[0]

    def is_moved(self, table: Table[Any]) -> bool:
        """Return True if a row of *table* may move to another document."""
        return len(_documents_of(table)) > 1

    def may_contain(self, table: Table[Any], document: str) -> bool:
        """Return True if rows of *table* may be stored in *document*."""
        return document.startswith(_documents_of(table))

    def with_key(self, table: Table[Any], key: str) -> Iterator[str]:
        """Return the documents that may contain the row with *key*."""
        match table.name:
            case MESSAGES.name | THOUGHTS.name | RECEIPTS.name | TURNS.name:
                return self._all(table, self.locate(key))
            case PIECES.name:
                return self._all(table, key.split()[0])
            case SEARCH_TEXTS.name:
                return self._all(table, f"search/{key.split()[0]}")
            case DAYS.name:
                return self._all(table, f"days/{key[:7]}")
            case _:
                return self._all(table, "")

    def selected(self, selection: Selection[Any]) -> Iterator[str]:
        """Return the documents that may contain the selected rows."""
        table, where, within = selection.table, selection.where, selection.within
        if table is TURNS and where.get("finished_at", "") is None:
            return iter([_OPEN])
        for column, start in (("client_turn_id", "client "), ("prompt_id", ""), ("parent_id", "")):
            if column in where and "conversation_id" not in where:
                return self._all(table, self.locate(f"{start}{where[column]}"))
        if table is LEDGER or table is DAYS:
            names = self._all(table, f"{table.name}/{where['day']:%Y-%m}" if "day" in where else "")
            return (one for one in names if within is None or _is_within(one[-7:], within))
        if "conversation_id" not in where:
            return self._all(table, "")
        if table is PIECES:
            return self._all(table, f"{where['conversation_id']}.{where.get('message_id', '')}")
        folder = "search/" if table is SEARCH_TEXTS else _CHATS
        return self._all(table, f"{folder}{where['conversation_id']}")

    def _all(self, table: Table[Any], part: str | None) -> Iterator[str]:
        """Return the documents of *table* outside of folders, and the documents in its folders that *part* selects.

        *part*: a path with a slash selects this one document; any other text selects the documents whose names contain it;
        None selects no document.
        """
        for document in _documents_of(table):
            if not document.endswith("/"):
                yield document
            elif part and "/" in part:
                yield from [part] if part.startswith(document) else ()
            elif part is not None:
                yield from (name for name in self.names(document) if part in name)


def chats_of(row: object) -> list[str]:
    """Return the document of the chat of *row*, if that is a conversation or a turn in one."""
    match row:
        case StoredConversation(id=chat_id) | Turn(conversation_id=chat_id) if chat_id:
            return [f"{_CHATS}{chat_id}"]
        case _:
            return []


def locations(table: Table[Any], row: Any) -> list[Location]:
    """Return the locations to store together with *row*."""
    if table is MESSAGES:
        return [Location(str(row.id), f"{_CHATS}{row.conversation_id}")]
    if table is TURNS:
        return [
            Location(one, _finished(row)) for one in (str(row.id), f"client {row.client_turn_id}")
        ]
    return []


def _finished(turn: Any) -> str:
    """Return the document in which *turn* is stored once it is finished."""
    return (
        f"{_CHATS}{turn.conversation_id}"
        if turn.conversation_id
        else f"turns/{turn.begun_at:%Y-%m}"
    )


def _documents_of(table: Table[Any]) -> tuple[str, ...]:
    own = table.is_shared or table is LOCATIONS
    return _DOCUMENTS.get(table.name, (table.name if own else "user",))


def _is_within(month: str, within: Range) -> bool:
    """Return True if a day of *month* (YYYY-MM) may be in the range *within*, or if *within* is not a range of days."""
    above, up_to = (
        f"{one:%Y-%m}" if isinstance(one, date) else month for one in (within.above, within.up_to)
    )
    return above <= month <= up_to
