"""The journal of a store over files: writes are appended to it, with a checksum, before documents change."""

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import NonNegativeInt, TypeAdapter

from services.domain.json_texts import read_json
from services.store.files.documents import Damaged, line_of, read_line
from services.store.files.layout import TABLES
from services.store.tables.protocol import Table


@dataclass(frozen=True, slots=True)
class Operation:
    """A write to a document, which stores a row in it or, if `line` is empty, deletes the row with `key`."""

    path: str = field(repr=False)  # the document's path
    table: Table[Any]
    key: str = field(repr=False)
    row: Any = field(default=None, repr=False)
    line: bytes = field(default=b"", repr=False)  # the row as a line; b"": the row is deleted

    @classmethod
    def put(cls, path: str, table: Table[Any], row: object) -> "Operation":
        return cls(path, table, str(table.key(row)), row, line_of(table, row))


@dataclass(frozen=True, slots=True)
class _Record:
    """A line of the journal."""

    synced: int  # bytes of the journal that were synced when this line was written
    # (path, row) stores a row; (path, table, key) deletes a row
    writes: list[tuple[str, dict[str, Any]] | tuple[str, str, str]] = field(repr=False)


_RECORDS, _SIZES = TypeAdapter(_Record), TypeAdapter(dict[str, NonNegativeInt])
# matches only paths inside the store's folder
_PATH = re.compile(r"[\w-]+(?:/[\w-][\w.-]*){1,2}")


def journal_line(operations: Iterable[Operation], synced: int) -> bytes:
    """Return *operations* as a line of the journal; *synced*: the number of the journal's bytes that are on the disk."""
    writes = b",".join(
        b"[%b,%b]" % (json.dumps(one.path).encode(), one.line)
        if one.line
        else json.dumps([one.path, one.table.name, one.key]).encode()
        for one in operations
    )
    body = b'{"synced":%d,"writes":[%b]}' % (synced, writes)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def read_journal(data: bytes) -> tuple[list[Operation], int]:
    """Return the operations of a journal, and the size of its undamaged part in bytes.

    A power cut may damage bytes at the end that were not synced to the disk. Raise Damaged if other bytes are damaged.
    """
    operations, start, whole = list[Operation](), 0, None
    for line in data.splitlines(keepends=True):
        record = _read(line)
        if record is None:
            whole = start if whole is None else whole
        elif whole is None:
            operations += map(_operation, record.writes)
        elif record.synced > whole:
            raise Damaged
        start += len(line)
    return operations, start if whole is None else whole


def sizes_text(sizes: Mapping[str, int]) -> bytes:
    """Return as JSON the *sizes* that documents had before an append, keyed by path."""
    return _SIZES.dump_json({**sizes})


def read_sizes(data: bytes | None) -> dict[str, int]:
    """Return the sizes of documents before an unfinished append, keyed by path; {} for None. Raise Damaged if malformed."""
    if data is None:
        return {}
    try:
        sizes = _SIZES.validate_json(data)
    except ValueError:
        raise Damaged from None
    if not all(map(_PATH.fullmatch, sizes)):
        raise Damaged
    return sizes


def _read(line: bytes) -> _Record | None:
    checksum, _, body = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        return read_json(_RECORDS, body)
    except ValueError:  # not chained, because the error's message repeats the line
        raise Damaged from None


def _operation(write: tuple[str, dict[str, Any]] | tuple[str, str, str]) -> Operation:
    if not _PATH.fullmatch(write[0]):
        raise Damaged
    match write:
        case path, dict(fields):
            line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
            table, row = read_line(line)
            return Operation(path, table, str(table.key(row)), row, line)
        case path, name, key if name in TABLES:
            return Operation(path, TABLES[name], key)
        case _:
            raise Damaged
