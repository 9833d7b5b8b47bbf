"""The check of a second factor in a request, with its throttles and the notices about its use."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.requests import Request

from services.crypto.recovery_codes import recovery_hash
from services.domain import UserId
from services.domain.accounts import FEW_RECOVERY_CODES, Failure, SecondFactor
from services.domain.mails import NoticeKind
from services.errors import PasskeyCopied, PasskeyMissing, PasskeyRefused, WrongFactor
from services.identity import totp
from services.store.accounts import Accounts, AppSession, Checked, factor_needed, second_factor
from services.store.codes import typed_code
from services.store.entries import FactorEntry, GivenFactor, PasskeyEntry
from services.store.factors import Factors
from services.store.failures import note_failure
from services.web.attempts import Attempts
from services.web.notices import Notices
from services.web.origin import Origin

FACTORS = Factors(totp.matching_step, recovery_hash)
# errors that are raised if the code or passkey given as the second factor is refused
REFUSED_FACTOR = WrongFactor, PasskeyRefused, PasskeyCopied, PasskeyMissing


@dataclass(frozen=True, slots=True)
class FactorCheck:
    """Counts and checks the second factors that users enter. Any thread may call any method; all methods block."""

    attempts: Attempts
    origin: Origin
    notices: Notices

    def prove(
        self,
        request: Request,
        accounts: Accounts,
        session: AppSession,
        checked: Checked,
        entered: str | PasskeyEntry,
        act: Callable[[Checked], None],
    ) -> None:
        """Check the *entered* second factor, if the user of *session* has one; then call *act*, which stores the proof.

        Raise FactorNeeded, TooManyAttempts, the errors in `REFUSED_FACTOR`, and the errors of *act*.
        """
        factor, user_id = second_factor(checked.credentials), session.user_id
        if factor is None or checked.stored.user_id != user_id:
            act(checked)
            return
        entry, state = entered, str(checked.stored.generation)
        if isinstance(entry, str):
            if not entry.strip():
                raise factor_needed(checked.credentials)
            entry = entry_of(entry)
        counted = self.count(request, accounts, user_id, factor, entry, state)
        given = replace(checked, counted=checked.counted + counted)
        try:
            entry.given(accounts, given, act)
        except REFUSED_FACTOR as error:
            note_failure(accounts.backend, user_id, Failure.FACTOR)
            if isinstance(error, PasskeyCopied):
                self.notices.tell(request, accounts.backend, session, NoticeKind.PASSKEY_COPIED)
            raise
        self.tell_of_use(request, accounts, session, entry)

    def count(
        self,
        request: Request,
        accounts: Accounts,
        user_id: UserId,
        factor: SecondFactor,
        entry: GivenFactor,
        state: str,
        *,
        is_former: bool = False,
    ) -> tuple[str, ...]:
        """Count an attempt if *entry* is a code of an authenticator app, because only such codes can be guessed.

        Return the buckets (row keys) of the throttles that were counted: the store undoes the count if the factor is
        right. *state* and *is_former*: as in `Attempts.factor`. Raise TooManyAttempts.
        """
        since = factor.since
        if since is None or not isinstance(entry, FactorEntry) or entry.is_recovery:
            return ()
        device = self.origin.device_cookie(request)
        throttles = self.attempts.factor(
            user_id, device, since=since, state=state, is_former=is_former
        )
        accounts.backend.count_throttles(throttles)
        return tuple(one.bucket for one in throttles)

    def tell_of_use(
        self, request: Request, accounts: Accounts, session: AppSession, entry: GivenFactor
    ) -> None:
        """If *entry* was a recovery code, notify the user of *session* of its use, and also if few codes are left."""
        if not isinstance(entry, FactorEntry) or entry.codes_left is None:
            return
        tell, backend = self.notices.tell, accounts.backend
        tell(request, backend, session, NoticeKind.RECOVERY_CODE_USED)
        if entry.codes_left == FEW_RECOVERY_CODES:
            tell(request, backend, session, NoticeKind.FEW_RECOVERY_CODES)


def entry_of(text: str) -> FactorEntry:
    """Return the typed *text* as a second factor: a code of an authenticator app, with or without spaces, or a recovery code."""
    return FactorEntry(FACTORS, typed_code(text, totp.DIGITS) or text)
