"""The rows of one user in a store over tables: reading conversations, and turns with their costs."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from pydantic import TypeAdapter

from services.crypto import sha
from services.domain import ConversationId, Outcome, Purpose, Role, TurnId
from services.domain.revisions import LISTED, OpenPlace, Revisions, list_digest
from services.domain.rows import SealedConversation
from services.domain.turns import Begun, Lease, Pace
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal, part_of
from services.rules.messages import creation_refusal, prompt_refusal
from services.rules.turns import Turn, end_refusal, lapse, prolong, reserve, settle
from services.store.port import UserFigures
from services.store.rows import ConversationRead, CostRow, ReceiptRow, TurnRow
from services.store.tables import schema
from services.store.tables.access import deployment_of, models_of
from services.store.tables.blocks import accepted, atomic, found
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.messages import TablesMessages
from services.store.tables.money import Books
from services.store.tables.protocol import Block, Range
from services.store.tables.schema import Counts, StoredConversation
from services.store.tables.usage import TablesUsage, days_of, sums_of
from services.store.writes import BeginTurn, CheckpointTurn, FinishTurn, SealedPrompt, SealedReply

# maximum lapsed turns that one block settles: each writes two rows, and perhaps the totals of a day
_MOST_LAPSED = 100
_REQUEST = TypeAdapter(BeginTurn)


class TablesRows(TablesMessages):
    """Implements `Rows` for one user over tables, with the user's own ledger. Any thread may call any method."""

    pace = Pace()

    @property
    def usage(self) -> UserFigures:
        return TablesUsage(self.user_id, self.tables)

    # --- reading

    @atomic
    def read_conversation(
        self, block: Block, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead | Refusal:
        row = self._found(block, conversation_id)
        if row is None:
            return NOT_FOUND
        after = self._messages(block, conversation_id, Range("seq", above=after_seq))
        messages = [one for one in after if one.destroy_at is None]
        ids = dict.fromkeys(one.turn_id for one in messages if one.turn_id)
        newest = block.get(schema.TURNS, row.newest_turn_id) if row.newest_turn_id else None
        return ConversationRead(
            conversation=row,
            messages=messages,
            newest_turn=part_of(TurnRow, newest) if newest else None,
            costs=self._costs(block, ids),
            receipts=found(block, schema.RECEIPTS, [*ids][-1:]),
        )

    @atomic
    def poll(self, block: Block, place: OpenPlace) -> Revisions:
        listed = self._recent(block, LISTED, is_archived=place.is_archive, space_id=place.space_id)
        opened = self._found(block, place.conversation_id) if place.conversation_id else None
        if opened and opened.destroy_at:
            opened = None
        preferences = block.get(schema.DOCUMENTS, self.user_id)
        account = block.get(schema.ACCOUNTS, self.user_id)
        return Revisions(
            chat=opened.rev if opened else None,
            choices=opened.choices if opened else None,
            list=list_digest(listed, place.conversation_id),
            running=frozenset(
                turn.conversation_id
                for turn in block.select(schema.TURNS, {"finished_at": None})
                if turn.conversation_id and turn.is_open_reply and turn.lease_until > self.now()
            ),
            preferences=preferences.rev if preferences else 0,
            settings=models_of(block).revision,
            is_admin=account is not None and account.is_admin,
        )

    @atomic
    def costs(
        self, block: Block, conversation_id: ConversationId, turn_ids: Iterable[TurnId]
    ) -> list[CostRow]:
        return self._costs(block, turn_ids)

    def _costs(self, block: Block, ids: Iterable[TurnId]) -> list[CostRow]:
        return [part_of(CostRow, turn) for turn in found(block, schema.TURNS, ids)]

    # --- turns

    def begin_turn(self, write: BeginTurn) -> Begun:
        self._open_minute()
        answer = self.tables.run(lambda block: self._begin(block, write))
        return accepted("begin_turn", answer, write.reservation)

    def _begin(
        self, block: Block, write: BeginTurn, granted: Begun | None = None
    ) -> Begun | Refusal:
        """Begin a turn. *granted*: the turn's id and reservation, if another ledger has already assigned them."""
        wanted, created, now = write.reservation, write.created, self.now()
        request = sha(_REQUEST.dump_json(write, warnings=False).decode())
        for known in block.select(schema.TURNS, {"client_turn_id": wanted.client_turn_id}, limit=1):
            if known.request != request:
                return Refusal(reason="different_request")
            return Begun(known.id, known.reserved_micro, known.reserved_tokens)
        books, counts, row = self._books(block), counts_of(block), self._place_of(block, write)
        if isinstance(row, Refusal):
            return row
        open_turns = self._lapse(block, books)
        refusal = self._prompt_refusal(block, write, row, open_turns)
        if refusal is None and write.prompt and books.budget.is_full(self.most_bytes):
            refusal = ACCOUNT_FULL
        reserved = reserve(books.budget, books.deployment, open_turns, wanted, now, refusal)
        if created and not isinstance(reserved, Refusal):
            reserved = self._creation_refusal(block, created, counts) or reserved
        if isinstance(reserved, Refusal):
            books.put()
            return reserved
        books.budget, micro, tokens = reserved
        books.put()
        begun = granted or Begun(TurnId(uuid4()), micro, tokens)
        turn = part_of(
            Turn,
            wanted,
            begun,
            write.prompt,
            id=begun.turn_id,
            request=request,
            begun_at=now,
            lease_until=now + timedelta(seconds=wanted.lease_seconds),
        )
        block.put(schema.TURNS, turn)
        if row and write.prompt:
            self._put_prompt(block, write.prompt, turn, row, counts, is_new=created is not None)
        return begun

    def _place_of(self, block: Block, write: BeginTurn) -> StoredConversation | Refusal | None:
        """Return the new or existing conversation in which a turn begins; None if the turn has no conversation."""
        if write.created:
            now = self.now()
            return part_of(StoredConversation, write.created, created_at=now, updated_at=now)
        if write.prompt is None:
            return None
        row = self._found(block, write.prompt.conversation_id)
        return NOT_FOUND if row is None or row.destroy_at else row

    def _prompt_refusal(
        self,
        block: Block,
        write: BeginTurn,
        row: StoredConversation | None,
        open_turns: Iterable[Turn],
    ) -> Refusal | None:
        """Return a refusal if the turn may not begin in the conversation *row*; a background call is never refused here."""
        prompt = write.prompt
        if row is None or prompt is None or write.reservation.purpose is not Purpose.REPLY:
            return None
        is_busy = any(one.is_open_reply and one.conversation_id == row.id for one in open_turns)
        return prompt_refusal(
            row,
            rev=prompt.expected_rev,
            start_seq=prompt.new_start_seq,
            is_busy=is_busy,
            asked=self._message(block, row.id, prompt.prompt_id),
            is_new=prompt.prompt_body is not None,
        )

    def _creation_refusal(
        self, block: Block, created: SealedConversation, counts: Counts
    ) -> Refusal | None:
        return creation_refusal(
            counts.conversations,
            is_taken=block.get(schema.CONVERSATIONS, created.id) is not None,
            has_space=self._has_space(block, created.space_id),
        )

    def _put_prompt(
        self,
        block: Block,
        prompt: SealedPrompt,
        turn: Turn,
        row: StoredConversation,
        counts: Counts,
        *,
        is_new: bool,
    ) -> None:
        """Store the prompt and the receipt of *turn*, and its conversation *row*, which may be new (*is_new*)."""
        new, files = row, prompt.prompt_attachments
        if turn.purpose is Purpose.REPLY:
            new = replace(row, start_seq=prompt.new_start_seq, newest_turn_id=turn.id)
        if turn.purpose is Purpose.REPLY and prompt.prompt_body is not None:
            text = {"reply_id": prompt.prompt_id, "reply_body": prompt.prompt_body}
            message, place = part_of(SealedReply, prompt, **text), (prompt.parent_id, Role.USER)
            new = self._append(block, new, message, *place, Outcome.COMPLETE, turn.id, files)
        if prompt.receipt_body:
            block.put(
                schema.RECEIPTS, ReceiptRow(turn.id, turn.client_turn_id, prompt.receipt_body)
            )
        if is_new:
            counts = counts.plus(conversations=1)
        self._put(block, None if is_new else row, new, counts, text_bytes(prompt))

    def _books(self, block: Block) -> Books:
        return Books(block, self.budget(block), self.now())

    def _lapse(self, block: Block, books: Books) -> list[Turn]:
        """Settle turns whose lease has run out, at most `_MOST_LAPSED`; return the turns that are still open."""
        open_turns, lapsed = list[Turn](), 0
        for turn in block.select(schema.TURNS, {"finished_at": None}):
            if turn.is_lapsed(self.now()) and lapsed < _MOST_LAPSED:
                books.book(lapse(books.budget, turn, self.now()))
                lapsed += 1
            else:
                open_turns.append(turn)
        return open_turns

    def sweep(self) -> bool:
        """Settle the turns whose lease has run out, and destroy the deleted rows that can no longer be restored.

        Return True if there were any such turns or rows.
        """
        is_any_lapsed = False
        while self._settle_lapsed():
            is_any_lapsed = True
        return self.destroy_due() or is_any_lapsed

    @atomic
    def _settle_lapsed(self, block: Block) -> bool:
        books = self._books(block)
        before = books.budget
        self._lapse(block, books)
        if is_any := books.budget is not before:
            books.put()
        return is_any

    @atomic
    def count(self, block: Block, counting: int) -> None:
        """Add this user's spending to the totals over all users, as part of the recount with the number *counting*."""
        account = block.get(schema.ACCOUNTS, self.user_id)
        if account and account.deleted_at and block.get(schema.BUDGETS, "budget") is None:
            # add up the daily totals, because the sweep has destroyed this user's budget
            today, row = self.now().date(), deployment_of(block).opened(self.now())
            days = days_of(block, today.replace(day=1), today)
            spent = sums_of(one for day in days for one in day.sums)["cost_micro"]
            if row.counting == counting:  # otherwise, a newer recount adds this spending
                block.put(schema.DEPLOYMENT, replace(row, spent=row.spent + spent))
            return
        books = self._books(block)
        if not books.is_counted:
            books.put()

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        return self.tables.run(lambda block: self._checkpoint(block, write), is_lasting=False)

    def _checkpoint(self, block: Block, write: CheckpointTurn) -> Lease:
        turn = block.get(schema.TURNS, write.turn_id)
        if turn is None or not turn.state.is_open:
            return Lease.LAPSED
        texts = write.new_partial, write.new_thoughts
        block.put(schema.TURNS, prolong(turn, write.lease_seconds, self.now(), *texts))
        return Lease.STOP_REQUESTED if turn.is_stop_requested else Lease.HELD

    def finish_turn(self, write: FinishTurn) -> None:
        self._open_minute()
        accepted("finish_turn", self.tables.run(lambda block: self._finish(block, write)))

    def _finish(self, block: Block, write: FinishTurn) -> Refusal | None:
        settlement, reply = write.settlement, write.reply
        turn = block.get(schema.TURNS, settlement.turn_id)
        if turn is None:
            return NOT_FOUND
        if turn.is_over(settlement):
            return None
        if refusal := end_refusal(turn, settlement):
            return refusal
        books, counts, row = self._books(block), counts_of(block), None
        prompt = self._message(block, turn.conversation_id, turn.prompt_id)
        is_stored = prompt and not prompt.destroy_at and turn.purpose is Purpose.REPLY
        if prompt and is_stored and reply and reply.reply_body is not None:
            row = self._found(block, prompt.conversation_id)
            if row and row.rev != reply.expected_rev:
                return STALE
        reply_id = reply.reply_id if row and reply else None
        books.book(settle(books.budget, turn, settlement, self.now(), reply_id))
        books.put()
        if row and reply:
            outcome, parent_id = settlement.outcome, turn.prompt_id
            new = self._append(block, row, reply, parent_id, Role.ASSISTANT, outcome, turn.id)
            self._put(block, row, new, counts, text_bytes(reply))
        return None

    @atomic
    def stop_turn(self, block: Block, conversation_id: ConversationId, turn_id: TurnId) -> None:
        if (turn := block.get(schema.TURNS, turn_id)) and turn.state.is_open:
            block.put(schema.TURNS, replace(turn, is_stop_requested=True))

    def count_edit(self) -> None:
        self._open_minute()
        self._count_edit()

    @atomic
    def _count_edit(self, block: Block) -> Refusal | None:
        budget = self.budget(block).edited(self.now())
        return budget if isinstance(budget, Refusal) else block.put(schema.BUDGETS, budget)
