"""Passkeys in place of a password and the second factor: to sign in, and to prove who is signed in."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import RedirectResponse, Response

from services.crypto.recovery_codes import new_codes
from services.domain.sign_in_methods import BY_PASSKEY, SignInMethod
from services.errors import FactorNeeded, SignedOut
from services.identity.passkeys import PasskeyUse, request_options
from services.store.accounts import AppSession, Checked, Cookie
from services.store.entries import Entry, Way
from services.web.entries import Entries
from services.web.forms import with_query
from services.web.origin import browser_of
from services.web.passkey_check import PasskeyAnswer, PasskeyCheck
from services.web.passkey_routes import Asked, Given, Offer
from services.web.proofs import Proof
from services.web.session_start import SessionStart, redirect


@dataclass(frozen=True, slots=True)
class SignInByPasskey:
    """Signs in by a passkey, which says whose it is: no address is asked for."""

    name: ClassVar[str] = PasskeyUse.SIGN_IN.value
    needs_session: ClassVar[bool] = False
    start: SessionStart
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Raise MethodOff."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        return Offer(options=request_options(asked.party, challenge, PasskeyUse.SIGN_IN, ()))

    async def finish(self, asked: Asked, given: Given) -> Response:
        request, accounts, tried = asked.request, asked.accounts, list[Checked]()
        codes = new_codes()

        def sign_in(checked: Checked) -> tuple[Cookie, AppSession]:
            tried.append(checked)
            return accounts.sign_in(checked.with_recovery(codes), browser=browser_of(request))

        answer = _answer(asked, given, PasskeyUse.SIGN_IN)
        try:
            cookie, session = await run_sync(self.check.given, request, accounts, answer, sign_in)
        except FactorNeeded as needed:
            # one is required, and no passkey of the account can be asked for as one
            checked = tried[-1]
            address, stored = checked.credentials.address, checked.stored
            entry = Entry(way=Way.SIGN_IN, address=address, by=BY_PASSKEY, counted=checked.counted)
            return await Entries(self.start).ask(request, entry, stored, asked.target, needed)
        page = redirect
        if tried[-1].begins_asking:
            page = await run_sync(self.start.page_of_codes, request, session, codes)
        return await self.start.answer(request, cookie, session, asked.target, page=page)


@dataclass(frozen=True, slots=True)
class ProveByPasskey:
    """Proves who is signed in by one of the user's passkeys."""

    name: ClassVar[str] = PasskeyUse.PROOF.value
    needs_session: ClassVar[bool] = True
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Raise MethodOff, PasskeyMissing."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        passkeys = asked.own.current.credentials.passkeys
        each = passkeys.each if passkeys else ()
        return Offer(options=request_options(asked.party, challenge, PasskeyUse.PROOF, each))

    async def finish(self, asked: Asked, given: Given) -> Response:
        request, session = asked.request, asked.own.session
        proof = Proof(request, self.check.origin)
        note = partial(proof.note, asked.shared, session)
        answer, user_id = _answer(asked, given, PasskeyUse.PROOF), session.user_id
        try:
            await run_sync(self.check.given, request, asked.accounts, answer, note, user_id)
        except SignedOut:  # or another proof was faster, and the browser has another cookie
            return RedirectResponse(asked.target, 303)
        return proof.finish(RedirectResponse(with_query(asked.target, reason="proved"), 303))


def _answer(asked: Asked, given: Given, use: PasskeyUse) -> PasskeyAnswer:
    return PasskeyAnswer(text=given.text, party=asked.party, challenge=given.challenge, use=use)
