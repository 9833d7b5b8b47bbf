"""Enums whose names are stored, and to which a newer version of the app may add names."""

import re
from enum import StrEnum
from typing import Self

_FORM = re.compile(r"[a-z_]{1,30}")  # the database checks names against this pattern, too


class StoredName(StrEnum):
    """An enum of stored names.

    A name that this version of the app does not know is accepted: it becomes a member that iteration does not yield.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not _FORM.fullmatch(value):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown

    @property
    def is_known(self) -> bool:
        """False if only a newer version of the app knows the name."""
        return self._name_ in type(self).__members__
