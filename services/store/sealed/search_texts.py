"""The split of messages into search texts, each of which fits one row."""

from collections.abc import Iterator, Sequence

from services.domain import Message, SearchedMessage, SearchText
from services.store.sealed.seals import Format

# Maximum octets of a text's JSON, so that it has at most 262,144 when sealed: the longest padded body (services/crypto/vault.py)
# of such a token has 192,512, of which 4 are the length.
_MOST_BYTES = 192_508
_FRAME_BYTES = 100  # at most: the JSON of a text without messages
_MESSAGE = Format(SearchedMessage)


def texts_of(seqs: range, messages: Sequence[Message]) -> Iterator[SearchText]:
    """Yield the fewest search texts that cover *seqs* and fit one row each; none covers a message too long for one."""
    start, size, some = seqs.start, _FRAME_BYTES, list[SearchedMessage]()
    for message in sorted(messages, key=lambda message: message.seq):
        searched = SearchedMessage(
            id=message.id,
            seq=message.seq,
            role=message.role,
            created_at=message.created_at,
            body=message.body,
        )
        added = len(_MESSAGE.write(searched).encode()) + len(", ")
        is_too_long = _FRAME_BYTES + added > _MOST_BYTES
        if is_too_long or size + added > _MOST_BYTES:
            yield from _text(range(start, message.seq), some)
            start, size, some = message.seq + is_too_long, _FRAME_BYTES, []
        if not is_too_long:
            size += added
            some.append(searched)
    yield from _text(range(start, seqs.stop), some)


def _text(seqs: range, messages: Sequence[SearchedMessage]) -> Iterator[SearchText]:
    if seqs:
        yield SearchText(seqs=seqs, messages=tuple(messages))
