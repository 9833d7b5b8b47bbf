"""The rules of money and turns at their limits, and the errors of refusals. A property test compares the rules with SQL."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.domain import Outcome, Purpose, Role
from services.domain.rows import ConversationRow, DocumentKind, DocumentRow, MessageRow
from services.domain.turns import ClientTurnId, Reservation
from services.errors import AccountFull, Cap, OverBudget, StoreUnavailable
from services.rules import BUSY, NOT_FOUND, STALE, TOO_MANY, Refusal
from services.rules.budget import NO_CAP, Budget, Deployment, room_for
from services.rules.documents import is_stored, put_refusal
from services.rules.messages import (
    appended,
    can_restore,
    changed,
    discard_refusal,
    discarded,
    edit_refusal,
    hidden,
    is_due,
    prompt_refusal,
    restore_refusal,
    restored,
)
from services.rules.turns import reserve
from services.store.refusals import error_of
from tests.fakes import MAYA
from tests.store.conformance.talk import attached, new_turn
from tests.stores import InMemoryDatabase

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)
BEFORE = MIDNIGHT - timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
CAPS = {
    "daily_cap_micro": 1000,
    "monthly_cap_micro": 1500,
    "daily_cap_tokens": 500,
    "max_open": 1,
    "max_per_minute": 2,
}
WANTED = Reservation(
    client_turn_id=ClientTurnId(uuid4()),
    model="test-model",
    prompt_micro=100,
    reply_micro=400,
    least_reply_micro=50,
    prompt_tokens=100,
    reply_tokens=300,
    least_reply_tokens=50,
    lease_seconds=30,
)
CHAT = ConversationRow(
    id=UUID(int=1),
    **dict.fromkeys(("title", "wrapped_key", "head"), "sealed"),
    **dict.fromkeys(("key_version", "user_key_version"), 1),
    **dict.fromkeys(("policy_size", "model", "instructions", "space_id")),
    **dict.fromkeys(("created_at", "updated_at"), BEFORE),
    policy="full",
    rev=3,
)
PROMPT = MessageRow(
    **dict.fromkeys(("parent_id", "turn_id", "destroy_at")),
    id=UUID(int=2),
    conversation_id=CHAT.id,
    seq=1,
    role=Role.USER,
    outcome=Outcome.COMPLETE,
    body="sealed",
    has_thoughts=False,
    created_at=BEFORE,
)
REPLY = replace(PROMPT, id=UUID(int=3), seq=2, role=Role.ASSISTANT, parent_id=PROMPT.id)
FILES = (
    *("turns_and_money", "conversations", "documents"),
    *("credentials", "accounts_and_sessions", "administration", "sign_ups"),
)
NO_REFUSALS = {
    *("lapsed", "taken"),  # answers to a heartbeat, and to a taken id of 128 random bits
    "address_taken",  # an answer about a user of Supabase Auth
    *("moved", "held", "too_many_attempts"),  # answers about tokens, and a wait
}


def sql_reasons():
    """Return the reasons that SQL functions answer."""
    folder = Path(__file__).parents[2] / "db" / "migrations"
    texts = [path.read_text() for path in folder.glob("*.sql") if path.stem[15:] in FILES]
    found = re.compile(r"answer\([^)]*'(\w+)'\)|return '(\w+)'|'reason', '(\w+)'")
    case = re.search(r"refusal := case(.*?)\n  end;", "".join(texts), re.DOTALL)[1]
    words = {word for groups in found.findall("".join(texts)) for word in groups if word}
    return words | set(re.findall(r"(?:then|else) '(\w+)'", case))


def test_every_reason_in_sql_has_an_error():
    reasons = sql_reasons() - NO_REFUSALS

    assert reasons >= {"last_admin", "no_invitation", "bad_address"}
    assert reasons >= {"busy", "stale", "daily_cap", "too_fast", "no_space", "still_open"}
    for reason in reasons:
        error = error_of("begin_turn", Refusal(reason=reason), WANTED)
        assert not isinstance(error, StoreUnavailable), reason


def test_refusal_by_a_cap_says_what_is_needed_and_left():
    error = error_of("begin_turn", Refusal(reason="daily_cap", room=149), WANTED)

    assert isinstance(error, OverBudget)
    assert (error.cap, error.needed, error.left) == (Cap.DAILY, 150, 149)


def test_windows_open_at_midnight():
    spent = {"day_spent": 5, "month_spent": 7, "day_tokens": 9, "minute_turns": 2}
    budget = replace(Budget(**CAPS).opened(BEFORE, 10), **spent, reserved=3)

    assert budget.opened(BEFORE, 99) == budget
    opened = budget.opened(MIDNIGHT, 99)
    assert (opened.day_spent, opened.month_spent, opened.day_tokens) == (0, 0, 0)
    assert (opened.minute_turns, opened.bytes, opened.reserved) == (0, 99, 3)


@pytest.mark.parametrize("ahead", [timedelta(hours=8), timedelta(days=31)])
def test_windows_of_a_clock_that_was_ahead_are_left(ahead):
    spent = {"day_spent": 5, "month_spent": 7, "minute_turns": 20}
    budget = replace(Budget(**CAPS).opened(MIDNIGHT + ahead, 10), **spent)

    opened = budget.opened(MIDNIGHT, 99)

    assert (opened.day, opened.day_spent, opened.month_spent) == (MIDNIGHT.date(), 5, 7)
    assert (opened.minute, opened.minute_turns, opened.bytes) == (MIDNIGHT, 0, 99)
    tomorrow = opened.opened(MIDNIGHT + timedelta(days=1), 99)
    assert tomorrow.day_spent == 0


def test_refund_goes_to_the_windows_that_counted_the_charge():
    budget = replace(Budget(**CAPS).opened(MIDNIGHT, 0), day_spent=50, month_spent=60)
    gift = {"held": 0, "spent": -20, "held_tokens": 0, "tokens": 0}

    late = budget.booked(**gift, charged_at=BEFORE)
    assert (late.day_spent, late.month_spent) == (50, 60)
    same = budget.booked(**gift, charged_at=MIDNIGHT)
    assert (same.day_spent, same.month_spent) == (30, 40)


@pytest.mark.parametrize(
    ("spent", "cap", "granted", "refusal"),
    [
        ({}, None, 500, None),
        ({"day_spent": 850, "month_spent": 850}, None, 150, None),
        ({"day_spent": 851, "month_spent": 851}, None, 149, "daily_cap"),
        ({"month_spent": 1351}, None, 149, "monthly_cap"),
        ({}, 149, 149, "deployment_cap"),
        ({"day_tokens": 351}, None, 500, "daily_tokens"),
    ],
)
def test_turn_is_granted_what_its_caps_leave(spent, cap, granted, refusal):
    budget = replace(Budget(**CAPS).opened(MIDNIGHT, 0), **spent)

    room = room_for(budget, Deployment(monthly_cap_micro=cap), WANTED)

    assert (room.granted, room.reason) == (granted, refusal)


@pytest.mark.parametrize("cap", ["daily_cap_micro", "monthly_cap_micro"])
def test_turn_without_a_cost_begins_over_a_cap(cap):
    budget = replace(Budget(**CAPS), month_spent=50, day_spent=50, **{cap: 49})
    free = replace(WANTED, prompt_micro=0, reply_micro=0, least_reply_micro=0)

    rooms = [room_for(budget, Deployment(), wanted) for wanted in (free, WANTED)]

    assert [(room.granted, room.reason) for room in rooms] == [
        (0, None),
        (0, cap.removesuffix("_micro")),
    ]


def test_deployments_figures_follow_a_budget():
    before = Budget(**CAPS).opened(BEFORE, 0)
    held, *_ = reserve(before, Deployment(), [], WANTED, BEFORE)
    deployment = Deployment(monthly_cap_micro=1000).opened(BEFORE).after(before, held)

    assert deployment.room == 500
    # the reserved amount will be paid in the new month
    assert deployment.opened(MIDNIGHT).room == 500


def test_figures_of_all_begin_with_those_of_each_budget():
    spent = replace(Budget(**CAPS).opened(BEFORE, 0), month_spent=60, reserved=7)
    off, on = Deployment(), Deployment(monthly_cap_micro=NO_CAP, counting=3).opened(BEFORE)
    assert off.counted(spent, spent) == (off, spent)

    counted, budget = on.counted(spent, spent)
    again, _ = counted.counted(budget, replace(budget, month_spent=61))

    assert (counted.spent, counted.reserved, budget.counting) == (60, 7, 3)
    assert (again.spent, again.reserved) == (61, 7)


@pytest.mark.parametrize(
    ("cap", "spent", "share"),
    [(None, 9, None), (0, 0, 0), (100, 89, None), (100, 90, 0.9), (100, 99, 0.95), (100, 120, 1)],
)
def test_share_of_the_cap_of_all_is_told_roughly(cap, spent, share):
    assert Deployment(monthly_cap_micro=cap, spent=spent).share == share


def test_minute_bounds_replies_alone():
    budget = replace(Budget(**CAPS).opened(BEFORE, 0), minute_turns=2)

    refused = reserve(budget, Deployment(), [], WANTED, BEFORE)
    assert (refused.reason, refused.per_minute, refused.wait_seconds) == ("too_fast", 2, 1)
    title = replace(WANTED, purpose=Purpose.TITLE)
    assert reserve(budget, Deployment(), [], title, BEFORE)[1] == 500


def test_pieces_count_towards_the_bytes_of_the_next_minute():
    database = InMemoryDatabase(MAYA, now=lambda: MIDNIGHT)
    thread, store = database.thread(database.hold("Garden", "Hello", "Hi.")), database.store()
    database.bounded_rows.most_bytes = store.usage.stored().sealed_bytes + 1
    database.let_pass(60)

    turn = attached(store, new_turn(thread, "Look"), b"leaf")
    store.turns.begin(turn)

    database.let_pass(60)
    with pytest.raises(AccountFull):
        attached(store, turn, b"root")


def test_stored_document_stays_in_its_place_and_counts_once():
    fact = DocumentRow(kind=DocumentKind.FACT, id=UUID(int=1), rev=1, body="sealed")
    changed = replace(fact, rev=2, body="changed")

    assert put_refusal(None, fact, 0, 5_000) is TOO_MANY
    assert put_refusal(fact, changed, 0, 5_000) is STALE
    assert put_refusal(fact, changed, 1, 5_000) is None
    assert put_refusal(fact, replace(changed, space_id=UUID(int=2)), 1, 0) is STALE


def test_messages_are_deleted_with_all_that_follow_them():
    def refusal(doomed, stored, rev=3, answered=None):
        ids = {one.id for one in doomed}
        messages = [PROMPT, REPLY]
        return discard_refusal(CHAT, ids, stored, messages, rev=rev, answered=answered)

    both = [PROMPT, REPLY]
    assert refusal(both, both) is None
    assert refusal([REPLY], [REPLY]) is None
    assert refusal(both, [PROMPT]).reason == "a message stays that follows one that goes"
    assert refusal(both, [PROMPT, replace(REPLY, destroy_at=MIDNIGHT)]) is not None
    assert refusal([PROMPT], [PROMPT]) is not None
    assert refusal(both, both, rev=2) is STALE
    assert refusal(both, both, answered=PROMPT.id) is BUSY


def test_messages_are_restored_together_or_not_at_all():
    ids = [PROMPT.id, REPLY.id]

    assert restore_refusal(CHAT, 3, ids, ids) is None
    assert restore_refusal(CHAT, 2, ids, ids) is STALE
    assert restore_refusal(CHAT, 3, ids[:1], ids) is NOT_FOUND
    assert restore_refusal(CHAT, 3, [], []) is NOT_FOUND


def test_deleted_message_is_not_answered():
    def refusal(asked, rev=3):
        place = {"rev": rev, "start_seq": 0, "is_busy": False, "is_new": False}
        return prompt_refusal(CHAT, asked=asked, **place)

    assert refusal(PROMPT) is None
    assert refusal(replace(PROMPT, destroy_at=MIDNIGHT)) is refusal(None) is NOT_FOUND
    assert refusal(REPLY) is NOT_FOUND
    assert refusal(replace(REPLY, outcome=Outcome.CUT)) is None


def test_whole_replies_alone_are_edited():
    def refusal(original, row=CHAT, is_busy=False):
        return edit_refusal(row, rev=3, is_busy=is_busy, original=original)

    assert refusal(REPLY) is None
    assert refusal(REPLY, is_busy=True) is BUSY
    assert refusal(REPLY, replace(CHAT, rev=4)) is STALE
    assert refusal(REPLY, replace(CHAT, last_seq=20_000)) is TOO_MANY
    assert refusal(replace(REPLY, destroy_at=MIDNIGHT)) is refusal(PROMPT) is NOT_FOUND


def test_conversation_follows_its_messages():
    spoken = appended(CHAT, "head", is_users=True, now=MIDNIGHT)
    answered = appended(spoken, "head", is_users=False, now=MIDNIGHT)
    assert (spoken.rev, spoken.last_seq, spoken.read_seq) == (4, 1, 1)
    assert (answered.last_seq, answered.read_seq) == (2, 1)

    told = replace(answered, summary="kept", summary_rev=1)
    cut = discarded(told, "cut", "another", MIDNIGHT)
    assert (cut.rev, cut.undo_until, cut.summary, cut.summary_rev) == (6, MIDNIGHT, None, 2)
    whole = discarded(told, "cut", "kept", MIDNIGHT)
    assert (whole.summary, whole.summary_rev) == ("kept", 1)
    assert (restored(whole, "head").undo_until, restored(whole, "head").rev) == (None, 7)


def test_changes_of_a_conversation_go_forward():
    read = replace(CHAT, last_seq=9, read_seq=3, reset_seq=2)

    def after(row=read, **changes):
        return changed(row, changes, MIDNIGHT)

    assert after(titled_by="model", title="new").title == "new"
    assert after(replace(CHAT, titled_by="person"), titled_by="model") is None
    assert after(replace(CHAT, pinned_at=BEFORE), pinned=True).pinned_at == BEFORE
    assert (after(pinned=True).pinned_at, after(pinned=False).pinned_at) == (MIDNIGHT, None)
    assert [after(read_seq=seq).read_seq for seq in (1, 5, 12)] == [3, 5, 9]
    assert after(policy="window", policy_size=5).start_seq == 2
    assert after(policy_size=5).policy_size is None


def test_deleted_things_are_restored_until_their_time_and_destroyed_after_it():
    first = hidden(CHAT, 20, BEFORE)

    assert hidden(first, 20, MIDNIGHT).destroy_at == BEFORE + timedelta(seconds=20)
    due = [can_restore(MIDNIGHT, now) for now in (BEFORE, MIDNIGHT, MIDNIGHT + SECOND)]
    gone = [is_due(MIDNIGHT, now) for now in (BEFORE, MIDNIGHT, MIDNIGHT + SECOND)]
    assert (due, gone) == ([True, False, False], [False, False, True])
    assert not can_restore(None, BEFORE)
    assert not is_due(None, BEFORE)


def test_same_document_is_stored_once():
    fact = DocumentRow(kind=DocumentKind.FACT, id=UUID(int=1), rev=1, body="sealed")

    assert is_stored(fact, fact)
    assert not is_stored(None, fact)
    assert not is_stored(fact, replace(fact, body="changed"))


def test_reserved_amounts_leave_less_room():
    spent = {"month_spent": 1000, "reserved": 300, "day_tokens": 100, "reserved_tokens": 150}
    room = room_for(Budget(**CAPS, **spent), Deployment(), WANTED)

    assert (room.granted, room.granted_tokens, room.reason) == (200, 250, None)
    plenty = replace(WANTED, reply_tokens=50)
    assert room_for(Budget(**CAPS, **spent), Deployment(), plenty).granted_tokens == 150
