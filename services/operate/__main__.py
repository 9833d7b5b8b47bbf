"""The commands of `python -m services.operate`. A command that fails prints the reason, and exits with code 1."""

import base64
import math
import secrets
import sys
from collections.abc import Collection
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from services import settings
from services.crypto import RootKeys, new_key
from services.domain import ConversationId, UserId
from services.domain.addresses import EmailAddress, checked_address
from services.embedded.folders import Folders, choose_folders
from services.embedded.plan import read_root_keys, running_endpoints
from services.embedded.reports import address_notice
from services.errors import AppError, BadInput, Misconfigured
from services.operate import accounts
from services.operate.accounts import lookup_faults, open_account, opens
from services.operate.copying import Copying, check_source, managed_password
from services.operate.demo import DAYS, make_demo
from services.operate.demo_texts import NAMES
from services.operate.resealing import OpenedSource, SealingTarget, user_keys
from services.operate.telling import NO_MAIL, NOT_TOLD, TOLD, tell
from services.settings import Settings
from services.store.backend import StoredCredentials
from services.store.credentials import open_stored
from services.store.operator import MOST_NAMED, CopiedRows, Mark, PresentKeys, unchecked
from services.store.sign_in_policy import SignInPolicy
from services.store.tables.schema import CONVERSATIONS
from services.stores import is_same_store, open_copy_source, open_copy_target, open_operator

_MILLION = 1_000_000


class Commands(click.Group):
    """A group of commands that prints their errors as sentences, without tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AppError as error:
            click.echo(error.public, err=True)
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the whole first sentence of each command, which click cuts at the end of a line."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(1_000)) for name in self.commands]
            )


_ask = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")


def _make_sure(is_sure: bool, change: str) -> None:
    """Show *change*, which also says what brings it back, and ask on a terminal; elsewhere raise BadInput unless *is_sure*."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{change} To do so without being asked, add --yes.")
    click.echo(change)
    click.confirm("Go on?", abort=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def operate() -> None:
    """Operate a deployment of Daybook.

    A command acts on the store of DAYBOOK_STORE, else on the database of DATABASE_URL, else on the running embedded stack.
    """


@operate.command()
def migrate() -> None:
    """Bring the database of DATABASE_URL up to date, and make it accept the app's server proofs."""
    chosen = settings.read()
    if chosen.database_url is None and chosen.store is None:
        raise Misconfigured(
            "DATABASE_URL is missing: set it; a password that is not in it is asked for."
        )
    applied = open_operator(chosen).migrate(_root_keys(chosen).proof_keys())
    for version in applied:
        click.echo(f"Applied {version}.")
    click.echo("The database is up to date.")


@operate.command()
@click.argument("email", type=checked_address)
def grant_admin(email: EmailAddress) -> None:
    """Make the account EMAIL an admin."""
    open_operator(settings.read()).grant_admin(email)
    click.echo(f"{email} is an admin now.")


@operate.command()
@click.argument("email", type=checked_address)
def set_password(email: EmailAddress) -> None:
    """Ask for a new password of the account EMAIL, and sign it out everywhere."""
    chosen = settings.read()
    ring, operator = _root_keys(chosen), open_operator(chosen)
    is_confirmed = accounts.set_password(operator, ring, email, _new_password())
    click.echo(f"{email} has a new password, and is signed out everywhere.")
    _tell(chosen, email, is_confirmed=is_confirmed)


def _new_password() -> str:
    """Prompt for a new password on the terminal, or read it twice from piped input, one line each."""
    if sys.stdin.isatty():
        return click.prompt("New password", hide_input=True, confirmation_prompt=True)
    first, second = (sys.stdin.readline().rstrip("\n") for _ in range(2))
    if not first or first != second:
        raise BadInput("Type the password on a terminal, or pipe it in twice, as two equal lines.")
    return first


@operate.command()
@click.argument("email", type=checked_address)
@_ask
def free_address(email: EmailAddress, is_sure: bool) -> None:
    """Take EMAIL from an account that never confirmed it, so that the owner of EMAIL can sign up.

    The account keeps its chats and its password, gets a placeholder to sign in with, and is signed out everywhere.
    """
    chosen = settings.read()
    ring, operator = _root_keys(chosen), open_operator(chosen)
    _make_sure(
        is_sure,
        f"{email} is taken from its account. `set-address`, with the placeholder as OLD, brings it back as confirmed, unless "
        "somebody signs up with it first.",
    )
    placeholder = accounts.free_address(operator, ring, email)
    click.echo(
        f"{email} is free. Tell the user of its account, who is signed out everywhere, to sign in as {placeholder} "
        "with the same password."
    )


@operate.command()
@click.argument("email", type=checked_address)
@click.option("--passkeys", "drops_passkeys", is_flag=True, help="Remove its passkeys, too.")
@_ask
def reset_factors(email: EmailAddress, drops_passkeys: bool, is_sure: bool) -> None:
    """Remove the second factor of the account EMAIL, and sign it out everywhere.

    Use it for a user who has lost both the authenticator app and the recovery codes, and with --passkeys for a user who
    has also lost a passkey that sign-in asks for. Verify who is asking.
    """
    chosen = settings.read()
    operator, ring, keeps_passkeys = open_operator(chosen), _root_keys(chosen), not drops_passkeys
    lost = "second factor, recovery codes and passkeys"
    if not drops_passkeys:
        lost = "second factor and recovery codes"
    _make_sure(
        is_sure, f"{email} loses its {lost}. Nothing brings them back: the user sets up new ones."
    )
    is_confirmed = accounts.reset_factors(operator, ring, email, keeps_passkeys=keeps_passkeys)
    removed = "second factor and no passkey" if drops_passkeys else "second factor"
    click.echo(f"{email} has no {removed} any more, and is signed out everywhere.")
    _tell(chosen, email, is_confirmed=is_confirmed)


@operate.command()
@click.argument("email", metavar="OLD", type=checked_address)
@click.argument("new", metavar="NEW", type=checked_address)
@_ask
def set_address(email: EmailAddress, new: EmailAddress, is_sure: bool) -> None:
    """Change the address of an account from OLD to NEW, and sign it out everywhere.

    NEW, which may be OLD, then counts as confirmed: anyone who reads its mail can sign in by a code and reset the
    password. Verify who is asking.
    """
    chosen = settings.read()
    change = (
        f"{email} counts as confirmed. Nothing brings back that it was not."
        if new == email
        else f"{new} becomes the address of the account that has {email}. `set-address {new} {email}` brings the old one back, "
        "which then counts as confirmed; nothing brings back the account's former addresses."
    )
    _make_sure(is_sure, change)
    is_confirmed = accounts.set_address(open_operator(chosen), _root_keys(chosen), email, new)
    click.echo(
        f"{new} is the address of the account that had {email}, which is signed out everywhere."
    )
    for address in (email, new) if is_confirmed and chosen.mail_server else (new,):
        _tell(chosen, address, is_confirmed=True)


@operate.command()
@click.argument("old")
@click.argument("new")
@_ask
def move_issuer(old: str, new: str, is_sure: bool) -> None:
    """Link all accounts of the issuer OLD to the issuer NEW instead.

    Use it for a provider of single sign-on that keeps its users under a new issuer. The users are signed out everywhere.
    A command that was interrupted continues when it is run again.
    """
    chosen = settings.read()
    _make_sure(
        is_sure,
        f"All accounts that are linked to {old} are linked to {new} instead. `move-issuer {new} {old}` brings the links back, "
        f"and moves the accounts that are linked to {new} already, too.",
    )
    ring, moved, is_mailing, left = _root_keys(chosen), 0, True, list[str]()
    for one in accounts.move_issuer(open_operator(chosen), ring, old, new):
        if one.problem:
            left.append(f"{one.address}: {one.problem}")
            continue
        moved += 1
        mails = is_mailing and one.is_confirmed
        answer = tell(chosen.mail_server, one.address) if mails else TOLD
        if answer != TOLD:
            click.echo(f"{one.address}: {answer}", err=True)
        if answer in (NO_MAIL, NOT_TOLD):
            click.echo("No further user is told by mail.", err=True)
            is_mailing = False
    click.echo(f"{moved} accounts are linked to {new}, and signed out everywhere.")
    for line in left:
        click.echo(f"Not linked: {line}", err=True)
    if left:
        raise SystemExit(1)


def _tell(chosen: Settings, email: EmailAddress, *, is_confirmed: bool) -> None:
    if is_confirmed:
        click.echo(tell(chosen.mail_server, email))


@operate.command()
@click.argument("email", type=checked_address)
@_ask
def repair_sign_in(email: EmailAddress, is_sure: bool) -> None:
    """Have Supabase Auth recognise the account EMAIL again, and sign it out everywhere.

    Use it for an account whose correct password is refused after a change to Auth's users. The password stays the same.
    """
    chosen = settings.read()
    ring, operator = _root_keys(chosen), open_operator(chosen)
    stored, credentials = open_account(operator, ring, email)
    _make_sure(
        is_sure,
        f"{email} is signed out everywhere, and keeps its password: a new sign-in brings its user back in.",
    )
    operator.repair_sign_in(UserId(stored.id), email, credentials.managed_password)
    click.echo(f"{email} can sign in with the same password, and is signed out everywhere.")


def _number(context: click.Context, option: click.Parameter, amount: float | None) -> float | None:
    """Return *amount*. Refuse "nan" (not a number), which would pass every range check."""
    if amount is not None and math.isnan(amount):
        raise click.BadParameter("nan is not an amount.", context, option)
    return amount


class _Dollars(click.FloatRange):
    name = "amount in dollars"


class _Tokens(click.IntRange):
    name = "number of tokens"


_AMOUNT = _Dollars(min=0, max=1_000_000)
# the same maximum as on the Admin page, whose form would refuse a larger stored limit
_MOST_TOKENS = 10**12


@operate.command()
@click.argument("email", type=checked_address, required=False)
@click.option("--default", "is_default", is_flag=True, help="Of new accounts, not of EMAIL.")
@click.option(
    "--daily", type=_AMOUNT, metavar="AMOUNT", callback=_number, help="Dollars a day (UTC)."
)
@click.option(
    "--monthly",
    type=_AMOUNT,
    metavar="AMOUNT",
    callback=_number,
    help="Dollars a calendar month (UTC).",
)
@click.option(
    "--tokens",
    type=_Tokens(min=-1, max=_MOST_TOKENS),
    metavar="NUMBER",
    help="Tokens per day (UTC); -1: no limit.",
)
def limits(
    email: EmailAddress | None,
    daily: float | None,
    monthly: float | None,
    tokens: int | None,
    is_default: bool,
) -> None:
    """Show or set what the account EMAIL may use."""
    if is_default == (email is not None):
        raise BadInput("Name one account, or give --default for new accounts.")
    changes: dict[str, int | None] = {}
    if daily is not None:
        changes["daily_cap_micro"] = round(daily * _MILLION)
    if monthly is not None:
        changes["monthly_cap_micro"] = round(monthly * _MILLION)
    if tokens is not None:
        changes["daily_cap_tokens"] = None if tokens < 0 else tokens
    caps = open_operator(settings.read()).set_caps(email, changes)
    a_day, a_month = (
        f"${micro / _MILLION:,.2f}" for micro in (caps.daily_cap_micro, caps.monthly_cap_micro)
    )
    most_tokens = caps.daily_cap_tokens
    its_tokens = "" if most_tokens is None else f", {most_tokens:,} tokens a day"
    click.echo(f"{email or 'New accounts'}: {a_day} a day, {a_month} a month{its_tokens}.")


@operate.command()
@click.option("--all", "names_all", is_flag=True, help="Name all users whom a line counts.")
@click.option(
    "--mail-to",
    metavar="ADDRESS",
    type=checked_address,
    help="Have Supabase Auth send a mail to the account ADDRESS.",
)
def check(names_all: bool, mail_to: EmailAddress | None) -> None:
    """List what does not work in this deployment, and what to do; exit with 1 if anything fails."""
    chosen = settings.read()
    operator = open_operator(chosen)
    try:
        ring = _root_keys(chosen)
        keys = PresentKeys(
            ring.proof_keys(),
            ring.current,
            partial(opens, ring),
            partial(lookup_faults, ring),
            partial(_has_way_in, chosen, ring),
            partial(accounts.holds_refused_passkey, ring),
            most_named=None if names_all else MOST_NAMED,
        )
    except Misconfigured as error:
        keys = error.public
    sends_mail = chosen.mail_server is not None or chosen.prints_mail
    table = operator.check(keys, mail_to, sends_mail=sends_mail)
    # the command may lack a setting of the app, so it cannot tell that users sign in at this store
    if chosen.is_alone and "ways in" in table and table["ways in"][0] is Mark.NOTE:
        table |= unchecked("DAYBOOK_SIGN_IN=local", "ways in")
    if server := chosen.mail_server:
        from services.identity.mail import check as check_mail

        table["mail"] = check_mail(server)
    elif chosen.prints_mail:
        table["mail"] = (
            Mark.NOTE,
            "printed on the console of the app, not sent (DAYBOOK_MAIL=console)",
        )
    if chosen.providers:
        from services.identity.oidc import check as check_providers

        table["single sign-on"] = check_providers(chosen.providers)
    if notice := address_notice(chosen, "http://localhost"):
        table["address"] = Mark.NOTE, notice.sentence
    for name, (mark, text) in table.items():
        click.echo(f"{mark:<4}  {name:<13}  {text}")
    if any(mark is Mark.FAIL for mark, _ in table.values()):
        raise SystemExit(1)


def _has_way_in(chosen: Settings, ring: RootKeys, stored: StoredCredentials) -> bool:
    policy = None if chosen.is_alone else SignInPolicy.of(chosen)
    return chosen.is_plain or accounts.has_way_in(ring, policy, stored)


@operate.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the store to FILE, even while Daybook runs; an existing file is not replaced."""
    open_operator(settings.read()).backup(file.absolute())
    click.echo(f"{file} is a whole copy. The root key is not in it: keep that apart.")


@operate.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--dry-run", "is_dry", is_flag=True, help="Write nothing; count and compare.")
def copy(source: str, target: str, is_dry: bool) -> None:
    """Copy the whole store FROM into the store TO, while Daybook is stopped.

    FROM and TO are values of DAYBOOK_STORE, or `supabase`. A copy that was interrupted continues when the command is run
    again. Both stores open with the same root key.
    """
    chosen, other = _settings_at(source), _settings_at(target)
    if is_same_store(chosen, other):
        raise BadInput(
            f"{source} and {target} are one store. Copy into another; docs/stores.md says how an embedded Supabase moves "
            "to a hosted one."
        )
    if chosen.is_plain and other.store is None:
        raise BadInput(
            f"Copy {source} into a file first (sqlite:PATH), and that file into Supabase."
        )
    ring, opens_texts = _root_keys(chosen), other.is_plain and not chosen.is_plain
    broken = set[ConversationId]()
    with open_copy_source(chosen, ring, is_dry=is_dry) as stored:
        needs_addresses = not other.is_alone
        check_source(stored, ring, needs_addresses=needs_addresses, is_for_one=other.is_plain)
        opened, keys_of = stored, partial(user_keys, stored, ring)
        if opens_texts:
            opened = OpenedSource(stored, keys_of)
            broken = opened.check()
        passwords = partial(managed_password, stored, ring)
        with open_copy_target(other, ring, passwords, is_dry=is_dry) as copied:
            if chosen.is_plain and not other.is_plain:
                copied = SealingTarget(copied, keys_of)
            copying = Copying(opened, copied, is_dry)
            copying.run(lambda done, users: click.echo(f"users: {done} of {users}", err=True))
            chats = sum(len(stored.rows(CONVERSATIONS, one)) for one in stored.user_ids())
    counts = ", ".join(f"{count:,} {name}" for name, count in copying.counts.items() if count)
    verb = "To be copied" if is_dry else "Copied and compared"
    click.echo(f"{verb}: {counts or 'nothing, all is there'}.")
    if opens_texts:
        click.echo(
            f"Lost: the heads of {chats:,} chats, which show that no message was changed or left out."
        )
    elif chosen.is_plain and not other.is_plain:
        click.echo(f"New: the heads of {chats:,} chats, made of the texts as they are now.")
    for one in sorted(broken):
        click.echo(f"Incomplete in both stores: the chat {one}.")


def _settings_at(store: str) -> Settings:
    """Return the settings with *store* as DAYBOOK_STORE; "supabase": with DAYBOOK_STORE unset."""
    if store == "supabase":
        return settings.read(store=None, sign_in=None)
    return settings.read(store=store, supabase_url=None, supabase_key=None, database_url=None)


@operate.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Of all figures.")
def demo(seed: int) -> None:
    """Fill a deployment without accounts with 30 made-up people and 90 days of their use."""
    chosen = settings.read()
    if chosen.is_plain:
        raise BadInput("The demo is for stores of several people: name the folder as json:FOLDER.")
    ring, password = _root_keys(chosen), secrets.token_urlsafe(15)

    def make(now: datetime) -> CopiedRows:
        click.echo(f"Making up {len(NAMES)} people and {DAYS} days of their chats ...", err=True)
        rows = make_demo(ring, seed, password, now)
        click.echo(f"Storing {sum(map(len, rows.values())):,} rows ...", err=True)
        return rows

    open_operator(chosen).load(
        ring.proof_keys(), make, lambda stored: open_stored(ring, stored).managed_password
    )
    email = f"{NAMES[0]}@example.org"
    click.echo(f"Demo data created. Sign in as {email} with the password {password}")


@operate.command()
def new_root_key() -> None:
    """Print a fresh root key, for DAYBOOK_ROOT_KEYS. Keep it: without it nothing stored can be read."""
    click.echo(base64.urlsafe_b64encode(new_key()).decode())


@operate.command("root-keys")
def list_root_keys() -> None:
    """List who still needs an old root key, which therefore has to stay in DAYBOOK_ROOT_KEYS."""
    chosen = settings.read()
    current = _root_keys(chosen).current
    users = open_operator(chosen).root_key_users()
    click.echo(f"Root key {current}, the current one: {_count(users.get(current, ()))}.")
    for version in sorted({*users} - {current}):
        click.echo(f"Root key {version}: {_count(users[version])}, until they next sign in:")
        for email in users[version]:
            click.echo(f"  {email}")


def _count(users: Collection[str]) -> str:
    return f"{len(users)} user{'' if len(users) == 1 else 's'}"


@operate.command()
def address() -> None:
    """Print the address of a running app's embedded stack, for a second app process."""
    endpoints = running_endpoints(_folders(settings.read()).data)
    click.echo(f"SUPABASE_URL={endpoints.supabase_url}")
    click.echo(f"SUPABASE_KEY={endpoints.publishable_key}")


def _folders(chosen: Settings) -> Folders:
    return choose_folders(chosen.data_dir, chosen.key_dir)


def _root_keys(chosen: Settings) -> RootKeys:
    return read_root_keys(_folders(chosen), chosen.root_keys_text, may_create=False)


if __name__ == "__main__":
    operate(prog_name="python -m services.operate")
