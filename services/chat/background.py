"""Background model calls after replies: for a title, for a summary, and for facts about the user.

Each call is a separate turn, whose cost is reserved and settled like the cost of a reply. No reply waits for a background
task. If a task fails, or the user's budget cannot pay for it, the conversation stays unchanged. At most one task of each
kind runs per conversation.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from math import inf
from uuid import uuid4

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.paid_calls import Call, PaidCalls, new_call
from services.chat.planning import Planning
from services.chat.setup import Choices
from services.chat.task_registry import BACKGROUND_THREAD, BackgroundTasks, Work
from services.daemon_threads import in_thread
from services.domain import (
    ConversationId,
    Fact,
    FactId,
    Message,
    MessageId,
    Purpose,
    Thread,
    TurnId,
)
from services.domain.context import ContextPlan
from services.domain.limits import checked_summary
from services.domain.memories import NotedFact
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.domain.models import ModelInfo
from services.domain.turns import LONGEST_TURN_SECONDS, StopCause
from services.errors import AppError, ChangedElsewhere, NotFound, Refused, Stale, StoreUnavailable
from services.events import log_event
from services.memory.compaction import Compaction
from services.memory.facts import (
    BATCH,
    exchange_about,
    is_request_due,
    join_exchanges,
    parse_fact_changes,
    pending_prompts,
    plan_fact_requests,
    source_of,
)
from services.memory.titles import clean_title, plan_title
from services.store.port import Store

# maximum seconds from the first token of a model call to its end, by the purpose of the call; the client limits the time before
_SECONDS = {Purpose.TITLE: 30.0, Purpose.SUMMARY: 120.0, Purpose.FACTS: 60.0}
# maximum model calls of one task, which may need several: a long conversation, for example, is summarised in chunks
_MOST_CALLS = 40
_THOUGHTS = 4096  # tokens added to a reply limit for the thoughts of a reasoning model


class NoFacts(Refused):
    """The model's answer with facts about the user was stopped, or reached its length limit."""

    public = "The model did not return usable memories."


class NoSummary(Refused):
    """The model's answer cannot be used as a summary."""

    public = "The model did not return a usable summary."


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's answer to a background call."""

    turn_id: TurnId
    text: str = field(repr=False)
    is_cut: bool  # true if the answer was stopped or reached its length limit
    is_late: bool  # true if it was stopped because it took too long


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTasks:
    """The background tasks of one user, and edits of the summaries and facts that the tasks made.

    Any thread may call any method.
    """

    store: Store
    calls: PaidCalls
    live_turns: LiveTurns
    registry: BackgroundTasks
    planning: Planning
    choices: Choices

    def claim(self, reply: LiveTurn, call: Call) -> list[Work]:
        """Claim the tasks that are due after *reply*, and return the functions that begin them.

        Call this before the followers of *reply* (the pages that draw it) learn that it is over, so that the pages can wait
        for the tasks; call the returned functions afterwards.
        """
        is_whole = not (reply.failure or reply.is_stopped)
        due: list[Work] = []

        def claim(
            purpose: Purpose,
            message_id: MessageId,
            task: Callable[[ConversationId, MessageId], None],
        ) -> None:
            if self.registry.claim(purpose, reply.user_id, reply.conversation_id, message_id):
                due.append(partial(task, reply.conversation_id, message_id))

        with suppress(AppError):
            thread = self.store.conversations.cached(reply.conversation_id)
            first_id = thread.messages[0].id if thread and thread.messages else reply.prompt_id
            if is_whole and thread and not thread.conversation.is_titled:
                claim(Purpose.TITLE, first_id, self._title)
            if thread and self._needs_summary(thread, call, reply.said()):
                claim(Purpose.SUMMARY, reply.prompt_id, self._summarise)
            if is_whole and thread:
                due.extend(self._claim_facts(thread, reply.prompt_id))
        return due

    def note_facts(self, conversation_id: ConversationId | None) -> None:
        """Note facts from a conversation's waiting prompts now, because the user is leaving the conversation."""
        thread = self.store.conversations.cached(conversation_id) if conversation_id else None
        if thread and self.registry.is_postponed(Purpose.FACTS, thread.conversation.id):
            self._begin_facts(thread, is_now=True)

    def catch_up(self, thread: Thread) -> None:
        """Note facts from those prompts of an opened conversation that an earlier server process did not handle."""
        if not self.registry.is_postponed(Purpose.FACTS, thread.conversation.id):
            self._begin_facts(thread)

    def change_summary(self, thread: Thread, text: str) -> None:
        """Replace the text of the summary of *thread*; an empty *text* deletes the summary.

        Raise BadInput if *text* is too long, Stale if the summary has changed since it was read; may raise StoreUnavailable.
        """
        now, text = thread.summary, checked_summary(text)
        summary = None
        if text and now:
            summary = replace(now, text=text, made_at=datetime.now(UTC), is_edited=True)
        self.store.conversations.set_summary(thread, summary)

    def summarise_now(self, thread: Thread, *, is_anew: bool = False) -> bool:
        """Start a summary of the branch in the background; with *is_anew*, delete the stored summary first.

        If a summary is being made already, return False and delete nothing. May raise Stale or StoreUnavailable.
        """
        conversation_id, tip = thread.conversation.id, thread.tip or thread.messages[-1]
        user_id = self.store.conversations.user_id
        is_begun = self.registry.claim(
            Purpose.SUMMARY, user_id, conversation_id, tip.id, is_wanted=True
        )
        if is_begun:
            try:
                if is_anew:
                    self.store.conversations.set_summary(thread, None)
            except AppError:
                self.registry.end(Purpose.SUMMARY, conversation_id)
                raise
            in_thread(BACKGROUND_THREAD, partial(self._summarise, conversation_id, tip.id))
        return is_begun

    def noted(
        self, conversation_id: ConversationId, up_to: MessageId | None = None
    ) -> tuple[NotedFact, ...]:
        """Return the most recently noted facts of a conversation, except facts changed or dismissed since.

        With *up_to*, return the facts only if *up_to* is the last prompt that they were noted from.
        """
        noted = self.registry.noted(conversation_id, up_to)
        with suppress(StoreUnavailable):
            kept = self.store.facts.facts() if noted else ()
            noted = tuple(one for one in noted if one.fact in kept)
        return noted

    def undo_noted(self, conversation_id: ConversationId, noted: NotedFact) -> None:
        """Delete a noted fact, or restore the fact that it replaced.

        Raise ChangedElsewhere if the user has edited the fact since; may raise StoreUnavailable.
        """
        fact, facts = noted.fact, self.store.facts
        if noted.replaced:
            facts.keep(noted.replaced, replaces=fact)
        elif any(one.id == fact.id and one != fact for one in facts.fresh_facts()):
            raise ChangedElsewhere
        else:
            facts.forget(fact.id)
        self.registry.dismiss(conversation_id, (noted,))

    def dismiss_noted(self, conversation_id: ConversationId, prompt_id: MessageId) -> None:
        """Dismiss the most recently noted facts, if *prompt_id* was the last prompt that they were noted from."""
        self.registry.dismiss(conversation_id, self.registry.noted(conversation_id, prompt_id))

    # --- internal methods -----------------------------------------------------------------------

    def _pending(self, thread: Thread, answered_id: MessageId | None = None) -> tuple[Message, ...]:
        """Return the prompts to note facts from; none if the user has memory switched off or the database is unreachable."""
        with suppress(AppError):
            preferences = self.store.profile.preferences()
            if preferences.keeps_facts and thread.is_whole and not thread.is_newer:
                return pending_prompts(thread, preferences.keeps_facts_since, answered_id)
        return ()

    def _claim_facts(
        self, thread: Thread, answered_id: MessageId | None = None, *, is_now: bool = False
    ) -> list[Work]:
        """Claim the facts task if it is due, and return its function; otherwise postpone the task.

        With *is_now*, the task is due as soon as one prompt is waiting.
        """
        conversation_id, pending = thread.conversation.id, self._pending(thread, answered_id)
        if not pending:
            return []
        user_id, registry = self.store.conversations.user_id, self.registry
        if (is_now or self._is_due(pending)) and registry.claim(
            Purpose.FACTS, user_id, conversation_id, pending[-1].id
        ):
            return [partial(self._note, conversation_id)]
        work = partial(self._begin_postponed, conversation_id)
        registry.postpone(Purpose.FACTS, user_id, conversation_id, work)
        return []

    def _is_due(self, pending: tuple[Message, ...]) -> bool:
        registry = self.registry
        return is_request_due(pending, datetime.now(UTC), registry.fact_batch, registry.silence)

    def _begin_postponed(self, conversation_id: ConversationId) -> None:
        with suppress(AppError):  # after an error, a later task or process notes the facts
            thread = self.store.conversations.thread(conversation_id)
            self._begin_facts(thread, is_now=True)

    def _begin_facts(self, thread: Thread, *, is_now: bool = False) -> None:
        for work in self._claim_facts(thread, is_now=is_now):
            in_thread(BACKGROUND_THREAD, work)

    def _summarise(self, conversation_id: ConversationId, message_id: MessageId) -> None:
        """Ask the model to summarise the messages that no longer fit, on the newest branch that contains *message_id*."""
        failure: AppError | None = None
        try:
            for _call in range(_MOST_CALLS):
                thread = self.store.conversations.thread(conversation_id).through(message_id)
                compaction = self.planning.compaction(thread, self.choices.setup(thread))
                if compaction is None:
                    break
                self._fold(thread, compaction)
                if not compaction.remaining_messages:
                    break
        except AppError as error:  # without a summary, turns send only the latest messages
            failure = None if isinstance(error, (Stale, NotFound)) else error
            log_event("summary.lost", conversation=conversation_id)
        finally:
            self.registry.end(Purpose.SUMMARY, conversation_id, error=failure)

    def _needs_summary(self, thread: Thread, call: Call, reply: str) -> bool:
        """Return True if the policy needs summaries, and messages were left out of this turn or may not fit in the next.

        The next prompt is assumed to be as long as everything that this turn sent, so that no summary comes too late.
        """
        if not thread.conversation.policy.kind.needs_summary:
            return False
        room = self.planning.budget(thread, self.choices.setup(thread)).prompt_tokens
        most_tokens = 2 * call.plan.prompt_tokens + self.calls.counter.count(reply)
        return most_tokens > room or bool(call.plan.omitted_ids)

    def _ask(
        self,
        purpose: Purpose,
        thread: Thread,
        plan: ContextPlan,
        about: MessageId,
        *,
        has_room: bool = False,
    ) -> Answer:
        """Send *plan* to the model of *thread*, with the time limit of *purpose*, and return the model's answer.

        *about* is the message that the call is about. With *has_room*, raise the reply limit as for a reasoning model.
        Raise the errors of `PaidCalls.begin` and of the model.
        """
        offer = self.choices.setup(thread).offer
        if has_room or offer.info.is_reasoning:  # thoughts count toward the reply limit
            plan = _with_room_for_thoughts(plan, offer.info)
        call = new_call(thread, offer, plan, about, None, self.calls.turns.pace, purpose=purpose)
        turn = self.calls.begin(call)

        def beat(_: str) -> None:
            first_ms = inf if turn.first_token_ms is None else turn.first_token_ms
            if turn.waited_seconds() > first_ms / 1000 + _SECONDS[purpose]:
                turn.stop(StopCause.TIME_LIMIT)
            self.calls.checkpoint(turn, "")

        def produce(turn: LiveTurn) -> None:
            self.calls.produce(turn, call)
            turn.close(turn.failure)

        self.live_turns.run(turn, beat, produce)
        turn.wait(LONGEST_TURN_SECONDS)
        if turn.failure:
            raise turn.failure
        is_late = turn.stopped_by is StopCause.TIME_LIMIT
        return Answer(turn.id, turn.said(), turn.is_stopped or turn.is_cut, is_late)

    def _fold(self, thread: Thread, compaction: Compaction) -> None:
        """Ask the model for the next part of the summary, and store it. Raise NoSummary if the answer is unusable.

        May raise other kinds of AppError.
        """
        answer = self._ask(Purpose.SUMMARY, thread, compaction.call, thread.branch()[0].id)
        summary = compaction.summary(answer.text, datetime.now(UTC), is_cut=answer.is_cut)
        if summary is None:
            raise NoSummary
        self.store.conversations.set_summary(thread, summary)
        log_event("summary.made", turn=answer.turn_id, messages=len(compaction.compacted_ids))

    def _title(self, conversation_id: ConversationId, first_id: MessageId) -> None:
        """Ask the model for a title, once per process; without a usable answer, the prompt's first words remain the title.

        A reasoning model that is in no list may use up a title's tokens by thinking: see `BackgroundTasks.begin_title`.
        """
        try:
            thread = self.store.conversations.thread(conversation_id)
            branch, info = thread.branch(), self.choices.setup(thread).offer.info
            plan = plan_title(branch, info.context_tokens, self.calls.counter)
            if plan is None or thread.conversation.is_titled:
                return
            has_room = self.registry.begin_title(info.name)
            if has_room is None:
                return
            has_text: bool | None = None  # None: the call says nothing about the model
            try:
                answer = self._ask(Purpose.TITLE, thread, plan, branch[0].id, has_room=has_room)
                if answer.text.strip():
                    has_text = True
                elif answer.is_late:
                    has_text = False
            except ModelUnavailable as error:
                if error.failure is ModelFailure.NO_ANSWER:
                    has_text = False
                raise
            finally:
                self.registry.end_title(info.name, had_room=has_room, has_text=has_text)
            title = None if answer.is_cut else clean_title(answer.text)
            is_given = bool(title and self.store.conversations.give_title(conversation_id, title))
            log_event("title.made", turn=answer.turn_id, given=is_given)
        except AppError:  # the first words of the prompt remain the title
            log_event("title.lost", conversation=conversation_id)
        finally:
            self.registry.end(Purpose.TITLE, conversation_id, first_id)

    def _note(self, conversation_id: ConversationId) -> None:
        """Ask the model which facts about the user are in the prompts that were not processed yet, and store the facts."""
        noted: list[NotedFact] = []
        finished: MessageId | None = None
        failure: AppError | None = None
        first_seqs = set[int]()
        try:
            for _call in range(_MOST_CALLS):
                thread = self.store.conversations.thread(conversation_id)
                pending = self._pending(thread)
                if finished is None:
                    first_seqs = {prompt.seq for prompt in pending}
                elif not (pending and (pending[0].seq in first_seqs or self._is_due(pending))):
                    break  # prompts that arrived in the meantime wait for the next batch
                last = self._note_some(thread, pending, noted)
                if last is None:
                    break
                finished = last
        except AppError as error:  # the prompts are sent to the model again later
            failure = error
            log_event("facts.lost", conversation=conversation_id)
        finally:
            self.registry.end(
                Purpose.FACTS,
                conversation_id,
                finished,
                error=failure,
                noted=tuple(noted),
                again=partial(self._begin_postponed, conversation_id) if failure else None,
            )

    def _note_some(
        self, thread: Thread, pending: tuple[Message, ...], noted: list[NotedFact]
    ) -> MessageId | None:
        """Ask the model about the oldest *pending* prompts, store the facts that it names, and add them to *noted*.

        Return the id of the last prompt in the request; None if there is no prompt, a prompt cannot be read, or the user
        has switched memory off. Raise AppError if the call fails, or if a fact cannot be stored now, after storing the others.
        """
        exchanges = [exchange_about(thread, prompt.id) for prompt in pending[:BATCH]]
        if not exchanges or not all(exchanges):
            return None
        setup = self.choices.setup(thread)
        count, plan = plan_fact_requests(
            exchanges, setup.facts, setup.context_tokens, self.calls.counter
        )
        exchange, last = join_exchanges(exchanges[:count]), pending[count - 1]
        answer = self._ask(Purpose.FACTS, thread, plan, last.id)
        if answer.is_cut:
            raise NoFacts
        # The conversation may have moved to another space during the call. The thread keeps its old `cuts` (the number of
        # deletions), so that the store refuses facts if messages were deleted during the call.
        is_now = self.store.conversations.thread(thread.conversation.id).conversation
        conversation = replace(thread.conversation, space_id=is_now.space_id)
        thread = replace(thread, conversation=conversation)
        if not self._pending(thread):  # memory was switched off in the meantime, so note nothing
            return None
        by_id = {fact.id: fact for fact in setup.facts}
        shown = [by_id[fact_id] for fact_id in plan.fact_ids]
        now = self.choices.setup(thread).facts
        before = len(noted)
        failure: AppError | None = None
        space_id = thread.conversation.space_id
        for change in parse_fact_changes(answer.text, exchange, now, shown, space_id):
            source = source_of(change.text, [each for each in exchange if each in pending]) or last
            fact = _fact(change.text, change.replaces, thread, source.id)
            try:
                self.store.facts.keep(fact, replaces=change.replaces, cuts=thread.conversation.cuts)
            except AppError as error:  # continue with the next fact
                log_event("fact.lost", turn=answer.turn_id)
                # messages were deleted in the meantime, or the database is unreachable: try these prompts again later. After any
                # other error, the fact can never be stored, so do not try again
                if isinstance(error, (NotFound, StoreUnavailable)):
                    failure = error
            else:
                noted.append(NotedFact(fact, change.replaces))
        if failure:
            raise failure
        self.store.conversations.mark_facts_noted(thread.conversation.id, last.seq)
        log_event("facts.noted", turn=answer.turn_id, facts=len(noted) - before)
        return last.id


def _fact(text: str, replaced: Fact | None, thread: Thread, prompt_id: MessageId) -> Fact:
    """Return a new fact, in the conversation's space if it has one, or *replaced* with the new text."""
    conversation, now = thread.conversation, datetime.now(UTC)
    fact = replaced or Fact(
        id=FactId(uuid4()), text=text, since=now, space_id=conversation.space_id
    )
    return replace(
        fact, text=text, since=now, source_id=prompt_id, source_conversation_id=conversation.id
    )


def _with_room_for_thoughts(plan: ContextPlan, info: ModelInfo) -> ContextPlan:
    """Return *plan* with a higher reply limit, as far as the model's own limits allow."""
    free = min(info.reply_tokens, info.context_tokens - plan.prompt_tokens)
    return replace(
        plan, reply_tokens=max(plan.reply_tokens, min(free, plan.reply_tokens + _THOUGHTS))
    )
