"""The use cases of a conversation: begin a turn, retry it, follow it, preview its context.

begin -> plan_context -> store the prompt and reserve its highest cost -> a thread streams the reply
-> however it ends, store the text so far and settle -> tell the followers
-> in the background: a title after the first complete reply, then summaries and facts
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from services import errors
from services.chat.background import UserTasks
from services.chat.counting import Counting
from services.chat.deletions import Deletions
from services.chat.live_turn import LiveTurn, LiveTurns
from services.chat.paid_calls import Call, PaidCalls, UnansweredCalls, new_call
from services.chat.planning import Planning
from services.chat.remote_turn import RemoteTurn
from services.chat.search import Search
from services.chat.setup import Choices
from services.chat.task_registry import BACKGROUND_THREAD, BackgroundTasks, Work
from services.chat.view import ThreadView
from services.daemon_threads import in_thread
from services.domain import (
    ConversationId,
    MemoryPolicy,
    Message,
    MessageId,
    NewConversation,
    Purpose,
    Role,
    Space,
    Thread,
)
from services.domain.limits import checked_instructions, checked_message
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.events import log_event
from services.memory.titles import first_words


class Chat:
    """Answers the prompts of one signed-in user. Any thread may call any method."""

    def __init__(
        self,
        choices: Choices,
        *,
        sweep: Callable[[], object],  # settles turns whose lease ran out
        live_turns: LiveTurns,
        background: BackgroundTasks,
        search: Search,
        # returns the title of a new conversation, given its first prompt
        title: Callable[[str], str] = first_words,
        new_id: Callable[[], UUID] = uuid4,  # returns the id of a new conversation
        on_settled: Callable[[], None] = lambda: None,  # called after each turn is settled
        # called after a deletion, with the seconds for which it can be undone
        on_deleted: Callable[[float], object] = lambda _: None,
        owner: object = None,  # the session that owns the turns (see `LiveTurns.leaving`)
    ) -> None:
        self.store = store = choices.store
        self._choices, self._sweep, self.live_turns = choices, sweep, live_turns
        self._search, self._title, self._new_id, self.owner = search, title, new_id, owner
        self._on_deleted = on_deleted
        self._counting, self._unanswered = Counting(), UnansweredCalls()
        self._calls = PaidCalls(
            store.turns, choices.counter, on_settled, owner, choices.models.failures.add
        )
        self._planning = Planning(
            turns=store.turns, counter=choices.counter, counting=self._counting, search=search
        )
        self.tasks = UserTasks(
            store=store,
            calls=self._calls,
            live_turns=live_turns,
            registry=background,
            planning=self._planning,
            choices=choices,
        )

    @property
    def deletions(self) -> Deletions:
        """The service that deletes and restores conversations and messages."""
        return Deletions(
            tasks=self.tasks, open=self.open, forget=self.forget, on_deleted=self._on_deleted
        )

    def begin(
        self,
        conversation_id: ConversationId | None,
        prompt: str,
        *,
        seen_rev: int | None = None,
        tip_id: MessageId | None = None,
        new: NewConversation | None = None,
        seen_model: str | None = None,
    ) -> LiveTurn:
        """Store *prompt* and begin its reply; without *conversation_id*, in a new conversation with the choices in *new*.

        *seen_rev* is the revision that the page showed, *tip_id* the message that the prompt follows (by default the
        newest), *seen_model* the model that the page showed. Raise Stale if the conversation changed elsewhere, ModelGone
        if another model would answer. May raise Busy, OverBudget, PromptTooLong, BadInput, NewerVersion, NotFound,
        SpaceGone or StoreUnavailable.
        """
        prompt = checked_message(prompt)
        if conversation_id is None:
            new = new or NewConversation()
            space = self.store.spaces.find(new.space_id) if new.space_id else None
            if new.space_id and space is None:
                raise errors.SpaceGone
            new = replace(new, instructions=checked_instructions(new.instructions or ""))
            thread = self._new_thread(self._title(prompt), new, space)
            return self._begin(thread, (), prompt, is_first=True, seen_model=seen_model)
        seen = seen_rev, tip_id, seen_model
        try:
            return self._go_on(self.store.turns.known(conversation_id), prompt, *seen)
        except errors.Stale:
            # the cached thread may lack a reply that was just stored: try once with the stored thread
            if seen_rev is None:
                raise
            return self._go_on(self.store.conversations.thread(conversation_id), prompt, *seen)

    def retry(
        self,
        conversation_id: ConversationId,
        message_id: MessageId | None = None,
        *,
        model: str | None = None,
        policy: MemoryPolicy | None = None,
        seen_model: str | None = None,
    ) -> LiveTurn:
        """Begin another reply to the prompt of the reply *message_id*, or by default to the last prompt.

        *model* and *policy*, if given, apply to this reply alone; *seen_model* is the model that the page showed. Raise
        the errors of `begin`, and ModelGone also if *model* is not offered.
        """
        thread = _of_this_version(self.open(conversation_id))
        if message_id:
            thread = thread.up_to(message_id)
            if thread.tip_id != message_id:
                raise errors.NotFound
        branch = thread.branch()
        asked = next((said for said in branch[::-1] if said.role is Role.USER), None)
        if asked is None:
            raise errors.NotFound
        if not asked.is_verified:  # the prompt failed its integrity check: it has no text
            raise errors.Tampered
        past, own = branch[: branch.index(asked)], thread.conversation
        seen_model = model or seen_model
        if not (model or policy):
            return self._begin(thread, past, asked.body, asked.id, seen_model=seen_model)
        once = replace(own, model=model or own.model)
        # the stored start_seq was chosen by the stored policy, so another policy starts after the last context reset
        if policy:
            once = replace(once, policy=policy, start_seq=own.reset_seq)
        thread = replace(thread, conversation=once)
        return self._begin(
            thread, past, asked.body, asked.id, start_seq=own.start_seq, seen_model=seen_model
        )

    def edit_prompt(
        self,
        conversation_id: ConversationId,
        prompt_id: MessageId,
        text: str,
        *,
        seen_model: str | None = None,
    ) -> LiveTurn:
        """Begin the reply to *text*, a new version of a prompt; the old version is kept.

        *seen_model* is the model that the page showed. Raise the errors of `begin`, and Stale also if the prompt is gone.
        """
        text = checked_message(text)
        thread = self.open(conversation_id)
        thread = thread.before(_message(thread, prompt_id, Role.USER))
        return self._begin(thread, thread.branch(), text, seen_model=seen_model)

    def edit_reply(self, conversation_id: ConversationId, reply_id: MessageId, text: str) -> None:
        """Store *text* as another version of a reply. The model is not called, and nothing is charged.

        May raise BadInput, Busy, Stale, NotFound, Tampered or StoreUnavailable.
        """
        text = checked_message(text, "A reply cannot be empty.")
        thread = _of_this_version(self.open(conversation_id))
        reply = _message(thread, reply_id, Role.ASSISTANT)
        if self._live(conversation_id):
            raise errors.Busy
        self.store.messages.edit_reply(thread, reply, text)

    def continue_reply(
        self,
        conversation_id: ConversationId,
        part_id: MessageId,
        *,
        seen_model: str | None = None,
    ) -> LiveTurn:
        """Continue a reply that ended early; *part_id* is the last part of the reply.

        *seen_model* is the model that the page showed. Raise the errors of `begin`, and Stale also if a message follows
        the reply.
        """
        thread = self.open(conversation_id).up_to(part_id)
        tip = thread.tip
        if tip is None or tip.id != part_id or not tip.is_unfinished:
            raise errors.NotFound
        if any(message.parent_id == part_id for message in thread.messages):
            raise errors.Stale
        if not tip.is_verified:
            raise errors.Tampered
        return self._begin(thread, thread.branch(), None, part_id, seen_model=seen_model)

    def coming(self, purpose: Purpose = Purpose.REPLY) -> frozenset[ConversationId]:
        """Return the user's conversations for which this process runs a turn of *purpose*."""
        if purpose is Purpose.REPLY:
            return self.live_turns.coming(self.store.turns.user_id)
        return self.tasks.registry.coming(self.store.turns.user_id, purpose)

    def failure(self, conversation_id: ConversationId) -> errors.AppError | None:
        """Return the error of the last reply, if this process still remembers it."""
        turn = self.live_turns.find(self.store.turns.user_id, conversation_id)
        return turn.failure if turn else None

    def open(self, conversation_id: ConversationId) -> Thread:
        """Return the conversation, or its cached copy during an outage; first recover the partial reply of a crashed process."""
        return self._read(conversation_id)[0]

    def view(
        self,
        conversation_id: ConversationId,
        version: MessageId | None = None,
        *,
        begun: LiveTurn | None = None,
        is_cached: bool = False,
    ) -> ThreadView:
        """Return the view of a conversation for a page.

        The view shows one branch. While a reply streams, the branch ends at the prompt of that reply. Otherwise, it is the
        newest branch, or the newest that contains the message *version*, if given. *begun*: a turn that has just begun;
        its copy of the conversation is shown. With *is_cached*, show a cached copy, if there is one, without reading the
        database. Raise NotFound if the conversation does not exist.
        """
        turn: LiveTurn | RemoteTurn | None = begun
        # read the attribute only once, because the turn sets it to None when it ends
        begun_thread = begun.thread if begun else None
        if begun_thread:
            thread = begun_thread
        elif is_cached:
            thread = self.store.turns.known(conversation_id)
        else:
            thread, turn = self._read(conversation_id)
        if turn and turn.prompt_id:
            thread = thread.up_to(turn.prompt_id)
        elif version and not turn:
            thread = thread.through(version)
        failure = self.failure(conversation_id)
        return ThreadView(thread=thread, turn=turn, failure=failure, _tasks=self.tasks)

    def new_view(self, new: NewConversation) -> ThreadView:
        """Return the view of a new conversation with the choices in *new*."""
        thread = self._new_thread("", new, self._choices.space(new.space_id))
        return ThreadView(thread=thread, is_new=True, _tasks=self.tasks)

    def forget(self, conversation_id: ConversationId) -> None:
        """Drop a conversation's cached data; it is read from the store again when needed."""
        self._unanswered.forget(conversation_id)
        self._counting.forget(conversation_id)
        self._search.forget(conversation_id)

    # --- internal methods -----------------------------------------------------------------------

    def _read(self, conversation_id: ConversationId) -> tuple[Thread, LiveTurn | RemoteTurn | None]:
        """Return the thread as `open` does, and the live turn of the thread, if this or another process has one."""
        live = self._live(conversation_id)
        # prefetch the facts about the user, which the plan of the next turn needs
        if self._choices.reads_facts:
            self.store.facts.read_ahead()
        try:
            thread, left = self.store.turns.read(conversation_id)
            if live and live.is_done:  # the turn ended while the thread was read
                thread, left = self.store.turns.read(conversation_id)
        except errors.StoreUnavailable:
            if known := self.store.conversations.cached(conversation_id):
                return known, self._live(conversation_id)
            raise
        if live := self._live(conversation_id):
            return thread, live
        if left is None or self._unanswered.is_prompt(left.prompt_id):
            return thread, None
        if left.state.is_open:
            return thread, RemoteTurn(conversation_id, left, self.store.turns, self._sweep)
        try:
            prompt_id = left.prompt_id or thread.messages[-1].id
            self.store.turns.finish(left.interrupted(conversation_id, prompt_id))
        except (errors.Tampered, errors.StoreUnavailable):
            # if the conversation fails its integrity check or the disk is full, the partial reply cannot be stored
            return thread, None
        log_event("turn.adopted", turn=left.id)
        return self.store.conversations.thread(conversation_id), None

    def _go_on(
        self,
        thread: Thread,
        prompt: str,
        seen_rev: int | None,
        tip_id: MessageId | None,
        seen_model: str | None,
    ) -> LiveTurn:
        if seen_rev is not None and seen_rev not in _seen_revs(thread):
            raise errors.Stale
        tip = next((message for message in thread.messages if message.id == tip_id), None)
        if tip_id and tip is None:  # the message was deleted in another tab
            raise errors.Stale
        # include a reply to the tip, or a continuation of the tip, that was stored after the page was drawn
        if tip:
            is_awaited = tip.role is Role.USER or tip.is_unfinished
            thread = thread.through(tip.id) if is_awaited else thread.up_to(tip.id)
        return self._begin(thread, thread.branch(), prompt, seen_model=seen_model)

    def _new_thread(self, title: str, new: NewConversation, space: Space | None) -> Thread:
        """Return the empty thread of a new conversation in *space*, with the choices in *new*."""
        policy = self._choices.policy_of(new, space)
        conversation_id = ConversationId(self._new_id())
        return Thread.empty(conversation_id, title, policy, new, made_at=datetime.now(UTC))

    def _begin(
        self,
        thread: Thread,
        past: tuple[Message, ...],
        prompt: str | None,
        again: MessageId | None = None,
        *,
        start_seq: int | None = None,
        is_first: bool = False,
        seen_model: str | None = None,
    ) -> LiveTurn:
        """Begin a turn for *prompt*. *again* is the id of a prompt that is stored already, or of a reply to continue.

        *start_seq* (by default that of this turn's plan) is stored for the plans of later turns, which send the messages
        after it in full.
        """
        _of_this_version(thread)
        last = self.live_turns.find(self.store.turns.user_id, thread.conversation.id)
        if last and not last.is_done:
            raise errors.Busy
        setup, failure = self._choices.setup(thread), last and last.failure
        if seen_model and setup.offer.info.name != seen_model:
            raise errors.ModelGone
        kind = failure.failure if isinstance(failure, ModelUnavailable) else None
        # the last attempt used up the user's reply limit on thoughts alone, so this attempt ignores that limit
        if again and kind is ModelFailure.NO_ANSWER:
            setup = replace(setup, preferences=replace(setup.preferences, reply_tokens=None))
        plan, receipt = self._planning.turn(thread, setup, past, prompt)
        if start_seq is not None:
            plan = replace(plan, start_seq=start_seq)
        call = new_call(
            thread,
            setup.offer,
            plan,
            again or MessageId(uuid4()),
            None if again else prompt,
            self.store.turns.pace,
            receipt=receipt.to_json(),
            is_first=is_first,
            so_far=past[-1].body if prompt is None else "",
        )
        call = self._unanswered.find(call) or call
        with self._unanswered.kept_if_lost(call):
            turn = self._calls.begin(call)
        self.live_turns.run(
            turn,
            lambda said: self._calls.checkpoint(turn, said),
            lambda turn: self._reply(turn, call),
        )
        return turn

    def _reply(self, turn: LiveTurn, call: Call) -> None:
        """Produce the reply; after telling the followers that the turn is over, begin the background tasks."""
        due: list[Work] = []
        try:
            reported = self._calls.produce(turn, call)
            self._counting.note_end(turn, call, reported, self._choices.counter)
            # if the chat was deleted while the reply streamed, drop the data that storing the reply has cached
            if self.live_turns.find(turn.user_id, turn.conversation_id) is not turn:
                self.store.conversations.forget(turn.conversation_id)
                self.forget(turn.conversation_id)
            due = self.tasks.claim(turn, call)
        finally:
            turn.close(turn.failure)
        for work in due:
            in_thread(BACKGROUND_THREAD, work)

    def _live(self, conversation_id: ConversationId) -> LiveTurn | None:
        turn = self.live_turns.find(self.store.turns.user_id, conversation_id)
        return turn if turn and not turn.is_done else None


def _of_this_version(thread: Thread) -> Thread:
    """Return *thread*. Raise NewerVersion if a newer version of the app stored part of the thread."""
    if thread.is_newer:
        raise errors.NewerVersion
    return thread


def _message(thread: Thread, message_id: MessageId, role: Role) -> Message:
    """Return the message with this id and *role*. Raise Stale if it is gone."""
    for message in thread.messages:
        if (message.id, message.role) == (message_id, role):
            return message
    raise errors.Stale


def _seen_revs(thread: Thread) -> set[int]:
    """Return the revisions of *thread* that a change from a page may be based on.

    These are the current revision and, if the last change added a reply (or its continuation), the revision before: the
    page may not show the new reply yet.
    """
    rev, last = thread.conversation.rev, thread.messages[-2:]
    is_awaited = (
        len(last) == 2 and last[1].role is Role.ASSISTANT and last[1].parent_id == last[0].id
    )
    return {rev, rev - 1} if is_awaited else {rev}
