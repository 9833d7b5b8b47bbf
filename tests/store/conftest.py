"""Sessions and chats over supabase-py, against the embedded stack and the parts of hosted Supabase."""

import itertools
import os
import threading

import httpx
import pytest

from services.caches import CachedRead
from services.crypto import RootKeys
from services.domain.models import ModelSettings
from services.errors import StoreUnavailable
from services.llm import Models, Offer
from services.settings import Settings
from services.store import accounts
from services.store.supabase.lite_transport import LiteTransport
from services.users import Shared, UserServices
from tests.chats import SMALL, chat_factory
from tests.stores import WholeAccounts, backend_at, cheap_hashes, cut_at, store_of, sweep

PASSWORD = "correct horse battery staple"
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _cheap_hashes():
    with cheap_hashes():
        yield


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("embedded_stack", id="embedded"),
        pytest.param("hosted", id="hosted", marks=pytest.mark.long_run),
    ],
)
def stack(request):
    """Each backend in turn, in place of the embedded stack of other tests."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def sessions(stack):
    made = make_sessions(stack)
    yield made
    made.backend.gateway.http.close()


class Wire(LiteTransport):
    """A transport that counts calls and renewals of access tokens, and can change requests and responses."""

    def __init__(self, *, lifetime=None):
        super().__init__()
        # the lifetime of an access token in seconds, in place of Supabase Auth's
        self.lifetime = lifetime
        self.calls = 0
        self.made = []  # the names of the calls
        self.may_sign_up = threading.Event()  # sign-ups at Supabase Auth wait until this is set
        self.may_sign_up.set()
        self.renewals = 0
        self.limited = 0  # renewals that are still to meet the rate limit
        self.refused = 0  # calls whose access token is still to be refused
        self._is_closed = False
        self._sending = 0  # calls that are now on a connection of this transport
        self._sent = threading.Condition()

    def close(self):
        """Close the connections once no call uses one: httpcore would leave a connection open that is being opened."""
        with self._sent:
            self._is_closed = True
            assert self._sent.wait_for(lambda: not self._sending, timeout=60)
        super().close()

    def handle_request(self, request):
        self.calls += 1
        name = request.url.path.split("/v1/")[1]
        if name == "signup":
            self.may_sign_up.wait(20)
        self.made.append(name)
        bearer = request.headers.get("Authorization")
        if bearer and self.refused and request.url.path.startswith("/rest/"):
            self.refused -= 1
            request.headers["Authorization"] = f"{bearer[:-8]}AAAAAAAA"  # an invalid signature
        if request.url.params.get("grant_type") == "refresh_token":
            self.renewals += 1
            if self.limited:
                self.limited -= 1
                return httpx.Response(429, json={"error_code": "over_request_rate_limit"})
        response = self._send(request)
        if self.lifetime is None or b'"expires_in"' not in response.read():
            return response
        return httpx.Response(200, json=response.json() | {"expires_in": self.lifetime})

    def _send(self, request):
        with self._sent:
            is_late = self._is_closed
            self._sending += not is_late
        if is_late:  # called by a background thread after its test
            with LiteTransport() as late:
                return late.handle_request(request)
        try:
            return super().handle_request(request)
        finally:
            with self._sent:
                self._sending -= 1
                self._sent.notify_all()


def make_sessions(stack, wire=None, **changes):
    """Return the sessions of another app process."""
    root_keys = RootKeys.parse(stack.root_keys)
    settings = {"idle_seconds": 3600, "lifetime_seconds": 86400} | changes
    backend = backend_at(stack.url, stack.publishable_key, root_keys, wire or LiteTransport())
    return WholeAccounts(backend, root_keys, **settings)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def process(stack, wire):
    """Another app process, on *wire*."""
    made = make_sessions(stack, wire)
    yield made
    made.backend.gateway.http.close()


@pytest.fixture
def addresses(stack, process):
    """Email addresses of each kind: known, suspended, pending and unknown."""
    known, suspended, pending = new_email(), new_email(), new_email()
    process.sign_up_with(known, PASSWORD)
    _, session = process.sign_up_with(suspended, PASSWORD)
    with stack.connect() as database:
        suspension = "update private.roles set suspended_at = now() where user_id = %s"
        database.execute(suspension, [session.user_id])
    with pytest.raises(StoreUnavailable):
        cut_at(process, "put_sign_up", is_done=True).sign_up_with(pending, PASSWORD)
    return known, suspended, pending, new_email()


@pytest.fixture
def hashes(monkeypatch):
    """A list that gets an entry for each password that is hashed."""
    made = []
    for verb in (accounts.check_password, accounts.hash_password):

        def counted(*given, verb=verb):
            made.append(verb)
            return verb(*given)

        monkeypatch.setattr(accounts, verb.__name__, counted)
    return made


def ledger(stack, session):
    """Return kind, purpose, model and cost of each entry. Fail unless the budget agrees and nothing is reserved."""
    entries = (
        "select kind, purpose, model, micro from private.ledger where user_id = %s order by id"
    )
    budget = "select month_spent, reserved from private.budgets where user_id = %s"
    with stack.connect() as database:
        found = database.execute(entries, [session.user_id]).fetchall()
        spent = sum(micro for *_, micro in found)
        assert database.execute(budget, [session.user_id]).fetchone() == (spent, 0)
    return found


def new_email():
    return f"person-{os.getpid()}-{next(_numbers)}@daybook.test"


@pytest.fixture
def sign_up(sessions):
    return lambda: sessions.sign_up_with(new_email(), PASSWORD)


@pytest.fixture
def maya(sign_up):
    return sign_up()[1]


@pytest.fixture
def make_chat(sessions, model):
    """Return a function that makes the chat of a session in a process, with nothing cached."""
    with chat_factory(model) as make:
        yield lambda session, **choices: make(
            store_of(session), lambda: sweep(sessions.backend), **choices
        )


@pytest.fixture
def shared(sessions, model):
    return Shared(
        sessions,
        Settings(DAYBOOK_INSTRUCTIONS="Be kind."),
        lambda: Models(Offer(SMALL, model)),
        CachedRead(ModelSettings),
    )


@pytest.fixture
def person(maya, shared):
    return UserServices(maya, shared)
