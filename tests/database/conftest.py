"""Databases for tests: a copy of a migrated database for each test, or the embedded stack that all tests share."""

import base64
import itertools

import psycopg
import pytest

from services.crypto import RootKeys, ServerProof, new_key
from services.store.files import FilesPlace
from services.store.firestore import FirestorePlace
from services.store.sqlite import SqlitePlace
from services.store.supabase import migrations
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.schema import FOLDER
from services.store.tables.in_memory import InMemoryStore
from tests.database import servers
from tests.database.people import client_to, psycopg_world, rest_world
from tests.firestore import stores_at
from tests.runs import IS_WHOLE
from tests.stores import folder_in_memory, made_in

# the root key of the databases of `migrated`
ROOT_KEY = base64.urlsafe_b64encode(new_key()).decode()
_PROOF_KEY = RootKeys.parse(ROOT_KEY).proof_key()
# shares of a property's histories: files take longer than memory, and an emulator longest
_SHARES = {SqlitePlace: 0.2 if IS_WHOLE else 0.05, FilesPlace: 0.05, FirestorePlace: 0.01}
_FIRESTORE = [FirestorePlace] if IS_WHOLE else []  # which has a suite of its own
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server():
    """A server of Postgres 18, on which each test has a database of its own."""
    with servers.started(18) as address:
        yield address


@pytest.fixture(scope="session")
def template(server):
    """Return the name of a database with our migrations and server key, to which no connection is open."""
    address = servers.new_database(server, "daybook_template")
    servers.lay_ground(address)
    with psycopg.connect(servers.as_owner(address), autocommit=True) as owner:
        migrations.apply(owner, FOLDER)
        migrations.install_server_keys(owner, {1: _PROOF_KEY})
    return "daybook_template"


@pytest.fixture
def proof():
    """Make the proofs that the databases of `migrated` accept."""
    return ServerProof(_PROOF_KEY)


@pytest.fixture
def migrated(server, template):
    """Yield the address by which a superuser connects to a migrated database."""
    name = f"test_{next(_numbers)}"
    yield servers.new_database(server, name, template)
    servers.drop_database(server, name)


@pytest.fixture
def world(migrated, proof):
    """Users of a database of their own."""
    with psycopg.connect(migrated, autocommit=True) as admin:
        yield psycopg_world(admin, proof)


@pytest.fixture
def maya(world):
    return world.person()


@pytest.fixture
def garden(maya):
    """A conversation of Maya's."""
    return maya.create_conversation()


@pytest.fixture(scope="session")
def make_client(stack):
    """Yield a function that makes clients of the embedded stack, which are not signed in."""
    transport = LiteTransport()

    def make():
        return client_to(stack.url, stack.publishable_key, transport)

    # the embedded stack may make the first account an admin, so a user of no test signs up first
    first = {"email": "first@daybook.test", "password": "correct horse battery"}
    user = make().auth.sign_up(first).user
    with stack.connect() as admin:
        admin.execute("select private.make_account(%s, 'admin')", [user.id])
    yield make
    transport.close()


@pytest.fixture
def api_world(stack, make_client):
    """Users of the embedded stack, with real tokens."""
    proof = ServerProof(RootKeys.parse(stack.root_keys).proof_key())
    with stack.connect() as admin:
        world = rest_world(admin, proof, make_client)
        yield world
        admin.execute("delete from auth.users where id = any (%s)", [world.people])


@pytest.fixture(params=["postgres", "api"])
def either_world(request):
    """The same users on Postgres itself, and behind the API, where the grants differ."""
    return request.getfixturevalue("world" if request.param == "postgres" else "api_world")


@pytest.fixture(
    scope="module",
    params=[None, SqlitePlace, FilesPlace, *_FIRESTORE],
    ids=["in-memory", "sqlite", "json", "firestore"][: 3 + len(_FIRESTORE)],
)
def tables(request):
    """Yield a function that makes the tables of the rules, and the share of the histories to run over them."""
    if request.param is None:
        yield InMemoryStore, 1.0
        return
    if request.param is FirestorePlace:
        yield stores_at(request.getfixturevalue("firestore")), _SHARES[FirestorePlace]
        return
    with folder_in_memory() as folder:
        yield made_in(folder, request.param), _SHARES[request.param]
