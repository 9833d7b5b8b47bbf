"""Code blocks of a Markdown file that a reply shows in a code block."""

from pathlib import Path

import pytest

from services.domain import code_fences


@pytest.mark.parametrize("name", ["", "markdown", " MD"])
@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
def test_fence_around_a_file_with_fences_is_lengthened(name, fence):
    inner = f"# a\n\n  {fence}sh\n  ls\n  {fence}\n\nb\n"
    reply = f"So:\n\n{fence}{name}\n{inner}{fence}\n\nEnd"

    shown = code_fences.lengthened(reply)

    longer = fence + fence[0]
    assert shown == f"So:\n\n{longer}{name}\n{inner}{longer}\n\nEnd"
    assert code_fences.lengthened(shown) == shown


def test_file_may_have_blocks_without_a_language():
    inner = "# a\n\n```bash\nls\n```\n\nTree:\n\n```\na/\n```\n\nEnd\n"

    shown = code_fences.lengthened(f'```md title="README.md"\n{inner}```\n\nBye')

    assert shown == f'````md title="README.md"\n{inner}````\n\nBye'


def test_block_behind_a_file_stays_apart():
    file, code = "# a\n\n```sh\nls\n```\n\nb\n", "Run:\n\n```\nls\n```\n"

    shown = code_fences.lengthened(f"```md\n{file}```\n\n{code}")

    assert shown == f"````md\n{file}````\n\n{code}"


REPORT = (Path(__file__).parents[1] / "reports" / "37-nested-fence.md").read_text("utf-8")
BEHIND = "\n\nThen check it:\n\n```bash\ntodo --version\n```\n\nDone."


def test_closed_block_behind_a_file_changes_nothing_in_it():
    shown = code_fences.lengthened(f"```sh\nls\n```\n\n{REPORT}{BEHIND}")

    assert shown == f"```sh\nls\n```\n\n{code_fences.lengthened(REPORT)}{BEHIND}"
    assert shown.count("````") == 2


def test_named_fence_in_a_file_opens_a_block_whatever_the_blank_lines():
    file, behind = "# a\n\n```sh\n\nls\n\n```\nMIT\n\n", "\nEnd\n\n```sh\nls\n```"

    assert code_fences.lengthened(f"```md\n{file}```{behind}") == f"````md\n{file}````{behind}"


@pytest.mark.parametrize(
    "held",
    [
        "# a\n\n```\nls\n```\n\nMIT",
        "# a\n\nRun:\n```\nls\n```\nMIT",
        "# a\n```sh\nls\n```\nMIT",
        "# a\n```md\n# b\n```sh\nls\n```\n```\nMIT",
        "- ```sh\n  ls\n  ```\n\nMIT",
    ],
    ids=["nameless", "dense", "one inside", "twice", "item inside"],
)
@pytest.mark.parametrize("indent", ["", "> ", "   ", "- "])
def test_file_ends_behind_its_last_block_if_another_follows(held, indent):
    def inside(fence):
        further = "\n" + indent.replace("-", " ")
        return indent + f"{fence}md\n{held}\n{fence}".replace("\n", further)

    shown = code_fences.lengthened(f"So:\n\n{inside('```')}\n\nEnd{BEHIND}")

    assert shown == f"So:\n\n{inside('````')}\n\nEnd{BEHIND}"


@pytest.mark.parametrize(
    "reply",
    [
        "Text:\n```\na\n```\nThen:\n```\nb\n```\nand:\n```\nc\n```\nEnd",
        "Text\n```\na\n\n```\nThen\n```\n\nb\n```\nand\n```\nc\n\n```\n\n```sh\nls\n```\nEnd",
        "```md\n# a\n```\nRun:\n```\nls\n```\nOut:\n```\nok\n```\nEnd",
        "```md\n# a\n```\n\nRun:\n\n```sh\nls\n```\n\nOut:\n\n```\nok\n```\nEnd",
        "> ```md\n> # a\n\n```\nls\n```\n\n```\nls\n```",
        "```md\n# a\n> ```sh\n> ls\n> ```\n```\nEnd",
    ],
)
def test_separate_blocks_are_not_joined(reply):
    assert code_fences.lengthened(reply) == reply


@pytest.mark.parametrize(
    "reply",
    [
        "```md\n```sh\nls\n```\nEnd",  # each is closed as CommonMark reads them
        "```md\n```sh\nls\n```\n```\n```\nEnd",
        "```python\n```sh\nls\n```\n```\nEnd",  # no file of Markdown
        "```md\n```sh\nls\n```\n```\nEnd\n```",
        "```sh\na\n```\n~~~\nb\n~~~\n```\nc\n```",
        "````md\n```sh\nls\n```\n````",
        "no fence",
        "```md\n```sh\nls\n```\n```\n" + "```\n" * 61,
    ],
)
def test_other_replies_stay_as_they_are(reply):
    assert code_fences.lengthened(reply) == reply
