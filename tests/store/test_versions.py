"""Two versions on one database: the older process started before the migration of the newer one, which is this version, patched."""

import multiprocessing
import sys
from datetime import UTC, date
from types import ModuleType, SimpleNamespace

import pytest

from services.crypto import RootKeys
from services.domain import MemoryPolicy, Outcome, Purpose, Role
from services.domain.policies import POLICIES, PolicyKind
from services.errors import NewerVersion, SignedOut, Stale
from services.portable import to_json, to_markdown
from services.store.accounts import Accounts, Cookie
from services.store.sealed import turns as sealed_turns
from services.users.full_export import read_export
from tests.chats import done, said
from tests.stack.apps import SECONDS
from tests.store.conformance.talk import answer, ending, new_turn
from tests.stores import backend_at, store_of

NEWER_ROLES = "in ('user', 'admin')", "in ('user', 'admin', 'auditor')"
ALL_TIME = date(2000, 1, 1), date(2999, 12, 31)


def go_on_in_newer_process(url, key, root_keys, cookie, conversation_id):
    """Answer a prompt as a newer version does: with a role, an outcome, a purpose and a policy of its own."""
    POLICIES["vector"] = PolicyKind("vector", messages=8)
    sealed_turns.Role = SimpleNamespace(USER=Role.USER, ASSISTANT=Role("tool"))
    keys = RootKeys.parse(root_keys)
    process = Accounts(backend_at(url, key, keys), keys, idle_seconds=3600, lifetime_seconds=86400)
    store = store_of(process.open(Cookie.parse(cookie)))
    thread = store.conversations.thread(conversation_id)
    filtered = Outcome("filtered")
    thread = answer(store, new_turn(thread, "And beans?"), "In May.", outcome=filtered)
    debate = new_turn(thread, None, prompt_id=thread.messages[0].id, purpose=Purpose("debate"))
    store.turns.finish(ending(debate, store.turns.begin(debate), ""))
    store.conversations.set_policy(conversation_id, POLICIES["vector"]())


@pytest.fixture
def migrate(stack):
    """Edit functions as the migration of a newer version would, until the end of the test."""
    before = {}

    def edit(name, old, new):
        with stack.connect() as database:
            query = "select pg_get_functiondef(%s::regproc)"
            (definition,) = database.execute(query, [f"private.{name}"]).fetchone()
            before.setdefault(name, definition)
            assert old in definition
            database.execute(definition.replace(old, new))

    yield edit
    with stack.connect() as database:
        for definition in before.values():
            database.execute(definition)


@pytest.fixture
def older(sign_up, make_chat):
    """A process that has read a conversation before the migration; its cookie, chat and conversation."""
    cookie, session = sign_up()
    chat = make_chat(session)
    garden = done(chat.begin(None, "When do I sow peas?")).conversation_id
    chat.open(garden)
    return cookie, chat, garden


@pytest.fixture
def newer(stack, migrate, older, monkeypatch):
    """Migrate, and let the newer process continue the conversation."""
    cookie, _, garden = older
    migrate("begin_turn", "'facts')", "'facts', 'debate')")
    migrate("finish_turn", "in ('complete',", "in ('filtered', 'complete',")
    migrate("finish_turn", "'assistant', outcome", "'tool', outcome")
    arguments = stack.url, stack.publishable_key, stack.root_keys, str(cookie), garden
    context = multiprocessing.get_context("spawn")
    # a spawned process imports `__main__`, which after a test of a page is streamlit_app.py and
    # would start an app
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    process = context.Process(target=go_on_in_newer_process, args=arguments)
    process.start()
    process.join(SECONDS)
    assert process.exitcode == 0


def test_older_process_reads_exports_renames_and_deletes(older, newer, server):
    _, chat, garden = older
    first = said(chat.store.conversations.cached(garden))
    with pytest.raises(Stale):  # the older process has not read the new messages
        chat.begin(garden, "Why?")

    thread = chat.open(garden)

    assert (said(thread), thread.is_whole) == ([*first, "And beans?", "In May."], True)
    last, policy = thread.messages[-1], thread.conversation.policy
    assert (last.role, last.outcome, policy) == ("tool", "filtered", MemoryPolicy("vector", 8))
    asked = len(server.requests)
    with pytest.raises(NewerVersion):
        chat.begin(garden, "Why?")
    with pytest.raises(NewerVersion):
        chat.retry(garden)
    assert len(server.requests) == asked
    exported = read_export(chat.store, garden)
    assert '"role": "tool"' in to_json(exported)
    assert "In May." in to_markdown(exported, UTC)
    chat.store.conversations.rename(garden, "Peas")
    assert [one.title for one in chat.store.conversations.recent()] == ["Peas"]
    chat.deletions.discard(garden)
    assert chat.store.conversations.recent() == []


def test_older_process_reports_what_a_newer_one_spent(older, newer):
    _, chat, _ = older

    report, entries = (
        read(*ALL_TIME) for read in (chat.store.usage.report, chat.store.usage.ledger)
    )

    spent = {one.purpose: one.cost_micro for one in report.purposes}
    assert spent.keys() == {"reply", "debate"}
    assert sum(spent.values()) == sum(one.cost_micro for one in entries)
    assert [one.outcome for one in entries] == ["complete", "filtered", "complete"]


def test_unknown_role_may_do_nothing_in_an_older_process(older, sessions, stack, migrate):
    cookie, chat, _ = older
    for name in ("me", "open_session"):
        migrate(name, *NEWER_ROLES)
    with stack.connect() as database:
        statement = "update private.roles set role = 'auditor' where user_id = %s"
        database.execute(statement, [chat.store.turns.user_id])

    with pytest.raises(SignedOut):
        sessions.open(cookie)
    assert not sessions.backend.is_alive(cookie.hash)
