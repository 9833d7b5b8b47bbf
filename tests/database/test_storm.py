"""Everything at once, for twenty seconds."""

from tests.database.storm import Storm, Weather

SECONDS = 20  # on a loaded machine nothing was adopted in ten
HAPPENED = {
    "begun",
    "begun again",
    "begun stale",
    "cut down",
    "died before the model",
    "died in the reply",
    "finished",
    "finished again",
    "finished late",
    "forgotten",
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


def test_a_storm_loses_doubles_and_overspends_nothing(migrated, proof):
    aftermath = Storm(migrated, proof, Weather(seconds=SECONDS)).run()

    assert aftermath.broken == {}
    assert HAPPENED - {name for name, count in aftermath.events.items() if count} == set()
