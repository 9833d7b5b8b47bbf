"""How well recall finds the messages that answer a question, in conversations of LoCoMo's format.

python -m benchmarks.recall --data FILE [--json]

recall@k is the share of a question's evidence among the first k messages, and the mean over all
questions. The second table is the share of questions whose evidence is all inside a context of so
many tokens, as the planner fills it for the policies Window and Retrieval.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count as count_from
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from services.domain import (
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Window,
)
from services.memory import (
    ContextBudget,
    History,
    Passage,
    Recalled,
    RecallIndex,
    RegexCounter,
    RememberingCounter,
    plan_context,
)

KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
DEPTHS = (5, 10, 20)
BUDGETS = (1_000, 2_000, 4_000, 8_000)
ALL_MESSAGES = 100_000
BETWEEN_TURNS = timedelta(minutes=1)  # the data has one time for each session
COUNTER = RememberingCounter(RegexCounter(), 100_000)


@dataclass(frozen=True)
class Question:
    """What is asked, and the messages that answer it."""

    text: str
    kind: str
    evidence: frozenset[MessageId]


@dataclass(frozen=True)
class Talk:
    """A conversation, and questions about it."""

    name: str
    passages: list[Passage]
    questions: list[Question]

    @cached_property
    def past(self) -> tuple[Message, ...]:
        """The passages as prompts and replies, in turns: so the planner knows a conversation."""
        return tuple(
            Message(
                id=passage.id,
                seq=passage.seq,
                parent_id=None,
                role=Role.ASSISTANT if n % 2 else Role.USER,
                body=passage.body,
                created_at=passage.created_at,
            )
            for n, passage in enumerate(self.passages)
        )


@dataclass(frozen=True)
class Answer:
    """A question, and the messages that recall brings for it, the best first."""

    talk: Talk
    question: Question
    found: list[MessageId]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall")
    parser.add_argument("--data", type=Path, required=True, help="a file of LoCoMo's format")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    figures = measure(talks(json.loads(arguments.data.read_text("utf-8"))))
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"{figures['questions']} questions about {figures['messages']} messages")
    print(f"  {'recall@':24}" + "".join(f"{depth:>8}" for depth in DEPTHS))
    for name, shares in figures["recall"].items():
        print(f"  {name:24}" + "".join(f"{share:8.3f}" for share in shares.values()))
    print(f"  {'all evidence, tokens':24}" + "".join(f"{budget:>8,}" for budget in BUDGETS))
    for name, shares in figures["context"].items():
        print(f"  {name:24}" + "".join(f"{share:8.3f}" for share in shares.values()))
    print(f"  to index a conversation  {figures['index_ms']:7.2f} ms of CPU")
    print(f"  to ask                   {figures['ask_ms']:7.2f} ms")


def measure(data: Sequence[Talk]) -> dict[str, Any]:
    """The figures by name."""
    answers: list[Answer] = []
    index_ms: list[float] = []
    ask_ms: list[float] = []
    for talk in data:
        index = RecallIndex()
        begun = time.process_time()
        index.add(talk.passages)
        index.search("")
        index_ms.append((time.process_time() - begun) * 1000)
        for question in talk.questions:
            begun = time.process_time()
            hits = index.search(question.text, ALL_MESSAGES)
            ask_ms.append((time.process_time() - begun) * 1000)
            answers.append(Answer(talk, question, [hit.id for hit in hits]))

    groups = {"all": answers}
    for kind in KINDS.values():
        groups[kind] = [answer for answer in answers if answer.question.kind == kind]
    for talk in data:
        groups[talk.name] = [answer for answer in answers if answer.talk is talk]
    groups = {name: group for name, group in groups.items() if group}
    contexts = {
        "Window": means(groups["all"], in_context(window), BUDGETS),
        "Retrieval": means(groups["all"], in_context(retrieval), BUDGETS),
    } | {
        f"  {name}": means(group, in_context(retrieval), BUDGETS)
        for name, group in groups.items()
        if name != "all"
    }
    return {
        "questions": len(answers),
        "messages": sum(len(talk.passages) for talk in data),
        "recall": {name: means(group, recall_at, DEPTHS) for name, group in groups.items()},
        "context": contexts,
        "index_ms": round(statistics.mean(index_ms), 2),
        "ask_ms": round(statistics.mean(ask_ms), 2),
    }


def recall_at(answer: Answer, depth: int) -> float:
    """The share of the evidence among the first *depth* messages."""
    return len(answer.question.evidence.intersection(answer.found[:depth])) / len(
        answer.question.evidence
    )


def means(
    answers: Iterable[Answer], value: Callable[[Answer, int], float], at: Iterable[int]
) -> dict[str, float]:
    """The mean *value* at each of *at*."""
    answers = list(answers)
    return {str(n): round(statistics.mean(value(a, n) for a in answers), 4) for n in at}


def in_context(
    pack: Callable[[Answer, int], set[MessageId]],
) -> Callable[[Answer, int], float]:
    """Whether the evidence is all in what *pack* puts into so many tokens."""
    return lambda answer, tokens: float(answer.question.evidence <= pack(answer, tokens))


def window(answer: Answer, tokens: int) -> set[MessageId]:
    """What the policy Window shows, bounded by tokens alone."""
    return planned(Window(2 * len(answer.talk.past)), answer, tokens)


def retrieval(answer: Answer, tokens: int) -> set[MessageId]:
    """What the policy Retrieval shows to who asks once, of a long conversation."""
    return planned(Retrieval(), answer, tokens)


def planned(policy: MemoryPolicy, answer: Answer, tokens: int) -> set[MessageId]:
    """The messages that are in a prompt of so many tokens, the question among them."""
    by_id = {message.id: message for message in answer.talk.past}
    history = History(
        instructions="",
        past=answer.talk.past,
        prompt=answer.question.text,
        ranked=tuple(Recalled(by_id[found], 0.0) for found in answer.found),
    )
    plan = plan_context(policy, history, ContextBudget(tokens, 0), COUNTER)
    return {*plan.shown, *(each.message.id for each in plan.recalled)}


def talks(data: Iterable[Mapping[str, Any]]) -> list[Talk]:
    """The conversations of a file, and the questions about them that have evidence."""
    return [_talk(str(one.get("sample_id", n)), one) for n, one in enumerate(data)]


def _talk(name: str, data: Mapping[str, Any]) -> Talk:
    sessions = data["conversation"]
    ids: dict[str, MessageId] = {}
    passages: list[Passage] = []
    for n in count_from(1):
        turns = sessions.get(f"session_{n}")
        if turns is None:
            break
        when = f"{sessions[f'session_{n}_date_time']} +0000"
        begun = datetime.strptime(when, "%I:%M %p on %d %B, %Y %z")
        for k, turn in enumerate(turns):
            picture = turn.get("blip_caption")
            ids[turn["dia_id"]] = MessageId(uuid5(NAMESPACE_OID, f"{name} {turn['dia_id']}"))
            passages.append(
                Passage(
                    id=ids[turn["dia_id"]],
                    conversation_id=ConversationId(uuid5(NAMESPACE_OID, name)),
                    seq=len(passages) + 1,
                    speaker=turn["speaker"],
                    body=turn["text"] + (f" [shares {picture}]" if picture else ""),
                    created_at=begun + k * BETWEEN_TURNS,
                )
            )
    questions = [
        Question(question["question"], KINDS[question["category"]], evidence)
        for question in data["qa"]
        if question["category"] in KINDS
        if (evidence := _evidence(question, ids))
    ]
    return Talk(name, passages, questions)


def _evidence(question: Mapping[str, Any], ids: Mapping[str, MessageId]) -> frozenset[MessageId]:
    # "D8:6; D9:17" and "D01:5" occur, and turns that do not exist
    turns = re.findall(r"D0*(\d+):0*(\d+)", " ".join(map(str, question["evidence"])))
    return frozenset(ids[f"D{a}:{b}"] for a, b in turns if f"D{a}:{b}" in ids)


if __name__ == "__main__":
    main()
