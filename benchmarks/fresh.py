"""Daybook on a new machine: the time until it answers, the size of the installation, and the memory that it takes.

`python -m benchmarks.fresh [--json]` clones the repository, and runs the README's two commands in the clone with an
empty HOME and an environment that has only the settings of the network. Uncommitted changes are not measured.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from services.embedded.folders import free_port

ROOT = Path(__file__).parents[1]
# settings of a company's proxy, mirror and certificates, without which nothing can be fetched
NETWORK = re.compile(
    r"(?i)((https?|no|all)_proxy|.*(ssl_cert|ca_bundle|ca_certs?).*|(pip|npm_config|uv)_.*)"
)
IDLE_SECONDS = 10
SHELL = "/bin/sh"
SLOWEST = 900  # the longest wait in seconds
PARTS = {  # for each part, a piece of its command line
    "model": "services.embedded.model_server",
    "node": "@supabase/lite",
    "postgres": "postgres",
    "app": "streamlit",
}


class Machine:
    """A folder with a HOME, a clone, and a virtual environment with only pip in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.clone = folder, folder / "home", folder / "daybook"
        self.home.mkdir(parents=True)
        _run(["git", "clone", "--quiet", ROOT.as_uri(), str(self.clone)], os.environ)
        _run([sys.executable, "-m", "venv", str(folder / "python")], os.environ)
        python = Path(sys.base_prefix) / "bin"
        self.environment = {
            "PATH": f"{folder / 'python/bin'}:{python}:{os.defpath}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
        } | {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        self._before = _megabytes(folder)

    def installed(self) -> dict[str, int]:
        """Return megabytes; a file with several links counts once. The data folder is not part of the installation."""
        data = self.home / ".local" / "share" / "daybook"
        places = {
            "environment": self.clone / ".venv",
            "node_modules": self.home / ".cache" / "daybook",
            "data": data,
        }
        found = {name: _megabytes(place) for name, place in places.items() if place.exists()}
        return {"all": _megabytes(self.folder) - self._before - _megabytes(data)} | found

    @contextmanager
    def app(self, *before: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Run the README's command (after *before*) on a free port; stop it afterwards, as by Ctrl-C."""
        port = free_port()
        run = f"uv run streamlit run streamlit_app.py --server.port {port}"
        with (self.folder / "console.txt").open("wb") as console:
            process = subprocess.Popen(
                [SHELL, "-c", " && ".join([*before, run])],
                cwd=self.clone,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process, f"http://127.0.0.1:{port}/healthz"
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(60)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    machine = Machine(folder / "run")
    since = time.monotonic()
    with machine.app("pip install --quiet uv") as (process, url):
        ready = _until(process, url, lambda status, body: status == 200) - since
        model = _until(process, url, lambda status, body: body.get("model") == "ready") - since
        time.sleep(IDLE_SECONDS)
        memory = _memory(process)
    installed = machine.installed()
    since = time.monotonic()
    with machine.app() as (process, url):
        second = _until(process, url, lambda status, body: status == 200) - since

    tests = Machine(folder / "test")
    since = time.monotonic()
    command = "pip install --quiet uv && uv run --group dev pytest --version"
    _run([SHELL, "-c", command], tests.environment, tests.clone)
    return {
        "run": {
            "ready_seconds": round(ready, 1),
            "model_ready_seconds": round(model, 1),
            "second_start_seconds": round(second, 1),
        },
        "run_installed_mb": installed,
        "test": {"ready_seconds": round(time.monotonic() - since, 1)},
        "test_installed_mb": tests.installed(),
        "idle_memory_mb": memory,
    }


def _until(
    process: subprocess.Popen[bytes], url: str, holds: Callable[[int, dict[str, str]], bool]
) -> float:
    """Return the monotonic time at which *holds* first returned True for the answer of /healthz."""
    deadline = time.monotonic() + SLOWEST
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                reply = client.get(url)
                if holds(reply.status_code, reply.json()):
                    return time.monotonic()
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
    raise SystemExit("The app did not come up.")


def _memory(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Return the megabytes of each part, with shared memory divided among its users (PSS)."""
    found = dict.fromkeys(PARTS, 0.0)
    for one in psutil.Process(process.pid).children(recursive=True):
        command = " ".join(one.cmdline())
        part = next((name for name, mark in PARTS.items() if mark in command), None)
        if part and not command.startswith("uv "):
            found[part] += one.memory_full_info().pss / 1e6
    table = {name: round(megabytes) for name, megabytes in found.items()}
    everything = sum(table.values())
    return table | {"without_model": everything - table["model"], "all": everything}


def _megabytes(folder: Path) -> int:
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        found = path.lstat()
        seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return round(sum(seen.values()) / 1e6)


def _run(command: list[str], environment: dict[str, str], folder: Path | None = None) -> None:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="daybook-fresh-"))
    try:
        figures = measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if asked.json:
        print(json.dumps(figures))
        return
    for title, rows in figures.items():
        print(title.replace("_", " "))
        for name, value in rows.items():
            print(f"  {name.replace('_', ' '):22}{value:>8}")


if __name__ == "__main__":
    main()
