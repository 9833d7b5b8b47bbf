"""Texts and keys of a conversation in the memory of a process, before and after its deletion."""

import random
from uuid import uuid4

import pytest

from services.caches import CachedRead
from services.chat.search import Search
from services.domain import AccountRole, MessageId, Purpose, Retrieval, RunningSummary, Summary
from services.domain.accounts import SessionEnd
from services.domain.memories import NotedFact
from services.domain.models import ModelSettings
from services.domain.revisions import OpenPlace
from services.llm import Models, Offer
from services.settings import Settings
from services.users import Shared, UserServices, session_cache
from services.users.message_search import Asked
from tests import leaks
from tests.chats import SMALL, done, settled
from tests.fakes import choose
from tests.stack.apps import until
from tests.store.conformance.talk import NOON, a_fact
from tests.store.conftest import PASSWORD, ledger

# the backend does not matter for the memory of a process
pytestmark = [
    pytest.mark.parametrize(
        "stack", ["embedded_stack"], indirect=True, ids=["embedded"], scope="session"
    ),
    pytest.mark.usefixtures("older_objects_frozen"),
]


@pytest.fixture
def shared(sessions, model):
    settings = Settings(DAYBOOK_INSTRUCTIONS="Be kind.", DAYBOOK_TITLES=False)
    models = Models(Offer(SMALL, model))
    return Shared(sessions, settings, lambda: models, CachedRead(ModelSettings))


def fill(person, policy, server, canary):
    """Return a conversation with *canary* in every kind of text, each of which was read."""
    kept, chat, long = person.store.conversations, person.chat, "peas " * 150
    choose(person.store.profile, recalls_elsewhere=True)
    choose(person.store.profile, policy=policy)
    thought = f"{canary} thoughts "
    server.script(reply=f"{canary} reply", thoughts=2, thought=thought, fault="drop", after=2)
    conversation_id = done(chat.begin(None, f"{canary} title and prompt {long}")).conversation_id
    kept.set_instructions(conversation_id, f"{canary} instructions")
    summary = RunningSummary(text=f"{canary} summary", from_seq=1, up_to_seq=1, made_at=NOON)
    kept.set_summary(kept.thread(conversation_id), summary)
    person.store.facts.keep(a_fact(f"{canary} fact", conversation_id=conversation_id))
    server.script_summaries(reply=f"{canary} so far", fault="drop", after=2)
    for _ in range(4):
        chat.open(conversation_id)
        turn = chat.begin(conversation_id, f"{canary} prompt {long}")
        thread = settled(chat, turn)
        assert turn.failure
    has_failed = bool(chat.tasks.registry.failure(Purpose.SUMMARY, conversation_id))
    assert has_failed is policy.kind.needs_summary
    person.store.turns.receipts(thread.messages, conversation_id)
    person.store.turns.thoughts(thread.messages, conversation_id)
    look_around(person, server)
    kept.recent()
    kept.titled(canary)
    chat.open(conversation_id)
    return conversation_id


def look_around(person, server):
    """Open all conversations; the model server forgets its requests."""
    server.script()
    server.script_summaries()
    person.store.facts.facts()
    person.chat.open(done(person.chat.begin(None, "Other")).conversation_id)
    for requests in (server.requests, *server.asides.values()):
        requests.clear()


def a_canary():
    """Return a unique word that is as short as a stem."""
    return "".join(["q", *random.choices("bcdfghjkmpvwxz", k=6)])


@pytest.mark.parametrize("policy", [Retrieval(), Summary()])
def test_deleted_conversation_leaves_no_key_or_text_in_memory(person, maya, server, policy):
    canary = a_canary()
    conversation_id = fill(person, policy, server, canary)
    row = maya.backend.rows().conversation(conversation_id)
    key = maya.user_keys.unwrap(
        row.wrapped_key, row.user_key_version, conversation_id, row.key_version
    )
    assert leaks.found(key, in_new=True)
    texts = " ".join(leaks.found(canary, in_new=True))
    kinds = "title", "prompt", "reply", "thoughts", "instructions", "summary", "fact", '"policy"'
    for kind in kinds:  # a comprehension would keep the texts in a cell
        assert kind in texts

    person.chat.deletions.discard(conversation_id, 20)
    look_around(person, server)

    assert leaks.found(canary, key) == set()


def test_cleared_server_memory_holds_no_text(shared, sign_up, server):
    cookie, maya = sign_up()
    shared.session_cache.add(
        cookie, maya
    )  # its own cookie: a check of another one ends the session
    canary = a_canary()
    conversation_id = fill(shared.find(maya.id), Retrieval(), server, canary)
    fact = NotedFact(a_fact(f"{canary} noted", conversation_id=conversation_id))
    prompt_id = MessageId(uuid4())
    assert shared.background.claim(Purpose.FACTS, maya.user_id, conversation_id, prompt_id)
    shared.background.end(Purpose.FACTS, conversation_id, prompt_id, noted=(fact,))
    del fact
    server.script(reply=f"{canary} partial", fault="drop", after=2)
    assert done(shared.find(maya.id).chat.begin(conversation_id, f"{canary} last")).failure
    server.script()
    server.requests.clear()
    until(lambda: shared.find(maya.id).search(Asked(words=canary)).count)
    assert "noted" in " ".join(leaks.found(canary, in_new=True))

    shared.find(maya.id).drop_caches()

    assert leaks.found(canary) == set()


def test_clearing_stops_the_search_index_in_progress(shared, sign_up, monkeypatch):
    cookie, maya = sign_up()
    shared.session_cache.add(cookie, maya)
    user, stopped = shared.find(maya.id), []
    monkeypatch.setattr(Search, "stop", lambda search: stopped.append(search))

    user.drop_caches()

    assert stopped == [user.tasks.planning.search]


def test_background_call_of_before_a_clearing_ends_with_its_session(
    stack, sessions, sign_up, model, server
):
    cookie, session = sign_up()
    models = Models(Offer(SMALL, model))
    shared = Shared(
        sessions,
        Settings(OPENAI_BASE_URL=server.url, DAYBOOK_MODEL="m"),
        lambda: models,
        CachedRead(ModelSettings),
    )
    shared.session_cache.add(cookie, session)
    server.script_titles(reply="Never", fault="hang", after=1)
    done(shared.find(session.id).chat.begin(None, "When do I sow peas?"))
    server.wait_until(lambda s: s.title_requests and s.title_requests[0].sent)

    shared.find(session.id).drop_caches()
    shared.session_cache.leave(cookie)

    entries = ledger(stack, session)
    assert [(kind, purpose) for kind, purpose, *_ in entries] == [
        ("charge", "reply"),
        ("charge", "title"),
    ]


@pytest.mark.parametrize("end", ["delete", "suspend"])
def test_ended_account_leaves_nothing_in_another_process(
    stack, shared, sign_up, server, process, model, monkeypatch, end
):
    cookie, here = sign_up()
    closed = []
    models = Models(Offer(SMALL, model))
    other = Shared(
        process,
        Settings(OPENAI_BASE_URL=server.url, DAYBOOK_MODEL="m"),
        lambda: models,
        CachedRead(ModelSettings),
        closed.append,
    )
    there = other.session_cache.find(cookie)  # an open tab of the other process
    assert there
    session_id, canary = there.id, a_canary()
    conversation_id = fill(other.find(session_id), Retrieval(), server, canary)
    row = there.backend.rows().conversation(conversation_id)
    key = there.user_keys.unwrap(
        row.wrapped_key, row.user_key_version, conversation_id, row.key_version
    )
    kinds = {type(one) for one in leaks.found(canary, key, in_new=True)}
    assert kinds == {str, bytes}  # texts and keys
    del there

    if end == "delete":
        UserServices(here, shared).administration.delete(here.user_id)
    else:
        with stack.connect() as rows:
            query = "update private.roles set suspended_at = now() where user_id = %s"
            rows.execute(query, [here.user_id])
            rows.execute("select private.end_sessions_of(%s)", [here.user_id])
    del here
    monkeypatch.setattr(session_cache, "_ENDED_SECONDS", 0.0)
    other.session_cache.forget_ended()

    assert closed == [session_id]
    assert leaks.found(canary, key) == set()
    ends = {"delete": SessionEnd.DELETED, "suspend": SessionEnd.SUSPENDED}
    assert other.session_cache.why_ended(cookie) is ends[end]


def test_deleted_account_leaves_nothing_in_its_process(sessions, shared, sign_up, server):
    cookie, here = sign_up()
    shared.session_cache.add(cookie, here)
    session_id, user_id, canary = here.id, here.user_id, a_canary()
    other, there = sessions.sign_in_with(here.email, PASSWORD)
    shared.session_cache.add(other, there)  # another browser, whose tabs are closed
    fill(shared.find(there.id), Retrieval(), server, canary)
    del here, there
    assert leaks.found(canary, in_new=True)

    shared.find(session_id).access.delete(user_id)

    assert leaks.found(canary) == set()


def test_recall_switched_off_elsewhere_is_off_after_a_poll(shared, sign_up, process, model):
    cookie, here = sign_up()
    mine = UserServices(here, shared).store.profile
    choose(mine, recalls_elsewhere=True)
    models = Models(Offer(SMALL, model))
    other = Shared(process, Settings(), lambda: models, CachedRead(ModelSettings))
    there = other.find(other.session_cache.find(cookie).id)
    assert there.store.profile.preferences().recalls_elsewhere

    choose(mine, recalls_elsewhere=False)
    there.poll(OpenPlace())

    assert not there.store.profile.preferences().recalls_elsewhere


def test_poll_is_one_call(sign_up, process, wire, model):
    cookie, _ = sign_up()
    settings = CachedRead(process.backend.model_settings)
    other = Shared(process, Settings(), lambda: Models(Offer(SMALL, model)), settings)
    there = other.find(other.session_cache.find(cookie).id)
    store = there.store
    for read in (store.profile.preferences, store.spaces.all, store.facts.facts, settings.get):
        read()  # the data that was read ahead
    assert (store.conversations.recent(31), there.account.role) == ([], AccountRole.USER)
    before = wire.calls

    for _ in range(3):
        there.poll(OpenPlace())

    assert wire.calls == before + 3
