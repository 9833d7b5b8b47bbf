"""The tables in a Firestore database: a document for each row, and a transaction for each block."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar, cast
from urllib.parse import quote
from uuid import UUID

from google.api_core.exceptions import Aborted
from google.api_core.retry import Retry, if_exception_type
from google.cloud.firestore_v1.types import Cursor, Document, StructuredQuery, Value, Write
from google.protobuf.wrappers_pb2 import Int32Value

from services.domain import UserId
from services.domain.turns import Pace
from services.store.firestore.calls import Database, Transaction, errors
from services.store.firestore.lease import Lease
from services.store.firestore.queries import document_of, query_of, row_of, sorts_here
from services.store.tables.adapters import CheckedBlock, UserTables
from services.store.tables.in_memory import in_order
from services.store.tables.protocol import Answer, Block, Range, Row, Selection, Table
from services.store.tables.schema import PIECES, SEARCH_TEXTS

USERS = "users"  # the collection with a document for each user
_PAGE = 500  # documents that one call reads of a long result
_PIECES = 20  # the same for pieces of attachments, which have 350 KB each, and for search texts
_NAME = StructuredQuery.FieldReference(field_path="__name__")
# retries a block that Firestore aborted because of a conflict, with exponential backoff and random pauses
_again = Retry(
    predicate=if_exception_type(Aborted), initial=0.05, maximum=2.0, multiplier=2, timeout=20.0
)


@dataclass(frozen=True, slots=True)
class FirestoreStore:
    """Implements `AllTables` over a Firestore database. Any thread may call any member."""

    database: Database
    lease: Lease | None  # None for an operator's command, which may run at the same time as the app
    _repeats: Lock = field(default_factory=Lock)

    pace: ClassVar = Pace(beat_seconds=4.0, lease_seconds=20)  # because Firestore bills each write

    def of(self, user_id: UserId | None) -> UserTables:
        return UserTables(self, user_id)

    def owners(
        self,
        table: Table[Row],
        where: Mapping[str, object] | None = None,
        within: Range | None = None,
    ) -> list[UserId]:
        found = self._of_all(table, where or {}, within, is_whole=False)
        return list(dict.fromkeys(owner for owner, _ in found))

    def rows_of_all(self, table: Table[Row], within: Range | None) -> dict[UserId, list[Row]]:
        rows = dict[UserId, list[Row]]()
        for owner, document in self._of_all(table, {}, within, is_whole=True):
            rows.setdefault(owner, []).append(row_of(table, document))
        return rows

    def _of_all(
        self,
        table: Table[Any],
        where: Mapping[str, object],
        within: Range | None,
        *,
        is_whole: bool,
    ) -> list[tuple[UserId, Document]]:
        """Return the matching documents of all users; *is_whole*: with all fields."""
        order = (within.field,) if within else ()
        query = query_of(Selection(table, where, within, order), is_of_all=True)
        compared = [StructuredQuery.FieldReference(field_path=name) for name in order]
        if not is_whole:
            query.select = StructuredQuery.Projection(fields=compared or [_NAME])
        skipped = len(self.database.documents.split("/")) + 1
        with errors():
            found = list(_paged(self.database, self.database.documents, query, order=order))
        return [(UserId(UUID(one.name.split("/")[skipped])), one) for one in found]

    def run(
        self, user_id: UserId | None, work: Callable[[Block], Answer], *, is_lasting: bool
    ) -> Answer:
        """Run *work* over a user's tables and the shared tables, in one transaction, which is always durable."""
        aborted = b""

        def attempt() -> Answer:
            # Several blocks that read the same document wait for each other's locks, and all are aborted. Therefore
            # only one aborted block at a time is retried.
            with self._repeats if aborted else nullcontext():
                return attempt_once()

        def attempt_once() -> Answer:
            nonlocal aborted
            block = FirestoreBlock(self.database, user_id, aborted)
            try:
                answer = work(block)
                if block.writes:
                    if self.lease:
                        self.lease.check()
                    block.store_writes()
                return answer
            finally:
                if block.transaction.id:
                    aborted = block.transaction.id
                    self.database.rollback(aborted)

        with errors():
            return _again(attempt)()

    def close(self) -> None:
        if self.lease:
            self.lease.release()
        self.database.close()


class FirestoreBlock(CheckedBlock):
    """A `Block` in a Firestore transaction; it buffers its writes, and `store_writes` commits them."""

    def __init__(self, database: Database, user_id: UserId | None, repeats: bytes) -> None:
        """*repeats*: the id of the aborted transaction that this block retries; b"": none."""
        super().__init__()
        self._database, self._user_id = database, user_id
        self.transaction = Transaction(repeats)
        # cached rows by document name, and documents by query: they cannot change in a transaction, so each is read
        # and billed once
        self._rows, self._found = dict[str, Any](), dict[tuple[str, str], list[Document]]()

    def get(self, table: Table[Row], key: object) -> Row | None:
        return next(iter(self.get_all(table, [key])), None)

    def get_all(self, table: Table[Row], keys: Iterable[object]) -> list[Row]:
        self.check_reading()
        names = [self._name(table, key) for key in keys]
        if new := [name for name in dict.fromkeys(names) if name not in self._rows]:
            for answer in self._database.read(new, self.transaction):
                name = answer.missing or answer.found.name
                self._rows[name] = None if answer.missing else row_of(table, answer.found)
        return [row for name in names if (row := cast(Row | None, self._rows[name])) is not None]

    def find(self, selection: Selection[Row]) -> list[Row]:
        query, table = query_of(selection), selection.table
        parent = self._parent(table)
        asked = parent, str(query)
        if asked not in self._found:
            read = _paged if selection == Selection(table, selection.where) else Database.query
            self._found[asked] = [*read(self._database, parent, query, self.transaction)]
        found = self._found[asked]
        rows = [row_of(table, one) for one in found]
        self._rows.update((one.name, row) for one, row in zip(found, rows, strict=True))
        is_sorted = not sorts_here(table, selection.order)
        return rows if is_sorted else in_order(rows, selection.order)[: selection.limit]

    def store_writes(self) -> None:
        """Commit the transaction with the writes of this block."""
        self._database.commit([self._written(*one) for one in self.writes], self.transaction.id)
        self.transaction.id = b""

    def _written(self, table: Table[Any], key: str, row: object) -> Write:
        name = self._name(table, key)
        return Write(delete=name) if row is None else Write(update=document_of(table, name, row))

    def _parent(self, table: Table[Any]) -> str:
        if table.is_shared:
            return self._database.documents
        if self._user_id is None:
            raise LookupError(f"{table.name} belongs to users")
        return f"{self._database.documents}/{USERS}/{self._user_id}"

    def _name(self, table: Table[Any], key: object) -> str:
        return f"{self._parent(table)}/{table.name}/{_id_of(str(key))}"


def _id_of(key: str) -> str:
    """Return the id of the document for *key*. Firestore takes no id with a slash, and none that is ".", ".." or "__…__"."""
    name = quote(key, safe="")  # leaves dots and underscores
    is_reserved = name in (".", "..") or (len(name) > 3 and name[:2] == name[-2:] == "__")
    return f"%{ord(name[0]):02X}{name[1:]}" if is_reserved else name


def _paged(
    database: Database,
    parent: str,
    query: StructuredQuery,
    transaction: Transaction | None = None,
    order: tuple[str, ...] = (),
) -> Iterator[Document]:
    """Yield the results of *query*, sorted by *order* and by name; read them page by page, because each call has a deadline."""
    is_large = query.from_[0].collection_id in (PIECES.name, SEARCH_TEXTS.name)
    size = _PIECES if is_large else _PAGE
    query.limit = Int32Value(value=size)
    query.order_by.append(StructuredQuery.Order(field=_NAME))
    while page := database.query(parent, query, transaction):
        yield from page
        if len(page) < size:
            return
        last = [page[-1].fields[name] for name in order]
        place = [*last, Value(reference_value=page[-1].name)]
        query.start_at = Cursor(values=place, before=False)
