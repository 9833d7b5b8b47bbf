"""Rules for documents: a document is replaced only by a caller that has read its current revision."""

from collections.abc import Hashable

from services.domain.rows import DocumentKind, DocumentRow
from services.rules import STALE, TOO_MANY, Refusal

_MOST_FACTS = 5_000
_MOST = 500  # maximum documents of each kind other than facts


def is_stored(stored: DocumentRow | None, new: DocumentRow) -> bool:
    """Return True if *new* equals the stored document, because a repeated call has stored it already."""
    return stored is not None and (stored.rev, stored.body) == (new.rev, new.body)


def put_refusal(
    stored: DocumentRow | None, new: DocumentRow, seen_rev: int, count: int
) -> Refusal | None:
    """Return a refusal if *new* must not replace *stored*, else None.

    *seen_rev*: the revision that the caller has read (0: a new document); *count*: the number of stored documents of the
    same kind.
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
    """Return a refusal if a conversation's instructions or summary have changed since *seen_rev* was read, else None."""
    return None if stored.rev == seen_rev or is_stored(stored, new) else STALE


def is_of_other_messages(rev: int, last_seq: int, cuts: int | None) -> bool:
    """Return True if messages were deleted or restored since *cuts* (`Conversation.cuts`: rev - last_seq) was read.

    A fact or summary that was made from the earlier messages is then refused. A new message raises rev and last_seq by
    1 each, and so does not change their difference.
    """
    return rev - last_seq != cuts
