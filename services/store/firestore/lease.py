"""A lease that lets only one app process use a Firestore database: a document that a thread renews."""

import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from secrets import token_hex
from typing import cast

from google.api_core import exceptions
from google.cloud.firestore_v1.types import Document, Precondition, Value, Write

from services.errors import Misconfigured, StoreBlocked, StoreUnavailable
from services.events import log_event
from services.store.firestore.calls import CALL_SECONDS, Database, errors

_CHANGED = (exceptions.FailedPrecondition, exceptions.Conflict, exceptions.NotFound)


class Lease:
    """A lease of *seconds*, which a thread renews every *pause* seconds until `release`.

    The server's clock measures the age of the lease. A write that `check` allows ends at most *call_seconds* later, which
    is before the lease has run out.
    """

    def __init__(
        self,
        database: Database,
        seconds: float = 20.0,
        pause: float = 4.0,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._database, self._name = database, f"{database.documents}/daybook/lease"
        self._seconds, self._pause, self._call_seconds = seconds, pause, call_seconds
        self._holder, self._renewals = token_hex(16), 0
        self._seen = Precondition(exists=False)  # matches the lease document as it was last read
        # _until: the monotonic time after which `check` fails; _is_lost: true if another process has taken the lease
        self._until, self._is_lost = 0.0, False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self) -> None:
        """Take the lease; if another process has it, wait until it runs out. Raise Misconfigured if that process renews it."""
        first: Precondition | None = None
        while not self._take():
            if first is not None and self._seen != first:
                raise Misconfigured(
                    "Another Daybook is using this Firestore database: stop it, or name another one in DAYBOOK_STORE."
                )
            first = self._seen
            time.sleep(self._pause / 4)
        self._thread.start()

    def check(self) -> None:
        """Raise StoreUnavailable if another process has the lease, or may get it before a call that starts now has ended."""
        if self._is_lost:
            raise StoreBlocked(
                "Another Daybook has taken over the Firestore database: stop one of the two, and restart the other."
            )
        if time.monotonic() > self._until:
            raise StoreUnavailable("lease")

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(StoreUnavailable), errors():
            self._database.commit([Write(delete=self._name, current_document=self._seen)])

    def _take(self) -> bool:
        """Take the lease if it is free; return True if it was taken."""
        [answer] = self._database.read([self._name])
        self._seen = Precondition(exists=False)
        if not answer.missing:
            written = answer.found.update_time
            self._seen = Precondition(update_time=written)
            if cast(datetime, answer.read_time) <= written + timedelta(seconds=self._seconds):
                return False
        with suppress(*_CHANGED):
            self._renew()
            return True
        return False

    def _keep(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                with errors():
                    self._renew_or_lose()
            except StoreUnavailable:
                log_event("lease.missed")
            if self._is_lost:
                log_event("lease.lost")
                return

    def _renew_or_lose(self) -> None:
        try:
            self._renew()
        except _CHANGED:  # this process may have renewed the lease without getting the response
            [answer] = self._database.read([self._name])
            if answer.missing or answer.found.fields["holder"].string_value != self._holder:
                self._is_lost = True
            else:  # only if this process has the lease, because `release` deletes the lease with this update time
                self._seen = Precondition(update_time=answer.found.update_time)

    def _renew(self) -> None:
        began = time.monotonic()
        self._renewals += 1  # without a change, Firestore would keep the document's update time
        fields = {
            "holder": Value(string_value=self._holder),
            "renewals": Value(integer_value=self._renewals),
        }
        lease = Document(name=self._name, fields=fields)
        answer = self._database.commit([Write(update=lease, current_document=self._seen)])
        self._seen = Precondition(update_time=answer.write_results[0].update_time)
        self._until = began + self._seconds - self._call_seconds
