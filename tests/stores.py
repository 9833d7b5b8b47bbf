"""Stores of users for tests, and budgets in memory."""

from dataclasses import dataclass, field
from uuid import uuid4

from services.domain import Purpose, TurnId
from services.errors import Cap, OverBudget
from services.store.port import Begun, Lease
from services.store.sealed import sealed_store
from services.store.supabase.rows import SupabaseRows


def store_of(session):
    """Return the store of the user of an app session, with nothing cached."""
    return sealed_store(SupabaseRows(session), session.user_keys)


def sweep(server):
    """Call the sweep until nothing more is due: one call may have an account of another test to delete."""
    while server.sweep():
        pass


@dataclass
class InMemoryLedger:
    """The `Ledger` of one user. Its days, months and minutes end when a test says so."""

    user_id: object
    daily_micro: int = 1_000_000
    monthly_micro: int = 10_000_000
    open_turns: int = 4
    turns_a_minute: int = 20
    spent_today: int = 0
    spent_this_month: int = 0
    turns: int = 0
    reserved: dict = field(default_factory=dict)  # by open turn: its reservation, and how much
    lapsed: dict = field(default_factory=dict)  # what was charged, by turn

    def keep_fresh(self, seconds):
        pass

    def begin_turn(self, reservation, prompt=None):
        needed = reservation.prompt_micro + reservation.least_reply_micro
        held = sum(micro for _, micro in self.reserved.values())
        room = {
            Cap.DAILY: self.daily_micro - self.spent_today - held,
            Cap.MONTHLY: self.monthly_micro - self.spent_this_month - held,
        }
        cap = min(room, key=room.__getitem__)
        left = max(0, room[cap])
        if reservation.purpose is Purpose.REPLY:
            replies = [one for one, _ in self.reserved.values() if one.purpose is Purpose.REPLY]
            if len(replies) >= self.open_turns:
                raise OverBudget(Cap.OPEN_TURNS, needed, left)
            if self.turns >= self.turns_a_minute:
                raise OverBudget(
                    Cap.TURNS_A_MINUTE,
                    needed,
                    left,
                    per_minute=self.turns_a_minute,
                    wait_seconds=60,
                )
        if needed > left:
            raise OverBudget(cap, needed, left)
        turn_id = TurnId(uuid4())
        micro = min(reservation.prompt_micro + reservation.reply_micro, left)
        self.reserved[turn_id] = reservation, micro
        self.turns += reservation.purpose is Purpose.REPLY
        return Begun(turn_id, micro)

    def checkpoint_turn(self, turn_id, lease_seconds, partial=None, thoughts=None):
        return Lease.HELD if turn_id in self.reserved else Lease.LAPSED

    def finish_turn(self, settlement, reply=None):
        self.reserved.pop(settlement.turn_id, None)
        self._spend(settlement.cost_micro - self.lapsed.pop(settlement.turn_id, 0))

    def lapse_turn(self, turn):
        """Settle an unfinished turn at its cost."""
        self.reserved.pop(turn.id, None)
        self.lapsed[turn.id] = turn.cost_micro
        self._spend(turn.cost_micro)

    def begin_days_later(self, days):
        """Have the spending lie that many days, or a month of 31, back."""
        self.spent_today = 0
        if days > 30:
            self.spent_this_month = 0

    def _spend(self, micro):
        self.spent_today += micro
        self.spent_this_month += micro
