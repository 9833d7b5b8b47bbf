"""Verification of a passkey in a request: throttling, finding the passkey's user, and recording refusals."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeVar

from starlette.requests import Request

from services.domain import UserId
from services.domain.accounts import CredentialsAction, Failure
from services.domain.mails import NoticeKind
from services.domain.passkeys import Passkeys, RelyingParty
from services.domain.sign_in_methods import BY_PASSKEY
from services.errors import (
    FactorUsed,
    PasskeyCopied,
    PasskeyFlaw,
    PasskeyRefused,
    PasskeyUnknown,
    RateLimited,
    Tampered,
)
from services.identity.passkeys import (
    Assertion,
    PasskeyUse,
    read_assertion,
    verify_assertion,
)
from services.store.accounts import Accounts, Checked
from services.store.backend import NOT_COUNTED, Throttles
from services.store.failures import note_failure
from services.store.passkeys import find
from services.web.attempts import Attempts
from services.web.notices import Notices
from services.web.origin import Origin

Answer = TypeVar("Answer")
# maximum number of times that one response is verified while other requests change the credentials
_MOST_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyAnswer:
    """A browser's response to a passkey challenge."""

    text: str = field(repr=False)
    party: RelyingParty
    challenge: bytes = field(repr=False)
    use: PasskeyUse


@dataclass(frozen=True, slots=True)
class _Found:
    """The user of a passkey, with the user's passkeys and current credentials."""

    user_id: UserId
    passkeys: Passkeys
    checked: Checked


@dataclass(frozen=True, slots=True)
class PasskeyCheck:
    """Throttles and verifies passkey responses. Any thread may call any method; all methods block."""

    attempts: Attempts
    origin: Origin
    notices: Notices

    def given(
        self,
        request: Request,
        accounts: Accounts,
        answer: PasskeyAnswer,
        act: Callable[[Checked], Answer],
        user_id: UserId | None = None,
        *,
        in_session: bool = False,
    ) -> Answer:
        """Verify a passkey response; then call *act* (a sign-in or a proof) with the updated credentials, and return
        its result.

        If another request uses the passkeys or the second factor in the meantime, read the credentials and verify the
        response again. *user_id*: the user who must own the passkey; None: the passkey identifies its user.
        *in_session*: True for a proof (`Found.in_session`).

        Raise TooManyAttempts, PasskeyRefused, PasskeyUnknown, PasskeyCopied, the errors of *act*, and RateLimited if
        other requests keep using the passkeys or the second factor.
        """
        client, device = self.origin.client_address(request), self.origin.device_cookie(request)
        throttles, known = self.attempts.sign_in(None, client, device), user_id
        try:
            assertion = read_assertion(answer.text)
            for _ in range(_MOST_TRIES):
                found = _find(accounts, assertion, throttles, in_session=in_session)
                known = user_id or found.user_id
                if known != found.user_id:
                    raise PasskeyRefused(PasskeyFlaw.USER)
                checked = self._used(request, accounts, answer, assertion, found)
                try:
                    return act(checked)
                except FactorUsed:
                    throttles = NOT_COUNTED
        except (PasskeyRefused, PasskeyUnknown, PasskeyCopied):
            note_failure(accounts.backend, known, Failure.PASSKEY)
            raise
        raise RateLimited

    def _used(
        self,
        request: Request,
        accounts: Accounts,
        answer: PasskeyAnswer,
        assertion: Assertion,
        found: _Found,
    ) -> Checked:
        """Return the credentials updated by the passkey's use. Raise PasskeyRefused, PasskeyCopied.

        The use counts as both factors if the authenticator has verified the user.
        """
        passkeys, now = found.passkeys, datetime.now(UTC).replace(microsecond=0)
        of_user = find(passkeys, assertion.id), passkeys.user_handle, answer.party
        try:
            used = verify_assertion(assertion, *of_user, answer.challenge, answer.use, now)
        except PasskeyCopied:
            self._tell_of_copy(request, accounts, found)
            raise
        return replace(
            found.checked,
            has_factor=used.has_verified_user,
            used=found.checked.credentials.passkey_used(used.passkey),
            used_by=CredentialsAction.PASSKEY_USED,
        )

    def _tell_of_copy(self, request: Request, accounts: Accounts, found: _Found) -> None:
        credentials, kind = found.checked.credentials, NoticeKind.PASSKEY_COPIED
        address = credentials.address if credentials.confirmed else None
        self.notices.tell_user(request, accounts, found.user_id, kind, found.checked, address)


def _find(
    accounts: Accounts, assertion: Assertion, throttles: Throttles, *, in_session: bool
) -> _Found:
    """Return the user of a passkey, and the stored credentials.

    Raise TooManyAttempts, StoreUnavailable, PasskeyUnknown, PasskeyRefused (the credentials found do not have the passkey).
    """
    try:
        found = accounts.find_passkey(assertion.id, throttles)
    except Tampered:
        raise PasskeyRefused(PasskeyFlaw.CREDENTIAL) from None
    stored, credentials = (found.stored, found.credentials) if found else (None, None)
    if not (found and stored and stored.user_id and credentials and credentials.passkeys):
        raise PasskeyUnknown
    account = found.in_session() if in_session else found
    checked = account.opened(stored, credentials, BY_PASSKEY, found.counted)
    return _Found(stored.user_id, credentials.passkeys, checked)
