"""Running summaries, from a full context to the sealed text, with a scripted model."""

from dataclasses import replace

import pytest

from services.chat.background import NoSummary
from services.domain import Purpose, Role
from services.domain.context import PartKind
from services.errors import BadInput, ModelUnavailable, OverBudget, Stale
from tests.fakes import INFO
from tests.stack.apps import until
from tests.store.conftest import done
from tests.store.test_titles import books, limit_budget

SMALL = replace(INFO, context_tokens=1200, reply_tokens=200)
LONG = "peas and beans and leeks " * 12  # some 90 tokens
SUMMARY = "The user sows peas in March and beans in May."


@pytest.fixture
def chat(maya, make_chat, server):
    server.script(reply=LONG)
    server.script_summaries(reply=SUMMARY)
    server.requests.clear()
    server.summary_requests.clear()
    return make_chat(maya, info=SMALL)


def settled(chat, conversation_id):
    """Return the conversation once no summary is being made."""
    until(lambda: conversation_id not in chat.coming(Purpose.SUMMARY))
    return chat.store.conversations.thread(conversation_id)


def ask(chat, conversation_id=None, prompt=LONG):
    return settled(chat, done(chat.begin(conversation_id, prompt)).conversation_id)


def fill(chat):
    """Return a conversation that no longer fits the context."""
    thread = ask(chat)
    for _ in range(20):
        view = chat.planning.view(thread, chat.setup(thread))
        if (
            thread.summary
            or view.omitted_ids
            or chat.background.failure(Purpose.SUMMARY, thread.conversation.id)
        ):
            return thread
        thread = ask(chat, thread.conversation.id)
    raise AssertionError("it never fills")


def receipt_of(chat, thread, message):
    found = chat.planning.receipt(thread, message)
    assert found
    return found


def test_messages_that_no_longer_fit_are_summarised(chat, maya, stack, server):
    thread = fill(chat)

    assert thread.summary
    assert SUMMARY in thread.summary.text
    view = chat.planning.view(thread, chat.setup(thread))
    assert view.omitted_ids == ()
    folded = [m.id for m in thread.branch() if m.seq <= thread.summary.up_to_seq]
    assert list(view.summarised_ids) == folded
    thread = ask(chat, thread.conversation.id, "And now?")
    system, *_ = server.requests[-1].body["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("Be kind.")
    assert SUMMARY in system["content"]
    entries, agrees = books(stack, maya)
    assert [purpose for purpose, *_ in entries].count("summary") == 1
    assert agrees


def test_turns_go_on_while_a_summary_is_made(chat, server):
    server.script_summaries(fault="hang-headers")
    thread = ask(chat)
    while not server.summary_requests:
        thread = chat.store.conversations.thread(
            done(chat.begin(thread.conversation.id, LONG)).conversation_id
        )

    during = done(chat.begin(thread.conversation.id, "And now?"))

    assert during.failure is None
    assert thread.conversation.id in chat.coming(Purpose.SUMMARY)
    messages = chat.store.conversations.thread(thread.conversation.id).messages
    assert messages[-2].body == "And now?"
    assert messages[-1].role is Role.ASSISTANT
    chat.leave()
    settled(chat, thread.conversation.id)


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ({"status": 500}, ModelUnavailable),
        ({"fault": "drop", "tokens": 9, "after": 3}, ModelUnavailable),
        ({"fault": "html"}, ModelUnavailable),
        ({"reply": "***"}, NoSummary),
        ({"reply": "word " * 4000}, NoSummary),
        ({"reply": "I'm sorry, I cannot do that."}, NoSummary),
    ],
    ids=["an error", "dropped", "a page", "rubbish", "too long", "a refusal"],
)
def test_failed_summary_leaves_a_window(chat, server, script, failure):
    server.script_summaries(**script)

    thread = fill(chat)

    assert thread.summary is None
    assert isinstance(chat.background.failure(Purpose.SUMMARY, thread.conversation.id), failure)
    for _ in range(4):
        thread = ask(chat, thread.conversation.id)
    view = chat.planning.view(thread, chat.setup(thread))
    assert view.omitted_ids
    assert view.verbatim_ids[-1] == thread.messages[-1].id
    assert thread.summary is None
    assert len(thread.messages) == 2 * len(server.requests)


def test_failed_summary_is_tried_again_later(chat, server):
    server.script_summaries(reply="***")
    thread = fill(chat)
    for _ in range(3):
        thread = ask(chat, thread.conversation.id)
    asked = len(server.summary_requests)
    server.script_summaries(reply=SUMMARY)

    for _ in range(4):
        thread = ask(chat, thread.conversation.id)

    assert asked < 4  # not at each turn
    assert thread.summary
    assert thread.summary.from_seq == 1
    assert chat.background.failure(Purpose.SUMMARY, thread.conversation.id) is None
    assert chat.planning.view(thread, chat.setup(thread)).omitted_ids == ()


def test_summary_is_not_requested_without_budget(chat, maya, stack, server):
    server.script_summaries(status=500)
    thread = fill(chat)
    server.script_summaries(reply=SUMMARY)
    limit_budget(stack, maya, 0)

    chat.memories.rebuild_summary(thread)

    assert settled(chat, thread.conversation.id).summary is None
    assert isinstance(chat.background.failure(Purpose.SUMMARY, thread.conversation.id), OverBudget)


def test_summary_edited_meanwhile_is_not_overwritten(chat, server):
    thread = fill(chat)
    server.script_summaries(reply="Of no use any more.", delay=1.5)
    chat.memories.rebuild_summary(thread)
    now = chat.store.conversations.thread(thread.conversation.id)
    edited = replace(thread.summary, text="Mine.", is_edited=True)
    chat.store.conversations.set_summary(now, edited)

    assert settled(chat, thread.conversation.id).summary == edited
    assert chat.background.failure(Purpose.SUMMARY, thread.conversation.id) is None


def test_edited_summary_is_sent(chat, server):
    thread = fill(chat)

    chat.memories.change_summary(thread, " They sow kumquats. ")

    with pytest.raises(Stale):
        chat.memories.change_summary(thread, "Late.")
    thread = ask(chat, thread.conversation.id, "And now?")
    assert thread.summary.text.startswith("They sow kumquats.")
    assert thread.summary.is_edited
    assert "They sow kumquats." in server.requests[-1].body["messages"][0]["content"]
    for text in ("x" * 70_000, "half \ud800"):
        with pytest.raises(BadInput):
            chat.memories.change_summary(thread, text)


def test_summary_is_regenerated_from_all_that_it_covered(chat, server):
    thread = fill(chat)
    covered = thread.summary.up_to_seq
    server.script_summaries(reply="Something better.")

    chat.memories.rebuild_summary(thread)

    thread = settled(chat, thread.conversation.id)
    assert "Something better." in thread.summary.text
    assert SUMMARY not in thread.summary.text
    assert (thread.summary.from_seq, thread.summary.up_to_seq >= covered) == (1, True)


def test_deleted_summary_leaves_a_window(chat, server):
    thread = fill(chat)
    thread = ask(chat, thread.conversation.id, "And now?")

    chat.memories.change_summary(thread, " ")

    thread = chat.store.conversations.thread(thread.conversation.id)
    assert thread.summary is None
    assert chat.planning.view(thread, chat.setup(thread)).omitted_ids


def test_receipt_names_the_parts_of_the_prompt(chat, maya):
    thread = ask(chat, None, "First?")
    thread = ask(chat, thread.conversation.id, "Second?")
    first, second = (
        receipt_of(chat, thread, m) for m in thread.messages if m.role is Role.ASSISTANT
    )

    assert (first.policy, first.instructions, first.verbatim) == ("summary", "Be kind.", ())
    assert [seq for seq, _ in second.verbatim] == [1, 2]
    assert second.tokens.keys() == {
        PartKind.INSTRUCTIONS,
        PartKind.VERBATIM,
        PartKind.PROMPT,
        PartKind.FRAME,
    }
    assert second.tokens[PartKind.VERBATIM] == sum(tokens for _, tokens in second.verbatim)
    _, following = chat.planning.next_receipt(thread, chat.setup(thread))
    assert [seq for seq, _ in following.verbatim] == [1, 2, 3, 4]
    assert following.tokens[PartKind.PROMPT] == 0


def test_receipt_keeps_the_summary_of_its_turn(chat):
    thread = fill(chat)
    thread = ask(chat, thread.conversation.id, "And now?")
    then = thread.messages[-1]
    chat.memories.change_summary(thread, "Something else.")

    receipt = receipt_of(chat, thread, then)

    assert SUMMARY in receipt.summary.text
    assert receipt.summarised_count > 0
    assert receipt.tokens[PartKind.SUMMARY] > 0
