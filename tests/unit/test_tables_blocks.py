"""Methods that run as one atomic block."""

from services.domain.rows import DocumentKind
from services.store.tables.blocks import atomic
from services.store.tables.schema import DOCUMENTS
from tests.fakes import MAYA
from tests.store.conformance.bytes_store import BytesStore
from tests.store.made_rows import row_of


class Facts:
    """An object over tables, some of whose blocks run twice."""

    tables = BytesStore().of(MAYA)

    @atomic
    def keep(self, block, ids, *, texts=()):
        kept = [
            row_of(DOCUMENTS, kind=DocumentKind.FACT, id=fact_id, body=text)
            for fact_id, text in zip(ids, texts, strict=True)
        ]
        for row in kept:
            block.put(DOCUMENTS, row)
        return kept


def test_arguments_of_an_atomic_method_are_read_once():
    facts = Facts()

    for _ in range(6):  # several times, because some blocks run twice
        kept = facts.keep(iter("ab"), texts=(text for text in ("one", "two")))

        assert [(row.id, row.body) for row in kept] == [("a", "one"), ("b", "two")]
