"""The made-up use of `operate demo`: people, chats and 90 days of turns in a deployment without accounts.

Rows are as the app leaves them: texts are sealed, charges are in the ledger, whose own trigger adds them up. All
figures depend on the seed and the day alone.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251 (made-up figures, no secrets)
from typing import NamedTuple
from uuid import UUID

import bcrypt
import psycopg

from services.crypto import Head, RootKeys, UserKey, UserKeys, new_key
from services.domain import ConversationId, MessageId, Purpose, Role, Thread, Usage, UserId
from services.domain.models import ModelInfo
from services.domain.policies import Window
from services.errors import BadInput
from services.operate.demo_texts import NAMES, QUESTIONS, TOPICS
from services.store.sealed.seals import Seals
from services.store.supabase import migrations

DAYS = 90
_BCRYPT_ROUNDS = 10  # as Supabase Auth
_MODELS = (
    ModelInfo("gpt-5-mini", 272_000, 128_000, 250_000, 2_000_000, 25_000),
    ModelInfo("gpt-5", 272_000, 128_000, 1_250_000, 10_000_000, 125_000),
    ModelInfo("SmolLM2-135M", 2_048, 256, 0, 0, 0),
)
_REPLIED = ("complete", "stopped", "cut")
_OUTCOMES = (*_REPLIED, "failed", "lapsed"), (92, 3, 2, 2, 1)
_ASIDES = {  # beside the first reply of a chat: probability and usage
    Purpose.TITLE: (1.0, Usage(200, 8)),
    Purpose.FACTS: (0.3, Usage(900, 40)),
    Purpose.SUMMARY: (0.1, Usage(3000, 250)),
}
_ADD_USER = """
insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at, created_at, updated_at,
  raw_app_meta_data, raw_user_meta_data)
values (%s, 'authenticated', 'authenticated', %s, %s, %s, %s, %s, '{"provider": "email", "providers": ["email"]}', '{}')
"""
_COMPLETE_USERS = """
do $$ begin
  if exists (select from pg_attribute where attrelid = 'auth.users'::regclass and attname = 'instance_id') then
    update auth.users set instance_id = '00000000-0000-0000-0000-000000000000',  -- hosted Auth reads no null there
      confirmation_token = '', recovery_token = '', email_change = '', email_change_token_new = '' where true;
  end if;
end $$
"""
_COPIES = {
    "public.user_keys": "user_id, version, mode, wrapped",
    "public.conversations": "id, title, wrapped_key, key_version, user_key_version, head, policy, policy_size, model,"
    " instructions, space_id, user_id, rev, last_seq, read_seq, titled_by, created_at, updated_at",
    "public.messages": "id, conversation_id, user_id, turn_id, seq, parent_id, role, outcome, body, created_at",
    "made_up": "id, user_id, conversation_id, at, model, purpose, outcome, prompt_id, reply_id, tokens_in, tokens_out,"
    " tokens_cached, micro, first_ms",
}
_TURNS = """
create temp table made_up (id uuid, user_id uuid, conversation_id uuid, at timestamptz, model text, purpose text,
  outcome text, prompt_id uuid, reply_id uuid, tokens_in int, tokens_out int, tokens_cached int, micro bigint, first_ms int)
on commit drop
"""
_SETTLE = """
insert into public.turns (id, user_id, conversation_id, client_turn_id, request_hash, purpose, state, model,
  reserved_micro, reserved_tokens, charged_micro, charged_tokens, tokens_in, tokens_out, tokens_cached, prompt_id, reply_id,
  begun_at, lease_until, finished_at)
select id, user_id, conversation_id, id, '', purpose, outcome, model, micro, tokens_in + tokens_out, micro,
  tokens_in + tokens_out, tokens_in, tokens_out, tokens_cached, prompt_id, reply_id, at, at, at
from made_up;

insert into private.ledger (at, user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_out,
  tokens_cached, first_token_ms, micro)
select at, user_id, id, at at time zone 'utc', case outcome when 'lapsed' then 'lapsed' else 'charge' end, outcome,
  purpose, model, tokens_in, tokens_out, tokens_cached, first_ms, micro
from made_up order by at;

update public.conversations set bytes = stored
from (select conversation_id, sum(octet_length(body)) as stored from public.messages group by conversation_id) said
where conversation_id = id;

with used as (
  select user_id, max(at) as last_at, sum(cost_micro) filter (where day >= date_trunc('month', today)) as this_month,
    sum(cost_micro) filter (where day = today) as this_day,
    sum(tokens_in + tokens_out) filter (where day = today) as tokens
  from (select (now() at time zone 'utc')::date as today) clock, private.usage_by_day
  join (select user_id, max(at) as at from made_up group by user_id) latest using (user_id)
  group by user_id
)
update private.budgets set day = now() at time zone 'utc', month = date_trunc('month', now() at time zone 'utc'),
  day_spent = coalesce(this_day, 0), day_tokens = coalesce(tokens, 0), month_spent = coalesce(this_month, 0),
  loan = coalesce(this_month, 0), last_active_at = last_at
from used where used.user_id = budgets.user_id;

update private.deployment set month = date_trunc('month', now() at time zone 'utc'), monthly_cap_micro = 20000000,
  lent = (select sum(month_spent) from private.budgets) where id
"""
_SUSPEND = "select private.suspend(%s, %s, true)"
_LOWER_CAP = """
select private.change_caps(%s, user_id, jsonb_build_object('monthly_cap_micro', greatest(50000, month_spent * 21 / 20)))
from private.budgets where user_id = %s
"""


class _Person(NamedTuple):
    id: UserId
    seals: Seals
    keenness: float


def fill(connection: psycopg.Connection, ring: RootKeys, seed: int) -> tuple[str, str]:
    """Make 30 people and their use, all or nothing; return the address and the password of the admin.

    Raise BadInput where there are accounts, Misconfigured if the database has other root keys.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('daybook: first account'))")
        [(has_accounts, now)] = connection.execute("select exists (select from auth.users), now()")
        if has_accounts:
            raise BadInput("There are accounts already: the demo is for a fresh deployment.")
        migrations.install_server_keys(connection, ring.proof_keys())
        use = _Use(Random(seed), now.astimezone(UTC))  # noqa: S311 (made-up figures)
        people = [use.person(ring) for _ in NAMES]
        password, since = secrets.token_urlsafe(15), now - timedelta(DAYS)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()
        for name, person in zip(NAMES, people, strict=True):
            role, known = ("admin", hashed) if person is people[0] else ("user", "")
            user = [person.id, f"{name}@example.org", known, since, since, since]
            connection.execute(_ADD_USER, user)
            connection.execute("select private.make_account(%s, %s)", [person.id, role])
        connection.execute(_COMPLETE_USERS)
        for days_ago in range(DAYS - 1, -1, -1):
            for person in people:
                use.day(person, days_ago)
        connection.execute(_TURNS)
        for table, columns in _COPIES.items():
            with connection.cursor().copy(f"copy {table} ({columns}) from stdin".encode()) as copy:
                for row in use.rows[table]:
                    copy.write_row(row)
        connection.execute(_SETTLE)
        admin = people[0].id
        connection.execute(_SUSPEND, [admin, people[-1].id])
        connection.execute(_SUSPEND, [admin, people[-9].id])
        connection.execute(_LOWER_CAP, [admin, people[3].id])
    return f"{NAMES[0]}@example.org", password


class _Use:
    """Makes up keys, chats and turns, as rows by table."""

    def __init__(self, random: Random, now: datetime) -> None:
        self._random, self._now = random, now
        self.rows: dict[str, list[tuple[object, ...]]] = {table: [] for table in _COPIES}

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
        """Add a settled turn with the *ids* of its messages; one that lapsed is charged what was reserved, without tokens."""
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
