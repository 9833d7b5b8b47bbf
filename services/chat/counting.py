"""Token counts that model endpoints reported for one user's prompts, and the calibration learned from them.

A context plan counts tokens with the calibration in the branch's last receipt (the record of what a turn sent), so the
plan depends on stored rows alone. A newer calibration of this process is stored with the next receipt.
"""

import threading

from services.caches import LruCache
from services.chat.live_turn import LiveTurn
from services.chat.paid_calls import Call
from services.domain import ConversationId, Role, Usage
from services.domain.context import ContextMessage, ContextPlan, Forecast
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.memory.forecast import (
    CalibratedCounter,
    Calibration,
    CountedCall,
    find_anchor,
    forecast_prompt,
    learn,
)
from services.memory.layout import MESSAGE_TOKENS
from services.memory.tokens import KindCounter, TokenCounter

_MOST_CONVERSATIONS = 50
# maximum calls cached per conversation: more than one, because the last call may have used another model or been miscounted
_MOST_CALLS = 3
# the least room of a prompt after a refusal, in tokens: that of a window of 512, the smallest that the app assumes
_LEAST_ROOM = 384


class Counting:
    """One user's model calls with the reported token counts, in memory only, because the calls contain text.

    If an endpoint refuses a prompt as too long, plans use uncalibrated counts until the conversation gets a reply, and
    prompts get less room than the refused one took. Any thread may call any method.
    """

    def __init__(self) -> None:
        self._calls = LruCache[ConversationId, tuple[CountedCall, ...]](_MOST_CONVERSATIONS)
        self._rates: dict[str, Calibration] = {}
        self._refused: set[ConversationId] = set()
        self._rooms = LruCache[tuple[ConversationId, str], int](_MOST_CONVERSATIONS)
        self._last: tuple[Calibration, CalibratedCounter] | None = None
        self._change = threading.Lock()

    def __repr__(self) -> str:
        return "Counting()"

    def rates(self, model: str, stored: Calibration) -> Calibration:
        """Return this process's calibration of *model* or *stored*, whichever has more samples."""
        with self._change:
            known = self._rates.get(model, Calibration())
            self._rates[model] = stored if stored.samples > known.samples else known
            return self._rates[model]

    def counter(self, base: KindCounter, rates: Calibration) -> TokenCounter:
        """Return a counter calibrated with *rates*, or *base* if *rates* is empty. The last counter is cached."""
        if not rates.by_kind:
            return base
        last = self._last  # read once, because another thread may replace `_last`
        if last is None or last[0] != rates:
            self._last = last = rates, CalibratedCounter(base, rates)
        return last[1]

    def note_end(
        self, turn: LiveTurn, call: Call, reported: Usage | None, counter: KindCounter
    ) -> None:
        """Learn from *turn*, the newest turn of its conversation, and from the usage that the endpoint *reported*."""
        model, conversation_id, failure = call.offer.info.name, turn.conversation_id, turn.failure
        room = self.room(conversation_id, model)
        if isinstance(failure, ModelUnavailable) and failure.failure is ModelFailure.TOO_LONG:
            self._refused.add(conversation_id)
            room = max(_LEAST_ROOM, _plain_tokens(call.plan, counter) * 2 // 3)
        elif failure is None:
            self._refused.discard(conversation_id)
            # grow with the prompts: in all the room, the next plan could move its start back to what was refused
            room = room and max(room, _plain_tokens(call.plan, counter) * 2)
        if room:
            self._rooms.put((conversation_id, model), room)
        # without reported usage there are only the app's own estimates, from which nothing can be learned
        if reported is None:
            return
        counted = CountedCall(
            model=model,
            messages=call.plan.messages,
            reply=ContextMessage(Role.ASSISTANT, turn.said()),
            tokens=reported,
        )
        with self._change:
            calls = self._calls.get(conversation_id) or ()
            before = next((one for one in reversed(calls) if one.model == model), None)
            rates = self._rates.get(model, Calibration())
            self._rates[model] = learn(rates, before, counted, counter)
            self._calls.put(conversation_id, (*calls, counted)[-_MOST_CALLS:])

    def forecast(
        self,
        conversation_id: ConversationId,
        model: str,
        plan: ContextPlan,
        rates: Calibration,
        counter: KindCounter,
    ) -> Forecast:
        """Forecast the tokens that the endpoint will count for *plan*; without calibration, return the planned tokens."""
        anchor = find_anchor(self._calls.get(conversation_id) or (), model, rates, counter)
        if anchor is None and not rates.by_kind:
            return Forecast(plan.prompt_tokens, is_anchored=False)
        return forecast_prompt(plan.messages, anchor, rates, counter)

    def was_refused(self, conversation_id: ConversationId) -> bool:
        """Return True if the last prompt of a conversation was too long for its endpoint."""
        return conversation_id in self._refused

    def room(self, conversation_id: ConversationId, model: str) -> int | None:
        """Return the most tokens of a prompt to *model*, which has refused a longer one in this conversation; else None."""
        return self._rooms.get((conversation_id, model))

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop a conversation's calls from memory, because they contain its text."""
        with self._change:
            self._calls.drop(conversation_id)
            self._last = None


def _plain_tokens(plan: ContextPlan, counter: KindCounter) -> int:
    """Return the tokens of the messages of *plan*, without a calibration."""
    return sum(MESSAGE_TOKENS + counter.count(message.body) for message in plan.messages)
