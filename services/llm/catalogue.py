"""What is known about a model before it is called: its window and its prices."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo as Listed
from genai_prices.types import TieredPrices

from services.domain import Usage
from services.llm.limits import LimitSource, find_limits
from services.llm.stated import Refusal, Stated

_MILLION = 1_000_000
_NOTHING = Stated()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's limits, and its prices in micro-dollars for a million tokens."""

    name: str
    context_tokens: int
    reply_tokens: int
    input_micro: int
    output_micro: int
    cached_input_micro: int
    context_source: LimitSource = LimitSource.SETTING
    reply_source: LimitSource = LimitSource.SETTING
    is_reasoning: bool = False

    def cost_micro(self, tokens: Usage) -> int:
        """Micro-dollars for *tokens*, rounded up."""
        cached = min(tokens.cached, tokens.prompt)
        parts = (
            (tokens.prompt - cached) * self.input_micro
            + cached * self.cached_input_micro
            + tokens.reply * self.output_micro
        )
        return -(-parts // _MILLION)

    @property
    def is_cache_cheap(self) -> bool:
        """Whether what a provider's cache holds costs less than a third."""
        return 3 * self.cached_input_micro < self.input_micro or not self.input_micro

    def narrowed(self, refusal: Refusal) -> "ModelInfo":
        """The same with the limits that a *refusal* named, where they are smaller."""
        window, reply = self.context_tokens, self.reply_tokens
        window = min(window, refusal.context_tokens or window)
        reply = min(reply, refusal.reply_tokens or reply, window)
        endpoint = LimitSource.ENDPOINT
        return replace(
            self,
            context_tokens=window,
            reply_tokens=reply,
            context_source=endpoint if window < self.context_tokens else self.context_source,
            reply_source=endpoint if reply < self.reply_tokens else self.reply_source,
        )

    def affordable_reply(self, micro: int) -> int:
        """How many tokens of a reply *micro* pays for, at most `reply_tokens`."""
        if not self.output_micro:
            return self.reply_tokens
        return max(0, min(self.reply_tokens, micro * _MILLION // self.output_micro))


def known_model(
    name: str,
    *,
    base_url: str | None = None,
    setting: Stated = _NOTHING,
    endpoint: Stated = _NOTHING,
) -> ModelInfo:
    """The limits and prices of the model *name*; it asks no network.

    The settings win over what the *endpoint* says, and that over genai-prices. There the prices are those of the
    provider at *base_url*; where that is nobody listed, say a gateway, those of the model's maker. A model without
    any price costs nothing.
    """
    listed = _listed(name, base_url)
    limits = find_limits(name, setting, endpoint, listed.context_window if listed else None)
    prices = _prices(listed, limits.context.tokens) if listed else (0, 0, 0)
    for stated in (endpoint, setting):
        prices = _stated_prices(stated, prices)
    return ModelInfo(
        name,
        limits.context.tokens,
        limits.reply.tokens,
        *prices,
        context_source=limits.context.source,
        reply_source=limits.reply.source,
        is_reasoning=limits.is_reasoning,
    )


def _stated_prices(stated: Stated, prices: tuple[int, int, int]) -> tuple[int, int, int]:
    """*prices* for input, output and cached input, as far as they are not *stated*."""
    input_micro, output_micro, cached_micro = prices
    if stated.input_micro is not None:
        input_micro = cached_micro = stated.input_micro
    if stated.cached_input_micro is not None:
        cached_micro = stated.cached_input_micro
    if stated.output_micro is not None:
        output_micro = stated.output_micro
    return input_micro, output_micro, cached_micro


def _listed(name: str, base_url: str | None) -> Listed | None:
    for url in dict.fromkeys((base_url, None)):
        try:
            return get_snapshot().find_provider_model(name, None, None, url)[1]
        except LookupError:
            continue
    return None


def _prices(listed: Listed, context_tokens: int) -> tuple[int, int, int]:
    """For input, output and cached input."""
    prices = vars(listed.get_prices(datetime.now(UTC)))

    def micro(key: str) -> int | None:
        match prices.get(key):
            case Decimal() as dollars:
                pass
            case TieredPrices(base=base, tiers=tiers):  # long prompts cost more: reserve for those
                dollars = max([base, *(t.price for t in tiers if t.start < context_tokens)])
            case _:
                return None
        return ceil(dollars * _MILLION)

    input_micro = micro("input_mtok") or 0
    cached_micro = micro("cache_read_mtok")
    return (
        input_micro,
        micro("output_mtok") or 0,
        input_micro if cached_micro is None else cached_micro,
    )
