"""Facts that a background model call noted, and facts and summaries that were deleted together with messages."""

from dataclasses import dataclass

from services.domain import Fact, MessageId, RunningSummary


@dataclass(frozen=True, slots=True)
class NotedFact:
    """A fact that was noted, and the fact that it replaced, if any."""

    fact: Fact
    replaced: Fact | None = None


@dataclass(frozen=True, slots=True)
class DeletedMemories:
    """The facts and the summary that were deleted because they were made from the deleted messages *ids*."""

    ids: frozenset[MessageId]
    facts: tuple[Fact, ...]
    summary: RunningSummary | None
