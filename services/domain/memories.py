"""Facts and summaries as results of background calls and deletions."""

from dataclasses import dataclass

from services.domain import Fact, MessageId, RunningSummary


@dataclass(frozen=True, slots=True)
class NotedFact:
    """A fact that was noted, and the fact that it replaced, if any."""

    fact: Fact
    replaced: Fact | None = None


@dataclass(frozen=True, slots=True)
class DeletedMemories:
    """The facts and the summary that were deleted with the messages *ids*, because they were made from those."""

    ids: frozenset[MessageId]
    facts: tuple[Fact, ...]
    summary: RunningSummary | None
