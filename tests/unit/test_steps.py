"""Steps where the row says otherwise: what is sealed decides."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pkgutil import iter_modules
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

import services.web
from services.crypto import RootKeys, new_key
from services.errors import StepEnded, WrongCredentials
from services.rules.accounts import STEP_LIFE
from services.store.accounts import Cookie
from services.store.backend import StoredCredentials
from services.store.steps import Steps, read_contents
from services.store.tables.backend import TablesBackend
from services.store.tables.in_memory import InMemoryStore
from services.store.tables.schema import STEPS
from tests.store.conftest import PASSWORD, new_email
from tests.stores import accounts_in_memory

BROWSER, KIND = Cookie.new(), "reset"
ROOT_KEY = new_key()


@pytest.fixture
def store():
    return InMemoryStore()


@pytest.fixture
def steps(store):
    return Steps(TablesBackend(store), RootKeys({1: ROOT_KEY}, 1))


def credentials(user_id=None, generation=3):
    return StoredCredentials(
        id=user_id or uuid4(), user_id=user_id, lookup="", sealed="", generation=generation
    )


def change(store, **columns):
    """Change columns of all rows of steps, as who writes to the database can."""

    def change(block):
        for row in block.select(STEPS):
            block.put(STEPS, replace(row, **columns))

    store.of(None).run(change)


def test_step_whose_row_was_prolonged_is_over(store, steps):
    step = steps.begin(BROWSER, KIND, "", ())
    change(store, expires_at=datetime.now(UTC) + timedelta(days=1))
    later = replace(steps, now=lambda: step.expires_at - timedelta(microseconds=1))
    assert later.attempt(BROWSER, KIND, step.id, None) == step

    over = replace(steps, now=lambda: step.expires_at)

    for call in (over.attempt, over.end):
        with pytest.raises(StepEnded):
            call(BROWSER, KIND, step.id, None)
    left = step.expires_at - datetime.now(UTC)
    assert STEP_LIFE - timedelta(minutes=1) < left <= STEP_LIFE


def test_row_with_the_text_of_another_step_is_refused_and_logged(store, steps, caplog):
    caplog.set_level(logging.INFO, "daybook")
    step, other = (steps.begin(BROWSER, KIND, text, ()) for text in ("mine", "another"))
    row_key = steps.root_keys.step_keys(BROWSER.secret).row_key(other.id)
    change(store, sealed=store.of(None).run(lambda block: block.get(STEPS, row_key)).sealed)

    with pytest.raises(StepEnded):
        steps.attempt(BROWSER, KIND, step.id, None)

    assert "step.unopened" in caplog.text
    assert "another" not in caplog.text


def test_step_that_another_version_stored_is_refused(store, steps):
    step = steps.begin(BROWSER, KIND, "", ())
    keys = steps.root_keys.step_keys(BROWSER.secret)
    change(store, sealed=keys.seal('{"kind": "reset"}', step.id))

    with pytest.raises(StepEnded) as refused:
        steps.attempt(BROWSER, KIND, step.id, None)

    assert refused.value.__context__ is None


def test_step_goes_on_under_a_new_root_key(steps):
    step = steps.begin(BROWSER, KIND, "mine", ())
    ring = RootKeys({1: ROOT_KEY, 2: new_key()}, 2)

    assert replace(steps, root_keys=ring).attempt(BROWSER, KIND, step.id, None) == step


def test_step_goes_on_for_the_unchanged_credentials_of_its_user(steps):
    mine = credentials(uuid4())
    begun = steps.begin(BROWSER, KIND, "", (), credentials=mine)
    step = steps.attempt(BROWSER, KIND, begun.id, None)

    step.check(mine)

    others = [credentials(uuid4()), replace(mine, generation=2), replace(mine, generation=4), None]
    for one in others:
        with pytest.raises(StepEnded):
            step.check(one)


def test_step_of_a_session_has_the_credentials_of_its_user(store, steps):
    _, session = accounts_in_memory(store).sign_up_with(new_email(), PASSWORD)
    mine = credentials(session.user_id)

    begun = steps.begin(BROWSER, KIND, "", (), session=session, credentials=mine)
    with pytest.raises(WrongCredentials):
        steps.begin(BROWSER, KIND, "", (), session=session, credentials=credentials(uuid4()))

    steps.attempt(BROWSER, KIND, begun.id, session).check(mine)


def test_step_without_a_user_fits_no_credentials(steps):
    pending = credentials()

    step = steps.begin(BROWSER, KIND, "", (), credentials=pending)

    with pytest.raises(StepEnded):
        step.check(pending)


def test_short_contents_are_in_no_cache_of_the_process(steps):
    step = steps.begin(BROWSER, KIND, '["secret"]', ())

    one, two = (steps.attempt(BROWSER, KIND, step.id, None).contents for _ in range(2))
    [first], [other] = (read_contents(TypeAdapter(list[str]), text) for text in (one, two))

    assert one is not two
    assert first is not other


def test_no_repr_shows_the_contents(steps):
    assert "12345678" not in repr(steps.begin(BROWSER, KIND, "12345678", ()))


def test_kinds_of_steps_differ():
    """Otherwise the page of one step, which resets its tries, would do so for a step that waits for a mailed code."""
    kinds = {}
    for module in iter_modules(services.web.__path__):
        for name, value in vars(import_module(f"services.web.{module.name}")).items():
            if name in ("ENROL", "ACCOUNT_STEP"):  # imported by other modules, too
                kinds[name] = value
            elif name == "_KIND" or name.endswith("_STEP"):
                kinds[module.name, name] = value
            elif module.name == "oidc_routes" and name in ("_SIGN_IN", "_OWN"):
                kinds[name] = value
            elif isinstance(value, type) and hasattr(value, "recipient") and hasattr(value, "name"):
                kinds[value] = value.name

    assert len(kinds) >= 18
    assert len({*kinds.values()}) == len(kinds)
