"""The services of signed-in users, and what all users of a process share."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

from services.chat.background import BackgroundTasks
from services.chat.elsewhere import Elsewhere
from services.chat.live_turn import LiveTurns
from services.chat.service import Chat
from services.chat.temporary import TEMPORARY_TITLE, TemporaryChat, TemporaryChats
from services.domain import AccountRole, ConversationId, Purpose, SessionId
from services.domain.accounts import Account
from services.domain.policies import policy_named
from services.llm import Models
from services.memory.titles import first_words
from services.memory.tokens import CachingCounter, RegexCounter
from services.settings import Settings
from services.store.cached_read import CachedRead
from services.store.in_memory.rows import InMemoryRows
from services.store.port import Store
from services.store.sealed import sealed_store, throwaway_keys
from services.store.supabase import auth
from services.store.supabase.first_page import FirstPageRows, FirstRead
from services.store.supabase.sessions import AppSession, Sessions
from services.store.supabase.usage import UsageReports
from services.web.session_cache import SessionCache

_TEXTS = 50_000  # whose counts are remembered: at most some 25 MB
_ACCOUNT_SECONDS = 5.0  # between two reads of what a user may spend


class Shared:
    """The state that all users of this process share, and the services of each opened session."""

    def __init__(self, sessions: Sessions, chosen: Settings, models: Models) -> None:
        self.settings, self.models, self.server = chosen, models, sessions.server
        titles = [Purpose.TITLE] if chosen.titles else []
        self.background = BackgroundTasks(Purpose.SUMMARY, Purpose.FACTS, *titles)
        self.live_turns, self.temporary = LiveTurns(), TemporaryChats()
        self.counter = CachingCounter(RegexCounter(), _TEXTS)
        self.session_cache = SessionCache(
            sessions, on_add=self._add, on_leave=self._leave, on_forget=self._forget
        )
        self._people: dict[SessionId, PersonServices] = {}

    def find(self, session_id: SessionId) -> "PersonServices | None":
        """The services of the user of a session; None if it is known to have ended. Raise StoreUnavailable."""
        return self._people.get(session_id) if self.session_cache.by_id(session_id) else None

    def stop_turns(self) -> None:
        """Stop the live turns; wait a second for their partial replies to be stored."""
        self.temporary.stop(within=0.0)
        self.live_turns.stop(within=0.8)
        self.temporary.stop(within=0.2)

    def _add(self, session: AppSession) -> None:
        person = self._people[session.id] = PersonServices(session, self)
        person.read_ahead()

    def _leave(self, session: AppSession) -> None:
        self.temporary.end_of(session.id)
        if person := self._people.get(session.id):
            person.chat.leave()

    def _forget(self, session: AppSession) -> None:
        """Forget the services of *session*, and with its user's last session all that is held of the user."""
        self._people.pop(session.id, None)
        self.temporary.end_of(session.id)
        if all(each.user_id != session.user_id for each in list(self._people.values())):
            self.background.forget(session.user_id)


class PersonServices:
    """The services that pages use for a signed-in user."""

    def __init__(self, session: AppSession, shared: Shared) -> None:
        self._session, self._shared, self._settings = session, shared, shared.settings
        self.user_id = session.user_id
        self._rows = FirstPageRows(session)
        self.store = sealed_store(self._rows, session.user_keys)
        self.usage = UsageReports(session)
        self.chat = self._chat_over(
            self.store,
            live_turns=shared.live_turns,
            background=shared.background,
            elsewhere=Elsewhere(self.store.corpus),
        )
        self._read_account = FirstRead(lambda: auth.account(session.client, session.email))
        self._account = CachedRead(self._read_account.get, _ACCOUNT_SECONDS)

    def read_ahead(self) -> None:
        """Begin at once to read all that the first page needs."""
        self._rows.read_ahead()
        self._read_account.begin()

    def _chat_over(
        self,
        store: Store,
        *,
        live_turns: LiveTurns,
        background: BackgroundTasks,
        elsewhere: Elsewhere | None = None,
        reads_facts: bool = True,
        title: Callable[[str], str] = first_words,
        new_id: Callable[[], UUID] = uuid4,
    ) -> Chat:
        return Chat(
            store=store,
            live_turns=live_turns,
            models=self._shared.models,
            counter=self._shared.counter,
            instructions=self._settings.instructions,
            sweep=self._shared.server.sweep,
            first_policy=policy_named(self._settings.policy, self._settings.window_messages),
            window_messages=self._settings.window_messages,
            background=background,
            reads_facts=reads_facts,
            title=title,
            new_id=new_id,
            elsewhere=elsewhere,
        )

    def begin_temporary(
        self,
        *,
        reads_facts: bool,
        is_there: Callable[[], bool],
        in_place_of: TemporaryChat | None = None,
    ) -> TemporaryChat:
        """Begin a chat that lasts as long as the page that *is_there*; only its cost is stored.

        Its turns and its index are its own, so that nothing shared holds its text.
        """
        rows = InMemoryRows(self._rows)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id)),
            facts=self.store.facts,
            spaces=self.store.spaces,
            profile=self.store.profile,
        )
        chat = self._chat_over(
            store,
            live_turns=LiveTurns(),
            background=BackgroundTasks(Purpose.SUMMARY),
            reads_facts=reads_facts,
            title=lambda _: TEMPORARY_TITLE,
            new_id=lambda: chat_id,
        )
        begun = TemporaryChat(
            id=chat_id,
            owner=self._session.id,
            store=store,
            rows=rows,
            is_there=is_there,
            _chat=chat,
        )
        self._shared.temporary.add(begun)
        return begun

    @property
    def account(self) -> Account:
        """The user's account, at most a few seconds old, or as last read while the database is away.

        Raise SignedOut, StoreUnavailable.
        """
        return self._account.get()

    @property
    def is_admin(self) -> bool:
        """Return True if the user was an admin when last read, which no menu waits for. Raise as `account`."""
        account = self._account.last or self.account
        return account.role is AccountRole.ADMIN
