"""The users and the usage that `operate demo` generates."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from services.crypto import RootKeys
from services.errors import WrongCredentials
from services.operate import demo
from services.operate.demo import DAYS, make_demo
from services.operate.demo_texts import chats
from tests.conftest import started_stack
from tests.database import servers
from tests.database.storm import MUST_BE_ZERO
from tests.database.test_operate import ROOT_KEY, with_keys
from tests.database.test_operate import run as run  # a fixture
from tests.runs import IS_WHOLE
from tests.store.conftest import PASSWORD, make_sessions
from tests.stores import store_of

REFUSED = "There are accounts already: the demo is for a fresh deployment."
RING = RootKeys.parse(ROOT_KEY)


@pytest.fixture
def deployment(server, template):
    """A migrated database of its own, which knows no other root key."""
    address = servers.new_database(server, "demo", template)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("delete from private.server_keys")
    yield address
    servers.drop_database(server, "demo")


def test_demo_is_as_turns_would_have_left_it(run, deployment, monkeypatch):
    span = DAYS if IS_WHOLE else 14  # all days are made up alike
    monkeypatch.setattr(demo, "DAYS", span)
    environment = {"DATABASE_URL": servers.as_owner(deployment), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

    code, said = run("demo", **environment)

    assert (code, "admin@example.org" in said) == (0, True)
    with psycopg.connect(deployment, autocommit=True) as admin:

        def one(query):
            return admin.execute(query).fetchone()[0]

        # the storm runs within one month, but the demo covers months that are over
        of_one_month = ("overspent by the ledger", "budgets that are not", "deployment and ledger")
        other = {"tokens that are not the turns'"}
        checks = {
            name: query
            for name, query in MUST_BE_ZERO.items()
            if not name.startswith(of_one_month) and name not in other
        }
        assert {name: one(query) for name, query in checks.items() if one(query)} == {}
        roles = "select role, suspended_at is not null, count(*) from private.roles group by 1, 2"
        assert set(admin.execute(roles)) == {
            ("admin", False, 1),
            ("user", False, 27),
            ("user", True, 2),
        }
        noted = "select count(*) from private.audit where action = 'account.begin' and detail ->> 'role' = 'admin'"
        assert one(noted) == 1
        bytes_apart = (
            "select sum(bytes) - (select sum(octet_length(body)) from public.messages)"
            " from public.conversations"
        )
        assert one(bytes_apart) == 0
        days = "select min(day), max(day), count(distinct day), count(distinct model) from private.usage_by_day"
        first, last, count, models = admin.execute(days).fetchone()
        assert last - first >= timedelta(span - 5)
        assert (count > span * 0.9, models, last <= datetime.now(UTC).date()) == (True, 3, True)
        assert (
            one(
                "select sum(month_spent) - (select sum(cost_micro) from private.usage_by_day"
                " where day >= date_trunc('month', now() at time zone 'utc')) from private.budgets"
            )
            == 0
        )
    assert run("demo", **environment) == (1, REFUSED)


def test_rows_of_accounts_without_use_are_copied(run, deployment, monkeypatch):
    monkeypatch.setattr(demo, "DAYS", 0)
    environment = {"DATABASE_URL": servers.as_owner(deployment), "DAYBOOK_ROOT_KEYS": ROOT_KEY}

    assert run("demo", **environment)[0] == 0

    with psycopg.connect(deployment, autocommit=True) as admin:
        counts = (
            "select (select count(*) from private.roles), (select count(*) from private.ledger)"
        )
        assert admin.execute(counts).fetchone() == (30, 0)


def test_demo_is_the_same_for_a_seed(monkeypatch):
    monkeypatch.setattr(demo, "DAYS", 7)

    def figures(seed):
        now = datetime.now(UTC)
        entries = [entry for _, entry in make_demo(RING, seed, PASSWORD, now)["ledger"]]
        assert entries
        return [
            (one.day, one.model, one.purpose, one.micro) for one in entries if one.day < now.date()
        ]

    assert figures(7) == figures(7) != figures(8)


def test_chats_of_demo_differ_and_fit_together():
    titles = [title for title, _ in chats()]
    texts = [text for _, exchanges in chats() for exchange in exchanges for text in exchange]

    assert len(titles) == len(set(titles)) > DAYS
    assert not [text for text in texts if "{" in text]
    assert {len(exchanges) for _, exchanges in chats()} == {5}


def test_each_person_of_demo_has_two_unread_chats(monkeypatch):
    monkeypatch.setattr(demo, "DAYS", 14)
    unread, count = Counter(), Counter()

    for user_id, row in make_demo(RING, 15, PASSWORD, datetime.now(UTC))["conversations"]:
        count[user_id] += 1
        unread[user_id] += row.is_unread

    assert max(count.values()) > 4
    assert set(unread.values()) <= {0, 1, 2}


def test_admin_of_demo_signs_in_and_reads(run, place, cache, monkeypatch):
    monkeypatch.setattr(demo, "DAYS", 14)  # all days are made up alike
    with started_stack(place / "demo", cache) as stack:
        # by this seed, the admin and maya have a chat on most days
        code, said = run("demo", "--seed", "15", **with_keys(stack))
        assert code == 0, said
        email, password = re.search(r"as (\S+) with the password (\S+)", said).groups()
        sessions = make_sessions(stack)

        session = sessions.sign_in_with(email, password)[1]

        conversations = store_of(session).conversations
        listed = conversations.recent(100)
        threads = [conversations.thread(one.id) for one in listed]
        assert listed
        assert all(one.is_verified and one.title for one in listed)
        assert all(thread.is_whole and thread.messages for thread in threads)
        with pytest.raises(WrongCredentials):
            sessions.sign_in_with("maya@example.org", password)
        new_password = "another horse battery staple"
        typed = f"{new_password}\n" * 2
        assert run("set-password", "maya@example.org", typed=typed, **with_keys(stack))[0] == 0
        maya = sessions.sign_in_with("maya@example.org", new_password)[1]
        assert store_of(maya).conversations.recent(100)
        sessions.backend.gateway.http.close()
