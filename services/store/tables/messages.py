"""Messages in a store over tables: appending them, and editing, deleting and restoring them, which needs no turn."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from services.domain import ConversationId, MessageId, Outcome, Role, TurnId
from services.domain.rows import DocumentKind, MessageRow
from services.domain.turns import TurnState
from services.rules import ACCOUNT_FULL, NOT_FOUND, Refusal, part_of
from services.rules import messages as rules
from services.rules.turns import Turn
from services.store.rows import ThoughtsRow
from services.store.tables import schema
from services.store.tables.blocks import accepted, delete_all
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.pieces import SLICE
from services.store.tables.protocol import Block
from services.store.tables.schema import Discard, Erasure, StoredConversation
from services.store.tables.sweep import TablesSweep
from services.store.writes import DiscardMessages, EditReply, RestoreMessages, SealedReply

_FACTS_AT_ONCE = 300  # maximum facts that one block deletes; the sweep destroys the others


class TablesMessages(TablesSweep):
    """The messages of one user."""

    def edit_reply(self, write: EditReply) -> None:
        self._open_minute()
        accepted("edit_reply", self.tables.run(lambda block: self._edit(block, write)))

    def _edit(self, block: Block, write: EditReply) -> Refusal | None:
        row, counts = self._found(block, write.conversation_id), counts_of(block)
        if row is None or row.destroy_at:
            return NOT_FOUND
        if self._message(block, row.id, write.reply_id):
            return None
        original = self._message(block, row.id, write.original_id)
        refusal = rules.edit_refusal(
            row, rev=write.expected_rev, is_busy=self._is_busy(block, row.id), original=original
        )
        if refusal or original is None:
            return refusal or NOT_FOUND
        budget = self.budget(block)
        if budget.is_full(self.most_bytes):
            return ACCOUNT_FULL
        edited = budget.edited(self.now())
        if isinstance(edited, Refusal):
            return edited
        block.put(schema.BUDGETS, edited)
        reply = part_of(SealedReply, write, reply_thoughts=None)
        role, outcome = Role.ASSISTANT, Outcome.EDITED
        new = self._append(block, row, reply, original.parent_id, role, outcome)
        return self._put(block, row, new, counts, text_bytes(write))

    def discard_messages(self, write: DiscardMessages) -> None:
        self._until_done("discard_messages", lambda block: self._discard(block, write))

    def restore_messages(self, write: RestoreMessages) -> None:
        self._until_done("restore_messages", lambda block: self._restore(block, write))

    def _until_done(self, verb: str, work: Callable[[Block], bool | Refusal]) -> None:
        """Run *work* until it returns True: before that, it destroyed a slice of the search texts that have to go."""
        while not accepted(verb, self.tables.run(work)):
            pass

    def _discard(self, block: Block, write: DiscardMessages) -> bool | Refusal:
        doomed, counts = frozenset(write.message_ids), counts_of(block)
        row = self._found(block, write.conversation_id)
        if row is None or row.destroy_at:
            return NOT_FOUND
        messages = self._messages(block, row.id)
        stored = [one for one in messages if one.id in doomed]
        if len(stored) == len(doomed) and all(one.destroy_at for one in stored):
            return True
        turns = self._turns_with_text(block, row.id)
        answered = next((turn.prompt_id for turn in turns if turn.is_open_reply), None)
        refusal = rules.discard_refusal(
            row, doomed, stored, messages, rev=write.expected_rev, answered=answered
        )
        if refusal:
            return refusal
        ids = frozenset(write.fact_ids)
        every = self._documents(block, DocumentKind.FACT) if ids else []
        facts = [one for one in every if one.id in ids]
        texts = self._search_texts_with(block, row.id, {message.seq for message in stored})
        if len(texts) > SLICE:
            self._destroy_content(block, counts, schema.SEARCH_TEXTS, texts[:SLICE])
            return False
        earlier, now = block.select(schema.DISCARDS, {"conversation_id": row.id}), self.now()
        due = now + timedelta(seconds=write.for_seconds)
        discard = Discard(
            id=uuid4(),
            conversation_id=row.id,
            message_ids=tuple(one.id for one in stored),
            destroy_at=due,
        )
        block.put(schema.DISCARDS, discard)
        for one in earlier:
            # one Undo restores all deleted messages of the conversation, so the time of earlier deletions is renewed
            if rules.can_restore(one.destroy_at, now) and one.destroy_at < due:
                block.put(schema.DISCARDS, replace(one, destroy_at=due))
        for turn in turns:
            if turn.prompt_id in doomed:
                block.put(schema.TURNS, replace(turn, partial=None, partial_thoughts=None))
        at_once, later = facts[:_FACTS_AT_ONCE], facts[_FACTS_AT_ONCE:]
        delete_all(block, schema.DOCUMENTS, at_once)
        delete_all(block, schema.SEARCH_TEXTS, texts)
        if later:
            erasure = Erasure(id=uuid4(), fact_ids=tuple(fact.id for fact in later))
            block.put(schema.ERASURES, erasure)
        counts = counts.plus(facts=-len(facts), bytes=-text_bytes(*at_once))
        block.put(schema.COUNTS, counts)
        new = rules.discarded(row, write.new_head, write.kept_summary, due)
        self._put(block, row, new, counts, -text_bytes(*texts))
        return True

    def _restore(self, block: Block, write: RestoreMessages) -> bool | Refusal:
        row, counts = self._found(block, write.conversation_id), counts_of(block)
        if row is None or row.destroy_at:
            return NOT_FOUND
        now, messages = self.now(), self._messages(block, row.id)
        restorable = [one.id for one in messages if rules.can_restore(one.destroy_at, now)]
        discards = block.select(schema.DISCARDS, {"conversation_id": row.id})
        if refusal := rules.restore_refusal(row, write.expected_rev, write.message_ids, restorable):
            return refusal
        # texts that were made meanwhile lack the messages
        seqs = {message.seq for message in messages if message.id in write.message_ids}
        texts = self._search_texts_with(block, row.id, seqs)
        if len(texts) > SLICE:
            self._destroy_content(block, counts, schema.SEARCH_TEXTS, texts[:SLICE])
            return False
        for discard in discards:
            if rules.can_restore(discard.destroy_at, now):
                block.delete(schema.DISCARDS, discard.id)
        delete_all(block, schema.SEARCH_TEXTS, texts)
        new = rules.restored(row, write.new_head)
        self._put(block, row, new, counts, -text_bytes(*texts))
        return True

    def _turns_with_text(self, block: Block, conversation_id: ConversationId) -> list[Turn]:
        """Return the conversation's open and lapsed turns, which may have a partial reply."""
        return [
            turn
            for state in (TurnState.RESERVED, TurnState.STREAMING, TurnState.LAPSED)
            for turn in block.select(
                schema.TURNS, {"conversation_id": conversation_id, "state": state}
            )
        ]

    def _is_busy(self, block: Block, conversation_id: ConversationId) -> bool:
        return any(turn.is_open_reply for turn in self._turns_with_text(block, conversation_id))

    def _append(
        self,
        block: Block,
        row: StoredConversation,
        message: SealedReply,
        parent_id: MessageId | None,
        role: Role,
        outcome: Outcome,
        turn_id: TurnId | None = None,
        attachments: str | None = None,
    ) -> StoredConversation:
        """Store *message* as the last message of the conversation *row*; return the changed conversation."""
        is_users = role is Role.USER or outcome is Outcome.EDITED
        head, now = message.new_head or row.head, self.now()
        new = rules.appended(row, head, is_users=is_users, now=now)
        stored = MessageRow(
            id=message.reply_id,
            conversation_id=row.id,
            seq=new.last_seq,
            parent_id=parent_id,
            turn_id=turn_id,
            role=role,
            outcome=outcome,
            body=message.reply_body or "",
            attachments=attachments,
            has_thoughts=message.reply_thoughts is not None,
            created_at=now,
            destroy_at=None,
        )
        block.put(schema.MESSAGES, stored)
        if message.reply_thoughts is not None:
            block.put(schema.THOUGHTS, ThoughtsRow(message.reply_id, message.reply_thoughts))
        return new
