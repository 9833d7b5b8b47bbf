"""Conversations' instructions and running summaries: sealed documents in the conversations' rows."""

from collections.abc import Callable
from typing import TypeVar

from services.domain import RunningSummary
from services.domain.rows import ConversationRow, DocumentKind
from services.errors import ChangedElsewhere, NewerVersion, Tampered
from services.store.rows import Rows
from services.store.sealed.answers import ask_twice
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.seals import SUMMARY_FORMAT
from services.store.writes import PutDocument

Answer = TypeVar("Answer")


class ConversationTexts:
    """The instructions and summaries of the conversations of one user. Any thread may call any method."""

    def __init__(self, rows: Rows, opened: OpenedConversations) -> None:
        self._rows, self._opened = rows, opened
        self._documents = opened.user_seals.documents

    def instructions(self, row: ConversationRow) -> str | None:
        """Return the conversation's own instructions. Raise Tampered if they cannot be decrypted."""
        return self._text(row, DocumentKind.INSTRUCTIONS)

    def summary(self, row: ConversationRow) -> RunningSummary | None:
        """Return the conversation's running summary. Raise Tampered if it cannot be decrypted."""
        text = self._text(row, DocumentKind.SUMMARY)
        return None if text is None else SUMMARY_FORMAT.read(text)

    def readable_summary(self, row: ConversationRow) -> RunningSummary | None:
        """Return the running summary; None if there is none or it cannot be decrypted (the next summary then replaces it)."""
        return verified(lambda: self.summary(row))[0]

    def put_summary(self, row: ConversationRow, summary: RunningSummary | None, cuts: int) -> None:
        """Replace the running summary of *row*. Raise Stale (*row* is outdated), NotFound, Tampered, NewerVersion."""
        before = None
        try:
            if before := self._text(row, DocumentKind.SUMMARY):
                SUMMARY_FORMAT.read(before)
        except NewerVersion:
            raise
        except Tampered:  # a summary that cannot be read is replaced
            before = None
        text = SUMMARY_FORMAT.write(summary, before or "{}") if summary else None
        self.put_text(row, DocumentKind.SUMMARY, text, cuts)

    def put_text(
        self, row: ConversationRow, kind: DocumentKind, text: str | None, cuts: int | None = None
    ) -> None:
        """Replace the instructions or the summary of *row*. Raise Stale (*row* is outdated), NotFound, Tampered."""
        seen = row.text(kind)
        document = self._documents.seal(seen, text, self._opened.seals(row.id, row).vault)
        write = PutDocument.of(document, seen.rev, cuts=cuts)
        ask_twice(lambda: self._rows.put_document(write))
        self._documents.note(document)

    def _text(self, row: ConversationRow, kind: DocumentKind) -> str | None:
        """Return the decrypted instructions or summary, from the cache if unchanged. Raise Tampered if decryption fails."""
        document = row.text(kind)
        # if the document was replaced after *row* was read, read it again
        if self._documents.is_set_back(document):
            document = self._opened.row(row.id).text(kind)
        seals = self._opened.seals(row.id, row)
        texts = self._opened.opened(row.id, row).texts
        known = texts.get(kind)
        if known is None or known[0] != document or self._documents.is_set_back(document):
            known = texts[kind] = document, self._documents.open(document, seals.vault)
        return known[1]


def verified(open_text: Callable[[], Answer]) -> tuple[Answer | None, bool]:
    """Return the result of *open_text* and True; None and False if it raises Tampered."""
    try:
        return open_text(), True
    except Tampered:
        return None, False


def check_seen(seen: str | None, now: str | None, wanted: str | None) -> None:
    """Raise ChangedElsewhere if the stored text *now* is neither the text that was *seen* nor the *wanted* one."""
    if seen is not None and (now or "") not in (seen, wanted or ""):
        raise ChangedElsewhere(now or "")
