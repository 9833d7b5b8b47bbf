"""The running summary: when it is made, what the model is asked for it, and what of an answer counts.

After a turn `plan_compaction` says whether the next one would overflow, and which of the oldest pairs
to fold into the summary so that about 70 % of the budget stay taken. The summary grows by a dated
paragraph each time, and is written anew only where it has become too long: so the prompt's beginning
lasts, little is written, and what was said long ago is not retold each time.

The model is asked in one of two ways:

* In place: the very prompt of the last turn with its reply, and after it the request. What the
  provider's cache (or a local model's) holds already is not read again, which is most of the cost.
* Apart: the messages as quoted data in one request. That is for what is no longer in view, because a
  summary failed, or the policy or the summary is new; in chunks that fit the context window.

Nothing waits for a summary: until it is there the view is a window.
"""

from dataclasses import dataclass, field
from datetime import datetime

from services.domain import MessageId
from services.memory.context import ContextBudget, ContextPlan, History, RunningSummary
from services.memory.tokens import TokenCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """A call of the model that makes the summary longer, and what it will then cover."""

    call: ContextPlan  # its reply_tokens are the most that it may say
    from_seq: int
    up_to_seq: int
    folded: tuple[MessageId, ...]  # by this call
    waiting: int  # messages that another call has to fold after this one
    kept_text: str = field(repr=False)  # the paragraphs that the answer is put after

    def summary(
        self, said: str, made_at: datetime, *, is_cut: bool = False
    ) -> RunningSummary | None:
        """The summary that *said* makes; None if it is none. *is_cut*: it reached its limit."""
        raise NotImplementedError


def plan_compaction(
    history: History, budget: ContextBudget, counter: TokenCounter
) -> Compaction | None:
    """What to fold after a turn, or None while the next one fits. *history* has no prompt.

    Afterwards, with the summary in `History.summary`, ask again while `Compaction.waiting`.
    """
    return None


def clean_summary(said: str, limit_tokens: int) -> str | None:
    """The summary that *said* holds; None if it is empty, far too long, a refusal or breaks off."""
    raise NotImplementedError
