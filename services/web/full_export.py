"""The export of everything that one user keeps, read while it is sent (docs/format.md)."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, date, datetime, tzinfo
from functools import partial

from services import portable
from services.domain import ConversationId, Thread
from services.domain.usage import LedgerEntry, UserFigures
from services.errors import AppError, NotFound, Tampered
from services.events import log_event
from services.portable import Archive, ConversationExport
from services.store.port import Store
from services.threads import in_thread

_AHEAD = 3  # conversations that are read and written while one is sent
_Written = tuple[Thread, Mapping[str, str]]  # and the texts of its files, by their names


def read_export(store: Store, conversation_id: ConversationId) -> ConversationExport:
    """A conversation with all that is stored of its turns. Raise NotFound, Tampered, SignedOut, StoreUnavailable."""
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
    """All that *store* keeps, as the bytes of a zip file; times for readers are in *zone*.

    It holds a few conversations at a time. *store* is its own, so that the pages' caches stay as they are.
    """

    def __init__(self, store: Store, zone: tzinfo) -> None:
        """Begin to read. Raise SignedOut, StoreUnavailable."""
        self._store, self._zone, self._began = store, zone, datetime.now(UTC)
        self._ids = list(store.corpus.conversations())
        self._unreadable: list[str] = []
        self.total, self.done = len(self._ids), 0
        self.is_over = True  # until it is sent: a browser may never ask for the first part

    def parts(self) -> Iterator[bytes]:
        """Yield the file. After an AppError raise ConnectionAbortedError: what was sent by then is no whole file."""
        self.is_over = False
        archive = Archive()
        try:
            spaces, facts = self._store.spaces.all(), self._store.facts.facts()
            counts = {"conversations": 0, "messages": 0, "spaces": len(spaces), "facts": len(facts)}
            for name, documents in (
                ("preferences", self._store.profile.preferences()),
                ("spaces", spaces),
                ("facts", facts),
            ):
                text = portable.documents_to_json(name, documents)
                yield from archive.add(f"{name}.json", [text], self._began)
            read = partial(ledger_after, self._store.usage, (date.min, date.max))
            usage = portable.pages_to_csv(LedgerEntry, read)
            yield from archive.add("usage.csv", usage, self._began)
            for thread, files in self._conversations():
                for name, text in files.items():
                    yield from archive.add(name, [text], thread.conversation.updated_at)
                counts["conversations"] += 1
                counts["messages"] += len(thread.messages)
            yield from archive.end(counts, self._unreadable, self._began)
        except AppError as error:
            log_event("export.cut", reason=type(error))
            raise ConnectionAbortedError from None  # the server logs it with all that it was raised from
        finally:
            self.is_over = True

    def _conversations(self) -> Iterator[_Written]:
        """Each conversation with its files, some read ahead, without those that were deleted meanwhile."""
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
        """A conversation with its files; None if it is gone or cannot be read."""
        try:
            exported = read_export(self._store, conversation_id)
        except NotFound:
            return None
        except Tampered:
            self._unreadable.append(str(conversation_id))
            return None
        finally:
            self._store.conversations.forget(conversation_id)
        title = exported.thread.conversation.title
        texts = {
            ".json": portable.to_json(exported),
            ".md": portable.to_markdown(exported, self._zone),
        }
        files = {
            f"chats/{portable.file_name(title, f' {conversation_id}{suffix}')}": text
            for suffix, text in texts.items()
        }
        return exported.thread, files


def ledger_after(
    usage: UserFigures, days: tuple[date, date], last: LedgerEntry | None
) -> list[LedgerEntry]:
    """The next entries of the ledger after the *last* one; None: the first."""
    first, until = days
    return usage.ledger(last.day, until, last.id) if last else usage.ledger(first, until)
