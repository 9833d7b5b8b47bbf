"""The share of a conversation's prompts that a provider's prefix cache holds, and the cost that it saves.

python -m benchmarks.prefix_cache [--json] [--turns N] [--budget N | --window N] [--seed N]

The app's own planner runs over one simulated conversation, once for each policy; the lengths of messages are lognormal,
topics return, and every fourth prompt asks for something said long before. The simulated cache holds the previous
prompt, in steps of 128 tokens from 1,024 on (OpenAI's rule). Costs are those of prompt tokens: a cached token costs a
part of one, a token of a summary four. The baseline, with a cost of 1, is a naive sliding window, which drops the oldest
pairs at each turn until the rest fits.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import fmean, median
from uuid import UUID

from services.chat.search import passages
from services.domain import (
    ConversationId,
    Full,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Summary,
    Window,
)
from services.domain.context import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    RecalledMessage,
)
from services.memory.compaction import plan_compaction
from services.memory.planner import plan_context
from services.memory.recall import RecallIndex
from services.memory.tokens import RegexCounter

INSTRUCTIONS_WORDS = 360  # some 400 tokens
REPLY_TOKENS = 1000  # tokens kept free for a reply, with a budget
# tokens of the longest reply, with a window; the planner decides how many of them it keeps free
LONGEST_REPLY = 8192
STEP, LEAST = 128, 1024  # tokens
PRICES = (0.1, 0.25, 0.5)  # prices of a cached token, relative to an uncached one
WRITTEN = 4  # the price of a token of a summary
ASKS_BACK = 4  # every fourth prompt asks for something said long before
COMMON_WORDS = (
    "the and of that this with for you your are was have what it is my a to in on we do not can "
    "could would there which about so but then how me at be"
)
COMMON = COMMON_WORDS.split()
SYLLABLES = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
MANY = 5000  # messages
RANKED = 200
CONVERSATION = ConversationId(UUID(int=0))
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt with its reply, and what the prompt asks for."""

    prompt: Message
    reply: Message
    evidence: MessageId | None


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix_cache")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=300)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--budget", type=int, default=8000, help="tokens of a prompt, at most")
    sizes.add_argument("--window", type=int, help="tokens of a prompt and its reply")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()

    room = ContextBudget(chosen.budget + REPLY_TOKENS, REPLY_TOKENS)
    if chosen.window:
        room = ContextBudget(chosen.window, LONGEST_REPLY)
    figures = measure(chosen.turns, room, chosen.seed)
    planning = milliseconds(chosen.seed)
    if chosen.json:
        print(json.dumps({"policies": figures, "planning_ms": planning}))
        return
    most = f"{room.prompt_tokens:,}"
    print(f"{chosen.turns} turns, prompts of at most {most} tokens, seed {chosen.seed}")
    print("                 cached   context    new    asked for,   cost, at a cached price of")
    print("                 prefix      mean  views       in view       0.1    0.25     0.5")
    for name, each in figures.items():
        costs = "".join(f"{each[f'cost_{price}']:>8.3f}" for price in PRICES)
        print(
            f"  {name:<14}{each['cached']:>7.1%}{each['context']:>10.1%}{each['views']:>7.0f}"
            f"{each['in_view']:>14.1%}  {costs}"
        )

    print(f"planning a turn over {MANY:,} messages, all in view: milliseconds, warm")
    print("".join(f"  {name} {each:.1f}" for name, each in planning.items()))


def measure(turns: int, room: ContextBudget, seed: int) -> dict[str, Figures]:
    """Return the figures of each policy by name."""
    talk = converse(turns, random.Random(seed))
    counter = RegexCounter()
    instructions = " ".join(random.Random(seed).choices(COMMON, k=INSTRUCTIONS_WORDS))
    policies: dict[str, MemoryPolicy | None] = {
        "naive": None,
        "Window(20)": Window(),
        "Window, tokens": Window(messages=10**6),
        "Summary": Summary(),
        "Retrieval": Retrieval(),
    }
    runs = {
        name: Run(policy, instructions, room, counter).over(talk)
        for name, policy in policies.items()
    }
    naive = runs["naive"]
    return {name: run.figures(naive) for name, run in runs.items()}


@dataclass(slots=True)
class Run:
    """The run of one policy through the conversation."""

    policy: MemoryPolicy | None  # the policy; None: the naive window
    instructions: str
    budget: ContextBudget
    counter: RegexCounter
    sent: tuple[ContextMessage, ...] = ()  # the messages of the last call
    tokens: int = 0
    cached: int = 0
    calls_tokens: int = 0  # tokens of calls for a summary: read, read from the cache, written
    calls_cached: int = 0
    calls_written: int = 0
    calls: int = 0
    views: int = 0
    # the sizes of prompts since the conversation no longer fits
    sizes: list[int] = field(default_factory=list[int])
    found: list[bool] = field(default_factory=list[bool])

    def over(self, talk: Sequence[Turn]) -> "Run":
        """Take each turn as the app would."""
        past: tuple[Message, ...] = ()
        history = History(self.instructions, past, None)
        index, said = RecallIndex(), dict[MessageId, Message]()
        for turn in talk:
            asked = replace(history, past=past, prompt=turn.prompt.body)
            if self.policy and self.policy.kind.needs_search:
                hits = index.search(turn.prompt.body, RANKED)
                ranked = (RecalledMessage(said[hit.id], hit.score, hit.matched) for hit in hits)
                asked = replace(asked, candidates=tuple(ranked))
            plan = self.plan(asked)
            is_new = (plan.start_seq, plan.prefix_seq) != (history.start_seq, history.prefix_seq)
            self.views += is_new
            self.take(plan.messages)
            if plan.start_seq or asked.summary:
                self.sizes.append(plan.prompt_tokens)
                if turn.evidence:
                    kept = {*plan.verbatim_ids, *plan.earlier_recall_ids}
                    kept |= {each.message.id for each in plan.recalls}
                    self.found.append(turn.evidence in kept)
            history = replace(
                asked,
                prompt=None,
                candidates=(),
                start_seq=plan.start_seq,
                prefix_seq=plan.prefix_seq,
                earlier_recalls={**history.earlier_recalls, turn.prompt.id: plan.recalls},
            )
            past = (*past, turn.prompt, turn.reply)
            index.add(passages(CONVERSATION, (turn.prompt, turn.reply)))
            said |= {turn.prompt.id: turn.prompt, turn.reply.id: turn.reply}
            if self.policy and self.policy.kind.needs_summary:
                history = self.compacted(replace(history, past=past))
        return self

    def plan(self, history: History) -> ContextPlan:
        if self.policy is not None:
            return plan_context(self.policy, history, self.budget, self.counter)
        # an unlimited window over ever less of the past, until the prompt fits the budget
        everything = ContextBudget(10**9, 0)
        by_id = {message.id: message for message in history.past}
        start_seq = history.start_seq
        while True:
            past = tuple(each for each in history.past if each.seq > start_seq)
            now = replace(history, past=past, start_seq=0)
            plan = plan_context(Window(10**6), now, everything, self.counter)
            if plan.prompt_tokens <= self.budget.prompt_tokens:
                return replace(plan, start_seq=start_seq)
            start_seq = by_id[plan.verbatim_ids[1]].seq

    def compacted(self, history: History) -> History:
        """Return *history* with its summary, made by as many calls as necessary."""
        while compaction := plan_compaction(history, self.budget, self.counter):
            said = prose(
                random.Random(compaction.up_to_seq), compaction.target_tokens
            )  # as long as the requested length
            summary = compaction.summary(said, at(compaction.up_to_seq))
            assert summary
            tokens = compaction.call.prompt_tokens
            prefix = cached_prefix(self.sent, compaction.call.messages, self.counter)
            self.calls += 1
            self.calls_tokens += tokens
            self.calls_cached += prefix
            self.calls_written += self.counter.count(said)
            history = replace(history, summary=summary)
        return history

    def take(self, messages: tuple[ContextMessage, ...]) -> None:
        """Send a prompt."""
        self.tokens += prompt_tokens(messages, self.counter)
        self.cached += cached_prefix(self.sent, messages, self.counter)
        self.sent = messages

    def cost(self, price: float) -> float:
        read = self.tokens + self.calls_tokens
        cached = self.cached + self.calls_cached
        return read - cached + price * cached + WRITTEN * self.calls_written

    def figures(self, naive: "Run") -> Figures:
        costs = {f"cost_{price}": self.cost(price) / naive.cost(price) for price in PRICES}
        return {
            "cached": self.cached / self.tokens,
            "context": fmean(self.sizes or [0]) / self.budget.prompt_tokens,
            "views": self.views,
            "in_view": fmean(self.found or [0]),
            "calls": self.calls,
            **costs,
        }


def prompt_tokens(messages: Sequence[ContextMessage], counter: RegexCounter) -> int:
    return sum(6 + counter.count(message.body) for message in messages)


def cached_prefix(
    before: Sequence[ContextMessage], now: Sequence[ContextMessage], counter: RegexCounter
) -> int:
    """Return the tokens of *now* that a cache has after the prompt *before*."""
    tokens = 0
    for old, new in zip(before, now, strict=False):
        if old == new:
            tokens += 6 + counter.count(new.body)
            continue
        if old.role is new.role:
            same = next(
                (n for n, (a, b) in enumerate(zip(old.body, new.body, strict=False)) if a != b),
                min(len(old.body), len(new.body)),
            )
            tokens += counter.count(new.body[:same])
        break
    return tokens // STEP * STEP if tokens >= LEAST else 0


def milliseconds(seed: int) -> Figures:
    """Return the CPU time of one plan over many messages whose tokens are already counted."""
    talk = converse(MANY // 2, random.Random(seed))
    past = tuple(half for turn in talk for half in (turn.prompt, turn.reply))
    ranked = tuple(RecalledMessage(each, 1.0) for each in past[::25])
    history = History("Be kind.", past, "And now?", candidates=ranked)
    room = ContextBudget(MANY * 1000, REPLY_TOKENS)
    counter = RegexCounter()
    taken: Figures = {}
    for policy in (Full(), Window(messages=MANY), Summary(), Retrieval()):
        plan_context(policy, history, room, counter)
        times: list[float] = []
        for _ in range(7):
            begun = time.process_time()
            plan_context(policy, history, room, counter)
            times.append(1000 * (time.process_time() - begun))
        taken[policy.name.capitalize()] = median(times)
    return taken


# -- the conversation -------------------------------------------------------------------------


def converse(turns: int, rng: random.Random) -> list[Turn]:
    """Return prompts of some 60 tokens and replies of some 250; topics return."""
    topics: list[list[str]] = []
    names: list[tuple[str, MessageId]] = []  # words that occur in one prompt only
    talk: list[Turn] = []
    topic: list[str] = []
    for number in range(turns):
        if not topic or rng.random() < 0.25:
            if topics and rng.random() < 0.6:
                topic = rng.choice(topics)
            else:
                topic = [word(rng, 3) for _ in range(25)]
                topics.append(topic)
        asked = prose(rng, max(5, int(rng.lognormvariate(3.7, 0.8))), topic)
        replied = prose(rng, max(20, int(rng.lognormvariate(5.3, 0.7))), topic)
        evidence = None
        if names and number % ASKS_BACK == 0:
            name, evidence = rng.choice(names)
            asked = f"{asked} what about {name}"
        own = word(rng, 5)
        prompt = message(2 * number + 1, Role.USER, f"{own} {asked}")
        names.append((own, prompt.id))
        talk.append(Turn(prompt, message(2 * number + 2, Role.ASSISTANT, replied), evidence))
    return talk


def prose(rng: random.Random, tokens: int, topic: Sequence[str] = ()) -> str:
    """Return a text: half of it common words, a third words of the topic, the rest words that occur once."""
    count = max(1, round(tokens / 1.47))  # the tokens that the counter gives such words
    return " ".join(
        rng.choice(COMMON)
        if (dice := rng.random()) < 0.55 or not topic
        else rng.choice(topic)
        if dice < 0.92
        else word(rng, 4)
        for _ in range(count)
    )


def word(rng: random.Random, syllables: int) -> str:
    return "".join(rng.choices(SYLLABLES, k=syllables))


def message(seq: int, role: Role, body: str) -> Message:
    return Message(
        id=MessageId(UUID(int=seq)),
        seq=seq,
        parent_id=MessageId(UUID(int=seq - 1)) if seq > 1 else None,
        role=role,
        body=body,
        created_at=at(seq),
    )


def at(seq: int) -> datetime:
    """Return the time of a message, at forty messages a day."""
    return datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=seq // 40, minutes=seq % 40)


if __name__ == "__main__":
    main()
