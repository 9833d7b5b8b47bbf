"""The route that an open tab polls for changes by other processes."""

from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain import ConversationId
from services.domain.revisions import OpenPlace, Revisions
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.web.origin import Origin
from services.web.poll_route import PollRoute
from tests.web.one_session import OneSession

GARDEN, BEES, SPACE = (ConversationId(uuid4()) for _ in range(3))
FOUND = Revisions(
    chat=3,
    choices="scripted",
    list="digest",
    running=frozenset({GARDEN, BEES}),
    preferences=7,
    settings="prices",
    is_admin=True,
)


class Server(OneSession):
    """The sessions and the one user of a process."""

    def __init__(self):
        super().__init__()
        self.places = []

    def poll(self, place):
        self.places.append(place)
        if self.failure:
            raise self.failure
        return FOUND


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ask(server):
    route = PollRoute(lambda: server, Origin(None, 0))
    client = TestClient(Starlette(routes=route.routes()), "http://localhost")

    def ask(query="", cookie=server.cookie, **headers):
        return client.get(f"/poll{query}", headers={"cookie": f"__Host-sid={cookie}", **headers})

    return ask


def test_tab_is_told_the_revisions_of_what_it_shows(ask, server):
    answer = ask(f"?c={GARDEN}&s={SPACE}&archive=1")

    assert server.places == [OpenPlace(conversation_id=GARDEN, space_id=SPACE, is_archive=True)]
    assert answer.json() == {
        "chat": 3,
        "choices": "scripted",
        "list": "digest",
        "running": [str(BEES)],  # without the open chat, whose page shows the reply
        "preferences": 7,
        "settings": "prices",
        "is_admin": True,
    }
    assert answer.headers["cache-control"] == "no-store"


def test_ended_session_is_forgotten_at_once(ask, server):
    server.failure = SignedOut("PT401")

    assert ask().status_code == 401
    assert server.forgotten == [server.session]


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"cookie": f"__Host-sid={Cookie.new()}"}, 401),
        ("", {"cookie": ""}, 401),
        ("?c=garden", {}, 404),
        ("", {"sec-fetch-site": "cross-site"}, 404),
    ],
    ids=["other cookie", "no cookie", "no id", "other site"],
)
def test_refused_poll_asks_nothing(ask, server, query, headers, status):
    assert ask(query, **headers).status_code == status
    assert server.places == []


def test_poll_waits_for_no_database_that_is_away(ask, server):
    server.failure = StoreUnavailable()

    assert ask().status_code == 503
    assert server.forgotten == []
