"""The rows of one user over tables: conversations as they are opened, turns and money."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

from services.crypto import sha
from services.domain import ConversationId, Outcome, Purpose, Role, SpaceId, TurnId
from services.domain.revisions import LISTED, OpenPlace, Revisions, list_digest
from services.domain.turns import Begun, Lease
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal, part_of
from services.rules.messages import creation_refusal, prompt_refusal
from services.rules.turns import Turn, end_refusal, lapse, prolong, reserve, settle
from services.store.port import UserFigures
from services.store.refusals import error_of
from services.store.rows import ConversationRead, ConversationRow, CostRow, ReceiptRow, TurnRow
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.messages import TablesMessages
from services.store.tables.money import Books
from services.store.tables.protocol import Block, Range
from services.store.tables.schema import (
    ACCOUNTS,
    BUDGETS,
    CONVERSATIONS,
    DOCUMENTS,
    MODELS,
    RECEIPTS,
    TURNS,
    StoredConversation,
)
from services.store.tables.usage import TablesUsage
from services.store.writes import BeginTurn, CheckpointTurn, FinishTurn, SealedReply


@dataclass(frozen=True, slots=True)
class _Listed:
    """A row as `list_digest` takes it."""

    id: ConversationId
    title_hash: str = field(repr=False)
    pinned_at: datetime | None
    space_id: SpaceId | None
    is_unread: bool

    @classmethod
    def of(cls, row: ConversationRow) -> "_Listed":
        is_unread = row.last_seq > row.read_seq
        return cls(row.id, sha(row.title), row.pinned_at, row.space_id, is_unread)


class TablesRows(TablesMessages):
    """The `Rows` of one user over tables, with a ledger of their own. Any thread may call any method."""

    @property
    def usage(self) -> UserFigures:
        return TablesUsage(self.user_id, self.tables)

    # --- reading

    def read_conversation(
        self, conversation_id: ConversationId, after_seq: int
    ) -> ConversationRead:
        def read(block: Block) -> ConversationRead | Refusal:
            row = self._found(block, conversation_id)
            if row is None:
                return NOT_FOUND
            after = self._messages(block, conversation_id, Range("seq", above=after_seq))
            messages = [one for one in after if one.destroy_at is None]
            ids = dict.fromkeys(one.turn_id for one in messages if one.turn_id)
            receipts = [block.get(RECEIPTS, turn_id) for turn_id in ids]
            return ConversationRead(
                conversation=row,
                messages=messages,
                newest_turn=self._newest_turn(block, conversation_id),
                costs=self._costs(block, ids),
                receipts=[one for one in receipts if one],
            )

        return self._run("read_conversation", read)

    def poll(self, place: OpenPlace) -> Revisions:
        def read(block: Block) -> Revisions:
            found = self._recent(
                block, LISTED, is_archived=place.is_archive, space_id=place.space_id
            )
            opened = place.conversation_id and block.get(CONVERSATIONS, place.conversation_id)
            preferences = block.get(DOCUMENTS, self.user_id)
            account, models = block.get(ACCOUNTS, self.user_id), block.get(MODELS, "models")
            return Revisions(
                chat=opened.rev if opened and opened.destroy_at is None else None,
                list=list_digest(map(_Listed.of, found), place.conversation_id),
                running=frozenset(
                    turn.conversation_id
                    for turn in block.select(TURNS, {"finished_at": None})
                    if turn.conversation_id and turn.is_open_reply and turn.lease_until > self.now()
                ),
                preferences=preferences.rev if preferences else 0,
                settings=models.revision if models else "",
                is_admin=account is not None and account.is_admin,
            )

        return self.tables.run(read)

    def _newest_turn(self, block: Block, conversation_id: ConversationId) -> TurnRow | None:
        where = {"conversation_id": conversation_id, "purpose": Purpose.REPLY}
        for turn in block.select(TURNS, where, order=("-begun_at",), limit=1):
            return part_of(TurnRow, turn)
        return None

    def costs(self, conversation_id: ConversationId, turn_ids: Iterable[TurnId]) -> list[CostRow]:
        ids = list(turn_ids)
        return self.tables.run(lambda block: self._costs(block, ids))

    def _costs(self, block: Block, ids: Iterable[TurnId]) -> list[CostRow]:
        turns = [block.get(TURNS, turn_id) for turn_id in ids]
        return [part_of(CostRow, turn) for turn in turns if turn]

    # --- turns

    def begin_turn(self, write: BeginTurn) -> Begun:
        self._open_minute()
        answer = self.tables.run(lambda block: self._begin(block, write))
        if isinstance(answer, Refusal):
            raise error_of("begin_turn", answer, write.reservation)
        return answer

    def _begin(
        self, block: Block, write: BeginTurn, granted: Begun | None = None
    ) -> Begun | Refusal:
        """Begin a turn; *granted*: the answer of another ledger, which gave the turn its id."""
        wanted, prompt, created, now = write.reservation, write.prompt, write.created, self.now()
        request = sha(str(asdict(write)))
        for known in block.select(TURNS, {"client_turn_id": wanted.client_turn_id}, limit=1):
            if known.request != request:
                return Refusal(reason="different_request")
            return Begun(known.id, known.reserved_micro, known.reserved_tokens)
        books, counts = self._books(block), counts_of(block)
        row = None
        if created:
            row = StoredConversation(**asdict(created), created_at=now, updated_at=now)
        elif prompt:
            row = self._found(block, prompt.conversation_id)
            if row is None or row.destroy_at:
                return NOT_FOUND
        open_turns, refusal = self._lapse(block, books), None
        is_reply = wanted.purpose is Purpose.REPLY
        if row and prompt and is_reply:
            refusal = prompt_refusal(
                row,
                rev=prompt.expected_rev,
                start_seq=prompt.new_start_seq,
                is_busy=any(
                    turn.is_open_reply and turn.conversation_id == row.id for turn in open_turns
                ),
                asked=self._message(block, row.id, prompt.prompt_id),
                is_new=prompt.prompt_body is not None,
            )
        if refusal is None and prompt and books.budget.is_full(self.most_bytes):
            refusal = ACCOUNT_FULL
        reserved = reserve(books.budget, books.deployment, open_turns, wanted, now, refusal)
        if created and not isinstance(reserved, Refusal):
            is_taken = block.get(CONVERSATIONS, created.id) is not None
            has_space = self._has_space(block, created.space_id)
            refusal = creation_refusal(counts.conversations, is_taken=is_taken, has_space=has_space)
            reserved = refusal or reserved
            counts = replace(counts, conversations=counts.conversations + 1)
        if isinstance(reserved, Refusal):
            books.put()
            return reserved
        books.budget, micro, tokens = reserved
        books.put()
        begun = granted or Begun(TurnId(uuid4()), micro, tokens)
        turn = Turn(
            id=begun.turn_id,
            client_turn_id=wanted.client_turn_id,
            request=request,
            conversation_id=prompt and prompt.conversation_id,
            purpose=wanted.purpose,
            model=wanted.model,
            prompt_id=prompt and prompt.prompt_id,
            reserved_micro=begun.reserved_micro,
            reserved_tokens=begun.reserved_tokens,
            begun_at=now,
            lease_until=now + timedelta(seconds=wanted.lease_seconds),
        )
        block.put(TURNS, turn)
        if row is None or prompt is None:
            return begun
        new, added = row, text_bytes(prompt.receipt_body)
        if is_reply:
            new = replace(row, start_seq=prompt.new_start_seq)
            if prompt.prompt_body is not None:
                message = SealedReply(
                    expected_rev=row.rev,
                    reply_id=prompt.prompt_id,
                    reply_body=prompt.prompt_body,
                    new_head=prompt.new_head,
                )
                parent_id, outcome = prompt.parent_id, Outcome.COMPLETE
                files = prompt.prompt_attachments
                new = self._append(
                    block, new, message, parent_id, Role.USER, outcome, turn.id, files
                )
                added += text_bytes(prompt.prompt_body, files)
        if prompt.receipt_body:
            receipt = ReceiptRow(turn.id, wanted.client_turn_id, prompt.receipt_body)
            block.put(RECEIPTS, receipt)
        before = replace(row, title="", instructions=None) if created else row
        self._put(block, before, new, counts, added)
        return begun

    def _books(self, block: Block) -> Books:
        return Books(block, self.budget(block), self.now())

    def _lapse(self, block: Block, books: Books) -> list[Turn]:
        """Book the turns whose lease ran out; return those that are open still."""
        open_turns = list[Turn]()
        for turn in block.select(TURNS, {"finished_at": None}):
            if turn.is_lapsed(self.now()):
                books.book(lapse(books.budget, turn, self.now()))
            else:
                open_turns.append(turn)
        return open_turns

    def sweep(self) -> None:
        """Settle the turns whose lease ran out, and destroy what is due."""

        def settle_lapsed(block: Block) -> None:
            books = self._books(block)
            before = books.budget
            self._lapse(block, books)
            if books.budget is not before:
                books.put()

        self.tables.run(settle_lapsed)
        self.destroy_due()

    def count(self) -> None:
        """Add the figures of this user to those of all users, which are being counted."""

        def count_once(block: Block) -> None:
            books = self._books(block)
            if not books.is_counted:
                books.put()

        self.tables.run(count_once)

    def checkpoint_turn(self, write: CheckpointTurn) -> Lease:
        def prolong_lease(block: Block) -> Lease:
            turn = block.get(TURNS, write.turn_id)
            if turn is None or not turn.state.is_open:
                return Lease.LAPSED
            texts = write.new_partial, write.new_thoughts
            block.put(TURNS, prolong(turn, write.lease_seconds, self.now(), *texts))
            return Lease.STOP_REQUESTED if turn.is_stop_requested else Lease.HELD

        return self.tables.run(prolong_lease)

    def finish_turn(self, write: FinishTurn) -> None:
        self._open_minute()
        self._run("finish_turn", lambda block: self._finish(block, write))

    def _finish(self, block: Block, write: FinishTurn) -> Refusal | None:
        settlement, reply = write.settlement, write.reply
        turn = block.get(TURNS, settlement.turn_id)
        if turn is None:
            return NOT_FOUND
        if turn.state.is_final:
            return None
        if refusal := end_refusal(turn, settlement.outcome):
            return refusal
        books, counts, row = self._books(block), counts_of(block), None
        prompt = self._message(block, turn.conversation_id, turn.prompt_id)
        is_stored = prompt and not prompt.destroy_at and turn.purpose is Purpose.REPLY
        if prompt and is_stored and reply and reply.reply_body:
            row = self._found(block, prompt.conversation_id)
            if row and row.rev != reply.expected_rev:
                return STALE
        reply_id = reply.reply_id if row and reply else None
        books.book(settle(books.budget, turn, settlement, self.now(), reply_id))
        books.put()
        if row and reply:
            outcome, parent_id = settlement.outcome, turn.prompt_id
            new = self._append(block, row, reply, parent_id, Role.ASSISTANT, outcome, turn.id)
            added = text_bytes(reply.reply_body, reply.reply_thoughts)
            self._put(block, row, new, counts, added)
        return None

    def stop_turn(self, conversation_id: ConversationId, turn_id: TurnId) -> None:
        def stop(block: Block) -> None:
            if (turn := block.get(TURNS, turn_id)) and turn.state.is_open:
                block.put(TURNS, replace(turn, is_stop_requested=True))

        self.tables.run(stop)

    def count_edit(self) -> None:
        def count_one(block: Block) -> Refusal | None:
            budget = self.budget(block).edited(self.now())
            return budget if isinstance(budget, Refusal) else block.put(BUDGETS, budget)

        self._open_minute()
        self._run("edit_reply", count_one)
