"""Error of the forecast of a prompt's tokens, against the counts of real tokenizers.

uv run --no-project --with babel --with tiktoken --with tokenizers --with litellm --with mistral-common \
    --with sentencepiece python -m benchmarks.token_forecast [--seed N] [--texts N] [--turns N] [--json]

The app has no tokenizer. The tokenizers of GPT-4o, GPT-4, GPT-3, Claude 2 and DeepSeek are in litellm's wheel, two of Mistral's
(SentencePiece and Tekken) in mistral-common's; nothing is downloaded at run time.

Anchored: conversations of chat, prose, code, 13 scripts, emoji, base64, U+FDFA, and of all these in turn, each without earlier
calibration. A prompt that extends the last one is forecast and then counted; prompts below 1,000 tokens are left out, because one
token is a tenth of a percent of them. Conversations are trimmed from 8,000 tokens to 70 %, and the prompts after a trim are
listed separately. Kept: the same with all kinds in turn, and with the model's calibration passed from one conversation to the next.
Packed: the count of the calibrated counter for the same prompts, relative to the tokens that they need.
Bound: short texts of any characters, one by one, against every tokenizer.
"""

import argparse
import base64
import importlib.util
import json
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from benchmarks import texts
from services.domain import Role, Usage
from services.domain.context import ContextMessage, Forecast
from services.memory.forecast import (
    CalibratedCounter,
    Calibration,
    CountedCall,
    forecast_prompt,
    learn,
)
from services.memory.tokens import KindCounter, RegexCounter

WINDOW = 8_000
TRIMMED = WINDOW * 7 // 10
LEAST = 1_000
MIXED = "all in turns"
MIXED_CONVERSATIONS = 5  # conversations for each tokenizer
# tokens that a chat template puts around a message, and around a prompt; the forecast assumes other
# values
TEMPLATES = {"DeepSeek": (2, 1), "Claude 2": (5, 3), "Mistral": (3, 1), "Tekken": (3, 1)}
_TEMPLATE = (4, 3)  # the template of all other tokenizers: OpenAI's

Tokenizer = Callable[[str], int]

# tiktoken's name, and the file that contains it (for tiktoken: the SHA-1 of its published address)
_IN_LITELLM = {
    "GPT-4o": ("o200k_base", "fb374d419588a4632f3f557e76b4b70aebbca790"),
    "GPT-4": ("cl100k_base", "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"),
    "GPT-3": ("p50k_base", "ec7223a39ce59f226a68acc30dc1af2788490e15"),
    "Claude 2": ("anthropic_tokenizer.json", ""),
    "DeepSeek": ("deepseek_tokenizer.json", ""),  # included from litellm 1.109 on
}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.token_forecast")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=100_000, help="to try the bound on")
    parser.add_argument("--turns", type=int, default=80, help="of each conversation")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    try:
        tokenizers = load_tokenizers()
    except ImportError as error:
        parser.exit(
            1, f"{error}. How to run this with the tokenizers it needs: see its first lines.\n"
        )

    figures = measure(tokenizers, chosen.seed, chosen.turns)
    figures["bound"] = try_bound(tokenizers, chosen.seed, chosen.texts)
    figures |= {"seed": chosen.seed, "tokenizers": list(tokenizers)}
    if chosen.json:
        print(json.dumps(figures))
    else:
        _print(figures)


def load_tokenizers() -> dict[str, Tokenizer]:
    """Return the tokenizers that litellm and mistral-common bundle, by name. Raise ImportError."""
    folder = _folder("litellm") / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    import tiktoken
    from tokenizers import Tokenizer as Trained

    def load(name: str) -> Tokenizer:
        if name.endswith(".json"):
            tokenizer = Trained.from_file(str(folder / name))
            return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
        encoding = tiktoken.get_encoding(name)
        return lambda text: len(encoding.encode(text, disallowed_special=()))

    found = {
        model: load(name)
        for model, (name, file) in _IN_LITELLM.items()
        if (folder / (file or name)).exists()  # without the file, tiktoken would use the network
    }
    found |= _mistral(_folder("mistral_common") / "data")
    return {name: _as_sent(count) for name, count in found.items()}


def _mistral(folder: Path) -> dict[str, Tokenizer]:
    import tiktoken
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model.v1"))
    tekken = json.loads((folder / "tekken_240911.json").read_text("utf-8"))
    size = tekken["config"]["default_vocab_size"] - tekken["config"]["default_num_special_tokens"]
    ranks = {base64.b64decode(each["token_bytes"]): each["rank"] for each in tekken["vocab"][:size]}
    encoding = tiktoken.Encoding(
        "tekken", pat_str=tekken["config"]["pattern"], mergeable_ranks=ranks, special_tokens={}
    )
    return {
        "Mistral": lambda text: len(pieces.encode(text)),
        "Tekken": lambda text: len(encoding.encode(text)),
    }


def _folder(package: str) -> Path:
    """Return the folder of *package* without importing the package. Raise ImportError."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{package} is not installed")
    return Path(found.submodule_search_locations[0])


def _as_sent(count: Tokenizer) -> Tokenizer:
    """Return *count* with half of a surrogate pair counted as the replacement character, which a server receives."""

    @lru_cache(maxsize=200_000)
    def counted(text: str) -> int:
        return count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

    return counted


@dataclass(slots=True)
class _Errors:
    """Errors of forecasts, in percent of the counted tokens."""

    going_on: list[float] = field(default_factory=list[float])
    after_trim: list[float] = field(default_factory=list[float])
    first: list[float] = field(default_factory=list[float])
    short: list[float] = field(
        default_factory=list[float]
    )  # errors of extending prompts below 1,000 tokens, in tokens
    characters_by_4: list[float] = field(default_factory=list[float])
    # the tokens that a prompt needs, in percent of the count: how full a window is that was packed
    # by this count
    packed: list[float] = field(default_factory=list[float])
    packed_plainly: list[float] = field(default_factory=list[float])

    def note(self, found: Forecast, true: int, *, is_trimmed: bool) -> None:
        percent = abs(found.tokens - true) / true * 100
        if not found.is_anchored:
            self.first.append(percent)
        elif is_trimmed:
            self.after_trim.append(percent)
        elif true < LEAST:
            self.short.append(abs(found.tokens - true))
        else:
            self.going_on.append(percent)

    def add(self, other: "_Errors") -> None:
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))


def measure(tokenizers: Mapping[str, Tokenizer], seed: int, turns: int) -> dict[str, object]:
    """Return all figures except those of the bound."""
    choosers = texts.kinds()
    by_kind, by_tokenizer = defaultdict[str, _Errors](_Errors), defaultdict[str, _Errors](_Errors)
    kept, whole = _Errors(), _Errors()
    counter = RegexCounter(size=100_000)

    def mixed(chance: random.Random) -> str:
        return chance.choice(list(choosers.values()))(chance)

    for name, tokenizer in tokenizers.items():
        talk = _Talk(tokenizer, TEMPLATES.get(name, _TEMPLATE), counter)
        for kind, chooser in choosers.items():
            errors, _ = talk.go(
                partial(chooser, random.Random(f"{seed} {kind}")), turns, Calibration()
            )
            by_kind[kind].add(errors)
            by_tokenizer[name].add(errors)
        rates = Calibration()
        for number in range(MIXED_CONVERSATIONS):
            chance = f"{seed} {MIXED} {number}"
            errors, _ = talk.go(partial(mixed, random.Random(chance)), turns, Calibration())
            by_kind[MIXED].add(errors)
            by_tokenizer[name].add(errors)
            errors, rates = talk.go(partial(mixed, random.Random(chance)), turns, rates)
            if number:  # the first conversation has no earlier calibration
                kept.add(errors)
    for errors in by_kind.values():
        whole.add(errors)
    return {
        "anchored": _spread(whole.going_on),
        "anchored_by_kind": {kind: _spread(errors.going_on) for kind, errors in by_kind.items()},
        "anchored_by_tokenizer": {
            name: _spread(errors.going_on) for name, errors in by_tokenizer.items()
        },
        "anchored_rates_kept": _spread(kept.going_on),
        "anchored_short_tokens": _spread(whole.short),
        "after_a_trim": _spread(whole.after_trim),
        "first_turn": _spread(whole.first),
        "first_turn_rates_kept": _spread(kept.first),
        "characters_by_4": _spread(whole.characters_by_4),
        "packed": _fullness(whole.packed),
        "packed_by_the_plain_counter": _fullness(whole.packed_plainly),
    }


@dataclass(frozen=True, slots=True)
class _Talk:
    """Conversations with a model of one tokenizer."""

    tokenizer: Tokenizer
    template: tuple[int, int]
    counter: KindCounter

    def go(
        self, choose: Callable[[], str], turns: int, rates: Calibration
    ) -> tuple[_Errors, Calibration]:
        """Return the errors of the forecasts of *turns*, and the calibration after them."""
        errors = _Errors()
        system = ContextMessage(Role.SYSTEM, "You are a helpful assistant. " * 10)
        past: list[ContextMessage] = []
        last: CountedCall | None = None
        for _ in range(turns):
            prompt, reply = (ContextMessage(role, choose()) for role in (Role.USER, Role.ASSISTANT))
            is_trimmed = self.tokens((system, *past, prompt)) > WINDOW
            while is_trimmed and past and self.tokens((system, *past, prompt)) > TRIMMED:
                del past[:2]
            messages = (system, *past, prompt)
            true = self.tokens(messages)
            errors.note(
                forecast_prompt(messages, last, rates, self.counter), true, is_trimmed=is_trimmed
            )
            if true >= LEAST:
                self._compare(errors, messages, true, rates)
            call = CountedCall(
                model="",
                messages=messages,
                reply=reply,
                tokens=Usage(true, self.tokenizer(reply.body)),
            )
            rates, last = learn(rates, last, call, self.counter), call
            past += [prompt, reply]
        return errors, rates

    def tokens(self, messages: Iterable[ContextMessage]) -> int:
        around, whole = self.template
        return whole + sum(self.tokenizer(message.body) + around for message in messages)

    def _compare(
        self, errors: _Errors, messages: Iterable[ContextMessage], true: int, rates: Calibration
    ) -> None:
        bodies = [message.body for message in messages]
        envelopes = true - sum(map(self.tokenizer, bodies))
        signs = sum(len(body) for body in bodies) // 4 + envelopes
        plain = sum(map(self.counter.count, bodies)) + envelopes
        scaled = sum(map(CalibratedCounter(self.counter, rates).count, bodies)) + envelopes
        errors.characters_by_4.append(abs(signs - true) / true * 100)
        errors.packed_plainly.append(true / plain * 100)
        errors.packed.append(true / scaled * 100)


def try_bound(tokenizers: Mapping[str, Tokenizer], seed: int, number: int) -> dict[str, object]:
    """Count the texts that need more tokens than the bound; report the highest use of a bound."""
    counter, undercounts, nearest = RegexCounter(), 0, 0.0
    for text in _fuzzed(seed, number):
        bound = counter.bound(text)
        most = max(tokenizer(text) for tokenizer in tokenizers.values())
        undercounts += most > bound
        nearest = max(nearest, most / bound)
    return {"texts": number, "undercounts": undercounts, "nearest_percent": round(nearest * 100, 1)}


def _fuzzed(seed: int, number: int) -> Iterator[str]:
    chance, choose = random.Random(f"{seed} fuzzed"), texts.fuzzed()
    for _ in range(number):
        yield choose(chance)


def _spread(errors: list[float]) -> dict[str, float]:
    if not errors:
        return {"prompts": 0}
    ordered = sorted(errors)
    return {
        "prompts": len(ordered),
        "mean": round(statistics.mean(ordered), 2),
        "p99": round(ordered[len(ordered) * 99 // 100], 2),
        "worst": round(ordered[-1], 2),
    }


def _fullness(percents: list[float]) -> dict[str, float]:
    overfull = sum(percent > 100 for percent in percents)
    return {
        "windows": len(percents),
        "filled_percent": round(statistics.mean(percents), 1),
        "overfull_percent": round(100 * overfull / len(percents), 2),
        "fullest_percent": round(max(percents), 1),
    }


def _print(figures: Mapping[str, object]) -> None:
    print(f"{'error in percent':<34}{'prompts':>9}{'mean':>8}{'p99':>8}{'worst':>8}")
    for name, spread in figures.items():
        match spread:
            case {"prompts": _}:
                _print_line(name, spread)
            case {"chat": _} | {"GPT-4": _}:
                for part, errors in spread.items():
                    _print_line(f"  {part}", errors)
            case _:
                print(f"{name}: {spread}")


def _print_line(name: str, spread: Mapping[str, float]) -> None:
    columns = [spread.get(column, "") for column in ("prompts", "mean", "p99", "worst")]
    print(f"{name.replace('_', ' '):<34}{columns[0]:>9}" + "".join(f"{c:>8}" for c in columns[1:]))


if __name__ == "__main__":
    main()
