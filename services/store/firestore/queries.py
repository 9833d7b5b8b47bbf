"""The conversion of selections to Firestore queries, and of rows to Firestore documents and back."""

from functools import cache
from typing import Any, get_args, get_type_hints

from google.cloud.firestore_v1.types import Document, StructuredQuery, Value

from services.store.tables.protocol import MOST_ROW_BYTES, Row, Selection, Table
from services.store.tables.row_texts import read_row, row_text, value_of

ROW = "row"  # the field of a document that holds the row as JSON; it is not indexed
_Direction = StructuredQuery.Direction
_Compare = StructuredQuery.FieldFilter.Operator


def document_of(table: Table[Row], name: str, row: Row) -> Document:
    """Return *row* as a document. Raise RuntimeError if it is too large, because Firestore takes documents of at most 1 MiB."""
    text = row_text(table, row)
    if len(text) > MOST_ROW_BYTES:
        raise RuntimeError(f"a row of {table.name} has {len(text)} bytes")
    fields = {each: _encoded(getattr(row, each)) for each in table.fields}
    return Document(name=name, fields=fields | {ROW: Value(string_value=text.decode())})


def row_of(table: Table[Row], document: Document) -> Row:
    return read_row(table, document.fields[ROW].string_value)


def query_of(selection: Selection[Any], *, is_of_all: bool = False) -> StructuredQuery:
    """Return the query for a selection; *is_of_all*: select from all users' rows."""
    table, within, order = selection.table, selection.within, selection.order
    tests = [_test(name, _Compare.EQUAL, value) for name, value in selection.where.items()]
    if within:
        if within.above is not None:
            tests.append(_test(within.field, _Compare.GREATER_THAN, within.above))
        if within.up_to is not None:
            tests.append(_test(within.field, _Compare.LESS_THAN_OR_EQUAL, within.up_to))
        if within.above is None and within.up_to is None:
            tests.append(_not_none(within.field))
    every = StructuredQuery.CompositeFilter(
        op=StructuredQuery.CompositeFilter.Operator.AND, filters=tests
    )
    selector = StructuredQuery.CollectionSelector(
        collection_id=table.name, all_descendants=is_of_all
    )
    return StructuredQuery(
        from_=[selector],
        where=StructuredQuery.Filter(composite_filter=every) if tests else None,
        order_by=[_order(name) for name in order],
        limit=None if sorts_here(table, order) else selection.limit,
    )


@cache
def sorts_here(table: Table[Any], order: tuple[str, ...]) -> bool:
    """Return True if Daybook must sort the rows itself, because Firestore would put None first, not last."""
    hints = get_type_hints(table.kind)
    return any(type(None) in get_args(hints[name]) for name in order if name[0] != "-")


def _encoded(value: object) -> Value:
    match value_of(value):
        case None:
            return Value(null_value=0)
        case bool() as flag:
            return Value(boolean_value=flag)
        case int() as number:
            return Value(integer_value=number)
        case str() as text:
            return Value(string_value=text)


def _field(name: str) -> StructuredQuery.FieldReference:
    return StructuredQuery.FieldReference(field_path=name)


def _test(name: str, compare: _Compare, value: object) -> StructuredQuery.Filter:
    if value is None:
        unary = StructuredQuery.UnaryFilter(
            op=StructuredQuery.UnaryFilter.Operator.IS_NULL, field=_field(name)
        )
        return StructuredQuery.Filter(unary_filter=unary)
    test = StructuredQuery.FieldFilter(field=_field(name), op=compare, value=_encoded(value))
    return StructuredQuery.Filter(field_filter=test)


def _not_none(name: str) -> StructuredQuery.Filter:
    unary = StructuredQuery.UnaryFilter(
        op=StructuredQuery.UnaryFilter.Operator.IS_NOT_NULL, field=_field(name)
    )
    return StructuredQuery.Filter(unary_filter=unary)


def _order(name: str) -> StructuredQuery.Order:
    direction = _Direction.DESCENDING if name[0] == "-" else _Direction.ASCENDING
    return StructuredQuery.Order(field=_field(name.lstrip("-")), direction=direction)
