"""The limits and prices of a model, as far as they are known before the first call."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo as Listed
from genai_prices.types import TieredPrices

from services.domain.models import LimitSource, ModelInfo, PriceSource
from services.llm.known_models import find_known
from services.llm.model_spec import ModelSpec

_MILLION = 1_000_000
_GUESSED_CONTEXT_TOKENS = 32_768
_GUESSED_REPLY_TOKENS, _GUESSED_REASONING_TOKENS = 8_192, 32_768
# maximum tokens reserved for a reply: more than a message can hold (200,000 bytes); a larger
# reservation could take the rest of the user's budget from other chats
_MOST_REPLY_TOKENS = 65_536
_NOTHING = ModelSpec()


def known_model(
    name: str,
    *,
    base_url: str | None = None,
    setting: ModelSpec = _NOTHING,
    endpoint: ModelSpec = _NOTHING,
) -> ModelInfo:
    """Return the limits and prices of the model *name*, without using the network.

    Values in *setting* take precedence over values in *endpoint*, and these over the price list genai-prices. The prices from
    the list are those of the provider at *base_url* or, if that provider is not listed (a gateway, for example), of the
    model's maker. If the input or the output price is unknown, all prices are 0, and their source is UNKNOWN. A reply
    length in *setting* that would fill the context window is ignored, because it may be meant for another model.
    """
    listed, known = _listed(name, base_url), find_known(name)
    is_reasoning = known.is_reasoning or endpoint.is_reasoning
    guess = ModelSpec(
        context_tokens=_GUESSED_CONTEXT_TOKENS,
        reply_tokens=_GUESSED_REASONING_TOKENS if is_reasoning else _GUESSED_REPLY_TOKENS,
    )
    window = ModelSpec(context_tokens=listed.context_window if listed else None)
    # refusals are applied by `Models`, because they are learnt later
    by_precedence = (_NOTHING, setting, endpoint, window, known, guess)
    specs = dict(zip(LimitSource, by_precedence, strict=True))
    context_tokens, context_source = _first(specs, lambda spec: spec.context_tokens)
    if (setting.reply_tokens or 0) >= context_tokens:
        del specs[LimitSource.SETTING]
    reply_tokens, reply_source = _first(specs, lambda spec: spec.reply_tokens)
    if reply_source is not LimitSource.SETTING:
        reply_tokens = min(reply_tokens, context_tokens, _MOST_REPLY_TOKENS)
    input_micro = output_micro = None
    cached_micro, price_source = 0, PriceSource.UNKNOWN
    for spec, source in (
        (_listed_prices(listed, context_tokens), PriceSource.LISTED),
        (endpoint, PriceSource.ENDPOINT),
        (setting, PriceSource.SETTING),
    ):
        if spec.input_micro is not None:
            input_micro = cached_micro = spec.input_micro
            price_source = source
        if spec.cached_input_micro is not None:
            cached_micro = spec.cached_input_micro
        if spec.output_micro is not None:
            output_micro = spec.output_micro
            price_source = source
    if input_micro is None or output_micro is None:
        input_micro = output_micro = 0
        price_source = PriceSource.UNKNOWN
    return ModelInfo(
        name,
        context_tokens,
        reply_tokens,
        input_micro,
        output_micro,
        # never above the input price, because reservations count every token of a prompt at the input price
        min(cached_micro, input_micro),
        context_source,
        reply_source,
        is_reasoning,
        price_source,
    )


def _first(
    specs: Mapping[LimitSource, ModelSpec], limit: Callable[[ModelSpec], int | None]
) -> tuple[int, LimitSource]:
    return next((tokens, source) for source, spec in specs.items() if (tokens := limit(spec)))


def _listed(name: str, base_url: str | None) -> Listed | None:
    for url in dict.fromkeys((base_url, None)):
        try:
            return get_snapshot().find_provider_model(name, None, None, url)[1]
        except LookupError:
            continue
    return None


def _listed_prices(listed: Listed | None, context_tokens: int) -> ModelSpec:
    prices = vars(listed.get_prices(datetime.now(UTC))) if listed else {}

    def micro(key: str) -> int | None:
        match prices.get(key):
            case Decimal() as dollars:
                return ceil(dollars * _MILLION)
            # the price rises with the prompt's length: take the highest price of a prompt that fits
            case TieredPrices(base=base, tiers=tiers):
                reached = (tier.price for tier in tiers if tier.start < context_tokens)
                return ceil(max([base, *reached]) * _MILLION)
            case _:
                return None

    return ModelSpec(
        input_micro=micro("input_mtok"),
        output_micro=micro("output_mtok"),
        cached_input_micro=micro("cache_read_mtok"),
    )
