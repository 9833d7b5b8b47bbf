"""Google's emulator of Firestore for tests, and stores at it whose commits are aborted now and then."""

import itertools
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

_START_SECONDS = 60
_ABORTED = 10  # of so many commits one is aborted, as by the service
_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_TIED = Path(embedded.__file__).with_name("die_with_parent.py")
_numbers = itertools.count()


def emulator_jar():
    """Return the path of Google's emulator, beside gcloud; None: there is none on this machine."""
    gcloud = shutil.which("gcloud")
    folders = [Path(gcloud).resolve().parents[1]] if gcloud else []
    for folder in (*folders, Path("/usr/lib/google-cloud-sdk")):
        jar = folder / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
        if jar.exists():
            return jar
    return None


@contextmanager
def started_emulator(folder, *options):
    """Start Google's emulator; yield its address."""
    host = f"127.0.0.1:{free_port()}"
    java = [shutil.which("java"), "-Xmx768m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command = [*java, "-cp", emulator_jar(), _MAIN, "start", f"--host={host.split(':')[0]}"]
    tied = [sys.executable, "-I", "-S", _TIED, "9", str(os.getpid()), ""]
    with (folder / "firestore.log").open("wb") as log:
        emulator = subprocess.Popen(
            [*tied, *map(str, command), f"--port={host.split(':')[1]}", *options],
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
    with started_emulator(folder) as host:
        yield host


class Aborted(grpc.RpcError):
    """The error of a commit that another transaction has aborted."""

    def code(self):
        return grpc.StatusCode.ABORTED

    def details(self):
        return "aborted by the test"

    def trailing_metadata(self):
        return ()

    def result(self):
        raise self


class Wire(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Counts what Google bills, and aborts one commit in *aborted* (0: none)."""

    def __init__(self, aborted=_ABORTED):
        self.counts, self._aborted, self._commits = Counter(), aborted, 0

    def intercept_unary_unary(self, go_on, details, request):
        if details.method.endswith("/Commit"):
            self._commits += bool(request.transaction)
            if self._aborted and request.transaction and self._commits % self._aborted == 0:
                return Aborted()
            for write in request.writes:
                self.counts["deletes" if write.delete else "writes"] += 1
        self.counts["calls"] += 1
        return go_on(details, request)

    def intercept_unary_stream(self, go_on, details, request):
        self.counts["calls"] += 1
        return _Counted(go_on(details, request), self.counts)


class _Counted:
    """The answers to a read, counted as they come; a query that finds nothing counts as one."""

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
    """Return what connects a place to the emulator at *host*, through *wire*."""

    def connect(project, database):
        channel = grpc.insecure_channel(host)
        channel = grpc.intercept_channel(channel, wire) if wire else channel
        transport = FirestoreGrpcTransport(channel=channel)
        name = f"projects/{project}/databases/{database}"
        return Database(FirestoreClient(transport=transport), name, OWNER)

    return connect


def new_place(host, wire=None):
    """Return the place of a new store."""
    project = f"test-{os.getpid()}-{next(_numbers)}"
    return FirestorePlace(project, connect=connect_to(host, wire))


def stores_at(host):
    """Return a function that makes a store, a new one at each call."""
    return lambda: new_place(host, Wire()).open(is_app=False)


def everything_in(store):
    """Return all documents of a store, as one string."""
    every = StructuredQuery.CollectionSelector(all_descendants=True)
    documents = store.database.query(store.database.documents, StructuredQuery(from_=[every]))
    return "".join(f"{one.name} {one.fields.get('row', one)}" for one in documents)
