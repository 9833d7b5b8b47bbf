"""A conversation that nobody keeps: in this process's memory until it is over. Only what it costs is written."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID, uuid4

from services.domain import (
    Conversation,
    ConversationId,
    FactId,
    MemoryPolicy,
    Message,
    MessageId,
    NewConversation,
    Outcome,
    Purpose,
    Role,
    RunningSummary,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    UserId,
)
from services.errors import Busy, NotFound, Stale, TooLate
from services.store.profile import check_seen, checked_instructions
from services.store.turns import Begun, Ending, Lease, NewTurn, OpenTurn

TITLE = "Temporary chat"  # of all of them: what was said in one names none


class Books(Protocol):
    """Where the turns of one person are reserved and settled that leave nothing else."""

    @property
    def user_id(self) -> UserId: ...
    def keep_fresh(self, seconds: int) -> None: ...
    def begin(self, turn: NewTurn) -> Begun: ...
    def prolong(self, turn_id: TurnId, lease_seconds: int) -> Lease: ...
    def settle(self, ending: Ending) -> None: ...


class TemporaryConversation:
    """One conversation of one person, and no other; its text is nowhere but here."""

    def __init__(self, books: Books, conversation_id: ConversationId | None = None) -> None:
        self.id = conversation_id or ConversationId(uuid4())
        self.is_over = False
        self._books = books
        self._thread: Thread | None = None
        self._open: dict[TurnId, NewTurn] = {}
        self._held_until = 0.0  # by a reply: no other begins
        self._costs: dict[TurnId, TurnCost] = {}
        self._receipts: dict[TurnId, str] = {}
        self._thoughts: dict[MessageId, Thoughts] = {}
        self._discarded: dict[UUID, tuple[Message, ...]] = {}  # by deletion
        self._change = threading.RLock()

    @property
    def user_id(self) -> UserId:
        return self._books.user_id

    def keep_fresh(self, seconds: int) -> None:
        """See that the person's token outlives the next *seconds*."""
        self._books.keep_fresh(seconds)

    def end(self) -> None:
        """Forget all that was said. A turn that is coming is still settled."""
        with self._change:
            self.is_over = True
            self._thread = None
            self._receipts.clear()
            self._thoughts.clear()
            self._discarded.clear()
            self._open = {turn_id: _without_words(turn) for turn_id, turn in self._open.items()}

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        """The conversation, if it is this one and something was said."""
        return self._thread if conversation_id == self.id else None

    def thread(self, conversation_id: ConversationId) -> Thread:
        """The conversation. Raise NotFound: it is over, another, or not begun."""
        thread = self.cached(conversation_id)
        if thread is None:
            raise NotFound
        return thread

    def create(
        self, title: str, policy: MemoryPolicy, new: NewConversation | None = None
    ) -> Thread:
        """Return the conversation, empty; *title* would say what it is about.

        Raise NotFound (it is over), Stale (it was begun already: nothing takes its place).
        """
        now = datetime.now(UTC)
        with self._change:
            if self.is_over:
                raise NotFound
            if self._thread:
                raise Stale
            self._thread = Thread.empty(self.id, TITLE, policy, new, made_at=now, is_titled=True)
            return self._thread

    def unmake(self, conversation_id: ConversationId) -> None:
        """Nothing was said in it after all."""
        with self._change:
            if conversation_id == self.id:
                self._thread = None

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        """Forget it at once: nothing could bring it back."""
        self.unmake(conversation_id)

    def give_title(self, conversation_id: ConversationId, title: str) -> bool:
        """It keeps the title that all of them have."""
        return False

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        """Choose another memory policy; the model's view begins where the context was started."""
        self._amend(
            conversation_id, lambda now: replace(now, policy=policy, start_seq=now.reset_seq)
        )

    def set_model(self, conversation_id: ConversationId, model: str | None) -> None:
        """Choose the model that answers; None: the person's."""
        self._amend(conversation_id, lambda now: replace(now, model=model))

    def instructions(self, conversation_id: ConversationId) -> str | None:
        """Return the conversation's own, if it has some. Raise NotFound."""
        return self.thread(conversation_id).instructions

    def set_instructions(
        self, conversation_id: ConversationId, text: str, seen: str | None = None
    ) -> None:
        """Give it instructions of its own in the place of those that were *seen*; empty ones: the person's.

        Raise BadInput, ChangedElsewhere, NotFound.
        """
        checked = checked_instructions(text)
        with self._change:
            thread = self.thread(conversation_id)
            check_seen(seen, thread.instructions, checked)
            self._thread = replace(thread, instructions=checked)

    def start_anew(self, thread: Thread) -> None:
        """Let the model's view begin after what was said so far. The history stays."""
        last_seq = thread.messages[-1].seq if thread.messages else 0
        self._reset(thread, last_seq)

    def take_back_reset(self, thread: Thread) -> None:
        """Undo `start_anew`: the model may see everything again."""
        self._reset(thread, 0)

    def set_summary(self, thread: Thread, summary: RunningSummary | None) -> None:
        """Put *summary* in the place of the one of *thread*. Raise Stale, NotFound."""
        with self._change:
            now = self.thread(thread.conversation.id)
            if (now.summary, now.conversation.cuts) != (thread.summary, thread.conversation.cuts):
                raise Stale
            self._thread = replace(now, summary=summary)

    def costs(self, messages: Iterable[Message]) -> Mapping[TurnId, TurnCost]:
        """What the turns of *messages* cost, as far as they are settled."""
        turn_ids = {message.turn_id for message in messages}
        return {turn_id: cost for turn_id, cost in self._costs.items() if turn_id in turn_ids}

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        """What the model was shown in the turns of *messages*."""
        turn_ids = {message.turn_id for message in messages}
        with self._change:
            return {
                turn_id: text for turn_id, text in self._receipts.items() if turn_id in turn_ids
            }

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        """The thoughts of those of *messages* that have some."""
        with self._change:
            known = self._thoughts
            return {one.id: known[one.id] for one in messages if one.id in known}

    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None:
        """None: no other process has one, and none could take up what this one leaves."""
        return None

    def stop_turn(self, turn_id: TurnId) -> None:
        """Do nothing, for the same reason."""

    def begin_turn(self, turn: NewTurn) -> Begun:
        """Reserve the worst cost and remember the prompt, both or neither.

        Raise Stale, Busy, OverBudget, NotFound (it is over), StoreUnavailable.
        """
        with self._change:
            self._check(turn)
            begun = self._books.begin(turn)
            self._open[begun.turn_id] = turn
            if turn.purpose is Purpose.REPLY:
                self._held_until = time.monotonic() + turn.lease_seconds
                self._remember(turn, begun.turn_id)
        return begun

    def checkpoint_turn(
        self,
        turn_id: TurnId,
        conversation_id: ConversationId,
        said: str,
        lease_seconds: int,
        thoughts: Thoughts | None = None,
    ) -> Lease:
        """Prolong the lease. Once the chat is over it has lapsed."""
        if self.is_over or not (lease := self._books.prolong(turn_id, lease_seconds)):
            return Lease.LAPSED
        with self._change:
            turn = self._open.get(turn_id)
            if turn and turn.purpose is Purpose.REPLY:
                self._held_until = time.monotonic() + lease_seconds
        return lease

    def finish_turn(self, ending: Ending) -> None:
        """Settle, and remember the reply. Asking again changes nothing. Raise StoreUnavailable."""
        self._books.settle(ending)
        with self._change:
            turn = self._open.pop(ending.turn_id, None)
            if turn is None:
                return
            self._costs[ending.turn_id] = TurnCost(turn.model, ending.tokens, ending.cost_micro)
            if turn.purpose is not Purpose.REPLY:
                return
            self._held_until = 0.0
            if self._thread and ending.makes_message(self._thread):
                if ending.thoughts:
                    self._thoughts[ending.reply_id] = ending.thoughts
                self._append(
                    self._thread,
                    Message(
                        id=ending.reply_id,
                        seq=self._thread.conversation.last_seq + 1,
                        parent_id=ending.prompt_id,
                        role=Role.ASSISTANT,
                        body=ending.reply,
                        created_at=datetime.now(UTC),
                        outcome=ending.outcome,
                        turn_id=ending.turn_id,
                        has_thoughts=ending.thoughts is not None,
                    ),
                )

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        """Remember *text* as another version of *reply*. Raise Stale, NotFound (it is over)."""
        with self._change:
            now = self.thread(thread.conversation.id)
            if now.conversation.rev != thread.conversation.rev:
                raise Stale
            edited = replace(
                reply,
                id=MessageId(uuid4()),
                seq=now.conversation.last_seq + 1,
                body=text,
                created_at=datetime.now(UTC),
                outcome=Outcome.EDITED,
                turn_id=None,
                has_thoughts=False,
                parts=(),
            )
            self._append(now, edited)

    def discard_messages(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        """Delete *doomed*, and forget them in so many seconds; nothing was noted from them. Raise Stale, NotFound."""
        ids = frozenset(message.id for message in doomed)
        with self._change:
            now = self.thread(thread.conversation.id)
            if now.conversation.rev != thread.conversation.rev:
                raise Stale
            kept = tuple(message for message in now.messages if message.id not in ids)
            if drops_summary or now.summary != thread.summary:  # made meanwhile: perhaps of them
                now = replace(now, summary=None)
            self._cut(now, kept)
            deletion = uuid4()
            self._discarded[deletion] = tuple(doomed)
        timer = threading.Timer(seconds, self._destroy, [deletion])
        timer.daemon = True
        timer.start()

    def restore_messages(self, conversation_id: ConversationId) -> None:
        """Bring back all messages that can be. Raise TooLate, NotFound."""
        with self._change:
            now = self.thread(conversation_id)
            found = [message for part in self._discarded.values() for message in part]
            if not found:
                raise TooLate
            self._discarded.clear()
            self._cut(now, tuple(sorted((*now.messages, *found), key=lambda one: one.seq)))

    def _destroy(self, deletion: UUID) -> None:
        with self._change:
            for message in self._discarded.pop(deletion, ()):
                self._thoughts.pop(message.id, None)
                if message.turn_id:
                    self._receipts.pop(message.turn_id, None)

    def _cut(self, thread: Thread, messages: tuple[Message, ...]) -> None:
        conversation = replace(thread.conversation, rev=thread.conversation.rev + 1)
        self._thread = replace(thread, conversation=conversation, messages=messages)

    def _check(self, turn: NewTurn) -> None:
        now, seen = self.thread(turn.thread.conversation.id), turn.thread
        if turn.purpose is not Purpose.REPLY:
            return
        if time.monotonic() < self._held_until:
            raise Busy
        if now.conversation.rev != seen.conversation.rev:
            raise Stale

    def _remember(self, turn: NewTurn, turn_id: TurnId) -> None:
        thread = self.thread(self.id)
        conversation = thread.conversation
        start_seq = max(conversation.start_seq, turn.start_seq)
        self._thread = thread = replace(
            thread, conversation=replace(conversation, start_seq=start_seq)
        )
        if turn.receipt:
            self._receipts[turn_id] = turn.receipt
        if turn.prompt is not None:
            self._append(thread, _prompt(turn, turn.prompt, conversation.last_seq + 1))

    def _append(self, thread: Thread, message: Message) -> None:
        rev = thread.conversation.rev + 1
        conversation = replace(
            thread.conversation, rev=rev, last_seq=message.seq, updated_at=message.created_at
        )
        self._thread = replace(
            thread, conversation=conversation, messages=(*thread.messages, message)
        )

    def _reset(self, thread: Thread, reset_seq: int) -> None:
        self._amend(
            thread.conversation.id,
            lambda now: replace(now, reset_seq=reset_seq, start_seq=reset_seq),
        )

    def _amend(
        self, conversation_id: ConversationId, change: Callable[[Conversation], Conversation]
    ) -> None:
        with self._change:
            thread = self.thread(conversation_id)
            self._thread = replace(thread, conversation=change(thread.conversation))


def _prompt(turn: NewTurn, body: str, seq: int) -> Message:
    tip = turn.thread.tip
    return Message(
        id=turn.prompt_id,
        seq=seq,
        parent_id=tip.id if tip else None,
        role=Role.USER,
        body=body,
        created_at=datetime.now(UTC),
    )


def _without_words(turn: NewTurn) -> NewTurn:
    thread = replace(turn.thread, messages=(), summary=None)
    return replace(turn, thread=thread, prompt=None, receipt=None)
