"""Who may begin an account: the mode of sign-ups, and invitations, whose codes are stored as hashes."""

import secrets
from dataclasses import dataclass, field
from uuid import UUID

from services.caches import CachedRead
from services.crypto import sha
from services.domain import AccountRole
from services.domain.accounts import Invitation, SignUps
from services.domain.addresses import EmailAddress, checked_address
from services.errors import InvitationRefused, SignUpsClosed
from services.store.supabase.api import Hidden, ServerCalls, UserCalls

_CODE_BYTES = 16


def hash_of(code: str) -> str | None:
    """The hash by which an invitation is found; None without a code."""
    code = code.strip()
    return sha(code) if code else None


def read_sign_ups(server: ServerCalls) -> SignUps:
    """The mode of sign-ups. Raise StoreUnavailable."""
    values = server.call("sign_ups", invitation=None, address=Hidden(None)).values
    return SignUps(str(values["mode"]))


def next_is_admin(server: ServerCalls) -> bool:
    """Return True if there is no account, and the first becomes the admin's. Raise StoreUnavailable."""
    answer = server.call("sign_ups", invitation=None, address=Hidden(None))
    return answer.values["is_first"] is True


def check_sign_up(server: ServerCalls, email: EmailAddress, code: str) -> None:
    """Raise SignUpsClosed or InvitationRefused where no account may begin with *code*; StoreUnavailable.

    Asked before Supabase Auth makes a user, who would have to sign in to try another code.
    """
    answer = server.call("sign_ups", invitation=hash_of(code), address=Hidden(email))
    mode = SignUps(str(answer.values["mode"]))
    if mode is SignUps.CLOSED:
        raise SignUpsClosed
    if mode is SignUps.INVITED and answer.values["is_invited"] is not True:
        raise InvitationRefused


@dataclass(frozen=True, slots=True)
class SignUpAdministration:
    """The mode of sign-ups and invitations. All methods but `mode` raise NotFound for all but admins."""

    calls: UserCalls = field(repr=False)
    held: CachedRead[SignUps] = field(repr=False)  # of this process

    def mode(self) -> SignUps:
        """The mode, at most some seconds old."""
        return self.held.get()

    def set_mode(self, mode: SignUps) -> None:
        self.calls.do("set_settings", changes=Hidden.json({"sign_ups": mode.value}))
        self.held.outdate()

    def invite(self, email: str, role: AccountRole) -> str:
        """Make an invitation for *email*, or for anyone if it is empty; return its code, which is told only once.

        Raise BadAddress, BadInput (too many are open).
        """
        address = checked_address(email) if email else None
        code = secrets.token_urlsafe(_CODE_BYTES)
        self.calls.do("invite", code=hash_of(code), address=Hidden(address), new_role=role.value)
        return code

    def invitations(self) -> list[Invitation]:
        """The open invitations and the newest of the others, at most 500."""
        return self.calls.read("list_invitations", list[Invitation])

    def revoke(self, invitation: UUID) -> None:
        """Raise NotFound also if it was used or revoked."""
        self.calls.do("revoke_invitation", invitation=invitation)
