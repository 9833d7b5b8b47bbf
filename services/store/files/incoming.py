"""The import of chats from JSON files that users put into the folder of a store without encryption.

A file in `FOLDER/<user id>/in/` is a JSON list of objects with a role (user or assistant) and a content. When the app
starts, it stores the file as a conversation without turns and costs, and moves the file to `in/done/`. A file that it
cannot read stays in `in/`.
"""

import os
from codecs import BOM_UTF8
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from time import time
from typing import Literal
from uuid import UUID, uuid5

from pydantic import TypeAdapter, ValidationError

from services.crypto import LARGEST_TEXT, Head
from services.crypto.plain import NO_VAULT
from services.domain import ConversationId, MessageId, Outcome, Role, UserId
from services.domain.json_texts import read_json
from services.domain.limits import LONGEST_TITLE
from services.domain.policies import MemoryPolicy
from services.domain.rows import MessageRow
from services.store.tables import schema
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.protocol import MOST_WRITES, AllTables, Block
from services.store.tables.schema import StoredConversation

_LARGEST_FILE = 10_000_000  # bytes
# the namespace of imported chats' ids (UUID version 5)
_NAMESPACE = UUID("1f3b6c52-0f5e-4f0b-9a55-5f6d0a6d8f31")
_SLICE = MOST_WRITES - 2
_NAMES = "*.[jJ][sS][oO][nN]"
_USER = "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))
_FILES = f"{_USER}/in/{_NAMES}"


@dataclass(frozen=True, slots=True)
class _Said:
    """A message in a file; other fields of its JSON object are ignored."""

    role: Literal["user", "assistant"]
    content: str = field(repr=False)


_CHATS = TypeAdapter(list[_Said])


def take_up(tables: AllTables, folder: Path, policy: MemoryPolicy) -> None:
    """Import the chats in all users' folders `in`, with the memory policy *policy*. Raise StoreUnavailable, OSError.

    A file that cannot be moved afterwards is read again at the next start, but makes no second chat: a chat's id depends
    only on the content of its file.
    """
    for file in sorted(folder.glob(_FILES)):
        user_id = UserId(UUID(file.parents[1].name))
        content = _content(file)
        if said := _read(content):
            # `min`, because the file's time may be in the future, even beyond the range of `datetime`
            at = datetime.fromtimestamp(min(file.stat().st_mtime, time()), UTC)
            conversation_id = ConversationId(uuid5(_NAMESPACE, sha256(content).hexdigest()))
            _store(tables, user_id, conversation_id, said, at, policy)
            done = file.parent / "done"
            with suppress(OSError):
                done.mkdir(mode=0o700, exist_ok=True)
                target = done / file.name
                if os.path.lexists(target) and _content(target) != content:  # keep the earlier file
                    target = done / f"{file.stem} {conversation_id}{file.suffix}"
                file.replace(target)


def unread_files(folder: Path, user_id: UserId) -> list[str]:
    """Return the names of the files in a user's folder `in` that have not been imported."""
    return sorted(file.name for file in (folder / str(user_id) / "in").glob(_NAMES))


def _content(file: Path) -> bytes:
    """Return the bytes of *file*; b"" if it is too large, cannot be read, or is not a regular file (a pipe may never end)."""
    with suppress(OSError), open(file, "rb", opener=_open) as opened:
        if S_ISREG(os.fstat(opened.fileno()).st_mode):
            content = opened.read(_LARGEST_FILE + 1)
            return content if len(content) <= _LARGEST_FILE else b""
    return b""


def _open(path: str, flags: int) -> int:
    """Open *path*; do not wait for the other end of a pipe, and do not follow a symbolic link."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _read(content: bytes) -> list[_Said]:
    """Return the messages in the bytes of a file; [] if they are not a list of messages, or a message is too long."""
    try:
        # Windows tools may begin a file with a byte order mark
        said = read_json(_CHATS, content.removeprefix(BOM_UTF8))
    except ValidationError:
        return []
    is_fit = all(len(one.content.encode()) <= LARGEST_TEXT for one in said)
    return said if is_fit else []


def _store(
    tables: AllTables,
    user_id: UserId,
    conversation_id: ConversationId,
    said: list[_Said],
    at: datetime,
    policy: MemoryPolicy,
) -> None:
    """Store a conversation; its row is written last, so that readers never see a part of the conversation."""
    rows = _rows(conversation_id, said, at)
    last = len(rows)
    row = StoredConversation(
        id=conversation_id,
        title=" ".join(said[0].content.split())[:LONGEST_TITLE],
        wrapped_key="",
        key_version=1,
        user_key_version=1,
        head=NO_VAULT.seal_head(Head(last, last, last), user_id, conversation_id),
        policy=policy.name,
        policy_size=policy.messages,
        model=None,
        space_id=None,
        rev=last,
        last_seq=last,
        read_seq=last,
        created_at=at,
        updated_at=datetime.now(UTC),  # retention counts from the import
        bytes=text_bytes(*rows),
    )

    def put(block: Block, slice_: list[MessageRow]) -> bool:
        known, counts = block.get(schema.CONVERSATIONS, conversation_id), counts_of(block)
        if known:
            return False
        for one in slice_:
            block.put(schema.MESSAGES, one)
        if slice_ and slice_[-1].seq == last:
            block.put(schema.CONVERSATIONS, row)
            added = counts.plus(conversations=1, bytes=text_bytes(row)).with_content(row.bytes)
            block.put(schema.COUNTS, added)
        return True

    for first in range(0, last, _SLICE):
        some = rows[first : first + _SLICE]
        if not tables.of(user_id).run(lambda block, some=some: put(block, some)):
            return


def _rows(conversation_id: ConversationId, said: list[_Said], at: datetime) -> list[MessageRow]:
    """Return the rows of a conversation's messages, each with *at* as its time."""
    ids = [MessageId(uuid5(conversation_id, str(seq))) for seq in range(1, len(said) + 1)]
    return [
        MessageRow(
            id=ids[index],
            conversation_id=conversation_id,
            seq=index + 1,
            parent_id=ids[index - 1] if index else None,
            turn_id=None,
            role=Role(one.role),
            outcome=Outcome.COMPLETE,
            body=one.content,
            has_thoughts=False,
            created_at=at,
            destroy_at=None,
        )
        for index, one in enumerate(said)
    ]
