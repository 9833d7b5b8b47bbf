"""Names for downloads that every file system takes and that say what is inside."""

import re
import unicodedata

LARGEST_NAME = 120  # bytes with the suffix: with a folder before it, still short for Windows' 260

_FALLBACK = "conversation"
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_JOINERS = "\u200c\u200d"  # spell words in Persian and emoji, and do nothing else
_AT_THE_ENDS = " .-~" + _JOINERS  # hidden, an option of a command, a backup, or cut off by Windows
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    port + number for port in ("COM", "LPT") for number in "0123456789¹²³"
}


def file_name(title: str, suffix: str) -> str:
    """A file's name made from *title*, with a *suffix* like ".md"."""
    seen = "".join(
        char if _is_seen(char) else " "
        for char in _FORBIDDEN.sub(" ", unicodedata.normalize("NFC", title))
    )
    stem = _shortened(" ".join(seen.split()), LARGEST_NAME - len(suffix.encode()) - 1)
    if stem.partition(".")[0].rstrip().upper() in _DEVICES:
        stem = f"_{stem}"  # on Windows CON.md is the console
    return (stem or _FALLBACK) + suffix


def _is_seen(char: str) -> bool:
    # no control characters, nor marks of direction, which can make cod.exe of exe.doc
    return char in _JOINERS or unicodedata.category(char)[0] != "C"


def _shortened(name: str, size: int) -> str:
    name = name.strip(_AT_THE_ENDS)
    return name.encode()[:size].decode(errors="ignore").strip(_AT_THE_ENDS)
