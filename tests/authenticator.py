"""An authenticator app, and accounts that have one as their second factor, on any store."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import time

from pyotp import TOTP

from services.crypto import Factor
from services.crypto.recovery_codes import new_codes, recovery_hash
from services.domain.accounts import CredentialsAction
from services.identity.totp import new_secret, secret_text
from tests.stores import NOT_COUNTED


@dataclass
class Authenticator:
    """The app of one user, and the recovery codes."""

    secret: bytes = field(default_factory=new_secret)
    recovery: tuple = field(default_factory=new_codes)

    def code(self, steps=0):
        """The code of now, or of a time step (0 or 1) after it, which Daybook takes for half a minute at least."""
        return TOTP(secret_text(self.secret)).generate_otp(int(time()) // 30 + steps)

    @property
    def wrong(self):
        good = {self.code(steps) for steps in (-2, -1, 0, 1, 2)}
        return next(
            code
            for code in ("000000", "111111", "222222", "333333", "444444", "555555")
            if code not in good
        )

    def enrol(self, accounts, session):
        """Make this the factor of the user of *session*."""
        hashes = tuple(map(recovery_hash, self.recovery))
        since = datetime.now(UTC).replace(microsecond=0)
        factor = Factor(secret=self.secret, since=since)
        change_factor(accounts, session, factor, CredentialsAction.FACTOR_ADDED, recovery=hashes)
        return self


def change_factor(accounts, session, factor, action, recovery=()):
    found = accounts.find(session.email, NOT_COUNTED)
    new = replace(
        found.credentials,
        factor=factor,
        recovery=recovery,
        generation=found.stored.generation + 1,
    )
    assert accounts.change_credentials(session, new, found.stored, action)
