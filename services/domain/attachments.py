"""Attachments: files that belong to a message, stored separately from it, in pieces."""

from dataclasses import dataclass, field
from typing import NewType
from uuid import UUID

AttachmentId = NewType("AttachmentId", UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that belongs to a message. The file's name stays out of reprs, and so out of tracebacks."""

    id: AttachmentId
    name: str = field(repr=False)
    type: str = field(repr=False)  # the media type, such as image/png
    size: int  # bytes
    macs: tuple[str, ...] = field(repr=False)  # the MACs of the file's pieces, in order
