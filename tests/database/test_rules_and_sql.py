"""A property test: services/rules and the functions of db/migrations return the same answers and store the same rows.

A history is at most 30 calls of two users and an admin. Each run tries the same 300 histories; a long run tries others each day.
`DAYBOOK_HISTORIES=20000 DAYBOOK_SEED=1 pytest tests/database/test_rules_and_sql.py` tries more and others. With DAYBOOK_NO_SHRINKING
set, a failing history is not shrunk: for mutants, which only have to fail. Accounts are in `test_accounts_and_sql`.
"""

import os
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from services.domain import Outcome, Purpose, Usage
from services.domain.rows import (
    ConversationState,
    DocumentKind,
    SealedConversation,
    SearchTextRow,
)
from services.domain.turns import Reservation, Settlement
from services.errors import NotFound
from services.store.tables.schema import TURNS
from services.store.writes import (
    BeginTurn,
    CheckpointTurn,
    DiscardMessages,
    EditReply,
    FinishTurn,
    PutDocument,
    PutSearchText,
    RestoreMessages,
    SealedPrompt,
    SealedReply,
)
from tests.database.two_sides import (
    MOST_BYTES,
    MOST_CHATS,
    MOST_FACTS,
    MOST_MESSAGES,
    TICK,
    BothSides,
    make_limits_smaller,
    make_template,
    tell_refusals,
)
from tests.runs import IS_WHOLE

HISTORIES = int(os.environ.get("DAYBOOK_HISTORIES", "300"))
SEED = int(os.environ.get("DAYBOOK_SEED", datetime.now(UTC).toordinal() if IS_WHOLE else 0))
IS_SHRUNK = "DAYBOOK_NO_SHRINKING" not in os.environ
LENGTHS = (10, 20, 30)  # numbers of calls in a history
LEAST_HISTORIES = 5  # of each length, on stores that have only a share of them
STARTS = [
    datetime(2026, 1, 31, 23, 58, 30, tzinfo=UTC),
    datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 4, 14, 23, 59, 40, 500_000, tzinfo=UTC),
    datetime(2026, 12, 31, 12, 0, tzinfo=UTC),
]
# the caller, and the owner of the rows
WHO = st.sampled_from([*[(0, 0)] * 6, *[(1, 1)] * 3, (2, 2), (1, 0)])
NTH = st.integers(0, 3)  # counted from the newest
OFTEN = st.sampled_from([True, True, True, True, False])
OFF = st.sampled_from([1, 0, -1])  # ticks before or after a limit
RARELY = st.sampled_from([0, 0, 0, 0, 0, 1])
SIZE = st.sampled_from([75, 300, 1000])
PRICES = st.sampled_from(
    [(100, 400, 50), (0, 0, 0), (10, 20, 10), (300, 900, 100), (1000, 400, 0), (2000, 100, 100)]
)
TOKENS = st.sampled_from([(100, 200, 50), (0, 0, 0), (400, 900, 10), (2000, 500, 100)])
LEASES = st.sampled_from([30, 1, 90, 3600])
COSTS = st.sampled_from([(100, 20, 30, 5), (0, 0, 0, 0), (10**6, 3000, 9, 0), (450, 2, 700, 1)])
SECONDS = st.sampled_from([20, 1, 3600])  # lengths of the undo period
ENDS = st.sampled_from([one for one in Outcome if one is not Outcome.EDITED])
USERS = st.sampled_from([0, 1, 1])  # the first user may store only a little
AMOUNTS = {"prices": (100, 400, 50), "tokens": (100, 200, 50), "lease": 30}
NEW_CHAT = {"size": 75, "nth": 0, "is_new": True, "space": "none"}
END = {"size": 75, "has_reply": True, "behind": 0, "outcome": Outcome.COMPLETE}
NO_CAPS = {
    "daily_cap_micro": 10**9,
    "monthly_cap_micro": 10**9,
    "daily_cap_tokens": None,
    "max_open": 1000,
    "max_per_minute": 1000,
}
STATES = st.sampled_from(ConversationState)

CLOCKS = (
    r"(?<!test_clock\.)\bnow\(\)|_timestamp\(\)|timeofday|(?i:current_|local)(?i:time|date)|'now'"
)
DEFINITIONS = """
with ours as (select oid from pg_namespace where nspname in ('public', 'private'))
select proname, pg_get_functiondef(pg_proc.oid) from pg_proc join ours on ours.oid = pronamespace
union all
select relname, pg_get_expr(adbin, adrelid)
from pg_attrdef join pg_class on pg_class.oid = adrelid join ours on ours.oid = relnamespace
union all
select conname, pg_get_constraintdef(pg_constraint.oid) from pg_constraint join ours on ours.oid = connamespace
union all
select relname, pg_get_indexdef(pg_class.oid) from pg_class join ours on ours.oid = relnamespace where relkind = 'i'
union all
select relname, pg_get_viewdef(pg_class.oid) from pg_class join ours on ours.oid = relnamespace where relkind in ('v', 'm')
union all
select policyname, concat(qual, with_check) from pg_policies where schemaname in ('public', 'private')
union all
select tgname, pg_get_triggerdef(pg_trigger.oid)
from pg_trigger join pg_class on pg_class.oid = tgrelid join ours on ours.oid = relnamespace
"""


class Histories(RuleBasedStateMachine):
    """Calls on both sides, with arguments chosen from the rows that the rules have stored."""

    def __init__(self, connection, user_ids, make_store):
        super().__init__()
        self.both = BothSides(connection, user_ids, make_store)
        self.numbers = 0
        users = range(len(user_ids))
        self.chats = [[] for _ in users]
        self.documents = [[] for _ in users]  # the writes of each user in their order
        self.begun = [[] for _ in users]  # the begun turns of each user in their order

    def teardown(self):
        try:
            self.both.compare()
        finally:
            self.both.close()

    # --- arguments

    def number(self):
        self.numbers += 1
        return self.numbers

    def id(self):
        return UUID(int=self.number())

    def sealed(self, size=75):
        return f"p1.1.{self.number():0{size}}"

    def head(self):
        return f"h1.{self.number():0118}"

    def message_id(self, user):
        self.both.message_ids[user].append(self.id())
        return self.both.message_ids[user][-1]

    def chat(self, owner, nth):
        """Return a chat as its owner reads it; *nth* 3: a discarded one if there is any; else a chat with an unknown id."""
        read = self.both.rows(owner).conversations(self.chats[owner])
        shown = [row for row in read if row.destroy_at is None]
        hidden = [row for row in read if row.destroy_at]
        if chats := hidden if nth == 3 and hidden else shown:
            return self.both.rows(owner).conversation(chats[-1 - nth % len(chats)].id)
        numbers = ("rev", "last_seq", "reset_seq", "start_seq", "instructions_rev", "summary_rev")
        unknown = self.chats[owner][-1] if self.chats[owner] and nth else self.id()
        return SimpleNamespace(id=unknown, **dict.fromkeys(numbers, 0), summary=None)

    def messages(self, owner, chat):
        with suppress(NotFound):
            return self.both.rows(owner).read_conversation(chat.id, 0).messages
        return []

    def turn(self, owner, nth):
        """Return a turn of a user; *nth* 3: any turn; else one that has not ended, if there is any; None: there is none."""
        turns = self.both.rows(owner).tables.run(lambda block: block.select(TURNS))
        unended = [turn for turn in turns if not turn.state.is_final or turn.is_recovered]
        turns = turns if nth == 3 else unended or turns
        return turns[-1 - nth % len(turns)] if turns else None

    def wanted(self, prices, tokens, lease, purpose=Purpose.REPLY):
        return Reservation(
            client_turn_id=self.id(),
            purpose=purpose,
            model="test-model",
            prompt_micro=prices[0],
            reply_micro=prices[1],
            least_reply_micro=prices[2],
            prompt_tokens=tokens[0],
            reply_tokens=tokens[1],
            least_reply_tokens=tokens[2],
            lease_seconds=lease,
        )

    def begin_turn(self, actor, write):
        self.begun[actor].append(write)
        self.both.begin(actor, write)

    # --- time

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start):
        """Set the clock, and give both users a chat with a reply."""
        self.both.clock.at = start
        for user in (0, 1):
            self.begin_a_chat((user, user), **AMOUNTS, **NEW_CHAT)
            self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)

    @rule(seconds=st.sampled_from([1, 0.000001, 20, 29, 61, 3600]))
    def wait(self, seconds):
        self.both.clock.at += timedelta(seconds=seconds)

    @rule(unit=st.sampled_from(["minute", "day", "month"]), off=OFF)
    def wait_for_a_window(self, unit, off):
        now = self.both.clock.at
        if unit == "minute":
            then = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        else:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
            then = midnight + timedelta(days=1)
            if unit == "month":
                then = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        self.wait_until(then + off * TICK)

    @rule(who=WHO, nth=NTH, off=OFF, is_swept=st.booleans())
    def wait_for_a_lease(self, who, nth, off, is_swept):
        if turn := self.turn(who[1], nth):
            self.wait_until(turn.lease_until + off * TICK, is_swept=is_swept)

    @rule(who=WHO, nth=NTH, off=OFF, is_swept=st.booleans())
    def wait_for_the_end_of_undo(self, who, nth, off, is_swept):
        chat = self.chat(who[1], nth)
        due = getattr(chat, "destroy_at", None) or getattr(chat, "undo_until", None)
        if due:
            self.wait_until(due + off * TICK, is_swept=is_swept)

    def wait_until(self, then, *, is_swept=False):
        if then > self.both.clock.at:
            self.both.clock.at = then
        if is_swept:
            self.both.sweep()

    # --- turns

    @rule(
        who=WHO,
        prices=PRICES,
        tokens=TOKENS,
        lease=LEASES,
        size=SIZE,
        nth=NTH,
        is_new=OFTEN,
        space=st.sampled_from(["none", "none", "own", "unknown"]),
    )
    def begin_a_chat(self, who, prices, tokens, lease, size, nth, is_new, space):
        actor, owner = who
        chat_id = self.id() if is_new else self.chat(actor, nth).id
        created = SealedConversation(
            id=chat_id,
            title=self.sealed(),
            wrapped_key=self.sealed(),
            key_version=1,
            user_key_version=1,
            head=self.head(),
            policy="window",
            policy_size=20,
            model=None,
            instructions=self.sealed() if size == 300 else None,
            space_id=self.space(owner, space, nth),
        )
        prompt = SealedPrompt(
            conversation_id=chat_id,
            expected_rev=0,
            prompt_id=self.message_id(actor),
            prompt_body=self.sealed(size),
            new_head=self.head(),
            new_start_seq=0,
            receipt_body=self.sealed() if size == 75 else None,
        )
        if chat_id not in self.chats[actor]:
            self.chats[actor].append(chat_id)
        wanted = self.wanted(prices, tokens, lease)
        self.begin_turn(actor, BeginTurn(reservation=wanted, prompt=prompt, created=created))

    def space(self, owner, space, nth):
        if space == "none":
            return None
        spaces = self.both.rows(owner).documents(DocumentKind.SPACE)
        return self.id() if space == "unknown" or not spaces else spaces[nth % len(spaces)].id

    @rule(
        who=WHO,
        chat=NTH,
        parent=NTH,
        prices=PRICES,
        tokens=TOKENS,
        lease=LEASES,
        size=SIZE,
        behind=RARELY,
        start=st.sampled_from(["start", "start", "start", "last", "reset", "before", "after"]),
    )
    def send(self, who, chat, parent, prices, tokens, lease, size, behind, start):
        actor, owner = who
        row = self.chat(owner, chat)
        messages = self.messages(owner, row)
        starts = {
            "start": row.start_seq,
            "last": row.last_seq,
            "reset": row.reset_seq,
            "before": row.reset_seq - 1,
            "after": row.last_seq + 1,
        }
        prompt = SealedPrompt(
            conversation_id=row.id,
            expected_rev=row.rev - behind,
            prompt_id=self.message_id(actor),
            parent_id=messages[-1 - parent % len(messages)].id if messages else None,
            prompt_body=self.sealed(size),
            new_head=self.head(),
            new_start_seq=starts[start],
            receipt_body=self.sealed() if size == 75 else None,
        )
        self.begin_turn(
            actor, BeginTurn(reservation=self.wanted(prices, tokens, lease), prompt=prompt)
        )

    @rule(
        who=WHO,
        chat=NTH,
        asked=NTH,
        prices=PRICES,
        tokens=TOKENS,
        lease=LEASES,
        behind=RARELY,
        purpose=st.sampled_from([Purpose.REPLY, Purpose.REPLY, Purpose.TITLE, Purpose.FACTS]),
    )
    def ask_again(self, who, chat, asked, prices, tokens, lease, behind, purpose):
        """Begin another reply, the continuation of one, or a background call."""
        actor, owner = who
        row = self.chat(owner, chat)
        ids = self.both.message_ids[owner] or [self.id()]
        messages = [one.id for one in self.messages(owner, row)] if asked < 3 else []
        prompt = SealedPrompt(
            conversation_id=row.id,
            expected_rev=row.rev - behind,
            prompt_id=(messages or ids)[-1 - asked % len(messages or ids)],
            new_start_seq=row.start_seq,
            receipt_body=self.sealed() if purpose is Purpose.REPLY else None,
        )
        wanted = self.wanted(prices, tokens, lease, purpose)
        self.begin_turn(actor, BeginTurn(reservation=wanted, prompt=prompt))

    @rule(who=WHO, prices=PRICES, tokens=TOKENS, lease=LEASES, is_reply=OFTEN)
    def begin_without_a_chat(self, who, prices, tokens, lease, is_reply):
        purpose = Purpose.REPLY if is_reply else Purpose.SUMMARY
        self.begin_turn(who[0], BeginTurn(reservation=self.wanted(prices, tokens, lease, purpose)))

    @rule(user=st.sampled_from([0, 0, 1, 2]), nth=NTH, is_same=OFTEN)
    def begin_once_more(self, user, nth, is_same):
        """Repeat a client turn id with the same request or with another one."""
        if begun := self.begun[user]:
            write = begun[-1 - nth % len(begun)]
            if not is_same:
                write = replace(write, reservation=replace(write.reservation, model="another"))
            self.both.begin(user, write)

    @rule(
        who=WHO,
        nth=NTH,
        lease=LEASES | st.sampled_from([0, 9999]),
        has_partial=OFTEN,
        has_thoughts=st.booleans(),
    )
    def checkpoint(self, who, nth, lease, has_partial, has_thoughts):
        actor, owner = who
        if turn := self.turn(owner, nth):
            partial = self.sealed() if has_partial else None
            thoughts = self.sealed() if has_thoughts else None

            def prolong(rows, turn_id):
                return rows.checkpoint_turn(
                    CheckpointTurn(
                        conversation_id=turn.conversation_id,
                        turn_id=turn_id,
                        new_partial=partial,
                        new_thoughts=thoughts,
                        lease_seconds=lease,
                    )
                )

            self.both.with_turn(actor, turn.client_turn_id, prolong)

    @rule(
        who=WHO,
        nth=NTH,
        cost=COSTS,
        size=SIZE,
        has_reply=OFTEN,
        behind=RARELY,
        outcome=ENDS,
        is_recovery=OFTEN,
    )
    def finish(self, who, nth, cost, size, has_reply, behind, outcome, is_recovery=False):
        """End a turn; *is_recovery*: without a cost, if *outcome* is "interrupted"."""
        actor, owner = who
        turn = self.turn(owner, nth)
        if turn is None:
            return
        rev = 0
        with suppress(NotFound):
            rev = self.both.rows(owner).conversation(turn.conversation_id).rev
        is_recovery = is_recovery and outcome is Outcome.INTERRUPTED
        is_text = has_reply or is_recovery
        reply = SealedReply(
            expected_rev=rev - behind,
            reply_id=self.message_id(actor),
            reply_body=self.sealed(size) if is_text else None,
            reply_thoughts=self.sealed() if is_text and size == 300 else None,
            new_head=self.head() if is_text else None,
        )
        micro, *tokens = cost
        micro = None if is_recovery else micro

        def settle(rows, turn_id):
            settlement = Settlement(turn_id, outcome, Usage(*tokens), micro, tokens[0] or None)
            rows.finish_turn(
                FinishTurn(conversation_id=turn.conversation_id, settlement=settlement, reply=reply)
            )

        self.both.with_turn(actor, turn.client_turn_id, settle)

    @rule(who=WHO, unit=st.sampled_from(["minute", "day", "month"]), cost=COSTS)
    def finish_late(self, who, unit, cost):
        """End a turn that was settled when its lease ran out, perhaps in a later window."""
        self.checkpoint(who, 0, 1, has_partial=True, has_thoughts=False)
        self.wait_for_a_lease(who, 0, off=1, is_swept=True)
        self.wait_for_a_window(unit, 1)
        self.finish(who, 0, cost=cost, **END)

    # --- ways to what single verbs seldom reach

    def begin_freely(self, user):
        """Begin a chat that no cap limits."""
        self.both.set_caps(user, NO_CAPS)
        self.begin_a_chat((user, user), **AMOUNTS, **NEW_CHAT)

    def lapse(self, user):
        """Let the newest turn lapse after its model was called."""
        self.checkpoint((user, user), 0, 1, has_partial=True, has_thoughts=True)
        self.wait_for_a_lease((user, user), 0, off=1, is_swept=True)

    @rule(user=USERS, unit=st.sampled_from(["minute", "day", "month"]), cost=COSTS)
    def give_back_in_another_window(self, user, unit, cost):
        """Correct the charge of a lapsed turn in a later window, which has a charge of its own."""
        self.both.set_caps(user, NO_CAPS)
        self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)
        self.lapse(user)
        self.wait_for_a_window(unit, 1)
        self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)
        self.finish((user, user), 0, cost=(450, 200, 90, 1), **END)
        self.finish((user, user), 0, cost=cost, **END)

    @rule(user=USERS, room=st.sampled_from([-200, -1, 0, 160, 700]))
    def lapse_under_a_shared_cap(self, user, room):
        """Let a turn lapse before its model was called, and begin another, under a cap of all users that leaves *room*."""
        self.both.set_caps(user, NO_CAPS)
        self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)
        self.both.set_shared_cap(room)
        self.wait_for_a_lease((user, user), 0, off=1, is_swept=False)
        self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)
        self.both.set_shared_cap(None)

    @rule(user=USERS, cap=st.sampled_from(["daily_cap_micro", "monthly_cap_micro"]))
    def fill_a_cap(self, user, cap):
        """Begin two turns while a cap has room for one and part of another, and a third when it has none."""
        budget = self.both.budget(user)
        spent = budget.day_spent if cap == "daily_cap_micro" else budget.month_spent
        self.both.set_caps(user, {**NO_CAPS, cap: spent + budget.reserved + 700})
        for _ in range(3):
            self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)

    @rule(user=USERS, most=st.sampled_from([0, 1, 2]), is_edit=st.booleans())
    def fill_a_minute(self, user, most, is_edit):
        """Reach the limit of messages a minute by versions, or by turns and a version."""
        counted = self.both.budget(user).minute_turns
        self.both.set_caps(user, {**NO_CAPS, "max_per_minute": counted + most})
        for _ in range(most):
            if is_edit:
                self.both.do(user, lambda rows: rows.count_edit())
            else:
                self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)
        self.edit((user, user), 0, 0, 75, behind=0, is_again=0)
        self.both.do(user, lambda rows: rows.count_edit())
        self.begin_without_a_chat((user, user), **AMOUNTS, is_reply=True)

    @rule(user=USERS)
    def begin_too_many_chats(self, user):
        for _ in range(MOST_CHATS + 1):
            self.begin_freely(user)

    @rule(user=USERS)
    def fill_a_chat(self, user):
        """Edit a reply while it streams, and then until there are too many messages."""
        self.begin_freely(user)
        for _ in range(MOST_MESSAGES):
            self.edit((user, user), 0, 0, 75, behind=0, is_again=0)
            self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)

    @rule(user=USERS, has_partial=st.booleans(), has_thoughts=st.booleans())
    def checkpoint_again(self, user, has_partial, has_thoughts):
        """Store a checkpoint without some texts, which keeps the stored ones."""
        self.begin_freely(user)
        self.checkpoint((user, user), 0, 90, has_partial=True, has_thoughts=True)
        self.checkpoint((user, user), 0, 90, has_partial=has_partial, has_thoughts=has_thoughts)
        self.both.compare()

    @rule(
        user=USERS,
        behind=st.sampled_from([0, 1]),
        cost=COSTS,
        unit=st.sampled_from(["minute", "day", "month"]),
        late=st.sampled_from([None, False, True]),
        outcome=st.sampled_from([Outcome.COMPLETE, Outcome.INTERRUPTED]),
    )
    def adopt(self, user, behind, cost, unit, late, outcome):
        """Make a reply of the partial text of a lapsed turn, perhaps in a later window or with an old revision, and end the turn
        *late* with *outcome*, with or without a text, twice. Try the same for an open turn, and recover an ended one."""
        self.begin_freely(user)
        end = {**END, "outcome": Outcome.INTERRUPTED, "is_recovery": True}
        self.finish((user, user), 0, cost=cost, **end)
        self.lapse(user)
        self.wait_for_a_window(unit, 1)
        self.finish((user, user), 0, cost=cost, **{**end, "behind": behind})
        if late is not None:
            for _ in range(2):
                self.finish(
                    (user, user), 0, cost=cost, **{**END, "has_reply": late, "outcome": outcome}
                )
            self.finish((user, user), 0, cost=cost, **end)

    @rule(user=USERS, outcome=ENDS, cost=COSTS)
    def continue_a_reply(self, user, outcome, cost):
        """End a turn with *outcome*, and ask to continue its reply, which a complete one refuses."""
        self.begin_freely(user)
        self.finish((user, user), 0, cost=cost, **{**END, "outcome": outcome})
        self.ask_again((user, user), 0, 0, **AMOUNTS, behind=0, purpose=Purpose.REPLY)

    @rule(user=USERS, behind=st.sampled_from([1, 0]), cost=COSTS, is_deleted=st.booleans())
    def finish_after_a_change(self, user, behind, cost, is_deleted):
        """End a turn with an old revision, or after its prompt was deleted."""
        self.begin_freely(user)
        row = self.chat(user, 0)
        messages = self.messages(user, row)
        if is_deleted and messages:
            self.lapse(user)
            self.delete(user, row, messages)
        self.finish((user, user), 0, cost=cost, **{**END, "behind": behind})
        self.finish((user, user), 0, cost=cost, **END)

    @rule(user=USERS, first=SECONDS, second=SECONDS)
    def delete_in_two_steps(self, user, first, second):
        """Delete a turn and then the one before it, each with its own undo period."""
        self.begin_freely(user)
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        self.send((user, user), 0, 0, **AMOUNTS, size=75, behind=0, start="start")
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        chat_id = self.chat(user, 0).id
        for begin, seconds in ((2, first), (0, second)):
            row = self.chat(user, 0)
            messages = self.messages(user, row)[begin:]
            if messages and row.id == chat_id:
                self.delete(user, row, messages, seconds)
        self.wait_for_the_end_of_undo((user, user), 0, off=1, is_swept=True)
        self.both.compare()

    @rule(
        user=USERS,
        behind=RARELY,
        off=OFF,
        has_ids=OFTEN,
        is_summary_kept=st.booleans(),
    )
    def restore_at_the_end_of_undo(self, user, behind, off, has_ids, is_summary_kept):
        """Delete a turn that a summary may cover; restore it, then the whole chat, near the end of the undo period."""
        self.begin_freely(user)
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        summary = {"kind": "summary", "behind": 0, "cut": 0, "has_text": True, "size": 75}
        self.put_a_text((user, user), 0, **summary)
        row = self.chat(user, 0)
        if messages := self.messages(user, row):
            kept = row if is_summary_kept else replace(row, summary=None)
            self.delete(user, kept, messages)
            self.both.compare()
            row = self.chat(user, 0)
            self.restore(user, row, [], row.rev)
            self.wait_for_the_end_of_undo((user, user), 0, off, is_swept=False)
            self.restore(user, row, messages if has_ids else [], row.rev - behind)
            self.both.do(user, lambda rows: rows.discard_conversation(row.id, 20))
            self.wait_until(self.both.rows(user).conversation(row.id).destroy_at + off * TICK)
            self.both.do(user, lambda rows: rows.restore_conversation(row.id))

    def delete(self, user, row, messages, seconds=20):
        write = DiscardMessages(
            conversation_id=row.id,
            expected_rev=row.rev,
            message_ids=tuple(one.id for one in messages),
            fact_ids=(),
            kept_summary=row.summary,
            new_head=self.head(),
            for_seconds=seconds,
        )
        self.both.do(user, lambda rows: rows.discard_messages(write))

    @rule(user=USERS)
    def ask_about_deleted_messages(self, user):
        self.begin_freely(user)
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        row = self.chat(user, 0)
        if messages := self.messages(user, row):
            self.delete(user, row, messages)
            row = self.chat(user, 0)
            prompt = SealedPrompt(
                conversation_id=row.id,
                expected_rev=row.rev,
                prompt_id=messages[0].id,
                new_start_seq=row.start_seq,
                receipt_body=None,
            )
            self.begin_turn(user, BeginTurn(reservation=self.wanted(**AMOUNTS), prompt=prompt))

    @rule(user=USERS, start=st.sampled_from(["before", "reset", "last", "after"]))
    def send_after_a_reset(self, user, start):
        """Send a prompt that was planned before or after the context was restarted."""
        self.begin_freely(user)
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        row = self.chat(user, 0)
        changes = {"reset_seq": row.last_seq}
        self.both.do(user, lambda rows: rows.change_conversation(row.id, changes))
        self.send((user, user), 0, 0, **AMOUNTS, size=75, behind=0, start=start)

    @rule(
        user=USERS,
        changes=st.permutations(
            [
                *({"pinned": True}, {"pinned": True}, {"read_seq": 2}, {"read_seq": 1}),
                *({"facts_seq": 2}, {"facts_seq": 1}, {"facts_seq": 7}),
                {"policy": "summary", "policy_size": 5},
            ]
        ),
    )
    def change_one_chat(self, user, changes):
        """Change a chat with values of which some are lower than the stored ones."""
        self.begin_freely(user)
        self.finish((user, user), 0, cost=(100, 20, 30, 5), **END)
        self.send((user, user), 0, 0, **AMOUNTS, size=75, behind=0, start="last")
        row = self.chat(user, 0)
        for one in changes:
            self.both.do(user, lambda rows, one=one: rows.change_conversation(row.id, one))
        self.both.compare()

    @rule(user=USERS, is_moved=OFTEN)
    def move_a_fact(self, user, is_moved):
        """Change a fact as if it had moved to another scope, which is not allowed."""
        rows = self.both.rows(user)
        row, facts = self.chat(user, 0), rows.documents(DocumentKind.FACT)
        if facts:
            fact = facts[-1]
            place = row.id if is_moved and fact.conversation_id is None else None
            write = PutDocument(
                new_kind=DocumentKind.FACT,
                document_id=fact.id,
                conversation_id=place,
                space_id=None,
                seen_rev=fact.rev,
                new_rev=fact.rev + 1,
                new_body=self.sealed(),
            )
            self.put(user, write)

    @rule(
        user=USERS,
        what=st.sampled_from(["again", "behind", "ahead", "moved", "of old messages", "when full"]),
    )
    def put_a_fact_once_more(self, user, what):
        """Store facts up to the limit, the last one again or changed; or a fact that was noted from messages deleted since."""
        self.begin_freely(user)
        self.both.do(user, lambda rows: rows.delete_facts())
        self.both.sweep()
        row = self.chat(user, 0)
        place = {"conversation_id": None, "space_id": None}
        for _ in range(1 if what in ("of old messages", "when full") else MOST_FACTS):
            fact = PutDocument(
                new_kind=DocumentKind.FACT,
                document_id=self.id(),
                **place,
                seen_rev=0,
                new_rev=1,
                new_body=self.sealed(1000 if what == "when full" else 75),
            )
            self.put(user, fact)
        match what:
            case "behind":
                fact = replace(fact, new_body=self.sealed())
            case "ahead":
                fact = replace(fact, seen_rev=2, new_rev=3, new_body=self.sealed())
            case "moved":
                moved = {"conversation_id": row.id, "new_body": self.sealed()}
                fact = replace(fact, **moved, seen_rev=1, new_rev=2)
            case "of old messages":
                source = {"source_id": row.id, "cuts": row.rev - row.last_seq - 1}
                fact = replace(fact, **source, document_id=self.id())
            case "when full":
                self.wait_for_a_window("minute", 1)
                fact = replace(fact, document_id=self.id())
        self.put(user, fact)
        self.both.compare()

    @rule(who=WHO, nth=NTH)
    def stop(self, who, nth):
        actor, owner = who
        if turn := self.turn(owner, nth):
            self.both.with_turn(
                actor,
                turn.client_turn_id,
                lambda rows, turn_id: rows.stop_turn(turn.conversation_id, turn_id),
            )

    # --- messages

    @rule(who=WHO, chat=NTH, nth=NTH, size=SIZE, behind=RARELY, is_again=RARELY)
    def edit(self, who, chat, nth, size, behind, is_again):
        actor, owner = who
        row = self.chat(owner, chat)
        messages = self.messages(owner, row)
        if not messages:
            self.both.do(actor, lambda rows: rows.count_edit())
            return
        original = messages[-1 - nth % len(messages)]
        write = EditReply(
            conversation_id=row.id,
            expected_rev=row.rev - behind,
            original_id=original.id,
            reply_id=original.id if is_again else self.message_id(actor),
            reply_body=self.sealed(size),
            new_head=self.head(),
        )
        self.both.do(actor, lambda rows: rows.edit_reply(write))

    @rule(
        who=WHO,
        chat=NTH,
        nth=NTH,
        behind=RARELY,
        seconds=SECONDS,
        is_alone=RARELY,
        is_again=RARELY,
        summary=st.sampled_from(["kept", "gone", "another"]),
        has_fact=st.booleans(),
        is_more=RARELY,
    )
    def discard_or_restore_messages(
        self, who, chat, nth, behind, seconds, is_alone, is_again, summary, has_fact, is_more
    ):
        actor, owner = who
        row = self.chat(owner, chat)
        messages = self.messages(owner, row)
        hidden = self.both.rows(owner).discarded_messages(row.id)
        if hidden and not is_more:
            self.restore(actor, row, hidden[is_alone:], row.rev - behind)
            return
        messages = hidden if is_again and hidden else messages
        if not messages:
            return
        doomed = [messages[-1 - nth % len(messages)].id]
        for message in messages:
            if message.parent_id in doomed and not is_alone:
                doomed.append(message.id)
        facts = self.both.rows(owner).documents(DocumentKind.FACT) if has_fact else []
        write = DiscardMessages(
            conversation_id=row.id,
            expected_rev=row.rev - behind,
            message_ids=tuple(doomed),
            fact_ids=tuple(fact.id for fact in facts[:1]),
            kept_summary={"kept": row.summary, "another": self.sealed()}.get(summary),
            new_head=self.head(),
            for_seconds=seconds,
        )
        self.both.do(actor, lambda rows: rows.discard_messages(write))

    def restore(self, actor, row, messages, rev):
        write = RestoreMessages(
            conversation_id=row.id,
            expected_rev=rev,
            message_ids=tuple(one.id for one in messages),
            new_head=self.head(),
        )
        self.both.do(actor, lambda rows: rows.restore_messages(write))

    @rule(
        who=WHO,
        chat=NTH,
        first=st.integers(1, 5),
        length=st.sampled_from([1, 1, 2, 4]),
        replaced=st.sampled_from([(), (), (1,), (2, 3), (1, 2, 3, 4, 5)]),
        cut=RARELY,
        size=SIZE,
        is_again=RARELY,
    )
    def put_a_search_text(self, who, chat, first, length, replaced, cut, size, is_again):
        actor, owner = who
        row = self.chat(owner, chat)
        text = SearchTextRow(
            conversation_id=row.id,
            number=first,
            last_seq=first + length - 1,
            body=self.sealed(size),
        )
        write = PutSearchText(row=text, replaced=replaced, cuts=row.rev - row.last_seq - cut)
        for _ in range(1 + is_again):
            self.both.do(actor, lambda rows: rows.put_search_text(write))

    @rule(who=WHO)
    def delete_the_search_texts(self, who):
        self.both.do(who[0], lambda rows: rows.delete_search_texts())

    # --- chats and documents

    @rule(
        who=WHO,
        chat=NTH,
        by=st.sampled_from(["person", "model"]),
        state=STATES,
        is_pinned=st.booleans(),
        what=st.sampled_from(
            ["title", "pinned", "state", "policy", "reset", "model", "space", "read"]
        ),
        seq=st.sampled_from(["one", "last", "beyond"]),
        space=st.sampled_from(["none", "own", "unknown"]),
    )
    def change(self, who, chat, what, by, state, is_pinned, seq, space):
        actor, owner = who
        row = self.chat(owner, chat)
        up_to = {"one": 1, "last": max(1, row.last_seq), "beyond": row.last_seq + 5}[seq]
        changes = {
            "title": {"title": self.sealed(), "titled_by": by},
            "pinned": {"pinned": is_pinned},
            "state": {"state": state, "pinned": False},
            "policy": {"policy": "summary", "policy_size": None if is_pinned else 5},
            "reset": {"reset_seq": row.last_seq if is_pinned else 0},
            "model": {"model": "test-model" if is_pinned else None},
            "space": {"space_id": self.space(owner, space, 0)},
            "read": {"read_seq": up_to} if is_pinned else {"facts_seq": up_to},
        }[what]
        self.both.do(actor, lambda rows: rows.change_conversation(row.id, changes))

    @rule(who=WHO, chat=NTH, seconds=SECONDS, is_again=RARELY)
    def discard_or_restore_a_chat(self, who, chat, seconds, is_again):
        row = self.chat(who[1], chat)
        if getattr(row, "destroy_at", None) and not is_again:
            self.both.do(who[0], lambda rows: rows.restore_conversation(row.id))
        else:
            self.both.do(who[0], lambda rows: rows.discard_conversation(row.id, seconds))

    @rule(
        who=WHO,
        nth=NTH,
        is_new=st.booleans(),
        kind=st.sampled_from(["preferences", "space", "fact"]),
        chat=NTH,
        scope=st.sampled_from(["none", "chat", "space", "unknown"]),
        behind=RARELY,
        size=SIZE,
        source=st.sampled_from(["none", "none", "chat", "old"]),
        is_again=RARELY,
    )
    def put_a_document(self, who, nth, is_new, kind, chat, scope, behind, size, source, is_again):
        actor, owner = who
        written = self.documents[actor]
        if is_again and written:
            self.put(actor, written[-1 - nth % len(written)])
            return
        stored = self.both.rows(owner).documents(DocumentKind(kind))
        known = stored[-1 - nth % len(stored)] if stored and not is_new else None
        if kind == "preferences":
            known = stored[0] if stored else None
            document_id = self.both.user_ids[actor]
        else:
            document_id = known.id if known else self.id()
        row = self.chat(owner, chat)
        is_fact = kind == "fact"
        space_id = self.space(owner, "own" if scope == "space" else "unknown", nth)
        seen_rev = max(0, (known.rev if known else 0) - behind)
        of_source = is_fact and source != "none"
        write = PutDocument(
            new_kind=DocumentKind(kind),
            document_id=document_id,
            conversation_id=row.id if is_fact and scope == "chat" else None,
            space_id=space_id if is_fact and scope in ("space", "unknown") else None,
            seen_rev=seen_rev,
            new_rev=seen_rev + 1,
            new_body=self.sealed(size),
            source_id=row.id if of_source else None,
            cuts=row.rev - row.last_seq - (source == "old") if of_source else None,
        )
        if known and not behind and nth < 3:  # with an unchanged scope
            place = {"conversation_id": known.conversation_id, "space_id": known.space_id}
            write = replace(write, **place)
        if (
            actor != owner and seen_rev == 0 and kind != "preferences"
        ):  # false for a taken id, which is impossible for 128 random bits
            write = replace(write, document_id=self.id())
        self.put(actor, write)

    @rule(
        who=WHO,
        chat=NTH,
        kind=st.sampled_from(["instructions", "summary"]),
        behind=RARELY,
        cut=RARELY,
        has_text=OFTEN,
        size=SIZE,
    )
    def put_a_text(self, who, chat, kind, behind, cut, has_text, size):
        actor, owner = who
        row = self.chat(owner, chat)
        seen_rev = max(0, getattr(row, f"{kind}_rev") - behind)
        write = PutDocument(
            new_kind=DocumentKind(kind),
            document_id=row.id,
            conversation_id=row.id,
            space_id=None,
            seen_rev=seen_rev,
            new_rev=seen_rev + 1,
            new_body=self.sealed(size) if has_text else None,
            cuts=row.rev - row.last_seq - cut if kind == "summary" else None,
        )
        self.put(actor, write)

    def put(self, actor, write):
        self.documents[actor].append(write)
        self.both.do(actor, lambda rows: rows.put_document(write))

    @rule(
        who=WHO,
        kind=st.sampled_from(["space", "fact", "facts", "space", "fact", "preferences"]),
        nth=NTH,
        is_swept=st.booleans(),
    )
    def delete_documents(self, who, kind, nth, is_swept):
        """Delete a space, a fact or all facts; preferences stay."""
        actor, owner = who
        if MOST_BYTES[
            actor
        ]:  # the end of a lapsed turn counts the bytes before `erase` has freed what is deleted
            self.both.sweep()
        if kind == "facts":
            self.both.do(actor, lambda rows: rows.delete_facts())
        else:
            stored = self.both.rows(owner).documents(DocumentKind(kind))
            document_id = stored[nth % len(stored)].id if stored else self.id()
            self.both.do(actor, lambda rows: rows.delete_document(document_id))
        self.erase(actor, is_swept=is_swept)

    @rule(user=USERS)
    def delete_the_preferences(self, user):
        """Try to delete preferences and texts, which can be changed but not deleted."""
        nothing = {"is_new": False, "scope": "none", "source": "none", "behind": 0, "is_again": 0}
        self.put_a_document((user, user), 0, kind="preferences", chat=0, size=75, **nothing)
        self.delete_documents((user, user), "preferences", 0, is_swept=False)

    def erase(self, actor, *, is_swept):
        """Deleted rows count until they are destroyed: in SQL at once, in the rules by the next sweep."""
        if is_swept or MOST_BYTES[actor]:
            self.both.sweep()

    # --- upkeep and administration

    @rule()
    def sweep(self):
        self.both.sweep()

    @rule(
        who=WHO,
        changes=st.sampled_from(
            [
                {"daily_cap_micro": 400},
                {"monthly_cap_micro": 600},
                {"daily_cap_tokens": 300},
                {"daily_cap_tokens": None},
                {"daily_cap_micro": 10**9, "monthly_cap_micro": 900},
                {"max_per_minute": 1},
                {"max_open": 1},
                {"max_per_minute": 2},
                {"daily_cap_micro": 10**9, "monthly_cap_micro": 10**9, "daily_cap_tokens": None},
                {"max_open": 1000, "max_per_minute": 1000},
            ]
        ),
    )
    def set_caps(self, who, changes):
        self.both.set_caps(who[1], changes)


def share_of(number, tables):
    return max(LEAST_HISTORIES, round(number * tables[1]))


def run_histories(machine, verbs, number):
    """Run a *number* of histories of at most *verbs* calls; a failing one is shrunk, except for mutants."""
    chosen = settings(
        max_examples=number,
        stateful_step_count=verbs,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if IS_SHRUNK else [Phase.generate],
        report_multiple_bugs=IS_SHRUNK,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(100 * SEED + verbs)(machine), settings=chosen)
    except Exception as failure:
        failure.add_note(f"DAYBOOK_SEED={SEED} DAYBOOK_HISTORIES={HISTORIES}")
        raise


@pytest.fixture(scope="module")
def two_sides(server, tmp_path_factory):
    """Yield the address of the property's template, and the ids of its users."""
    folder = tmp_path_factory.mktemp("migrations")
    return make_template(server, "daybook_rules_and_sql", folder)


def test_no_clock_but_the_tests_is_left(two_sides):
    address, _ = two_sides
    with psycopg.connect(address, autocommit=True) as connection:
        left = [name for name, text in connection.execute(DEFINITIONS) if re.search(CLOCKS, text)]
        [(moved,)] = connection.execute("select count(*) from pg_proc where prosrc ~ 'test_clock'")

    assert left == []
    assert moved > 20


@pytest.mark.parametrize("verbs", LENGTHS)
def test_rules_and_sql_agree(two_sides, tables, monkeypatch, verbs):
    tell_refusals(monkeypatch)
    make_limits_smaller(monkeypatch)
    address, user_ids = two_sides
    with psycopg.connect(address, autocommit=True) as connection:

        def history():
            return Histories(connection, user_ids, tables[0])

        run_histories(history, verbs, share_of(HISTORIES // len(LENGTHS), tables))
