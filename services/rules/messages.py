"""Rules for messages and conversations: refusals of changes, and the conversation's row after each change."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar, cast

from services.domain import MessageId, Outcome, Role
from services.domain.rows import ConversationRow, MessageRow
from services.rules import BUSY, NO_SPACE, NOT_FOUND, STALE, TOO_MANY, Refusal

# maximum conversations of a user, including deleted ones that are not destroyed yet
MOST_CONVERSATIONS = 20_000
# from this number of messages on, replies cannot be edited: edits add messages but cost nothing, so no cap limits them
_MOST_MESSAGES = 20_000
_UNFINISHED = Outcome.CUT, Outcome.STOPPED, Outcome.FAILED, Outcome.INTERRUPTED


Row = TypeVar("Row", bound=ConversationRow)


# --- storing ----------------------------------------------------------------------------------------


def creation_refusal(conversations: int, *, is_taken: bool, has_space: bool) -> Refusal | None:
    """Return a refusal if a user with this number of *conversations* may not begin another one, else None.

    *is_taken*: a conversation with the new id exists; *has_space*: the chosen space exists, or none was chosen.
    """
    if conversations >= MOST_CONVERSATIONS:
        return TOO_MANY
    if not has_space:
        return NO_SPACE
    return Refusal(reason="taken") if is_taken else None


def prompt_refusal(
    row: ConversationRow,
    *,
    rev: int,
    start_seq: int,
    is_busy: bool,
    asked: MessageRow | None,
    is_new: bool,
) -> Refusal | None:
    """Return a refusal if a turn may not begin, else None.

    The turn answers a new prompt (*is_new*) or a stored message (*asked*). The turn is stale if the user cleared the
    context after the turn was planned: *start_seq* is then before `reset_seq`.
    """
    if is_busy:
        return BUSY
    if row.rev != rev or not row.reset_seq <= start_seq <= row.last_seq:
        return STALE
    if is_new:
        return None
    if asked is None or asked.destroy_at is not None:
        return NOT_FOUND
    is_answerable = asked.role is Role.USER or asked.outcome in _UNFINISHED
    return None if is_answerable else NOT_FOUND


def edit_refusal(
    row: ConversationRow, *, rev: int, is_busy: bool, original: MessageRow | None
) -> Refusal | None:
    """Return a refusal if an edited version of the reply *original* may not be stored, else None."""
    if is_busy:
        return BUSY
    if row.rev != rev:
        return STALE
    if row.last_seq >= _MOST_MESSAGES:
        return TOO_MANY
    is_reply = original is not None and original.role is Role.ASSISTANT
    return None if original and is_reply and original.destroy_at is None else NOT_FOUND


def appended(row: Row, head: str, *, is_users: bool, now: datetime) -> Row:
    """Return the conversation's row after a new message. A message by the user (*is_users*) counts as read."""
    seq = row.last_seq + 1
    read_seq = seq if is_users else row.read_seq
    return replace(row, rev=row.rev + 1, last_seq=seq, head=head, read_seq=read_seq, updated_at=now)


# --- deleting and restoring messages ----------------------------------------------------------------


def discard_refusal(
    row: ConversationRow,
    doomed: Collection[MessageId],
    found: Sequence[MessageRow],
    later: Iterable[MessageRow],
    *,
    rev: int,
    answered: MessageId | None,
) -> Refusal | None:
    """Return a refusal if the messages *doomed* may not be deleted, else None.

    *found*: the stored messages among *doomed*; *later*: stored messages, including all children of *found*; *answered*:
    the prompt whose reply is streaming.
    """
    if answered in doomed:
        return BUSY
    if row.rev != rev:
        return STALE
    is_gone = len(found) != len(doomed) or any(one.destroy_at for one in found)
    if is_gone or any(
        one.parent_id in doomed and one.id not in doomed and one.destroy_at is None for one in later
    ):
        return Refusal(reason="a message stays that follows one that goes")
    return None


def discarded(row: Row, head: str, kept_summary: str | None, due: datetime) -> Row:
    """Return the conversation's row after messages were deleted; the user can undo that until *due*.

    The summary is removed, unless it equals *kept_summary*.
    """
    is_kept = row.summary is not None and row.summary == kept_summary
    return replace(
        row,
        rev=row.rev + 1,
        head=head,
        undo_until=due,
        summary=row.summary if is_kept else None,
        summary_rev=row.summary_rev + (not is_kept),
    )


def restore_refusal(
    row: ConversationRow, rev: int, asked: Sequence[MessageId], restorable: Sequence[MessageId]
) -> Refusal | None:
    """Return None if the messages *asked* are exactly the *restorable* ones (both ordered by seq), else a refusal."""
    if row.rev != rev:
        return STALE
    return None if asked and list(asked) == list(restorable) else NOT_FOUND


def restored(row: Row, head: str) -> Row:
    return replace(row, rev=row.rev + 1, head=head, undo_until=None)


# --- the conversation's row -------------------------------------------------------------------------


def changed(row: Row, changes: Mapping[str, object], now: datetime) -> Row | None:
    """Return the conversation's row after *changes*, whose revision is not checked; None if a title came too late.

    A title from the model is too late if the conversation's title is no longer the first words of the prompt. After a new
    policy or a cleared context, `start_seq` returns to `reset_seq`, so that all messages since then may be sent again.
    """
    if changes.get("titled_by") == "model" and row.titled_by != "words":
        return None
    columns = {name: value for name, value in changes.items() if name != "pinned"}
    if "policy" not in changes:
        columns.pop("policy_size", None)
    if "pinned" in changes:
        columns["pinned_at"] = (row.pinned_at or now) if changes["pinned"] else None
    if "policy" in changes or "reset_seq" in changes:
        columns["start_seq"] = changes.get("reset_seq", row.reset_seq)
    for name, before in (("read_seq", row.read_seq), ("facts_seq", row.facts_seq)):
        if name in changes:  # these seqs never decrease, and never exceed last_seq
            columns[name] = max(before, min(cast(int, changes[name]), row.last_seq))
    return replace(row, **columns)


def hidden(row: Row, seconds: int, now: datetime) -> Row:
    """Return *row* as that of a deleted conversation: hidden, and destroyed after *seconds* (from the first such call on)."""
    return replace(row, destroy_at=row.destroy_at or now + timedelta(seconds=seconds))


def can_restore(destroy_at: datetime | None, now: datetime) -> bool:
    """Return True if a row was deleted, and can still be restored."""
    return destroy_at is not None and destroy_at > now


def is_due(destroy_at: datetime | None, now: datetime) -> bool:
    """Return True if a row was deleted, and must now be destroyed because the time for Undo is over."""
    return destroy_at is not None and destroy_at < now
