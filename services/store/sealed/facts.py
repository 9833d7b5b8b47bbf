"""Facts over sealed rows: under a conversation's key where that is their scope, else under the user's."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from services.crypto import UserKeys
from services.domain import ConversationId, Fact, FactId
from services.domain.limits import checked_fact
from services.errors import NotFound, Tampered
from services.events import log_event
from services.store.rows import DocumentKind, DocumentRow, Rows
from services.store.sealed.documents import Documents, Format
from services.store.sealed.opened import OpenedConversations
from services.store.sealed.places import document_place, stored_document_place

_FORMAT = Format(Fact, in_clear=("id", "conversation_id", "space_id"))


class SealedFacts(Documents[Fact]):
    """The `Facts` of one user over sealed rows."""

    def __init__(self, rows: Rows, keys: UserKeys, opened: OpenedConversations) -> None:
        super().__init__(rows, keys, DocumentKind.FACT)
        self._conversations = opened
        opened.on_forget.append(self._forget_conversation)

    def facts(self) -> tuple[Fact, ...]:
        return self.all()

    def fresh_facts(self) -> tuple[Fact, ...]:
        self._all.read()
        return self.all()

    def keep(self, fact: Fact, *, replaces: Fact | None = None, cuts: int | None = None) -> None:
        fact = replace(fact, text=checked_fact(fact.text))
        if fact.conversation_id:
            vault = self._conversations.vault(fact.conversation_id)
        else:
            vault = self._keys.newest.vault("memories")
        place = document_place(
            self._rows.user_id, self._kind, fact.id, fact.conversation_id, fact.space_id
        )
        document = DocumentRow(
            kind=self._kind,
            id=fact.id,
            body=vault.seal(_FORMAT.write(fact), place),
            key_version=vault.version,
            conversation_id=fact.conversation_id,
            space_id=fact.space_id,
        )
        source = None if cuts is None else fact.source_conversation_id
        self._replace(document, replaces, source, cuts)

    def forget(self, fact_id: FactId) -> None:
        self._forget(fact_id)

    def forget_all(self) -> None:
        try:
            self._rows.forget_facts()
        finally:
            self._all.outdate()
        self._drop(lambda _: True)

    def _forget_conversation(self, conversation_id: ConversationId) -> None:
        self._all.outdate()
        self._drop(lambda fact: fact.conversation_id == conversation_id)

    def _opened(self, rows: Sequence[DocumentRow]) -> Iterator[Fact]:
        scopes = {row.conversation_id for row in rows if row.conversation_id}
        found = self._conversations.rows(scopes) if scopes else {}
        for row in rows:
            conversation = found.get(row.conversation_id) if row.conversation_id else None
            if row.conversation_id and (conversation is None or conversation.destroy_at):
                continue  # it is being destroyed
            try:
                place = stored_document_place(self._rows.user_id, row)
                if conversation:
                    vault = self._conversations.vault(conversation.id, conversation)
                    text = vault.open(row.body, place)
                else:
                    text = self._keys.open("memories", row.body, place)
                yield _FORMAT.read(
                    text,
                    id=row.id,
                    conversation_id=row.conversation_id,
                    space_id=row.space_id,
                )
            except (Tampered, NotFound):
                log_event("fact.unverified", fact=row.id)

    def _order(self, row: DocumentRow, value: Fact) -> tuple[datetime, datetime | None, UUID]:
        return value.since, row.created_at, row.id
