"""Parser of a reply's text: splits off thoughts, and the tokens of chat templates that servers leave in it. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

# tokens of chat templates around a reply: ChatML; Llama 3; Gemma; GLM and Phi; Llama 2 and Mistral
_ROLE_MARKS = (
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<start_of_turn>model",
    "<|assistant|>",
    "<s>",
)
_END_MARKS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<|endoftext|>")
# marks around thoughts that are part of the text: vLLM and LM Studio without a parser of thoughts, older Ollama; Magistral
_CLOSED_BY = {"<think>": "</think>", "[THINK]": "[/THINK]"}
# gpt-oss (openai-harmony): `<|channel|>NAME<|message|>TEXT<|end|>`, and perhaps `<|start|>assistant` before it
_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_FINAL = "final"  # the name of the channel with the text; all others are thoughts
_MESSAGE_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_HEADERS = (_START, _CHANNEL)
_QUOTES = {"`", '"', "'"}
_LONGEST_HEADER = 3  # words of the header of a channel: a role, a name and a recipient
# characters of white space before or behind a mark; after more, the mark is text
_LONGEST_BLANK = 64
_LONGEST_NAME = 256  # characters of the name of a channel
_SLICE = 512  # characters that are read at once, so that a text full of marks takes linear time


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the text of a reply."""

    text: str = field(repr=False)
    is_thought: bool = False


class ReplyText:
    """Reads the text of one reply piece by piece. What may be a part of a mark waits for the next piece."""

    def __init__(self) -> None:
        self._pending = self._rest = ""
        self._read: Callable[[str], list[Part]] = self._read_beginning
        # the marks that may still come at the beginning, each kind once
        self._first_marks = [_END_MARKS, _ROLE_MARKS]
        self.has_channels = False  # true if the text begins with a channel mark
        self._closing = ""  # the mark that ends the thoughts
        self._last = ""  # the last character that was read of a message of a channel

    def read(self, content: str) -> list[Part]:
        """Return the parts of *content*, the next piece of the text, and of what has waited."""
        parts: list[Part] = []
        for start in range(0, len(content), _SLICE):
            self._rest, self._pending = self._pending + content[start : start + _SLICE], ""
            while self._rest:
                now, self._rest = self._rest, ""
                parts += self._read(now)
        return [
            Part(text, is_thought)
            for is_thought, run in groupby(parts, attrgetter("is_thought"))
            if (text := "".join(part.text for part in run))
        ]

    def finish(self) -> list[Part]:
        """Return what has waited, at the end of the reply, without one end mark of a template."""
        pending, self._pending = self._pending, ""
        if self._read == self._read_between:
            return []
        if self._read == self._read_channel and len(pending.split()) <= _LONGEST_HEADER:
            return []  # the header of a channel without a message
        is_thought = self._read in (self._read_thoughts, self._read_thought_channel)
        if not is_thought and (mark := _ending(pending)):
            pending = pending[: pending.rindex(mark)]
        return [Part(pending, is_thought)] if pending else []

    def _read_beginning(self, content: str) -> list[Part]:
        begun = content.lstrip()
        for marks in self._first_marks:
            mark = next(filter(begun.startswith, marks), "")
            rest = begun.removeprefix(mark)
            # a role, and `<s>`, may also begin a text about them
            if mark and (marks is _END_MARKS or rest[:1].isspace()):
                self._first_marks.remove(marks)
                return self._read_beginning(rest.lstrip())
        for opening, closing in _CLOSED_BY.items():
            # some chat templates put the opening mark into the prompt, so a reply without thoughts begins with the closing mark
            if begun.startswith((opening, closing)):
                self._closing = closing
                return self._goes_on(self._read_thoughts, begun.removeprefix(opening))
        if begun.startswith(_HEADERS):
            self.has_channels = True
            return self._goes_on(self._read_channel, begun)
        marks = *_ROLE_MARKS, *_END_MARKS, *_CLOSED_BY, *_CLOSED_BY.values(), *_HEADERS
        if any(mark.startswith(begun) for mark in marks) and len(content) <= _LONGEST_BLANK:
            self._pending = content
            return []
        # white space behind a mark belongs to the mark
        return self._goes_on(self._read_text, content if len(self._first_marks) == 2 else begun)

    def _read_thoughts(self, content: str) -> list[Part]:
        thought, mark, text = content.partition(self._closing)
        if mark:
            return [Part(thought, is_thought=True), *self._goes_on(self._read_text, text)]
        return [Part(self._keep_back(content, [self._closing]), is_thought=True)]

    def _read_text(self, content: str) -> list[Part]:
        return [Part(self._keep_back(content, _END_MARKS, keeps_whole=True))]

    def _read_channel(self, content: str) -> list[Part]:
        name, mark, text = content.partition(_MESSAGE)
        if not mark and len(content) > _LONGEST_NAME:
            return self._goes_on(self._read_text, content)
        if not mark:
            self._pending = content
            return []
        is_text = _CHANNEL not in name or name.rpartition(_CHANNEL)[2].split()[:1] == [_FINAL]
        self._last = ""
        return self._goes_on(self._read_final if is_text else self._read_thought_channel, text)

    def _read_final(self, content: str) -> list[Part]:
        return self._read_message(content, is_thought=False)

    def _read_thought_channel(self, content: str) -> list[Part]:
        return self._read_message(content, is_thought=True)

    def _read_message(self, content: str, *, is_thought: bool) -> list[Part]:
        ends = [content.find(mark) for mark in _MESSAGE_ENDS]
        if is_thought:  # which may lack the mark of their end; a text merely names a header
            ends += [self._find_header(content, mark) for mark in _HEADERS]
        if (at := min((end for end in ends if end >= 0), default=-1)) >= 0:
            return [
                Part(content[:at], is_thought),
                *self._goes_on(self._read_between, content[at:]),
            ]
        marks = (*_MESSAGE_ENDS, *(_HEADERS if is_thought else _END_MARKS))
        shown = self._keep_back(content, marks, keeps_whole=not is_thought)
        self._last = shown[-1:] or self._last
        return [Part(shown, is_thought)]

    def _find_header(self, content: str, mark: str) -> int:
        """Return the index of the first *mark* that no quotation mark precedes; -1 if there is none."""
        at = content.find(mark)
        while at >= 0 and (content[at - 1] if at else self._last) in _QUOTES:
            at = content.find(mark, at + 1)
        return at

    def _read_between(self, content: str) -> list[Part]:
        """Read from the mark that ends a message: another header follows, or the mark is a part of the text."""
        mark = next(filter(content.startswith, (*_MESSAGE_ENDS, *_HEADERS)))
        rest = content if mark in _HEADERS else content.removeprefix(mark).lstrip()
        if rest.startswith(_HEADERS):
            return self._goes_on(self._read_channel, rest)
        if any(header.startswith(rest) for header in _HEADERS) and len(content) <= _LONGEST_NAME:
            self._pending = content
            return []
        return [Part(mark), *self._goes_on(self._read_final, content.removeprefix(mark))]

    def _goes_on(self, read: Callable[[str], list[Part]], content: str) -> list[Part]:
        """Let `read` go on with *content* in the state *read*."""
        self._read, self._rest = read, content
        return []

    def _keep_back(self, content: str, marks: Iterable[str], *, keeps_whole: bool = False) -> str:
        """Keep the end of *content* if it may become one of *marks*, or is one (*keeps_whole*); return the rest."""
        pending = max((_common(content, mark) for mark in marks), key=len)
        if keeps_whole and (mark := _ending(content)):
            pending = content[content.rindex(mark) :]
        self._pending = pending if len(pending) <= _LONGEST_BLANK else ""
        return content.removesuffix(self._pending)


def text_of(reply: str) -> str:
    """Return the text of a stored *reply* that begins with a channel mark, else its thoughts; other replies as they are.

    A server of gpt-oss refuses a chat with such marks, and others a message without text.
    """
    if not any(
        mark in reply for mark in _HEADERS
    ):  # quick: this is asked of each reply of each prompt
        return reply
    text = ReplyText()
    parts: Sequence[Part] = [*text.read(reply), *text.finish()]
    if not text.has_channels:
        return reply
    said = "".join(part.text for part in parts if not part.is_thought)
    return said or "".join(part.text for part in parts) or "…"


def _common(content: str, mark: str) -> str:
    """Return the longest end of *content* with which *mark* begins, without the whole mark."""
    at = content.find(mark[0], max(0, len(content) - len(mark) + 1))
    while at >= 0 and not mark.startswith(content[at:]):
        at = content.find(mark[0], at + 1)
    return content[at:] if at >= 0 else ""


def _ending(content: str) -> str:
    """Return the end mark that *content* ends with, apart from white space; "" if there is none."""
    return next(filter(content.rstrip().endswith, _END_MARKS), "")
