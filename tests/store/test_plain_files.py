"""A store of JSON files without sealing: files that other tools can read, and chats that users put into a folder."""

import json
import os
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from threading import Timer
from uuid import uuid4

import pytest

from services.crypto import PlainKeys, RootKeys, UserKey, new_key
from services.crypto.vault import encode_base64url
from services.domain import Role, UserId
from services.domain.policies import Summary, Window
from services.errors import Misconfigured, StoreBlocked, Tampered
from services.store.credentials import open_stored
from services.store.files import FilesPlace
from services.store.files import place as places
from services.store.files.documents import Damaged, Document
from services.store.files.incoming import take_up, unread_files
from services.store.operator import Mark
from services.store.tables.backend import TablesBackend
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import CREDENTIALS, MESSAGES
from services.stores import open_tables
from tests.store.conformance.talk import SUMMARY, a_fact
from tests.stores import InMemoryDatabase, OpenTables, WholeAccounts

SAID = [
    {"role": "user", "content": "When do I sow peas?\nAnd beans?", "name": "kept out"},
    {"role": "assistant", "content": "In March."},
]
MAYA = UserId(uuid4())


@pytest.fixture
def place(tmp_path):
    return FilesPlace(tmp_path / "daybook", is_plain=True)


@pytest.fixture
def incoming(place):
    """The folder for chats of Maya, in an existing store."""
    place.open().close()
    folder = place.path / str(MAYA) / "in"
    folder.mkdir(parents=True)
    return folder


def chats(place):
    """Return the chats that Maya sees after one more start."""
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    with closing(database.deployment):
        return database.threads()


def keys(user_id):
    return PlainKeys([UserKey(new_key(), user_id)])


def test_messages_are_lines_with_role_and_content(place):
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    database.hold("Garden", 'When do I "sow" peas?', "In March.")
    database.deployment.close()

    (chat,) = (place.path / str(MAYA) / "chats").iterdir()
    rows = [json.loads(line) for line in chat.read_text().splitlines()]
    said = [(row["role"], row["content"]) for row in rows if row["table"] == "messages"]
    assert said == [("user", 'When do I "sow" peas?'), ("assistant", "In March.")]


def test_another_root_key_imports_no_chat(place, incoming):
    ring, file = RootKeys({1: new_key()}, 1), incoming / "chat.json"
    open_tables(place, ring).close()
    file.write_text(json.dumps(SAID))

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(place, RootKeys({1: new_key()}, 1))
    assert file.exists()

    open_tables(place, ring).close()
    assert not file.exists()


def test_lost_tag_of_the_root_key_imports_no_chat(place, incoming):
    ring, file = RootKeys({1: new_key()}, 1), incoming / "chat.json"
    with closing(open_tables(place, ring)) as tables:
        WholeAccounts(TablesBackend(tables), ring, 3600, 3600, PlainKeys).enter(None)
    (place.path / "shared" / "root_key.jsonl").unlink()
    file.write_text(json.dumps(SAID))

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(place, ring)

    assert file.exists()


def test_credentials_are_sealed_in_plain_files_too(place):
    ring = RootKeys({1: new_key()}, 1)
    with closing(place.open()) as tables:
        WholeAccounts(TablesBackend(tables), ring, 3600, 3600, PlainKeys).enter(None)
        (stored,) = tables.of(None).run(lambda block: block.select(CREDENTIALS))

    with pytest.raises(Tampered):
        open_stored(RootKeys({1: new_key()}, 1), stored)
    opened = open_stored(ring, stored)
    secrets = [encode_base64url(opened.account_secret), opened.managed_password]
    assert all(secrets)
    for file in place.path.rglob("*.jsonl"):
        assert not [one for one in secrets if one in file.read_text()], file


def test_text_changed_by_hand_is_read(place):
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    database.hold("Garden", "When do I sow peas?", "In March.")
    database.deployment.close()
    (chat,) = (place.path / str(MAYA) / "chats").iterdir()
    chat.write_text(chat.read_text().replace("In March.", "In April."))

    (thread,) = chats(place)

    assert thread.is_whole
    assert [one.body for one in thread.messages] == ["When do I sow peas?", "In April."]


def rewritten(data, **form):
    """Return *data*, JSON lines, as a script would write them with the given options of `json.dumps`."""
    return "".join(json.dumps(json.loads(line), **form) + "\n" for line in data.splitlines())


@pytest.mark.parametrize(
    "edit",
    [
        rewritten,
        lambda data: rewritten(data, sort_keys=True, separators=(",", ":")),
        lambda data: data.replace(',"content":', ', "content": '),
        lambda data: "\ufeff" + data,
        lambda data: data.replace("\n", "\n\n"),
        lambda data: data.replace("\n", "\r\n \r\n"),
        lambda data: data.removesuffix("\n"),
    ],
    ids=["spaces", "sorted", "space", "mark", "blank", "crlf", "end"],
)
def test_files_written_by_other_tools_are_read_and_go_on(place, edit):
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    chat = database.hold("Garden", "When do I sow peas?", "In März.")
    database.deployment.close()
    files = sorted(place.path.rglob("*.jsonl"))
    usual = {one: one.read_bytes() for one in files}
    for one, data in usual.items():
        one.write_bytes(edit(data.decode()).encode())

    assert place.check()["files"][0] is Mark.OK
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    assert [one.body for one in database.thread(chat).messages] == [
        "When do I sow peas?",
        "In März.",
    ]
    database.go_on(chat, "And beans?", "In May.")
    database.deployment.close()

    (thread,) = chats(place)
    assert thread.is_whole
    assert [one.body for one in thread.messages[-2:]] == ["And beans?", "In May."]
    file = place.path / str(MAYA) / "chats" / f"{chat}.jsonl"
    assert file.read_bytes().startswith(b'{"table":"')
    assert b"\n\n" not in file.read_bytes()


@pytest.mark.parametrize("name", ["chat.jsonl", "done/chat.jsonl"])
def test_check_reads_no_files_for_import(place, incoming, name):
    (incoming / "done").mkdir()
    (incoming / name).write_text('{"role": "user", "content": "Hi"}\n')

    assert place.check()["files"][0] is Mark.OK


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '{"role": "user", "content": "a"}',
        '{"table": "messages", "content": "a"}',
        '{"table": ["messages"]}',
        '{"table": "others"}',
        "[1]",
        "[" * 100_000,
        '{"table": "messages", "content": "\\ud800"}',
    ],
)
def test_line_that_is_no_row_stays_damaged(line):
    with pytest.raises(Damaged):
        Document(line.encode() + b"\n", is_plain=True)


@pytest.mark.parametrize("edit", [rewritten, str.rstrip, "{}\n".format])
def test_sealed_file_written_by_another_tool_is_damaged(tmp_path, edit):
    place = FilesPlace(tmp_path / "daybook")
    database = InMemoryDatabase(MAYA, make_store=place.open)
    chat = database.hold("Garden", "When do I sow peas?", "In March.")
    database.deployment.close()
    file = place.path / str(MAYA) / "chats" / f"{chat}.jsonl"
    file.write_text(edit(file.read_text()))

    assert place.check()["files"][0] is Mark.FAIL


@pytest.mark.parametrize("text", ['{"text": "They sow "peas"."}', '["peas"]', "1", "null"])
def test_text_broken_by_hand_is_marked_and_replaced(place, text):
    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    with closing(database.deployment):
        chat, fact = database.hold("Garden", "When do I sow peas?", "In March."), a_fact()
        stored = database.store()
        stored.conversations.set_summary(stored.conversations.thread(chat), SUMMARY)
        stored.profile.change(lambda now: replace(now, instructions="In short."))
        stored.facts.keep(fact)
        database.put("conversation", chat, "summary", text)
        database.put("preferences", MAYA, "body", text)
        database.put("fact", fact.id, "body", text)

        stored = database.store()

        thread = stored.conversations.thread(chat)
        assert (thread.summary, thread.is_summary_verified) == (None, False)
        assert not stored.profile.preferences().is_verified
        assert stored.facts.facts() == ()
        stored.conversations.set_summary(thread, SUMMARY)
        stored.profile.change(lambda now: replace(now, instructions="At length."))
        stored = database.store()
        assert stored.conversations.thread(chat).summary == SUMMARY
        assert stored.profile.preferences().instructions == "At length."


def test_short_texts_of_files_are_in_no_cache_of_the_process(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID))
    stores = InMemoryStore(), InMemoryStore()
    for store in stores:
        take_up(store, place.path, place.policy)
        (incoming / "done" / "garden.json").rename(incoming / "garden.json")
    both = [OpenTables(store.of(MAYA)).all(MESSAGES).values() for store in stores]
    both += [thread.messages for _ in range(2) for thread in chats(place)]

    for number, one in enumerate(SAID):
        found = [[*messages][number].body for messages in both]
        assert found == [one["content"]] * 4
        assert len({*map(id, found)}) == 4


def test_list_put_in_by_hand_becomes_a_chat_once(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID))

    (thread,) = chats(place)

    assert thread.is_whole
    assert thread.conversation.title == "When do I sow peas? And beans?"
    assert [(one.role, one.body, one.turn_id) for one in thread.messages] == [
        (Role.USER, SAID[0]["content"], None),
        (Role.ASSISTANT, "In March.", None),
    ]
    assert [one.name for one in (incoming / "done").iterdir()] == ["garden.json"]
    assert not (incoming.parent / "ledger").exists()  # it cost nothing
    (incoming / "again.json").write_text(json.dumps(SAID))
    assert [one.conversation.id for one in chats(place)] == [thread.conversation.id]


def test_second_file_of_a_name_replaces_no_other_file(place, incoming):
    texts = [json.dumps([{"role": "user", "content": text}]) for text in ("A", "B", "A", "B")]
    for number, text in enumerate(texts, 1):
        (incoming / "chat.json").write_text(text)
        assert len(chats(place)) == min(number, 2)

    done = sorted(path.read_text() for path in (incoming / "done").iterdir())
    assert done == texts[:2]
    assert (incoming / "done" / "chat.json").read_text() == texts[0]
    assert unread_files(place.path, MAYA) == []


def test_file_that_begins_with_a_byte_order_mark_is_read(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID), "utf-8-sig")

    [thread] = chats(place)

    assert thread.messages[0].body == SAID[0]["content"]


@pytest.mark.parametrize("policy", [None, Window(40)])
def test_imported_chat_has_the_policy_of_the_deployment(place, incoming, policy):
    (incoming / "garden.json").write_text(json.dumps(SAID))

    [thread] = chats(replace(place, policy=policy) if policy else place)

    assert thread.conversation.policy == (policy or Summary())


def test_import_of_an_old_file_is_a_use_of_the_chat(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID))
    os.utime(incoming / "garden.json", (0, 0))
    before = datetime.now(UTC)

    (thread,) = chats(place)

    assert {one.created_at.year for one in thread.messages} == {1970}
    assert thread.conversation.updated_at >= before


def test_file_of_a_later_year_is_taken_up_and_a_folder_of_no_user_is_not(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID))
    os.utime(incoming / "garden.json", (10**12, 10**12))
    placeholder = incoming.parents[1] / "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" / "in"
    placeholder.mkdir(parents=True)
    (placeholder / "garden.json").write_text(json.dumps(SAID))

    [thread] = chats(place)

    assert all(one.created_at <= datetime.now(UTC) for one in thread.messages)
    assert [one.name for one in placeholder.iterdir()] == ["garden.json"]


def test_long_list_becomes_one_chat_that_goes_on(place, incoming):
    said = [{"role": ("user", "assistant")[n % 2], "content": f"line {n}"} for n in range(1000)]
    (incoming / "long.json").write_text(json.dumps(said))

    database = InMemoryDatabase(MAYA, make_store=place.open, keys=keys)
    with closing(database.deployment):
        (thread,) = database.threads()
        assert [one.body for one in thread.messages] == [one["content"] for one in said]
        database.go_on(thread.conversation.id, "More", "All.")
        assert database.thread(thread.conversation.id).is_whole


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '[{"role": "system", "content": "a"}]', '[{"role": "user"}]', "[1]", '"a"', "\xff"],
)
def test_file_that_is_no_list_of_messages_stays(place, incoming, text):
    (incoming / "other.json").write_text(text, "latin-1")

    assert chats(place) == []
    assert unread_files(place.path, MAYA) == ["other.json"]


def test_file_that_is_too_large_stays(place, incoming):
    body = "a" * 250_000
    (incoming / "large.json").write_text(json.dumps([{"role": "user", "content": body}] * 41))
    (incoming / "long.json").write_text(json.dumps([{"role": "user", "content": body * 2}]))

    assert chats(place) == []
    assert unread_files(place.path, MAYA) == ["large.json", "long.json"]


def test_start_does_not_wait_for_a_pipe(place, incoming):
    os.mkfifo(incoming / "other.json")
    ends = list[int]()

    def end_wait():
        ends.append(os.open(incoming / "other.json", os.O_RDWR))

    deadline = Timer(20, end_wait)
    deadline.start()
    try:
        assert chats(place) == []
    finally:
        deadline.cancel()
        deadline.join()

    assert (ends, unread_files(place.path, MAYA)) == ([], ["other.json"])


def test_pipe_with_a_list_in_it_is_not_read(place, incoming):
    os.mkfifo(incoming / "other.json")
    end = os.open(incoming / "other.json", os.O_RDWR)
    os.write(end, json.dumps(SAID).encode())

    assert chats(place) == []
    os.close(end)
    assert unread_files(place.path, MAYA) == ["other.json"]


@pytest.mark.parametrize("is_device", [False, True])
def test_link_is_not_followed(place, incoming, tmp_path, is_device):
    (tmp_path / "list").write_text(json.dumps(SAID))
    (incoming / "other.json").symlink_to("/dev/zero" if is_device else tmp_path / "list")

    assert chats(place) == []
    assert unread_files(place.path, MAYA) == ["other.json"]


@pytest.mark.parametrize("name", ["UP.JSON", "Up.Json"])
def test_suffix_counts_in_any_case(place, incoming, name):
    (incoming / name).write_text(json.dumps(SAID))
    (incoming / f"not {name}").write_text("{")

    assert len(chats(place)) == 1
    assert unread_files(place.path, MAYA) == [f"not {name}"]


def test_start_that_cannot_store_a_list_is_refused_and_leaves_it(place, incoming, monkeypatch):
    (incoming / "garden.json").write_text(json.dumps(SAID))

    def refuse(tables, folder, policy):
        raise StoreBlocked("The disk takes no more data.")

    with monkeypatch.context() as changed:
        changed.setattr(places, "take_up", refuse)
        with pytest.raises(Misconfigured, match="takes no more data"):
            place.open()

    assert len(chats(place)) == 1  # the lock is free again


def test_file_that_cannot_be_moved_stays_and_stops_no_start(place, incoming):
    (incoming / "garden.json").write_text(json.dumps(SAID))
    (incoming / "done").write_text("no folder")

    for _ in range(2):
        assert len(chats(place)) == 1

    assert unread_files(place.path, MAYA) == ["garden.json"]
