"""The Firestore database of a store: its checks before the app starts, and the store's creation and opening."""

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from google.api_core.exceptions import AlreadyExists, FailedPrecondition
from google.cloud.firestore_v1.types import (
    Document,
    Precondition,
    StructuredQuery,
    Value,
    Write,
)

from services.errors import BadInput, Misconfigured, StoreUnavailable
from services.store.firestore.calls import MAKE_ANOTHER, Database, errors, open_database
from services.store.firestore.lease import Lease
from services.store.firestore.store import FirestoreStore
from services.store.operator import Finding, Mark
from services.store.tables.protocol import StoreCheck

_VERSION = 1  # version of the store's format
_DEFAULT = "(default)"  # the database that db/firestore/firebase.json names
INDEXES = Path(__file__).parents[3] / "db" / "firestore" / "firestore.indexes.json"


@dataclass(frozen=True, slots=True)
class FirestorePlace:
    """Implements `StorePlace` for a Firestore database."""

    project: str = field(repr=False)
    database: str = field(default=_DEFAULT, repr=False)
    connect: Callable[[str, str], Database] = open_database

    @property
    def kind(self) -> str:
        return "Firestore"

    def exists(self, *, may_be_made: bool = True) -> bool:
        with self._opened() as database:
            return self._exists(database)

    def open(self, *, is_app: bool = True, check: StoreCheck | None = None) -> FirestoreStore:
        with self._errors():
            database = self.connect(self.project, self.database)
            try:
                is_made = self._exists(database)
                if is_made and check:
                    FirestoreStore(database, None).of(None).run(check)
                lease = Lease(database) if is_app else None
                if lease:
                    lease.acquire()
                if not is_made:
                    self._make(database)
                return FirestoreStore(database, lease)
            except BaseException:
                database.close()
                raise

    def check(self) -> dict[str, Finding]:
        with self._opened() as database:
            wrong = _wrong_kind(database)
            missing = [text for text, query in _queries() if not _answers(database, query)]
        found = {"database": (Mark.FAIL, wrong)} if wrong else dict[str, Finding]()
        if missing:
            found["indexes"] = Mark.FAIL, f"missing: {', '.join(missing)}; {self._deploy}"
        else:
            found["indexes"] = Mark.OK, "all there"
        return found

    @property
    def _deploy(self) -> str:
        config = INDEXES.with_name("firebase.json").relative_to(INDEXES.parents[2])
        is_named = self.database == _DEFAULT
        return (
            f"{'' if is_named else f'name the database {self.database} in {config}, then '}"
            f"run npx firebase-tools deploy --only firestore --project {self.project} --config {config}, "
            "and wait until they are made"
        )

    def backup(self, target: Path) -> None:
        # without a snapshot time, an export is not consistent; Firestore accepts only whole minutes of the last hour
        raise BadInput(
            "Firestore makes its own backups. For one of this minute, run within the hour: "
            f"gcloud firestore export gs://BUCKET --project={self.project} --database='{self.database}' "
            f"--snapshot-time={datetime.now(UTC):%Y-%m-%dT%H:%M:00Z}"
        )

    def _exists(self, database: Database) -> bool:
        """Return True if the database has a store. Raise Misconfigured for other data, a later format or a wrong mode."""
        [answer] = database.read([_format(database)])
        if answer.missing:
            if wrong := _wrong_kind(database):
                raise Misconfigured(wrong)
            # an app that was killed during its first start may have left the collection "daybook" with only the lease
            # in it
            if {*database.collections()} - {"daybook"}:
                raise Misconfigured(
                    f"The Firestore database {self.database} holds other data: make one for Daybook alone, and name it in DAYBOOK_STORE."
                )
            return False
        if answer.found.fields["version"].integer_value > _VERSION:
            raise Misconfigured(
                f"The Firestore database {self.database} was written by a later version of Daybook: start that version."
            )
        return True

    def _make(self, database: Database) -> None:
        made = Document(name=_format(database), fields={"version": Value(integer_value=_VERSION)})
        with suppress(AlreadyExists):
            database.commit([Write(update=made, current_document=Precondition(exists=False))])

    @contextmanager
    def _opened(self) -> Generator[Database]:
        with self._errors():
            database = self.connect(self.project, self.database)
            try:
                yield database
            finally:
                database.close()

    @contextmanager
    def _errors(self) -> Generator[None]:
        """Turn StoreUnavailable into Misconfigured."""
        try:
            with errors():
                yield
        except StoreUnavailable as error:
            raise Misconfigured(error.public) from None


def _format(database: Database) -> str:
    """Return the name of the document that stores the version of the format."""
    return f"{database.documents}/daybook/format"


def _wrong_kind(database: Database) -> str:
    """Return a sentence if Daybook does not support the database's mode or edition; "" if it does, or if they are unknown."""
    described = database.description()
    if described is None:
        return ""
    # this import takes no time, because `description` has imported the library already
    from google.cloud.firestore_admin_v1.types import Database as Description

    if described.type_ == Description.DatabaseType.DATASTORE_MODE:
        return f"The Firestore database is in Datastore mode: {MAKE_ANOTHER}"
    if described.database_edition == Description.DatabaseEdition.ENTERPRISE:
        return f"The Firestore database is of the Enterprise edition: {MAKE_ANOTHER}"
    return ""


def _queries() -> Generator[tuple[str, StructuredQuery]]:
    """Yield each index in the file `INDEXES`, as text, with a query that needs this index."""
    file = json.loads(INDEXES.read_text("utf-8"))
    for one in file["indexes"]:
        fields = [(each["fieldPath"], each["order"]) for each in one["fields"]]
        yield _ordered(one["collectionGroup"], one["queryScope"], fields)
    for one in file["fieldOverrides"]:
        for each in one["indexes"]:
            fields = [(one["fieldPath"], each["order"])]
            yield _ordered(one["collectionGroup"], each["queryScope"], fields)


def _ordered(
    group: str, scope: str, fields: Sequence[tuple[str, str]]
) -> tuple[str, StructuredQuery]:
    is_of_all = scope == "COLLECTION_GROUP"
    selector = StructuredQuery.CollectionSelector(collection_id=group, all_descendants=is_of_all)
    order = [
        StructuredQuery.Order(
            field=StructuredQuery.FieldReference(field_path=name), direction=direction
        )
        for name, direction in fields
    ]
    query = StructuredQuery(from_=[selector], order_by=order, limit=1)
    return f"{group} ({', '.join(name for name, _ in fields)})", query


def _answers(database: Database, query: StructuredQuery) -> bool:
    """Return True if Firestore has the index that *query* needs."""
    try:
        database.query(database.documents, query)
    except FailedPrecondition:
        return False
    return True
