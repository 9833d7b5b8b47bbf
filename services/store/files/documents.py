"""Documents: files of rows, each row a JSON object on its own line."""

import json
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from services.domain.json_texts import read_json
from services.store.files.layout import TABLES
from services.store.tables.protocol import Table
from services.store.tables.row_texts import read_row, row_text
from services.store.tables.schema import MESSAGES

Key = tuple[str, str]  # a row's table name and key
_START = b'{"table":"'
_OBJECT = TypeAdapter(dict[str, Any])
# In files, the field "body" of a message is named "content", as in other chat programs. The replacement of these bytes
# never hits a message's text, because JSON escapes the quotes in texts.
_OWN_NAME, _COMMON_NAME = b',"body":', b',"content":'


class Damaged(Exception):
    """Raised if bytes of a file differ from those that were written. *args*: the names of the files, if known."""


def line_of(table: Table[Any], row: object) -> bytes:
    """Return *row* as a line of a file, without the line break."""
    text = row_text(table, row)
    if table is MESSAGES:
        text = text.replace(_OWN_NAME, _COMMON_NAME, 1)
    return b'%b%b",%b' % (_START, table.name.encode(), text[1:])


def read_line(line: bytes) -> tuple[Table[Any], Any]:
    """Return the table and the row of a line. Raise Damaged if the line is not a row of a table."""
    name, _, fields = line.removeprefix(_START).partition(b'",')
    table = TABLES.get(name.decode(errors="replace"))
    if table is None or not line.startswith(_START):
        raise Damaged
    text = b"{" + fields
    if table is MESSAGES:
        text = text.replace(_COMMON_NAME, _OWN_NAME, 1)
    try:
        return table, read_row(table, text)
    except ValueError:  # not chained, because the error's message repeats the row
        raise Damaged from None


def _read_edited(line: bytes) -> tuple[Table[Any], Any]:
    """Return the table and the row of a line in any valid form of JSON. Raise Damaged as `read_line` does."""
    try:
        fields = read_json(_OBJECT, line)
        table = TABLES[fields.pop("table")]
        if table is MESSAGES and "content" in fields:
            fields["body"] = fields.pop("content")
        return table, read_row(table, json.dumps(fields))
    except (ValueError, KeyError, TypeError):  # TypeError: the table's name is a list or an object
        raise Damaged from None


@dataclass(frozen=True, slots=True)
class Change:
    """A change that has yet to be written to a file."""

    data: bytes = field(repr=False)
    # true: *data* replaces the file, which is deleted if *data* is empty; false: *data* is appended
    is_whole: bool


class Document:
    """The rows of one file by table and key, in the order in which they were first stored."""

    def __init__(self, data: bytes = b"", *, is_plain: bool = False) -> None:
        """Read the rows of a file. Raise Damaged if a line is not a row, or the last line is incomplete.

        *is_plain*: other tools may have written the file, with a byte order mark, blank lines, lines in any valid form
        of JSON, and without the last line break. The next change then replaces the file.
        """
        self.rows: dict[str, dict[str, Any]] = {}
        self.size = 0  # total size of the lines in bytes
        self._lines: dict[Key, bytes] = {}
        self._added: list[bytes] = []  # lines to append, unless the file must be rewritten
        # _is_stored: true if lines can be appended to the file
        self._is_rewritten, self._is_stored = False, bool(data)
        if is_plain and data.startswith(BOM_UTF8):
            data, self._is_stored = data.removeprefix(BOM_UTF8), False
        *lines, rest = data.split(b"\n")
        if rest:
            if not is_plain:
                raise Damaged
            lines.append(rest)
            self._is_stored = False
        for line in lines:
            try:
                table, row = read_line(line)
            except Damaged:
                if not is_plain:
                    raise
                self._is_stored = False
                if not line.strip():
                    continue
                table, row = _read_edited(line)
                line = line_of(table, row)
            self._put(table, str(table.key(row)), row, line)

    @property
    def is_changed(self) -> bool:
        return self._is_rewritten or bool(self._added)

    def put(self, table: Table[Any], key: str, row: object, line: bytes) -> None:
        if (table.name, key) in self._lines:
            self._is_rewritten = True
        self._put(table, key, row, line)
        self._added.append(line)

    def delete(self, table: Table[Any], key: str) -> None:
        if line := self._lines.pop((table.name, key), None):
            del self.rows[table.name][key]
            self.size -= len(line) + 1
            self._is_rewritten = True

    def rewrite(self) -> None:
        """Make the next change replace the whole file."""
        self._is_rewritten = True

    def take_change(self) -> Change:
        """Return the change that brings the file up to date, and mark this document as unchanged."""
        is_whole = self._is_rewritten or not self._is_stored
        lines = self._lines.values() if is_whole else self._added
        change = Change(b"".join(line + b"\n" for line in lines), is_whole)
        self._added, self._is_rewritten, self._is_stored = [], False, bool(self._lines)
        return change

    def _put(self, table: Table[Any], key: str, row: object, line: bytes) -> None:
        before = self._lines.get((table.name, key))
        self.size += len(line) - len(before) if before else len(line) + 1
        self._lines[table.name, key] = line
        self.rows.setdefault(table.name, {})[key] = row
