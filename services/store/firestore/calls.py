"""Calls of the Firestore API for one database, each with a deadline."""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports.grpc import FirestoreGrpcTransport
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitRequest,
    CommitResponse,
    Document,
    ListCollectionIdsRequest,
    RollbackRequest,
    RunQueryRequest,
    RunQueryResponse,
    StructuredQuery,
    TransactionOptions,
    Write,
)

from services.errors import StoreBlocked, StoreUnavailable

if TYPE_CHECKING:
    from google.cloud.firestore_admin_v1.services.firestore_admin import FirestoreAdminClient
    from google.cloud.firestore_admin_v1.types import Database as Description

CALL_SECONDS = 10.0  # the deadline of each call, in seconds
EMULATOR = "FIRESTORE_EMULATOR_HOST"
MAKE_ANOTHER = "make one in Native mode, of the Standard edition, and name it in DAYBOOK_STORE."
OWNER = (("authorization", "Bearer owner"),)  # with this metadata, the emulator allows every call


@dataclass(frozen=True, slots=True)
class Database:
    """One Firestore database. Any thread may call any member. The members may raise the errors of `google.api_core`."""

    api: FirestoreClient
    name: str  # projects/PROJECT/databases/DATABASE
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    # opens a client of Firestore's admin API; None for the emulator, which has no admin API
    admin: "Callable[[], FirestoreAdminClient] | None" = None

    @property
    def documents(self) -> str:
        return f"{self.name}/documents"

    def read(
        self, names: Sequence[str], transaction: "Transaction | None" = None
    ) -> list[BatchGetDocumentsResponse]:
        """Return Firestore's response for each document in *names*, in any order."""
        request = BatchGetDocumentsRequest(
            {"database": self.name, "documents": names, **_choice(transaction)}
        )
        answers: Iterable[BatchGetDocumentsResponse] = self._call("batch_get_documents", request)
        found = list[BatchGetDocumentsResponse]()
        for answer in answers:
            if transaction and answer.transaction:
                transaction.id = answer.transaction
            if answer.found or answer.missing:
                found.append(answer)
        return found

    def query(
        self, parent: str, query: StructuredQuery, transaction: "Transaction | None" = None
    ) -> list[Document]:
        request = RunQueryRequest(
            {"parent": parent, "structured_query": query, **_choice(transaction)}
        )
        answers: Iterable[RunQueryResponse] = self._call("run_query", request)
        found = list[Document]()
        for answer in answers:
            if transaction and answer.transaction:
                transaction.id = answer.transaction
            if answer.document:
                found.append(answer.document)
        return found

    def commit(self, writes: Sequence[Write], transaction: bytes = b"") -> CommitResponse:
        request = CommitRequest(
            {"database": self.name, "writes": writes, "transaction": transaction}
        )
        return self._call("commit", request)

    def collections(self) -> list[str]:
        """Return the names of the top-level collections."""
        request = ListCollectionIdsRequest(parent=self.documents)
        return list(self._call("list_collection_ids", request))

    def description(self) -> "Description | None":
        """Return the database's mode and edition; None for an emulator, or without the permission to read them."""
        if self.admin is None:
            return None
        admin = self.admin()
        try:
            return self._call("get_database", {"name": self.name}, admin)
        except exceptions.Forbidden:
            return None
        finally:
            admin.transport.close()

    def close(self) -> None:
        self.api.transport.close()

    def rollback(self, transaction: bytes) -> None:
        """Free the locks of a transaction. Errors are ignored, because Firestore also frees the locks after a time."""
        request = RollbackRequest({"database": self.name, "transaction": transaction})
        with suppress(exceptions.GoogleAPICallError):
            self._call("rollback", request)

    def _call(
        self, verb: str, request: object, client: object = None
    ) -> Any:  # Any, because Google's clients are only partly typed
        call = getattr(client or self.api, verb)
        return call(request, retry=None, timeout=CALL_SECONDS, metadata=self.metadata)


@dataclass(slots=True)
class Transaction:
    """A transaction, which begins with its first read."""

    repeats: bytes = b""  # the id of the aborted transaction that this transaction retries
    id: bytes = b""  # b"" before the first read


def _choice(transaction: Transaction | None) -> dict[str, object]:
    """Return the request fields that put a read into *transaction*, which begins with its first read; {} for None."""
    if transaction is None:
        return {}
    if transaction.id:
        return {"transaction": transaction.id}
    options = TransactionOptions.ReadWrite(retry_transaction=transaction.repeats)
    return {"new_transaction": TransactionOptions(read_write=options)}


def open_database(project: str, database: str) -> Database:
    """Connect to a database, or to the emulator at FIRESTORE_EMULATOR_HOST if that is set."""
    name = f"projects/{project}/databases/{database}"
    if host := os.environ.get(EMULATOR):
        transport = FirestoreGrpcTransport(channel=grpc.insecure_channel(host))
        return Database(FirestoreClient(transport=transport), name, OWNER)
    return Database(FirestoreClient(), name, admin=_open_admin)


def _open_admin() -> "FirestoreAdminClient":
    # imported here, because the import takes 0.15 s, and only a new store and `operate check` need it
    from google.cloud.firestore_admin_v1.services.firestore_admin import FirestoreAdminClient

    return FirestoreAdminClient()


@contextmanager
def errors() -> Generator[None]:
    """Turn Google's errors into StoreUnavailable, or into StoreBlocked, whose sentence tells an operator what to repair."""
    try:
        yield
    except GoogleAuthError as error:
        raise StoreBlocked(
            "There are no credentials for Google, or they have ended: run gcloud auth application-default login."
        ) from error
    except exceptions.GoogleAPIError as error:
        raise _error_of(error) from None


def _error_of(error: exceptions.GoogleAPIError) -> Exception:
    match error:
        case exceptions.Forbidden() | exceptions.Unauthorized():
            return StoreBlocked(
                "Google does not let Daybook use Firestore: give its account the role Cloud Datastore User."
            )
        case exceptions.ResourceExhausted():
            return StoreBlocked("Firestore's quota is used up for now: raise it, or wait.")
        case exceptions.FailedPrecondition() if "index" in str(error):
            return StoreBlocked(
                "Firestore lacks an index: run uv run python -m services.operate migrate."
            )
        case exceptions.FailedPrecondition() if "datastore" in str(error).lower():
            return StoreBlocked(f"The Firestore database is in Datastore mode: {MAKE_ANOTHER}")
        case exceptions.NotFound():
            return StoreBlocked(f"There is no such Firestore database: {MAKE_ANOTHER}")
        case exceptions.InvalidArgument():
            return error
        case _:
            return StoreUnavailable(type(error).__name__)
