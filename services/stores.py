"""Choosing and opening a deployment's store. A vendor's library is imported only if the store needs it."""

import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from services.crypto import RootKeys
from services.domain import UserId
from services.domain.policies import policy_named
from services.embedded.folders import Folders, choose_folders, home_unknown
from services.embedded.plan import Endpoints, read_root_keys, read_secrets, running_endpoints
from services.errors import AppError, FileDamaged, Misconfigured, StoreUnavailable
from services.settings import Settings
from services.store.backend import Backend, StoredCredentials
from services.store.copies import CopySource, CopyTarget
from services.store.operator import Operator
from services.store.tables.protocol import AllTables, StorePlace

if TYPE_CHECKING:
    from services.store.supabase.operator import SupabaseOperator


def place_of(chosen: Settings, folders: Folders, *, may_migrate: bool = True) -> StorePlace | None:
    """Return the place of the store in DAYBOOK_STORE; None for Supabase.

    Raise Misconfigured if keys and data share a folder, and for a local store on Windows.
    *may_migrate*: False to refuse a store of an earlier version.
    """
    if chosen.store is None:
        return None
    kind, _, place = chosen.store.partition(":")
    if kind == "firestore":
        return _firestore_place(place)
    # before the imports below, which fail on Windows: it lacks fcntl, of which the file locks are made
    if sys.platform == "win32":
        raise Misconfigured("SQLite and JSON stores work on Linux, macOS and WSL, not on Windows.")
    path = path_of(chosen.store)
    if path.resolve().is_relative_to(folders.keys) or folders.keys.is_relative_to(path.resolve()):
        raise Misconfigured(
            "The keys would lie beside the data, and every copy of it would open itself: "
            "set DAYBOOK_KEY_DIR to a folder elsewhere."
        )
    if kind == "sqlite":
        from services.store.sqlite import SqlitePlace

        return SqlitePlace(path, may_migrate=may_migrate)
    from services.store.files import FilesPlace

    policy = policy_named(chosen.policy, chosen.window_messages)
    return FilesPlace(path, is_plain=kind == "json-plain", policy=policy)


def unread_files(chosen: Settings, user_id: UserId) -> list[str]:
    """Return the names of chat files that a user put into the store's folder and that the app has not imported."""
    if chosen.store is None or not chosen.is_plain:
        return []
    from services.store.files.incoming import unread_files

    return unread_files(path_of(chosen.store), user_id)


def path_of(store: str) -> Path:
    """Return the path in *store*, a value of DAYBOOK_STORE. Raise Misconfigured if its ~ stands for an unknown home folder."""
    try:
        return Path(store.partition(":")[2]).expanduser().absolute()
    except RuntimeError as error:
        raise home_unknown() from error


def location(store: str) -> str:
    """Return where *store*, a value of DAYBOOK_STORE, is: the absolute path, or the value itself for Firestore."""
    return store if store.startswith("firestore:") else str(path_of(store))


def is_same_store(chosen: Settings, other: Settings) -> bool:
    """Return True if both settings name one store: Supabase, one database of Firestore, or one file or folder."""
    if chosen.store is None or other.store is None:
        return chosen.store == other.store
    kinds = {store.partition(":")[0] for store in (chosen.store, other.store)}
    if "firestore" in kinds:
        names = {_database_of(store.partition(":")[2]) for store in (chosen.store, other.store)}
        return len(kinds) == len(names) == 1
    path, another = path_of(chosen.store), path_of(other.store)
    if path.exists() and another.exists():
        # by device and inode: through links, and on file systems that ignore case
        return path.samefile(another)
    return path.resolve() == another.resolve()


def _database_of(place: str) -> tuple[str, str]:
    """Return the project and the database of *place*: of Firestore, PROJECT or PROJECT/DATABASE."""
    project, _, database = place.partition("/")
    return project, database or "(default)"


def _firestore_place(place: str) -> StorePlace:
    try:
        from services.store.firestore import FirestorePlace
    except ModuleNotFoundError:
        raise Misconfigured(
            "Google's client of Firestore is not installed: start with uv run --group firestore."
        ) from None
    return FirestorePlace(*_database_of(place))


def open_tables(
    place: StorePlace, root_keys: RootKeys, *, is_app: bool = True, is_start: bool = True
) -> AllTables:
    """Open or create the store at *place*. Raise Misconfigured if that fails, or if the store has another root key.

    *is_start*: True if the app is starting, False for a command, even if the command opens the store as the app would
    (*is_app*).
    """
    from services.store.tables.administration import abandon_count
    from services.store.tables.opening import check_root_key, stored_tag

    tables = place.open(is_app=is_app, check=lambda block: stored_tag(block, root_keys))
    try:
        check_root_key(tables, root_keys, is_start=is_start)
        if is_start:  # the process that began the count may have been killed
            with suppress(FileDamaged):  # the pages say which file is damaged
                tables.of(None).run(abandon_count)
    except AppError:
        tables.close()
        raise
    return tables


def choose_first_admin(tables: AllTables, *, is_public: bool) -> bool:
    """Let the first account become admin, unless *is_public*: a stranger could then be the first to sign up.

    Return False if the app is public and has no admin.
    """
    from services.store.tables.opening import let_first_account_be_admin

    return let_first_account_be_admin(tables, is_let=not is_public) or not is_public


def only_account(tables: AllTables) -> StoredCredentials | None:
    """Return the credentials of the one account; None if there is no account.

    Raise Misconfigured if there are several accounts, or the credentials are gone.
    """
    from services.store.tables import opening

    return opening.only_account(tables)


def open_backend(
    chosen: Settings, at: Endpoints, root_keys: RootKeys, tables: AllTables | None = None
) -> Backend:
    """Open the backend over *tables*; if that is None, over the embedded Supabase or else the Supabase project of the settings.

    *at*: the URL and the key of the embedded Supabase; both are None if the embedded Supabase is not running.
    """
    if tables:
        from services.store.tables.backend import TablesBackend

        return TablesBackend(tables, wants_proofs=not chosen.is_alone)
    from services.store.supabase.backend import open_supabase

    return open_supabase(
        at.supabase_url or str(chosen.supabase_url).rstrip("/"),
        chosen.supabase_key or SecretStr(at.publishable_key or ""),
        root_keys.proof_key(),
        is_hosted=at.supabase_url is None,
    )


def open_operator(chosen: Settings) -> Operator:
    """Return the `Operator` of the store that the settings name, or else of the running embedded stack.

    Raise Misconfigured if the settings name no store and no embedded stack is running.
    """
    folders = choose_folders(chosen.data_dir, chosen.key_dir)
    if place := place_of(chosen, folders):
        return _tables_operator(chosen, place, folders)
    return _supabase_operator(chosen, folders)


def _supabase_operator(chosen: Settings, folders: Folders) -> "SupabaseOperator":
    from services.store.supabase.operator import SupabaseOperator, operator_at

    if chosen.supabase_url or chosen.database_url:
        url = chosen.database_url.get_secret_value() if chosen.database_url else None
        api = None
        if chosen.supabase_url and chosen.supabase_key:
            api = str(chosen.supabase_url).rstrip("/"), chosen.supabase_key
        return operator_at(url, api)
    try:
        from services.embedded.postgres import Postgres
    except ModuleNotFoundError:
        raise Misconfigured(
            "No store is named, and the dependency group embedded is not installed: set DAYBOOK_STORE, "
            "or DATABASE_URL with SUPABASE_URL and SUPABASE_KEY."
        ) from None

    at = running_endpoints(folders.data)
    postgres = Postgres(folders, read_secrets(folders))
    api = at.supabase_url or "", SecretStr(at.publishable_key or "")
    return SupabaseOperator(lambda: postgres.connect(as_owner=True), api)


@contextmanager
def open_copy_source(chosen: Settings, ring: RootKeys, *, is_dry: bool) -> Generator[CopySource]:
    """Open the store that the settings name as the source of a copy. If *is_dry*, refuse a store that would be migrated.

    Raise Misconfigured if the store is missing, or (except for Supabase) if an app is using it.
    """
    folders = choose_folders(chosen.data_dir, chosen.key_dir)
    if place := place_of(chosen, folders, may_migrate=not is_dry):
        if not place.exists(may_be_made=False):
            raise Misconfigured(f"There is no store at {chosen.store}.")
        with _tables_copy(_open_to_copy(chosen, place, ring)) as tables:
            yield tables
    else:
        with _supabase_operator(chosen, folders).copy_source() as source:
            yield source


@contextmanager
def open_copy_target(
    chosen: Settings,
    ring: RootKeys,
    managed_password: Callable[[UserId], str | None],
    *,
    is_dry: bool,
) -> Generator[CopyTarget]:
    """Open the store that the settings name as the target of a copy.

    If *is_dry* and the store does not exist, open an in-memory store instead of creating the store.
    Raise Misconfigured if the store cannot be opened or created.
    """
    folders = choose_folders(chosen.data_dir, chosen.key_dir)
    if place := place_of(chosen, folders, may_migrate=not is_dry):
        from services.store.tables.in_memory import InMemoryStore

        is_new = not place.exists() and is_dry
        opened = InMemoryStore() if is_new else _open_to_copy(chosen, place, ring)
        with _tables_copy(opened) as tables:
            yield tables
    else:
        operator, keys = _supabase_operator(chosen, folders), ring.proof_keys()
        with operator.copy_target(keys, managed_password, is_dry=is_dry) as target:
            yield target


def _open_to_copy(chosen: Settings, place: StorePlace, ring: RootKeys) -> AllTables:
    """Open *place* for a command that copies, and lock it against apps. For json-plain, import no chats from the files."""
    return open_tables(place, ring, is_app=not chosen.is_plain, is_start=False)


@contextmanager
def _tables_copy(tables: AllTables) -> Generator[CopyTarget]:
    from services.store.tables.copying import TablesCopy

    with closing(tables):
        try:
            yield TablesCopy(tables)
        except StoreUnavailable as error:
            raise Misconfigured(error.public) from None


def _tables_operator(chosen: Settings, place: StorePlace, folders: Folders) -> Operator:
    from services.store.tables.operator import TablesOperator

    def opened() -> AllTables:
        if not place.exists(may_be_made=False):
            raise Misconfigured(f"There is no store at {chosen.store}: start Daybook once.")
        ring = read_root_keys(folders, chosen.root_keys_text, may_create=False)
        return open_tables(place, ring, is_app=False, is_start=False)

    return TablesOperator(place, opened)
