"""An index of one user's messages in SQLite's FTS5, in memory alone (https://sqlite.org/fts5.html).

A row's id is the time of its message in microseconds, made unique, so the newest hits come first without a sort. What a user
types never reaches FTS5's query language: a query consists of strings that this module quotes.
"""

import json
import re
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.domain import ConversationId, MessageId, Role
from services.memory.terms import stem
from services.search.snippets import Wanted
from services.search.words import Part, Query, indexed, words_of

# characters by which another form of a word may be longer or shorter: words that only begin alike have a common stem, too
_LONGER = 3
_DIGIT = re.compile(r"\d")
_MERGED_PAGES = 200  # of the index, in one step of `purge`: a few milliseconds
_SCHEMA = """
    pragma temp_store = memory;
    pragma secure_delete = on;
    create virtual table texts using fts5(
        folded, original unindexed, tokenize = 'ascii', prefix = '1 2 3'
    );
    insert into texts (texts, rank) values ('automerge', 16); -- merges less often, so the index is filled faster
    create virtual table vocabulary using fts5vocab(texts, row);
    create table places (
        id integer primary key, message blob not null unique, chat blob not null, is_reply integer not null
    );
    create index places_of_chat on places (chat);
"""

# the messages that a query finds, and their places; `texts` is the outer loop, so the newest need no sort
_HITS = """
    from texts join places on places.id = texts.rowid
    where texts match :query and texts.rowid >= :since and texts.rowid < :until
    and is_reply in (:least, :most) and (:chats is null or hex(chat) in (select value from json_each(:chats)))
"""
_NEWEST = f"select id, message, chat, is_reply {_HITS} order by texts.rowid desc limit :limit"
_BEST = f"""
    select id, message, chat, is_reply from (
        select id, message, chat, is_reply, bm25(texts) as score {_HITS} order by texts.rowid desc limit 5000
    ) order by score, id desc limit :limit offset :skip
"""  # noqa: S608 (of constants alone)
_COUNT = f"select count(*) {_HITS}"
_COUNT_ALL = "select count(*) from texts where texts match :query"
_PLACE = "insert or ignore into places values (?, ?, ?, ?)"
_BODY = "select coalesce(original, folded) from texts where rowid = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A message to be found."""

    message_id: MessageId
    conversation_id: ConversationId
    role: Role
    created_at: datetime
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message that was found."""

    message_id: MessageId
    conversation_id: ConversationId
    role: Role
    position: int  # in the order of time; `search` continues below it
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages a search may find."""

    conversations: Collection[ConversationId] | None = None  # None: those of all conversations
    role: Role | None = None
    since: datetime | None = None
    until: datetime | None = None  # messages of this time are not found


_EVERYTHING = Filter()


class MessageIndex:
    """The messages of one user. Any thread may call any method; a call waits for another."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(
            ":memory:", check_same_thread=False, isolation_level=None
        )
        self._connection.executescript(_SCHEMA)
        self._words = set[str]()  # the words in the index
        self._forms = defaultdict[str, set[str]](set)  # these words, by their stem
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "MessageIndex()"

    @property
    def size(self) -> int:
        """The size in bytes."""
        with self._lock:
            ((pages,),) = self._connection.execute("pragma page_count")
            ((page,),) = self._connection.execute("pragma page_size")
        return pages * page

    def add(self, entries: Iterable[Entry]) -> None:
        """Add the messages that are not in the index yet."""
        with self._lock, self._transaction():
            for entry in entries:
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        message, chat = entry.message_id.bytes, entry.conversation_id.bytes
        execute, is_reply = self._connection.execute, entry.role is Role.ASSISTANT
        at = _microseconds(entry.created_at)
        while not execute(_PLACE, (at, message, chat, is_reply)).rowcount:
            if execute("select 1 from places where message = ?", (message,)).fetchone():
                return
            at += 1
        folded = indexed(entry.body)
        # a text that the tokenizer folds by itself is stored once
        texts = (entry.body, None) if entry.body.isascii() else (folded, entry.body)
        execute("insert into texts (rowid, folded, original) values (?, ?, ?)", (at, *texts))
        for word in {*words_of(folded)} - self._words:
            self._note(word)

    def remove_conversation(self, conversation_id: ConversationId) -> None:
        """Remove the messages of a conversation. Their words leave memory with the next `purge`."""
        with self._lock, self._transaction():
            chat = (conversation_id.bytes,)
            self._connection.execute(
                "delete from texts where rowid in (select id from places where chat = ?)", chat
            )
            self._connection.execute("delete from places where chat = ?", chat)

    def _note(self, word: str) -> None:
        self._words.add(word)
        self._forms[stem(word)].add(word)

    def purge(self) -> Iterator[None]:
        """Remove the words of removed messages from memory, in steps of a few milliseconds; the last one is longer.

        FTS5 marks a deleted row, and leaves out its words when it merges its segments.
        """
        command, changes = "insert into texts (texts, rank) values ('merge', ?)", 2
        pages = -_MERGED_PAGES  # negative: begin to merge all segments into one
        while changes >= 2:  # fewer: nothing was left to merge
            with self._lock:
                before = self._connection.total_changes
                self._connection.execute(command, (pages,))
                changes = self._connection.total_changes - before
            pages = _MERGED_PAGES
            yield
        with self._lock:
            self._words.clear()
            self._forms.clear()
            for (word,) in self._connection.execute("select term from vocabulary"):
                self._note(word)

    def count(self, query: Query, where: Filter = _EVERYTHING) -> int:
        """Return the number of messages that *query* finds."""
        if query.is_empty:
            return 0
        asked = _COUNT_ALL if where == _EVERYTHING else _COUNT
        with self._lock:
            return self._connection.execute(asked, self._values(query, where)).fetchone()[0]

    def newest(
        self, query: Query, most: int, where: Filter = _EVERYTHING, below: int | None = None
    ) -> tuple[Found, ...]:
        """Return the newest messages that *query* finds; *below*: only those before this position."""
        return self._search(_NEWEST, query, most, where, below)

    def best(
        self, query: Query, most: int, where: Filter = _EVERYTHING, skip: int = 0
    ) -> tuple[Found, ...]:
        """Return the best of the newest 5,000 messages that *query* finds, ranked by BM25, without the first *skip*."""
        return self._search(_BEST, query, most, where, skip=skip)

    def _search(
        self,
        asked: str,
        query: Query,
        most: int,
        where: Filter,
        below: int | None = None,
        skip: int = 0,
    ) -> tuple[Found, ...]:
        if query.is_empty:
            return ()
        with self._lock:
            values = self._values(query, where, below)
            values |= {"limit": most, "skip": skip}
            rows = self._connection.execute(asked, values).fetchall()
            bodies = [self._connection.execute(_BODY, row[:1]).fetchone()[0] for row in rows]
        return tuple(
            Found(
                message_id=MessageId(UUID(bytes=message)),
                conversation_id=ConversationId(UUID(bytes=chat)),
                role=Role.ASSISTANT if is_reply else Role.USER,
                position=row,
                body=body,
            )
            for (row, message, chat, is_reply), body in zip(rows, bodies, strict=True)
        )

    def _values(
        self, query: Query, where: Filter, below: int | None = None
    ) -> dict[str, str | int | None]:
        """Return the parameters of a search. Callers hold the lock."""
        ends = [_microseconds(where.until)] if where.until else []
        ends += [] if below is None else [below]
        chats = where.conversations
        return {
            "query": self._expression(query),
            "since": _microseconds(where.since) if where.since else 0,
            "until": min(ends, default=1 << 62),
            "least": where.role is Role.ASSISTANT,
            "most": where.role is not Role.USER,
            "chats": None if chats is None else json.dumps([chat.hex.upper() for chat in chats]),
        }

    def wanted(self, query: Query) -> Wanted:
        """Return what *query* finds, with the other forms of its words, to mark it in a text."""
        with self._lock:
            return Wanted(tuple((self._forms_of(part), part.is_begun) for part in query.wanted))

    def _forms_of(self, part: Part) -> tuple[frozenset[str], ...]:
        """Return the forms of each word of *part* in the index, the word itself among them."""
        if part.is_exact:
            return tuple(frozenset({word}) for word in part.words)
        return tuple(frozenset(self._forms_of_word(word)) for word in part.words)

    def _forms_of_word(self, word: str) -> set[str]:
        """Return *word* and the words in the index with its stem that are of nearly the same length, unless it has a digit."""
        near = range(len(word) - _LONGER, len(word) + _LONGER + 1)
        others = () if _DIGIT.search(word) else self._forms.get(stem(word), ())
        return {
            word,
            *(other for other in others if len(other) in near and not _DIGIT.search(other)),
        }

    def _expression(self, query: Query) -> str:
        """Return *query* in FTS5's language; each string in it is quoted."""
        wanted = " AND ".join(map(self._part, query.wanted))
        excluded = " OR ".join(map(self._part, query.excluded))
        return f"({wanted}) NOT ({excluded})" if excluded else wanted

    def _part(self, part: Part) -> str:
        phrases = [" ".join(part.words)]
        if not part.is_exact:
            phrases += sorted(self._forms_of_word(part.words[0]) - {*part.words})
        first, *others = [f'"{phrase}"' for phrase in phrases]
        return f"({' OR '.join([first + '*' * part.is_begun, *others])})"

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._connection.execute("begin")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)
