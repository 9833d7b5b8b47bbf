"""The services of signed-in users, and the state that all users of this process share."""

import time
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import tzinfo
from functools import partial
from uuid import UUID, uuid4

from services.caches import CachedRead
from services.chat.live_turn import LiveTurns
from services.chat.parts import ChatParts
from services.chat.search import Search
from services.chat.service import Chat
from services.chat.setup import Choices
from services.chat.task_registry import BackgroundTasks
from services.chat.temporary import TEMPORARY_TITLE, TemporaryChat, TemporaryChats
from services.domain import AccountRole, ConversationId, Purpose, SessionId, UserId
from services.domain.accounts import Account, AccountNotice, Activity, SignInState
from services.domain.addresses import EmailAddress
from services.domain.models import ModelSettings
from services.domain.policies import policy_named
from services.domain.revisions import OpenPlace, Revisions
from services.domain.turns import StopCause
from services.errors import Busy, SignedOut, StoreUnavailable
from services.llm import Models
from services.memory.tokens import RegexCounter
from services.settings import Settings
from services.store.accounts import Accounts, AppSession, Cookie
from services.store.administration import ModelAdministration, SignUpAdministration, UserAccess
from services.store.backend import Administration
from services.store.device_names import opened_activity
from services.store.notices import gravest_first
from services.store.port import Store
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.opened import OpenedConversations
from services.store.sign_in_policy import SignInPolicy
from services.store.tables.temporary import TemporaryRows
from services.users.deleted_text import DeletedText
from services.users.devices import Devices
from services.users.factor_rule import FactorRule
from services.users.full_export import FullExport
from services.users.message_search import Asked, MessageSearches, Results, find_titles
from services.users.model_server import ModelServer
from services.users.session_cache import SessionCache
from services.users.sign_in_details import SignInDetails, sign_in_details
from services.users.ways_in import WaysIn

_TEXTS = 50_000  # maximum texts whose token counts are cached; they use about 25 MB
# seconds for which a user's account, and the state of sign-ups, are cached
_ACCOUNT_SECONDS = 5.0


class Shared:
    """The state that all users of this process share, and the services of each open session.

    Any thread may call any method.
    """

    def __init__(
        self,
        accounts: Accounts,
        chosen: Settings,
        models: Callable[[], Models],
        model_settings: CachedRead[ModelSettings],
        close_tabs: Callable[[SessionId], object] = lambda _: None,
    ) -> None:
        """*models*: a function that returns the deployment's models, and may block until they are ready."""
        self._close_tabs = close_tabs
        self.model_settings = model_settings
        self.backend, self.account_bytes = accounts.backend, chosen.account_bytes
        self.sign_ups = CachedRead(lambda: self.backend.sign_up_state(), _ACCOUNT_SECONDS)
        titles = [Purpose.TITLE] if chosen.asks_titles else []
        self.background = BackgroundTasks(Purpose.SUMMARY, Purpose.FACTS, *titles)
        self.live_turns, self.temporary = LiveTurns(), TemporaryChats()
        self.deleted_text = DeletedText()
        self.searches = MessageSearches(chosen.search_mb * 1_000_000)
        self.session_cache = SessionCache(
            accounts,
            on_add=self._add,
            on_leave=self._leave,
            on_forget=self._forget,
            is_busy=self._is_busy,
        )
        self.ways_in = WaysIn(accounts)
        self._models, self._chosen, self._counter = models, chosen, RegexCounter(_TEXTS)
        self._users: dict[SessionId, UserServices] = {}

    def choices(self, store: Store, *, reads_facts: bool = True) -> Choices:
        """Return the models, instructions and other choices for the chats of *store*."""
        chosen = self._chosen
        return Choices(
            store=store,
            models=self._models(),
            counter=self._counter,
            instructions=chosen.instructions,
            first_policy=policy_named(chosen.policy, chosen.window_messages),
            window_messages=chosen.window_messages,
            reads_facts=reads_facts,
        )

    def find(self, session_id: SessionId) -> "UserServices | None":
        """Return the services of a session; None if this process has not opened it, or knows that it has ended.

        Raise StoreUnavailable if no check of the session has succeeded for ten minutes.
        """
        return self._users.get(session_id) if self.session_cache.by_id(session_id) else None

    def user_of(self, session: AppSession) -> "UserServices":
        """Return the services of the session's user. Raise SignedOut if the session has ended; may raise StoreUnavailable."""
        user = self.find(session.id)
        if user is None:
            raise SignedOut
        return user

    def store_of(self, session: AppSession, conversation_id: ConversationId | None) -> Store:
        """Return the store of a conversation: a temporary chat's store or the user's. May raise SignedOut or StoreUnavailable."""
        temporary = conversation_id and self.temporary.find(session.id, conversation_id)
        return (temporary or self.user_of(session)).store

    def find_unchecked(self, session_id: SessionId) -> "UserServices | None":
        """Return the services of a session without checking whether it has ended; None if this process has not opened it."""
        return self._users.get(session_id)

    def is_here(self, user: "UserServices") -> bool:
        """Return True while the session of *user* is open in this process."""
        return self._users.get(user.session.id) is user

    def drop_caches(self, user_id: UserId) -> None:
        """Drop the cached text of a user by replacing the services of all their sessions.

        Temporary chats are kept, because they are stored nowhere else. A call in progress keeps its text until it ends, and other
        tabs that are drawn keep theirs for some seconds. Raise Busy if a reply is streaming.
        """
        if self.live_turns.coming(user_id):
            raise Busy
        self.live_turns.drop_failed(user_id)
        self.background.drop_noted(user_id)
        self.deleted_text.add(user_id, 0)
        for user in self._services_of(user_id):
            renewed, session_id = UserServices(user.session, self), user.session.id
            if self._users.get(session_id) is user:  # false if the session has just ended
                self._users[session_id] = renewed
                self.temporary.share(session_id, renewed)
            user.tasks.planning.search.stop()
        # last: a search of the services that were replaced begins no other index
        self.searches.drop(user_id)

    def stop_turns_of(self, cause: StopCause, user_id: UserId) -> None:
        """Stop the live turns of a user, and wait until they are stored and settled.

        The wait is at most two seconds, and two more for temporary chats. The temporary chats themselves are kept,
        because their sessions may continue.
        """
        devices = {user.session.id for user in self._services_of(user_id)}
        self.temporary.stop(cause, owners=devices)
        self.live_turns.stop(cause, lambda turn: turn.user_id == user_id)

    @contextmanager
    def ending(
        self,
        caller: SessionId,
        cause: StopCause,
        is_meant: Callable[[AppSession], bool],
        within: float,
    ) -> Generator[None]:
        """Stop the live turns of the sessions that *is_meant* selects, and wait up to *within* seconds until they are stored.

        The sessions cannot begin turns until the `with` block ends; then, ended sessions are forgotten. *caller* is the session
        from which the user ends other sessions; if it has ended itself, raise SignedOut. May raise StoreUnavailable.
        """
        self.session_cache.confirm(caller)
        every = [user.session for user in list(self._users.values())]
        sessions = [session for session in every if is_meant(session)]
        owners = {session.id for session in sessions}
        with ExitStack() as leaving:
            for owner in owners:
                leaving.enter_context(self.live_turns.leaving(owner, cause, 0.0))
            ends_at = time.monotonic() + within
            self.live_turns.stop(cause, lambda turn: turn.owner in owners, within)
            self.temporary.stop(cause, max(0.0, ends_at - time.monotonic()), owners)
            yield
        # the block's change is stored, so it must not fail any more; the upkeep thread forgets ended sessions, too
        with suppress(StoreUnavailable):
            self.session_cache.forget_if_ended(sessions)

    def outdate_sign_in_details(self, user_id: UserId) -> None:
        """Make a user's sessions in this process read the sign-in details again, because they have changed."""
        for user in self._services_of(user_id):
            user.outdate_sign_in_details()

    def read_ahead(self, cookie: Cookie, conversation_id: ConversationId | None) -> None:
        """Open the session of *cookie*, and start reading the data that its next page needs. May raise StoreUnavailable."""
        session = self.session_cache.find(cookie)
        if session and conversation_id and (user := self._users.get(session.id)):
            user.store.turns.read_ahead(conversation_id)

    def stop_turns(self) -> None:
        """Stop all live turns, because the process is ending; refuse new turns, and wait up to a second until the partial
        replies are stored."""
        cause = StopCause.SERVER
        self.temporary.close(cause)
        self.live_turns.refuse_new_turns()
        self.live_turns.stop(cause, within=0.8)
        self.temporary.stop(cause, within=0.2)

    def set_address(self, user_id: UserId, email: EmailAddress) -> None:
        """Set *email*, a confirmed address, as the address of a user's sessions in this process."""

        def moved(session: AppSession) -> AppSession:
            return replace(session, email=email, is_confirmed=True)

        self.session_cache.change(user_id, moved)
        for user in self._services_of(user_id):
            user.session = moved(user.session)
            user.outdate_sign_in_details()

    def _services_of(self, user_id: UserId) -> list["UserServices"]:
        """Return the services of the sessions of a user in this process."""
        return [user for user in list(self._users.values()) if user.user_id == user_id]

    def _add(self, session: AppSession) -> None:
        user = self._users[session.id] = UserServices(session, self)
        user.read_ahead()

    def _is_busy(self, session: AppSession) -> bool:
        owner = session.id
        return self.live_turns.has_live(lambda turn: turn.owner == owner) or (
            self.temporary.has_live(owner)
        )

    @contextmanager
    def _leave(self, session: AppSession) -> Generator[None]:
        self.temporary.stop(StopCause.USER, owners={session.id})
        with self.live_turns.leaving(session.id, StopCause.USER):
            yield

    def _forget(self, session: AppSession) -> None:
        """Forget the services of *session* and close its tabs.

        If it was the user's last session in this process, also drop the user's cached data.
        """
        user = self._users.get(session.id)
        if user and user.session.backend is not session.backend:
            return  # the session is being opened again, with another cookie
        self._users.pop(session.id, None)
        self.temporary.end_of(session.id)
        if not self._services_of(session.user_id):
            self.background.forget(session.user_id)
            self.live_turns.drop_failed(session.user_id)
            self.deleted_text.forget(session.user_id)
            self.searches.drop(session.user_id)
        self._close_tabs(session.id)


class UserServices(ChatParts):
    """The services that pages use for a signed-in user. Any thread may call any method."""

    def __init__(self, session: AppSession, shared: Shared) -> None:
        self.session, self._shared = session, shared
        self.user_id = session.user_id
        # maximum bytes that the user may store; None: no limit
        self.account_bytes = shared.account_bytes
        first = session.backend.first_page()
        self._rows = session.backend.rows(shared.account_bytes, first)
        administration = session.backend.administration
        self.administration: Administration = administration
        ending = partial(shared.ending, session.id)
        stop_turns = partial(shared.stop_turns_of, StopCause.ADMIN)
        confirm = partial(shared.session_cache.confirm, session.id)
        forget = shared.session_cache.forget_ended_of
        self.access = UserAccess(administration, stop_turns, confirm, forget)
        self.devices = Devices(session, partial(ending, StopCause.USER))
        self.models = ModelAdministration(administration, shared.model_settings)
        self.sign_ups = SignUpAdministration(
            administration, shared.sign_ups, lambda: shared.backend.sign_in.confirms_addresses()
        )
        self.factor_rule = FactorRule(session, shared.sign_ups, partial(ending, StopCause.ADMIN))
        self._account = CachedRead(session.backend.account, _ACCOUNT_SECONDS)
        self._sign_in_details = CachedRead(self._read_details, _ACCOUNT_SECONDS)
        self.export: FullExport | None = None  # the most recent export
        self._opened = OpenedConversations(self._rows, session.user_keys)
        store = sealed_store(self._rows, session.user_keys, self._opened)
        chat = Chat(
            shared.choices(store=store),
            sweep=shared.backend.sweep,
            live_turns=shared.live_turns,
            background=shared.background,
            on_settled=self._account.outdate,
            on_deleted=self._note_deletion,
            owner=session.id,
            search=Search(store.corpus),
        )
        super().__init__(chat)
        self.model_server = ModelServer(self.offers, lambda: self.account)
        # the call that began the session has read this data already: use it while it is fresh
        if first:
            self._account.read_ahead(lambda: first.account)
            self.read_ahead()

    @property
    def email(self) -> EmailAddress:
        return self.session.email

    @property
    def sign_in_details(self) -> SignInDetails:
        """The sign-in details of the user, at most a few seconds old. May raise SignedOut, StoreUnavailable or Tampered."""
        return self._sign_in_details.get()

    def outdate_sign_in_details(self) -> None:
        """Make the next use of `sign_in_details` read the details again."""
        self._sign_in_details.outdate()

    def _read_details(self) -> SignInDetails:
        current = self._shared.session_cache.current(self.session.id)
        now = self.session.with_address_of(current.credentials)
        if now.is_confirmed and now != self.session:
            self._shared.set_address(self.user_id, now.email)
        return sign_in_details(current.credentials, self._policy)

    @property
    def is_of_provider(self) -> bool:
        """True if the domain of the user's address requires sign-in through a provider.

        The user's password is then refused, and only operators can change the address.
        """
        return not self._policy.allows(self.email)

    @property
    def _policy(self) -> SignInPolicy:
        return self._shared.session_cache.accounts.policy

    def left_out(self) -> int:
        """Return the number of accounts whose users can no longer sign in, counted at most ten minutes ago.

        A new count can raise AdminsOnly or StoreUnavailable.
        """
        return self._shared.ways_in.left_out(self.administration)

    def sign_in_state_of(self, user_id: UserId) -> SignInState:
        """Return how a user signs in, for admins. May raise AdminsOnly, NotFound, StoreUnavailable or Tampered."""
        return self._shared.ways_in.state_of(user_id, self.administration)

    @property
    def notices(self) -> list[AccountNotice]:
        """The notices that this session shows, as of the last read of the account: the gravest first, of equals the newest.

        May raise SignedOut or StoreUnavailable.
        """
        account, keys = self._account.last or self.account, self.session.user_keys
        return gravest_first(keys, self.user_id, account.notices)

    def dismiss_notices(self, notices: Collection[UUID]) -> None:
        """Delete the notices with the ids *notices*, which no device shows any more. May raise SignedOut or StoreUnavailable."""
        self.session.backend.dismiss_notices(notices)

        def dismissed(account: Account) -> Account:
            left = (one for one in account.notices if one.id not in notices)
            return replace(account, notices=tuple(left))

        self._account.amend(dismissed)

    def activity(self) -> list[Activity]:
        """Return the newest changes of the user's account and failed attempts. May raise SignedOut or StoreUnavailable."""
        keys = self.session.user_keys
        return [opened_activity(keys, self.user_id, row) for row in self.usage.account_changes()]

    def read_ahead(self) -> None:
        """Start reading all data that the user's first page needs."""
        own = self.profile, self.spaces, self.facts, self.conversations, self._account
        for read in (*own, self._shared.model_settings):
            read.read_ahead()

    def search(self, asked: Asked) -> Results:
        """Search in all of the user's conversations and memories. May raise SignedOut or StoreUnavailable."""
        if self.profile.preferences().searches_titles_only:
            self.drop_search()
            return find_titles(self.store, asked)
        is_here = partial(self._shared.is_here, self)
        return self._shared.searches.of(self.user_id, is_here).find(self.store, asked)

    def search_titles_only(self) -> None:
        """Drop the user's search index in this process, and destroy the search texts that it was filled from.

        May raise SignedOut or StoreUnavailable.
        """
        self.drop_search()
        self.store.corpus.delete_search_texts()

    def drop_search(self) -> None:
        """Drop the user's search index in this process."""
        self._shared.searches.drop(self.user_id)

    @property
    def search_bytes(self) -> int:
        """The size of the user's search index in this process, in bytes."""
        search = self._shared.searches.find(self.user_id)
        return search.size if search else 0

    def _note_deletion(self, seconds: float) -> None:
        """Remove text that was just deleted, and can be restored for *seconds*, from the memory of this process."""
        self._shared.deleted_text.add(self.user_id, seconds)
        if search := self._shared.searches.find(self.user_id):
            search.refresh(self.store)

    def poll(self, place: OpenPlace) -> Revisions:
        """Return the newest revisions of the data that a tab shows, and mark cached data with other revisions as outdated.

        May raise SignedOut or StoreUnavailable.
        """
        found = self.conversations.poll(place)
        self.note_revisions(found.preferences, found.settings)
        settings = self._shared.model_settings
        if settings.last and settings.last.revision == found.settings:
            settings.confirm()  # otherwise, the next turn would wait until the settings are read again
        else:
            settings.read()
        account = self._account.last
        if account and (account.role is AccountRole.ADMIN) != found.is_admin:
            self._account.outdate()
        return found

    def note_revisions(self, preferences: int, settings: str) -> None:
        """Mark cached preferences and model settings as outdated unless they have these revisions."""
        if self.profile.revision() != preferences:
            self.profile.outdate()
        cached = self._shared.model_settings
        if cached.last and cached.last.revision != settings:
            cached.outdate()

    def drop_caches(self) -> None:
        """Drop all of the user's text that this process has cached, for all devices. Raise Busy if a reply is streaming."""
        self._shared.drop_caches(self.user_id)

    def begin_export(self, zone: tzinfo) -> FullExport:
        """Begin an export of all stored data of the user, with times in *zone*. May raise SignedOut or StoreUnavailable."""
        keys = self.session.user_keys
        # the export, too, notices what is older than this session's pages have seen
        opened = OpenedConversations(self._rows, keys, self._opened)
        self.export = FullExport(sealed_store(self._rows, keys, opened), zone)
        return self.export

    def begin_temporary(
        self,
        *,
        reads_facts: bool,
        is_there: Callable[[], bool],
        in_place_of: TemporaryChat | None = None,
    ) -> TemporaryChat:
        """Begin a temporary chat, of which only the cost is stored.

        The chat ends soon after its page is closed, which *is_there* reports by returning False. The chat has its own live
        turns and search index, so that no shared object contains its text.
        """
        rows = TemporaryRows(self._rows)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id)),
            facts=self.facts,
            spaces=self.spaces,
            profile=self.profile,
        )
        chat = Chat(
            self._shared.choices(store=store, reads_facts=reads_facts),
            sweep=rows.sweep,  # the turns of this chat are not in the backend
            live_turns=LiveTurns(),
            background=BackgroundTasks(Purpose.SUMMARY),
            on_settled=self._account.outdate,
            on_deleted=partial(self._shared.deleted_text.add, self.user_id),
            search=Search(),
            title=lambda _: TEMPORARY_TITLE,
            new_id=lambda: chat_id,
        )
        owner = self.session.id
        begun = TemporaryChat(chat, chat_id=chat_id, owner=owner, rows=rows, is_there=is_there)
        self._shared.temporary.add(begun)
        return begun

    @property
    def account(self) -> Account:
        """The user's account, at most a few seconds old, or older while the database is unreachable.

        Raise SignedOut if the session has ended, StoreUnavailable if the account was never read.
        """
        return self._account.get()
