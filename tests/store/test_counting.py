"""Planning and forecasting by what the endpoint counted: all real but the model, which counts by characters."""

from dataclasses import replace

import pytest

from services.domain import Retrieval, Summary, Window
from services.domain.context import Forecast
from services.errors import ModelFailure, ModelUnavailable, StoreUnavailable
from services.memory.forecast import Calibration
from tests.model_server import prompt_tokens
from tests.store.conftest import done
from tests.store.test_summaries import SMALL, receipt_of, settled

CHINESE = ("豌豆什么时候种最好呢", "三月里等地面不再结冰的时候就种。" * 6)
CODE = ("def sow(peas):\n    return peas[1:]  # 7", "for bed in beds:\n    sow(bed.peas, 12)\n" * 6)
OTHER = replace(SMALL, name="other")


@pytest.fixture
def chat(maya, make_chat, server):
    server.script(reply=CHINESE[1], signs=2)
    server.requests.clear()
    return make_chat(maya, info=SMALL, others=(OTHER,))


def ask(chat, thread=None, prompt=CHINESE[0]):
    turn = done(chat.begin(thread.conversation.id if thread else None, prompt))
    assert turn.failure is None
    return settled(chat, turn.conversation_id)


def view(chat, thread):
    return chat.planning.view(thread, chat.setup(thread))


def forecast(chat, thread):
    return chat.planning.forecast(thread, chat.setup(thread), view(chat, thread))


def last_receipt(chat, thread):
    return receipt_of(chat, thread, thread.messages[-1])


@pytest.mark.parametrize("talk", [CHINESE, CODE], ids=["Chinese", "code"])
def test_the_next_prompt_is_forecast_as_the_endpoint_then_counts_it(chat, server, talk):
    prompt, reply = talk
    server.script(reply=reply, signs=2)
    thread = ask(chat, None, prompt)
    for _ in range(4):
        found = forecast(chat, thread)
        thread = ask(chat, thread, prompt)
        counted = prompt_tokens(server.requests[-1], signs=2) - 4 - len(prompt) // 2

        assert found.is_anchored
        assert found.tokens == pytest.approx(counted, rel=0.02)


def test_without_the_last_call_it_is_forecast_by_what_was_learned(chat, make_chat, maya, server):
    thread = None
    for _ in range(5):
        thread = ask(chat, thread)

    found = forecast(make_chat(maya, info=SMALL), thread)

    now = forecast(chat, thread)
    assert (now.is_anchored, found.is_anchored) == (True, False)
    assert found.tokens == pytest.approx(now.tokens, rel=0.1)
    assert view(chat, thread).prompt_tokens < now.tokens * 1.6  # by the plain count: 3.4


@pytest.mark.parametrize(
    "policy", [Window(), Summary(), Retrieval()], ids=["window", "summary", "recall"]
)
def test_another_process_plans_the_same_from_the_same_rows(chat, make_chat, maya, server, policy):
    server.script_summaries(reply="他们种豌豆。", signs=2)
    thread = ask(chat)
    chat.store.conversations.set_policy(thread.conversation.id, policy)
    for _ in range(9):
        thread = ask(chat, thread)
        assert view(make_chat(maya, info=SMALL), thread) == view(chat, thread)

    assert prompt_tokens(server.requests[-1], signs=2) > 500  # by the plain count it were 300


def test_a_first_turn_knows_of_the_model_from_other_conversations(chat):
    first = last_receipt(chat, ask(chat))
    second = last_receipt(chat, ask(chat))

    assert first.calibration == Calibration()
    assert "han" in second.calibration.by_kind
    assert second.prompt_tokens == first.prompt_tokens  # and is planned without


def test_after_a_restart_it_goes_on_learning_where_it_was(chat, make_chat, maya):
    thread = None
    for _ in range(4):
        thread = ask(chat, thread)
    before = last_receipt(chat, thread)

    other = make_chat(maya, info=SMALL)
    thread = ask(other, thread)
    assert last_receipt(other, thread).calibration == before.calibration
    thread = ask(other, thread)
    assert last_receipt(other, thread).calibration.samples > before.calibration.samples


def test_where_the_endpoint_reports_nothing_nothing_is_learned(chat, server):
    server.script(reply=CHINESE[1], usage="none")
    thread = ask(chat, ask(chat))

    assert last_receipt(chat, thread).calibration == Calibration()
    plan = view(chat, thread)
    assert forecast(chat, thread) == Forecast(plan.prompt_tokens, plan.prompt_tokens, False)


def test_each_model_has_its_own_rates(chat, server):
    thread = ask(chat, ask(chat, ask(chat)))
    ours = last_receipt(chat, thread)
    chat.store.conversations.set_model(thread.conversation.id, OTHER.name)
    server.script(reply=CHINESE[1], signs=1)

    thread = ask(chat, chat.store.conversations.thread(thread.conversation.id))
    assert last_receipt(chat, thread).calibration == Calibration()
    thread = ask(chat, ask(chat, thread))
    theirs = last_receipt(chat, thread)
    assert theirs.model == OTHER.name
    assert ratio_of("han", theirs) > 1.5 * ratio_of("han", ours)

    chat.store.conversations.set_model(thread.conversation.id, SMALL.name)
    thread = chat.store.conversations.thread(thread.conversation.id)
    by_ours = view(chat, thread).prompt_tokens
    chat.store.conversations.set_model(thread.conversation.id, OTHER.name)
    thread = chat.store.conversations.thread(thread.conversation.id)
    assert view(chat, thread).prompt_tokens > 1.2 * by_ours


def ratio_of(kind, receipt):
    return receipt.calibration.by_kind[kind].ratio


def test_a_summary_is_due_when_the_next_turn_overflows_by_the_same_count(chat, server):
    server.script_summaries(reply="他们种豌豆。", signs=2)
    thread = ask(chat)
    while not thread.summary:
        assert view(chat, thread).omitted_ids == ()
        assert len(thread.messages) < 60
        thread = ask(chat, thread)

    assert view(chat, thread).omitted_ids == ()
    assert prompt_tokens(server.requests[-1], signs=2) > 600  # by the plain count it were 300


def test_a_view_costs_no_query_here_and_one_where_it_is_opened(chat, make_chat, maya, monkeypatch):
    thread = ask(chat, ask(chat))
    other = make_chat(maya, info=SMALL)
    setup = other.setup(other.open(thread.conversation.id))
    asked = []
    table = maya.client.table
    monkeypatch.setattr(maya.client, "table", lambda name: asked.append(name) or table(name))

    view(chat, thread)
    assert asked == []
    other.planning.forecast(thread, setup, other.planning.view(thread, setup))
    assert asked == ["documents"]  # the receipt came with the thread


def test_while_receipts_cannot_be_read_a_view_is_shown_and_no_turn_begun(
    chat, make_chat, maya, server, monkeypatch
):
    thread = ask(chat, ask(chat))
    other = make_chat(maya, info=SMALL)

    def fail(*_):
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(other.store.turns, "receipts", fail)
        assert view(other, thread).prompt_tokens > view(chat, thread).prompt_tokens
        with pytest.raises(StoreUnavailable):
            other.begin(thread.conversation.id, "And now?")

    assert len(server.requests) == 2
    assert len(chat.store.conversations.thread(thread.conversation.id).messages) == 4
    ask(other, thread)


def test_of_a_conversation_that_is_discarded_no_call_is_kept(chat):
    thread = ask(chat, ask(chat))
    assert forecast(chat, thread).is_anchored

    chat.deletions.discard(thread.conversation.id, 60)

    assert not forecast(chat, thread).is_anchored


def test_after_a_refusal_for_its_length_less_is_sent(chat, server):
    thread = ask(chat)
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    while len(thread.messages) < 18:
        thread = ask(chat, thread)
    server.script(status=400, error="This model's maximum context length is 8192 tokens")

    refused = done(chat.begin(thread.conversation.id, CHINESE[0])).failure
    server.script(reply=CHINESE[1], signs=2)
    assert isinstance(refused, ModelUnavailable)
    assert refused.failure is ModelFailure.TOO_LONG
    assert done(chat.retry(thread.conversation.id)).failure is None

    long, shorter = (len(seen.body["messages"]) for seen in server.requests[-2:])
    assert shorter < 0.7 * long
    thread = chat.open(thread.conversation.id)
    for _ in range(4):
        thread = ask(chat, thread)
    assert len(server.requests[-1].body["messages"]) == shorter + 8  # and it grows again
