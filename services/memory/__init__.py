"""What the model sees of a conversation, and how many tokens that is. Pure."""

from services.memory.forecast import (
    Call,
    Forecast,
    Rate,
    Rates,
    ScaledCounter,
    find_anchor,
    forecast_prompt,
    learn,
)
from services.memory.planner import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    plan_context,
)
from services.memory.tokens import KindCounter, RegexCounter, RememberingCounter, TokenCounter

__all__ = [
    "Call",
    "ContextBudget",
    "ContextMessage",
    "ContextPlan",
    "Forecast",
    "History",
    "KindCounter",
    "Rate",
    "Rates",
    "RegexCounter",
    "RememberingCounter",
    "ScaledCounter",
    "TokenCounter",
    "find_anchor",
    "forecast_prompt",
    "learn",
    "plan_context",
]
