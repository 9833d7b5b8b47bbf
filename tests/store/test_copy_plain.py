"""Copies from a sealed store into a folder whose texts are not sealed, and back."""

import json
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from shutil import copyfile, copytree
from uuid import uuid4
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from services.crypto import PlainKeys, UserKeys
from services.domain import TurnId
from services.domain.mails import NoticeKind
from services.domain.turns import ClientTurnId
from services.operate.__main__ import operate
from services.store.files import FilesPlace
from services.store.sqlite import SqlitePlace
from services.store.tables import schema
from services.store.tables.backend import TablesBackend
from services.store.tables.content import text_bytes
from services.store.tables.copying import TablesCopy
from services.store.tables.opening import check_root_key, only_account
from services.users import full_export
from services.users.full_export import FullExport
from tests.store.conformance import talk
from tests.store.conftest import PASSWORD, new_email
from tests.store.test_copy import OTHER_DATA, RING, ROOT_KEY
from tests.store.test_copy import run as run  # a fixture
from tests.stores import WholeAccounts, store_of, sweep

CANARY = "parsnip"
CONTENT = (
    *(schema.MESSAGES, schema.PIECES, schema.SEARCH_TEXTS, schema.THOUGHTS, schema.RECEIPTS),
)


class Noon(datetime):
    @classmethod
    def now(cls, tz=None):
        return talk.NOON


def place(path):
    return SqlitePlace(path) if path.suffix else FilesPlace(path, is_plain="plain" in path.name)


def named(path):
    """Return *path* as DAYBOOK_STORE has it."""
    kind = "sqlite" if path.suffix else "json-plain" if "plain" in path.name else "json"
    return f"{kind}:{path}"


@contextmanager
def opened(path):
    """Open the store at *path*; its tables, and the session of its user, who is made if there is none."""
    with closing(place(path).open()) as tables:
        check_root_key(tables, RING)
        keys = PlainKeys if "plain" in path.name else UserKeys
        accounts = WholeAccounts(TablesBackend(tables), RING, 3600, 3600, keys)
        yield tables, accounts.enter(only_account(tables))[1]


def export(path):
    """Return the files in an export of the user of the store at *path*, by name."""
    with pytest.MonkeyPatch.context() as changed, opened(path) as (_, session):
        changed.setattr(full_export, "datetime", Noon)
        file = ZipFile(BytesIO(b"".join(FullExport(store_of(session), UTC).parts())))
        return {name: file.read(name) for name in file.namelist()}


def rows(path, table):
    with opened(path) as (tables, session):
        return tables.of(session.user_id).run(lambda block: block.select(table))


def change(path, table, choose, **fields):
    """Change the first row that *choose* accepts."""
    with opened(path) as (tables, session):

        def write(block):
            row = next(row for row in block.select(table) if choose(row))
            block.put(table, replace(row, **fields))
            return row

        return tables.of(session.user_id).run(write)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of a sealed store with a user who has something of all that there is."""
    path = tmp_path_factory.mktemp("made") / "sealed.db"
    with opened(path) as (tables, session):
        user = store_of(session)

        def lapse():
            def end_leases(block):
                for turn in block.select(schema.TURNS, {"finished_at": None}):
                    begun_at = datetime.now(UTC) - timedelta(minutes=9)
                    block.put(schema.TURNS, replace(turn, lease_until=begun_at))

            tables.of(session.user_id).run(end_leases)
            sweep(TablesBackend(tables))

        talk.fill_chats(user, lapse)
        turn, begun = talk.write_everywhere(user, CANARY)
        thoughts = talk.Thoughts(text=f"{CANARY} thoughts")
        user.turns.finish(talk.ending(turn, begun, f"{CANARY} reply", thoughts=thoughts))
    return path


@pytest.fixture(scope="module")
def made_plain(made, tmp_path_factory):
    """The path of a plain store with all that the sealed one has."""
    path = tmp_path_factory.mktemp("made") / "plain"
    keys = {"DAYBOOK_ROOT_KEYS": ROOT_KEY, "DAYBOOK_KEY_DIR": str(path.parent / "keys")}
    result = CliRunner().invoke(operate, ["copy", named(made), named(path)], env=keys)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def sealed(made, tmp_path):
    return Path(copyfile(made, tmp_path / "sealed.db"))


@pytest.fixture
def plain(made_plain, tmp_path):
    return Path(copytree(made_plain, tmp_path / "plain"))


def test_plain_copy_and_back_have_the_same_export(run, sealed, tmp_path):
    plain, back = tmp_path / "plain", tmp_path / "back.db"
    sent = export(sealed)

    code, said = run("copy", named(sealed), named(plain))

    chats = len(rows(sealed, schema.CONVERSATIONS))
    assert code == 0, said
    assert said.endswith(
        f"Lost: the heads of {chats} chats, which show that no message was changed or left out."
    )
    assert export(plain) == sent
    assert run("copy", named(sealed), named(plain))[1].count("nothing, all is there.") == 1
    code, said = run("copy", named(plain), named(back))
    assert code == 0, said
    assert said.endswith(f"New: the heads of {chats} chats, made of the texts as they are now.")
    assert export(back) == sent
    assert run("copy", named(plain), named(back))[1].count("nothing, all is there.") == 1


def test_plain_copy_has_readable_texts_and_sealed_copy_none(run, plain, tmp_path):
    back = tmp_path / "back.db"
    assert run("copy", named(plain), named(back))[0] == 0

    texts = "".join(file.read_text() for file in plain.rglob("*.jsonl"))
    for what in ("title", "instructions", "summary", "fact", "space", "prompt", "reply"):
        assert f"{CANARY} {what}" in texts
    with opened(back):  # as the log is there
        found = b"".join(file.read_bytes() for file in tmp_path.glob("back.db*"))
    assert CANARY.encode() not in found


@pytest.mark.parametrize("name", ["plain", "back.db"])
def test_bytes_are_counted_as_the_store_keeps_texts(run, plain, tmp_path, name):
    assert run("copy", named(plain), named(tmp_path / "back.db"))[0] == 0

    path = tmp_path / name
    content = [row for one in CONTENT for row in rows(path, one)]
    others = rows(path, schema.CONVERSATIONS) + rows(path, schema.DOCUMENTS)
    [counts] = rows(path, schema.COUNTS)
    assert counts.content_bytes == text_bytes(*content)
    assert counts.bytes == text_bytes(*content, *others)
    assert sum(one.bytes for one in rows(path, schema.CONVERSATIONS)) == counts.content_bytes


def test_attachments_and_chats_go_on_in_both_copies(run, plain, tmp_path):
    back = tmp_path / "back.db"
    assert run("copy", named(plain), named(back))[0] == 0

    for path in plain, back:
        with opened(path) as (_, session):
            user = store_of(session)
            threads = [user.conversations.thread(one) for one in user.corpus.conversations()]
            files = [
                b"".join(user.attachments.read(thread.conversation.id, message, file))
                for thread in map(talk.whole, threads)
                for message in thread.messages
                for file in message.attachments
            ]
            assert sorted(files) == sorted([b"leaf" + b"stem" * 99, f"{CANARY} file".encode()])
            assert talk.whole(talk.say(user, threads[0], "More?", "Yes."))


@pytest.mark.parametrize("is_sealed", [True, False])
def test_notice_loses_the_name_of_its_browser(run, sealed, plain, tmp_path, is_sealed):
    source, target = (sealed, tmp_path / "new-plain") if is_sealed else (plain, tmp_path / "new.db")
    notice = schema.StoredNotice(id=uuid4(), kind=NoticeKind.OPERATOR, at=talk.NOON, browser="text")
    with opened(source) as (tables, session):
        tables.of(session.user_id).run(lambda block: block.put(schema.NOTICES, notice))

    code, said = run("copy", named(source), named(target))

    assert (code, rows(target, schema.NOTICES)) == (0, [replace(notice, browser=None)]), said
    assert run("copy", named(source), named(target))[1].count("nothing, all is there.") == 1


@pytest.mark.parametrize("is_sealed", [True, False])
def test_audit_loses_the_names_of_its_browsers(run, sealed, plain, tmp_path, is_sealed):
    source, target = (sealed, tmp_path / "new-plain") if is_sealed else (plain, tmp_path / "new.db")
    entry = schema.AuditRow(
        id="2", at=talk.NOON, action="key.put", actor=None, target=None, detail={}, device="text"
    )
    with opened(source) as (tables, _):
        tables.of(None).run(lambda block: block.put(schema.AUDIT, entry))

    code, said = run("copy", named(source), named(target))

    assert (code, {row.device for row in rows(target, schema.AUDIT)}) == (0, {None}), said


def test_dry_run_of_a_plain_copy_writes_nothing(run, sealed, tmp_path):
    code, said = run("copy", named(sealed), named(tmp_path / "new"), "--dry-run")

    assert (code, "To be copied: " in said, "1 accounts" in said) == (0, True, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("is_source", [True, False])
def test_dry_run_imports_no_chat_of_a_plain_store(run, made, plain, tmp_path, is_source):
    [user] = (file.parent for file in plain.glob("*/user.jsonl"))
    chat = user / "in" / "chat.json"
    chat.parent.mkdir()
    chat.write_text('[{"role": "user", "content": "When do I sow peas?"}]')
    stores = [plain, tmp_path / "new.db"] if is_source else [made, plain]

    code, said = run("copy", *map(named, stores), "--dry-run")

    assert (code, chat.exists()) == (0, True), said


def test_plain_store_of_a_running_app_is_refused(run, plain, tmp_path):
    with opened(plain):
        code, said = run("copy", named(plain), named(tmp_path / "new.db"))

    assert (code, said) == (1, f"Daybook is using {plain}: stop it first.")


@pytest.mark.parametrize("writes", [0, 4, 8, 11, 14])
def test_sealing_copy_that_was_cut_short_goes_on(run, plain, tmp_path, monkeypatch, writes):
    back, put, left = tmp_path / "back", TablesCopy.put, [writes]

    def counted(self, table, user_id, rows):
        if not left[0]:
            raise SystemExit(9)
        left[0] -= 1
        put(self, table, user_id, rows)

    monkeypatch.setattr(TablesCopy, "put", counted)
    assert run("copy", named(plain), named(back))[0] == 9
    monkeypatch.setattr(TablesCopy, "put", put)

    assert run("copy", named(plain), named(back))[0] == 0
    assert export(back) == export(plain)


def test_sealed_target_with_another_text_is_refused(run, plain, tmp_path):
    back = tmp_path / "back.db"
    assert run("copy", named(plain), named(back))[0] == 0
    [chat] = (file for file in plain.rglob("chats/*") if f"{CANARY} reply" in file.read_text())
    chat.write_text(chat.read_text().replace(f"{CANARY} reply", "another reply"))

    assert run("copy", named(plain), named(back)) == (1, OTHER_DATA)


def test_text_that_does_not_open_is_refused_before_writing(run, sealed, tmp_path):
    row = change(sealed, schema.MESSAGES, lambda row: True, body="p1.1.changed")

    code, said = run("copy", named(sealed), named(tmp_path / "plain"))

    assert (code, said) == (
        1,
        f"A text of the chat {row.conversation_id} cannot be opened: "
        "delete that, or copy to a store of the same kind.",
    )
    assert not (tmp_path / "plain").exists()


def test_text_too_long_to_be_sealed_is_refused(run, plain, tmp_path):
    [chat] = (file for file in plain.rglob("chats/*") if f"{CANARY} reply" in file.read_text())
    chat.write_text(chat.read_text().replace(f"{CANARY} reply", "a" * 300_000))

    code, said = run("copy", named(plain), named(tmp_path / "back.db"))

    assert (code, "cannot be sealed" in said) == (1, True)


def test_chat_with_a_changed_head_stays_incomplete(run, sealed, tmp_path):
    chats = rows(sealed, schema.CONVERSATIONS)
    broken = change(sealed, schema.CONVERSATIONS, lambda row: row.last_seq > 1, head="h1.changed")
    plain, back = tmp_path / "plain", tmp_path / "back.db"

    code, said = run("copy", named(sealed), named(plain))

    assert (code, said.endswith(f"Incomplete in both stores: the chat {broken.id}.")) == (0, True)
    assert run("copy", named(plain), named(back))[0] == 0
    for path in plain, back:
        with opened(path) as (_, session):
            user = store_of(session)
            whole = {
                one: user.conversations.thread(one).is_whole for one in user.corpus.conversations()
            }
        assert [one for one, is_whole in whole.items() if not is_whole] == [broken.id]
    assert len(chats) == len(rows(back, schema.CONVERSATIONS))


def test_head_of_other_messages_stays_broken(run, sealed, tmp_path):
    """A message of one chat is put in the place of its other version: each opens, and a plain head would only count them."""
    hidden = {one for row in rows(sealed, schema.DISCARDS) for one in row.message_ids}
    gone = rows(sealed, schema.DISCARDS)[0]
    shown = [
        row.id
        for row in rows(sealed, schema.MESSAGES)
        if row.conversation_id == gone.conversation_id and row.id not in hidden
    ]
    change(
        sealed,
        schema.DISCARDS,
        lambda row: row.id == gone.id,
        message_ids=(*shown[: len(gone.message_ids)],),
    )

    code, said = run("copy", named(sealed), named(tmp_path / "plain"))

    assert code == 0, said
    assert f"the chat {gone.conversation_id}." in said
    with opened(tmp_path / "plain") as (_, session):
        assert not store_of(session).conversations.thread(gone.conversation_id).is_whole


def test_changed_piece_is_refused(run, plain, tmp_path):
    file = next(file for file in plain.rglob("files/*"))
    row = json.loads(file.read_text().splitlines()[0])
    other = "A" * len(row["piece_body"])
    file.write_text(file.read_text().replace(row["piece_body"], other))

    code, said = run("copy", named(plain), named(tmp_path / "back.db"))

    assert (code, f"A text of the chat {row['conversation_id']} cannot be sealed" in said) == (
        1,
        True,
    )


def test_text_that_has_lost_its_chat_is_not_copied_as_it_is(run, plain, tmp_path):
    ids = {"turn_id": TurnId(uuid4()), "client_turn_id": ClientTurnId(uuid4())}
    with opened(plain) as (tables, session):
        receipt = schema.ReceiptRow(**ids, body=f"{CANARY} lost")
        tables.of(session.user_id).run(lambda block: block.put(schema.RECEIPTS, receipt))

    code, said = run("copy", named(plain), named(tmp_path / "back.db"))

    assert (code, "cannot be sealed" in said) == (1, True)


def test_chat_without_its_row_is_named(run, plain, tmp_path):
    chat = rows(plain, schema.CONVERSATIONS)[0]
    [document] = plain.glob("*/user.jsonl")
    lines = document.read_text().splitlines(keepends=True)
    document.write_text("".join(line for line in lines if f'"id":"{chat.id}"' not in line))

    code, said = run("copy", named(plain), named(tmp_path / "back"))

    assert (code, said) == (
        1,
        f"The chat {chat.id} is missing, but not all of its rows: delete them.",
    )


def test_plain_store_is_for_one_person(run, tmp_path):
    path = tmp_path / "two.db"
    with opened(path) as (tables, _):
        accounts = WholeAccounts(TablesBackend(tables), RING, 3600, 3600)
        accounts.sign_up_with(new_email(), PASSWORD)

    code, said = run("copy", named(path), named(tmp_path / "plain"))

    assert (code, said) == (
        1,
        "The source has accounts of several people: json-plain is for one.",
    )
    assert not (tmp_path / "plain").exists()


def test_plain_store_goes_into_supabase_by_a_file_only(run, plain):
    code, said = run("copy", named(plain), "supabase")

    assert (code, "into a file first (sqlite:PATH)" in said) == (1, True)


def test_plain_copy_demands_the_same_root_key(run, plain, tmp_path):
    other = json.dumps({"current": 2, "keys": {"2": "A" * 42 + "8"}})

    code, said = run("copy", named(plain), named(tmp_path / "back.db"), DAYBOOK_ROOT_KEYS=other)

    assert code == 1, said
    assert not (tmp_path / "back.db").exists()
