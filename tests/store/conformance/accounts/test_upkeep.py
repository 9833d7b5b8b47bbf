"""What a process asks for itself: sweeps, throttles, a probe, and the versions of root keys."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Queue
from uuid import uuid4

import pytest

from services.crypto import new_key
from services.errors import StoreUnavailable, Suspended, TooManyAttempts, WrongCredentials
from services.store.backend import Throttle, Throttles
from tests.stack.apps import until
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conformance.talk import (
    UNDO_SECONDS,
    answer,
    begun_with,
    crash,
    first_turn,
    new_turn,
    titles,
)
from tests.store.conftest import PASSWORD, new_email

MINUTE = PATIENCE = 60  # seconds


@pytest.fixture
def days():
    """Yesterday and tomorrow: a test may run at midnight."""
    today = datetime.now(UTC).date()
    return today - timedelta(days=1), today + timedelta(days=1)


@pytest.fixture
def attempt(deployment):
    """Count an attempt in the buckets of these names; return the seconds to wait, or None."""

    def attempt(*buckets, at_most=3, **options):
        counted = [(bucket, at_most, MINUTE) for bucket in buckets]
        return deployment.server.throttle(*counted, **options)

    return attempt


def bucket():
    return new_key().hex()


def counting(name):
    """Return the throttles of an attempt that is counted in one bucket."""
    return Throttles((Throttle(name, 99, MINUTE),))


# --- sweeps


def test_sweep_settles_lapsed_turns_and_tells_when_it_is_done(deployment, maya, days):
    thread = answer(maya.store, first_turn("When?"), "In March.")
    for _ in range(2):
        crash(deployment, maya.store, thread)
        deployment.sweep()
        thread = maya.store.conversations.thread(thread.conversation.id)

    assert [one.kind for one in maya.usage.ledger(*days)] == ["charge", "lapsed", "lapsed"]
    assert not deployment.server.sweep().more


def test_sweeps_of_several_processes_settle_a_turn_once(deployment, maya, days):
    thread = answer(maya.store, first_turn("When?"), "In March.")
    crash(deployment, maya.store, thread, "In A")

    assert not [one for one in at_once(*[deployment.sweep] * 4) if one is not None]

    assert [one.kind for one in maya.usage.ledger(*days)] == ["charge", "lapsed"]


def test_sweep_says_that_there_may_be_more(deployment, maya):
    thread = begun_with(maya.store, "Letters")
    maya.store.conversations.discard(thread.conversation.id, UNDO_SECONDS)
    deployment.sweep()
    assert maya.usage.stored().deleted == 1
    deployment.let_pass(UNDO_SECONDS + 1)

    assert deployment.server.sweep().more
    deployment.sweep()

    assert maya.usage.stored().deleted == 0


def test_sweep_does_not_repeat_for_a_deleted_chat_with_an_open_turn(deployment, maya):
    thread = answer(maya.store, first_turn("When?"), "In March.")
    again = new_turn(thread, None, prompt_id=thread.messages[0].id, lease_seconds=MINUTE)
    maya.store.turns.begin(again)
    maya.store.conversations.discard(thread.conversation.id, UNDO_SECONDS)
    deployment.let_pass(UNDO_SECONDS + 1)

    # other tests left rows that are due as well, but fewer than 20 sweeps destroy
    assert not all(deployment.server.sweep().more for _ in range(20))
    assert maya.usage.stored().deleted == 1
    deployment.let_pass(MINUTE)
    deployment.sweep()

    assert maya.usage.stored().deleted == 0


def test_upkeep_sweeps_by_itself_and_reports_outages(deployment, maya, days):
    thread = answer(maya.store, first_turn("When?"), "In March.")
    crash(deployment, maya.store, thread)
    reported = Queue()

    with deployment.upkeep(reported.put):
        until(lambda: [one.kind for one in maya.usage.ledger(*days)] == ["charge", "lapsed"])
        assert reported.empty()
        with deployment.away():
            assert reported.get(timeout=PATIENCE)
        assert not reported.get(timeout=PATIENCE)


# --- throttles


def test_throttle_closes_for_its_window_and_bucket(deployment, attempt):
    name = bucket()

    waits = [attempt(name) for _ in range(5)]

    assert waits[:3] == [None] * 3
    assert all(1 <= wait <= MINUTE for wait in waits[3:])
    assert attempt(bucket()) is None
    deployment.let_pass(MINUTE + 1)
    assert attempt(name) is None


def test_full_throttle_refuses_and_those_behind_it_do_not_count(attempt):
    address, account = bucket(), bucket()

    waits = [attempt(address, account, at_most=2) for _ in range(4)]

    assert [wait is None for wait in waits] == [True, True, False, False]
    assert attempt(bucket(), account, at_most=2)
    assert attempt(account, at_most=4) is None  # two, the refused one, and this


def test_attempts_at_once_are_all_counted(attempt):
    name = bucket()

    waits = at_once(*[partial(attempt, name)] * 8)

    assert sum(wait is None for wait in waits) == 3


def test_attempt_that_was_overheard_is_not_repeated(attempt):
    name, nonce = bucket(), uuid4()
    assert attempt(name, at_most=2, nonce=nonce) is None

    with pytest.raises(StoreUnavailable):
        attempt(name, at_most=2, nonce=nonce)

    assert attempt(name, at_most=2) is None
    assert attempt(name, at_most=2)


def test_sign_in_gives_its_attempt_back(attempt, maya):
    name = bucket()

    maya.sign_in(throttles=counting(name))

    assert attempt(name, at_most=1) is None
    assert attempt(name, at_most=1)


def test_refused_sign_in_gives_no_attempt_back(deployment, attempt, admin, maya):
    name = bucket()
    admin.administration.suspend(maya.id, is_suspended=True)

    for password in (PASSWORD, PASSWORD + "!"):
        with pytest.raises((Suspended, WrongCredentials)):
            deployment.accounts.sign_in_with(maya.email, password, throttles=counting(name))

    assert attempt(name, at_most=2)


def test_device_of_a_user_is_counted_by_itself_for_their_account_alone(deployment, maya, omar):
    device, strangers = Throttle(bucket(), 1, MINUTE), Throttle(bucket(), 1, MINUTE)
    throttles = Throttles((strangers,), maya.id, (device,))
    find = deployment.accounts.find
    find(maya.email, Throttles((strangers,)))

    assert find(maya.email, throttles).is_known
    for email in (omar.email, new_email(), maya.email):
        with pytest.raises(TooManyAttempts):
            find(email, throttles)


def test_throttles_alone_count_like_those_of_a_sign_in(deployment, attempt):
    address, user = bucket(), bucket()
    count = deployment.accounts.backend.count_throttles
    throttles = [Throttle(address, 2, MINUTE), Throttle(user, 9, MINUTE)]

    assert [count(throttles) for _ in range(2)] == [None] * 2
    for _ in range(2):
        with pytest.raises(TooManyAttempts) as refused:
            count(throttles)

    assert 1 <= refused.value.retry_after <= MINUTE
    assert attempt(user, at_most=3) is None  # two, and this
    assert attempt(address, at_most=4)
    deployment.let_pass(MINUTE + 1)
    count(throttles)


def test_counted_attempts_are_swept_after_their_window(deployment, attempt):
    name = bucket()
    attempt(name)
    assert name in deployment.stored_text()
    deployment.let_pass(MINUTE + 1)

    deployment.sweep()

    assert name not in deployment.stored_text()


def test_sweep_is_not_repeated_for_a_few_expired_rows(alone):
    """Otherwise a sweep on a busy server would never end: its own calls cause rows that expire."""
    alone.sign_up()
    name = bucket()
    alone.server.throttle((name, 3, MINUTE))
    assert name in alone.stored_text()
    alone.let_pass(10 * MINUTE)

    assert not alone.server.sweep().more

    assert name not in alone.stored_text()


# --- the probe, root keys


def test_probe_tells_whether_the_store_answers(deployment):
    deployment.server.probe()

    with deployment.away(), pytest.raises(StoreUnavailable):
        deployment.server.probe()


def test_calls_of_a_process_say_that_the_store_is_away(deployment, attempt):
    server = deployment.server
    deployment.accounts.backend.check()
    for call in (
        deployment.accounts.backend.check,
        server.sweep,
        server.erase_log_entries,
        server.root_key_versions,
        server.model_settings,
        server.sign_ups,
        server.next_is_admin,
        partial(attempt, bucket()),
        partial(deployment.accounts.backend.count_throttles, ()),
        partial(deployment.accounts.backend.try_step, bucket()),
        partial(deployment.accounts.backend.end_step, bucket()),
    ):
        with deployment.away(), pytest.raises(StoreUnavailable):
            call()


@pytest.mark.usefixtures("admin")  # else maya may be the only one, who stays
def test_versions_of_root_keys_are_those_of_users_and_sessions(deployment, maya, omar):
    lapsed = deployment.process(idle_seconds=MINUTE)
    cookie, session = lapsed.sign_up_with(new_email(), PASSWORD)
    old = replace(maya, cookie=cookie, session=session)
    deployment.seal_under(7, maya, is_session=False)
    deployment.seal_under(8, omar, is_session=True)
    deployment.seal_under(9, old, is_session=True)
    assert {1, 7, 8, 9} <= set(deployment.server.root_key_versions())

    deployment.let_pass(MINUTE + 1)

    versions = set(deployment.server.root_key_versions())
    assert {1, 7, 8} <= versions
    assert 9 not in versions
    for user in (maya, omar, old):
        deployment.administration(user.session).delete(user.id)
    deployment.sweep()


def test_new_root_key_wraps_user_keys_anew_at_the_next_sign_in(alone):
    maya = alone.sign_up()
    begun_with(maya.store, "Letters")
    accounts = alone.process_with_new_root_key()
    assert alone.server.root_key_versions() == [1]

    opened = accounts.open(maya.cookie)
    assert sorted(alone.server.root_key_versions()) == [*alone.versions_after_opening]
    _, session = accounts.sign_in_with(maya.email, PASSWORD)
    alone.accounts.end(maya.cookie)

    assert alone.server.root_key_versions() == [2]
    assert titles(alone.store(session).conversations.recent()) == ["Letters"]
    assert opened.user_keys.newest.version == session.user_keys.newest.version


def test_session_that_goes_on_lets_go_of_an_old_root_key(alone):
    email = new_email()
    # Supabase's session is sealed anew when its access token is renewed
    cookie, _ = alone.process_with_short_tokens().sign_up_with(email, PASSWORD)
    accounts = alone.process_with_new_root_key()
    assert alone.server.root_key_versions() == [1]

    assert accounts.open(cookie).backend.account()

    assert alone.server.root_key_versions() == [2]
    assert accounts.open(cookie).email == email
