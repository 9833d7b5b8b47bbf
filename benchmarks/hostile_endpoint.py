"""One user's steady stream beside others whose endpoint does everything wrong, on the one event loop of the endpoint's streams.

python -m benchmarks.hostile_endpoint [--seconds N] [--threads N] [--seed N] [--json]

The other streams are those of `tests/endpoints/hostile.py`, in some threads without a pause. They share the machine and, as in the
app, the process and its lock.
"""

import argparse
import json
import statistics
import threading
import time
from itertools import count

import psutil

from services.domain import Role
from services.domain.context import ContextMessage
from services.domain.model_failures import ModelUnavailable
from services.llm.model import ModelClient
from tests.endpoints.hostile import STEADY, hostile_model


def _ask(model: ModelClient, prompt: str) -> list[float]:
    """Return the seconds between the pieces of a reply."""
    gaps, at = list[float](), time.perf_counter()
    try:
        for _ in model.start([ContextMessage(Role.USER, prompt)], max_tokens=1000):
            now = time.perf_counter()
            gaps.append(now - at)
            at = now
    except ModelUnavailable:
        pass
    return gaps[1:]


def measure(seconds: float, threads: int, seed: int) -> dict[str, float]:
    """Return the gaps of the steady stream in milliseconds, alone and beside the others, and the growth of memory."""
    process, is_over, asked = psutil.Process(), threading.Event(), list[int]()
    with hostile_model(seed) as model:
        alone = [gap for _ in range(5) for gap in _ask(model, STEADY)]

        def storm(first: int) -> None:
            for number in count(first, threads):
                if is_over.is_set():
                    return
                _ask(model, f"Question {number}")
                asked.append(number)

        others = [threading.Thread(target=storm, args=[n]) for n in range(threads)]
        for other in others:
            other.start()
        time.sleep(seconds / 10)
        before, until = process.memory_info().rss, time.monotonic() + seconds
        beside = list[float]()
        while time.monotonic() < until:
            beside += _ask(model, STEADY)
        grown = process.memory_info().rss - before
        is_over.set()
        for other in others:
            other.join()
    return {
        "requests": len(asked),
        "gap alone, median (ms)": 1000 * statistics.median(alone),
        "gap beside, median (ms)": 1000 * statistics.median(beside),
        "ratio of the medians": statistics.median(beside) / statistics.median(alone),
        "gap alone, p99 (ms)": 1000 * statistics.quantiles(alone, n=100)[98],
        "gap beside, p99 (ms)": 1000 * statistics.quantiles(beside, n=100)[98],
        "memory grown (MB)": grown / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.seconds, options.threads, options.seed)
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:26} {figure:10.1f}")


if __name__ == "__main__":
    main()
