"""Health of the server process: its reports on the console and at /healthz."""

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from services.domain.models import ModelState
from services.embedded.plan import Endpoints
from services.embedded.reports import Failed, ModelReport, Notice, Running, Stage, Starting, Trouble
from services.errors import StoreUnavailable
from services.web.health_route import health_route
from services.web.server_health import ServerHealth


@pytest.fixture
def server():
    endpoints = Endpoints(supabase_url="http://127.0.0.1:1", model_url="http://127.0.0.1:2/v1")
    return ServerHealth("http://here", endpoints)


@pytest.fixture
def health(server):
    """Return a function that reads from /healthz the status, the stage, and the states of database and model."""
    with TestClient(Starlette(routes=[health_route(server)])) as client:

        def ask():
            reply = client.get("/healthz")
            body = reply.json()
            return reply.status_code, body["stage"], body["database"], body["model"]

        yield ask


def test_health_names_the_kind_of_store_and_no_address():
    server = ServerHealth("http://here/open/secret", Endpoints(), "SQLite")

    with TestClient(Starlette(routes=[health_route(server)])) as client:
        body = client.get("/healthz").json()

    assert body.keys() == {"stage", "store", "database", "model", "version"}
    assert body["store"] == "SQLite"
    assert "here" not in str(body)


def test_closed_console_stops_nothing(server, monkeypatch):
    with Path("/dev/full").open("w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)

        server.record(Running())

        monkeypatch.undo()
        with contextlib.suppress(OSError):
            gone.close()
    assert server.is_ready


def test_console_without_unicode_gets_the_whole_line(server, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))

    server.record(Starting(Stage.MODULES, 3, 70))

    assert written.getvalue().endswith(b"55 MB, once (3 of 70) ?\n")


def test_notice_of_the_start_stands_above_its_last_line(server, capsys):
    server.record(Notice("There is no admin."))
    server.record(Running())

    assert capsys.readouterr().out.splitlines() == [
        "There is no admin.",
        "Daybook is ready: open http://here",
    ]


def test_later_notice_stands_above_the_address_too(server, capsys):
    server.record(Running())
    server.record(Notice("No answer."))

    assert capsys.readouterr().out.splitlines()[1:] == [
        "No answer.",
        "Daybook is ready: open http://here",
    ]


@pytest.mark.parametrize(("was_open", "words"), [(False, "cannot start"), (True, "cannot go on")])
def test_failure_ends_the_process_with_its_sentence(server, monkeypatch, capsys, was_open, words):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    if was_open:
        server.record(Running())

    server.record(Failed("It is over."))

    assert ended == [1]
    assert capsys.readouterr().out.splitlines()[-1] == f"Daybook {words}: It is over."


def test_health_and_console_follow_the_reports(server, health, capsys):
    fetching = "downloading Node modules, about 55 MB, once"
    assert health() == (503, "waking up", "starting", "starting")
    server.record(Starting(Stage.MODULES, 3, 70))
    assert health() == (503, f"{fetching} (3 of 70)", "starting", "starting")
    for done in range(4, 71):
        server.record(Starting(Stage.MODULES, done, 70))
    server.record(Running())
    assert health() == (200, "ready", "ready", "starting")  # the start does not wait for the model
    server.record(ModelReport(ModelState.FAILED))
    assert health() == (200, "ready", "ready", "failed")
    server.record(Trouble("The disk is full."))
    assert (server.is_started, server.is_ready) == (True, False)
    assert health() == (503, "The disk is full.", "ready", "failed")
    server.record(Trouble(""))
    assert health() == (200, "ready", "ready", "failed")
    assert capsys.readouterr().out.splitlines() == [
        *(f"Daybook is starting: {fetching} ({n} of 70) …" for n in (3, 18, 35, 53, 70)),
        "Daybook is ready: open http://here",
        "The local model keeps failing; trying again in a while.",
        "Daybook is ready: open http://here",
        "Daybook has a problem: The disk is full.",
        "Daybook is ready: open http://here",
    ]


def test_database_outage_is_reported_as_away(server, health, capsys):
    assert not server.is_database_away  # the database has not answered before
    server.record(Running())
    server.record_outage(StoreUnavailable.outage)
    assert (server.is_started, server.is_database_away, server.is_ready) == (True, True, False)
    assert health() == (503, "the database does not answer", "away", "starting")
    server.record_outage("")
    server.record(Starting(Stage.RECOVERING))
    assert (server.is_started, server.is_database_away, server.is_ready) == (False, True, False)
    assert health() == (503, str(Stage.RECOVERING), "starting", "starting")
    server.record(Running())
    assert (server.is_database_away, health()) == (False, (200, "ready", "ready", "starting"))
    assert capsys.readouterr().out.splitlines() == [
        "Daybook is ready: open http://here",
        "Daybook cannot reach its database. Trying again.",
        "Daybook is ready: open http://here",
        f"Daybook is starting: {Stage.RECOVERING} …",
        "Daybook is ready: open http://here",
    ]
