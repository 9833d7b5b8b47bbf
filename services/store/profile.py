"""A person's preferences: one sealed text in their profile."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from services.crypto import Place
from services.domain import Preferences
from services.errors import BadInput, StoreUnavailable, Tampered
from services.store.cached_read import CachedRead
from services.store.documents import ChangedElsewhere, Format
from services.store.supabase.api import Hidden, Table, refusal
from services.store.supabase.sessions import AppSession
from services.store.texts import storable

LONGEST_INSTRUCTIONS = 8_000  # characters
_TRIES = 5  # while other tabs change them too


class _Row(BaseModel):
    preferences: str | None


_TABLE = Table("profiles", _Row)
_FORMAT = Format(Preferences, in_clear=("is_verified",))


@dataclass(frozen=True, slots=True)
class _Stored:
    preferences: Preferences
    sealed: str | None = None  # which whoever replaces it has to name
    text: str = field(default="{}", repr=False)


class Profile:
    """One person's own choices."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._known = CachedRead(self._read)

    def preferences(self) -> Preferences:
        """At most a minute old, or older while the database is away. Raise StoreUnavailable."""
        return self._known.get().preferences

    def change(
        self, change: Callable[[Preferences], Preferences], *, seen: str | None = None
    ) -> None:
        """Store what *change* makes of the preferences as they are now.

        Where *seen* is given, instructions are replaced only if they are those. Raise BadInput, ChangedElsewhere,
        StoreUnavailable.
        """
        for _ in range(_TRIES):
            now = self._known.read()
            chosen = change(now.preferences)
            instructions = checked_instructions(chosen.instructions or "")
            check_seen(seen, now.preferences.instructions, instructions)
            chosen = replace(chosen, instructions=instructions, is_verified=True)
            text = _FORMAT.write(chosen, now.text)
            sealed = self._session.newest_key.vault("profile").seal(text, self._place())
            try:
                answer = self._session.calls.call(
                    "change_preferences",
                    new_preferences=Hidden(sealed),
                    replaces=Hidden(now.sealed),
                )
                if answer.ok:
                    self._known.put(_Stored(chosen, sealed, text))  # while the database is away
                    return
            finally:  # another tab may have changed it since, or the answer was lost
                self._known.outdate()
            if answer.reason != "stale":
                raise refusal("change_preferences", answer.reason)
        raise StoreUnavailable("change_preferences")

    def _read(self) -> _Stored:
        rows = _TABLE.rows(self._session.client)
        sealed = rows[0].preferences if rows else None
        if sealed is None:
            return _Stored(Preferences())
        try:
            text = self._session.open_own("profile", sealed, self._place())
            return _Stored(_FORMAT.read(text), sealed, text)
        except Tampered:
            return _Stored(Preferences(is_verified=False), sealed)

    def _place(self) -> Place:
        person = self._session.user_id
        return Place(table="profiles", column="preferences", row_id=person, user_id=person)


def check_seen(seen: str | None, now: str | None, wanted: str | None) -> None:
    """Raise ChangedElsewhere where what is there *now* is neither what was *seen* nor what is *wanted*."""
    if seen is not None and (now or "") not in (seen, wanted or ""):
        raise ChangedElsewhere(now or "")


def checked_instructions(text: str) -> str | None:
    """*text* as it is stored, or None if it says nothing. Raise BadInput."""
    text = storable(text)
    if len(text) > LONGEST_INSTRUCTIONS:
        raise BadInput(f"Instructions can have at most {LONGEST_INSTRUCTIONS:,} characters.")
    return text or None
