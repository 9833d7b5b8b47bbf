"""Mailed codes of eight digits: entering one in the browser that requested it proves access to the mailbox.

A code belongs to a step (steps.py), which contains an HMAC of the code under the root key and the step's id. If no code
may be sent to an address, a step is started anyway, and rejects every code that is entered, so that a page does not
reveal whether the address has an account.
"""

import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from services.domain import UserId
from services.domain.accounts import CredentialsAction, Failure
from services.domain.addresses import EmailAddress
from services.domain.mails import Code, CodePurpose, NoCode, NoCodeReason
from services.domain.sign_in_methods import BY_CODE
from services.errors import AppError, FactorNeeded, StepEnded, WrongCode
from services.rules.accounts import MOST_TRIES, STEP_LIFE
from services.store.accounts import (
    Accounts,
    AppSession,
    Checked,
    Cookie,
    Found,
    until_unchanged,
)
from services.store.backend import NOT_COUNTED, StoredCredentials, Throttle
from services.store.device_names import Browser
from services.store.failures import note_failure
from services.store.kept import marks
from services.store.steps import Step, Steps, read_contents

DIGITS = 8
_FULL_WIDTH = {0xFF10 + digit: str(digit) for digit in range(10)}
# the failure that the audit log counts for a wrong code, keyed by the kind of the step; ADDRESS for all other kinds
_FAILURES: Mapping[str, Failure] = {
    CodePurpose.SIGN_IN: Failure.SIGN_IN,
    CodePurpose.RESET_PASSWORD: Failure.RESET,
    CodePurpose.PROVE: Failure.PROOF,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """The request for a code, sealed in the code's step until the code is entered."""

    address: EmailAddress = field(repr=False)
    extra: str = field(default="", repr=False)  # other data that the purpose needs, such as a hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """The kind of mail that an address gets, and the credentials that must stay unchanged until the code is entered."""

    mail: CodePurpose | NoCodeReason | None  # None: no mail is sent
    credentials: StoredCredentials | None = None  # None: the step is bound to no credentials
    is_known: bool = False  # true: the request comes from one of the user's devices
    # the user in whose audit log wrong codes are counted; None: the user of the step
    user_id: UserId | None = None


NOBODY = Recipient(mail=None)


def recipient_of(found: Found, purpose: CodePurpose) -> Recipient:
    """Return the recipient of a mail for an account; no code is sent to an address that was never confirmed."""
    if not found.is_taken or found.credentials is None or found.is_suspended:
        return NOBODY
    if found.credentials.confirmed is None:
        return Recipient(mail=NoCodeReason.UNCONFIRMED, is_known=found.is_known)
    return Recipient(mail=purpose, credentials=found.stored, is_known=found.is_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The contents of a code's step. `tag`: the HMAC of the code; None: no code was sent."""

    request: CodeRequest = field(repr=False)
    tag: str | None = field(repr=False)
    # the id under which attempts are counted after `Codes.keep`; None: `keep` was not called for this code
    kept_as: UUID | None = None
    user_id: UserId | None = None  # the user in whose audit log wrong codes are counted


_CONTENTS = TypeAdapter(_Contents)


@dataclass(slots=True)
class RightCode:
    """A step whose code was entered correctly. Callers end the step before they use the code, so that the code works only once."""

    step: Step
    request: CodeRequest
    _end: Callable[[], Step] = field(repr=False)
    has_ended: bool = False

    def end(self) -> None:
        """End the step. If several callers do so at the same time, only one succeeds; for the others, raise StepEnded."""
        self._end()
        self.has_ended = True


@dataclass(frozen=True, slots=True)
class Codes:
    """Creates codes, and checks entered codes. Any thread may call any method. All methods may raise StoreUnavailable.

    All but `begin` raise StepEnded as `Steps.attempt` does; `read` and `check` each use up one attempt of the step.

    A code of eight digits allows five attempts, and five more if another code was requested but could not be sent. Each
    new code allows attempts of its own, so only the rate limits on mails bound the guessing: strangers can have 15
    codes a day sent to an address (30 if a user may take the address back). 15 codes allow 150 guesses among
    100,000,000 possible codes.
    """

    steps: Steps

    def begin(
        self,
        browser: Cookie,
        kind: str,
        request: CodeRequest,
        recipient: Recipient,
        *,
        session: AppSession | None = None,
        step_id: UUID,
    ) -> tuple[Step, Code | NoCode | None]:
        """Start the step *step_id*, or restart it with a new code; return the step and the content of the mail to send.

        Raise WrongCredentials (the credentials of *recipient* are not those of the session's user).
        """
        content, tag = None, None
        match recipient.mail:
            case CodePurpose() as purpose:
                digits = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
                content = Code(purpose, digits)
                tag = self.steps.root_keys.code_tag(step_id, digits)
            case NoCodeReason() as reason:
                content = NoCode(reason)
            case None:
                pass
        contents = _text(_Contents(request=request, tag=tag, user_id=recipient.user_id))
        step = self.steps.begin(
            browser,
            kind,
            contents,
            (),
            session=session,
            credentials=recipient.credentials,
            step_id=step_id,
        )
        return step, content

    def read(
        self, browser: Cookie, kind: str, step_id: UUID, session: AppSession | None
    ) -> CodeRequest:
        """Return the request that a step's code was made for, so that the caller can restart the step or `keep` its code."""
        step = self.steps.attempt(browser, kind, step_id, session)
        return read_contents(_CONTENTS, step.contents).request

    def keep(self, browser: Cookie, kind: str, step_id: UUID, session: AppSession | None) -> None:
        """Keep a step's code valid after a new code could not be sent, and reset the attempts, one of which `read` used.

        From the first call on, the attempts to enter this code are counted separately: five in total, however often
        `keep` is called.
        """
        self.steps.renew(browser, kind, step_id, session, _kept)

    def check(
        self, browser: Cookie, kind: str, step_id: UUID, digits: str, session: AppSession | None
    ) -> RightCode:
        """Compare *digits* with the code of a step. Raise WrongCode if they differ, and count this failure in the audit log."""
        step = self.steps.attempt(browser, kind, step_id, session)
        contents = read_contents(_CONTENTS, step.contents)
        if contents.kept_as:
            bucket = self.steps.root_keys.bucket(f"tries of code {contents.kept_as}")
            seconds = int(STEP_LIFE.total_seconds())
            self.steps.count_try(Throttle(bucket, MOST_TRIES, seconds))
        if not self.steps.root_keys.is_code(step_id, digits, contents.tag or ""):
            failure = _FAILURES.get(kind, Failure.ADDRESS)
            note_failure(self.steps.backend, contents.user_id or step.user_id, failure)
            raise WrongCode
        end = partial(self.steps.end, browser, kind, step_id, session)
        return RightCode(step, contents.request, end)


def _kept(text: str) -> str:
    """Return the step contents *text* with an id for counting attempts, as `Codes.keep` stores them.

    Raise StepEnded as `read_contents` does.
    """
    contents = read_contents(_CONTENTS, text)
    return _text(replace(contents, kept_as=contents.kept_as or uuid4()))


def _text(contents: _Contents) -> str:
    return _CONTENTS.dump_json(contents).decode()


def sign_in(
    accounts: Accounts, code: RightCode, browser: Browser | None = None
) -> tuple[Cookie, AppSession]:
    """Sign in by a code that was mailed to the address of an account.

    Raise StepEnded (also if the credentials have changed since the code was sent), Suspended, and the errors of
    `Accounts.sign_in`.
    """
    checked = _confirmed(_found(accounts, code), code.step.user_id)
    code.end()
    return accounts.sign_in(checked, browser=browser)


def prove(
    accounts: Accounts,
    code: RightCode,
    note: Callable[[Checked], None],
    give: Callable[[Checked, Callable[[Checked], None]], None],
) -> None:
    """Accept a mailed code as proof of who a session's user is, and call *note* with the user's credentials.

    *give* is called with the credentials and a function. *give* must check the second factor, if the account has one,
    and then call the function, which uses up the code and calls *note*.

    Raise StepEnded (also if the credentials have changed since the code was sent), and the errors of *give* and *note*.
    """

    def act(checked: Checked) -> None:
        # *give* calls this again if the factor was used meanwhile; by then, the step has ended
        if not code.has_ended:
            code.end()
        note(checked)

    found = _found(accounts, code).in_session()
    give(_confirmed(found, code.step.user_id), act)


def reset_password(
    accounts: Accounts, code: RightCode, password_hash: str, browser: Browser | None = None
) -> tuple[Cookie, AppSession]:
    """Sign in by a code, set a new password and end all other sessions.

    Raise FactorNeeded (also if the user must choose which passkeys and identities to keep), and the errors of `sign_in`.

    If the credentials change after the code is used up, they are read again (`until_unchanged`): otherwise, an attacker
    who is signed in as the user could prevent every reset by changing the credentials.
    """
    checked = _confirmed(_found(accounts, code), code.step.user_id)
    code.end()
    if (listed := marks(checked.credentials)) and not checked.credentials.wants_factor:
        raise FactorNeeded(listed=listed, enrols=checked.requires_factor)

    def again() -> Checked:
        now = confirmed_again(accounts, code.request.address, code.step.user_id)
        # a factor was set up meanwhile, and only a new reset can ask for it
        if now.credentials.wants_factor:
            raise StepEnded
        return now

    reset_by = partial(reset, accounts, kept=listed, password_hash=password_hash, browser=browser)
    return until_unchanged(checked, again, reset_by)


def reset(
    accounts: Accounts,
    checked: Checked,
    password_hash: str,
    browser: Browser | None = None,
    *,
    keeps_factor: bool = True,
    kept: Collection[str],
    on_begun: Callable[[AppSession], object] = lambda _: None,
) -> tuple[Cookie, AppSession]:
    """Sign in as the user of *checked*, set a new password and end all other sessions.

    *keeps_factor* and *kept*: as in `Accounts.change_password`. A passkey or identity that is added during the reset was
    not listed to the user, so it is removed.

    The new session changes the password, because only a signed-in user may overwrite credentials. *on_begun* is called
    after the sign-in, before that change. If the process is killed between the two, the old password stays valid,
    and no browser has the cookie of the new session.
    """
    cookie, session = accounts.sign_in(checked, browser=browser)
    on_begun(session)
    try:
        after = checked.after
        accounts.change_password(
            session,
            after,
            password_hash,
            keeps_factor=keeps_factor,
            kept=kept,
            action=CredentialsAction.PASSWORD_RESET,
        )
    except AppError:
        with suppress(AppError):
            accounts.end(cookie)
        raise
    return cookie, session


def _found(accounts: Accounts, code: RightCode) -> Found:
    """Return the data stored for a code's address. Raise StepEnded if the credentials changed since the code was sent."""
    found = accounts.find(code.request.address, NOT_COUNTED)  # the step counts the attempts instead
    code.step.check(found.stored)
    return found


def confirmed_again(accounts: Accounts, address: EmailAddress, user_id: UserId | None) -> Checked:
    """Read a user's credentials again. Raise StepEnded unless the user still has *address*, and has confirmed it."""
    return _confirmed(accounts.find(address, NOT_COUNTED), user_id)


def _confirmed(found: Found, user_id: UserId | None) -> Checked:
    """Return the credentials in *found*. Raise StepEnded unless they belong to *user_id* and the address is confirmed."""
    stored, credentials = found.stored, found.credentials
    if not stored or not credentials or not credentials.confirmed or stored.user_id != user_id:
        raise StepEnded
    return found.opened(stored, credentials, BY_CODE)


def typed_code(text: str, length: int = DIGITS) -> str:
    """Return the digits of a typed code, without the spaces and hyphens that group them; "" if *text* is not a code.

    Full-width digits, which input methods of East Asian languages produce, are digits as well.
    """
    digits = "".join(text.split()).replace("-", "").translate(_FULL_WIDTH)
    is_code = len(digits) == length and digits.isascii() and digits.isdecimal()
    return digits if is_code else ""
