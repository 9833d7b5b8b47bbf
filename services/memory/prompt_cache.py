"""The Retrieval policy: it recalls messages without changing the prompt prefix that providers cache.

Different messages are recalled for each prompt, but a provider cannot use its cache if the prefix changes. So the messages
recalled for a prompt stay in front of that prompt in later turns, and later turns recall only messages that have not
been sent yet. On overflow the prefix is rebuilt: earlier recalled messages are dropped, the latest messages are trimmed
to a quarter of the budget if they fill more than half of it, and messages are recalled again for the new prompt.

If nothing was recalled before, there is no cache to lose, so recalled messages may take the whole budget except the
quarter for the latest messages. The alternatives that were measured are in docs/decisions/prompts-that-begin-alike.md.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from math import inf

from services.domain import MessageId
from services.domain.context import Extract, History, RecalledMessage
from services.memory import blocks
from services.memory.extracts import find_extract, is_long
from services.memory.layout import (
    Layout,
    Pair,
    complete_pairs,
    count_first,
    count_fitting,
    frame_tokens,
    has_text,
    message_ids,
    recall_tokens,
)
from services.memory.terms import stems

# The following values are percentages of the prompt's tokens.
_LATEST = 25  # the share reserved for the latest messages when the prefix is rebuilt
# on overflow, if the latest messages take at most this share, all of them stay, and only recalled messages are dropped
_LASTING = 55
_REBUILT = 15  # the share that recalled messages get when a cached prefix is rebuilt
_TURN = 6  # the largest share that messages recalled in one later turn may take
_REFILL = 40  # a rebuilt prefix is filled with more of the latest messages up to this share
_REFILL_ALONE = 67  # replaces `_REFILL` if nothing was recalled for the rebuilt prefix
# a long message is quoted in full if it takes less than this share of the tokens for recalled messages
_WHOLE = 10
_MISSES = 5  # after this many extracts that did not fit, no more are tried
# a message's score is divided by its length in characters, clamped to this range
_SHORT, _FULL = 300, 700


def extend_prefix(base: Layout, history: History, pairs: Sequence[Pair]) -> Layout | None:
    """Return *base* with *pairs*, the messages that were recalled for these pairs, and a few newly recalled messages.

    Return None if the prefix must be rebuilt.
    """
    was_rebuilt = bool(history.past) and history.past[-1].seq == history.prefix_seq
    if was_rebuilt and not pairs:
        # the last turn sent no pair in full; only `rebuild_prefix` can recall the messages of the last pair
        return None
    if count_fitting(pairs, base.room, base.counter) < len(pairs):
        return None  # check this first, because counting the recalled messages takes longer
    hidden_ids = _before_reset(history) | {*message_ids(pairs)}
    extracts: defaultdict[MessageId, list[Extract]] = defaultdict(list)
    earlier: dict[MessageId, Sequence[RecalledMessage]] = {}
    for pair in pairs:
        if pair.prompt.seq <= history.prefix_seq:
            continue
        recalls = [
            each
            for each in _without(hidden_ids, history.earlier_recalls.get(pair.prompt.id, ()))
            if each.extract not in extracts[each.message.id]
        ]
        if recalls:
            earlier[pair.prompt.id] = sorted(recalls, key=_time)
        for each in recalls:
            if each.extract:
                extracts[each.message.id].append(each.extract)
            else:
                hidden_ids.add(each.message.id)
    layout = replace(base, pairs=pairs, earlier_recalls=earlier)
    left = layout.left
    candidates = _without(hidden_ids, history.candidates)
    found = {each.message.id for each in candidates}
    is_found = any(message.id in found for message in history.past)
    if left < 0 or (_is_uncached(history) and is_found):
        return None
    share = _rebuilt_share(layout, history) if was_rebuilt else base.room * _TURN // 100
    return replace(layout, recalls=_pack(base, candidates, min(left, share), extracts))


def rebuild_prefix(base: Layout, history: History, pairs: Sequence[Pair]) -> Layout:
    """Add the latest *pairs* to *base*, then recalled messages, then more of the latest pairs if there is room."""
    before_reset = _before_reset(history)
    # the last pair after the reset; *pairs* may lack it, because an earlier prompt left it out
    last_pair = complete_pairs(history.past, after=history.reset_seq)[-1:]
    is_uncached = _is_uncached(history)
    taken = base.tokens
    latest = left = base.room - taken
    lasting = base.room * _LASTING // 100 - taken
    if is_uncached or count_fitting(pairs, lasting, base.counter) < len(pairs):
        latest = min(left, base.room * _LATEST // 100)
    # The last pair is sent in full, because the prompt may be about it, if it takes at most half of the
    # room for recalled messages (or all of the room, if there is nothing to recall). Otherwise its
    # messages become the first candidates for recall.
    most = left // 2 if is_uncached and history.candidates else left
    kept = count_fitting(pairs, latest, base.counter)
    kept = kept or min(1, count_fitting(pairs, most, base.counter))

    def with_recalls(kept: int) -> Layout:
        layout = replace(base, pairs=pairs[len(pairs) - kept :])
        share = min(layout.left, _rebuilt_share(layout, history))
        ranked = {each.message.id: each for each in history.candidates}
        last = (ranked.get(half.id, RecalledMessage(half)) for pair in last_pair for half in pair)
        first = [replace(each, score=inf) for each in last]
        shown = before_reset | {*message_ids(layout.pairs)}
        candidates = _without(shown, [*first, *history.candidates])
        return replace(layout, recalls=_pack(base, candidates, share, {}))

    layout = with_recalls(kept)
    refill = base.room * (_REFILL if layout.recalls else _REFILL_ALONE) // 100
    more = _count_refill(layout, pairs[: len(pairs) - kept], refill)
    return with_recalls(kept + more) if more else layout


def _count_refill(layout: Layout, older: Sequence[Pair], room: int) -> int:
    """Return how many *older* pairs can be added to *layout* within *room*; recalled messages are not counted twice."""
    counter = layout.counter
    recalled = {each.message.id: recall_tokens(each, counter) for each in layout.recalls}
    sizes = (
        pair.tokens(counter) - sum(recalled.get(half.id, 0) for half in pair)
        for pair in reversed(older)
    )
    return count_first(sizes, room - layout.tokens)


def _rebuilt_share(layout: Layout, history: History) -> int:
    """Return the maximum tokens of recalled messages in a rebuilt prefix: all free tokens, if no cached prefix is lost."""
    return layout.left if _is_uncached(history) else layout.room * _REBUILT // 100


def _is_uncached(history: History) -> bool:
    """Return True if nothing was recalled for an earlier prompt, so that rebuilding the prefix invalidates no cache."""
    return not any(message.id in history.earlier_recalls for message in history.past)


def _before_reset(history: History) -> set[MessageId]:
    return {message.id for message in history.past if message.seq <= history.reset_seq}


def _without(
    ids: Collection[MessageId], recalls: Iterable[RecalledMessage]
) -> Collection[RecalledMessage]:
    """Return *recalls* without repetitions, without empty messages, and without the messages whose ids are in *ids*."""
    found: dict[MessageId, RecalledMessage] = {}
    for each in recalls:
        if each.message.id not in ids and has_text(each.message):
            found.setdefault(each.message.id, each)
    return found.values()


def _pack(
    base: Layout,
    candidates: Iterable[RecalledMessage],
    room: int,
    extracts: Mapping[MessageId, Sequence[Extract]],
) -> tuple[RecalledMessage, ...]:
    """Choose, by score per length, the candidates that fit in *room* (in tokens); return them in chronological order.

    A message that is too long for *room* is quoted as an extract, which does not overlap the *extracts* already sent.
    """
    if base.prompt is None:
        return ()
    query, counter = stems(base.prompt), base.counter
    left = room - frame_tokens((), counter)
    stated: set[tuple[str, ...]] = set()
    packed: list[RecalledMessage] = []
    misses = 0
    for found in sorted(candidates, key=_worth, reverse=True):
        recall, body, shown = found, found.message.body, extracts.get(found.message.id, ())
        if shown or (is_long(body) and recall_tokens(found, counter) > room * _WHOLE // 100):
            extract = find_extract(body, query, shown, left) if misses < _MISSES else None
            if extract is None:
                continue
            recall = replace(found, extract=extract)
        headings = set(blocks.headings(recall)) - stated
        tokens = recall_tokens(recall, counter)
        tokens += sum(blocks.line_tokens(heading[-1], counter) for heading in headings)
        if tokens <= left:
            left -= tokens
            stated |= headings
            packed.append(recall)
        elif recall.extract:
            misses += 1
    return tuple(sorted(packed, key=_time))


def _worth(recall: RecalledMessage) -> float:
    """Return the score divided by the length in characters, which is clamped to `_SHORT` and `_FULL`."""
    return recall.score / min(max(_SHORT, len(recall.message.body)), _FULL)


def _time(recall: RecalledMessage) -> tuple[datetime, int, MessageId]:
    return recall.message.created_at, recall.message.seq, recall.message.id
