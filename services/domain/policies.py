"""Memory policies: how history is selected for the prompt."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Full:
    """Everything, or a clear refusal before it would overflow."""

    name: Literal["full"] = "full"


@dataclass(frozen=True, slots=True)
class Window:
    """The last messages, in whole pairs: *messages*, and up to half as many more.

    Beyond `most_messages` the window is trimmed to *messages*, so that the prompts between two trims begin alike.
    """

    messages: int = 20
    name: Literal["window"] = "window"

    @property
    def most_messages(self) -> int:
        """The messages above which the window is trimmed: half as many more, rounded up to whole pairs."""
        return self.messages + -(-self.messages // 4) * 2


@dataclass(frozen=True, slots=True)
class Summary:
    """Recent messages, and a running summary of the rest."""

    name: Literal["summary"] = "summary"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recent messages, and older ones that match the prompt."""

    name: Literal["retrieval"] = "retrieval"


# each has a name, by which it is stored
MemoryPolicy = Full | Window | Summary | Retrieval
_POLICIES: dict[str, MemoryPolicy] = {each.name: each for each in (Full(), Summary(), Retrieval())}


def policy_named(name: str, messages: int | None) -> MemoryPolicy:
    """The policy of a stored *name*; Window of the last *messages*."""
    return _POLICIES.get(name) or (Window(messages) if messages else Window())


def policy_size(policy: MemoryPolicy) -> int | None:
    """The messages of a Window, as they are stored beside its name."""
    return policy.messages if isinstance(policy, Window) else None
