"""The made-up use of `operate demo`: people, chats and 90 days of turns in a deployment without accounts.

Rows are as the app leaves them: texts are sealed, charges are in the ledger, whose own trigger adds them up. All
figures depend on the seed and the day alone.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251 (made-up figures, no secrets)
from typing import NamedTuple
from uuid import UUID

from services.crypto import Head, RootKeys, UserKey, UserKeys, new_key
from services.domain import (
    AccountRole,
    ConversationId,
    MessageId,
    Purpose,
    Role,
    Thread,
    Usage,
    UserId,
)
from services.domain.models import ModelInfo
from services.domain.policies import Window
from services.operate.demo_texts import NAMES, QUESTIONS, TOPICS
from services.store.operator import Demo
from services.store.sealed.seals import Seals

DAYS = 90
_MODELS = (
    ModelInfo("gpt-5-mini", 272_000, 128_000, 250_000, 2_000_000, 25_000),
    ModelInfo("gpt-5", 272_000, 128_000, 1_250_000, 10_000_000, 125_000),
    ModelInfo("SmolLM2-135M", 2_048, 256, 0, 0, 0),
)
_REPLIED = ("complete", "stopped", "cut")
_OUTCOMES = (*_REPLIED, "failed", "lapsed"), (92, 3, 2, 2, 1)
_ASIDES = {  # the background calls after the first reply of a chat: probability and usage
    Purpose.TITLE: (1.0, Usage(200, 8)),
    Purpose.FACTS: (0.3, Usage(900, 40)),
    Purpose.SUMMARY: (0.1, Usage(3000, 250)),
}


class _Person(NamedTuple):
    id: UserId
    seals: Seals
    keenness: float


def make_demo(ring: RootKeys, seed: int, password: str, now: datetime) -> Demo:
    """Make up 30 people and their use in the days before *now*; the first is the admin, with *password*."""
    use = _Use(Random(seed), now.astimezone(UTC))  # noqa: S311 (made-up figures)
    people = [use.person(ring) for _ in NAMES]
    for days_ago in range(DAYS - 1, -1, -1):
        for person in people:
            use.day(person, days_ago)
    return Demo(
        people=[
            (person.id, f"{name}@example.org", AccountRole.USER if number else AccountRole.ADMIN)
            for number, (name, person) in enumerate(zip(NAMES, people, strict=True))
        ],
        password=password,
        since=now - timedelta(DAYS),
        rows=use.rows,
        suspended=[people[-1].id, people[-9].id],
        short_of_budget=people[3].id,
    )


class _Use:
    """Makes up keys, chats and turns, as rows by table."""

    def __init__(self, random: Random, now: datetime) -> None:
        self._random, self._now = random, now
        self.rows: dict[str, list[tuple[object, ...]]] = {
            table: []
            for table in ("public.user_keys", "public.conversations", "public.messages", "made_up")
        }

    def person(self, ring: RootKeys) -> _Person:
        its, key = UserId(self._id()), new_key()
        self.rows["public.user_keys"].append((its, 1, "server", ring.wrap(key, its, 1)))
        seals = Seals(its, UserKeys([UserKey(key, its)]))
        return _Person(its, seals, self._random.betavariate(1.2, 2))

    def day(self, person: _Person, days_ago: int) -> None:
        """Make up the chats of a day: at weekends and in the first weeks there are fewer."""
        begin = self._now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days_ago)
        keenness = person.keenness * (0.35 if begin.weekday() > 4 else 1.0)
        end = min(begin + timedelta(hours=23), self._now)
        for _ in range(2):
            moment = begin + self._random.random() * (end - begin)
            if self._random.random() < keenness * (1 - days_ago / (2 * DAYS)):
                self._chat(person, moment, end)

    def _chat(self, person: _Person, at: datetime, end: datetime) -> None:
        random, chat, made_at = self._random, ConversationId(self._id()), at
        title, *texts = random.choice(TOPICS)
        model = random.choices(_MODELS, (60, 15, 25))[0]
        created, seals = person.seals.new_conversation(
            Thread.empty(chat, title, Window(), made_at=at)
        )
        head, sealed_head, tip, past = Head(), created.head, None, 900
        for number in range(random.choice((1, 2, 2, 3, 4, 6, 9))):
            prompt, reply = texts if number == 0 else random.choice(QUESTIONS)
            turn, outcome, ids = self._id(), random.choices(*_OUTCOMES)[0], list[UUID]()
            said = (Role.USER, "complete", prompt), (Role.ASSISTANT, outcome, reply)
            for role, ending, text in said if outcome in _REPLIED else said[:1]:
                message_id = MessageId(self._id())
                message = seals.next_message(head, message_id, tip, role, text)
                sealed_head = message.head
                head = seals.open_head(sealed_head) or head
                place = message_id, chat, person.id, turn, head.last_seq, tip
                self.rows["public.messages"].append((*place, role, ending, message.body, at))
                tip = message_id
                ids.append(tip)
            usage = Usage(past + random.randint(20, 900), random.randint(80, 1600), past * 3 // 4)
            past = usage.prompt + usage.reply
            place = person.id, chat, at
            self._turn(turn, place, model, Purpose.REPLY, usage, outcome, ids)
            for purpose, (probability, aside) in _ASIDES.items():
                if number == 0 and random.random() < probability:
                    self._turn(self._id(), place, model, purpose, aside)
            at = min(at + timedelta(seconds=random.randint(20, 400)), end)
        sealed = asdict(created) | {"head": sealed_head}
        counts = head.rev, head.last_seq, head.last_seq
        row = *sealed.values(), person.id, *counts, "model", made_at, at
        self.rows["public.conversations"].append(row)

    def _turn(
        self,
        turn: UUID,
        place: tuple[UserId, ConversationId, datetime],
        model: ModelInfo,
        purpose: Purpose,
        usage: Usage,
        outcome: str = "complete",
        ids: Sequence[UUID] = (),
    ) -> None:
        """Add a settled turn with the *ids* of its messages; a lapsed one is charged its reservation, without tokens."""
        prompt, reply = (*ids, None, None)[:2]
        tokens = usage.prompt, usage.reply, usage.cached
        delay = int(self._random.lognormvariate(6.6, 0.6))
        self.rows["made_up"].append((
            *(turn, *place, model.name, purpose, outcome, prompt, reply),
            *(tokens if outcome != "lapsed" else (0, 0, 0)),
            *(model.cost_micro(usage), delay if outcome in _REPLIED else None),
        ))  # fmt: skip

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)
