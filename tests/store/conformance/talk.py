"""Turns, facts, spaces and choices for tests, and their effects."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.domain import (
    Attachment,
    AttachmentId,
    ConversationId,
    Fact,
    FactId,
    MessageId,
    NewConversation,
    Outcome,
    Purpose,
    RunningSummary,
    Space,
    SpaceId,
    Thoughts,
    Thread,
    Usage,
    Window,
)
from services.domain.turns import ClientTurnId, Ending, NewTurn, Reservation, Settlement
from services.errors import OverBudget

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUMMARY = RunningSummary(text="They sow peas.", from_seq=1, up_to_seq=2, made_at=NOON)
THOUGHTS = Thoughts(text="Peas like it cold.", seconds=12, is_shortened=True)
LEASE_SECONDS = 30
UNDO_SECONDS = 20


def unsaid(title="Other", policy=None, new=None):
    """Return a conversation that will be stored with its first prompt."""
    return Thread.empty(ConversationId(uuid4()), title, policy or Window(), new, made_at=NOON)


def new_turn(thread, prompt, **changes):
    reserved = {
        "client_turn_id": ClientTurnId(uuid4()),
        "purpose": Purpose.REPLY,
        "model": "test-model",
        "prompt_micro": 100,
        "reply_micro": 1000,
        "least_reply_micro": 50,
        "prompt_tokens": 100,
        "reply_tokens": 1000,
        "least_reply_tokens": 50,
        "lease_seconds": LEASE_SECONDS,
    }
    reserved |= {name: changes.pop(name) for name in reserved.keys() & changes}
    fields = {
        "reservation": Reservation(**reserved),
        "thread": thread,
        "prompt_id": MessageId(uuid4()),
        "prompt": prompt,
        "start_seq": thread.conversation.start_seq,
        "is_first": thread.conversation.rev == 0,
    }
    return NewTurn(**(fields | changes))


def attached(user, turn, *pieces, name="leaf.png"):
    """Return *turn* with one more attachment, whose *pieces* are stored."""
    conversation_id, its = turn.thread.conversation.id, AttachmentId(uuid4())
    macs = [
        user.attachments.put_piece(conversation_id, turn.prompt_id, its, number, octets)
        for number, octets in enumerate(pieces, 1)
    ]
    size = sum(map(len, pieces))
    file = Attachment(id=its, name=name, type="image/png", size=size, macs=tuple(macs))
    return replace(turn, attachments=(*turn.attachments, file))


def first_turn(prompt, new=None, title="Garden", **changes):
    """Return the turn that begins a conversation."""
    return new_turn(unsaid(title, new=new), prompt, **changes)


def begun_with(user, title="Other", policy=None, new=None):
    """Return a stored conversation with one unanswered prompt."""
    turn = new_turn(unsaid(title, policy, new), "Hello")
    return answer(user, turn, "", outcome=Outcome.FAILED, cost_micro=0)


def ending(turn, begun, reply, **changes):
    settled = {"outcome": Outcome.COMPLETE, "usage": Usage(10, 20), "cost_micro": 300}
    settled |= {name: changes.pop(name) for name in settled.keys() & changes}
    fields = {
        "settlement": Settlement(begun.turn_id, **settled),
        "conversation_id": turn.thread.conversation.id,
        "prompt_id": turn.prompt_id,
        "reply_id": MessageId(uuid4()),
        "reply": reply,
    }
    return Ending(**(fields | changes))


def recovery(turn, begun, partial, **changes):
    """Return the ending of a lapsed turn, whose process died."""
    unknown = {"outcome": Outcome.INTERRUPTED, "usage": Usage(0, 0), "cost_micro": None}
    return ending(turn, begun, partial, **(unknown | changes))


def answer(user, turn, reply, **changes):
    """Return the thread after *turn* is begun and ended with *reply*."""
    begun = user.turns.begin(turn)
    user.turns.finish(ending(turn, begun, reply, **changes))
    return user.conversations.thread(turn.thread.conversation.id)


def say(user, thread, prompt, reply, **changes):
    return answer(user, new_turn(thread, prompt), reply, **changes)


def answer_again(user, thread, message, reply, **changes):
    """Return the thread after another reply to a prompt, or the continuation of a reply."""
    return answer(user, new_turn(thread, None, prompt_id=message.id), reply, **changes)


def crash(backend, user, thread, said="", thoughts=None, **changes):
    """Return a turn whose process died after it stored *said*, and the begun turn of the store."""
    turn = new_turn(thread, "Will this end?", **changes)
    begun = user.turns.begin(turn)
    if said or thoughts:
        here = thread.conversation.id
        user.turns.checkpoint(begun.turn_id, here, said, LEASE_SECONDS, thoughts)
    backend.let_pass(LEASE_SECONDS + 1)
    return turn, begun


def delete(user, thread, first, last=None, **changes):
    """Delete the messages of *thread* from number *first* to before number *last* (None: the end)."""
    options = {"facts": (), "seconds": UNDO_SECONDS, "drops_summary": False} | changes
    user.messages.discard(thread, thread.messages[first:last], **options)


def destroy(backend, user, conversation_id):
    """Delete a conversation and destroy it."""
    user.conversations.discard(conversation_id, UNDO_SECONDS)
    backend.let_pass(UNDO_SECONDS + 1)
    backend.sweep()


def left_micro(user):
    """Return the amount that the caps leave, from the refusal of a turn that is too expensive."""
    with pytest.raises(OverBudget) as refused:
        user.turns.begin(first_turn("How much?", prompt_micro=10**10))
    return refused.value.left


def whole(thread):
    """Return *thread*. Fail unless it is whole."""
    assert thread.is_whole
    return thread


def bodies(messages):
    return [message.body for message in messages]


def titles(conversations):
    return [conversation.title for conversation in conversations]


def texts(user):
    """Return the texts of the user's facts."""
    return [fact.text for fact in user.facts.facts()]


def a_fact(text="Has a dog called Rex.", **changes):
    return Fact(**({"id": FactId(uuid4()), "text": text, "since": NOON} | changes))


def a_space(name="Spanish", **changes):
    return Space(**({"id": SpaceId(uuid4()), "name": name, "created_at": NOON} | changes))


def stored_space(user, name="Spanish", **changes):
    space = a_space(name, **changes)
    user.spaces.keep(space)
    return space


def choose(user, **choices):
    """Change preferences of *user*."""
    user.profile.change(lambda now: replace(now, **choices))


def write_everywhere(user, canary):
    """Store *canary* in every text of a user; return a turn whose reply is streaming, and the begun turn of the store."""
    new = NewConversation(instructions=f"{canary} at first")
    thread = begun_with(user, f"{canary} words", new=new)
    its, thoughts = thread.conversation.id, Thoughts(text=f"{canary} thoughts")
    user.conversations.rename(its, f"{canary} title")
    user.conversations.set_instructions(its, f"{canary} instructions")
    summary = RunningSummary(text=f"{canary} summary", from_seq=1, up_to_seq=2, made_at=NOON)
    user.conversations.set_summary(thread, summary)
    user.facts.keep(a_fact(f"{canary} fact"))
    user.facts.keep(a_fact(f"{canary} other fact", conversation_id=its))
    user.spaces.keep(a_space(f"{canary} space", instructions=f"{canary} space"))
    choose(user, model=f"{canary}-model", instructions=f"{canary} everywhere")
    found = replace(thread.messages[0], body=f"{canary} search text")
    user.corpus.put_search_texts(user.corpus.conversations()[its], range(1, 2), [found])
    turn = new_turn(thread, f"{canary} prompt", receipt=f'"{canary} receipt"')
    turn = attached(user, turn, f"{canary} file".encode(), name=f"{canary}.txt")
    begun = user.turns.begin(turn)
    user.turns.checkpoint(begun.turn_id, its, f"{canary} partial", LEASE_SECONDS, thoughts)
    return turn, begun


def fill_chats(user, lapse):
    """Store what a user may have: of each table some rows. *lapse* lets the leases of open turns run out."""
    space = stored_space(user)
    user.spaces.keep(a_space("Gone"))
    user.profile.change(lambda now: replace(now, model="test-model"))
    garden = answer(user, first_turn("What grows here?"), "Trees.")
    turn = attached(user, new_turn(garden, "Look at this leaf."), b"leaf", b"stem" * 99)
    garden = answer(user, turn, "An oak.", thoughts=THOUGHTS)
    here = garden.conversation.id
    user.conversations.move(here, space.id)
    turn = new_turn(user.conversations.thread(here), "And this?", receipt='{"plan": "all"}')
    garden = answer(user, turn, "A lime.")
    garden = answer_again(user, garden, garden.messages[-2], "A linden.")
    garden = say(user, garden, "Gone?", "Soon.")
    user.conversations.set_summary(garden, SUMMARY)
    user.facts.keep(a_fact())
    user.facts.keep(a_fact("Grows peas.", space_id=space.id))
    garden = user.conversations.thread(here)
    delete(user, garden, -2)
    listed, some = user.corpus.conversations()[here], garden.messages[:4]
    user.corpus.put_search_texts(listed, range(1, 3), some[:2])
    user.corpus.put_search_texts(listed, range(3, 5), some[2:])
    other = begun_with(user, "Other")
    user.conversations.pin(other.conversation.id)
    user.conversations.archive(begun_with(user, "Old").conversation.id)
    user.conversations.discard(begun_with(user, "Discarded").conversation.id, 600)
    lapsed = new_turn(other, "Will this end?")
    begun = user.turns.begin(lapsed)
    user.turns.checkpoint(begun.turn_id, other.conversation.id, "It", 30, None)
    lapse()
    answer(user, first_turn("Cut", title="Cut"), "Of", outcome=Outcome.CUT)
