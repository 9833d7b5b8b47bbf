"""The tables in JSON files: a block returns once its journal line is on the disk; documents are written soon after."""

import errno
import os
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice, takewhile
from typing import Any
from uuid import UUID

from services.daemon_threads import in_thread
from services.domain import UserId
from services.errors import FileDamaged, StoreBlocked, StoreUnavailable
from services.events import log_event
from services.store.file_lock import FileLock
from services.store.files.disk import AppendedFile, Disk, SyncFailed
from services.store.files.documents import Change, Damaged, Document
from services.store.files.journal import (
    Operation,
    journal_line,
    read_journal,
    read_sizes,
    sizes_text,
)
from services.store.files.layout import LOCATIONS, Layout, chats_of, locations
from services.store.tables.adapters import CheckedBlock, UserTables
from services.store.tables.in_memory import selected
from services.store.tables.protocol import Answer, Block, Range, Row, Selection, StoreCheck, Table
from services.store.tables.schema import MESSAGES, TURNS

_SECONDS = 1.0  # maximum seconds between a write to the journal and the write to documents
# in bytes; once the journal is larger, its writes go to the documents immediately
_LARGEST_JOURNAL = 4_000_000
_CACHED_BYTES = 32_000_000  # maximum bytes of cached documents
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_JOURNAL, _END = "journal-", ".jsonl"
# this file lists the documents' sizes before appends that are not finished: after a crash, only the bytes up to these
# sizes can be trusted
_SIZES = "appends.json"
_MOST_USED = 20  # maximum documents that stay cached because a block has used them
_DOCUMENT_BYTES = 1000  # bytes counted for each cached document in addition to its size


class FilesStore:
    """Implements `AllTables` over the files in one folder. Any thread may call any member."""

    def __init__(
        self,
        disk: Disk,
        lock: FileLock,
        check: StoreCheck | None = None,
        *,
        is_plain: bool,
    ) -> None:
        """Apply the journals that an earlier process left. *lock*: the store's lock, already acquired.

        Raise Damaged, OSError, and the errors of *check*, before any file changes.
        """
        self._disk, self._file_lock, self._is_plain = disk, lock, is_plain
        self._lock, self._syncing = threading.RLock(), threading.Lock()
        # cached documents by path; the most recently used document is last
        self._documents = OrderedDict[str, Document]()
        self._cached_bytes = 0  # bytes counted for all cached documents
        # the paths of the documents that the last block to run has used last
        self._used = deque[str](maxlen=_MOST_USED)
        # the paths of the documents that the last block to run has changed
        self._changing = set[str]()
        self._written = set[str]()  # the paths of documents that are being written
        self._names = dict[str, set[str]]()  # names of documents, by folder
        self._failure = ""  # why the store is blocked until a restart; "": it is not blocked
        self._missed = ""  # why the last writing of documents failed; "": it did not fail
        self._is_closed, self._due, self._is_full = False, threading.Event(), threading.Event()
        # the newest journal gets new writes; an older journal is destroyed once the documents on the disk have its writes
        self._journals = list[AppendedFile]()
        self._restore(check)
        self._writer = in_thread("documents", self._keep_writing)

    def of(self, user_id: UserId | None) -> UserTables:
        return UserTables(self, user_id)

    def owners(
        self,
        table: Table[Row],
        where: Mapping[str, object] | None = None,
        within: Range | None = None,
    ) -> list[UserId]:
        with self._lock, self._errors():
            folders = {*self._disk.names(), *(path.partition("/")[0] for path in self._documents)}
            users = [UserId(UUID(one)) for one in sorted(folders) if _UUID.fullmatch(one)]

        def has_rows(block: Block) -> bool:
            return bool(block.select(table, where or {}, within, limit=1))

        def may_have_rows(user_id: UserId) -> bool:
            try:
                return self.run(user_id, has_rows, is_lasting=True)
            except FileDamaged:  # the caller gets this error when it reads the user's rows
                return True

        return [one for one in users if may_have_rows(one)]

    def run(
        self, user_id: UserId | None, work: Callable[[Block], Answer], *, is_lasting: bool
    ) -> Answer:
        """Run *work* over a user's tables and the shared tables; return once all durable writes so far are on the disk."""
        with self._errors():
            with self._lock:
                if self._is_closed:
                    raise StoreUnavailable("closed")
                self._check()
                self._used.clear()
                self._changing.clear()
                block = FilesBlock(self, user_id)
                answer = work(block)
                journal = self._journals[-1]
                if operations := block.operations():
                    self._check_size(journal)
                    self._store(operations, journal)
                    if is_lasting:
                        journal.lasting_size = journal.size
                lasting_size = journal.lasting_size
            self._sync(journal, lasting_size)
            if operations:
                self._check_place(journal)
            return answer

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._due.set()
        self._is_full.set()
        self._writer.result()
        with self._lock, self._syncing:
            for one in self._journals:
                one.close()
            self._disk.close()
            self._file_lock.close()

    # --- reading: documents and the names of documents

    def document(self, path: str) -> Document:
        """Return the document at *path*, which stays cached while the block uses few others; an empty one if there is no file."""
        if path not in self._used:
            self._used.append(path)
        found = self._documents.get(path)
        if found is None:
            found = Document(self._disk.read(path + _END) or b"", is_plain=self._is_plain)
            self._keep(path, found)
            self._drop_some()
        self._documents.move_to_end(path)
        return found

    def _keep(self, path: str, document: Document) -> None:
        if path not in self._documents:
            self._documents[path] = document
            self._cached_bytes += document.size + _DOCUMENT_BYTES

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the documents in *folder*."""
        if folder not in self._names:
            names = (one for one in self._disk.names(folder) if one.endswith(_END))
            self._names[folder] = {one.removesuffix(_END) for one in names}
            for path in self._documents:
                self._note_name(path)
        return sorted(self._names[folder])

    def _note_name(self, path: str) -> None:
        """Add the document at *path* to the cached names of its folder, or remove it if the document is empty."""
        folder, _, name = path.rpartition("/")
        if (names := self._names.get(folder)) is not None:
            names.discard(name)
            if self._documents[path].size:
                names.add(name)

    # --- writing

    def _store(self, operations: list[Operation], journal: AppendedFile) -> None:
        self._changing.update(one.path for one in operations)
        for path in self._changing:
            self.document(path)  # reads before the journal is written, because a read may fail
        self._check_place(journal)
        journal.append(journal_line(operations, journal.synced_size))
        try:
            self._apply(operations)
        except BaseException:
            # Cached documents may now contain only some of the operations, and must not be written to the disk. The next
            # start applies all operations from the journal.
            self._failure = "Daybook failed in the midst of a change: restart it."
            raise
        self._due.set()
        if journal.size > _LARGEST_JOURNAL:
            self._is_full.set()

    def _apply(self, operations: Iterable[Operation]) -> None:
        for one in operations:
            document = self.document(one.path)
            self._cached_bytes -= document.size
            if one.line:
                document.put(one.table, one.key, one.row, one.line)
            else:
                document.delete(one.table, one.key)
            self._cached_bytes += document.size
            self._note_name(one.path)

    def _sync(self, journal: AppendedFile, size: int) -> None:
        """Wait until the disk has *size* bytes of the journal; one thread syncs for all waiting threads."""
        if journal.synced_size < size:
            with self._syncing:
                if journal.synced_size < size:
                    journal.sync()

    def _keep_writing(self) -> None:
        """Write changed documents to the disk until the store is closed, each at most a second after its change."""
        pause = threading.Event()
        while True:
            self._due.wait()
            self._is_full.wait(_SECONDS)
            self._due.clear()
            self._is_full.clear()
            is_last = self._is_closed
            try:
                with self._errors():
                    self._write_documents()
                self._missed = ""
            except Exception as error:  # noqa: BLE001 (even a bug: the journal has the changes)
                is_known = isinstance(error, StoreUnavailable)
                self._missed = error.public if is_known else StoreUnavailable.public
                log_event("documents.missed", error=type(error))
                self._due.set()
                if not is_last:
                    pause.wait(_SECONDS)
            if is_last:
                return

    def _write_documents(self) -> None:
        """Write the changed documents to the disk, and destroy the journals that are no longer needed."""
        self._cut_appends()  # the previous call may have failed while it appended
        changed, failed = dict[str, Document](), dict[str, OSError]()
        try:
            with self._lock:
                self._check()
                last = self._journals[-1]
                self._check_place(last)
                last.mend()
                self._sync(last, last.size)
                # a call that failed may already have begun a second journal, which then stays in use
                if len(self._journals) == 1:
                    self._begin_journal()
                changed = {path: one for path, one in self._documents.items() if one.is_changed}
                changes = {path: one.take_change() for path, one in changed.items()}
                self._written = set(changes)
            appended = [path for path, one in changes.items() if not one.is_whole]
            if appended:
                sizes = {path: self._disk.size(path + _END) for path in appended}
                self._disk.replace(_SIZES, sizes_text(sizes))
            # the other documents do not wait until one that failed can be written
            for path, change in changes.items():
                try:
                    self._write(path + _END, change)
                except SyncFailed:
                    raise
                except OSError as error:
                    failed[path] = error
            if not failed.keys() & appended:
                if appended:
                    self._disk.destroy(_SIZES)
                # the next call writes only these documents again; after a failed append, it writes all of them again,
                # because it first cuts off what this call has appended
                changed = {path: changed[path] for path in failed}
            for error in failed.values():
                raise error
        except BaseException:
            with self._lock:
                for one in changed.values():
                    one.rewrite()
            raise
        finally:
            with self._lock:
                self._written = set[str]()
        while len(self._journals) > 1:
            self._journals[0].destroy()
            with self._lock:
                del self._journals[0]
        if self._journals[0].size:  # new writes, which the documents on the disk lack
            self._due.set()

    def _write(self, name: str, change: Change) -> None:
        if not change.is_whole:
            self._disk.append(name, change.data)
        elif change.data:
            self._disk.replace(name, change.data)
        else:
            self._disk.destroy(name)

    def _begin_journal(self) -> None:
        """Create an empty journal, which all later writes go to."""
        last = self._journals[-1].name.removeprefix(_JOURNAL) if self._journals else "0"
        self._journals.append(AppendedFile(self._disk, f"{_JOURNAL}{int(last) + 1:012}"))

    def _restore(self, check: StoreCheck | None) -> None:
        """Write the changes in an earlier process's journals to the documents.

        Raise Damaged, and the errors of *check*, before changing any file.
        """
        names = [one for one in self._disk.names() if re.fullmatch(f"{_JOURNAL}[0-9]+", one)]
        sizes = read_sizes(self._disk.read(_SIZES))
        operations, cut = self._lost_locations(sizes), 0
        for name in names:
            self._disk.sync_name(name)  # a process may have been killed before it synced the file
            data = self._disk.read(name) or b""
            # only the newest journal may be incomplete: each older journal was synced before the next was created
            if cut and data:
                raise Damaged
            found, whole = read_journal(data)
            operations, cut = operations + found, cut + len(data) - whole
        damaged = list[str]()
        for path in sorted({one.path for one in operations}):
            try:
                self._keep(path, self._parsed(path, sizes))
                self._documents[path].rewrite()
            except Damaged:
                damaged.append(path + _END)
        if damaged:
            raise Damaged(*damaged)
        if cut:
            log_event("journal.cut", bytes=cut)
        self._apply(operations)
        if check:
            with suppress(Damaged):  # a block that reads the damaged document says so
                check(FilesBlock(self, None))
        self._disk.tidy()
        for path, one in self._documents.items():
            if one.is_changed:
                self._write(path + _END, one.take_change())
        self._disk.destroy(_SIZES)
        for name in names:
            self._disk.destroy(name)
        self._begin_journal()

    def _parsed(self, path: str, sizes: Mapping[str, int]) -> Document:
        data = self._disk.read(path + _END) or b""
        return _document(data, sizes.get(path), is_plain=self._is_plain)

    def _lost_locations(self, sizes: Mapping[str, int]) -> list[Operation]:
        """Return writes that store the locations of each user whose file of locations is missing."""
        operations = list[Operation]()
        for user in filter(_UUID.fullmatch, self._disk.names()):
            documents = list[str]()
            with suppress(OSError):  # the pages of this user say that the folder cannot be read
                if LOCATIONS.name + _END not in self._disk.names(user):
                    block = FilesBlock(self, UserId(UUID(user)))
                    documents += block.documents(Selection(TURNS, {}))  # no others contain messages
            for document in documents:
                with suppress(Damaged, OSError):  # a block that reads the document says so
                    rows = self._parsed(f"{user}/{document}", sizes).rows
                    operations += [
                        Operation.put(f"{user}/{LOCATIONS.name}", LOCATIONS, location)
                        for table in (MESSAGES, TURNS)
                        for row in rows.get(table.name, {}).values()
                        for location in locations(table, row)
                    ]
        return operations

    def _cut_appends(self) -> None:
        """Truncate documents to remove the bytes that unfinished appends left."""
        if sizes := read_sizes(self._disk.read(_SIZES)):
            for path, size in sizes.items():
                self._disk.cut(path + _END, size)
            self._disk.destroy(_SIZES)

    def _drop_some(self) -> None:
        """Drop the least recently used documents from the cache while it has too many bytes."""
        while self._cached_bytes > _CACHED_BYTES:
            # the documents that this block has used come last
            others = takewhile(lambda one: one not in self._used, self._documents)
            unused = (one for one in others if not self._is_kept(one))
            if (path := next(unused, None)) is None:
                return
            self._cached_bytes -= self._documents.pop(path).size + _DOCUMENT_BYTES

    def _is_kept(self, path: str) -> bool:
        """Return True if the file at *path* may lack changes of its cached document, which therefore must stay cached."""
        is_written = path in self._written or path in self._changing
        return is_written or self._documents[path].is_changed

    # --- errors

    def _check_size(self, journal: AppendedFile) -> None:
        """Raise StoreBlocked if *journal* is large because documents cannot be written."""
        if self._missed and journal.size > _LARGEST_JOURNAL:
            raise StoreBlocked(self._missed)

    def _check(self) -> None:
        if self._failure:
            raise StoreBlocked(self._failure)

    def _check_place(self, journal: AppendedFile) -> None:
        """Raise StoreBlocked if the path no longer leads to the open folder: writes to the open folder would be lost."""
        if not journal.is_in_place():
            raise StoreBlocked(
                f"The folder {self._disk.path.name} was moved, removed or replaced: put it back, or restart Daybook."
            )

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn file errors into StoreUnavailable, or into StoreBlocked, whose sentence tells an operator what to repair."""
        name = self._disk.path.name
        try:
            yield
        except Damaged:
            raise FileDamaged(f"{name} is damaged: stop Daybook and put a backup back.") from None
        except SyncFailed:
            self._failure = f"The disk of {name} fails: check it, then restart Daybook."
            raise StoreBlocked(self._failure) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                sentence = f"The disk of {name} takes no more data: free some space."
            elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                file = os.path.normpath(f"{name}/{error.filename or ''}")
                sentence = f"{file} cannot be written: make {name} and all in it writable."
            else:
                raise StoreUnavailable(type(error).__name__, error.errno) from None
            raise StoreBlocked(sentence) from None


class FilesBlock(CheckedBlock):
    """A `Block` over documents; the store applies the block's writes when the block ends."""

    def __init__(self, store: FilesStore, user_id: UserId | None) -> None:
        super().__init__()
        self._store, self._user_id = store, user_id
        self._layout = Layout(self._locate, self._names)
        # The user's documents that selections of this block have read, and the chats whose conversation or turn it has read,
        # as keys. A row in a file that was edited, repaired or put back from a backup may have no location, or the location
        # of another document. To delete a selected row has to delete it where it was selected: otherwise the sweep would
        # select it again forever. And a message is found in the chat that a block is about.
        self._searched = dict[str, None]()

    def get(self, table: Table[Row], key: object) -> Row | None:
        self.check_reading()
        row = next((row for _, row in self._stored(table, str(key))), None)
        self._searched |= dict.fromkeys(chats_of(row))
        return row

    def find(self, selection: Selection[Row]) -> list[Row]:
        documents = self.documents(selection)
        each = (self._rows(selection.table, one).values() for one in documents)
        if selection.order:
            return selected([row for rows in each for row in rows], selection)
        found = (row for rows in each for row in selected(rows, selection))
        return list(islice(found, selection.limit))  # stops reading once there are enough rows

    def documents(self, selection: Selection[Any]) -> Iterator[str]:
        """Yield the documents that may contain the selected rows, and note that they are read."""
        for document in self._layout.selected(selection):
            if not selection.table.is_shared:
                self._searched[document] = None
            yield document

    def operations(self) -> list[Operation]:
        """Return the writes of this block as operations on documents."""
        new = dict[str, str]()

        def locate(key: str) -> str | None:
            return new.get(key) or self._locate(key)

        layout = replace(self._layout, locate=locate)
        found = list[Operation]()
        last = {(table.name, key): (table, key, row) for table, key, row in self.writes}
        for table, key, row in last.values():
            is_searched = row is None or layout.is_moved(table)
            stored = list(self._stored(table, key)) if is_searched else []
            if row is None:
                found += [Operation(self._path(table, one), table, key) for one, _ in stored]
                gone = (one for _, old in stored for one in locations(table, old))
                found += [
                    Operation(self._path(LOCATIONS, LOCATIONS.name), LOCATIONS, one.id)
                    for one in gone
                ]
                continue
            for one in locations(table, row):
                if layout.locate(one.id) != one.document:
                    new[one.id] = one.document
                    found.append(
                        Operation.put(self._path(LOCATIONS, LOCATIONS.name), LOCATIONS, one)
                    )
            document = layout.document_of(table, row)
            found += [
                Operation(self._path(table, one), table, key)
                for one, _ in stored
                if one != document
            ]
            found.append(Operation.put(self._path(table, document), table, row))
        return found

    def _stored(self, table: Table[Any], key: str) -> Iterator[tuple[str, Any]]:
        """Yield the row with *key* from each document that contains it, after the document's name."""
        found = (one for one in self._searched if self._layout.may_contain(table, one))
        for document in dict.fromkeys([*self._layout.with_key(table, key), *found]):
            if row := self._rows(table, document).get(key):
                yield document, row

    def _rows(self, table: Table[Any], document: str) -> Mapping[str, Any]:
        return self._store.document(self._path(table, document)).rows.get(table.name, {})

    def _path(self, table: Table[Any], document: str) -> str:
        return f"{'shared' if table.is_shared else self._own_folder}/{document}"

    @property
    def _own_folder(self) -> str:
        if self._user_id is None:
            raise LookupError("this block has no tables of users")
        return str(self._user_id)

    def _locate(self, key: str) -> str | None:
        location = self._rows(LOCATIONS, LOCATIONS.name).get(key)
        return location.document if location else None

    def _names(self, folder: str) -> list[str]:
        return [folder + one for one in self._store.names(f"{self._own_folder}/{folder[:-1]}")]


def _document(data: bytes, size: int | None, *, is_plain: bool) -> Document:
    """Parse *data* as a document. If *data* is damaged, parse only the *size* bytes from before an unfinished append.

    Raise Damaged if these bytes are damaged, too, or *size* is None.
    """
    try:
        # first try all of *data*, because the file may have been edited or replaced since the append
        return Document(data, is_plain=is_plain)
    except Damaged:
        if size is None:
            raise
        return Document(data[:size], is_plain=is_plain)
