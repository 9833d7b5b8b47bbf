"""Routes of a signed-in user's second factor.

`/account/factor` (set up an app), `/account/factor/replace` (set up another app), `/account/factor/confirm` (confirm
the app with a code), `/account/factor/codes` (make new recovery codes), `/account/factor/remove` (remove the app),
`/account/factor/passkey` and `/account/factor/passkey/off` (ask for a passkey after the password, or stop asking).

Native HTML forms post here, because no secret may enter a Streamlit session. The responses are pages with the setup
key or the recovery codes (shown_once.py), or redirects to the Account page; after a refusal, the redirect's query has
the reason. A GET request, or a form that is submitted again, gets a page which says that the secret was already
shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.crypto import Credentials
from services.crypto.recovery_codes import new_codes, recovery_hashes
from services.domain.accounts import CredentialsAction, Failure, ProofScope
from services.domain.mails import NoticeKind
from services.errors import (
    AppError,
    PasskeyMissing,
    ProofNeeded,
    SignedOut,
    StepEnded,
    TooManyAttempts,
    WrongFactor,
)
from services.identity.totp import DIGITS, new_secret
from services.store.accounts import (
    Accounts,
    AppSession,
    Cookie,
    Current,
    require_recent,
)
from services.store.codes import typed_code
from services.store.factors import asking_passkey, renewed, turned_off
from services.store.failures import note_failure
from services.store.steps import Step, Steps
from services.users import Shared
from services.web.attempts import DEVICE_SECONDS, Attempts
from services.web.changes import change_way_in
from services.web.current_session import current_session
from services.web.factor_check import FACTORS
from services.web.forms import fields, read_step_id, with_form, with_query, with_reason
from services.web.notices import Notices
from services.web.origin import Origin
from services.web.shown_once import (
    WRONG_CODE,
    Enrolment,
    RecoveryCodes,
    ShownOnce,
    enrol_page,
    recovery_page,
    shown_page,
)

_PAGE, _PATH = "/account", "/account/factor"
_REPLACE, _CONFIRM, _CODES, _REMOVE, _ASK, _ASK_NO_MORE = (
    f"{_PATH}/{verb}"
    for verb in ("replace", "confirm", "codes", "remove", "passkey", "passkey/off")
)
# paths of the forms that set up the first factor, for which a partial proof is enough
_FIRST = (_PATH, _CONFIRM)
_KIND = "own_factor"  # kind of the step that stores a new secret until a code confirms it
_NOTICES = {
    CredentialsAction.FACTOR_ADDED: NoticeKind.FACTOR_ADDED,
    CredentialsAction.FACTOR_REMOVED: NoticeKind.FACTOR_REMOVED,
    CredentialsAction.FACTOR_REPLACED: NoticeKind.FACTOR_REPLACED,
    CredentialsAction.RECOVERY_RENEWED: NoticeKind.RECOVERY_CODES_RENEWED,
    CredentialsAction.PASSKEY_FACTOR_ADDED: NoticeKind.PASSKEY_FACTOR_ADDED,
    CredentialsAction.PASSKEY_FACTOR_REMOVED: NoticeKind.PASSKEY_FACTOR_REMOVED,
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A submitted form of a signed-in user, with the user's current credentials."""

    request: Request = field(repr=False)
    # id of this instance of the form, by which a second submission is detected
    once: str = field(repr=False)
    step: str = field(repr=False)
    code: str = field(repr=False)
    # value of `factor_mark` when the setup key was shown
    replaces: str = field(repr=False)
    ends_others: bool
    session: AppSession = field(repr=False)
    current: Current = field(repr=False)
    proof: ProofScope = ProofScope.NONE

    @property
    def factor_mark(self) -> str:
        """The time at which the authenticator app was added; "" if there is none."""
        factor = self.current.credentials.factor
        return str(factor.since) if factor else ""

    def is_again(self, path: str) -> bool:
        """Return True if the factor that the form at *path* sets up is already stored, as after its first submission."""
        if path == _ASK:
            return self.current.credentials.asks_passkey
        return path == _CONFIRM and self.factor_mark not in ("", self.replaces)


@dataclass(frozen=True, slots=True)
class OwnFactor:
    """Routes that set up, replace, renew and remove the second factor of a signed-in user."""

    shared: Callable[[], Shared]  # raises StoreUnavailable until the backend has started
    attempts: Attempts
    origin: Origin
    notices: Notices

    def routes(self) -> list[Route]:
        if self.origin.is_alone:  # this deployment has no sign-in
            return []
        acts = {
            _PATH: partial(self._begin, replaces=False),
            _REPLACE: partial(self._begin, replaces=True),
            _CONFIRM: self._confirm,
            _CODES: self._renew,
            _REMOVE: self._remove,
            _ASK: self._ask_passkey,
            _ASK_NO_MORE: self._ask_no_passkey,
        }
        return [route for path, act in acts.items() for route in self._routes(path, act)]

    def _routes(self, path: str, act: Callable[[_Asked], Response]) -> tuple[Route, Route]:
        async def answer(request: Request) -> Response:
            form = await fields(request, "once", "step", "code", "replaces", "others")
            try:
                # in a thread, because the store blocks, and drawing a QR code takes about 40 ms
                return await run_sync(self._answer, request, path, act, form)
            except AppError as error:
                return RedirectResponse(with_reason(with_form(request, _PAGE), error), 303)

        def shown(_: Request) -> Response:
            is_key = path in (_PATH, _REPLACE)
            return shown_page(ShownOnce.SETUP_KEY if is_key else ShownOnce.RECOVERY_CODES)

        return Route(path, answer, methods=["POST"]), Route(path, shown)

    def _answer(
        self, request: Request, path: str, act: Callable[[_Asked], Response], form: Sequence[str]
    ) -> Response:
        """Return the response of *act* to a form at *path*. Raise ProofNeeded if the user has no recent proof of identity."""
        shared = self.shared()
        try:
            signed_in = current_session(shared, self.origin.session_cookie(request))
        except SignedOut:
            return _to_page()
        session, current = signed_in.session, signed_in.current
        once, step, code, replaces, others = form
        wants_factor, ends_others = current.credentials.wants_factor, others != ""
        is_part = path in _FIRST and not wants_factor and not ends_others
        asked = _Asked(request, once, step, code, replaces, ends_others, session, current)
        try:
            asked = replace(asked, proof=require_recent(session.backend, is_part=is_part))
            return act(asked)
        except (ProofNeeded, StepEnded):
            # the first submission ends the step, and a proof without the new factor no longer counts
            if asked.is_again(path) or (path == _CODES and not self._is_first(asked)):
                return shown_page(ShownOnce.RECOVERY_CODES)
            note_failure(self._accounts.backend, session.user_id, Failure.CHANGE)
            raise

    def _begin(self, asked: _Asked, *, replaces: bool) -> Response:
        """Return the page with a new setup key, stored in a step until a code confirms it; the old factor is valid until then."""
        # the app was added or removed after the page was drawn
        if replaces is not bool(asked.factor_mark):
            return _to_page()
        if not self._is_first(asked):
            return shown_page(ShownOnce.SETUP_KEY)
        browser = self.origin.step_cookie(asked.request) or Cookie.new()
        device = self.origin.device_cookie(asked.request)
        address = self.origin.client_address(asked.request)
        throttles = self.attempts.factor_step(asked.session.user_id, device, address)
        step = self._steps.begin(
            browser,
            _KIND,
            new_secret().hex(),
            throttles,
            session=asked.session,
            credentials=asked.current.stored,
        )
        answer = self._enrol_page(asked, step)
        self.origin.set_step_cookie(answer, asked.request, browser)
        return answer

    def _confirm(self, asked: _Asked) -> Response:
        """Store the factor if the code is right, and return the page with recovery codes.

        Raise StepEnded, TriesUsed, or RateLimited if the credentials have changed in the meantime.
        """
        current, browser = asked.current, self.origin.step_cookie(asked.request)
        if browser is None:
            raise StepEnded
        step_id, tries = read_step_id(asked.step), self.attempts.tries
        step = self._steps.attempt(browser, _KIND, step_id, asked.session, tries)
        step.check(current.stored)
        codes, entered = new_codes(), typed_code(asked.code, DIGITS)
        secret = bytes.fromhex(step.contents)
        try:
            new = FACTORS.enrolled(current.credentials, secret, entered, recovery_hashes(codes))
        except WrongFactor:
            note_failure(self._accounts.backend, asked.session.user_id, Failure.ENROLMENT)
            return self._enrol_page(asked, step, WRONG_CODE)
        self._steps.end(browser, _KIND, step.id, asked.session)
        added, replaced = CredentialsAction.FACTOR_ADDED, CredentialsAction.FACTOR_REPLACED
        self._change(asked, new, replaced if asked.factor_mark else added)
        answer = self._recovery_page(asked, codes)
        # the cookie makes the device known, so that the device gets its own throttle for attempts to enter the factor
        before = self.origin.device_cookie(asked.request)
        device = self.attempts.device_cookie(asked.session.user_id, asked.session.id, before)
        self.origin.set_cookie(answer, asked.request, "device", device, DEVICE_SECONDS)
        return answer

    def _renew(self, asked: _Asked) -> Response:
        """Replace the recovery codes, and return the page with the new ones.

        Raise RateLimited if the credentials have changed in the meantime.
        """
        if not asked.current.credentials.wants_factor:
            return _to_page()
        if not self._is_first(asked):
            return shown_page(ShownOnce.RECOVERY_CODES)
        codes = new_codes()
        new = renewed(asked.current.credentials, recovery_hashes(codes))
        self._change(asked, new, CredentialsAction.RECOVERY_RENEWED)
        return self._recovery_page(asked, codes)

    def _remove(self, asked: _Asked) -> Response:
        """Remove the authenticator app.

        Raise FactorRequired if the app is the last second factor and the deployment requires one, or RateLimited if
        the credentials have changed in the meantime.
        """
        if asked.current.credentials.factor is None:
            return _to_page()
        new = turned_off(asked.current.credentials)
        self._change(asked, new, CredentialsAction.FACTOR_REMOVED)
        return _to_page(reason="app-removed" if new.wants_factor else "factor-removed")

    def _ask_passkey(self, asked: _Asked) -> Response:
        """Make sign-ins ask for a passkey after the password; return new recovery codes if the user has none.

        Raise PasskeyMissing if the user has no passkey for this host, or RateLimited if the credentials have changed
        in the meantime.
        """
        credentials = asked.current.credentials
        if not self._is_first(asked):
            return shown_page(ShownOnce.RECOVERY_CODES)
        if credentials.asks_passkey:
            return _to_page()
        party = self.origin.relying_party(asked.request)
        passkeys = credentials.passkeys.each if credentials.passkeys else ()
        if not any(party and one.rp_id == party.id for one in passkeys):
            raise PasskeyMissing
        new, codes = asking_passkey(credentials, is_asked=True), ()
        if not new.recovery:
            codes = new_codes()
            new = replace(new, recovery=recovery_hashes(codes))
        self._change(asked, new, CredentialsAction.PASSKEY_FACTOR_ADDED)
        return self._recovery_page(asked, codes) if codes else _to_page(reason="passkey-asked")

    def _ask_no_passkey(self, asked: _Asked) -> Response:
        """Stop asking for a passkey after the password.

        Raise FactorRequired if the passkey is the last second factor and the deployment requires one, or RateLimited
        if the credentials have changed in the meantime.
        """
        if not asked.current.credentials.asks_passkey:
            return _to_page()
        new = asking_passkey(asked.current.credentials, is_asked=False)
        self._change(asked, new, CredentialsAction.PASSKEY_FACTOR_REMOVED)
        return _to_page(reason="passkey-not-asked")

    def _change(self, asked: _Asked, new: Credentials, action: CredentialsAction) -> None:
        """Store *new* credentials, and notify the user. Raise RateLimited if the stored credentials have changed in the meantime."""
        shared, session = self.shared(), asked.session
        change_way_in(shared, session, asked.current, new, action, ends_others=asked.ends_others)
        self.notices.tell(asked.request, self._accounts.backend, session, _NOTICES[action])

    def _is_first(self, asked: _Asked) -> bool:
        """Count the submission of a form; return False if it was submitted before, for example by a reload of the response."""
        try:
            self._accounts.backend.count_throttles([self.attempts.form(asked.once)])
        except TooManyAttempts:
            return False
        return True

    def _enrol_page(self, asked: _Asked, step: Step, refusal: str = "") -> Response:
        enrolment = Enrolment(
            secret=bytes.fromhex(step.contents),
            address=asked.current.credentials.address,
            action=with_form(asked.request, _CONFIRM),
            hidden={"step": str(step.id), "replaces": asked.factor_mark},
            cancel=_PAGE,
            refusal=refusal,
            offers_sign_out=asked.proof is ProofScope.FULL,
            signs_out_others=asked.ends_others,
        )
        return enrol_page(enrolment)

    def _recovery_page(self, asked: _Asked, codes: tuple[str, ...]) -> Response:
        address = asked.current.credentials.address
        return recovery_page(RecoveryCodes(codes=codes, address=address, target=_PAGE))

    @property
    def _accounts(self) -> Accounts:
        return self.shared().session_cache.accounts

    @property
    def _steps(self) -> Steps:
        return Steps.of(self._accounts)


def _to_page(**values: str) -> Response:
    return RedirectResponse(with_query(_PAGE, **values), 303)
