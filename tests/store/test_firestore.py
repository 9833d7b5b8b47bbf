"""The store in Firestore: its start, its lease, faults at run time, rules, indexes, and the bill for a turn."""

import inspect
import json
import re
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from types import SimpleNamespace
from uuid import UUID

import grpc
import httpx
import pytest
from google.api_core.exceptions import Aborted, Forbidden
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.firestore_admin_v1.types import Database as Description
from google.cloud.firestore_v1.types import Document, Value, Write

from services.crypto import RootKeys, new_key
from services.domain import AccountRole, UserId
from services.domain.accounts import UserOrder
from services.domain.revisions import OpenPlace
from services.domain.turns import Pace
from services.errors import BadInput, Misconfigured, StoreBlocked, StoreUnavailable
from services.store.firestore import FirestorePlace
from services.store.firestore import store as stores
from services.store.firestore.lease import Lease
from services.store.firestore.place import INDEXES
from services.store.firestore.queries import ROW
from services.store.operator import Mark
from services.store.tables import schema
from services.store.tables.backend import TablesBackend
from services.store.tables.content import text_bytes
from services.store.tables.copying import TablesCopy
from services.store.tables.operator import TablesOperator
from services.store.tables.protocol import Range, Table
from services.store.tables.temporary import TemporaryRows
from services.stores import open_tables
from tests import firestore as emulators
from tests.firestore import Refusal, Wire, connect_to, new_place
from tests.store.conformance.talk import answer, begun_with, ending, new_turn, say, unsaid
from tests.store.storm import run_storm
from tests.stores import WholeAccounts, cheap_hashes, store_of

LEASE = {"seconds": 1.0, "pause": 0.1, "call_seconds": 0.3}  # short times for tests
MAYA, OMAR = UserId(UUID(int=1)), UserId(UUID(int=2))


@dataclass(frozen=True)
class Bed:
    """A row of a test table."""

    id: str
    place: str = "north"
    size: int | None = None


BEDS = Table("beds", Bed, lambda row: row.id, frozenset({"place", "size"}))


@pytest.fixture
def wire():
    return Wire(aborted=0)


@pytest.fixture
def place(firestore, wire):
    return new_place(firestore, wire)


@pytest.fixture
def store(place):
    with closing(place.open(is_app=False)) as opened:
        yield opened


def put(tables, *rows):
    tables.run(lambda block: [block.put(BEDS, row) for row in rows])


def found(tables, *arguments, **options):
    """Return the ids that a selection finds."""
    return [row.id for row in tables.run(lambda block: block.select(BEDS, *arguments, **options))]


def document(database, path, **fields):
    """Store a document without the app."""
    values = {name: Value(integer_value=value) for name, value in fields.items()}
    made = Document(name=f"{database.documents}/{path}", fields=values)
    database.commit([Write(update=made)])


def test_npms_emulator_takes_the_place_of_googles(tmp_path, monkeypatch):
    monkeypatch.delenv(emulators.EMULATOR, raising=False)
    monkeypatch.setattr(emulators, "emulator_jar", lambda: None)

    assert "npm's emulator" in emulators.described([])  # of the last lines of a run
    with emulators.emulator(tmp_path) as host, closing(new_place(host).open()) as store:
        put(store.of(MAYA), Bed("a", size=2), Bed("b"))
        assert found(store.of(MAYA), {"size": None}) == ["b"]
        assert found(store.of(MAYA), within=Range("size")) == ["a"]


# --- reads in pages, and rows that a block reads again


def test_owners_are_found_on_several_pages(firestore, monkeypatch):
    monkeypatch.setattr(stores, "_PAGE", 2)
    with closing(new_place(firestore).open(is_app=False)) as store:
        put(store.of(MAYA), *(Bed(str(size), size=size) for size in range(3)))
        put(store.of(OMAR), Bed("a", "south", 3), Bed("b"))

        assert sorted(store.owners(BEDS)) == [MAYA, OMAR]
        assert store.owners(BEDS, {"place": "south"}) == [OMAR]
        assert sorted(store.owners(BEDS, within=Range("size", up_to=3))) == [MAYA, OMAR]
        assert store.owners(BEDS, within=Range("size", above=2)) == [OMAR]


@pytest.mark.parametrize("where", [{}, {"place": "north"}])
def test_long_result_is_read_in_pages(store, wire, monkeypatch, where):
    monkeypatch.setattr(stores, "_PAGE", 2)
    put(store.of(MAYA), *map(Bed, "abcde"))
    wire.counts.clear()

    assert found(store.of(MAYA), where) == [*"abcde"]
    assert wire.counts["reads"] == 5
    assert wire.counts["calls"] >= 3


def test_rows_of_all_users_are_found_on_several_pages(firestore, monkeypatch):
    monkeypatch.setattr(stores, "_PAGE", 2)
    small, beds = Range("size", up_to=2), [Bed(str(size), size=size) for size in range(3)]
    with closing(new_place(firestore).open(is_app=False)) as store:
        put(store.of(MAYA), *beds)
        put(store.of(OMAR), Bed("a", "south", 3), Bed("b", size=1))

        assert store.rows_of_all(BEDS, small) == {MAYA: beds, OMAR: [Bed("b", size=1)]}
        assert store.rows_of_all(BEDS, None) == {
            MAYA: beds,
            OMAR: [Bed("a", "south", 3), Bed("b", size=1)],
        }


def test_block_reads_each_row_once(store, wire):
    put(store.of(MAYA), Bed("a"))
    wire.counts.clear()

    store.of(MAYA).run(lambda block: [block.get(BEDS, "a"), *block.get_all(BEDS, "ab")])
    assert wire.counts["reads"] == 2

    [selected], got = store.of(MAYA).run(lambda block: (block.select(BEDS), block.get(BEDS, "a")))
    assert selected == got
    assert wire.counts["reads"] == 3


# --- the start


def test_store_is_made_once_and_found_again(place):
    assert not place.exists()
    assert not place.exists()

    place.open(is_app=False).close()

    assert place.exists()


def test_printed_backup_is_of_one_state(place):
    with pytest.raises(BadInput, match="gcloud firestore export gs://BUCKET") as told:
        place.backup(None)

    [minute] = re.findall(r" --snapshot-time=(\S+:00Z)$", told.value.public)
    assert timedelta() <= datetime.now(UTC) - datetime.fromisoformat(minute) < timedelta(minutes=2)


def test_first_start_that_was_killed_after_its_lease_is_repeated(place):
    with closing(place.connect(place.project, place.database)) as database:
        assert Lease(database)._take()

    assert not place.exists()
    place.open(is_app=False).close()
    assert place.exists()


def test_database_of_another_program_is_refused(place):
    database = place.connect(place.project, place.database)
    document(database, "users/omar", age=3)

    for start in (place.exists, place.open):
        with pytest.raises(Misconfigured, match="holds other data"):
            start()


def test_store_of_a_later_version_is_refused(place, store):
    document(store.database, "daybook/format", version=2)

    with pytest.raises(Misconfigured, match="later version"):
        place.exists()


def test_another_root_key_writes_nothing(place, wire):
    open_tables(place, RootKeys({1: new_key()}, 1)).close()
    wire.counts.clear()

    with pytest.raises(Misconfigured, match="The root key is not the one"):
        open_tables(place, RootKeys({1: new_key()}, 1))

    assert wire.counts["writes"] == wire.counts["deletes"] == 0


@dataclass
class Admin:
    """The API that describes a database, or refuses to."""

    answer: Description | Exception

    def get_database(self, request, *, retry, timeout, metadata):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def transport(self):
        return StringIO()


@pytest.fixture
def described(place):
    """Make Google describe the database of a place so."""

    def make(answer):
        def connect(*names):
            return replace(place.connect(*names), admin=lambda: Admin(answer))

        return replace(place, connect=connect)

    return make


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"type_": 2}, "in Datastore mode"), ({"type_": 1, "database_edition": 2}, "Enterprise")],
)
def test_database_of_another_kind_is_refused(described, fields, said):
    wrong = described(Description(fields))

    with pytest.raises(Misconfigured, match=said):
        wrong.open()
    mark, text = wrong.check()["database"]
    assert mark is Mark.FAIL
    assert said in text


@pytest.mark.parametrize(
    "answer", [Description({"type_": 1, "database_edition": 1}), Forbidden("no metadata")]
)
def test_database_of_the_right_or_an_unknown_kind_is_made(described, answer):
    right = described(answer)

    right.open(is_app=False).close()

    assert right.exists()
    assert right.check() == {"indexes": (Mark.OK, "all there")}


def test_start_of_a_store_asks_for_no_description(place, store):
    def refuse():
        raise AssertionError("the API was opened")

    def connect(*names):
        return replace(place.connect(*names), admin=refuse)

    replace(place, connect=connect).open(is_app=False).close()
    command = "import sys, services.store.firestore; print('google.cloud.firestore_admin_v1' in sys.modules)"
    imported = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True)
    assert imported.stdout == b"False\n"


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (
            "FAILED_PRECONDITION",
            "The Cloud Firestore API is not available for Firestore in Datastore Mode database",
            "in Datastore mode",
        ),
        ("NOT_FOUND", "The database (default) does not exist for project", "no such Firestore"),
    ],
)
def test_database_that_answers_no_call_is_named(place, wire, code, text, said):
    wire.refusal = Refusal(grpc.StatusCode[code], text)

    with pytest.raises(Misconfigured, match=said):
        place.open()


def test_server_that_is_away_is_named():
    place = FirestorePlace("test-away", connect=connect_to("127.0.0.1:9"))

    with pytest.raises(Misconfigured, match="cannot reach"):
        place.exists()


def test_missing_credentials_are_named():
    def connect(project, database):
        raise DefaultCredentialsError

    with pytest.raises(Misconfigured, match="gcloud auth"):
        FirestorePlace("test-away", connect=connect).exists()


def test_missing_indexes_are_named_with_the_command(place, store, monkeypatch):
    assert place.check() == {"indexes": (Mark.OK, "all there")}
    monkeypatch.setattr(emulators, "_INDEXES", {"indexes": [], "fieldOverrides": []})

    [(mark, text)] = place.check().values()

    assert mark is Mark.FAIL
    assert "messages (conversation_id, seq)" in text
    assert f"firebase-tools deploy --only firestore --project {place.project}" in text
    assert "name the database" not in text
    [(_, text)] = replace(place, database="notes").check().values()
    assert "name the database notes in db/firestore/firebase.json, then run npx" in text


def test_migration_without_indexes_names_the_command(place, store, monkeypatch):
    operator = TablesOperator(place, lambda: place.open(is_app=False))
    assert operator.migrate({}) == ()
    monkeypatch.setattr(emulators, "_INDEXES", {"indexes": [], "fieldOverrides": []})

    with pytest.raises(
        Misconfigured, match=r"messages \(conversation_id, seq\).* run npx firebase"
    ):
        operator.migrate({})


def test_sealed_fields_have_no_index():
    overrides = json.loads(INDEXES.read_text("utf-8"))["fieldOverrides"]
    exempt = {(one["collectionGroup"], one["fieldPath"]) for one in overrides if not one["indexes"]}
    assert exempt == {(name, ROW) for name in schema.TABLES}
    # Firestore indexes the other fields of a document by itself
    others = {name for table in schema.TABLES.values() for name in table.fields}
    assert text_bytes(SimpleNamespace(**dict.fromkeys(others, "text"))) == 0


# --- the lease


def test_lease_has_the_times_that_the_docs_name():
    times = inspect.signature(Lease).parameters.values()
    defaults = {one.name: one.default for one in times if one.name != "database"}
    assert defaults == {"seconds": 20, "pause": 4, "call_seconds": 10}


@contextmanager
def held(store):
    """Hold a short lease."""
    made = Lease(store.database, **LEASE)
    made.acquire()
    try:
        yield made
    finally:
        made.release()


@pytest.fixture
def lease(store):
    with held(store) as made:
        yield made


def test_second_app_is_refused_while_the_first_runs(store, lease):
    with pytest.raises(Misconfigured, match="Another Daybook"), held(store):
        pass

    lease.check()


def test_released_lease_is_free_at_once(store):
    for _ in range(2):
        with held(store) as made:
            made.check()


def test_lease_of_a_killed_app_is_taken_once_it_has_run_out(store):
    killed = Lease(store.database, **LEASE)
    assert killed._take()
    began = time.monotonic()
    with held(store):
        pass

    assert time.monotonic() - began > LEASE["seconds"] / 2


def test_app_whose_lease_was_taken_writes_no_more(store, lease):
    taken = Write(delete=f"{store.database.documents}/daybook/lease")
    store.database.commit([taken])
    with held(store):
        lease._thread.join(5)
        with pytest.raises(StoreBlocked, match="taken over"):
            put(stores.FirestoreStore(store.database, lease).of(MAYA), Bed("a"))
    assert found(store.of(MAYA)) == []


def test_app_whose_lease_was_taken_leaves_it_to_its_successor(store, lease):
    name = f"{store.database.documents}/daybook/lease"
    store.database.commit([Write(delete=name)])
    assert Lease(store.database, **LEASE)._take()
    lease._thread.join(5)

    lease.release()

    [answer] = store.database.read([name])
    assert answer.found


def test_lease_that_is_not_renewed_in_time_lets_no_write_pass(store, lease, wire):
    wire.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "away")
    time.sleep(LEASE["seconds"])
    with pytest.raises(StoreUnavailable):
        lease.check()

    wire.refusal = None
    time.sleep(3 * LEASE["pause"])
    lease.check()


def test_lost_answer_to_a_renewal_keeps_the_lease(store, lease, wire):
    wire.is_answer_lost = True
    time.sleep(2 * LEASE["pause"])
    wire.is_answer_lost = False
    time.sleep(5 * LEASE["pause"])

    lease.check()


# --- faults


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("PERMISSION_DENIED", "Cloud Datastore User"),
        ("RESOURCE_EXHAUSTED", "quota is used up"),
        ("UNAVAILABLE", "cannot reach its database"),
        ("DEADLINE_EXCEEDED", "cannot reach its database"),
    ],
)
def test_fault_is_told_in_a_sentence(store, wire, code, said):
    wire.refusal = Refusal(grpc.StatusCode[code], "no")

    for act in (found, partial(put)):
        with pytest.raises(StoreUnavailable) as error:
            act(store.of(MAYA), *([Bed("a")] if act is not found else []))
        assert said in error.value.outage


def test_query_without_an_index_is_told(store):
    with pytest.raises(StoreBlocked, match="operate migrate"):
        found(store.of(MAYA), {"place": "north"}, order=("-size",))


def test_open_turns_of_all_users_are_found_by_an_index(accounts, store):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    assert not TablesCopy(store).has_open_turns()

    store_of(session).turns.begin(new_turn(unsaid("Garden"), "When do I sow peas?"))

    assert TablesCopy(store).has_open_turns()


def test_aborted_block_runs_again_until_it_is_stored(firestore):
    with closing(new_place(firestore, Wire(aborted=2)).open(is_app=False)) as store:
        for number in range(4):
            store.of(MAYA).run(lambda block, number=number: grow(block, str(number)))

        assert sorted(found(store.of(MAYA))) == list("0123")


def grow(block, key):
    bed = block.get(BEDS, key) or Bed(key, size=0)
    block.put(BEDS, Bed(key, size=bed.size + 1))


def test_block_that_is_aborted_for_long_is_unavailable(firestore, monkeypatch):
    quick = Retry(predicate=if_exception_type(Aborted), initial=0.01, timeout=0.2)
    monkeypatch.setattr(stores, "_again", quick)
    with closing(new_place(firestore, Wire(aborted=1)).open(is_app=False)) as store:
        with pytest.raises(StoreUnavailable):
            store.of(MAYA).run(lambda block: grow(block, "a"))

        assert found(store.of(MAYA)) == []


def test_blocks_of_many_threads_repeat_one_at_a_time(store):
    together, tries = threading.Barrier(8), []

    def work(block):
        tries.append(block)
        grow(block, "a")
        if len(tries) <= 8:
            together.wait()  # all have read before one of them writes

    threads = [threading.Thread(target=store.of(MAYA).run, args=[work]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.of(MAYA).run(lambda block: block.get(BEDS, "a")).size == 8
    assert len(tries) <= 16


def test_storm_of_two_threads_keeps_all_books_right(firestore):
    with closing(new_place(firestore, Wire()).open(is_app=False)) as store:
        broken, events = run_storm(store, 5, workers=2, sweepers=0)

    assert broken == {}
    assert events["finished"] > 0


# --- rules


@pytest.mark.skipif(emulators.is_npms(), reason="npm's emulator of Firestore has no rules")
def test_rules_deny_every_client(firestore, place, store):
    put(store.of(MAYA), Bed("a"))
    rules = {"files": [{"content": INDEXES.with_name("firestore.rules").read_text("utf-8")}]}
    emulator = f"http://{firestore}/emulator/v1/projects/{place.project}:securityRules"
    httpx.put(emulator, json={"rules": rules}).raise_for_status()
    row = f"http://{firestore}/v1/{store.database.documents}/users/{MAYA}/beds/a"
    token = {"Authorization": "Bearer owner"}

    assert httpx.get(row).status_code == httpx.delete(row).status_code == 403
    assert httpx.patch(row, json={"fields": {}}).status_code == 403
    assert httpx.get(row, headers=token).status_code == 200
    assert found(store.of(MAYA)) == ["a"]


# --- Google's bill


@pytest.fixture
def clock():
    return Clock()


@dataclass
class Clock:
    """The time of a process."""

    elapsed: timedelta = timedelta()

    def now(self):
        return datetime.now(UTC) + self.elapsed


@pytest.fixture
def accounts(store, clock):
    ring = RootKeys({1: new_key()}, 1)
    with cheap_hashes():
        yield WholeAccounts(TablesBackend(store, clock.now), ring, 86400, 86400)


def test_open_tab_is_billed_as_the_docs_say(accounts, clock, wire):
    """The tab is used for six minutes, with a list of 21 chats, and no data changes."""
    cookie, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    user = store_of(session)
    for number in range(21):
        conversation = begun_with(user, str(number)).conversation
        clock.elapsed += timedelta(seconds=5)
    place = OpenPlace(conversation_id=conversation.id)
    wire.counts.clear()

    for _ in range(6):
        assert accounts.backend.is_alive(cookie.hash)  # called by a tab's polls, once a minute
        for _ in range(60 // 5):
            user.conversations.poll(place)
            clock.elapsed += timedelta(seconds=5)
        accounts.ended([session])  # called for each session in memory, once a minute

    assert (wire.counts["reads"], wire.counts["writes"]) == (6 * (28 + 3 + 4), 6)


def test_live_turn_stores_its_text_every_four_seconds(accounts):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    rows = session.backend.rows()

    assert rows.pace == TemporaryRows(rows).pace == Pace(beat_seconds=4.0, lease_seconds=20)
    assert store_of(session).turns.pace == rows.pace


def test_row_that_a_block_asks_for_again_is_billed_once(accounts, wire):
    """A call reads its session, account and rule of a factor, though the check before it and the verb itself ask for them."""
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    own, billed = session.backend, {}
    for verb in ("account", "devices"):
        wire.counts.clear()
        getattr(own, verb)()
        billed[verb] = wire.counts["reads"]

    # beside these three: budget, share of the deployment and notices; the sessions and credentials
    assert billed == {"account": 3 + 3, "devices": 3 + 2}


def test_many_rows_are_read_in_a_few_calls(accounts, store, wire):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    say(store_of(session), unsaid("Garden"), "When do I sow peas?", "In March.")
    tables, now, ids = (
        store.of(session.user_id),
        datetime.now(UTC),
        [UUID(int=n) for n in range(50)],
    )

    def repeat(block):
        tables = schema.ACCOUNTS, schema.CONVERSATIONS, schema.TURNS, schema.LEDGER
        [[account], [chat], [turn], [entry]] = [block.select(table) for table in tables]
        block.put(schema.ACCOUNTS, replace(account, role=AccountRole.ADMIN))
        for one in ids:
            block.put(schema.CONVERSATIONS, replace(chat, id=one))
            block.put(schema.TURNS, replace(turn, id=one, conversation_id=one))
            block.put(schema.LEDGER, replace(entry, id=f"{entry.id}{one}", turn_id=one))
            changed = {"at": now, "action": "role", "actor": None, "detail": {}}
            block.put(schema.AUDIT, schema.AuditRow(id=str(one), target=one, **changed))

    tables.run(repeat)
    rows, own = session.backend.rows(), session.backend
    some_days = now.date() - timedelta(days=1), now.date() + timedelta(days=1)
    calls = {
        "report": lambda: len(rows.usage.report(*some_days).conversations),
        "conversations": lambda: len(rows.conversations(ids)),
        "audit": lambda: len(
            [one for one in own.administration.audit() if one.target in map(str, ids)]
        ),
        "ended": lambda: len(accounts.backend.ended((one, one) for one in ids)),
    }
    found, billed = {}, {}
    for name, call in calls.items():
        wire.counts.clear()
        found[name] = call()
        billed[name] = wire.counts["calls"]

    assert found == {"report": 51, "conversations": 50, "audit": 50, "ended": 50}
    # a session is found by a query of its own
    assert billed.pop("ended") < 60
    assert max(billed.values()) < 10


def test_figures_of_all_users_are_read_in_a_few_calls(accounts, store, wire):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    say(store_of(session), unsaid("Garden"), "When do I sow peas?", "In March.")
    tables, today = store.of(session.user_id), datetime.now(UTC).date()
    [[account], [budget], [day]] = [
        tables.run(lambda block, table=table: block.select(table))
        for table in (schema.ACCOUNTS, schema.BUDGETS, schema.DAYS)
    ]
    tables.run(lambda block: block.put(schema.ACCOUNTS, replace(account, role=AccountRole.ADMIN)))
    for number in range(1, 30):
        user_id = UserId(UUID(int=number))

        def copy(block, user_id=user_id):
            email = f"{user_id}@daybook.test"
            block.put(schema.ACCOUNTS, replace(account, id=user_id, email=email))
            block.put(schema.BUDGETS, budget)
            block.put(schema.DAYS, day)

        store.of(user_id).run(copy)
    administration = session.backend.administration
    calls = {order: partial(administration.list_users, "", order, 0, 1) for order in UserOrder}
    calls |= {"usage": partial(administration.usage, (today, today))}
    calls |= {"deployment": administration.deployment}
    found, billed = {}, {}
    for name, call in calls.items():
        wire.counts.clear()
        found[name] = call()
        billed[name] = wire.counts["calls"]

    assert found["usage"].active_users == found[UserOrder.COST].total == 30
    assert max(billed.values()) < 15


def test_opening_a_chat_is_billed_for_one_receipt(accounts, wire):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    user, thread = store_of(session), unsaid("Garden")
    for number in range(4):
        turn = new_turn(thread, f"And {number}?", is_first=not number, receipt=f"receipt {number}")
        thread = answer(user, turn, "In May.")
    rows = session.backend.rows()
    wire.counts.clear()

    read = rows.read_conversation(thread.conversation.id, 0)

    assert [one.turn_id for one in read.receipts] == [thread.tip.turn_id]
    # messages, turns and a receipt; session, account and rule of a factor; the chat, and its deleted messages
    assert wire.counts["reads"] == (8 + 4 + 1) + 3 + 2


def test_turn_is_billed_as_the_docs_say(accounts, wire):
    _, session = accounts.sign_up_with("maya@daybook.test", "correct horse battery")
    user, billed = store_of(session), {}
    thread = say(user, unsaid("Garden"), "When do I sow peas?", "In March.")
    turn, place = new_turn(thread, "And beans?"), OpenPlace(conversation_id=thread.conversation.id)

    def count(name, call):
        wire.counts.clear()
        answer = call()
        billed[name] = wire.counts["reads"], wire.counts["writes"] + wire.counts["deletes"]
        return answer

    begun = count("begin", lambda: user.turns.begin(turn))
    its = thread.conversation.id
    count("checkpoint", lambda: user.turns.checkpoint(begun.turn_id, its, "In", 10))
    count("finish", lambda: user.turns.finish(ending(turn, begun, "In May.")))
    count("poll", lambda: session.backend.rows().poll(place))
    count("sweep", accounts.backend.sweep)

    assert billed == {
        "begin": (10, 5),
        "checkpoint": (4, 1),
        "finish": (19, 7),
        "poll": (8, 0),  # one of the reads is the chat in the list
        "sweep": (13, 0),
    }
