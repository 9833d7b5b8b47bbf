"""Tabs that ask for runs without a pause, beside a user who reads and chats.

python -m benchmarks.run_storm [--rounds N] [--json]

The attacking tabs are those of nobody, or of one user on a chat of 1 MB, and each asks for a run five times a second; `deaf` tabs
read nothing. For each attack, and without one: the median and the longest time of another user's page (a run of the script), the
median time to the first character of a reply in a browser, and the longest answer of /healthz. The attack, the browser and the
model share the machine with the app.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import httpx
from playwright.sync_api import Page
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks import rig
from benchmarks.first_character import milliseconds
from benchmarks.rig import EMAIL, Figures
from tests.chromium import chromium
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.security.test_strangers import connected
from tests.stack.apps import App

_PAUSE_SECONDS = 0.2  # between two runs that a tab asks for
_ATTACK_SECONDS = 5  # of an attack before the first look: bursts are over by then
_ATTACKER = "attacker@daybook.test"
_LARGE_CHAT = [(f"prompt {number}", "lorem ipsum dolor sit " * 2_400) for number in range(20)]
# the attacks: tabs, with a session or without one, deaf or not
_ATTACKS = {
    "none": (0, False, False),
    "19 of nobody": (19, False, False),
    "40 of a user": (40, True, False),
    "40 of a user, deaf": (40, True, True),
}


def main() -> None:
    """Measure, and print a table or JSON; as `--attack URL TABS QUERY COOKIE DEAF`, attack until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_storm")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--attack", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.attack:
        url, tabs, query, cookie, deaf = chosen.attack
        threading.Thread(target=_end_with_input, daemon=True).start()
        asyncio.run(_attack(url, int(tabs), query, cookie, is_deaf=deaf == "True"))
        return
    figures = measure(chosen.rounds)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<40} {figure:>10.1f}")


def measure(rounds: int) -> Figures:
    """Return milliseconds by attack and figure, and their ratios to those without an attack."""
    figures: Figures = {}
    with (
        tempfile.TemporaryDirectory(prefix="daybook-") as folder,
        rig.model() as endpoint,
        chromium() as browser,
        rig.daybook(
            endpoint, DAYBOOK_STORE=f"sqlite:{folder}/x.db", DAYBOOK_SIGN_IN="local"
        ) as app,
    ):
        with second_process(app) as sessions:
            _, session = sessions.sign_up_with(_ATTACKER, PASSWORD)
            chat = converse(session, _LARGE_CHAT)
            sessions.sign_up_with(EMAIL, PASSWORD)
            let_talk_fast(app)
            cookie, attacker = (
                rig.new_cookie(app, sessions, email) for email in (EMAIL, _ATTACKER)
            )
        page = browser.new_page()
        rig.sign_in(page.context, app.url, cookie)
        page.goto(app.url)
        rig.settle(page)
        for name, (tabs, has_session, is_deaf) in _ATTACKS.items():
            query, sent = (f"c={chat}", attacker) if has_session else ("", "")
            with _attacked(app, tabs, query, sent, is_deaf=is_deaf):
                for kind, value in _look(app, cookie, page, rounds).items():
                    figures[f"{name}: {kind} (ms)"] = value
                    if alone := figures.get(f"none: {kind} (ms)"):
                        figures[f"{name}: {kind} / alone"] = value / alone
    return figures


def _look(app: App, cookie: str, page: Page, rounds: int) -> Figures:
    tab = connected(app, cookie)
    tab.run("")
    health = list[float]()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            health.append(_timed(lambda: httpx.get(f"{app.url}/healthz", trust_env=False)))

    watching = threading.Thread(target=watch)
    watching.start()
    runs = [_timed(lambda: tab.run("")) for _ in range(rounds)]
    firsts = [milliseconds(page) for _ in range(max(3, rounds // 3))]
    is_over.set()
    watching.join()
    tab.leave()
    return {
        "page": statistics.median(runs),
        "slowest page": max(runs),
        "first character": statistics.median(firsts),
        "slowest /healthz": max(health),
    }


def _timed(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return 1000 * (time.monotonic() - begun)


@contextmanager
def _attacked(app: App, tabs: int, query: str, cookie: str, *, is_deaf: bool) -> Generator[None]:
    """Attack *app* from another process, for `_ATTACK_SECONDS` before the block and throughout it."""
    command = [sys.executable, "-m", "benchmarks.run_storm", "--attack", app.url]
    words = [*command, str(tabs), query, cookie, str(is_deaf)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(tabs):
            process.stdout.readline()
        time.sleep(_ATTACK_SECONDS if tabs else 0)
        yield
        process.stdin.close()


async def _attack(url: str, tabs: int, query: str, cookie: str, *, is_deaf: bool) -> None:
    await asyncio.gather(*(_ask(url, query, cookie, is_deaf=is_deaf) for _ in range(tabs)))


async def _ask(url: str, query: str, cookie: str, *, is_deaf: bool) -> None:
    """Ask for runs in a tab; connect again whenever the tab is closed."""
    ask = BackMsg()
    ask.rerun_script.query_string = query
    headers = {"Origin": url} | ({"Cookie": cookie} if cookie else {})
    has_begun = False
    address = f"{url.replace('http', 'ws')}/_stcore/stream"
    while True:
        with suppress(WebSocketException, OSError):
            async with connect(
                address,
                subprotocols=["streamlit"],
                additional_headers=headers,
                max_size=None,
                max_queue=1 if is_deaf else None,
                ping_interval=None,
                proxy=None,
            ) as socket:
                reading = None if is_deaf else asyncio.create_task(_drain(socket))
                if not has_begun:
                    print("begun", flush=True)
                    has_begun = True
                try:
                    while True:
                        await socket.send(ask.SerializeToString())
                        await asyncio.sleep(_PAUSE_SECONDS)
                finally:
                    if reading:
                        reading.cancel()
        await asyncio.sleep(_PAUSE_SECONDS)


async def _drain(socket: ClientConnection) -> None:
    async for _ in socket:
        pass


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
