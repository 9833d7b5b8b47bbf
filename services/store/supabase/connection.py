"""Connections to the database as the owner of its schema: over TLS, with no password on a command line."""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.domain.hosts import is_this_machine
from services.errors import Misconfigured

_TLS = ("require", "verify-ca", "verify-full")
_CONNECT_SECONDS = 10


def connector(url: str) -> Callable[[], psycopg.Connection]:
    """Return a function that connects in autocommit mode. If *url* lacks a needed password, the first call prompts for it.

    The function raises Misconfigured, psycopg.Error.
    """

    @cache
    def password() -> str:
        return click.prompt("Password of the database", hide_input=True, err=True)

    return lambda: _connect_with(url, password)


def _connect_with(url: str, password: Callable[[], str]) -> psycopg.Connection:
    conninfo = with_tls(url)
    try:
        return _connect(conninfo)
    except psycopg.OperationalError as error:
        if not (error.pgconn and error.pgconn.needs_password):
            host = str(conninfo_to_dict(url).get("host") or "")
            if not refusal_of(error) and _families(host) == {socket.AF_INET6}:
                raise Misconfigured(
                    "The database does not answer, or refuses the password or TLS: check DATABASE_URL. Its host has "
                    "only an IPv6 address: if this machine has none, take the session pooler's address "
                    "(Supabase: Connect, Session pooler)."
                ) from error
            raise
        return _connect(make_conninfo(conninfo, password=password()))


def refusal_of(error: psycopg.Error) -> str:
    """Return the reason for which Postgres refused a connection; "" if it gave none. The reason has no part of the URL's secret."""
    # only the text of the error has it: the library knows it as an error of the connection
    reason = str(error).partition("FATAL:")[2]
    return reason.partition("\n")[0].strip()


def with_tls(url: str) -> str:
    """Return *url* as a conninfo string that requires TLS unless every host is this machine."""
    options = conninfo_to_dict(url)
    hosts = str(options.get("hostaddr") or options.get("host") or "").split(",")
    if options.get("sslmode") in _TLS or all(map(is_this_machine, hosts)):
        return url
    return make_conninfo(url, sslmode="require")  # a Unix socket ignores sslmode


def _connect(conninfo: str) -> psycopg.Connection:
    options: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS} | conninfo_to_dict(conninfo)
    # no prepared statements (prepare_threshold), because they do not work through a pooler
    return psycopg.connect(**options, autocommit=True, prepare_threshold=None)


def _families(host: str) -> set[int]:
    with suppress(OSError):
        return {int(family) for family, *_ in socket.getaddrinfo(host, None)}
    return set()
