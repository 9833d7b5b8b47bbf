"""The example store: what it promises beside the protocol of tables, so that the suite finds more mistakes."""

from services.store.tables.schema import LEDGER
from tests.fakes import MAYA
from tests.store.conformance.bytes_store import BytesStore
from tests.store.made_rows import row_of


def test_example_store_runs_some_blocks_twice():
    tables, runs = BytesStore().of(MAYA), []
    rows = [row_of(LEDGER, id=str(number)) for number in range(6)]

    for row in rows:
        tables.run(lambda block, row=row: runs.append(block.put(LEDGER, row)))

    assert tables.run(lambda block: block.select(LEDGER, order=("id",))) == rows
    assert len(runs) == 8
