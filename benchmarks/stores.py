"""Each store beside the embedded Supabase and a plain Streamlit chat, in one run.

python -m benchmarks.stores [--json] [--runs N] [--turns N] [--only starts|turns|pages] [--sync-ms N]

ready_seconds     from the start of the process until `/healthz` (`/_stcore/health`) answers 200; a first start does not count
idle_mb           memory (RSS) of the app's process ten seconds later
turns_per_second  of 8 threads and 8 users: begin, checkpoint and finish through the sealed store, each user in one chat
fsyncs_per_second of one thread in the same folder, before and after those turns: an append of 8 KB and an fdatasync
prompt_N_ms       a single such turn in a chat of N messages
list_ms, switch_… as in `page`: the app opened with 1,000 conversations; a switch to 500 messages
first_character_ms as in `first_character`, in a new conversation

The model runs elsewhere. Stores in files use sign-in by password, so that all pages have the same work.

--sync-ms N: only turns over JSON, on a disk whose fsync takes at least N ms. It slows the fsyncs of Python; SQLite's are in C.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import httpx
import psutil

from benchmarks import page, rig
from benchmarks.first_character import milliseconds
from benchmarks.rig import Figures
from benchmarks.start import ELSEWHERE
from services.domain import Thread
from services.embedded.folders import choose_folders
from services.store.port import Store
from tests.chromium import chromium
from tests.conftest import started_stack
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import PLACES, lift_bounds
from tests.stack.apps import TLS, App, running, until
from tests.store.conformance.talk import LEASE_SECONDS, begun_with, ending, new_turn, say, unsaid
from tests.store.conftest import make_sessions
from tests.stores import WholeAccounts, accounts_in_memory, store_of

STORES = {"supabase": "", "sqlite": "sqlite:{}/daybook.db", "json": "json:{}/daybook"}
PLAIN = "plain"
THREADS = USERS = 8
IDLE_SECONDS, SYNC_SECONDS = 10, 2
SHORT, LONG = 20, 5000  # lengths of chats in messages
PROMPT, REPLY = "When do I sow peas in wet soil? " * 6, "Sow them in March, under fleece. " * 30
NO_FASTER = 900  # fsyncs per second above which a faster disk need not give more turns
PARTS = ("starts", "turns", "pages")
REACH = {  # each figure and its bound
    "sqlite: ready_seconds, at most": lambda of: (
        of["sqlite"]["ready_seconds"],
        of[PLAIN]["ready_seconds"] + 0.5,
    ),
    "sqlite: idle_mb, at most": lambda of: (
        of["sqlite"]["idle_mb"],
        of["supabase"]["idle_mb"] - 15,
    ),
    "sqlite: turns_per_second, at least": lambda of: (
        of["sqlite"]["turns_per_second"],
        0.35 * fsyncs if (fsyncs := of["sqlite"]["fsyncs_per_second"]) <= NO_FASTER else 300,
    ),
    "sqlite: first_character_ms, at most": lambda of: (
        of["sqlite"]["first_character_ms"],
        of["supabase"]["first_character_ms"],
    ),
    "json: turns_per_second, at least": lambda of: (
        of["json"]["turns_per_second"],
        0.2 * min(of["json"]["fsyncs_per_second"], NO_FASTER),
    ),
    "json: prompt_ratio, at most": lambda of: (of["json"]["prompt_ratio"], 3),
}
# the accounts, and a function that lifts the limits of all of them
Lifted = tuple[WholeAccounts, Callable[[], None]]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=7, help="of each; the median counts")
    parser.add_argument("--turns", type=int, default=1000, help="of all threads")
    parser.add_argument("--only", choices=PARTS, help="measure this part alone")
    parser.add_argument("--sync-ms", type=float, help="of each fsync at least, for turns over JSON")
    chosen = parser.parse_args()

    if chosen.sync_ms:
        syncs = os.fsync, os.fdatasync
        os.fsync, os.fdatasync = (_slowed(one, chosen.sync_ms / 1000) for one in syncs)
        with tempfile.TemporaryDirectory(prefix="daybook-") as base:
            print(json.dumps(_turns("json", Path(base), chosen.runs, chosen.turns), indent=1))
        return
    figures = measure(chosen.runs, chosen.turns, {chosen.only} if chosen.only else set(PARTS))
    reach = {} if chosen.only else {name: of(figures) for name, of in REACH.items()}
    if chosen.json:
        print(json.dumps(figures | {"reach": reach}))
        return
    print(" " * 22, *(f"{name:>10}" for name in figures))
    for name in figures["sqlite"]:
        print(f"{name:<22}", *(f"{figures[of].get(name, float('nan')):>10.2f}" for of in figures))
    for name, (figure, bound) in reach.items():
        print(f"{name} {bound:.2f}, measured {figure:.2f}")


def _slowed(sync: Callable[[int], None], seconds: float) -> Callable[[int], None]:
    """Return *sync* so that each call takes at least so many seconds."""

    def slow(descriptor: int) -> None:
        end = time.perf_counter() + seconds
        sync(descriptor)
        time.sleep(max(0.0, end - time.perf_counter()))

    return slow


def measure(runs: int, turns: int, parts: set[str]) -> dict[str, Figures]:
    """Return the figures by name, of each store and of the plain chat."""
    figures = _starts(runs) if "starts" in parts else {name: {} for name in (PLAIN, *STORES)}
    for name in STORES if "turns" in parts else ():
        with tempfile.TemporaryDirectory(prefix="daybook-") as base:
            figures[name] |= _turns(name, Path(base), runs, turns)
    if "pages" not in parts:
        return figures
    with rig.model() as endpoint, rig.empty_page() as empty, chromium() as browser:
        with page.plain(browser, endpoint, empty) as site:
            figures[PLAIN] |= _pages(site, runs)
        for name in STORES:
            with (
                tempfile.TemporaryDirectory(prefix="daybook-") as base,
                page.daybook(browser, endpoint, empty, **_settings(name, base)) as site,
            ):
                figures[name] |= _pages(site, runs)
    return figures


def _settings(name: str, folder: Path | str) -> dict[str, str]:
    """Return the environment that selects the store of that name, in *folder*."""
    store = STORES[name].format(folder)
    return {"DAYBOOK_STORE": store, "DAYBOOK_SIGN_IN": "local"} if store else {}


def _starts(runs: int) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        base, cache = Path(folder), choose_folders(None, None).cache
        chat = ("run", "benchmarks/plain_chat.py")
        plain = App(base / PLAIN, cache, environment=ELSEWHERE, command=chat)
        starts = {PLAIN: partial(_start, plain, "/_stcore/health")}
        for name in STORES:
            environment = ELSEWHERE | _settings(name, base / name)
            app = App(base / name, cache, environment=environment)
            starts[name] = partial(_start, app, "/healthz")
        rounds = [[start() for start in starts.values()] for _ in range(runs + 1)][1:]
    return {
        name: {
            "ready_seconds": statistics.median(seconds for seconds, _ in found),
            "idle_mb": statistics.median(megabytes for _, megabytes in found),
        }
        for name, found in zip(starts, zip(*rounds, strict=True), strict=True)
    }


def _start(app: App, path: str) -> tuple[float, float]:
    """Return the seconds until *app* is ready, and its megabytes when it has been idle."""
    with running(app):
        until(lambda: _answers(f"{app.url}{path}"), told=app.told)
        seconds = time.monotonic() - app.started_at
        time.sleep(IDLE_SECONDS)
        megabytes = psutil.Process(app.process.pid).memory_info().rss / 1e6
        app.interrupt()
    return seconds, megabytes


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, trust_env=False, verify=TLS).status_code == 200
    return False


def _turns(name: str, folder: Path, runs: int, turns: int) -> Figures:
    with _accounts(name, folder) as (accounts, lift):
        emails = (f"person-{number}@daybook.test" for number in range(USERS))
        stores = [store_of(accounts.sign_up_with(email, PASSWORD)[1]) for email in emails]
        lift()
        chats = [(store := stores[n % USERS], begun_with(store)) for n in range(turns)]
        before = _fsyncs_per_second(folder)
        with ThreadPoolExecutor(THREADS) as pool:
            began = time.perf_counter()
            list(pool.map(lambda chat: _take_turn(*chat), chats))
            seconds = time.perf_counter() - began
        fsyncs = (before + _fsyncs_per_second(folder)) / 2
        figures = {
            "turns_per_second": turns / seconds,
            "fsyncs_per_second": fsyncs,
            "turns_per_fsync": turns / seconds / fsyncs,
        }
        for length in (SHORT, LONG):
            figures[f"prompt_{length}_ms"] = _prompt_ms(stores[0], length, runs)
    figures["prompt_ratio"] = figures[f"prompt_{LONG}_ms"] / figures[f"prompt_{SHORT}_ms"]
    return figures


def _take_turn(store: Store, thread: Thread) -> None:
    turn = new_turn(thread, PROMPT)
    begun = store.turns.begin(turn)
    store.turns.checkpoint(begun.turn_id, thread.conversation.id, REPLY, LEASE_SECONDS)
    store.turns.finish(ending(turn, begun, REPLY, cost_micro=1))


def _prompt_ms(store: Store, length: int, runs: int) -> float:
    thread = unsaid()
    for _ in range(length // 2):
        thread = say(store, thread, PROMPT, REPLY, cost_micro=1)
    took: list[float] = []
    for _ in range(2 * runs):
        began = time.perf_counter()
        _take_turn(store, thread)
        took.append(1000 * (time.perf_counter() - began))
        thread = store.conversations.thread(thread.conversation.id)
    return statistics.median(took)


def _fsyncs_per_second(folder: Path) -> float:
    octets, end = os.urandom(8192), time.perf_counter() + SYNC_SECONDS
    with tempfile.TemporaryFile(dir=folder) as file:
        for number in count(1):
            file.write(octets)
            file.flush()
            os.fdatasync(file.fileno())
            if time.perf_counter() > end:
                return number / SYNC_SECONDS
    raise AssertionError


@contextmanager
def _accounts(name: str, folder: Path) -> Iterator[Lifted]:
    """Yield the accounts of a new store in *folder*, as the app's process uses them."""
    if place := PLACES.get(name):
        with closing(place(folder / "store").open()) as tables:
            yield accounts_in_memory(tables), lambda: lift_bounds(tables)
        return
    with started_stack(folder, choose_folders(None, None).cache) as stack:
        accounts = make_sessions(stack)
        with accounts.backend.gateway.http, stack.connect() as database:
            statement = "update private.budgets set max_per_minute = 1000000"
            yield accounts, lambda: database.execute(statement)


def _pages(site: page.Site, runs: int) -> Figures:
    figures = page.MEASURES["list"](site, runs) | page.MEASURES["switch"](site, runs)
    site.forget(site.fresh)
    tab = site.context.new_page()

    def first_character() -> float:
        tab.goto(site.fresh)
        return milliseconds(tab)

    figures["first_character_ms"] = rig.median(runs, first_character)
    tab.close()
    return figures


if __name__ == "__main__":
    main()
