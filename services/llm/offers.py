"""The models that a deployment offers."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from services.domain.models import LimitSource, ModelInfo, ModelSettings, PriceSource
from services.llm.connection import Connection
from services.llm.failure_details import FailureLog
from services.llm.model import ModelClient
from services.llm.model_spec import LimitRefusal


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that users may choose: its limits and prices, and its client."""

    info: ModelInfo
    client: ModelClient = field(repr=False)
    # true if the model can continue a partial reply that ends its input (prefill)
    takes_prefix: bool = False
    is_refused: bool = False  # true if the model has no known price, but the admins require one


class Models:
    """The models of a deployment, the default first, with the *settings* of its admins applied.

    *settings* is a function; `every` and the methods that use it may raise its errors. Any thread may call any method.
    If two threads call `learn` for the same model, the later call wins.
    """

    def __init__(
        self,
        first: Offer,
        others: tuple[Offer, ...] = (),
        settings: Callable[[], ModelSettings] = ModelSettings,
        connection: Connection | None = None,
    ) -> None:
        """*connection*: None for the local model, whose process is monitored instead."""
        self._known = {offer.info.name: offer for offer in (first, *others)}
        self._settings, self.connection = settings, connection
        self.failures = FailureLog()
        self._refusals = defaultdict[str, set[LimitRefusal]](set)

    def __iter__(self) -> Iterator[Offer]:
        """Iterate over the offered models that are not refused.

        If all are refused, yield only the first offered model; if no model is offered, only the default model.
        """
        every, settings = self.every(), self._settings()
        offered = [one for one in every if settings.of(one.info.name).is_offered] or every[:1]
        return iter([one for one in offered if not one.is_refused] or offered[:1])

    def every(self) -> list[Offer]:
        """Return all models of the deployment, including those that admins do not offer to users."""
        settings = self._settings()
        return [_by(settings, self._narrowed(offer)) for offer in tuple(self._known.values())]

    @property
    def first(self) -> Offer:
        return next(iter(self))

    def named(self, name: str | None) -> Offer | None:
        """Return the offer of the model *name*, if any."""
        return next((offer for offer in self if offer.info.name == name), None)

    def known(self, name: str) -> ModelInfo:
        """Return the known limits and prices of a model, ignoring refusals and the settings of admins."""
        return self._known[name].info

    def learn(self, info: ModelInfo, client: ModelClient | None = None) -> None:
        """Replace the known limits and prices of the model that *info* names, and its client if a *client* is given."""
        offer = self._known[info.name]
        self._known[info.name] = replace(offer, info=info, client=client or offer.client)

    def narrow(self, name: str, refusal: LimitRefusal) -> None:
        """Keep the model *name* within the limits that its endpoint named in *refusal*, until `forget_refusals`."""
        limits = refusal.context_tokens, refusal.reply_tokens
        self._refusals[name].add(LimitRefusal(context_tokens=limits[0], reply_tokens=limits[1]))

    def forget_refusals(self, name: str) -> None:
        """Use the known limits of the model *name* again."""
        self._refusals.pop(name, None)

    def _narrowed(self, offer: Offer) -> Offer:
        refusals = tuple(self._refusals.get(offer.info.name, ()))
        return replace(offer, info=narrow_limits(offer.info, refusals)) if refusals else offer


def narrow_limits(info: ModelInfo, refusals: Iterable[LimitRefusal]) -> ModelInfo:
    """Return *info*, with each limit lowered to the lowest limit in *refusals*, if that is smaller."""
    window, reply = info.context_tokens, info.reply_tokens
    for refusal in refusals:
        window = min(window, refusal.context_tokens or window)
        reply = min(reply, refusal.reply_tokens or reply)
    reply = min(reply, window)
    refused = LimitSource.REFUSAL
    return replace(
        info,
        context_tokens=window,
        reply_tokens=reply,
        context_source=refused if window < info.context_tokens else info.context_source,
        reply_source=refused if reply < info.reply_tokens else info.reply_source,
    )


def _by(settings: ModelSettings, offer: Offer) -> Offer:
    """Return *offer* with the admins' prices, or marked as refused if it has no known price and *settings* require one."""
    if prices := settings.of(offer.info.name).prices:
        return replace(offer, info=offer.info.priced(prices))
    is_unknown = offer.info.price_source is PriceSource.UNKNOWN
    return replace(offer, is_refused=is_unknown and settings.refuses_unknown_prices)
