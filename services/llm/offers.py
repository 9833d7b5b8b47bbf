"""The models that a deployment offers."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.llm.catalogue import ModelInfo
from services.llm.model import ModelClient


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that may be chosen: what is known about it, and what answers under its name."""

    info: ModelInfo
    client: ModelClient = field(repr=False)
    takes_prefix: bool = False  # a prompt that ends in a reply has it gone on with


@dataclass(frozen=True, slots=True)
class Models:
    """All that may be chosen. The first answers where nothing was."""

    first: Offer
    others: tuple[Offer, ...] = ()

    def __iter__(self) -> Iterator[Offer]:
        yield self.first
        yield from self.others

    def named(self, name: str | None) -> Offer | None:
        """The one of this name, if it is offered."""
        return next((offer for offer in self if offer.info.name == name), None)
