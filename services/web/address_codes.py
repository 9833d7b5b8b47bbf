"""Codes that change the email address of an account, or restore a former address."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from anyio.to_thread import run_sync
from starlette.responses import RedirectResponse, Response

from services.domain.addresses import checked_address
from services.domain.mails import CodePurpose, NoCodeReason, NoticeKind
from services.domain.sign_in_methods import BY_CODE, SignInMethod
from services.errors import AddressTaken
from services.store.accounts import hash_new_password
from services.store.backend import Throttles
from services.store.codes import NOBODY, CodeRequest, Recipient, RightCode
from services.store.entries import Entry, Way
from services.web.changes import require_proof
from services.web.code_routes import Asked
from services.web.entries import Entries
from services.web.forms import with_query
from services.web.hashing_lanes import HashingLanes
from services.web.notices import Notices
from services.web.session_start import SessionStart


@dataclass(frozen=True, slots=True)
class NewAddress:
    """Changes a signed-in user's email address, after a recent proof of identity and a code emailed to the new address."""

    name: ClassVar[str] = CodePurpose.NEW_ADDRESS
    needs_session: ClassVar[bool] = True
    notices: Notices

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Return the request for a code to the new address.

        Raise BadAddress, AddressTaken (the new address is the current one), OtherSignInNeeded.
        """
        address, own = checked_address(asked.fields.get("email", "")), asked.own.session.email
        if address == own:
            raise AddressTaken
        asked.accounts.policy.check_move(own, address)
        # each change to a sign-in method raises the generation: a code that was emailed before such a change is refused
        return CodeRequest(address=address, extra=str(asked.own.current.stored.generation))

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        """Return the recipient of the email, which contains no code if another account has the address.

        Raise ProofNeeded if the user has given no recent proof of identity.
        """
        require_proof(asked.accounts, asked.own.session)
        stored = asked.accounts.find_claim(request.address, throttles).stored
        owner = stored.user_id if stored else None
        is_free = owner in (None, asked.own.session.user_id)
        return Recipient(mail=CodePurpose.NEW_ADDRESS if is_free else NoCodeReason.TAKEN)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Change the address. Raise AddressTaken, StepEnded (a sign-in method changed), ProofNeeded (the code stays valid)."""
        session, address = asked.own.session, code.request.address
        await run_sync(require_proof, asked.accounts, session)
        await run_sync(code.end)
        change, seen = asked.accounts.change_address, int(code.request.extra)
        is_former = await run_sync(change, session, address, seen)
        asked.shared.set_address(session.user_id, address)
        is_former = is_former and SignInMethod.CODE in asked.accounts.policy.methods
        kind = NoticeKind.FORMER_ADDRESS if is_former else NoticeKind.ADDRESS_CHANGED
        # an old address that was never confirmed gets no email, because its mailbox may belong to someone else
        mails = {session.email: kind} if session.is_confirmed else {}
        mails[address] = NoticeKind.ADDRESS_CHANGED
        backend = asked.accounts.backend
        await run_sync(self.notices.tell_of_address, asked.request, backend, session, mails)
        return RedirectResponse(with_query(asked.target, reason="moved"), 303)


@dataclass(frozen=True, slots=True)
class RestoreAddress:
    """Restores a former address to its account, sets a new password if passwords are enabled, and signs in."""

    name: ClassVar[str] = CodePurpose.RESTORE_ADDRESS
    needs_session: ClassVar[bool] = False
    start: SessionStart
    lanes: HashingLanes

    async def request_of(self, asked: Asked) -> CodeRequest:
        """Return the request for a code to the former address. Raise BadAddress, OtherSignInNeeded."""
        address = checked_address(asked.fields.get("email", ""))
        asked.accounts.policy.check_address(address)
        return CodeRequest(address=address)

    def recipient(self, asked: Asked, request: CodeRequest, throttles: Throttles) -> Recipient:
        """Return the recipient without the account's credentials, so that the step is not bound to them.

        A step that is bound to credentials ends when they change, and a thief who has signed in could change them.
        """
        found = asked.accounts.find_former(request.address, throttles)
        opens = asked.accounts.policy.opens
        # send no code if the account does not allow sign-in by code, for example because its current address
        # requires single sign-on
        if found is None or found.is_suspended or not opens(found.credentials, BY_CODE):
            return NOBODY
        user_id = found.stored.user_id
        return Recipient(mail=CodePurpose.RESTORE_ADDRESS, is_known=found.is_known, user_id=user_id)

    async def finish(self, asked: Asked, code: RightCode) -> Response:
        """Restore the address, and sign in. If passwords are disabled, the account has no password afterwards.

        Raise WeakPassword, after which the code stays valid, and the errors of `Accounts.restore_address`.
        """
        address, password = code.request.address, asked.fields.get("password", "")
        hashed = None
        if SignInMethod.PASSWORD in asked.accounts.policy.methods:
            hashed = await self.lanes.run(
                lambda: hash_new_password(address, password), client=asked.network
            )
        await run_sync(code.end)
        entry = Entry(way=Way.RESTORE, address=address, by=BY_CODE, password_hash=hashed or "")
        act = partial(
            asked.accounts.restore_address, address, hashed, self.start.browser(asked.request)
        )
        # None: do not bind the step to credentials (the docstring of `recipient` says why)
        return await Entries(self.start).enter(asked.request, entry, None, asked.target, act)
