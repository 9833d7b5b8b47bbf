"""Memory policies: how history is selected for the prompt."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Full:
    """Everything, or a clear refusal before it would overflow."""

    name: Literal["full"] = "full"


@dataclass(frozen=True, slots=True)
class Window:
    """The last *messages* messages, in whole pairs."""

    messages: int = 20
    name: Literal["window"] = "window"


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
