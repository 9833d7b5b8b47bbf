"""What the model sees of a conversation, how many tokens that is, what is recalled. Pure."""

from services.memory.planner import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    plan_context,
)
from services.memory.recall import Hit, Passage, RecallIndex
from services.memory.tokens import RegexCounter, TokenCounter

__all__ = [
    "ContextBudget",
    "ContextMessage",
    "ContextPlan",
    "History",
    "Hit",
    "Passage",
    "RecallIndex",
    "RegexCounter",
    "TokenCounter",
    "plan_context",
]
