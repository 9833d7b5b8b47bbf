"""The route of the search dialog."""

from datetime import datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain import Role, SpaceId
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.users.message_search import Asked, Chats, MessageSearch
from services.web.find_route import FindRoute
from services.web.origin import Origin
from tests.fakes import MAYA
from tests.stack.apps import until
from tests.stores import InMemoryDatabase
from tests.web.one_session import OneSession


class Server(OneSession):
    """The sessions and the one user of a process."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.database = InMemoryDatabase(MAYA)
        self.store, self._search = self.database.store(), MessageSearch(lambda _: True)
        self.spaces = self.store.spaces

    def store_of(self, session, conversation_id):
        return self.store

    def search(self, asked):
        self.asked.append(asked)
        if self.failure:
            raise self.failure
        return self._search.find(self.store, asked)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ask(server):
    route = FindRoute(lambda: server, Origin(None, 0))
    client = TestClient(Starlette(routes=route.routes()), "http://localhost")

    def ask(cookie=server.cookie, **asked):
        return client.post("/find", json=asked, headers={"cookie": f"__Host-sid={cookie}"})

    return ask


def test_found_texts_are_sent_in_pieces(ask, server):
    garden = server.database.hold("Garden <b>", "When do I sow <b>peas</b>?", "In March.")
    until(lambda: ask(words="peas").json()["read"])

    answer = ask(words="peas")

    assert answer.headers["cache-control"] == "no-store"
    (message,) = answer.json().pop("messages")
    assert message.pop("message") == str(server.store.conversations.thread(garden).messages[0].id)
    assert datetime.fromisoformat(message.pop("at"))
    assert message == {
        "chat": str(garden),
        "title": "Garden <b>",
        "text": ["When do I sow <b>", "peas", "</b>?"],
        "role": "user",
        "note": "",
    }
    assert {
        name: answer.json()[name] for name in ("titles", "count", "next", "read", "of", "said")
    } == {
        "titles": [],
        "count": 1,
        "next": None,
        "read": 1,
        "of": 1,
        "said": "",
    }


def test_filters_are_read(ask, server):
    space = SpaceId(uuid4())

    ask(
        words="peas", order="best", role="assistant", since="2026-03-01", until="2026-03-31",
        zone="Europe/Berlin", space=str(space), chats="pinned", below=5,
    )  # fmt: skip

    berlin = ZoneInfo("Europe/Berlin")
    assert server.asked == [
        Asked(
            words="peas",
            order="best",
            below=5,
            role=Role.ASSISTANT,
            since=datetime(2026, 3, 1, tzinfo=berlin),
            until=datetime(2026, 4, 1, tzinfo=berlin),
            space_id=space,
            chats=Chats.PINNED,
        )
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"words": "x" * 10_001},
        {"words": 5},
        {"order": "worst"},
        {"space": "garden"},
        {"since": "9999-12-31x"},
        {"until": "9999-12-31"},
        {"since": "2026-01-01", "zone": "../../etc/passwd"},
        {"since": "2026-01-01", "zone": "Nowhere/At_all"},
        {"below": "x"},
        {"below": 10**30},
    ],
    ids=str,
)
def test_unreadable_search_is_refused(ask, server, asked):
    assert ask(**asked).status_code == 400
    assert server.asked == []


@pytest.mark.parametrize("cookie", [Cookie.new(), ""], ids=["other", "none"])
def test_search_without_a_session_is_refused(ask, server, cookie):
    assert ask(cookie).status_code == 401
    assert server.asked == []


def test_ended_session_is_forgotten(ask, server):
    server.failure = SignedOut("PT401")

    assert ask().status_code == 401
    assert server.forgotten == [server.session]


def test_search_without_a_database_is_unavailable(ask, server):
    server.failure = StoreUnavailable()

    assert ask().status_code == 503


def test_only_excluded_words_are_explained(ask):
    assert ask(words="-peas").json()["said"].startswith("Add a word to find")


def here(server, **asked):
    route = FindRoute(lambda: server, Origin(None, 0))
    client = TestClient(Starlette(routes=route.routes()), "http://localhost")
    return client.post("/find/here", json=asked, headers={"cookie": f"__Host-sid={server.cookie}"})


def test_messages_of_the_branch_that_is_read_are_counted(server):
    garden = server.database.hold("Garden", "Peas, PEAS?", "In März.", "And peas?", "Yes.")
    thread = server.store.conversations.thread(garden)
    prompt, reply, again, _ = thread.messages
    server.store.messages.edit_reply(thread, reply, "Peas: in April.")
    edited = server.store.conversations.thread(garden).messages[-1]

    def found(words, **others):
        sent = {"words": words, "chat": str(garden)} | others
        return [(hit["message"], hit["count"]) for hit in here(server, **sent).json()["messages"]]

    assert found("peas") == [(str(prompt.id), 2), (str(edited.id), 1)]
    assert found("peas", version=str(again.id)) == [(str(prompt.id), 2), (str(again.id), 1)]
    assert found("marz", version=str(again.id)) == [(str(reply.id), 1)]
    assert found("") == []


def test_search_in_a_stranger_s_chat_is_refused(server):
    assert here(server, words="peas", chat=str(uuid4())).status_code == 404
    assert here(server, words="peas", chat="garden").status_code == 400
