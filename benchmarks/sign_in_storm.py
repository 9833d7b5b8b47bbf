"""Simultaneous sign-ins of many users, each from a network address of its own, beside a user who chats.

python -m benchmarks.sign_in_storm [--people N] [--runs N] [--one-address] [--guesses] [--json]

Each sign-in computes a password hash of 64 MiB, with at most as many at once as the app has lanes; a user who waits too long is
refused with "busy". The memory is that of the app process: the lasting part is the increase after the run (the opened
sessions), and each lane's part is the rest of the peak. The browser, the database and the model share the machine with the app.

`--one-address`: all users have one network address, half of the cores are busy, and no user chats. `--guesses`: instead,
wrong passwords are tried, nine at once at known email addresses and nine at unknown ones in turn, each from a network address of
its own.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import psutil
from playwright.sync_api import Page

from benchmarks import rig
from benchmarks.first_character import milliseconds
from benchmarks.rig import EMAIL, Figures
from services.web.hashing_lanes import lane_count
from tests.chromium import chromium
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import let_talk_fast, second_process
from tests.stack.apps import App
from tests.stores import WholeAccounts

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]

_SAMPLE_SECONDS = 0.02
_AT_ONCE = 9  # simultaneous guesses
_PERMUTATIONS = 10_000
_SETTINGS = {"DAYBOOK_TRUSTED_PROXIES": "1", "DAYBOOK_SIGN_UPS_AN_HOUR": "100000"}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sign_in_storm")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument(
        "--runs", type=int, default=9, help="first characters before the storm; rounds"
    )
    parser.add_argument("--one-address", action="store_true")
    parser.add_argument("--guesses", action="store_true")
    chosen = parser.parse_args()

    if chosen.guesses:
        figures = measure_guesses(chosen.runs)
    elif chosen.one_address:
        figures = measure_one_address(chosen.people)
    else:
        figures = measure(chosen.people, chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<28} {figure:>10.2f}")


def measure(people: int, runs: int) -> Figures:
    """Return milliseconds, seconds, megabytes and counts by name."""
    with (
        rig.model() as endpoint,
        chromium() as browser,
        rig.daybook(endpoint, **_SETTINGS) as app,
    ):
        with second_process(app) as sessions:
            emails = _emails("person", people)
            _sign_up_all(sessions, emails)
            sessions.sign_up_with(EMAIL, PASSWORD)
            let_talk_fast(app)
            cookie = rig.new_cookie(app, sessions)
        page = browser.new_page()
        rig.sign_in(page.context, app.url, cookie)
        page.goto(app.url)
        rig.settle(page)
        before = [milliseconds(page) for _ in range(runs)]
        quiet_ms = statistics.median(before)
        return _storm(app, page, emails, quiet_ms)


def measure_one_address(people: int) -> Figures:
    """Return counts, and the seconds until the last user is signed in, with half of the cores busy."""
    emails = _emails("person", people)
    with rig.model() as endpoint, rig.daybook(endpoint, **_SETTINGS) as app:
        with second_process(app) as sessions:
            _sign_up_all(sessions, emails)
        with _busy_cores((os.cpu_count() or 1) // 2):
            answers = asyncio.run(_post_all(app, emails, ["10.0.0.7"] * people, PASSWORD))
    waited = [seconds for answer, seconds in answers if _told(answer) == "in"]
    return {
        "lanes": lane_count(),
        "people": people,
        "signed in": len(waited),
        "told busy": sum(_told(answer) == "busy" for answer, _ in answers),
        "seconds of the last to be in": max(waited, default=0.0),
    }


def measure_guesses(rounds: int) -> Figures:
    """Return the milliseconds of refusals by the kind of email address, and the p value of the difference."""
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    with rig.model() as endpoint, rig.daybook(endpoint, **_SETTINGS) as app:
        with second_process(app) as sessions:
            _sign_up_all(sessions, _emails("known", _AT_ONCE * rounds))
        for number in range(2 * rounds):
            kind, first = ("known", "unknown")[number % 2], number // 2 * _AT_ONCE
            emails = _emails(kind, _AT_ONCE * rounds)[first : first + _AT_ONCE]
            addresses = [f"10.{number}.{one}.7" for one in range(_AT_ONCE)]
            guesses = _post_all(app, emails, addresses, PASSWORD + "!")
            answers = asyncio.run(guesses)
            if any("reason=wrong" not in answer for answer, _ in answers):
                raise RuntimeError(f"a guess was answered otherwise: {answers}")
            times[kind].append(statistics.mean(seconds * 1000 for _, seconds in answers))
    known, unknown = (np.array(times[kind]) for kind in ("known", "unknown"))
    return {
        "rounds of each": rounds,
        "known, mean (ms)": float(known.mean()),
        "unknown, mean (ms)": float(unknown.mean()),
        "known - unknown (ms)": float((known - unknown).mean()),
        "p of the difference": _p_value(known - unknown),
    }


def _p_value(differences: Numbers) -> float:
    """Return the two-sided p value of a mean of 0 by a permutation test of paired rounds: random signs."""
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (_PERMUTATIONS, len(differences)))
    by_chance = np.abs((signs * differences).mean(axis=1))
    return float((by_chance >= abs(differences.mean()) - 1e-9).mean())


def _emails(name: str, count: int) -> list[str]:
    return [f"{name}-{number}@daybook.test" for number in range(count)]


def _sign_up_all(sessions: WholeAccounts, emails: list[str]) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda one: sessions.sign_up_with(one, PASSWORD), emails))


@contextmanager
def _busy_cores(count: int) -> Generator[None]:
    """Keep *count* cores busy with processes of their own."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def _storm(app: App, page: Page, emails: list[str], quiet_ms: float) -> Figures:
    addresses = [f"10.{number >> 8}.{number & 255}.7" for number in range(len(emails))]
    memory = _Memory(psutil.Process(app.process.pid))
    began = time.monotonic()
    with memory, ThreadPoolExecutor(1) as thread:
        answers: Future[list[tuple[str, float]]] = thread.submit(
            asyncio.run, _post_all(app, emails, addresses, PASSWORD)
        )
        during = [milliseconds(page)]
        while not answers.done():
            during.append(milliseconds(page))
        seconds = time.monotonic() - began
    told = Counter(_told(answer) for answer, _ in answers.result())
    waited = [waiting for answer, waiting in answers.result() if _told(answer) == "in"]
    return {
        "lanes": lane_count(),
        "people": len(emails),
        "signed in": told["in"],
        "told busy": told["busy"],
        "answered otherwise": len(emails) - told["in"] - told["busy"],
        "median seconds to be in": statistics.median(waited) if waited else 0.0,
        "seconds of the last to be in": max(waited, default=0.0),
        "seconds in all": seconds,
        "MB more for each lane": (memory.most - memory.last) / lane_count() / 1e6,
        "MB that stay": memory.last / 1e6,
        "first character, quiet (ms)": quiet_ms,
        "first character, storm (ms)": statistics.median(during),
        "storm / quiet": statistics.median(during) / quiet_ms,
    }


def _told(location: str) -> str:
    return "in" if location == "/" else "busy" if "reason=busy" in location else location or "error"


async def _post_all(
    app: App, emails: list[str], addresses: list[str], password: str
) -> list[tuple[str, float]]:
    """Sign in all users at once, each from a network address of its own; return the redirect and the seconds of each."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:

        async def sign_in(email: str, address: str) -> tuple[str, float]:
            began = time.monotonic()
            answer = await client.post(
                f"{app.url}/session",
                data={"email": email, "password": password, "next": "/"},
                headers={"Origin": app.url, "X-Forwarded-For": address},
            )
            return answer.headers.get("location", ""), time.monotonic() - began

        return await asyncio.gather(*map(sign_in, emails, addresses))


@dataclass(slots=True)
class _Memory:
    """The peak memory of a process during a block, minus the memory at the start."""

    process: psutil.Process
    most: int = 0
    last: int = 0  # memory at the end of the block
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
