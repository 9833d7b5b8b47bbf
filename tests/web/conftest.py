"""The session cache of a process, over the embedded stack."""

from contextlib import nullcontext

import pytest

from services.users.session_cache import SessionCache
from tests.store.conftest import make_sessions


@pytest.fixture(scope="module")
def sessions(stack):
    sessions = make_sessions(stack)
    yield sessions
    sessions.backend.gateway.http.close()


@pytest.fixture
def session_cache(sessions):
    return SessionCache(sessions, on_leave=lambda _: nullcontext(), on_forget=lambda _: None)
