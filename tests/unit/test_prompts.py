"""A prompt is drawn as it was typed."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.string_util import clean_text

from pages._parts import prompts

SHOW_ALL = '<button type="button" class="db-more" aria-expanded="false">Show all</button>'


def read(html):
    """Return the tags of the page that Streamlit makes from *html*, and their texts."""
    page = [*ElementTree.fromstring(clean_text(html).removesuffix(SHOW_ALL)).iter()]  # noqa: S314
    return [one.tag for one in page], [one.text or "" for one in page if one.tag in ("p", "code")]


@given(
    st.lists(
        st.sampled_from(
            [
                "# a",
                "<img src=x onerror=alert(1)> ![a](http://e/i)",
                "  <b>",
                "&amp;",
                "   ",
                "~~~x",
                "```",
                "\t- *",
            ]
        )
    )
)
def test_prompt_keeps_every_character(lines):
    tags, texts = read(prompts.as_typed("\n".join(lines)))

    assert set(tags) <= {"div", "p", "pre", "code"}
    typed = [line for line in "\n".join(lines).split("\n") if line not in ("```", "~~~x")]
    drawn = [line for line in "\n".join(texts).split("\n") if line not in ("```", "~~~x")]
    assert [line for line in drawn if line] == [line for line in typed if line]


@pytest.mark.parametrize(
    ("typed", "parts", "is_code"),
    [
        ("# a\n    b", ["# a\n    b"], False),
        ("So:\n```python\n  # a\n```\nWhy?", ["So:", "  # a", "Why?"], True),
        ("~~~\n```\n~~~", ["```"], True),
        ("```\nleft open", ["```\nleft open"], False),
        ("````\n```\n````", ["```"], True),
        ("```a``` b", ["```a``` b"], False),
    ],
)
def test_closed_fence_is_code(typed, parts, is_code):
    tags, texts = read(prompts.as_typed(typed))

    assert [text for text in texts if text] == parts
    assert tags.count("code") == is_code


@pytest.mark.parametrize(
    ("typed", "is_folded"),
    [
        ("a\n" * 10 + "a", False),
        ("a\n" * 11 + "a", True),
        ("a" * 72 * 10, False),
        ("a" * 999, True),
    ],
)
def test_prompt_of_twelve_lines_is_folded(typed, is_folded):
    assert prompts.as_typed(typed).endswith(SHOW_ALL) == is_folded
