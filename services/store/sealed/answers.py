"""Repeating a request whose response was lost, and converting stored costs to domain values."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from services.domain import TurnCost, TurnId, Usage
from services.errors import StoreUnavailable
from services.store.rows import CostRow

Answer = TypeVar("Answer")


def ask_twice(request: Callable[[], Answer]) -> Answer:
    """Return the result of *request*; if the response was lost, repeat it: the store applies an identical request only once."""
    try:
        return request()
    except StoreUnavailable:
        return request()


def final_costs(rows: Iterable[CostRow]) -> dict[TurnId, TurnCost]:
    """Return the costs of those turns in *rows* whose costs can no longer change."""
    return {
        row.id: TurnCost(
            row.model, Usage(row.tokens_in, row.tokens_out, row.tokens_cached), row.charged_micro
        )
        for row in rows
        if row.state.is_final
    }
