"""Running summaries by the model, and the receipts that name them."""

from dataclasses import replace

import pytest

from services.chat.background import NoSummary
from services.domain import Purpose, Role
from services.domain.context import PartKind
from services.domain.model_failures import ModelUnavailable
from services.errors import BadInput, OverBudget, Stale
from tests.chats import LONG, SMALL, done, receipt_of, settled, view
from tests.fakes import INFO

SUMMARY = "The user sows peas in March and beans in May."


@pytest.fixture
def chat(make_chat, server):
    server.script(reply=LONG)
    server.script_summaries(reply=SUMMARY)
    return make_chat(info=SMALL)


def ask(chat, thread=None, prompt=LONG):
    return settled(chat, chat.begin(thread and thread.conversation.id, prompt))


def failure(chat, thread):
    return chat.tasks.registry.failure(Purpose.SUMMARY, thread.conversation.id)


def fill(chat):
    """Return a conversation that no longer fits the context."""
    thread = ask(chat)
    for _ in range(20):
        if thread.summary or failure(chat, thread) or view(chat, thread).omitted_ids:
            return thread
        thread = ask(chat, thread)
    raise AssertionError("it never fills")


@pytest.fixture
def summarised(chat):
    return fill(chat)


def test_messages_that_no_longer_fit_are_summarised(chat, summarised, database):
    plan = view(chat, summarised)

    assert SUMMARY in summarised.summary.text
    assert plan.omitted_ids == ()
    folded = [m.id for m in summarised.branch() if m.seq <= summarised.summary.up_to_seq]
    assert list(plan.summarised_ids) == folded
    assert [purpose for purpose, _ in database.costs()].count(Purpose.SUMMARY) == 1


def test_summary_is_made_before_a_long_reply_is_left_out(make_chat, server):
    chat = make_chat(info=replace(INFO, reply_tokens=2_000))
    server.script(reply=LONG * 16)
    first = ask(chat, None, "Peas?")
    server.script(reply=LONG * 30)
    server.script_summaries(reply=SUMMARY)

    second = ask(chat, first, "And beans?")

    assert first.summary is None
    assert SUMMARY in second.summary.text
    assert view(chat, second).omitted_ids == ()


def test_turns_go_on_while_a_summary_is_made(chat, server):
    server.script_summaries(fault="hang-headers")
    turn = done(chat.begin(None, LONG))
    while not server.summary_requests:
        chat.open(turn.conversation_id)
        turn = done(chat.begin(turn.conversation_id, LONG))
    chat.open(turn.conversation_id)

    during = done(chat.begin(turn.conversation_id, "And now?"))

    assert during.failure is None
    assert chat.coming(Purpose.SUMMARY) == {turn.conversation_id}
    *_, prompt, reply = chat.open(turn.conversation_id).messages
    assert (prompt.body, reply.role) == ("And now?", Role.ASSISTANT)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"status": 401}, ModelUnavailable),
        ({"fault": "drop", "tokens": 9, "after": 3}, ModelUnavailable),
        ({"reply": "***"}, NoSummary),
        ({"reply": "word " * 4000}, NoSummary),
    ],
    ids=["an error", "dropped", "rubbish", "too long"],
)
def test_failed_summary_leaves_a_window(chat, server, script, error):
    server.script_summaries(**script)

    thread = fill(chat)

    assert isinstance(failure(chat, thread), error)
    for _ in range(4):
        thread = ask(chat, thread)
    plan = view(chat, thread)
    assert plan.omitted_ids
    assert plan.verbatim_ids[-1] == thread.messages[-1].id
    assert thread.summary is None
    assert len(thread.messages) == 2 * len(server.requests)


def test_failed_summary_is_tried_again_later(chat, server):
    server.script_summaries(reply="***")
    thread = fill(chat)
    for _ in range(3):
        thread = ask(chat, thread)
    asked = len(server.summary_requests)
    server.script_summaries(reply=SUMMARY)

    for _ in range(4):
        thread = ask(chat, thread)

    assert asked < 4  # fewer attempts than turns, because each failure delays the next attempt
    assert thread.summary.from_seq == 1
    assert failure(chat, thread) is None
    assert view(chat, thread).omitted_ids == ()


def test_summary_is_not_requested_without_budget(chat, server, database):
    server.script_summaries(reply="***")
    thread = fill(chat)
    server.script_summaries(reply=SUMMARY)
    database.ledger.daily_micro = 0

    assert rebuild(chat, thread).summary is None

    assert isinstance(failure(chat, thread), OverBudget)


def rebuild(chat, thread):
    """Return the thread after its summary was made anew."""
    chat.tasks.summarise_now(thread, is_anew=True)
    return settled(chat, thread.conversation.id)


def test_summary_edited_meanwhile_is_not_overwritten(chat, server, summarised, database):
    def edit():
        thread = database.thread(summarised.conversation.id)
        database.conversations.set_summary(thread, edited)

    server.script_summaries(reply="Of no use any more.")
    edited = replace(summarised.summary, text="Mine.", is_edited=True)
    database.rows.before["finish_turn"] = edit

    assert rebuild(chat, summarised).summary == edited

    assert failure(chat, summarised) is None


def test_branch_on_screen_is_summarised_beside_a_newer_one(chat, summarised):
    covered = summarised.summary.up_to_seq
    other = done(chat.edit_prompt(summarised.conversation.id, summarised.messages[0].id, "Hi."))
    settled(chat, other)
    seen = chat.view(summarised.conversation.id, summarised.messages[-1].id).thread

    again = rebuild(chat, seen).summary

    assert again.up_to_seq >= covered


def test_edited_summary_is_sent(chat, server, summarised):
    chat.tasks.change_summary(summarised, " They sow kumquats. ")

    with pytest.raises(Stale):
        chat.tasks.change_summary(summarised, "Late.")
    thread = ask(chat, summarised, "And now?")
    assert thread.summary.text.startswith("They sow kumquats.")
    assert thread.summary.is_edited
    assert "They sow kumquats." in server.requests[-1].body["messages"][0]["content"]


@pytest.mark.parametrize("text", ["x" * 70_000, "half \ud800"], ids=["long", "half a character"])
def test_summary_that_cannot_be_stored_is_refused(chat, summarised, text):
    with pytest.raises(BadInput):
        chat.tasks.change_summary(summarised, text)


def test_regenerated_summary_covers_the_same_messages(chat, server, summarised):
    covered = summarised.summary.up_to_seq
    server.script_summaries(reply="Something better.")

    again = rebuild(chat, summarised).summary

    assert "Something better." in again.text
    assert SUMMARY not in again.text
    assert again.from_seq == 1
    assert again.up_to_seq >= covered


def test_deleted_summary_leaves_a_window(chat, summarised):
    thread = ask(chat, summarised, "And now?")

    chat.tasks.change_summary(thread, " ")

    thread = chat.open(thread.conversation.id)
    assert thread.summary is None
    assert view(chat, thread).omitted_ids


def test_receipt_names_the_parts_of_the_prompt(chat):
    first = ask(chat, None, "First?")
    second = ask(chat, first, "Second?")

    before, now = receipt_of(chat, first), receipt_of(chat, second)

    assert (before.policy, before.instructions, before.verbatim) == ("summary", "Be kind.", ())
    assert [seq for seq, _ in now.verbatim] == [1, 2]
    assert now.tokens[PartKind.PROMPT] > 0
    following = chat.view(second.conversation.id).next_receipt
    assert [seq for seq, _ in following.verbatim] == [1, 2, 3, 4]
    assert following.tokens[PartKind.PROMPT] == 0
