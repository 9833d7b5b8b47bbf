"""The view of a conversation with recall: the latest messages, and earlier ones that a prompt brings back.

Recall is another for each prompt, and a prompt whose beginning changes is read anew by the provider.
So what was recalled for a prompt stays at its head while an epoch lasts, and a later turn only adds
some that is not in view yet. At an overflow a new epoch begins: what was recalled goes, the latest
messages are trimmed to a quarter if they fill more than half, and the prompt is given fresh recall.

Where no cache is at stake, because nothing was recalled before, recall takes all that the latest
quarter leaves. What was tried stands in docs/decisions/prompts-that-begin-alike.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf

from services.domain import MessageId
from services.memory import blocks
from services.memory.context import History, RecalledMessage
from services.memory.extracts import Extract, find_extract, is_long
from services.memory.layout import (
    Layout,
    Pair,
    frame_tokens,
    headings_tokens,
    how_many_fit,
    said_tokens,
    says_something,
    whole_pairs,
)
from services.memory.terms import stems
from services.memory.tokens import TokenCounter

# All of the prompt's tokens, in per cent.
_LATEST = 25  # for the latest messages where a view begins
_LASTING = 55  # while all but recall takes no more, what was recalled goes alone: the prefix lasts
_EPOCH = 15  # recalled where a cache is at stake, as an epoch begins
_TURN = 6  # and with each turn after that, at most
_REFILL = 40  # a new epoch takes as much at least: what recall leaves of it is for latest messages
_REFILL_ALONE = 67  # and where nothing is recalled
_WHOLE = 10  # of what recall may take: a long message that takes no more is quoted whole
_MISSES = 5  # extracts that did not fit, after which no more are looked for
_SHORT, _FULL = 300, 700  # letters of a message and of an extract, between which length counts


def continue_epoch(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout | None:
    """The view as it was, and a little more recalled; None where an epoch has to begin.

    *pairs* are those after the start of the view, *fixed* all but them. *room* in tokens.
    """
    begins_here = bool(history.past) and history.past[-1].seq == history.prefix_seq
    if begins_here and not pairs:
        return None  # the last pair may be among what is recalled
    if how_many_fit(pairs, room, counter) < len(pairs):
        return None  # told without counting all of it
    whole = _before_reset(history) | _ids(pairs)
    extracts: dict[MessageId, list[Extract]] = {}
    before: dict[MessageId, tuple[RecalledMessage, ...]] = {}
    for pair in pairs:
        if pair.prompt.seq > history.prefix_seq:
            block = _hidden(history.earlier_recalls.get(pair.prompt.id, ()), whole)
            block = [
                each for each in block if each.extract not in extracts.get(each.message.id, ())
            ]
            if block:
                before[pair.prompt.id] = tuple(sorted(block, key=_said_at))
            for each in block:
                if each.extract:
                    extracts.setdefault(each.message.id, []).append(each.extract)
                else:
                    whole.add(each.message.id)
    view = replace(fixed, pairs=pairs, earlier_recalls=before)
    left = room - view.tokens(counter)
    hidden = _hidden(history.candidates, whole)
    found = {each.message.id for each in hidden}
    if left < 0 or (_is_first(history) and any(each.id in found for each in history.past)):
        return None
    share = room * (_EPOCH if begins_here else _TURN) // 100
    recalled = _packed(hidden, extracts, history.prompt, min(left, share), counter)
    return replace(view, recalled=recalled)


def new_epoch(
    history: History, fixed: Layout, pairs: Sequence[Pair], room: int, counter: TokenCounter
) -> Layout:
    """The latest messages, then what is recalled, then more of the latest where that leaves room."""
    gone = _before_reset(history)
    newest = whole_pairs(history.past, after=history.reset_seq)[
        -1:
    ]  # even if it was left out before
    is_first = _is_first(history)
    left = room - fixed.tokens(counter)
    lasting = room * _LASTING // 100 - fixed.tokens(counter)
    if is_first or how_many_fit(pairs, lasting, counter) < len(pairs):
        latest = min(left, room * _LATEST // 100)
    else:
        latest = left
    # The last pair stays whole, for the prompt may be about it: while it takes at most half of what recall could fill,
    # else it comes first in that; while it fits at all where recall has less to fill.
    most = left // 2 if is_first and history.candidates else left
    kept = how_many_fit(pairs, latest, counter) or min(1, how_many_fit(pairs, most, counter))

    def with_recall(kept: int) -> Layout:
        latest = pairs[len(pairs) - kept :]
        left = room - replace(fixed, pairs=latest).tokens(counter)
        share = left if is_first else min(left, room * _EPOCH // 100)
        ranked = {each.message.id: each for each in history.candidates}
        last = [ranked.get(half.id, RecalledMessage(half)) for pair in newest for half in pair]
        first = [replace(each, score=inf) for each in last]
        hidden = _hidden([*first, *history.candidates], gone | _ids(latest))
        recalled = _packed(hidden, {}, history.prompt, share, counter)
        return replace(fixed, pairs=latest, recalled=recalled)

    chosen = with_recall(kept)
    refill = _REFILL if chosen.recalled else _REFILL_ALONE
    more = _how_many_more(chosen, pairs[: len(pairs) - kept], room * refill // 100, counter)
    return with_recall(kept + more) if more else chosen


def _how_many_more(chosen: Layout, older: Sequence[Pair], room: int, counter: TokenCounter) -> int:
    """How many of the *older* pairs fit in *room* beside *chosen*, what was recalled of them once."""
    left = room - chosen.tokens(counter)
    recalled = {each.message.id: each for each in chosen.recalled}
    for more, pair in enumerate(reversed(older)):
        left -= pair.tokens(counter)
        left += sum(said_tokens(recalled[half.id], counter) for half in pair if half.id in recalled)
        if left < 0:
            return more
    return len(older)


def _is_first(history: History) -> bool:
    """Whether a new epoch loses no cache."""
    return not any(each.id in history.earlier_recalls for each in history.past)


def _before_reset(history: History) -> set[MessageId]:
    return {message.id for message in history.past if message.seq <= history.reset_seq}


def _hidden(quotes: Iterable[RecalledMessage], not_these: set[MessageId]) -> list[RecalledMessage]:
    """Return the *quotes* that say something, each message once."""
    hidden: dict[MessageId, RecalledMessage] = {}
    for each in quotes:
        if each.message.id not in not_these and says_something(each.message):
            hidden.setdefault(each.message.id, each)
    return list(hidden.values())


def _packed(
    hidden: Iterable[RecalledMessage],
    extracts: Mapping[MessageId, Sequence[Extract]],
    prompt: str | None,
    room: int,
    counter: TokenCounter,
) -> tuple[RecalledMessage, ...]:
    """Return the quotes that fit in *room* (tokens), chosen by score for length, in the order in which they were said.

    A message that is long for this room is quoted by an extract, beside the *extracts* of it that are in view.
    """
    if prompt is None:
        return ()
    asked = stems(prompt)
    left = room - frame_tokens((), counter)
    stated: set[tuple[str, ...]] = set()
    packed: list[RecalledMessage] = []
    misses = 0  # extracts that did not fit
    for found in sorted(hidden, key=_worth, reverse=True):
        quote, body, taken = found, found.message.body, extracts.get(found.message.id, ())
        if taken or (is_long(body) and said_tokens(found, counter) > room * _WHOLE // 100):
            extract = find_extract(body, asked, taken, left) if misses < _MISSES else None
            if extract is None:
                continue
            quote = replace(found, extract=extract)
        headings = set(blocks.headings(quote.message.created_at)) - stated
        tokens = said_tokens(quote, counter) + headings_tokens(headings, counter)
        if tokens <= left:
            left -= tokens
            stated |= headings
            packed.append(quote)
        elif quote.extract:
            misses += 1
    return tuple(sorted(packed, key=_said_at))


def _worth(quote: RecalledMessage) -> float:
    """Return the score divided by the length in letters, within bounds."""
    return quote.score / min(max(_SHORT, len(quote.message.body)), _FULL)


def _said_at(quote: RecalledMessage) -> tuple[datetime, int, MessageId]:
    message = quote.message
    return message.created_at, message.seq, message.id


def _ids(pairs: Iterable[Pair]) -> set[MessageId]:
    return {half.id for pair in pairs for half in pair}
