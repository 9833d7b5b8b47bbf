"""What is known about a model before it is called: its window and its prices."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo as Listed
from genai_prices.types import TieredPrices

from services.domain import Tokens

_MILLION = 1_000_000
_DEFAULT_CONTEXT_TOKENS = 8192
_DEFAULT_REPLY_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's limits, and its prices in micro-dollars for a million tokens."""

    name: str
    context_tokens: int
    reply_tokens: int
    input_micro: int
    output_micro: int
    cached_input_micro: int

    def cost_micro(self, tokens: Tokens) -> int:
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

    def affordable_reply(self, micro: int) -> int:
        """How many tokens of a reply *micro* pays for, at most `reply_tokens`."""
        if not self.output_micro:
            return self.reply_tokens
        return max(0, min(self.reply_tokens, micro * _MILLION // self.output_micro))


def known_model(
    name: str,
    *,
    base_url: str | None = None,
    context_tokens: int | None = None,
    reply_tokens: int | None = None,
    input_micro: int | None = None,
    output_micro: int | None = None,
    cached_input_micro: int | None = None,
) -> ModelInfo:
    """What genai-prices lists for *name*, where nothing else is given; it asks no network.

    The prices are those of the provider at *base_url*; where that is nobody listed, say a gateway,
    those of the model's maker. A model that is not listed costs nothing unless its price is given.
    *reply_tokens*, which may be meant for other models too, is passed over where it fills the window.
    """
    listed = _listed(name, base_url)
    window = context_tokens or (listed and listed.context_window) or _DEFAULT_CONTEXT_TOKENS
    input_price, output_price, cached_price = _prices(listed, window) if listed else (0, 0, 0)
    if input_micro is not None:
        input_price = cached_price = input_micro
    reply = reply_tokens if reply_tokens and reply_tokens < window else None
    return ModelInfo(
        name=name,
        context_tokens=window,
        reply_tokens=reply or min(_DEFAULT_REPLY_TOKENS, window // 4),
        input_micro=input_price,
        output_micro=output_price if output_micro is None else output_micro,
        cached_input_micro=cached_price if cached_input_micro is None else cached_input_micro,
    )


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
