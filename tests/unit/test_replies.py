"""Replies in exported pages keep their Markdown, and cannot become another part of the page."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from services.portable import replies

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKS = (
    """# |## |###### |    |  |   |\t|```|````|~~~|``` python|`|``|> |- |1. |2. |===|---|--|-|<!--|-->|<details>|<b
|![x](http://e/i)|[x]: http://e/i|\\|$|$$|a|a<b|x|\n|\n|\n\n|<http://e>|`b`| |[^1]: |[^1]"""
    + """|[^1]: a b| b"""
)
PIECES = st.sampled_from([*MARKS.replace("\n|", "|\n|").split("|"), "|"])
REPLIES = st.lists(PIECES, max_size=16).map("".join)


@pytest.mark.slow
@settings(max_examples=600)
@given(REPLIES)
@example("`a\nb` <b> `x`")
@example("| `a | <b> ` |\n|---|---|")
@example("$`$ `<b>`")
@example("a\n2. ```\n   # x\n   ```")
@example("- ```\n# x")
@example("===\n===")
@example("~~~\n# x")
@example("<![x](http://e/i)")
@example("```![x](http://e/i)|\n---")
def test_reply_stays_within_its_part_of_the_page(body):
    lowered = replies.lower(body)

    if lowered is None:
        return
    tokens = READER.parse(f"## Before\n\n{lowered}\n\n## After\n\nend")
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_block", "html_inline", "image"} & {one.type for one in [*tokens, *inline]}
    high = [n for n, one in enumerate(tokens) if one.type == "heading_open" and one.tag in "h1 h2"]
    assert [(tokens[n + 1].content, tokens[n].level) for n in high] == [("Before", 0), ("After", 0)]


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        ("# One\n\n### Two\n\n###### Six", "### One\n\n##### Two\n\n###### Six"),
        ("One\n===\nTwo\n---", "### One\n#### Two"),
        ("> # quoted\n\n- ## listed", "> ### quoted\n\n- #### listed"),
        ("## One\n---\ntext\n\n---", "#### One\n\n---\ntext\n\n---"),
        ("if a < b and <div> in `<p>`", "if a < b and \\<div> in `<p>`"),
        ("![x](http://e/i) <https://e.org>", "!\\[x](http://e/i) <https://e.org>"),
        ("$a<b$ and\n$$\nx<y\n$$", "$a< b$ and\n$$\nx< y\n$$"),
        ("1. So:\n\n   ```sh\n   # a <b>\n   ```", "1. So:\n\n   ```sh\n   # a <b>\n   ```"),
        ("```\n# a", "```\n# a\n```"),
        ("[1]: https://e.org", "\\[1]: https://e.org"),
        ("So.[^1]\n\n[^1]: In wet soil.", "So.[^1]\n\n[^1]: In wet soil."),
        ("[^1]: https://e.org", "\\[^1]: https://e.org"),
        ("[^1]: # wet soil", "\\[^1]: # wet soil"),
        ("a\r\nb", "a  \nb"),
        ("| a |\n|---|\n| `b` |", "| a |\n|---|\n| `b` |"),
        ("Run:\n\n    pip install x\n\n\tls", "Run:\n\n    pip install x\n\n\tls"),
        (
            "1. So:\n\n    a <b>\n\n   - c\n\n      ## d",
            "1. So:\n\n    a \\<b>\n\n   - c\n\n      #### d",
        ),
        ("a\n    b <b>", "a  \n    b \\<b>"),
    ],
)
def test_reply_keeps_its_markdown(body, lowered):
    assert replies.lower(body) == lowered


@pytest.mark.parametrize(
    ("body", "lowered"),
    [
        ("Roses\nare red,\n\nViolets\nare blue", "Roses  \nare red,\n\nViolets  \nare blue"),
        (
            "1. Name\n   Street\n   - a\n2. b\n> c\n> d",
            "1. Name  \n   Street\n   - a\n2. b  \n> c  \n> d",
        ),
        ("a  \nb\\\nc \nd", "a  \nb\\\nc  \nd"),
        ("a\n# b\nc", "a\n### b\nc"),
        ("a\n$$\nx\ny\n$$\nb\nc", "a\n$$\nx\ny\n$$\nb  \nc"),
        ("a `b\nc` d\ne", "a `b\nc` d  \ne"),
        ("a ` b\nc\nd", "a ` b  \nc  \nd"),
        ("- a ` b\n  c\n- d ` e\n  f", "- a ` b  \n  c\n- d ` e  \n  f"),
        ("a \\` b\nc ` d\ne", "a \\` b  \nc ` d  \ne"),
        ("a\\\\\nb\\ \nc\\\nd", "a\\\\  \nb\\  \nc\\\nd"),
        ("a\n```\nb\nc\n```\nd\ne", "a\n```\nb\nc\n```\nd  \ne"),
        ("> a\n>\n> b", "> a\n>\n> b"),
        ("[a]: x\n[b]: y", "\\[a]: x\n\\[b]: y"),
        ("| a |\n|---|\n| b |\n\nc", "| a |\n|---|\n| b |\n\nc"),
    ],
    ids=[
        *("paragraphs", "list and quotation", "breaks", "heading", "formula", "code span"),
        *(
            "lone backtick",
            "lone backticks of items",
            "escaped backtick",
            "escaped backslash",
            "code",
        ),
        *("quoted paragraphs", "definitions", "table"),
    ],
)
def test_line_end_in_a_paragraph_is_a_hard_break(body, lowered):
    assert replies.lower(body) == lowered


@pytest.mark.parametrize("body", ["$$\nx", "> ```\n> a", "%% hidden", "::: note", "a\u2028# b"])
def test_ambiguous_reply_is_not_lowered(body):
    assert replies.lower(body) is None


@pytest.mark.parametrize(
    "body",
    [
        "Run:\n\n    # install it\n    pip install x",
        "Run:\n\n    pip install x\n    echo <b> > f.html",
        "Run:\n\n\t# install it",
        "    Peas\n    ====",
        "# Run\n    ![x](http://e/i)",
        "- a\n\nRun:\n\n    # install it",
        "1. Run:\n\n        # install it",
    ],
)
def test_indented_code_that_would_change_is_not_lowered(body):
    assert replies.lower(body) is None


def test_further_paragraph_of_a_footnote_is_text():
    reply = "Wait.[^1]\n\n[^1]: Wet soil is cold.\n\n    See <b>that</b>."

    assert replies.lower(reply) == reply.replace("<", "\\<")


def test_footnote_gets_another_label_where_it_is_defined():
    body = "So.[^A] `[^a]` $[^a]$\n\n[^a]: In wet soil.\n"

    assert replies.lower(body, {"a": "a-2"}) == (
        "So.[^a-2] `[^a]` $[^a]$\n\n[^a-2]: In wet soil.\n"
    )
    assert replies.lower("So.[^A]", {"a": "a-2"}) == "So.[^A]"
