"""The last part of each sign-in, sign-up and password reset: begin the session, or ask for the second factor first.

The password or emailed code has already been checked. The form for the second factor posts to `/factor`; passkeys
are posted to the passkey routes (passkey_factor.py). The responses are redirects, as for all native HTML forms.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.domain.accounts import Failure
from services.domain.mails import CodePurpose, NoticeKind
from services.errors import (
    AppError,
    FactorNeeded,
    FactorRequired,
    PasskeyCopied,
    StepEnded,
    StoreUnavailable,
    TooManyAttempts,
)
from services.store.accounts import AppSession, Cookie, Entered
from services.store.backend import StoredCredentials
from services.store.entries import (
    ENTRY,
    Entry,
    GivenFactor,
    PasskeyEntry,
    WaitingEntry,
    Way,
)
from services.store.failures import note_failure
from services.store.kept import marks, read_marks, with_only
from services.store.steps import OpenStep, Step, read_contents
from services.web.factor_check import REFUSED_FACTOR, FactorCheck, entry_of
from services.web.forms import all_fields, local_path, read_step_id, with_query, with_reason
from services.web.notices import Notices
from services.web.session_start import SessionStart, redirect

# kind of a step that waits for a factor; value of the query parameter `code` of its form
_KIND = "factor"
# kind of a step that sets up a factor; value of the query parameter `code` of its form
ENROL = "enrol_factor"
# value of the query parameter `code` of the form that asks for a passkey
PASSKEY = "passkey_factor"
# value of the query parameter `code` of the reset form for an account without a second factor
_KEPT = "kept"
# values of the query parameter `code`: the names of the forms for the kinds of factors
_FORMS = {"factor", "recovery", PASSKEY, _KEPT}
# values of the query parameter `by`: the kinds of factors that are accepted; "": only an authenticator app
_KINDS = {"passkey", "both"}
# the reasons in the URL of the first page after an entry (`_session.tell_outcome`)
_OUTCOMES = {Way.RESET: "password-reset", Way.RESTORE: "address-restored"}
# errors after which the user can try again in the same step, unless the step has already ended
_GOES_ON = *REFUSED_FACTOR, FactorRequired, TooManyAttempts, StoreUnavailable


@dataclass(frozen=True, slots=True)
class FactorForm:
    """The submitted form for the second factor, and the query parameters of the page that shows it."""

    step: str = field(repr=False)
    name: str = field(repr=False)
    by: str = field(repr=False)
    # the date on which the factor was added, if a reset may remove the factor; else ""
    added: str = field(repr=False)
    keeps_factor: bool
    # marks (ids used in forms, see services/store/kept.py) of the passkeys and identities that a reset may remove
    ways: tuple[str, ...] = field(repr=False)
    # marks of the passkeys and identities that the user has chosen to remove
    gone: tuple[str, ...] = field(repr=False)
    target: str = field(repr=False)

    @property
    def unticked(self) -> str:
        """The value of the query parameter `gone`: the names of the boxes that the user has unticked, separated by tildes."""
        app = [] if self.keeps_factor else ["keeps"]
        return "~".join([*app, *(f"keeps-{one}" for one in self.gone)])

    @classmethod
    def read(cls, step: str, name: str, form: Mapping[str, str]) -> "FactorForm":
        """Parse the submitted *form* of a *step*, and replace invalid values by defaults; *name*: the name of the form."""
        by, added = form.get("by", ""), form.get("added", "")
        ways = read_marks(form.get("ways", ""))
        return cls(
            step=step,
            name=name if name in _FORMS else _KIND,
            by=by if by in _KINDS else "",
            added=added if _is_date(added) else "",
            keeps_factor=form.get("keeps") == "yes" or not added,
            ways=ways,
            gone=tuple(one for one in ways if form.get(f"keeps-{one}") != "yes"),
            target=local_path(form.get("next", "")),
        )


@dataclass(frozen=True, slots=True)
class Entries:
    """Completes an `Entry` (a sign-in, sign-up or reset): begins its session, or asks for the second factor first."""

    start: SessionStart

    def routes(self) -> list[Route]:
        return [Route("/factor", self._take, methods=["POST"])]

    async def enter(
        self,
        request: Request,
        entry: Entry,
        bound_to: StoredCredentials | Step | None,
        target: str,
        act: Callable[[], Entered],
        *,
        is_new_account: bool = False,
    ) -> Response:
        """Return the response that begins the session that *act* returns, or redirects to the form for the second factor.

        *bound_to*: the credentials that must stay unchanged until the factor is entered; None: they may change.

        Raise TooManyAttempts, and the errors of *act*.
        """
        try:
            entered = await run_sync(act)
        except FactorNeeded as needed:
            return await self.ask(request, entry, bound_to, target, needed)
        return await self.answer(request, entry, entered, target, is_new_account=is_new_account)

    async def ask(
        self,
        request: Request,
        entry: Entry,
        bound_to: StoredCredentials | Step | None,
        target: str,
        needed: FactorNeeded,
    ) -> Response:
        """Begin the step that waits for the second factor; return the redirect to the form for the factor.

        If a factor is required and the user has none, an authenticator app is set up first (enrolments.py).
        """
        origin = self.start.origin
        browser = origin.step_cookie(request) or Cookie.new()
        device, address = origin.device_cookie(request), origin.client_address(request)
        user_id = bound_to.user_id if bound_to else None
        throttles = self.start.attempts.factor_step(user_id, device, address)
        contents = ENTRY.dump_json(entry).decode()
        kind = _KIND if needed.has_form else ENROL

        def begin() -> Step:
            return self.start.steps.begin(browser, kind, contents, throttles, credentials=bound_to)

        step = await run_sync(begin)
        values = _form_values(needed, is_reset=entry.way is Way.RESET)
        if entry.way is Way.SIGN_UP:
            # if the sign-up has to be begun again, it still needs its form and its invitation
            values |= {"new": "yes", "invite": entry.invitation}
        answer = RedirectResponse(with_query(target, step=str(step.id), **values), 303)
        origin.set_step_cookie(answer, request, browser)
        return answer

    async def _take(self, request: Request) -> Response:
        """Complete a pending sign-in, sign-up or reset if the second factor is right; else redirect back to the form."""
        form = await all_fields(request)
        step, name, text = (form.get(one, "") for one in ("step", "form", "factor"))
        return await self.give(request, FactorForm.read(step, name, form), lambda: entry_of(text))

    async def give(
        self, request: Request, form: FactorForm, read: Callable[[], GivenFactor]
    ) -> Response:
        """Complete a pending sign-in, sign-up or reset if the factor from *read* is right; else redirect back to the form."""
        browser, step = self.start.origin.step_cookie(request), None
        try:
            async with self.start.attempts.delay_refusals():
                step = await run_sync(self.attempt, browser, _KIND, form.step)
                entry = read_contents(ENTRY, step.step.contents)
                factor, page = read(), redirect
                entered = await run_sync(self._enter, request, form, step, entry, factor)
                if isinstance(factor, PasskeyEntry) and factor.gives_recovery:
                    page = await run_sync(
                        self.start.page_of_codes, request, entered.session, factor.recovery
                    )
                return await self.answer(request, entry, entered, form.target, page=page)
        except AppError as error:
            if isinstance(error, _GOES_ON) and not (step and step.has_ended):
                values = {"code": form.name, "step": form.step, "by": form.by, "added": form.added}
                values |= {"ways": "~".join(form.ways), "gone": form.unticked}
                return RedirectResponse(with_reason(form.target, error, **values), 303)
            # a factor was set up after this reset began: the user must start another reset, and enter the factor
            # there
            code = CodePurpose.RESET_PASSWORD if isinstance(error, FactorNeeded) else ""
            return RedirectResponse(with_reason(form.target, error, code=code), 303)

    def attempt(self, browser: Cookie | None, kind: str, step: str) -> OpenStep:
        """Count an attempt to complete a step of this *kind*; return the step.

        Raise StepEnded if the step has ended, TriesUsed if that was after five tries.
        """
        if browser is None:
            raise StepEnded
        step_id, steps = read_step_id(step), self.start.steps
        found = steps.attempt(browser, kind, step_id, None, self.start.attempts.tries)
        return OpenStep(found, lambda: steps.end(browser, kind, step_id, None))

    def waiting(self, request: Request, step: str) -> WaitingEntry:
        """Return the pending entry of a step that waits for the second factor. The step does not end.

        This call blocks. Raise StepEnded if the step has already ended.
        """
        browser = self.start.origin.step_cookie(request)
        if browser is None:
            raise StepEnded
        renewed = self.start.steps.renew(
            browser, _KIND, read_step_id(step), None, lambda text: text
        )
        return WaitingEntry.read(
            self.start.accounts, read_contents(ENTRY, renewed.contents), renewed
        )

    def _enter(
        self,
        request: Request,
        form: FactorForm,
        step: OpenStep,
        entry: Entry,
        factor: GivenFactor,
    ) -> Entered:
        accounts, check = self.start.accounts, self._check
        waiting = WaitingEntry.read(accounts, entry, step.step)
        is_former = entry.way is Way.RESTORE
        # attempts to restore a former address are not counted per generation: the account's current user could
        # reset the count by changing a sign-in method
        state = f"as {entry.address}" if is_former else str(step.step.generation)
        user_id = waiting.user_id
        counted = ()
        if waiting.factor:
            counted = check.count(
                request, accounts, user_id, waiting.factor, factor, state, is_former=is_former
            )
        try:
            entered = waiting.enter(
                accounts,
                factor,
                step,
                self.start.browser(request),
                counted,
                keeps_factor=form.keeps_factor,
                gone=form.gone,
                on_used=lambda session: check.tell_of_use(request, accounts, session, factor),
            )
        except REFUSED_FACTOR as error:
            note_failure(accounts.backend, user_id, Failure.FACTOR)
            if isinstance(error, PasskeyCopied):
                self._tell(request, waiting, NoticeKind.PASSKEY_COPIED)
            else:
                self._tell_of_wrong(request, waiting, step, is_former=is_former)
            raise
        if entry.way is Way.RESET:
            before = waiting.credentials
            left = with_only(before, {*marks(before)} - {*form.gone})
            self.tell_of_removed(
                request,
                entered.session,
                form.gone,
                keeps_factor=form.keeps_factor,
                asks_no_passkey=before.asks_passkey and not left.asks_passkey,
            )
        return entered

    def tell_of_removed(
        self,
        request: Request,
        session: AppSession,
        gone: Iterable[str],
        *,
        keeps_factor: bool,
        asks_no_passkey: bool = False,
    ) -> None:
        """Notify the user of what a reset has removed. This call blocks.

        *gone*: the removed passkeys and identities, by the ids that the HTML form submits for them. *keeps_factor*: False if
        the authenticator app was removed. *asks_no_passkey*: True if the removed passkeys were a second factor.
        """
        removed = set[NoticeKind]()
        if not keeps_factor:
            removed.add(NoticeKind.FACTOR_REMOVED)
        if asks_no_passkey:
            removed.add(NoticeKind.PASSKEY_FACTOR_REMOVED)
        for mark in gone:
            is_passkey = mark.startswith("passkey")
            removed.add(NoticeKind.PASSKEY_REMOVED if is_passkey else NoticeKind.IDENTITY_REMOVED)
        for kind in sorted(removed):
            self.notices.tell(request, self.start.accounts.backend, session, kind)

    def _tell_of_wrong(
        self, request: Request, waiting: WaitingEntry, step: OpenStep, *, is_former: bool
    ) -> None:
        """Notify the user of the third wrong code in a step, unless the user has entered the factor on this device before."""
        attempts, device = self.start.attempts, self.start.origin.device_cookie(request)
        user_id, since = waiting.user_id, waiting.factor and waiting.factor.since
        if since and attempts.gave_factor(user_id, device, since=since, is_former=is_former):
            return
        count, step_id = self.start.accounts.backend.count_throttles, step.step.id
        try:
            count([attempts.wrong_factor(step_id)])
        except TooManyAttempts:
            with suppress(TooManyAttempts):  # the user was already notified of the third wrong code
                count([attempts.wrong_factor_notice(step_id)])
                self._tell(request, waiting, NoticeKind.WRONG_FACTORS)

    def _tell(self, request: Request, waiting: WaitingEntry, kind: NoticeKind) -> None:
        accounts, found = self.start.accounts, waiting.found
        address = waiting.entry.address if waiting.is_confirmed else None
        self.notices.tell_user(request, accounts, waiting.user_id, kind, found, address)

    async def answer(
        self,
        request: Request,
        entry: Entry,
        entered: Entered,
        target: str,
        *,
        is_new_account: bool = False,
        page: Callable[[str], Response] = redirect,
    ) -> Response:
        """Notify the user of the changes, and begin the session in the browser; *page*: as in `SessionStart.answer`."""
        session, backend = entered.session, self.start.accounts.backend
        if reason := _OUTCOMES.get(entry.way):
            target = with_query(target, reason=reason)
        if entry.way is Way.RESET:
            kind = NoticeKind.PASSWORD_RESET
            await run_sync(self.notices.tell, request, backend, session, kind)
        # the user's other sessions also show the identities, and must read them again
        if entry.used or entry.identity:
            self.start.shared().outdate_sign_in_details(session.user_id)
        if entry.identity and entry.way is Way.SIGN_IN:
            kind = NoticeKind.IDENTITY_ADDED
            await run_sync(self.notices.tell, request, backend, session, kind)
        if entered.left:
            mails = dict.fromkeys((entry.address, entered.left), NoticeKind.ADDRESS_CHANGED)
            await run_sync(self.notices.tell_of_address, request, backend, session, mails)
        return await self.start.answer(
            request, entered.cookie, session, target, is_new_account=is_new_account, page=page
        )

    @property
    def notices(self) -> Notices:
        return self.start.notices

    @property
    def _check(self) -> FactorCheck:
        return FactorCheck(self.start.attempts, self.start.origin, self.notices)


def _form_values(needed: FactorNeeded, *, is_reset: bool) -> dict[str, str]:
    """Return the query parameters of the second-factor form: its name, the accepted factors, and what a reset may remove."""
    form, by = _KIND if needed.has_form else ENROL, ""
    if needed.has_form and not needed.since:
        form = _KEPT
    if needed.asks_passkey:
        form, by = PASSKEY, "both" if needed.since else "passkey"
    added = str(needed.since.date()) if needed.since and is_reset else ""
    return {
        "code": form,
        "by": by,
        "added": added,
        "ways": "~".join(needed.listed) if is_reset else "",
    }


def _is_date(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False
