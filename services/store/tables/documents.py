"""Documents in a store over tables: preferences, spaces, facts, and conversations' instructions and summaries."""

from dataclasses import replace
from uuid import UUID, uuid4

from services.domain.rows import DocumentKind, DocumentRow
from services.rules import ACCOUNT_FULL, NOT_FOUND, STALE, Refusal, part_of
from services.rules.documents import is_of_other_messages, is_stored, put_refusal, text_refusal
from services.store.tables import schema
from services.store.tables.blocks import accepted, atomic
from services.store.tables.content import counts_of, text_bytes
from services.store.tables.protocol import Block
from services.store.tables.schema import Document, Erasure
from services.store.tables.search_texts import TablesSearchTexts
from services.store.writes import PutDocument

_IN_ROW = (DocumentKind.INSTRUCTIONS, DocumentKind.SUMMARY)


class TablesDocuments(TablesSearchTexts):
    """The documents of one user."""

    @atomic
    def documents(self, block: Block, kind: DocumentKind) -> list[DocumentRow]:
        return [*self._documents(block, kind)]

    def _documents(self, block: Block, kind: DocumentKind) -> list[Document]:
        rows = block.select(schema.DOCUMENTS, {"kind": kind})
        if kind is not DocumentKind.FACT:
            return rows
        epoch, erased = counts_of(block).fact_epoch, self._erased(block)
        spaces = {one.id for one in block.select(schema.DOCUMENTS, {"kind": DocumentKind.SPACE})}
        return [
            row
            for row in rows
            if row.epoch >= epoch and row.id not in erased and row.space_id in {None, *spaces}
        ]

    def _erased(self, block: Block) -> set[UUID]:
        """Return the ids of deleted facts whose rows the sweep may not have destroyed yet."""
        return {fact_id for one in block.select(schema.ERASURES) for fact_id in one.fact_ids}

    def _document(self, block: Block, document_id: UUID) -> Document | None:
        row = block.get(schema.DOCUMENTS, document_id)
        if row is None or row.kind is not DocumentKind.FACT:
            return row
        is_hidden = row.epoch < counts_of(block).fact_epoch or row.id in self._erased(block)
        return None if is_hidden or not self._has_space(block, row.space_id) else row

    def put_document(self, write: PutDocument) -> None:
        if write.needs_room:
            self._open_minute()
        answer = self.tables.run(lambda block: self._put_document(block, write))
        accepted(f"put_{write.new_kind}", answer)

    def _put_document(self, block: Block, write: PutDocument) -> Refusal | None:
        new, source_id = write.row, write.source_id
        row = new.conversation_id and self._found(block, new.conversation_id)
        source = source_id and self._found(block, source_id)
        is_of_others = source_id and (
            not source
            or source.destroy_at
            or is_of_other_messages(source.rev, source.last_seq, write.cuts)
        )
        if (new.conversation_id and not row) or is_of_others:
            return NOT_FOUND
        if not self._has_space(block, new.space_id):
            return NOT_FOUND
        if write.needs_room and self.budget(block).is_full(self.most_bytes):
            return ACCOUNT_FULL
        counts = counts_of(block)
        if row and new.kind in _IN_ROW:
            is_summary = new.kind is DocumentKind.SUMMARY
            if is_summary and is_of_other_messages(row.rev, row.last_seq, write.cuts):
                return STALE
            if refusal := text_refusal(row.text(new.kind), new, write.seen_rev):
                return refusal
            columns = {str(new.kind): new.body, f"{new.kind}_rev": new.rev}
            return self._put(block, row, replace(row, **columns), counts)
        stored = self._document(block, new.id)
        if is_stored(stored, new):
            return None
        limited = {DocumentKind.FACT: counts.facts, DocumentKind.SPACE: counts.spaces}
        count = limited.get(new.kind, 0)
        if refusal := put_refusal(stored, new, write.seen_rev, count):
            return refusal
        created_at, epoch = stored.created_at if stored else self.now(), counts.fact_epoch
        # the old row of a deleted fact that *new* restores, unless the sweep has destroyed it
        hidden = None if stored else block.get(schema.DOCUMENTS, new.id)
        erasures = [] if stored else block.select(schema.ERASURES)
        block.put(schema.DOCUMENTS, part_of(Document, new, created_at=created_at, epoch=epoch))
        for one in erasures:
            if new.id not in one.fact_ids:
                continue
            if left := tuple(each for each in one.fact_ids if each != new.id):
                block.put(schema.ERASURES, replace(one, fact_ids=left))
            else:  # an erasure without ids would erase all facts
                block.delete(schema.ERASURES, one.id)
        is_fact, is_space = (new.kind is one for one in (DocumentKind.FACT, DocumentKind.SPACE))
        is_new, added = stored is None, text_bytes(new) - text_bytes(stored or hidden)
        counts = counts.plus(bytes=added, facts=is_new and is_fact, spaces=is_new and is_space)
        return block.put(schema.COUNTS, counts)

    @atomic
    def delete_document(self, block: Block, document_id: UUID) -> Refusal | None:
        """Delete a fact or a space. The facts of a deleted space are hidden from readers; the sweep destroys them later."""
        row, counts = self._document(block, document_id), counts_of(block)
        if row is None or row.kind not in (DocumentKind.FACT, DocumentKind.SPACE):
            return NOT_FOUND
        counts = counts.plus(bytes=-text_bytes(row))
        if row.kind is DocumentKind.FACT:
            block.put(schema.COUNTS, counts.plus(facts=-1))
        else:
            facts = self._documents(block, DocumentKind.FACT)
            gone = sum(one.space_id == row.id for one in facts)
            block.put(schema.COUNTS, counts.plus(spaces=-1, facts=-gone))
            block.put(schema.ERASURES, Erasure(id=uuid4(), space_id=row.id))
        return block.delete(schema.DOCUMENTS, document_id)

    @atomic
    def delete_facts(self, block: Block) -> None:
        counts = counts_of(block)
        block.put(schema.ERASURES, Erasure(id=uuid4(), fact_epoch=counts.fact_epoch))
        block.put(schema.COUNTS, replace(counts, facts=0, fact_epoch=counts.fact_epoch + 1))
