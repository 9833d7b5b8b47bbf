"""A person's conversations: what the use cases ask of the store, over one app session."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import cast
from uuid import uuid4

from services.crypto import Head, Vault, new_key
from services.domain import (
    Conversation,
    ConversationId,
    FactId,
    MemoryPolicy,
    Message,
    MessageId,
    NewConversation,
    RunningSummary,
    SpaceId,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    UserId,
)
from services.errors import (
    AppError,
    NotFound,
    SpaceGone,
    Stale,
    StoreUnavailable,
    Tampered,
)
from services.store.cached_read import CachedRead
from services.store.deletions import Deletions
from services.store.profile import check_seen, checked_instructions
from services.store.rows import (
    LISTED_CONVERSATIONS,
    ConversationState,
    policy_columns,
    policy_named,
)
from services.store.supabase.api import Argument, Hidden, Query, RpcResult, refusal
from services.store.supabase.paging import LEAST
from services.store.supabase.sessions import AppSession
from services.store.texts import one_line
from services.store.threads import SUMMARY_FORMAT, Threads
from services.store.turns import Begun, Ending, Lease, NewTurn, OpenTurn, Turns

_LONGEST_TITLE = 120  # characters
_EVERY_SECONDS = 10.0  # between two readings of all conversations: the user is typing
_TRIES = 5  # at instructions that another tab changes meanwhile


class Conversations:
    """One person's conversations, their threads and their turns."""

    def __init__(self, session: AppSession, threads: Threads | None = None) -> None:
        self._session = session
        self._threads = threads or Threads(session)
        self._turns = Turns(session, self._threads)
        self._deletions = Deletions(session, self._threads)
        self._every = CachedRead(self._read_all, _EVERY_SECONDS)
        self._recent: dict[tuple[bool, SpaceId | None], list[Conversation]] = {}  # as last read
        self._unwanted: set[ConversationId] = set()  # they may be there, and should not
        self._threads.on_forget.append(self._forget)

    @property
    def user_id(self) -> UserId:
        return self._session.user_id

    def keep_fresh(self, seconds: int) -> None:
        """See that the person's token outlives the next *seconds*."""
        self._session.bearer.keep_fresh(seconds)

    def recent(
        self, limit: int = 30, *, is_archived: bool = False, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        """Those that are pinned, the last first, then the others, the newest first; of one space, or all.

        While the database is away, as they were last read. Raise StoreUnavailable, SignedOut.
        """
        place = is_archived, space_id
        try:
            if limit > LEAST:  # one answer may have no room for them
                found = [
                    one
                    for one in self._every.get()
                    if one.is_archived is is_archived and space_id in (None, one.space_id)
                ]
            else:
                found = self._read_recent(limit, is_archived=is_archived, space_id=space_id)
            unwanted = self._unwanted & {one.id for one in found}
            for conversation_id in unwanted:
                self.unmake(conversation_id)
            found = [one for one in found if one.id not in unwanted]
            self._recent[place] = found
        except StoreUnavailable:
            if place not in self._recent:
                raise
            found = self._recent[place]
        return found[:limit]

    def _read_recent(
        self, limit: int, *, is_archived: bool, space_id: SpaceId | None
    ) -> list[Conversation]:
        state = ConversationState.ARCHIVED if is_archived else ConversationState.ACTIVE

        def newest(query: Query) -> Query:
            query = query.eq("space_id", str(space_id)) if space_id else query
            return (
                query.eq("state", state)
                .is_("destroy_at", "null")
                .order("pinned_at", desc=True, nullsfirst=False)
                .order("updated_at", desc=True)
                .limit(limit)
            )

        rows = LISTED_CONVERSATIONS.rows(self._session.client, newest)
        return [self._threads.conversation(row) for row in rows]

    def titled(
        self, words: str, limit: int = 30, *, space_id: SpaceId | None = None
    ) -> list[Conversation]:
        """Those with all of *words* in their titles, in the order of `recent`, archived ones last."""
        wanted = words.casefold().split()
        found = [
            conversation
            for conversation in self._every.get()
            if space_id in (None, conversation.space_id)
            and all(word in conversation.title.casefold() for word in wanted)
        ]
        return found[:limit]

    def some(self, ids: Iterable[ConversationId]) -> list[Conversation]:
        """Those of *ids* that are there. Raise StoreUnavailable, SignedOut."""
        rows = self._threads.rows(ids).values()
        return [self._threads.conversation(row) for row in rows if not row.destroy_at]

    def thread(self, conversation_id: ConversationId) -> Thread:
        """The conversation as it is now. Raise NotFound, also for somebody else's or a discarded one."""
        return self._threads.read(conversation_id).thread

    def has(self, conversation_id: ConversationId) -> bool:
        """Whether it is one of theirs. Raise StoreUnavailable, SignedOut."""
        try:
            self._threads.row(conversation_id)
        except NotFound:
            return False
        return True

    def cached(self, conversation_id: ConversationId) -> Thread | None:
        """The conversation as it was last read here."""
        known = self._threads.known(conversation_id)
        return known.thread if known else None

    def create(
        self, title: str, policy: MemoryPolicy, new: NewConversation | None = None
    ) -> Thread:
        """Store an empty conversation with *policy* and the other choices of *new*, all or nothing.

        Raise BadInput (there are too many, or the instructions are too long), SpaceGone, StoreUnavailable.
        """
        new = new or NewConversation()
        told = checked_instructions(new.instructions or "")
        conversation_id = ConversationId(uuid4())
        key, user_key = new_key(), self._session.newest_key
        vault = Vault(key)
        name, size = policy_columns(policy)
        try:
            self._call(
                "create_conversation",
                conversation=conversation_id,
                new_title=Hidden(vault.seal(title, self._threads.place("title", conversation_id))),
                new_wrapped_key=Hidden(user_key.wrap(key, conversation_id, vault.version)),
                new_user_key_version=user_key.version,
                new_head=Hidden(vault.seal_head(Head(), self.user_id, conversation_id)),
                new_policy=name,
                new_policy_size=size,
                new_model=Hidden(new.model),
                new_instructions=Hidden(
                    vault.seal(told, self._threads.place("instructions", conversation_id))
                    if told
                    else None
                ),
                new_space=new.space_id,
                new_expiry=None,
            )
        except NotFound:
            raise SpaceGone from None
        except StoreUnavailable:
            self.unmake(conversation_id)
            raise
        return self._threads.made(
            conversation_id, title, policy, vault, replace(new, instructions=told)
        )

    def rename(self, conversation_id: ConversationId, title: str) -> None:
        """Give it another title. Raise BadInput for an empty one or one of over 120 characters."""
        sealed = self._sealed_title(conversation_id, checked_title(title))
        self._call("rename_conversation", conversation=conversation_id, new_title=Hidden(sealed))

    def give_title(self, conversation_id: ConversationId, title: str) -> bool:
        """Put the model's *title* in place of the first words. False: a title was given meanwhile."""
        sealed = self._sealed_title(conversation_id, title)
        answer = self._call(
            "title_conversation", conversation=conversation_id, new_title=Hidden(sealed)
        )
        return cast(dict[str, object], answer.model_extra)["titled"] is True

    def pin(self, conversation_id: ConversationId, *, is_pinned: bool = True) -> None:
        """Keep it at the top, or no longer."""
        self._call(
            "mark_conversation", conversation=conversation_id, pinned=is_pinned, archived=None
        )

    def archive(self, conversation_id: ConversationId, *, is_archived: bool = True) -> None:
        """Put it away, where it is not pinned, or take it back."""
        self._call(
            "mark_conversation",
            conversation=conversation_id,
            pinned=False if is_archived else None,
            archived=is_archived,
        )

    def mark_read(self, thread: Thread) -> None:
        """Note that its person has seen all of *thread*, on whatever device."""
        if thread.messages:
            seq = thread.conversation.last_seq
            self._call("read_conversation", conversation=thread.conversation.id, seq=seq)

    def delete(self, conversation_id: ConversationId) -> None:
        """Destroy it and its key; what it cost stays in the books."""
        self._call("delete_conversation", conversation=conversation_id)
        self._threads.forget(conversation_id)

    def unmake(self, conversation_id: ConversationId) -> None:
        """Delete what nobody has seen. Where the database does not answer, once it does: what it was asked
        before it stood still, it does when it goes on."""
        self._unwanted.add(conversation_id)
        with suppress(AppError):
            self.delete(conversation_id)
            self._unwanted.discard(conversation_id)

    def discard(self, conversation_id: ConversationId, seconds: int) -> None:
        """Delete it in so many seconds, for which `restore` can bring it back."""
        self._call("discard_conversation", conversation=conversation_id, for_seconds=seconds)
        self._threads.forget(conversation_id)

    def restore(self, conversation_id: ConversationId) -> None:
        """Bring a discarded one back as it was. Raise NotFound: it is gone."""
        self._call("restore_conversation", conversation=conversation_id)
        self._threads.forget(conversation_id)

    def set_policy(self, conversation_id: ConversationId, policy: MemoryPolicy) -> None:
        """Choose another memory policy; the model's view begins where the context was started."""
        self._set_memory(conversation_id, policy, reset_seq=None)

    def set_model(self, conversation_id: ConversationId, model: str | None) -> None:
        """Choose the model that answers; None: the person's."""
        self._call("set_conversation_model", conversation=conversation_id, new_model=Hidden(model))
        self._amend(conversation_id, lambda known: replace(known, model=model))

    def instructions(self, conversation_id: ConversationId) -> str | None:
        """The conversation's own, if it has some. Raise NotFound, Tampered."""
        return self._threads.instructions(self._threads.row(conversation_id))

    def set_instructions(
        self, conversation_id: ConversationId, text: str, seen: str | None = None
    ) -> None:
        """Give it instructions of its own; empty ones: the person's.

        Only in the place of those that were *seen*, if that is said. Raise BadInput, ChangedElsewhere.
        """
        checked = checked_instructions(text)
        place = self._threads.place("instructions", conversation_id)
        for attempt in range(_TRIES):
            row = self._threads.row(conversation_id)
            with suppress(Tampered):  # what they were cannot be said
                check_seen(seen, self._threads.instructions(row), checked)
            vault = self._threads.vault(conversation_id, row)
            try:
                self._call(
                    "set_conversation_instructions",
                    conversation=conversation_id,
                    new_instructions=Hidden(vault.seal(checked, place) if checked else None),
                    replaces=Hidden(row.instructions),
                )
                break
            except Stale:  # another tab stored its own since the row was read
                if attempt == _TRIES - 1:
                    raise
        self._threads.amend(
            conversation_id,
            lambda known: replace(known, instructions=checked, are_instructions_verified=True),
        )

    def set_summary(self, thread: Thread, summary: RunningSummary | None) -> None:
        """Put *summary* in the place of the one of *thread*.

        Raise Stale (it was replaced, or messages were deleted or restored since), NotFound, Tampered.
        """
        conversation_id = thread.conversation.id
        row = self._threads.row(conversation_id)
        if self._threads.readable_summary(row) != thread.summary:
            raise Stale
        sealed = None
        if summary:
            place = self._threads.place("summary", conversation_id)
            vault = self._threads.vault(conversation_id, row)
            sealed = vault.seal(SUMMARY_FORMAT.write(summary), place)
        self._call(
            "summarise_conversation",
            conversation=conversation_id,
            new_summary=Hidden(sealed),
            replaces=Hidden(row.summary),
            cuts=thread.conversation.cuts,
        )
        self._threads.amend(
            conversation_id,
            lambda known: replace(known, summary=summary, is_summary_verified=True),
        )

    def move(self, conversation_id: ConversationId, space_id: SpaceId | None) -> None:
        """Put it into a space, or out of any. Raise NotFound, SpaceGone."""
        try:
            self._call("move_conversation", conversation=conversation_id, new_space=space_id)
        except NotFound:
            if space_id and self.has(conversation_id):
                raise SpaceGone from None
            raise
        self._amend(conversation_id, lambda known: replace(known, space_id=space_id))

    def start_anew(self, thread: Thread) -> None:
        """Let the model's view begin after what was said so far. The history stays."""
        self._reset(thread.conversation.id, thread.messages[-1].seq if thread.messages else 0)

    def take_back_reset(self, thread: Thread) -> None:
        """Undo `start_anew`: the model may see everything again."""
        self._reset(thread.conversation.id, 0)

    def costs(self, messages: Iterable[Message]) -> Mapping[TurnId, TurnCost]:
        return self._turns.costs(messages)

    def receipts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[TurnId, str]:
        return self._turns.receipts(messages, conversation_id)

    def thoughts(
        self, messages: Iterable[Message], conversation_id: ConversationId
    ) -> Mapping[MessageId, Thoughts]:
        return self._turns.thoughts(messages, conversation_id)

    def begin_turn(self, turn: NewTurn) -> Begun:
        return self._turns.begin(turn)

    def checkpoint_turn(
        self,
        turn_id: TurnId,
        conversation_id: ConversationId,
        said: str,
        lease_seconds: int,
        thoughts: Thoughts | None = None,
    ) -> Lease:
        return self._turns.checkpoint(turn_id, conversation_id, said, lease_seconds, thoughts)

    def stop_turn(self, turn_id: TurnId) -> None:
        self._turns.stop(turn_id)

    def finish_turn(self, ending: Ending) -> None:
        self._turns.finish(ending)

    def edit_reply(self, thread: Thread, reply: Message, text: str) -> None:
        self._turns.edit_reply(thread, reply, text)
        self._every.outdate()

    def discard_messages(
        self,
        thread: Thread,
        doomed: Sequence[Message],
        facts: Iterable[FactId],
        seconds: int,
        *,
        drops_summary: bool,
    ) -> None:
        self._deletions.discard(thread, doomed, facts, seconds, drops_summary=drops_summary)

    def can_restore_messages(self, conversation_id: ConversationId) -> bool:
        return self._deletions.can_restore(conversation_id)

    def restore_messages(self, conversation_id: ConversationId) -> None:
        self._deletions.restore(conversation_id)

    def open_turn(self, conversation_id: ConversationId) -> OpenTurn | None:
        return self._turns.unfinished(conversation_id)

    def _forget(self, conversation_id: ConversationId) -> None:
        """Drop the lists with its title."""
        self._every.outdate()
        self._every.amend(lambda every: [one for one in every if one.id != conversation_id])
        for place, listed in list(self._recent.items()):
            self._recent[place] = [one for one in listed if one.id != conversation_id]

    def _sealed_title(self, conversation_id: ConversationId, title: str) -> str:
        place = self._threads.place("title", conversation_id)
        return self._threads.vault(conversation_id).seal(title, place)

    def _read_all(self) -> list[Conversation]:
        rows = LISTED_CONVERSATIONS.all_rows(
            self._session.client, lambda query: query.is_("destroy_at", "null")
        )
        every = [self._threads.conversation(row) for row in rows]
        return sorted(every, key=_place_in_list, reverse=True)

    def _reset(self, conversation_id: ConversationId, reset_seq: int) -> None:
        row = self._threads.row(conversation_id)
        policy = policy_named(row.policy, row.policy_size)
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

        def change(known: Conversation) -> Conversation:
            start = known.reset_seq if reset_seq is None else reset_seq
            return replace(known, policy=policy, reset_seq=start, start_seq=start)

        self._amend(conversation_id, change)

    def _amend(
        self, conversation_id: ConversationId, change: Callable[[Conversation], Conversation]
    ) -> None:
        self._threads.amend(
            conversation_id,
            lambda known: replace(known, conversation=change(known.conversation)),
        )

    def _call(self, verb: str, /, **arguments: Argument | Hidden) -> RpcResult:
        self._every.outdate()
        answer = self._session.calls.call(verb, **arguments)
        if not answer.ok:
            raise refusal(verb, answer.reason)
        return answer


def checked_title(text: str) -> str:
    """*text* on one line, as it is stored. Raise BadInput."""
    return one_line(text, _LONGEST_TITLE, "a title")


def _place_in_list(conversation: Conversation) -> tuple[bool, float, datetime]:
    pinned_at = conversation.pinned_at.timestamp() if conversation.pinned_at else 0
    return not conversation.is_archived, pinned_at, conversation.updated_at
