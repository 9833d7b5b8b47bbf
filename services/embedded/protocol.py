"""The values that the app and its supervisor exchange over pipes: the plan down, reports up.

The supervisor imports no pydantic, which would take 11 MB and 0.2 s of its start: the plan travels pickled, as
`multiprocessing` would send it, and the app alone validates the reports, which travel as lines of JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from services.embedded.folders import Folders


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSecrets:
    """The secrets by which the parts of the stack trust each other. Kept out of reprs, and so of tracebacks."""

    postgres_password: str = field(repr=False)
    owner_password: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    publishable_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabasePlan:
    """A Postgres server with the Supabase API in front."""

    port: int
    secrets: StackSecrets = field(repr=False)
    # by version; the database holds these keys to check proofs of the app, and they decrypt nothing
    proof_keys: Mapping[int, bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A model server."""

    port: int
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Addresses and keys of the parts on this machine; None for a part that a deployment has elsewhere."""

    supabase_url: str | None = None
    publishable_key: str | None = field(default=None, repr=False)
    model_url: str | None = None
    model_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Folders, ports and secrets, the same for every supervisor that one app starts."""

    folders: Folders
    database: DatabasePlan | None
    model: ModelPlan | None

    @property
    def endpoints(self) -> Endpoints:
        database, model = self.database, self.model
        return Endpoints(
            supabase_url=database.url if database else None,
            publishable_key=database.secrets.publishable_key if database else None,
            model_url=f"http://127.0.0.1:{model.port}/v1" if model else None,
            model_key=model.key if model else None,
        )


class Stage(StrEnum):
    """The stages of a start; the value is shown after "Daybook is starting: "."""

    WAKING = "waking up"
    MODULES = "downloading Node modules, about 55 MB, once"
    DATABASE = "starting the database"
    TABLES = "preparing the tables"
    API = "starting the database's API"
    RECOVERING = "a part stopped and is being started again"


class ModelState(StrEnum):
    """The state of the model; the rest of the app waits for none of them."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # again and again; the supervisor tries once more every few minutes
    REMOTE = "remote"  # an endpoint elsewhere, which is not watched


@dataclass(frozen=True, slots=True)
class Starting:
    """The database or its API does not answer, yet or any more."""

    stage: Stage
    done: int = 0
    total: int = 0
    kind: Literal["starting"] = "starting"

    def __str__(self) -> str:
        return f"{self.stage} ({self.done} of {self.total})" if self.total else str(self.stage)


@dataclass(frozen=True, slots=True)
class Running:
    """The database and its API answer."""

    kind: Literal["running"] = "running"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem that the operator has to solve and the stack waits for; an empty sentence once it is solved."""

    sentence: str
    kind: Literal["trouble"] = "trouble"


@dataclass(frozen=True, slots=True)
class ModelReport:
    """The state of the model has changed."""

    state: ModelState
    kind: Literal["model"] = "model"


@dataclass(frozen=True, slots=True)
class Failed:
    """The stack has ended for good; the sentence says what to do."""

    sentence: str
    kind: Literal["failed"] = "failed"


Report = Starting | Running | Trouble | ModelReport | Failed
