"""The only access to the Supabase API: clients, calls with a server proof, and the conversion of its errors.

Reads are selects under row level security. Writes are calls of functions that need, besides the user's access
token, a server proof over the arguments (docs/architecture.md); this module makes the proofs.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields
from functools import cache
from types import GenericAlias, MappingProxyType
from typing import ClassVar, Generic, Protocol, TypeVar, cast
from uuid import UUID

import httpx
from postgrest import SyncSelectRequestBuilder
from postgrest.exceptions import APIError
from pydantic import BaseModel, ConfigDict, SecretStr, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from supabase import Client, ClientOptions, create_client

from services.crypto import ServerProof, sha
from services.domain import UserId
from services.domain.turns import Reservation
from services.errors import (
    AdminsOnly,
    FunctionMissing,
    NotFound,
    ProofNeeded,
    ProxyUnusable,
    ServerRefused,
    SignedOut,
    SpaceGone,
    StoreUnavailable,
)
from services.events import log_event
from services.rules import Refusal
from services.store.refusals import error_of
from services.store.supabase.arguments import Argument, Hidden
from services.store.supabase.schema import StoredSchema

# hooks of an httpx client, keyed by event: "request" or "response"
EventHooks = Mapping[str, Sequence[Callable[..., object]]]
Query = SyncSelectRequestBuilder
Row = TypeVar("Row", bound="RowClass")
Identified = TypeVar("Identified", bound="IdentifiedRow")
T = TypeVar("T")
Paged = TypeVar("Paged")
_LIMITS = httpx.Limits(  # idle connections are kept for 60 seconds: a new one costs three round trips with TLS
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=60.0
)
PAGE = 1000  # maximum rows that one read requests
# the lowest allowed limit of rows in one response of the API; also the maximum number of ids in one URL
LEAST = 100
_SWEPT_TURNS = 10  # the maximum number of turns that one call sweeps
# seconds: less than a turn's lease, so that the lease does not run out because one response was lost
TIMEOUT = httpx.Timeout(8.0, connect=3.0)


class RowClass(Protocol):
    """The class of a table's rows: a dataclass with a field for each column."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


class IdentifiedRow(RowClass, Protocol):
    """The class of rows that have an id."""

    @property
    def id(self) -> UUID: ...


class RpcResult(BaseModel):
    """The result of a writing function. For an expected refusal, `ok` is False, and `reason` says why."""

    model_config = ConfigDict(extra="allow")

    ok: bool
    reason: str = ""

    @property
    def values(self) -> dict[str, object]:
        """The values of the result other than `ok` and `reason`."""
        return self.model_extra or {}


@dataclass(frozen=True, slots=True)
class Swept:
    """The work that remains after a sweep."""

    more: bool  # True: more turns or rows are due for the next sweep
    log_erasures: bool = False  # True: `erase_log_entries` has entries to erase


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersions:
    """The answer of `root_key_versions`: the versions of the root key that stored data is sealed under, and the schema."""

    versions: list[int]
    schema: StoredSchema = field(default_factory=StoredSchema)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The API's URL and the connections to the API, without a user's identity. All threads share one gateway."""

    url: str
    key: SecretStr
    http: httpx.Client = field(repr=False)

    @classmethod
    def to(
        cls,
        url: str,
        key: SecretStr,
        transport: httpx.BaseTransport | None,
        hooks: EventHooks = MappingProxyType({}),
        timeout: httpx.Timeout = TIMEOUT,
    ) -> "Gateway":
        """Return a gateway with its own connections, made through *transport* unless that is None.

        The client calls *hooks* with each request and each response. Raise ProxyUnusable if the environment names a
        SOCKS proxy.
        """
        try:
            client = httpx.Client(timeout=timeout, limits=_LIMITS, transport=transport)
        except ImportError:
            raise ProxyUnusable from None
        client.event_hooks = {
            "request": [_drop_key_as_bearer, *hooks.get("request", ())],
            "response": list(hooks.get("response", ())),
        }
        return cls(url, key, client)

    def client(self) -> Client:
        """Return a client for one user; a shared client would query as the last user who signed in."""
        options = ClientOptions(
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,
            httpx_client=self.http,
        )
        return create_client(self.url, self.key.get_secret_value(), options)


def _drop_key_as_bearer(request: httpx.Request) -> None:
    """Send the API key only as `apikey`, because hosted Supabase refuses a bearer token that is not a JWT."""
    if request.headers.get("Authorization") == f"Bearer {request.headers.get('apikey')}":
        del request.headers["Authorization"]


@dataclass(frozen=True, slots=True)
class UserCalls:
    """Calls for one signed-in user: plain reads, and calls with a server proof. Any thread may call any method."""

    client: Client = field(repr=False)
    proof: ServerProof = field(repr=False)
    user_id: UserId

    def call(self, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
        """Call the API's function *verb*; the server proof authenticates *arguments*, in the order given."""
        return self.read(verb, RpcResult, **arguments)

    def do(self, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
        """Call the function *verb* as `call` does; raise an error if the result is a refusal."""
        return accepted(verb, self.call(verb, **arguments))

    def select(self, verb: str, kind: type[T], /, **arguments: Argument) -> T:
        """Call the reading function *verb*, which needs no proof. Raise NotFound if it returns nothing."""
        answer = _answered(self.client, verb, _sent(arguments))
        if answer is None:
            raise NotFound
        return _valid(kind, answer)

    def read(self, verb: str, kind: type[T], /, **arguments: Argument | Hidden) -> T:
        """Call the function *verb* with a proof, as `call` does; return its result as a value of type *kind*."""
        proof = self.proof.of_person(verb, self.user_id, *map(_proven, arguments.values()))
        return _valid(kind, _answered(self.client, verb, _sent(arguments) | {"proof": proof}))


@dataclass(frozen=True, slots=True)
class ServerCalls:
    """Calls that the app makes without a user's token. They may raise StoreUnavailable only; any thread may call them."""

    client: Client = field(repr=False)
    proof: ServerProof = field(repr=False)

    def call(self, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
        """Call the API's function *verb*; the server proof of the call is valid for a minute."""
        return self.read(verb, RpcResult, **arguments)

    def row_bound(self) -> int:
        """Return the API's limit of rows in one response, or 1,001 if the limit is above 1,000."""
        return len(self.read("row_bound", list[int]))

    def read(self, verb: str, kind: type[T], /, **arguments: Argument | Hidden) -> T:
        """Call the function *verb*; return its result as a value of type *kind*."""
        made_at = int(time.time())
        proof = self.proof.of_server(verb, made_at, *map(_proven, arguments.values()))
        sent = _sent(arguments) | {"made_at": made_at, "proof": proof}
        try:
            return _valid(kind, _answered(self.client, verb, sent))
        except (NotFound, SignedOut) as error:  # the app's clock or key differs from the database's
            log_event("server.refused")
            is_missing = error.args == ("PGRST202",)
            raise (FunctionMissing if is_missing else ServerRefused) from error

    def stored_versions(self) -> StoredVersions:
        return self.read("root_key_versions", StoredVersions)

    def sweep(self) -> Swept:
        """Settle some turns whose lease has run out, and remove some rows that are due for removal."""
        return self.read("sweep_turns", Swept, at_most=_SWEPT_TURNS)

    def erase_log_entries(self) -> bool:
        """Delete some entries about deleted accounts from Supabase Auth's log; return True if more must be scanned."""
        return self.call("erase_log_entries").values.get("more") is True


@contextmanager
def store_errors() -> Generator[None]:
    """Convert errors of the API and of the network to the app's errors."""
    try:
        yield
    except APIError as error:
        match error.code:
            case "PT401":
                raise SignedOut(error.code) from error
            case "PT403":
                raise ProofNeeded(error.code) from error
            case "42501" if error.message == "admins only":
                raise AdminsOnly(error.code) from error
            case "42501" | "PGRST202":
                raise NotFound(error.code) from error
            # another call has just deleted the space
            case "23503" if "_space_id_" in str(error.message):
                raise SpaceGone(error.code) from error
            case _:
                raise StoreUnavailable(error.code) from error
    except httpx.HTTPError as error:
        raise StoreUnavailable(type(error).__name__) from error
    except ValidationError as error:  # not chained, because the error's text repeats the row
        raise StoreUnavailable(type(error).__name__) from None


class Table(Generic[Row]):
    """Reads one table, under row level security. Its methods raise SignedOut and StoreUnavailable."""

    def __init__(self, name: str, row: type[Row], columns: str | None = None) -> None:
        """Set the *columns* to select; by default, they are the fields of *row*."""
        self._name = name
        self._adapter = TypeAdapter(cast(type[list[Row]], GenericAlias(list, (row,))))
        self._columns = columns or ",".join(each.name for each in fields(row))

    def rows(
        self, client: Client, where: Callable[[Query], Query] = lambda query: query
    ) -> list[Row]:
        """Return the rows that *where* selects, from one response."""
        with store_errors():
            query = where(client.table(self._name).select(self._columns))
            return self._adapter.validate_python(query.execute().data)

    def rows_of(self, client: Client, column: str, ids: Iterable[UUID]) -> list[Row]:
        """Return the rows whose unique *column* is one of *ids*."""

        def read(some: list[str]) -> list[Row]:
            return self.rows(client, lambda query: query.in_(column, some))

        return [row for some in batches(map(str, ids)) for row in read(some)]

    def all_rows(
        self: "Table[Identified]",
        client: Client,
        where: Callable[[Query], Query] = lambda query: query,
    ) -> list[Identified]:
        """Return all rows that *where* selects, read page by page, in the order of their ids."""

        def read(last: Identified | None, limit: int) -> list[Identified]:
            def page(query: Query) -> Query:
                query = where(query)
                return (query.gt("id", str(last.id)) if last else query).order("id").limit(limit)

            return self.rows(client, page)

        return every_row(read)


def every_row(read: Callable[[Paged | None, int], Sequence[Paged]]) -> list[Paged]:
    """Return all rows, read page by page; *read* gets the last row so far (None: no row yet) and the page's length.

    The API truncates long responses silently, and its limit may change at any time: only a page
    that is shorter than the lowest allowed limit (`LEAST`) is certainly the last.
    """
    rows: list[Paged] = []
    while True:
        page = read(rows[-1] if rows else None, PAGE)
        rows += page
        if len(page) < min(PAGE, LEAST):
            return rows


def batches(ids: Iterable[T]) -> Iterator[list[T]]:
    """Yield *ids* in groups, each of which fits in one URL."""
    every = list(ids)
    for start in range(0, len(every), LEAST):
        yield every[start : start + LEAST]


def accepted(verb: str, answer: RpcResult, wanted: Reservation | None = None) -> RpcResult:
    """Return *answer*; raise an error if it is a refusal of *verb*. *wanted*: the reservation that a turn requested."""
    if not answer.ok:
        raise error_of(verb, _valid(Refusal, {"reason": answer.reason, **answer.values}), wanted)
    return answer


def _answered(client: Client, verb: str, arguments: dict[str, object]) -> object:
    with store_errors():
        return client.rpc(verb, arguments).execute().data


@cache
def _adapter(kind: type[object]) -> TypeAdapter[object]:
    return TypeAdapter(kind)


def _valid(kind: type[T], data: object) -> T:
    with store_errors():
        return cast(T, _adapter(kind).validate_python(data))


def _proven(argument: Argument | Hidden) -> Argument:
    return sha(argument.text) if isinstance(argument, Hidden) else argument


def _sent(arguments: Mapping[str, Argument | Hidden]) -> dict[str, object]:
    plain = {
        name: argument.text if isinstance(argument, Hidden) else argument
        for name, argument in arguments.items()
    }
    return to_jsonable_python(plain)
