"""The confirmation of an email address by a mailed code, for a new account or for an existing one.

Until the code of a sign-up is entered, only its step is stored, which contains the hash of the password. So a sign-up
with another user's address creates nothing under that address.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from services.domain.accounts import CredentialsAction
from services.domain.addresses import Confirmed, ConfirmedBy
from services.domain.mails import CodePurpose, NoCodeReason
from services.errors import RateLimited, StepEnded
from services.store.accounts import Accounts, AppSession, Cookie, Found
from services.store.backend import NOT_COUNTED
from services.store.codes import NOBODY, CodeRequest, Recipient, RightCode
from services.store.device_names import Browser
from services.store.entries import Entry, Way
from services.store.steps import read_contents


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignUp:
    """The data of a sign-up, except the address, stored in the step of the sign-up's code."""

    password_hash: str | None = field(repr=False)  # None: the user signs in by mailed codes
    invitation: str = field(repr=False)  # the code of the invitation, as it was typed


_SIGN_UP = TypeAdapter(_SignUp)


def sign_up_request(found: Found, password_hash: str | None, invitation: str) -> CodeRequest:
    """Return the request for a sign-up's code; the sign-up continues once the code is entered."""
    wanted = _SignUp(password_hash=password_hash, invitation=invitation)
    return CodeRequest(address=found.email, extra=_SIGN_UP.dump_json(wanted).decode())


def recipient_of_sign_up(found: Found) -> Recipient:
    """Return the recipient of a sign-up's mail; if the address is taken, the mail to its user contains no code."""
    mail = NoCodeReason.TAKEN if found.is_taken else CodePurpose.CONFIRM_ADDRESS
    return Recipient(mail=mail, is_known=found.is_known)


def sign_up(
    accounts: Accounts, code: RightCode, browser: Browser | None = None
) -> tuple[Cookie, AppSession]:
    """Create the account of a sign-up whose *code* was correct, and sign in.

    First check the sign-up mode and the invitation again. If the process is killed after the step has ended, either
    nothing is stored or only a pending sign-up, which the next sign-in with the password completes.

    Raise StepEnded, AddressTaken (another sign-up came first), and the errors of `Accounts.find_for_sign_up` and
    `Accounts.sign_up`.
    """
    wanted = read_contents(_SIGN_UP, code.request.extra)
    found = accounts.find_for_sign_up(code.request.address, NOT_COUNTED, wanted.invitation)
    code.end()
    hashed, invitation = wanted.password_hash, wanted.invitation
    return accounts.sign_up(found, hashed, invitation, browser, _confirmed())


def sign_up_entry(code: RightCode) -> Entry:
    """Return the `Entry` of a sign-up whose *code* was correct; it waits until the user has set up a second factor."""
    wanted = read_contents(_SIGN_UP, code.request.extra)
    return Entry(
        way=Way.SIGN_UP,
        address=code.request.address,
        password_hash=wanted.password_hash or "",
        invitation=wanted.invitation,
        confirmed=_confirmed(),
    )


def recipient_of_session(found: Found, session: AppSession) -> Recipient:
    """Return the recipient of the mail by which the user of *session* confirms the account's address."""
    if found.stored is None or found.credentials is None or found.stored.user_id != session.user_id:
        return NOBODY
    return Recipient(
        mail=CodePurpose.CONFIRM_ADDRESS, credentials=found.stored, is_known=found.is_known
    )


def confirm_address(accounts: Accounts, session: AppSession, code: RightCode) -> None:
    """Record in the user's credentials that the entered *code* confirmed the account's address; all sessions stay valid.

    Raise StepEnded (also if the credentials have changed since the code was sent), RateLimited (the credentials changed
    during this call).
    """
    found = accounts.find(code.request.address, NOT_COUNTED)
    code.step.check(found.stored)
    if not found.stored or not found.credentials or found.stored.user_id != session.user_id:
        raise StepEnded
    code.end()
    if found.credentials.confirmed:  # confirmed meanwhile, in another browser or process
        return
    new = replace(found.credentials, confirmed=_confirmed(), generation=found.stored.generation + 1)
    if not accounts.change_credentials(
        session, new, found.stored, CredentialsAction.ADDRESS_CONFIRMED
    ):
        raise RateLimited


def _confirmed() -> Confirmed:
    return Confirmed(how=ConfirmedBy.CODE, at=datetime.now(UTC).replace(microsecond=0))
