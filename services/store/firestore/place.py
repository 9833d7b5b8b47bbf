"""The place of a store in a Firestore database: checks before the start, making and opening it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from google.api_core.exceptions import AlreadyExists
from google.cloud.firestore_v1.types import (
    Document,
    Precondition,
    Value,
    Write,
)

from services.errors import BadInput, Misconfigured, StoreUnavailable
from services.store.firestore.calls import Database, errors, open_database
from services.store.firestore.lease import Lease
from services.store.firestore.store import FirestoreStore
from services.store.operator import Finding

_VERSION = 1  # of the format
INDEXES = Path(__file__).parents[3] / "db" / "firestore" / "firestore.indexes.json"


@dataclass(frozen=True, slots=True)
class FirestorePlace:
    """The `StorePlace` of a Firestore database."""

    project: str
    database: str = "(default)"
    connect: Callable[[str, str], Database] = open_database

    @property
    def kind(self) -> str:
        return "Firestore"

    def exists(self) -> bool:
        with self._opened() as database:
            return self._exists(database)

    def open(self, *, is_app: bool = True) -> FirestoreStore:
        with self._errors():
            database = self.connect(self.project, self.database)
            try:
                is_made = self._exists(database)
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
        return {}

    def backup(self, target: Path) -> None:
        raise BadInput(
            "Firestore makes its own backups: gcloud firestore export gs://BUCKET "
            f"--project={self.project} --database='{self.database}'"
        )

    def _exists(self, database: Database) -> bool:
        """Raise Misconfigured if the database holds something else, or a later version of the format."""
        [answer] = database.read([_format(database)])
        if answer.missing:
            if database.collections():
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
        """Raise Misconfigured in the place of StoreUnavailable."""
        try:
            with errors():
                yield
        except StoreUnavailable as error:
            raise Misconfigured(error.public) from None


def _format(database: Database) -> str:
    """Return the name of the document with the version of the format."""
    return f"{database.documents}/daybook/format"
