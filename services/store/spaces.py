"""Spaces: named folders of a person's conversations, sealed under the person's key."""

from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.crypto import Place
from services.domain import Space, SpaceId
from services.errors import BadInput, NotFound, Stale, Tampered
from services.store.fresh import Fresh
from services.store.gateway import Hidden, Moment, refusal, rows_by_id
from services.store.profile import checked_instructions
from services.store.rows import policy_columns, policy_named
from services.store.sessions import AppSession
from services.store.texts import one_line

LONGEST_NAME = 60  # characters


class _Row(BaseModel):
    id: UUID
    body: str
    state: str
    created_at: Moment


class _Document(BaseModel):
    """What is sealed."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    name: str = Field(repr=False)
    instructions: str | None = Field(default=None, repr=False)
    policy: str | None = None
    policy_size: int | None = None


_ROWS = TypeAdapter(list[_Row])
_COLUMNS = ",".join(_Row.model_fields)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A space, and the token that whoever replaces it has to name."""

    space: Space
    token: str


class Spaces:
    """One person's spaces."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._known = Fresh(self._read)

    def all(self) -> tuple[Space, ...]:
        """Every one, archived ones included, by name; as of a minute ago at most, or of longer while nobody can say.

        Raise StoreUnavailable, SignedOut.
        """
        return tuple(kept.space for kept in self._known.get().values())

    def find(self, space_id: SpaceId | None) -> Space | None:
        """The space, if it is there."""
        return next((space for space in self.all() if space.id == space_id), None)

    def keep(self, space: Space, *, replaces: Space | None = None) -> None:
        """Make *space*, or put it in the place of what was seen. Raise BadInput, Stale, NotFound."""
        space = replace(
            space,
            name=checked_name(space.name),
            instructions=checked_instructions(space.instructions or ""),
        )
        token = None
        if replaces:
            seen = self._known.read().get(replaces.id)
            if seen is None or seen.space != replaces:
                raise Stale
            token = seen.token
        name, size = policy_columns(space.policy) if space.policy else (None, None)
        document = _Document(
            name=space.name, instructions=space.instructions, policy=name, policy_size=size
        )
        user_key = self._session.newest_key
        sealed = user_key.vault("spaces").seal(document.model_dump_json(), self._place(space.id))
        self._call(
            "keep_space",
            space=space.id,
            new_body=Hidden(sealed),
            body_key_version=user_key.version,
            archived=space.is_archived,
            replaces=Hidden(token),
        )

    def forget(self, space_id: SpaceId) -> None:
        """Destroy it with its facts; its conversations stay. It is no error if it is gone already."""
        with suppress(NotFound):
            self._call("forget_space", space=space_id)
        self._known.amend(lambda kept: {one: kept[one] for one in kept if one != space_id})

    def _call(self, verb: str, /, **arguments: UUID | int | Hidden | None) -> None:
        try:
            answer = self._session.calls.call(verb, **arguments)
        finally:  # also where nobody can say whether it was done
            self._known.outdate()
        if answer.reason == "too_many":
            raise BadInput("You have as many spaces as fit. Delete one to make another.")
        if not answer.ok:
            raise refusal(answer.reason)

    def _read(self) -> dict[SpaceId, _Kept]:
        rows = rows_by_id(lambda: self._session.client.table("spaces").select(_COLUMNS), _ROWS)
        kept = [_Kept(self._opened(row), row.body) for row in rows]
        kept.sort(key=lambda each: (each.space.name.casefold(), each.space.id))
        return {each.space.id: each for each in kept}

    def _opened(self, row: _Row) -> Space:
        space_id, is_archived = SpaceId(row.id), row.state == "archived"
        try:
            text = self._session.open_own("spaces", row.body, self._place(space_id))
        except Tampered:
            return Space(
                id=space_id,
                name="",
                created_at=row.created_at,
                is_archived=is_archived,
                is_verified=False,
            )
        document = _Document.model_validate_json(text)
        return Space(
            id=space_id,
            name=document.name,
            instructions=document.instructions,
            policy=policy_named(document.policy, document.policy_size) if document.policy else None,
            created_at=row.created_at,
            is_archived=is_archived,
        )

    def _place(self, space_id: SpaceId) -> Place:
        return Place(table="spaces", column="body", row_id=space_id, user_id=self._session.user_id)


def checked_name(text: str) -> str:
    """*text* on one line, as it is stored. Raise BadInput."""
    return one_line(text, LONGEST_NAME, "A space's name")
