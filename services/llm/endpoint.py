"""The address of a model endpoint, whether the endpoint answers, and the operator's lines about that."""

import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from services.domain.hosts import is_nearby, is_this_machine

_PORTS = {"http": 80, "https": 443}


class Endpoint:
    """Whether the server at one address answers, as the requests of this process find it.

    Any thread may call any method. `note` does no I/O, because the event loop of all streams calls it.
    """

    def __init__(self, url: str, tell: Callable[[str], object] = lambda _: None) -> None:
        """*tell* is called with a line for the operator once the endpoint does not answer, and once it answers again."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        name = parts.hostname or ""
        # without user info and query, which may contain secrets
        self.address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self.host = host if parts.port else f"{host}:{_PORTS[parts.scheme]}"  # with the port
        self.is_on_this_machine = is_this_machine(name)
        self._advice = (
            "Is the model server running? Check OPENAI_BASE_URL."
            if is_nearby(name)
            else "Check this server's network and OPENAI_BASE_URL."
        )
        self._tell, self._lock = tell, threading.Lock()
        self._is_away: bool | None = None  # None: no request has ended yet
        self._is_told_away = False

    @property
    def is_known(self) -> bool:
        """True once a request has shown whether the endpoint answers."""
        return self._is_away is not None

    @property
    def outage(self) -> str:
        """A sentence for admins, in Markdown, while the endpoint does not answer; else empty."""
        return f"No answer at `{self.address}`. {self._advice}" if self._is_away else ""

    def note(self, *, is_away: bool) -> None:
        """Note whether the endpoint has answered a request."""
        self._is_away = is_away

    def report(self) -> None:
        """Tell the operator, if the endpoint has stopped answering or answers again since the last line."""
        if bool(self._is_away) is self._is_told_away:
            return
        with self._lock:
            outage = self.outage
            if bool(outage) is not self._is_told_away:
                self._is_told_away = bool(outage)
                self._tell(outage.replace("`", "") or f"The model server answers: {self.address}")
