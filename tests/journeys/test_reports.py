"""Replies that public reports about chat apps name (tests/reports), and others of their kinds, are drawn as written."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, second_process

# ruff: noqa: RUF001 (punctuation of Chinese and Japanese)
REPORTS = Path(__file__).parents[1] / "reports"
OTHERS = {
    "bold": "注意**（重要）**です。~~「旧」~~と言う。*《书名》*的作者，见**[链接](https://e.org)**后。",
    "links": "见https://e.org/a，或者(https://e.org/b)。www.e.org/c：好。**https://e.org/e**的——[看](https://e.org/（d）)",
    "marks": r"a \-> b, `--` and **x**<- y, 5 ~= 5, p &lt;= q, r <-> s --",
    "lists": "Pseudo-elements:\n\n- ::before\n- ::after\n\n> ::marker",
    "names": "Set :violet-background and a :color, /user/:key:/x, a[:lock:] at 12:30[1] :tada:",
    "dollars": "${A}/${B}, $(pwd):$(ls), 5$→7$, http://$H:$P/$X, $5 or 7$; echo $$ and $$ but $n$th and $x$-axis of $A$.",
    "tex": "> Here \\[ a_1 +\n> b\n> \\] and \\(x\\), but \\[1\\] and \\[x\\](y) \\(as said there\\).",
    "cells": "| a | b |\n|---|---|\n| one<br>two<br />three | `<br>` <br onload=x> |\n\n"
    "- item\n\n  | a |\n  |---|\n  | **four<br>five** [six<br>seven](/x) |",
    "notes": "A third note[^1] and a named one[^x].\n\n[^1]: Note one of the third.\n[^x]: The named note.",
    "fences": "~~~\n# a\n~~~sh\nls\n~~~\nb\n~~~\nOutside.",
}
TEXT = """(message) => {
  const copy = message.cloneNode(true);
  for (const formula of copy.querySelectorAll(".katex")) formula.textContent = "(formula)";
  return copy.textContent.replaceAll("\\u2060", "");
}"""


@pytest.fixture
def replies(app, maya):
    """Return the drawn replies by the names of the reports and of OTHERS, in one chat."""
    said = {path.stem: path.read_text("utf-8") for path in sorted(REPORTS.glob("*.md"))} | OTHERS
    with second_process(app) as sessions:
        _, session = sessions.sign_in_with(maya.email, PASSWORD)
        conversation_id = converse(session, list(said.items()))
    maya.visit(f"/?c={conversation_id}")
    maya.hears("Outside.")
    maya.page.get_by_role("button", name="Earlier messages", exact=True).click()
    maya.sees_no_reply_coming()
    expect(maya.messages).to_have_count(2 * len(said))
    return {name: maya.messages.nth(2 * n + 1) for n, name in enumerate(said)}


def test_replies_are_drawn_as_they_were_written(replies):
    def text(name):
        return replies[name].evaluate(TEXT)

    def count(name, selector):
        return replies[name].locator(selector).count()

    assert count("35-cjk-bold", "strong") == 5
    assert "*" not in text("35-cjk-bold")
    assert [count("bold", kind) for kind in ("strong", "del", "em", "strong a")] == [2, 1, 1, 1]
    assert not set("*~") & set(text("bold"))

    [file] = replies["37-nested-fence"].locator("pre").all_inner_texts()
    assert file.startswith("# todo")
    assert file.rstrip().endswith("MIT")
    assert "That is the whole file." in replies["37-nested-fence"].locator("p").all_inner_texts()
    assert replies["fences"].locator("pre").inner_text().strip() == "# a\n~~~sh\nls\n~~~\nb"

    for name in ("38-dollar-variables", "42-double-hyphen"):
        assert count(name, ".katex") == 0
        written = (REPORTS / f"{name}.md").read_text("utf-8")
        assert text(name).split() == written.split()
    assert text("dollars").split(" but ") == [
        "${A}/${B}, $(pwd):$(ls), 5$→7$, http://$H:$P/$X, $5 or 7$; echo $$ and $$",
        "(formula)th and (formula)-axis of (formula).",
    ]

    for word in ("red", "blue", "small", "green", "orange", "help", "yellow", "grey"):
        assert f":{word}" in text("40-colon-colour")
    assert text("names") == (
        "Set :violet-background and a :color, /user/:key:/x, a[:lock:] at 12:30[1] 🎉"
    )
    assert text("lists").split() == ["Pseudo-elements:", "::before", "::after", "::marker"]
    assert text("marks") == "a -> b, -- and x<- y, 5 ~= 5, p <= q, r <-> s --"

    assert count("45-tex-in-text", ".katex") == 4
    assert "[ E" not in text("45-tex-in-text")
    assert text("tex").strip() == (
        "Here (formula) and (formula), but [1] and [x](y) (as said there)."
    )

    first, second = replies["44-footnotes-1"], replies["44-footnotes-2"]
    ids = first.page.locator("[id]").evaluate_all("all => all.map((one) => one.id)")
    assert len(ids) == len(set(ids))
    for reply, notes in (
        (second, ["Note one of the second reply."]),
        (replies["notes"], ["Note one of the third.", "The named note."]),
    ):
        links = reply.locator("sup a")
        for number, note in enumerate(notes):
            link = links.nth(number).get_attribute("href")
            assert reply.locator(f"li{link}").inner_text().startswith(note)
            assert first.locator("li").first.get_attribute("id") != link[1:]
    label = second.locator("sup a").get_attribute("aria-describedby")
    assert second.locator(f"#{label}").text_content() == "Footnotes"

    hrefs = replies["links"].locator("a").evaluate_all("all => all.map((one) => one.href)")
    assert hrefs == [
        *("https://e.org/a", "https://e.org/b", "http://www.e.org/c", "https://e.org/e"),
        "https://e.org/%EF%BC%88d%EF%BC%89",
    ]
    cells = replies["cells"].locator("td")
    assert cells.first.inner_text() == "one\ntwo\nthree"
    assert cells.nth(1).inner_text() == "<br> <br onload=x>"
    assert cells.last.inner_text() == "four\nfive six\nseven"
