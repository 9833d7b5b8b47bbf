"""The fictitious data of `operate demo`: people, chats and 90 days of turns in a deployment without accounts.

The data is made by calling the methods of an in-memory store, with a simulated clock. All figures depend only on the
seed and the time at which the demo is made.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251 (made-up figures, no secrets)
from uuid import UUID

from services.crypto import RootKeys
from services.domain import ConversationId, MessageId, Outcome, Purpose, Thread, Usage, UserId
from services.domain.addresses import checked_address
from services.domain.models import ModelInfo
from services.domain.policies import Window
from services.domain.turns import ClientTurnId, Ending, NewTurn, Reservation, Settlement
from services.operate.demo_texts import NAMES, QUESTIONS, TOPICS
from services.rules.accounts import Settings
from services.store.accounts import Accounts
from services.store.backend import Throttles, UserBackend
from services.store.port import Store
from services.store.sealed import sealed_store
from services.store.tables import schema
from services.store.tables.backend import TablesBackend
from services.store.tables.copying import TablesCopy
from services.store.tables.in_memory import InMemoryStore

DAYS = 90
_LIFETIME_SECONDS = 2 * DAYS * 86_400  # long enough that no session ends during the demo
_LEASE_SECONDS = 15
_UNBOUNDED = Throttles(strangers=())
_MODELS = (
    ModelInfo("gpt-5-mini", 272_000, 128_000, 250_000, 2_000_000, 25_000),
    ModelInfo("gpt-5", 272_000, 128_000, 1_250_000, 10_000_000, 125_000),
    ModelInfo("SmolLM2-135M", 2_048, 256, 0, 0, 0),
)
_REPLIED = (Outcome.COMPLETE, Outcome.STOPPED, Outcome.CUT)
# None: the process died during the turn
_OUTCOMES = (*_REPLIED, Outcome.FAILED, None), (92, 3, 2, 2, 1)
_BACKGROUND = {  # probability and usage of each background call after the first reply of a chat
    Purpose.TITLE: (1.0, Usage(200, 8)),
    Purpose.FACTS: (0.3, Usage(900, 40)),
    Purpose.SUMMARY: (0.1, Usage(3000, 250)),
}


@dataclass(frozen=True, slots=True)
class _Person:
    id: UserId
    backend: UserBackend
    store: Store
    keenness: float


def make_demo(ring: RootKeys, seed: int, password: str, now: datetime) -> TablesCopy:
    """Make up 30 people and their use of the app in the 90 days before *now*.

    The first of them is the admin, with *password*; the other accounts have no password.
    """
    use = _Use(Random(seed), now.astimezone(UTC), ring)  # noqa: S311 (made-up figures)
    people = [use.person(name, password if name == NAMES[0] else None) for name in NAMES]
    for days_ago in range(DAYS - 1, -1, -1):
        for person in people:
            use.day(person, days_ago)
    use.time = now
    admin, short = people[0].backend.administration, people[3]
    for person in people[-1], people[-9]:
        admin.suspend(person.id, is_suspended=True)
    admin.set_deployment_cap(20_000_000)
    spent = short.backend.account().spent_this_month_micro
    admin.set_caps(short.id, {"monthly_cap_micro": max(50_000, spent * 21 // 20)})
    # the settings of the deployment that is filled stay as they are
    use.tables.of(None).run(lambda block: block.delete(schema.SETTINGS, "settings"))
    return TablesCopy(use.tables)


class _Use:
    """Makes up users, chats and turns."""

    def __init__(self, random: Random, now: datetime, ring: RootKeys) -> None:
        self._random, self._now = random, now
        self.time = now - timedelta(DAYS)  # the time that the store's simulated clock shows
        self.tables = InMemoryStore()
        first_is_admin = Settings(first_account_is_admin=True)
        self.tables.of(None).run(lambda block: block.put(schema.SETTINGS, first_is_admin))
        self._backend = TablesBackend(self.tables, lambda: self.time)
        self._accounts = Accounts(self._backend, ring, _LIFETIME_SECONDS, _LIFETIME_SECONDS)

    def person(self, name: str, password: str | None) -> _Person:
        """Make an account, without a password hash if *password* is None."""
        found = self._accounts.find_for_sign_up(checked_address(f"{name}@example.org"), _UNBOUNDED)
        password_hash = None if password is None else found.hashed(password)
        _, session = self._accounts.sign_up(found, password_hash)
        store = sealed_store(session.backend.rows(), session.user_keys)
        return _Person(session.user_id, session.backend, store, self._random.betavariate(1.2, 2))

    def day(self, person: _Person, days_ago: int) -> None:
        """Make up the chats of *person* on one day; there are fewer at weekends and in the first weeks."""
        begin = self._now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days_ago)
        keenness = person.keenness * (0.35 if begin.weekday() > 4 else 1.0)
        end = min(begin + timedelta(hours=23), self._now - timedelta(minutes=5))
        for _ in range(2):
            moment = begin + self._random.random() * (end - begin)
            if self._random.random() < keenness * (1 - days_ago / (2 * DAYS)):
                self.time = moment
                self._chat(person.store, end)

    def _chat(self, store: Store, end: datetime) -> None:
        """Make up a conversation that begins at the simulated time; it gets no further prompt after *end*."""
        random, past = self._random, 900
        title, *texts = random.choice(TOPICS)
        model = random.choices(_MODELS, (60, 15, 25))[0]
        chat = ConversationId(self._id())
        thread = Thread.empty(chat, texts[0], Window(), made_at=self.time)
        for number in range(random.choice((1, 2, 2, 3, 4, 6, 9))):
            prompt, reply = texts if number == 0 else random.choice(QUESTIONS)
            usage = Usage(past + random.randint(20, 900), random.randint(80, 1600), past * 3 // 4)
            past = usage.prompt + usage.reply
            outcome = random.choices(*_OUTCOMES)[0]
            self._turn(store, thread, model, Purpose.REPLY, usage, outcome, prompt, reply)
            thread, _ = store.turns.read(chat)
            for purpose, (probability, used) in _BACKGROUND.items():
                if number == 0 and random.random() < probability:
                    self._turn(store, thread, model, purpose, used)
            if number == 0:
                store.conversations.give_title(chat, title)
            self.time += timedelta(seconds=random.randint(20, 400))
            if self.time > end:
                return

    def _turn(
        self,
        store: Store,
        thread: Thread,
        model: ModelInfo,
        purpose: Purpose,
        usage: Usage,
        outcome: Outcome | None = Outcome.COMPLETE,
        prompt: str | None = None,
        reply: str = "",
    ) -> None:
        """Begin a turn, and end it with *outcome*; if *outcome* is None, let the turn lapse."""
        chat = thread.conversation.id
        prompt_id = thread.tip.id if thread.tip and prompt is None else MessageId(self._id())
        reservation = Reservation(
            client_turn_id=ClientTurnId(self._id()),
            purpose=purpose,
            model=model.name,
            prompt_micro=model.cost_micro(Usage(usage.prompt, 0)),
            reply_micro=model.cost_micro(Usage(0, usage.reply)),
            least_reply_micro=0,
            prompt_tokens=usage.prompt,
            reply_tokens=usage.reply,
            least_reply_tokens=0,
            lease_seconds=_LEASE_SECONDS,
        )
        new = NewTurn(
            reservation=reservation,
            thread=thread,
            prompt_id=prompt_id,
            prompt=prompt,
            start_seq=0,
            is_first=not thread.messages,
        )
        turn_id = store.turns.begin(new).turn_id
        delay = int(self._random.lognormvariate(6.6, 0.6))
        if outcome is None:
            store.turns.checkpoint(turn_id, chat, "", _LEASE_SECONDS)
            self.time += timedelta(seconds=_LEASE_SECONDS + 1)
            self._backend.sweep()
            return
        has_reply = outcome in _REPLIED
        self.time += timedelta(milliseconds=delay)
        ms, cost = delay if has_reply else None, model.cost_micro(usage)
        store.turns.finish(
            Ending(
                settlement=Settlement(turn_id, outcome, usage, cost, ms),
                conversation_id=chat,
                prompt_id=prompt_id,
                reply_id=MessageId(self._id()),
                reply=reply if has_reply else "",
            )
        )

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)
