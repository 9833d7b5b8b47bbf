"""Fences of code blocks in a whole reply: one around a Markdown file that has code blocks itself is lengthened.

By CommonMark, a fence in such a file would end the block around it. Inner lines are never changed.
"""

import re
from typing import NamedTuple

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_OUTER = re.compile(r" {0,3}(?:`{3,}|~{3,})[ \t]*(?:markdown|md)?[ \t]*$", re.IGNORECASE)


class _Fence(NamedTuple):
    at: int  # the number of its line
    marks: str

    def is_closed_by(self, marks: str) -> bool:
        return marks[0] == self.marks[0] and len(marks) >= len(self.marks)


def lengthened(reply: str) -> str:
    """Return the whole *reply* with longer fences around Markdown files that have fences of code blocks themselves.

    A fence with a language opens a block and one without closes the innermost, if with this reading each is closed at
    the end of the reply; else, or if each is closed by CommonMark's reading, return *reply* unchanged.
    """
    if reply.count("```") < 3 and reply.count("~~~") < 3:
        return reply
    lines = reply.split("\n")
    pairs = _nested_pairs(lines)
    if not pairs or _is_balanced(lines):
        return reply
    for begin, end, longest in pairs:
        for at, marks in (begin, end):
            lines[at] = lines[at].replace(marks, marks[0] * (longest + 1), 1)
    return "\n".join(lines)


def _nested_pairs(lines: list[str]) -> list[tuple[_Fence, _Fence, int]]:
    """Return both fences of each outer block with inner ones, and the length of its longest inner one (characters).

    Return an empty list if a block stays open at the end.
    """
    pairs: list[tuple[_Fence, _Fence, int]] = []
    opened: list[_Fence] = []
    longest = 0
    for at, line in enumerate(lines):
        fence = _FENCE.match(line.rstrip("\r"))
        if not fence:
            continue
        marks, is_named = fence["marks"], fence["info"].strip() != ""
        if not opened:
            opened, longest = [_Fence(at, marks)], 0
        elif not is_named and opened[-1].is_closed_by(marks):
            closed = opened.pop()
            if opened:
                longest = max(longest, len(closed.marks), len(marks))
            elif longest:
                pairs.append((closed, _Fence(at, marks), longest))
        elif is_named and _OUTER.match(lines[opened[0].at].rstrip("\r")):
            opened.append(_Fence(at, marks))
    return [] if opened else pairs


def _is_balanced(lines: list[str]) -> bool:
    """Return whether each block is closed by CommonMark's reading, in which no block holds another."""
    opened: _Fence | None = None
    for at, line in enumerate(lines):
        fence = _FENCE.match(line.rstrip("\r"))
        if not fence or len(fence["indent"]) > 3:
            continue
        if opened is None:
            opened = _Fence(at, fence["marks"])
        elif fence["info"].strip() == "" and opened.is_closed_by(fence["marks"]):
            opened = None
    return opened is None
