"""Enums whose values are stored, and to which newer versions of the app may add members."""

import re
from enum import StrEnum
from typing import Self

_FORM = re.compile(r"[a-z_]{1,30}")  # the database checks names against this pattern, too


class StoredName(StrEnum):
    """An enum of stored names.

    A stored name that this version of the app does not know raises no error, but becomes a member that iteration omits.
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
        """True if this version of the app declares the name; false if a newer version stored it."""
        return self._name_ in type(self).__members__
