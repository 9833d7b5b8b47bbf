"""A scripted model, and the services of a user over rows in memory."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID, uuid4

from services.chat.live_turn import LiveTurns
from services.chat.parts import ChatParts
from services.chat.search import Search
from services.chat.service import Chat
from services.chat.setup import Choices
from services.chat.task_registry import BackgroundTasks
from services.chat.temporary import TEMPORARY_TITLE, TemporaryChat
from services.domain import AccountRole, ConversationId, Purpose, SessionId, UserId
from services.domain.accounts import (
    Account,
    AuditEntry,
    DeploymentSettings,
    Invitation,
    Limits,
    RetentionPreview,
    SignUps,
    UserPage,
    UserUsage,
)
from services.domain.context import ContextMessage
from services.domain.health import StoreHealth
from services.domain.model_failures import ModelUnavailable
from services.domain.models import ModelInfo, ModelSetting, ModelSettings
from services.domain.usage import DayUsage, PurposeUsage, UsageReport
from services.errors import NotFound
from services.llm import Models, Offer
from services.llm.model import Piece
from services.memory.facts import SILENCE
from services.memory.tokens import RegexCounter
from services.store.sealed import sealed_store, throwaway_keys
from services.store.tables.temporary import TemporaryRows
from tests.stack.apps import until
from tests.store.conformance.talk import NOON

MAYA = UserId(UUID(int=0xA))
# Tokens of the context and of a reply; micro-dollars per million tokens of input, output and cached input.
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
        self.is_cancelled.set()  # the gate is other streams', too


@dataclass
class ScriptedModel:
    """Streams *pieces*, pausing in the middle while *gate* is closed, then raises *failure* if there is one."""

    pieces: tuple[Piece, ...] = ("Prune ", "in March.")
    failure: ModelUnavailable | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[Sequence[ContextMessage]] = field(default_factory=list)
    max_tokens: list[int] = field(default_factory=list)  # of each call

    def __post_init__(self):
        self.gate.set()

    def start(self, messages, *, max_tokens):
        self.seen.append(messages)
        self.max_tokens.append(max_tokens)
        return ScriptedStream(self.pieces, self.failure, self.gate)


_SUMS = {"tokens_in": 4_000, "tokens_cached": 500, "tokens_out": 1_600}
TOTAL_USAGE = UsageReport(
    days=(DayUsage(day=NOON.date(), model="scripted", replies=40, cost_micro=10_400, **_SUMS),),
    purposes=(PurposeUsage(purpose=Purpose.REPLY, turns=40, cost_micro=10_400, **_SUMS),),
    active_users=3,
    failed=2,
    interrupted=1,
    first_token_ms=180,
    first_token_p95_ms=1_240,
)
DEPLOYMENT = DeploymentSettings(
    defaults=Limits(
        daily_cap_micro=1_000_000,
        monthly_cap_micro=10_000_000,
        daily_cap_tokens=None,
        max_open=4,
        max_per_minute=20,
    ),
    monthly_cap_micro=None,
    spent_today_micro=780,
    spent_this_month_micro=10_400,
    retention_days=None,
)


STORE_HEALTH = StoreHealth(
    database_ms=3,
    api_ms=12,
    clock_skew_seconds=0.04,
    figures={"Max rows per response": 500, "PostgreSQL": "18.4"},
)


@dataclass
class FakeAdministration:
    """The users of a deployment; notes what is asked and changed."""

    users: list[UserUsage]
    is_admin: bool
    asked: list = field(default_factory=list)
    changed: list = field(default_factory=list)
    failure: Exception | None = None  # of every change
    failing: UserId | None = None  # the only user whose changes fail
    total_usage: UsageReport = TOTAL_USAGE
    settings: DeploymentSettings = DEPLOYMENT
    entries: list = field(default_factory=list)  # the newest first
    state: StoreHealth = STORE_HEALTH

    def list_users(self, words, order, skip=0, at_most=500):
        self.asked.append((words, order, skip))
        if not self.is_admin:
            raise NotFound
        found = [user for user in self.users if words in user.email]
        return UserPage(users=tuple(found[skip : skip + at_most]), total=len(found))

    def usage(self, days, user_id=None):
        self.asked.append(("usage", user_id))
        return self.total_usage

    def deployment(self):
        if not self.is_admin:
            raise NotFound
        return self.settings

    def set_deployment_cap(self, monthly_cap_micro):
        self._change("deployment", monthly_cap_micro)

    def preview_retention(self, days):
        self.asked.append(("preview", days))
        return RetentionPreview(conversations=3, users=2, bytes=1_500)

    def change_settings(self, changes):
        self._change("settings", changes)

    def set_caps(self, user_id, changes):
        self._change("limits", user_id, changes)

    def sign_out(self, user_id):
        self._change("signed out", user_id)

    def delete(self, user_id):
        self._change("deleted", user_id)

    def set_role(self, user_id, role):
        self._change("role", user_id, role)

    def suspend(self, user_id, *, is_suspended):
        self._change("suspended", user_id, is_suspended)

    def health(self):
        return self.state

    def audit(self, before="", at_most=500):
        if not self.is_admin:
            raise NotFound
        return [entry for entry in self.entries if not before or entry.id < before][:at_most]

    def _change(self, *change):
        if self.failure and self.failing in (None, change[1]):
            raise self.failure
        self.changed.append(change)


@dataclass
class FakeModelSettings:
    """The settings of models, changed at once."""

    now: ModelSettings = field(default_factory=ModelSettings)
    failure: Exception | None = None  # of every change

    def settings(self):
        return self.now

    def set_price(self, name, prices):
        self._set(name, prices=prices)

    def offer(self, name, *, is_offered):
        self._set(name, is_offered=is_offered)

    def _set(self, name, **changes):
        if self.failure:
            raise self.failure
        setting = replace(self.now.by_name.get(name, ModelSetting()), **changes)
        self.now = replace(self.now, by_name={**self.now.by_name, name: setting})

    def refuse_unknown_prices(self, *, is_refused):
        self.now = replace(self.now, refuses_unknown_prices=is_refused)


@dataclass
class FakeSignUps:
    """The mode of sign-ups and the invitations of a deployment."""

    is_admin: bool = True
    now: SignUps = SignUps.OPEN
    made: list[Invitation] = field(default_factory=list)
    failure: Exception | None = None  # of every change

    def mode(self):
        return self.now

    def set_mode(self, mode):
        if self.failure:
            raise self.failure
        self.now = mode

    def invite(self, email, role):
        if self.failure:
            raise self.failure
        self.made.append(
            Invitation(
                id=uuid4(),
                email=email or None,
                role=role,
                created_at=NOON,
                expires_at=NOON + timedelta(days=7),
                state="open",
            )
        )
        return f"code-{len(self.made)}"

    def invitations(self):
        if not self.is_admin:
            raise NotFound
        return self.made

    def revoke(self, invitation):
        self.made = [
            replace(one, state="revoked") if one.id == invitation else one for one in self.made
        ]


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
    """Return the chat of a process; facts are noted of *fact_batch* prompts at once, or after *silence*."""
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
    ):
        self.database, self.model = database, model
        self.email, self.role = email, role
        self.temporary, self.export = [], None
        self.expiring = self.retention_days = None  # conversations
        self.account_bytes = None
        self.administration = FakeAdministration(
            [a_person("jonas@daybook.test")], role is AccountRole.ADMIN
        )
        self.access = self.administration
        self.models = FakeModelSettings()
        self.sign_ups = FakeSignUps(role is AccountRole.ADMIN)
        self._models = Models(first or Offer(INFO, model), others, self.models.settings)
        self._purposes = purposes
        self.drop_caches()

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
        ledger = self.database.ledger
        return Account(
            user_id=ledger.user_id,
            email=self.email,
            role=self.role,
            daily_cap_micro=ledger.daily_micro,
            monthly_cap_micro=ledger.monthly_micro,
            spent_today_micro=ledger.spent_today,
            spent_this_month_micro=ledger.spent_this_month,
            daily_cap_tokens=ledger.daily_tokens,
            tokens_today=ledger.tokens_today,
            expiring=self.expiring,
            retention_days=self.retention_days,
            deployment_share=ledger.deployment_share,
        )


def an_entry(number, action="caps.set", **detail):
    """Return an entry of the audit."""
    return AuditEntry(
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
