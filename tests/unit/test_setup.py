"""Setup of a turn: the conversation's choice, else its space's, else the user's, else the deployment's."""

from dataclasses import replace

import pytest

from services.chat.setup import Choices
from services.domain import NewConversation, Preferences
from services.domain.models import InstructionsSource
from services.llm import Models, Offer
from services.memory.tokens import RegexCounter
from tests.fakes import INFO, LARGE, MAYA, ScriptedModel
from tests.store.conformance.talk import a_fact, a_space, unsaid
from tests.stores import InMemoryDatabase

MODELS = Models(Offer(INFO, ScriptedModel()), (Offer(LARGE, ScriptedModel()),))
LONG = "Be kind. " * 700  # more than half of INFO's context, and little of LARGE's


def thread(model=None, instructions="", space_id=None):
    return unsaid(new=NewConversation(model=model, instructions=instructions, space_id=space_id))


def chosen(here=None, *, picked=None, deployment="D", space=None, **mine):
    store = InMemoryDatabase(MAYA).store()
    store.profile.change(lambda _: Preferences(**mine))
    if space:
        store.spaces.keep(space)
    choices = Choices(store=store, models=MODELS, counter=RegexCounter(), instructions=deployment)
    return choices.setup(here, NewConversation(model=picked))


@pytest.mark.parametrize(
    ("here", "mine", "name", "missing"),
    [
        (None, None, "scripted", None),
        (None, "large", "large", None),
        ("scripted", "large", "scripted", None),
        ("large", None, "large", None),
        ("gone", None, "scripted", "gone"),
        ("gone", "large", "large", "gone"),
        (None, "gone", "scripted", "gone"),
        ("large", "gone", "large", None),
        ("gone", "gone too", "scripted", "gone"),
    ],
)
def test_nearest_offered_model_answers(here, mine, name, missing):
    for setup in (chosen(thread(here), model=mine), chosen(picked=here, model=mine)):
        assert setup.offer.info.name == name
        assert setup.missing_model == missing


@pytest.mark.parametrize(
    ("here", "of_space", "mine", "source"),
    [
        ("H", "S", "M", InstructionsSource.CONVERSATION),
        ("", "S", "M", InstructionsSource.SPACE),
        ("", None, "M", InstructionsSource.PERSON),
        ("", None, None, InstructionsSource.DEPLOYMENT),
    ],
)
def test_nearest_instructions_are_used_with_their_source(here, of_space, mine, source):
    space = a_space(instructions=of_space)
    here_now = thread(instructions=here, space_id=space.id)
    setup = chosen(here_now, space=space, instructions=mine)

    assert setup.source is source
    assert setup.instructions == (here or of_space or mine or "D")


def test_users_instructions_take_at_most_half_the_context():
    assert chosen(thread(instructions=LONG)).is_too_long
    assert chosen(instructions=LONG).is_too_long
    assert not chosen(thread("large", LONG)).is_too_long
    assert not chosen(thread(instructions="Short"), instructions=LONG).is_too_long
    assert chosen(thread("large", LONG), context_tokens=2000, reply_tokens=400).is_too_long


def test_deployments_instructions_may_be_longer():
    assert not chosen(deployment=LONG).is_too_long


@pytest.mark.parametrize(
    ("mine", "reply", "context"),
    [
        ({}, INFO.reply_tokens, INFO.context_tokens),
        ({"reply_tokens": 100}, 100, INFO.context_tokens),
        ({"reply_tokens": 10**6}, INFO.reply_tokens, INFO.context_tokens),
        ({"context_tokens": 10**6}, INFO.reply_tokens, INFO.context_tokens),
        ({"context_tokens": 1}, INFO.reply_tokens, 512),
        ({"context_tokens": 600, "reply_tokens": 100}, 100, 600),
        ({"context_tokens": 600, "reply_tokens": 390}, 390, 780),
    ],
)
def test_users_limits_only_lower_the_models_limits(mine, reply, context):
    budget = chosen(**mine).budget
    assert (budget.reply_tokens, budget.context_tokens) == (reply, context)


def test_personal_facts_hold_only_in_spaces_using_them():
    garden, latin, personal = thread().conversation, a_space(), a_fact()
    inside = replace(garden, space_id=latin.id)
    unused = replace(latin, uses_personal_facts=False)
    unverified = replace(latin, is_verified=False)

    assert personal.holds_in(garden, None)
    assert personal.holds_in(inside, latin)
    assert not any(personal.holds_in(inside, space) for space in (unused, unverified, None))
    assert replace(personal, space_id=latin.id).holds_in(inside, None)
