"""Checks of the paths of local stores, and the creation of files and folders that survive a power cut."""

import errno
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from shlex import quote

from services.errors import Misconfigured


def check_new(path: Path) -> None:
    """Raise Misconfigured if no file or folder can be created at *path*. Its parent is not made: the path may have a typing error."""
    # not Path.exists, which raises an error for a path in a folder that this user cannot enter
    folder = next(one for one in path.parents if os.path.exists(one))
    if folder.is_dir() and _is_missing(path.parent):
        command = f"mkdir -p {quote(str(path.parent))}"
        raise Misconfigured(
            f"{path} cannot be made, because its folder is missing: run `{command}`."
        )
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise Misconfigured(f"{path} cannot be made: {folder} is not writable.")


def _is_missing(folder: Path) -> bool:
    try:
        folder.stat()
    except FileNotFoundError:
        return True
    except OSError:  # such as a name that is too long, which the one who uses the folder reports
        pass
    return False


def lasting_folder(path: Path) -> Path:
    """Return the nearest parent folder of *path* whose directory entry is certainly on the disk.

    A folder with mode 0700 may come from a process that was killed before the folder's directory entry was synced.
    """
    above = next(one for one in path.parents if os.path.exists(one))
    while stat.S_IMODE(above.stat().st_mode) == 0o700 and above != above.parent:
        if not os.access(above.parent, os.R_OK | os.W_OK):
            break
        above = above.parent
    return above


def make_folder(folder: Path) -> None:
    """Create *folder* and its parents, accessible to this user only; sync them to disk, to survive a power cut."""
    above = lasting_folder(folder)
    for name in folder.relative_to(above).parts:
        above = above / name
        above.mkdir(mode=0o700, exist_ok=True)
        # Daybook may lack the permission to read the parent of a folder that an admin has created for it
        with suppress(PermissionError):
            sync(above.parent)


def name_new(draft: Path, path: Path) -> None:
    """Give the file *draft* the name *path*, and sync the folder to disk; the old name may remain.

    Raise FileExistsError if *path* exists: an existing file is never replaced.
    """
    try:
        os.link(draft, path)  # unlike renaming, this never replaces a file
    except OSError:  # exFAT, for example, has no hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        draft.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """Sync an open file or folder to the disk; on macOS, also flush the disk's own cache, which fsync does not do there."""
    if sys.platform == "darwin":
        import fcntl  # imported here, because Windows lacks it

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:  # a network volume, for example, may know only fsync
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(descriptor)
