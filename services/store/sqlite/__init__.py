"""A store over tables in one SQLite file."""

from services.store.sqlite.place import SqlitePlace as SqlitePlace
