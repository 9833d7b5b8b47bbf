"""Stores over tables whose queries of one table at a time do not name the user: keys alone still protect each user's data."""

import pickle
from contextlib import closing, suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest

from services.domain import UserId
from services.domain.rows import DocumentKind
from services.errors import AppError
from services.store.files import FilesPlace
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sqlite import SqlitePlace
from services.store.tables import schema
from services.store.tables.in_memory import InMemoryStore, selected
from services.store.tables.protocol import Selection
from services.store.tables.rows import TablesRows
from services.users.full_export import read_export
from tests.firestore import stores_at
from tests.store.conformance.bytes_store import BytesStore
from tests.store.conformance.talk import (
    Thoughts,
    ending,
    new_turn,
    write_everywhere,
)
from tests.stores import made_in

CANARY = "kumquat-7781"
STORES = {
    "in-memory": lambda fixture: InMemoryStore(),
    "bytes": lambda fixture: BytesStore(),
    "sqlite": lambda fixture: made_in(fixture("files_place"), SqlitePlace)(),
    "json": lambda fixture: made_in(fixture("files_place"), FilesPlace)(),
    "firestore": lambda fixture: stores_at(fixture("firestore"))(),
}
# the reads of stored data; *its*: the chat of a thread with these messages
READS = {
    "recent": lambda user, its, messages: user.conversations.recent(),
    "titled": lambda user, its, messages: user.conversations.titled(CANARY),
    "some": lambda user, its, messages: user.conversations.some([its]),
    "thread": lambda user, its, messages: user.conversations.thread(its),
    "instructions": lambda user, its, messages: user.conversations.instructions(its),
    "turn": lambda user, its, messages: user.turns.read(its),
    "receipts": lambda user, its, messages: user.turns.receipts(messages, its),
    "thoughts": lambda user, its, messages: user.turns.thoughts(messages, its),
    "attachment": lambda user, its, messages: list(
        user.attachments.read(its, messages[1], messages[1].attachments[0])
    ),
    "facts": lambda user, its, messages: user.facts.facts(),
    "spaces": lambda user, its, messages: user.spaces.all(),
    "preferences": lambda user, its, messages: user.profile.preferences(),
    "corpus": lambda user, its, messages: list(user.corpus.messages({its: range(1, 9)})),
    "found messages": lambda user, its, messages: user.corpus.some(
        dict.fromkeys((one.id for one in messages), its)
    ),
    "search texts": lambda user, its, messages: user.corpus.search_texts([its]),
    "export": lambda user, its, messages: read_export(user, its),
}
# the stored rows that those reads return, whose texts a faulty check of a place would open
ROWS = {
    "conversations": lambda rows, its, messages: rows.all_conversations(),
    "messages": lambda rows, its, messages: rows.messages_by_id(
        dict.fromkeys((one.id for one in messages), its)
    ),
    "thoughts": lambda rows, its, messages: rows.thoughts(its, [one.id for one in messages]),
    "pieces": lambda rows, its, messages: rows.pieces(
        its, messages[1].id, messages[1].attachments[0].id, range(1, 2)
    ),
    "search_texts": lambda rows, its, messages: rows.search_texts([its]),
    "turns": lambda rows, its, messages: rows.costs(its, [one.turn_id for one in messages]),
    "receipts": lambda rows, its, messages: rows.receipts(its, [one.turn_id for one in messages]),
    "documents": lambda rows, its, messages: rows.documents(DocumentKind.FACT),
}


@dataclass
class Scene:
    """A store with a canary in each text of Maya's, and the keys to it."""

    tables: object
    maya: UserId
    keys: object
    its: object
    messages: list
    theirs: dict  # Maya's rows by key, by the name of their table

    def answers(self, rows, keys):
        """Return the answer of each read to the user of *rows*: pickled, or b"" for a refusal."""
        answers, store = dict.fromkeys(READS, b""), sealed_store(rows, keys)
        for name, read in READS.items():
            with suppress(AppError):
                answers[name] = pickle.dumps(_plain(read(store, self.its, self.messages)))
        return answers


def _plain(answer):
    return dict(answer) if hasattr(answer, "keys") else answer


class Unfiltered:
    """The tables of Omar, in which reads of some tables find the rows of all users."""

    def __init__(self, scene, tables, unfiltered):
        self._scene, self._tables, self._names = scene, tables, unfiltered
        self.found = set()  # tables of which a row of Maya's was read

    def run(self, work, *, is_lasting=True):
        return self._tables.run(lambda block: work(_Block(self, block)), is_lasting=is_lasting)

    def theirs(self, table):
        return self._scene.theirs[table.name] if table.name in self._names else {}


class _Block:
    def __init__(self, tables, block):
        self._tables, self._block = tables, block

    def __getattr__(self, name):
        return getattr(self._block, name)

    def get(self, table, key):
        return next(iter(self.get_all(table, [key])), None)

    def get_all(self, table, keys):
        keys = list(keys)
        theirs = [row for key, row in self._tables.theirs(table).items() if key in map(str, keys)]
        self._note(table, theirs)
        return [*self._block.get_all(table, keys), *theirs]

    def select(self, table, where=None, within=None, order=(), limit=None):
        theirs = self._tables.theirs(table)
        if not theirs:
            return self._block.select(table, where or {}, within, order, limit)
        own = {table.key(row): row for row in self._block.select(table)}
        every = [*own.values(), *theirs.values()]
        rows = selected(every, Selection(table, where or {}, within, order, limit))
        self._note(table, [row for row in rows if table.key(row) not in own])
        return rows

    def _note(self, table, theirs):
        if theirs:
            self._tables.found.add(table.name)


@pytest.fixture(scope="module", params=STORES)
def scene(request):
    tables = STORES[request.param](request.getfixturevalue)
    with closing(tables):
        user_id = UserId(uuid4())
        keys = throwaway_keys(user_id)
        maya = sealed_store(TablesRows(user_id, tables.of(user_id)), keys)
        turn, begun = write_everywhere(maya, CANARY)
        thoughts = Thoughts(text=f"{CANARY} thoughts")
        maya.turns.finish(ending(turn, begun, f"{CANARY} reply", thoughts=thoughts))
        thread = maya.conversations.thread(turn.thread.conversation.id)
        open_turn = new_turn(thread, f"{CANARY} more")
        begun = maya.turns.begin(open_turn)
        maya.turns.checkpoint(
            begun.turn_id, thread.conversation.id, f"{CANARY} partial", 3600, thoughts
        )
        thread = maya.conversations.thread(thread.conversation.id)

        def read(block):
            every = (one for one in schema.TABLES.values() if not one.is_shared)
            return {
                one.name: {str(one.key(row)): row for row in block.select(one)} for one in every
            }

        theirs = tables.of(user_id).run(read)
        yield Scene(tables, user_id, keys, thread.conversation.id, thread.messages, theirs)


def test_the_owner_reads_the_canary_in_each_way(scene):
    answers = scene.answers(TablesRows(scene.maya, scene.tables.of(scene.maya)), scene.keys)

    assert [name for name, answer in answers.items() if CANARY.encode() not in answer] == []


@pytest.mark.parametrize("unfiltered", [*ROWS, "all"])
def test_rows_of_another_user_open_with_no_other_key(scene, unfiltered):
    names = ROWS.keys() if unfiltered == "all" else {unfiltered}
    omar = UserId(uuid4())
    tables = Unfiltered(scene, scene.tables.of(omar), names)
    rows = TablesRows(omar, tables)

    answers = scene.answers(rows, throwaway_keys(omar))
    answers |= {name: pickle.dumps(ROWS[name](rows, scene.its, scene.messages)) for name in names}

    assert [name for name, answer in answers.items() if CANARY.encode() in answer] == []
    assert tables.found >= names
