"""Counts failed proofs, codes and changes, and stores the counts in the audit log. Background threads do this: no response waits."""

import threading

from services.daemon_threads import in_thread
from services.domain import UserId
from services.domain.accounts import Exemption, Failure
from services.errors import AppError
from services.events import log_event
from services.store.backend import Backend

# without a limit, requests that are refused while the store is slow would fill the process with threads
_MOST_THREADS = 32
_threads = threading.BoundedSemaphore(_MOST_THREADS)


def note_failure(backend: Backend, user_id: UserId | None, failure: Failure | Exemption) -> None:
    """Count a *failure* (or exemption) of a user in a separate thread; if *user_id* is None, do nothing.

    No errors are raised. While 32 failures are being counted, further ones are only logged.
    """
    if user_id is None:
        return
    if not _threads.acquire(blocking=False):
        log_event("failure.unnoted", user=user_id, failure=failure)
        return

    def note() -> None:
        try:
            backend.note_failure(user_id, failure)
        except AppError as error:
            log_event("failure.unnoted", user=user_id, failure=failure, error=type(error))
        finally:
            _threads.release()

    try:
        in_thread("failure", note)
    except RuntimeError as error:  # the system cannot start another thread
        _threads.release()
        log_event("failure.unnoted", user=user_id, failure=failure, error=type(error))
