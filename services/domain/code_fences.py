"""Fences of code blocks in a whole reply: those around a Markdown file that has code blocks itself are lengthened.

By CommonMark, a fence in such a file would end the block around it. Inner lines are never changed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_MARKDOWN = re.compile(r"(?:(?:markdown|md)\b.*)?$", re.IGNORECASE)
_MOST_FENCES = 60  # in replies with more, CommonMark's reading holds


class _Fence(NamedTuple):
    at: int  # the number of its line
    marks: str
    info: str
    is_followed: bool  # true if the next line has text, as behind a fence that opens a block

    @property
    def may_hold_fences(self) -> bool:
        return _MARKDOWN.match(self.info) is not None

    def is_closed_by(self, other: "_Fence") -> bool:
        is_alike = other.marks[0] == self.marks[0] and len(other.marks) >= len(self.marks)
        return is_alike and not other.info


class _Block(NamedTuple):
    """An outer block, by its fences, and the length of its longest inner fence (characters; 0: none)."""

    begin: _Fence
    end: _Fence
    longest: int


def lengthened(reply: str) -> str:
    """Return the whole *reply* with longer fences around Markdown files that have fences of code blocks themselves.

    If each block is closed by CommonMark's reading, or if no reading closes each, return *reply* unchanged.
    """
    if reply.count("```") < 3 and reply.count("~~~") < 3:
        return reply
    lines = reply.split("\n")
    fences = [fence for at in range(len(lines)) if (fence := _fence(lines, at))]
    if len(fences) > _MOST_FENCES or _odd_fences(fences) is not None:
        return reply
    for block in _outer_blocks(fences) or ():
        for fence in (block.begin, block.end) if block.longest else ():
            longer = fence.marks[0] * (block.longest + 1)
            lines[fence.at] = lines[fence.at].replace(fence.marks, longer, 1)
    return "\n".join(lines)


def _fence(lines: Sequence[str], at: int) -> _Fence | None:
    found = _FENCE.match(lines[at].rstrip("\r"))
    if not found:
        return None
    is_followed = at + 1 < len(lines) and lines[at + 1].strip() != ""
    return _Fence(at, found["marks"], found["info"].strip(), is_followed)


def _odd_fences(fences: Sequence[_Fence]) -> int | None:
    """Return how many of *fences* are no usual ones if no block holds another; None if a block stays open.

    Usually, a line with text follows a fence that opens a block, and none follows one that closes it.
    """
    opened: _Fence | None = None
    odd = 0
    for fence in fences:
        if opened is None:
            opened = fence
            odd += not fence.is_followed
        elif opened.is_closed_by(fence):
            opened = None
            odd += fence.is_followed
    return odd if opened is None else None


def _outer_blocks(fences: Sequence[_Fence]) -> list[_Block] | None:
    """Return the outer blocks by the likeliest reading in which all blocks are closed; None if there is none."""
    # by the number of a first fence, those of the rest of the reply; from the end, because each needs the later ones
    read: dict[int, list[_Block] | None] = {len(fences): []}
    for at in reversed(range(len(fences))):
        read[at] = _first_and_rest(fences, at, read)
    return read[0]


def _first_and_rest(
    fences: Sequence[_Fence], at: int, read: Mapping[int, list[_Block] | None]
) -> list[_Block] | None:
    first = fences[at]
    ends = [end for end in range(at + 1, len(fences)) if first.is_closed_by(fences[end])]
    odds: list[tuple[int, int]] = []
    for end in ends if first.may_hold_fences else ends[:1]:
        odd = _odd_fences(fences[at + 1 : end])
        # the last of equally likely ends, so that nothing of the file is left out
        if odd is not None and read[end + 1] is not None:
            odds.append((odd + fences[end].is_followed, -end))
    if not odds:
        return None
    end = -min(odds)[1]
    longest = max((len(fence.marks) for fence in fences[at + 1 : end]), default=0)
    return [_Block(first, fences[end], longest), *(read[end + 1] or [])]
