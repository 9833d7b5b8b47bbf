"""The list of the devices on which a user is signed in, and the sign-out of these devices."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from services.domain import SessionId
from services.domain.accounts import Device
from services.store.accounts import AppSession
from services.store.device_names import browser_of

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Devices:
    """Lists and signs out the devices of a session's user. Any thread may call any method.

    All members raise SignedOut, StoreUnavailable.
    """

    session: AppSession = field(repr=False)
    # `Shared.ending` for `session`: stops the live turns of the sessions in this process that the function selects, and
    # waits up to the given seconds. Inside the context, these sessions begin no turn; after it, ended sessions are forgotten.
    ending: Callable[[Callable[[AppSession], bool], float], AbstractContextManager[None]]
    longest_seconds: float = 5.0  # the longest wait for replies to be stored before sessions end
    poll_seconds: float = 0.3

    def all(self) -> list[Device]:
        """Return at most 300 devices, the last used device first."""
        keys, user_id = self.session.user_keys, self.session.user_id
        return [
            Device(
                id=stored.session,
                browser=browser_of(keys, user_id, stored),
                first_seen_at=stored.created_at,
                last_seen_at=stored.seen_at,
                is_this_one=stored.is_this_one,
                is_proven=stored.is_proven,
                is_proven_in_part=stored.is_proven_in_part,
            )
            for stored in self.session.backend.devices()
        ]

    def end(self, session_id: SessionId) -> int:
        """Stop a session's replies and end the session; return 1, or 0 if the user has no such session. Raise ProofNeeded."""
        end = self.session.backend.end_device
        return self._end(session_id, lambda one: one.id == session_id, lambda: end(session_id))

    def end_others(self) -> int:
        """Stop the replies of all sessions except this one, and end them; return their number. Raise ProofNeeded."""
        return self.end_others_by(self.session.backend.end_other_devices)

    def end_others_by(self, end: Callable[[], Answer]) -> Answer:
        """Stop the replies of all other sessions, then call *end*, which ends these sessions. Return its result. Raise ProofNeeded."""
        own = self.session.id
        return self._end(None, lambda one: one.id != own, end)

    def _end(
        self,
        session_id: SessionId | None,
        is_meant: Callable[[AppSession], bool],
        end: Callable[[], Answer],
    ) -> Answer:
        """Stop the replies of the selected sessions in all processes, wait until they are stored, and return the result of *end*.

        The wait is at most five seconds: if a reply is not stored by then, a sweep settles it.
        """
        backend, user_id = self.session.backend, self.session.user_id
        ends_at = time.monotonic() + self.longest_seconds
        streaming = backend.stop_turns(session_id)  # called first, so that a refusal stops no turn
        with self.ending(
            lambda one: one.user_id == user_id and is_meant(one), self.longest_seconds
        ):
            while streaming and time.monotonic() < ends_at:
                time.sleep(self.poll_seconds)
                streaming = backend.stop_turns(session_id)
            return end()
