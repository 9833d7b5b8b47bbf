"""Reads of more rows than "max rows" allows, the limit to which a hosted API cuts its answers."""

from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.caches import CachedRead
from services.domain import Space, SpaceId
from services.domain.accounts import SignUps
from services.store.administration import SignUpAdministration
from services.store.backend import SignUpState
from services.store.sealed import sealed_store
from services.store.supabase.rows import SupabaseRows
from tests.fakes import NOON
from tests.journeys.seeds import converse, hold
from tests.stack.apps import running
from tests.store.conftest import PASSWORD, make_sessions, new_email
from tests.stores import store_of
from tests.web.test_export_route import table

MORE = 105  # more rows than fit in one answer


@pytest.fixture(scope="module")
def maya(hosted):
    sessions = make_sessions(hosted)
    with sessions.backend.gateway.http, hosted.connect() as owner:
        _, maya = sessions.sign_up_with(new_email(), PASSWORD)
        pace = "update private.budgets set max_per_minute = 1000 where user_id = %s"
        owner.execute(pace, [maya.user_id])
        yield maya


@pytest.fixture(scope="module")
def long(maya):
    return converse(maya, [(f"Prompt {n}", f"Reply {n}") for n in range(MORE // 2 + 1)])


@pytest.fixture
def shrunk(hosted, long):
    """Lower the limit while the app runs, to the least that Daybook accepts."""
    with hosted.row_limit(100):
        yield


@pytest.mark.usefixtures("shrunk")
def test_a_long_thread_and_many_conversations_are_read_whole(maya, long):
    thread = store_of(maya).conversations.thread(long)
    assert thread.is_whole
    assert len(thread.messages) > MORE

    hold(maya, [f"Title {n}" for n in range(MORE)])
    conversations, corpus = store_of(maya).conversations, store_of(maya).corpus
    assert len(conversations.titled("title", 1000)) == MORE
    assert len(conversations.recent(1000)) == MORE + 1
    listed = corpus.conversations()
    assert len(listed) == MORE + 1
    read = corpus.messages({long: range(1, listed[long].last_seq + 1)})
    assert [found for piece in read for found in piece[long]] == list(thread.messages)


@pytest.mark.usefixtures("shrunk")
def test_many_spaces_are_read_whole(maya):
    spaces = store_of(maya).spaces
    for n in range(MORE):
        spaces.keep(Space(id=SpaceId(uuid4()), name=f"Space {n}", created_at=NOON))
    assert len(store_of(maya).spaces.all()) == MORE


@pytest.mark.usefixtures("shrunk")
def test_changes_of_an_account_are_listed_whole(hosted, maya):
    with hosted.connect() as owner:
        owner.execute(
            "select private.note(null, action, %s)"
            " from unnest('{caps.user,sign_in.fail}'::text[]) action, generate_series(1, %s)",
            [maya.user_id, MORE],
        )

    listed = [change.action for change in store_of(maya).usage.account_changes()]

    assert (listed.count("caps.user"), listed.count("sign_in.fail")) == (MORE, 100)


@pytest.mark.usefixtures("shrunk")
def test_devices_are_listed_whole(hosted, maya):
    with hosted.connect() as owner:
        owner.execute(
            "insert into private.app_sessions select copy.* from private.app_sessions one, generate_series(1, %s) n,"
            " md5(n::text) other, jsonb_populate_record(one, jsonb_build_object('id', other, 'auth_session_id', other,"
            " 'cookie_hash', private.sha(n::text))) copy where copy.user_id = %s",
            [MORE, maya.user_id],
        )

        listed = maya.backend.devices()

        owner.execute(
            "delete from private.app_sessions where user_id = %s and auth_session_id not in (select id from auth.sessions)",
            [maya.user_id],
        )
    assert len(listed) == MORE + 1


@pytest.fixture
def owner(hosted, maya, shrunk):
    """A connection to the database, during which Maya is an admin."""
    role = "update private.roles set role = %s where user_id = %s"
    with hosted.connect() as owner:
        owner.execute(role, ["admin", maya.user_id])
        yield owner
        owner.execute(role, ["user", maya.user_id])


@pytest.fixture
def admin(maya, owner):
    """The services of an admin that the tabs of the admin page use, for Maya."""
    return SimpleNamespace(
        administration=maya.backend.administration,
        sign_ups=SignUpAdministration(
            maya.backend.administration,
            CachedRead(lambda: SignUpState(mode=SignUps.OPEN, is_first_admin=False)),
            lambda: False,
        ),
    )


def test_users_are_listed_whole(maya, owner, admin):
    sign_up = (
        "insert into auth.users (id, email) select gen_random_uuid(), gen_random_uuid() || '@daybook.test'"
        " from generate_series(1, %s) returning id"
    )
    crowd = [user for (user,) in owner.execute(sign_up, [MORE])]
    owner.execute("select private.make_account(user_id) from unnest(%s) user_id", [crowd])

    listed = [row["user_id"] for row in table("users", admin)]

    owner.execute("delete from auth.users where id = any(%s)", [crowd])
    assert len(listed) == len(set(listed))
    assert set(listed) >= {str(user) for user in (*crowd, maya.user_id)}


def test_invitations_are_listed_whole(maya, owner, admin):
    owner.execute(
        "insert into private.invitations (code_hash, role, made_by)"
        " select encode(sha256(n::text::bytea), 'hex'), 'user', %s from generate_series(1, %s) n",
        [maya.user_id, MORE],
    )

    listed = table("invitations", admin)

    owner.execute("delete from private.invitations where made_by = %s", [maya.user_id])
    assert len(listed) == MORE


def test_audit_is_listed_whole(owner, admin):
    note = "select private.note(null, 'caps.deployment', null) from generate_series(1, %s)"
    owner.execute(note, [MORE])

    listed = [int(row["id"]) for row in table("audit", admin)]

    [(count,)] = owner.execute("select count(*) from private.audit")
    assert listed == sorted(listed, reverse=True)
    assert len(listed) == count > MORE


def test_a_start_with_a_bound_that_is_too_low_is_refused(hosted, make_app):
    starting = running(make_app("few-rows", "hosted", environment=hosted.environment()))
    with hosted.row_limit(40), starting as app:
        assert app.ended() == 1

    assert "Daybook cannot start: The database returns at most 40 rows at once" in app.said()


def test_thread_is_read_whole_whatever_the_bound(hosted, maya, long):
    with hosted.row_limit(40):
        thread = store_of(maya).conversations.thread(long)

    assert thread.is_whole
    assert len(thread.messages) > MORE


def test_rest_of_a_long_thread_is_read_whole_whatever_the_bound(hosted, maya, long, monkeypatch):
    def select(*arguments, **named):  # one answer has the first ten; the rest is read page by page
        found = maya.backend.calls.select(*arguments, **named)
        return replace(found, messages=found.messages[:10])

    monkeypatch.setattr("services.store.supabase.rows.PAGE", 10)
    calls = SimpleNamespace(client=maya.backend.calls.client, user_id=maya.user_id, select=select)
    rows = SupabaseRows(calls)
    with hosted.row_limit(7):
        thread = sealed_store(rows, maya.user_keys).conversations.thread(long)

    assert thread.is_whole
    assert len(thread.messages) > MORE
