"""All kinds of calls at once, for 8 to 30 seconds, and the locks of a stress test."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from benchmarks.budget_storm import Observer
from tests.database.storm import run_storm

SECONDS = 8, 30  # in ten seconds, a loaded machine adopted no turn
HAPPENED = {
    "begun",
    "begun again",
    "begun stale",
    "cut down",
    "died before the model",
    "died in the reply",
    "edited",
    "finished",
    "finished again",
    "finished late",
    "forgotten",
    "noted",
    "swept",
    "adopted",
    "refused: busy",
    "refused: daily_cap",
    "refused: monthly_cap",
    "refused: deployment_cap",
    "ledger: charge",
    "ledger: lapsed",
    "ledger: adjust",
}


def test_storm_of_turns_keeps_all_books_right(world, migrated, proof):
    broken, events = run_storm(world.admin, migrated, proof, SECONDS, HAPPENED)

    assert broken == {}
    assert HAPPENED - {name for name, count in events.items() if count} == set()


def test_cap_of_the_storm_is_bound_without_deadlock(world, migrated):
    first, second = sorted((world.person(), world.person()), key=lambda person: person.id)
    # of an earlier month, with an open turn: who locks this budget by `lock_budget` locks the deployment, too
    world.admin.execute("update private.budgets set reserved = 1 where user_id = %s", [first.id])
    waits = "select exists (select from pg_catalog.pg_locks where pid = %s and not granted)"
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(migrated) as worker,
        psycopg.connect(migrated, autocommit=True) as onlooker,
    ):
        worker.execute("select private.lock_budget(%s)", [second.id])
        binding = pool.submit(Observer(world.admin, 1.0).bind_deployment)
        while not onlooker.execute(waits, [world.admin.info.backend_pid]).fetchone()[0]:
            assert not binding.done()
            time.sleep(0.01)

        worker.execute("select private.lock_deployment()")
        worker.commit()

        binding.result(10)
