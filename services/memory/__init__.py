"""What the model sees of a conversation, and how many tokens that is. Pure."""

from services.memory.planner import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    plan_context,
)
from services.memory.tokens import RegexCounter, TokenCounter

__all__ = [
    "ContextBudget",
    "ContextMessage",
    "ContextPlan",
    "History",
    "RegexCounter",
    "TokenCounter",
    "plan_context",
]
