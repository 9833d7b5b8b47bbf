"""What the model sees of a conversation, and how many tokens that is. Pure."""

from services.memory.compaction import Compaction, clean_summary, plan_compaction
from services.memory.context import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    Fact,
    History,
    Part,
    PartKind,
    Recalled,
    RunningSummary,
)
from services.memory.counts import CachedCounter
from services.memory.planner import plan_context
from services.memory.receipt import RecalledNote, Receipt
from services.memory.tokens import RegexCounter, TokenCounter

__all__ = [
    "CachedCounter",
    "Compaction",
    "ContextBudget",
    "ContextMessage",
    "ContextPlan",
    "Fact",
    "History",
    "Part",
    "PartKind",
    "Recalled",
    "RecalledNote",
    "Receipt",
    "RegexCounter",
    "RunningSummary",
    "TokenCounter",
    "clean_summary",
    "plan_compaction",
    "plan_context",
]
