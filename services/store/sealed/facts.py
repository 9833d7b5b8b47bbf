"""Facts over sealed rows: under a conversation's key where that is their scope, else under the user's."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from services.crypto import UserKeys, Vault
from services.domain import ConversationId, Fact, FactId, SpaceId
from services.domain.limits import checked_fact
from services.errors import Tampered
from services.events import log_event
from services.store.rows import DocumentKind, DocumentRow, Rows
from services.store.sealed.documents import Documents, OpenedDocument
from services.store.sealed.formats import Format
from services.store.sealed.opened import OpenedConversations


class SealedFacts(Documents[Fact]):
    """The `Facts` of one user over sealed rows."""

    def __init__(self, rows: Rows, keys: UserKeys, opened: OpenedConversations) -> None:
        columns = "id", "conversation_id", "space_id"
        super().__init__(rows, keys, DocumentKind.FACT, Format(Fact, columns))
        self._conversations = opened
        opened.on_forget.append(self._forget_conversation)

    def facts(self) -> tuple[Fact, ...]:
        return self.all()

    def fresh_facts(self) -> tuple[Fact, ...]:
        self._opened.read()
        return self.all()

    def keep(self, fact: Fact, *, replaces: Fact | None = None, cuts: int | None = None) -> None:
        fact = replace(fact, text=checked_fact(fact.text))
        row = DocumentRow(
            kind=self._kind,
            id=fact.id,
            conversation_id=fact.conversation_id,
            space_id=fact.space_id,
        )
        source = None if cuts is None else fact.source_conversation_id
        self._replace(fact, row, replaces, source, cuts)

    def forget(self, fact_id: FactId) -> None:
        self._delete(fact_id)

    def forget_all(self) -> None:
        try:
            self._rows.delete_facts()
        finally:
            self._opened.outdate()
        self._drop(lambda _: True)

    def forget_space(self, space_id: SpaceId) -> None:
        """Hide the facts of a space that was destroyed with them."""
        self._drop(lambda row: row.space_id == space_id)

    def _forget_conversation(self, conversation_id: ConversationId) -> None:
        self._drop(lambda row: row.conversation_id == conversation_id)

    def _readable(self, rows: Sequence[DocumentRow]) -> Iterator[DocumentRow]:
        scopes = {row.conversation_id for row in rows if row.conversation_id}
        found = self._conversations.rows(scopes) if scopes else {}
        for row in rows:
            if row.conversation_id:
                conversation = found.get(row.conversation_id)
                if conversation is None or conversation.destroy_at:
                    continue
                with suppress(Tampered):  # the key is at hand then where the fact is opened
                    self._conversations.vault(conversation.id, conversation)
            yield row

    def _vault(self, row: DocumentRow) -> Vault | None:
        return self._conversations.vault(row.conversation_id) if row.conversation_id else None

    def _unreadable(self, row: DocumentRow) -> None:
        log_event("fact.unverified", fact=row.id)

    def _order(self, opened: OpenedDocument[Fact]) -> tuple[object, ...]:
        return opened.value.since, opened.row.created_at, opened.row.id
