"""Codes that are used instead of a password: to sign in, to reset the password, and to prove who is signed in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import RedirectResponse, Response

from services.domain.addresses import checked_address
from services.domain.mails import CodePurpose
from services.domain.sign_in_methods import BY_CODE
from services.errors import SignedOut
from services.store.accounts import Checked, Entered, hash_new_password
from services.store.backend import Throttles
from services.store.codes import (
    CodeRequest,
    Recipient,
    RightCode,
    prove,
    recipient_of,
    reset_password,
    sign_in,
)
from services.store.entries import Entry, Way
from services.web.code_routes import Asked
from services.web.entries import Entries
from services.web.factor_check import FactorCheck
from services.web.forms import with_query
from services.web.hashing_lanes import HashingLanes
from services.web.proofs import Proof
from services.web.session_start import SessionStart


@dataclass(frozen=True, slots=True)
class _AccountCode:
    """A code for a user who is not signed in, emailed to the address of the account."""

    name: ClassVar[str]
    purpose: ClassVar[CodePurpose]
    needs_session: ClassVar[bool] = False
    start: SessionStart

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Return the request for a code to the entered address.

        Raise BadAddress, or OtherSignInNeeded if the address may sign in only through a provider.
        """
        address = checked_address(asked.fields.get("email", ""))
        asked.accounts.policy.check_address(address)
        return CodeRequest(address=address)

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        return recipient_of(asked.accounts.find(request.address, throttles), self.purpose)


@dataclass(frozen=True, slots=True)
class SignInByCode(_AccountCode):
    """Signs in with a code instead of a password."""

    name: ClassVar[str] = CodePurpose.SIGN_IN
    purpose: ClassVar[CodePurpose] = CodePurpose.SIGN_IN

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        entry = Entry(way=Way.SIGN_IN, address=code.request.address, by=BY_CODE)

        def act() -> Entered:
            return Entered(*sign_in(asked.accounts, code, self.start.browser(asked.request)))

        return await Entries(self.start).enter(asked.request, entry, code.step, asked.target, act)


@dataclass(frozen=True, slots=True)
class ResetPassword(_AccountCode):
    """Sets a new password, signs in, and ends all other sessions."""

    name: ClassVar[str] = CodePurpose.RESET_PASSWORD
    purpose: ClassVar[CodePurpose] = CodePurpose.RESET_PASSWORD
    lanes: HashingLanes

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Set the password, and sign in. Raise WeakPassword, after which the code stays valid."""
        address, password = code.request.address, asked.fields.get("password", "")
        hashed = await self.lanes.run(
            lambda: hash_new_password(address, password), client=asked.network
        )
        entry = Entry(way=Way.RESET, address=address, by=BY_CODE, password_hash=hashed)

        def act() -> Entered:
            return Entered(
                *reset_password(asked.accounts, code, hashed, self.start.browser(asked.request))
            )

        return await Entries(self.start).enter(asked.request, entry, code.step, asked.target, act)


@dataclass(frozen=True, slots=True)
class ProveByCode:
    """Proves who is signed in, with a code instead of the password, if the email address is confirmed."""

    name: ClassVar[str] = CodePurpose.PROVE
    needs_session: ClassVar[bool] = True
    check: FactorCheck

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Return the request for a code to the user's address.

        Raise OtherSignInNeeded if the address may sign in only through a provider.
        """
        address = asked.own.session.email
        asked.accounts.policy.check_address(address)
        return CodeRequest(address=address)

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        return recipient_of(asked.accounts.find(request.address, throttles), CodePurpose.PROVE)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Store the proof. Raise WrongFactor, FactorNeeded, after which the code stays valid."""
        session, text = asked.own.session, asked.fields.get("factor", "")
        proof = Proof(asked.request, self.check.origin)
        note = partial(proof.note, asked.shared, session)

        def give(checked: Checked, act: Callable[[Checked], None]) -> None:
            self.check.prove(asked.request, asked.accounts, session, checked, text, act)

        try:
            await run_sync(prove, asked.accounts, code, note, give)
        except SignedOut:  # the session has ended, or another proof has replaced the cookie
            return RedirectResponse(with_query(asked.target), 303)
        return proof.finish(RedirectResponse(with_query(asked.target, reason="proved"), 303))
