"""The demo model's replies: how many repeat themselves, and the time to the first character.

python -m benchmarks.demo_model [--prompts N] [--seeds N] [--tokens N] [--set NAME=VALUE …] [--titles] [--json]

The model server runs as the app starts it. `--set` sends fields of llama.cpp's server with each request, to compare, such as
`repeat_penalty=1.1 repeat_last_n=256`. A reply repeats itself if it says a line, or a part of a line of at least three
words between marks, three times or more. `--titles` prints the titles that the model gives instead.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter

import httpx

from services.embedded.folders import free_port
from services.memory.titles import INSTRUCTIONS, clean_title
from tests.stack.apps import ROOT, until

_KEY = "benchmark"
_PROMPTS = (
    *("Write a short poem about light.", "Hello!", "Who are you?", "What is photosynthesis?"),
    *("Give me ten ideas for dinner.", "Explain recursion to a child.", "Tell me a joke."),
    *("List the planets.", "How do I boil an egg?", "Write a haiku about rain.", "What is love?"),
    *("Plan a week in Lisbon.", "Summarise the French Revolution.", "Why is the sky blue?"),
    *("Write an email to my landlord about a leak.", "What should I read next?", "Count to ten."),
    *("Give me tips for a job interview.", "Write a story about a dragon.", "What is 17 times 3?"),
    *("Translate good morning into German.", "How do vaccines work?", "Name some garden herbs."),
    *(
        "Write a Python function that reverses a list.",
        "What is inflation?",
        "How do I sleep better?",
    ),
    *("Describe a beach at dawn.", "What are prime numbers?", "Write a song about the sea."),
    "Explain how a bicycle stays up.",
)


def is_repeated(reply: str) -> bool:
    """Return whether *reply* says a line, or a part of a line of at least three words, three times or more."""
    lines = [line.strip() for line in reply.casefold().splitlines() if line.strip()]
    parts = [part.strip(" *-\"'") for part in re.split(r"[\n,.;:!?]", reply.casefold())]
    said = Counter(lines) + Counter(part for part in parts if len(part.split()) >= 3)
    return max(said.values(), default=0) >= 3


def _ask(client: httpx.Client, prompt: str, system: str, **fields: object) -> tuple[str, float]:
    """Return a reply, and the seconds to its first character."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    began, first, said = time.perf_counter(), 0.0, list[str]()
    body = {"messages": messages, "stream": True, **fields}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                piece = json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                first = first or (time.perf_counter() - began if piece else 0.0)
                said.append(piece)
    return "".join(said), first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=len(_PROMPTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--titles", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fields = {name: float(value) for name, value in (pair.split("=") for pair in options.set)}
    port, environment = free_port(), {**os.environ, "DAYBOOK_MODEL_KEY": _KEY}
    command = [sys.executable, "-m", "services.embedded.model_server", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    # the server sometimes closes a connection that a second request is on its way on
    headers = {"Authorization": f"Bearer {_KEY}", "Connection": "close"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=300
        ) as client:
            until(lambda: _answers(client))
            _measure(client, options, fields)
    finally:
        server.kill()
        server.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/models").status_code == 200
    except httpx.HTTPError:
        return False


def _measure(client: httpx.Client, options: argparse.Namespace, fields: dict[str, float]) -> None:
    prompts = _PROMPTS[: options.prompts]
    if options.titles:
        for prompt in prompts:
            said, _ = _ask(
                client, f"It begins:\n{prompt}\n\nIts title:", INSTRUCTIONS, max_tokens=24
            )
            print(f"{prompt:50} {clean_title(said)!r:45} {said!r}")
        return
    repeated, firsts, asked = list[str](), list[float](), 0
    for prompt in prompts:
        for seed in range(options.seeds):
            more = {"seed": seed, "max_tokens": options.tokens, **fields}
            reply, first = _ask(client, prompt, "You are a helpful assistant.", **more)
            asked += 1
            firsts.append(first)
            if is_repeated(reply):
                repeated.append(f"{prompt} (seed {seed})")
    figures = {
        "replies": asked,
        "repeat themselves": len(repeated),
        "first character, median (ms)": 1000 * statistics.median(firsts),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:28} {figure:8.0f}")
    print(*repeated, sep="\n")


if __name__ == "__main__":
    main()
