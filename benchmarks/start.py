"""Seconds of a second start with a model elsewhere, beside `streamlit hello`.

python -m benchmarks.start [--json] [--rounds N] [--beside FOLDER]

Each round starts `streamlit hello`, Daybook and, from the checkout at FOLDER, another commit of Daybook, one after the
other. The time is from the start of the process until `/_stcore/health`, or `/healthz`, answers 200. The first round does not count.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.embedded.folders import choose_folders
from tests.stack.apps import ROOT, TLS, App, running

ELSEWHERE = {
    "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    "OPENAI_API_KEY": "none",
    "DAYBOOK_MODEL": "some",
}
HELLO = "streamlit hello"


@dataclass
class Start:
    """One of the starts that a round compares."""

    name: str
    app: App
    path: str

    def seconds(self) -> float:
        """Start the server, and stop it when it has answered; return the seconds."""
        with running(self.app):
            while not self._answers():
                if self.app.process.poll() is not None:
                    raise SystemExit(f"{self.name} did not start: {self.app.told()}")
                time.sleep(0.01)
            seconds = time.monotonic() - self.app.started_at
            self.app.interrupt()
        return seconds

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            url = f"{self.app.url}{self.path}"
            return httpx.get(url, trust_env=False, verify=TLS).status_code == 200
        return False


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--beside", type=Path, help="a checkout of another commit")
    chosen = parser.parse_args()

    figures = measure(chosen.rounds, chosen.beside)
    if chosen.json:
        print(json.dumps(figures))
        return
    print(f"seconds until the first 200, of {chosen.rounds}".ljust(40), "median  of hello")
    for name, seconds in figures.items():
        of_hello = [ours / hello for ours, hello in zip(seconds, figures[HELLO], strict=True)]
        print(
            f"  {name:<38} {statistics.median(seconds):>6.2f} {statistics.median(of_hello):>9.2f}"
        )


def measure(rounds: int, beside: Path | None) -> dict[str, list[float]]:
    """Return the seconds of each start by its name."""
    with tempfile.TemporaryDirectory(prefix="daybook-") as base:
        starts = [
            Start(HELLO, _app(Path(base, "hello"), ROOT, ("hello",)), "/_stcore/health"),
            Start("Daybook", _app(Path(base, "daybook"), ROOT), "/healthz"),
        ]
        if beside:
            starts.append(Start("beside", _app(Path(base, "beside"), beside.resolve()), "/healthz"))
        seconds = [[start.seconds() for start in starts] for _ in range(rounds + 1)][1:]
    columns = zip(*seconds, strict=True)
    return {start.name: list(column) for start, column in zip(starts, columns, strict=True)}


def _app(base: Path, checkout: Path, command: tuple[str, ...] = ("run", "streamlit_app.py")) -> App:
    cache = choose_folders(None, None).cache
    return App(base, cache, environment=ELSEWHERE, checkout=checkout, command=command)


if __name__ == "__main__":
    main()
