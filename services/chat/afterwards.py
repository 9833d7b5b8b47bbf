"""What follows a reply, in the background: its conversation gets a title or a summary, and facts are noted.

Nothing waits for it and nothing depends on it: where it fails, and where the budget refuses it, all stays as it is.
Where a summary fails, the conversation goes on with the latest messages, the page says so, and after some turns it is
tried again.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from services.chat.background import BackgroundTasks
from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.noting import note_facts
from services.chat.paid_calls import Answer, Call, PaidCalls
from services.chat.planning import Planning
from services.chat.setup import Setup
from services.chat.titles import clean_title, plan_title
from services.domain import (
    ConversationId,
    MessageId,
    Purpose,
    Role,
    Summary,
    Thread,
)
from services.domain.context import ContextPlan
from services.errors import AppError, NotFound, Refused, Stale
from services.events import log_event
from services.memory.compaction import Compaction
from services.store.port import Conversations, Facts

_SECONDS = {Purpose.TITLE: 30.0, Purpose.SUMMARY: 120.0, Purpose.FACTS: 60.0}  # for one call
_MOST_CALLS = 40  # of the model, for one summary: a long conversation is folded in chunks

Work = Callable[[], None]


class NoSummary(Refused):
    """What the model said is no summary."""

    public = "The model did not return a usable summary."


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """What follows the replies of one person."""

    store: Conversations
    calls: PaidCalls
    live_turns: LiveTurns
    tasks: BackgroundTasks
    planning: Planning
    setup: Callable[[Thread], Setup]
    memories: Facts | None
    keeps_facts: Callable[[], bool]

    def claim(self, reply: LiveTurn, call: Call) -> list[Work]:
        """Claim the tasks that are due after *reply*, before its followers know that it is over, so that they can
        await them; return what the caller is to begin once they know."""
        user_id, conversation_id = reply.user_id, reply.conversation_id
        is_whole = not (reply.failure or reply.is_stopped)
        due: list[Work] = []
        with suppress(AppError):
            thread = self.store.cached(conversation_id)
            is_untitled = thread is not None and not thread.conversation.is_titled
            if is_whole and is_untitled and self.tasks.claim_title(user_id, conversation_id):
                due.append(partial(self._title, conversation_id))
            needs_summary = thread is not None and self._needs_summary(thread, call)
            if needs_summary and self.tasks.claim_summary(user_id, conversation_id):
                due.append(partial(self.summarise, conversation_id))
            reads_facts = is_whole and self.keeps_facts()
            prompt_id = _prompt_id(thread, reply)
            if reads_facts and self.tasks.claim_facts(user_id, conversation_id, prompt_id):
                due.append(partial(self._note, conversation_id, prompt_id))
        return due

    def summarise(self, conversation_id: ConversationId) -> None:
        """Have the model put into words what no longer fits."""
        failure: AppError | None = None
        try:
            for _ in range(_MOST_CALLS):
                thread = self.store.thread(conversation_id)
                compaction = self.planning.compaction(thread, self.setup(thread))
                if compaction is None:
                    break
                self._fold(thread, compaction)
                if not compaction.remaining_messages:
                    break
        except AppError as error:  # the latest messages are shown as they are
            failure = None if isinstance(error, (Stale, NotFound)) else error
            log_event("summary.lost", conversation=conversation_id)
        finally:
            self.tasks.end_summary(conversation_id, failure)

    def _needs_summary(self, thread: Thread, call: Call) -> bool:
        """Whether the context fills, or something fell out of it."""
        if not isinstance(thread.conversation.policy, Summary):
            return False
        room = self.setup(thread).budget.prompt_tokens
        return 2 * call.plan.prompt_tokens > room or bool(call.plan.omitted_ids)

    def _ask(self, purpose: Purpose, thread: Thread, plan: ContextPlan, about: MessageId) -> Answer:
        """Ask the model that answers in *thread*. Raise AppError."""
        offer, seconds = self.setup(thread).offer, _SECONDS[purpose]
        return self.calls.ask(self.live_turns, thread, offer, plan, about, purpose, seconds)

    def _title(self, conversation_id: ConversationId) -> None:
        """Have the model give a title, unless it fails, runs on or makes none."""
        try:
            thread = self.store.thread(conversation_id)
            branch, window = thread.branch(), self.setup(thread).info.context_tokens
            plan = plan_title(branch, window, self.calls.counter)
            if plan is None or thread.conversation.is_titled:
                return
            answer = self._ask(Purpose.TITLE, thread, plan, branch[0].id)
            title = None if answer.is_cut else clean_title(answer.text)
            is_given = bool(title and self.store.give_title(conversation_id, title))
            log_event("title.made", turn=answer.turn_id, given=is_given)
        except AppError:  # the first words stay
            log_event("title.lost", conversation=conversation_id)
        finally:
            self.tasks.end_title(conversation_id)

    def _fold(self, thread: Thread, compaction: Compaction) -> None:
        """One call of the model, whose answer becomes part of the summary. Raise AppError."""
        answer = self._ask(Purpose.SUMMARY, thread, compaction.call, thread.branch()[0].id)
        summary = compaction.summary(answer.text, datetime.now(UTC), is_cut=answer.is_cut)
        if summary is None:
            raise NoSummary
        self.store.set_summary(thread, summary)
        log_event("summary.made", turn=answer.turn_id, messages=len(compaction.compacted_ids))

    def _note(self, conversation_id: ConversationId, prompt_id: MessageId) -> None:
        """Have the model say what the user told of themself."""
        noted = None
        try:
            thread = self.store.thread(conversation_id)
            if self.memories:
                setup = self.setup(thread)
                noted = note_facts(
                    thread,
                    prompt_id,
                    self.memories,
                    setup.context_tokens,
                    self.calls.counter,
                    space=setup.space,
                    ask=lambda plan: self._ask(Purpose.FACTS, thread, plan, prompt_id),
                    is_wanted=self.keeps_facts,
                )
        except AppError:  # what is kept stays as it is
            log_event("facts.lost", conversation=conversation_id)
        finally:
            user_id = self.store.user_id
            if waiting := self.tasks.end_facts(user_id, conversation_id, prompt_id, noted):
                in_background(partial(self._note, conversation_id, waiting))


def _prompt_id(thread: Thread | None, reply: LiveTurn) -> MessageId:
    """The prompt that *reply* answers, also where it goes on with another reply."""
    path = thread.up_to(reply.prompt_id).branch() if thread else ()
    is_continuation = bool(path) and any(part.id == reply.prompt_id for part in path[-1].stored)
    asked = (said.id for said in reversed(path) if said.role is Role.USER)
    return next(asked, reply.prompt_id) if is_continuation else reply.prompt_id


def in_background(work: Work) -> None:
    """Begin *work* in a thread of its own, which the process does not wait for."""
    threading.Thread(target=work, name="afterwards", daemon=True).start()
