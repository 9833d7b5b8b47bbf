"""An emulator of Firestore for tests, and stores in it, some of whose commits are aborted."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports.grpc import FirestoreGrpcTransport
from google.cloud.firestore_v1.types import StructuredQuery

from services import embedded
from services.embedded.folders import free_port
from services.store.firestore import FirestorePlace
from services.store.firestore.calls import EMULATOR, OWNER, Database
from services.store.firestore.place import INDEXES
from tests import npm_firestore
from tests.runs import IS_WHOLE

_START_SECONDS = 60
_ABORTED = 10  # one commit in this many is aborted, as by the service
_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_TIED = Path(embedded.__file__).with_name("die_with_parent.py")
_INDEXES = json.loads(INDEXES.read_text("utf-8"))
_PROTOCOL = ("test_tables_protocol.py", "test_firestore.py")  # tests of the protocol of tables
_numbers = itertools.count()


def emulator_jar():
    """Return the path of Google's emulator, beside gcloud; None if this machine lacks the emulator or Java."""
    if shutil.which("java") is None:
        return None
    gcloud = shutil.which("gcloud")
    folders = [Path(gcloud).resolve().parents[1]] if gcloud else []
    for folder in (*folders, Path("/usr/lib/google-cloud-sdk")):
        jar = folder / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
        if jar.exists():
            return jar
    return None


def described(reports):
    """Return a line that names the emulator of the tests with *reports*, and says which tests were left out."""
    if host := os.environ.get(EMULATOR):
        return f"Firestore: the emulator at {host}"
    if emulator_jar() is None:
        of_protocol = [test for test in reports if any(word in test.nodeid for word in _PROTOCOL)]
        return (
            "Firestore: npm's emulator, because Google's is not beside gcloud (apt: google-cloud-cli-firestore-emulator) "
            f"or there is no Java: of the protocol's tests {npm_firestore.outcomes(of_protocol)}; "
            f"of all, {npm_firestore.outcomes(reports)}"
        )
    part = "the whole suite" if IS_WHOLE else "a part of the suite (DAYBOOK_TESTS=all: all of it)"
    return f"Firestore: Google's emulator, {part}"


def is_npms():
    """Return True if the tests use npm's emulator, because the machine lacks Google's."""
    return EMULATOR not in os.environ and emulator_jar() is None


@contextmanager
def _started_emulator(folder):
    """Start Google's emulator, or npm's if the machine lacks Google's; yield its address."""
    host = f"127.0.0.1:{free_port()}"
    java = [shutil.which("java"), "-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    google = [*java, "-cp", emulator_jar(), _MAIN, "start", "--host=127.0.0.1", "--port"]
    port = host.split(":")[1]
    command = npm_firestore.command(port) if is_npms() else [*google, port]
    tied = [sys.executable, "-I", "-S", _TIED, "9", str(os.getpid()), ""]
    with (folder / "firestore.log").open("wb") as log:
        emulator = subprocess.Popen(
            [*tied, *map(str, command)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with grpc.insecure_channel(host) as channel:
            grpc.channel_ready_future(channel).result(_START_SECONDS)
        yield host
    finally:
        emulator.kill()
        emulator.wait()


@contextmanager
def emulator(folder):
    """Yield the address of the emulator that FIRESTORE_EMULATOR_HOST names, or of a new one."""
    if host := os.environ.get(EMULATOR):
        yield host
        return
    with _started_emulator(folder) as host:
        yield host


def missing_indexes(query):
    """Return the indexes that a query needs but that the file lacks: collection group, scope, and fields with their order."""
    [source] = query.from_
    tests = [one.field_filter or one.unary_filter for one in query.where.composite_filter.filters]
    equal = {one.field.field_path for one in tests if one.op.name in ("EQUAL", "IS_NULL")}
    ranged = [one.field.field_path for one in tests if one.field.field_path not in equal]
    order = [(one.field.field_path, one.direction.name) for one in query.order_by]
    if ranged and ranged[0] not in dict(order):
        order.insert(0, (ranged[0], "ASCENDING"))
    order = [one for one in order if one[0] not in {"__name__", *equal}]
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
    if order and (equal or len(order) > 1):
        wanted = [(frozenset(equal), tuple(order))]
    elif scope == "COLLECTION_GROUP":
        wanted = [(frozenset(), (one,)) for one in order or [(name, "ASCENDING") for name in equal]]
    else:
        wanted = []  # Firestore makes the indexes of single fields itself, and combines them
    return [
        (source.collection_id, scope, *one)
        for one in wanted
        if source.collection_id and not _has_index(source.collection_id, scope, *one)
    ]


def _has_index(group, scope, equal, order):
    for each in _INDEXES["indexes"]:
        if (each["collectionGroup"], each["queryScope"]) == (group, scope):
            fields = [(one["fieldPath"], one["order"]) for one in each["fields"]]
            first, rest = fields[: len(equal)], fields[len(equal) :]
            if {name for name, _ in first} == equal and tuple(rest) == order:
                return True
    return not equal and any(
        (each["collectionGroup"], each["fieldPath"]) == (group, order[0][0])
        and {"order": order[0][1], "queryScope": scope} in each["indexes"]
        for each in _INDEXES["fieldOverrides"]
    )


class Refusal(grpc.RpcError):
    """An error that replaces an answer."""

    def __init__(self, code, details):
        super().__init__(details)
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return ()

    def result(self):
        raise self

    def __iter__(self):
        return self

    def __next__(self):
        raise self


class Wire(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Counts the calls that Google bills, aborts one commit in *aborted* (0: none), and refuses a query without an index.

    *has_all_indexes*: no query lacks an index, even if it is none of Daybook's.
    """

    def __init__(self, aborted=_ABORTED, *, has_all_indexes=False):
        self.counts, self._aborted, self._commits = Counter(), aborted, 0
        self._has_all_indexes = has_all_indexes
        self.refusal = None  # an error that every call raises
        self.is_answer_lost = False  # true: the answer to every commit is lost

    def intercept_unary_unary(self, go_on, details, request):
        if self.refusal:
            return self.refusal
        if details.method.endswith("/Commit"):
            self._commits += bool(request.transaction)
            if self._aborted and request.transaction and self._commits % self._aborted == 0:
                return Refusal(grpc.StatusCode.ABORTED, "aborted by the test")
            for write in request.writes:
                self.counts["deletes" if write.delete else "writes"] += 1
        self.counts["calls"] += 1
        answer = go_on(details, request)
        if self.is_answer_lost and details.method.endswith("/Commit"):
            return Refusal(grpc.StatusCode.UNAVAILABLE, "lost")
        return answer

    def intercept_unary_stream(self, go_on, details, request):
        if self.refusal:
            return self.refusal
        self.counts["calls"] += 1
        if details.method.endswith("/RunQuery") and not self._has_all_indexes:
            for wanted in missing_indexes(request.structured_query):
                message = f"the query requires an index: {wanted}"
                return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message)
        return _Counted(go_on(details, request), self.counts)


class _Counted:
    """The answers to a read, counted as they arrive; a query without a result counts as one."""

    def __init__(self, call, counts):
        self._call, self._counts, self._found = call, counts, 0

    def __getattr__(self, name):
        return getattr(self._call, name)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            answer = next(self._call)
        except StopIteration:
            self._counts["reads"] += self._found == 0
            raise
        is_row = any(getattr(answer, name, None) for name in ("document", "found", "missing"))
        self._found += is_row
        self._counts["reads"] += is_row
        return answer


def connect_to(host, wire=None):
    """Return the function that connects a place to the emulator at *host*, through *wire*."""

    def connect(project, database):
        used = [*([wire] if wire else []), *([npm_firestore.LIMITS] if is_npms() else [])]
        # a connection of its own, so that a test can see that it is closed
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.intercept_channel(grpc.insecure_channel(host, options), *used)
        transport = FirestoreGrpcTransport(channel=channel)
        name = f"projects/{project}/databases/{database}"
        return Database(FirestoreClient(transport=transport), name, OWNER)

    return connect


def new_place(host, wire=None):
    """Return the place of a new store."""
    project = f"test-{os.getpid()}-{next(_numbers)}"
    return FirestorePlace(project, connect=connect_to(host, wire))


def stores_at(host):
    """Return a function that makes a new store at each call."""
    return lambda: new_place(host, Wire()).open(is_app=False)


def documents_in(database, collection=""):
    """Return the documents in all collections of that name, or all documents, as one string."""
    every = StructuredQuery.CollectionSelector(collection_id=collection, all_descendants=True)
    documents = database.query(database.documents, StructuredQuery(from_=[every]))
    return "".join(f"{one.name} {one.fields.get('row', one)}" for one in documents)


def everything_in(store):
    """Return all documents of a store, as one string."""
    return documents_in(store.database)
