"""How users can sign in, for admins."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.domain import UserId
from services.domain.accounts import SignInState
from services.errors import Tampered
from services.identity.passkeys import without_refused_passkeys
from services.store.accounts import Accounts
from services.store.backend import LISTED_CREDENTIALS, Administration, StoredCredentials
from services.store.credentials import open_stored

# seconds for which a count is reused, because counting decrypts the credentials of all accounts
_SECONDS = 600.0


@dataclass(slots=True)
class WaysIn:
    """Reads the credentials of accounts for admins, and keeps none of them. Any thread may call any method."""

    accounts: Accounts
    _counted: tuple[int, float] | None = None  # the number, and the time of the count
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def left_out(self, administration: Administration) -> int:
        """Return the number of accounts to which no password, passkey, code or provider gives access.

        It was counted at most ten minutes ago. A new count can raise AdminsOnly or StoreUnavailable.
        """
        with self._counting:
            if self._counted is None or time.monotonic() - self._counted[1] > _SECONDS:
                number = sum(map(self._is_left_out, _every(administration)))
                self._counted = number, time.monotonic()
            return self._counted[0]

    def state_of(self, user_id: UserId, administration: Administration) -> SignInState:
        """Return how a user signs in. May raise AdminsOnly, NotFound, StoreUnavailable, Tampered or NewerVersion."""
        stored = administration.read_sign_in(user_id)
        credentials = open_stored(self.accounts.root_keys, stored.credentials)
        return SignInState(
            begun_at=stored.begun_at,
            is_confirmed=credentials.confirmed is not None,
            has_app=credentials.factor is not None,
            asks_passkey=without_refused_passkeys(credentials).asks_passkey,
        )

    def _is_left_out(self, stored: StoredCredentials) -> bool:
        try:
            credentials = open_stored(self.accounts.root_keys, stored)
        except Tampered:  # not counted: `operate check` reports such credentials
            return False
        return not self.accounts.policy.has_way_in(without_refused_passkeys(credentials))


def _every(administration: Administration) -> Iterator[StoredCredentials]:
    listed = administration.list_credentials()
    yield from listed
    while len(listed) == LISTED_CREDENTIALS:
        listed = administration.list_credentials(listed[-1].id)
        yield from listed
