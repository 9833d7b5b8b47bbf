"""The store and the chat over supabase-py, against the embedded stack and against hosted's parts."""

import itertools
import os
from contextlib import closing

import httpx
import pytest
from pydantic import SecretStr

from services.chat.background import BackgroundTasks
from services.chat.live_turn import LiveTurns
from services.chat.service import Chat
from services.crypto import RootKeys, ServerProof
from services.domain import Purpose
from services.llm import Models, Offer, OpenAIModel, connect
from services.memory.tokens import RegexCounter
from services.settings import Settings
from services.store.supabase.api import Gateway, ServerCalls
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.sessions import Sessions
from services.users import PersonServices, Shared
from tests.fakes import INFO
from tests.model_server import ModelServer
from tests.stack.apps import SECONDS, until
from tests.stores import store_of, sweep

PASSWORD = "correct horse battery staple"
_numbers = itertools.count()


@pytest.fixture(scope="session", params=["embedded_stack", "hosted"], ids=["embedded", "hosted"])
def stack(request):
    """Each backend in turn, in the place of the embedded stack that other tests have."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def sessions(stack):
    made = make_sessions(stack)
    yield made
    made.gateway.http.close()


class Wire(LiteTransport):
    """A transport that counts calls and renewals of access tokens, and can change requests and responses."""

    def __init__(self, *, lifetime=None):
        super().__init__()
        self.lifetime = lifetime  # of an access token in seconds, in place of Supabase Auth's
        self.calls = 0
        self.renewals = 0
        self.limited = 0  # renewals that are still to meet the rate limit
        self.refused = 0  # calls whose access token is still to be refused

    def handle_request(self, request):
        self.calls += 1
        bearer = request.headers.get("Authorization")
        if bearer and self.refused and request.url.path.startswith("/rest/"):
            self.refused -= 1
            request.headers["Authorization"] = f"{bearer[:-8]}AAAAAAAA"  # of the signature
        if request.url.params.get("grant_type") == "refresh_token":
            self.renewals += 1
            if self.limited:
                self.limited -= 1
                return httpx.Response(429, json={"error_code": "over_request_rate_limit"})
        response = super().handle_request(request)
        if self.lifetime is None or b'"expires_in"' not in response.read():
            return response
        return httpx.Response(200, json=response.json() | {"expires_in": self.lifetime})


def make_sessions(stack, wire=None, **changes):
    """What one app process has; another call makes another process."""
    root_keys = RootKeys.parse(stack.root_keys)
    gateway = Gateway.to(stack.url, SecretStr(stack.publishable_key), wire or LiteTransport())
    proof = ServerProof(root_keys.proof_key())
    settings = {"idle_seconds": 3600, "lifetime_seconds": 86400} | changes
    return Sessions(
        gateway=gateway,
        server=ServerCalls(gateway.client(), proof),
        root_keys=root_keys,
        proof=proof,
        **settings,
    )


def new_email():
    return f"person-{os.getpid()}-{next(_numbers)}@daybook.test"


@pytest.fixture
def sign_up(sessions):
    return lambda: sessions.sign_up(new_email(), PASSWORD)


@pytest.fixture
def maya(sign_up):
    return sign_up()[1]


@pytest.fixture
def omar(sign_up):
    return sign_up()[1]


@pytest.fixture(scope="module")
def server():
    with ModelServer() as running:
        yield running


@pytest.fixture
def model(server):
    server.script()
    client = connect(server.url, "-")
    with closing(
        OpenAIModel(client, INFO.name, first_token_seconds=5, between_tokens_seconds=5)
    ) as made:
        yield made


@pytest.fixture
def make_chat(sessions, model):
    """Makes chats; in the end what they have asked by themselves is stopped and waited for."""
    made = []

    def make(
        session, live_turns=None, info=INFO, purposes=(Purpose.SUMMARY, Purpose.FACTS), others=()
    ):
        chat = Chat(
            store=store_of(session),
            live_turns=live_turns or LiveTurns(),
            models=Models(
                Offer(info, model), tuple(Offer(one, model.named(one.name)) for one in others)
            ),
            counter=RegexCounter(),
            instructions="Be kind.",
            sweep=lambda: sweep(sessions.server),
            background=BackgroundTasks(*purposes),
        )
        made.append(chat)
        return chat

    yield make
    for chat in made:
        settle(chat)


def settle(chat):
    """Stop what *chat* has asked by itself, and wait until none of it is coming."""

    def is_over():
        chat.leave()
        return not any(map(chat.coming, (Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS)))

    until(is_over)


def done(turn):
    """*turn*, after its end."""
    assert turn.wait(SECONDS)
    return turn


@pytest.fixture
def conversations(maya):
    return store_of(maya).conversations


@pytest.fixture
def shared(sessions, model):
    return Shared(sessions, Settings(instructions="Be kind."), Models(Offer(INFO, model)))


@pytest.fixture
def person(maya, shared):
    return PersonServices(maya, shared)
