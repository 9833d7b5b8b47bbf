"""Codes by mail: eight digits, entered in the browser that asked for them, show that its user reads a mailbox.

A code belongs to a step (steps.py), which keeps an HMAC of it under the root key and the step's id. Who may have no code
gets a step all the same, in which every code is wrong, so that a page says nothing of an address.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from pydantic import TypeAdapter

from services.domain.addresses import EmailAddress
from services.domain.browsers import BrowserName
from services.domain.mails import Code, CodePurpose, NoCode, NoCodeReason
from services.errors import AppError, StepEnded, WrongCode
from services.store.accounts import Accounts, AppSession, Checked, Cookie, Found
from services.store.backend import NOT_COUNTED, StoredCredentials
from services.store.steps import Step, Steps, read_contents

DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """What a code is asked for, sealed in its step until the code comes back."""

    address: EmailAddress = field(repr=False)
    extra: str = field(default="", repr=False)  # what the purpose needs besides, such as a hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """What the mail to an address says, and the credentials that must stay unchanged until the code is entered."""

    mail: CodePurpose | NoCodeReason | None  # None: no mail
    credentials: StoredCredentials | None = None  # None: of no user, or those of the session
    is_known: bool = False  # true: the request comes from a device of the user


NOBODY = Recipient(mail=None)


def recipient_of(found: Found, purpose: CodePurpose) -> Recipient:
    """Return who gets a mail for an account: no code opens one whose address was never confirmed."""
    if not found.is_taken or found.credentials is None or found.is_suspended:
        return NOBODY
    if found.credentials.confirmed is None:
        return Recipient(mail=NoCodeReason.UNCONFIRMED, is_known=found.is_known)
    return Recipient(mail=purpose, credentials=found.stored, is_known=found.is_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """The contents of the step of a code. `tag`: None if no code was sent."""

    request: CodeRequest = field(repr=False)
    tag: str | None = field(repr=False)


_CONTENTS = TypeAdapter(_Contents)


@dataclass(frozen=True, slots=True)
class RightCode:
    """A step whose code was entered. It must end before the code counts."""

    step: Step
    request: CodeRequest
    _end: Callable[[], Step] = field(repr=False)

    def end(self) -> None:
        """End the step, for one of several who enter the code at once. Raise StepEnded."""
        self._end()


@dataclass(frozen=True, slots=True)
class Codes:
    """Makes codes and compares them. Any thread may call any method. All raise StoreUnavailable.

    All but `begin` count a try of the step, and raise StepEnded as `Steps.attempt` does.
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
        """Begin the step *step_id*, or begin it anew with another code; return it and what to mail.

        Raise WrongCredentials (those of *recipient* are not those of the session's user).
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
        contents = _CONTENTS.dump_json(_Contents(request=request, tag=tag)).decode()
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
        """Return what the code of a step was asked for, to begin it anew."""
        step = self.steps.attempt(browser, kind, step_id, session)
        return read_contents(_CONTENTS, step.contents).request

    def check(
        self, browser: Cookie, kind: str, step_id: UUID, digits: str, session: AppSession | None
    ) -> RightCode:
        """Compare *digits* with the code of a step. Raise WrongCode."""
        step = self.steps.attempt(browser, kind, step_id, session)
        contents = read_contents(_CONTENTS, step.contents)
        if not self.steps.root_keys.is_code(step_id, digits, contents.tag or ""):
            raise WrongCode
        end = partial(self.steps.end, browser, kind, step_id, session)
        return RightCode(step, contents.request, end)


def sign_in(
    accounts: Accounts, code: RightCode, browser: BrowserName | None = None
) -> tuple[Cookie, AppSession]:
    """Sign in by a code that was mailed to the address of an account.

    Raise StepEnded (also if the credentials have changed since), Suspended, and the errors of `Accounts.sign_in`.
    """
    checked = _checked(accounts, code)
    code.end()
    return accounts.sign_in(checked, browser=browser)


def reset_password(
    accounts: Accounts, code: RightCode, password_hash: str, browser: BrowserName | None = None
) -> tuple[Cookie, AppSession]:
    """Sign in by a code, set a new password and end all other sessions. Raise the errors of `sign_in`.

    The password is changed by the new session, as only a user may overwrite credentials. A process that is killed
    between the two leaves the old password, and a session of which no browser has the cookie.
    """
    checked = _checked(accounts, code)
    code.end()
    return reset(accounts, checked, password_hash, browser)


def reset(
    accounts: Accounts, checked: Checked, password_hash: str, browser: BrowserName | None = None
) -> tuple[Cookie, AppSession]:
    """Sign in as the user of *checked*, set a new password and end all other sessions, as `reset_password` does."""
    cookie, session = accounts.sign_in(checked, browser=browser)
    try:
        accounts.change_password(session, checked.after, password_hash)
    except AppError:
        with suppress(AppError):
            accounts.end(cookie)
        raise
    return cookie, session


def _checked(accounts: Accounts, code: RightCode) -> Checked:
    """Return the credentials that a code was sent for. Raise StepEnded if they have changed since."""
    found = accounts.find(code.request.address, NOT_COUNTED)  # the tries of the code are counted
    code.step.check(found.stored)
    if not found.stored or not found.credentials or not found.credentials.confirmed:
        raise StepEnded
    return Checked(
        *(found.stored, found.credentials, (), found.keys),
        requires_factor=found.sign_ups.requires_factor,
    )


def typed_code(text: str) -> str:
    """Return the digits of a code as it was typed: mails and people group them by spaces and hyphens."""
    digits = "".join(text.split()).replace("-", "")
    is_code = len(digits) == DIGITS and digits.isascii() and digits.isdecimal()
    return digits if is_code else ""
