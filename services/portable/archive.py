"""The zip file of a full export, which is sent to the browser while it is written (docs/format.md)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import IO, cast
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from services.portable.export import FORMAT


class Archive:
    """A zip file that yields its bytes as it is written; only the names and hashes of its files stay in memory.

    An incomplete archive cannot be opened, because a zip file ends with its list of files. The manifest is the last file,
    because it lists the size and hash of every other file.
    """

    def __init__(self) -> None:
        self._buffer = _Buffer()
        # the buffer has no `seek`, so ZipFile writes the sizes and checksums after each file
        self._zip = ZipFile(cast(IO[bytes], self._buffer), "w", ZIP_DEFLATED)
        self._files: dict[str, dict[str, int | str]] = {}

    def add(self, name: str, parts: Iterable[str], changed_at: datetime) -> Iterator[bytes]:
        """Add the file *name*, made of *parts* in UTF-8. Yield the bytes of the archive as they are written."""
        # zip files cannot store dates before 1980
        changed = max(changed_at.astimezone(UTC), datetime(1980, 1, 1, tzinfo=UTC))
        info = ZipInfo(name, changed.timetuple()[:6])
        info.compress_type = ZIP_DEFLATED
        digest, size = sha256(), 0
        with self._zip.open(info, "w") as file:
            for part in parts:
                data = part.encode()
                digest.update(data)
                size += len(data)
                file.write(data)
                yield from self._buffer.take()
        self._files[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def end(
        self, counts: Mapping[str, int], unreadable: Sequence[str], at: datetime
    ) -> Iterator[bytes]:
        """Add the manifest, then the zip file's closing list of files. Yield the last bytes of the archive."""
        manifest = {
            "format": FORMAT,
            "exported_at": at.astimezone(UTC).isoformat(timespec="seconds"),
            "counts": counts,
            "unreadable": unreadable,
            "files": self._files,
        }
        yield from self.add("manifest.json", [json.dumps(manifest, indent=2) + "\n"], at)
        self._zip.close()
        yield from self._buffer.take()


class _Buffer:
    """A writable file in memory without `seek`; `take` returns the bytes written since its last call."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def take(self) -> Iterator[bytes]:
        if self._parts:
            written, self._parts = b"".join(self._parts), []
            yield written
