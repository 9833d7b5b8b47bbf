"""Spaces: named folders of a person's conversations, sealed under the person's key."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from services.crypto import Place
from services.domain import Space, SpaceId
from services.errors import NotFound, Tampered
from services.store.documents import DocumentRow, Documents, Format
from services.store.profile import checked_instructions
from services.store.supabase.api import Hidden, Moment, Table
from services.store.supabase.sessions import AppSession
from services.store.texts import one_line

LONGEST_NAME = 60  # characters


class _Row(DocumentRow, frozen=True):
    id: SpaceId
    state: str
    created_at: Moment


_TABLE = Table("spaces", _Row)
_FORMAT = Format(Space, in_clear=("id", "created_at", "is_archived", "is_verified"))


class Spaces(Documents[_Row, Space]):
    """One person's spaces, by name, archived ones included."""

    def __init__(self, session: AppSession) -> None:
        super().__init__(session, _TABLE)

    def find(self, space_id: SpaceId | None) -> Space | None:
        """The space, if it is there."""
        return next((space for space in self.all() if space.id == space_id), None)

    def keep(self, space: Space, *, replaces: Space | None = None) -> None:
        """Store *space*, in the place of what was seen. Raise BadInput, ChangedElsewhere, NotFound."""
        space = replace(
            space,
            name=checked_name(space.name),
            instructions=checked_instructions(space.instructions or ""),
        )
        replaced = self._sealed(replaces)
        vault = self._session.newest_key.vault("spaces")
        self._call(
            "keep_space",
            space=space.id,
            new_body=Hidden(vault.seal(_FORMAT.write(space), self._place(space.id))),
            body_key_version=vault.version,
            archived=space.is_archived,
            replaces=replaced,
        )

    def forget(self, space_id: SpaceId) -> None:
        """Destroy it with its facts; its conversations stay. It may be gone already."""
        with suppress(NotFound):
            self._call("forget_space", space=space_id)
        self._drop(lambda space: space.id == space_id)

    def _opened(self, rows: Sequence[_Row]) -> Iterator[Space]:
        for row in rows:
            in_clear = row.model_dump(include={"id", "created_at"})
            in_clear["is_archived"] = row.state == "archived"
            try:
                text = self._session.open_own("spaces", row.body, self._place(row.id))
                yield _FORMAT.read(text, **in_clear)
            except Tampered:
                yield _FORMAT.read('{"name": ""}', is_verified=False, **in_clear)

    def _order(self, row: _Row, value: Space) -> tuple[str, UUID]:
        return value.name.casefold(), value.id

    def _place(self, space_id: SpaceId) -> Place:
        return Place(table="spaces", column="body", row_id=space_id, user_id=self._session.user_id)


def checked_name(text: str) -> str:
    """*text* on one line, as it is stored. Raise BadInput."""
    return one_line(text, LONGEST_NAME, "a name")
