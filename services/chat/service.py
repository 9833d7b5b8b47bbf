"""The use cases of a conversation: begin a turn, try again, follow, see what the model will see.

begin -> plan_context -> store the prompt and reserve its worst cost -> a thread streams the reply
-> however it ends, store what was said and settle -> followers hear "done"
-> once, after the first complete reply, the same way: a title; after others a summary, and facts
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.noting import FactStore, Noted, NoteTaker, Noting
from services.chat.paid_calls import LONGEST_TEXT, LONGEST_TURN, Call, PaidCalls, TurnStore
from services.chat.recollection import Recollection, recalled_before
from services.chat.remote_turn import RemoteTurn
from services.chat.setup import Setup, choose_setup
from services.chat.summaries import NoSummary, Summarising
from services.chat.titles import Titling, clean_title, first_words, plan_title
from services.domain import (
    Conversation,
    ConversationId,
    Fact,
    MemoryPolicy,
    Message,
    MessageId,
    Outcome,
    Preferences,
    Purpose,
    Retrieval,
    Role,
    RunningSummary,
    Space,
    SpaceId,
    Summary,
    Thread,
    Tokens,
    TurnId,
)
from services.errors import (
    AppError,
    BadInput,
    Busy,
    InstructionsTooLong,
    NotFound,
    SpaceGone,
    Stale,
    StoreUnavailable,
    Tampered,
)
from services.events import log_event
from services.llm import Models
from services.memory import (
    Compaction,
    ContextBudget,
    ContextPlan,
    History,
    Receipt,
    TokenCounter,
    plan_compaction,
    plan_context,
)
from services.store.rows import TurnState
from services.store.turns import Ending, OpenTurn

_TITLE_SECONDS = 30.0  # for which a title is waited
_SUMMARY_SECONDS = 120.0
_LONGEST_SUMMARY = 60_000  # bytes
_MOST_CALLS = 40  # of the model, for one summary: a long conversation is folded in chunks


class ConversationStore(TurnStore, Protocol):
    """What a chat needs of one person's conversations."""

    def cached(self, conversation_id: ConversationId) -> Thread | None: ...
    def thread(self, conversation_id: ConversationId) -> Thread: ...
    def create(self, title: str, policy: MemoryPolicy, model: str | None = None) -> Thread: ...
    def unmake(self, conversation_id: ConversationId) -> None: ...
    def discard(self, conversation_id: ConversationId, seconds: int) -> None: ...
    def give_title(self, conversation_id: ConversationId, title: str) -> bool: ...
    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None: ...
    def move(self, conversation_id: ConversationId, space_id: SpaceId | None) -> None: ...
    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]: ...
    def set_summary(
        self,
        conversation_id: ConversationId,
        summary: RunningSummary | None,
        *,
        replaces: RunningSummary | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """Answers the prompts of one signed-in person."""

    store: ConversationStore
    live_turns: LiveTurns
    models: Models
    counter: TokenCounter
    instructions: str = field(repr=False)  # the deployment's
    sweep: Callable[[], None]  # settles turns whose lease ran out
    preferences: Callable[[], Preferences] = Preferences
    first_policy: MemoryPolicy = field(default_factory=Summary)  # the deployment's
    titling: Titling | None = None  # None: titles stay the first words
    summarising: Summarising = field(default_factory=Summarising)
    noting: Noting = field(default_factory=Noting)
    memories: FactStore | None = None  # None: nothing is kept about the person
    spaces: Callable[[], tuple[Space, ...]] = tuple
    recollection: Recollection = field(default_factory=Recollection)

    @property
    def calls(self) -> PaidCalls:
        return PaidCalls(self.store, self.counter)

    _opened: set[ConversationId] = field(default_factory=set[ConversationId], repr=False)
    _unsure: dict[ConversationId, MessageId] = field(
        default_factory=dict[ConversationId, MessageId], repr=False
    )  # prompts that were refused, for nothing was heard of them, and may be stored all the same

    def begin(
        self,
        conversation_id: ConversationId | None,
        prompt: str,
        *,
        seen_rev: int | None = None,
        tip_id: MessageId | None = None,
        model: str | None = None,
        space_id: SpaceId | None = None,
    ) -> LiveTurn:
        """Store *prompt* and let the reply come. Without a conversation a new one is made, of *model*, in a space.

        *seen_rev* is the revision that the reader had on the page, *tip_id* the message after which the
        prompt is said, if that is not the newest. Raise Stale where it went on elsewhere, Busy,
        OverBudget, PromptTooLong, BadInput, NotFound, SpaceGone, StoreUnavailable.
        """
        prompt = _clean(prompt)
        self.store.keep_fresh(LONGEST_TURN)
        if conversation_id is None:
            return self._begin_new(prompt, model, space_id)
        if conversation_id in self._unsure:
            thread = self._put_right(conversation_id)
            if again := self._stored_after_all(thread):
                if again.body == prompt:
                    return self._begin(thread, thread.branch()[:-1], None, again.id, again=again)
                seen_rev = thread.conversation.rev  # nobody else wrote
        else:
            thread = self.store.cached(conversation_id) or self.store.thread(conversation_id)
        try:
            return self._go_on(thread, prompt, seen_rev, tip_id)
        except Stale:  # what is cached may lack the reply that was stored a moment ago
            if seen_rev is None:
                raise
            return self._go_on(self.store.thread(conversation_id), prompt, seen_rev, tip_id)

    def retry(
        self, conversation_id: ConversationId, message_id: MessageId | None = None
    ) -> LiveTurn:
        """Have a prompt answered once more: that of the reply *message_id*, or the last.

        Raise what `begin` raises.
        """
        self.store.keep_fresh(LONGEST_TURN)
        thread = self.open(conversation_id)
        if message_id:
            thread = thread.up_to(message_id)
            if thread.tip_id != message_id:
                raise NotFound
        branch = thread.branch()
        asked = next((n for n, said in enumerate(branch[::-1]) if said.role is Role.USER), None)
        if asked is None:
            raise NotFound
        last = len(branch) - 1 - asked
        if not branch[last].is_verified:  # the model would be asked nothing
            raise Tampered
        return self._begin(thread, branch[:last], None, branch[last].id, again=branch[last])

    def live(self, conversation_id: ConversationId) -> LiveTurn | RemoteTurn | None:
        """The turn that is coming: here, or in a process that still lives or died a moment ago."""
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        if turn and not turn.is_done:
            return turn
        thread = self.store.cached(conversation_id)
        if thread is None or not _awaits_reply(thread):
            return None
        if turn and turn.prompt_id == thread.messages[-1].id:  # ended here, with nothing to show
            return None
        elsewhere = self.store.open_turn(conversation_id)
        if elsewhere and elsewhere.state.is_open:
            return RemoteTurn(conversation_id, elsewhere, self.store.open_turn, self.sweep)
        return None

    def coming(self) -> frozenset[ConversationId]:
        """The person's conversations in which a reply is coming, here in this process."""
        return self.live_turns.coming(self.store.user_id)

    def failure(self, conversation_id: ConversationId) -> AppError | None:
        """Why the last reply did not come, while that is remembered."""
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        return turn.failure if turn else None

    def open(self, conversation_id: ConversationId) -> Thread:
        """The thread, after making a message of what a process that died had been told.

        While the database is away, as it was last read.
        """
        was_live = self._is_live(conversation_id)
        try:
            if conversation_id in self._unsure and not was_live:
                thread = self._put_right(conversation_id)
            else:
                thread = self.store.thread(conversation_id)
            has_ended = was_live and not self._is_live(conversation_id)
            if has_ended:  # while the thread was read
                thread = self.store.thread(conversation_id)
        except StoreUnavailable:
            if known := self.store.cached(conversation_id):
                return known
            raise
        is_settled = conversation_id in self._opened and not _awaits_reply(thread)
        if is_settled or self._is_live(conversation_id):
            return thread
        left = self.store.open_turn(conversation_id)
        if left is None or not left.state.is_open:
            self._opened.add(conversation_id)
        if left is None or left.state is not TurnState.LAPSED:
            return thread
        try:
            prompt_id = left.prompt_id or thread.messages[-1].id
            self._end(left, conversation_id, prompt_id, Outcome.INTERRUPTED)
        except Tampered:  # nothing can be added to it, but it can be read
            return thread
        log_event("turn.adopted", turn=left.id)
        return self.store.thread(conversation_id)

    def view(self, thread: Thread, setup: Setup) -> ContextPlan:
        """What the next turn would see. Raise PromptTooLong (Full: it no longer fits), InstructionsTooLong."""
        return self._plan(setup, thread, self._history(setup, thread, thread.branch(), None))

    def receipt(self, thread: Thread, reply: Message) -> Receipt | None:
        """What the model was shown for *reply*, where that was kept. Raise StoreUnavailable."""
        kept = self.store.receipts([reply], thread.conversation.id)
        text = kept.get(reply.turn_id) if reply.turn_id else None
        return Receipt.read(text) if text else None

    def next_receipt(self, thread: Thread, setup: Setup) -> Receipt:
        """What the model would be shown in the next turn. Raise as `view`."""
        history = self._history(setup, thread, thread.branch(), None)
        plan = self._plan(setup, thread, history)
        return Receipt.of(thread.conversation.policy, setup.info.name, history, plan)

    def change_summary(self, thread: Thread, text: str) -> None:
        """Let the summary of *thread* say *text*; without any it is taken away.

        Raise BadInput, Stale (it was changed meanwhile), StoreUnavailable.
        """
        now = thread.summary
        text = text.replace("\x00", "").strip()
        if len(text.encode(errors="ignore")) > _LONGEST_SUMMARY:
            raise BadInput("That is more than a summary can hold: shorten it.")
        summary = None
        if text and now:
            summary = replace(now, text=text, made_at=datetime.now(UTC), is_edited=True)
        self.store.set_summary(thread.conversation.id, summary, replaces=now)

    def rebuild_summary(self, thread: Thread) -> None:
        """Have the summary made anew of all that it covers, in the background. Raise Stale, StoreUnavailable."""
        conversation_id = thread.conversation.id
        if self.summarising.claim(self.store.user_id, conversation_id, is_wanted=True):
            try:
                self.store.set_summary(conversation_id, None, replaces=thread.summary)
            except AppError:
                self.summarising.over(conversation_id)
                raise
            self._begin_summary(conversation_id)

    def setup(
        self, thread: Thread | None, picked: str | None = None, space_id: SpaceId | None = None
    ) -> Setup:
        """What the next turn of *thread* is made with, or the first of one with the model *picked*
        in a space."""
        return choose_setup(
            self.models,
            self.instructions,
            self.preferences(),
            thread,
            self.counter,
            picked,
            self.space(thread.conversation.space_id if thread else space_id),
        )

    def space(self, space_id: SpaceId | None) -> Space | None:
        """The person's space, as far as anybody can say."""
        if space_id is None:
            return None
        with suppress(StoreUnavailable):
            return next((space for space in self.spaces() if space.id == space_id), None)
        return None

    def stop(self, conversation_id: ConversationId, within: float = 2.0) -> None:
        """Stop the turn of this conversation, if there is one, and let it be stored."""
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        if turn and not turn.is_done:
            turn.stop()
            turn.wait(within)

    def leave(self, within: float = 2.0) -> None:
        """Stop the turns that were begun here, and let them be stored."""
        self.live_turns.stop(self.store, within)
        self.summarising.turns.stop(self.store, within)
        self.noting.turns.stop(self.store, within)
        if self.titling:
            self.titling.turns.stop(self.store, within)

    def titles_coming(self) -> frozenset[ConversationId]:
        """The person's conversations whose titles the model is making, here in this process."""
        return self.titling.coming(self.store.user_id) if self.titling else frozenset()

    def summaries_coming(self) -> frozenset[ConversationId]:
        """The person's conversations whose summaries the model is making, here in this process."""
        return self.summarising.coming(self.store.user_id)

    def summary_failure(self, conversation_id: ConversationId) -> AppError | None:
        """Why the conversation's last summary was not made, until one is."""
        return self.summarising.failure(conversation_id)

    def facts_coming(self) -> frozenset[ConversationId]:
        """The person's conversations that are being looked through for facts, here in this process."""
        return self.noting.coming(self.store.user_id)

    def noted(self, conversation_id: ConversationId) -> tuple[Noted, ...]:
        """What was noted last in a conversation, as far as it is kept so and was not dismissed."""
        noted = self.noting.noted(conversation_id)
        if not noted or self.memories is None:
            return ()
        with suppress(StoreUnavailable):
            kept = self.memories.facts()
            noted = tuple(one for one in noted if one.fact in kept)
        return noted

    def take_back(self, conversation_id: ConversationId, noted: Noted) -> None:
        """Forget what was noted, or put back what it took the place of.

        Raise FactChanged, StoreUnavailable.
        """
        if self.memories and noted.replaced:
            self.memories.keep(noted.replaced, replaces=noted.fact)
        elif self.memories:
            self.memories.forget(noted.fact.id)
        self.noting.dismiss(conversation_id, (noted,))

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        """Stop what is coming of it; have the conversation destroyed in so many seconds."""
        self.stop(conversation_id)
        if self.titling and (title := self.titling.turns.find(self.store.user_id, conversation_id)):
            title.stop()
        if summary := self.summarising.turns.find(self.store.user_id, conversation_id):
            summary.stop()
        if facts := self.noting.turns.find(self.store.user_id, conversation_id):
            facts.stop()
        self.store.discard(conversation_id, seconds)

    # --- inside ---------------------------------------------------------------------------------

    def _go_on(
        self, thread: Thread, prompt: str, seen_rev: int | None, tip_id: MessageId | None
    ) -> LiveTurn:
        if seen_rev is not None and seen_rev not in _seen_revs(thread):
            raise Stale
        tip = next((message for message in thread.messages if message.id == tip_id), None)
        if tip:  # the reply to a prompt has come since, or in another tab
            thread = thread.through(tip.id) if tip.role is Role.USER else thread.up_to(tip.id)
        return self._begin(thread, thread.branch(), prompt, MessageId(uuid4()))

    def _put_right(self, conversation_id: ConversationId) -> Thread:
        """The thread, after settling the turn of a prompt that was refused because the database did not
        answer: what it was asked before it stood still, it did when it went on."""
        left, prompt_id = self.store.open_turn(conversation_id), self._unsure[conversation_id]
        if left and left.state.is_open and left.prompt_id == prompt_id:
            self._end(left, conversation_id, prompt_id, Outcome.FAILED)
            log_event("turn.unmade", turn=left.id)
        return self.store.thread(conversation_id)

    def _end(
        self,
        left: OpenTurn,
        conversation_id: ConversationId,
        prompt_id: MessageId,
        outcome: Outcome,
    ) -> None:
        """End a turn that nobody is at any more, with what it had said. It is charged no more than it was."""
        self.store.finish_turn(
            Ending(
                turn_id=left.id,
                conversation_id=conversation_id,
                prompt_id=prompt_id,
                reply_id=MessageId(uuid4()),
                reply=left.said,
                outcome=outcome,
                tokens=Tokens(0, 0),
                cost_micro=0,
            )
        )

    def _stored_after_all(self, thread: Thread) -> Message | None:
        """The last prompt of *thread*, if it is the one that was refused."""
        last = thread.messages[-1] if thread.messages else None
        return last if last and last.id == self._unsure.get(thread.conversation.id) else None

    def _begin_new(self, prompt: str, model: str | None, space_id: SpaceId | None) -> LiveTurn:
        space = None
        if space_id:
            space = next((one for one in self.spaces() if one.id == space_id), None)
            if space is None:
                raise SpaceGone
        policy = (space and space.policy) or self.preferences().policy or self.first_policy
        thread = self.store.create(first_words(prompt), policy, model)
        try:
            if space:
                self.store.move(thread.conversation.id, space.id)
                conversation = replace(thread.conversation, space_id=space.id)
                thread = replace(thread, conversation=conversation)
            return self._begin(thread, (), prompt, MessageId(uuid4()))
        except AppError:
            self.store.unmake(thread.conversation.id)  # nobody wants an empty one
            raise

    def _begin(
        self,
        thread: Thread,
        past: tuple[Message, ...],
        prompt: str | None,
        prompt_id: MessageId,
        again: Message | None = None,
    ) -> LiveTurn:
        if self._is_live(thread.conversation.id):
            raise Busy
        setup = self.setup(thread)
        history = self._history(setup, thread, past, again.body if again else prompt)
        plan = self._plan(setup, thread, history)
        receipt = Receipt.of(thread.conversation.policy, setup.info.name, history, plan)
        try:
            turn, call = self.calls.reserve(
                thread, setup.offer, plan, prompt_id, prompt, receipt=receipt.written()
            )
        except StoreUnavailable:
            self._unsure[thread.conversation.id] = prompt_id
            raise
        self._unsure.pop(thread.conversation.id, None)
        self.live_turns.run(
            turn,
            lambda said: self.calls.checkpoint(turn, said),
            lambda turn: self._reply(turn, call),
        )
        return turn

    def _history(
        self, setup: Setup, thread: Thread, past: tuple[Message, ...], prompt: str | None
    ) -> History:
        conversation = thread.conversation
        history = History(
            instructions=setup.instructions,
            past=past,
            prompt=prompt,
            start_seq=_start_seq(conversation, past),
            reset_seq=conversation.reset_seq,
            facts=self._facts(setup, conversation),
            summary=thread.summary,
        )
        if not isinstance(conversation.policy, Retrieval):
            return history
        in_view = [message for message in past if message.seq > history.start_seq]
        before, epoch_seq = recalled_before(past, self._receipts(in_view, conversation.id))
        return replace(
            history,
            ranked=self.recollection.ranked(thread, past, prompt) if prompt else (),
            recalled_before=before,
            epoch_seq=epoch_seq,
        )

    def _facts(self, setup: Setup, conversation: Conversation) -> tuple[Fact, ...]:
        """What is kept and holds in *conversation*; nothing while nobody can say.

        What a person wrote into a space is part of it, whether or not facts about them are kept.
        """
        keeps_facts = setup.preferences.keeps_facts
        if self.memories is None or not (keeps_facts or setup.space):
            return ()
        with suppress(StoreUnavailable):
            return tuple(
                fact
                for fact in self.memories.facts()
                if holds_in(fact, conversation)
                and (keeps_facts or (fact.space_id and not fact.source_id))
            )
        return ()

    def _receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        with suppress(StoreUnavailable):
            return self.store.receipts(messages, conversation_id)
        return {}

    def _plan(self, setup: Setup, thread: Thread, history: History) -> ContextPlan:
        if setup.is_too_long:
            raise InstructionsTooLong
        return plan_context(thread.conversation.policy, history, _budget(setup), self.counter)

    def _reply(self, turn: LiveTurn, call: Call) -> None:
        """Produce the reply, and once its followers know, have it titled, summarised and looked through."""
        titling, is_to_summarise, is_to_note = None, False, False
        try:
            self.calls.produce(turn, call)
            titling = self._claim_title(turn)  # before they know, so that they can await it
            is_to_summarise = self._claim_summary(turn, call)
            is_to_note = self._claim_facts(turn)
        finally:
            turn.close(turn.failure)
        if titling:
            self._begin_title(titling, turn.conversation_id)
        if is_to_summarise:
            self._begin_summary(turn.conversation_id)
        if is_to_note:
            self._begin_noting(turn.conversation_id, turn.prompt_id)

    def _claim_title(self, reply: LiveTurn) -> Titling | None:
        """What to title with, if *reply* is the first that is complete and nobody gave a title yet."""
        thread = self.store.cached(reply.conversation_id)
        if thread is None or thread.conversation.is_titled or reply.failure or reply.is_stopped:
            return None
        is_ours = self.titling and self.titling.claim(reply.user_id, reply.conversation_id)
        return self.titling if is_ours else None

    def _begin_title(self, titling: Titling, conversation_id: ConversationId) -> None:
        """Have the model title the conversation in a thread of its own, if the budget allows."""
        give_up_at = time.monotonic() + _TITLE_SECONDS
        is_begun = False

        def beat(_: str) -> None:
            if time.monotonic() > give_up_at:
                turn.stop()
            self.calls.checkpoint(turn, "")

        try:
            thread = self.store.thread(conversation_id)
            branch = thread.branch()
            offer = self.setup(thread).offer
            plan = plan_title(branch, offer.info.context_tokens, self.counter)
            if plan is None or thread.conversation.is_titled:
                return
            turn, call = self.calls.reserve(thread, offer, plan, branch[0].id, None, Purpose.TITLE)
            titling.turns.run(turn, beat, lambda turn: self._title(titling, turn, call))
            is_begun = True
        except AppError:
            log_event("title.refused", conversation=conversation_id)
        finally:
            if not is_begun:
                titling.over(conversation_id)

    def _title(self, titling: Titling, turn: LiveTurn, call: Call) -> None:
        """Produce a title, and give it unless the model failed, ran on or made none."""
        try:
            reported = self.calls.produce(turn, call)
            is_cut = reported is not None and reported.reply >= call.max_tokens
            title = None if turn.failure or turn.is_stopped or is_cut else clean_title(turn.said())
            is_given = bool(title and self.store.give_title(turn.conversation_id, title))
            log_event("title.made", turn=turn.id, given=is_given)
        except AppError:  # the first words stay
            log_event("title.lost", turn=turn.id)
        finally:
            titling.over(turn.conversation_id)
            turn.close(turn.failure)

    def _claim_summary(self, reply: LiveTurn, call: Call) -> bool:
        """Whether the conversation is now ours to look at: its context fills, or something fell out of it."""
        thread = self.store.cached(reply.conversation_id)
        if thread is None or not isinstance(thread.conversation.policy, Summary):
            return False
        room = _budget(self.setup(thread)).prompt_tokens
        is_near = 2 * call.plan.prompt_tokens > room or bool(call.plan.omitted)
        return is_near and self.summarising.claim(reply.user_id, reply.conversation_id)

    def _compaction(self, thread: Thread) -> Compaction | None:
        setup = self.setup(thread)
        if setup.is_too_long:
            return None
        history = self._history(setup, thread, thread.branch(), None)
        return plan_compaction(
            history, _budget(setup), self.counter, is_cache_cheap=setup.info.is_cache_cheap
        )

    def _begin_summary(self, conversation_id: ConversationId) -> None:
        """Have the model put into words what no longer fits; nothing waits for it."""
        worker = threading.Thread(
            target=self._summarise,
            args=[conversation_id],
            name=f"summary-{conversation_id}",
            daemon=True,
        )
        worker.start()

    def _summarise(self, conversation_id: ConversationId) -> None:
        failure: AppError | None = None
        try:
            for _ in range(_MOST_CALLS):
                thread = self.store.thread(conversation_id)
                compaction = self._compaction(thread)
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

    def _fold(self, thread: Thread, compaction: Compaction) -> None:
        """One call of the model, whose answer becomes part of the summary. Raise AppError."""
        give_up_at = time.monotonic() + _SUMMARY_SECONDS
        offer, first = self.setup(thread).offer, thread.branch()[0]

        def beat(_: str) -> None:
            if time.monotonic() > give_up_at:
                turn.stop()
            self.calls.checkpoint(turn, "")

        turn, call = self.calls.reserve(
            thread, offer, compaction.call, first.id, None, Purpose.SUMMARY
        )
        reported: list[Tokens | None] = []

        def produce(turn: LiveTurn) -> None:
            reported.append(self.calls.produce(turn, call))
            turn.close(turn.failure)

        self.summarising.turns.run(turn, beat, produce)
        turn.wait(LONGEST_TURN)
        if turn.failure:
            raise turn.failure
        used = reported[0] if reported else None
        is_cut = turn.is_stopped or (used is not None and used.reply >= call.max_tokens)
        summary = compaction.summary(turn.said(), datetime.now(UTC), is_cut=is_cut)
        if summary is None:
            raise NoSummary
        self.store.set_summary(thread.conversation.id, summary, replaces=thread.summary)
        log_event("summary.made", turn=turn.id, messages=len(compaction.folded))

    def _claim_facts(self, reply: LiveTurn) -> bool:
        """Whether what the person said is now ours to be looked through for facts."""
        if reply.failure or reply.is_stopped or not self._keeps_facts():
            return False
        return self.noting.claim(reply.user_id, reply.conversation_id, reply.prompt_id)

    def _keeps_facts(self) -> bool:
        """Whether the person wants facts to be kept; no, while nobody can say."""
        with suppress(AppError):
            return self.memories is not None and bool(self.preferences().keeps_facts)
        return False

    def _begin_noting(self, conversation_id: ConversationId, prompt_id: MessageId) -> None:
        """Have the model say what the person told of themself; nothing waits for it."""
        worker = threading.Thread(
            target=self._note,
            args=[conversation_id, prompt_id],
            name=f"facts-{conversation_id}",
            daemon=True,
        )
        worker.start()

    def _note(self, conversation_id: ConversationId, prompt_id: MessageId) -> None:
        noted = None
        try:
            thread = self.store.thread(conversation_id)
            if self.memories:
                taker = NoteTaker(
                    turns=self.noting.turns,
                    calls=self.calls,
                    store=self.memories,
                    holds=lambda fact: holds_in(fact, thread.conversation),
                    is_wanted=self._keeps_facts,
                )
                noted = taker.note(thread, self.setup(thread), prompt_id)
        except AppError:  # what is kept stays as it is
            log_event("facts.lost", conversation=conversation_id)
        finally:
            self.noting.over(conversation_id, prompt_id, noted)

    def _is_live(self, conversation_id: ConversationId) -> bool:
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        return turn is not None and not turn.is_done


def holds_in(fact: Fact, conversation: Conversation) -> bool:
    """Whether *fact* is one of *conversation*, of its space, or of its person everywhere."""
    if fact.conversation_id:
        return fact.conversation_id == conversation.id
    return fact.space_id in (None, conversation.space_id)


def _budget(setup: Setup) -> ContextBudget:
    return ContextBudget(setup.context_tokens, setup.info.reply_tokens)


def _seen_revs(thread: Thread) -> set[int]:
    """Revisions whose reader knows the thread: the last; and the one before, where that reader saw a prompt
    and has only its reply, which was coming, still to see."""
    rev, last = thread.conversation.rev, thread.messages[-2:]
    is_awaited = len(last) == 2 and last[0].role is Role.USER and last[1].parent_id == last[0].id
    return {rev, rev - 1} if is_awaited else {rev}


def _start_seq(conversation: Conversation, past: tuple[Message, ...]) -> int:
    """Where the stored view of *past* begins; at the reset where that was stored for another branch."""
    is_here = any(message.seq == conversation.start_seq for message in past)
    return conversation.start_seq if is_here else conversation.reset_seq


def _clean(prompt: str) -> str:
    text = prompt.strip().replace("\x00", "")
    if not text:
        raise BadInput("There is nothing to send yet.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadInput("That text has a character that cannot be stored.") from None
    if size > LONGEST_TEXT:
        raise BadInput("That is more than one message can hold: send it in parts.")
    return text


def _awaits_reply(thread: Thread) -> bool:
    return bool(thread.messages) and thread.messages[-1].role is Role.USER
