"""The view of a conversation with recall: the latest messages, and earlier ones that a prompt brings back.

Recall is another for each prompt, and a prompt whose beginning changes is read anew by the provider.
So what was recalled for a prompt stays at its head while an epoch lasts, and a later turn only adds
some that is not in view yet. At an overflow a new epoch begins: what was recalled goes, the latest
messages are trimmed to a quarter if they fill more than half, and the prompt is given fresh recall.

Where no cache is at stake, because nothing was recalled before, recall takes all that the latest
quarter leaves. What was tried stands in docs/decisions/prompts-that-begin-alike.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from services.domain import Message, MessageId
from services.memory import blocks
from services.memory.context import History, Recalled
from services.memory.layout import (
    Layout,
    Pair,
    day_tokens,
    frame_tokens,
    how_many_fit,
    said_tokens,
    says_something,
)
from services.memory.tokens import TokenCounter

# All of the prompt's tokens, in per cent.
_LATEST = 25  # for the latest messages where a view begins
_LASTING = 55  # while all but recall takes no more, what was recalled goes alone: the prefix lasts
_EPOCH = 15  # recalled where a cache is at stake, as an epoch begins
_TURN = 6  # and with each turn after that, at most
_REFILL = 40  # a new epoch takes as much at least: what recall leaves of it is for latest messages
_REFILL_ALONE = 67  # and where nothing is recalled


def continue_epoch(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout | None:
    """The view as it was, and a little more recalled; None where an epoch has to begin.

    *pairs* are those after the start of the view, *fixed* all but them. *room* in tokens.
    """
    if how_many_fit(pairs, room, counter) < len(pairs):
        return None  # told without counting all of it
    not_these = _before_reset(history) | _ids(pairs)
    before: dict[MessageId, tuple[Message, ...]] = {}
    for pair in pairs:
        if pair.prompt.seq > history.epoch_seq:
            told = history.recalled_before.get(pair.prompt.id, ())
            once = {each.id: each for each in told if says_something(each)}
            block = [each for each in once.values() if each.id not in not_these]
            if block:
                before[pair.prompt.id] = tuple(sorted(block, key=_said_at))
                not_these |= once.keys()
    view = replace(fixed, pairs=pairs, recalled_before=before)
    left = room - view.tokens(counter)
    hidden = _hidden(history, not_these)
    found = {each.message.id for each in hidden}
    if left < 0 or (_is_first(history) and any(each.id in found for each in history.past)):
        return None
    begins_here = bool(history.past) and history.past[-1].seq == history.epoch_seq
    share = room * (_EPOCH if begins_here else _TURN) // 100
    return replace(view, recalled=_packed(hidden, min(left, share), counter))


def new_epoch(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout:
    """The latest messages, then what is recalled, then more of the latest where that leaves room."""
    gone = _before_reset(history)
    is_first = _is_first(history)
    left = room - fixed.tokens(counter)
    lasting = room * _LASTING // 100 - fixed.tokens(counter)
    if is_first or how_many_fit(pairs, lasting, counter) < len(pairs):
        latest = min(left, room * _LATEST // 100)
    else:
        latest = left
    # the last pair stays while it fits at all: the prompt may be about it
    kept = how_many_fit(pairs, latest, counter) or min(1, how_many_fit(pairs, left, counter))

    def with_recall(kept: int) -> Layout:
        latest = pairs[len(pairs) - kept :]
        left = room - replace(fixed, pairs=latest).tokens(counter)
        share = left if is_first else min(left, room * _EPOCH // 100)
        hidden = _hidden(history, gone | _ids(latest))
        return replace(fixed, pairs=latest, recalled=_packed(hidden, share, counter))

    chosen = with_recall(kept)
    refill = _REFILL if chosen.recalled else _REFILL_ALONE
    more = _how_many_more(chosen, pairs[: len(pairs) - kept], room * refill // 100, counter)
    return with_recall(kept + more) if more else chosen


def _how_many_more(chosen: Layout, older: Sequence[Pair], room: int, counter: TokenCounter) -> int:
    """How many of the *older* pairs fit in *room* beside *chosen*, what was recalled of them once."""
    left = room - chosen.tokens(counter)
    recalled = {each.message.id for each in chosen.recalled}
    for more, pair in enumerate(reversed(older)):
        left -= pair.tokens(counter)
        left += sum(said_tokens(half, counter) for half in pair if half.id in recalled)
        if left < 0:
            return more
    return len(older)


def _is_first(history: History) -> bool:
    """Whether a new epoch loses no cache."""
    return not any(each.id in history.recalled_before for each in history.past)


def _before_reset(history: History) -> set[MessageId]:
    return {message.id for message in history.past if message.seq <= history.reset_seq}


def _hidden(history: History, not_these: set[MessageId]) -> list[Recalled]:
    """What is ranked, the best first, each once."""
    hidden: dict[MessageId, Recalled] = {}
    for each in history.ranked:
        if each.message.id not in not_these and says_something(each.message):
            hidden.setdefault(each.message.id, each)
    return list(hidden.values())


def _packed(hidden: Iterable[Recalled], room: int, counter: TokenCounter) -> tuple[Recalled, ...]:
    """What fits in *room*, the best first; then in the order in which it was said."""
    left = room - frame_tokens((), counter)
    days: set[str] = set()
    packed: list[Recalled] = []
    for each in hidden:
        day = blocks.day(each.message.created_at)
        tokens = said_tokens(each.message, counter)
        tokens += 0 if day in days else day_tokens(day, counter)
        if tokens <= left:
            left -= tokens
            days.add(day)
            packed.append(each)
    return tuple(sorted(packed, key=lambda each: _said_at(each.message)))


def _said_at(message: Message) -> tuple[datetime, int, MessageId]:
    return message.created_at, message.seq, message.id


def _ids(pairs: Iterable[Pair]) -> set[MessageId]:
    return {half.id for pair in pairs for half in pair}
