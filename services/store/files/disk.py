"""Durable file operations in the folder of a store: once a method has returned, its writes survive a power cut.

File names are relative to the open folder, and stay valid if the folder is moved. The last methods of `Disk` are single
file-system operations: the power may fail between any two of them, and tests record them to simulate that.
"""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.store.folders import sync_descriptor

# suffixes of temporary file names: DRAFT for a new file before its rename, _GONE for a file that is being destroyed
DRAFT, _GONE = "~draft", "~gone"
_CHUNK = 1 << 20  # maximum bytes that one write overwrites


class SyncFailed(OSError):
    """Raised if a sync to the disk failed: data written earlier may be lost."""


class Disk:
    """The files in the folder at *path*. Each method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path, self._has_failed = path, False
        self._lasting = {"."}  # folders whose names in their parent folders have been synced
        # folder and open descriptor of each replaced file whose bytes have yet to be overwritten
        self._replaced = list[tuple[str, int]]()
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        for _, descriptor in self._replaced:
            os.close(descriptor)
        os.close(self._root)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file; None if there is no such file."""
        try:
            with os.fdopen(self.open(name, os.O_RDONLY), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def names(self, folder: str = ".") -> list[str]:
        """Return the sorted names in a folder; [] if there is no such folder."""
        try:
            with self._opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                return sorted(os.listdir(descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def replace(self, name: str, data: bytes) -> None:
        """Replace a file atomically; then overwrite with zeros the old file and any old files that earlier errors left."""
        self.make_folders(_folder_of(name))
        with self._opened(name + DRAFT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            self.write(descriptor, data, 0)
            self.sync(descriptor)
        old = None
        with suppress(FileNotFoundError):
            old = self.open(name, os.O_WRONLY)
        try:
            self.rename(name + DRAFT, name)
        except OSError:
            if old is not None:
                os.close(old)
            raise
        if old is not None:
            self._replaced.append((_folder_of(name), old))
        self.sync_name(_folder_of(name))
        while self._replaced:
            folder, old = self._replaced[-1]
            if folder != _folder_of(name):
                self.sync_name(folder)
            self._overwrite(old)
            os.close(self._replaced.pop()[1])

    def append(self, name: str, data: bytes) -> None:
        """Append *data* to a file. An error or a power cut may leave only a part of *data*, or zeros, at the file's end."""
        with self._opened(name, os.O_WRONLY) as descriptor:
            self.write(descriptor, data, os.fstat(descriptor).st_size)
            self.sync(descriptor)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return os.stat(name, dir_fd=self._root).st_size

    def cut(self, name: str, size: int) -> None:
        """Truncate a file to *size* bytes if it is longer."""
        with suppress(FileNotFoundError):
            if self.size(name) > size:
                with self._opened(name, os.O_WRONLY) as descriptor:
                    self.truncate(descriptor, size)
                    self.sync(descriptor)

    def destroy(self, name: str) -> None:
        """Overwrite a file with zeros and remove it, and then its folders if they are empty; do nothing if there is no file.

        The file is renamed first, so that after an error `tidy` or another call can finish its destruction.
        """
        with suppress(FileNotFoundError):  # an earlier call that failed may have renamed the file
            self.rename(name, name + _GONE)
        with suppress(FileNotFoundError):
            self.size(name + _GONE)  # raises if there is nothing to destroy
            self.sync_name(_folder_of(name))
            self._finish(name + _GONE)

    def make_folders(self, name: str) -> None:
        """Make a folder and its parents.

        Sync existing folders, too: the process that made them may have been killed before it synced them.
        """
        if name in self._lasting:
            return
        self.make_folders(_folder_of(name))
        with suppress(FileExistsError):
            self.make_folder(name)
        self.sync_name(_folder_of(name))
        self._lasting.add(name)

    def tidy(self) -> None:
        """Destroy the drafts and the partly destroyed files that an earlier process left."""
        for path, _, names in os.walk(self.path):
            folder = os.path.relpath(path, self.path)
            if unfinished := [name for name in names if name.endswith((DRAFT, _GONE))]:
                self.sync_name(folder)
                for name in unfinished:
                    self._finish(os.path.normpath(f"{folder}/{name}"))

    def _finish(self, name: str) -> None:
        with self._opened(name, os.O_WRONLY) as descriptor:
            self._overwrite(descriptor)
        self.unlink(name)
        folder = _folder_of(name)
        with suppress(OSError):  # a folder that is not empty stays
            while folder != ".":
                self._lasting.discard(folder)
                self.remove_folder(folder)
                folder = _folder_of(folder)

    def _overwrite(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        for start in range(0, size, _CHUNK):
            self.write(descriptor, bytes(min(_CHUNK, size - start)), start)
        self.sync(descriptor)

    @contextmanager
    def _opened(self, name: str, flags: int) -> Generator[int]:
        descriptor = self.open(name, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # --- single operations: the power may fail between any two of them

    def open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._root)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Sync a file to the disk.

        Raise SyncFailed if this or an earlier sync failed: the system reports lost data only once.
        """
        try:
            if self._has_failed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync_descriptor(descriptor)
        except OSError as error:
            self._has_failed = True
            raise SyncFailed(error.errno, error.strerror) from None

    def sync_name(self, name: str) -> None:
        with self._opened(name, os.O_RDONLY) as descriptor:
            self.sync(descriptor)

    def rename(self, name: str, new: str) -> None:
        os.rename(name, new, src_dir_fd=self._root, dst_dir_fd=self._root)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._root)

    def make_folder(self, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=self._root)

    def remove_folder(self, name: str) -> None:
        os.rmdir(name, dir_fd=self._root)


class AppendedFile:
    """A new file to which data are appended."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.name, self.size, self.synced_size = name, 0, 0  # sizes in bytes
        # the number of bytes that must be synced before the result of a block may be returned
        self.lasting_size = 0
        # _is_whole: false if a failed write may have left bytes after `size`
        self._disk, self._is_whole = disk, True
        self._is_destroyed = False
        # an empty file may exist already: an earlier attempt may have failed after creating it
        self._descriptor = disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._identity = _identity(os.fstat(self._descriptor))
            disk.sync_name(_folder_of(name))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)

    def append(self, data: bytes) -> None:
        """Append *data*; first remove the bytes that an earlier, failed append left at the end of the file."""
        self.mend()
        self._is_whole = False
        self._disk.write(self._descriptor, data, self.size)
        self._is_whole, self.size = True, self.size + len(data)

    def mend(self) -> None:
        """Truncate the file if a failed append left bytes at its end."""
        if not self._is_whole:
            self._disk.truncate(self._descriptor, self.size)
            self._disk.sync(self._descriptor)
            self._is_whole = True

    def sync(self) -> None:
        size = self.size
        self._disk.sync(self._descriptor)
        self.synced_size = size

    def is_in_place(self) -> bool:
        """Return True if this file is still at its path, or if `destroy` has removed it."""
        try:
            is_found = _identity(os.stat(self._disk.path / self.name)) == self._identity
        except OSError:
            is_found = False
        return is_found or self._is_destroyed

    def destroy(self) -> None:
        self._is_destroyed = True
        self._disk.destroy(self.name)
        self.close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _folder_of(name: str) -> str:
    return os.path.dirname(name) or "."
