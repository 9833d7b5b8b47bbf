"""The registry of background tasks: claims, and the state after a task."""

from datetime import timedelta
from queue import Queue
from uuid import uuid4

import pytest

from services.chat import task_registry
from services.chat.task_registry import BackgroundTasks
from services.domain import ConversationId, MessageId, Purpose, UserId
from services.domain.memories import NotedFact
from services.errors import StoreUnavailable
from tests.store.conformance.talk import a_fact

MAYA, GARDEN = UserId(uuid4()), ConversationId(uuid4())
FIRST, SECOND = MessageId(uuid4()), MessageId(uuid4())
DOG = NotedFact(a_fact())


@pytest.fixture
def tasks():
    return BackgroundTasks(Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS)


@pytest.mark.parametrize("purpose", [Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS])
def test_ended_task_leaves_none_running(tasks, purpose):
    assert tasks.claim(purpose, MAYA, GARDEN, FIRST)
    assert not tasks.claim(purpose, MAYA, GARDEN, SECOND)

    tasks.end(purpose, GARDEN, FIRST)

    assert tasks.coming(MAYA, purpose) == frozenset()


def test_postponed_work_begins_once_after_the_silence():
    tasks, begun = BackgroundTasks(Purpose.FACTS, silence=timedelta(0)), Queue()
    tasks.postpone(Purpose.FACTS, MAYA, GARDEN, lambda: begun.put("earlier"))
    tasks.postpone(Purpose.FACTS, MAYA, GARDEN, lambda: begun.put("later"))
    assert tasks.is_postponed(Purpose.FACTS, GARDEN)

    tasks.begin_due()
    tasks.begin_due()

    assert begun.get(timeout=60) == "later"
    assert not tasks.is_postponed(Purpose.FACTS, GARDEN)
    assert begun.empty()


@pytest.mark.parametrize("end", ["claim", "forget", "drop_noted"])
def test_postponed_work_is_dropped(tasks, end):
    tasks.postpone(Purpose.FACTS, MAYA, GARDEN, lambda: None)

    if end == "claim":
        assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    else:
        getattr(tasks, end)(MAYA)

    assert not tasks.is_postponed(Purpose.FACTS, GARDEN)


@pytest.mark.parametrize("drop", [None, "forget", "drop_noted"])
def test_failed_task_is_postponed_unless_its_text_was_dropped(tasks, drop):
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    if drop:
        getattr(tasks, drop)(MAYA)

    tasks.end(Purpose.FACTS, GARDEN, error=StoreUnavailable(), again=lambda: None)

    assert tasks.is_postponed(Purpose.FACTS, GARDEN) is not bool(drop)


def test_work_of_another_purpose_is_not_postponed():
    tasks = BackgroundTasks(Purpose.SUMMARY)

    tasks.postpone(Purpose.FACTS, MAYA, GARDEN, lambda: None)

    assert not tasks.is_postponed(Purpose.FACTS, GARDEN)


def test_facts_leave_memory_though_a_task_is_running(tasks):
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    tasks.end(Purpose.FACTS, GARDEN, FIRST, noted=(DOG,))
    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, SECOND)

    tasks.forget(MAYA)
    tasks.end(Purpose.FACTS, GARDEN, SECOND, noted=(DOG,))

    assert tasks.noted(GARDEN) == ()


@pytest.mark.parametrize("is_running", [True, False])
def test_task_that_runs_or_waits_outlives_results_of_others(monkeypatch, is_running):
    monkeypatch.setattr(task_registry, "_MOST_RESULTS", 1)
    tasks = BackgroundTasks(Purpose.FACTS)
    if is_running:
        assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, FIRST)
    else:
        tasks.postpone(Purpose.FACTS, MAYA, GARDEN, lambda: None)

    for _ in range(3):
        other = ConversationId(uuid4())
        assert tasks.claim(Purpose.FACTS, UserId(uuid4()), other, FIRST)
        tasks.end(Purpose.FACTS, other, FIRST)

    assert tasks.claim(Purpose.FACTS, MAYA, GARDEN, SECOND) is not is_running
    assert tasks.coming(MAYA, Purpose.FACTS) == {GARDEN}
    tasks.end(Purpose.FACTS, GARDEN, SECOND, noted=(DOG,))
    assert tasks.noted(GARDEN) == (DOG,)
