"""The route of the search dialog."""

import asyncio
import threading
import time
from datetime import datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain import Fact, FactId, Preferences, Role, Space, SpaceId
from services.errors import SignedOut, StoreUnavailable
from services.store.accounts import Cookie
from services.users.message_search import Asked, Chats, MessageSearch, Results
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


def test_memories_lead_to_where_they_are_edited(ask, server):
    store, at = server.store, datetime(2026, 5, 1, tzinfo=ZoneInfo("UTC"))
    garden = server.database.hold("Garden", "When?", "In March.")
    space = Space(id=SpaceId(uuid4()), name="Allotment", instructions="Peas.", created_at=at)
    store.spaces.keep(space)
    store.conversations.set_instructions(garden, "Peas.")
    for scope in ({}, {"conversation_id": garden}):
        store.facts.keep(Fact(id=FactId(uuid4()), text="Peas.", since=at, **scope))
    store.profile.change(lambda _: Preferences(instructions="Peas."))
    until(lambda: len(ask(words="peas").json()["memory"]) == 5)

    found = ask(words="peas").json()["memory"]

    assert {memory["name"]: (memory["href"], memory["data"]) for memory in found} == {
        "Memory": ("/memory", {}),
        "Note · Garden": (None, {"act": "chat-notes", "chat": str(garden)}),
        "Custom instructions": (None, {"act": "preferences"}),
        "Instructions · Allotment": (None, {"act": "edit-space", "space": str(space.id)}),
        "Instructions · Garden": (None, {"act": "chat-instructions", "chat": str(garden)}),
    }


HOSTILE = [
    *("NEAR/", "NEAR(a b)", '"', '"' * 500, "a* OR b", "folded:peas", "{a} : b", "^a", "-" * 500),
    *(
        "'; drop table texts; --",
        "\x00",
        "\ud800".encode("utf-8", "replace").decode(),
        "() AND NOT",
    ),
    *("x " * 4_999, "\u0301" * 9_999, "<img src=x onerror=alert(1)>", "\u202edrow\u202c"),
]


@pytest.mark.parametrize("words", HOSTILE, ids=lambda words: ascii(words[:12]))
@pytest.mark.parametrize("order", ["newest", "best"])
def test_hostile_search_is_answered(ask, server, words, order):
    server.database.hold("Garden", "Peas?", "Yes.")
    until(lambda: ask(words="peas").json()["count"])

    assert ask(words=words, order=order).status_code == 200
    assert ask(words="peas").json()["count"] == 1


def test_search_of_many_requests_keeps_one_thread_a_session(server):
    """Fifty at once, of one session: the others wait, so that they keep no other user waiting."""
    now = most = 0
    lock = threading.Lock()

    def search(asked):
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.002)  # the search takes as long
        with lock:
            now -= 1
        return Results(titles=())

    server.search = search
    app = Starlette(routes=FindRoute(lambda: server, Origin(None, 0)).routes())

    async def ask_all():
        transport, cookie = httpx.ASGITransport(app), f"__Host-sid={server.cookie}"
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            asking = [
                client.post("/find", json={"words": "peas"}, headers={"cookie": cookie})
                for _ in range(50)
            ]
            return {answer.status_code for answer in await asyncio.gather(*asking)}

    assert asyncio.run(ask_all()) == {200}
    assert most == 1


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
