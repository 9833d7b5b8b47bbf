"""Who is kept in the memory of a process, and for how long."""

from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services import bootstrap
from services.chat import LiveTurns, Noting, Summarising, TemporaryChats
from services.chat.noting import Noted
from services.domain import ConversationId, Fact, FactId, MessageId, UserId
from services.settings import Settings
from services.store.gateway import Answer
from tests.fakes import FakePerson, MemoryConversations, ScriptedModel


@pytest.mark.parametrize("is_left", [False, True])
def test_who_leaves_while_their_services_are_made_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, is_left: bool
):
    session = SimpleNamespace(id=uuid4())
    here = [session, None if is_left else session]
    shared = SimpleNamespace(
        visitors=SimpleNamespace(by_id=lambda _: here.pop(0)),
        people={},
        live_turns=None,
        models=None,
        sweep=None,
        titling=None,
        summarising=None,
        noting=None,
        temporary=None,
        counter=None,
    )
    monkeypatch.setattr(bootstrap, "_shared", lambda: shared)
    begun = SimpleNamespace(settings=Settings())
    monkeypatch.setattr(bootstrap, "_begun", lambda: begun)

    person = bootstrap.person_services(str(session.id))

    assert shared.people == ({} if is_left else {session.id: person})
    assert (person is None) is is_left


def test_what_was_noted_leaves_the_memory_with_the_last_session_of_its_person():
    maya, omar = UserId(uuid4()), UserId(uuid4())
    noting, people = Noting(), {}
    sessions = [SimpleNamespace(id=uuid4(), user_id=user_id) for user_id in (maya, maya, omar)]
    noted = Noted(Fact(id=FactId(uuid4()), text="Has a dog.", since=datetime.now(UTC)))
    rooms = {user_id: ConversationId(uuid4()) for user_id in (maya, omar)}
    for session in sessions:
        people[session.id] = SimpleNamespace(conversations=session)
    for user_id, room in rooms.items():
        noting.over(user_id, room, MessageId(uuid4()), (noted,))

    bootstrap._forget(sessions[0], people, TemporaryChats(), noting)
    assert noting.noted(rooms[maya]) == (noted,)  # on another device they are still here

    bootstrap._forget(sessions[1], people, TemporaryChats(), noting)
    assert noting.noted(rooms[maya]) == ()
    assert noting.noted(rooms[omar]) == (noted,)


def test_what_is_coming_in_temporary_chats_is_stopped_with_the_process(
    monkeypatch: pytest.MonkeyPatch,
):
    maya = FakePerson(MemoryConversations(), ScriptedModel())
    maya.model.gate.clear()
    chat, temporary = (
        maya.begin_temporary(reads_facts=False, is_there=lambda: True),
        TemporaryChats(),
    )
    temporary.add(chat)
    turn = chat.chat.begin(None, "Hello")
    shared = SimpleNamespace(
        titling=None,
        summarising=Summarising(),
        noting=Noting(),
        temporary=temporary,
        live_turns=LiveTurns(),
    )
    monkeypatch.setattr(bootstrap, "_is_built", lambda: True)
    monkeypatch.setattr(bootstrap, "_shared", lambda: shared)

    bootstrap.stop_turns()

    assert turn.is_done
    assert len(maya.books.settled) == 1


def test_the_sweep_goes_on_until_nothing_is_due():
    answers = [Answer(ok=True, more=True), Answer(ok=True, more=False)]
    server = SimpleNamespace(call=lambda *_, **__: answers.pop(0))
    unused = dict.fromkeys(("gateway", "visitors", "live_turns", "titling", "models", "people"))

    bootstrap.Shared(server=server, **unused).sweep_all()

    assert answers == []
