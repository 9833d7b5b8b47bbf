"""Exports as files: values in, text out."""

from services.portable.export import to_json, to_markdown
from services.portable.file_names import file_name
from services.portable.tables import ledger_to_csv

__all__ = ["file_name", "ledger_to_csv", "to_json", "to_markdown"]
