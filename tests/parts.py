"""The parts of the tests that are packages of Debian: Git, Chromium, Postgres, a library of the local model, and other browsers.

`python -m tests.parts` prints the packages that this machine lacks for the run, with DAYBOOK_TESTS=all for the long run.
"""

import ctypes
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.runs import IS_WHOLE

_SERVERS = Path("/usr/lib/postgresql")
# versions that Debian has and that the app works with, beside those of the wheel
_VERSIONS = (17, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A program or library that tests need, and where it was *found*; None if the machine lacks it."""

    name: str
    package: str
    found: str | int | None

    @property
    def lack(self):
        return f"{self.name} is missing (Debian: {self.package})"

    def required(self):
        """Return where the part was found. If the machine lacks it, skip the test; in CI, fail."""
        if self.found is None:
            no = pytest.fail if "CI" in os.environ else pytest.skip
            no(self.lack)
        return self.found


def postgres_folder(version, servers=_SERVERS):
    """Return the folder of the programs of Debian's Postgres *version*."""
    return servers / str(version) / "bin"


def newest_postgres(servers=_SERVERS):
    """Return the newest installed version of Debian's Postgres that the app works with, or None."""
    installed = (
        version
        for version in _VERSIONS
        if (postgres_folder(version, servers) / "postgres").exists()
    )
    return next(installed, None)


def library(name):
    """Return *name* if Linux finds that shared library, or None. Other systems need no library of this kind."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(name)
        except OSError:
            return None
    return name


GIT = Part(name="Git", package="git", found=shutil.which("git"))
CHROMIUM = Part(
    name="Chromium",
    package="chromium-headless-shell",
    # without a window's frame, Chromium takes a quarter less of a journey's CPU time
    found=shutil.which("chromium-headless-shell") or shutil.which("chromium"),
)
POSTGRES = Part(name="Debian's Postgres", package="postgresql", found=newest_postgres())
# llama.cpp is built with it; Debian with nothing but Python has none
OPENMP = Part(name="OpenMP's library", package="libgomp1", found=library("libgomp.so.1"))
FIREFOX = Part(name="Firefox", package="firefox-esr", found=shutil.which("firefox-esr"))
WEBKIT = Part(name="WebKitGTK", package="webkit2gtk-driver", found=shutil.which("WebKitWebDriver"))
XVFB = Part(name="Xvfb", package="xvfb", found=shutil.which("Xvfb"))
PDFTOTEXT = Part(name="pdftotext", package="poppler-utils", found=shutil.which("pdftotext"))
_LONG_RUN = (FIREFOX, WEBKIT, XVFB, PDFTOTEXT)
PARTS = (GIT, CHROMIUM, POSTGRES, OPENMP, *(_LONG_RUN if IS_WHOLE else ()))


if __name__ == "__main__":
    for part in PARTS:
        if part.found is None:
            print(part.package)  # noqa: T201
