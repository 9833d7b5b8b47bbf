"""The operator's commands, and the sentences that they print."""

import base64
import itertools
import json
import os
import re
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from services.crypto import (
    Credentials,
    Factor,
    FormerAddress,
    RootKeys,
    ServerProof,
    managed_password,
    new_key,
)
from services.domain.accounts import CredentialsAction
from services.domain.passkeys import Passkey, Passkeys
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import (
    AddressNotPlain,
    BadAddress,
    BadInput,
    SignedOut,
    SignInBroken,
    WeakPassword,
    WrongCredentials,
)
from services.operate.__main__ import operate
from services.store.credentials import seal_stored
from services.store.supabase.connection import with_tls
from services.store.supabase.operator import SupabaseOperator
from tests.conftest import RunningStack
from tests.database import servers
from tests.database.conftest import ROOT_KEY
from tests.database.people import psycopg_world
from tests.database.test_migrations import VERSIONS
from tests.parts import POSTGRES
from tests.stack.apps import ROOT
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.stores import NOT_COUNTED
from tests.sure import sure

pytestmark = pytest.mark.usefixtures("cheap_passwords")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command with only the given settings, and returns its exit code and its output."""

    def run(*arguments, typed="", **environment):
        ours = ("DAYBOOK_", "DATABASE_", "SUPABASE_", "OPENAI_")
        nothing = {name: None for name in os.environ if name.startswith(ours)}
        folders = {"DAYBOOK_DATA_DIR": tmp_path / "data", "DAYBOOK_KEY_DIR": tmp_path / "keys"}
        given = nothing | {name: str(path) for name, path in folders.items()} | environment
        result = CliRunner().invoke(operate, sure(arguments), input=typed, env=given)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output.strip()

    return run


def places(stack):
    """Return the settings with which a command finds the embedded stack."""
    return {"DAYBOOK_DATA_DIR": str(stack.data), "DAYBOOK_KEY_DIR": str(stack.keys)}


def with_keys(stack):
    """Return the settings of either backend, and its root keys."""
    if isinstance(stack, RunningStack):
        return places(stack) | {"DAYBOOK_ROOT_KEYS": stack.root_keys}
    return stack.environment() | {"DATABASE_URL": stack.address}


INSERT = (
    "insert into private.credentials (id, user_id, lookup, sealed, generation)"
    " values (%(id)s, %(user_id)s, %(lookup)s, %(sealed)s, %(generation)s)"
)


def credentials(email, is_pending=False):
    """Return credentials without a password."""
    return Credentials(
        address=email,
        password_hash=None,
        account_secret=None if is_pending else new_key(),
        managed_password=managed_password(),
        generation=1,
    )


@pytest.fixture(params=["stack", "hosted"])
def backend(request):
    """Each backend of Supabase in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def empty(server):
    """A database with Supabase's roles and schema, but without our tables."""
    address = servers.new_database(server, "operated")
    servers.lay_ground(address)
    yield address
    servers.drop_database(server, "operated")


def test_migrate_refuses_earlier_database_without_naming_its_password(run, migrated):
    with psycopg.connect(migrated, autocommit=True) as admin:
        admin.execute("update private.migrations set sha256 = repeat('0', 64)")
        place = f"The database {admin.info.dbname} on {admin.info.host} was made by another"

    url = f"{servers.as_owner(migrated)} password=pw-7781"
    code, said = run("migrate", DATABASE_URL=url, DAYBOOK_ROOT_KEYS=ROOT_KEY)

    assert (code, said.startswith(place), "pw-7781" in said) == (1, True, False)


@pytest.mark.parametrize("version", ["Debian's", 16, 18])
def test_migrate_works_on_each_postgres_twice(run, version):
    proof = ServerProof(RootKeys.parse(ROOT_KEY).proof_key())
    with servers.started(POSTGRES.required() if version == "Debian's" else version) as server:
        # roles of the server that the first database needed must not disturb the second
        for name in ("first", "second"):
            address = servers.new_database(server, name)
            servers.lay_ground(address)
            environment = {"DATABASE_URL": servers.as_owner(address), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

            first, second = run("migrate", **environment), run("migrate", **environment)

            last = "The database is up to date."
            assert first == (0, "\n".join([*(f"Applied {one}." for one in VERSIONS), last]))
            assert second == (0, last)
            with psycopg.connect(address, autocommit=True) as admin:
                maya = psycopg_world(admin, proof).person()
                garden = maya.create_conversation()
                assert maya.finish(maya.begin(garden)["turn"], 1, 5)["saved"]
                assert maya.call("discard_conversation", conversation=garden)["ok"]


def test_documented_backup_is_restored_whole(run, tmp_path):
    version = POSTGRES.required()
    document = (ROOT / "docs" / "deploy.md").read_text()
    dump, restore = (
        re.search(rf"^    {program} (?:.*\\\n)*.*", document, re.M).group()
        for program in ("pg_dump", "psql")
    )
    proof = ServerProof(RootKeys.parse(ROOT_KEY).proof_key())
    with servers.started(version) as server:

        def project(name):
            address = servers.new_database(server, name)
            servers.lay_ground(address)
            environment = {"DATABASE_URL": servers.as_owner(address)}
            assert run("migrate", DAYBOOK_ROOT_KEYS=ROOT_KEY, **environment)[0] == 0
            return address, environment | {"PATH": f"{servers.binaries(version)}:{os.defpath}"}

        lost, environment = project("lost")
        with psycopg.connect(lost, autocommit=True) as admin:
            world = psycopg_world(admin, proof)
            maya = world.make_admin(world.person())
            garden = maya.create_conversation()
            maya.finish(maya.begin(garden)["turn"], 1, 400)
            maya.call("set_deployment_cap", new_monthly_cap_micro=7_000_000)
            interrupted = world.make_person(world)  # has no account
            before = world.contents()
            said = subprocess.run(
                ["/bin/sh", "-c", dump],
                check=True,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            ).stderr
        assert said.count("circular foreign-key constraints") == 3
        circles = [
            set(re.findall(r"detail: (\w+)", warning)) for warning in said.split("warning: ")[1:]
        ]
        assert sorted(circles, key=sorted) == [
            {"conversations", "documents"},
            {"documents"},
            {"messages"},
        ]
        assert "three warnings of circular keys, in `conversations` and `documents`" in document
        found, environment = project("found")
        with psycopg.connect(found, autocommit=True) as admin:
            # on hosted Supabase, an extension lets `postgres` set this
            admin.execute(f"grant set on parameter session_replication_role to {servers.OWNER}")
            subprocess.run(["/bin/sh", "-c", restore], check=True, cwd=tmp_path, env=environment)

            world = psycopg_world(admin, proof)
            after = world.contents()
            left_out = {"private.migrations", "private.server_keys", "private.app_sessions"}
            assert {table for table in before if before[table] != after[table]} == left_out
            lines = (tmp_path / "daybook.sql").read_text().splitlines()
            begin = next(line for line in lines if line.startswith("COPY private.credentials "))
            row = next(
                line for line in lines[lines.index(begin) :] if line.startswith(str(maya.id))
            )
            (tmp_path / "row.sql").write_text(f"{begin}\n{row}\n\\.\n")
            admin.execute("delete from private.credentials where user_id = %s", [maya.id])
            put_back = ["psql", f"--dbname={environment['DATABASE_URL']}", "--file=row.sql"]
            subprocess.run(put_back, check=True, cwd=tmp_path, env=environment)
            assert world.contents() == after
            omar = world.person()  # new numbers follow the last copied one
            assert omar.finish(omar.begin(omar.create_conversation())["turn"], 1, 5)["saved"]
            address = f"{interrupted.id}@daybook.test"
            assert world.anon.call("end_stranger", address=address)["ok"]


def test_migrate_reads_root_key_from_keys_folder(run, empty, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "root.key").write_text(ROOT_KEY)

    assert run("migrate", DATABASE_URL=servers.as_owner(empty))[0] == 0


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "DATABASE_URL is missing: set it; a password that is not in it is asked for."),
        (
            "postgresql://me:pw-7781@127.0.0.1:9/db",
            "The database does not answer, or refuses the password or TLS: check DATABASE_URL.",
        ),
        (
            "postgresql://me:pw-7781@[2001:db8::1]/db?connect_timeout=1",
            "The database does not answer, or refuses the password or TLS: check DATABASE_URL. Its host has "
            "only an IPv6 address: if this machine has none, take the session pooler's address "
            "(Supabase: Connect, Session pooler).",
        ),
        (
            "pw-7781",
            "DATABASE_URL cannot be read: it looks like postgresql://user:password@host/database.",
        ),
    ],
)
def test_wrong_address_ends_migrate_with_a_sentence(run, url, sentence):
    assert run("migrate", DATABASE_URL=url, DAYBOOK_ROOT_KEYS=ROOT_KEY) == (1, sentence)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dbname": "postgrs"}, 'database "postgrs" does not exist'),
        ({"user": "postgrs"}, 'role "postgrs" does not exist'),
    ],
)
def test_refusal_of_a_connection_keeps_the_reason_of_postgres(run, migrated, change, reason):
    url = make_conninfo(servers.as_owner(migrated), password="pw-7781", **change)

    said = run("migrate", DATABASE_URL=url, DAYBOOK_ROOT_KEYS=ROOT_KEY)

    assert said == (1, f"The database refused: {reason}.")


def test_refusal_of_a_running_database_is_told(run, migrated):
    url = f"{servers.as_owner(migrated)} options='-c lock_timeout=50'"
    with psycopg.connect(migrated) as other:
        other.execute("lock table auth.users")
        said = run("grant-admin", "maya@daybook.test", DATABASE_URL=url)

    assert said == (1, "The database refused: canceling statement due to lock timeout.")


def test_weak_root_key_ends_migrate_with_a_sentence(run):
    code, said = run("migrate", DATABASE_URL="postgresql:///", DAYBOOK_ROOT_KEYS="pw-7781")

    assert (code, said.partition(" in ")[0], "pw-7781" in said) == (1, "The root key", False)


@pytest.mark.parametrize(
    ("host", "sslmode"),
    [
        ("127.0.0.1", None),
        ("localhost", None),
        ("db.example.org", "require"),
        ("127.0.0.1,db.example.org", "require"),
        ("db.example.org?sslmode=prefer", "require"),
        ("db.example.org?sslmode=verify-full", "verify-full"),
        ("localhost?hostaddr=192.0.2.1", "require"),
    ],
)
def test_remote_database_requires_tls(host, sslmode):
    chosen = conninfo_to_dict(with_tls(f"postgresql://me@{host.replace('?', '/?')}"))

    assert chosen.get("sslmode") == sslmode


def test_password_missing_from_url_is_asked_for(run, stack):
    url = f"postgresql://daybook_owner@/daybook?host={stack.postgres.socket_folder}"
    password = stack.postgres.secrets.owner_password

    said = run("migrate", DATABASE_URL=url, DAYBOOK_ROOT_KEYS=stack.root_keys, typed=password)

    assert said == (0, "Password of the database: \nThe database is up to date.")


def test_password_of_the_database_is_asked_for_once_a_command(run, stack):
    sessions, email = make_sessions(stack), new_email()
    sessions.sign_up_with(email, PASSWORD)
    sessions.backend.gateway.http.close()
    url = f"postgresql://daybook_owner@/daybook?host={stack.postgres.socket_folder}"
    keys, typed = stack.root_keys, stack.postgres.secrets.owner_password

    said = run(
        "set-address", email, new_email(), DATABASE_URL=url, DAYBOOK_ROOT_KEYS=keys, typed=typed
    )

    assert said[0] == 0
    assert said[1].count("Password of the database") == 1


def test_password_is_asked_for_at_an_ipv6_address(run):
    def ask():
        for _ in range(2):
            client = server.accept()[0]
            with client:
                client.recv(1024)
                client.sendall(b"R" + struct.pack("!II", 8, 3))  # Postgres asks for a password
                client.recv(1024)

    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        ThreadPoolExecutor() as threads,
    ):
        server.settimeout(10)
        asking = threads.submit(ask)
        url = f"postgresql://me@[::1]:{server.getsockname()[1]}/db?sslmode=disable"
        said = run("migrate", DATABASE_URL=url, DAYBOOK_ROOT_KEYS=ROOT_KEY, typed="pw-7781")[1]
        assert said.startswith("Password of the database: \nThe database does not answer")
        asking.result()


def test_migrate_has_postgrest_reload_the_schema(run, empty):
    with psycopg.connect(empty, autocommit=True) as listener:
        listener.execute("listen pgrst")

        run("migrate", DATABASE_URL=servers.as_owner(empty), DAYBOOK_ROOT_KEYS=ROOT_KEY)

        heard = [notice.payload for notice in listener.notifies(timeout=60, stop_after=1)]
    assert heard == ["reload schema"]


def test_migrate_without_a_root_key_touches_nothing(run, empty):
    code, sentence = run("migrate", DATABASE_URL=servers.as_owner(empty))

    assert (code, sentence.split(":")[0]) == (1, "The root key is missing")
    with psycopg.connect(empty) as admin:
        assert admin.execute("select to_regnamespace('private')").fetchone() == (None,)


def test_check_passes_after_a_sign_in(run, backend):
    sessions = make_sessions(backend)
    with sessions.backend.gateway.http:
        sessions.sign_up_with(new_email(), PASSWORD)

    _, said = run("check", **with_keys(backend))

    # other tests create accounts there without credentials, or without a way in
    judged = [one for one in said.splitlines() if not {"credentials", "ways"} & {*one.split()}]
    lines = [line.split(maxsplit=2)[:2] for line in judged]
    assert [mark for mark, _ in lines] == ["ok"] * 10, said
    assert "root keys      stored data needs root key 1\n" in said
    assert "access tokens  good for 3600 s" in said


def test_wrong_root_key_is_the_one_cause_that_check_names(run, world, migrated):
    world.person()
    wrong = base64.urlsafe_b64encode(new_key()).decode()

    code, said = run("check", DATABASE_URL=servers.as_owner(migrated), DAYBOOK_ROOT_KEYS=wrong)

    failed = [line for line in said.splitlines() if line.startswith("FAIL")]
    cause = "root key 1 is not the one that this data was encrypted with: put the right one back"
    assert (code, failed) == (1, [f"FAIL  root keys      {cause}"])
    for name in ("credentials", "ways in", "look-ups"):
        assert f"?     {name:<13}  not checked: needs the root keys" in said


def test_root_key_before_its_migrate_is_named(run, world, migrated):
    world.person()
    other = base64.urlsafe_b64encode(new_key()).decode()
    ring = json.dumps({"current": 2, "keys": {"1": ROOT_KEY, "2": other}})

    said = run("check", DATABASE_URL=servers.as_owner(migrated), DAYBOOK_ROOT_KEYS=ring)[1]

    cause = "the database does not know root key 2: run `migrate` with these root keys"
    assert f"FAIL  root keys      {cause}" in said


def test_check_tells_another_project_from_other_root_keys(run, hosted, migrated):
    """The API is of one project, the database of another."""
    environment = hosted.environment() | {"DAYBOOK_ROOT_KEYS": ROOT_KEY}

    said = run("check", **environment, DATABASE_URL=servers.as_owner(migrated))[1]

    assert "which are those of the database: SUPABASE_URL is of another project" in said


def test_check_has_supabase_auth_send_a_mail_only_if_asked(run, hosted):
    sessions, email, unknown = make_sessions(hosted), new_email(), new_email()
    with sessions.backend.gateway.http:
        sessions.sign_up_with(email, PASSWORD)

    def line(*arguments, **auth):
        with hosted.auth(**auth):
            said = run("check", *arguments, **with_keys(hosted))[1]
        return [" ".join(line.split()) for line in said.splitlines() if "Auth's mail" in line]

    needs = "needs a mail (--mail-to ADDRESS, of an account)"
    assert line(confirms=True) == [f"? Auth's mail not checked: {needs}"]
    accepted = f"ok Auth's mail accepted for {email}: see whether it arrives"
    assert line("--mail-to", email, confirms=True) == [accepted]
    [broken] = line("--mail-to", email, confirms=True, is_mail_broken=True)
    assert broken.startswith("FAIL Auth's mail Supabase Auth's mail server refuses")
    assert line() == []
    [unused] = line("--mail-to", email)
    assert unused.endswith("Supabase Auth sends none, because Confirm email is off")
    code, said = run("check", "--mail-to", unknown, **with_keys(hosted))
    assert (code, said.partition(":")[0]) == (1, "There is no account with this address")
    with hosted.connect() as database:
        made = "select count(*) from auth.users where email = %s"
        assert database.execute(made, [unknown]).fetchone() == (0,)


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"SUPABASE_URL": None, "SUPABASE_KEY": None}, "SUPABASE_URL and SUPABASE_KEY"),
        ({"SUPABASE_KEY": "sb_publishable_wrong"}, "a key that the API takes"),
        ({"SUPABASE_URL": "http://127.0.0.1:9"}, "Supabase Auth"),
    ],
)
def test_check_says_why_no_mail_was_asked_for(run, hosted, changes, needs):
    sessions, email = make_sessions(hosted), new_email()
    with sessions.backend.gateway.http:
        sessions.sign_up_with(email, PASSWORD)

    said = run("check", "--mail-to", email, **with_keys(hosted) | changes)[1]

    [mail] = [" ".join(line.split()) for line in said.splitlines() if "Auth's mail" in line]
    assert mail == f"? Auth's mail not checked: needs {needs}"


def test_check_names_the_foreign_users_of_supabase_auth(run, world, migrated):
    emails = [f"foreign-{number}@corp.example" for number in range(4)]
    older = (
        "insert into auth.users (id, email, created_at) values (%s, %s, now() - interval '1 day')"
    )
    for email in emails:
        world.admin.execute(older, [uuid4(), email])
    environment = {"DATABASE_URL": servers.as_owner(migrated), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

    some, every = (run("check", *all_, **environment)[1] for all_ in ((), ("--all",)))

    text = "4 of Supabase Auth are not Daybook's, and cannot use it"
    assert f"{text} ({', '.join(emails[:3])}, …): give it" in some
    assert f"{text} ({', '.join(emails)}): give it" in every


def test_migrate_without_a_needed_root_key_names_it(run, world, migrated):
    world.person()
    other = base64.urlsafe_b64encode(new_key()).decode()
    ring = json.dumps({"current": 2, "keys": {"2": other}})

    code, said = run("migrate", DATABASE_URL=servers.as_owner(migrated), DAYBOOK_ROOT_KEYS=ring)

    assert (code, said.partition(",")[0]) == (1, "Root key 1 is missing")
    with psycopg.connect(migrated) as database:
        accepted = "select array_agg(id) from private.server_keys where retired_at is null"
        assert database.execute(accepted).fetchone() == ([1],)


def test_root_keys_lists_who_needs_an_old_one(run, backend):
    sessions, email = make_sessions(backend), new_email()
    with sessions.backend.gateway.http:
        sessions.sign_up_with(email, PASSWORD)
    environment = with_keys(backend)
    other = base64.urlsafe_b64encode(new_key()).decode()
    ring = {"current": 2, "keys": {"1": environment["DAYBOOK_ROOT_KEYS"], "2": other}}

    code, said = run("root-keys", **environment | {"DAYBOOK_ROOT_KEYS": json.dumps(ring)})

    first, second, *named = said.splitlines()
    assert (code, first) == (0, "Root key 2, the current one: 0 users.")
    assert re.fullmatch(r"Root key 1: \d+ users?, until they next sign in:", second)
    assert f"  {email}" in named


def test_check_names_users_whose_credentials_do_not_open(run, world, migrated):
    maya, omar = world.person(), world.person()
    ring = RootKeys.parse(ROOT_KEY)

    def finding():
        environment = {"DATABASE_URL": servers.as_owner(migrated), "DAYBOOK_ROOT_KEYS": ROOT_KEY}
        lines = run("check", **environment)[1].splitlines()
        return [line for line in lines if "  credentials  " in line]

    delete = "delete from private.credentials where user_id = %s"
    for person, email in ((maya, "maya@daybook.test"), (omar, "omar@daybook.test")):
        world.admin.execute(delete, [person.id])
        world.admin.execute(INSERT, asdict(seal_stored(ring, credentials(email), person.id)))
    assert finding() == ["ok    credentials    all users' open"]
    swapped = "update private.credentials set lookup = reverse(lookup) where user_id = %s"
    world.admin.execute(swapped, [omar.id])
    assert finding()[0].startswith(
        f"FAIL  credentials    those of 1 are missing or do not open ({omar.id})"
    )
    world.admin.execute(delete, [maya.id])
    both = ", ".join(sorted([str(maya.id), str(omar.id)]))
    assert f"those of 2 are missing or do not open ({both})" in finding()[0]
    world.admin.execute(swapped, [omar.id])
    world.admin.execute(
        INSERT, asdict(seal_stored(ring, credentials("maya@daybook.test"), maya.id))
    )
    assert finding() == ["ok    credentials    all users' open"]
    flag = "update private.credentials set wants_factor = true where user_id = %s"
    world.admin.execute(flag, [omar.id])
    assert f"those of 1 are missing or do not open ({omar.id})" in finding()[0]


def test_check_compares_former_addresses_with_the_credentials(run, world, migrated):
    maya, gone = world.person(), world.person()
    ring, insertion = (
        RootKeys.parse(ROOT_KEY),
        ("insert into private.lookups (lookup, user_id) values (%s, %s)"),
    )
    until = datetime.now(UTC) + timedelta(hours=72)
    former = FormerAddress(address="old@daybook.test", until=until, ways_in={})
    stored = seal_stored(ring, replace(credentials("maya@daybook.test"), former=(former,)), maya.id)
    [lookup] = ring.former_address_tags("old@daybook.test").values()

    def finding(name="look-ups"):
        environment = {"DATABASE_URL": servers.as_owner(migrated), "DAYBOOK_ROOT_KEYS": ROOT_KEY}
        lines = run("check", **environment)[1].splitlines()
        return [line for line in lines if f"  {name}  " in line]

    world.admin.execute("delete from private.credentials where user_id = %s", [maya.id])
    world.admin.execute(INSERT, asdict(stored))
    missing = "a former address, identity or passkey that the credentials name is not reserved"
    assert finding()[0].startswith(f"FAIL  look-ups       {missing} ({maya.id}): ")

    world.admin.execute(insertion, [lookup, maya.id])
    assert finding() == [
        "ok    look-ups       former addresses, identities and passkeys are as the credentials have them"
    ]

    gone.call("delete_account", person=gone.id)
    world.admin.execute(insertion, ["a" * 64, gone.id])
    assert str(gone.id) not in finding("credentials")[0]  # which a deleted user has not
    unnamed = "a former address, identity or passkey is reserved that the credentials do not name"
    assert finding()[0].startswith(f"FAIL  look-ups       {unnamed} ({gone.id}): ")

    world.admin.execute("update private.lookups set expires_at = now()")
    assert missing in finding()[0]
    assert unnamed not in finding()[0]

    world.admin.execute("update private.lookups set expires_at = null")
    assert unnamed in finding()[0]
    assert missing not in finding()[0]


def test_failed_check_exits_with_one_and_advice(run, empty):
    nothing = run("check", DATABASE_URL=servers.as_owner(empty))
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute("create schema private")
    strange = run("check", DATABASE_URL=servers.as_owner(empty))
    refused = run("migrate", DATABASE_URL=servers.as_owner(empty), DAYBOOK_ROOT_KEYS=ROOT_KEY)

    sentence = "This database has a schema private that is not Daybook's, and was not touched: "
    assert (nothing[0], strange[0], refused[0]) == (1, 1, 1)
    for name in ("API key", "sign-up", "max rows"):
        assert f"?     {name:<13}  not checked: needs SUPABASE_URL and SUPABASE_KEY" in nothing[1]
    assert f"FAIL  schema         lacks {', '.join(VERSIONS)}: run `migrate`" in nothing[1]
    assert f"FAIL  schema         {sentence}" in strange[1]
    assert refused[1].startswith(sentence)


@pytest.mark.parametrize("is_embedded", [False, True])
def test_admin_is_granted_by_address(run, request, is_embedded):
    world = request.getfixturevalue("api_world" if is_embedded else "world")
    maya = world.person()
    email = world.one("select email from auth.users where id = %s", maya.id)
    if is_embedded:
        environment = places(request.getfixturevalue("stack"))
    else:
        environment = {"DATABASE_URL": servers.as_owner(request.getfixturevalue("migrated"))}

    for _ in range(2):
        assert run("grant-admin", email.upper(), **environment) == (0, f"{email} is an admin now.")

    assert maya.call("my_account")["role"] == "admin"
    noted = "select actor, detail from private.audit where action = 'role.set' and target = %s"
    assert world.admin.execute(noted, [maya.id]).fetchall() == [(None, {"role": ["user", "admin"]})]


def test_set_password_ends_sessions_and_accepts_new_password(run, backend):
    sessions, email = make_sessions(backend), new_email()
    cookie, maya = sessions.sign_up_with(email, PASSWORD)
    new_password = "another horse battery staple"

    code, said = run(
        "set-password", email.upper(), typed=f"{new_password}\n" * 2, **with_keys(backend)
    )

    assert (code, new_password in said) == (0, False)
    assert said.endswith(f"{email} has a new password, and is signed out everywhere.")
    with pytest.raises(SignedOut):
        sessions.open(cookie)
    with pytest.raises(WrongCredentials):
        sessions.sign_in_with(email, PASSWORD)
    assert sessions.sign_in_with(email, new_password)[1].user_id == maya.user_id
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        noted = "select actor from private.audit where action = 'password.set' and target = %s"
        assert database.execute(noted, [maya.user_id]).fetchall() == [(None,)]


def test_reset_factors_removes_them_and_ends_sessions(run, backend):
    sessions, email = make_sessions(backend), new_email()
    cookie, maya = sessions.sign_up_with(email, PASSWORD)
    refused = run("reset-factors", email, **with_keys(backend))
    current, factor = sessions.current(cookie), Factor(secret=bytes(20), since=datetime.now(UTC))
    new = replace(current.credentials, factor=factor, generation=2)
    assert sessions.change_credentials(maya, new, current.stored, CredentialsAction.FACTOR_ADDED)

    code, said = run("reset-factors", email, **with_keys(backend))

    assert (refused[0], "no second factor" in refused[1]) == (1, True)
    assert code == 0
    assert said.endswith(f"{email} has no second factor any more, and is signed out everywhere.")
    with pytest.raises(SignedOut):
        sessions.open(cookie)
    assert sessions.sign_in_with(email, PASSWORD)[1].user_id == maya.user_id
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        noted = "select actor from private.audit where action = 'factor.remove' and target = %s"
        assert database.execute(noted, [maya.user_id]).fetchall() == [(None,)]


def test_reset_factors_names_passkeys_and_removes_them_if_asked(run, backend):
    sessions, email = make_sessions(backend), new_email()
    cookie, maya = sessions.sign_up_with(email, PASSWORD)
    current, key = sessions.current(cookie), email.encode()
    made = {"rp_id": "daybook.test", "created_at": NOON, "verifies_user": True, "sign_count": 0}
    passkey = Passkey(credential_id=key, public_key=b"key", name="Laptop", **made)
    passkeys = Passkeys(user_handle=bytes(64), each=(passkey,))
    new = replace(current.credentials, passkeys=passkeys, generation=2)
    added = CredentialsAction.PASSKEY_ADDED
    assert sessions.change_credentials(maya, new, current.stored, added)

    refused = run("reset-factors", email, **with_keys(backend))
    code, said = run("reset-factors", email, "--passkeys", **with_keys(backend))

    assert refused[0] == 1
    assert refused[1].endswith("The option --passkeys removes its passkeys.")
    assert (code, said.splitlines()[-1]) == (
        0,
        f"{email} has no second factor and no passkey any more, and is signed out everywhere.",
    )
    with pytest.raises(SignedOut):
        sessions.open(cookie)
    assert sessions.find_passkey(key, NOT_COUNTED) is None
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        noted = "select actor from private.audit where action = 'passkey.remove' and target = %s"
        assert database.execute(noted, [maya.user_id]).fetchall() == [(None,)]


def test_repaired_account_signs_in_with_same_password(run, backend):
    sessions, email = make_sessions(backend), new_email()
    cookie, maya = sessions.sign_up_with(email, PASSWORD)
    other = new_email()
    with backend.connect() as database:  # a connection of the owner, who may add permits
        database.execute(
            "insert into private.password_permits (user_id) values (%s)", [maya.user_id]
        )
        changed = "update auth.users set encrypted_password = 'x', email = %s where id = %s"
        database.execute(changed, [other, maya.user_id])
    with pytest.raises(SignInBroken):
        sessions.sign_in_with(email, PASSWORD)

    said = run("repair-sign-in", email.upper(), **with_keys(backend))

    assert said == (0, f"{email} can sign in with the same password, and is signed out everywhere.")
    with pytest.raises(SignedOut):
        sessions.open(cookie)
    assert sessions.sign_in_with(email, PASSWORD)[1].user_id == maya.user_id
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        noted = "select actor from private.audit where action = 'sign_in.repair' and target = %s"
        assert database.execute(noted, [maya.user_id]).fetchall() == [(None,)]


def test_address_of_the_only_admin_is_not_freed(run, backend):
    sessions, email = make_sessions(backend), new_email()
    maya = sessions.sign_up_with(email, PASSWORD)[1].user_id
    sessions.backend.gateway.http.close()
    set_roles = "update private.roles set role = %s where user_id = any (%s)"
    with backend.connect() as database:
        admins = [
            user_id
            for (user_id,) in database.execute(
                "select user_id from private.roles where role = 'admin'"
            )
        ]
        database.execute(set_roles, ["user", admins])
        database.execute(set_roles, ["admin", [maya]])
    try:
        code, said = run("free-address", email, **with_keys(backend))
    finally:
        with backend.connect() as database:
            database.execute(set_roles, ["user", [maya]])
            database.execute(set_roles, ["admin", admins])

    assert (code, said.startswith("This is the only admin.")) == (1, True)


def test_address_is_freed_at_supabase_auth_too(run, backend):
    sessions, email = make_sessions(backend), new_email()
    maya = sessions.sign_up_with(email, PASSWORD)[1].user_id

    code, said = run("free-address", email.upper(), **with_keys(backend))

    [placeholder] = re.findall(r"freed-[0-9a-f]{12}@daybook\.invalid", said)
    assert (code, said.startswith(f"{email} is free.")) == (0, True)
    assert sessions.sign_in_with(placeholder, PASSWORD)[1].user_id == maya
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        known = "select email from auth.users where id = %s"
        assert database.execute(known, [maya]).fetchall() == [(placeholder,)]
        noted = "select actor from private.audit where action = 'address.free' and target = %s"
        assert database.execute(noted, [maya]).fetchall() == [(None,)]
        identities = "select identity_data ->> 'email' from auth.identities where user_id = %s"
        if not isinstance(backend, RunningStack):  # whose API stores a string there
            assert database.execute(identities, [maya]).fetchall() == [(placeholder,)]


def test_address_is_set_also_where_users_sign_in(run, backend):
    sessions, email, new = make_sessions(backend), new_email(), new_email()
    maya = sessions.sign_up_with(email, PASSWORD)[1].user_id

    code, said = run("set-address", email.upper(), new, **with_keys(backend))
    refused = run("set-address", new, new, **with_keys(backend))

    assert refused == (1, "The account has this address already.")
    assert (code, said.startswith(f"{new} is the address of the account")) == (0, True)
    _, session = sessions.sign_in_with(new, PASSWORD)
    assert (session.user_id, session.is_confirmed) == (maya, True)
    sessions.backend.gateway.http.close()
    with backend.connect() as database:
        known = "select email from auth.users where id = %s"
        assert database.execute(known, [maya]).fetchall() == [(new,)]
        noted = "select actor from private.audit where action = 'address.set' and target = %s"
        assert database.execute(noted, [maya]).fetchall() == [(None,)]


def test_issuer_moves_and_check_counts_who_is_left_out(run, backend):
    sessions, email = make_sessions(backend), new_email()
    cookie, maya = sessions.sign_up_with(email, PASSWORD)
    old, new = "https://login.example.com", f"https://{uuid4().hex}.example"
    linked = LinkedIdentity(identity=Identity(old, email), name="Corp", created_at=NOON)
    current = sessions.current(cookie)
    added = replace(current.credentials, identities=(linked,), generation=2)
    action = CredentialsAction.IDENTITY_ADDED
    assert sessions.change_credentials(maya, added, current.stored, action)

    code, said = run("move-issuer", old, new, **with_keys(backend))

    assert (code, said) == (0, f"1 accounts are linked to {new}, and signed out everywhere.")
    found = sessions.find_identity(Identity(new, email), NOT_COUNTED)
    assert found.stored.user_id == maya.user_id
    sessions.backend.gateway.http.close()
    off = with_keys(backend) | {"DAYBOOK_SIGN_IN_METHODS": "passkey"}
    [line] = [one for one in run("check", "--all", **off)[1].splitlines() if "ways in" in one]
    assert line.startswith("note")
    assert "have none that works here" in line
    assert email in line  # as the commands name it that let a user in


def test_swapped_addresses_are_repaired_one_by_one(run, stack):
    sessions, emails = make_sessions(stack), (new_email(), new_email())
    people = [sessions.sign_up_with(email, PASSWORD)[1].user_id for email in emails]
    swaps = ((people[0], new_email()), (people[1], emails[0]), (people[0], emails[1]))
    with stack.connect() as database:
        for person, email in swaps:
            permit = "insert into private.password_permits (user_id) values (%s)"
            database.execute(permit, [person])
            database.execute("update auth.users set email = %s where id = %s", [email, person])

    for email in emails:
        with pytest.raises(SignInBroken):
            sessions.sign_in_with(email, PASSWORD)
        assert run("repair-sign-in", email, **with_keys(stack))[0] == 0

    assert [sessions.sign_in_with(email, PASSWORD)[1].user_id for email in emails] == people
    sessions.backend.gateway.http.close()


@pytest.mark.parametrize(
    "command",
    [
        *(["set-password"], ["free-address"], ["reset-factors"], ["repair-sign-in"]),
        ["set-address", "new@daybook.test"],
    ],
    ids=lambda command: command[0],
)
def test_account_whose_credentials_do_not_open_needs_its_backup(run, stack, command):
    sessions, email = make_sessions(stack), new_email()
    maya = sessions.sign_up_with(email, PASSWORD)[1]
    row = "select to_jsonb(credentials) from private.credentials where user_id = %s"
    state = f"select ({row}), encrypted_password from auth.users where id = %s"
    put_back = "insert into private.credentials select (jsonb_populate_record(null::private.credentials, %s)).*"
    name, *others = command
    with stack.connect() as database:
        backup = database.execute(row, [maya.user_id]).fetchone()[0]
        for change in (
            "delete from private.credentials where user_id = %s",
            "update private.credentials set sealed = 'p1.1.' || repeat('A', 600) where user_id = %s",
            "update private.credentials set generation = generation + 1 where user_id = %s",
        ):
            database.execute(change, [maya.user_id])
            before = database.execute(state, [maya.user_id] * 2).fetchone()

            code, said = run(name, email, *others, typed=f"{PASSWORD}\n" * 2, **with_keys(stack))

            assert (code, said.splitlines()[-1]) == (1, UNOPENED), change
            assert database.execute(state, [maya.user_id] * 2).fetchone() == before, change
            database.execute("delete from private.credentials where user_id = %s", [maya.user_id])
            database.execute(put_back, [Jsonb(backup)])
            assert sessions.sign_in_with(email, PASSWORD)[1].user_id == maya.user_id, change
    sessions.backend.gateway.http.close()


@pytest.mark.parametrize("has_account", [True, False])
def test_pending_sign_up_beside_an_account_is_not_opened(run, world, migrated, has_account):
    email = world.one("select email from auth.users where id = %s", world.person().id)
    if not has_account:
        email = "unknown@daybook.test"
    ring, row_id = RootKeys.parse(ROOT_KEY), uuid4()
    pending = seal_stored(ring, credentials(email, is_pending=True), row_id)
    world.admin.execute(INSERT, asdict(pending))
    before = world.contents()
    environment = {"DATABASE_URL": servers.as_owner(migrated), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

    code, said = run("set-password", email, typed=f"{PASSWORD}\n" * 2, **environment)

    assert (code, said.splitlines()[-1]) == (1, UNOPENED if has_account else UNKNOWN)
    assert world.contents() == before


def test_limits_of_account_and_default_are_set_and_shown(run, world, migrated):
    maya, address = world.person(), servers.as_owner(migrated)
    email = world.one("select email from auth.users where id = %s", maya.id)

    for arguments, said in (
        ((email,), f"{email}: $1.00 a day, $10.00 a month."),
        ((email.upper(), "--daily", "2.5"), f"{email}: $2.50 a day, $10.00 a month."),
        (("--default", "--monthly", "50"), "New accounts: $1.00 a day, $50.00 a month."),
        (
            (email, "--tokens", "70000"),
            f"{email}: $2.50 a day, $10.00 a month, 70,000 tokens a day.",
        ),
        ((email, "--tokens", "-1"), f"{email}: $2.50 a day, $10.00 a month."),
        (
            ("--default", "--tokens", "90000"),
            "New accounts: $1.00 a day, $50.00 a month, 90,000 tokens a day.",
        ),
    ):
        assert run("limits", *arguments, DATABASE_URL=address) == (0, said)

    assert maya.call("my_account")["daily_cap_micro"] == 2_500_000
    account = world.person().call("my_account")
    assert (account["monthly_cap_micro"], account["daily_cap_tokens"]) == (50_000_000, 90_000)
    noted = world.admin.execute(
        "select action, target, detail from private.audit where action in ('caps.set', 'settings.set') order by id"
    )
    assert noted.fetchall() == [
        ("caps.set", maya.id, {"daily_cap_micro": [1_000_000, 2_500_000]}),
        ("settings.set", None, {"monthly_cap_micro": [10_000_000, 50_000_000]}),
        ("caps.set", maya.id, {"daily_cap_tokens": [None, 70_000]}),
        ("caps.set", maya.id, {"daily_cap_tokens": [70_000, None]}),
        ("settings.set", None, {"daily_cap_tokens": [None, 90_000]}),
    ]


NAME_ONE = "Name one account, or give --default for new accounts."
UNOPENED = (
    "The credentials of this account are gone or do not open, and its chats open with them alone: "
    "put its row of private.credentials back from a backup."
)
UNKNOWN = "There is no account with this address: sign up, and sign in once."


@pytest.mark.parametrize(
    ("arguments", "password", "sentence"),
    [
        (["grant-admin", "unknown@daybook.test"], "", UNKNOWN),
        (["set-password", "unknown@daybook.test"], PASSWORD, UNKNOWN),
        (["repair-sign-in", "unknown@daybook.test"], "", UNKNOWN),
        (["free-address", "unknown@daybook.test"], "", UNKNOWN),
        (["reset-factors", "unknown@daybook.test"], "", UNKNOWN),
        (["set-password", "maya@daybook.test"], "short", WeakPassword("short").public),
        (["limits", "unknown@daybook.test", "--daily", "5"], "", UNKNOWN),
        (["limits", "--daily", "5"], "", NAME_ONE),
        (["limits", "a@b.test", "--default"], "", NAME_ONE),
        (["grant-admin", "víctim@daybook.test"], "", AddressNotPlain.public),
        (["set-password", "me@evil.test,x@corp.test"], PASSWORD, BadAddress.public),
        (["limits", "maya@localhost"], "", BadAddress.public),
    ],
)
def test_refused_command_changes_nothing(run, world, migrated, arguments, password, sentence):
    world.person()
    before = world.contents()

    environment = {"DATABASE_URL": servers.as_owner(migrated), "DAYBOOK_ROOT_KEYS": ROOT_KEY}
    code, said = run(*arguments, typed=f"{password}\n" * 2, **environment)

    assert (code, said.splitlines()[-1]) == (1, sentence)
    assert world.contents() == before


@pytest.mark.parametrize(
    "command", ["set-password", "free-address", "reset-factors", "repair-sign-in"]
)
def test_credentials_are_not_touched_without_the_root_key(run, migrated, command):
    code, said = run(command, "maya@daybook.test", DATABASE_URL=servers.as_owner(migrated))

    assert (code, said.split(":")[0]) == (1, "The root key is missing")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(("--daily", "--monthly"), ("nan", "inf", "-inf", "-1", "1e7", "much")),
        *itertools.product(("--tokens",), ("-2", str(10**12 + 1), "nan")),
    ],
)
def test_limit_that_is_no_amount_is_refused_in_a_sentence(run, option, value):
    code, said = run("limits", "--default", option, value)

    assert code == 2
    assert said.splitlines()[-1].startswith(f"Error: Invalid value for '{option}': ")


def not_running(data):
    return (
        f"No embedded Daybook is running on {data}: start it, or name the app's store in DAYBOOK_STORE "
        "(a hosted Supabase: in DATABASE_URL)."
    )


def test_command_without_a_running_stack_is_refused(run, tmp_path):
    sentence = not_running(tmp_path / "data")

    assert run("grant-admin", "maya@daybook.test") == (1, sentence)
    assert run("address") == (1, sentence)


def test_new_root_keys_are_valid_and_differ(run):
    keys = {run("new-root-key")[1] for _ in range(3)}

    assert len(keys) == 3
    assert all(RootKeys.parse(key).versions() == (1,) for key in keys)


def test_refusal_is_one_line_on_stderr(tmp_path):
    email, data = f"{uuid4()}@daybook.test", tmp_path / "data"
    environment = os.environ | {"DAYBOOK_DATA_DIR": str(data), "DATABASE_URL": ""}

    command = [sys.executable, "-m", "services.operate", "grant-admin", email]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"{not_running(data)}\n"


def test_supabase_says_how_its_database_is_backed_up(tmp_path):
    with pytest.raises(BadInput, match="pg_dump"):
        SupabaseOperator(None, None).backup(tmp_path / "backup")
