"""Protocols of a language model: a stream of pieces that any thread can cancel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.domain import Usage
from services.domain.context import ContextMessage


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The reply was cut off at its length limit."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's reasoning, which is not part of the reply."""

    text: str = field(repr=False)


Piece = str | Thought | Usage | LimitReached


class ModelStream(Protocol):
    """A reply as it streams, to be iterated once."""

    def __iter__(self) -> Iterator[Piece]:
        """Send the request; yield thoughts and text, then LimitReached and Usage if the endpoint sends them.

        Raise ModelUnavailable. A caller that stops the iteration early ends the request.
        """
        ...

    def cancel(self) -> None:
        """End the request at the endpoint at once, from any thread; the iteration ends without an error."""
        ...


class ModelClient(Protocol):
    """A client of one model, which starts replies."""

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> ModelStream:
        """Return the stream of a reply immediately; the request is sent when the stream is iterated."""
        ...
