"""Folders of stores on this machine."""

import os
import stat
from pathlib import Path


def lasting_folder(path: Path) -> Path:
    """Return the nearest folder above *path* whose name is on the disk.

    One for its owner alone may be of a process that was killed before its name was there.
    """
    above = next(one for one in path.parents if one.exists())
    while stat.S_IMODE(above.stat().st_mode) == 0o700 and above != above.parent:
        if not os.access(above.parent, os.R_OK | os.W_OK):
            break
        above = above.parent
    return above
