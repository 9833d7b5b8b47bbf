"""The time that each function that reads a text takes for texts of 200 kB that were made to be slow.

    uv run --group dev python -m benchmarks.hostile_text [--bytes N] [--rows N] [--json]

The functions and the texts are those of `tests/hostile_text.py`; times are CPU seconds of one thread, the best of three.
"""

import argparse
import json

from tests.hostile_text import READERS, SHAPES, cpu_seconds

MOST_SECONDS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=200_000, help="of each text")
    parser.add_argument("--rows", type=int, default=10, help="the slowest, that are shown")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    texts = {name: shape(options.bytes) for name, shape in SHAPES.items()}
    seconds = {
        (reader, shape): _best(reader, text) for reader in READERS for shape, text in texts.items()
    }
    slowest = sorted(seconds.items(), key=lambda item: -item[1])
    too_slow = sum(time > MOST_SECONDS for time in seconds.values())
    if options.json:
        rows = [{"reader": a, "shape": b, "seconds": round(time, 4)} for (a, b), time in slowest]
        print(json.dumps({"bytes": options.bytes, "too_slow": too_slow, "rows": rows}))
        return
    for (reader, shape), time in slowest[: options.rows]:
        print(f"{time:7.3f} s  {reader}, {shape}")
    print(f"{len(seconds)} pairs; longer than {MOST_SECONDS} s: {too_slow}")


def _best(reader: str, text: str) -> float:
    """Return the time of the first reading; if that was long, the best of three."""
    first = cpu_seconds(READERS[reader], text)
    if first < MOST_SECONDS / 3:
        return first
    return min(first, *(cpu_seconds(READERS[reader], text) for _ in range(2)))


if __name__ == "__main__":
    main()
