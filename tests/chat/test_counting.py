"""Plans and forecasts by the count of an endpoint, here a count of characters."""

from dataclasses import replace
from itertools import pairwise

import pytest

from services.domain import Full, Retrieval, Summary, Window
from services.domain.context import Forecast
from services.domain.model_failures import ModelFailure
from services.errors import PromptTooLong, StoreUnavailable
from services.memory.forecast import Calibration
from services.memory.tokens import RegexCounter
from tests.chats import LONG, SMALL, done, receipt_of, settled, view
from tests.fakes import INFO
from tests.model_server import prompt_tokens

CHINESE = ("豌豆什么时候种最好呢", "三月里等地面不再结冰的时候就种。" * 6)
CODE = ("def sow(peas):\n    return peas[1:]  # 7", "for bed in beds:\n    sow(bed.peas, 12)\n" * 6)
OTHER = replace(SMALL, name="other")


@pytest.fixture
def chat(make_chat, server):
    server.script(reply=CHINESE[1], signs=2)
    server.script_summaries(reply="他们种豌豆。", signs=2)
    return make_chat(info=SMALL, others=(OTHER,))


@pytest.fixture
def make_other(make_chat):
    return lambda: make_chat(info=SMALL)


def ask(chat, thread=None, prompt=CHINESE[0]):
    turn = chat.begin(thread and thread.conversation.id, prompt)
    thread = settled(chat, turn)
    assert turn.failure is None
    return thread


def ask_often(chat, times, thread=None):
    for _ in range(times):
        thread = ask(chat, thread)
    return thread


def forecast(chat, thread):
    return chat.view(thread.conversation.id).forecast


def samples(chat, thread):
    return receipt_of(chat, thread).calibration.samples


@pytest.mark.parametrize("talk", [CHINESE, CODE], ids=["Chinese", "code"])
def test_forecast_is_the_endpoints_count_of_the_next_prompt(chat, server, talk):
    prompt, reply = talk
    server.script(reply=reply, signs=2)
    thread = ask(chat, None, prompt)
    for _ in range(4):
        found = forecast(chat, thread)
        thread = ask(chat, thread, prompt)
        counted = prompt_tokens(server.requests[-1], signs=2) - 4 - len(prompt) // 2

        assert found.is_anchored
        assert found.tokens == pytest.approx(counted, rel=0.02)


def test_another_process_forecasts_by_the_stored_rates(chat, make_other):
    thread = ask_often(chat, 5)

    found = forecast(make_other(), thread)

    now = forecast(chat, thread)
    assert (now.is_anchored, found.is_anchored) == (True, False)
    assert found.tokens == pytest.approx(now.tokens, rel=0.1)
    # 3.4 times as much without calibration
    assert view(chat, thread).prompt_tokens < now.tokens * 1.6


@pytest.mark.parametrize(
    "policy", [Window(), Summary(), Retrieval()], ids=["window", "summary", "recall"]
)
def test_another_process_plans_the_same(chat, make_other, server, policy):
    thread = ask(chat)
    chat.store.conversations.set_policy(thread.conversation.id, policy)
    for _ in range(9):
        thread = ask(chat, thread)
        assert view(make_other(), thread) == view(chat, thread)

    assert prompt_tokens(server.requests[-1], signs=2) > 500  # 300 without calibration


def test_new_conversation_learns_from_the_models_others(chat):
    first, second = (receipt_of(chat, ask(chat)) for _ in range(2))

    assert first.calibration == Calibration()
    assert "han" in second.calibration.by_kind
    # the second plan is made without calibration
    assert second.prompt_tokens == first.prompt_tokens


def test_rates_are_learned_further_after_a_restart(chat, make_other):
    thread = ask_often(chat, 4)
    before = samples(chat, thread)

    other = make_other()
    thread = ask(other, thread)
    assert samples(other, thread) == before
    assert samples(other, ask(other, thread)) > before


def test_nothing_is_learned_without_reported_usage(chat, server):
    server.script(reply=CHINESE[1], usage="none")
    thread = ask_often(chat, 2)

    assert receipt_of(chat, thread).calibration == Calibration()
    plain = view(chat, thread).prompt_tokens
    assert forecast(chat, thread) == Forecast(plain, is_anchored=False)


def test_each_model_has_its_own_rates(chat, server):
    def use(model):
        chat.store.conversations.set_model(thread.conversation.id, model.name)
        return chat.open(thread.conversation.id)

    thread = ask_often(chat, 3)
    ours = receipt_of(chat, thread)
    server.script(reply=CHINESE[1], signs=1)

    thread = use(OTHER)
    assert not forecast(chat, thread).is_anchored
    thread = ask(chat, thread)
    assert receipt_of(chat, thread).calibration == Calibration()
    thread = ask_often(chat, 2, thread)
    theirs = receipt_of(chat, thread)
    assert theirs.model == OTHER.name
    assert ratio_of("han", theirs) > 1.5 * ratio_of("han", ours)
    by_ours, by_theirs = (view(chat, use(model)).prompt_tokens for model in (SMALL, OTHER))
    assert by_theirs > 1.2 * by_ours


def ratio_of(kind, receipt):
    return receipt.calibration.by_kind[kind].ratio


def test_summary_is_due_by_the_endpoints_count(chat, server):
    thread = ask(chat)
    while not thread.summary:
        assert view(chat, thread).omitted_ids == ()
        assert len(thread.messages) < 60
        thread = ask(chat, thread)

    assert view(chat, thread).omitted_ids == ()
    assert prompt_tokens(server.requests[-1], signs=2) > 600  # 300 without calibration


def test_view_of_an_open_conversation_reads_no_receipt(chat, make_other, database):
    thread = ask_often(chat, 2)
    other = make_other()
    other.open(thread.conversation.id)
    database.rows.failures["receipts"] = StoreUnavailable()

    assert view(other, thread) == view(chat, thread)


def test_view_is_planned_without_receipts_but_no_turn(chat, make_other, monkeypatch):
    def fail(*_):
        raise StoreUnavailable

    thread = ask_often(chat, 2)
    other = make_other()
    with monkeypatch.context() as patched:
        patched.setattr(other.store.turns, "receipts", fail)
        assert view(other, thread).prompt_tokens > view(chat, thread).prompt_tokens
        with pytest.raises(StoreUnavailable):
            other.begin(thread.conversation.id, "And now?")

    assert len(ask(other, thread).messages) == 6


def test_discarded_conversation_leaves_rates_and_no_count(chat):
    thread = ask_often(chat, 2)
    assert forecast(chat, thread).is_anchored
    view, before = chat.view(thread.conversation.id), samples(chat, thread)

    chat.deletions.discard(thread.conversation.id, 60)

    assert not view.forecast.is_anchored
    assert samples(chat, ask(chat)) > before


def test_less_is_sent_after_a_refusal_for_length(chat, server):
    thread = ask(chat)
    chat.store.conversations.set_policy(thread.conversation.id, Window())
    thread = ask_often(chat, 8, thread)
    server.script(status=400, error="This model's maximum context length is 8192 tokens")

    refused = done(chat.begin(thread.conversation.id, CHINESE[0])).failure
    server.script(reply=CHINESE[1], signs=2)
    assert refused.failure is ModelFailure.TOO_LONG
    thread = settled(chat, chat.retry(thread.conversation.id))

    long, shorter = (len(seen.body["messages"]) for seen in server.requests[-2:])
    assert shorter < 0.7 * long
    ask_often(chat, 4, thread)
    assert len(server.requests[-1].body["messages"]) == shorter + 8  # the sent part grows again


NO_NUMBER = "Input is too long for requested model."


@pytest.mark.parametrize(
    "policy", [Window(40), Summary(), Retrieval()], ids=["window", "summary", "recall"]
)
def test_retry_after_a_refusal_without_a_number_sends_less(make_chat, server, policy):
    # the window that the app assumes is far larger than the endpoint's
    chat = make_chat(info=replace(INFO, context_tokens=32_768, reply_tokens=8_192))
    server.script(reply=LONG * 2, signs=5)
    thread = ask(chat, None, LONG)
    chat.store.conversations.set_policy(thread.conversation.id, policy)
    thread = ask_often(chat, 12, thread)
    sent = []
    for _ in range(2):
        server.script(status=400, error=NO_NUMBER)
        begin = chat.retry if sent else lambda its: chat.begin(its, LONG)
        assert done(begin(thread.conversation.id)).failure.failure is ModelFailure.TOO_LONG
        sent.append(server.requests[-1].body)
    server.script(reply=LONG * 2, signs=5)
    thread = settled(chat, chat.retry(thread.conversation.id))
    sent.append(server.requests[-1].body)

    counts = [plain_tokens(body) for body in sent]
    assert all(less <= more * 2 / 3 for more, less in pairwise(counts))
    # the start has not moved back to what was refused
    ask(chat, thread, LONG)
    assert plain_tokens(server.requests[-1].body) < counts[-2]


def test_retry_after_a_refusal_with_the_window_has_all_its_room(make_chat, server):
    chat = make_chat(info=replace(INFO, context_tokens=32_768, reply_tokens=2_048))
    chat.store.conversations.set_policy(
        (thread := ask(chat, None, "Peas? " * 2_500)).conversation.id, Window(20)
    )
    server.script(status=400, error="This model's maximum context length is 16384 tokens.")
    done(chat.begin(thread.conversation.id, "Beans? " * 6_000))
    server.script(reply="Soon.")

    assert done(chat.retry(thread.conversation.id)).failure is None
    assert plain_tokens(server.requests[-1].body) > 12_000


def test_shorter_message_is_sent_to_a_whole_chat_after_a_refusal(make_chat, server):
    chat = make_chat(info=replace(INFO, context_tokens=32_768, reply_tokens=2_048))
    thread = ask(chat, None, "Peas? " * 5_000)
    chat.store.conversations.set_policy(thread.conversation.id, Full())
    server.script(status=400, error=NO_NUMBER)
    done(chat.begin(thread.conversation.id, "Beans? " * 2_000))
    server.script(reply="Soon.")

    assert done(chat.begin(thread.conversation.id, "Thanks.")).failure is None


def test_message_that_is_refused_alone_is_too_long(make_chat, server):
    chat = make_chat(info=replace(INFO, context_tokens=32_768))
    server.script(status=400, error=NO_NUMBER)
    refused = done(chat.begin(None, LONG * 20))

    with pytest.raises(PromptTooLong):
        chat.retry(refused.conversation_id)


def test_short_message_that_is_refused_gets_a_shorter_reply(make_chat, server):
    chat = make_chat(info=replace(INFO, context_tokens=32_768, reply_tokens=8_192))
    server.script(status=400, error=NO_NUMBER)
    refused = done(chat.begin(None, "Hi"))

    assert done(chat.retry(refused.conversation_id)).failure.failure is ModelFailure.TOO_LONG
    first, second = (seen.body["max_tokens"] for seen in server.requests)
    assert second < first / 10


def test_refusal_for_length_counts_for_its_model_alone(chat, server):
    server.script(status=400, error=NO_NUMBER)
    refused = done(chat.begin(None, LONG * 8))
    server.script(reply="Soon.")

    chat.store.conversations.set_model(refused.conversation_id, OTHER.name)

    assert done(chat.retry(refused.conversation_id)).failure is None


def plain_tokens(body):
    return sum(RegexCounter().count(message["content"]) for message in body["messages"])
