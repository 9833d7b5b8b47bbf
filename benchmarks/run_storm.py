"""Tabs that ask for runs, and connections that take files, without a pause, beside a user who reads and chats.

python -m benchmarks.run_storm [--rounds N] [--nginx] [--json]

The attacking tabs are those of nobody, or of one user on a chat of 1 MB, and each asks for a run five times a second; `deaf` tabs
read nothing, and the `expensive chat` consists of formulas that take seconds to draw. The downloads are of the page's largest script, uncompressed. For each attack, and without one: the median and the longest time of another user's page (a run of the script), the
median times to the first character of a reply in a browser and from there to its end, and the longest answer of /healthz. The
attack, the browser and the model share the machine with the app. With --nginx all of them go through nginx, which must be
installed, with the lines of docs/deploy.md, but for TLS and the second app process.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks import rig
from benchmarks.first_character import reply_milliseconds
from benchmarks.rig import EMAIL, Figures
from services.embedded.folders import free_port
from tests.chromium import chromium
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.security.test_strangers import connected
from tests.stack.apps import ROOT, App, until

_PAUSE_SECONDS = 0.2  # between two runs that a tab asks for
_ATTACK_SECONDS = 5  # of an attack before the first look: bursts are over by then
_ATTACKER = "attacker@daybook.test"
_MARK, _LAST = "[[tokens=61 rate=20]]", "word61"  # a reply that streams for three seconds
_LARGE_CHAT = [(f"prompt {number}", "lorem ipsum dolor sit " * 2_400) for number in range(20)]
_EXPENSIVE_CHAT = [(f"prompt {number}", "$a$ \n" * 39_000) for number in range(10)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attack:
    tabs: int = 0
    has_session: bool = False
    is_deaf: bool = False
    is_expensive: bool = False  # the chat takes seconds to draw
    downloads: int = 0


_ATTACKS = {
    "none": _Attack(),
    "19 of nobody": _Attack(tabs=19),
    "40 of a user": _Attack(tabs=40, has_session=True),
    "40 of a user, deaf": _Attack(tabs=40, has_session=True, is_deaf=True),
    "40 of a user, expensive chat": _Attack(tabs=40, has_session=True, is_expensive=True),
    "50 downloads": _Attack(downloads=50),
}


def main() -> None:
    """Measure, and print a table or JSON; as `--attack URL`, run an attack, which is the first line of the input, until it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_storm")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--nginx", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.attack:
        query, cookie, attack = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_input, daemon=True).start()
        asyncio.run(_run(_Attack(**attack), chosen.attack, query, cookie))
        return
    figures = measure(chosen.rounds, is_proxied=chosen.nginx)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<40} {figure:>10.1f}")


def measure(rounds: int, *, is_proxied: bool) -> Figures:
    """Return milliseconds by attack and figure, and their ratios to those without an attack."""
    proxied = {"DAYBOOK_TRUSTED_PROXIES": "1"} if is_proxied else {}
    figures: Figures = {}
    with (
        tempfile.TemporaryDirectory(prefix="daybook-") as folder,
        rig.model() as endpoint,
        chromium() as browser,
        rig.daybook(
            endpoint, DAYBOOK_STORE=f"sqlite:{folder}/x.db", DAYBOOK_SIGN_IN="local", **proxied
        ) as app,
        _nginx(app) if is_proxied else nullcontext(app) as front,
    ):
        with second_process(app) as sessions:
            _, session = sessions.sign_up_with(_ATTACKER, PASSWORD)
            sessions.sign_up_with(EMAIL, PASSWORD)
            let_talk_fast(app)
            # edited, because a model's replies are cut
            chats = [
                converse(session, turns, is_edited=True) for turns in (_LARGE_CHAT, _EXPENSIVE_CHAT)
            ]
            cookie, attacker = (
                rig.new_cookie(app, sessions, email) for email in (EMAIL, _ATTACKER)
            )
        page = browser.new_page()
        rig.sign_in(page.context, front.url, cookie)
        page.goto(front.url)
        rig.settle(page)
        for name, attack in _ATTACKS.items():
            who = (f"c={chats[attack.is_expensive]}", attacker) if attack.has_session else ("", "")
            with _attacked(front, attack, *who):
                for kind, value in _look(front, cookie, page, rounds).items():
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
    replies = [reply_milliseconds(page, _MARK, _LAST) for _ in range(max(3, rounds // 3))]
    is_over.set()
    watching.join()
    tab.leave()
    return {
        "page": statistics.median(runs),
        "slowest page": max(runs),
        "first character": statistics.median(first for first, _ in replies),
        "rest of the reply": statistics.median(rest for _, rest in replies),
        "slowest /healthz": max(health),
    }


def _timed(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    act()
    return 1000 * (time.monotonic() - begun)


@contextmanager
def _attacked(app: App, attack: _Attack, query: str, cookie: str) -> Generator[None]:
    """Attack *app* from another process, for `_ATTACK_SECONDS` before the block and throughout it."""
    command = [sys.executable, "-m", "benchmarks.run_storm", "--attack", app.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(json.dumps([query, cookie, asdict(attack)]) + "\n")
        process.stdin.flush()
        for _ in range(attack.tabs + attack.downloads):
            process.stdout.readline()
        time.sleep(0 if attack == _ATTACKS["none"] else _ATTACK_SECONDS)
        yield
        process.stdin.close()


@contextmanager
def _nginx(app: App) -> Generator[App]:
    """Yield *app* at the port of an nginx in front of it, which has the lines of docs/deploy.md."""
    lines = (ROOT / "docs/deploy.md").read_text().partition("\nnginx:\n")[2].splitlines()
    block = takewhile(lambda line: not line.strip() or line.startswith("    "), lines)
    port = free_port()
    replaced = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "server_name chat.example.org;": "",
        "ssl_certificate     …;": "",
        "ssl_certificate_key …;": "",
        "server 127.0.0.1:8501;": f"server 127.0.0.1:{app.port};",
        "server 127.0.0.1:8502;": "",
    }
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        servers = "\n".join(replaced.get(line.strip(), line) for line in block)
        events = f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}"
        Path(folder, "nginx.conf").write_text(f"{events} http {{ access_log off;\n{servers}\n}}")
        with subprocess.Popen(
            [shutil.which("nginx") or "nginx", "-c", f"{folder}/nginx.conf"]
        ) as process:
            front = replace(app, port=port)
            until(lambda: front.health()[0])
            yield front
            process.terminate()


async def _run(attack: _Attack, url: str, query: str, cookie: str) -> None:
    page = httpx.get(url, trust_env=False).text
    scripts = re.findall(r'src="\.?/?(static/js/[^"]+)"', page)
    await asyncio.gather(
        *(_ask(url, query, cookie, is_deaf=attack.is_deaf) for _ in range(attack.tabs)),
        *(_download(url, scripts[0]) for _ in range(attack.downloads)),
    )


async def _download(url: str, path: str) -> None:
    """Take a file without a pause, again and again."""
    address = urlsplit(url)
    ask = f"GET /{path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
    has_begun = False
    while True:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        with suppress(OSError):
            writer.write(ask.encode())
            while await reader.read(1 << 18):
                if not has_begun:
                    print("begun", flush=True)
                    has_begun = True
        writer.close()


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
