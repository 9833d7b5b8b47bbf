"""Conversations and documents in memory."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from services.domain import ConversationId, MessageId
from services.errors import NotFound, SpaceGone, Stale
from services.store.in_memory.tables import InMemoryReads
from services.store.rows import (
    ConversationChanges,
    ConversationRow,
    ConversationState,
    DocumentKind,
    DocumentRow,
    SealedConversation,
)


class InMemoryConversations(InMemoryReads):
    """The conversations and documents of one user, as they are written and destroyed."""

    def create_conversation(self, new: SealedConversation) -> None:
        now = self._now()
        with self._lock:
            self._check_creation(new)
            row = ConversationRow(
                id=new.id,
                title=new.title,
                titled_by="words",
                wrapped_key=new.wrapped_key,
                key_version=1,
                user_key_version=new.user_key_version,
                head=new.head,
                rev=0,
                policy=new.policy,
                policy_size=new.policy_size,
                reset_seq=0,
                start_seq=0,
                last_seq=0,
                read_seq=0,
                state=ConversationState.ACTIVE,
                pinned_at=None,
                destroy_at=None,
                undo_until=None,
                created_at=now,
                updated_at=now,
                model=new.model,
                space_id=new.space_id,
                instructions=new.instructions,
            )
            self._tables.conversations.setdefault(new.id, row)

    def change_conversation(
        self, conversation_id: ConversationId, changes: ConversationChanges
    ) -> bool:
        with self._lock:
            row = self.conversation(conversation_id)
            if changes.get("titled_by") == "model" and row.titled_by != "words":
                return False
            space_id = changes.get("space_id", row.space_id)
            if not self._has_space(space_id):
                raise SpaceGone
            pinned_at = row.pinned_at
            if "pinned" in changes:
                pinned_at = (pinned_at or self._now()) if changes["pinned"] else None
            reset_seq = changes.get("reset_seq", row.reset_seq)
            moves_start = "policy" in changes or "reset_seq" in changes
            self._tables.conversations[conversation_id] = replace(
                row,
                title=changes.get("title", row.title),
                titled_by=changes.get("titled_by", row.titled_by),
                pinned_at=pinned_at,
                state=changes.get("state", row.state),
                policy=changes.get("policy", row.policy),
                policy_size=changes.get("policy_size", row.policy_size),
                reset_seq=reset_seq,
                start_seq=reset_seq if moves_start else row.start_seq,
                model=changes.get("model", row.model),
                space_id=space_id,
                read_seq=max(row.read_seq, min(changes.get("read_seq", 0), row.last_seq)),
            )
            return True

    def discard_conversation(self, conversation_id: ConversationId, seconds: int) -> None:
        due = self.conversation(conversation_id).destroy_at
        due = due or self._now() + timedelta(seconds=seconds)
        self._update(conversation_id, destroy_at=due)
        self._destroy_in(seconds)

    def restore_conversation(self, conversation_id: ConversationId) -> None:
        destroy_at = self.conversation(conversation_id).destroy_at
        if destroy_at is None or destroy_at <= self._now():
            raise NotFound
        self._update(conversation_id, destroy_at=None)

    def delete_conversation(self, conversation_id: ConversationId) -> None:
        with self._lock:
            self.conversation(conversation_id)
            self._destroy([row.id for row in self._all_messages(conversation_id)])
            for turn in self._tables.turns.values():
                if turn.conversation_id == conversation_id:
                    self._tables.receipts.pop(turn.id, None)
                    turn.conversation_id = turn.partial = turn.thoughts = None
            for key, row in list(self._tables.documents.items()):
                if row.conversation_id == conversation_id:
                    del self._tables.documents[key]
            del self._tables.conversations[conversation_id]

    def put_document(
        self,
        document: DocumentRow,
        *,
        seen_rev: int,
        source: ConversationId | None = None,
        cuts: int | None = None,
    ) -> None:
        with self._lock:
            row = document.conversation_id and self.conversation(document.conversation_id)
            of_source = source and self.conversation(source)
            is_cut = of_source and of_source.rev - of_source.last_seq != cuts
            if is_cut or not self._has_space(document.space_id):
                raise NotFound
            is_text = document.kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
            if row and is_text:
                now = row.text(document.kind)
            else:
                now = self._tables.documents.get((document.kind, document.id))
            if now and (now.rev, now.body) == (document.rev, document.body):
                return
            if (now.rev if now else 0) != seen_rev:
                raise Stale
            if row and is_text:
                if document.kind is DocumentKind.SUMMARY and row.rev - row.last_seq != cuts:
                    raise Stale
                columns = {document.kind: document.body, f"{document.kind}_rev": document.rev}
                self._update(row.id, **columns)
                return
            scope = document.conversation_id, document.space_id
            if now and scope != (now.conversation_id, now.space_id):
                raise Stale
            created_at = now.created_at if now else self._now()
            document = replace(document, created_at=created_at)
            self._tables.documents[document.kind, document.id] = document

    def delete_document(self, document_id: UUID) -> None:
        with self._lock:
            documents = self._tables.documents
            deleted = [
                (kind, its)
                for (kind, its), row in documents.items()
                if document_id in (its, row.space_id) and kind is not DocumentKind.PREFERENCES
            ]
            if not deleted:
                raise NotFound
            for key in deleted:
                del documents[key]
            for its, row in self._tables.conversations.items():
                if row.space_id == document_id:
                    self._tables.conversations[its] = replace(row, space_id=None)

    def delete_facts(self) -> None:
        with self._lock:
            for key in [key for key in self._tables.documents if key[0] is DocumentKind.FACT]:
                del self._tables.documents[key]

    def destroy_due(self) -> None:
        """Destroy deleted messages and discarded conversations whose time is over."""
        now = self._now()
        with self._lock:
            due = [
                one
                for one in self._tables.messages.values()
                if one.destroy_at and one.destroy_at <= now
            ]
            self._destroy([one.id for one in due])
            for row in list(self._tables.conversations.values()):
                if row.destroy_at and row.destroy_at <= now:
                    self.delete_conversation(row.id)

    def _destroy_in(self, seconds: int) -> None:
        timer = threading.Timer(seconds, self.destroy_due)
        timer.daemon = True
        timer.start()

    def _check_creation(self, new: SealedConversation) -> None:
        if self._is_closed:
            raise NotFound
        if not self._has_space(new.space_id):
            raise SpaceGone

    def _destroy(self, ids: Iterable[MessageId]) -> None:
        for its in ids:
            self._tables.messages.pop(its, None)
            self._tables.thoughts.pop(its, None)
            for turn in self._tables.turns.values():
                if turn.prompt_id == its:
                    self._tables.receipts.pop(turn.id, None)
