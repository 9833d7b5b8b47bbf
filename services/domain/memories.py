"""Facts and summaries as results of a background call or of a deletion."""

from dataclasses import dataclass

from services.domain import Fact, MessageId, RunningSummary


@dataclass(frozen=True, slots=True)
class NotedFact:
    """A fact that was noted, and the fact that it replaced."""

    fact: Fact
    replaced: Fact | None = None


@dataclass(frozen=True, slots=True)
class DeletedMemories:
    """Facts and the summary that were deleted with the messages *ids*, from which they were made."""

    ids: frozenset[MessageId]
    facts: tuple[Fact, ...]
    summary: RunningSummary | None
