"""The models that a deployment offers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from services.llm.catalogue import ModelInfo
from services.llm.model import ModelClient


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that may be chosen: what is known about it, and what answers under its name."""

    info: ModelInfo
    client: ModelClient = field(repr=False)
    takes_prefix: bool = False  # a prompt that ends in a reply has it gone on with


class Models:
    """All that may be chosen, and what is known about each by now. The first answers where nothing was."""

    def __init__(self, first: Offer, others: tuple[Offer, ...] = ()) -> None:
        self._offers = {offer.info.name: offer for offer in (first, *others)}

    def __iter__(self) -> Iterator[Offer]:
        return iter(tuple(self._offers.values()))

    @property
    def first(self) -> Offer:
        return next(iter(self))

    def named(self, name: str | None) -> Offer | None:
        """The one of this name, if it is offered."""
        return self._offers.get(name or "")

    def learn(self, info: ModelInfo) -> None:
        """Know *info* about the model of its name from now on."""
        self._offers[info.name] = replace(self._offers[info.name], info=info)
