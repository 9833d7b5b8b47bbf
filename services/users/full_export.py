"""The export of all data of one user as a zip file, which is sent while the data is read (docs/format.md)."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from functools import partial

from services import portable
from services.daemon_threads import in_thread
from services.domain import ConversationId, Space
from services.domain.usage import LedgerEntry
from services.errors import FileDamaged, NotFound, Tampered
from services.portable import Archive, ConversationExport, FreeNames, IndexEntry
from services.store.port import Store, UserFigures

_AHEAD = 3  # the number of conversations that are read and formatted while another one is sent
# a conversation, and the texts of its exported files, keyed by file suffix
_Written = tuple[ConversationExport, Mapping[str, str]]


def read_export(store: Store, conversation_id: ConversationId) -> ConversationExport:
    """Return a conversation with all stored data of its turns. May raise NotFound, Tampered, SignedOut or StoreUnavailable."""
    thread, unfinished = store.turns.read(conversation_id)
    return ConversationExport(
        thread=thread,
        costs=store.turns.costs(thread.messages, conversation_id),
        receipts=store.turns.receipts(thread.messages, conversation_id),
        thoughts=store.turns.thoughts(thread.messages, conversation_id),
        space=store.spaces.find(thread.conversation.space_id),
        unfinished=unfinished,
    )


class FullExport:
    """The export of *store* as the bytes of a zip file; its readable files state times in the time zone *zone*.

    Only a few conversations are in memory at a time. No other object uses *store*, so the export does not fill the
    caches that pages use. One thread iterates over `parts`; other threads read ahead; any thread may read the progress.
    """

    def __init__(self, store: Store, zone: tzinfo) -> None:
        """Read the ids of the conversations. May raise SignedOut or StoreUnavailable."""
        self._store, self._zone, self._began = store, zone, datetime.now(UTC)
        # sorted: files with equal titles are numbered in this order, which is then the same in each export
        self._ids = sorted(store.corpus.conversations())
        self._unreadable: list[str] = []
        self.total, self.done = len(self._ids), 0
        # true until the first part is sent, too, because a browser may never request the file
        self.is_over = True

    def parts(self) -> Iterator[bytes]:
        """Yield the parts of the zip file. May raise an AppError."""
        self.is_over = False
        archive, began = Archive(), self._began
        try:
            spaces, facts = self._store.spaces.all(), self._store.facts.facts()
            counts = {"conversations": 0, "messages": 0, "spaces": len(spaces), "facts": len(facts)}
            yield from archive.add("README.md", [portable.readme(began, self._zone)], began)
            for file, name, documents in (
                ("preferences", "preferences", self._store.profile.preferences()),
                ("spaces", "spaces", spaces),
                ("memories", "facts", facts),
            ):
                text = portable.documents_to_json(name, documents)
                yield from archive.add(f"{file}.json", [text], began)
            read = partial(ledger_after, self._store.usage, (date.min, date.max))
            yield from archive.add("usage.csv", portable.pages_to_csv(LedgerEntry, read), began)
            folders = _Folders(spaces, self._zone)
            for exported, files in self._conversations():
                thread = exported.thread
                path = folders.place(exported)
                for suffix, text in files.items():
                    yield from archive.add(path + suffix, [text], thread.conversation.updated_at)
                counts["conversations"] += 1
                counts["messages"] += len(thread.messages)
            index = portable.index_page(folders.sections(), len(self._unreadable))
            yield from archive.add("index.html", index, began)
            yield from archive.end(counts, self._unreadable, began)
        finally:
            self.is_over = True

    def _conversations(self) -> Iterator[_Written]:
        """Yield each conversation with its files, while threads read the next ones. Omit deleted and unreadable conversations."""
        ahead = deque[Future[_Written | None]]()
        for number in range(self.total + _AHEAD):
            if number < self.total:
                ahead.append(in_thread("export", partial(self._write, self._ids[number])))
            if number >= _AHEAD:
                written = ahead.popleft().result()
                self.done += 1
                if written:
                    yield written

    def _write(self, conversation_id: ConversationId) -> _Written | None:
        """Return a conversation with its files; None if it was deleted or cannot be read."""
        try:
            exported = read_export(self._store, conversation_id)
        except NotFound:
            return None
        except (Tampered, FileDamaged):
            self._unreadable.append(str(conversation_id))
            return None
        finally:
            self._store.conversations.forget(conversation_id)
        return exported, {
            ".json": portable.to_json(exported),
            ".md": portable.to_markdown(exported, self._zone),
        }


@dataclass(frozen=True, slots=True)
class _Folder:
    name: str = field(repr=False)
    path: str = field(repr=False)
    entries: list[IndexEntry] = field(default_factory=list[IndexEntry], repr=False)


class _Folders:
    """The folders of exported conversations, one for each space, with the entries of the index page."""

    def __init__(self, spaces: Sequence[Space], zone: tzinfo) -> None:
        self._zone, self._names = zone, FreeNames()
        self._no_space = _Folder("Chats", "chats/")
        self._folders = {space.id: self._folder(space) for space in spaces}

    def place(self, exported: ConversationExport) -> str:
        """Add a conversation to the index, and return the path of its files, without a suffix."""
        thread, space = exported.thread, exported.space
        if space and space.id not in self._folders:
            self._folders[space.id] = self._folder(space)  # the space was created during the export
        folder = self._folders[space.id] if space else self._no_space
        begun_at = thread.conversation.created_at.astimezone(self._zone)
        title = thread.conversation.title.strip() or "Untitled chat"
        path = self._names.take(folder.path, f"{begun_at.date()} {title}", ".json")
        folder.entries.append(
            IndexEntry(
                path=path,
                title=title,
                begun_at=begun_at,
                messages=len(thread.branch()),
                is_archived=thread.conversation.is_archived,
            )
        )
        return path

    def sections(self) -> Iterator[tuple[str, Sequence[IndexEntry]]]:
        """Yield the name of each space with its conversations; the conversations without a space come first."""
        for folder in (self._no_space, *self._folders.values()):
            if folder.entries:
                yield folder.name, folder.entries

    def _folder(self, space: Space) -> _Folder:
        name = space.name.strip() or "Space"  # "Space" if the name could not be verified
        path = self._names.take("spaces/", name, largest=portable.LARGEST_FOLDER)
        return _Folder(name, f"{path}/")


def ledger_after(
    usage: UserFigures, days: tuple[date, date], last: LedgerEntry | None
) -> list[LedgerEntry]:
    """Return the entries of the ledger that follow *last*, or the first entries if *last* is None."""
    first, until = days
    return usage.ledger(last.day, until, last.id) if last else usage.ledger(first, until)
