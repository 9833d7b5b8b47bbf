"""Prices and offers of models, as admins set them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, TypeAdapter

from services.caches import CachedRead
from services.domain.models import ModelPrices, ModelSetting, ModelSettings
from services.errors import BadInput
from services.store.supabase.api import Hidden, RpcResult, ServerCalls, UserCalls, refusal


class _Row(BaseModel):
    model: str
    input_micro: int | None
    cached_input_micro: int | None
    output_micro: int | None
    is_offered: bool

    @property
    def setting(self) -> ModelSetting:
        prices = None
        if not (
            self.input_micro is None or self.cached_input_micro is None or self.output_micro is None
        ):
            prices = ModelPrices(
                input_micro=self.input_micro,
                cached_input_micro=self.cached_input_micro,
                output_micro=self.output_micro,
            )
        return ModelSetting(prices=prices, is_offered=self.is_offered)


_ROWS = TypeAdapter(list[_Row])


def read_model_settings(server: ServerCalls) -> ModelSettings:
    """Read the settings of all models. Raise StoreUnavailable."""
    values = server.call("model_settings").values
    rows = _ROWS.validate_python(values["models"])
    return ModelSettings(
        {row.model: row.setting for row in rows}, values["refuses_unknown_prices"] is True
    )


@dataclass(frozen=True, slots=True)
class ModelAdministration:
    """The settings of models, and changes of them, for which all but admins get NotFound."""

    calls: UserCalls = field(repr=False)
    held: CachedRead[ModelSettings] = field(repr=False)  # of this process

    def settings(self) -> ModelSettings:
        """The settings as this process follows them, at most some seconds old."""
        return self.held.get()

    def set_price(self, name: str, prices: ModelPrices | None) -> None:
        """Set the price of a model; None: that which the app knows."""
        self._set(name, prices, sets_price=True)

    def offer(self, name: str, every: Sequence[str], *, is_offered: bool) -> None:
        """Offer one of *every* model, or no longer. Raise BadInput if no other is offered."""
        self._set(name, None, sets_price=False, offered=is_offered, every=every)

    def _set(
        self,
        name: str,
        prices: ModelPrices | None,
        *,
        sets_price: bool,
        offered: bool | None = None,
        every: Sequence[str] = (),
    ) -> None:
        answer = self.calls.call(
            "set_model",
            model_name=name,
            sets_price=sets_price,
            new_input_micro=prices and prices.input_micro,
            new_cached_input_micro=prices and prices.cached_input_micro,
            new_output_micro=prices and prices.output_micro,
            offered=offered,
            every_model=Hidden(",".join(every)),
        )
        if answer.reason == "last_model":
            raise BadInput("This is the last model that is offered. Offer another one first.")
        self._accept(answer, "set_model")

    def refuse_unknown_prices(self, *, is_refused: bool) -> None:
        """Have models without a known price refused, or count as free."""
        verb = "refuse_unknown_prices"
        self._accept(self.calls.call(verb, refused=is_refused), verb)

    def _accept(self, answer: RpcResult, verb: str) -> None:
        if not answer.ok:
            raise refusal(verb, answer.reason)
        self.held.outdate()
