"""One user's money within an atomic block: the budget, the cap on all users, the ledger and its daily totals."""

from datetime import date, datetime

from services.rules import part_of
from services.rules.budget import Budget, Deployment
from services.rules.turns import Booking, Entry, Turn
from services.store.tables import schema
from services.store.tables.protocol import Block
from services.store.tables.schema import LedgerRow, UsageDay, id_at
from services.store.tables.usage import added_to


class Books:
    """The budget of one user during a block (transaction): read when it begins, changed by bookings, and stored by `put`."""

    def __init__(self, block: Block, budget: Budget, now: datetime) -> None:
        """*budget* must be up to date for the day, month and minute of *now* (`Budget.opened`)."""
        self._block, self._before, self.budget = block, budget, budget
        self._deployment = (block.get(schema.DEPLOYMENT, "deployment") or Deployment()).opened(now)
        self._turns, self._entries = list[Turn](), list[Entry]()
        self._days = dict[date, UsageDay]()

    @property
    def deployment(self) -> Deployment:
        """The spending and reservations of all users, including this user's changes in the block."""
        return self._deployment.counted(self._before, self.budget)[0]

    @property
    def is_counted(self) -> bool:
        """True if the totals over all users include this user's budget."""
        return self._before.counting == self._deployment.counting

    def book(self, booking: Booking) -> None:
        """Book the cost of an ended turn. Call this before the block's first write: a block may not read after a write."""
        self.budget = booking.budget
        self._turns.append(booking.turn)
        if entry := booking.entry:
            day = self._days.get(entry.day) or self._block.get(schema.DAYS, entry.day)
            self._entries.append(entry)
            self._days[entry.day] = added_to(day, entry)

    def put(self) -> None:
        deployment, budget = self._deployment.counted(self._before, self.budget)
        self._block.put(schema.BUDGETS, budget)
        if deployment is not self._deployment:
            self._block.put(schema.DEPLOYMENT, deployment)
        for turn in self._turns:
            self._block.put(schema.TURNS, turn)
        for entry in self._entries:
            self._block.put(schema.LEDGER, part_of(LedgerRow, entry, id=id_at(entry.at)))
        for day in self._days.values():
            self._block.put(schema.DAYS, day)
