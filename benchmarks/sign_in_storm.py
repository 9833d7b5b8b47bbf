"""Sign-ins of many people at once, each from an address of its own, beside a reader who chats.

python -m benchmarks.sign_in_storm [--people N] [--runs N] [--json]

Each sign-in computes a password hash of 64 MiB, as many at once as the app has lanes; who has waited too long is told
"busy". The memory is that of the app process: what stays is more after the storm than before it (the opened sessions), and
each lane's is the rest of the most that there was. Reader, browser, database and model share the machine with the app.
"""

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import psutil
from playwright.sync_api import Page

from benchmarks import rig
from benchmarks.first_character import milliseconds
from benchmarks.rig import EMAIL, Figures
from services.web.hashing_lanes import lane_count
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import let_talk_fast, second_process
from tests.stack.apps import App

_SAMPLE_SECONDS = 0.02


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sign_in_storm")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--runs", type=int, default=9, help="first characters before the storm")
    chosen = parser.parse_args()

    figures = measure(chosen.people, chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<28} {figure:>10.1f}")


def measure(people: int, runs: int) -> Figures:
    """Milliseconds, seconds, megabytes and counts by name."""
    with rig.model() as endpoint, rig.chromium() as browser:
        settings = {"DAYBOOK_TRUSTED_PROXIES": "1", "DAYBOOK_SIGN_UPS_AN_HOUR": "100000"}
        with rig.daybook(endpoint, **settings) as app:
            with second_process(app) as sessions:
                emails = [f"person-{number}@daybook.test" for number in range(people)]
                with ThreadPoolExecutor(2) as threads:
                    list(threads.map(lambda one: sessions.sign_up_with(one, PASSWORD), emails))
                sessions.sign_up_with(EMAIL, PASSWORD)
                let_talk_fast(app)
                cookie = rig.new_cookie(app, sessions)
            page = browser.new_page()
            rig.sign_in(page.context, app.url, cookie)
            page.goto(app.url)
            rig.settle(page)
            before = [milliseconds(page) for _ in range(runs)]
            return _storm(app, page, emails, statistics.median(before))


def _storm(app: App, page: Page, emails: list[str], quiet_ms: float) -> Figures:
    memory = _Memory(psutil.Process(app.process.pid))
    began = time.monotonic()
    with memory, ThreadPoolExecutor(1) as thread:
        answers: Future[list[tuple[str, float]]] = thread.submit(
            asyncio.run, _sign_in_all(app, emails)
        )
        during = [milliseconds(page)]
        while not answers.done():
            during.append(milliseconds(page))
        seconds = time.monotonic() - began
    told = Counter(answer for answer, _ in answers.result())
    waited = [waiting for answer, waiting in answers.result() if answer == "in"]
    return {
        "lanes": lane_count(),
        "people": len(emails),
        "signed in": told["in"],
        "told busy": told["busy"],
        "answered otherwise": len(emails) - told["in"] - told["busy"],
        "median seconds to be in": statistics.median(waited) if waited else 0.0,
        "seconds in all": seconds,
        "MB more for each lane": (memory.most - memory.last) / lane_count() / 1e6,
        "MB that stay": memory.last / 1e6,
        "first character, quiet (ms)": quiet_ms,
        "first character, storm (ms)": statistics.median(during),
        "storm / quiet": statistics.median(during) / quiet_ms,
    }


async def _sign_in_all(app: App, emails: list[str]) -> list[tuple[str, float]]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:

        async def sign_in(number: int, email: str) -> tuple[str, float]:
            began = time.monotonic()
            answer = await client.post(
                f"{app.url}/session",
                data={"email": email, "password": PASSWORD, "next": "/"},
                headers={
                    "Origin": app.url,
                    "X-Forwarded-For": f"10.{number >> 8}.{number & 255}.7",
                },
            )
            where = answer.headers.get("location", "")
            told = "in" if where == "/" else "busy" if "reason=busy" in where else where or "error"
            return told, time.monotonic() - began

        return await asyncio.gather(*(sign_in(*one) for one in enumerate(emails)))


@dataclass(slots=True)
class _Memory:
    """The most bytes that a process takes in a block, less those at its beginning."""

    process: psutil.Process
    most: int = 0
    last: int = 0  # after the block
    _before: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "_Memory":
        self._before = self.process.memory_info().rss

        def watch() -> None:
            while not self._is_over.wait(_SAMPLE_SECONDS):
                self.most = max(self.most, self.process.memory_info().rss - self._before)

        threading.Thread(target=watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.last = self.process.memory_info().rss - self._before


if __name__ == "__main__":
    main()
