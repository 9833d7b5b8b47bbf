"""How often those who follow a reply are told what it says."""

from uuid import uuid4

import pytest

from services.chat import live_turn
from services.chat.live_turn import LiveTurn
from services.domain import ConversationId, MessageId, TurnId, UserId


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that followers have waited before they said more, without waiting for them."""
    waited = []
    monkeypatch.setattr(live_turn.time, "sleep", waited.append)
    monkeypatch.setattr(live_turn.time, "monotonic", lambda: 1000.0)
    return waited


def saying(text):
    turn = LiveTurn(UserId(uuid4()), ConversationId(uuid4()), TurnId(uuid4()), MessageId(uuid4()))
    turn.push(text)
    return turn


def second_step(turn):
    said = turn.follow()
    next(said)
    turn.push(".")
    next(said)
    return said


def test_the_first_words_wait_for_nothing_and_a_few_more_hardly(pauses):
    second_step(saying("Hello"))

    assert pauses[0] == 0
    assert 0 < pauses[1] <= 0.01


def test_a_long_reply_is_drawn_in_fewer_steps(pauses):
    second_step(saying("word " * 10_000))

    assert 0.05 < pauses[-1] < 0.2


def test_many_readers_share_what_the_server_can_draw(pauses):
    readers = [second_step(saying("Hello")) for _ in range(50)]
    with_others = pauses[-1]
    for reader in readers:
        reader.close()
    second_step(saying("Hello"))

    assert 0.1 <= with_others <= 0.2, "fifty people within 0.3 s, the way to them included"
    assert pauses[-1] <= 0.01, "who left is no longer counted"
