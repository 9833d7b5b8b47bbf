"""The devices on which a user is signed in: listing them, and signing them out."""

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

    Each method may raise SignedOut or StoreUnavailable.
    """

    session: AppSession = field(repr=False)
    # `Shared.ending` with `session` as the caller and its user as the cause: stops the live turns of the sessions that the
    # predicate selects, and waits up to the given seconds; until the context ends, these sessions begin no turns; then, ended
    # ones are forgotten
    ending: Callable[[Callable[[AppSession], bool], float], AbstractContextManager[None]]
    # the longest wait until replies are stored, before the sessions end
    longest_seconds: float = 5.0
    poll_seconds: float = 0.3

    def all(self) -> list[Device]:
        """Return the user's devices, the last used first; at most 300."""
        keys, user_id = self.session.user_keys, self.session.user_id
        return [
            Device(
                id=stored.session,
                browser=browser_of(keys, user_id, stored.session, stored.device),
                first_seen_at=stored.created_at,
                last_seen_at=stored.seen_at,
                is_this_one=stored.is_this_one,
                is_proven=stored.is_proven,
                is_proven_in_part=stored.is_proven_in_part,
            )
            for stored in self.session.backend.devices()
        ]

    def end(self, session_id: SessionId) -> int:
        """Stop a session's replies and end the session; return 1, or 0 if the user has no such session.

        Raise ProofNeeded if the user has given no proof in the last ten minutes.
        """
        end = self.session.backend.end_device
        return self._end(session_id, lambda one: one.id == session_id, lambda: end(session_id))

    def end_others(self) -> int:
        """Stop the replies of all other sessions, and end these sessions; return their number.

        Raise ProofNeeded if the user has given no proof in the last ten minutes.
        """
        return self.end_others_by(self.session.backend.end_other_devices)

    def end_others_by(self, end: Callable[[], Answer]) -> Answer:
        """Stop the replies of all other sessions, then call *end*, which ends these sessions; return its result.

        Raise ProofNeeded if the user has given no proof in the last ten minutes.
        """
        own = self.session.id
        return self._end(None, lambda one: one.id != own, end)

    def _end(
        self,
        session_id: SessionId | None,
        is_meant: Callable[[AppSession], bool],
        end: Callable[[], Answer],
    ) -> Answer:
        """Stop the replies of the selected sessions in all processes, wait until they are stored, then call *end*.

        Return the result of *end*. The wait is at most five seconds: a reply that is not stored by then is settled by a
        sweep.
        """
        backend, user_id = self.session.backend, self.session.user_id
        ends_at = time.monotonic() + self.longest_seconds
        # called before `ending`, so that no live turn is stopped if the database refuses this call
        streaming = backend.stop_turns(session_id)
        with self.ending(
            lambda one: one.user_id == user_id and is_meant(one), self.longest_seconds
        ):
            while streaming and time.monotonic() < ends_at:
                time.sleep(self.poll_seconds)
                streaming = backend.stop_turns(session_id)
            return end()
