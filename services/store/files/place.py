"""The folder of a store over JSON files: its checks before the app starts, its creation and its opening."""

import json
import os
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from services.domain.policies import MemoryPolicy, Summary
from services.errors import BadInput, Misconfigured, StoreUnavailable
from services.store.file_lock import FileLock
from services.store.files.disk import DRAFT, Disk
from services.store.files.documents import Damaged, Document
from services.store.files.incoming import take_up
from services.store.files.store import FilesStore
from services.store.folders import check_new, lasting_folder
from services.store.operator import Finding, Mark
from services.store.tables.protocol import StoreCheck

# Increase this number, and migrate older folders, with each change that a released version would misread or report as
# damage, such as a new table. No version is released yet.
_FORMAT = 1
_MARK = "daybook.json"  # this file is created last: a folder without it is not a store yet
# the files that may exist if the creation of a store was interrupted
_EMPTY = {".gitignore", "lock", f".gitignore{DRAFT}", f"{_MARK}{DRAFT}"}


@dataclass(frozen=True, slots=True)
class FilesPlace:
    """Implements `StorePlace` for a folder of JSON files."""

    path: Path
    is_plain: bool = False  # true: the store's texts are not sealed
    policy: MemoryPolicy = field(default=Summary())  # the memory policy of imported chats

    @property
    def kind(self) -> str:
        return "JSON files"

    def exists(self, *, may_be_made: bool = True) -> bool:
        # os.path, because Path.is_dir raises an error in a folder that this user cannot enter
        if os.path.isdir(self.path):
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise Misconfigured(f"{self.path} cannot be written: make it writable.")
            names = set(os.listdir(self.path))
            if _MARK in names:
                self._check_mark()
                return True
            if names <= _EMPTY:
                return False
        if os.path.lexists(self.path):
            raise Misconfigured(f"{self.path} is no Daybook store: name an empty or a new folder.")
        if may_be_made:
            check_new(self.path)
        return False

    def open(self, *, is_app: bool = True, check: StoreCheck | None = None) -> FilesStore:
        try:
            if not self.exists():
                _make_folder(self.path)
            lock = FileLock(self.path / "lock")
            try:
                store = self._opened(lock, check, is_app=is_app)
            except BaseException:
                lock.close()
                raise
            try:
                if self.is_plain and is_app:
                    take_up(store, self.path, self.policy)
            except BaseException:
                store.close()
                raise
            return store
        except Damaged as error:
            files = ", ".join(error.args) or "the whole folder, because its journal is damaged"
            raise Misconfigured(f"{self.path} is damaged: put a backup back of {files}.") from None
        except StoreUnavailable as error:
            raise Misconfigured(error.public) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            is_made = os.path.isdir(self.path)
            path = self.path / f"{error.filename or ''}" if is_made else self.path
            raise Misconfigured(f"{path} cannot be used: {reason}.") from None

    def check(self) -> dict[str, Finding]:
        damaged, unread, paths = list[str](), list[str](), list[str]()
        # a folder that cannot be listed is added as a path, which cannot be read below
        for folder, _, names in os.walk(self.path, onerror=lambda one: paths.append(one.filename)):
            paths.extend(os.path.join(folder, one) for one in names if one.endswith(".jsonl"))
        for path in map(Path, sorted(paths)):
            name = path.relative_to(self.path)
            if name.parts[1:2] == ("in",):  # the user's own files
                continue
            try:
                Document(path.read_bytes(), is_plain=self.is_plain)
            except Damaged:
                damaged.append(str(name))
            except OSError:
                unread.append(str(name))
        findings = dict[str, Finding]()
        if damaged:
            text = f"damaged: {', '.join(damaged)}; put a backup back"
            findings["files"] = Mark.FAIL, text
        if unread:
            text = f"cannot be read: {', '.join(unread)}; make them readable"
            findings["file access"] = Mark.FAIL, text
        return findings or {"files": (Mark.OK, f"all files in {self.path} are whole")}

    def backup(self, target: Path) -> None:
        raise BadInput(f"Stop Daybook, and copy the folder {self.path}: that is a backup.")

    def _opened(self, lock: FileLock, check: StoreCheck | None, *, is_app: bool) -> FilesStore:
        if not lock.try_lock():
            what = "Another Daybook" if is_app else "Daybook"
            raise Misconfigured(f"{what} is using {self.path}: stop it first.")
        disk = Disk(self.path)
        try:
            if not self.exists():
                disk.replace(".gitignore", b"*\n")
                disk.replace(_MARK, json.dumps(self._mark).encode())
            disk.sync_name(".")  # a process may have been killed before it synced the folder
            return FilesStore(disk, lock, check, is_plain=self.is_plain)
        except BaseException:
            disk.close()
            raise

    @property
    def _mark(self) -> dict[str, object]:
        return {"application": "daybook", "format": _FORMAT, "is_plain": self.is_plain}

    def _check_mark(self) -> None:
        """Raise Misconfigured if the file `_MARK` is damaged, names a later version, or contradicts `is_plain`."""
        try:
            mark = json.loads((self.path / _MARK).read_bytes())
            is_own, version = mark["application"] == "daybook", int(mark["format"])
            is_plain = bool(mark["is_plain"])
        except (OSError, ValueError, TypeError, KeyError):
            is_own, version, is_plain = False, 0, False
        if not is_own:
            raise Misconfigured(f"{self.path} is damaged, or no Daybook store: put a backup back.")
        if version > _FORMAT:
            raise Misconfigured(
                f"{self.path} was written by a later version of Daybook: start that version."
            )
        if is_plain is not self.is_plain:
            kind = "json-plain" if is_plain else "json"
            raise Misconfigured(f"{self.path} was made otherwise: name it as {kind}:{self.path}.")


def _make_folder(path: Path) -> None:
    """Make a folder and its parents, and sync them, so that they survive a power cut."""
    above = lasting_folder(path)
    try:
        with closing(Disk(above)) as disk:
            disk.make_folders(str(path.relative_to(above)))
    except PermissionError:
        # no error if the folder exists: an admin may have made it inside a folder that Daybook cannot list
        if not path.is_dir():
            raise
