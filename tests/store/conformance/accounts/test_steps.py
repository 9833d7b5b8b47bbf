"""Steps: what is half done goes on in its browser and session, for ten minutes and five tries, and ends once."""

from functools import partial
from uuid import uuid4

import pytest

from services.crypto import new_key
from services.errors import StepEnded, TooManyAttempts
from services.store.accounts import Cookie
from services.store.backend import Throttle
from services.store.steps import Step, Steps
from tests.store.conformance.accounts.deployments import at_once

KIND, MINUTE = "reset", 60  # seconds


@pytest.fixture
def steps(deployment):
    return Steps(deployment.accounts.backend, deployment.accounts.root_keys)


@pytest.fixture
def browser():
    return Cookie.new()


@pytest.fixture
def begin(steps, browser):
    """Begin a step in the browser."""

    def begin(kind=KIND, browser=browser, **options):
        return steps.begin(browser, kind, "12345678", (), **options)

    return begin


def is_open(steps, browser, step, session=None):
    """Return whether a step goes on; its try is counted."""
    try:
        return steps.attempt(browser, step.kind, step.id, session) == step
    except StepEnded:
        return False


def refused(call, *arguments):
    with pytest.raises(StepEnded):
        call(*arguments)


def test_step_goes_on_in_another_process_and_ends_once(deployment, steps, browser, begin):
    step = begin()
    process = deployment.process()
    other = Steps(process.backend, process.root_keys)

    assert other.attempt(browser, KIND, step.id, None) == step
    assert steps.end(browser, KIND, step.id, None) == step

    assert step.contents == "12345678"
    for call in (steps.end, other.end, other.attempt):
        refused(call, browser, KIND, step.id, None)


def test_step_ends_for_one_of_several_at_once(steps, browser, begin):
    step = begin()

    answers = at_once(*[partial(steps.end, browser, KIND, step.id, None)] * 4)

    assert [one for one in answers if isinstance(one, Step)] == [step]
    assert sum(isinstance(one, StepEnded) for one in answers) == 3


def test_sixth_try_ends_a_step(steps, browser, begin):
    step, other = begin(), begin()
    for _ in range(5):
        assert is_open(steps, browser, step)

    refused(steps.attempt, browser, KIND, step.id, None)

    refused(steps.end, browser, KIND, step.id, None)
    assert is_open(steps, browser, other)


def test_tries_at_once_are_all_counted(steps, browser, begin):
    step = begin()

    answers = at_once(*[partial(is_open, steps, browser, step)] * 8)

    assert sorted(answers) == [False] * 3 + [True] * 5


def test_step_does_not_go_on_in_another_browser(steps, browser, begin):
    step = begin()
    for _ in range(6):
        refused(steps.attempt, Cookie.new(), KIND, step.id, None)
        refused(steps.attempt, browser, KIND, uuid4(), None)
    refused(steps.end, Cookie.new(), KIND, step.id, None)

    assert all(is_open(steps, browser, step) for _ in range(5))  # no try was counted


def test_step_goes_on_as_its_kind_alone(steps, browser, begin):
    step = begin()

    refused(steps.attempt, browser, "sign-in", step.id, None)
    refused(steps.end, browser, "sign-in", step.id, None)


def test_step_goes_on_in_its_session_alone(steps, browser, begin, maya, omar):
    theirs, step = begin(session=maya.session), begin()
    assert is_open(steps, browser, theirs, maya.session)

    for session in (omar.session, maya.sign_in().session, None):
        refused(steps.attempt, browser, KIND, theirs.id, session)
    refused(steps.attempt, browser, KIND, step.id, maya.session)

    assert (theirs.session_id, theirs.user_id) == (maya.session.id, maya.id)


def test_step_expires_after_ten_minutes_and_is_swept(deployment, steps, browser, begin):
    step = begin()
    row_key = deployment.accounts.root_keys.step_keys(browser.secret).row_key(step.id)
    deployment.let_pass(9 * MINUTE)
    assert is_open(steps, browser, step)
    deployment.sweep()
    assert row_key in deployment.stored_text()

    deployment.let_pass(MINUTE + 1)

    refused(steps.attempt, browser, KIND, step.id, None)
    refused(steps.end, browser, KIND, step.id, None)
    deployment.sweep()
    assert row_key not in deployment.stored_text()


def test_fifth_step_of_a_kind_in_a_browser_ends_the_oldest(steps, browser, begin):
    elsewhere, other_kind = Cookie.new(), begin("sign-in")
    in_another = begin(browser=elsewhere)
    begun = [begin() for _ in range(4)]
    assert all(is_open(steps, browser, step) for step in begun)

    begun.append(begin())

    assert [is_open(steps, browser, step) for step in begun] == [False] + [True] * 4
    assert is_open(steps, browser, other_kind)
    assert is_open(steps, elsewhere, in_another)


def test_step_begun_anew_takes_its_own_place(steps, browser, begin):
    begun = [begin() for _ in range(4)]
    step = begun[1]
    for _ in range(5):
        assert is_open(steps, browser, step)

    anew = steps.begin(browser, KIND, "87654321", (), step_id=step.id)

    assert steps.attempt(browser, KIND, step.id, None) == anew
    assert [is_open(steps, browser, one) for one in (begun[0], anew, *begun[2:])] == [True] * 4
    for _ in range(3):
        assert is_open(steps, browser, anew)
    refused(steps.attempt, browser, KIND, anew.id, None)


def test_four_of_the_steps_that_begin_at_once_stay(steps, browser, begin):
    begun = at_once(*[begin] * 6)

    assert sum(is_open(steps, browser, step) for step in begun) == 4


def test_step_is_counted_before_it_is_stored(deployment, steps, browser):
    throttle = Throttle(new_key().hex(), 1, MINUTE)
    first = steps.begin(browser, KIND, "", [throttle])
    elsewhere = Cookie.new()

    with pytest.raises(TooManyAttempts):
        steps.begin(elsewhere, KIND, "", [throttle])

    tags = [
        deployment.accounts.root_keys.step_keys(one.secret).kind_tag(KIND)
        for one in (browser, elsewhere)
    ]
    assert [tag in deployment.stored_text() for tag in tags] == [True, False]
    assert is_open(steps, browser, first)


def test_row_of_a_step_says_nothing(deployment, browser, begin, maya):
    step = begin("a-rare-kind", session=maya.session)

    stored = deployment.stored_text()

    for text in (str(step.id), step.contents, "a-rare-kind", str(browser), browser.hash):
        assert text not in stored
