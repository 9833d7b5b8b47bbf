"""What a person prefers: one sealed text in their profile."""

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.crypto import Place
from services.domain import MemoryPolicy, Preferences
from services.errors import BadInput, Refused, StoreUnavailable, Tampered
from services.store.fresh import Fresh
from services.store.gateway import Hidden, refusal, store_errors
from services.store.rows import policy_columns, policy_named
from services.store.sessions import AppSession
from services.store.texts import storable

LONGEST_INSTRUCTIONS = 8_000  # characters
_TRIES = 5  # while other tabs change them too


class ChangedElsewhere(Refused):
    """What was to be replaced is no longer what its person saw. It says *now* what it says."""

    public = "This was changed elsewhere meanwhile."

    def __init__(self, now: str) -> None:
        super().__init__()
        self.now = now


class _Row(BaseModel):
    preferences: str | None


class _Document(BaseModel):
    """What is sealed. What later versions of the app keep in it stays in it."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    model: str | None = None
    instructions: str | None = Field(default=None, repr=False)
    policy: str | None = None
    policy_size: int | None = None
    context_tokens: int | None = None
    reply_tokens: int | None = None
    window_messages: int | None = None
    keeps_facts: bool | None = None
    recalls_elsewhere: bool = False


_ROWS = TypeAdapter(list[_Row])


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is in the token that whoever replaces it has to name."""

    token: str | None
    document: _Document
    is_verified: bool = True

    def preferences(self) -> Preferences:
        """That as the app knows it."""
        kept = self.document
        return Preferences(
            model=kept.model,
            instructions=kept.instructions,
            policy=policy_named(kept.policy, kept.policy_size) if kept.policy else None,
            context_tokens=kept.context_tokens,
            reply_tokens=kept.reply_tokens,
            window_messages=kept.window_messages,
            keeps_facts=kept.keeps_facts,
            recalls_elsewhere=kept.recalls_elsewhere,
            is_verified=self.is_verified,
        )


class Profile:
    """One person's own choices."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._known = Fresh(self._read)

    def preferences(self) -> Preferences:
        """As of a minute ago at most, or of longer while nobody can say. Raise StoreUnavailable."""
        return self._known.get().preferences()

    def set_model(self, model: str | None) -> None:
        """Choose the model of conversations without one of their own; None: the deployment's first."""
        self._change(lambda known: known.model_copy(update={"model": model}))

    def set_instructions(self, text: str, seen: str | None = None) -> None:
        """Choose the instructions of conversations without their own; empty ones: the deployment's.

        Only in the place of those that were *seen*, if that is said. Raise BadInput, ChangedElsewhere.
        """
        checked = checked_instructions(text)

        def change(known: _Document) -> _Document:
            check_seen(seen, known.instructions, checked)
            return known.model_copy(update={"instructions": checked})

        self._change(change)

    def set_policy(self, policy: MemoryPolicy | None) -> None:
        """Choose the memory policy of new conversations; None: the deployment's."""
        name, size = policy_columns(policy) if policy else (None, None)
        self._change(lambda known: known.model_copy(update={"policy": name, "policy_size": size}))

    def set_context_tokens(self, tokens: int | None) -> None:
        """Choose how much of a model's context one call may use; None: all of it."""
        self._change(lambda known: known.model_copy(update={"context_tokens": tokens}))

    def set_reply_tokens(self, tokens: int | None) -> None:
        """Choose how long a reply may be; None: as long as the model's may."""
        self._change(lambda known: known.model_copy(update={"reply_tokens": tokens}))

    def set_window_messages(self, messages: int | None) -> None:
        """Choose how many messages a window has, where Window is chosen; None: the deployment's."""
        self._change(lambda known: known.model_copy(update={"window_messages": messages}))

    def keep_facts(self, *, is_wanted: bool) -> None:
        """Whether facts about the person are noted and shown to the model."""
        self._change(lambda known: known.model_copy(update={"keeps_facts": is_wanted}))

    def recall_elsewhere(self, *, is_wanted: bool) -> None:
        """Whether other conversations are searched for what matters in one."""
        self._change(lambda known: known.model_copy(update={"recalls_elsewhere": is_wanted}))

    def _change(self, change: Callable[[_Document], _Document]) -> None:
        for _ in range(_TRIES):
            now = self._known.read()
            changed = change(now.document)
            user_key = self._session.newest_key
            sealed = user_key.vault("profile").seal(
                changed.model_dump_json(exclude_defaults=True), self._place()
            )
            try:
                answer = self._session.calls.call(
                    "change_preferences", new_preferences=Hidden(sealed), replaces=Hidden(now.token)
                )
                if answer.ok:
                    self._known.put(_Kept(sealed, changed))  # while the database is away
                    return
            finally:  # another tab may have changed it since; nor can anybody say whether it was done
                self._known.outdate()
            if answer.reason != "stale":
                raise refusal(answer.reason)
        raise StoreUnavailable("change_preferences")

    def _read(self) -> _Kept:
        with store_errors():
            query = self._session.client.table("profiles").select("preferences")
            rows = _ROWS.validate_python(query.execute().data)
        token = rows[0].preferences if rows else None
        if token is None:
            return _Kept(None, _Document())
        try:
            opened = self._session.open_own("profile", token, self._place())
        except Tampered:
            return _Kept(token, _Document(), is_verified=False)
        return _Kept(token, _Document.model_validate_json(opened))

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
        raise BadInput(f"Instructions have at most {LONGEST_INSTRUCTIONS:,} characters.")
    return text or None
