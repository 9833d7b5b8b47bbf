"""Keeping up what was started: restarts with patience, and patience without end with a full disk."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.embedded import children, folders
from services.embedded.children import Child, Patience, Server
from services.embedded.reports import Model, ModelState, Report, Running, Stage, Starting, Trouble
from services.errors import Misconfigured, says_disk_full

Say = Callable[[Report], None]
GLANCE = 0.1  # seconds between looks at what we keep up
_GRACE = 1.0  # seconds before another try with a disk that was full
_MODELS_PAUSE = 180.0  # seconds before another try with a model that failed again and again
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Part:
    """One program of the stack as it runs now, and how often it may start again."""

    server: Server
    child: Child | None = None
    patience: Patience = field(default_factory=Patience)

    def start(self) -> None:
        self.child = self.server.start()

    def wait(self) -> None:
        if self.child is not None:
            self.server.wait(self.child)

    def end(self) -> None:
        if self.child is not None:
            self.server.stop(self.child)

    def is_down(self) -> bool:
        return self.child is not None and self.child.poll() is not None


class Disk:
    """The disk of the data folder. That it is full is said once, and that it is not any more."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say
        self._said: bool | None = None

    def look(self) -> None:
        # half as much again before it counts as mended: no flapping around the border
        room = folders.ROOM * 3 // 2 if self._said else folders.ROOM
        self._tell(is_full=folders.is_full(self._folder, room))

    def killed(self, part: Part) -> bool:
        """Whether *part* ended for want of room."""
        said = children.tail(part.server.log)
        return folders.is_full(self._folder) or says_disk_full(said)

    def wait_for_room(self) -> None:
        """Return when another try makes sense: it would be no use, and use up what patience there is."""
        self._tell(is_full=True)
        time.sleep(_GRACE)
        while folders.is_full(self._folder):
            time.sleep(GLANCE)

    def _tell(self, *, is_full: bool) -> None:
        if is_full != self._said:
            sentence = f"The disk is full: free some space for {self._folder}."
            self._say(Trouble(sentence if is_full else ""))
        self._said = is_full


class Upkeep:
    """Parts that are no use without each other, in the order of their start."""

    def __init__(self, parts: Sequence[Part], disk: Disk, say: Say) -> None:
        self._parts, self._disk, self._say = parts, disk, say

    def look(self) -> None:
        """Start again what has stopped. Raise Misconfigured when that is no use any more."""
        fallen = [part for part in self._parts if part.is_down()]
        if not fallen:
            self._disk.look()
            return
        self._say(Starting(Stage.RECOVERING))
        for part in fallen:
            self._revive(part)
        if self._all_answer():
            self._say(Running())

    def end(self) -> None:
        for part in reversed(self._parts):
            part.end()

    def _revive(self, part: Part) -> None:
        if self._disk.killed(part):
            self._disk.wait_for_room()
        else:
            delay = part.patience.next_delay()
            if delay is None:
                raise children.gone(part.server)
            _logger.warning("%s stopped; starting it again in %.1f s", part.server.name, delay)
            time.sleep(delay)
        part.start()

    def _all_answer(self) -> bool:
        """Whether every part answers; the first that does not is ended, to be started again."""
        for part in self._parts:
            try:
                part.wait()
            except Misconfigured:
                part.end()
                return False
        return True


class LocalModel:
    """Keeps a model up, in a thread of its own: nothing waits for it, and it ends nothing but itself."""

    def __init__(self, server: Server, say: Say, patience: Patience | None = None) -> None:
        self._server, self._say = server, say
        self._patience = patience or Patience()
        self._child: Child | None = None
        self._change, self._ending = threading.Lock(), threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._keep, name="model", daemon=True).start()

    def end(self) -> None:
        with self._change:
            self._ending.set()
        if self._child is not None:
            self._server.stop(self._child)

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._say(Model(ModelState.STARTING))
            try:
                self._run_once()
            except (Misconfigured, OSError) as error:
                _logger.warning("%s", error)
            delay = self._patience.next_delay()
            if delay is None:
                self._say(Model(ModelState.FAILED))
            self._ending.wait(_MODELS_PAUSE if delay is None else delay)

    def _run_once(self) -> None:
        with self._change:
            if self._ending.is_set():
                return
            self._child = self._server.start()
        try:
            self._server.wait(self._child)
            self._say(Model(ModelState.READY))
            self._child.wait()
        finally:
            self._server.stop(self._child)
