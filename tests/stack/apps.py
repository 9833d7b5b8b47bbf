"""The whole app as a process, and the processes that remain after its end."""

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from services.embedded.folders import free_port
from services.embedded.processes import tail
from tests.stack.starts import await_start, twice, work_of

ROOT = Path(__file__).parents[2]
# made once, because it takes most of the time of a local request
TLS = ssl.create_default_context()
PASSWORD = "correct horse battery"
SECONDS = 60.0  # a generous limit, because the machine may be slow or busy
_PARTS = {
    "model": "services.embedded.model_server",
    "node": "@supabase/lite",
    "postgres": "/bin/postgres",
    "initdb": "/bin/initdb",
    "npm": "npm",  # "npm-cli.js" for a moment, then renamed to "npm ci"
}


def until(what, within=SECONDS, told=lambda: ""):
    """Return the result of *what* once it is true; fail with the text of *told* if that takes too long."""
    began = time.monotonic()
    while not (found := what()):
        waited = time.monotonic() - began
        assert waited < within, f"not within {within} s{told()}"
        # less often the longer it waits: most checks cost CPU time in a browser or a server
        time.sleep(min(0.1, 0.02 + waited / 20))
    return found


def tails(logs):
    """Return the last lines of a stack's logs, for the report of a failure; no log contains a secret or text of users."""
    return "".join(f"\n--- {log.name}\n{tail(log)}" for log in sorted(logs.glob("*.log")))


@dataclass
class App:
    """`streamlit run streamlit_app.py` with a home, data and keys of its own under *base*."""

    base: Path
    cache: Path
    port: int | None = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Path = None
    keys: Path = None
    checkout: Path = ROOT
    command: Sequence[str] = ("run", "streamlit_app.py")
    program: Sequence[str] = (
        "streamlit",
    )  # the module that runs the command, with arguments before it
    # for tests: a DATABASE_URL of the schema's owner, if the app uses a Supabase that runs elsewhere
    database: str | None = field(default=None, repr=False)
    _family: dict[int, psutil.Process] = field(default_factory=dict)

    def __post_init__(self):
        self.data = self.data or self.base / "data"
        self.keys = self.keys or self.base / "keys"
        self.console = self.base / f"console-{time.monotonic_ns()}.txt"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        home = self.base / "home"
        home.mkdir(parents=True, exist_ok=True)
        port = ["--server.port", str(self.port)] if self.port else []
        with self.console.open("wb") as output:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.program, *self.command, *port],
                cwd=self.checkout,
                env={
                    "PATH": os.defpath,
                    "HOME": str(home),
                    "LANG": "C.UTF-8",
                    "XDG_CACHE_HOME": str(self.cache.parent),
                    "DAYBOOK_DATA_DIR": str(self.data),
                    "DAYBOOK_KEY_DIR": str(self.keys),
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_hear_ctrl_c,
            )
        return self

    def said(self):
        return self.console.read_text(errors="replace")

    def told(self):
        """Return its last output, and that of its stack, for the report of a failure."""
        return f"\n{self.said()[-2000:]}{tails(self.data / 'logs')}"

    def last_line(self):
        """Return the last line for people; events are JSON."""
        return [line for line in self.said().splitlines() if not line.startswith("{")][-1]

    def until_it_says(self, words):
        until(lambda: words in self.said() or self._has_ended(), told=self.told)
        assert words in self.said(), self.told()

    def health(self):
        """Return the status and body of /healthz; 0 while nothing listens."""
        try:
            reply = httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False, verify=TLS)
        except httpx.HTTPError:
            return 0, {}
        return reply.status_code, reply.json()

    def until_ready(self):
        """Return the seconds from the start, or from a second start, until /healthz answered 200."""
        return twice("the app", self._await_ready, self._start_again)

    def until_model_is(self, state):
        until(lambda: self.health()[1].get("model") == state, told=self.told)

    def ended(self, within=SECONDS):
        """Return the exit code once the app has ended."""
        return self.process.wait(within)

    def note_family(self):
        """Remember the app's current processes, to look for them later."""
        with contextlib.suppress(psutil.Error):
            app = psutil.Process(self.process.pid)
            self._family |= {one.pid: one for one in (app, *app.children(recursive=True))}
        return [one for one in self._family.values() if one.is_running()]

    def part(self, name):
        """Return the running part of that name, a key of _PARTS, or None."""
        for process in self.note_family():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if _PARTS[name] in command and process.ppid() in self._family:
                    return process
        return None

    @contextmanager
    def frozen_database(self):
        """Stop Postgres during the block; requests that it receives are executed afterwards."""
        postmaster = self.part("postgres")
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(family):
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def left(self):
        """Return the processes of the app, or in its folders, that are still running."""
        return [_described(one) for one in psutil.process_iter() if self._is_ours(one)]

    def interrupt(self, sent=signal.SIGINT):
        """Return the seconds from Ctrl-C until no process of the app is left."""
        self.note_family()
        since = time.monotonic()
        os.killpg(self.process.pid, sent)  # sent to the process group, as by a terminal
        self.process.wait(SECONDS)
        until(lambda: not self.left())
        return time.monotonic() - since

    def kill(self):
        self.note_family()
        self.process.kill()
        self.process.wait()

    def end(self):
        """End the app and its remaining processes by force."""
        self.kill()
        with contextlib.suppress(AssertionError):
            # processes that are still there afterwards are killed
            until(lambda: not self.left(), 15)
        for process in filter(self._is_ours, psutil.process_iter()):
            process.kill()

    def sign_up(self, name):
        """Store rows that `knows` finds."""
        assert self._enter("account", name)

    def knows(self, name):
        """Return True if the rows of *name* still exist."""
        return self._enter("session", name)

    def _await_ready(self):
        await_start(lambda: self.health()[0] == 200, self._progress, self.told)
        self.note_family()
        return time.monotonic() - self.started_at

    def _start_again(self):
        self.end()
        self.start()
        return self._await_ready()

    def _progress(self):
        if self._has_ended():
            return None
        logs = (self.data / "logs").glob("*.log")
        return work_of([psutil.Process(self.process.pid)], [self.console, *logs])

    def _enter(self, route, name):
        """Post the form of *route*; return True if it answered with a session."""
        given = {"email": f"{name}@example.com", "password": PASSWORD, "next": "/"}
        url = f"{self.url}/{route}"
        answer = httpx.post(url, data=given, timeout=30, trust_env=False, verify=TLS)
        return "set-cookie" in answer.headers

    def _has_ended(self):
        return self.process.poll() is not None

    def _is_ours(self, process):
        try:
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            is_known = self._family.get(process.pid) == process
            return is_alive and (is_known or process.cwd().startswith(str(self.base)))
        except psutil.Error:
            return False


def _hear_ctrl_c():
    """Receive Ctrl-C as in a terminal, because a background job and its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(app):
    """Start *app*, yield it, and end it by force if the test did not end it."""
    app.start()
    try:
        yield app
    finally:
        app.end()


def _described(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.name()} {' '.join(process.cmdline())[:120]}"
    return str(process.pid)
