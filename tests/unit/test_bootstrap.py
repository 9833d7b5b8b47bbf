"""Who is kept in the memory of a process, and for how long."""

from types import SimpleNamespace
from uuid import uuid4

import pytest

from services import bootstrap


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
        counter=None,
    )
    monkeypatch.setattr(bootstrap, "_shared", lambda: shared)
    begun = SimpleNamespace(settings=SimpleNamespace(instructions="Be kind."))
    monkeypatch.setattr(bootstrap, "_begun", lambda: begun)

    person = bootstrap.person_services(str(session.id))

    assert shared.people == ({} if is_left else {session.id: person})
    assert (person is None) is is_left
