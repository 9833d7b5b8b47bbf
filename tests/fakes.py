"""A scripted model, and the services of a user over rows in memory."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from uuid import UUID, uuid4

from services import bootstrap
from services.caches import CachedRead
from services.chat.live_turn import LiveTurns
from services.chat.parts import ChatParts
from services.chat.search import Search
from services.chat.service import Chat
from services.chat.setup import Choices
from services.chat.task_registry import BackgroundTasks
from services.chat.temporary import TEMPORARY_TITLE, TemporaryChat
from services.domain import AccountRole, ConversationId, Purpose, SessionId, UserId
from services.domain.accounts import (
    ActivityRow,
    SignInState,
    UserUsage,
)
from services.domain.context import ContextMessage
from services.domain.model_failures import ModelUnavailable
from services.domain.models import ModelInfo
from services.domain.sign_in_methods import SignInMethod
from services.llm import Models, Offer
from services.llm.model import Piece
from services.memory.facts import SILENCE
from services.memory.tokens import RegexCounter
from services.store.administration import ModelAdministration, SignUpAdministration, UserAccess
from services.store.device_names import NewDevice, opened_activity
from services.store.notices import gravest_first
from services.store.sealed import sealed_store, throwaway_keys
from services.store.tables.temporary import TemporaryRows
from services.users.devices import Devices
from services.users.factor_rule import FactorRule
from services.users.model_server import ModelServer
from tests.stack.apps import until
from tests.store.conformance.talk import NOON
from tests.stores import Faulty

MAYA = UserId(UUID(int=0xA))
# Tokens of the context and of a reply; micro-dollars per million tokens of input, output and cached
# input.
INFO = ModelInfo("scripted", 4_096, 400, 1_000_000, 4_000_000, 100_000)
LARGE = ModelInfo("large", 400_000, 4_000, 1_250_000, 10_000_000, 125_000)
DEVICE = SessionId(UUID(int=1))


@dataclass
class ScriptedStream:
    """A reply piece by piece; `cancel` ends it."""

    pieces: tuple[Piece, ...]
    failure: ModelUnavailable | None
    gate: threading.Event
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def __iter__(self):
        for number, piece in enumerate(self.pieces):
            if number == len(self.pieces) // 2:
                until(lambda: self.gate.is_set() or self.is_cancelled.is_set(), within=30)
            if self.is_cancelled.is_set():
                return
            yield piece
        if self.failure:
            raise self.failure

    def cancel(self):
        self.is_cancelled.set()  # the gate alone would not do, because other streams share it


@dataclass
class ScriptedModel:
    """Streams *pieces*, pausing in the middle while *gate* is closed, then raises *failure* if there is one."""

    pieces: tuple[Piece, ...] = ("Prune ", "in March.")
    failure: ModelUnavailable | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[Sequence[ContextMessage]] = field(default_factory=list)
    max_tokens: list[int] = field(default_factory=list)  # the length limit of each call
    merges_instructions: bool = False

    def __post_init__(self):
        self.gate.set()

    def start(self, messages, *, max_tokens):
        self.seen.append(messages)
        self.max_tokens.append(max_tokens)
        return ScriptedStream(self.pieces, self.failure, self.gate)


def choose(profile, **choices):
    """Change preferences of *profile*."""
    profile.change(lambda now: replace(now, **choices))


def chat_over(
    store,
    models,
    sweep,
    purposes=(Purpose.SUMMARY, Purpose.FACTS),
    fact_batch=1,
    silence=SILENCE,
    choices=None,
    search=None,
    **options,
):
    """Return the chat of a process, which notes facts from *fact_batch* prompts at once, or after *silence*."""
    return Chat(
        choices or choices_over(store, models),
        sweep=sweep,
        live_turns=LiveTurns(),
        background=BackgroundTasks(*purposes, fact_batch=fact_batch, silence=silence),
        search=search or Search(store.corpus),
        **options,
    )


def choices_over(store, models, *, reads_facts=True):
    """Return the choices of a user."""
    return Choices(
        store=store,
        models=models,
        counter=RegexCounter(),
        instructions="Be kind.",
        reads_facts=reads_facts,
    )


class FakeSignIn(SimpleNamespace):
    """How a fake person's account is opened; tests change it."""

    @property
    def takes_code(self):
        return self.is_confirmed and SignInMethod.CODE in bootstrap.current_app().methods


class FakePerson(ChatParts):
    """The services that pages use for a signed-in user: the real chat over rows in memory and a scripted model."""

    def __init__(
        self,
        database,
        model,
        role=AccountRole.USER,
        email="maya@daybook.test",
        purposes=(Purpose.SUMMARY, Purpose.FACTS),
        others=(),
        first=None,
        connection=None,
    ):
        self.database, self.model, self.email = database, model, email
        self.user_id = database.user_id
        self.sign_in_details = FakeSignIn(
            has_password=True,
            is_confirmed=False,
            factor=None,
            passkeys=(),
            identities=(),
            last_way=None,
        )
        self.is_of_provider, self.left_out = False, lambda: 0
        unknown = SignInState(begun_at=None, is_confirmed=False, has_app=False, asks_passkey=False)
        self.sign_in_state_of = lambda _: unknown
        self.temporary, self.export = [], None
        self.account_bytes, self.search_bytes, self.drop_search = None, 0, lambda: None
        self.search_titles_only = lambda: None
        self.keys, this_one = throwaway_keys(self.user_id), NewDevice.unnamed()
        self._user, backend = database.sign_in(email, role, this_one), database.backend
        self.devices = Devices(
            SimpleNamespace(
                id=this_one.session_id,
                user_id=self.user_id,
                user_keys=self.keys,
                backend=self._user,
            ),
            lambda *_: nullcontext(),
        )
        self.administration = administration = Faulty(self._user.administration)
        self.access = UserAccess(administration, stop_turns=lambda _: None)
        self.models = ModelAdministration(administration, CachedRead(backend.model_settings))
        state, self.auth_confirms = CachedRead(backend.sign_up_state), False
        self.sign_ups = SignUpAdministration(administration, state, lambda: self.auth_confirms)
        own = SimpleNamespace(administration=administration, devices=self._user.devices)
        session = SimpleNamespace(id=this_one.session_id, backend=own)
        self.factor_rule = FactorRule(session, state, lambda *_: nullcontext())
        first = first or Offer(INFO, model)
        self._models = Models(first, others, self.models.settings, connection)
        self.model_server = ModelServer(self._models, lambda: self.account)
        self._purposes = purposes
        self.drop_caches()

    @property
    def notices(self):
        return gravest_first(self.keys, self.user_id, self._user.account().notices)

    def dismiss_notices(self, notices):
        self._user.dismiss_notices(notices)

    def activity(self):
        rows = self.usage.account_changes()
        return [opened_activity(self.keys, self.user_id, row) for row in rows]

    def drop_caches(self):
        store = self.database.store()
        choices, self.search = choices_over(store, self._models), Search(store.corpus)
        super().__init__(self._chat_over(choices, self._purposes, search=self.search))

    def _chat_over(self, choices, purposes, **options):
        sweep = self.database.sweep
        return chat_over(choices.store, self._models, sweep, purposes, choices=choices, **options)

    def begin_temporary(
        self, *, reads_facts=False, is_there=lambda: True, owner=DEVICE, in_place_of=None
    ):
        rows = TemporaryRows(self.database.rows)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id)),
            facts=self.facts,
            spaces=self.spaces,
            profile=self.profile,
        )
        choices = choices_over(store, self._models, reads_facts=reads_facts)
        chat = self._chat_over(
            choices,
            (Purpose.SUMMARY,),
            search=Search(),
            title=lambda _: TEMPORARY_TITLE,
            new_id=lambda: chat_id,
        )
        self.temporary.append(
            TemporaryChat(chat, chat_id=chat_id, owner=owner, rows=rows, is_there=is_there)
        )
        return self.temporary[-1]

    def note_revisions(self, preferences, settings):
        if self.profile.revision() != preferences:
            self.profile.outdate()

    @property
    def account(self):
        return self._user.account()


def an_entry(number, action="caps.set", **detail):
    """Return an entry of the audit."""
    return ActivityRow(
        id=f"{number:05}",
        at=NOON,
        action=action,
        actor="ruth@daybook.test",
        target="jonas@daybook.test",
        detail=detail,
    )


def a_person(email):
    """Return the usage of a user."""
    return UserUsage(
        user_id=UserId(uuid4()),
        email=email,
        role=AccountRole.USER,
        is_suspended=False,
        last_active_at=NOON,
        replies_today=3,
        tokens_today=600,
        cost_today_micro=780,
        replies_this_month=40,
        tokens_in_this_month=4_000,
        tokens_out_this_month=1_600,
        cost_this_month_micro=10_400,
        daily_cap_micro=1_000_000,
        monthly_cap_micro=10_000_000,
        daily_cap_tokens=None,
        max_open=4,
        max_per_minute=20,
        conversations=7,
        bytes=1_234_567,
    )
