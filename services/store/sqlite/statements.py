"""SQL statements for the tables of a store in SQLite, and the values of their columns."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from services.store.tables.protocol import Row, Selection, Table
from services.store.tables.row_texts import Value, row_text, value_of

OWNER = "user_id"  # the column that holds the user's id in tables of user data


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement with the values of its parameters."""

    sql: str
    values: tuple[Value, ...] = field(repr=False)


def select(selection: Selection[Any], owner: str | None, columns: str = "row") -> Statement:
    """Return a SELECT of the selected rows of *owner* (None: of a shared table, or of all users)."""
    within = selection.within
    tests, values = list[str](), list[Value]()
    if owner is not None:
        tests.append(f"{OWNER} = ?")
        values.append(owner)
    for name, value in selection.where.items():
        if value is None:  # `is null` without a parameter, so that SQLite can use partial indexes
            tests.append(f"{name} is null")
        else:
            tests.append(f"{name} = ?")
            values.append(value_of(value))
    if within:
        tests.append(f"{within.field} is not null")
        for comparison, bound in ((">", within.above), ("<=", within.up_to)):
            if bound is not None:
                tests.append(f"{within.field} {comparison} ?")
                values.append(value_of(bound))
    sql = f"select {columns} from {selection.table.name}"  # noqa: S608 (names of the schema)
    if tests:
        sql += f" where {' and '.join(tests)}"
    if columns == "row":
        sql += f" order by {', '.join(_order(selection.order))}"
    if selection.limit is not None:
        sql += " limit ?"
        values.append(selection.limit)
    return Statement(sql, tuple(values))


def _order(order: tuple[str, ...]) -> list[str]:
    """Return the terms of ORDER BY: None sorts last; equal rows sort by age, the newest first if the first term is descending."""
    terms = [f"{name[1:]} desc" if name[0] == "-" else f"{name} nulls last" for name in order]
    return [*terms, "rowid desc" if order and order[0][0] == "-" else "rowid"]


def get(table: Table[Any], owner: str | None, key: str) -> Statement:
    if owner is None:
        return Statement(f"select row from {table.name} where key = ?", (key,))  # noqa: S608
    return Statement(f"select row from {table.name} where {OWNER} = ? and key = ?", (owner, key))  # noqa: S608


def delete(table: Table[Any], owner: str | None, key: str) -> Statement:
    if owner is None:
        return Statement(f"delete from {table.name} where key = ?", (key,))  # noqa: S608
    return Statement(f"delete from {table.name} where {OWNER} = ? and key = ?", (owner, key))  # noqa: S608


def put(table: Table[Row], owner: str | None, key: str, row: Row) -> Statement:
    """Return an upsert of *row*. A replaced row keeps its rowid, that is, its age by which `select` orders equal rows."""
    text = row_text(table, row).decode()
    names, sql = _upsert(table.name, table.fields, owner is not None)
    own = () if owner is None else (owner,)
    fields = [value_of(getattr(row, name)) for name in names]
    return Statement(sql, (*own, key, *fields, text))


@cache
def _upsert(table: str, fields: frozenset[str], is_owned: bool) -> tuple[list[str], str]:
    """Return the fields' names in the order of the statement's values, and the SQL that inserts or replaces a row."""
    names, keys = sorted(fields), [OWNER, "key"] if is_owned else ["key"]
    columns = [*keys, *names, "row"]
    changes = ", ".join(f"{name} = excluded.{name}" for name in (*names, "row"))
    return names, (
        f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))}) "  # noqa: S608
        f"on conflict ({', '.join(keys)}) do update set {changes}"
    )


def text_of(row: tuple[object, ...]) -> str:
    return cast(str, row[0])
