"""Titles in answers of the model, and the request for one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.domain import Outcome
from services.memory.titles import INSTRUCTIONS, clean_title, first_words, plan_title
from services.memory.tokens import RegexCounter
from tests.unit.test_memory import said

MARKUP = set("*`<>{}|\\[]")
QUOTES = set("\"'`“”„«»「」")
AROUND = """{}|{}.|"{}"|“{}”|«{}»|**{}**|# {}|Title: {}|## **Title:** "{}."|{}\n"""
ROUGH = """Peas in heavy soil
"Peas in heavy soil"
“Peas in heavy soil.”
«Peas in heavy soil»
Title: Peas in heavy soil
**Title:** "Peas in heavy soil"
# Peas in heavy soil
**Peas in heavy soil**
`Peas in heavy soil`..."""
CLEAN = """Why is C# not C++?
Node.js vs. Deno: a comparison
A trip to St. Petersburg
snake_case or camelCase
Erbsen im März säen
春のえんどう豆
نامه‌ای به دوست
Don't panic
5 € for a bag of peas 🌱"""
NO_TITLES = """
...
***
""
Title:
Untitled
I'm sorry, but I can't do that
I\u2019m unable to help with this
As an AI language model
Sure! Here is a title
Here's a title: Peas
Peas want sun. They want water as well
The title of the conversation is Peas
User: When do I sow peas?
<think>
[Peas](https://peas.example)
![](https://tracker.example/pixel.png)
Peas and **beans
Look at https://peas.example
"Peas" and "beans"
Peas \u202egnorw
Peas \0
The conversation is about how to sow peas in heavy wet soil and what to do about the slugs"""


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="ab .:*_#\"'“”`\n。Title", max_size=130),
        st.builds(str.format, st.sampled_from(AROUND.split("|")), st.text(max_size=80)),
    )
)
@example("a" * 61)
@example("_a" * 40)
def test_title_is_one_short_line_without_markup(answer):
    title = clean_title(answer)

    if title is not None:
        assert 1 <= len(title) <= 60
        assert title == " ".join(title.split())
        assert not MARKUP & set(title)
        assert not title.endswith((".", "。"))
        assert not (title[0] in QUOTES and title[-1] in QUOTES)
        assert not title.startswith("#")
        assert clean_title(title) == title


@pytest.mark.parametrize(
    "answer", [*ROUGH.split("\n"), "\n\n  Peas in   heavy soil.\n\nIt is about peas."]
)
def test_marks_around_a_title_are_removed(answer):
    assert clean_title(answer) == "Peas in heavy soil"


@pytest.mark.parametrize("title", CLEAN.split("\n"))
def test_clean_title_is_unchanged(title):
    assert clean_title(title) == title


@pytest.mark.parametrize("answer", NO_TITLES.split("\n"))
def test_answer_without_a_title_is_none(answer):
    assert clean_title(answer) is None


def test_long_answer_is_no_title():
    assert clean_title("**" * 99 + "Peas" + "**" * 99) == "Peas"
    assert clean_title("**" * 100 + "Peas" + "**" * 100) is None


def test_long_title_is_shortened_at_a_word():
    answer = "Understanding when to sow peas and how deep they have to go into soil"

    assert clean_title(answer) == "Understanding when to sow peas and how deep they have to…"
    assert first_words(answer) == clean_title(answer)


def test_title_is_not_requested_before_an_answer():
    for outcome in Outcome:
        branch = said(1, "When?"), said(2, "In", outcome=outcome)
        plan = plan_title(branch, 4096, RegexCounter())
        assert (plan is not None) is (outcome in {Outcome.COMPLETE, Outcome.CUT, Outcome.EDITED})

    assert plan_title((said(1, "When?"),), 4096, RegexCounter()) is None


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 400))
def test_request_for_a_title_is_short(asked, answer, times):
    branch = said(1, asked * times), said(2, answer * times)

    plan = plan_title(branch, 4096, RegexCounter())

    assert plan is not None
    assert plan.messages[0].body == INSTRUCTIONS
    assert plan.reply_tokens <= 24
    assert len(plan.messages[1].body.encode()) <= 1300


def test_request_shows_the_first_prompt_and_complete_reply():
    branch = (
        *(said(1, "First prompt"), said(2, "Half a", outcome=Outcome.STOPPED)),
        *(said(3, "Second prompt"), said(4, "Whole reply")),
        *(said(5, "Third prompt"), said(6, "Later reply")),
    )

    shown = plan_title(branch, 4096, RegexCounter()).messages[-1].body

    assert "First prompt" in shown
    assert "Whole reply" in shown
    assert "Half" not in shown
    assert "Later" not in shown
