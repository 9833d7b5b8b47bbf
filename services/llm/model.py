"""What the app asks of a language model: a stream that can be ended from anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.domain import Usage
from services.memory.context import ContextMessage


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The reply ended at its length limit, and not because it was whole."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's reasoning, which is no part of the reply."""

    text: str = field(repr=False)


Piece = str | Thought | Usage | LimitReached


class ModelStream(Protocol):
    """One reply as it comes. It is iterated once."""

    def __iter__(self) -> Iterator[Piece]:
        """Send the request; yield thoughts and text, then whether it was cut off and what it used, if the endpoint says so.

        Raise ModelUnavailable. Leaving the iteration early ends the request.
        """
        ...

    def cancel(self) -> None:
        """End the request at the endpoint at once, from any thread; the iteration just ends."""
        ...


class ModelClient(Protocol):
    """Starts replies."""

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> ModelStream:
        """Return at once. Nothing is sent before the stream is iterated."""
        ...
