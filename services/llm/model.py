"""Protocols of a language model: a client that starts replies, and a streamed reply that any thread can cancel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.domain import Usage
from services.domain.context import ContextMessage


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The stream's notice that the reply was cut off at its length limit."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's reasoning, which is not part of the reply."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SentAtOnce:
    """The stream's notice that the endpoint does not stream: the whole reply will come at once."""


Piece = str | Thought | Usage | LimitReached | SentAtOnce


class ModelStream(Protocol):
    """A streaming reply. It can be iterated once."""

    def __iter__(self) -> Iterator[Piece]:
        """Send the request, and yield thoughts and text; before them SentAtOnce if the reply does not stream, after them
        LimitReached if it was cut off, then Usage if it was received.

        Raise ModelUnavailable if the endpoint fails. A caller that stops the iteration early ends the request.
        """
        ...

    def cancel(self) -> None:
        """Cancel the request immediately. Any thread may call this.

        The iteration then ends without an error. During the pause after a failed attempt, it raises ModelUnavailable for
        that attempt, because no model is at work.
        """
        ...


class ModelClient(Protocol):
    """A client of one model, which starts replies."""

    @property
    def merges_instructions(self) -> bool:
        """True if the model takes no system role, so that instructions are sent in front of the first message."""
        ...

    def start(self, messages: Sequence[ContextMessage], *, max_tokens: int) -> ModelStream:
        """Return a stream for the reply to *messages*; the request is sent only when the stream is iterated."""
        ...
