"""Time until Daybook recovers from the death of one of its parts, and until Ctrl-C ends Daybook.

python -m benchmarks.life [--json] [--runs N]

Recovery: from `kill -9` of a part until a new process has replaced it and `/healthz` reports that all parts are ready.
End: from one Ctrl-C, at several moments of a start and when Daybook is ready, until none of its processes is left.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from services.embedded.folders import choose_folders
from tests.stack.apps import App, running, until

PARTS = ("node", "postgres", "model")
STAGES = ("starting the database", "preparing the tables", "starting the database's API")
IMPORTS = 0.7  # seconds after a start at which Python is still importing modules

Seconds = dict[str, list[float]]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.life")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=7, help="of each")
    chosen = parser.parse_args()

    figures = measure(chosen.runs)
    if chosen.json:
        print(json.dumps(figures))
        return
    for what, rows in figures.items():
        print(f"seconds until {what}, of {chosen.runs}".ljust(36), "median   longest")
        for name, seconds in rows.items():
            print(f"  {name:<34} {statistics.median(seconds):>6.2f} {max(seconds):>9.2f}")


def measure(runs: int) -> dict[str, Seconds]:
    """Return the seconds of each run, by the killed part or by the moment of Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        app = App(Path(folder), choose_folders(None, None).cache)
        mended, ended = _table(PARTS), _table(("importing", *STAGES, "ready"))
        for _ in range(runs):  # a part that dies repeatedly is restarted after growing delays
            with running(app):
                app.until_ready()
                for part in PARTS:
                    app.until_model_is("ready")
                    mended[part].append(_mended(app, part))
                ended["ready"].append(app.interrupt())
            with running(app):
                time.sleep(IMPORTS)
                ended["importing"].append(app.interrupt())
            for stage in STAGES:
                with running(app):
                    app.until_it_says(stage)
                    ended[stage].append(app.interrupt())
    return {"mended": mended, "ended": ended}


def _table(rows: tuple[str, ...]) -> Seconds:
    return {row: [] for row in rows}


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
