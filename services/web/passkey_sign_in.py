"""Passkeys that replace the password and the second factor: to sign in, and to prove who is signed in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import RedirectResponse, Response

from services.crypto.recovery_codes import new_codes
from services.domain import UserId
from services.domain.sign_in_methods import BY_PASSKEY, SignInMethod
from services.domain.single_sign_on import LinkedIdentity
from services.errors import FactorNeeded, SignedOut
from services.identity.passkeys import PasskeyUse, request_options
from services.store.accounts import Checked, Entered
from services.store.entries import Entry, Way
from services.store.linking import sign_in_linking
from services.web.entries import Entries
from services.web.forms import with_query
from services.web.passkey_check import PasskeyAnswer, PasskeyCheck
from services.web.passkey_routes import Asked, Given, Offer
from services.web.proofs import Proof
from services.web.session_start import SessionStart, redirect


@dataclass(frozen=True, slots=True)
class SignInByPasskey:
    """Signs in with a passkey. No email address is needed, because the passkey identifies its user."""

    name: ClassVar[str] = PasskeyUse.SIGN_IN.value
    needs_session: ClassVar[bool] = False
    start: SessionStart
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options to sign in with any passkey. Raise MethodOff if passkeys are off."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        return Offer(options=request_options(asked.party, challenge, PasskeyUse.SIGN_IN, ()))

    async def finish(self, asked: Asked, given: Given) -> Response:
        return await begin_session(
            self.start, self.check, asked, given, lambda checked: checked, target=asked.target
        )


async def begin_session(
    start: SessionStart,
    check: PasskeyCheck,
    asked: Asked,
    given: Given,
    prepare: Callable[[Checked], Checked],
    *,
    target: str,
    user_id: UserId | None = None,
    identity: LinkedIdentity | None = None,
) -> Response:
    """Sign in with a passkey, or redirect to the form for the second factor if the passkey does not count as the second factor.

    *prepare* receives the credentials updated by the passkey's use, and returns the credentials to sign in with; it may
    be called several times. *user_id*: as in `PasskeyCheck.given`. *identity* is linked to the account.

    Raise the errors of `PasskeyCheck.given`, *prepare* and `sign_in_linking`.
    """
    request, accounts, entries = asked.request, asked.accounts, Entries(start)
    tried, codes = list[Checked](), new_codes()

    def sign_in(checked: Checked) -> Entered:
        tried.append(prepare(checked))
        after = tried[-1].with_recovery(codes)
        return Entered(*sign_in_linking(accounts, after, identity, start.browser(request)))

    def entry() -> Entry:
        address, counted = tried[-1].credentials.address, tried[-1].counted
        by = tried[-1].by or BY_PASSKEY
        return Entry(way=Way.SIGN_IN, address=address, by=by, counted=counted, identity=identity)

    answer = _answer(asked, given, PasskeyUse.SIGN_IN)
    try:
        entered = await run_sync(check.given, request, accounts, answer, sign_in, user_id)
    except FactorNeeded as needed:
        return await entries.ask(request, entry(), tried[-1].stored, target, needed)
    page = redirect
    if tried[-1].begins_asking:
        page = await run_sync(start.page_of_codes, request, entered.session, codes)
    return await entries.answer(request, entry(), entered, target, page=page)


@dataclass(frozen=True, slots=True)
class ProveByPasskey:
    """Proves who is signed in, with one of the user's passkeys."""

    name: ClassVar[str] = PasskeyUse.PROOF.value
    needs_session: ClassVar[bool] = True
    check: PasskeyCheck

    def offer(self, asked: Asked, challenge: bytes) -> Offer:
        """Return the options for a proof with a passkey of the user. Raise MethodOff if passkeys are off, or PasskeyMissing."""
        asked.accounts.policy.check_method(SignInMethod.PASSKEY)
        passkeys = asked.own.current.credentials.passkeys
        each = passkeys.each if passkeys else ()
        return Offer(options=request_options(asked.party, challenge, PasskeyUse.PROOF, each))

    async def finish(self, asked: Asked, given: Given) -> Response:
        request, session = asked.request, asked.own.session
        proof = Proof(request, self.check.origin)
        note = partial(proof.note, asked.shared, session)
        answer, user_id = _answer(asked, given, PasskeyUse.PROOF), session.user_id
        prove = partial(self.check.given, in_session=True)
        try:
            await run_sync(prove, request, asked.accounts, answer, note, user_id)
        except SignedOut:  # the session has ended, or another proof has replaced the cookie
            return RedirectResponse(asked.target, 303)
        return proof.finish(RedirectResponse(with_query(asked.target, reason="proved"), 303))


def _answer(asked: Asked, given: Given, use: PasskeyUse) -> PasskeyAnswer:
    return PasskeyAnswer(text=given.text, party=asked.party, challenge=given.challenge, use=use)
