"""Keeping up what was started: restarts with patience, and patience without end with a full disk."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.embedded import children, folders
from services.embedded.children import Server
from services.embedded.reports import Model, ModelState, Report, Running, Stage, Starting, Trouble
from services.errors import Misconfigured, says_disk_full

Say = Callable[[Report], None]
GLANCE = 0.1  # seconds between looks at what we keep up
_GRACE = 1.0  # seconds before another try with a disk that was full
_MODELS_PAUSE = 180.0  # seconds before another try with a model that failed again and again
_logger = logging.getLogger(__name__)


class Disk:
    """The disk of the data folder. That it is full is said once, and that it is not any more."""

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder, self._say = folder, say
        self._said: bool | None = None

    def look(self) -> None:
        # half as much again before it counts as mended: no flapping around the border
        room = folders.ROOM * 3 // 2 if self._said else folders.ROOM
        self._tell(is_full=folders.is_full(self._folder, room))

    def killed(self, part: Server) -> bool:
        """Whether *part* ended for want of room."""
        return folders.is_full(self._folder) or says_disk_full(children.tail(part.log))

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

    def __init__(self, parts: Sequence[Server], disk: Disk, say: Say) -> None:
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

    def _revive(self, part: Server) -> None:
        if self._disk.killed(part):
            self._disk.wait_for_room()
        else:
            delay = part.patience.next_delay()
            if delay is None:
                raise part.gone()
            _logger.warning("%s stopped; starting it again in %.1f s", part.name, delay)
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

    def __init__(self, server: Server, say: Say) -> None:
        self._server, self._say = server, say
        self._change, self._ending = threading.Lock(), threading.Event()

    def begin(self) -> None:
        threading.Thread(target=self._keep, name="model", daemon=True).start()

    def end(self) -> None:
        with self._change:
            self._ending.set()
        self._server.end()

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._say(Model(ModelState.STARTING))
            try:
                self._run_once()
            except (Misconfigured, OSError) as error:
                _logger.warning("%s", error)
            delay = self._server.patience.next_delay()
            if delay is None:
                self._say(Model(ModelState.FAILED))
            self._ending.wait(_MODELS_PAUSE if delay is None else delay)

    def _run_once(self) -> None:
        with self._change:
            if self._ending.is_set():
                return
            child = self._server.start()
        try:
            self._server.wait()
            self._say(Model(ModelState.READY))
            child.wait()
        finally:
            self._server.end()
