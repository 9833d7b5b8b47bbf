"""The administration of a large deployment: its queries, and the cost that its usage sums add to each turn.

python -m benchmarks.admin_page [--people N] [--turns N] [--calls N] [--pairs N] [--json]

SQL fills the ledger of 90 days in batches with the usage trigger on, so the sums are those that turns would have made.
Queries are called as the API calls them, on a bare Postgres with durable commits. The cost of the sums is the ratio of
turns per second of one user with and without the trigger, in pairs of short runs whose order alternates. The page is
opened in a browser, on an embedded stack with the same data: from entering the address until the tab is drawn.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from playwright.sync_api import Page

from benchmarks import rig
from benchmarks.turns import _database, _take_turn
from services.crypto import ServerProof, new_key
from services.domain.accounts import UserOrder
from tests.chromium import chromium
from tests.database import servers
from tests.database.people import HEAD, Caller, World, psycopg_world, sealed
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import database, second_process

BATCH = 20_000
DAYS = 90
TURNS_OF_A_RUN = 40
REACH_MS, PAGE_REACH_MS, COST_REACH = 300, 1500, 0.03
# for each tab, the element that is drawn last
TABS = {
    "Overview": "[data-testid=stVegaLiteChart] .marks",
    "Users": "[data-testid=stDataFrame] canvas",
    "Models": "[data-testid=stDataFrame] canvas",
    "Sign-ups": "[data-testid=stDataFrame] canvas",
    "Settings": "[data-testid=stForm]",
    "Audit": "[data-testid=stDataFrame] canvas",
    "Health": "[data-testid=stMetric]",
}
_IS_DRAWN = """drawn => document.querySelector('.stApp[data-test-script-state="notRunning"]')
  && [...document.querySelectorAll(drawn)].some((one) => one.checkVisibility())"""

# the address of every tenth user contains "anna"
_PEOPLE = """
insert into auth.users (id, email)
select md5('person ' || n)::uuid, case n %% 10 when 0 then 'anna' else 'user' end || n || '@example.org'
from generate_series(1, %s::int) n
"""
_CONVERSATIONS = """
insert into public.conversations (id, user_id, title, wrapped_key, key_version, user_key_version, head)
select gen_random_uuid(), md5('person ' || n)::uuid, %(sealed)s, %(sealed)s, 1, 1, %(head)s
from generate_series(1, %(people)s::int) n, generate_series(1, 10)
"""
# a tenth of the users take half of the turns; each day has its share, and the newest day comes last
_TURNS = """
insert into private.ledger (at, user_id, turn_id, day, kind, outcome, purpose, model, tokens_in, tokens_out,
  tokens_cached, first_token_ms, micro)
select at, md5('person ' || 1 + floor(%(people)s * power(u1, 3.3)))::uuid, gen_random_uuid(), at::date, 'charge',
  case when u3 < 0.03 then 'failed' else 'complete' end, (array['reply','reply','reply','reply','title','facts'])[1 + floor(6 * u2)],
  (array['gpt-5-mini','gpt-5-mini','gpt-5','SmolLM2-135M'])[1 + floor(4 * u4)], 500 + (3000 * u2)::int, 50 + (900 * u3)::int,
  (400 * u4)::int, (200 * exp(4 * u3))::int, (4000 * u4)::int
from (
  select now() - make_interval(days => 90) * (1 - n / %(turns)s::float8) as at, random() as u1, random() as u2,
    random() as u3, random() as u4
  from generate_series(%(first)s::int, %(last)s::int) n
) made
"""


_INVITATIONS = """
insert into private.invitations (code_hash, role, made_by)
select encode(sha256(n::text::bytea), 'hex'), 'user', gen_random_uuid() from generate_series(1, 500) n
"""


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.admin_page")
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=9, help="of each query")
    parser.add_argument(
        "--pairs", type=int, default=500, help="of runs with the rollup and without"
    )
    parser.add_argument("--opens", type=int, default=7, help="of each tab in a browser")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()

    figures: dict[str, Any] = {}
    proof = ServerProof(key := new_key())
    with servers.started(18, careless=False) as server:
        address = _database(server, "administration", key)
        with psycopg.connect(address, autocommit=True) as admin:
            began = time.perf_counter()
            fill(admin, chosen.people, chosen.turns)
            figures["filled_seconds"] = round(time.perf_counter() - began)
            world = psycopg_world(admin, proof)
            figures["queries_ms"] = query_times(world, chosen.calls)
        address = _database(server, "rates", key)
        with psycopg.connect(address, autocommit=True) as admin:
            ratios = rollup_ratios(psycopg_world(admin, proof), address, chosen.pairs)
    figures["page_ms"] = page_times(chosen.people, chosen.turns, chosen.opens)
    figures["rollup"] = {
        "turns_per_second_with_to_without": round(mean := statistics.mean(ratios), 4),
        "median": round(statistics.median(ratios), 4),
        "standard_error": round(error := statistics.stdev(ratios) / len(ratios) ** 0.5, 4),
    }
    if chosen.json:
        print(json.dumps(figures))
        return
    print(
        f"{chosen.turns:,} turns of {chosen.people:,} people, filled in {figures['filled_seconds']} s"
    )
    for name, (median, slowest) in figures["queries_ms"].items():
        note = "" if slowest <= REACH_MS else f"   over {REACH_MS} ms"
        print(f"  {name:<44} median {median:>6.1f} ms, slowest {slowest:>6.1f} ms{note}")
    for name, (median, slowest) in figures["page_ms"].items():
        note = "" if slowest <= PAGE_REACH_MS else f"   over {PAGE_REACH_MS} ms"
        print(f"  tab {name:<40} median {median:>6.0f} ms, slowest {slowest:>6.0f} ms{note}")
    print(
        f"turns a second with the rollup to without: {mean:.3f} +- {2 * error:.3f}, reach {1 - COST_REACH}"
    )


def fill(admin: psycopg.Connection, people: int, turns: int) -> None:
    """Create the accounts, ten chats of each, and their ledger."""
    admin.execute(_PEOPLE, [people])
    admin.execute(
        "select private.make_account(id) from auth.users where email like '%%@example.org'"
    )
    admin.execute(_INVITATIONS)
    texts = {"sealed": sealed("text"), "head": HEAD}
    admin.execute(_CONVERSATIONS, texts | {"people": people})
    admin.execute("select setseed(0.5)")
    for first in range(1, turns + 1, BATCH):
        last = min(first + BATCH - 1, turns)
        admin.execute(_TURNS, {"people": people, "turns": turns, "first": first, "last": last})
    admin.execute(
        "update private.budgets set last_active_at = now() - random() * interval '90 days'"
    )
    for _ in range(DAYS):  # one day at a time, as the sweep does
        admin.execute("select private.make_day_totals()")
    admin.execute("vacuum analyze")  # as autovacuum would have done in 90 days


def query_times(world: World, calls: int) -> dict[str, tuple[float, float]]:
    """Return the median and the maximum time of *calls* of each query, in milliseconds."""
    admin = world.make_admin(world.person())
    busiest = world.one(
        "select user_id from private.usage_by_day where user_id <> private.all_users()"
        " group by user_id order by sum(turns) desc limit 1"
    )
    return {name: _timed(query, calls) for name, query in _queries(admin, busiest).items()}


def _queries(admin: Caller, busiest: UUID) -> dict[str, Callable[[], object]]:
    def people(words: str, order: UserOrder, skip: int = 0) -> Callable[[], object]:
        choices = {"sorted_by": order.value, "skip": skip}
        return lambda: admin.call("list_users", words=words, at_most=100, **choices)

    def report(days: int, person: UUID | None = None) -> Callable[[], object]:
        last = datetime.now(UTC).date()
        first = last - timedelta(days - 1)
        return lambda: admin.call("usage_report", person=person, first_day=first, last_day=last)

    found: dict[str, Callable[[], object]] = {}
    for order in UserOrder:
        found[f"people by {order.value}"] = people("", order)
    cost = UserOrder.COST
    found["people, the last page"] = people("", cost, 9_900)
    for words in ("anna", "user77@example.org", "nobody"):
        found[f"people with {words!r}"] = people(words, cost)
    for days in (1, 30, DAYS):
        found[f"usage of all, {days} days"] = report(days)
    found[f"usage of the busiest, {DAYS} days"] = report(DAYS, busiest)
    found["settings of the deployment"] = lambda: admin.call("deployment_settings")
    found["chats that retention would delete"] = lambda: admin.call("preview_retention", days=30)
    for name in ("database_state", "list_invitations"):
        found[name.replace("_", " ")] = partial(admin.call, name)
    for before in (2**62, 5_000):
        found[f"audit before {before}"] = partial(
            admin.call, "list_audit", before=before, at_most=500
        )
    return found


def _timed(query: Callable[[], object], calls: int) -> tuple[float, float]:
    took: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        query()
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took), 1), round(max(took), 1)


def page_times(people: int, turns: int, opens: int) -> dict[str, tuple[float, float]]:
    """Return the median and the maximum time of *opens* of each tab in a browser, in milliseconds, after a first opening."""
    with (
        rig.model() as endpoint,
        chromium() as browser,
        rig.daybook(endpoint) as app,
        second_process(app) as sessions,
    ):
        _, session = sessions.sign_up_with(rig.EMAIL, PASSWORD)
        with database(app) as connection:
            connection.autocommit = True
            fill(connection, people, turns)
            promotion = "update private.roles set role = 'admin' where user_id = %s"
            connection.execute(promotion, [session.user_id])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        rig.sign_in(context, app.url, rig.new_cookie(app, sessions))
        page = context.new_page()
        page.goto(app.url)
        rig.settle(page)
        page.locator(".st-key-account-menu button").click()
        link = page.get_by_role("menuitem", name="Admin")
        first = _timed(partial(_open_tab, page, link.click, TABS["Overview"]), 1)
        return {"Overview, first of a new server and browser": first} | {
            tab: _timed(
                partial(
                    _open_tab,
                    page,
                    partial(page.goto, f"{app.url}/admin?tab={tab}", wait_until="commit"),
                    drawn,
                ),
                opens,
            )
            for tab, drawn in TABS.items()
        }


def _open_tab(page: Page, go: Callable[[], object], drawn: str) -> None:
    go()
    # a locator would poll with pauses of up to half a second
    page.wait_for_function(_IS_DRAWN, arg=drawn, timeout=60_000)


def rollup_ratios(world: World, address: str, pairs: int) -> list[float]:
    """Return the ratio of turns per second with and without the usage sums, for each pair of runs.

    The runs are short, because the speed of the disk drifts.
    """
    person = world.person()
    unlimited = "update private.budgets set daily_cap_micro = 1e12, monthly_cap_micro = 1e12, max_per_minute = 1000000"
    world.admin.execute(unlimited)
    ratios: list[float] = []
    with psycopg.connect(address, autocommit=True) as connection:
        caller = person.by(connection)
        for number in range(pairs):
            if number % 10 == 0:
                conversation = person.create_conversation()
            order = ("enable", "disable") if number % 2 else ("disable", "enable")
            seconds: dict[str, float] = {}
            for how in order:
                world.admin.execute(
                    f"alter table private.ledger {how} trigger ledger_is_added_to_usage"
                )
                _take_turn(caller, conversation)  # makes Postgres plan the statements again
                began = time.perf_counter()
                for _ in range(TURNS_OF_A_RUN):
                    _take_turn(caller, conversation)
                seconds[how] = time.perf_counter() - began
            ratios.append(seconds["disable"] / seconds["enable"])
    return ratios


if __name__ == "__main__":
    main()
