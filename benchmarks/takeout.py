"""The export of all data of a user: its duration and its memory.

python -m benchmarks.takeout [--json] [--conversations N] [--messages N]

The app runs on the embedded stack. A user has N chats of N messages: prompts of some 200 characters and replies of some
1,000 characters, each reply with a receipt of 1 KB. The rows are sealed here and copied into the database.

seconds           from the request until the last byte; the zip file is checked against its manifest
megabytes         the size of the file
peak_mb           the peak memory of the app's process (RSS), above that before the request
again_peak_mb     the same for a second export
"""

import argparse
import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import ZipFile

import httpx
import psutil
from psycopg import Connection
from pydantic_core import to_jsonable_python

from benchmarks import rig
from benchmarks.rig import EMAIL, SECONDS, Figures
from services.domain import Usage
from services.store.accounts import AppSession
from services.store.sealed import sealed_store
from services.store.tables.in_memory import InMemoryTables
from services.store.tables.rows import TablesRows
from services.store.tables.schema import CONVERSATIONS, MESSAGES, RECEIPTS
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import database, second_process
from tests.store.conformance.talk import answer, new_turn, unsaid
from tests.stores import LIMITS, OpenTables

PROMPT, REPLY = "When do I sow peas in wet soil? " * 6, "Sow them in March, under fleece. " * 30
RECEIPT = json.dumps({"policy": "window", "model": "scripted", "instructions": "Be kind. " * 100})
_LEDGER = """
  insert into private.ledger
    (user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_out, tokens_cached, micro)
  select user_id, id, current_date, 'charge', state, purpose, model, tokens_in, tokens_out, tokens_cached, charged_micro
  from public.turns
"""
_POLL_SECONDS = 0.02


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takeout")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--conversations", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=50, help="of each")
    chosen = parser.parse_args()

    figures = measure(chosen.conversations, chosen.messages)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<16} {figure:>8,.1f}")


def measure(conversations: int, messages: int) -> Figures:
    with rig.model() as endpoint, rig.daybook(endpoint) as app, second_process(app) as sessions:
        _, session = sessions.sign_up_with(EMAIL, PASSWORD)
        with database(app) as connection:
            for number in range(conversations):
                said = [(PROMPT, REPLY)] * (messages // 2)
                store_conversation(connection, session, f"Peas {number}", said)
            connection.execute(_LEDGER)
            connection.commit()
            connection.autocommit = True
            # otherwise the first export would do much of this work
            connection.execute("vacuum analyze")
        cookie = rig.new_cookie(app, sessions)
        process = psutil.Process(app.process.pid)
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            first = _export(process, f"{app.url}/export/everything.zip", cookie, Path(file.name))
            again = _export(process, f"{app.url}/export/everything.zip", cookie, Path(file.name))
            _check(Path(file.name), conversations, conversations * messages)
            size = Path(file.name).stat().st_size
    return first | {
        "again_seconds": again["seconds"],
        "again_peak_mb": again["peak_mb"],
        "megabytes": size / 1e6,
    }


def _export(process: psutil.Process, url: str, cookie: str, file: Path) -> Figures:
    """Export to *file*; return the figures."""
    before = peak = process.memory_info().rss
    is_over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_POLL_SECONDS):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        with (
            file.open("wb") as target,
            httpx.stream(
                "GET", url, headers={"Cookie": cookie}, trust_env=False, timeout=SECONDS
            ) as answer,
        ):
            assert answer.status_code == 200, answer.status_code
            for part in answer.iter_bytes():
                target.write(part)
        seconds = time.monotonic() - began
    finally:
        is_over.set()
        watcher.join()
    return {"seconds": round(seconds, 1), "peak_mb": round((peak - before) / 1e6, 1)}


def _check(file: Path, conversations: int, messages: int) -> None:
    with ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        for name, known in manifest["files"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == known["sha256"], name
    counts = manifest["counts"]
    assert (counts["conversations"], counts["messages"]) == (conversations, messages), counts


def store_conversation(
    connection: Connection, session: AppSession, title: str, said: Sequence[tuple[str, str]]
) -> None:
    """Store a conversation of prompts and replies, sealed under the keys of *session*."""
    limits = replace(LIMITS, max_per_minute=2 * len(said), daily_cap_micro=10**9)
    tables = OpenTables(InMemoryTables())
    store = sealed_store(TablesRows(session.user_id, tables, limits=limits), session.user_keys)
    thread = unsaid(title)
    for prompt, reply in said:
        turn = new_turn(thread, prompt, receipt=RECEIPT)
        told = {"usage": Usage(1200, 200, 800), "cost_micro": 700}
        thread = answer(store, turn, reply, **told)
    user = {"user_id": session.user_id}
    its = user | {"conversation_id": thread.conversation.id}
    turns = [
        its
        | {
            "id": turn.id,
            "client_turn_id": turn.client_turn_id,
            "request_hash": "\\x00",
            "purpose": turn.purpose,
            "state": turn.state,
            "model": turn.model,
            "reserved_micro": 0,
            "reserved_tokens": 0,
            "charged_micro": turn.charged_micro,
            "charged_tokens": turn.charged_tokens,
            "tokens_in": turn.tokens_in,
            "tokens_out": turn.tokens_out,
            "tokens_cached": turn.tokens_cached,
            "stop_requested": False,
            "begun_at": turn.begun_at,
            "lease_until": turn.lease_until,
            "finished_at": turn.begun_at,
        }
        for turn in tables.turns.values()
    ]
    receipts = [
        {"turn_id": row.turn_id, "body": row.body} | its for row in tables.all(RECEIPTS).values()
    ]
    rows = [asdict(row) | user for row in tables.all(MESSAGES).values()]
    _insert(
        connection,
        "conversations",
        [asdict(row) | user for row in tables.all(CONVERSATIONS).values()],
    )
    _insert(connection, "messages", rows)
    _insert(connection, "turns", turns)
    _insert(connection, "receipts", receipts)


def _insert(connection: Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    asked = (
        "select column_name from information_schema.columns"
        " where table_schema = 'public' and table_name = %s and is_generated = 'NEVER'"
    )
    # the stores over tables keep some fields that Postgres computes
    known = {name for (name,) in connection.execute(asked, [table])}
    columns = ", ".join(name for name in rows[0] if name in known)
    connection.execute(
        f"insert into public.{table} ({columns}) "
        f"select {columns} from jsonb_populate_recordset(null::public.{table}, %s)",
        [json.dumps(to_jsonable_python(rows))],
    )


if __name__ == "__main__":
    main()
