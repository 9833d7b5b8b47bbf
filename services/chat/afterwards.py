"""What follows a reply, in the background: its conversation gets a title or a summary, and facts are noted.

Nothing waits for it and nothing depends on it: where it fails, and where the budget refuses it, all stays as it is.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from services.chat.live_turn import LiveTurn
from services.chat.noting import FactStore, Noting, note_facts
from services.chat.paid_calls import Call, PaidCalls
from services.chat.setup import Setup
from services.chat.summaries import NoSummary, Summarising
from services.chat.titles import Titling, clean_title, plan_title
from services.domain import (
    ConversationId,
    MessageId,
    Purpose,
    RunningSummary,
    Summary,
    Thread,
    UserId,
)
from services.errors import AppError, NotFound, Stale
from services.events import log_event
from services.memory import Compaction

_TITLE_SECONDS, _SUMMARY_SECONDS, _FACTS_SECONDS = 30.0, 120.0, 60.0  # for which one is waited
_MOST_CALLS = 40  # of the model, for one summary: a long conversation is folded in chunks

Work = Callable[[], None]


class AfterwardsStore(Protocol):
    """What it needs of one person's conversations."""

    @property
    def user_id(self) -> UserId: ...
    def cached(self, conversation_id: ConversationId) -> Thread | None: ...
    def thread(self, conversation_id: ConversationId) -> Thread: ...
    def give_title(self, conversation_id: ConversationId, title: str) -> bool: ...
    def set_summary(
        self,
        conversation_id: ConversationId,
        summary: RunningSummary | None,
        *,
        replaces: RunningSummary | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """What follows the replies of one person."""

    store: AfterwardsStore
    calls: PaidCalls
    titling: Titling | None
    summarising: Summarising
    noting: Noting
    memories: FactStore | None
    setup: Callable[[Thread], Setup]
    compaction: Callable[[Thread], Compaction | None]
    keeps_facts: Callable[[], bool]

    def claim(self, reply: LiveTurn, call: Call) -> list[Work]:
        """What is now the caller's to begin, once the followers of *reply* know that it is over.

        It is claimed before they know, so that they can await it.
        """
        conversation_id = reply.conversation_id
        due: list[Work] = []
        with suppress(AppError):
            if titling := self._claim_title(reply):
                due.append(partial(self._title, titling, conversation_id))
            if self._claim_summary(reply, call):
                due.append(partial(self.summarise, conversation_id))
            if self._claim_facts(reply):
                due.append(partial(self._note, conversation_id, reply.prompt_id))
        return due

    def summarise(self, conversation_id: ConversationId) -> None:
        """Have the model put into words what no longer fits."""
        failure: AppError | None = None
        try:
            for _ in range(_MOST_CALLS):
                thread = self.store.thread(conversation_id)
                compaction = self.compaction(thread)
                if compaction is None:
                    break
                self._fold(thread, compaction)
                if not compaction.waiting:
                    break
        except AppError as error:  # the latest messages are shown as they are
            failure = None if isinstance(error, (Stale, NotFound)) else error
            log_event("summary.lost", conversation=conversation_id)
        finally:
            self.summarising.over(conversation_id, failure)

    def _claim_title(self, reply: LiveTurn) -> Titling | None:
        """What to title with, if *reply* is complete and nobody gave a title yet."""
        thread = self.store.cached(reply.conversation_id)
        if thread is None or thread.conversation.is_titled or reply.failure or reply.is_stopped:
            return None
        is_ours = self.titling and self.titling.claim(reply.user_id, reply.conversation_id)
        return self.titling if is_ours else None

    def _claim_summary(self, reply: LiveTurn, call: Call) -> bool:
        """Whether the conversation is now ours to look at: its context fills, or something fell out of it."""
        thread = self.store.cached(reply.conversation_id)
        if thread is None or not isinstance(thread.conversation.policy, Summary):
            return False
        room = self.setup(thread).budget.prompt_tokens
        is_near = 2 * call.plan.prompt_tokens > room or bool(call.plan.omitted)
        return is_near and self.summarising.claim(reply.user_id, reply.conversation_id)

    def _claim_facts(self, reply: LiveTurn) -> bool:
        """Whether what the person said is now ours to be looked through for facts."""
        if reply.failure or reply.is_stopped or not self.keeps_facts():
            return False
        return self.noting.claim(reply.user_id, reply.conversation_id, reply.prompt_id)

    def _title(self, titling: Titling, conversation_id: ConversationId) -> None:
        """Have the model give a title, unless it fails, runs on or makes none."""
        try:
            thread = self.store.thread(conversation_id)
            branch, offer = thread.branch(), self.setup(thread).offer
            plan = plan_title(branch, offer.info.context_tokens, self.calls.counter)
            if plan is None or thread.conversation.is_titled:
                return
            answer = self.calls.ask(
                titling.turns, thread, offer, plan, branch[0].id, Purpose.TITLE, _TITLE_SECONDS
            )
            title = None if answer.is_cut else clean_title(answer.text)
            is_given = bool(title and self.store.give_title(conversation_id, title))
            log_event("title.made", turn=answer.turn_id, given=is_given)
        except AppError:  # the first words stay
            log_event("title.lost", conversation=conversation_id)
        finally:
            titling.over(conversation_id)

    def _fold(self, thread: Thread, compaction: Compaction) -> None:
        """One call of the model, whose answer becomes part of the summary. Raise AppError."""
        answer = self.calls.ask(
            self.summarising.turns,
            thread,
            self.setup(thread).offer,
            compaction.call,
            thread.branch()[0].id,
            Purpose.SUMMARY,
            _SUMMARY_SECONDS,
        )
        summary = compaction.summary(answer.text, datetime.now(UTC), is_cut=answer.is_cut)
        if summary is None:
            raise NoSummary
        self.store.set_summary(thread.conversation.id, summary, replaces=thread.summary)
        log_event("summary.made", turn=answer.turn_id, messages=len(compaction.folded))

    def _note(self, conversation_id: ConversationId, prompt_id: MessageId) -> None:
        """Have the model say what the person told of themself."""
        noted = None
        try:
            thread = self.store.thread(conversation_id)
            setup = self.setup(thread)
            if self.memories:
                noted = note_facts(
                    thread,
                    prompt_id,
                    self.memories,
                    setup.context_tokens,
                    self.calls.counter,
                    ask=lambda plan: self.calls.ask(
                        self.noting.turns,
                        thread,
                        setup.offer,
                        plan,
                        prompt_id,
                        Purpose.FACTS,
                        _FACTS_SECONDS,
                    ),
                    is_wanted=self.keeps_facts,
                )
        except AppError:  # what is kept stays as it is
            log_event("facts.lost", conversation=conversation_id)
        finally:
            user_id = self.store.user_id
            if waiting := self.noting.over(user_id, conversation_id, prompt_id, noted):
                in_background(partial(self._note, conversation_id, waiting))


def in_background(work: Work) -> None:
    """Begin *work* in a thread of its own, which the process does not wait for."""
    threading.Thread(target=work, name="afterwards", daemon=True).start()
