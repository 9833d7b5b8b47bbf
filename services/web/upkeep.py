"""The check of the store, and the threads that drop abandoned temporary chats and idle or ended sessions."""

import logging
import time
from collections.abc import Callable
from typing import NoReturn

from services.crypto import RootKeys
from services.embedded.reports import Failed
from services.errors import AppError, Misconfigured, RowsCut, StoreUnavailable
from services.events import log_event
from services.store.backend import Backend

_logger = logging.getLogger(__name__)
_LOOK_SECONDS = 3.0  # seconds between two checks for data that is no longer used


def failed_check(backend: Backend, root_keys: RootKeys) -> Failed | None:
    """Return a failure if an operator must repair the store, or must add a root key with which its data was sealed.

    Return None if the check succeeds, or while the store is unreachable.
    """
    try:
        root_keys.refuse_missing(backend.check())
    except (Misconfigured, RowsCut) as error:
        return Failed(error.public)
    except StoreUnavailable:  # not a failure, because the check is repeated once the store is back
        pass
    return None


def keep_forgetting(*acts: Callable[[], object]) -> NoReturn:
    """Call *acts* every few seconds, forever. Each act drops text that is no longer used, or begins postponed tasks."""
    while True:
        time.sleep(_LOOK_SECONDS)
        for act in acts:
            try:
                act()
            except AppError:
                log_event("forgetting.missed")
            except Exception:  # any bug: if this thread ended, unused text would stay in memory
                _logger.exception("forgetting.missed")
