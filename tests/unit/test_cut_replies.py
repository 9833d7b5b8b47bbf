"""Replies cut off at their length limit, and continuations of replies that ended early."""

from dataclasses import replace

import pytest

from services.domain import Outcome, Retrieval, Role
from services.domain.model_failures import ModelFailure
from services.errors import BadInput, NotFound, Stale
from services.llm import LimitReached, Offer, Thought
from services.memory.continuing import REQUEST, spaced
from tests.chats import ask, done
from tests.fakes import INFO, FakePerson, ScriptedModel
from tests.stack.apps import until


@pytest.fixture
def model():
    return ScriptedModel(("Prune ", "in Ma", LimitReached()))


@pytest.mark.parametrize("pieces", [(LimitReached(),), ("\n", LimitReached())])
def test_retry_after_thoughts_alone_may_use_the_models_limit(maya, model, pieces):
    maya.store.profile.change(lambda now: replace(now, reply_tokens=100))
    model.pieces = pieces
    turn, _ = ask(maya.chat)
    assert turn.failure.failure is ModelFailure.NO_ANSWER

    done(maya.chat.retry(turn.conversation_id))

    assert model.max_tokens == [100, INFO.reply_tokens]


# --- continuations ---------------------------------------------------------------------------------


@pytest.fixture
def garden(maya):
    """A conversation whose last reply was cut off after "Prune in Ma"; the continuation is "rch."."""
    turn, _ = ask(maya.chat)
    maya.model.pieces = ("rch.",)
    return turn.conversation_id


def tip_of(chat, conversation_id):
    return chat.open(conversation_id).tip.id


def go_on(chat, conversation_id):
    """Continue the last reply; return the thread afterwards."""
    done(chat.continue_reply(conversation_id, tip_of(chat, conversation_id)))
    return chat.open(conversation_id)


def sent(model):
    """Return the messages of the last request, without the instructions."""
    return [(message.role, message.body) for message in model.seen[-1][1:]]


def test_reply_and_its_continuation_are_one_message(maya, garden):
    prompt, first = maya.chat.open(garden).messages

    thread = go_on(maya.chat, garden)

    _, reply = thread.branch()
    assert (reply.body, reply.outcome) == ("Prune in Ma rch.", Outcome.COMPLETE)
    assert (reply.id, reply.seq, reply.turn_id) == (first.id, first.seq, first.turn_id)
    assert [part.parent_id for part in reply.stored] == [prompt.id, first.id]


def test_model_is_asked_to_continue_after_the_partial_reply(maya, model, garden):
    go_on(maya.chat, garden)

    assert sent(model) == [
        (Role.USER, "When?"),
        (Role.ASSISTANT, "Prune in Ma"),
        (Role.USER, REQUEST),
    ]


def test_prefix_endpoint_is_sent_only_the_partial_reply(maya, model, garden):
    maya = FakePerson(maya.database, model, first=Offer(INFO, model, takes_prefix=True))

    thread = go_on(maya.chat, garden)

    assert sent(model) == [(Role.USER, "When?"), (Role.ASSISTANT, "Prune in Ma")]
    assert thread.branch()[-1].body == "Prune in March."


@pytest.mark.parametrize(
    ("so_far", "piece", "expected"),
    [
        ("Prune in", "March", " March"),
        ("Prune in ", "March", "March"),
        ("Prune in", " March", " March"),
        ("Prune in March", ".", "."),
        ("Prune (", "in March)", "in March)"),
        ("\u526a", "\u679d", "\u679d"),
        ("", "March", "March"),
    ],
)
def test_continuation_does_not_run_into_the_word_before_it(so_far, piece, expected):
    assert spaced(so_far, piece) == expected


@pytest.mark.parametrize(
    ("stored", "pieces", "whole"),
    [
        ("Sow: ", (" Peas",), "Sow: Peas"),
        ("Sow: ", ("Peas",), "Sow: Peas"),
        ("Sow:\n", ("\n", "    Peas"), "Sow:\n    Peas"),
        ("Sow:\n    ", ("\n", "    Peas\n"), "Sow:\n    Peas\n"),
        ("Sow: \n\n", ("\n\n", "Peas"), "Sow: \n\nPeas"),
        ("Sow:\n", (Thought("So"), "\n\n", "Peas", " \n", "Beans"), "Sow:\n\nPeas \nBeans"),
        ("Sow pe", (" ", "as"), "Sow pe as"),
    ],
)
def test_prefix_is_sent_without_the_white_space_at_its_end(maya, model, stored, pieces, whole):
    model.pieces = (stored, LimitReached())
    maya = FakePerson(maya.database, model, first=Offer(INFO, model, takes_prefix=True))
    turn, _ = ask(maya.chat)
    model.pieces = pieces

    thread = go_on(maya.chat, turn.conversation_id)

    assert sent(model) == [(Role.USER, "When?"), (Role.ASSISTANT, stored.rstrip())]
    assert (thread.messages[1].body, thread.branch()[-1].body) == (stored, whole)


def test_continuation_that_ends_early_can_go_on(maya, model, garden):
    model.pieces = ("rch, ", "and", LimitReached())
    assert go_on(maya.chat, garden).branch()[-1].outcome is Outcome.CUT
    model.pieces = (" in May.",)

    thread = go_on(maya.chat, garden)

    assert [said.body for said in thread.branch()] == ["When?", "Prune in Ma rch, and in May."]
    assert [part.id for part in thread.branch()[-1].stored] == [m.id for m in thread.messages[1:]]
    assert [said.parent_id for said in thread.messages[1:]] == [m.id for m in thread.messages[:-1]]


def test_next_prompt_follows_the_whole_continued_reply(maya, model, garden):
    last = go_on(maya.chat, garden).messages[-1]

    done(maya.chat.begin(garden, "And roses?"))

    assert maya.chat.open(garden).messages[-2].parent_id == last.id
    assert sent(model)[1:] == [(Role.ASSISTANT, "Prune in Ma rch."), (Role.USER, "And roses?")]


def test_continued_reply_is_regenerated_from_its_prompt(maya, model, garden):
    reply = go_on(maya.chat, garden).branch()[-1]

    done(maya.chat.retry(garden, reply.id))

    thread = maya.chat.open(garden)
    assert sent(model) == [(Role.USER, "When?")]
    assert [one.id for one in thread.versions(reply)] == [reply.id, thread.tip.id]
    assert thread.through(reply.id).branch()[-1].body == "Prune in Ma rch."


def test_only_the_tip_of_an_unfinished_reply_continues(maya, garden):
    part_id = tip_of(maya.chat, garden)
    go_on(maya.chat, garden)

    with pytest.raises(Stale):  # another tab has continued the reply
        maya.chat.continue_reply(garden, part_id)
    with pytest.raises(NotFound):  # the reply is complete
        maya.chat.continue_reply(garden, tip_of(maya.chat, garden))


def test_reply_outside_the_context_is_not_continued(maya, model, garden):
    maya.store.conversations.start_anew(maya.chat.open(garden))
    asked = len(model.seen)

    with pytest.raises(BadInput):
        go_on(maya.chat, garden)
    assert len(model.seen) == asked


def test_prompt_sent_while_a_continuation_comes_is_accepted(maya, garden):
    before = maya.chat.open(garden)
    go_on(maya.chat, garden)

    prompt = "And roses?"
    seen_rev, tip_id = before.conversation.rev, before.tip.id
    done(maya.chat.begin(garden, prompt, seen_rev=seen_rev, tip_id=tip_id))

    bodies = [said.body for said in maya.chat.open(garden).branch()]
    assert bodies[:3] == ["When?", "Prune in Ma rch.", prompt]


def test_continuation_of_a_crashed_process_joins_the_reply(maya, garden):
    maya.database.crash(garden, "rch, or")

    reply = maya.chat.open(garden).branch()[-1]

    assert (reply.body, reply.outcome) == ("Prune in March, or", Outcome.INTERRUPTED)


@pytest.mark.parametrize("prompt", ["Where do kestrels nest?", "And buzzards?"])
def test_word_of_a_continuation_recalls_the_whole_reply_once(maya, model, prompt):
    said = "Birds?", "Kestrels nest in"
    birds = maya.database.hold("Birds", *said, policy=Retrieval(), outcome=Outcome.CUT)
    model.pieces = ("towers, kestrels and buzzards.",)
    thread = go_on(maya.chat, birds)

    found = maya.search.ranked(thread, thread.branch(), prompt)
    everywhere = maya.search.ranked(thread, thread.branch(), prompt, is_elsewhere=True)

    whole = "Kestrels nest in towers, kestrels and buzzards."
    for ranked in (found, everywhere):
        replies = [one for one in ranked if one.message.role is Role.ASSISTANT]
        assert [(one.message.body, bool(one.matched)) for one in replies] == [(whole, True)]


def test_facts_are_noted_from_a_continued_replys_prompt(maya, model):
    maya.store.profile.change(lambda now: replace(now, keeps_facts=True))
    garden = maya.database.hold("Garden", "I have a dog.", "A", outcome=Outcome.STOPPED)
    model.pieces = ('{"add": ["Has a dog."], "replace": []}',)

    thread = go_on(maya.chat, garden)

    until(lambda: maya.store.facts.facts())
    assert [fact.source_id for fact in maya.store.facts.facts()] == [thread.messages[0].id]


def test_older_version_of_a_continued_reply_is_not_recalled(maya, model, garden):
    model.pieces = ("rch, as kestrels nest.",)
    reply = go_on(maya.chat, garden).branch()[-1]
    model.pieces = ("In May.",)
    done(maya.chat.retry(garden, reply.id))
    other = maya.chat.open(maya.database.hold("Other"))

    recalled = maya.search.ranked(other, (), "Where do kestrels nest?", is_elsewhere=True)

    assert [one.message.body for one in recalled if "kestrels" in one.message.body] == []
