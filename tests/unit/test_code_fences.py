"""Code blocks of a Markdown file that a reply shows in a code block."""

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
