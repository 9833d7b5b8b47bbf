"""Throughput of sealing, opening and verifying messages, on one core.

python -m benchmarks.seal [--json]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from uuid import UUID, uuid4

from services.crypto import Head, Place, Vault, new_key

RUNS = 7
CALLS = 20_000
MESSAGES = 10_000
TEXT = ("The tomatoes want water in the evening. " * 26)[:1024]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seal")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json

    figures = measure()
    if as_json:
        print(json.dumps(figures))
        return
    print(f"texts of 1 KB, medians of {RUNS} runs")
    print(f"  seals a second       {figures['seals_per_second']:>9,}")
    print(f"  opens a second       {figures['opens_per_second']:>9,}")
    print(f"  row MACs a second    {figures['row_macs_per_second']:>9,}")
    print(f"  open and verify {MESSAGES:,} messages  {figures['open_and_verify_seconds']:.3f} s")


def measure() -> dict[str, float]:
    """Return the figures by name."""
    vault, owner, conversation = Vault(new_key()), uuid4(), uuid4()
    place = _place(owner, conversation, 1)
    token = vault.seal(TEXT, place)

    rows = [(place, vault.seal(TEXT, place)) for place in _places(owner, conversation)]
    head = Head()
    for place_of_row, token_of_row in rows:
        head = head.add(vault.row_mac(token_of_row, place_of_row), place_of_row.seq)
    sealed_head = vault.seal_head(head, owner, conversation)

    def open_and_verify() -> None:
        found = Head()
        for place, token in rows:
            found = found.add(vault.row_mac(token, place), place.seq)
            assert vault.open(token, place) == TEXT
        assert found == vault.open_head(sealed_head, owner, conversation)

    return {
        "seals_per_second": _rate(lambda: vault.seal(TEXT, place)),
        "opens_per_second": _rate(lambda: vault.open(token, place)),
        "row_macs_per_second": _rate(lambda: vault.row_mac(token, place)),
        "open_and_verify_seconds": round(_median_seconds(open_and_verify), 3),
    }


def _rate(call: Callable[[], object]) -> int:
    def calls() -> None:
        for _ in range(CALLS):
            call()

    return round(CALLS / _median_seconds(calls))


def _median_seconds(work: Callable[[], None]) -> float:
    work()  # a first run fills the caches
    times: list[float] = []
    for _ in range(RUNS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def _places(owner: UUID, conversation: UUID) -> list[Place]:
    return [_place(owner, conversation, seq) for seq in range(1, MESSAGES + 1)]


def _place(owner: UUID, conversation: UUID, seq: int) -> Place:
    return Place(
        table="messages",
        column="body",
        row_id=uuid4(),
        user_id=owner,
        conversation_id=conversation,
        seq=seq,
        parent_id=uuid4(),
        role="user" if seq % 2 else "assistant",
    )


if __name__ == "__main__":
    main()
