"""Steps: unfinished actions in a browser, such as a sign-in that waits for a code, on any store.

While a step is open, a cookie in the browser contains a secret, and the step's form contains the step's id, which is
public. The key of the step's row is a hash of both. The row's text, a `Step` as JSON, is sealed under the secret and the
root key (crypto/keyring.py). So a copy of the row reveals nothing, and only the browser that began a step can continue
it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError

from services.crypto import RootKeys, StepKeys
from services.domain import SessionId, UserId
from services.domain.json_texts import read_json
from services.errors import StepEnded, Tampered, TooManyAttempts, TriesUsed, WrongCredentials
from services.events import log_event
from services.rules.accounts import STEP_LIFE
from services.store.accounts import Accounts, AppSession, Cookie
from services.store.backend import Backend, NewStep, StoredCredentials, Throttle


class _OwnedCredentials(Protocol):
    """The fields that `StoredCredentials` and `Step` share: a user, and the generation of that user's credentials."""

    @property
    def user_id(self) -> UserId | None: ...
    @property
    def generation(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The stored state of an action that waits for a proof, such as a mailed code."""

    id: UUID  # the public id, in the step's form
    kind: str  # a fixed name, such as a `CodePurpose`
    contents: str = field(repr=False)  # the data that a step of this kind needs to continue
    session_id: SessionId | None  # the session that the step belongs to; None: no session
    user_id: UserId | None
    # the generation of the user's credentials when the step began; None: the step is bound to no credentials
    generation: int | None
    expires_at: datetime

    def check(self, stored: StoredCredentials | None) -> None:
        """Raise StepEnded unless *stored* are the credentials of the step's user, unchanged since the step began."""
        now = (stored.user_id, stored.generation) if stored else None
        if self.user_id is None or now != (self.user_id, self.generation):
            raise StepEnded


@dataclass(slots=True)
class OpenStep:
    """A step that waits for a proof; if several callers end the step, only one succeeds."""

    step: Step
    _end: Callable[[], object] = field(repr=False)
    has_ended: bool = False

    def end(self) -> None:
        """End the step, unless this object has ended it already. Raise StepEnded if another caller has ended it."""
        if not self.has_ended:
            self._end()
            self.has_ended = True


_STEP = TypeAdapter(Step)
Contents = TypeVar("Contents")


@dataclass(frozen=True, slots=True)
class Steps:
    """Begins and ends steps, and counts attempts to complete them. Any thread may call any method.

    All methods may raise StoreUnavailable.

    `attempt`, `end` and `renew` raise StepEnded if the step has expired, has ended or has no attempts left, or was
    begun as another kind of step, in another browser or in another session.
    """

    backend: Backend
    root_keys: RootKeys
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def of(cls, accounts: Accounts) -> "Steps":
        """Return the steps in the store of *accounts*."""
        return cls(accounts.backend, accounts.root_keys)

    def begin(
        self,
        browser: Cookie,
        kind: str,
        contents: str,
        throttles: Sequence[Throttle],
        *,
        session: AppSession | None = None,
        credentials: _OwnedCredentials | None = None,
        step_id: UUID | None = None,
    ) -> Step:
        """Count a step in *throttles*, then begin it, bound to *session* and to *credentials* (see `Step.check`).

        The new step replaces the browser's step with *step_id*, if there is one.

        Raise TooManyAttempts, WrongCredentials (*credentials* are not those of the session's user).
        """
        if session and credentials and credentials.user_id != session.user_id:
            raise WrongCredentials
        if throttles:
            self.backend.count_throttles(throttles)
        user_id = credentials.user_id if credentials else None
        step = Step(
            id=step_id or uuid4(),
            kind=kind,
            contents=contents,
            session_id=session.id if session else None,
            user_id=session.user_id if session else user_id,
            generation=credentials.generation if credentials else None,
            expires_at=self.now() + STEP_LIFE,
        )
        self._store(browser, step)
        return step

    def attempt(
        self,
        browser: Cookie,
        kind: str,
        step_id: UUID,
        session: AppSession | None,
        tries: Callable[[str], Throttle] | None = None,
    ) -> Step:
        """Count one of the five attempts that a step allows, and return the step. The caller then checks the entered code.

        *tries*: returns the throttle, by the key of the step's row, in which to count the attempt, too. Raise TriesUsed if
        it has no attempts left.
        """
        keys = self._keys(browser)
        key = keys.row_key(step_id)
        try:
            return self._checked(keys, step_id, self.backend.try_step(key), kind, session)
        finally:  # also for a step that is gone, because then the throttle alone tells why
            if tries:
                self.count_try(tries(key))

    def end(self, browser: Cookie, kind: str, step_id: UUID, session: AppSession | None) -> Step:
        """End a step and return it; if several callers end it, only one gets it. The step ends even if it fails the checks."""
        keys = self._keys(browser)
        sealed = self.backend.end_step(keys.row_key(step_id))
        return self._checked(keys, step_id, sealed, kind, session)

    def renew(
        self,
        browser: Cookie,
        kind: str,
        step_id: UUID,
        session: AppSession | None,
        change: Callable[[str], str],
    ) -> Step:
        """Replace a step's contents with the result of *change*, reset its attempts, but not its expiry, and return the step.

        The step is ended first, so that only one of several callers (including callers of `end`) succeeds.
        """
        step = self.end(browser, kind, step_id, session)
        renewed = replace(step, contents=change(step.contents))
        self._store(browser, renewed)
        return renewed

    def row_key(self, browser: Cookie, step_id: UUID) -> str:
        """Return the key under which the browser's step is stored."""
        return self._keys(browser).row_key(step_id)

    def count_try(self, throttle: Throttle) -> None:
        """Count an attempt in a *throttle*, because `renew` resets the count in the step itself. Raise TriesUsed."""
        try:
            self.backend.count_throttles([throttle])
        except TooManyAttempts:
            raise TriesUsed from None

    def _store(self, browser: Cookie, step: Step) -> None:
        keys = self._keys(browser)
        sealed = keys.seal(_STEP.dump_json(step).decode(), step.id)
        new = NewStep(key=keys.row_key(step.id), kind_tag=keys.kind_tag(step.kind), sealed=sealed)
        self.backend.begin_step(new)

    def _keys(self, browser: Cookie) -> StepKeys:
        return self.root_keys.step_keys(browser.secret)

    def _checked(
        self,
        keys: StepKeys,
        step_id: UUID,
        sealed: str | None,
        kind: str,
        session: AppSession | None,
    ) -> Step:
        """Decrypt and check a step. Raise StepEnded unless it is of this *kind* and *session*, and has not expired."""
        step = _opened(keys, step_id, sealed) if sealed else None
        of_session = (session.id, session.user_id) if session else None
        if (
            step is None
            or step.kind != kind
            or step.expires_at <= self.now()
            or of_session != ((step.session_id, step.user_id) if step.session_id else None)
        ):
            raise StepEnded
        return step


def read_contents(form: TypeAdapter[Contents], text: str) -> Contents:
    """Return the contents of a step, stored as JSON. Raise StepEnded if another version of the app stored different fields."""
    with suppress(ValidationError):
        return read_json(form, text)
    # raised outside the `with` block, because a chained traceback would contain the contents
    raise StepEnded


def _opened(keys: StepKeys, step_id: UUID, sealed: str) -> Step | None:
    """Decrypt a step; return None on failure, because the traceback of an exception would contain the step's contents."""
    with suppress(Tampered, StepEnded):  # another version of the app may have stored the step
        return read_contents(_STEP, keys.open(sealed, step_id))
    log_event("step.unopened", step=step_id)
    return None
