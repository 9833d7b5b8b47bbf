"""How well recall finds the messages that answer a question, in conversations of LoCoMo's format.

python -m benchmarks.recall --data FILE [--json]

recall@k is the share of a question's evidence among the first k messages, and the mean over all
questions. The second table is the share of questions whose evidence is all inside a context of so
many tokens, as the planner fills it for the policies Window and Retrieval. It counts high until an endpoint
has said how many tokens its prompts had; what it fits in after that stands in a row of its own, where the
tokenizers of benchmarks.token_forecast are installed (its first lines say how; this needs numpy beside them).
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count as count_from
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from pydantic import BaseModel, ConfigDict, TypeAdapter

from benchmarks.token_forecast import Tokenizer, load_tokenizers
from services.domain import (
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Tokens,
    Window,
)
from services.memory import (
    Call,
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    Passage,
    Rates,
    Recalled,
    RecallIndex,
    RegexCounter,
    RememberingCounter,
    ScaledCounter,
    TokenCounter,
    learn,
    plan_context,
)

KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
DEPTHS = (5, 10, 20)
BUDGETS = (1_000, 2_000, 4_000, 8_000)
ALL_MESSAGES = 100_000
BETWEEN_TURNS = timedelta(minutes=1)  # the data has one time for each session
COUNTER = RememberingCounter(RegexCounter(), 100_000)
MODEL = "GPT-4o"  # whose tokens are counted, where they can be
MESSAGE_TOKENS = 5  # around a message (ChatML)


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
    counter: TokenCounter = COUNTER


Shares = Mapping[str, float]  # by depth, or by tokens


@dataclass(frozen=True)
class Figures:
    """What was measured: the shares by the name of a group of questions."""

    questions: int
    messages: int
    recall: Mapping[str, Shares]
    context: Mapping[str, Shares]
    index_ms: float  # of CPU, for a conversation
    ask_ms: float
    overfull: (
        float | None
    )  # of the prompts whose tokens could be counted, the share that has too many


class Said(BaseModel):
    """One turn of LoCoMo's format."""

    speaker: str
    dia_id: str
    text: str
    blip_caption: str | None = None


class Asked(BaseModel):
    """One question of LoCoMo's format."""

    question: str
    category: int
    evidence: list[str] = []


class Sample(BaseModel):
    """One conversation of LoCoMo's format, its sessions and their times by name."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    sample_id: str | None = None
    conversation: dict[str, str | list[Said]]
    qa: list[Asked]


SAMPLES = TypeAdapter(list[Sample])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall")
    parser.add_argument("--data", type=Path, required=True, help="a file of LoCoMo's format")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    figures = measure(talks(SAMPLES.validate_json(arguments.data.read_bytes())))
    if arguments.json:
        print(json.dumps(asdict(figures)))
        return
    print(f"{figures.questions} questions about {figures.messages} messages")
    print(f"  {'recall@':24}" + "".join(f"{depth:>8}" for depth in DEPTHS))
    for name, shares in figures.recall.items():
        print(f"  {name:24}" + "".join(f"{share:8.3f}" for share in shares.values()))
    print(f"  {'all evidence, tokens':24}" + "".join(f"{budget:>8,}" for budget in BUDGETS))
    for name, shares in figures.context.items():
        print(f"  {name:24}" + "".join(f"{share:8.3f}" for share in shares.values()))
    if figures.overfull is not None:
        print(f"  of these prompts, too long for {MODEL}: {figures.overfull:.2%}")
    print(f"  to index a conversation  {figures.index_ms:7.2f} ms of CPU")
    print(f"  to ask                   {figures.ask_ms:7.2f} ms")


def measure(data: Sequence[Talk]) -> Figures:
    """How much of the evidence is found, and how fast."""
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
    overfull = None
    if tokenizer := load_tokenizer():
        counters = {talk.name: learned(talk, tokenizer) for talk in data}
        again = [replace(answer, counter=counters[answer.talk.name]) for answer in answers]
        contexts[f"Retrieval, {MODEL} known"] = means(again, in_context(retrieval), BUDGETS)
        overfull = statistics.mean(
            tokens_of(plan(Retrieval(), answer, tokens).messages, tokenizer) > tokens
            for answer in again
            for tokens in BUDGETS
        )
    return Figures(
        overfull=overfull,
        questions=len(answers),
        messages=sum(len(talk.passages) for talk in data),
        recall={name: means(group, recall_at, DEPTHS) for name, group in groups.items()},
        context=contexts,
        index_ms=round(statistics.mean(index_ms), 2),
        ask_ms=round(statistics.mean(ask_ms), 2),
    )


def recall_at(answer: Answer, depth: int) -> float:
    """The share of the evidence among the first *depth* messages."""
    return len(answer.question.evidence.intersection(answer.found[:depth])) / len(
        answer.question.evidence
    )


def means(
    answers: Iterable[Answer], value: Callable[[Answer, int], float], at: Iterable[int]
) -> Shares:
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
    """The messages that are in a prompt of so many tokens."""
    chosen = plan(policy, answer, tokens)
    return {*chosen.shown, *(each.message.id for each in chosen.recalled)}


def plan(policy: MemoryPolicy, answer: Answer, tokens: int) -> ContextPlan:
    """The prompt of so many tokens that asks the question."""
    by_id = {message.id: message for message in answer.talk.past}
    history = History(
        instructions="",
        past=answer.talk.past,
        prompt=answer.question.text,
        ranked=tuple(Recalled(by_id[found], 0.0) for found in answer.found),
    )
    return plan_context(policy, history, ContextBudget(tokens, 0), answer.counter)


def load_tokenizer() -> Tokenizer | None:
    """The model's, if it is installed."""
    try:
        return load_tokenizers()[MODEL]
    except ImportError:
        return None


def learned(talk: Talk, tokenizer: Tokenizer) -> TokenCounter:
    """How a plan counts once an endpoint has counted each prompt of *talk*."""
    rates, last = Rates(), None
    sent: tuple[ContextMessage, ...] = ()
    for prompt, reply in zip(talk.past[::2], talk.past[1::2], strict=False):
        asked, said = (ContextMessage(each.role, each.body) for each in (prompt, reply))
        counted = Tokens(tokens_of((*sent, asked), tokenizer), tokenizer(said.body))
        call = Call(model=MODEL, messages=(*sent, asked), reply=said, tokens=counted)
        rates, last = learn(rates, last, call, COUNTER), call
        sent = (*sent, asked, said)
    return ScaledCounter(COUNTER, rates)


def tokens_of(messages: Iterable[ContextMessage], tokenizer: Tokenizer) -> int:
    """What the model counts of a prompt."""
    return sum(MESSAGE_TOKENS + tokenizer(message.body) for message in messages)


def talks(samples: Iterable[Sample]) -> list[Talk]:
    """The conversations of a file, and the questions about them that have evidence."""
    return [_talk(sample.sample_id or str(n), sample) for n, sample in enumerate(samples)]


def _talk(name: str, sample: Sample) -> Talk:
    ids: dict[str, MessageId] = {}
    passages: list[Passage] = []
    for n in count_from(1):
        turns = sample.conversation.get(f"session_{n}")
        if not isinstance(turns, list):
            break
        when = f"{sample.conversation[f'session_{n}_date_time']} +0000"
        begun = datetime.strptime(when, "%I:%M %p on %d %B, %Y %z")
        for k, turn in enumerate(turns):
            ids[turn.dia_id] = MessageId(uuid5(NAMESPACE_OID, f"{name} {turn.dia_id}"))
            picture = f" [shares {turn.blip_caption}]" if turn.blip_caption else ""
            passages.append(
                Passage(
                    id=ids[turn.dia_id],
                    conversation_id=ConversationId(uuid5(NAMESPACE_OID, name)),
                    seq=len(passages) + 1,
                    speaker=turn.speaker,
                    body=turn.text + picture,
                    created_at=begun + k * BETWEEN_TURNS,
                )
            )
    questions = [
        Question(asked.question, KINDS[asked.category], evidence)
        for asked in sample.qa
        if asked.category in KINDS
        if (evidence := _evidence(asked, ids))
    ]
    return Talk(name, passages, questions)


def _evidence(asked: Asked, ids: Mapping[str, MessageId]) -> frozenset[MessageId]:
    # "D8:6; D9:17" and "D01:5" occur, and turns that do not exist
    turns = re.findall(r"D0*(\d+):0*(\d+)", " ".join(asked.evidence))
    return frozenset(ids[f"D{a}:{b}"] for a, b in turns if f"D{a}:{b}" in ids)


if __name__ == "__main__":
    main()
