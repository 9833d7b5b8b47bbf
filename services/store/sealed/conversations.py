"""The `Conversations` port, implemented over sealed rows."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Unpack

from services.caches import CachedRead
from services.domain import (
    Conversation,
    ConversationId,
    MemoryPolicy,
    RunningSummary,
    SpaceId,
    Thread,
)
from services.domain.data import CachedData
from services.domain.limits import checked_instructions, checked_title
from services.domain.revisions import LISTED, OpenPlace, Revisions
from services.domain.rows import ConversationState, DocumentKind
from services.errors import Stale, StoreUnavailable, Tampered
from services.store.rows import ConversationChanges, Rows
from services.store.sealed.answers import ask_twice
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.reading import ThreadReader
from services.store.sealed.texts import ConversationTexts, check_seen

_LISTED = 100  # above this limit, `recent` filters the cached list of all conversations
# seconds for which the cached list of all conversations is used, for example while the user types a search
_LIST_SECONDS = 10.0
_TRIES = 5  # maximum attempts at one change; other tabs may change the conversation meanwhile


class SealedConversations:
    """Implements `Conversations` for one user, over sealed rows. Any thread may call any method."""

    def __init__(
        self,
        rows: Rows,
        opened: OpenedConversations,
        reader: ThreadReader,
        texts: ConversationTexts,
    ) -> None:
        self._rows, self._opened, self.user_id = rows, opened, rows.user_id
        self._reader, self._texts = reader, texts
        self._all = CachedRead(self._read_all, _LIST_SECONDS)
        # the first page of the list: read in advance, and read again each time it is shown
        self._first = CachedRead(
            lambda: rows.recent_conversations(LISTED, is_archived=False, space_id=None), seconds=0.0
        )
        # the last lists that were read, keyed by `is_archived` and space; shown while the database is down
        self._recent: dict[tuple[bool, SpaceId | None], list[Conversation]] = {}
        opened.on_forget.append(self._drop_from_lists)
        opened.on_create.append(self._outdate)

    def recent(
        self, limit: int = 30, *, is_archived: bool = False, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        place = is_archived, space_id
        try:
            if limit > _LISTED:
                found = [
                    one
                    for one in self._all.get()
                    if one.is_archived is is_archived and space_id in (None, one.space_id)
                ]
            else:
                is_first = (limit, is_archived, space_id) == (LISTED, False, None)
                rows = (
                    self._first.get()
                    if is_first
                    else self._rows.recent_conversations(
                        limit, is_archived=is_archived, space_id=space_id
                    )
                )
                found = [self._opened.conversation(row) for row in rows]
            self._recent[place] = found
        except StoreUnavailable:
            if place not in self._recent:
                raise
            found = self._recent[place]
        return found[:limit]

    def read_ahead(self) -> None:
        self._first.read_ahead()

    def poll(self, place: OpenPlace) -> Revisions:
        return self._rows.poll(place)

    def titled(
        self, words: str, limit: int = 30, *, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        wanted = words.casefold().split()
        found = [
            conversation
            for conversation in self._all.get()
            if space_id in (None, conversation.space_id)
            and all(word in conversation.title.casefold() for word in wanted)
        ]
        return found[:limit]

    def some(self, ids: Iterable[ConversationId]) -> list[Conversation]:
        rows = self._rows.conversations(ids)
        return [self._opened.conversation(row) for row in rows if not row.destroy_at]

    def thread(self, conversation_id: ConversationId) -> Thread:
        return self._reader.read(conversation_id)[0].thread

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        checked = self._opened.checked(conversation_id)
        return checked.thread if checked else None

    def cached_data(self) -> CachedData:
        return self._opened.cached_data()

    def rename(self, conversation_id: ConversationId, title: str) -> None:
        self._set_title(conversation_id, checked_title(title), "person")

    def give_title(self, conversation_id: ConversationId, title: str) -> bool:
        return self._set_title(conversation_id, title, "model")

    def pin(self, conversation_id: ConversationId, *, is_pinned: bool = True) -> None:
        self._change(conversation_id, pinned=is_pinned)

    def archive(self, conversation_id: ConversationId, *, is_archived: bool = True) -> None:
        if is_archived:
            self._change(conversation_id, state=ConversationState.ARCHIVED, pinned=False)
        else:
            self._change(conversation_id, state=ConversationState.ACTIVE)

    def mark_read(self, thread: Thread) -> None:
        if thread.messages:
            self._change(thread.conversation.id, read_seq=thread.conversation.last_seq)

    def mark_facts_noted(self, conversation_id: ConversationId, seq: int) -> None:
        self._change(conversation_id, facts_seq=seq)
        self._amend(conversation_id, lambda now: replace(now, facts_seq=max(now.facts_seq, seq)))

    def forget(self, conversation_id: ConversationId) -> None:
        self._opened.forget(conversation_id)

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        self._outdate()
        self._rows.discard_conversation(conversation_id, seconds)
        self._opened.forget(conversation_id)

    def restore(self, conversation_id: ConversationId) -> None:
        self._outdate()
        ask_twice(lambda: self._rows.restore_conversation(conversation_id))
        self._opened.forget(conversation_id)

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        self._change(conversation_id, policy=policy.name, policy_size=policy.messages)
        self._amend(
            conversation_id, lambda now: replace(now, policy=policy, start_seq=now.reset_seq)
        )

    def set_model(self, conversation_id: ConversationId, model: str | None) -> None:
        self._change(conversation_id, model=model)
        self._amend(conversation_id, lambda now: replace(now, model=model))

    def move(self, conversation_id: ConversationId, space_id: SpaceId | None) -> None:
        self._change(conversation_id, space_id=space_id)
        self._amend(conversation_id, lambda now: replace(now, space_id=space_id))

    def start_anew(self, thread: Thread) -> None:
        self._reset(thread, thread.messages[-1].seq if thread.messages else 0)

    def take_back_reset(self, thread: Thread) -> None:
        self._reset(thread, 0)

    def instructions(self, conversation_id: ConversationId) -> str | None:
        return self._texts.instructions(self._opened.row(conversation_id))

    def set_instructions(
        self, conversation_id: ConversationId, text: str, seen: str | None = None
    ) -> None:
        checked = checked_instructions(text)
        for attempt in range(_TRIES):
            row = self._opened.row(conversation_id)
            with suppress(Tampered):  # instructions that cannot be decrypted are not compared
                check_seen(seen, self._texts.instructions(row), checked)
            try:
                self._texts.put_text(row, DocumentKind.INSTRUCTIONS, checked)
                break
            except Stale:  # another tab stored its text after the row was read
                if attempt == _TRIES - 1:
                    raise
        self._opened.amend(
            conversation_id,
            lambda now: replace(now, instructions=checked, are_instructions_verified=True),
        )

    def set_summary(self, thread: Thread, summary: RunningSummary | None) -> None:
        conversation_id = thread.conversation.id
        row = self._opened.row(conversation_id)
        if self._texts.readable_summary(row) != thread.summary:
            raise Stale
        self._texts.put_summary(row, summary, thread.conversation.cuts)
        self._opened.amend(
            conversation_id, lambda now: replace(now, summary=summary, is_summary_verified=True)
        )

    def _outdate(self) -> None:
        """Mark the cached lists as outdated, because a conversation was changed."""
        self._all.outdate()
        self._first.outdate()

    def _drop_from_lists(self, conversation_id: ConversationId) -> None:
        self._outdate()
        self._all.amend(lambda every: [one for one in every if one.id != conversation_id])
        self._first.amend(lambda rows: [row for row in rows if row.id != conversation_id])
        for place, listed in list(self._recent.items()):
            self._recent[place] = [one for one in listed if one.id != conversation_id]

    def _read_all(self) -> list[Conversation]:
        found = [self._opened.conversation(row) for row in self._rows.all_conversations()]
        return sorted(found, key=_sort_key, reverse=True)

    def _set_title(self, conversation_id: ConversationId, title: str, titled_by: str) -> bool:
        sealed = self._opened.seals(conversation_id).title(title)
        return self._change(conversation_id, title=sealed, titled_by=titled_by)

    def _reset(self, thread: Thread, seq: int) -> None:
        conversation_id = thread.conversation.id
        self._change(conversation_id, reset_seq=seq)
        self._amend(conversation_id, lambda now: replace(now, reset_seq=seq, start_seq=seq))

    def _change(
        self, conversation_id: ConversationId, **changes: Unpack[ConversationChanges]
    ) -> bool:
        try:
            return self._rows.change_conversation(conversation_id, changes)
        finally:
            self._outdate()  # another thread may have cached a list that lacks the change

    def _amend(
        self, conversation_id: ConversationId, change: Callable[[Conversation], Conversation]
    ) -> None:
        self._opened.amend(
            conversation_id, lambda now: replace(now, conversation=change(now.conversation))
        )


def _sort_key(conversation: Conversation) -> tuple[bool, float, datetime]:
    pinned_at = conversation.pinned_at.timestamp() if conversation.pinned_at else 0
    return not conversation.is_archived, pinned_at, conversation.updated_at
