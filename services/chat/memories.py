"""Summaries and noted facts as pages read, change and undo them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.chat.background import BackgroundTasks, in_background
from services.domain import ConversationId, MessageId, Purpose, RunningSummary, Thread
from services.domain.limits import checked_summary
from services.domain.memories import NotedFact
from services.errors import AppError, StoreUnavailable
from services.store.port import Conversations, Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Memories:
    """The summaries and noted facts of one user."""

    conversations: Conversations
    facts: Facts | None  # None: none are noted
    background: BackgroundTasks
    summarise: Callable[[ConversationId, MessageId], None]

    def change_summary(self, thread: Thread, text: str) -> None:
        """Replace the text of the summary of *thread*; an empty *text* deletes the summary.

        Raise BadInput, Stale (it was changed meanwhile), StoreUnavailable.
        """
        now = thread.summary
        text = checked_summary(text)
        summary = None
        if text and now:
            summary = replace(now, text=text, made_at=datetime.now(UTC), is_edited=True)
        self.conversations.set_summary(thread, summary)

    def restore_summary(self, conversation_id: ConversationId, summary: RunningSummary) -> None:
        """Put back a deleted *summary*, in the place of any made since. Raise NotFound, Stale, StoreUnavailable."""
        self.conversations.set_summary(self.conversations.thread(conversation_id), summary)

    def rebuild_summary(self, thread: Thread) -> None:
        """Have the summary of all that it covers made anew, in the background. Raise Stale, StoreUnavailable."""
        conversation_id, last_id = thread.conversation.id, thread.messages[-1].id
        user_id = self.conversations.user_id
        if self.background.claim(
            Purpose.SUMMARY, user_id, conversation_id, last_id, is_wanted=True
        ):
            try:
                self.conversations.set_summary(thread, None)
            except AppError:
                self.background.end(Purpose.SUMMARY, conversation_id)
                raise
            in_background(lambda: self.summarise(conversation_id, last_id))

    def noted(self, conversation_id: ConversationId) -> tuple[NotedFact, ...]:
        """The facts that were noted last in a conversation, if they are stored so and were not dismissed."""
        noted = self.background.noted(conversation_id)
        if not noted or self.facts is None:
            return ()
        with suppress(StoreUnavailable):
            kept = self.facts.facts()
            noted = tuple(one for one in noted if one.fact in kept)
        return noted

    def undo_noted(self, conversation_id: ConversationId, noted: NotedFact) -> None:
        """Delete a noted fact, or put back the fact that it replaced. Raise ChangedElsewhere, StoreUnavailable."""
        if self.facts and noted.replaced:
            self.facts.keep(noted.replaced, replaces=noted.fact)
        elif self.facts:
            self.facts.forget(noted.fact.id)
        self.background.dismiss(conversation_id, (noted,))
