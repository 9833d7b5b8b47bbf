"""`python -m services.operate`: each command does one thing, or says in a sentence why not (exit code 1)."""

import base64
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

import bcrypt
import click
import psycopg
from pydantic import SecretStr

from services import embedded, settings
from services.crypto import RootKeys, new_key
from services.embedded import Folders
from services.embedded.folders import socket_folder
from services.embedded.keys import stack_secrets
from services.embedded.prepare import MIGRATIONS
from services.errors import AppError, BadInput, Misconfigured
from services.operate.check import ApiFacts, DatabaseFacts, Mark, findings
from services.operate.database import connected
from services.operate.facts import of_the_api, of_the_database
from services.settings import Settings
from services.store import migrations
from services.store.accounts import check_credentials

_BCRYPT_ROUNDS = 10  # as Supabase Auth
_NO_ACCOUNT = "There is no account with this address: sign up first."


class Sentence(click.ClickException):
    """What goes wrong on purpose, as click ends with it."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file, err=True)


class Commands(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AppError as error:
            raise Sentence(error.public) from error
        except psycopg.OperationalError as error:  # its text may hold the address
            raise Sentence(
                "The database does not answer, or refuses the password or TLS: check DATABASE_URL."
            ) from error
        except psycopg.Error as error:
            raise Sentence(_refusal(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def operate() -> None:
    """Operate a deployment of Daybook."""


@operate.command()
def migrate() -> None:
    """Bring the database of DATABASE_URL up to date, and let it know the app's server key."""
    chosen = settings.read()
    url = _secret(chosen)
    if url is None:
        raise Misconfigured(
            "DATABASE_URL is missing: set it; a password that is not in it is asked for."
        )
    ring = _root_keys(chosen)
    with connected(url) as connection:
        applied = migrations.apply(connection, MIGRATIONS)
        migrations.install_server_keys(
            connection, {version: ring.proof_key(version) for version in ring.versions()}
        )
        connection.execute("notify pgrst, 'reload schema'")  # PostgREST keeps a copy of it
    for version in applied:
        click.echo(f"Applied {version}.")
    click.echo("The database is up to date.")


@operate.command()
@click.argument("email")
def grant_admin(email: str) -> None:
    """Make the account EMAIL an admin; without DATABASE_URL, in the embedded stack that is running."""
    with _database(settings.read()) as connection:
        row = connection.execute(
            "with granted as ("
            " update private.roles set role = 'admin', granted_at = clock_timestamp()"
            " where user_id in (select id from auth.users where lower(email) = lower(%s))"
            " returning user_id)"
            " select private.note(null, 'role.set', user_id, '{\"role\": \"admin\"}') from granted",
            [email],
        ).fetchone()
    if row is None:
        raise BadInput(_NO_ACCOUNT)
    click.echo(f"{email} is an admin now.")


@operate.command()
@click.argument("email")
def set_password(email: str) -> None:
    """Ask for a new password of the account EMAIL, and sign it out everywhere; the database as for grant-admin."""
    with _database(settings.read()) as connection:
        password: str = click.prompt("New password", hide_input=True, confirmation_prompt=True)
        check_credentials(email, password)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()
        row = connection.execute("select private.set_password(%s, %s)", [email, hashed]).fetchone()
    if row != (True,):
        raise BadInput(_NO_ACCOUNT)
    click.echo(f"{email} has a new password, and is signed out everywhere.")


@operate.command()
def check() -> None:
    """Say what will not work as the deployment is, and what to do; exit with 1 if there is any."""
    chosen = settings.read()
    try:
        ring: RootKeys | str = _root_keys(chosen)
    except Misconfigured as error:
        ring = error.public
    table = findings(
        _api_facts(chosen, None if isinstance(ring, str) else ring),
        _database_facts(chosen),
        ring if isinstance(ring, str) else ring.versions(),
    )
    for finding in table:
        click.echo(f"{finding.mark:<4}  {finding.what:<13}  {finding.said}")
    if any(finding.mark is Mark.FAIL for finding in table):
        raise SystemExit(1)


@operate.command()
def new_root_key() -> None:
    """Print a fresh root key, for DAYBOOK_ROOT_KEYS. Keep it: without it nothing stored can be read."""
    click.echo(base64.urlsafe_b64encode(new_key()).decode())


@operate.command()
def address() -> None:
    """Print where the embedded stack of a running app answers, for a second app process."""
    endpoints = embedded.running_address(_folders(settings.read()).data)
    click.echo(f"SUPABASE_URL={endpoints.supabase_url}")
    click.echo(f"SUPABASE_KEY={endpoints.publishable_key}")


def _refusal(error: psycopg.Error) -> str:
    if error.diag.message_primary:
        return f"The database refused: {error.diag.message_primary}."
    return "DATABASE_URL cannot be read: it looks like postgresql://user:password@host/database."


def _secret(chosen: Settings) -> str | None:
    return chosen.database_url.get_secret_value() if chosen.database_url else None


def _folders(chosen: Settings) -> Folders:
    return embedded.chosen(chosen.data_dir, chosen.key_dir)


def _root_keys(chosen: Settings) -> RootKeys:
    given = chosen.root_keys.get_secret_value() if chosen.root_keys else None
    return embedded.prepare(
        _folders(chosen), root_keys=given, with_database=False, with_model=False
    ).root_keys


def _api_facts(chosen: Settings, ring: RootKeys | None) -> ApiFacts | None:
    """The facts of the API that is set, or of the running embedded one where nothing is set."""
    if chosen.supabase_url and chosen.supabase_key:
        return of_the_api(str(chosen.supabase_url).rstrip("/"), chosen.supabase_key, ring)
    if chosen.database_url:
        return None
    at = embedded.running_address(_folders(chosen).data)
    return of_the_api(at.supabase_url or "", SecretStr(at.publishable_key or ""), ring)


def _database_facts(chosen: Settings) -> DatabaseFacts | None:
    if chosen.supabase_url and not chosen.database_url:
        return None
    with _database(chosen) as connection:
        return of_the_database(connection)


def _database(chosen: Settings) -> AbstractContextManager[psycopg.Connection]:
    url = _secret(chosen)
    return connected(url) if url else _embedded_database(_folders(chosen))


@contextmanager
def _embedded_database(places: Folders) -> Generator[psycopg.Connection]:
    from services.embedded.postgres import (
        Postgres,
    )  # not on a server: it needs the group `embedded`

    embedded.running_address(places.data)  # or there is nobody to connect to
    postgres = Postgres(
        folder=places.database,
        socket_folder=socket_folder(places.database),
        log=places.logs / "postgres.log",
        secrets=stack_secrets(places.keys, places.database),
    )
    with postgres.connect(as_owner=True) as connection:
        yield connection


if __name__ == "__main__":
    operate(prog_name="python -m services.operate")
