"""App sessions over Supabase Auth: tokens, leases, rate limits, clocks, and the number of calls."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services import errors
from services.caches import CachedRead
from services.domain.accounts import CredentialsAction
from services.domain.models import ModelSettings
from services.domain.revisions import LISTED
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.domain.turns import LONGEST_TURN_SECONDS
from services.llm import Models, Offer
from services.settings import Settings
from services.users import Shared
from tests.chats import SMALL
from tests.stack.apps import until
from tests.store.conformance.talk import a_fact, a_space, begun_with
from tests.store.conftest import PASSWORD, Wire, make_sessions, new_email
from tests.stores import NOT_COUNTED, store_of
from tests.unit.test_passkeys import MAYAS

SESSIONS = 20


def test_session_is_opened_by_one_call(sign_up, process, wire):
    cookie, _ = sign_up()

    process.open(cookie)

    assert wire.calls == 1


def test_restart_opens_sessions_without_token_requests(sessions, process, wire):
    email = new_email()
    sessions.sign_up_with(email, PASSWORD)
    cookies = [sessions.sign_in_with(email, PASSWORD)[0] for _ in range(SESSIONS)]

    opened = [process.open(cookie) for cookie in cookies]

    assert {session.email for session in opened} == {email}
    assert wire.renewals == 0


def test_sign_in_is_three_calls(process, wire):
    email = new_email()
    process.sign_up_with(email, PASSWORD)
    wire.calls = 0

    process.sign_in_with(email, PASSWORD)

    assert wire.calls == 3


def test_sign_up_is_four_calls_and_one_beside_them(process, wire):
    process.sign_up_with(new_email(), PASSWORD)

    assert wire.calls == 5  # the settings of Supabase Auth are read beside the second call


def first_page_of(user, account):
    return (
        user.profile.preferences(),
        user.spaces.all(),
        user.facts.facts(),
        user.conversations.recent(LISTED),
        account,
    )


def test_supabase_auth_learns_of_no_other_way_in(process, stack):
    """Its user of an account that a provider began is like any other, and a passkey changes nothing there."""
    email, issuer = new_email(), "https://login.example.com"
    identity = Identity(issuer, f"subject of {email}")
    linked = LinkedIdentity(identity=identity, name="Corp", created_at=datetime.now(UTC))
    found = process.find_for_sign_up(email, NOT_COUNTED)

    cookie, session = process.sign_up(found, None, identity=linked)

    user, identities = auth_rows(stack, session.user_id)
    assert user["email"] == email
    assert user["encrypted_password"]
    assert {one["provider"] for one in identities} <= {"email"}
    assert issuer not in f"{user}{identities}"
    assert "subject of" not in f"{user}{identities}"
    current = process.current(cookie)
    added = replace(current.credentials, passkeys=replace(MAYAS, is_factor=False), generation=2)
    assert process.change_credentials(
        session, added, current.stored, CredentialsAction.PASSKEY_ADDED
    )
    assert auth_rows(stack, session.user_id) == (user, identities)


def auth_rows(stack, user_id):
    """Return the user of Supabase Auth and its identities, as objects."""
    with stack.connect() as database:
        user = "select to_jsonb(one) from auth.users one where id = %s"
        [(row,)] = database.execute(user, [user_id]).fetchall()
        of_user = "select to_jsonb(one) from auth.identities one where user_id::text = %s"
        [(has_identities,)] = database.execute(
            "select to_regclass('auth.identities') is not null"
        ).fetchall()
        found = database.execute(of_user, [str(user_id)]) if has_identities else []
        return row, [one for (one,) in found]


def test_sign_in_brings_what_the_first_page_reads(process, wire, model):
    other = store_of(process.sign_up_with(new_email(), PASSWORD)[1])
    other.facts.keep(a_fact())
    begun_with(other, "Not Maya's")
    email = new_email()
    store = store_of(process.sign_up_with(email, PASSWORD)[1])
    store.profile.change(lambda now: replace(now, recalls_elsewhere=True))
    store.facts.keep(a_fact())
    store.spaces.keep(a_space())
    for title in ("Letters", "Roses", "Archived"):
        thread = begun_with(store, title)
    store.conversations.archive(thread.conversation.id)
    shared = Shared(
        process, Settings(), lambda: Models(Offer(SMALL, model)), CachedRead(ModelSettings)
    )
    cookie, session = process.sign_in_with(email, PASSWORD)
    wire.made = []

    shared.session_cache.add(cookie, session)
    user = shared.find(session.id)
    first = first_page_of(user, user.account)

    assert wire.made == []
    assert first == first_page_of(store_of(session), session.backend.account())
    assert [len(part) for part in first[1:4]] == [1, 1, 2]


def test_expired_token_is_renewed_once_for_eight_processes(process, wire, stack):
    wire.lifetime = 0
    cookie, session = process.sign_up_with(new_email(), PASSWORD)
    wires = [Wire() for _ in range(8)]

    def read(wire):
        other = make_sessions(stack, wire)
        with closing(other.backend.gateway.http):
            opened = other.open(cookie)
            store_of(opened).conversations.recent()
            return opened.id

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, wires)) == {session.id}
    assert sum(wire.renewals for wire in wires) == 1


@pytest.mark.parametrize(("lifetime", "refused"), [(0, 0), (None, 1)], ids=["expired", "refused"])
def test_token_is_renewed_for_reads_and_writes(process, wire, lifetime, refused):
    wire.lifetime = lifetime
    user = store_of(process.sign_up_with(new_email(), PASSWORD)[1])
    wire.renewals, wire.lifetime, wire.refused = 0, None, refused

    begun_with(user, "Letters")

    assert [each.title for each in user.conversations.recent()] == ["Letters"]
    assert wire.renewals == 1


def test_tokens_that_stay_refused_are_renewed_once(process, wire):
    _, session = process.sign_up_with(new_email(), PASSWORD)
    wire.refused = 100

    for _ in range(3):
        with pytest.raises(errors.StoreUnavailable):
            store_of(session).conversations.recent()
    assert wire.renewals == 1


@pytest.fixture
def quick(monkeypatch):
    """Shorten the pauses after a rate limit."""
    monkeypatch.setattr("services.store.supabase.session_tokens._PAUSE_SECONDS", (0.01, 0.02))
    monkeypatch.setattr("services.store.supabase.session_tokens._RETRY_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
def test_renewal_waits_for_a_rate_limit_and_then_fails(process, wire):
    wire.lifetime = 0
    _, session = process.sign_up_with(new_email(), PASSWORD)

    wire.limited = 3
    session.backend.bearer.keep_fresh()
    assert wire.limited == 0

    wire.limited = 10_000
    with pytest.raises(errors.RateLimited):
        session.backend.bearer.keep_fresh()


def test_turn_begins_with_a_token_that_outlives_it(process, wire):
    wire.lifetime = LONGEST_TURN_SECONDS - 60
    _, session = process.sign_up_with(new_email(), PASSWORD)
    store = store_of(session)
    assert store.conversations.recent() == []
    assert wire.renewals == 0

    wire.lifetime = None
    begun_with(store, "Letters")

    assert wire.renewals == 1


def test_rate_limit_lets_a_valid_token_through(process, wire):
    _, session = process.sign_up_with(new_email(), PASSWORD)
    wire.limited = 10_000

    session.backend.bearer.keep_fresh(100_000)  # longer than the lifetime of any token

    assert store_of(session).conversations.recent() == []
    assert wire.renewals == 1


def test_wrong_clock_signs_no_user_out(sessions, sign_up, monkeypatch):
    cookie, _ = sign_up()
    now = time.time()
    monkeypatch.setattr("services.store.supabase.api.time.time", lambda: now - 90)

    with pytest.raises(errors.StoreUnavailable):
        sessions.open(cookie)
    with pytest.raises(errors.StoreUnavailable):
        sessions.backend.is_alive(cookie.hash)


def test_reply_in_another_process_is_stored_before_its_device_ends(
    shared, process, model, server, stack
):
    elsewhere = Shared(
        process,
        Settings(DAYBOOK_INSTRUCTIONS="Be kind."),
        lambda: Models(Offer(SMALL, model)),
        CachedRead(ModelSettings),
    )
    email = new_email()
    cookie, session = process.sign_up_with(email, PASSWORD)
    elsewhere.session_cache.add(cookie, session)
    server.script(tokens=3, fault="hang", after=2)
    turn = elsewhere.find(session.id).chat.begin(None, "How do I prune?")
    until(turn.said, within=20)
    own_cookie, own = shared.session_cache.accounts.sign_in_with(email, PASSWORD)
    shared.session_cache.add(own_cookie, own)

    assert shared.find(own.id).devices.end_others() == 1

    assert turn.is_stopped
    with stack.connect() as database:
        ends = "select state from public.turns where user_id = %s and purpose = 'reply'"
        assert database.execute(ends, [own.user_id]).fetchall() == [("stopped",)]
    assert not process.backend.is_alive(cookie.hash)
