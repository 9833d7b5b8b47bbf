"""Plans of the messages to send to the model, calibrated with the endpoint's token counts.

A plan depends on stored rows alone, which include the calibration, so every process makes the same plan. The one
exception: after a prompt was refused as too long, this process plans without the calibration and in less room.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from services.chat.counting import Counting
from services.chat.search import Located, Search
from services.chat.setup import Setup
from services.domain import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    Thread,
    TurnId,
)
from services.domain.context import (
    ContextBudget,
    ContextPlan,
    Extract,
    Forecast,
    History,
    RecalledMessage,
    SentContext,
)
from services.errors import BadInput, InstructionsTooLong, NotFound, StoreUnavailable
from services.memory.compaction import Compaction, plan_compaction
from services.memory.continuing import REQUEST
from services.memory.forecast import Calibration, min_likely_tokens
from services.memory.planner import plan_context
from services.memory.receipt import Receipt
from services.memory.tokens import KindCounter
from services.store.port import Turns

# maximum number of the newest messages that are searched for a receipt with a calibration of the model; if none has one,
# the plan is not calibrated
_LOOKED_AT = 20
_OUT_OF_VIEW = "The model no longer sees this reply, so it cannot continue it. Send a new message."


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """Makes the context plans for one user's turns.

    A *view* is the plan of the next turn without its prompt. While the database is unreachable, a view uses cached
    data, but planning a turn raises StoreUnavailable, because the stored rows could lead to another plan.
    """

    turns: Turns
    counter: KindCounter
    counting: Counting
    search: Search
    # true: while the database is unreachable, or if the conversation is gone, plan without receipts and recalled messages
    # instead of raising an error
    is_lenient: bool = False

    def turn(
        self, thread: Thread, setup: Setup, past: tuple[Message, ...], prompt: str | None
    ) -> tuple[ContextPlan, Receipt]:
        """Plan a turn with *prompt* after *past*, a branch of *thread*; return the plan and the receipt to store.

        Without a prompt, plan to continue the reply at the end of *past*; raise BadInput if the plan does not include that
        reply. May raise PromptTooLong, ChatFull, InstructionsTooLong or StoreUnavailable.
        """
        history = self._history(thread, setup, past, prompt)
        if prompt is None and not setup.offer.takes_prefix:
            history = replace(history, prompt=REQUEST)
        stored, model = self._stored_rates(thread, setup, past), setup.offer.info.name
        rates = self.counting.rates(model, stored)
        counter = self.counting.counter(self.counter, stored)
        budget = self.budget(thread, setup)
        plan = plan_context(thread.conversation.policy, history, budget, counter)
        if prompt is None and past[-1].id not in plan.verbatim_ids:
            raise BadInput(_OUT_OF_VIEW)
        if prompt is None and setup.offer.takes_prefix:
            # Anthropic's models refuse a prefix that ends with white space
            *before, prefix = plan.messages
            plan = replace(plan, messages=(*before, replace(prefix, body=prefix.body.rstrip())))
        least = min_likely_tokens(plan.messages, rates, self.counter)
        return plan, Receipt.from_plan(
            thread.conversation.policy, model, history, plan, rates, least
        )

    def view(self, thread: Thread, setup: Setup) -> tuple[History, ContextPlan]:
        """Return the history of the next turn without its prompt, and the plan made from this history.

        May raise ChatFull, PromptTooLong or InstructionsTooLong.
        """
        lenient = self._lenient
        history = lenient._history(thread, setup, thread.branch(), None)
        rates = lenient._stored_rates(thread, setup, history.past)
        counter = self.counting.counter(self.counter, rates)
        budget = self.budget(thread, setup)
        return history, plan_context(thread.conversation.policy, history, budget, counter)

    def budget(self, thread: Thread, setup: Setup) -> ContextBudget:
        """Return the budget of *setup*, with less room if the endpoint has refused a prompt of *thread* as too long."""
        room = self.counting.room(thread.conversation.id, setup.offer.info.name)
        # Two cases keep the whole budget. If the refusal named the window, the budget is smaller already than the refused
        # prompt, of which `room` is two thirds. And a policy that sends everything cannot send less in less room.
        is_smaller = room is not None and 2 * setup.budget.prompt_tokens < 3 * room
        if room is None or is_smaller or thread.conversation.policy.kind.sends_all:
            return setup.budget
        return setup.budget.within(room)

    def forecast(self, thread: Thread, setup: Setup, view: ContextPlan) -> Forecast:
        """Forecast the endpoint's token count of *view*."""
        stored = self._lenient._stored_rates(thread, setup, thread.branch())
        model = setup.offer.info.name
        rates = self.counting.rates(model, stored)
        return self.counting.forecast(thread.conversation.id, model, view, rates, self.counter)

    def recalled_messages(
        self, thread: Thread, receipt: SentContext
    ) -> Mapping[MessageId, Located]:
        """Return the messages from other conversations that *receipt* lists, if they still exist in the thread's space."""
        here = {message.id for message in thread.messages}
        far = {
            note.message_id: where
            for note in receipt.recalls
            if (where := note.conversation_id) and note.message_id not in here
        }
        return self._lenient._opened(far, thread)

    def compaction(self, thread: Thread, setup: Setup) -> Compaction | None:
        """Plan the next extension of the summary of *thread*; None if none is due. May raise StoreUnavailable."""
        if setup.is_too_long or thread.is_newer:
            return None
        history = self._history(thread, setup, thread.branch(), None)
        rates = self._stored_rates(thread, setup, history.past)
        return plan_compaction(
            history,
            self.budget(thread, setup),
            # the plan of the next turn will count with the same counter
            self.counting.counter(self.counter, rates),
            is_cache_cheap=setup.offer.info.is_cache_cheap,
        )

    # --- internal methods -----------------------------------------------------------------------

    @property
    def _lenient(self) -> "Planning":
        return replace(self, is_lenient=True)

    def _receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        with self._away():
            return self.turns.receipts(messages, conversation_id)
        return {}

    def _opened(
        self, asked: Mapping[MessageId, ConversationId], thread: Thread
    ) -> Mapping[MessageId, Located]:
        with self._away():
            return self.search.opened(asked, thread)
        return {}

    def _away(self) -> suppress:
        return suppress(*([StoreUnavailable, NotFound] if self.is_lenient else []))

    def _history(
        self, thread: Thread, setup: Setup, past: tuple[Message, ...], prompt: str | None
    ) -> History:
        """Return the input for the next context plan. Raise InstructionsTooLong if the instructions leave too little room."""
        if setup.is_too_long:
            raise InstructionsTooLong
        conversation = thread.conversation
        history = History(
            instructions=setup.instructions,
            past=past,
            prompt=prompt,
            start_seq=_start_seq(conversation, past),
            reset_seq=conversation.reset_seq,
            facts=setup.facts,
            summary=thread.summary,
        )
        if not conversation.policy.kind.needs_search:
            return replace(history, prefix_seq=self._prefix_seq(conversation, past))
        in_view = [message for message in past if message.seq > history.start_seq]
        stored = self.search.recalls(
            in_view, partial(self._receipts, conversation_id=conversation.id)
        )
        is_elsewhere = bool(setup.preferences.recalls_elsewhere)
        ranked: tuple[RecalledMessage, ...] = ()
        if prompt is not None:
            ranked = self.search.ranked(thread, past, prompt, is_elsewhere=is_elsewhere)
        elif is_elsewhere:
            self.search.prepare()
        by_id = {message.id: RecalledMessage(message) for message in past}
        if is_elsewhere:
            far = {key: where for one in stored.values() for key, where in one.elsewhere.items()}
            by_id |= {
                message_id: RecalledMessage(message, conversation_id=where)
                for message_id, (where, message) in self._opened(far, thread).items()
            }
        return replace(
            history,
            candidates=ranked,
            earlier_recalls={
                prompt_id: tuple(
                    replace(by_id[message_id], extract=extract)
                    for message_id, extract in one.own
                    if message_id in by_id and _has(by_id[message_id].message, extract)
                )
                for prompt_id, one in stored.items()
            },
            prefix_seq=[0, *(one.prefix_seq for one in stored.values())][-1],
        )

    def _prefix_seq(self, conversation: Conversation, past: Sequence[Message]) -> int:
        """Return the prefix_seq of the last turn's plan, from its receipt; 0 if that plan used another context policy."""
        last = [one for one in past if one.turn_id][-1:]
        texts = self._receipts(last, conversation.id).values()
        receipt = Receipt.from_json(next(iter(texts), ""))
        if receipt is None or receipt.policy != conversation.policy.name:
            return 0
        return receipt.prefix_seq

    def _stored_rates(self, thread: Thread, setup: Setup, past: tuple[Message, ...]) -> Calibration:
        """Return the stored calibration for a plan of *past*, a branch of *thread*.

        The calibration is empty if the endpoint refused the last prompt as too long, because the calibrated count was then
        too low.
        """
        conversation_id, model = thread.conversation.id, setup.offer.info.name
        receipts = partial(self._receipts, conversation_id=conversation_id)
        stored = stored_rates(model, past, receipts)
        return Calibration() if self.counting.was_refused(conversation_id) else stored


def stored_rates(
    model: str,
    past: Sequence[Message],
    receipts: Callable[[Sequence[Message]], Mapping[TurnId, str]],
) -> Calibration:
    """Return the calibration in the last receipt of *model* on the branch *past*; empty if there is no such receipt."""
    latest = list(islice((one for one in reversed(past) if one.turn_id), _LOOKED_AT))
    # read the newest receipt first, without the others, because it is nearly always a receipt of *model*
    for some in (latest[:1], latest[1:]):
        texts = receipts(some)
        for message in some:
            text = texts.get(message.turn_id) if message.turn_id else None
            receipt = Receipt.from_json(text) if text else None
            if receipt and receipt.model == model:
                return receipt.calibration
    return Calibration()


def _start_seq(conversation: Conversation, past: tuple[Message, ...]) -> int:
    """Return the sequence number after which messages of *past* are sent in full: the stored start_seq or, if that belongs
    to another branch, the reset_seq, up to which no message is ever sent.
    """
    is_here = any(message.seq == conversation.start_seq for message in past)
    return conversation.start_seq if is_here else conversation.reset_seq


def _has(message: Message, extract: Extract | None) -> bool:
    """Return True if *extract*, which comes from a stored receipt, lies within the body of *message*."""
    return extract is None or 0 <= extract[0] < extract[1] <= len(message.body)
