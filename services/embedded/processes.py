"""Child processes and long-lived servers, none of which outlives the app: starting, stopping, logs and restarts."""

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

from services.embedded import folders
from services.embedded.folders import says_disk_full
from services.errors import Misconfigured

Child = subprocess.Popen[bytes]
Sleep = Callable[[float], None]  # waits for the given number of seconds; may raise Stopped
_LOG_BYTES = 5_000_000
_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")


class Stopped(Exception):
    """Raised in waiting threads of the stack, so that they end when the stack stops."""


class Backoff:
    """Growing delays between restarts. At most *times* restarts are allowed within *seconds*."""

    def __init__(self, times: int = 5, seconds: float = 300.0) -> None:
        self._times, self._seconds = times, seconds
        self._starts: deque[float] = deque()

    def next_delay(self) -> float | None:
        """Return the seconds to wait before the next start, or None if there were too many starts."""
        now = time.monotonic()
        while self._starts and now - self._starts[0] > self._seconds:
            self._starts.popleft()
        if len(self._starts) >= self._times:
            return None
        self._starts.append(now)
        return 0.1 * 3 ** (len(self._starts) - 1)  # 0.1, 0.3, 0.9, 2.7, 8.1


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    output: IO[bytes] | int,
    *,
    death_signal: str = "SIGKILL",
    user: str | None = None,
    inherited: Sequence[int] = (),
) -> Child:
    """Start *command* in *folder*; the process inherits the file descriptors *inherited*.

    The program receives *death_signal* when the calling thread ends, so that thread must live as long as the program.
    """
    arguments = [str(int(signal.Signals[death_signal])), str(os.getpid()), user or "", *command]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), *arguments],
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=inherited,
        start_new_session=True,  # Ctrl-C then reaches only the app, which stops its children itself
    )


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    log: Path,
    failure: str,
    user: str | None = None,
    is_error: Callable[[str], bool] = lambda line: False,
) -> None:
    """Run *command* in *folder* until it ends; *is_error* is called with each line of its output.

    If the command fails or *is_error* returns True, write the last lines to *log* and raise Misconfigured, with the
    text *failure* or, if the output says that the disk is full, with a text about the full disk.
    """
    child = start(command, environment, folder, subprocess.PIPE, user=user)
    pipe = cast(IO[bytes], child.stdout)
    lines: deque[str] = deque(maxlen=200)
    try:
        for line in pipe:
            lines.append(line.decode(errors="replace"))
            if is_error(lines[-1]):
                break
        else:
            if child.wait() == 0:
                return
    finally:
        stop(child, signal.SIGKILL, within=5)
        pipe.close()
    output = "".join(lines)
    with contextlib.suppress(OSError):  # not even the log can be written if the disk is full
        log.write_text(output)
    raise folders.disk_full(folder.parent) if says_disk_full(output) else Misconfigured(failure)


def stop(child: Child, first: signal.Signals, within: float) -> None:
    """Send *child* the signal *first*; after *within* seconds, send SIGKILL if the child is still running."""
    child.send_signal(first)  # does nothing if the process has ended
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class Server(ABC):
    """A long-lived program of the stack, with its process and the delays between its restarts."""

    stop_signal, stop_seconds = signal.SIGKILL, 5.0
    # maximum seconds for a start: the machine may be busy, or the database recovering
    start_seconds = 300.0

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.backoff = Backoff()
        self.child: Child | None = None

    @abstractmethod
    def launch(self) -> Child:
        """Start the program, without waiting until it responds."""

    @abstractmethod
    def answers(self) -> bool:
        """Return True once the program responds to requests. Raise Misconfigured if it never will."""

    def start(self) -> Child:
        self.child = self.launch()
        return self.child

    def wait(self, sleep: Sleep = time.sleep) -> None:
        """Wait until the program responds. Raise Misconfigured if it ends first or takes too long."""
        deadline = time.monotonic() + self.start_seconds
        while not self.answers():
            if self.is_down():
                raise self.failure()
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"{self.name} does not answer after {self.start_seconds:.0f} s: see {self.log}."
                )
            sleep(0.02)

    def stop(self) -> None:
        if self.child is not None:
            stop(self.child, self.stop_signal, self.stop_seconds)

    def is_down(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def lacks_space(self) -> bool:
        """Return True if the program ended, or would end, because of a full disk."""
        return folders.is_full(self.log.parent) or says_disk_full(tail(self.log))

    def failure(self) -> Misconfigured:
        if self.lacks_space():
            return folders.disk_full(self.log.parent)
        return Misconfigured(f"{self.name} stopped and does not come back: see {self.log}.")


def answers_json(port: int, path: str, headers: Mapping[str, str]) -> bool:
    """Return True if a GET request to *port* of this machine returns the status 200 and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers=dict(headers))
        reply = connection.getresponse()
        return reply.status == 200 and reply.headers.get_content_type() == "application/json"
    return False


def open_log(path: Path) -> IO[bytes]:
    """Open a new unbuffered log for one start, readable by its owner only; keep the previous log as `.old`.

    If the disk is full, return a log that discards its lines.
    """
    try:
        if path.exists():
            path.replace(path.with_suffix(".old"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0)
    except OSError as error:
        if not says_disk_full(error):
            raise
        return Path(os.devnull).open("ab", 0)


def write_log(path: Path, lines: Iterable[bytes]) -> None:
    """Write *lines* to a log of bounded size; drop lines that do not fit on the disk."""
    file = open_log(path)
    for line in lines:
        with contextlib.suppress(OSError):
            if file.tell() > _LOG_BYTES:
                file.close()
                file = open_log(path)
            file.write(line)
    file.close()


def tail(path: Path, size: int = 4000) -> str:
    """Return the last *size* bytes of a file as text, empty if there is no file."""
    return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""
