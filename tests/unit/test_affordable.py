"""Models and policies that a budget can still pay for."""

from dataclasses import replace

import pytest

from services.chat.view import Need
from services.domain import Full, NewConversation, Usage, Window
from services.llm import Offer
from tests.fakes import INFO, FakePerson, ScriptedModel

CHEAP = replace(INFO, name="cheap", input_micro=100_000, output_micro=400_000)
CHEAPEST = replace(INFO, name="cheapest", input_micro=1_000, output_micro=4_000)
DEAR = replace(INFO, name="dear", input_micro=90_000_000)


@pytest.fixture
def chat(database):
    others = [Offer(info, ScriptedModel()) for info in (CHEAP, DEAR, CHEAPEST)]
    return FakePerson(database, ScriptedModel(), others=others).chat


@pytest.fixture
def thread(chat, database):
    said = [f"{who} {n} " + "word " * 25 for n in range(25) for who in ("prompt", "reply")]
    return chat.open(database.hold("Garden", *said, policy=Full()))


@pytest.fixture
def view(chat, thread):
    return chat.view(thread.conversation.id)


def test_affordable_models_and_policies_are_found(view):
    found = view.affordable("Next", 4_800)

    assert found.models == ("cheapest", "cheap")
    assert [policy.name for policy in found.policies] == [Window.name]


def test_without_a_prompt_the_last_prompt_is_planned(chat, thread, view):
    *_, before, asked, _ = thread.branch()
    amounts = range(1_460, 1_680, 20)

    again = [view.affordable("", left) for left in amounts]

    earlier = replace(view, thread=thread.up_to(before.id))
    assert again == [earlier.affordable(asked.body, left) for left in amounts]


def test_only_models_are_found_for_a_first_message(chat):
    found = chat.new_view(NewConversation()).affordable("word " * 1_000, 700)

    assert (found.models, found.policies) == (("cheapest", "cheap"), ())


def test_nothing_is_affordable_with_an_empty_budget(chat, view):
    fresh = chat.new_view(NewConversation())
    assert view.affordable("Next", 0) == fresh.affordable("Next", 0)
    assert view.affordable("Next", 0).models == ()


def test_next_turns_need_thrice_the_dearest_of_three_replies(chat, database):
    garden = database.hold("Garden", policy=Full())
    for cost in (90_000, 100, 5_000, 200):
        database.go_on(garden, "And then?", "So.", cost_micro=cost, usage=Usage(3_000, cost))

    assert chat.view(garden).need == Need(3 * 5_000, 3 * 8_000)


@pytest.mark.parametrize("is_new", [True, False])
def test_next_turns_need_the_most_that_one_costs(chat, view, is_new):
    plan = view.plan

    need = (chat.new_view(NewConversation()) if is_new else view).need

    most = INFO.cost_micro(Usage(plan.bound_tokens, INFO.reply_tokens))
    if is_new:
        assert INFO.cost_micro(Usage(0, INFO.reply_tokens)) < need.micro < most
    else:
        assert need == Need(most, plan.bound_tokens + INFO.reply_tokens)
