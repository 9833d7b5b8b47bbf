"""`python -m services.operate`: each command does one thing, or says in a sentence why not (exit code 1)."""

import base64
import math
from typing import Any

import bcrypt
import click
import psycopg
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from services import settings
from services.crypto import RootKeys, new_key
from services.domain.addresses import EmailAddress, checked_address
from services.domain.limits import check_credentials
from services.embedded.folders import MIGRATIONS, Folders, choose_folders
from services.embedded.plan import read_root_keys, read_secrets, running_endpoints
from services.errors import AppError, BadInput, Misconfigured
from services.operate.check import UNCHECKED, Mark, check_api, check_database
from services.operate.database import connect
from services.operate.demo import fill
from services.settings import Settings
from services.store.supabase import migrations

_BCRYPT_ROUNDS = 10  # as Supabase Auth
_MILLION = 1_000_000
_UNKNOWN_ACCOUNT = "There is no account with this address: sign up, and sign in once."
_GRANT_ADMIN = "select private.change_role(null, private.find_account(%s), 'admin')"
_SET_CAPS = """
select daily_cap_micro, monthly_cap_micro, daily_cap_tokens
from private.change_caps(null, private.find_account(%s), %s)
"""
_SET_DEFAULT_CAPS = """
select daily_cap_micro, monthly_cap_micro, daily_cap_tokens from private.change_settings(null, %s)
"""


class Commands(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (AppError, psycopg.Error) as error:
            click.echo(_sentence(error), err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def operate() -> None:
    """Operate a deployment of Daybook."""


@operate.command()
def migrate() -> None:
    """Bring the database of DATABASE_URL up to date, and let it know the app's server key."""
    chosen = settings.read()
    if chosen.database_url is None:
        raise Misconfigured(
            "DATABASE_URL is missing: set it; a password that is not in it is asked for."
        )
    ring = _root_keys(chosen)
    with _database(chosen) as connection:
        applied = migrations.apply(connection, MIGRATIONS)
        migrations.install_server_keys(connection, ring.proof_keys())
        connection.execute("notify pgrst, 'reload schema'")  # PostgREST keeps a copy of it
    for version in applied:
        click.echo(f"Applied {version}.")
    click.echo("The database is up to date.")


@operate.command()
@click.argument("email", type=checked_address)
def grant_admin(email: EmailAddress) -> None:
    """Make the account EMAIL an admin; without DATABASE_URL, in the embedded stack that is running."""
    with _database(settings.read()) as connection:
        if connection.execute(_GRANT_ADMIN, [email]).fetchone() != (True,):
            raise BadInput(_UNKNOWN_ACCOUNT)
    click.echo(f"{email} is an admin now.")


@operate.command()
@click.argument("email", type=checked_address)
def set_password(email: EmailAddress) -> None:
    """Ask for a new password of the account EMAIL, and sign it out everywhere; the database as for grant-admin."""
    with _database(settings.read()) as connection:
        password: str = click.prompt("New password", hide_input=True, confirmation_prompt=True)
        check_credentials(email, password)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()
        [(is_set,)] = connection.execute("select private.set_password(%s, %s)", [email, hashed])
    if not is_set:
        raise BadInput(_UNKNOWN_ACCOUNT)
    click.echo(f"{email} has a new password, and is signed out everywhere.")


def _number(context: click.Context, option: click.Parameter, amount: float | None) -> float | None:
    """Return *amount*. Refuse "nan", which every range lets through."""
    if amount is not None and math.isnan(amount):
        raise click.BadParameter("nan is not an amount.", context, option)
    return amount


_AMOUNT = click.FloatRange(min=0, max=1_000_000)
_MOST_TOKENS = 10**15


@operate.command()
@click.argument("email", type=checked_address, required=False)
@click.option("--default", "is_default", is_flag=True, help="Of new accounts, not of EMAIL.")
@click.option("--daily", type=_AMOUNT, callback=_number, help="Dollars a day (UTC).")
@click.option("--monthly", type=_AMOUNT, callback=_number, help="Dollars a calendar month (UTC).")
@click.option(
    "--tokens",
    type=click.IntRange(min=-1, max=_MOST_TOKENS),
    help="Tokens per day (UTC); -1: no limit.",
)
def limits(
    email: EmailAddress | None,
    daily: float | None,
    monthly: float | None,
    tokens: int | None,
    is_default: bool,
) -> None:
    """Show or set what the account EMAIL may use; the database as for grant-admin."""
    if is_default == (email is not None):
        raise BadInput("Name one account, or give --default for new accounts.")
    changes: dict[str, int | None] = {}
    if daily is not None:
        changes["daily_cap_micro"] = round(daily * _MILLION)
    if monthly is not None:
        changes["monthly_cap_micro"] = round(monthly * _MILLION)
    if tokens is not None:
        changes["daily_cap_tokens"] = None if tokens < 0 else tokens
    with _database(settings.read()) as connection:
        if email is None:
            found = connection.execute(_SET_DEFAULT_CAPS, [Jsonb(changes)])
        else:
            found = connection.execute(_SET_CAPS, [email, Jsonb(changes)])
        [(*caps, most_tokens)] = found
    if None in caps:
        raise BadInput(_UNKNOWN_ACCOUNT)
    a_day, a_month = (f"${micro / _MILLION:,.2f}" for micro in caps)
    its_tokens = "" if most_tokens is None else f", {most_tokens:,} tokens a day"
    click.echo(f"{email or 'New accounts'}: {a_day} a day, {a_month} a month{its_tokens}.")


@operate.command()
def check() -> None:
    """Say what will not work as the deployment is, and what to do; exit with 1 if there is any."""
    chosen = settings.read()
    try:
        ring = _root_keys(chosen)
    except Misconfigured as error:
        ring = error.public
    table = dict(UNCHECKED)
    if chosen.supabase_url and chosen.supabase_key:
        table |= check_api(str(chosen.supabase_url).rstrip("/"), chosen.supabase_key, ring)
    elif not chosen.database_url:
        at = running_endpoints(_folders(chosen).data)
        table |= check_api(at.supabase_url or "", SecretStr(at.publishable_key or ""), ring)
    if chosen.database_url or not chosen.supabase_url:
        with _database(chosen) as connection:
            table |= check_database(connection)
    for name, (mark, text) in table.items():
        click.echo(f"{mark:<4}  {name:<13}  {text}")
    if any(mark is Mark.FAIL for mark, _ in table.values()):
        raise SystemExit(1)


@operate.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Of all figures.")
def demo(seed: int) -> None:
    """Fill a deployment without accounts with 30 made-up people and 90 days of their use; the database as for grant-admin."""
    chosen = settings.read()
    with _database(chosen) as connection:
        email, password = fill(connection, _root_keys(chosen), seed)
    click.echo(f"Demo data created. Sign in as {email} with the password {password}")


@operate.command()
def new_root_key() -> None:
    """Print a fresh root key, for DAYBOOK_ROOT_KEYS. Keep it: without it nothing stored can be read."""
    click.echo(base64.urlsafe_b64encode(new_key()).decode())


@operate.command()
def address() -> None:
    """Print where the embedded stack of a running app answers, for a second app process."""
    endpoints = running_endpoints(_folders(settings.read()).data)
    click.echo(f"SUPABASE_URL={endpoints.supabase_url}")
    click.echo(f"SUPABASE_KEY={endpoints.publishable_key}")


def _sentence(error: AppError | psycopg.Error) -> str:
    if isinstance(error, AppError):
        return error.public
    if isinstance(error, psycopg.OperationalError):  # its text may hold the address
        return "The database does not answer, or refuses the password or TLS: check DATABASE_URL."
    if error.diag.message_primary:
        return f"The database refused: {error.diag.message_primary}."
    return "DATABASE_URL cannot be read: it looks like postgresql://user:password@host/database."


def _folders(chosen: Settings) -> Folders:
    return choose_folders(chosen.data_dir, chosen.key_dir)


def _root_keys(chosen: Settings) -> RootKeys:
    configured = chosen.root_keys.get_secret_value() if chosen.root_keys else None
    return read_root_keys(_folders(chosen), configured, may_create=False)


def _database(chosen: Settings) -> psycopg.Connection:
    """Connect to the database of DATABASE_URL; without that, to that of the embedded stack that is running."""
    if chosen.database_url:
        return connect(chosen.database_url.get_secret_value())
    from services.embedded.postgres import Postgres  # needs the group `embedded`

    folders = _folders(chosen)
    running_endpoints(folders.data)  # or refuse
    return Postgres(folders, read_secrets(folders)).connect(as_owner=True)


if __name__ == "__main__":
    operate(prog_name="python -m services.operate")
