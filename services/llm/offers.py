"""The models that a deployment offers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from services.domain.models import ModelInfo
from services.llm.model import ModelClient


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that users may choose: its limits and prices, and its client."""

    info: ModelInfo
    client: ModelClient = field(repr=False)
    takes_prefix: bool = False  # continues a reply that ends the prompt


class Models:
    """The offered models, the default first."""

    def __init__(self, first: Offer, others: tuple[Offer, ...] = ()) -> None:
        self._offers = {offer.info.name: offer for offer in (first, *others)}

    def __iter__(self) -> Iterator[Offer]:
        return iter(tuple(self._offers.values()))

    @property
    def first(self) -> Offer:
        return next(iter(self))

    def named(self, name: str | None) -> Offer | None:
        """The offer of this name, if any."""
        return self._offers.get(name or "")

    def learn(self, info: ModelInfo) -> None:
        """Replace what is known about the model of *info*'s name."""
        self._offers[info.name] = replace(self._offers[info.name], info=info)
