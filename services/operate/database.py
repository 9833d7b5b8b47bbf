"""The connection to the database as the owner of its schema: over TLS, with no password on a command line."""

import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.errors import Misconfigured

_TLS = ("require", "verify-ca", "verify-full")
_CONNECT_SECONDS = 10


@contextmanager
def connected(url: str) -> Generator[psycopg.Connection]:
    """An autocommit connection; a password that *url* lacks is asked for. Raise Misconfigured, psycopg.Error."""
    conninfo = with_tls(url)
    try:
        connection = _connect(conninfo)
    except psycopg.OperationalError as error:
        if _families(str(conninfo_to_dict(url).get("host") or "")) == {socket.AF_INET6}:
            raise Misconfigured(
                "The host in DATABASE_URL has only an IPv6 address, and this machine does not reach it: "
                "take the session pooler's address (Supabase: Connect, Session pooler)."
            ) from error
        if not (error.pgconn and error.pgconn.needs_password):
            raise
        password = click.prompt("Password of the database", hide_input=True, err=True)
        connection = _connect(make_conninfo(conninfo, password=password))
    with connection:
        yield connection


def with_tls(url: str) -> str:
    """*url* as a conninfo string that wants TLS at least where its host is not this machine."""
    chosen = conninfo_to_dict(url)
    hosts = str(chosen.get("hostaddr") or chosen.get("host") or "").split(",")
    if chosen.get("sslmode") in _TLS or all(map(_is_loopback, hosts)):
        return url
    return make_conninfo(url, sslmode="require")  # a Unix socket is not troubled by it


def _connect(conninfo: str) -> psycopg.Connection:
    given: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS} | conninfo_to_dict(conninfo)
    # prepared statements do not survive a pooler
    return psycopg.connect(**given, autocommit=True, prepare_threshold=None)


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _families(host: str) -> set[int]:
    with suppress(OSError):
        return {int(family) for family, *_ in socket.getaddrinfo(host, None)}
    return set()
