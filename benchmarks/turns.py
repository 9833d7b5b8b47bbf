"""Turns per second that the database takes with every cap enforced, and the times of its functions.

python -m benchmarks.turns [--json] [--seconds N]

A turn is five calls, as an app makes them: read the revision, begin, checkpoint, read it again, finish; bodies are 1.5 KB
sealed. 50 workers take turns as 8 and as 50 users, by psycopg on a Postgres with durable commits, and by supabase-py through
the embedded stack.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg

from services.crypto import RootKeys, ServerProof, new_key
from services.embedded.folders import choose_folders
from services.store.supabase import migrations
from services.store.supabase.lite_transport import LiteTransport
from services.store.supabase.schema import FOLDER
from tests.conftest import started_stack
from tests.database import servers
from tests.database.people import (
    Caller,
    Rest,
    Sql,
    World,
    client_to,
    psycopg_world,
    rest_world,
)
from tests.database.storm import BODY, OVERSPENT

WORKERS = 50
PEOPLE = (8, 50)
CALLS = 200  # calls of each function that are timed


@dataclass(frozen=True, slots=True)
class Rate:
    """Turns per second, and milliseconds per turn."""

    people: int
    turns_per_second: float
    p50_ms: float
    p95_ms: float


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10, help="of each rate")
    chosen = parser.parse_args()

    figures = measure(chosen.seconds)
    if chosen.json:
        print(json.dumps(figures))
        return
    for way in ("psycopg", "supabase"):
        print(f"turns a second by {way}, {WORKERS} workers")
        for rate in figures[way]:
            print(
                f"  {rate['people']:>2} people {rate['turns_per_second']:>6.0f}"
                f"   p50 {rate['p50_ms']:.0f} ms, p95 {rate['p95_ms']:.0f} ms a turn"
            )
    print(f"one call through the embedded API, alone, medians and p95 of {CALLS}")
    for name, (p50, p95) in figures["calls_ms"].items():
        print(f"  {name:<20} {p50:>5.1f} {p95:>5.1f} ms")


def measure(seconds: float) -> dict[str, Any]:
    """Return the figures by name."""
    figures: dict[str, Any] = {"psycopg": [], "supabase": []}
    proof = ServerProof(key := new_key())
    with servers.started(18, careless=False) as server:
        for people in PEOPLE:
            address = _database(server, f"turns_{people}", key)
            with psycopg.connect(address, autocommit=True) as admin:
                rate = _rate(psycopg_world(admin, proof), people, seconds, address)
                figures["psycopg"].append(asdict(rate))
    with _embedded_world() as world:
        for people in PEOPLE:
            figures["supabase"].append(asdict(_rate(world, people, seconds, None)))
        figures["calls_ms"] = _times(world)
    return figures


def _rate(world: World, people: int, seconds: float, address: str | None) -> Rate:
    """Take turns for *seconds*, each worker by a connection of its own to *address*, or (None) by the users' own clients."""
    crowd = [world.person() for _ in range(people)]
    world.admin.execute(
        "update private.budgets set daily_cap_micro = 1e12, monthly_cap_micro = 1e12, max_open = 1000,"
        " max_per_minute = 1000000"
    )
    world.admin.execute("update private.deployment set monthly_cap_micro = 1e12")
    each = max(2, WORKERS * 2 // people)  # so many conversations that no turn waits for another
    threads = [(person, person.create_conversation()) for _ in range(each) for person in crowd]
    took: list[float] = []
    workers = [
        threading.Thread(target=_work, args=[threads[number::WORKERS], address, seconds, took])
        for number in range(WORKERS)
    ]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - begun
    _check_books(world, crowd)
    p50, p95 = _percentiles(took)
    return Rate(people, round(len(took) / elapsed, 1), p50, p95)


def _work(
    threads: list[tuple[Caller, UUID]], address: str | None, seconds: float, took: list[float]
) -> None:
    with ExitStack() as opened:
        if address:
            connection = opened.enter_context(psycopg.connect(address, autocommit=True))
            threads = [(person.by(connection), conversation) for person, conversation in threads]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for person, conversation in threads:
                began = time.perf_counter()
                _take_turn(person, conversation)
                took.append(time.perf_counter() - began)


def _take_turn(person: Caller, conversation: UUID) -> None:
    begun = person.begin(conversation, _rev(person, conversation), prompt_body=BODY)
    assert person.checkpoint(begun["turn"])["ok"]
    ended = person.finish(begun["turn"], _rev(person, conversation), 700, reply_body=BODY)
    assert ended["saved"]


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile, in milliseconds."""
    p95 = sorted(seconds)[int(len(seconds) * 0.95)]
    return round(statistics.median(seconds) * 1000, 1), round(p95 * 1000, 1)


def _rev(person: Caller, conversation: UUID) -> int:
    match person.way:
        case Sql() as way:
            return way.read("select rev from public.conversations where id = %s", conversation)[0][
                0
            ]
        case Rest(client):
            query = client.table("conversations").select("rev").eq("id", str(conversation))
            return query.execute().data[0]["rev"]
        case _:
            raise TypeError(person.way)


def _check_books(world: World, crowd: list[Caller]) -> None:
    """Fail if a user overspent, or if the budgets differ from the ledger."""
    ids = [person.id for person in crowd]
    assert world.one(OVERSPENT) == 0
    assert world.one(
        "select (select sum(micro) from private.ledger where user_id = any (%s))"
        " = (select sum(month_spent) from private.budgets where user_id = any (%s) and reserved = 0)",
        ids,
        ids,
    )


def _times(world: World) -> dict[str, tuple[float, float]]:
    """Return the times of single calls, one after another."""
    maya, anon = world.person(), world.anon
    world.admin.execute(
        "update private.budgets set max_per_minute = 1000000, daily_cap_micro = 1e12"
    )
    garden = maya.create_conversation()
    took: dict[str, list[float]] = {}

    def timed(name: str, act: Callable[..., Any], *arguments: Any, **changes: Any) -> Any:
        began = time.perf_counter()
        answer = act(*arguments, **changes)
        took.setdefault(name, []).append(time.perf_counter() - began)
        return answer

    for rev in range(0, 2 * CALLS, 2):
        turn = timed("begin_turn", maya.begin, garden, rev, prompt_body=BODY)["turn"]
        timed("checkpoint_turn", maya.checkpoint, turn, BODY)
        timed("finish_turn", maya.finish, turn, rev + 1, 1, reply_body=BODY)
        timed("open_session", anon.call, "open_session", cookie=maya.cookie)
        timed("read a revision", _rev, maya, garden)
        timed("read 50 messages", _newest, maya, garden)
    return {name: _percentiles(times) for name, times in took.items()}


def _newest(person: Caller, conversation: UUID) -> list[Any]:
    assert isinstance(person.way, Rest)
    query = person.way.client.table("messages").select("*").eq("conversation_id", str(conversation))
    return query.order("seq", desc=True).limit(50).execute().data


def _database(server: str, name: str, proof_key: bytes) -> str:
    address = servers.new_database(server, name)
    servers.lay_ground(address)
    with psycopg.connect(servers.as_owner(address), autocommit=True) as owner:
        migrations.apply(owner, FOLDER)
        migrations.install_server_keys(owner, {1: proof_key})
    return address


@contextmanager
def _embedded_world() -> Iterator[World]:
    cache = choose_folders(None, None).cache
    sockets = httpx.Limits(max_connections=WORKERS, max_keepalive_connections=WORKERS)
    with (
        tempfile.TemporaryDirectory(prefix="daybook-turns-") as base,
        started_stack(Path(base), cache) as stack,
        stack.connect() as admin,
        LiteTransport(limits=sockets) as transport,
    ):
        proof = ServerProof(RootKeys.parse(stack.root_keys).proof_key())
        yield rest_world(
            admin, proof, lambda: client_to(stack.url, stack.publishable_key, transport)
        )


if __name__ == "__main__":
    main()
