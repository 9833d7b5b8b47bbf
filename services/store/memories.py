"""Facts that a person agreed to keep, sealed: under a conversation's key where they are its own, else under the person's."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from services.crypto import Place
from services.domain import ConversationId, Fact, FactId, MessageId, SpaceId
from services.errors import BadInput, NotFound, Stale, Tampered
from services.events import log_event
from services.store.fresh import Fresh
from services.store.gateway import Hidden, Moment, refusal, rows_by_id
from services.store.rows import ConversationRow
from services.store.sessions import AppSession
from services.store.texts import one_line
from services.store.threads import Threads

LONGEST_FACT = 500  # characters


class FactChanged(Stale):
    """What was to be replaced is no longer what its person saw."""

    public = "This fact was changed elsewhere meanwhile."


class _Row(BaseModel):
    id: UUID
    conversation_id: UUID | None
    space_id: UUID | None
    body: str
    created_at: Moment


class _Document(BaseModel):
    """What is sealed."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    text: str = Field(repr=False)
    since: AwareDatetime | None = None  # else that of its row
    source_id: UUID | None = None
    source_conversation_id: UUID | None = None


_ROWS = TypeAdapter(list[_Row])
_COLUMNS = ",".join(_Row.model_fields)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A fact, and the token that whoever replaces it has to name."""

    fact: Fact
    token: str


class Memories:
    """One person's facts, of every scope."""

    def __init__(self, session: AppSession, threads: Threads) -> None:
        self._session, self._threads = session, threads
        self._known = Fresh(self._read)
        threads.on_forget.append(self._forget_conversation)

    def facts(self) -> tuple[Fact, ...]:
        """All, the oldest first; as of a minute ago at most, or of longer while nobody can say.

        What does not open is left out. Raise StoreUnavailable, SignedOut.
        """
        return tuple(kept.fact for kept in self._known.get().values())

    def keep(self, fact: Fact, *, replaces: Fact | None = None) -> None:
        """Keep *fact*, or put it in the place of what was seen.

        Raise BadInput, FactChanged, NotFound (its conversation or space is gone).
        """
        fact = replace(fact, text=checked_fact(fact.text))
        token = None
        if replaces:
            seen = self._known.read().get(replaces.id)
            if seen is None or seen.fact != replaces:
                raise FactChanged
            token = seen.token
        document = _Document(
            text=fact.text,
            since=fact.since,
            source_id=fact.source_id,
            source_conversation_id=fact.source_conversation_id,
        ).model_dump_json()
        place = self._place(fact.id, fact.conversation_id, fact.space_id)
        if fact.conversation_id:
            vault = self._threads.vault(fact.conversation_id)
            sealed, version = vault.seal(document, place), vault.version
        else:
            user_key = self._session.newest_key
            sealed, version = user_key.vault("memories").seal(document, place), user_key.version
        self._call(
            "keep_memory",
            memory=fact.id,
            conversation=fact.conversation_id,
            space=fact.space_id,
            new_body=Hidden(sealed),
            body_key_version=version,
            replaces=Hidden(token),
        )

    def forget(self, fact_id: FactId) -> None:
        """Destroy one. It is no error if it is gone already."""
        with suppress(NotFound):
            self._call("forget_memory", memory=fact_id)
        self._known.amend(lambda kept: {one: kept[one] for one in kept if one != fact_id})

    def forget_all(self) -> None:
        """Destroy every fact of every scope."""
        self._call("forget_memories")
        self._known.amend(lambda _: {})

    def _forget_conversation(self, conversation_id: ConversationId) -> None:
        self._known.outdate()
        self._known.amend(
            lambda kept: {
                its: one for its, one in kept.items() if one.fact.conversation_id != conversation_id
            }
        )

    def _call(self, verb: str, /, **arguments: UUID | int | Hidden | None) -> None:
        try:
            answer = self._session.calls.call(verb, **arguments)
        finally:  # also where nobody can say whether it was done
            self._known.outdate()
        if answer.reason == "too_many":
            raise BadInput("So many facts are kept already: delete some first.")
        if answer.reason == "stale":
            raise FactChanged
        if not answer.ok:
            raise refusal(answer.reason)

    def _read(self) -> dict[FactId, _Kept]:
        read = rows_by_id(lambda: self._session.client.table("memories").select(_COLUMNS), _ROWS)
        rows = sorted(read, key=lambda row: (row.created_at, row.id))
        before = self._known.last or {}
        same = {row.id: before[FactId(row.id)] for row in rows if _is_in(before, row)}
        others = {row.conversation_id for row in rows if row.id not in same}
        found = self._threads.rows(ConversationId(each) for each in others if each)
        keys = {its: row for its, row in found.items() if not row.destroy_at}
        kept = [each for row in rows if (each := same.get(row.id) or self._opened(row, keys))]
        kept.sort(key=lambda each: each.fact.since)
        return {each.fact.id: each for each in kept}

    def _opened(self, row: _Row, keys: Mapping[ConversationId, ConversationRow]) -> _Kept | None:
        conversation_id = ConversationId(row.conversation_id) if row.conversation_id else None
        space_id = SpaceId(row.space_id) if row.space_id else None
        if conversation_id and conversation_id not in keys:  # it is being destroyed
            return None
        place = self._place(FactId(row.id), conversation_id, space_id)
        try:
            if conversation_id:
                vault = self._threads.vault(conversation_id, keys[conversation_id])
                text = vault.open(row.body, place)
            else:
                text = self._session.open_own("memories", row.body, place)
        except (Tampered, NotFound):
            log_event("fact.unverified", fact=row.id)
            return None
        document = _Document.model_validate_json(text)
        return _Kept(
            Fact(
                id=FactId(row.id),
                text=document.text,
                since=document.since or row.created_at,
                source_id=MessageId(document.source_id) if document.source_id else None,
                source_conversation_id=ConversationId(document.source_conversation_id)
                if document.source_conversation_id
                else None,
                conversation_id=conversation_id,
                space_id=space_id,
            ),
            row.body,
        )

    def _place(
        self, fact_id: FactId, conversation_id: ConversationId | None, space_id: SpaceId | None
    ) -> Place:
        return Place(
            table="memories",
            column="body",
            row_id=fact_id,
            user_id=self._session.user_id,
            conversation_id=conversation_id,
            parent_id=space_id,
        )


def _is_in(before: Mapping[FactId, _Kept], row: _Row) -> bool:
    """Whether *row* was opened *before*, and is what it was."""
    kept = before.get(FactId(row.id))
    if kept is None:
        return False
    fact = kept.fact
    return (kept.token, fact.conversation_id, fact.space_id) == (
        row.body,
        row.conversation_id,
        row.space_id,
    )


def checked_fact(text: str) -> str:
    """*text* on one line, as it is stored. Raise BadInput."""
    return one_line(text, LONGEST_FACT, "A fact")
