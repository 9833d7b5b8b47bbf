"""Sentences about the earlier messages of a chat."""

from dataclasses import replace

import pytest

from pages._parts import words
from pages._parts.context_words import (
    Earlier,
    SummaryState,
    can_summarise,
    chip,
    count_earlier,
    not_sent,
    of_summary,
    sent,
)
from pages._parts.words import PolicyText
from services.domain import Full, MessageId, Retrieval, Summary, Window
from services.domain.context import ContextPlan
from services.domain.model_failures import ModelFailure, ModelUnavailable
from tests.pages.test_chat_page import pairs

SUMMARY, WINDOW, RECALL = Summary(), Window(20), Retrieval()
FINE, COMING = SummaryState(), SummaryState(is_coming=True)
FAILED = SummaryState(problem="The model is busy.")
BROKEN = SummaryState(is_verified=False)
PRESS = "Press “Summarize now” to send a summary of them."


@pytest.mark.parametrize(
    ("policy", "summary", "earlier", "label", "said"),
    [
        (SUMMARY, FINE, Earlier(recent=8), None, ()),
        (
            *(SUMMARY, FINE, Earlier(recent=8, summarised=56)),
            "56 earlier messages summarized",
            ("**56 earlier messages** are sent as a summary.",),
        ),
        (
            *(SUMMARY, FAILED, Earlier(recent=8, summarised=56, missing=4)),
            "56 summarized, 4 not sent",
            (
                "**56 of these 60 messages** are sent as a summary; 4 could not be summarized.",
                "The last summary failed. The model is busy.",
                PRESS,
            ),
        ),
        (
            *(SUMMARY, COMING, Earlier(recent=8, summarised=56, missing=4)),
            "56 summarized, 4 not sent",
            (
                "**56 earlier messages** are sent as a summary.",
                "**4 earlier messages** are being summarized.",
            ),
        ),
        (
            *(SUMMARY, FINE, Earlier(recent=8, missing=60)),
            "60 earlier messages not sent",
            ("**60 earlier messages** are not sent, because they are not yet summarized.", PRESS),
        ),
        (
            *(SUMMARY, BROKEN, Earlier(recent=8, missing=60)),
            "60 earlier messages not sent",
            (
                "**60 earlier messages** are not sent, because they are not yet summarized.",
                "The summary failed its integrity check and is not used.",
                PRESS,
            ),
        ),
        (
            *(SUMMARY, FAILED, Earlier(recent=8, missing=1)),
            "1 earlier message not sent",
            (
                "**1 earlier message** is not sent, because it could not be summarized.",
                "The last summary failed. The model is busy.",
                "Press “Summarize now” to send a summary of it.",
            ),
        ),
        (
            *(SUMMARY, FAILED, Earlier(recent=8)),
            None,
            (
                "The last summary failed. The model is busy.",
                "Press “Summarize now” to try again.",
            ),
        ),
        (
            *(SUMMARY, FINE, Earlier(summarised=8, missing=2)),
            "8 summarized, 2 not sent",
            (
                "**8 earlier messages** are sent as a summary.",
                "**2 earlier messages** are not sent because the last exchange alone does not fit the model's context.",
            ),
        ),
        (
            *(SUMMARY, FINE, Earlier(missing=4)),
            "4 earlier messages not sent",
            ("**4 earlier messages** are not sent, because they are not yet summarized.", PRESS),
        ),
        (
            *(SUMMARY, FINE, Earlier(cleared=1)),
            "1 earlier message not sent",
            (
                "**1 earlier message** is not sent because you cleared the context.",
                "Press “Restore context” to use it again.",
            ),
        ),
        (
            *(WINDOW, FINE, Earlier(recent=24, missing=30, unanswered=1)),
            "30 earlier messages not sent",
            (
                "**30 earlier messages** are not sent because “Recent only” sends the last 20 to 30.",
                "To send a summary of them, choose “Auto-summary”.",
                "1 message without a reply is not sent.",
            ),
        ),
        (
            *(WINDOW, FINE, Earlier(recent=6, missing=30)),
            "30 earlier messages not sent",
            (
                "**30 earlier messages** are not sent because the context was full and was cut to two thirds.",
                "To send a summary of them, choose “Auto-summary”.",
            ),
        ),
        (
            *(WINDOW, FINE, Earlier(missing=12)),
            "12 earlier messages not sent",
            (
                "**12 earlier messages** are not sent because the last exchange alone does not fit the model's context.",
                "To send a summary of them, choose “Auto-summary”.",
            ),
        ),
        (
            *(RECALL, FINE, Earlier(recent=6, missing=30)),
            "30 earlier messages sent if related",
            ("**30 earlier messages** are sent only if related to your question.",),
        ),
        (Full(), FINE, Earlier(recent=6, unanswered=1), None, ()),
    ],
)
def test_each_state_of_the_context_is_told_once(policy, summary, earlier, label, said):
    assert chip(policy, earlier) == label
    assert not_sent(policy, earlier, summary) == said
    assert can_summarise(policy, earlier, summary) == any("Summarize now" in one for one in said)


def test_caption_of_a_policy_with_a_number_is_the_reason(monkeypatch):
    text = PolicyText(
        "Both ends", "Sends the first exchange, and the last {least} to {most} messages"
    )
    monkeypatch.setitem(words.POLICIES, WINDOW.name, text)

    why, _ = not_sent(WINDOW, Earlier(recent=22, missing=8, has_gap=True), FINE)

    assert why == (
        "**8 earlier messages** are not sent because “Both ends” "
        "sends the first exchange, and the last 20 to 30."
    )


@pytest.mark.parametrize(
    ("earlier", "sentence"),
    [
        (Earlier(recent=8), "All earlier messages are sent."),
        (Earlier(recent=8, missing=2), "The last 8 messages are sent."),
        (Earlier(recent=1, cleared=1), "The last 1 message is sent."),
        (Earlier(recent=8, missing=2, has_gap=True), "8 earlier messages are sent."),
        (Earlier(recent=1, missing=2, has_gap=True), "1 earlier message is sent."),
        (Earlier(cleared=2), "No earlier message is sent in full."),
    ],
)
def test_sent_messages_are_told_in_one_sentence(earlier, sentence):
    assert sent(earlier) == sentence


def test_messages_are_counted_by_form(database):
    garden = database.hold("Garden", *pairs(5), policy=Summary())
    thread = database.thread(garden)
    thread = replace(thread, conversation=replace(thread.conversation, reset_seq=2))

    def ids(*seqs: int) -> tuple[MessageId, ...]:
        return tuple(message.id for message in thread.messages if message.seq in seqs)

    plan = ContextPlan(
        messages=(),
        prompt_tokens=0,
        bound_tokens=0,
        reply_tokens=0,
        verbatim_ids=ids(9, 10),
        summarised_ids=ids(3, 4),
    )

    assert count_earlier(thread, plan) == Earlier(recent=2, summarised=2, cleared=2, missing=4)
    recalled = replace(plan, earlier_recall_ids=ids(6))
    counts = {"recent": 3, "summarised": 2, "cleared": 2, "missing": 3}
    assert count_earlier(thread, recalled) == Earlier(**counts, has_gap=True)


def test_unanswered_prompt_between_sent_messages_is_no_gap(database):
    thread = database.thread(database.hold("Garden", *pairs(3), "prompt", "", *pairs(1)))
    sent_ids = tuple(message.id for message in thread.messages if message.seq in (5, 6, 8, 9))
    plan = ContextPlan(
        messages=(), prompt_tokens=0, bound_tokens=0, reply_tokens=0, verbatim_ids=sent_ids
    )

    assert count_earlier(thread, plan) == Earlier(recent=4, missing=4, unanswered=1)


@pytest.mark.parametrize("failure", ModelFailure)
def test_reason_of_a_failed_summary_speaks_of_no_message(failure):
    error = ModelUnavailable(failure)

    for reason in (error.public, error.for_admins):
        assert of_summary(reason)
        assert reason.startswith(of_summary(reason)[:20])
        assert "saved" not in of_summary(reason)
