"""A prompt is drawn as it was typed."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.string_util import clean_text

from pages._parts import prompts

SHOW_ALL = '<button type="button" class="db-more" aria-expanded="false">Show all</button>'


class Reader(HTMLParser):
    """An HTML parser that collects the visible texts and the tags of a page."""

    def __init__(self):
        super().__init__()
        self.texts, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("p", "code"):
            self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data


def read(html):
    reader = Reader()
    reader.feed(clean_text(html).removesuffix(SHOW_ALL))
    reader.close()
    return reader


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
    shown = read(prompts.as_typed("\n".join(lines)))

    assert set(shown.tags) <= {"div", "p", "pre", "code"}
    typed = [line for line in "\n".join(lines).split("\n") if line not in ("```", "~~~x")]
    drawn = [line for line in "\n".join(shown.texts).split("\n") if line not in ("```", "~~~x")]
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
    shown = read(prompts.as_typed(typed))

    assert [text for text in shown.texts if text] == parts
    assert shown.tags.count("code") == is_code


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
