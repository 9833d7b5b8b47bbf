"""A person's conversations: what the use cases ask of the store, over one app session."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import cast
from uuid import uuid4

from services.crypto import Head, Vault, new_key
from services.domain import (
    Conversation,
    ConversationId,
    MemoryPolicy,
    Message,
    Thread,
    TurnCost,
    TurnId,
    UserId,
)
from services.errors import AppError, BadInput, StoreUnavailable
from services.store.gateway import Answer, Argument, Hidden, refusal, store_errors
from services.store.rows import CONVERSATION_COLUMNS, CONVERSATION_ROWS, policy_columns, policy_of
from services.store.sessions import AppSession
from services.store.threads import Threads
from services.store.turns import Begun, Ending, NewTurn, OpenTurn, Turns

_LONGEST_TITLE = 120  # characters


class Conversations:
    """One person's conversations, their threads and their turns."""

    def __init__(self, session: AppSession) -> None:
        self._session = session
        self._threads = Threads(session)
        self._turns = Turns(session, self._threads)

    @property
    def user_id(self) -> UserId:
        return self._session.user_id

    def keep_fresh(self, seconds: int) -> None:
        """See that the person's token outlives the next *seconds*."""
        self._session.keep_fresh(seconds)

    def recent(self, limit: int = 50) -> list[Conversation]:
        """The newest first."""
        self._session.keep_fresh()
        with store_errors():
            query = self._session.client.table("conversations").select(CONVERSATION_COLUMNS)
            rows = CONVERSATION_ROWS.validate_python(
                query.order("updated_at", desc=True).limit(limit).execute().data
            )
        return [self._threads.conversation(row) for row in rows]

    def thread(self, conversation_id: ConversationId) -> Thread:
        """The conversation as it is now. Raise NotFound, also for somebody else's."""
        return self._threads.read(conversation_id).thread

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        """The conversation as it was last read here."""
        known = self._threads.known(conversation_id)
        return known.thread if known else None

    def create(self, title: str, policy: MemoryPolicy) -> Thread:
        """A new, empty conversation. Raise BadInput (there are too many), StoreUnavailable."""
        conversation_id = ConversationId(uuid4())
        key, user_key = new_key(), self._session.newest_key
        vault = Vault(key)
        name, size = policy_columns(policy)
        try:
            self._call(
                "create_conversation",
                conversation=conversation_id,
                new_title=Hidden(vault.seal(title, self._threads.title_place(conversation_id))),
                new_wrapped_key=Hidden(user_key.wrap(key, conversation_id, vault.version)),
                new_user_key_version=user_key.version,
                new_head=Hidden(vault.seal_head(Head(), self.user_id, conversation_id)),
                new_policy=name,
                new_policy_size=size,
                new_expiry=None,
            )
        except StoreUnavailable:
            with suppress(AppError):  # it may be there: nobody would know what it is
                self.delete(conversation_id)
            raise
        return self._threads.made(conversation_id, title, policy, vault)

    def rename(self, conversation_id: ConversationId, title: str) -> None:
        """Give it another title. Raise BadInput for an empty one or one of over 120 characters."""
        title = " ".join(title.split())
        if not title or len(title) > _LONGEST_TITLE:
            raise BadInput(f"A title has between 1 and {_LONGEST_TITLE} characters.")
        sealed = self._sealed_title(conversation_id, title)
        self._call("rename_conversation", conversation=conversation_id, new_title=Hidden(sealed))

    def give_title(self, conversation_id: ConversationId, title: str) -> bool:
        """Put the model's *title* in place of the first words. False: a title was given meanwhile."""
        sealed = self._sealed_title(conversation_id, title)
        answer = self._call(
            "title_conversation", conversation=conversation_id, new_title=Hidden(sealed)
        )
        return cast(dict[str, object], answer.model_extra)["titled"] is True

    def delete(self, conversation_id: ConversationId) -> None:
        """Destroy it and its key; what it cost stays in the books."""
        self._call("delete_conversation", conversation=conversation_id)
        self._threads.forget(conversation_id)

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        """Choose another memory policy; the model's view begins where the context was started."""
        self._set_memory(conversation_id, policy, reset_seq=None)

    def start_anew(self, thread: Thread) -> None:
        """Let the model's view begin after what was said so far. The history stays."""
        self._reset(thread.conversation.id, thread.messages[-1].seq if thread.messages else 0)

    def take_back_reset(self, thread: Thread) -> None:
        """Undo `start_anew`: the model may see everything again."""
        self._reset(thread.conversation.id, 0)

    def costs(self, messages: Iterable[Message]) -> Mapping[TurnId, TurnCost]:
        """What the turns of *messages* cost, as far as they are settled. Raise StoreUnavailable."""
        return self._turns.costs({message.turn_id for message in messages if message.turn_id})

    def begin_turn(self, turn: NewTurn) -> Begun:
        return self._turns.begin(turn)

    def checkpoint_turn(
        self, turn_id: TurnId, conversation_id: ConversationId, said: str, lease_seconds: int
    ) -> bool:
        return self._turns.checkpoint(turn_id, conversation_id, said, lease_seconds)

    def finish_turn(self, ending: Ending) -> None:
        self._turns.finish(ending)

    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None:
        return self._turns.unfinished(conversation_id)

    def _sealed_title(self, conversation_id: ConversationId, title: str) -> str:
        place = self._threads.title_place(conversation_id)
        return self._threads.vault(conversation_id).seal(title, place)

    def _reset(self, conversation_id: ConversationId, reset_seq: int) -> None:
        policy = policy_of(self._threads.row(conversation_id))
        self._set_memory(conversation_id, policy, reset_seq=reset_seq)

    def _set_memory(
        self, conversation_id: ConversationId, policy: MemoryPolicy, *, reset_seq: int | None
    ) -> None:
        name, size = policy_columns(policy)
        self._call(
            "set_memory_policy",
            conversation=conversation_id,
            new_policy=name,
            new_policy_size=size,
            new_reset_seq=reset_seq,
        )

    def _call(self, verb: str, /, **arguments: Argument | Hidden) -> Answer:
        self._session.keep_fresh()
        answer = self._session.calls.call(verb, **arguments)
        if not answer.ok:
            raise refusal(answer.reason)
        return answer
