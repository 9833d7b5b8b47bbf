"""What a person prefers: one sealed text in their profile."""

import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.crypto import Place, token_version
from services.domain import MemoryPolicy, Preferences
from services.errors import BadInput, Refused, StoreUnavailable, Tampered
from services.store.gateway import Hidden, refusal, store_errors
from services.store.rows import policy_columns, policy_named
from services.store.sessions import AppSession

LONGEST_INSTRUCTIONS = 8_000  # characters
_FRESH_SECONDS = 60.0  # after which another device may have changed them
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
    keeps_facts: bool | None = None
    recalls_elsewhere: bool = False


_ROWS = TypeAdapter(list[_Row])


class Profile:
    """One person's own choices."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._known: tuple[float, Preferences] | None = None  # and when they were read

    def preferences(self) -> Preferences:
        """As of a minute ago at most, or of longer while nobody can say. Raise StoreUnavailable."""
        known = self._known
        if known and time.monotonic() - known[0] < _FRESH_SECONDS:
            return known[1]
        try:
            return self._read()[2]
        except StoreUnavailable:
            if known is None:
                raise
            return known[1]

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

    def keep_facts(self, *, is_wanted: bool) -> None:
        """Whether facts about the person are noted and shown to the model."""
        self._change(lambda known: known.model_copy(update={"keeps_facts": is_wanted}))

    def recall_elsewhere(self, *, is_wanted: bool) -> None:
        """Whether other conversations are searched for what matters in one."""
        self._change(lambda known: known.model_copy(update={"recalls_elsewhere": is_wanted}))

    def _change(self, change: Callable[[_Document], _Document]) -> None:
        for _ in range(_TRIES):
            token, document, _ = self._read()
            changed = change(document)
            user_key = self._session.newest_key
            sealed = user_key.vault("profile").seal(
                changed.model_dump_json(exclude_defaults=True), self._place()
            )
            answer = self._session.calls.call(
                "change_preferences", new_preferences=Hidden(sealed), replaces=Hidden(token)
            )
            if answer.ok:
                self._remember(changed)
                return
            if answer.reason != "stale":
                raise refusal(answer.reason)
        raise StoreUnavailable("change_preferences")

    def _read(self) -> tuple[str | None, _Document, Preferences]:
        """The token, what is in it, and that as the app knows it."""
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("profiles").select("preferences")
            rows = _ROWS.validate_python(query.execute().data)
        token = rows[0].preferences if rows else None
        document, is_verified = _Document(), True
        if token:
            try:
                document = self._opened(token)
            except Tampered:
                is_verified = False
        return token, document, self._remember(document, is_verified=is_verified)

    def _opened(self, token: str) -> _Document:
        user_key = self._session.user_keys.get(token_version(token) or 0)
        if user_key is None:
            raise Tampered
        return _Document.model_validate_json(user_key.vault("profile").open(token, self._place()))

    def _remember(self, document: _Document, *, is_verified: bool = True) -> Preferences:
        preferences = Preferences(
            model=document.model,
            instructions=document.instructions,
            policy=policy_named(document.policy, document.policy_size) if document.policy else None,
            context_tokens=document.context_tokens,
            keeps_facts=document.keeps_facts,
            recalls_elsewhere=document.recalls_elsewhere,
            is_verified=is_verified,
        )
        self._known = time.monotonic(), preferences
        return preferences

    def _place(self) -> Place:
        person = self._session.user_id
        return Place(table="profiles", column="preferences", row_id=person, user_id=person)


def check_seen(seen: str | None, now: str | None, wanted: str | None) -> None:
    """Raise ChangedElsewhere where what is there *now* is neither what was *seen* nor what is *wanted*."""
    if seen is not None and (now or "") not in (seen, wanted or ""):
        raise ChangedElsewhere(now or "")


def checked_instructions(text: str) -> str | None:
    """*text* as it is stored, or None if it says nothing. Raise BadInput."""
    text = text.replace("\x00", "").strip()
    if len(text) > LONGEST_INSTRUCTIONS:
        raise BadInput(f"Instructions have at most {LONGEST_INSTRUCTIONS:,} characters.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput("That text has a character that cannot be stored.") from None
    return text or None
