"""Recall@k of the messages that answer a question, in conversations of LoCoMo's format.

python -m benchmarks.recall --data FILE [--names "1=one fact,2=time"] [--questions FILE] [--json]
python -m benchmarks.recall --data FILE --speed N

recall@k is the share of a question's evidence among the first k messages, averaged over all questions. The baseline is
SQLite's FTS5 (porter stemmer, words joined by OR, without stop words); the difference at k = 10 is given with its 90 %
interval (paired bootstrap over the questions) for all questions, and as the mean for each kind. If speakers have names,
everything is also measured with the roles `user` and `assistant`, as in the app.

The second table is the share of questions whose whole evidence is in a context of so many tokens, as the planner fills it for
the policies Window and Retrieval. A message that is sent as an extract counts if the extract has at least half of the
answer's terms that the message has; two rows below show the figures without extracts, and with every extract counted.
The planner's token count is too high until an endpoint has reported the tokens of its prompts; a row of its own shows what
fits after that, if the tokenizers of benchmarks.token_forecast are installed (see its first lines; this module also
needs numpy).

`--names` selects and names the categories to measure; without it, all are measured. `--questions` adds questions about the
file's conversations: [{"sample_id", "question", "evidence"}]. `--speed N` indexes N messages of 77 and of 300 words, drawn
from the words of the data, and searches for the questions of the data.
"""

import argparse
import gc
import json
import random
import re
import resource
import sqlite3
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count as count_from
from multiprocessing import get_context
from pathlib import Path
from timeit import timeit
from uuid import NAMESPACE_OID, UUID, uuid5

from pydantic import BaseModel, ConfigDict, TypeAdapter

from benchmarks.token_forecast import Tokenizer, load_tokenizers
from services.domain import (
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    Retrieval,
    Role,
    Usage,
    Window,
)
from services.domain.context import (
    ContextBudget,
    ContextMessage,
    ContextPlan,
    History,
    RecalledMessage,
)
from services.memory.forecast import CalibratedCounter, Calibration, CountedCall, learn
from services.memory.planner import plan_context
from services.memory.recall import Passage, RecallIndex
from services.memory.terms import STOP_WORDS, stems
from services.memory.tokens import RegexCounter, TokenCounter

KINDS = {"1": "multi-hop", "2": "temporal", "3": "open-domain", "4": "single-hop"}  # LoCoMo's
DEPTHS = (5, 10, 20)
ROLES = (Role.USER.value, Role.ASSISTANT.value)
WORDS = (77, 300)  # words of a message in the measurement of speed
BUDGETS = (1_000, 2_000, 4_000, 8_000)
ALL_MESSAGES = 100_000
BETWEEN_TURNS = timedelta(minutes=1)  # an assumed time, because the data has one time per session
COUNTER = RegexCounter(100_000)
MODEL = "GPT-4o"  # the model whose tokens are counted, if its tokenizer is installed
MESSAGE_TOKENS = 5  # tokens that a chat template adds to a message (ChatML)


@dataclass(frozen=True)
class Question:
    """A question, and the messages that answer it."""

    text: str
    kind: str
    evidence: frozenset[MessageId]
    answer: str = ""


@dataclass(frozen=True)
class Talk:
    """A conversation, and questions about it."""

    name: str
    passages: list[Passage]
    questions: list[Question]

    @cached_property
    def past(self) -> tuple[Message, ...]:
        """The passages as alternating prompts and replies, the form in which the planner knows a conversation."""
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
    """A question, and the messages that recall returns for it, best first."""

    talk: Talk
    question: Question
    found: list[MessageId]
    scores: list[float]
    counter: TokenCounter = COUNTER


Shares = Mapping[str, float]  # shares by depth, or by tokens


@dataclass(frozen=True)
class Figures:
    """Measured figures; shares are by the name of a group of questions."""

    questions: int
    messages: int
    recall: Mapping[str, Mapping[str, Shares]]  # shares by ranking and group of questions
    beyond_fts5: Mapping[str, tuple[float, float]]  # the difference at k = 10: its 90 % interval
    # by ranking and kind: the number of questions, and the mean difference at k = 10
    by_kind: Mapping[str, Mapping[str, tuple[int, float]]]
    context: Mapping[str, Shares]
    index_ms: float  # CPU milliseconds for a conversation
    ask_ms: float
    overfull: (
        float | None
    )  # the share of prompts with too many tokens, among those whose tokens could be counted


@dataclass(frozen=True)
class Speed:
    """Search and update times of a large index, and the memory that the index takes."""

    words: int  # words of a message
    query_ms: float  # median CPU milliseconds
    p95_ms: float
    megabytes: float
    add_ms: float  # milliseconds to add a message, and for a search without a result


class Said(BaseModel):
    """One turn of LoCoMo's format."""

    speaker: str
    dia_id: str
    text: str
    blip_caption: str | None = None


class Asked(BaseModel):
    """One question of LoCoMo's format, or one of a file of questions, with its conversation."""

    question: str
    category: int | str = "all"
    sample_id: str = ""
    evidence: list[str] = []
    answer: int | float | str = ""


class Sample(BaseModel):
    """One conversation of LoCoMo's format, its sessions and their times by name."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    sample_id: str | None = None
    conversation: dict[str, str | list[Said]]
    qa: list[Asked]


SAMPLES = TypeAdapter(list[Sample])
QUESTIONS = TypeAdapter(list[Asked])


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall")
    parser.add_argument("--data", type=Path, required=True, help="a file of LoCoMo's format")
    parser.add_argument("--names", type=_names, help="categories, as 1=one fact,2=time")
    parser.add_argument("--questions", type=Path, help="other questions about the data")
    parser.add_argument("--speed", type=int, metavar="N", help="messages to index and search")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    samples = SAMPLES.validate_json(arguments.data.read_bytes())
    if arguments.questions:
        others = QUESTIONS.validate_json(arguments.questions.read_bytes())
        for sample in samples:
            sample.qa = [asked for asked in others if asked.sample_id == sample.sample_id]
    data = talks(samples, arguments.names)
    if arguments.speed:
        speeds = [_in_new_process(data, arguments.speed, words) for words in WORDS]
        if arguments.json:
            print(json.dumps([asdict(speed) for speed in speeds]))
            return
        print(f"{arguments.speed:,} messages of   words   query ms   p95   index MB   add ms")
        for speed in speeds:
            print(
                f"{speed.words:26}{speed.query_ms:11.1f}{speed.p95_ms:6.1f}{speed.megabytes:11.0f}{speed.add_ms:9.2f}"
            )
        return
    figures = measure(data)
    if arguments.json:
        print(json.dumps(asdict(figures)))
        return
    print(f"{figures.questions} questions about {figures.messages} messages")
    for ranking, groups in figures.recall.items():
        print(f"  {ranking + ', recall@':32}" + "".join(f"{depth:>8}" for depth in DEPTHS))
        for name, shares in groups.items():
            print(f"    {name:30}" + "".join(f"{share:8.3f}" for share in shares.values()))
    for ranking, (low, high) in figures.beyond_fts5.items():
        print(f"  {ranking} - FTS5 @10, 90 % interval: {low:+.3f} to {high:+.3f}")
        for kind, (questions, difference) in figures.by_kind[ranking].items():
            print(f"    {kind + f' ({questions})':30}{difference:+8.3f}")
    print(f"  {'all evidence, tokens':32}" + "".join(f"{budget:>8,}" for budget in BUDGETS))
    for name, shares in figures.context.items():
        print(f"    {name:30}" + "".join(f"{share:8.3f}" for share in shares.values()))
    if figures.overfull is not None:
        print(f"  of these prompts, too long for {MODEL}: {figures.overfull:.2%}")
    print(f"  to index a conversation  {figures.index_ms:7.2f} ms of CPU")
    print(f"  to ask                   {figures.ask_ms:7.2f} ms")


def _names(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(","))


def measure(data: Sequence[Talk]) -> Figures:
    """Measure the share of the evidence that is found, and the CPU time of index and search."""
    seconds: list[tuple[float, float]] = []

    def recall(data: Sequence[Talk]) -> list[Answer]:
        return [answer for talk in data for answer in _searched(talk, seconds)]

    rankings = {"product": recall(data)}
    if any(passage.speaker not in ROLES for talk in data for passage in talk.passages):
        rankings["product, roles"] = recall([_with_roles(talk) for talk in data])
    rankings["FTS5"] = [answer for talk in data for answer in _searched_by_fts5(talk)]
    answers = rankings["product"]

    contexts = {"Window": means(answers, in_context(window), BUDGETS)}
    for ranking, found in rankings.items():
        contexts[f"Retrieval, {ranking}"] = means(found, in_context(retrieval), BUDGETS)
        if ranking == "product":
            contexts["  extracts left out"] = means(found, in_context(whole_messages), BUDGETS)
            contexts["  whatever they hold"] = means(found, in_context(all_extracts), BUDGETS)
            for name, group in grouped(found).items():
                if name != "all":
                    contexts[f"  {name}"] = means(group, in_context(retrieval), BUDGETS)
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
        recall={
            ranking: {
                name: means(group, recall_at, DEPTHS) for name, group in grouped(found).items()
            }
            for ranking, found in rankings.items()
        },
        beyond_fts5={
            ranking: _interval(_differences(found, rankings["FTS5"]))
            for ranking, found in rankings.items()
            if ranking != "FTS5"
        },
        by_kind={ranking: _by_kind(found, rankings["FTS5"]) for ranking, found in rankings.items()},
        context=contexts,
        index_ms=round(statistics.mean(index for index, _ in seconds) * 1000, 2),
        ask_ms=round(statistics.mean(ask for _, ask in seconds) * 1000, 2),
    )


def grouped(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Return *answers* as a whole, by kind of question and by conversation."""
    groups: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups["all"].append(answer)
    for answer in sorted(answers, key=lambda answer: answer.question.kind):
        groups[answer.question.kind].append(answer)
    for answer in answers:
        groups[answer.talk.name].append(answer)
    return groups


def _searched(talk: Talk, seconds: list[tuple[float, float]]) -> Iterator[Answer]:
    """Yield the product's answers. Append the CPU seconds of building the index and of a search to *seconds*."""
    index = RecallIndex()
    begun = time.process_time()
    index.add(talk.passages)
    index.search("")
    indexed = time.process_time()
    found = [index.search(question.text, ALL_MESSAGES) for question in talk.questions]
    asked = (time.process_time() - indexed) / max(1, len(found))
    seconds.append((indexed - begun, asked))
    for question, hits in zip(talk.questions, found, strict=True):
        yield Answer(talk, question, [hit.id for hit in hits], [hit.score for hit in hits])


def _with_roles(talk: Talk) -> Talk:
    """Return *talk* with the roles of a user, who began it, and an assistant, in place of names."""
    user = talk.passages[0].speaker
    return replace(
        talk,
        passages=[
            replace(passage, speaker=ROLES[passage.speaker != user]) for passage in talk.passages
        ],
    )


def _searched_by_fts5(talk: Talk) -> Iterator[Answer]:
    """Yield the answers of plain full-text search."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create virtual table said using fts5(body, tokenize='porter unicode61')")
        database.executemany(
            "insert into said (rowid, body) values (?, ?)",
            [(n, passage.body) for n, passage in enumerate(talk.passages)],
        )
        for question in talk.questions:
            words = re.findall(r"\w+", question.text.lower())
            query = " OR ".join(
                f'"{word}"' for word in dict.fromkeys(words) if word not in STOP_WORDS
            )
            rows = database.execute(
                "select rowid, -bm25(said) from said where said match ? order by bm25(said), rowid",
                [query or '""'],
            )
            found: list[tuple[int, float]] = rows.fetchall()
            ids = [talk.passages[n].id for n, _ in found]
            yield Answer(talk, question, ids, [score for _, score in found])


def _differences(ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[float]:
    """Return, for each question, the difference in evidence between *ours* and *theirs* among the first ten messages."""
    pairs = zip(ours, theirs, strict=True)
    return [recall_at(one, 10) - recall_at(other, 10) for one, other in pairs]


def _interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 90 % interval of the mean (bootstrap)."""
    chance = random.Random(0)
    sums = sorted(sum(chance.choices(differences, k=len(differences))) for _ in range(2000))
    return round(sums[100] / len(differences), 4), round(sums[1899] / len(differences), 4)


def _by_kind(ours: Sequence[Answer], theirs: Sequence[Answer]) -> dict[str, tuple[int, float]]:
    kinds: defaultdict[str, list[float]] = defaultdict(list)
    for answer, difference in zip(ours, _differences(ours, theirs), strict=True):
        kinds[answer.question.kind].append(difference)
    return {kind: (len(its), round(statistics.mean(its), 4)) for kind, its in sorted(kinds.items())}


def _in_new_process(data: Sequence[Talk], messages: int, words: int) -> Speed:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(speed, data, messages, words).result()


def speed(data: Sequence[Talk], messages: int, words: int) -> Speed:
    """Measure the search time and the memory of an index of *messages* messages of *words* words."""
    chance = random.Random(0)
    known = [word for talk in data for passage in talk.passages for word in passage.body.split()]
    questions = [question.text for talk in data for question in talk.questions]

    def made(n: int) -> Passage:
        passage = data[0].passages[0]
        return replace(
            passage,
            id=MessageId(UUID(int=n)),
            seq=n,
            speaker=ROLES[n % 2],
            body=" ".join(chance.choices(known, k=words)),
            created_at=passage.created_at + n * BETWEEN_TURNS,
        )

    RecallIndex().search("")
    index = RecallIndex()
    before = _resident_bytes()
    for start in range(0, messages, 1000):
        index.add(made(n) for n in range(start, min(messages, start + 1000)))
    index.search(questions[0])
    taken = _resident_bytes() - before
    asked = sorted(
        timeit(
            lambda question=question: index.search(question, 1000),
            timer=time.process_time,
            number=1,
        )
        for question in questions[:500]
    )
    added = made(messages)
    begun = time.process_time()
    index.add([added])
    index.search("")
    return Speed(
        words=words,
        query_ms=round(statistics.median(asked) * 1000, 1),
        p95_ms=round(asked[len(asked) * 95 // 100] * 1000, 1),
        megabytes=round(taken / 1e6),
        add_ms=round((time.process_time() - begun) * 1000, 1),
    )


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def recall_at(answer: Answer, depth: int) -> float:
    """Return the share of the evidence among the first *depth* messages."""
    return len(answer.question.evidence.intersection(answer.found[:depth])) / len(
        answer.question.evidence
    )


def means(
    answers: Iterable[Answer], value: Callable[[Answer, int], float], at: Iterable[int]
) -> Shares:
    """Return the mean *value* at each of *at*."""
    answers = list(answers)
    return {str(n): round(statistics.mean(value(a, n) for a in answers), 4) for n in at}


def in_context(
    pack: Callable[[Answer, int], set[MessageId]],
) -> Callable[[Answer, int], float]:
    """Return a function that returns 1.0 if *pack* fits all the evidence into so many tokens, else 0.0."""
    return lambda answer, tokens: float(answer.question.evidence <= pack(answer, tokens))


def window(answer: Answer, tokens: int) -> set[MessageId]:
    """Return the messages that the policy Window sends, limited by tokens alone."""
    return set(plan(Window(2 * len(answer.talk.past)), answer, tokens).verbatim_ids)


def retrieval(answer: Answer, tokens: int) -> set[MessageId]:
    """Return the messages that the policy Retrieval sends; of those sent as an extract, only those whose extract has the answer."""
    return _retrieved(answer, tokens, holds_answer)


def whole_messages(answer: Answer, tokens: int) -> set[MessageId]:
    return _retrieved(answer, tokens, lambda _, __: False)


def all_extracts(answer: Answer, tokens: int) -> set[MessageId]:
    return _retrieved(answer, tokens, lambda _, __: True)


def _retrieved(
    answer: Answer, tokens: int, counts: Callable[[RecalledMessage, Question], bool]
) -> set[MessageId]:
    chosen = plan(Retrieval(), answer, tokens)
    return {*chosen.verbatim_ids} | {
        each.message.id
        for each in chosen.recalls
        if each.extract is None or counts(each, answer.question)
    }


def holds_answer(quote: RecalledMessage, question: Question) -> bool:
    """Return True if an extract has at least half of the answer's terms that its message has.

    If the data gives no answer, the question's terms count. An extract of a message with none of the terms never counts.
    """
    terms = (stems(question.answer) or stems(question.text)) & stems(quote.message.body)
    return bool(terms) and 2 * len(terms & stems(quote.text)) >= len(terms)


def plan(policy: MemoryPolicy, answer: Answer, tokens: int) -> ContextPlan:
    """Return the plan of a prompt of at most *tokens* tokens that asks the question."""
    by_id = {message.id: message for message in answer.talk.past}
    history = History(
        instructions="",
        past=answer.talk.past,
        prompt=answer.question.text,
        candidates=tuple(map(RecalledMessage, map(by_id.__getitem__, answer.found), answer.scores)),
    )
    return plan_context(policy, history, ContextBudget(tokens, 0), answer.counter)


def load_tokenizer() -> Tokenizer | None:
    """Return the model's tokenizer, if it is installed."""
    try:
        return load_tokenizers()[MODEL]
    except ImportError:
        return None


def learned(talk: Talk, tokenizer: Tokenizer) -> TokenCounter:
    """Return a counter that is calibrated by an endpoint's count of each prompt of *talk*."""
    rates, last = Calibration(), None
    sent: tuple[ContextMessage, ...] = ()
    for prompt, reply in zip(talk.past[::2], talk.past[1::2], strict=False):
        asked, said = (ContextMessage(each.role, each.body) for each in (prompt, reply))
        counted = Usage(tokens_of((*sent, asked), tokenizer), tokenizer(said.body))
        call = CountedCall(model=MODEL, messages=(*sent, asked), reply=said, tokens=counted)
        rates, last = learn(rates, last, call, COUNTER), call
        sent = (*sent, asked, said)
    return CalibratedCounter(COUNTER, rates)


def tokens_of(messages: Iterable[ContextMessage], tokenizer: Tokenizer) -> int:
    """Return the number of tokens of a prompt by the model's tokenizer."""
    return sum(MESSAGE_TOKENS + tokenizer(message.body) for message in messages)


def talks(samples: Iterable[Sample], names: Mapping[str, str] | None = None) -> list[Talk]:
    """Return the conversations of a file, and the questions about them that have evidence.

    *names*: only questions of these categories, by their names; None: of all.
    """
    return [_talk(sample.sample_id or str(n), sample, names) for n, sample in enumerate(samples)]


def _talk(name: str, sample: Sample, names: Mapping[str, str] | None) -> Talk:
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
        Question(
            asked.question,
            (names or KINDS).get(category, category),
            evidence,
            str(asked.answer),
        )
        for asked in sample.qa
        if (category := str(asked.category)) in (names or [category])
        if (evidence := _evidence(asked, ids))
    ]
    return Talk(name, passages, questions)


def _evidence(asked: Asked, ids: Mapping[str, MessageId]) -> frozenset[MessageId]:
    # "D8:6; D9:17" and "D01:5" occur, and so do turns that do not exist
    turns = re.findall(r"D0*(\d+):0*(\d+)", " ".join(asked.evidence))
    return frozenset(ids[f"D{a}:{b}"] for a, b in turns if f"D{a}:{b}" in ids)


if __name__ == "__main__":
    main()
