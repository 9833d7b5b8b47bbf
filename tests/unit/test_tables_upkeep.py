"""Accounts over tables, beyond the conformance suite of accounts: threads, outages, many rows."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from services.domain import AccountRole, UserId
from services.domain.accounts import Failure, SessionEnd, UserOrder
from services.domain.rows import SearchTextRow
from services.errors import NotFound, OverBudget, StoreUnavailable
from services.rules.accounts import Counter, Lookup, StoredInvitation, StoredStep
from services.rules.budget import NO_CAP, Deployment
from services.store.tables import schema
from services.store.tables.content import text_bytes
from services.store.tables.in_memory import InMemoryBlock, InMemoryStore, InMemoryTables
from services.store.tables.rows import TablesRows
from services.store.tables.schema import (
    BUDGETS,
    DEPLOYMENT,
    SESSIONS,
    AuditRow,
    CredentialsRow,
    Nonce,
)
from services.store.tables.upkeep import keep_sweeping, sweep
from services.store.writes import PutPiece
from tests.store.conformance.accounts.deployments import DAY, TablesDeployment, at_once
from tests.store.conformance.talk import answer, first_turn, new_turn
from tests.stores import InMemoryDatabase

pytestmark = pytest.mark.usefixtures("cheap_passwords")
SESSIONS_OF_ONE = 700  # more than one block may end


class Enough(BaseException):
    """Ends an endless loop."""


@pytest.fixture
def deployment():
    return TablesDeployment(InMemoryStore())


def test_upkeep_reports_each_change_and_sweeps_on():
    outcomes = iter([True, False, StoreUnavailable(), StoreUnavailable(), False, Enough()])
    reports, waits = [], []

    def sweep():
        outcome = next(outcomes)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(Enough):
        keep_sweeping(sweep, reports.append, waits.append)

    assert reports == [StoreUnavailable.outage, ""]
    assert len(waits) == 4


def test_upkeep_goes_on_after_a_bug():
    outcomes, waits = iter([ValueError(), False, Enough()]), []

    def sweep():
        if isinstance(outcome := next(outcomes), BaseException):
            raise outcome
        return outcome

    with pytest.raises(Enough):
        keep_sweeping(sweep, lambda _: None, waits.append)

    assert len(waits) == 2


def test_sign_out_ends_more_sessions_than_a_block(deployment):
    admin, maya = deployment.sign_up_admin(), deployment.sign_up()
    tables = deployment.accounts.backend.tables
    session = tables.run(lambda block: block.get(SESSIONS, maya.cookie.hash))
    for _ in range(SESSIONS_OF_ONE):
        other = replace(session, id=uuid4(), cookie_hash=uuid4().hex)
        tables.run(lambda block, other=other: block.put(SESSIONS, other))

    admin.administration.sign_out(maya.id)

    left = tables.run(lambda block: block.select(SESSIONS))
    assert [one.user_id for one in left] == [admin.id]
    assert deployment.accounts.ended([maya.session]) == {maya.session.id: SessionEnd.ENDED}


def test_sweep_of_many_rows_of_each_shared_table_fits_a_block(deployment):
    """Each table has more due rows than one block destroys."""
    store, past = deployment.accounts.backend.all_tables, datetime(2020, 1, 1, tzinfo=UTC)
    maya = deployment.sign_up()
    session = store.of(None).run(lambda block: block.get(SESSIONS, maya.cookie.hash))
    make = {
        SESSIONS: lambda n: replace(session, id=uuid4(), cookie_hash=str(n), ends_at=past),
        schema.STEPS: lambda n: StoredStep(key=str(n), kind_tag="", sealed="", expires_at=past),
        schema.LOOKUPS: lambda n: Lookup(lookup=str(n), user_id=maya.id, expires_at=past),
        schema.THROTTLES: lambda n: Counter(bucket=str(n), window_ends=past, attempts=1),
        schema.NONCES: lambda n: Nonce(uuid4(), past),
        schema.CREDENTIALS: lambda n: CredentialsRow(
            id=uuid4(), user_id=None, lookup=str(n), sealed="", generation=1, expires_at=past
        ),
        schema.INVITATIONS: lambda n: StoredInvitation(
            id=uuid4(),
            code_hash=str(n),
            email=None,
            role=AccountRole.USER,
            made_by=maya.id,
            created_at=past,
            expires_at=past,
        ),
    }
    for table, row in make.items():
        store.of(None).run(
            lambda block, row=row, table=table: [block.put(table, row(n)) for n in range(150)]
        )

    deployment.sweep()

    left = {
        table.name: len(store.of(None).run(lambda block, table=table: block.select(table)))
        for table in make
    }
    # the rows of the user's sign-up stay
    assert left == dict.fromkeys(left, 0) | {"sessions": 1, "credentials": 1, "nonces": 1}


def test_failures_hide_no_change_and_changes_hide_no_failure(deployment):
    maya = deployment.sign_up()
    before = [one.id for one in maya.usage.account_changes()]
    now = datetime.now(UTC)

    def add(action, number):
        row = AuditRow(id="", at=now, action=action, actor=None, target=maya.id, detail={})
        rows = [replace(row, id=schema.id_at(now)) for _ in range(number)]
        for one in rows:
            deployment.accounts.backend.all_tables.of(None).run(
                lambda block, one=one: block.put(schema.AUDIT, one)
            )
        return [one.id for one in reversed(rows)]

    failures = add(Failure.SIGN_IN, 1001)
    assert [one.id for one in maya.usage.account_changes()] == failures[:100] + before

    changes = add("session.prove", 501)
    assert [one.id for one in maya.usage.account_changes()] == changes[:500] + failures[:100]


def test_figures_of_all_are_those_of_each_after_turns_at_once(deployment):
    admin, *users = deployment.sign_up_admin(), *[deployment.sign_up() for _ in range(4)]
    tables = deployment.accounts.backend.all_tables

    def talk(user):
        for _ in range(6):
            answer(user.store, first_turn("When?"), "In March.", cost_micro=7)
        user.store.turns.begin(first_turn("And then?"))

    def cap(micro):
        for each in (micro, None, micro):
            admin.administration.set_deployment_cap(each)

    answers = at_once(*[partial(talk, user) for user in users], partial(cap, 10**9))

    assert answers == [None] * 5
    figures = tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment"))
    budgets = [
        tables.of(user.id).run(lambda block: block.get(BUDGETS, "budget"))
        for user in (admin, *users)
    ]
    assert figures.spent == sum(one.month_spent for one in budgets) == 4 * 6 * 7
    assert figures.reserved == sum(one.reserved for one in budgets) == 4 * 1100


@pytest.mark.parametrize("is_set_twice", [False, True])
@pytest.mark.parametrize("blocks", range(4))
def test_cap_set_during_a_sweep_counts_a_deleted_user(
    deployment, monkeypatch, blocks, is_set_twice
):
    """The sweep, or also a second call that sets the cap, runs after *blocks* blocks of the first call."""
    admin, maya = deployment.sign_up_admin(), deployment.sign_up()
    answer(maya.store, first_turn("When?"), "In March.", cost_micro=1000)
    admin.administration.delete(maya.id)
    run, at = InMemoryTables.run, iter(range(blocks))

    def run_after_sweep(tables, work, **options):
        if next(at, None) is None:
            monkeypatch.setattr(InMemoryTables, "run", run)
            deployment.sweep()
            if is_set_twice:
                admin.administration.set_deployment_cap(2000)
        return run(tables, work, **options)

    monkeypatch.setattr(InMemoryTables, "run", run_after_sweep)
    admin.administration.set_deployment_cap(3000)
    deployment.sweep()

    tables = deployment.accounts.backend.all_tables.of(maya.id)
    assert tables.run(lambda block: block.select(BUDGETS)) == []
    assert tables.run(lambda block: block.get(DEPLOYMENT, "deployment")).spent == 1000


def test_users_in_the_order_of_addresses_are_read_a_page_at_a_time(deployment, monkeypatch):
    admin, *users = deployment.sign_up_admin(), *[deployment.sign_up() for _ in range(6)]
    accounts = deployment.accounts.backend.tables.run(lambda block: block.select(schema.ACCOUNTS))
    addresses = sorted(one.email for one in accounts)
    run, blocks = InMemoryTables.run, []

    def run_counted(tables, work, **options):
        blocks.append(work)
        return run(tables, work, **options)

    monkeypatch.setattr(InMemoryTables, "run", run_counted)
    page = admin.administration.list_users("", UserOrder.EMAIL, 3, 2)

    assert [one.email for one in page.users] == addresses[3:5]
    assert page.total == 1 + len(users)
    assert len(blocks) == 1 + 2


@pytest.mark.parametrize("number", [1, 2, 3])
def test_cap_whose_count_fails_leaves_nothing_counted(deployment, monkeypatch, number):
    admin, maya = deployment.sign_up_admin(), deployment.sign_up()
    answer(maya.store, first_turn("When?"), "In March.", cost_micro=1000)
    tables, run, done = deployment.accounts.backend.all_tables, InMemoryTables.run, []

    def run_unless_lost(tables, work, **options):
        done.append(work)
        if len(done) == number + 1:
            raise StoreUnavailable
        return run(tables, work, **options)

    with monkeypatch.context() as patch:
        patch.setattr(InMemoryTables, "run", run_unless_lost)
        with pytest.raises(StoreUnavailable):
            admin.administration.set_deployment_cap(3000)

    row = tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment"))
    assert row.monthly_cap_micro is None
    answer(maya.store, first_turn("And then?"), "In May.", cost_micro=1000)
    assert tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment")) == row
    admin.administration.set_deployment_cap(3000)
    assert tables.of(None).run(lambda block: block.get(DEPLOYMENT, "deployment")).spent == 2000


def test_failed_count_leaves_a_later_one_alone(deployment, monkeypatch):
    admin, tables = deployment.sign_up_admin(), deployment.accounts.backend.tables
    later = Deployment(monthly_cap_micro=NO_CAP, counting=7)

    def count_beside_another(rows, counting):
        tables.run(lambda block: block.put(DEPLOYMENT, later))
        raise StoreUnavailable

    monkeypatch.setattr(TablesRows, "count", count_beside_another)
    with pytest.raises(StoreUnavailable):
        admin.administration.set_deployment_cap(3000)

    assert tables.run(lambda block: block.get(DEPLOYMENT, "deployment")) == later


def test_no_more_than_the_cap_of_all_is_reserved_at_once(deployment):
    admin, *users = deployment.sign_up_admin(), *[deployment.sign_up() for _ in range(6)]
    admin.administration.set_deployment_cap(3000)

    begun = at_once(*[partial(user.store.turns.begin, first_turn("When?")) for user in users])

    granted = [one.reserved_micro for one in begun if not isinstance(one, OverBudget)]
    assert sum(granted) == 3000


def test_conversation_with_a_reply_under_way_does_not_expire(deployment):
    admin, maya = deployment.sign_up_admin(), deployment.sign_up()
    quiet, busy = [answer(maya.store, first_turn("When?"), "In March.") for _ in range(2)]
    admin.administration.change_settings({"retention_days": 15})
    deployment.let_pass_swept(14.5)
    deployment.let_pass(DAY - 60)
    maya = maya.sign_in()
    retry = new_turn(busy, None, prompt_id=busy.messages[0].id)
    maya.store.turns.begin(retry)

    deployment.sweep()

    assert [row.id for row in maya.store.conversations.recent()] == [busy.conversation.id]
    deployment.let_pass(3600)
    deployment.sweep()
    assert maya.sign_in().store.conversations.recent() == []
    assert quiet.conversation.id != busy.conversation.id


@dataclass
class Damaged:
    """The `AllTables` *store*, in which no block of some users runs."""

    store: object
    user_ids: list

    def __getattr__(self, name):
        return getattr(self.store, name)

    def of(self, user_id):
        if user_id not in self.user_ids:
            return self.store.of(user_id)

        def fail(work, **options):
            raise ValueError(user_id)

        return SimpleNamespace(run=fail)


def discard_chats(admin, users, deployment):
    for user in users:
        [chat] = user.store.conversations.recent()
        user.store.conversations.discard(chat.id, 0)


def end_unused_chats(admin, users, deployment):
    admin.administration.change_settings({"retention_days": 15})
    deployment.let_pass_swept(14.5)
    deployment.let_pass(DAY - 60)


def delete_accounts(admin, users, deployment):
    for user in users:
        admin.administration.delete(user.id)


@pytest.mark.parametrize("end", [discard_chats, end_unused_chats, delete_accounts])
def test_error_for_one_user_stops_the_sweep_of_no_other(deployment, end):
    admin, store = deployment.sign_up_admin(), deployment.accounts.backend.all_tables
    users = sorted((deployment.sign_up() for _ in range(2)), key=lambda user: str(user.id))
    for user in users:
        answer(user.store, first_turn("When?"), "In March.")
    end(admin, users, deployment)
    due = Nonce(uuid4(), datetime(2020, 1, 1, tzinfo=UTC))
    store.of(None).run(lambda block: block.put(schema.NONCES, due))

    for _ in schema.DESTROYED:  # one sweep destroys a slice of one table
        with pytest.raises(ValueError, match=str(users[0].id)):
            sweep(Damaged(store, [users[0].id]), deployment.accounts.backend.now)

    messages = [
        store.of(user.id).run(lambda block: block.select(schema.MESSAGES)) for user in users
    ]
    assert [len(rows) for rows in messages] == [2, 0]
    assert store.of(None).run(lambda block: block.get(schema.NONCES, due.id)) is None


def test_errors_for_many_users_stop_the_sweep_of_no_other(deployment):
    maya, store = deployment.sign_up(), deployment.accounts.backend.all_tables
    answer(maya.store, first_turn("When?"), "In March.")
    [chat] = store.of(maya.id).run(lambda block: block.select(schema.CONVERSATIONS))
    due = replace(chat, destroy_at=datetime(2020, 1, 1, tzinfo=UTC))
    *failing, last = [UserId(UUID(int=number)) for number in range(61)]
    for user_id in (*failing, last):
        store.of(user_id).run(lambda block: block.put(schema.CONVERSATIONS, due))

    with pytest.raises(ValueError, match=str(failing[0])):
        sweep(Damaged(store, failing), deployment.accounts.backend.now)

    assert store.of(last).run(lambda block: block.select(schema.CONVERSATIONS)) == []


@pytest.mark.parametrize(
    ("end", "table", "changes"),
    [
        (end_unused_chats, schema.CONVERSATIONS, {"summary": "s" * 90_000}),
        (delete_accounts, schema.PIECES, {"piece_body": "p" * 350_000}),
        (delete_accounts, schema.SEARCH_TEXTS, {"body": "p" * 262_144}),
        (end_unused_chats, schema.SEARCH_TEXTS, {"body": "p" * 262_144}),
    ],
)
def test_large_rows_fit_what_firestore_commits_at_once(
    deployment, monkeypatch, end, table, changes
):
    admin, maya, sizes = deployment.sign_up_admin(), deployment.sign_up(), []
    thread = answer(maya.store, first_turn("When?"), "In March.")
    tables = deployment.accounts.backend.all_tables.of(maya.id)
    [chat] = tables.run(lambda block: block.select(schema.CONVERSATIONS))
    ids = {"conversation_id": chat.id, "message_id": thread.messages[0].id}
    piece = PutPiece(**ids, attachment_id=uuid4(), number=0, piece_body="")
    text = SearchTextRow(conversation_id=chat.id, number=1, last_seq=1, body="")
    of_chat = {schema.PIECES.name: piece, schema.SEARCH_TEXTS.name: text}
    for number in range(150):
        own = {"number": number} if table.name in of_chat else {"id": uuid4()}
        row = replace(of_chat.get(table.name, chat), **own, **changes)
        tables.run(lambda block, row=row: block.put(table, row))
    end(admin, [maya], deployment)
    select = InMemoryBlock.select

    def measured(*arguments, **options):
        rows = select(*arguments, **options)
        sizes.append(text_bytes(*rows))
        return rows

    monkeypatch.setattr(InMemoryBlock, "select", measured)
    deployment.sweep()

    assert 0 < max(sizes) < 10 * 2**20
    assert tables.run(lambda block: block.select(table)) == []


def test_account_whose_rows_are_destroyed_gets_none_again(deployment):
    admin, maya = deployment.sign_up_admin(), deployment.sign_up()
    admin.administration.delete(maya.id)
    deployment.sweep()

    admin.administration.set_deployment_cap(3000)

    tables = deployment.accounts.backend.all_tables.of(maya.id)
    assert tables.run(lambda block: block.select(BUDGETS)) == []
    with pytest.raises(NotFound):
        admin.session.backend.administration.sign_out(maya.id)


def test_rows_of_a_user_but_the_ledger_go_with_the_account():
    tables = [one for one in schema.TABLES.values() if not one.is_shared]

    assert set(tables) - set(schema.DESTROYED) == {schema.LEDGER, schema.DAYS}


class Restoring:
    """The tables of a user, which keep the rows of one table as they were before each block."""

    def __init__(self, tables, table):
        self.tables, self.table = tables, table

    def run(self, work, **options):
        rows = self.tables.run(lambda block: block.select(self.table))
        answer = self.tables.run(work, **options)
        self.tables.run(lambda block: [block.put(self.table, row) for row in rows])
        return answer


@pytest.mark.parametrize("table", [schema.MESSAGES, schema.TURNS], ids=["messages", "turns"])
def test_sweep_of_rows_that_a_store_keeps_ends_with_an_error(table):
    database = InMemoryDatabase(UserId(uuid4()))
    chat_id = database.hold("Garden", "When do I sow peas?", "In March.")
    database.conversations.discard(chat_id, 0)
    tables = Restoring(database.tables, table)

    with pytest.raises(RuntimeError, match="keeps rows"):
        TablesRows(database.user_id, tables, database.now).destroy_due()
