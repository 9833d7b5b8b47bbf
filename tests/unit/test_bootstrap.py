"""Who is kept in the memory of a process, and for how long."""

from collections import Counter
from datetime import UTC, datetime
from threading import Event
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest

from services import bootstrap
from services.chat import BackgroundTasks, LiveTurns, TemporaryChats
from services.crypto import new_key
from services.domain import ConversationId, Fact, FactId, MessageId, Role, UserId
from services.domain.context import ContextMessage
from services.domain.memories import NotedFact
from services.domain.models import LimitSource
from services.embedded.plan import Endpoints
from services.errors import StoreUnavailable
from services.settings import Settings
from services.store.port import TurnState
from services.store.supabase import database_health
from tests.model_server import ModelServer


class Enough(BaseException):
    """The test has seen what it came for."""


def test_what_the_list_of_models_states_is_used_once_it_has_come(monkeypatch):
    threads = {}
    monkeypatch.setattr(bootstrap, "_begin_thread", lambda name, run: threads.update({name: run}))
    with ModelServer() as server:
        server.models = [
            {"id": "scripted", "max_input_tokens": 4_096, "max_output_tokens": 2_048},
            {"id": "other", "context_length": 9_000},
        ]
        names = {"model": "scripted", "models": "other"}
        chosen = Settings(openai_base_url=server.url, reply_tokens=500, **names)

        models = bootstrap._models(chosen, Endpoints())
        before = [each.info.context_tokens for each in models]
        threads["model-list"]()

    assert before == [32_768, 32_768]
    assert [each.info.context_tokens for each in models] == [4_096, 9_000]
    assert [each.info.reply_tokens for each in models] == [500, 500]  # the settings win
    assert models.first.info.name == "scripted"


def test_a_limit_that_a_refusal_names_is_remembered(monkeypatch):
    threads = {}
    monkeypatch.setattr(bootstrap, "_begin_thread", lambda name, run: threads.update({name: run}))
    with ModelServer() as server:
        server.models = [{"id": "scripted", "context_length": 16_384, "max_output_tokens": 9_000}]
        server.script(most=4096, error="This model supports at most 4096 completion tokens")
        chosen = Settings(openai_base_url=server.url, model="scripted")
        models = bootstrap._models(chosen, Endpoints())
        prompt = [ContextMessage(Role.USER, "Hi")]
        list(models.first.client.start(prompt, max_tokens=models.first.info.reply_tokens))
        remembered = models.first.info
        threads["model-list"]()

    assert (remembered.reply_tokens, remembered.reply_source) == (4096, LimitSource.ENDPOINT)
    assert (remembered.context_tokens, remembered.context_source) == (32_768, LimitSource.GUESS)
    assert (models.first.info.context_tokens, models.first.info.reply_tokens) == (16_384, 4096)


def test_what_was_noted_leaves_the_memory_with_the_last_session_of_its_person():
    maya, omar = UserId(uuid4()), UserId(uuid4())
    tasks, people = BackgroundTasks(), {}
    sessions = [SimpleNamespace(id=uuid4(), user_id=user_id) for user_id in (maya, maya, omar)]
    noted = NotedFact(Fact(id=FactId(uuid4()), text="Has a dog.", since=datetime.now(UTC)))
    rooms = {user_id: ConversationId(uuid4()) for user_id in (maya, omar)}
    for session in sessions:
        people[session.id] = SimpleNamespace(store=SimpleNamespace(turns=session))
    for user_id, room in rooms.items():
        tasks.end_facts(user_id, room, MessageId(uuid4()), (noted,))

    bootstrap._forget(sessions[0], people, TemporaryChats(), tasks)
    assert tasks.noted(rooms[maya]) == (noted,)  # on another device they are still here

    bootstrap._forget(sessions[1], people, TemporaryChats(), tasks)
    assert tasks.noted(rooms[maya]) == ()
    assert tasks.noted(rooms[omar]) == (noted,)


def test_what_is_coming_in_temporary_chats_is_stopped_with_the_process(monkeypatch, maya):
    maya.model.gate.clear()
    chat, temporary = maya.begin_temporary(), TemporaryChats()
    temporary.add(chat)
    turn = chat.chat.begin(None, "Hello")
    shared = SimpleNamespace(
        temporary=temporary,
        live_turns=LiveTurns(),
    )
    monkeypatch.setattr(bootstrap, "_is_built", lambda: True)
    monkeypatch.setattr(bootstrap, "_shared", lambda: shared)

    bootstrap.stop_turns()

    assert turn.is_done
    assert maya.database.turn_states() == [TurnState.STOPPED]


@pytest.mark.parametrize(("is_hosted", "asked", "swept"), [(True, 0, 10), (False, 133, 67)])
def test_an_idle_app_calls_its_database_this_often(monkeypatch, is_hosted, asked, swept):
    """Calls in ten minutes, and one more: the first sweep leaves something due."""
    calls, threads, clock = Counter[str](), {}, [0.0]

    def answer(_, request):
        calls[request.url.path.removeprefix("/rest/v1/rpc/")] += 1
        is_first = calls.total() == 1
        return httpx.Response(200, json={"ok": True, "more": is_first})

    class Pause(Event):
        def wait(self, timeout=None):
            clock[0] += timeout or 0.0
            if clock[0] >= 600:
                raise Enough
            return False

    url = "https://database.test"
    hosted = Settings(SUPABASE_URL=url, SUPABASE_KEY="key") if is_hosted else Settings()
    begun = SimpleNamespace(
        settings=hosted.model_copy(update={"model": "gpt-4o"}),
        root_keys=SimpleNamespace(proof_key=new_key),
        endpoints=Endpoints() if is_hosted else Endpoints(supabase_url=url, publishable_key="key"),
        health=None,
    )
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    monkeypatch.setattr(database_health, "Event", Pause)
    monkeypatch.setattr(bootstrap.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bootstrap, "_begun", lambda: begun)
    monkeypatch.setattr(
        bootstrap, "_begin_thread", lambda name, run, *rest: threads.update({name: (run, rest)})
    )
    bootstrap._build.__wrapped__()

    with pytest.raises(Enough):
        run, rest = threads["reach"]
        run(*rest)

    assert {"reach", "temporary"} <= set(threads)
    assert calls == Counter(open_session=asked, sweep_turns=swept + 1)


@pytest.mark.parametrize(
    ("cause", "expected"),
    [(None, []), (httpx.ConnectError("refused"), [True])],
    ids=["SQL", "network"],
)
def test_a_sweep_that_fails_is_followed_by_a_plain_question(cause, expected):
    recorded = list[bool]()
    health = SimpleNamespace(record_outage=lambda *, is_away: recorded.append(is_away))

    def sweep():
        if recorded:
            pytest.fail("swept while the database is away")
        raise StoreUnavailable from cause

    def call(*_, **__):
        raise Enough

    with pytest.raises(Enough):
        server = SimpleNamespace(sweep=sweep, call=call)
        bootstrap._keep_asking(database_health.DatabaseHealth(60.0), server, health, 0.0)

    assert recorded == expected
