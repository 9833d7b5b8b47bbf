"""Facts that a person agreed to keep, sealed: under a conversation's key where they are its own, else under the person's."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.crypto import Place
from services.domain import ConversationId, Fact, FactId, SpaceId
from services.errors import NotFound, Tampered
from services.events import log_event
from services.store.documents import DocumentRow, Documents, Format
from services.store.supabase.api import Hidden, Moment, Table
from services.store.supabase.sessions import AppSession
from services.store.texts import one_line
from services.store.threads import Threads

LONGEST_FACT = 500  # characters


class _Row(DocumentRow, frozen=True):
    id: FactId
    conversation_id: ConversationId | None
    space_id: SpaceId | None
    created_at: Moment


_TABLE = Table("memories", _Row)
_FORMAT = Format(Fact, in_clear=("id", "conversation_id", "space_id"))


class Memories(Documents[_Row, Fact]):
    """One person's facts, of every scope."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        super().__init__(session, _TABLE)
        self._threads = threads
        threads.on_forget.append(self._forget_conversation)

    def facts(self) -> tuple[Fact, ...]:
        """As `all`, the oldest first, without those that do not open."""
        return self.all()

    def fresh_facts(self) -> tuple[Fact, ...]:
        """As `facts`, as they are stored now. Raise StoreUnavailable, SignedOut."""
        self._known.read()
        return self.all()

    def keep(self, fact: Fact, *, replaces: Fact | None = None, cuts: int | None = None) -> None:
        """Store *fact*, in the place of what was seen; one that was noted, if its conversation still has these *cuts*.

        Raise BadInput, ChangedElsewhere, NotFound (its conversation or space is gone, or messages were deleted there).
        """
        fact = replace(fact, text=checked_fact(fact.text))
        replaced = self._sealed(replaces)
        if fact.conversation_id:
            vault = self._threads.vault(fact.conversation_id)
        else:
            vault = self._session.newest_key.vault("memories")
        self._call(
            "keep_memory",
            memory=fact.id,
            conversation=fact.conversation_id,
            space=fact.space_id,
            new_body=Hidden(vault.seal(_FORMAT.write(fact), self._place(fact))),
            body_key_version=vault.version,
            replaces=replaced,
            source=None if cuts is None else fact.source_conversation_id,
            cuts=cuts,
        )

    def forget(self, fact_id: FactId) -> None:
        """Destroy one; it may be gone already."""
        with suppress(NotFound):
            self._call("forget_memory", memory=fact_id)
        self._drop(lambda fact: fact.id == fact_id)

    def forget_all(self) -> None:
        """Destroy every fact of every scope."""
        self._call("forget_memories")
        self._drop(lambda _: True)

    def _forget_conversation(self, conversation_id: ConversationId) -> None:
        self._known.outdate()
        self._drop(lambda fact: fact.conversation_id == conversation_id)

    def _opened(self, rows: Sequence[_Row]) -> Iterator[Fact]:
        found = self._threads.rows({row.conversation_id for row in rows if row.conversation_id})
        for row in rows:
            conversation = found.get(row.conversation_id) if row.conversation_id else None
            if row.conversation_id and (conversation is None or conversation.destroy_at):
                continue  # it is being destroyed
            try:
                if conversation:
                    vault = self._threads.vault(conversation.id, conversation)
                    text = vault.open(row.body, self._place(row))
                else:
                    text = self._session.open_own("memories", row.body, self._place(row))
                yield _FORMAT.read(text, **row.model_dump(exclude={"body", "created_at"}))
            except (Tampered, NotFound):
                log_event("fact.unverified", fact=row.id)

    def _order(self, row: _Row, value: Fact) -> tuple[datetime, datetime, UUID]:
        return value.since, row.created_at, row.id

    def _place(self, fact: Fact | _Row) -> Place:
        return Place(
            table="memories",
            column="body",
            row_id=fact.id,
            user_id=self._session.user_id,
            conversation_id=fact.conversation_id,
            parent_id=fact.space_id,
        )


def checked_fact(text: str) -> str:
    """*text* on one line, as it is stored. Raise BadInput."""
    return one_line(text, LONGEST_FACT, "some text")
