"""The migrations of this version of Daybook, and the comparison of a database's with them.

The app compares without a connection of its own to the database: an answer that its start reads anyway has the newest
migration and one hash over all.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from services.errors import Misconfigured

FOLDER = Path(__file__).parents[3] / "db" / "migrations"
LACKS_MIGRATIONS = "The database lacks migrations of this version of Daybook: run `python -m services.operate migrate`, then start again."


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration: a file named `YYYYMMDDHHMMSS_name.sql`."""

    version: str
    name: str
    text: str

    @classmethod
    def read(cls, path: Path) -> "Migration":
        version, _, name = path.stem.partition("_")
        return cls(version, name, path.read_text(encoding="utf-8"))

    @property
    def stem(self) -> str:
        return f"{self.version}_{self.name}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read(folder: Path) -> list[Migration]:
    """Return the migrations in *folder*, in order."""
    return [Migration.read(path) for path in sorted(folder.glob("*.sql"))]


def newest_version() -> str:
    """Return the version of this code's newest migration, without reading the files."""
    return max(path.name for path in FOLDER.glob("*.sql")).partition("_")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchema:
    """The migrations of a database, as its answer names them; both empty if the database is older than such answers."""

    newest: str = ""  # the version of the newest migration
    sha256: str = ""  # over a line for each migration, in order: its version, a space and the sha256 of its file


class SchemaState(Enum):
    """The relation of a database's migrations to those of this version."""

    CURRENT = auto()  # the same
    EARLIER = auto()  # the newest of this version's are missing
    LATER = auto()  # the newest is not of this version
    OTHER = auto()  # the files were edited in place


def state_of(stored: StoredSchema, migrations: Sequence[Migration]) -> SchemaState:
    """Compare *stored* with *migrations*, those of this version in order."""
    last = migrations[-1].version
    if stored.newest > last:  # the hash covers files that this version does not have
        return SchemaState.LATER
    common = [migration for migration in migrations if migration.version <= stored.newest]
    if stored.sha256 != hash_of(common):
        return SchemaState.OTHER
    return SchemaState.CURRENT if stored.newest == last else SchemaState.EARLIER


def hash_of(migrations: Sequence[Migration]) -> str:
    """Return the hash of *migrations*, in order, as `StoredSchema.sha256` has it."""
    lines = [f"{migration.version} {migration.sha256}\n" for migration in migrations]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_schema(stored: StoredSchema) -> None:
    """Raise Misconfigured if the app cannot run on the *stored* schema: an earlier one, or one of other files."""
    match state_of(stored, read(FOLDER)):
        case SchemaState.EARLIER:
            raise Misconfigured(LACKS_MIGRATIONS)
        case SchemaState.OTHER:
            raise made_from_others("The database", is_embedded=False)
        case SchemaState.CURRENT | SchemaState.LATER:
            pass


def made_from_others(place: str, *, is_embedded: bool) -> Misconfigured:
    """Return the error for a database at *place* that was made from other files; it names the way that keeps the data."""
    copy = "`python -m services.operate copy supabase sqlite:FILE`"
    way = (
        f"start that version, and run its {copy} beside it; then move this folder aside (the key folder stays), start "
        "this version, and run `copy sqlite:FILE supabase` beside it"
        if is_embedded
        else f"run that version's {copy}; then, with this version, the same root keys and the settings of a new project, "
        "`migrate` and `copy sqlite:FILE supabase`"
    )
    return Misconfigured(
        f"{place} was made by another development version of Daybook, and was not touched. To keep what it stores: {way}."
    )
