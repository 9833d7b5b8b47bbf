"""Rules for documents: only a caller who has seen a document's current revision may replace it."""

from collections.abc import Hashable

from services.domain.rows import DocumentKind, DocumentRow
from services.rules import STALE, TOO_MANY, Refusal

_MOST_FACTS = 5_000
_MOST = 500  # maximum documents of each kind other than facts


def is_stored(stored: DocumentRow | None, new: DocumentRow) -> bool:
    """Return True if *new* is stored already, because the call was repeated."""
    return stored is not None and (stored.rev, stored.body) == (new.rev, new.body)


def put_refusal(
    stored: DocumentRow | None, new: DocumentRow, seen_rev: int, count: int
) -> Refusal | None:
    """Return a refusal if *new* must not replace the document whose revision was *seen_rev* (0: a new document), else None.

    *count* is the number of stored documents of the kind of *new*.
    """
    if (
        stored is None
        and seen_rev == 0
        and count >= (_MOST_FACTS if new.kind is DocumentKind.FACT else _MOST)
    ):
        return TOO_MANY
    if (stored.rev if stored else 0) != seen_rev:
        return STALE
    return STALE if stored and _place(stored) != _place(new) else None


def _place(document: DocumentRow) -> tuple[Hashable, ...]:
    return document.kind, document.conversation_id, document.space_id


def text_refusal(stored: DocumentRow, new: DocumentRow, seen_rev: int) -> Refusal | None:
    """Return a refusal if a conversation's instructions or summary have changed since revision *seen_rev*, else None."""
    return None if stored.rev == seen_rev or is_stored(stored, new) else STALE


def is_of_other_messages(rev: int, last_seq: int, cuts: int | None) -> bool:
    """Return True if messages were deleted or restored since *cuts* (`Conversation.cuts`: rev - last_seq) was read.

    If so, a fact or a summary that was made from the earlier messages is refused. New messages raise both numbers by 1.
    """
    return rev - last_seq != cuts
