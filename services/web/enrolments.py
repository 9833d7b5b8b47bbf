"""Second factors that are set up during a sign-in, because the deployment requires one.

`/factor/enrol` returns a setup key, and `/factor/enrol/confirm` checks a code of the authenticator app, begins the
session, and returns the recovery codes. The factor is stored together with the new app session. A GET request
gets a page which says that the secret was already shown (shown_once.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.crypto.recovery_codes import new_codes, recovery_hashes
from services.domain.accounts import Failure
from services.domain.mails import NoticeKind
from services.errors import AppError, StepEnded, StoreUnavailable, TooManyAttempts, WrongFactor
from services.identity.totp import DIGITS, new_secret
from services.store.codes import typed_code
from services.store.entries import ENTRY, Enrolment, Entry, Way
from services.store.failures import note_failure
from services.store.steps import OpenStep, read_contents
from services.web import shown_once
from services.web.confirmation_codes import SignUpCode
from services.web.current_session import is_signed_in
from services.web.entries import ENROL, Entries, FactorForm
from services.web.factor_check import FACTORS
from services.web.forms import (
    all_fields,
    fields,
    local_path,
    read_invitation,
    read_step_id,
    with_query,
    with_reason,
)
from services.web.shown_once import (
    WRONG_CODE,
    ShownOnce,
    codes_page,
    codes_were_shown,
    enrol_page,
    shown_page,
)

_PATH = "/factor/enrol"
_CONFIRM = f"{_PATH}/confirm"
# errors after which the user can try again in the same step, unless the step has already ended
_GOES_ON = TooManyAttempts, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Enrolments:
    """Routes that set up the second factors of users who have none."""

    entries: Entries

    def routes(self) -> list[Route]:
        return [
            Route(_PATH, self._begin, methods=["POST"]),
            Route(_PATH, _key_was_shown),
            Route(_CONFIRM, self._confirm, methods=["POST"]),
            Route(_CONFIRM, codes_were_shown),
        ]

    async def _begin(self, request: Request) -> Response:
        """Store a secret in the step, and return the page with its setup key. The expiry of the step does not change.

        A form that is sent again gets the same key, which may be in the app already. It counts as an attempt in the
        step's throttle, because drawing a QR code takes up to 40 ms.
        """
        start = self.entries.start
        fields_ = await all_fields(request)
        form = FactorForm.read(fields_.get("step", ""), ENROL, fields_)
        step, target = form.step, form.target
        listed = {"ways": "~".join(form.ways), "gone": form.unticked}
        listed |= _of_sign_up(fields_.get("new", ""), fields_.get("invite", ""))
        browser = start.origin.step_cookie(request)

        def begin() -> Response:
            if browser is None:
                raise StepEnded
            renew, step_id = start.steps.renew, read_step_id(step)
            count = partial(start.count_try, browser, step_id)
            change = partial(_with_secret, form.gone, count)
            renewed = renew(browser, ENROL, step_id, None, change)
            return _enrol_page(read_contents(ENTRY, renewed.contents), step, target, listed)

        try:
            answer = await run_sync(begin)
        except AppError as error:
            return _refusal(error, target, step if isinstance(error, _GOES_ON) else "", listed)
        start.origin.set_step_cookie(answer, request, browser)
        return answer

    async def _confirm(self, request: Request) -> Response:
        """If the code is right, store the factor, begin the session, and return the page with the recovery codes."""
        start, entries = self.entries.start, self.entries
        names = "code", "step", "next", "ways", "gone", "new", "invite"
        text, step_id, target, ways, gone, *rest = await fields(request, *names)
        listed = {"ways": ways, "gone": gone} | _of_sign_up(*rest)
        browser, target = start.origin.step_cookie(request), local_path(target)
        step: OpenStep | None = None
        try:
            step = await run_sync(entries.attempt, browser, ENROL, step_id)
            entry = read_contents(ENTRY, step.step.contents)
            if not entry.secret:
                raise StepEnded
            codes = new_codes()
            enrolment = Enrolment(FACTORS, typed_code(text, DIGITS), recovery_hashes(codes))
            enter, in_browser = enrolment.enter, start.browser(request)
            try:
                entered = await run_sync(enter, start.accounts, entry, step, in_browser)
            except WrongFactor:
                note_failure(start.accounts.backend, step.step.user_id, Failure.FACTOR)
                return await run_sync(_enrol_page, entry, step_id, target, listed, WRONG_CODE)
        except AppError as error:
            cookie = start.origin.session_cookie(request)
            is_again = isinstance(error, StepEnded) and step is None
            if is_again and is_signed_in(start.shared(), cookie):
                return codes_were_shown(request)  # the form was submitted again
            goes_on = isinstance(error, _GOES_ON) and not (step and step.has_ended)
            return _refusal(error, target, step_id if goes_on else "", listed)
        # the first sign-in of an account whose sign-up waited for its address, or was cut, has no user yet
        is_first = entry.way is Way.SIGN_IN and step.step.user_id is None
        is_new, session = is_first or entry.way is Way.SIGN_UP, entered.session
        if not is_new:
            backend, kind = start.accounts.backend, NoticeKind.FACTOR_ADDED
            await run_sync(entries.notices.tell, request, backend, session, kind)
        if entry.way is Way.RESET:
            tell = partial(entries.tell_of_removed, keeps_factor=True)
            await run_sync(tell, request, session, entry.gone)

        page = codes_page(codes, session.email)
        return await entries.answer(
            request, entry, entered, target, is_new_account=is_new, page=page
        )


def _with_secret(gone: tuple[str, ...], count: Callable[[], object], contents: str) -> str:
    entry = read_contents(ENTRY, contents)
    if entry.secret:
        count()
    secret = entry.secret or new_secret().hex()
    return ENTRY.dump_json(replace(entry, secret=secret, gone=gone)).decode()


def _of_sign_up(new: str, invite: str) -> dict[str, str]:
    """Return the query parameters that only a sign-up has, from its form: `new`, and the invitation if there is one."""
    return {"new": "yes" if new else "", "invite": read_invitation(invite)}


def _key_was_shown(_: Request) -> Response:
    return shown_page(ShownOnce.SETUP_KEY)


def _refusal(error: AppError, target: str, step: str, listed: Mapping[str, str]) -> Response:
    over = {"code": SignUpCode.name, "invite": listed["invite"]} if listed["new"] else {}
    values = {"code": ENROL, "step": step, **listed} if step else over
    return RedirectResponse(with_reason(target, error, **values), 303)


def _enrol_page(
    entry: Entry, step: str, target: str, listed: Mapping[str, str], refusal: str = ""
) -> Response:
    enrolment = shown_once.Enrolment(
        secret=bytes.fromhex(entry.secret),
        address=entry.address,
        action=_CONFIRM,
        hidden={"step": step, "next": target, **listed},
        cancel=with_query(target, invite=listed["invite"]),
        refusal=refusal,
    )
    return enrol_page(enrolment)
