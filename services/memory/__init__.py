"""What the model sees of a conversation, how many tokens that is, and finding what was said. Pure."""

from services.memory.compaction import Compaction, clean_summary, plan_compaction
from services.memory.context import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    PartKind,
    Recalled,
)
from services.memory.extracts import Span
from services.memory.facts import Change, plan_facts, read_facts
from services.memory.forecast import (
    Call,
    Forecast,
    Rate,
    Rates,
    ScaledCounter,
    find_anchor,
    forecast_prompt,
    learn,
    least_tokens,
)
from services.memory.planner import plan_context
from services.memory.recall import Passage, RecallIndex
from services.memory.receipt import RecalledNote, Receipt
from services.memory.tokens import (
    KindCounter,
    RegexCounter,
    RememberingCounter,
    TokenCounter,
    fewest_tokens,
)

__all__ = [
    "Call",
    "Change",
    "Compaction",
    "ContextBudget",
    "ContextMessage",
    "ContextPlan",
    "Forecast",
    "History",
    "KindCounter",
    "PartKind",
    "Passage",
    "Rate",
    "Rates",
    "RecallIndex",
    "Recalled",
    "RecalledNote",
    "Receipt",
    "RegexCounter",
    "RememberingCounter",
    "ScaledCounter",
    "Span",
    "TokenCounter",
    "clean_summary",
    "fewest_tokens",
    "find_anchor",
    "forecast_prompt",
    "learn",
    "least_tokens",
    "plan_compaction",
    "plan_context",
    "plan_facts",
    "read_facts",
]
