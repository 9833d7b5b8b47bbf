"""Devices that end: their replies are stored first, for which at most some seconds are waited."""

from contextlib import contextmanager
from types import SimpleNamespace
from uuid import UUID

import pytest

from services.domain import SessionId, UserId
from services.errors import ProofNeeded
from services.users.devices import Devices

MAYA, OMAR = UserId(UUID(int=1)), UserId(UUID(int=2))
OWN, PHONE, TABLET = (SessionId(UUID(int=n)) for n in (3, 4, 5))


class Sessions:
    """The sessions of Maya in this process and elsewhere, with notes of what happens to them."""

    def __init__(self, streaming=()):
        self.streaming = list(streaming)  # replies in other processes, at each question
        self.happened, self.refusal = [], None

    def stop_turns(self, session_id):
        if self.refusal:
            raise self.refusal
        self.happened.append(("ask", session_id))
        return self.streaming.pop(0) if self.streaming else 0

    def end_device(self, session_id):
        self.happened.append(("end", session_id))
        return 1

    def end_other_devices(self):
        self.happened.append(("end", None))
        return 2

    @contextmanager
    def ending(self, is_meant, within):
        here = [(MAYA, OWN), (MAYA, PHONE), (MAYA, TABLET), (OMAR, PHONE)]
        meant = [(user, one) for user, one in here if is_meant(_session(user, one))]
        self.happened.append(("stop", meant))
        yield
        self.happened.append("forget")


def _session(user_id, session_id, backend=None):
    return SimpleNamespace(user_id=user_id, id=session_id, backend=backend)


def devices(sessions, **options):
    return Devices(_session(MAYA, OWN, sessions), sessions.ending, **options)


def test_replies_of_a_device_end_before_its_session():
    sessions = Sessions()

    assert devices(sessions).end(PHONE) == 1

    assert sessions.happened == [
        ("ask", PHONE),
        ("stop", [(MAYA, PHONE)]),
        ("end", PHONE),
        "forget",
    ]


def test_replies_of_all_other_devices_end_before_their_sessions():
    sessions = Sessions()

    assert devices(sessions).end_others() == 2

    stopped = ("stop", [(MAYA, PHONE), (MAYA, TABLET)])
    assert sessions.happened == [("ask", None), stopped, ("end", None), "forget"]


def test_session_ends_as_soon_as_other_processes_have_stored_its_replies():
    sessions = Sessions([2, 1, 0])

    devices(sessions, poll_seconds=0.0).end(PHONE)

    assert [one for one in sessions.happened if one[0] in ("ask", "end")] == [
        *[("ask", PHONE)] * 3,
        ("end", PHONE),
    ]


def test_session_ends_though_a_process_does_not_store_its_reply():
    sessions = Sessions([1] * 10**6)

    devices(sessions, longest_seconds=0.05, poll_seconds=0.01).end(PHONE)

    assert sessions.happened[-2:] == [("end", PHONE), "forget"]


def test_refused_end_stops_no_reply():
    sessions = Sessions()
    sessions.refusal = ProofNeeded()

    for end in (devices(sessions).end_others, lambda: devices(sessions).end(PHONE)):
        with pytest.raises(ProofNeeded):
            end()

    assert sessions.happened == []
