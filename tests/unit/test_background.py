"""The registry of background tasks: claims, and what is left of them."""

from uuid import uuid4

import pytest

from services.chat.background import BackgroundTasks
from services.domain import ConversationId, MessageId, Purpose, UserId
from services.domain.memories import NotedFact
from tests.store.conformance.talk import a_fact

MAYA, GARDEN = UserId(uuid4()), ConversationId(uuid4())
FIRST, SECOND = MessageId(uuid4()), MessageId(uuid4())
DOG = NotedFact(a_fact())


@pytest.fixture
def tasks():
    return BackgroundTasks(Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS)


@pytest.mark.parametrize("purpose", [Purpose.TITLE, Purpose.SUMMARY])
def test_title_and_summary_leave_no_task_waiting(tasks, purpose):
    assert tasks.claim(purpose, MAYA, GARDEN, FIRST)
    assert not tasks.claim(purpose, MAYA, GARDEN, SECOND)

    assert tasks.end(purpose, GARDEN, FIRST) is None

    assert tasks.coming(MAYA, purpose) == frozenset()


def test_newest_prompt_waits_while_facts_are_noted(tasks):
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    assert not tasks.claim(Purpose.FACTS, MAYA, GARDEN, SECOND)

    assert tasks.end(Purpose.FACTS, GARDEN, FIRST, noted=(DOG,)) == SECOND

    assert tasks.coming(MAYA, Purpose.FACTS) == {GARDEN}
    assert tasks.end(Purpose.FACTS, GARDEN, SECOND) is None
    assert not tasks.claim(Purpose.FACTS, MAYA, GARDEN, SECOND)


def test_facts_leave_memory_though_a_task_is_running(tasks):
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    tasks.end(Purpose.FACTS, GARDEN, FIRST, noted=(DOG,))
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, SECOND)

    tasks.forget(MAYA)
    tasks.end(Purpose.FACTS, GARDEN, SECOND, noted=(DOG,))

    assert tasks.noted(GARDEN) == ()
