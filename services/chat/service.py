"""The use cases of a conversation: begin a turn, try again, follow, see what the model will see.

begin -> plan_context -> store the prompt and reserve its worst cost -> a thread streams the reply
-> however it ends, store what was said and settle -> followers hear "done"
-> once, after the first complete reply, the same way: a title
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.remote_turn import RemoteTurn
from services.chat.setup import Setup, choose_setup
from services.chat.titles import Titling, clean_title, first_words, plan_title
from services.domain import (
    Conversation,
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Outcome,
    Preferences,
    Purpose,
    Role,
    Thread,
    Tokens,
    TurnId,
    UserId,
    Window,
)
from services.errors import (
    AppError,
    BadInput,
    Busy,
    InstructionsTooLong,
    ModelFailure,
    ModelUnavailable,
    NotFound,
    SignedOut,
    Stale,
    StoreUnavailable,
    Tampered,
)
from services.events import log_event
from services.llm import ModelInfo, Models, Offer
from services.memory import ContextBudget, ContextPlan, History, TokenCounter, plan_context
from services.store.rows import TurnState
from services.store.turns import Begun, ClientTurnId, Ending, NewTurn, OpenTurn

LEASE_SECONDS = 10  # prolonged every second; after a kill the turn is settled so much later
_LONGEST_TURN = 1200  # seconds: a token that lives so long outlives every turn
_LEAST_REPLY_TOKENS = 64  # a shorter reply is not worth its prompt
_TITLE_SECONDS = 30.0  # for which a title is waited
_PATIENCE = 900.0  # seconds for which a reply waits for a database that is away
_LONGEST_TEXT = 200_000  # bytes of a prompt or a reply; not much more can be sealed
_LONGEST_PIECE = 20_000  # characters of a reply that are looked at together


class ConversationStore(Protocol):
    """What a chat needs of one person's conversations."""

    @property
    def user_id(self) -> UserId: ...
    def keep_fresh(self, seconds: int) -> None: ...
    def cached(self, conversation_id: ConversationId) -> Thread | None: ...
    def thread(self, conversation_id: ConversationId) -> Thread: ...
    def create(self, title: str, policy: MemoryPolicy, model: str | None = None) -> Thread: ...
    def unmake(self, conversation_id: ConversationId) -> None: ...
    def discard(self, conversation_id: ConversationId, seconds: int) -> None: ...
    def begin_turn(self, turn: NewTurn) -> Begun: ...
    def checkpoint_turn(
        self, turn_id: TurnId, conversation_id: ConversationId, said: str, lease_seconds: int
    ) -> bool: ...
    def finish_turn(self, ending: Ending) -> None: ...
    def give_title(self, conversation_id: ConversationId, title: str) -> bool: ...
    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a model, and how much it may say."""

    offer: Offer
    plan: ContextPlan
    max_tokens: int


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
    first_policy: MemoryPolicy = field(default_factory=Window)
    titling: Titling | None = None  # None: titles stay the first words
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
    ) -> LiveTurn:
        """Store *prompt* and let the reply come. Without a conversation a new one is made, of *model*.

        *seen_rev* is the revision that the reader had on the page, *tip_id* the message after which the
        prompt is said, if that is not the newest. Raise Stale where it went on elsewhere, Busy,
        OverBudget, PromptTooLong, BadInput, NotFound, StoreUnavailable.
        """
        prompt = _clean(prompt)
        self.store.keep_fresh(_LONGEST_TURN)
        if conversation_id is None:
            return self._begin_new(prompt, model)
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
        self.store.keep_fresh(_LONGEST_TURN)
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
        return self._plan(setup, thread, thread.branch(), None)

    def setup(self, thread: Thread | None, picked: str | None = None) -> Setup:
        """What the next turn of *thread* is made with, or the first of one with the model *picked*."""
        return choose_setup(
            self.models, self.instructions, self.preferences(), thread, self.counter, picked
        )

    def stop(self, conversation_id: ConversationId, within: float = 2.0) -> None:
        """Stop the turn of this conversation, if there is one, and let it be stored."""
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        if turn and not turn.is_done:
            turn.stop()
            turn.wait(within)

    def leave(self, within: float = 2.0) -> None:
        """Stop the turns that were begun here, and let them be stored."""
        self.live_turns.stop(self.store, within)
        if self.titling:
            self.titling.turns.stop(self.store, within)

    def titles_coming(self) -> frozenset[ConversationId]:
        """The person's conversations whose titles the model is making, here in this process."""
        return self.titling.coming(self.store.user_id) if self.titling else frozenset()

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        """Stop the reply and the title that are coming; have the conversation destroyed in so many seconds."""
        self.stop(conversation_id)
        if self.titling and (title := self.titling.turns.find(self.store.user_id, conversation_id)):
            title.stop()
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

    def _begin_new(self, prompt: str, model: str | None) -> LiveTurn:
        thread = self.store.create(first_words(prompt), self.first_policy, model)
        try:
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
        plan = self._plan(setup, thread, past, again.body if again else prompt)
        try:
            turn, call = self._reserve(thread, setup.offer, plan, prompt_id, prompt)
        except StoreUnavailable:
            self._unsure[thread.conversation.id] = prompt_id
            raise
        self._unsure.pop(thread.conversation.id, None)
        self.live_turns.run(
            turn,
            lambda said: self._checkpoint(turn, said),
            lambda turn: self._reply(turn, call),
        )
        return turn

    def _reserve(
        self,
        thread: Thread,
        offer: Offer,
        plan: ContextPlan,
        prompt_id: MessageId,
        prompt: str | None,
        purpose: Purpose = Purpose.REPLY,
    ) -> tuple[LiveTurn, _Call]:
        """A turn that is begun in the books, and the call it may make. Raise as `begin`."""
        info = offer.info
        worst_prompt = info.cost_micro(Tokens(plan.bound_tokens, 0))
        begun = self.store.begin_turn(
            NewTurn(
                client_turn_id=ClientTurnId(uuid4()),
                thread=thread,
                prompt_id=prompt_id,
                prompt=prompt,
                start_seq=plan.start_seq,
                model=info.name,
                prompt_micro=worst_prompt,
                reply_micro=_reply_micro(info, plan.reply_tokens),
                least_reply_micro=_reply_micro(info, min(_LEAST_REPLY_TOKENS, plan.reply_tokens)),
                lease_seconds=LEASE_SECONDS,
                purpose=purpose,
            )
        )
        affordable = info.affordable_reply(begun.reserved_micro - worst_prompt)
        max_tokens = min(plan.reply_tokens, affordable)
        turn = LiveTurn(
            self.store.user_id,
            thread.conversation.id,
            begun.turn_id,
            prompt_id,
            owner=self.store,
            thread=_with_prompt(thread, prompt_id, prompt, plan.start_seq) if prompt else None,
            purpose=purpose,
        )
        log_event(
            "turn.begun",
            turn=turn.id,
            purpose=purpose,
            reserved_micro=begun.reserved_micro,
            prompt_tokens=plan.prompt_tokens,
            max_tokens=max_tokens,
            omitted=len(plan.omitted),
        )
        return turn, _Call(offer, plan, max_tokens)

    def _plan(
        self, setup: Setup, thread: Thread, past: tuple[Message, ...], prompt: str | None
    ) -> ContextPlan:
        if setup.is_too_long:
            raise InstructionsTooLong
        history = History(
            instructions=setup.instructions,
            past=past,
            prompt=prompt,
            start_seq=_start_seq(thread.conversation, past),
            reset_seq=thread.conversation.reset_seq,
        )
        budget = ContextBudget(setup.info.context_tokens, setup.info.reply_tokens)
        return plan_context(thread.conversation.policy, history, budget, self.counter)

    def _reply(self, turn: LiveTurn, call: _Call) -> None:
        """Produce the reply, and once its followers know, have the conversation titled."""
        titling = None
        try:
            self._produce(turn, call)
            titling = self._claim_title(turn)  # before they know, so that they can await it
        finally:
            turn.close(turn.failure)
        if titling:
            self._begin_title(titling, turn.conversation_id)

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
            self._checkpoint(turn, "")

        try:
            thread = self.store.thread(conversation_id)
            branch = thread.branch()
            offer = self.setup(thread).offer
            plan = plan_title(branch, offer.info.context_tokens, self.counter)
            if plan is None or thread.conversation.is_titled:
                return
            turn, call = self._reserve(thread, offer, plan, branch[0].id, None, Purpose.TITLE)
            titling.turns.run(turn, beat, lambda turn: self._title(titling, turn, call))
            is_begun = True
        except AppError:
            log_event("title.refused", conversation=conversation_id)
        finally:
            if not is_begun:
                titling.over(conversation_id)

    def _title(self, titling: Titling, turn: LiveTurn, call: _Call) -> None:
        """Produce a title, and give it unless the model failed, ran on or made none."""
        try:
            reported = self._produce(turn, call)
            is_cut = reported is not None and reported.reply >= call.max_tokens
            title = None if turn.failure or turn.is_stopped or is_cut else clean_title(turn.said())
            is_given = bool(title and self.store.give_title(turn.conversation_id, title))
            log_event("title.made", turn=turn.id, given=is_given)
        except AppError:  # the first words stay
            log_event("title.lost", turn=turn.id)
        finally:
            titling.over(turn.conversation_id)
            turn.close(turn.failure)

    def _produce(self, turn: LiveTurn, call: _Call) -> Tokens | None:
        """Stream into *turn*, store and settle, however it ends. Return what the endpoint counted."""
        used: Tokens | None = None
        reported: Tokens | None = None
        failure: AppError | None = None
        is_called = False
        try:
            if self._checkpoint(turn, "") and not turn.is_stopped:
                is_called = True
                stream = call.offer.client.start(call.plan.messages, max_tokens=call.max_tokens)
                turn.when_stopped(stream.cancel)
                for piece in stream:
                    if isinstance(piece, Tokens):
                        used = reported = piece
                    else:
                        _push(turn, piece)
            elif not turn.is_stopped:
                failure = StoreUnavailable("lapsed before the model was called")
        except AppError as error:
            failure = error
        except Exception:  # a bug: the turn is settled all the same, and the bug seen
            failure = ModelUnavailable(ModelFailure.GARBLED)
            raise
        finally:
            if used is None and is_called:
                used = self._counted(call, turn.said(), is_failed=failure is not None)
            turn.failure = self._settle(turn, call.offer.info, used or Tokens(0, 0), failure)
        return reported

    def _settle(
        self, turn: LiveTurn, info: ModelInfo, tokens: Tokens, failure: AppError | None
    ) -> AppError | None:
        said = turn.said()
        outcome = (
            Outcome.STOPPED if turn.is_stopped else Outcome.FAILED if failure else Outcome.COMPLETE
        )
        ending = Ending(
            turn_id=turn.id,
            conversation_id=turn.conversation_id,
            prompt_id=turn.prompt_id,
            reply_id=MessageId(uuid4()),
            reply=said if turn.purpose is Purpose.REPLY else "",
            outcome=outcome,
            tokens=tokens,
            cost_micro=info.cost_micro(tokens),
        )
        unsaved = self._finish(ending)
        log_event(
            "turn.finished",
            turn=turn.id,
            purpose=turn.purpose,
            outcome=outcome,
            prompt_tokens=tokens.prompt,
            reply_tokens=tokens.reply,
            cost_micro=ending.cost_micro,
            saved=unsaved is None,
        )
        return unsaved or (None if turn.is_stopped else failure)

    def _finish(self, ending: Ending) -> AppError | None:
        """Store the ending; wait for a database that is away, which loses nothing meanwhile."""
        deadline, pause = time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                self.store.keep_fresh(_LONGEST_TURN // 20)
                self.store.finish_turn(ending)
            except StoreUnavailable as error:
                if time.monotonic() > deadline:
                    return error
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
            except (SignedOut, Tampered, Busy, NotFound) as error:
                return error
            else:
                return None

    def _counted(self, call: _Call, said: str, *, is_failed: bool) -> Tokens:
        """Our own count, where the endpoint reported none; it leans high, but not above what is reserved."""
        if is_failed and not said:
            return Tokens(0, 0)
        return Tokens(
            min(call.plan.prompt_tokens, call.plan.bound_tokens),
            min(self.counter.count(said), call.max_tokens),
        )

    def _checkpoint(self, turn: LiveTurn, said: str) -> bool:
        return self.store.checkpoint_turn(turn.id, turn.conversation_id, said, LEASE_SECONDS)

    def _is_live(self, conversation_id: ConversationId) -> bool:
        turn = self.live_turns.find(self.store.user_id, conversation_id)
        return turn is not None and not turn.is_done


def _reply_micro(info: ModelInfo, tokens: int) -> int:
    return info.cost_micro(Tokens(0, tokens))


def _seen_revs(thread: Thread) -> set[int]:
    """Revisions whose reader knows the thread: the last; and the one before, where that reader saw a prompt
    and has only its reply, which was coming, still to see."""
    rev, last = thread.conversation.rev, thread.messages[-2:]
    is_awaited = len(last) == 2 and last[0].role is Role.USER and last[1].parent_id == last[0].id
    return {rev, rev - 1} if is_awaited else {rev}


def _with_prompt(thread: Thread, prompt_id: MessageId, prompt: str, start_seq: int) -> Thread:
    """*thread* as it stands once *prompt* is stored, but for the database's own times."""
    branch = thread.branch()
    message = Message(
        id=prompt_id,
        seq=thread.messages[-1].seq + 1 if thread.messages else 1,
        parent_id=branch[-1].id if branch else None,
        role=Role.USER,
        body=prompt,
        created_at=datetime.now(UTC),
    )
    conversation = replace(
        thread.conversation, rev=thread.conversation.rev + 1, start_seq=start_seq
    )
    messages = (*thread.messages, message)
    return replace(thread, conversation=conversation, messages=messages, tip_id=None)


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
    if size > _LONGEST_TEXT:
        raise BadInput("That is more than one message can hold: send it in parts.")
    return text


def _push(turn: LiveTurn, piece: str) -> None:
    """Add *piece*. Raise ModelUnavailable, with what fits added, far beyond what was asked for."""
    for start in range(0, len(piece), _LONGEST_PIECE):
        if turn.push(piece[start : start + _LONGEST_PIECE]) > _LONGEST_TEXT:
            raise ModelUnavailable(ModelFailure.GARBLED)


def _awaits_reply(thread: Thread) -> bool:
    return bool(thread.messages) and thread.messages[-1].role is Role.USER
