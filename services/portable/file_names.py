"""File names of downloads, valid on every file system."""

import re
import unicodedata

from services.domain import safe_text

# maximum bytes of a name with its suffix; with its folders, the path is shorter than Windows' limit of 260
LARGEST_NAME = 120
LARGEST_FOLDER = 60  # maximum bytes of a folder name

_FALLBACK = "conversation"
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
# characters that, at the start or end of a name, hide the file, make it look like an option or a backup, or are cut
# off by Windows
_STRIPPED = " .-~" + safe_text.JOINERS
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    port + number for port in ("COM", "LPT") for number in "0123456789¹²³"
}


def file_name(title: str, suffix: str, largest: int = LARGEST_NAME) -> str:
    """Return a file name of at most *largest* bytes made from *title*, with a *suffix* like ".md"."""
    visible = "".join(
        char if _is_visible(char) else " "
        for char in _FORBIDDEN.sub(" ", safe_text.normalize("NFC", title))
    )
    stem = _shortened(" ".join(visible.split()), largest - len(suffix.encode()) - 1)
    if stem.partition(".")[0].rstrip().upper() in _DEVICES:
        stem = f"_{stem}"  # CON.md would be the console on Windows
    return (stem or _FALLBACK) + suffix


class FreeNames:
    """Gives each file and folder of an archive a unique name, even on systems that ignore case."""

    def __init__(self) -> None:
        # maps each path, in lower case, to the last number that was appended to it to make another unique path
        self._numbers: dict[str, int] = {}

    def take(self, folder: str, title: str, suffix: str = "", largest: int = LARGEST_NAME) -> str:
        """Return a unique path in *folder* for *title*, without *suffix*; a number is appended if the path is in use."""
        path = folder + file_name(title, suffix, largest).removesuffix(suffix)
        first = path.casefold()
        number = self._numbers.get(first, 1)
        while path.casefold() in self._numbers:
            number += 1
            end = f" ({number}){suffix}"
            path = folder + file_name(title, end, largest).removesuffix(suffix)
        self._numbers[first] = number
        self._numbers.setdefault(path.casefold(), 1)
        return path


def _is_visible(char: str) -> bool:
    # control characters are removed: a direction mark, for example, could make cod.exe appear as exe.doc
    return char in safe_text.JOINERS or unicodedata.category(char)[0] != "C"


def _shortened(name: str, size: int) -> str:
    name = name.strip(_STRIPPED)
    return name.encode()[:size].decode(errors="ignore").strip(_STRIPPED)
