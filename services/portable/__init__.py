"""Exports as files: values in, text out."""

from services.portable.archive import Archive
from services.portable.export import (
    ConversationExport,
    documents_to_json,
    to_json,
    to_markdown,
)
from services.portable.file_names import file_name
from services.portable.tables import pages_to_csv, values_to_csv

__all__ = [
    "Archive",
    "ConversationExport",
    "documents_to_json",
    "file_name",
    "pages_to_csv",
    "to_json",
    "to_markdown",
    "values_to_csv",
]
