"""The layout of a prompt and its size in tokens. The layout is the same for every context policy.

Many chat templates refuse a second system message, or two user messages in a row. So the facts and the summary are
blocks of the one system message, and recalled messages are a block at the start of the prompt they were recalled for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile
from typing import NamedTuple

from services.domain import Fact, Message, MessageId, Role, RunningSummary
from services.domain.context import ContextMessage, ContextPlan, Part, PartKind, RecalledMessage
from services.memory import blocks
from services.memory.tokens import TokenCounter

# The tokens that a chat template adds to each message (ChatML: 5) and to each prompt, as estimates and upper bounds. The
# bounds are high enough for templates that spell out role names and add a preamble.
MESSAGE_TOKENS, _MESSAGE_BOUND = 6, 16
_PROMPT_TOKENS, _PROMPT_BOUND = 4, 64


class Pair(NamedTuple):
    """A prompt and its reply, both verified and not empty."""

    prompt: Message
    reply: Message

    def tokens(self, counter: TokenCounter) -> int:
        return 2 * MESSAGE_TOKENS + counter.count(self.prompt.body) + counter.count(self.reply.body)


def complete_pairs(past: Sequence[Message], after: int) -> list[Pair]:
    """Return the pairs of messages in *past* whose prompt has a sequence number (seq) above *after*."""
    return [
        Pair(prompt, reply)
        for prompt, reply in pairwise(past)
        if prompt.seq > after
        and (prompt.role, reply.role) == (Role.USER, Role.ASSISTANT)
        and has_text(prompt)
        and has_text(reply)
    ]


def message_ids(pairs: Iterable[Pair]) -> tuple[MessageId, ...]:
    return tuple(half.id for pair in pairs for half in pair)


def count_fitting(pairs: Sequence[Pair], room: int, counter: TokenCounter) -> int:
    """Return how many of the newest *pairs* fit in *room*, which is in tokens."""
    return count_first((pair.tokens(counter) for pair in reversed(pairs)), room)


def count_first(sizes: Iterable[int], room: int) -> int:
    """Return how many of the first *sizes* add up to at most *room*."""
    return sum(1 for _ in takewhile(room.__ge__, accumulate(sizes)))


def has_text(message: Message) -> bool:
    return message.is_verified and bool(message.body.strip())


@dataclass(frozen=True, slots=True)
class Layout:
    """The contents of a prompt in order, and the tokens that the prompt may take."""

    room: int
    counter: TokenCounter = field(repr=False)
    instructions: str = field(repr=False)
    facts: Sequence[Fact] = ()
    summary: RunningSummary | None = None
    pairs: Sequence[Pair] = ()
    earlier_recalls: Mapping[MessageId, Sequence[RecalledMessage]] = field(
        default_factory=dict[MessageId, Sequence[RecalledMessage]]
    )
    recalls: Sequence[RecalledMessage] = ()
    prompt: str | None = field(default=None, repr=False)

    @property
    def tokens(self) -> int:
        """The size of the prompt in tokens, as a deliberately high estimate."""
        return sum(part.tokens for part in self._parts())

    @property
    def left(self) -> int:
        """The tokens that are free; below 0 if the prompt does not fit."""
        return self.room - self.tokens

    def plan(self, reply_tokens: int) -> ContextPlan:
        """Return the context plan of this layout, which leaves *reply_tokens* for the reply."""
        messages, parts = tuple(self._messages()), tuple(self._parts())
        bounds = (_MESSAGE_BOUND + self.counter.bound(message.body) for message in messages)
        return ContextPlan(
            messages=messages,
            parts=parts,
            prompt_tokens=sum(part.tokens for part in parts),
            bound_tokens=_PROMPT_BOUND + sum(bounds),
            reply_tokens=reply_tokens,
        )

    def _messages(self) -> Iterator[ContextMessage]:
        system = [self.instructions] if self.instructions else []
        if self.facts:
            system.append(blocks.fence(blocks.FACTS, map(blocks.fact_line, self.facts)))
        if self.summary:
            system.append(blocks.fence(blocks.SUMMARY, [blocks.quote(self.summary.text)]))
        if system:
            yield ContextMessage(Role.SYSTEM, "\n\n".join(system))
        for prompt, reply in self.pairs:
            recalls = self.earlier_recalls.get(prompt.id, ())
            yield ContextMessage(Role.USER, _with_recalls(recalls, prompt.body))
            yield ContextMessage(Role.ASSISTANT, reply.body)
        if self.prompt is not None:
            yield ContextMessage(Role.USER, _with_recalls(self.recalls, self.prompt))

    def _parts(self) -> Iterator[Part]:
        """Yield the parts of the prompt in order. The last part, the frame, has the tokens around and between the others."""
        counter, frame = self.counter, _PROMPT_TOKENS
        if self.instructions or self.facts or self.summary:
            frame += MESSAGE_TOKENS
        if self.instructions:
            yield Part(PartKind.INSTRUCTIONS, counter.count(self.instructions))
        if self.facts:
            yield Part(PartKind.FACTS, facts_tokens(self.facts, counter))
        if self.summary:
            yield Part(PartKind.SUMMARY, summary_tokens(self.summary, counter))
        for prompt, reply in self.pairs:
            if recalls := self.earlier_recalls.get(prompt.id):
                frame += frame_tokens(recalls, counter)
                yield from self._recall_parts(recalls, prompt.id)
            yield Part(PartKind.VERBATIM, counter.count(prompt.body), prompt.id)
            yield Part(PartKind.VERBATIM, counter.count(reply.body), reply.id)
            frame += 2 * MESSAGE_TOKENS
        if self.prompt is not None:
            if self.recalls:
                frame += frame_tokens(self.recalls, counter)
                yield from self._recall_parts(self.recalls)
            yield Part(PartKind.PROMPT, counter.count(self.prompt))
            frame += MESSAGE_TOKENS
        yield Part(PartKind.FRAME, frame)

    def _recall_parts(
        self, recalls: Iterable[RecalledMessage], prompt_id: MessageId | None = None
    ) -> Iterator[Part]:
        for each in recalls:
            tokens = recall_tokens(each, self.counter)
            yield Part(PartKind.RECALLED, tokens, each.message.id, each, prompt_id)


def facts_tokens(facts: Iterable[Fact], counter: TokenCounter) -> int:
    return blocks.fence_tokens(blocks.FACTS, map(blocks.fact_line, facts), counter)


def summary_tokens(summary: RunningSummary, counter: TokenCounter) -> int:
    return blocks.fence_tokens(blocks.SUMMARY, [blocks.quote(summary.text)], counter)


def recall_tokens(recall: RecalledMessage, counter: TokenCounter) -> int:
    return blocks.line_tokens(blocks.quote_message(recall), counter)


def frame_tokens(recalls: Iterable[RecalledMessage], counter: TokenCounter) -> int:
    """Count the tokens around recalled messages: the marker lines of their block, and each heading once."""
    stated = {heading for recall in recalls for heading in blocks.headings(recall)}
    return blocks.fence_tokens(blocks.RECALLED, (heading[-1] for heading in stated), counter)


def _with_recalls(recalls: Sequence[RecalledMessage], body: str) -> str:
    if not recalls:
        return body
    return f"{blocks.fence(blocks.RECALLED, blocks.quote_messages(recalls))}\n\n{body}"
