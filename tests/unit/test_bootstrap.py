"""Who is kept in the memory of a process, and for how long."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from services import bootstrap
from services.chat import LiveTurns, Noting, Summarising, TemporaryChats
from services.settings import Settings
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
