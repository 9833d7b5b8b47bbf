"""Edits, deletions and restorations of messages, each of which stores a new head; and bulk reads for search."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from uuid import uuid4

from services.crypto import Vault
from services.domain import (
    ConversationId,
    FactId,
    InstructionsAndSummary,
    Listed,
    Message,
    MessageId,
    Role,
    SearchText,
    Thread,
)
from services.domain.rows import DocumentKind, DocumentRow, MessageRow
from services.errors import NotFound, Stale, Tampered, TooLate
from services.events import log_event
from services.store.rows import Rows
from services.store.sealed.answers import ask_twice
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.reading import ThreadReader
from services.store.sealed.seals import SUMMARY_FORMAT
from services.store.sealed.search_texts import texts_of
from services.store.sealed.texts import ConversationTexts, verified
from services.store.writes import DiscardMessages, EditReply, PutSearchText, RestoreMessages

_TRIES = 5  # maximum attempts at one change; the conversation may change meanwhile
_MESSAGES = 2_000  # the number of messages that one call reads for search
_CONVERSATIONS = 100  # the number of conversations that one call reads for search
_Batch = tuple[list[ConversationId], range]


class SealedMessages:
    """Implements `Messages` for one user, over sealed rows.

    A deletion removes messages from the head immediately, so that readers no longer return them; the sweep destroys their
    rows later. Any other missing row is detected. Any thread may call any method.
    """

    def __init__(
        self,
        rows: Rows,
        opened: OpenedConversations,
        reader: ThreadReader,
        texts: ConversationTexts,
    ) -> None:
        self._rows, self._opened, self._reader, self._texts = rows, opened, reader, texts

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        conversation_id, head = thread.conversation.id, self._reader.head_of(thread)
        seals, reply_id = self._opened.seals(conversation_id), MessageId(uuid4())
        edited = seals.next_message(head, reply_id, reply.parent_id, Role.ASSISTANT, text)
        edit = EditReply(
            conversation_id=conversation_id,
            expected_rev=thread.conversation.rev,
            original_id=reply.id,
            reply_id=reply_id,
            reply_body=edited.body,
            new_head=edited.head,
        )
        ask_twice(lambda: self._rows.edit_reply(edit))

    def discard(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        conversation_id = thread.conversation.id
        head = self._reader.head_of(thread)
        rows = self._rows.messages_by_id({message.id: conversation_id for message in doomed})
        if len(rows) != len(doomed):
            raise Stale
        seals = self._opened.seals(conversation_id)
        head = head.remove(*seals.macs(rows))
        row = self._opened.row(conversation_id)
        is_kept = not drops_summary and self._texts.readable_summary(row) == thread.summary
        deletion = DiscardMessages(
            conversation_id=conversation_id,
            expected_rev=thread.conversation.rev,
            message_ids=tuple(row.id for row in rows),
            fact_ids=tuple(facts),
            kept_summary=row.summary if is_kept else None,
            new_head=seals.head(head),
            for_seconds=seconds,
        )
        try:
            ask_twice(lambda: self._rows.discard_messages(deletion))
        finally:  # even after an error: the change may be stored, with only the response lost
            self._opened.forget(conversation_id)

    def can_restore(self, conversation_id: ConversationId) -> bool:
        return bool(self._rows.discarded_messages(conversation_id))

    def restore(self, conversation_id: ConversationId) -> None:
        asked: set[MessageId] = set()
        for _ in range(_TRIES):
            checked, _ = self._reader.read(conversation_id)
            rows = self._rows.discarded_messages(conversation_id)
            if not rows and asked and asked <= {one.id for one in checked.thread.messages}:
                return  # already restored by another process, or by a call whose response was lost
            if not rows:
                raise TooLate
            asked = {row.id for row in rows}
            seals = self._opened.seals(conversation_id)
            for row in rows:
                seals.open_texts(row)
            restoration = RestoreMessages(
                conversation_id=conversation_id,
                expected_rev=checked.thread.conversation.rev,
                message_ids=tuple(row.id for row in rows),
                new_head=seals.head(checked.next_head().put_back(*seals.macs(rows))),
            )
            try:
                ask_twice(partial(self._rows.restore_messages, restoration))
            except (Stale, NotFound):
                continue
            finally:
                self._opened.forget(conversation_id)
            return
        raise TooLate


class SealedCorpus:
    """Implements `Corpus` for one user, over sealed rows, which are read in bulk for search and not cached.

    Each message is authenticated together with its position. Missing rows, and rows replaced by older versions, are
    detected when their conversation is opened (reading.py), not by this class. Any thread may call any method.
    """

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened = rows, opened

    def conversations(self) -> dict[ConversationId, Listed]:
        return {row.id: row for row in self._rows.positions()}

    def messages(
        self, wanted: Mapping[ConversationId, range]
    ) -> Iterator[Mapping[ConversationId, Sequence[Message]]]:
        for ids, seqs in _batches(wanted):
            yield self._verified(self._rows.messages_between(ids, seqs))

    def some(
        self, asked: Mapping[MessageId, ConversationId]
    ) -> dict[MessageId, tuple[ConversationId, Message]]:
        found = self._verified(self._rows.messages_by_id(asked))
        return {
            message.id: (conversation_id, message)
            for conversation_id, messages in found.items()
            for message in messages
        }

    def instructions_and_summaries(
        self, ids: Iterable[ConversationId]
    ) -> dict[ConversationId, InstructionsAndSummary]:
        found: dict[ConversationId, InstructionsAndSummary] = {}
        for row in self._rows.whole_conversations(ids):
            if row.destroy_at:
                continue
            with suppress(Tampered):
                vault = self._opened.user_seals.of(row).vault
                instructions, summary = (
                    self._text(row.text(kind), vault)
                    for kind in (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)
                )
                found[row.id] = InstructionsAndSummary(
                    instructions=instructions,
                    summary=SUMMARY_FORMAT.read(summary).text if summary else None,
                )
        return found

    def _text(self, row: DocumentRow, vault: Vault) -> str | None:
        """Return the text of *row*; None if there is none or it cannot be decrypted."""
        return verified(lambda: self._opened.user_seals.documents.open(row, vault))[0]

    def search_texts(self, ids: Iterable[ConversationId]) -> dict[ConversationId, list[SearchText]]:
        rows = self._rows.search_texts(ids)
        seals = self._opened.all_seals({row.conversation_id for row in rows})
        found: dict[ConversationId, list[SearchText]] = {}
        for row in sorted(rows, key=lambda row: row.number):
            if one := seals.get(row.conversation_id):
                try:
                    text = one.open_search_text(row)
                except Tampered:
                    log_event("search_text.unverified", conversation=row.conversation_id)
                    continue
                found.setdefault(row.conversation_id, []).append(text)
        return found

    def put_search_texts(
        self,
        listed: Listed,
        seqs: range,
        messages: Sequence[Message],
        replaces: Collection[int] = (),
    ) -> None:
        # the seals are not cached, because those of conversations that are open would have to go
        seals = self._opened.all_seals([listed.id]).get(listed.id)
        if seals is None:
            raise NotFound
        replaced = tuple(replaces)
        for text in texts_of(seqs, messages):
            row = seals.search_text(text)
            write = PutSearchText(row=row, replaced=replaced, cuts=listed.cuts)
            ask_twice(partial(self._rows.put_search_text, write))
            replaced = ()

    def delete_search_texts(self) -> None:
        self._rows.delete_search_texts()

    def _verified(self, rows: Sequence[MessageRow]) -> dict[ConversationId, list[Message]]:
        """Return the messages of *rows* that are authentic and not deleted, keyed by conversation."""
        seals = self._opened.all_seals({row.conversation_id for row in rows})
        found: dict[ConversationId, list[Message]] = {}
        for row in rows:
            if row.conversation_id in seals and not row.destroy_at:
                message = seals[row.conversation_id].open_message(row)
                if message.is_verified:
                    found.setdefault(row.conversation_id, []).append(message)
        return found


def _batches(wanted: Mapping[ConversationId, range]) -> Iterator[_Batch]:
    """Split *wanted* into batches, each read in one call: conversation ids and a range of seqs."""
    ids: list[ConversationId] = []
    seqs, size = range(0), 0
    for conversation_id, whole in sorted(wanted.items(), key=lambda each: each[1].start):
        for start in range(whole.start, whole.stop, _MESSAGES):
            part = range(start, min(whole.stop, start + _MESSAGES))
            if ids and (
                part.start != seqs.start
                or size + len(part) > _MESSAGES
                or len(ids) == _CONVERSATIONS
            ):
                yield ids, seqs
                ids, size = [], 0
            seqs = range(part.start, max(part.stop, seqs.stop)) if ids else part
            ids.append(conversation_id)
            size += len(part)
    if ids:
        yield ids, seqs
