"""Database health: the schedule of probes, and calls that fail fast while the database is down."""

import socket
from functools import partial
from threading import Event

import httpx
import pytest
from pydantic import SecretStr

from services.crypto import ServerProof
from services.errors import ServerRefused, StoreUnavailable
from services.store.supabase import database_health
from services.store.supabase.api import Gateway, ServerCalls, store_errors
from services.store.supabase.database_health import DatabaseHealth
from services.store.supabase.upkeep import DatabaseProbe

UP, DOWN = None, StoreUnavailable("hangs")
SECONDS = 60.0
AWAY = StoreUnavailable.outage


class Enough(BaseException):
    """Ends the probing after the last answer."""


def watched(answers, monkeypatch, meanwhile=lambda _: None):
    """Return the health after *answers*, its reports, and its pauses; *meanwhile* is called in each pause."""
    pauses, told, left = list[float](), list[str](), list(answers)

    class Pause(Event):
        def wait(self, timeout=None):
            meanwhile(asked)
            pauses.append(0.0 if self.is_set() else timeout)
            return self.is_set()

    def ask():
        if not left:
            raise Enough
        if answer := left.pop(0):
            raise answer

    monkeypatch.setattr(database_health, "Event", Pause)
    asked = DatabaseHealth(SECONDS)
    with pytest.raises(Enough):
        asked.keep_probing(ask, told.append)
    return asked, told, pauses


def test_each_change_of_health_is_reported_once(monkeypatch):
    asked, told, _ = watched([UP, DOWN, DOWN, DOWN, UP, UP, DOWN], monkeypatch)

    assert told == [AWAY, "", AWAY]
    assert asked.is_away


def test_probes_of_a_down_database_back_off(monkeypatch):
    _, _, pauses = watched([DOWN] * 6 + [UP, DOWN], monkeypatch)

    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0, SECONDS, 0.5]


def test_probes_go_on_after_a_bug(monkeypatch, caplog):
    asked, told, pauses = watched([DOWN, KeyError("a bug"), DOWN, UP], monkeypatch)

    assert told == [AWAY, ""]
    assert not asked.is_away
    assert pauses == [0.5, 0.5, 1.0, SECONDS]
    assert "a bug" in caplog.text


@pytest.mark.parametrize("code", ["42501", "PGRST202"])
def test_refusal_of_the_app_is_no_unreachable_database(monkeypatch, code):
    class OnePause(Event):
        def wait(self, timeout=None):
            raise Enough

    monkeypatch.setattr(database_health, "Event", OnePause)
    refused = httpx.MockTransport(lambda _: httpx.Response(403, json={"code": code}))
    client, told = Gateway.to("http://database.test", SecretStr("key"), refused).client(), []
    probe = DatabaseProbe(
        database=DatabaseHealth(SECONDS),
        server=ServerCalls(client, ServerProof(bytes(32))),
        sweep_seconds=SECONDS,
        report=told.append,
    )

    with pytest.raises(Enough):
        probe.run()

    assert told == [ServerRefused.outage]
    assert "root key" in ServerRefused.outage


def read(url, transport, one):
    client = Gateway.to(url, SecretStr("key"), transport, one.hooks).client()
    with store_errors():
        client.table("conversations").select("id").execute()


def fail(url, transport, one):
    with pytest.raises(StoreUnavailable):
        read(url, transport, one)


@pytest.mark.parametrize(
    "transport", [None, httpx.MockTransport(lambda _: httpx.Response(503))], ids=["refused", "503"]
)
def test_failed_call_has_the_database_probed_at_once(monkeypatch, transport):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    _, _, pauses = watched([UP, DOWN, UP], monkeypatch, partial(fail, url, transport))

    # while the database is known to be away, a failed call causes no probe
    assert pauses == [0.0, 0.5, 0.0]


def test_calls_fail_fast_while_the_database_is_down(monkeypatch):
    arrived = list[httpx.Request]()

    def answer(request):
        arrived.append(request)
        return httpx.Response(200, json=[])

    there, _, _ = watched([UP], monkeypatch)
    away, _, _ = watched([DOWN], monkeypatch)
    for one in (there, away):
        try:
            read("http://database.test", httpx.MockTransport(answer), one)
        except StoreUnavailable:
            assert one is away

    assert len(arrived) == 1
