"""Where messages went and what the model saw, on the page."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from services.domain import ConversationId, Full, Retrieval, RunningSummary, Summary, Window
from services.errors import ModelFailure, ModelUnavailable
from tests.fakes import NOON, FakePerson, MemoryConversations
from tests.pages.test_chat_page import pairs, send

OpenApp = Callable[..., AppTest]


def summarised(conversations: MemoryConversations, up_to_seq: int = 4) -> ConversationId:
    garden = conversations.hold("Garden", *pairs(4), policy=Summary())
    summary = RunningSummary(text="They sow peas.", from_seq=1, up_to_seq=up_to_seq, made_at=NOON)
    conversations.threads[garden] = replace(conversations.threads[garden], summary=summary)
    return garden


def press(app: AppTest, garden: ConversationId, label: str) -> None:
    """A button of the dialog, which AppTest opens anew in each run."""
    app.session_state["dialog"] = "Summary", garden
    next(each for each in app.button if each.label == label).click().run()


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def html(app: AppTest) -> str:
    return "\n".join(each.value for each in app.get("html"))


def test_what_is_summarised_is_said_and_can_be_read(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = summarised(conversations)
    app = open_app(maya, c=str(garden))

    assert "**4 earlier messages** are in pencil: the model reads a summary of them." in captions(
        app
    )
    assert "A summary of 4 messages" in html(app)
    app.button(key="read-summary").click().run()

    assert app.text_area(key=f"summary-{garden}").value == "They sow peas."
    assert "It stands for 4 messages" in captions(app)


def test_a_summary_is_edited(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = summarised(conversations)
    app = open_app(maya, c=str(garden))
    app.button(key="read-summary").click().run()

    app.text_area(key=f"summary-{garden}").set_value("They sow kumquats.")
    press(app, garden, "Save")

    kept = conversations.threads[garden].summary
    assert (kept.text, kept.is_edited) == ("They sow kumquats.", True)


def test_a_summary_that_was_changed_elsewhere_is_not_overwritten_unseen(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = summarised(conversations)
    app = open_app(maya, c=str(garden))
    app.button(key="read-summary").click().run()
    now = replace(conversations.threads[garden].summary, text="Changed elsewhere.")
    conversations.threads[garden] = replace(conversations.threads[garden], summary=now)

    app.text_area(key=f"summary-{garden}").set_value("Mine.")
    press(app, garden, "Save")

    assert "changed meanwhile" in app.warning[0].value
    assert conversations.threads[garden].summary == now
    press(app, garden, "Save")
    assert conversations.threads[garden].summary.text == "Mine."


def test_a_summary_that_failed_is_said(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = conversations.hold("Garden", *pairs(4), policy=Summary())
    maya.chat.summarising.claim(maya.conversations.user_id, garden)
    maya.chat.summarising.over(garden, ModelUnavailable(ModelFailure.BUSY))

    app = open_app(maya, c=str(garden))

    assert "There is no summary yet. The model has too much to do just now." in captions(app)
    assert "are in pencil" not in captions(app)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Window(4), "kept, but not sent to the model."),
        (Retrieval(), "the model sees those of them that your prompt is about."),
    ],
)
def test_the_banner_says_where_messages_went(
    open_app: OpenApp,
    maya: FakePerson,
    conversations: MemoryConversations,
    policy: Window | Retrieval,
    words: str,
):
    long = [f"{who} {n} " + "word " * 300 for n in range(12) for who in ("prompt", "reply")]
    garden = conversations.hold("Garden", *long, policy=policy)

    app = open_app(maya, c=str(garden))

    assert words in captions(app)


def test_what_the_model_sees_next_and_saw_then(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = conversations.hold("Garden", *pairs(2), policy=Full())
    app = send(open_app(maya, c=str(garden)), "New prompt")
    reply = conversations.threads[garden].messages[-1]

    app.button(key="look-at-next").click().run()
    assert "6 messages word for word" in [each.label for each in app.expander]

    app.session_state["dialog"] = "Seen", (garden, reply.id)
    app.run()
    assert "4 messages word for word" in [each.label for each in app.expander]
    assert "You: prompt 0" in html(app)
    assert "The endpoint counted 1,200 tokens, 800 of them from its cache." in captions(app)


def test_a_reply_from_before_there_were_receipts_says_so(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = conversations.hold("Garden", *pairs(2))
    app = open_app(maya, c=str(garden))

    app.session_state["dialog"] = "Seen", (garden, conversations.threads[garden].messages[-1].id)
    app.run()

    assert "Nothing was noted for this reply" in captions(app)


def test_the_size_of_a_window_is_chosen(
    open_app: OpenApp, maya: FakePerson, conversations: MemoryConversations
):
    garden = conversations.hold("Garden", *pairs(4), policy=Window())
    app = open_app(maya, c=str(garden))

    app.number_input(key=f"window-{garden}").set_value(5).run()

    assert conversations.threads[garden].conversation.policy == Window(6)
