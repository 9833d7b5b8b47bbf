"""Run functions in daemon threads."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from services.errors import AppError

Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


def in_thread(name: str, call: Callable[[], Result]) -> Future[Result]:
    """Run *call* in a thread that does not keep the process alive. Return the future of its result."""
    future = Future[Result]()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            # an unexpected error is logged here, because the caller may never read the future
            if not isinstance(error, AppError):
                _logger.exception("the thread %s failed", name)
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
