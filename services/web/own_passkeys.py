"""Adding, renaming and removing the passkeys of a signed-in user.

`AddPasskey` adds one through the passkey routes; native HTML forms post to `/passkey/rename` and `/passkey/remove`.
Each change requires a recent proof of identity. The responses are redirects to the Account page; after a refusal, the
redirect's query has the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar

from anyio.to_thread import run_sync
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.crypto.vault import decode_base64url
from services.domain.accounts import CredentialsAction, Failure
from services.domain.mails import NoticeKind
from services.domain.passkeys import MOST_PASSKEYS, Passkeys
from services.domain.sign_in_methods import SignInMethod
from services.errors import (
    AppError,
    PasskeyMissing,
    PasskeyRefused,
    ProofNeeded,
    SignedOut,
    StepEnded,
    TooManyPasskeys,
)
from services.identity.passkeys import creation_options, new_user_handle, verify_creation
from services.store.failures import note_failure
from services.store.passkeys import added, checked_name, removed, renamed
from services.store.steps import read_contents
from services.users import Shared
from services.web.changes import change_listed, require_proof
from services.web.current_session import SignedIn, current_session
from services.web.forms import fields, with_form, with_query, with_reason
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.passkey_routes import Asked, Given, Offer

_PAGE = "/account"


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    """Data that a pending step stores while the browser creates a passkey."""

    name: str = field(repr=False)
    user_handle: str = field(repr=False)  # user handle of the new passkey, in hexadecimal
    ends_others: bool


_NEW = TypeAdapter(_New)


@dataclass(frozen=True, slots=True)
class AddPasskey:
    """Adds a passkey that can be used to sign in."""

    name: ClassVar[str] = "add"
    needs_session: ClassVar[bool] = True
    notices: Notices

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options to create a passkey. Raise MethodOff, ProofNeeded, BadName, TooManyPasskeys."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        session, current = asked.own.session, asked.own.current
        ends_others = asked.fields.get("others", "") != ""
        require_proof(asked.accounts, session, is_part=not ends_others)
        known = current.credentials.passkeys or Passkeys(user_handle=new_user_handle())
        if len(known.each) >= MOST_PASSKEYS:
            raise TooManyPasskeys
        options = creation_options(
            asked.party, challenge, known.user_handle, session.email, known.each
        )
        new = _New(
            name=checked_name(asked.fields.get("passkey_name", "")),
            user_handle=known.user_handle.hex(),
            ends_others=ends_others,
        )
        kept = _NEW.dump_json(new).decode()
        return Offer(options=options, credentials=current.stored, kept=kept)

    async def finish(self, asked: Asked, given: Given) -> Response:
        """Verify and store the new passkey.

        Raise MethodOff, ProofNeeded, StepEnded (a sign-in method has changed in the meantime), PasskeyRefused,
        PasskeyExists, WayInTaken (another account has the passkey), RateLimited (the credentials have changed in the
        meantime).
        """
        try:
            await run_sync(self._add, asked, given)
        except (ProofNeeded, StepEnded, PasskeyRefused):
            user_id = asked.own.session.user_id
            note_failure(asked.accounts.backend, user_id, Failure.CHANGE)
            raise
        return RedirectResponse(with_query(_PAGE, reason="passkey-added"), 303)

    def _add(self, asked: Asked, given: Given) -> None:
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        own, new = asked.own, read_contents(_NEW, given.kept)
        given.step.check(own.current.stored)
        now = datetime.now(UTC).replace(microsecond=0)
        passkey = verify_creation(given.text, asked.party, given.challenge, new.name, now)
        handle = bytes.fromhex(new.user_handle)
        credentials, action = own.current.credentials, CredentialsAction.PASSKEY_ADDED
        before = credentials.passkeys or Passkeys(user_handle=handle)
        changed = replace(credentials, passkeys=added(before, passkey))
        change_listed(asked.shared, own, changed, action, ends_others=new.ends_others)
        tell, kind = self.notices.tell, NoticeKind.PASSKEY_ADDED
        tell(asked.request, asked.accounts.backend, own.session, kind)


@dataclass(frozen=True, slots=True)
class _Change:
    """A submitted form that changes one passkey of a user with a recent proof of identity."""

    request: Request = field(repr=False)
    own: SignedIn
    passkeys: Passkeys
    credential_id: bytes = field(repr=False)
    name: str = field(repr=False)
    ends_others: bool


@dataclass(frozen=True, slots=True)
class OwnPasskeys:
    """Routes that rename and remove the passkeys of a signed-in user."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    origin: Origin
    notices: Notices

    def routes(self) -> list[Route]:
        if self.origin.is_alone:  # this deployment has no sign-in
            return []
        acts = {"/passkey/rename": self._rename, "/passkey/remove": self._remove}
        return [self._route(path, act) for path, act in acts.items()]

    def _route(self, path: str, act: Callable[[_Change], str]) -> Route:
        """Return the route that calls *act*, which returns the value of the redirect's query parameter `reason`."""

        async def answer(request: Request) -> Response:
            form = await fields(request, "passkey", "passkey_name", "others")
            try:
                reason = await run_sync(lambda: act(self._change(request, *form)))
            except SignedOut:
                return RedirectResponse(_PAGE, 303)
            except AppError as error:
                return RedirectResponse(with_reason(with_form(request, _PAGE), error), 303)
            return RedirectResponse(with_query(_PAGE, reason=reason), 303)

        return Route(path, answer, methods=["POST"])

    def _change(self, request: Request, passkey: str, name: str, others: str) -> _Change:
        """Return the change that a form asks for. Raise SignedOut, ProofNeeded, PasskeyMissing."""
        shared = self.shared()
        own = current_session(shared, self.origin.session_cookie(request))
        require_proof(shared.session_cache.accounts, own.session)
        passkeys, credential_id = own.current.credentials.passkeys, decode_base64url(passkey)
        if passkeys is None or credential_id is None:
            raise PasskeyMissing
        return _Change(request, own, passkeys, credential_id, name, bool(others))

    def _rename(self, change: _Change) -> str:
        """Rename a passkey. Raise PasskeyMissing, BadName, or RateLimited if the credentials have changed in the meantime."""
        passkeys = renamed(change.passkeys, change.credential_id, change.name)
        changed = replace(change.own.current.credentials, passkeys=passkeys)
        change_listed(self.shared(), change.own, changed, CredentialsAction.RESEAL)
        return ""

    def _remove(self, change: _Change) -> str:
        """Remove a passkey. Raise PasskeyMissing, or RateLimited if the credentials have changed in the meantime."""
        shared, own = self.shared(), change.own
        passkeys, before = removed(change.passkeys, change.credential_id), own.current.credentials
        changed = replace(before, passkeys=passkeys)
        action = CredentialsAction.PASSKEY_REMOVED
        change_listed(shared, own, changed, action, ends_others=change.ends_others)
        tell, backend = self.notices.tell, shared.session_cache.accounts.backend
        tell(change.request, backend, own.session, NoticeKind.PASSKEY_REMOVED)
        if before.asks_passkey and not changed.asks_passkey:
            tell(change.request, backend, own.session, NoticeKind.PASSKEY_FACTOR_REMOVED)
        is_off = before.wants_factor and not changed.wants_factor
        return "last-passkey-removed" if is_off else "passkey-removed"
