"""Who asks whether the database answers, how often, and what everybody else is told meanwhile."""

import httpx
import pytest
from pydantic import SecretStr

from services.errors import StoreUnavailable
from services.store import reach
from services.store.gateway import Gateway, store_errors
from services.store.reach import Reach

UP, DOWN = None, StoreUnavailable("hangs")


class Enough(BaseException):
    """The test has seen what it came for."""


def watched(
    answers: list[Exception | None], monkeypatch: pytest.MonkeyPatch
) -> tuple[Reach, list[bool], list[float]]:
    """After *answers*: the reach, what it told, and how long it paused."""
    pauses, told, left = list[float](), list[bool](), list(answers)

    def ask() -> None:
        if not left:
            raise Enough
        if answer := left.pop(0):
            raise answer

    monkeypatch.setattr(reach.time, "sleep", pauses.append)
    asked = Reach()
    with pytest.raises(Enough):
        asked.keep_asking(ask, told.append)
    return asked, told, pauses


def test_each_change_is_told_once(monkeypatch: pytest.MonkeyPatch):
    asked, told, _ = watched([UP, DOWN, DOWN, DOWN, UP, UP, DOWN], monkeypatch)

    assert told == [True, False, True]
    assert asked.is_away


def test_a_database_that_does_not_answer_is_asked_ever_more_rarely(monkeypatch: pytest.MonkeyPatch):
    _, _, pauses = watched([DOWN] * 6 + [UP, DOWN], monkeypatch)

    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 3.0, 0.5]


def test_a_bug_ends_the_asking_for_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    asked, told, pauses = watched([DOWN, KeyError("a bug"), DOWN, UP], monkeypatch)

    assert told == [True, False]
    assert not asked.is_away
    assert pauses == [0.5, 0.5, 1.0, 3.0]
    assert "a bug" in caplog.text


def test_while_it_is_away_no_call_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    arrived = list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200, json=[])

    there, _, _ = watched([UP], monkeypatch)
    away, _, _ = watched([DOWN], monkeypatch)
    for one in (there, away):
        key, transport = SecretStr("key"), httpx.MockTransport(answer)
        client = Gateway.to("http://database.test", key, transport, one).client()
        try:
            with store_errors():
                client.table("conversations").select("id").execute()
        except StoreUnavailable:
            assert one is away

    assert len(arrived) == 1
