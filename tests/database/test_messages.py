"""Messages that no turn brings: replies that their user edits; and messages that are deleted."""

from uuid import uuid4

import psycopg
import pytest

from tests.database.people import HEAD, MISUSE, a_document, sealed

LOCK_NOT_AVAILABLE = "55P03"


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def reply():
    return uuid4()


@pytest.fixture
def garden(maya, reply):
    """A conversation of Maya's, with a prompt and a reply."""
    garden = maya.create_conversation()
    maya.finish(maya.begin(garden)["turn"], 1, 400, reply=reply)
    return garden


def edit(person, conversation, rev, original, **changes):
    arguments = {
        "conversation": conversation,
        "expected_rev": rev,
        "original": original,
        "reply": uuid4(),
        "reply_body": sealed("edited"),
        "body_key_version": 1,
        "new_head": HEAD,
    }
    return person.call("edit_reply", **(arguments | changes))


def newest(person):
    return max(person.rows("messages"), key=lambda row: row["seq"])


def test_edited_reply_is_a_sibling_without_a_turn_that_costs_nothing(world, maya, garden, reply):
    money = world.contents()["private.budgets"], world.contents()["private.ledger"]

    assert edit(maya, garden, 2, reply) == {"ok": True}

    prompt, *_ = sorted(maya.rows("messages"), key=lambda row: row["seq"])
    edited = newest(maya)
    assert (edited["parent_id"], edited["seq"], edited["turn_id"]) == (prompt["id"], 3, None)
    assert (edited["role"], edited["outcome"]) == ("assistant", "edited")
    assert world.one(
        "select rev, last_seq, read_seq, message_count from public.conversations where id = %s",
        garden,
    ) == (3, 3, 3, 3)
    assert (world.contents()["private.budgets"], world.contents()["private.ledger"]) == money


def test_editing_twice_with_one_id_edits_once(maya, garden, reply):
    edited = {"reply": uuid4()}

    assert edit(maya, garden, 2, reply, **edited) == edit(maya, garden, 2, reply, **edited)

    assert len(maya.rows("messages")) == 3


def test_reply_is_edited_by_who_has_seen_the_conversation_as_it_is(maya, garden, reply):
    assert edit(maya, garden, 1, reply)["reason"] == "stale"

    turn = maya.begin(garden, 2)["turn"]
    assert edit(maya, garden, 3, reply)["reason"] == "busy"
    maya.finish(turn, 3)

    assert edit(maya, garden, 4, reply)["ok"]


def test_only_replies_of_ones_own_conversation_are_edited(world, maya, garden, reply):
    elsewhere = maya.create_conversation()
    prompt = min(maya.rows("messages"), key=lambda row: row["seq"])["id"]

    assert edit(maya, garden, 2, prompt)["reason"] == "not_found"
    assert edit(maya, garden, 2, uuid4())["reason"] == "not_found"
    assert edit(maya, elsewhere, 0, reply)["reason"] == "not_found"
    assert edit(world.person(), garden, 2, reply)["reason"] == "not_found"
    assert len(maya.rows("messages")) == 2


def test_replies_are_edited_until_a_conversation_has_20000_messages(world, maya, garden, reply):
    world.admin.execute(
        """
        insert into public.messages (id, conversation_id, user_id, seq, role, body)
        select md5(n::text)::uuid, %(garden)s, %(maya)s, n, 'user', %(body)s
        from generate_series(3, 19999) n
        """,
        {"garden": garden, "maya": maya.id, "body": sealed("message")},
    )
    world.admin.execute(
        "update public.conversations set rev = 19999, last_seq = 19999, message_count = 19999 where id = %s",
        [garden],
    )

    assert edit(maya, garden, 19999, reply)["ok"]
    assert edit(maya, garden, 20000, reply)["reason"] == "too_many"

    count = "select count(*) from public.messages where conversation_id = %s"
    assert world.one(count, garden) == 20000


# --- deleting ----------------------------------------------------------------------------------------


@pytest.fixture
def long(world, maya, garden, reply):
    """The ids of four messages in the garden: two prompts and their replies, with a receipt each."""
    ids = [*(row["id"] for row in in_order(maya)), str(uuid4()), str(uuid4())]
    turn = maya.begin(garden, 2, prompt=ids[2], parent=reply, receipt_body=sealed("receipt"))
    maya.finish(turn["turn"], 3, 300, reply=ids[3])
    return ids


def in_order(person):
    rows = [row for row in person.rows("messages") if row["destroy_at"] is None]
    return sorted(rows, key=lambda row: row["seq"])


def alive(person):
    return [row["id"] for row in in_order(person)]


def discard(person, conversation, rev, doomed, **changes):
    arguments = {
        "conversation": conversation,
        "expected_rev": rev,
        "doomed": ",".join(map(str, doomed)),
        "noted": "",
        "kept_summary": None,
        "new_head": HEAD,
        "for_seconds": 20,
    }
    return person.call("discard_messages", **(arguments | changes))


def restore(person, conversation, rev, restored):
    ids = ",".join(map(str, restored))
    arguments = {"expected_rev": rev, "restored": ids, "new_head": HEAD}
    return person.call("restore_messages", conversation=conversation, **arguments)


def let_pass(world):
    """The time for Undo."""
    for table, column in (("messages", "destroy_at"), ("conversations", "undo_until")):
        world.admin.execute(
            f"update public.{table} set {column} = now() - interval '1s' where {column} is not null"
        )


def test_deleted_messages_can_be_restored_whole(world, maya, garden, long):
    receipts = maya.rows("receipts")

    assert discard(maya, garden, 4, long[2:]) == {"ok": True}
    assert alive(maya) == long[:2]
    world.sweep()
    assert restore(maya, garden, 5, long[2:]) == {"ok": True}

    assert alive(maya) == long
    assert maya.rows("receipts") == receipts
    assert world.one(
        "select rev, last_seq, message_count, undo_until from public.conversations where id = %s",
        garden,
    ) == (6, 4, 4, None)
    assert restore(maya, garden, 6, long[2:])["reason"] == "not_found"


def test_deleted_messages_are_destroyed_with_their_receipts_and_their_cost_stays(
    world, maya, garden, long
):
    books = world.contents()["private.ledger"], world.contents()["private.budgets"]
    discard(maya, garden, 4, long[2:])
    let_pass(world)

    world.sweep()

    assert [row["id"] for row in maya.rows("messages")] == long[:2]
    assert maya.rows("receipts") == []
    assert maya.rows("conversations")[0]["undo_until"] is None
    assert (world.contents()["private.ledger"], world.contents()["private.budgets"]) == books
    assert restore(maya, garden, 5, long[2:])["reason"] == "not_found"


def test_time_for_undo_ends_before_the_sweep_comes(world, maya, garden, long):
    discard(maya, garden, 4, long[2:])
    let_pass(world)

    assert restore(maya, garden, 5, long[2:])["reason"] == "not_found"
    assert alive(maya) == long[:2]


def test_facts_and_summary_made_of_deleted_messages_go_at_once(world, maya, garden, long):
    noted, other = uuid4(), uuid4()
    for fact in (noted, other):
        maya.call("put_document", **a_document(document=fact))
    assert summarise(maya, garden, cuts=0)["ok"]

    discard(maya, garden, 4, long[3:], noted=str(noted))

    assert [row["id"] for row in maya.rows("documents")] == [str(other)]
    assert maya.rows("conversations")[0]["summary"] is None


def summarise(person, conversation, cuts):
    its = {"document": conversation, "conversation": conversation, "cuts": cuts}
    seen_rev = person.rows("conversations")[0]["summary_rev"]
    revisions = {"seen_rev": seen_rev, "new_rev": seen_rev + 1}
    return person.call("put_document", **a_document("summary", **its, **revisions))


@pytest.mark.parametrize("seen", ["summary", "older"])
def test_only_a_summary_that_was_seen_outlives_deleted_messages(maya, garden, long, seen):
    summarise(maya, garden, cuts=0)

    discard(maya, garden, 4, long[2:], kept_summary=sealed(seen))

    left = maya.rows("conversations")[0]["summary"]
    assert left == (sealed("summary") if seen == "summary" else None)


def test_nothing_made_of_messages_read_before_a_deletion_is_stored(maya, garden, long):
    fact = a_document(source=garden, cuts=0)
    discard(maya, garden, 4, long[2:])

    assert maya.call("put_document", **fact)["reason"] == "not_found"
    assert summarise(maya, garden, cuts=0)["reason"] == "stale"

    assert maya.call("put_document", **fact | {"cuts": 1})["ok"]
    assert summarise(maya, garden, cuts=1)["ok"]


def test_fact_waits_for_a_deletion_that_is_on_the_way(world, maya, garden, long, migrated):
    with psycopg.connect(migrated) as deleting:
        deleting.execute("update public.conversations set rev = rev + 1 where id = %s", [garden])
        world.admin.execute("set lock_timeout = '100ms'")

        waited = maya.refusal("put_document", **a_document(source=garden, cuts=0))

    assert waited == LOCK_NOT_AVAILABLE


def test_deleting_twice_deletes_once_and_prolongs_nothing(world, maya, garden, long):
    discard(maya, garden, 4, long[2:])
    due = "select undo_until, rev from public.conversations where id = %s"
    before = world.one(due, garden)

    assert discard(maya, garden, 4, long[2:], for_seconds=3600) == {"ok": True}

    assert world.one(due, garden) == before


def test_messages_are_deleted_by_who_has_seen_the_conversation_as_it_is(maya, garden, long):
    assert discard(maya, garden, 3, long[2:])["reason"] == "stale"
    assert restore(maya, garden, 4, [])["reason"] == "not_found"
    discard(maya, garden, 4, long[2:])
    assert restore(maya, garden, 4, long[2:])["reason"] == "stale"
    assert restore(maya, garden, 5, long[2:3])["reason"] == "not_found"  # all, or nothing

    assert alive(maya) == long[:2]


def test_messages_with_a_reply_that_is_coming_are_not_deleted(world, maya, garden, long):
    turn = maya.begin(garden, 4, prompt=long[0], prompt_body=None, new_head=None)["turn"]

    assert discard(maya, garden, 4, long[2:]) == {"ok": True}
    assert discard(maya, garden, 5, long[:2])["reason"] == "busy"

    maya.finish(turn, 5)
    assert discard(maya, garden, 6, [*long[:2], newest(maya)["id"]])["ok"]


def test_reply_that_comes_late_to_a_deleted_prompt_is_charged_and_not_stored(
    world, maya, garden, long
):
    turn = maya.begin(garden, 4, prompt=long[2], prompt_body=None, new_head=None)["turn"]
    maya.checkpoint(turn, sealed("so far"))
    world.admin.execute(
        "update public.turns set lease_until = now() - interval '1s' where id = %s", [turn]
    )
    world.sweep()
    discard(maya, garden, 4, long[2:])
    assert world.one("select partial from public.turns where id = %s", turn) is None

    finished = maya.finish(turn, 5, 400)

    assert (finished["ok"], finished["saved"], finished["charged"]) == (True, False, 400)
    assert alive(maya) == long[:2]


@pytest.mark.parametrize("doomed", [slice(0, 3), slice(1, 2), slice(0, 0)])
def test_no_message_stays_that_follows_a_deleted_one(maya, garden, long, doomed):
    arguments = {
        "conversation": garden,
        "expected_rev": 4,
        "doomed": ",".join(long[doomed]),
        "noted": "",
        "kept_summary": None,
        "new_head": HEAD,
        "for_seconds": 20,
    }

    assert maya.refusal("discard_messages", **arguments) == MISUSE
    assert alive(maya) == long


def test_neither_messages_nor_facts_of_somebody_else_are_deleted(world, maya, garden, long):
    fact, omar = uuid4(), world.person()
    maya.call("put_document", **a_document(document=fact))
    theirs = omar.create_conversation()
    prompt = uuid4()
    omar.finish(omar.begin(theirs, prompt=prompt)["turn"], 1, reply_body=None)

    assert discard(omar, garden, 4, long[2:])["reason"] == "not_found"
    assert discard(omar, theirs, 1, [prompt], noted=str(fact))["ok"]
    discard(maya, garden, 4, long[2:])
    assert restore(omar, garden, 5, long[2:])["reason"] == "not_found"

    assert [row["id"] for row in maya.rows("documents")] == [str(fact)]


def test_deleted_messages_are_destroyed_in_slices(world, maya, garden):
    world.admin.execute(
        """
        insert into public.messages (id, conversation_id, user_id, seq, parent_id, role, body, destroy_at)
        select md5(n::text)::uuid, %(garden)s, %(maya)s, n + 2, case when n > 1 then md5((n - 1)::text)::uuid end, 'user',
          %(body)s, now() - interval '1s'
        from generate_series(1, 201) n
        """,
        {"garden": garden, "maya": maya.id, "body": sealed("message")},
    )

    left = []
    for _ in range(3):
        more = world.anon.call("sweep_turns", at_most=10)["more"]
        left.append((more, len(maya.rows("messages"))))

    assert left == [(True, 3), (True, 2), (False, 2)]
