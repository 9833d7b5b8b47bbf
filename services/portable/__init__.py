"""The texts of export files, made from values in memory. No code here reads or writes files on disk."""

from services.portable.archive import Archive
from services.portable.export import ConversationExport, documents_to_json, to_json, to_markdown
from services.portable.file_names import LARGEST_FOLDER, FreeNames, file_name
from services.portable.index import IndexEntry, index_page, readme
from services.portable.tables import pages_to_csv, values_to_csv

__all__ = [
    "LARGEST_FOLDER",
    "Archive",
    "ConversationExport",
    "FreeNames",
    "IndexEntry",
    "documents_to_json",
    "file_name",
    "index_page",
    "pages_to_csv",
    "readme",
    "to_json",
    "to_markdown",
    "values_to_csv",
]
