"""Model calls that note facts about the user, compared with one call for each prompt.

python -m benchmarks.facts --data FILE [--json] [--budget N]

The chats of a file in LoCoMo's format, between a user and an assistant, are processed as the app does with memory on: a
call for every five prompts, and one for the rest at the end of a session. The figures are the number of calls, their
estimated input tokens beside those of replies under the policy Window with prompts of at most N tokens, and the share
of the user's messages named as evidence by the file's questions that are in a call, and in a call in full.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.recall import SAMPLES, talks
from services.domain import Message, MessageId, Role, Window
from services.domain.context import ContextBudget, History
from services.memory.facts import (
    exchange_of,
    is_request_due,
    may_state_facts,
    plan_fact_request,
    plan_fact_requests,
)
from services.memory.planner import plan_context
from services.memory.tokens import RegexCounter

REPLY_TOKENS = 1000


@dataclass(slots=True)
class Calls:
    """The calls of one way to note facts."""

    count: int = 0
    tokens: int = 0
    shown: set[MessageId] = field(default_factory=set[MessageId])
    whole: set[MessageId] = field(default_factory=set[MessageId])

    def add(self, text: str, tokens: int, prompts: Sequence[Message]) -> None:
        self.count += 1
        self.tokens += tokens
        self.shown |= {prompt.id for prompt in prompts}
        self.whole |= {prompt.id for prompt in prompts if _flat(prompt.body) in _flat(text)}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=8000, help="tokens of a prompt, at most")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures = measure(chosen.data, chosen.budget)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(
            f"  {name:44}{value:>12,.3f}"
            if isinstance(value, float)
            else f"  {name:44}{value:>12,}"
        )


def measure(data: Path, budget: int) -> dict[str, int | float]:
    """Return the figures of all chats in the file *data*."""
    counter, room = RegexCounter(100_000), ContextBudget(budget + REPLY_TOKENS, REPLY_TOKENS)
    each, several = Calls(), Calls()
    prompts, reply_tokens = 0, 0
    evidence = set[MessageId]()
    for talk in talks(SAMPLES.validate_json(data.read_bytes())):
        roles = {passage.id: passage.speaker for passage in talk.passages}
        past = [message for message in talk.past if roles[message.id] == message.role.value]
        assert len(past) == len(talk.past), "a chat of a user with an assistant is needed"
        users = {message.id for message in past if message.role is Role.USER}
        evidence |= users & {one for asked in talk.questions for one in asked.evidence}
        start_seq, pending = 0, list[tuple[Message, ...]]()
        for at in range(0, len(past) - 1, 2):
            exchange = exchange_of(past, at)
            prompt = past[at]
            prompts += 1
            history = History("", tuple(past[:at]), prompt.body, start_seq=start_seq)
            plan = plan_context(Window(10**6), history, room, counter)
            start_seq = plan.start_seq
            reply_tokens += plan.prompt_tokens
            alone = plan_fact_request(exchange, (), room.context_tokens, counter)
            each.add(alone.messages[-1].body, alone.prompt_tokens, [prompt])
            if may_state_facts(prompt.body):
                pending.append(exchange)
            is_left = (
                at + 2 >= len(past) - 1
                or past[at + 2].created_at.date() != prompt.created_at.date()
            )
            asked = [said[0] if len(said) < 3 else said[1] for said in pending]
            while pending and (is_left or is_request_due(asked, prompt.created_at)):
                count, request = plan_fact_requests(pending, (), room.context_tokens, counter)
                several.add(request.messages[-1].body, request.prompt_tokens, asked[:count])
                pending, asked = pending[count:], asked[count:]
    return {
        "prompts": prompts,
        "calls, one for each prompt": each.count,
        "calls": several.count,
        "of these": several.count / each.count,
        "share of input tokens, one for each prompt": each.tokens / (each.tokens + reply_tokens),
        "share of input tokens": several.tokens / (several.tokens + reply_tokens),
        "prompts that are evidence": len(evidence),
        "in a call": len(evidence & several.shown),
        "whole in a call": len(evidence & several.whole),
        "whole, one for each prompt": len(evidence & each.whole),
    }


def _flat(text: str) -> str:
    return "".join(filter(str.isalnum, text))


if __name__ == "__main__":
    main()
