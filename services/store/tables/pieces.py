"""Pieces of attachments over tables, destroyed in slices before their messages."""

from collections.abc import Mapping
from dataclasses import replace

from services.store.tables.protocol import Block
from services.store.tables.schema import COUNTS, PIECES, Counts

_SLICE = 60  # rows that a block of the sweep destroys


def destroy_pieces(block: Block, counts: Counts, *chosen: Mapping[str, object]) -> bool:
    """Destroy a slice of the pieces that one of *chosen* selects; return True if there were any."""
    for where in chosen:
        if pieces := block.select(PIECES, where, limit=_SLICE):
            for piece in pieces:
                block.delete(PIECES, PIECES.key(piece))
            freed = sum(len(piece.piece_body) for piece in pieces)
            block.put(COUNTS, replace(counts, bytes=counts.bytes - freed))
            return True
    return False
