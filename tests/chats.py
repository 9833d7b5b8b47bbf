"""Chats with a model behind an address, over any store."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from services.chat.live_turn import LiveTurn
from services.domain import Purpose
from services.domain.turns import StopCause
from services.llm import Models, Offer
from tests.fakes import INFO, chat_over
from tests.stack.apps import SECONDS, until

SMALL = replace(INFO, context_tokens=1200, reply_tokens=200)
LONG = "peas and beans and leeks " * 12  # some 90 tokens
BACKGROUND = Purpose.TITLE, Purpose.SUMMARY, Purpose.FACTS


@contextmanager
def chat_factory(model):
    """Yield a function that makes chats; in the end, stop their background tasks."""
    made = []

    def make(store, sweep, *, info=INFO, others=(), **choices):
        offers = tuple(Offer(other, model.named(other.name)) for other in others)
        chat = chat_over(store, Models(Offer(info, model), offers), sweep, **choices)
        made.append(chat)
        return chat

    yield make
    for chat in made:
        stop = partial(chat.live_turns.stop, StopCause.USER)
        until(lambda chat=chat, stop=stop: stop() or not any(map(chat.coming, BACKGROUND)))


def done(turn):
    """Wait for the end of *turn*, and return it."""
    assert turn.wait(SECONDS)
    return turn


def ask(chat, prompt="When?", conversation_id=None):
    """Send *prompt*; return the turn after its end, and its thread."""
    turn = done(chat.begin(conversation_id, prompt))
    return turn, chat.open(turn.conversation_id)


def settled(chat, turn):
    """Return the thread of *turn*, or of a conversation, once its background tasks have ended."""
    its = done(turn).conversation_id if isinstance(turn, LiveTurn) else turn
    until(lambda: not any(its in chat.coming(purpose) for purpose in BACKGROUND))
    return chat.store.conversations.thread(its)


def said(thread):
    """Return the texts of the branch that is read."""
    return [message.body for message in thread.branch()]


def receipt_of(chat, thread):
    """Return the receipt of the last message."""
    found = chat.view(thread.conversation.id).receipt(thread.messages[-1])
    assert found
    return found


def view(chat, thread):
    """Return the plan of the next turn."""
    return chat.view(thread.conversation.id, thread.tip_id).plan
