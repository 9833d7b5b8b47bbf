"""Programs we run: started so that none outlives us, stopped in order, restarted with patience."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from services.embedded.folders import full
from services.errors import Misconfigured, says_disk_full

Child = subprocess.Popen[bytes]
_LOG_BYTES = 5_000_000
_LONGEST_START = 300.0  # seconds: a busy machine takes its time, so does a database that recovers
_TETHER = Path(__file__).with_name("tether.py")


class ToolFailed(Exception):
    """A program that should have ended well did not; *output* is what it said, for us alone."""

    def __init__(self, program: str, output: str) -> None:
        super().__init__(f"{program} failed")
        self.output = output

    def explained(self, log: Path, folder: Path, otherwise: str) -> Misconfigured:
        """Write the output to *log*; return what to say: that the disk of *folder* is full, or *otherwise*."""
        with contextlib.suppress(OSError):  # a full disk has no room for it
            log.write_text(self.output)
        return full(folder) if says_disk_full(self.output) else Misconfigured(otherwise)


class Patience:
    """How often a part may be started again: *times* within *seconds*, later and later."""

    def __init__(self, times: int = 5, seconds: float = 300.0) -> None:
        self._times, self._seconds = times, seconds
        self._starts: deque[float] = deque()

    def next_delay(self) -> float | None:
        """Seconds to wait before the next start, or None when it has failed too often."""
        now = time.monotonic()
        while self._starts and now - self._starts[0] > self._seconds:
            self._starts.popleft()
        if len(self._starts) >= self._times:
            return None
        self._starts.append(now)
        return 0.1 * 3 ** (len(self._starts) - 1)  # 0.1, 0.3, 0.9, 2.7, 8.1


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    folder: Path,
    death_signal: str = "SIGKILL",
    user: str | None = None,
) -> Child:
    """Start *command* tied to the calling thread: it dies with us, so that thread must live as long."""
    tied = [str(int(signal.Signals[death_signal])), str(os.getpid()), user or "", *command]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_TETHER), *tied],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    user: str | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Run *command* to its end, handing on each line. Raise ToolFailed unless it ends well."""
    child = start(
        command, environment=environment, output=subprocess.PIPE, folder=folder, user=user
    )
    output = cast(IO[bytes], child.stdout)
    said: deque[str] = deque(maxlen=200)
    try:
        for line in output:
            said.append(line.decode(errors="replace"))
            on_line(said[-1])
        if child.wait() != 0:
            raise ToolFailed(Path(command[0]).name, "".join(said))
    finally:
        stop(child, signal.Signals.SIGKILL, within=5)
        output.close()


def stop(child: Child, gently: signal.Signals, within: float) -> None:
    """End *child*: *gently*, and after *within* seconds by force."""
    if child.poll() is not None:
        return
    child.send_signal(gently)
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Server(ABC):
    """A long-lived program of the stack, its process, and how often that may start again."""

    end_signal, end_seconds = signal.SIGKILL, 5.0  # how it is ended, and how long before by force

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.patience = Patience()
        self.child: Child | None = None

    @abstractmethod
    def launch(self) -> Child:
        """Start the program; it does not answer yet."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the program serves. Raise Misconfigured if it never will."""

    def start(self) -> Child:
        self.child = self.launch()
        return self.child

    def wait(self) -> None:
        """Return once the program answers. Raise Misconfigured if it ends first or takes too long."""
        deadline = time.monotonic() + _LONGEST_START
        while not self.answers():
            if self.is_down():
                raise self.gone()
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"{self.name} does not answer after {_LONGEST_START:.0f} s: see {self.log}."
                )
            time.sleep(0.02)

    def end(self) -> None:
        if self.child is not None:
            stop(self.child, self.end_signal, self.end_seconds)

    def is_down(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def gone(self) -> Misconfigured:
        """What to say where the program ended, and will again."""
        return Misconfigured(f"{self.name} stopped and does not come back: see {self.log}.")


def replies(port: int, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a GET to *port* of this machine is answered with JSON, and well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers))
        reply = connection.getresponse()
        kind = reply.headers.get_content_type()
        return reply.status == http.HTTPStatus.OK and kind == "application/json"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def open_log(path: Path) -> IO[bytes]:
    """A new log at *path*, readable by us alone, for one start; the one before is kept as `.old`.

    Where the disk is full, what would be logged is dropped.
    """
    try:
        if path.exists():
            path.replace(path.with_suffix(".old"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError as error:
        if not says_disk_full(error):
            raise
        return Path(os.devnull).open("ab")


def write_log(path: Path, lines: Iterable[bytes]) -> None:
    """Write *lines* to a log that never grows large; what finds no room on the disk is dropped."""
    file = open_log(path)
    for line in lines:
        with contextlib.suppress(OSError):
            if file.tell() > _LOG_BYTES:
                file.close()
                file = open_log(path)
            file.write(line)
            file.flush()
    with contextlib.suppress(OSError):
        file.close()


def tail(path: Path, size: int = 4000) -> str:
    """The last *size* bytes of the file, as text; nothing if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
