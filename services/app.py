"""The `App` object of a server process: its settings and backend, and the state that all users share."""

import gc
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from importlib import import_module
from threading import Event
from uuid import UUID

from services.caches import CachedRead
from services.crypto import PlainKeys, UserKeys
from services.daemon_threads import Result, in_thread
from services.deployment import Deployment
from services.domain import SessionId, UserId
from services.domain.accounts import OpenInvitation, SignUps
from services.domain.addresses import EmailAddress
from services.domain.mails import Invited, Mail
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import OfferedProvider
from services.embedded.reports import NO_HOSTED_ADMIN, Failed, Notice
from services.errors import Misconfigured, SignedOut, StoreUnavailable, TooManyAttempts
from services.identity.mailer import open_mailer
from services.llm import Models
from services.store.accounts import Accounts, AppSession, Cookie
from services.store.backend import Backend, StoredCredentials
from services.store.sign_in_policy import SignInPolicy
from services.stores import only_account, open_backend, unread_files
from services.users import Shared, UserServices
from services.web.attempts import Attempts
from services.web.console import announce
from services.web.recent_calls import RecentCalls
from services.web.session_middleware import ENDS, MOVED, UNKNOWN
from services.web.upkeep import failed_check, keep_forgetting

_CHECK_SECONDS = 1.0
_INVITATION_MAIL_LIFE = timedelta(days=1)  # for which sending is tried again


class App:
    """The state of one server process, from its start to its end. Any thread may call any method."""

    def __init__(
        self,
        deployment: Deployment,
        close_tabs: Callable[[SessionId], object],
        forget_text: Callable[[Callable[[UserId], float]], object],
    ) -> None:
        """*close_tabs* closes the tabs of an app session that has ended.

        *forget_text*, called every few seconds, drops what tabs no longer need. Its argument returns the time
        (`time.monotonic`) of a user's latest deletion that can no longer be undone.
        """
        self.deployment, self.health = deployment, deployment.health
        self.recent_calls = RecentCalls()
        self.mailer = open_mailer(deployment.settings, announce)  # None: the app sends no mail
        self._close_tabs, self._forget_text = close_tabs, forget_text
        self._shared: Shared | None = None
        self._is_checked = Event()  # set after the first check of the backend
        # once true, this value is not read from the database again
        self._has_accounts = False
        # true: it is known whether there is an admin, and the operator was told
        self._is_told_of_admin = False

    def shared(self) -> Shared:
        """Return the state that all users share. Raise StoreUnavailable until the backend has started."""
        if self._shared is None:
            raise StoreUnavailable
        return self._shared

    def user(self, session_id: str | None) -> UserServices | None:
        """Return the services of a session's user; None if the session is known to have ended.

        Raise StoreUnavailable if it is unknown whether the session has ended.
        """
        if session_id == UNKNOWN:
            raise StoreUnavailable
        if session_id is None or session_id in {*ENDS, MOVED}:
            return None
        return self.shared().find(SessionId(UUID(session_id)))

    def has_ended(self, session_id: str) -> bool:
        """Return True if the app session is known to have ended; wait up to a second for a check in progress."""
        cache = self.shared().session_cache
        return cache.has_ended(SessionId(UUID(session_id)), _CHECK_SECONDS)

    def doubt(self, session_id: str) -> None:
        """Make the next use of the app session wait for a check, because the database refused a call of the session."""
        self.shared().session_cache.doubt(SessionId(UUID(session_id)))

    def has_accounts(self) -> bool:
        """Return True if the deployment has an account, or if the answer is unknown because the database is unreachable."""
        if not self._has_accounts:
            try:
                self._has_accounts = bool(self.shared().backend.root_key_versions())
            except StoreUnavailable:
                return True
        return self._has_accounts

    def next_is_admin(self) -> bool:
        """Return True if the next account will be the first, which becomes an admin."""
        try:
            return not self.has_accounts() and self.shared().backend.sign_up_state().is_first_admin
        except StoreUnavailable:
            return False

    def sign_ups(self) -> SignUps:
        """Return the sign-up mode, at most a few seconds old; `OPEN` if the database has not been reached yet."""
        try:
            return self.shared().sign_ups.get().mode
        except StoreUnavailable:
            return SignUps.OPEN

    @cached_property
    def attempts(self) -> Attempts:
        chosen = self.deployment.settings
        return Attempts(self.deployment.root_keys, chosen.sign_ups_an_hour, chosen.codes_an_hour)

    def open_invitation(self, code: str, network: str) -> OpenInvitation | None:
        """Return the open invitation with *code*, for a tab at the network address *network*, which may ask only so often.

        None: there is no such invitation. Raise StoreUnavailable, TooManyAttempts.
        """
        return self.shared().backend.open_invitation(code, self.attempts.step(network))

    def mail_invitation(self, email: EmailAddress, invited: Invited, admin: UserId) -> bool:
        """Mail the code of an invitation to *email*. Return False if no more such mails may be sent now, or none can be.

        It raises no StoreUnavailable: the invitation is stored already, and its code is not stored anywhere else.
        """
        if self.mailer is None:
            return False
        now = datetime.now(UTC)
        mail = Mail(
            address=email,
            content=invited,
            browser=None,
            at=now,
            expires_at=now + _INVITATION_MAIL_LIFE,
            is_known=False,
        )
        with suppress(TooManyAttempts, StoreUnavailable):
            self.shared().backend.count_throttles(self.attempts.invitation_mail(email, admin))
            return self.mailer.send(mail)
        return False

    @cached_property
    def providers(self) -> tuple[OfferedProvider, ...]:
        """The single sign-on providers through which users of this deployment can sign in."""
        chosen = self.deployment.settings
        return tuple(
            OfferedProvider(name, one.name_on_screen(name), one.issuer)
            for name, one in chosen.providers.items()
            if SignInMethod.OIDC in chosen.methods
        )

    @property
    def is_alone(self) -> bool:
        """True if the deployment has a single user, who signs in without a password."""
        return self.deployment.settings.is_alone

    @property
    def opening(self) -> str:
        """The place at which the single user of this deployment finds the URL that lets them in, as a phrase."""
        return self.deployment.opening

    @property
    def public_url(self) -> str | None:
        """The public URL of the app (DAYBOOK_URL), without a slash at the end; None if it is not set."""
        return self.deployment.settings.public_url

    @property
    def methods(self) -> frozenset[SignInMethod]:
        """The sign-in methods of this deployment; none if it has a single user."""
        return self.deployment.settings.methods

    @property
    def is_plain(self) -> bool:
        """True if the store does not encrypt the texts of chats (DAYBOOK_STORE=json-plain:…)."""
        return self.deployment.settings.is_plain

    def unread_files(self, user_id: UserId) -> list[str]:
        """Return the names of chat files that the user put into the store's folder and that the app has not imported.

        The app imports such files only when it starts.
        """
        return unread_files(self.deployment.settings, user_id)

    def enter(self) -> tuple[Cookie, AppSession]:
        """Sign in the single user of this deployment. Raise SignedOut if the account was deleted."""
        only = self._only_account()
        if only is None:
            raise SignedOut
        return self.shared().session_cache.accounts.enter(only)

    def _only_account(self) -> StoredCredentials | None:
        tables = self.deployment.tables
        return only_account(tables) if tables else None

    def open_sessions(self) -> int:
        """Return the number of app sessions that are open in this process."""
        return self._shared.session_cache.count if self._shared else 0

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncGenerator[dict[str, object]]:
        """Check the backend once it is running; at shutdown, store partial replies and stop the backend."""
        begun = self.deployment
        backend = in_thread(
            "store-imports",
            lambda: open_backend(begun.settings, begun.endpoints, begun.root_keys, begun.tables),
        )
        begun.check.set_result(lambda: self._failed_check(backend.result()))
        try:
            yield {}
        finally:
            try:
                if self._shared:
                    self._shared.stop_turns()
            finally:
                begun.stack.stop()
                if begun.tables:
                    begun.tables.close()
                # without this, a final garbage collection of all imported modules would take half a second
                gc.freeze()

    def start(self, backend: Backend) -> None:
        """Build the shared state over *backend*, and start the threads that maintain it."""
        begun = self.deployment
        chosen, at = begun.settings, begun.endpoints
        accounts = Accounts(
            backend,
            begun.root_keys,
            chosen.session_idle_seconds,
            chosen.session_lifetime_seconds,
            PlainKeys if chosen.is_plain else UserKeys,
            SignInPolicy.of(chosen),
        )
        if self.is_alone and self._only_account() is None:
            # `enter` creates the account and begins a session; the session is not needed, so it is ended
            accounts.end(accounts.enter(None)[0])
        model_settings = CachedRead(backend.model_settings)

        def open_models() -> Models:
            from services.llm.from_settings import configured_models, local_model

            if at.model_url:
                return local_model(at.model_url, at.model_key or "", model_settings.get)
            return configured_models(
                chosen, model_settings.get, lambda line: self.health.record(Notice(line))
            )

        models = self._once_checked("models", open_models)
        models.add_done_callback(self._end_without_models)
        shared = Shared(accounts, chosen, models.result, model_settings, self._close_tabs)

        def report(outage: str) -> None:
            if not outage and (failure := self._checked(backend)):
                self.health.record(failure)
            self.health.record_outage(outage)

        backend.start_upkeep(report)
        self._shared, cache = shared, shared.session_cache
        acts = (
            partial(self._forget_text, shared.deleted_text.latest),
            *(cache.forget_idle, shared.temporary.end_deserted, shared.background.begin_due),
        )
        in_thread("forgetting", lambda: keep_forgetting(*acts))
        # in a thread of its own: a call that hangs would keep deleted text in memory
        in_thread("session-ends", lambda: keep_forgetting(cache.forget_ended))
        self._once_checked("recall-imports", lambda: import_module("services.memory.recall"))

    def _once_checked(self, name: str, call: Callable[[], Result]) -> Future[Result]:
        """Run *call* in a thread, but only after the first check of the backend.

        The calls import openai or numpy. If they ran earlier, they would slow down the start of the process.
        """

        def run() -> Result:
            self._is_checked.wait()
            return call()

        return in_thread(name, run)

    def _end_without_models(self, models: Future[Models]) -> None:
        """End the process if the models could not be opened, because no user can sign in without them."""
        if error := models.exception():
            unknown = "The models cannot be opened: see the error in the log."
            self.health.record(
                Failed(error.public if isinstance(error, Misconfigured) else unknown)
            )

    def _failed_check(self, backend: Backend) -> Failed | None:
        """Start the app, unless it has started; return the failure if the database does not meet the app's requirements.

        Return None if the database meets these requirements or is unreachable.
        """
        if self._shared is None:
            self.start(backend)
        try:
            return self._checked(backend)
        finally:
            self._is_checked.set()

    def _checked(self, backend: Backend) -> Failed | None:
        """Return what `failed_check` returns; tell the operator, once, that a hosted Supabase has no admin."""
        begun = self.deployment
        if failure := failed_check(backend, begun.root_keys):
            return failure
        # the embedded stack and the other stores tell at their start
        if not begun.tables and not begun.endpoints.supabase_url and not self._is_told_of_admin:
            with suppress(StoreUnavailable):
                has_admin = backend.sign_up_state().has_admin
                self._is_told_of_admin = True
                if not has_admin:
                    self.health.record(NO_HOSTED_ADMIN)
        return None
