"""The search dialog's service: time until it finds and until its index is whole, time of a query, memory.

python -m benchmarks.search [--json] [--chats N] [--messages N] [--words N] [--queries N] [--seed N]

A user has N chats of N messages of N words each, drawn from 20,000 words whose frequencies fall like those of a language
(Zipf's law). They are sealed and copied into the embedded database; this process then searches as the app's does, through
its own session. CPU times are of this process.

first_seconds     from the first search of a fresh session until one finds a message of the newest chat
whole_seconds     until the index has all chats, and the CPU seconds of that
unsealed_...      the same before the chats have search texts
typing_p95_ms     CPU time of a search as a user types a word of any frequency, letter by letter
ranked_p95_ms     CPU time of a ranked search for a whole word
new_ms            wall time of the search that finds a message stored just before
index_mb          the size of the index
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import product

from benchmarks import rig
from benchmarks.rig import EMAIL, Figures
from benchmarks.takeout import store_conversation
from services.store.port import Store
from services.users.message_search import Asked, MessageSearch, Results
from services.users.search_texts import complete
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, database, second_process
from tests.stores import store_of

_VOCABULARY = 20_000
_SYLLABLES = ["ba", "cor", "de", "fin", "gu", "hal", "ist", "jo", "ker", "lum"]
_SYLLABLES += ["mon", "ne", "ost", "pra", "qui", "res", "sul", "ter", "ven", "zor"]
_PAUSE_SECONDS = (
    0.2  # between two searches while the index is filled; the dialog waits for a second
)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--chats", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=50, help="of each chat")
    parser.add_argument("--words", type=int, default=77, help="of each message")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()

    figures = measure(chosen)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<26} {figure:>10,.2f}")


def measure(chosen: argparse.Namespace) -> Figures:
    chance = random.Random(chosen.seed)
    words = _words(chance)
    weights = [1 / (rank + 3) for rank in range(len(words))]

    def text() -> str:
        return " ".join(chance.choices(words, weights, k=chosen.words)) + "."

    with rig.model() as endpoint, rig.daybook(endpoint) as app, second_process(app) as sessions:
        _, session = sessions.sign_up_with(EMAIL, PASSWORD)
        with database(app) as connection:
            for number in range(chosen.chats):
                said = [(text(), text()) for _ in range(chosen.messages // 2)]
                store_conversation(connection, session, f"Chat {number}", said)
            connection.commit()
            connection.autocommit = True
            connection.execute("vacuum analyze")
        # words of all frequencies
        ranks = [int(len(words) ** chance.random()) - 1 for _ in range(chosen.queries)]
        store = store_of(session)
        _, unsealed = _filled(store)
        for listed in store.corpus.conversations().values():
            complete(store.corpus, listed)
        return (
            {f"unsealed_{name}": figure for name, figure in unsealed.items()}
            | _searched(store, [words[rank] for rank in ranks])
            | {"new_ms": _time_of_a_new_message(session, store)}
        )


def _filled(store: Store) -> tuple[MessageSearch, Figures]:
    """Fill a new index."""
    search = MessageSearch(lambda _: True)
    newest = store.conversations.recent(1)[0].id
    said = store.conversations.thread(newest).messages[0].body.split()[0]
    began, began_cpu = time.monotonic(), time.process_time()
    first = _until(lambda: search.find(store, Asked(words=said)), lambda found: found.count > 0)
    whole = _until(lambda: search.find(store, Asked()), lambda found: found.read == found.of)
    cpu = time.process_time() - began_cpu
    figures = {
        "first_seconds": first - began,
        "whole_seconds": whole - began,
        "whole_cpu_seconds": cpu,
    }
    return search, figures


def _searched(store: Store, queries: Sequence[str]) -> Figures:
    search, figures = _filled(store)
    typed = [word[:length] for word in queries for length in range(1, len(word) + 1)]
    return figures | {
        "typing_p95_ms": _p95([_cpu_ms(search, store, Asked(words=part)) for part in typed]),
        "ranked_p95_ms": _p95(
            [_cpu_ms(search, store, Asked(words=word, order="best")) for word in queries]
        ),
        "index_mb": search.size / 1e6,
    }


def _time_of_a_new_message(session, store: Store) -> float:
    search = MessageSearch(lambda _: True)
    _until(lambda: search.find(store, Asked()), lambda found: found.read == found.of)
    times = list[float]()
    for number in range(10):
        converse(session, [(f"xylophone{number}", "Yes.")])
        began = time.monotonic()
        found = search.find(store, Asked(words=f"xylophone{number}"))
        assert found.count == 1, found.count
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def _until(ask: Callable[[], Results], is_met: Callable[[Results], bool]) -> float:
    """Ask again until the results meet a condition; return the time."""
    while not is_met(ask()):
        time.sleep(_PAUSE_SECONDS)
    return time.monotonic()


def _cpu_ms(search: MessageSearch, store: Store, asked: Asked) -> float:
    began = time.process_time()
    search.find(store, asked)
    return (time.process_time() - began) * 1000


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _words(chance: random.Random) -> list[str]:
    """Return pronounceable words, the most frequent first; the frequent ones are short."""
    short = ["".join(pair) for pair in product(_SYLLABLES, repeat=2)]
    long = ["".join(three) for three in product(_SYLLABLES, repeat=3)]
    longer = ["".join(four) for four in product(_SYLLABLES, repeat=4)]
    for words in (short, long, longer):
        chance.shuffle(words)
    return (_SYLLABLES + short + long + longer)[:_VOCABULARY]


if __name__ == "__main__":
    main()
