"""Fences of code blocks in a whole reply: those around a Markdown file that has code blocks itself are lengthened.

By CommonMark, a fence in such a file would end the block around it. Inner lines are never changed.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_FENCE = re.compile(
    r"(?P<prefix>(?:[ \t>]|(?:[*+-]|\d{1,9}[.)])[ \t])*+)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$"
)
_MARKDOWN = re.compile(r"(?:markdown|md)\b", re.IGNORECASE)
_MARGIN = " \t\r>"
_MOST_FENCES = 60  # in replies with more, CommonMark's reading holds
_FENCE_AS_TEXT = 4  # the cost of a fence that can only open a block, read as text of another one


class _Fence(NamedTuple):
    at: int  # the number of its line
    quotes: int  # the depth of quotations around it
    marks: str
    info: str
    is_opening: bool  # true if it cannot close a block
    signs: int  # of two signs of a fence that opens a block: text below it; a blank line or a colon above it

    @property
    def is_markdown(self) -> bool:
        return _MARKDOWN.match(self.info) is not None

    @property
    def cost(self) -> int:
        """The cost of the fence as one that opens a block: higher the less usual it is. As one that closes a block, it costs `signs`."""
        return 0 if self.is_opening else 2 - self.signs

    def is_like(self, other: "_Fence") -> bool:
        is_alike = other.marks[0] == self.marks[0] and len(other.marks) >= len(self.marks)
        return is_alike and other.quotes == self.quotes

    def is_closed_by(self, other: "_Fence") -> bool:
        return self.is_like(other) and not other.is_opening


class _Block(NamedTuple):
    """A block by its fences, the length of its longest inner fence (characters; 0: none), and its cost: how unusual it is."""

    begin: _Fence
    end: _Fence
    longest: int
    cost: int


class _Reading(NamedTuple):
    cost: int
    blocks: tuple[_Block, ...]


def lengthened(reply: str) -> str:
    """Return the whole *reply* with longer fences around Markdown files that have fences of code blocks themselves.

    If CommonMark's reading is as likely as another, or if no reading closes each block, return *reply* unchanged.
    """
    if reply.count("```") < 3 and reply.count("~~~") < 3:
        return reply
    lines = reply.split("\n")
    fences = [fence for at in range(len(lines)) if (fence := _fence(lines, at))]
    if len(fences) > _MOST_FENCES:
        return reply
    for block in _outer_blocks(fences):
        for fence in (block.begin, block.end) if block.longest else ():
            longer = fence.marks[0] * (block.longest + 1)
            lines[fence.at] = lines[fence.at].replace(fence.marks, longer, 1)
    return "\n".join(lines)


def _fence(lines: Sequence[str], at: int) -> _Fence | None:
    found = _FENCE.match(lines[at].rstrip("\r"))
    if not found:
        return None
    prefix, info = found["prefix"], found["info"].strip()
    above = lines[at - 1].strip(_MARGIN) if at else ""
    below = lines[at + 1].strip(_MARGIN) if at + 1 < len(lines) else ""
    has_text_below = below != "" and not below.startswith(("```", "~~~"))
    signs = has_text_below + (above == "" or above.endswith((":", "\uff1a")))
    is_opening = info != "" or prefix.strip(_MARGIN) != ""
    return _Fence(at, prefix.count(">"), found["marks"], info, is_opening, signs)


def _outer_blocks(fences: Sequence[_Fence]) -> tuple[_Block, ...]:
    """Return the outer blocks by the likeliest reading in which all blocks are closed; none if there is none."""
    # by the number of a first fence, that of the rest of the reply; from the end, because each needs the later ones
    read = {len(fences): _Reading(0, ())}
    for at in reversed(range(len(fences))):
        readings = [
            _Reading(block.cost + rest.cost, (block, *rest.blocks))
            for end, block in _blocks(fences, at)
            if (rest := read.get(end + 1))
        ]
        if readings:
            # CommonMark's of equally likely ones, then the last end, so that nothing of the file is left out
            read[at] = min(
                readings,
                key=lambda one: (one.cost, one.blocks[0].longest > 0, -one.blocks[0].end.at),
            )
    return read.get(0, _Reading(0, ())).blocks


def _blocks(fences: Sequence[_Fence], at: int) -> Iterator[tuple[int, _Block]]:
    """Yield the blocks that the fence *at* may begin, each behind the number of its end: CommonMark's, and those with blocks inside.

    A block without a name has blocks inside only if the next fence has one, as it never has between two separate blocks.
    """
    first, rest = fences[at], fences[at + 1 :]
    is_holding = first.is_markdown or (not first.info and rest != [] and rest[0].info != "")
    is_closed = False
    plain_cost = cost = first.cost
    longest = 0
    open_inside: list[_Fence] = []
    for end, fence in enumerate(rest, at + 1):
        if first.is_closed_by(fence):
            if not is_closed:
                yield end, _Block(first, fence, 0, plain_cost + fence.signs)
            if not is_holding:
                return
            if longest and not open_inside:
                yield end, _Block(first, fence, longest, cost + fence.signs)
            is_closed = True
        elif first.is_like(fence):
            plain_cost += _FENCE_AS_TEXT
        longest = max(longest, len(fence.marks))
        around = open_inside[-1] if open_inside else None
        if around and around.is_closed_by(fence):
            cost += fence.signs
            open_inside.pop()
        elif not around or (around.is_markdown and around.is_like(fence)):
            cost += fence.cost
            open_inside.append(fence)
        elif around.is_like(fence):
            cost += _FENCE_AS_TEXT
