"""Deletion and restoration of conversations and messages, and of the facts and the summary made from them."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from services.chat.background import UserTasks
from services.domain import (
    ConversationId,
    Fact,
    MessageId,
    Purpose,
    RunningSummary,
    Thread,
    UserId,
)
from services.domain.limits import UNDO_SECONDS
from services.domain.memories import DeletedMemories
from services.domain.turns import StopCause
from services.errors import Busy, NotFound, Refused, Stale, StoreUnavailable, TooLate

_MOST_SECONDS = 3600  # the longest time, in seconds, that the database accepts for an undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletions:
    """Deletes conversations and messages of one user, and restores messages. Any thread may call any method."""

    tasks: UserTasks
    open: Callable[[ConversationId], Thread]
    forget: Callable[[ConversationId], None]  # drops the cached data of a conversation
    # called with the seconds for which a deletion can be undone
    on_deleted: Callable[[float], object]

    def discard(
        self,
        conversation_id: ConversationId,
        seconds: int = UNDO_SECONDS,
        facts_of: Collection[MessageId] = (),
    ) -> DeletedMemories:
        """Delete a conversation, which can be restored for *seconds*, and stop its live turns.

        Also delete the facts that were noted from its messages *facts_of*, and return them.
        """
        if facts_of:
            self._facts_of(facts_of)  # in an outage, this raises before anything is deleted
        key, live_turns = (self._user_id, conversation_id), self.tasks.live_turns
        live_turns.stop(StopCause.USER, lambda turn: (turn.user_id, turn.conversation_id) == key)
        self.tasks.store.conversations.discard(conversation_id, seconds)
        live_turns.drop(*key)
        self.forget(conversation_id)
        self.on_deleted(seconds)
        facts = self._forget_facts_of(facts_of) if facts_of else ()
        return DeletedMemories(frozenset(facts_of), facts, None)

    def discard_all(self, ids: Collection[ConversationId]) -> Iterator[ConversationId]:
        """Delete the conversations *ids* that exist, as `discard` does; yield each id once its conversation is deleted."""
        # A deletion takes up to half a second in a hosted database. With this longer time, the first conversation can still
        # be restored after the last is deleted.
        seconds = min(UNDO_SECONDS + len(ids) // 2, _MOST_SECONDS)
        for conversation_id in ids:
            with suppress(NotFound):  # another tab has deleted this conversation
                self.discard(conversation_id, seconds)
                yield conversation_id

    def delete_messages(
        self,
        conversation_id: ConversationId,
        ids: Collection[MessageId],
        seconds: int = UNDO_SECONDS,
    ) -> DeletedMemories:
        """Delete the messages *ids*, which must include every message that follows one of them.

        For *seconds*, `restore_messages` can undo the deletion. Facts and a summary made from the messages are deleted, too; the
        messages' costs stay in the ledger. Raise Stale if *ids* lacks a following message or a message is gone, Busy if a reply
        to one of the messages is streaming; may raise NotFound, Tampered or StoreUnavailable.
        """
        thread = self.open(conversation_id)
        doomed = [message for message in thread.messages if message.id in ids]
        followers = [message for message in thread.messages if message.parent_id in ids]
        if len(doomed) != len(ids) or any(message.id not in ids for message in followers):
            raise Stale
        store, live_turns = self.tasks.store, self.tasks.live_turns
        turn = live_turns.find(self._user_id, conversation_id)
        is_its = turn is not None and turn.prompt_id in ids
        if turn and is_its and not turn.is_done:
            raise Busy
        summary = thread.summary
        if summary and all(message.seq != summary.up_to_seq for message in doomed):
            # keep the summary: the last message that it covers is not being deleted
            summary = None
        facts = self._facts_of(ids)
        fact_ids = [fact.id for fact in facts]
        store.messages.discard(thread, doomed, fact_ids, seconds, drops_summary=summary is not None)
        facts += self._forget_facts_of(ids)
        if is_its:  # the prompt of the failed turn is deleted, so no page may show its failure
            live_turns.drop(self._user_id, conversation_id, Purpose.REPLY)
        background = self.tasks.registry
        noted = background.noted(conversation_id)
        background.dismiss(conversation_id, tuple(one for one in noted if one.fact in facts))
        self.forget(conversation_id)
        self.on_deleted(seconds)
        return DeletedMemories(frozenset(ids), facts, summary)

    def restore_messages(
        self, conversation_id: ConversationId, memories: Iterable[DeletedMemories] = ()
    ) -> None:
        """Restore a conversation's deleted messages, and the facts and summary in *memories* whose messages exist again.

        Raise TooLate if the time for Undo is over; may raise NotFound, Tampered or StoreUnavailable. After StoreUnavailable,
        call again to continue.
        """
        store, late = self.tasks.store, None
        try:
            store.messages.restore(conversation_id)
        except TooLate as error:
            # raised below, unless another tab, or a call whose response was lost, has restored the messages already
            late = error
        self.forget(conversation_id)
        thread = store.conversations.thread(conversation_id)
        ids, seqs = ({getattr(one, name) for one in thread.messages} for name in ("id", "seq"))
        memories = tuple(memories)
        facts = [fact for one in memories for fact in one.facts if fact.source_id in ids]
        summaries = [
            one.summary for one in memories if one.summary and one.summary.up_to_seq in seqs
        ]
        if late and not any(ids & one.ids for one in memories):
            raise late
        self._keep_facts(facts, thread)
        if summaries:
            store.conversations.set_summary(thread, summaries[-1])

    def restore_facts(self, conversation_id: ConversationId, facts: Iterable[Fact]) -> None:
        """Restore *facts*, which were deleted with a conversation that is restored. May raise NotFound or StoreUnavailable."""
        self._keep_facts(facts, self.tasks.store.conversations.thread(conversation_id))

    def restore_summary(self, conversation_id: ConversationId, summary: RunningSummary) -> None:
        """Restore a deleted summary. Raise TooLate if the messages that it covers have been deleted.

        May raise NotFound, Stale or StoreUnavailable.
        """
        thread = self.open(conversation_id)
        if all(message.seq != summary.up_to_seq for message in thread.messages):
            raise TooLate
        self.tasks.store.conversations.set_summary(thread, summary)

    def _keep_facts(self, facts: Iterable[Fact], thread: Thread) -> None:
        for fact in facts:
            with suppress(Refused):  # the fact is restored already, or there are too many facts now
                # `cuts` marks the fact as noted from messages: such a fact is stored even if the account's storage is full
                self.tasks.store.facts.keep(fact, cuts=thread.conversation.cuts)

    @property
    def _user_id(self) -> UserId:
        return self.tasks.store.turns.user_id

    def _facts_of(self, ids: Collection[MessageId]) -> tuple[Fact, ...]:
        """Return the stored facts that were noted from the messages *ids*; empty in a temporary chat that reads no facts."""
        if not self.tasks.choices.reads_facts:  # a temporary chat must not depend on the database
            return ()
        kept = self.tasks.store.facts.fresh_facts()
        return tuple(fact for fact in kept if fact.source_id in ids)

    def _forget_facts_of(self, ids: Collection[MessageId]) -> tuple[Fact, ...]:
        """Delete and return facts noted from the messages *ids*, also those that a task noted while these were being deleted."""
        forgotten = list[Fact]()
        with suppress(StoreUnavailable):
            for fact in self._facts_of(ids):
                self.tasks.store.facts.forget(fact.id)
                forgotten.append(fact)
        return tuple(forgotten)
