"""How a prompt is put together and measured: the same for every policy.

Many chat templates refuse a second system message and two user messages in a row. So facts and
summary are blocks of the one system message, and what is recalled is a block at the head of the user
message that it was recalled for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from services.domain import Fact, Message, MessageId, Role, RunningSummary
from services.memory import blocks
from services.memory.context import ContextMessage, Part, PartKind, RecalledMessage
from services.memory.extracts import Extract
from services.memory.tokens import TokenCounter

# What a chat template puts around a message (ChatML: 5), and around the whole of a prompt. The
# bounds hold where role names are spelt out and the template brings a preamble of its own.
MESSAGE_TOKENS, _MESSAGE_BOUND = 6, 16
PROMPT_TOKENS, _PROMPT_BOUND = 4, 64


# a `Part`, before it is one: to add up thousands, none is needed
_Measured = tuple[
    PartKind, int, MessageId | None, MessageId | None, tuple[str, ...], Extract | None
]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its reply, both verified and not empty."""

    prompt: Message
    reply: Message

    def __iter__(self) -> Iterator[Message]:
        yield self.prompt
        yield self.reply

    def tokens(self, counter: TokenCounter) -> int:
        return 2 * MESSAGE_TOKENS + counter.count(self.prompt.body) + counter.count(self.reply.body)


def whole_pairs(past: Sequence[Message], after: int) -> list[Pair]:
    """The pairs of *past* that begin after a seq."""
    return [
        Pair(prompt, reply)
        for prompt, reply in pairwise(past)
        if prompt.seq > after
        and (prompt.role, reply.role) == (Role.USER, Role.ASSISTANT)
        and says_something(prompt)
        and says_something(reply)
    ]


def how_many_fit(pairs: Sequence[Pair], room: int, counter: TokenCounter) -> int:
    """How many of the newest *pairs* fit in so many tokens."""
    for newer, pair in enumerate(reversed(pairs)):
        room -= pair.tokens(counter)
        if room < 0:
            return newer
    return len(pairs)


def says_something(message: Message) -> bool:
    return message.is_verified and bool(message.body.strip())


@dataclass(frozen=True, slots=True)
class Layout:
    """What a prompt consists of, in its order."""

    instructions: str = field(repr=False)
    facts: Sequence[Fact] = ()
    summary: RunningSummary | None = None
    pairs: Sequence[Pair] = ()
    earlier_recalls: Mapping[MessageId, Sequence[RecalledMessage]] = field(
        default_factory=dict[MessageId, Sequence[RecalledMessage]]
    )
    recalled: Sequence[RecalledMessage] = ()
    prompt: str | None = field(default=None, repr=False)

    def messages(self) -> tuple[ContextMessage, ...]:
        """What is sent."""
        said: list[ContextMessage] = []
        system = [self.instructions] if self.instructions else []
        if self.facts:
            system.append(blocks.fenced(blocks.FACTS, map(blocks.fact_line, self.facts)))
        if self.summary:
            system.append(blocks.fenced(blocks.SUMMARY, [blocks.quoted(self.summary.text)]))
        if system:
            said.append(ContextMessage(Role.SYSTEM, "\n\n".join(system)))
        for pair in self.pairs:
            block = self.earlier_recalls.get(pair.prompt.id, ())
            said.append(ContextMessage(Role.USER, _headed(block, pair.prompt.body)))
            said.append(ContextMessage(Role.ASSISTANT, pair.reply.body))
        if self.prompt is not None:
            said.append(ContextMessage(Role.USER, _headed(self.recalled, self.prompt)))
        return tuple(said)

    def parts(self, counter: TokenCounter) -> tuple[Part, ...]:
        """What each part takes, leaning high, in the order of the prompt; what frames them last."""
        return tuple(Part(*part) for part in self._measured(counter))

    def tokens(self, counter: TokenCounter) -> int:
        """What all of them take."""
        return sum(part[1] for part in self._measured(counter))

    def _measured(self, counter: TokenCounter) -> Iterator[_Measured]:
        frame = PROMPT_TOKENS
        if self.instructions or self.facts or self.summary:
            frame += MESSAGE_TOKENS
        if self.instructions:
            yield PartKind.INSTRUCTIONS, counter.count(self.instructions), None, None, (), None
        if self.facts:
            yield PartKind.FACTS, facts_tokens(self.facts, counter), None, None, (), None
        if self.summary:
            yield PartKind.SUMMARY, summary_tokens(self.summary.text, counter), None, None, (), None
        for pair in self.pairs:
            asked, reply = pair.prompt, pair.reply
            if block := self.earlier_recalls.get(asked.id, ()):
                frame += frame_tokens(block, counter)
                for each in block:
                    tokens, message_id = said_tokens(each, counter), each.message.id
                    yield PartKind.RECALLED, tokens, message_id, asked.id, (), each.extract
            yield PartKind.VERBATIM, counter.count(asked.body), asked.id, None, (), None
            yield PartKind.VERBATIM, counter.count(reply.body), reply.id, None, (), None
            frame += 2 * MESSAGE_TOKENS
        if self.prompt is not None:
            if self.recalled:
                frame += frame_tokens(self.recalled, counter)
                for found in self.recalled:
                    tokens, its = said_tokens(found, counter), found.message.id
                    yield PartKind.RECALLED, tokens, its, None, found.matched, found.extract
            yield PartKind.PROMPT, counter.count(self.prompt), None, None, (), None
            frame += MESSAGE_TOKENS
        yield PartKind.FRAME, frame, None, None, (), None


def bound_tokens(messages: Iterable[ContextMessage], counter: TokenCounter) -> int:
    """Never fewer tokens than *messages* take."""
    return _PROMPT_BOUND + sum(_MESSAGE_BOUND + counter.bound(m.body) for m in messages)


def fact_tokens(fact: Fact, counter: TokenCounter) -> int:
    return counter.count(blocks.fact_line(fact) + "\n")


def facts_tokens(facts: Iterable[Fact], counter: TokenCounter) -> int:
    lines = sum(fact_tokens(fact, counter) for fact in facts)
    return lines + _marks_tokens(blocks.FACTS, counter)


def summary_tokens(text: str, counter: TokenCounter) -> int:
    return counter.count(blocks.quoted(text) + "\n") + _marks_tokens(blocks.SUMMARY, counter)


def said_tokens(quote: RecalledMessage, counter: TokenCounter) -> int:
    return counter.count(blocks.said(quote) + "\n")


def headings_tokens(headings: Iterable[tuple[str, ...]], counter: TokenCounter) -> int:
    return sum(counter.count(heading[-1] + "\n") for heading in headings)


def frame_tokens(block: Sequence[RecalledMessage], counter: TokenCounter) -> int:
    """Count the tokens of a recalled block beside its messages: its marks, and each year and day once."""
    headings = {each for quote in block for each in blocks.headings(quote.message.created_at)}
    return _marks_tokens(blocks.RECALLED, counter) + headings_tokens(headings, counter)


def _marks_tokens(marks: tuple[str, str], counter: TokenCounter) -> int:
    return sum(counter.count(mark + "\n\n") for mark in marks)


def _headed(block: Sequence[RecalledMessage], body: str) -> str:
    if not block:
        return body
    quotes = blocks.fenced(blocks.RECALLED, blocks.conversation(block))
    return f"{quotes}\n\n{body}"
