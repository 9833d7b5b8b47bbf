"""Messages that are not written by turns: replies that their user edits; and deleted messages."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from services.store.supabase.api import PAGE
from tests.database import servers
from tests.database.people import MISUSE, a_document, sealed, sealed_octets

LOCK_NOT_AVAILABLE = "55P03"


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
    place = {"conversation": conversation, "expected_rev": rev}
    return person.call("edit_reply", **place, original=original, reply=uuid4(), **changes)


def test_replies_are_edited_until_a_conversation_has_20000_messages(world, maya, garden, reply):
    world.fill(garden, 3, 19999)
    counting = "update public.conversations set rev = 19999, last_seq = 19999 where id = %s"
    world.admin.execute(counting, [garden])

    assert edit(maya, garden, 19999, reply)["ok"]
    assert edit(maya, garden, 20000, reply)["reason"] == "too_many"

    count = "select count(*) from public.messages where conversation_id = %s"
    assert world.one(count, garden) == 20000


def test_conversation_is_read_with_a_page_of_messages_at_most(world, maya, garden):
    """An answer with fewer messages is therefore known to be complete (`SupabaseRows.read_conversation`)."""
    world.fill(garden, 3, PAGE + 1)

    read = maya.call("read_conversation", conversation=garden, after_seq=0)

    assert [message["seq"] for message in read["messages"]] == list(range(1, PAGE + 1))


@pytest.fixture
def long_minute(world, maya):
    """Return a function that makes the current minute of Maya's budget last for 59 seconds more."""
    lasting = "update private.budgets set minute = now() + interval '59 seconds' where user_id = %s"
    return lambda: world.admin.execute(lasting, [maya.id])


def test_versions_count_beside_messages_of_the_minute(world, maya, garden, reply, long_minute):
    long_minute()
    world.admin.execute("update private.budgets set max_per_minute = minute_turns + 3")
    arguments = {"conversation": garden, "expected_rev": 2, "original": reply, "reply": uuid4()}

    first = maya.call("edit_reply", **arguments)
    again = maya.call("edit_reply", **arguments)
    of_temporary = maya.call("edit_reply")
    third = maya.begin(garden, 3)
    fourth = edit(maya, garden, 4, reply)
    maya.finish(third["turn"], 4, 100)
    fifth = edit(maya, garden, 5, reply)

    assert first == again == of_temporary == {"ok": True}
    assert third["ok"]
    assert fourth["reason"] == "busy"
    assert (fifth["reason"], fifth["per_minute"]) == ("too_fast", world.one(PACE))
    assert fifth["wait_seconds"] > 0
    assert len(maya.rows("messages")) == 5


PACE = "select max_per_minute from private.budgets"


def test_one_minute_may_write_beyond_the_bytes_of_an_account(
    world, maya, garden, reply, long_minute
):
    world.admin.execute("update private.budgets set minute = now() - interval '1 minute'")
    stored = maya.call("my_data")["sealed_bytes"]
    bound = {"most_bytes": stored + 1}
    assert edit(maya, garden, 2, reply, **bound)["ok"]
    long_minute()

    assert edit(maya, garden, 3, reply, **bound)["ok"]
    assert maya.call("put_document", **a_document(**bound))["ok"]
    world.admin.execute("update private.budgets set minute = now() - interval '1 minute'")

    assert edit(maya, garden, 4, reply, **bound)["reason"] == "account_full"
    assert maya.begin(garden, 4, **bound)["reason"] == "account_full"
    assert maya.call("put_document", **a_document(**bound))["reason"] == "account_full"
    assert maya.begin(None, None, **bound)["ok"]  # a temporary chat stores nothing
    assert maya.begin(garden, 4)["ok"]


@pytest.mark.parametrize("function", ["edit_reply", "put_document", "put_piece", "put_search_text"])
def test_writing_waits_for_the_budget_before_the_conversation(
    world, maya, garden, reply, migrated, function
):
    arguments = {
        "edit_reply": {
            "conversation": garden,
            "original": reply,
            "expected_rev": 2,
            "reply": uuid4(),
        },
        "put_document": a_document("instructions", document=garden, conversation=garden),
        "put_piece": {"conversation": garden, "message": uuid4(), "attachment": uuid4()},
        "put_search_text": {"conversation": garden, "cuts": 0},
    }[function]

    with psycopg.connect(migrated, autocommit=True) as connection, ThreadPoolExecutor(1) as one:
        with psycopg.connect(migrated) as gate:
            gate.execute("select from private.budgets where user_id = %s for update", [maya.id])
            written = one.submit(maya.by(connection).call, function, most_bytes=10**9, **arguments)
            servers.wait_for_blocked(world.admin, 1)
            gate.execute("select from public.conversations for update nowait")

        assert written.result()["ok"]


# --- deleting ----------------------------------------------------------------------------------------


@pytest.fixture
def long(world, maya, garden, reply):
    """Return the ids of four messages in the garden: two prompts and their replies, each reply with a receipt."""
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
    given = {"expected_rev": rev, "message_ids": ",".join(map(str, doomed))} | changes
    return person.call("discard_messages", conversation=conversation, **given)


def restore(person, conversation, rev, restored):
    ids = ",".join(map(str, restored))
    return person.call(
        "restore_messages", conversation=conversation, expected_rev=rev, message_ids=ids
    )


def test_deletion_of_no_message_is_misuse(maya, garden, long):
    arguments = {"conversation": garden, "expected_rev": 4, "message_ids": ""}

    assert maya.refusal("discard_messages", **arguments) == MISUSE


def test_fact_waits_for_a_deletion_that_is_on_the_way(world, maya, garden, long, migrated):
    with psycopg.connect(migrated) as deleting:
        deleting.execute("update public.conversations set rev = rev + 1 where id = %s", [garden])
        world.admin.execute("set lock_timeout = '100ms'")

        waited = maya.refusal("put_document", **a_document(source=garden, cuts=0))

    assert waited == LOCK_NOT_AVAILABLE


def test_deletion_of_a_space_locks_chats_first(world, maya, garden, migrated):
    space = a_document("space")
    maya.call("put_document", **space)
    maya.change(garden, space_id=str(space["document"]))

    def delete_space():
        with psycopg.connect(migrated, autocommit=True) as connection:
            return maya.by(connection).call("delete_document", document=space["document"])

    with ThreadPoolExecutor(1) as other:
        with psycopg.connect(migrated) as storing:  # as another fact of the chat would
            storing.execute("select from public.conversations where id = %s for share", [garden])
            deletion = other.submit(delete_space)
            servers.wait_for_blocked(world.admin, 1)
            world.admin.execute("set lock_timeout = '100ms'")
            fact = a_document(space=space["document"], source=garden, cuts=0)

            assert maya.call("put_document", **fact)["ok"]

        assert deletion.result()["ok"]
    assert maya.rows("documents") == []


def test_deleting_twice_deletes_once_and_prolongs_nothing(world, maya, garden, long):
    discard(maya, garden, 4, long[2:])
    due = "select undo_until, rev from public.conversations where id = %s"
    before = world.one(due, garden)

    assert discard(maya, garden, 4, long[2:], for_seconds=3600) == {"ok": True}

    assert world.one(due, garden) == before


def summarise(person, conversation, cuts):
    its = {"document": conversation, "conversation": conversation, "cuts": cuts}
    seen_rev = person.rows("conversations")[0]["summary_rev"]
    revisions = {"seen_rev": seen_rev, "new_rev": seen_rev + 1}
    return person.call("put_document", **a_document("summary", **its, **revisions))


@pytest.mark.parametrize("seen", ["summary", "older"])
def test_only_a_summary_that_was_seen_outlives_deletion(maya, garden, long, seen):
    summarise(maya, garden, cuts=0)

    discard(maya, garden, 4, long[2:], kept_summary=sealed(seen))

    left = maya.rows("conversations")[0]["summary"]
    assert left == (sealed("summary") if seen == "summary" else None)


def test_time_for_undo_ends_before_the_sweep(world, maya, garden, long):
    discard(maya, garden, 4, long[2:])
    world.admin.execute(
        "update public.messages set destroy_at = now() - interval '1s' where destroy_at is not null"
    )

    assert restore(maya, garden, 5, long[2:])["reason"] == "not_found"

    assert alive(maya) == long[:2]


def test_messages_are_restored_all_or_none(maya, garden, long):
    discard(maya, garden, 4, long[2:])

    assert restore(maya, garden, 5, long[2:3])["reason"] == "not_found"

    assert alive(maya) == long[:2]


def test_messages_and_facts_of_another_user_are_not_deleted(world, maya, garden, long):
    fact, omar = uuid4(), world.person()
    maya.call("put_document", **a_document(document=fact))
    theirs = omar.create_conversation()
    prompt = uuid4()
    omar.finish(omar.begin(theirs, prompt=prompt)["turn"], 1, reply_body=None)

    assert discard(omar, garden, 4, long[2:])["reason"] == "not_found"
    assert discard(omar, theirs, 1, [prompt], fact_ids=str(fact))["ok"]
    discard(maya, garden, 4, long[2:])
    assert restore(omar, garden, 5, long[2:])["reason"] == "not_found"

    assert [row["id"] for row in maya.rows("documents")] == [str(fact)]


def test_deleted_messages_are_destroyed_in_slices(world, maya, garden):
    world.fill(garden, 3, 203, is_due=True)

    left = []
    for _ in range(3):
        more = world.anon.call("sweep_turns", at_most=10)["more"]
        left.append((more, len(maya.rows("messages"))))

    assert left == [(True, 3), (True, 2), (False, 2)]


# --- attachments ---------------------------------------------------------------------------------------


def put_piece(person, conversation, **changes):
    ids = {"message": uuid4(), "attachment": uuid4()}
    return person.call("put_piece", conversation=conversation, **(ids | changes))


def test_pieces_are_destroyed_in_slices_before_their_message(world, maya, garden):
    world.fill(garden, 3, 3, is_due=True)
    before = maya.call("my_data")["sealed_bytes"]
    world.admin.execute(
        """
        insert into public.pieces (conversation_id, user_id, message_id, attachment_id, number, body)
        select id, user_id, md5('3')::uuid, md5('a')::uuid, n, %s
        from public.conversations, generate_series(1, 250) n where id = %s
        """,
        [sealed_octets("piece"), garden],
    )
    counted = "update public.conversations set bytes = bytes + 250 * %s where id = %s"
    world.admin.execute(counted, [len(sealed_octets("piece")) + 1, garden])
    assert put_piece(maya, garden)["ok"]  # a piece of a message that is not stored yet

    left = []
    for _ in range(3):
        more = world.anon.call("sweep_turns", at_most=10)["more"]
        left.append((more, len(maya.rows("pieces")), len(maya.rows("messages"))))

    assert left == [(True, 51, 3), (True, 1, 2), (False, 1, 2)]
    # each piece was counted with one octet too many, so the result cannot be right by chance
    freed = len(sealed("message")) - 250
    assert maya.call("my_data")["sealed_bytes"] == before + len(sealed_octets("piece")) - freed


def test_piece_is_stored_once(world, maya, garden):
    first = {"message": uuid4(), "attachment": uuid4(), "number": 2}
    before = maya.call("my_data")["sealed_bytes"]

    answers = [put_piece(maya, garden, **first) for _ in range(2)]
    other = put_piece(maya, garden, **first, piece_body=sealed_octets("other"))

    assert answers == [{"ok": True}] * 2
    assert other == {"ok": False, "reason": "stale"}
    [row] = maya.rows("pieces")
    assert row["body"] == sealed_octets("piece")
    assert maya.call("my_data")["sealed_bytes"] == before + len(row["body"])


def test_no_piece_is_stored_in_a_discarded_conversation(maya, garden):
    maya.call("discard_conversation", conversation=garden, for_seconds=60)

    assert put_piece(maya, garden) == {"ok": False, "reason": "not_found"}


def test_full_account_stores_no_piece(world, maya, garden):
    world.admin.execute("update private.budgets set minute = now() - interval '1 minute'")

    assert put_piece(maya, garden, most_bytes=1)["reason"] == "account_full"

    assert maya.rows("pieces") == []


# --- search texts --------------------------------------------------------------------------------------


def put_text(person, conversation, first, last, replaced=(), **changes):
    numbers = {"number": first, "last_seq": last, "replaced": ",".join(map(str, replaced))}
    given = {"conversation": conversation, "cuts": 0, **numbers} | changes
    return person.call("put_search_text", **given)


def ranges(person):
    return sorted((row["number"], row["last_seq"]) for row in person.rows("search_texts"))


def test_search_text_is_stored_once(maya, garden):
    before = maya.call("my_data")["sealed_bytes"]

    answers = [put_text(maya, garden, 3, 5) for _ in range(2)]
    other = put_text(maya, garden, 3, 5, body=sealed("another"))
    stale = [put_text(maya, garden, *seqs) for seqs in ((1, 3), (5, 9), (4, 4), (1, 9), (3, 4))]

    assert [*answers, other] == [{"ok": True}] * 3
    assert stale == [{"ok": False, "reason": "stale"}] * 5
    [row] = maya.rows("search_texts")
    assert row["body"] == sealed("words")
    assert maya.call("my_data")["sealed_bytes"] == before + len(row["body"])


def test_search_text_replaces_others(maya, garden):
    before = maya.call("my_data")["sealed_bytes"]
    for seqs in ((1, 2), (3, 4), (5, 6)):
        put_text(maya, garden, *seqs)

    for _ in range(2):
        assert put_text(maya, garden, 1, 4, [1, 3, 99], body=sealed("merged"))["ok"]

    assert ranges(maya) == [(1, 4), (5, 6)]
    size = len(sealed("merged")) + len(sealed("words"))
    assert maya.call("my_data")["sealed_bytes"] == before + size


@pytest.mark.parametrize("change", [{"kind": "vector"}, {"number": 0}, {"last_seq": 2}])
def test_search_text_has_a_kind_and_a_range(maya, garden, change):
    text = {"conversation": garden, "cuts": 0, "number": 3, "last_seq": 5}

    assert maya.refusal("put_search_text", **text | change) == "23514"


def test_search_text_of_other_messages_is_not_stored(world, maya, garden):
    assert put_text(maya, garden, 1, 2, cuts=1) == {"ok": False, "reason": "stale"}
    world.admin.execute("update private.budgets set minute = now() - interval '1 minute'")
    assert put_text(maya, garden, 1, 2, most_bytes=1)["reason"] == "account_full"
    maya.call("discard_conversation", conversation=garden, for_seconds=60)
    assert put_text(maya, garden, 1, 2) == {"ok": False, "reason": "not_found"}

    assert maya.rows("search_texts") == []


def test_only_the_search_texts_of_changed_messages_are_dropped(maya, garden, long):
    before = maya.call("my_data")["sealed_bytes"]
    for seqs in ((1, 2), (3, 4), (5, 6)):
        put_text(maya, garden, *seqs)

    discard(maya, garden, 4, long[2:])

    assert ranges(maya) == [(1, 2), (5, 6)]
    put_text(maya, garden, 3, 3, cuts=1)
    assert restore(maya, garden, 5, long[2:])["ok"]
    assert ranges(maya) == [(1, 2), (5, 6)]
    assert maya.call("my_data")["sealed_bytes"] == before + 2 * len(sealed("words"))


def test_all_search_texts_of_a_user_alone_are_deleted(world, maya, garden):
    omar = world.person()
    before, theirs = maya.call("my_data")["sealed_bytes"], omar.create_conversation()
    for seqs in ((1, 2), (3, 4)):
        put_text(maya, garden, *seqs)
        put_text(omar, theirs, *seqs)

    assert maya.call("delete_search_texts") == {"ok": True}

    assert (maya.rows("search_texts"), ranges(omar)) == ([], [(1, 2), (3, 4)])
    assert maya.call("my_data")["sealed_bytes"] == before


def test_other_list_of_attachments_is_another_request(maya):
    garden = maya.create_conversation()
    turn = {"client_turn": uuid4(), "prompt": uuid4()}
    begun = maya.begin(garden, **turn, prompt_attachments=sealed("list"))

    again = maya.begin(garden, **turn, prompt_attachments=sealed("list"))
    other = maya.begin(garden, **turn)

    assert (begun["ok"], again["replay"]) == (True, True)
    assert other["reason"] == "different_request"
    [row] = maya.rows("messages")
    assert row["attachments"] == sealed("list")
