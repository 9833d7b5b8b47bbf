"""The state that a process holds of one opened conversation."""

from dataclasses import dataclass, field

from services.crypto import Head, Vault
from services.domain import MessageId, Thoughts, Thread, TurnCost, TurnId, Usage
from services.errors import Tampered
from services.store.lru_cache import LruCache
from services.store.rows import CostRow, DocumentKind, DocumentRow

_MOST_RECEIPTS, _MOST_THOUGHTS, _MOST_COSTS = 200, 50, 5_000


@dataclass(frozen=True, slots=True)
class CheckedThread:
    """A thread as it was last read, and the heads that its next write is made from."""

    thread: Thread
    head: Head | None = field(repr=False)  # None: it did not open, so nothing can follow it
    total: Head = field(repr=False)  # of the rows that were read, to be compared with `head`

    @classmethod
    def new(cls, thread: Thread) -> "CheckedThread":
        """An empty thread."""
        return cls(thread, Head(), Head())

    def next_head(self) -> Head:
        """The head to continue from. Raise Tampered if there is none."""
        if self.head is None:
            raise Tampered
        return self.head


@dataclass(slots=True, repr=False)
class OpenedConversation:
    """All that this process holds of a conversation: dropped in one piece."""

    vault: Vault | None = None
    checked: CheckedThread | None = None
    changes: int = 0  # of `checked`
    title: tuple[str, str] | None = None  # sealed, and opened
    texts: dict[DocumentKind, tuple[DocumentRow, str | None]] = field(
        default_factory=dict[DocumentKind, tuple[DocumentRow, str | None]]
    )
    receipts: LruCache[TurnId, str] = field(  # "": none to show
        default_factory=lambda: LruCache[TurnId, str](_MOST_RECEIPTS)
    )
    thoughts: LruCache[MessageId, Thoughts] = field(
        default_factory=lambda: LruCache[MessageId, Thoughts](_MOST_THOUGHTS)
    )
    costs: LruCache[TurnId, TurnCost] = field(
        default_factory=lambda: LruCache[TurnId, TurnCost](_MOST_COSTS)
    )

    def hold_cost(self, row: CostRow) -> None:
        """Hold the cost of a turn, unless it may still change."""
        if row.state.is_final:
            usage = Usage(row.tokens_in, row.tokens_out, row.tokens_cached)
            self.costs.put(row.id, TurnCost(row.model, usage, row.charged_micro))
