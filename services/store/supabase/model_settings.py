"""Prices and offers of models, as admins set them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from services.caches import CachedRead
from services.domain.models import ModelPrices, ModelSettings
from services.errors import BadInput
from services.store.supabase.api import Hidden, ServerCalls, UserCalls

_KNOWN_PRICES = dict.fromkeys(each.name for each in fields(ModelPrices))


def read_model_settings(server: ServerCalls) -> ModelSettings:
    """Read the settings of all models. Raise StoreUnavailable."""
    return server.read("model_settings", ModelSettings)


@dataclass(frozen=True, slots=True)
class ModelAdministration:
    """The settings of models, and changes of them, for which all but admins get NotFound."""

    calls: UserCalls = field(repr=False)
    held: CachedRead[ModelSettings] = field(repr=False)  # of this process

    def settings(self) -> ModelSettings:
        """The settings as this process follows them, at most some seconds old."""
        return self.held.get()

    def set_price(self, name: str, prices: ModelPrices | None) -> None:
        """Set the price of a model; None: that which the app knows. Raise BadInput (cached input costs more)."""
        # a prompt is reserved at the price of input
        if prices and prices.cached_input_micro > prices.input_micro:
            raise BadInput("Cached input cannot cost more than input.")
        self._set(name, asdict(prices) if prices else _KNOWN_PRICES)

    def offer(self, name: str, *, is_offered: bool) -> None:
        self._set(name, {"is_offered": is_offered})

    def _set(self, name: str, changes: Mapping[str, object]) -> None:
        self.calls.do("set_model", model_name=name, changes=Hidden.json(changes))
        self.held.outdate()

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        """Have models without a known price refused, or count as free."""
        changes = Hidden.json({"refuses_unknown_prices": is_refused})
        self.calls.do("set_settings", changes=changes)
        self.held.outdate()
