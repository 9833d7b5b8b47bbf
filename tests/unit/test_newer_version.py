"""Documents and chats that a newer version of the app stored: this version shows them, and overwrites nothing that it cannot read."""

import json
from dataclasses import replace
from datetime import UTC
from types import SimpleNamespace

import pytest

from services.domain import Full, MemoryPolicy, NewConversation, Outcome, Role, Summary
from services.domain.turns import TurnState
from services.errors import NewerVersion
from services.portable import ConversationExport, to_json, to_markdown
from services.store.sealed import turns as sealed_turns
from services.store.sealed.seals import Format
from services.store.tables import rows as table_rows
from services.store.tables.schema import CONVERSATIONS, MESSAGES, TURNS
from tests.fakes import choose
from tests.store.conformance.talk import LEASE_SECONDS, SUMMARY, THOUGHTS, a_space, new_turn


@pytest.fixture
def newer(monkeypatch, database):
    """Return a function that runs an act in a process of a newer version, which adds *more* to each document."""

    def newer(act, **more):
        write = Format.write
        with monkeypatch.context() as patch:
            patch.setattr(
                Format, "write", lambda *given: json.dumps(json.loads(write(*given)) | more)
            )
            act(database.store())

    return newer


@pytest.fixture
def written(monkeypatch):
    """The texts of documents written from now on, without the data that newer processes add."""
    texts, write = [], Format.write
    monkeypatch.setattr(Format, "write", lambda *given: texts.append(write(*given)) or texts[-1])
    return texts


UNKNOWN_POLICY = {"policy": {"name": "vector", "messages": 8, "dimensions": 3}}


def test_unknown_policy_of_preferences_stays_beside_a_change(database, newer, written):
    newer(lambda store: choose(store.profile, theme="dark"), **UNKNOWN_POLICY)
    older = database.store()

    choose(older.profile, theme="light")

    assert json.loads(written[-1]) == json.loads(written[0]) | UNKNOWN_POLICY | {"theme": "light"}


def test_preferences_with_an_unknown_theme_are_not_written_over(database, newer):
    newer(lambda store: choose(store.profile, theme="dark"), theme="sepia")
    before, older = dict(database.tables.documents), database.store()

    with pytest.raises(NewerVersion):
        choose(older.profile, theme="light")

    assert older.profile.preferences().is_newer
    assert database.tables.documents == before


def test_unknown_policy_of_a_space_stays_beside_a_change(database, newer, written):
    newer(lambda store: store.spaces.keep(a_space(policy=Summary())), **UNKNOWN_POLICY)
    older = database.store()
    [space] = older.spaces.all()

    older.spaces.keep(replace(space, name="Garden"), replaces=space)

    assert json.loads(written[-1])["policy"] == UNKNOWN_POLICY["policy"]


def test_space_with_an_unknown_value_is_not_written_over(database, newer):
    newer(lambda store: store.spaces.keep(a_space()), uses_personal_facts="some")
    before, older = dict(database.tables.documents), database.store()
    [space] = older.spaces.all()

    with pytest.raises(NewerVersion):
        older.spaces.keep(replace(space, name="Garden"), replaces=space)
    assert space.is_newer

    assert database.tables.documents == before


def test_unreadable_preferences_are_replaced(database):
    choose(database.store().profile, theme="dark")
    database.spoil("preferences", database.user_id)
    older = database.store()

    choose(older.profile, theme="light")

    assert older.profile.preferences().theme == "light"


def test_unknown_fields_of_a_summary_stay(database, newer, written):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    newer(
        lambda store: store.conversations.set_summary(store.conversations.thread(garden), SUMMARY),
        style="short",
    )
    older = database.store()
    thread = older.conversations.thread(garden)
    assert thread.summary == SUMMARY

    older.conversations.set_summary(thread, replace(SUMMARY, text="They sow beans."))

    assert json.loads(written[-1])["style"] == "short"


# --- chats ------------------------------------------------------------------------------------------


def change(database, table, key, **columns):
    """Change stored columns, as a process of a newer version may do."""
    row = database.tables.all(table)[key]
    database.tables.store(table, replace(row, **columns))


def with_policy(database, garden):
    change(database, CONVERSATIONS, garden, policy="vector", policy_size=8)


def with_outcome(database, garden):
    reply = database.thread(garden).messages[-1]
    change(database, MESSAGES, reply.id, outcome=Outcome("filtered"))


def with_role(database, garden):
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(sealed_turns, "Role", SimpleNamespace(USER=Role.USER, ASSISTANT=TOOL))
        newer.setattr(table_rows, "Role", SimpleNamespace(USER=Role.USER, ASSISTANT=TOOL))
        database.go_on(garden, "What is 2 + 2?", "4")


def with_turn(database, garden):
    turn = list(database.tables.turns.values())[-1]
    change(database, TURNS, turn.id, state=TurnState("queued"))


def with_summary(database, garden):
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(Format, "write", lambda *_: '{"parts": ["They sow peas."]}')
        conversations = database.store().conversations
        conversations.set_summary(conversations.thread(garden), SUMMARY)


TOOL = Role("tool")
PARTS = [with_policy, with_outcome, with_role, with_turn, with_summary]


@pytest.fixture(params=PARTS, ids=lambda part: part.__name__)
def garden(request, database):
    """A chat of which a newer version stored a part with an unknown value."""
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    request.param(database, garden)
    return garden


def test_newer_chat_is_read(maya, garden):
    view = maya.chat.view(garden)

    said = [message.body for message in view.thread.branch()]
    assert (said[:2], view.thread.is_whole) == (["When do I sow peas?", "In March."], True)
    assert view.thread.is_newer


@pytest.mark.parametrize(
    "send",
    [
        lambda maya, garden, *_: maya.chat.begin(garden, "Why?"),
        lambda maya, garden, *_: maya.chat.retry(garden),
        lambda maya, garden, *_: maya.chat.retry(garden, policy=Full()),
        lambda maya, garden, prompt, _: maya.chat.edit_prompt(garden, prompt.id, "Beans?"),
        lambda maya, garden, _, reply: maya.chat.edit_reply(garden, reply.id, "In April."),
    ],
    ids=["begin", "retry", "policy", "edit prompt", "edit reply"],
)
def test_nothing_is_sent_in_a_newer_chat(maya, garden, send):
    prompt, reply, *_ = maya.database.thread(garden).messages

    with pytest.raises(NewerVersion):
        send(maya, garden, prompt, reply)

    assert maya.model.seen == []


def test_newer_chat_is_exported(maya, garden):
    exported = ConversationExport(thread=maya.chat.open(garden))
    conversation, *messages = (
        json.loads(to_json(exported))["conversation"],
        *exported.thread.messages,
    )
    assert "In March." in to_markdown(exported, UTC)
    assert conversation["policy"]["name"] in ("vector", "window")
    assert all(str(message.role) in to_json(exported) for message in messages)


def test_newer_chat_is_renamed_and_deleted(maya, garden):
    maya.store.conversations.rename(garden, "Peas")
    assert maya.database.thread(garden).conversation.title == "Peas"

    maya.deletions.discard(garden)
    assert maya.store.conversations.recent() == []


def test_newer_summary_is_not_written_over(maya, database):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    with_summary(database, garden)
    thread, before = maya.chat.open(garden), database.tables.all(CONVERSATIONS)

    with pytest.raises(NewerVersion):
        maya.store.conversations.set_summary(thread, SUMMARY)

    assert database.tables.all(CONVERSATIONS) == before


def test_unknown_role_that_does_not_open_is_tampered(maya, database):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    change(database, MESSAGES, database.thread(garden).messages[-1].id, role=TOOL)

    thread = maya.chat.open(garden)

    assert (thread.is_whole, thread.messages[-1].is_verified) == (False, False)
    assert not thread.is_newer


@pytest.mark.parametrize("name", ["Tool", "", "tool!", "t" * 31, 3])
def test_name_of_another_form_is_refused(name):
    with pytest.raises(ValueError, match="is not a valid Role"):
        Role(name)


def test_new_chat_passes_over_a_newer_policy_of_its_space(maya):
    maya.spaces.keep(space := a_space(policy=MemoryPolicy("vector", 8)))

    assert maya.chat.new_view(
        NewConversation(space_id=space.id)
    ).thread.conversation.policy.is_known


def test_open_turn_in_an_unknown_state_lapses_as_if_called(database):
    garden = database.hold("Garden", "When do I sow peas?", "In March.")
    begun = database.store().turns.begin(new_turn(database.thread(garden), "And beans?"))
    change(database, TURNS, begun.turn_id, state=TurnState("queued"))

    database.let_pass(LEASE_SECONDS + 1)
    database.sweep()

    turn = database.tables.turns[begun.turn_id]
    assert (turn.state, turn.charged_micro) == (TurnState.LAPSED, begun.reserved_micro)
    assert database.ledger.reserved == 0


@pytest.mark.parametrize("thoughts", ['{"seconds": "some"}', "no JSON"])
def test_crashed_turn_with_unreadable_thoughts_keeps_its_words(
    maya, database, monkeypatch, thoughts
):
    garden = database.hold("Garden", "When do I sow peas?")
    with monkeypatch.context() as newer:
        newer.setattr(Format, "write", lambda *_: thoughts)
        database.crash(garden, "In Ma", THOUGHTS)

    assert [message.body for message in maya.chat.open(garden).messages][1:] == ["In Ma"]
