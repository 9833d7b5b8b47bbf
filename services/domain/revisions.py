"""Revisions of the data that an open tab shows. A newer revision means that another tab or process changed the data."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

from services.domain import ConversationId, SpaceId

# the number of conversations at the top of a list that its digest covers: a page shows 30 and reads one more
LISTED = 31
_SQL = {True: "t", False: "f"}  # booleans as Postgres writes them


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlace:
    """The data that a tab shows: one conversation and one list of conversations."""

    conversation_id: ConversationId | None = None
    space_id: SpaceId | None = None  # the space whose conversations are listed; None: all
    is_archive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The newest revisions of the data that a tab shows."""

    chat: int | None  # the revision of the open conversation; None: no conversation is open
    choices: str | None = field(repr=False)  # `ConversationRow.choices` of the open conversation
    list: str = field(repr=False)  # a digest of the listed conversations (`list_digest`)
    running: frozenset[ConversationId]  # the conversations in which a reply streams
    preferences: int
    settings: str = field(repr=False)  # the revision of the `ModelSettings`
    is_admin: bool


class ListedRow(Protocol):
    """The fields of a listed conversation from which `list_digest` is computed."""

    @property
    def id(self) -> ConversationId: ...
    @property
    def title_hash(self) -> str: ...
    @property
    def pinned_at(self) -> datetime | None: ...
    @property
    def space_id(self) -> SpaceId | None: ...
    @property
    def is_unread(self) -> bool: ...


def list_digest(listed: Iterable[ListedRow], opened: ConversationId | None) -> str:
    """Return a digest of the first conversations in a list. The SQL function `private.poll` computes the same digest.

    *opened* is the conversation on the page, which counts as read.
    """
    lines: list[str] = []
    for one in islice(listed, LISTED):
        pinned, unread = one.pinned_at is not None, one.is_unread and one.id != opened
        space = [str(one.space_id)] if one.space_id else []
        lines.append(" ".join([str(one.id), one.title_hash, _SQL[pinned], *space, _SQL[unread]]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
