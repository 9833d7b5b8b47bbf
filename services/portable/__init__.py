"""Exports of conversations as files: values in, text out."""

from services.portable.export import to_json, to_markdown
from services.portable.file_names import file_name

__all__ = ["file_name", "to_json", "to_markdown"]
