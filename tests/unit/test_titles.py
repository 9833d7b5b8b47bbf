"""What of a model's answer is a title, and what it is asked."""

from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.domain import Message, MessageId, Outcome, Role
from services.memory.titles import INSTRUCTIONS, clean_title, first_words, plan_title
from services.memory.tokens import RegexCounter
from tests.fakes import NOON

MARKUP = set("*`<>{}|\\[]")
QUOTES = set("\"'`“”„«»「」")
AROUND = st.sampled_from(
    [
        "{}",
        "{}.",
        '"{}"',
        "“{}”",
        "«{}»",
        "**{}**",
        "# {}",
        "Title: {}",
        '## **Title:** "{}."',
        "{}\n",
    ]
)


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="ab .:*_#\"'“”`\n。Title", max_size=130),
        st.builds(lambda around, said: around.format(said), AROUND, st.text(max_size=80)),
    )
)
@example("a" * 61)
@example("_a" * 40)
def test_a_title_is_one_short_line_without_markup_quotes_or_full_stop(said):
    title = clean_title(said)

    if title is not None:
        assert 1 <= len(title) <= 60
        assert title == " ".join(title.split())
        assert not MARKUP & set(title)
        assert not title.endswith((".", "。"))
        assert not (title[0] in QUOTES and title[-1] in QUOTES)
        assert not title.startswith("#")
        assert clean_title(title) == title


@pytest.mark.parametrize(
    "said",
    [
        "Peas in heavy soil",
        '"Peas in heavy soil"',
        "“Peas in heavy soil.”",
        "«Peas in heavy soil»",
        "Title: Peas in heavy soil",
        '**Title:** "Peas in heavy soil"',
        "# Peas in heavy soil",
        "\n\n  Peas in   heavy soil.\n\nIt is about peas.",
        "**Peas in heavy soil**",
        "`Peas in heavy soil`...",
    ],
)
def test_what_models_put_around_a_title_goes(said):
    assert clean_title(said) == "Peas in heavy soil"


@pytest.mark.parametrize(
    "title",
    [
        "Why is C# not C++?",
        "Node.js vs. Deno: a comparison",
        "A trip to St. Petersburg",
        "snake_case or camelCase",
        "Erbsen im März säen",
        "春のえんどう豆",
        "نامه‌ای به دوست",
        "Don't panic",
        "5 € for a bag of peas 🌱",
    ],
)
def test_a_title_stays_as_it_is(title):
    assert clean_title(title) == title


@pytest.mark.parametrize(
    "said",
    [
        "",
        "...",
        "***",
        '""',
        "Title:",
        "Untitled",
        "I'm sorry, but I can't do that",
        "I\u2019m unable to help with this",
        "As an AI language model",
        "Sure! Here is a title",
        "Here's a title: Peas",
        "Peas want sun. They want water as well",
        "The title of the conversation is Peas",
        "User: When do I sow peas?",
        "<think>",
        "[Peas](https://peas.example)",
        "![](https://tracker.example/pixel.png)",
        "Peas and **beans",
        "Look at https://peas.example",
        '"Peas" and "beans"',
        "Peas \u202egnorw",
        "Peas \x00",
        "The conversation is about how to sow peas in heavy wet soil and what to do about the slugs",
    ],
)
def test_what_is_no_title_is_none(said):
    assert clean_title(said) is None


def test_a_title_a_little_too_long_is_shortened_at_a_word():
    said = "Understanding when to sow peas and how deep they have to go into soil"

    assert clean_title(said) == "Understanding when to sow peas and how deep they have to…"
    assert first_words(said) == clean_title(said)


def a_message(role, body, outcome=Outcome.COMPLETE):
    return Message(
        id=MessageId(uuid4()),
        seq=1,
        parent_id=None,
        role=role,
        body=body,
        created_at=NOON,
        outcome=outcome,
    )


def test_nothing_is_asked_before_there_is_an_answer():
    prompt = a_message(Role.USER, "When?")
    for outcome in Outcome:
        plan = plan_title((prompt, a_message(Role.ASSISTANT, "In", outcome)), 4096, RegexCounter())
        assert (plan is not None) is (outcome in {Outcome.COMPLETE, Outcome.CUT, Outcome.EDITED})

    assert plan_title((prompt,), 4096, RegexCounter()) is None


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 400))
def test_what_is_asked_is_short_however_long_the_conversation(prompt, reply, times):
    branch = (a_message(Role.USER, prompt * times), a_message(Role.ASSISTANT, reply * times))

    plan = plan_title(branch, 4096, RegexCounter())

    assert plan is not None
    assert plan.messages[0].body == INSTRUCTIONS
    assert plan.reply_tokens <= 24
    assert len(plan.messages[1].body.encode()) <= 1300


def test_the_model_is_shown_the_first_prompt_and_the_first_reply_that_is_complete():
    branch = (
        a_message(Role.USER, "First prompt"),
        a_message(Role.ASSISTANT, "Half a", Outcome.STOPPED),
        a_message(Role.USER, "Second prompt"),
        a_message(Role.ASSISTANT, "Whole reply"),
        a_message(Role.USER, "Third prompt"),
        a_message(Role.ASSISTANT, "Later reply"),
    )

    shown = plan_title(branch, 4096, RegexCounter()).messages[-1].body

    assert "First prompt" in shown
    assert "Whole reply" in shown
    assert "Half" not in shown
    assert "Later" not in shown
