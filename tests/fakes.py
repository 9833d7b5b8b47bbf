"""In-memory stand-ins for the database and the model that keep the promises of the real ones."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.chat import (
    TEMPORARY_TITLE,
    BackgroundTasks,
    Chat,
    Elsewhere,
    LiveTurns,
    TemporaryChat,
)
from services.domain import (
    Account,
    AccountRole,
    ConversationId,
    Fact,
    FactId,
    Listed,
    Message,
    MessageId,
    Outcome,
    Preferences,
    Purpose,
    Role,
    SessionId,
    Space,
    SpaceId,
    Thoughts,
    Thread,
    TurnCost,
    TurnId,
    Usage,
    UserId,
    UserUsage,
    Window,
)
from services.domain.context import ContextMessage
from services.domain.limits import (
    checked_fact,
    checked_instructions,
    checked_space_name,
    checked_title,
)
from services.domain.models import ModelInfo
from services.errors import (
    AppError,
    Busy,
    Cap,
    ChangedElsewhere,
    ModelUnavailable,
    NotFound,
    OverBudget,
    SpaceGone,
    Stale,
    StoreUnavailable,
    Tampered,
    TooLate,
)
from services.llm import Models, Offer, Piece
from services.memory.tokens import RegexCounter
from services.store.in_memory import InMemoryRows
from services.store.port import Begun, Lease, OpenTurn, Store, TurnState
from services.store.rows import Reservation, Settlement
from services.store.sealed import sealed_store, throwaway_keys
from services.store.sealed.documents import check_seen

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MAYA = UserId(UUID(int=0xA))
INFO = ModelInfo(
    name="scripted",
    context_tokens=4096,
    reply_tokens=400,
    input_micro=1_000_000,
    output_micro=4_000_000,
    cached_input_micro=100_000,
)
LARGE = ModelInfo(
    name="large",
    context_tokens=400_000,
    reply_tokens=4_000,
    input_micro=1_250_000,
    output_micro=10_000_000,
    cached_input_micro=125_000,
)
DEVICE = SessionId(UUID(int=1))
COST = TurnCost("scripted", Usage(1200, 34, 800), 700)


@dataclass
class MemoryConversations:
    """One person's conversations; a turn is stored and reserved whole, or refused."""

    user_id: UserId = MAYA
    cap_micro: int = 1_000_000
    threads: dict[ConversationId, Thread] = field(default_factory=dict)
    discarded: dict[ConversationId, Thread] = field(default_factory=dict)
    deleted: dict[ConversationId, list[Message]] = field(default_factory=dict)
    failure: AppError | None = None  # what the database answers with, while it does
    spent_micro: int = 0
    cost: TurnCost = COST  # of every turn
    stopped: list[TurnId] = field(default_factory=list)  # by `stop_turn`
    _turns: dict[TurnId, OpenTurn] = field(default_factory=dict)
    _where: dict[TurnId, ConversationId] = field(default_factory=dict)
    _reserved: dict[TurnId, int] = field(default_factory=dict)
    _receipts: dict[TurnId, str] = field(default_factory=dict)
    _thoughts: dict[MessageId, Thoughts] = field(default_factory=dict)
    _known: dict[ConversationId, Thread] = field(default_factory=dict)
    spaces: dict[SpaceId, Space] = field(default_factory=dict)
    facts: dict[FactId, Fact] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _now: datetime = NOON

    def keep_fresh(self, seconds):
        self._answer()

    def recent(self, limit=30, *, is_archived=False, space_id=None):
        self._answer()
        every = [thread.conversation for thread in self.threads.values()]
        found = [
            one
            for one in every
            if one.is_archived is is_archived and space_id in (None, one.space_id)
        ]
        return sorted(found, key=_place_in_list, reverse=True)[:limit]

    def titled(self, words, limit=30, *, space_id=None):
        every = self.recent(1000, space_id=space_id)
        every += self.recent(1000, is_archived=True, space_id=space_id)
        wanted = words.casefold().split()
        return [one for one in every if all(word in one.title.casefold() for word in wanted)][
            :limit
        ]

    def some(self, ids):
        self._answer()
        return [self.threads[each].conversation for each in ids if each in self.threads]

    def cached(self, conversation_id):
        return self._known.get(conversation_id)

    def thread(self, conversation_id):
        self._answer()
        if conversation_id not in self.threads:
            self._known.pop(conversation_id, None)
            raise NotFound
        return self._remember(conversation_id)

    def create(self, title, policy, new=None):
        self._answer()
        conversation_id = ConversationId(uuid4())
        self.threads[conversation_id] = Thread.empty(
            conversation_id, title, policy, new, made_at=self._tick()
        )
        return self._remember(conversation_id)

    def rename(self, conversation_id, title):
        self._change(conversation_id, title=checked_title(title), is_titled=True)

    def give_title(self, conversation_id, title):
        if self.thread(conversation_id).conversation.is_titled:
            return False
        self._change(conversation_id, title=title, is_titled=True)
        return True

    def pin(self, conversation_id, *, is_pinned=True):
        self._change(conversation_id, pinned_at=self._tick() if is_pinned else None)

    def archive(self, conversation_id, *, is_archived=True):
        self._change(conversation_id, is_archived=is_archived, pinned_at=None)

    def mark_read(self, thread):
        self._change(thread.conversation.id, is_unread=False)

    def delete(self, conversation_id):
        self._answer()
        if self.threads.pop(conversation_id, None) is None:
            raise NotFound
        self._known.pop(conversation_id, None)

    def unmake(self, conversation_id):
        self.threads.pop(conversation_id, None)
        self._known.pop(conversation_id, None)

    def discard(self, conversation_id, seconds):
        self._answer()
        if conversation_id not in self.threads:
            raise NotFound
        self.discarded[conversation_id] = self.threads.pop(conversation_id)
        self._known.pop(conversation_id, None)

    def restore(self, conversation_id):
        self._answer()
        if conversation_id not in self.discarded:
            raise NotFound
        self.threads[conversation_id] = self.discarded.pop(conversation_id)

    def set_policy(self, conversation_id, policy):
        reset_seq = self.thread(conversation_id).conversation.reset_seq
        self._change(conversation_id, policy=policy, start_seq=reset_seq)

    def set_model(self, conversation_id, model):
        self._change(conversation_id, model=model)

    def move(self, conversation_id, space_id):
        if space_id and space_id not in self.spaces:
            raise SpaceGone
        self._change(conversation_id, space_id=space_id)

    def instructions(self, conversation_id):
        thread = self.thread(conversation_id)
        if not thread.are_instructions_verified:
            raise Tampered
        return thread.instructions

    def set_instructions(self, conversation_id, text, seen=None):
        checked, thread = checked_instructions(text), self.thread(conversation_id)
        check_seen(seen, thread.instructions, checked)
        self.threads[conversation_id] = replace(
            thread, instructions=checked, are_instructions_verified=True
        )

    def start_anew(self, thread):
        last_seq = thread.messages[-1].seq if thread.messages else 0
        self._change(thread.conversation.id, reset_seq=last_seq, start_seq=last_seq)

    def take_back_reset(self, thread):
        self._change(thread.conversation.id, reset_seq=0, start_seq=0)

    def set_summary(self, thread, summary):
        now = self.thread(thread.conversation.id)
        if (now.summary, now.conversation.cuts) != (thread.summary, thread.conversation.cuts):
            raise Stale
        self.threads[thread.conversation.id] = replace(now, summary=summary)

    def receipts(self, messages, conversation_id):
        self._answer()
        asked = {message.turn_id for message in messages}
        return {turn_id: text for turn_id, text in self._receipts.items() if turn_id in asked}

    def thoughts(self, messages, conversation_id):
        self._answer()
        return {one.id: self._thoughts[one.id] for one in messages if one.id in self._thoughts}

    def costs(self, messages):
        self._answer()
        return {message.turn_id: self.cost for message in messages if message.turn_id}

    def begin_turn(self, turn):
        self._answer()
        with self._lock:
            conversation = turn.thread.conversation
            stored = self.thread(conversation.id)
            if turn.purpose is Purpose.REPLY:
                if any(self._where.get(other) == conversation.id for other in self._reserved):
                    raise Busy
                if stored.conversation.rev != conversation.rev:
                    raise Stale
            wanted, least = turn.prompt_micro + turn.reply_micro, turn.prompt_micro
            left = self.cap_micro - self.spent_micro - sum(self._reserved.values())
            if least + turn.least_reply_micro > left:
                raise OverBudget(Cap.DAILY, least + turn.least_reply_micro, max(0, left))
            turn_id = TurnId(uuid4())
            self._reserved[turn_id] = min(wanted, left)
            if turn.purpose is not Purpose.REPLY:
                return Begun(turn_id, self._reserved[turn_id])
            self._where[turn_id] = conversation.id
            if turn.receipt:
                self._receipts[turn_id] = turn.receipt
            self._set_turn(turn_id, TurnState.RESERVED, turn.prompt_id)
            if turn.prompt is not None:
                parent = turn.thread.tip.id if turn.thread.tip else None
                self._append(stored, turn.prompt_id, Role.USER, turn.prompt, parent, turn_id)
            self._change(conversation.id, start_seq=turn.start_seq)
            return Begun(turn_id, self._reserved[turn_id])

    def checkpoint_turn(self, turn_id, conversation_id, said, lease_seconds, thoughts=None):
        self._answer()
        with self._lock:
            if turn_id not in self._reserved:
                return Lease.LAPSED
            if turn_id in self._where:
                self._set_turn(turn_id, TurnState.STREAMING, said=said, thoughts=thoughts)
            return Lease.HELD

    def stop_turn(self, turn_id):
        self._answer()
        self.stopped.append(turn_id)

    def finish_turn(self, ending):
        self._answer()
        with self._lock:
            left = self._turns.get(ending.turn_id)
            if self._reserved.pop(ending.turn_id, None) is None and not (
                left and left.state is TurnState.LAPSED
            ):
                return
            self._turns.pop(ending.turn_id, None)
            self.spent_micro += ending.cost_micro
            thread = self.threads.get(ending.conversation_id)
            if thread and ending.makes_message(thread):
                if ending.thoughts:
                    self._thoughts[ending.reply_id] = ending.thoughts
                self._append(
                    thread,
                    ending.reply_id,
                    Role.ASSISTANT,
                    ending.reply,
                    ending.prompt_id,
                    ending.turn_id,
                    ending.outcome,
                )

    def edit_reply(self, thread, reply, text):
        self._answer()
        stored = self.thread(thread.conversation.id)
        if stored.conversation.rev != thread.conversation.rev:
            raise Stale
        edited = MessageId(uuid4()), Role.ASSISTANT, text, reply.parent_id
        self._append(stored, *edited, outcome=Outcome.EDITED)
        self._change(thread.conversation.id, is_unread=False)

    def discard_messages(self, thread, doomed, facts, seconds, *, drops_summary):
        self._answer()
        with self._lock:
            conversation_id = thread.conversation.id
            stored = self.thread(conversation_id)
            if stored.conversation.rev != thread.conversation.rev:
                raise Stale
            ids = {message.id for message in doomed}
            kept = tuple(message for message in stored.messages if message.id not in ids)
            is_kept = not drops_summary and stored.summary == thread.summary
            summary = stored.summary if is_kept else None
            self.deleted.setdefault(conversation_id, []).extend(doomed)
            self._cut(
                replace(stored, summary=summary),
                kept,
                datetime.now(UTC) + timedelta(seconds=seconds),
            )
            for fact_id in facts:
                del self.facts[fact_id]

    def can_restore_messages(self, conversation_id):
        self._answer()
        return bool(self.deleted.get(conversation_id))

    def restore_messages(self, conversation_id):
        self._answer()
        with self._lock:
            stored = self.thread(conversation_id)
            back = self.deleted.pop(conversation_id, None)
            if not back:
                raise TooLate
            messages = sorted((*stored.messages, *back), key=lambda message: message.seq)
            self._cut(stored, tuple(messages), None)

    def _cut(self, thread, messages, undo_until):
        conversation = replace(
            thread.conversation, rev=thread.conversation.rev + 1, undo_until=undo_until
        )
        cut = replace(thread, conversation=conversation, messages=messages)
        self.threads[conversation.id] = cut
        self._known.pop(conversation.id, None)

    def open_turn(self, conversation_id):
        self._answer()
        found = [turn for turn in self._turns.values() if self._where[turn.id] == conversation_id]
        return found[-1] if found else None

    # --- what tests do behind the back of the app ----------------------------------------------

    def hold(self, title, *bodies, policy=None):
        """A conversation in which prompts and replies take turns."""
        conversation_id = self.create(title, policy or Window()).conversation.id
        for number, body in enumerate(bodies):
            thread = self.threads[conversation_id]
            role = Role.ASSISTANT if number % 2 else Role.USER
            parent = thread.messages[-1].id if thread.messages else None
            self._append(thread, MessageId(uuid4()), role, body, parent, TurnId(uuid4()))
        self._change(conversation_id, is_unread=False)
        return conversation_id

    def spoil(self, conversation_id, seq):
        """Have the message no longer verify, and the thread no longer be whole."""
        thread = self.threads[conversation_id]
        messages = tuple(
            replace(message, body="", is_verified=False) if message.seq == seq else message
            for message in thread.messages
        )
        self.threads[conversation_id] = replace(thread, messages=messages, is_whole=False)

    def end_last(self, conversation_id, outcome):
        """Have the last reply ended with *outcome*."""
        self._replace_last(conversation_id, outcome=outcome)

    def go_on_elsewhere(self, conversation_id, prompt):
        """Another process adds a prompt."""
        thread = self.threads[conversation_id]
        self._append(thread, MessageId(uuid4()), Role.USER, prompt, thread.messages[-1].id)

    def think(self, conversation_id, thoughts):
        """Give the last message *thoughts*."""
        last = self.threads[conversation_id].messages[-1]
        self._thoughts[last.id] = thoughts
        self._replace_last(conversation_id, has_thoughts=True)

    def leave_unfinished(self, conversation_id, said, thoughts=None):
        """A process died in the middle of a reply, and its lease has run out."""
        turn_id = TurnId(uuid4())
        self._where[turn_id] = conversation_id
        prompt_id = self.threads[conversation_id].messages[-1].id
        self._set_turn(turn_id, TurnState.LAPSED, prompt_id, said, thoughts)

    # --- inside ---------------------------------------------------------------------------------

    def _answer(self):
        if self.failure:
            raise self.failure

    def _tick(self):
        self._now += timedelta(seconds=1)
        return self._now

    def _remember(self, conversation_id):
        self._known[conversation_id] = self.threads[conversation_id]
        return self._known[conversation_id]

    def _change(self, conversation_id, **changes):
        self._answer()
        thread = self.threads.get(conversation_id)
        if thread is None:
            raise NotFound
        changed = replace(thread.conversation, **changes)
        self.threads[conversation_id] = replace(thread, conversation=changed)

    def _append(
        self, thread, message_id, role, body, parent_id, turn_id=None, outcome=Outcome.COMPLETE
    ):
        now, seq = self._tick(), thread.conversation.last_seq + 1
        message = Message(
            id=message_id,
            seq=seq,
            parent_id=parent_id,
            role=role,
            body=body,
            created_at=now,
            outcome=outcome,
            turn_id=turn_id,
            has_thoughts=message_id in self._thoughts,
        )
        conversation = replace(
            thread.conversation,
            rev=thread.conversation.rev + 1,
            last_seq=seq,
            updated_at=now,
            is_unread=role is Role.ASSISTANT,
        )
        self.threads[conversation.id] = replace(
            thread, conversation=conversation, messages=(*thread.messages, message)
        )

    def _replace_last(self, conversation_id, **changes):
        thread = self.threads[conversation_id]
        last = replace(thread.messages[-1], **changes)
        self.threads[conversation_id] = replace(thread, messages=(*thread.messages[:-1], last))

    def _set_turn(self, turn_id, state, prompt_id=None, said="", thoughts=None):
        before = self._turns.get(turn_id)
        self._turns[turn_id] = OpenTurn(
            turn_id,
            state,
            prompt_id or (before.prompt_id if before else None),
            datetime.now(UTC),
            datetime.now(UTC) + timedelta(seconds=10),
            said,
            thoughts or (before.thoughts if before else None),
        )


def _place_in_list(conversation):
    pinned_at = conversation.pinned_at
    return pinned_at.timestamp() if pinned_at else 0, conversation.updated_at


@dataclass
class FakeLedger:
    """Reserves and settles the turns of temporary chats."""

    user_id: UserId = MAYA
    failure: AppError | None = None
    begun: list[Reservation] = field(default_factory=list)
    prolonged: list[TurnId] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)

    def keep_fresh(self, seconds):
        self._answer()

    def begin_turn(self, reservation, prompt=None):
        self._answer()
        assert prompt is None, "nothing of a temporary chat is stored"
        self.begun.append(reservation)
        return Begun(TurnId(uuid4()), reservation.prompt_micro + reservation.reply_micro)

    def checkpoint_turn(self, turn_id, lease_seconds, partial=None, thoughts=None):
        self._answer()
        assert partial is thoughts is None
        self.prolonged.append(turn_id)
        return Lease.HELD

    def finish_turn(self, settlement, reply=None):
        self._answer()
        assert reply is None
        self.settled.append(settlement)

    def _answer(self):
        if self.failure:
            raise self.failure


@dataclass
class FakeTurns:
    """The turns of a fake store."""

    store: MemoryConversations

    @property
    def user_id(self):
        return self.store.user_id

    def __getattr__(self, name):
        names = {"begin": "begin_turn", "checkpoint": "checkpoint_turn", "finish": "finish_turn"}
        names |= {"stop": "stop_turn", "unfinished": "open_turn"}
        return getattr(self.store, names.get(name, name))


@dataclass
class FakeMessages:
    """The changes of messages of a fake store."""

    store: MemoryConversations

    def __getattr__(self, name):
        names = {"discard": "discard_messages", "restore": "restore_messages"}
        return getattr(
            self.store, names.get(name, "can_restore_messages" if name == "can_restore" else name)
        )


@dataclass
class ScriptedStream:
    """A reply piece by piece; `cancel` ends it."""

    pieces: tuple[Piece, ...]
    failure: ModelUnavailable | None
    gate: threading.Event
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def __iter__(self):
        for number, piece in enumerate(self.pieces):
            if number == len(self.pieces) // 2:
                self._wait()
            if self.is_cancelled.is_set():
                return
            yield piece
        if self.failure:
            raise self.failure

    def cancel(self):
        self.is_cancelled.set()
        self.gate.set()

    def _wait(self):
        if not self.gate.wait(30):
            raise AssertionError("nobody let the model go on")


@dataclass
class ScriptedModel:
    """Says *pieces*, pausing in the middle while *gate* is closed, and then fails if told to."""

    pieces: tuple[Piece, ...] = ("Prune ", "in March.")
    failure: ModelUnavailable | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    seen: list[Sequence[ContextMessage]] = field(default_factory=list)
    max_tokens: list[int] = field(default_factory=list)  # of each call

    def __post_init__(self):
        self.gate.set()

    def start(self, messages, *, max_tokens):
        self.seen.append(messages)
        self.max_tokens.append(max_tokens)
        return ScriptedStream(self.pieces, self.failure, self.gate)


@dataclass
class FakeUsage:
    """What admins read about everybody; counts how often it was asked."""

    rows: list[UserUsage]
    is_admin: bool
    asked: int = 0

    def by_person(self):
        self.asked += 1
        if not self.is_admin:
            raise NotFound
        return self.rows


@dataclass
class MemoryProfile:
    """What one person prefers."""

    known: Preferences = field(default_factory=Preferences)
    failure: AppError | None = None

    def preferences(self):
        return self.known

    def change(self, change, *, seen=None):
        if self.failure:
            raise self.failure
        chosen = change(self.known)
        checked = checked_instructions(chosen.instructions or "")
        check_seen(seen, self.known.instructions, checked)
        self.known = replace(chosen, instructions=checked, is_verified=True)


def choose(profile, **choices):
    """Change preferences of *profile*."""
    profile.change(lambda now: replace(now, **choices))


@dataclass
class MemorySpaces:
    """One person's spaces, of which *store* is told."""

    store: MemoryConversations
    failure: AppError | None = None

    def all(self):
        self._answer()
        return tuple(sorted(self.store.spaces.values(), key=lambda space: space.name.casefold()))

    def find(self, space_id):
        return next((space for space in self.all() if space.id == space_id), None)

    def keep(self, space, *, replaces=None):
        self._answer()
        instructions = checked_instructions(space.instructions or "")
        space = replace(space, name=checked_space_name(space.name), instructions=instructions)
        if self.store.spaces.get(space.id) != replaces:
            raise Stale
        self.store.spaces[space.id] = space

    def forget(self, space_id):
        self._answer()
        self.store.spaces.pop(space_id, None)
        for fact in [fact for fact in self.store.facts.values() if fact.space_id == space_id]:
            del self.store.facts[fact.id]
        for thread in list(self.store.threads.values()):
            if thread.conversation.space_id == space_id:
                self.store.move(thread.conversation.id, None)

    def _answer(self):
        if self.failure:
            raise self.failure


@dataclass
class MemoryFacts:
    """One person's facts, of every scope."""

    store: MemoryConversations
    failure: AppError | None = None

    @property
    def kept(self):
        return self.store.facts

    def facts(self):
        self._answer()
        return tuple(sorted(self.kept.values(), key=lambda fact: fact.since))

    fresh_facts = facts

    def keep(self, fact, *, replaces=None, cuts=None):
        self._answer()
        fact = replace(fact, text=checked_fact(fact.text))
        if cuts is not None:
            source = self.store.threads.get(fact.source_conversation_id)
            if source is None or source.conversation.cuts != cuts:
                raise NotFound
        if fact.space_id and fact.space_id not in self.store.spaces:
            raise NotFound
        if fact.conversation_id and fact.conversation_id not in self.store.threads:
            raise NotFound
        if replaces and self.kept.get(replaces.id) not in (replaces, fact):
            raise ChangedElsewhere
        self.kept[fact.id] = fact

    def forget(self, fact_id):
        self._answer()
        self.kept.pop(fact_id, None)

    def forget_all(self):
        self._answer()
        self.kept.clear()

    def _answer(self):
        if self.failure:
            raise self.failure


@dataclass
class MemoryCorpus:
    """All conversations of a fake store, as slow or as far away as a test wants."""

    store: MemoryConversations
    failures: int = 0
    may_read: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.may_read.set()

    def conversations(self):
        return {
            its: Listed(
                thread.conversation.last_seq, thread.conversation.space_id, thread.conversation.cuts
            )
            for its, thread in self.store.threads.items()
        }

    def messages(self, wanted):
        assert self.may_read.wait(20)
        for its, seqs in wanted.items():
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable
            yield {its: [one for one in self.store.threads[its].messages if one.seq in seqs]}

    def some(self, ids):
        asked = set(ids)
        return {
            one.id: (its, one)
            for its, thread in self.store.threads.items()
            for one in thread.messages
            if one.id in asked
        }


class OldFakePerson:
    """What the pages get for who is signed in: the real chat over fakes."""

    def __init__(
        self,
        conversations,
        model,
        role=AccountRole.USER,
        email="maya@daybook.test",
        live_turns=None,
        purposes=(Purpose.SUMMARY, Purpose.FACTS),
        others=(),
    ):
        self.conversations, self.model = conversations, model
        self.email, self.role = email, role
        self.profile = MemoryProfile()
        self.spaces, self.memories = MemorySpaces(conversations), MemoryFacts(conversations)
        self.store = Store(
            conversations=conversations,
            messages=FakeMessages(conversations),
            turns=FakeTurns(conversations),
            facts=self.memories,
            spaces=self.spaces,
            profile=self.profile,
            corpus=MemoryCorpus(conversations),
        )
        self.ledger = FakeLedger(conversations.user_id)
        self.temporary = []
        self.usage = FakeUsage([a_person("jonas@daybook.test")], role is AccountRole.ADMIN)
        self.chat = Chat(
            store=self.store,
            live_turns=live_turns or LiveTurns(),
            models=Models(Offer(INFO, model), others),
            counter=RegexCounter(),
            instructions="Be kind.",
            sweep=lambda: None,
            background=BackgroundTasks(*purposes),
            elsewhere=Elsewhere(self.store.corpus),
        )

    def begin_temporary(self, *, reads_facts, is_there, in_place_of=None):
        rows = InMemoryRows(self.ledger)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id), lambda: chat_id),
            facts=self.memories,
            spaces=self.spaces,
            profile=self.profile,
        )
        chat = Chat(
            store=store,
            live_turns=LiveTurns(),
            models=self.chat.models,
            counter=RegexCounter(),
            instructions=self.chat.instructions,
            sweep=lambda: None,
            background=BackgroundTasks(Purpose.SUMMARY),
            reads_facts=reads_facts,
            title=lambda _: TEMPORARY_TITLE,
        )
        self.temporary.append(
            TemporaryChat(
                id=chat_id,
                owner=SessionId(UUID(int=1)),
                store=store,
                rows=rows,
                is_there=is_there,
                _chat=chat,
            )
        )
        return self.temporary[-1]

    @property
    def is_admin(self):
        return self.account.role is AccountRole.ADMIN

    @property
    def account(self):
        return Account(
            user_id=self.conversations.user_id,
            email=self.email,
            role=self.role,
            daily_cap_micro=self.conversations.cap_micro,
            monthly_cap_micro=10_000_000,
            spent_today_micro=self.conversations.spent_micro,
            spent_this_month_micro=self.conversations.spent_micro,
            reserved_micro=0,
        )


class FakePerson:
    """What the pages get for a signed-in user: the real chat over rows in memory, and a scripted model."""

    def __init__(
        self,
        database,
        model,
        role=AccountRole.USER,
        email="maya@daybook.test",
        purposes=(Purpose.SUMMARY, Purpose.FACTS),
        others=(),
    ):
        self.database, self.model = database, model
        self.email, self.role = email, role
        self.store = database.store()
        self.temporary = []
        self.usage = FakeUsage([a_person("jonas@daybook.test")], role is AccountRole.ADMIN)
        self._models = Models(Offer(INFO, model), others)
        self.chat = self._chat_over(self.store, purposes, elsewhere=Elsewhere(self.store.corpus))

    def _chat_over(self, store, purposes, **choices):
        return Chat(
            store=store,
            live_turns=LiveTurns(),
            models=self._models,
            counter=RegexCounter(),
            instructions="Be kind.",
            sweep=self.database.sweep,
            background=BackgroundTasks(*purposes),
            **choices,
        )

    def begin_temporary(
        self, *, reads_facts=False, is_there=lambda: True, owner=DEVICE, in_place_of=None
    ):
        rows = InMemoryRows(self.database.rows)
        chat_id = in_place_of.id if in_place_of else ConversationId(uuid4())
        store = replace(
            sealed_store(rows, throwaway_keys(rows.user_id), lambda: chat_id),
            facts=self.store.facts,
            spaces=self.store.spaces,
            profile=self.store.profile,
        )
        chat = self._chat_over(
            store, (Purpose.SUMMARY,), reads_facts=reads_facts, title=lambda _: TEMPORARY_TITLE
        )
        self.temporary.append(
            TemporaryChat(
                id=chat_id, owner=owner, store=store, rows=rows, is_there=is_there, _chat=chat
            )
        )
        return self.temporary[-1]

    @property
    def is_admin(self):
        return self.account.role is AccountRole.ADMIN

    @property
    def account(self):
        ledger = self.database.ledger
        return Account(
            user_id=ledger.user_id,
            email=self.email,
            role=self.role,
            daily_cap_micro=ledger.daily_micro,
            monthly_cap_micro=ledger.monthly_micro,
            spent_today_micro=ledger.spent_today,
            spent_this_month_micro=ledger.spent_this_month,
            reserved_micro=0,
        )


def a_person(email):
    """Somebody's usage, for the admin's table."""
    return UserUsage(
        user_id=UserId(uuid4()),
        email=email,
        role=AccountRole.USER,
        is_suspended=False,
        last_active_at=NOON,
        turns_today=3,
        tokens_in_today=300,
        tokens_out_today=120,
        cost_today_micro=780,
        turns_this_month=40,
        tokens_in_this_month=4_000,
        tokens_out_this_month=1_600,
        cost_this_month_micro=10_400,
        daily_cap_micro=1_000_000,
        monthly_cap_micro=10_000_000,
    )
