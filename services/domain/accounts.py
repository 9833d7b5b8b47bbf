"""Accounts, and the usage and cost of model calls."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
SessionId = NewType("SessionId", UUID)


class AccountRole(StrEnum):
    """The role of a user in this deployment."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used by one model call."""

    prompt: int
    reply: int
    cached: int = 0  # of the prompt, served from the provider's cache
    thoughts: int = 0  # of the reply, and no part of its text


@dataclass(frozen=True, slots=True)
class TurnCost:
    """The usage of a settled turn, and its cost in micro-dollars."""

    model: str
    tokens: Usage
    cost_micro: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The role and the budget of a user. Amounts in micro-dollars, and tokens."""

    user_id: UserId
    email: str = field(repr=False)
    role: AccountRole
    daily_cap_micro: int
    monthly_cap_micro: int
    spent_today_micro: int
    spent_this_month_micro: int
    reserved_micro: int
    daily_cap_tokens: int | None  # None: no cap
    tokens_today: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUsage:
    """The usage of one user, without content. Costs in micro-dollars."""

    user_id: UserId
    email: str = field(repr=False)
    role: AccountRole
    is_suspended: bool
    last_active_at: datetime | None
    turns_today: int
    tokens_in_today: int
    tokens_out_today: int
    cost_today_micro: int
    turns_this_month: int
    tokens_in_this_month: int
    tokens_out_this_month: int
    cost_this_month_micro: int
    daily_cap_micro: int
    monthly_cap_micro: int
