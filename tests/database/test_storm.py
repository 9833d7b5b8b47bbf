"""All kinds of calls at once, for twenty seconds."""

from tests.database.storm import run_storm

SECONDS = 20  # in ten seconds, a loaded machine adopted no turn
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
    broken, events = run_storm(world.admin, migrated, proof, SECONDS)

    assert broken == {}
    assert HAPPENED - {name for name, count in events.items() if count} == set()
