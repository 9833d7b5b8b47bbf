"""How long Daybook takes to mend itself after one of its parts is killed.

python -m benchmarks.mend [--json] [--runs N]

Seconds from `kill -9` until another process has taken the part's place and `/healthz` says that all is well.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from services import embedded
from tests.stack.apps import App, running, until

PARTS = ("node", "postgres", "supervisor", "model")


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mend")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=7, help="of each part")
    chosen = parser.parse_args()

    figures = measure(chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    print(f"seconds until it is mended, of {chosen.runs}   median   longest")
    for part, seconds in figures.items():
        print(f"  {part:<33} {statistics.median(seconds):>6.2f} {max(seconds):>9.2f}")


def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of each run, by part."""
    figures: dict[str, list[float]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        app = App(Path(folder), embedded.chosen(None, None).cache.parent)
        for _ in range(runs):  # a part that dies again and again is started again ever later
            with running(app):
                app.until_ready()
                for part in PARTS:
                    app.until_model_is("ready")
                    figures[part].append(_mended(app, part))
    return figures


def _mended(app: App, part: str) -> float:
    before = app.part(part)
    since = time.monotonic()
    before.kill()
    until(lambda: app.part(part) not in (None, before))
    until(lambda: app.health()[0] == 200)
    if part == "model":
        app.until_model_is("ready")
    return round(time.monotonic() - since, 2)


if __name__ == "__main__":
    main()
